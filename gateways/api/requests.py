"""A request as the API's routes have it."""

import re
from typing import Any

import msgspec
from litestar import Request
from litestar.types import Receive
from litestar.types.empty import Empty

from gateways.api.errors import ApiError, invalid
from schemas.store import ApiKey

_ZERO = re.compile(rb"(?<!\\)(\\\\)*\\u0000")
"""As JSON writes it. A zero byte itself, and half of a surrogate pair, are no JSON."""


class ApiRequest(Request[ApiKey, Any, Any]):
    """A request whose JSON body is decoded once and strictly: "8" is no number. A route may read it in its own way."""

    async def json(self) -> Any:
        body = await self.body()
        field = self.route_handler.parsed_data_field
        read = self.route_handler.opt.get("read")
        if body and read is not None:
            return read(self.headers, body)
        return msgspec.json.decode(body, type=field.annotation) if body and field is not None else None

    async def body(self) -> bytes:
        """All of it. Raises ApiError 413. Litestar reads by a generator, which takes as long as to write an intent."""
        if self._body is Empty:
            self._body = await whole_body(self.receive, self.route_handler.resolve_request_max_body_size())
        return self._body


async def whole_body(receive: Receive, most: int | None) -> bytes:
    """Of an ASGI request. Raises ApiError 400 where it is cut off or has what no text may have, 413 where it has more
    than so many bytes."""
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            raise invalid("", "the body ended before it was whole")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if most is not None and size > most:
            raise ApiError(413, "too_large", f"the body has more than {most} bytes: send less at once")
        more = message.get("more_body", False)
    body = b"".join(parts)
    must_have_no_zero(body)
    return body


def must_have_no_zero(body: bytes) -> None:
    """Raises ApiError 400 for JSON of which a text has U+0000."""
    if b"\\u0000" in body and _ZERO.search(body):
        raise invalid("", "a text in the body has U+0000: no database and no terminal can carry it")
