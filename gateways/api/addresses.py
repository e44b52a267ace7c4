"""Where a request comes from, and the lists of addresses (CIDR, IPv4 and IPv6) that it may come from."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from schemas.store import Address, Network

FORWARDED = b"x-forwarded-for"


def network(text: str) -> Network:
    """An address, or a network in CIDR. Raises ValueError with what to do.

    >>> network("10.0.0.0/8")
    IPv4Network('10.0.0.0/8')
    """
    try:
        found = ip_network(text)
    except ValueError as error:
        raise ValueError(
            f"{error}: write an address or a network, like 203.0.113.7, 10.0.0.0/8 or 2001:db8::/32"
        ) from None
    if isinstance(found.network_address, IPv6Address):
        if found.network_address.ipv4_mapped is not None:
            raise ValueError(f"{text} is a network of IPv4 in IPv6: write it as IPv4, like 10.0.0.0/8")
        if found.network_address.scope_id is not None:
            raise ValueError(f"{text} names an interface: leave out what stands behind %")
    return found


def within(inner: Network, outer: Iterable[Network]) -> bool:
    """Whether all of a network is in one of the others."""
    return any(inner.network_address in each and inner.prefixlen >= each.prefixlen for each in outer)


def allowed(address: Address | None, addresses: Iterable[Network]) -> bool:
    """Whether a request may come from there; None: from where nobody knows."""
    return address is not None and any(address in each for each in addresses)


def address_of(scope: Mapping[str, Any], proxies: Iterable[Network] = ()) -> Address | None:
    """Whose request it is, by its ASGI scope: the peer's address, or behind `proxies` what the first of them was told.

    Of X-Forwarded-For only the end is to be believed, which trusted proxies wrote: who asks may write before it what
    it likes. None where nothing can be made of it, or the peer has no address.
    """
    hops = [hop for name, value in scope["headers"] if name == FORWARDED for hop in value.decode("latin-1").split(",")]
    address = _parsed(scope["client"][0]) if scope.get("client") else None
    while hops and allowed(address, proxies):
        address = _parsed(hops.pop().strip())
    return address


def subscriber(address: Address | None) -> str:
    """Who has the address: of IPv6 a /64, as one subscriber has as many addresses as it likes."""
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address) >> 64 << 64, 64)))
    return str(address)


def _parsed(text: str) -> Address | None:
    """IPv4 in IPv6 is IPv4: so a socket for both shows its peers."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address
