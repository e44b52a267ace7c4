"""Requests that are signed with Ed25519 (RFC 8032), for those who will not send a secret.

A signature is over the lines of `message`: which key, which request, when, and a nonce, so that none is good for
another request, later, or twice.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key
from msgspec import Struct

from gateways.api.errors import ApiError, invalid
from gateways.api.ssh import public_key as plain_ssh
from schemas.units import SECOND_MS

VERSION = "cx-ed25519-v1"
WINDOW_MS = 30 * SECOND_MS
"""How far a signature's time may be from this gateway's wall clock, either way."""
MAX_NONCES = 300_000
"""That are remembered: some 60 MB."""
MAX_NONCES_OF_KEY = 30_000
"""Each for a minute: 500 requests a second, without end."""

KEY, TIMESTAMP, NONCE, SIGNATURE = "cx-key", "cx-timestamp", "cx-nonce", "cx-signature"
_NUMBER = re.compile(r"[0-9]{1,15}")
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")


class Signature(Struct, frozen=True):
    """What a request says of who signed it."""

    key_id: int
    timestamp: int
    """ms of the wall clock, since the epoch."""
    nonce: str
    value: bytes

    def is_of(self, public_key: bytes, method: str, target: str, body: bytes) -> bool:
        """Whether the holder of that public key signed that request."""
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(self.value, self.message(method, target, body))
        except InvalidSignature:
            return False
        return True

    def message(self, method: str, target: str, body: bytes) -> bytes:
        """What is signed. `target` is the path with its query, as it was sent."""
        hashed = hashlib.sha256(body).hexdigest()
        return "\n".join((VERSION, str(self.key_id), str(self.timestamp), self.nonce, method, target, hashed)).encode()


def signature_in(headers: Mapping[str, Any]) -> Signature | None:
    """What a request's headers say; None where it is not signed. Raises ApiError 400."""
    if SIGNATURE not in headers:
        return None
    return parsed(*(headers.get(name, "") for name in (KEY, TIMESTAMP, NONCE, SIGNATURE)))


def parsed(key_id: str, timestamp: str, nonce: str, value: str) -> Signature:
    """Raises ApiError 400 where a part is not in its form."""
    if not _NUMBER.fullmatch(key_id):
        raise invalid("CX-Key", "CX-Key is the key_id of a key with a public key")
    if not _NUMBER.fullmatch(timestamp):
        raise invalid("CX-Timestamp", "CX-Timestamp is the time in ms since 1970-01-01, in UTC")
    if not _NONCE.fullmatch(nonce):
        raise invalid("CX-Nonce", "CX-Nonce is 16 to 64 of A-Z a-z 0-9 _ -, drawn anew for each request")
    try:
        signed = base64.b64decode(value, validate=True)
    except ValueError:
        signed = b""
    if len(signed) != 64:
        raise invalid("CX-Signature", "CX-Signature is the 64 bytes of an Ed25519 signature in base64")
    return Signature(int(key_id), int(timestamp), nonce, signed)


def target_of(scope: Mapping[str, Any]) -> str:
    """The path with its query as they were sent, of an ASGI scope."""
    query = scope["query_string"]
    target: bytes = scope["raw_path"] + (b"?" + query if query else b"")
    return target.decode("latin-1")


def public_key(line: str) -> bytes:
    """The 32 bytes of a line of a .pub file, as `ssh-keygen -t ed25519` writes it. Raises ValueError."""
    found = load_ssh_public_key(plain_ssh(line).encode())
    if not isinstance(found, Ed25519PublicKey):
        raise ValueError("requests are signed with Ed25519: make a key with ssh-keygen -t ed25519")
    return found.public_bytes_raw()


def ssh_line(key: bytes) -> str:
    """The other way round."""
    return Ed25519PublicKey.from_public_bytes(key).public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


class Nonces:
    """Those that were used, for as long as their signatures could be taken. Times are ms of the wall clock."""

    def __init__(self, began: int, most: int = MAX_NONCES, most_of_key: int = MAX_NONCES_OF_KEY) -> None:
        self._began = began
        self._most = most
        self._most_of_key = most_of_key
        self._until: dict[tuple[int, str], int] = {}
        """In the order in which they came, which is that in which they can be forgotten."""
        self._of_key: dict[int, int] = {}

    def check_time(self, signature: Signature, now: int) -> None:
        """Raises ApiError 401 for what is too old or too new, or was signed before this process could remember it."""
        if abs(now - signature.timestamp) > WINDOW_MS:
            off = f"CX-Timestamp is {signature.timestamp}, and the exchange's clock {now}"
            raise _stale(f"{off}: sign within {WINDOW_MS // SECOND_MS} s, by a clock that is right")
        if signature.timestamp < self._began:
            raise _stale("this gateway has just started, and takes no signature from before: sign again")

    def take(self, signature: Signature, now: int) -> None:
        """The nonce of a good signature is used. Raises ApiError 401 where it was before, 429 where too many are."""
        self.check_time(signature, now)  # anew: the body may have taken its time
        self._forget(now)
        used = signature.key_id, signature.nonce
        if used in self._until:
            raise nonce_used()
        count = self._of_key.get(signature.key_id, 0)
        if len(self._until) >= self._most or count >= self._most_of_key:
            raise ApiError(
                429, "busy", "too many signed requests in a minute: send fewer", headers={"Retry-After": "1"}
            )
        self._until[used] = now + 2 * WINDOW_MS
        self._of_key[signature.key_id] = count + 1

    def _forget(self, now: int) -> None:
        while self._until:
            used = next(iter(self._until))
            if self._until[used] >= now:
                return
            del self._until[used]
            self._of_key[used[0]] -= 1
            if not self._of_key[used[0]]:
                del self._of_key[used[0]]


def nonce_used() -> ApiError:
    """It was seen before, here or at another gateway."""
    return ApiError(401, "nonce_used", "a nonce is good for one request: draw another, and sign again", "CX-Nonce")


def _stale(message: str) -> ApiError:
    return ApiError(401, "signature_stale", message, "CX-Timestamp")
