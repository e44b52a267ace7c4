"""Which addresses of a customer's server the exchange calls: public ones, over https, unless its operator says else.

A name is looked up by the connection itself and the address is judged as it is about to be used, so that a name cannot
be one thing when it is checked and another when it is called.
"""

import errno
import ipaddress
import socket
from typing import Any, NamedTuple
from urllib.parse import urlsplit

MAX_URL = 2048
AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]
"""As `socket.getaddrinfo` has them."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class ForbiddenTargetError(OSError):
    """An address that is not to be called."""


class Targets(NamedTuple):
    """What the operator allows."""

    private: bool = False
    """Addresses that are not public, and http: for receivers in the operator's own network, and for tests."""

    def problem(self, url: str) -> str | None:
        """What is wrong with a webhook's URL, as far as it can be seen without looking its name up."""
        if not 0 < len(url) <= MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
            return f"a URL is 1 to {MAX_URL} printable ASCII characters without spaces"
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            return f"this is no URL: {error}"
        schemes = ("https", "http") if self.private else ("https",)
        if parts.scheme not in schemes or not host:
            return f"a URL begins with {' or '.join(f'{scheme}://' for scheme in schemes)} and the server's name"
        if parts.username is not None or parts.password is not None or parts.fragment:
            return "a URL has no user, password or fragment: events are signed"
        try:
            literal = ipaddress.ip_address(host)
        except ValueError:
            return None
        return None if self.private or is_public(literal) else f"{host} is no public address"

    def open_socket(self, info: AddressInfo) -> socket.socket:
        """The socket of a connection to that address, the last moment before it is made.

        Raises ForbiddenTargetError.
        """
        family, kind, protocol, _, address = info
        host = str(address[0]).partition("%")[0]
        if not self.private and not is_public(ipaddress.ip_address(host)):
            raise ForbiddenTargetError(errno.EACCES, f"{host} is no public address")
        opened = socket.socket(family, kind, protocol)
        opened.setblocking(False)
        return opened


PUBLIC_ALONE = Targets()


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Neither private, loopback, link-local, shared, reserved nor multicast; nor an IPv6 address that carries such an
    IPv4 one (mapped, 6to4, Teredo, NAT64).

    >>> [is_public(ipaddress.ip_address(each)) for each in ("8.8.8.8", "169.254.169.254", "::ffff:10.0.0.1")]
    [True, False, False]
    """
    if not address.is_global or address.is_multicast:
        return False
    return isinstance(address, ipaddress.IPv4Address) or all(map(is_public, _carried(address)))


def _carried(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    nat64 = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
    return [
        each for each in (address.ipv4_mapped, address.sixtofour, *(address.teredo or ()), nat64) if each is not None
    ]
