"""Which servers of customers are called, and which signatures they may take for the exchange's."""

import ipaddress
import socket

import pytest

from gateways.client import SignatureError, verify
from gateways.client.webhooks import WINDOW_S, StaleError, decoded, encoded, signature
from gateways.webhooks.deliverer import HOUR_MS, USUAL
from gateways.webhooks.target import ForbiddenTargetError, Targets, is_public

SECRET = encoded(b"a secret of twenty-four+")
NOW = 1_795_521_600


@pytest.mark.parametrize("host", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses(host: str) -> None:
    assert is_public(ipaddress.ip_address(host))


PRIVATE = """
127.0.0.1 10.1.1.1 192.168.1.1 172.16.0.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 255.255.255.255 198.18.0.1
::1 :: fe80::1 fc00::1 ff02::1 ::ffff:127.0.0.1 64:ff9b::a00:1 2002:7f00:1:: 2002:a9fe:a9fe::
"""


@pytest.mark.parametrize("host", PRIVATE.split())
def test_addresses_that_are_not_public(host: str) -> None:
    assert not is_public(ipaddress.ip_address(host))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with pytest.raises(ForbiddenTargetError, match="no public address"):
        Targets().open_socket((family, socket.SOCK_STREAM, 6, "", (host, 443)))
    assert Targets().problem(f"https://[{host}]/" if ":" in host else f"https://{host}/") is not None
    Targets(private=True).open_socket((family, socket.SOCK_STREAM, 6, "", (host, 443))).close()


@pytest.mark.parametrize("url", ["https://example.com/hook", "https://example.com:8443/?a=b", "https://8.8.8.8/"])
def test_urls_that_may_be_told(url: str) -> None:
    assert Targets().problem(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://",
        "http://example.com/",
        "ftp://example.com/",
        "//example.com/",
        "https://a:b@example.com/",
        "https://example.com/#part",
        "https://example.com:99999/",
        "https://[::1/",
        "https://exämple.com/",
        "https://example.com/a b",
        "https://example.com/\r\nHost: x",
        "https://example.com/" + "a" * 2048,
    ],
)
def test_urls_that_may_not(url: str) -> None:
    assert Targets().problem(url)


def test_http_where_the_operator_allows_it() -> None:
    assert Targets(private=True).problem("http://127.0.0.1:8000/hook") is None


def test_who_is_told_verifies_what_came() -> None:
    body, sent_at = b'{"type":"lease.sold"}', str(NOW)
    headers = {
        "Webhook-Id": "evt_1",
        "Webhook-Timestamp": sent_at,
        "Webhook-Signature": signature(decoded(SECRET), "evt_1", sent_at, body),
    }
    assert verify(SECRET, headers, body, now=NOW) == "evt_1"
    assert verify(f"{encoded(bytes(24))} {SECRET}", headers, body, now=NOW) == "evt_1", "while the secret changes"
    for wrong_headers, wrong_body, secret in (
        (headers, body + b" ", SECRET),
        (headers, body, encoded(bytes(24))),
        ({**headers, "Webhook-Id": "evt_2"}, body, SECRET),
        ({}, body, SECRET),
    ):
        with pytest.raises(SignatureError):
            verify(secret, wrong_headers, wrong_body, now=NOW)
    with pytest.raises(StaleError):
        verify(SECRET, headers, body, now=NOW + WINDOW_S + 1)
    with pytest.raises(ValueError, match="24 bytes"):
        verify("whsec_AAAA", headers, body, now=NOW)


def test_how_long_a_failed_delivery_is_tried() -> None:
    pauses = [USUAL.pause_ms(attempts) for attempts in range(1, USUAL.max_attempts)]
    assert pauses[:4] == [5_000, 20_000, 80_000, 320_000]
    assert pauses[-1] == 4 * HOUR_MS
    assert 21 * HOUR_MS < sum(pauses) < 23 * HOUR_MS
