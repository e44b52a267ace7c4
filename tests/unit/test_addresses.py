"""Where a request comes from, and whether a list has that."""

from ipaddress import ip_address, ip_network

import pytest

from gateways.api.addresses import address_of, allowed, network, within

PROXIES = (network("10.0.0.0/8"), network("fd00::/8"))


def scope(peer: str | None, *forwarded: str) -> dict[str, object]:
    headers = [(b"x-forwarded-for", each.encode()) for each in forwarded]
    return {"client": None if peer is None else (peer, 443), "headers": [(b"host", b"x"), *headers]}


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.7", (), "203.0.113.7"),
        ("::ffff:203.0.113.7", (), "203.0.113.7"),
        ("2001:db8::1", (), "2001:db8::1"),
        (None, (), None),
        ("", (), None),
        # Nobody but a trusted proxy is believed.
        ("203.0.113.7", ("198.51.100.1",), "203.0.113.7"),
        ("10.0.0.1", ("198.51.100.1",), "198.51.100.1"),
        ("::ffff:10.0.0.1", ("198.51.100.1",), "198.51.100.1"),
        # What the caller wrote in front of it counts for nothing, in one header or in several.
        ("10.0.0.1", ("192.0.2.1, 198.51.100.1",), "198.51.100.1"),
        ("10.0.0.1", ("192.0.2.1", "198.51.100.1"), "198.51.100.1"),
        ("10.0.0.1", ("192.0.2.1, 198.51.100.1, fd00::7",), "198.51.100.1"),
        ("10.0.0.1", ("10.0.0.2, 10.0.0.3",), "10.0.0.2"),
        ("10.0.0.1", (), "10.0.0.1"),
        # What is no address is from nowhere, and is not passed over.
        ("10.0.0.1", ("198.51.100.1, unknown",), None),
        ("10.0.0.1", ("198.51.100.1,",), None),
        ("10.0.0.1", ("198.51.100.1:4711",), None),
    ],
)
def test_a_request_comes_from_what_the_first_trusted_proxy_saw(
    peer: str | None, forwarded: tuple[str, ...], address: str | None
) -> None:
    assert address_of(scope(peer, *forwarded), PROXIES) == (None if address is None else ip_address(address))


def test_a_list_has_its_networks_and_nothing_from_nowhere() -> None:
    addresses = [network("203.0.113.7"), network("2001:db8::/32")]
    assert allowed(ip_address("203.0.113.7"), addresses)
    assert allowed(ip_address("2001:db8::9"), addresses)
    assert not allowed(ip_address("203.0.113.8"), addresses)
    assert not allowed(None, [network("0.0.0.0/0"), network("::/0")])


def test_a_network_is_within_a_wider_one_of_its_kind() -> None:
    outer = [network("10.0.0.0/8"), network("2001:db8::/32")]
    assert within(ip_network("10.1.0.0/16"), outer)
    assert within(ip_network("10.0.0.0/8"), outer)
    assert not within(ip_network("10.0.0.0/7"), outer)
    assert not within(ip_network("0.0.0.0/0"), outer)
    assert within(ip_network("2001:db8:1::/48"), outer)
    assert not within(ip_network("::/0"), outer)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.0.0.1/8", "has host bits set: write an address"),
        ("example.com", "write an address or a network"),
        ("", "write an address or a network"),
        ("::ffff:10.0.0.0/104", "write it as IPv4"),
        ("fe80::1%eth0", "leave out what stands behind %"),
    ],
)
def test_what_is_no_network_is_refused_with_advice(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        network(text)
