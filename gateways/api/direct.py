"""Routes on the hot path: nothing of Litestar's stands between a request's bytes and the handler, nor on the way back.

Litestar's own way costs more than an order does: it copies the route for its guard, models the arguments, and builds
three objects for an answer. What such a route is and says stays a Litestar route's: path, guard, description.
"""

from typing import Any

import msgspec
from litestar import Response
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Receive, Scope, Send

from gateways.api.errors import ErrorAnswer, body_of, explained, invalid, request_id
from gateways.api.requests import ApiRequest

_encode = msgspec.json.Encoder().encode
_JSON = (b"content-type", b"application/json")


class direct_post(HTTPRouteHandler):
    """POST of a JSON object to a handler of `request` and `data`, which answers with a Response."""

    def __init__(self, path: str, **settings: Any) -> None:
        super().__init__(path, http_method=HttpMethod.POST, status_code=201, **settings)

    def resolve_middleware(self) -> Any:
        """Within all others."""
        return [self._answering, *super().resolve_middleware()]

    def _answering(self, app: ASGIApp) -> ASGIApp:
        handle: Any = self.fn
        guards: list[Any] = self.resolve_guards()
        decode = msgspec.json.Decoder(self.parsed_fn_signature.parameters["data"].annotation).decode

        async def answering(scope: Scope, receive: Receive, send: Send) -> None:
            request = ApiRequest(scope, receive, send)
            headers = [_JSON]
            try:
                for guard in guards:
                    await guard(request, self)
                if scope["query_string"]:
                    raise invalid("", "there are no parameters here: say all of it in the body")
                body = await request.body()
                if not body:
                    raise invalid("", "the body is empty: send a JSON object")
                answer: Response[Any] = await handle(request=request, data=decode(body))
                status, content = answer.status_code, answer.content
                further = answer.headers
            except Exception as error:  # every one has its answer
                status, content, further = _told(scope, error)
            headers += [(name.lower().encode(), value.encode()) for name, value in further.items()]
            sent = _encode(content)
            headers.append((b"content-length", b"%d" % len(sent)))
            await send({"type": "http.response.start", "status": status or 200, "headers": headers})
            await send({"type": "http.response.body", "body": sent, "more_body": False})

        return answering


def _told(scope: Scope, error: Exception) -> tuple[int, ErrorAnswer, dict[str, str]]:
    """How a refusal is answered. Whoever kept the error itself would be kept by it, with all of the request: by its
    traceback, until the garbage collector stops everything to find them."""
    refusal = explained(scope, error)
    return refusal.status, ErrorAnswer(body_of(refusal, request_id(scope))), refusal.headers
