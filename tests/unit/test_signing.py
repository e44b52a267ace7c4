"""Signatures of requests: what they are over, for how long they are good, and that each is good once."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateways.api.errors import ApiError
from gateways.api.signing import WINDOW_MS, Nonces, Signature, parsed, public_key, signature_in, ssh_line
from gateways.client.signing import Signer

NOW = 1_764_176_400_000
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = PRIVATE.public_key().public_bytes_raw()
NONCE = "0123456789abcdef"


def signature(nonce: str = NONCE, *, key_id: int = 12, timestamp: int = NOW) -> Signature:
    return Signature(key_id, timestamp, nonce, bytes(64))


def test_what_is_signed_is_seven_lines() -> None:
    said = Signature(12, NOW, NONCE, b"").message("POST", "/v1/bids?x=1", b'{"class": "X"}')
    assert said.decode().split("\n") == [
        "cx-ed25519-v1",
        "12",
        "1764176400000",
        NONCE,
        "POST",
        "/v1/bids?x=1",
        hashlib.sha256(b'{"class": "X"}').hexdigest(),
    ]


def test_a_signature_is_over_one_request_alone() -> None:
    headers = {name.lower(): value for name, value in Signer(12, PRIVATE).headers("POST", "/v1/bids", b"{}").items()}
    good = signature_in(headers)
    assert good is not None
    assert good.is_of(PUBLIC, "POST", "/v1/bids", b"{}")
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    for public, method, target, body in (
        (other, "POST", "/v1/bids", b"{}"),
        (PUBLIC, "PUT", "/v1/bids", b"{}"),
        (PUBLIC, "POST", "/v1/asks", b"{}"),
        (PUBLIC, "POST", "/v1/bids?", b"{}"),
        (PUBLIC, "POST", "/v1/bids", b"{} "),
    ):
        assert not good.is_of(public, method, target, body)
    for name, value in (("cx-key", "13"), ("cx-timestamp", str(good.timestamp + 1)), ("cx-nonce", "f" * 32)):
        changed = signature_in(headers | {name: value})
        assert changed is not None
        assert not changed.is_of(PUBLIC, "POST", "/v1/bids", b"{}")


def test_it_is_good_within_the_window_either_way() -> None:
    nonces = Nonces(began=0)
    for timestamp in (NOW - WINDOW_MS, NOW, NOW + WINDOW_MS):
        nonces.take(signature(f"{timestamp:016}", timestamp=timestamp), NOW)
    for timestamp in (NOW - WINDOW_MS - 1, NOW + WINDOW_MS + 1):
        with pytest.raises(ApiError, match="sign within 30 s") as refused:
            nonces.take(signature("x" * 16, timestamp=timestamp), NOW)
        assert (refused.value.status, refused.value.code) == (401, "signature_stale")


def test_a_nonce_is_good_once_for_as_long_as_its_signature_could_be_taken() -> None:
    nonces = Nonces(began=0)
    early = signature(timestamp=NOW + WINDOW_MS)  # by a clock that is ahead
    nonces.take(early, NOW)
    for now in (NOW, NOW + WINDOW_MS, NOW + 2 * WINDOW_MS):
        with pytest.raises(ApiError) as refused:
            nonces.take(early, now)
        assert refused.value.code == "nonce_used"
    with pytest.raises(ApiError, match="sign within"):
        nonces.take(early, NOW + 2 * WINDOW_MS + 1)
    nonces.take(signature(key_id=13), NOW)  # another's is another


def test_what_was_signed_before_the_start_is_not_known_to_be_new() -> None:
    with pytest.raises(ApiError, match="has just started") as refused:
        Nonces(began=NOW).check_time(signature(timestamp=NOW - 1), NOW + 5)
    assert refused.value.code == "signature_stale"


def test_nonces_are_bounded_and_none_is_forgotten_for_that() -> None:
    nonces = Nonces(began=0, most=5, most_of_key=3)
    for number in range(3):
        nonces.take(signature(f"{number:016}"), NOW)
    with pytest.raises(ApiError, match="send fewer") as refused:
        nonces.take(signature(), NOW)
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1"})
    for key_id in (13, 14):
        nonces.take(signature(key_id=key_id), NOW)
    with pytest.raises(ApiError, match="send fewer"):
        nonces.take(signature(key_id=15), NOW)
    with pytest.raises(ApiError) as refused:
        nonces.take(signature(f"{0:016}"), NOW)
    assert refused.value.code == "nonce_used"
    later = NOW + 2 * WINDOW_MS + 1
    for number in range(3):
        nonces.take(signature(f"{number:016}", timestamp=later), later)


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        (("", str(NOW), NONCE, "A" * 86 + "=="), "CX-Key"),
        (("-1", str(NOW), NONCE, "A" * 86 + "=="), "CX-Key"),
        (("9" * 16, str(NOW), NONCE, "A" * 86 + "=="), "CX-Key"),
        (("12", "soon", NONCE, "A" * 86 + "=="), "CX-Timestamp"),
        (("12", "9" * 16, NONCE, "A" * 86 + "=="), "CX-Timestamp"),
        (("12", "\u0661", NONCE, "A" * 86 + "=="), "CX-Timestamp"),
        (("12", str(NOW), "short", "A" * 86 + "=="), "CX-Nonce"),
        (("12", str(NOW), "x" * 65, "A" * 86 + "=="), "CX-Nonce"),
        (("12", str(NOW), NONCE + "\n", "A" * 86 + "=="), "CX-Nonce"),
        (("12", str(NOW), NONCE, ""), "CX-Signature"),
        (("12", str(NOW), NONCE, "é"), "CX-Signature"),
        (("12", str(NOW), NONCE, base64.b64encode(bytes(63)).decode()), "CX-Signature"),
    ],
)
def test_a_part_that_is_not_in_its_form_is_named(parts: tuple[str, str, str, str], field: str) -> None:
    with pytest.raises(ApiError) as refused:
        parsed(*parts)
    assert (refused.value.status, refused.value.field) == (400, field)


def test_a_public_key_is_an_ed25519_line_as_ssh_keygen_writes_it() -> None:
    line = ssh_line(PUBLIC)
    assert line.startswith("ssh-ed25519 ")
    assert public_key(line + " me@laptop\n") == PUBLIC
    ecdsa = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABB"
    for wrong in ("", "cx_0000", base64.b64encode(PUBLIC).decode(), ecdsa):
        with pytest.raises(ValueError, match="SSH public key"):
            public_key(wrong)
