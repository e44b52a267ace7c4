"""Signatures of webhooks, as Standard Webhooks (https://www.standardwebhooks.com) has them: HMAC-SHA256 over
`id.timestamp.body` with a secret that both sides know.

For who is told by an exchange, in its server:

    verify(secret, request.headers, await request.body())

An event may come more than once: take those whose `webhook-id` was there already as done.
"""

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Iterable, Mapping

WINDOW_S = 300
"""How old an event may be, or how far ahead its clock: what is copied on the way is of use for so long at most."""
PREFIX = "whsec_"
MIN_SECRET_BYTES = 24
MAX_EVENT_ID = 128

_SECONDS = re.compile(r"\d{1,11}", re.ASCII)


class SignatureError(Exception):
    """What came is not signed with the secret."""


class StaleError(SignatureError):
    """It is signed, and was long ago."""


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, now: float | None = None) -> str:
    """The event's id, where `body`, as it came byte by byte, is signed with the secret (`whsec_…`; several with spaces
    between while they change) and of now. Raises SignatureError; ValueError for what is no secret."""
    lowered = {name.lower(): value for name, value in headers.items()}
    check(map(decoded, secret.split()), lowered, body, time.time() if now is None else now)
    return lowered["webhook-id"]


def decoded(secret: str) -> bytes:
    """`whsec_` and base64 -> its bytes. Raises ValueError, without the secret in its words."""
    try:
        raw = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(f"a secret is {PREFIX} and base64: this one is not") from None
    if len(raw) < MIN_SECRET_BYTES:
        raise ValueError(f"a secret must have {MIN_SECRET_BYTES} bytes: this has {len(raw)}")
    return raw


def encoded(secret: bytes) -> str:
    """As it is shown."""
    return PREFIX + base64.b64encode(secret).decode()


def signature(secret: bytes, event_id: str, timestamp: str, body: bytes) -> str:
    """As it stands in the header."""
    signed = f"{event_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()


def check(secrets: Iterable[bytes], headers: Mapping[str, str], body: bytes, now: float) -> None:
    """Raises SignatureError where the body is not signed with one of the secrets, StaleError where it was long ago.
    The headers' names are in lower case, or without case."""
    event_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not 0 < len(event_id) <= MAX_EVENT_ID:
        raise SignatureError(f"the header webhook-id must name the event, with 1 to {MAX_EVENT_ID} characters")
    if not _SECONDS.fullmatch(timestamp):
        raise SignatureError("the header webhook-timestamp must say when it was sent, in seconds since 1970")
    given = [each.encode() for each in headers.get("webhook-signature", "").split()]
    wanted = [signature(secret, event_id, timestamp, body).encode() for secret in secrets]
    if not any(hmac.compare_digest(one, other) for one in given for other in wanted):
        raise SignatureError("the header webhook-signature has no signature of this event with a secret known here")
    if abs(now - int(timestamp)) > WINDOW_S:
        raise StaleError(
            f"the event was sent {now - int(timestamp):.0f} s ago: it must be {WINDOW_S} s at most, so sign it anew"
        )
