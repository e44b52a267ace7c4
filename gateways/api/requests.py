"""A request as the API's routes have it."""

import re
from typing import Any

import msgspec
from litestar import Request
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
            most = self.route_handler.resolve_request_max_body_size()
            parts: list[bytes] = []
            size, more = 0, True
            while more:
                message: Any = await self.receive()
                if message["type"] == "http.disconnect":
                    raise invalid("", "the body ended before it was whole")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if most is not None and size > most:
                    raise ApiError(413, "too_large", f"the body has more than {most} bytes: send less at once")
                more = message.get("more_body", False)
            body = b"".join(parts)
            if b"\\u0000" in body and _ZERO.search(body):
                raise invalid("", "a text in the body has U+0000: no database and no terminal can carry it")
            self._body = body
        return self._body
