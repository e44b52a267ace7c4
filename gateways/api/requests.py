"""A request as the API's routes have it."""

from typing import Any

import msgspec
from litestar import Request
from litestar.types.empty import Empty

from gateways.api.errors import ApiError, invalid
from schemas.store import ApiKey


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
            self._body = b"".join(parts)
        return self._body
