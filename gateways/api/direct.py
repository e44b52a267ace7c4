"""The hot path: nothing of Litestar's stands between a request's bytes and what places an order, nor on the way back.

Litestar's own way costs as much as an order does. Such a route is one of its own all the same: it is described there,
and there it takes what comes under another form of its path.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from litestar import Litestar
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler
from litestar.types import Receive, Scope
from msgspec import Struct

from gateways.api.doors import HELD_BACK, Doors
from gateways.api.errors import ErrorAnswer, body_of, closing, explained, invalid, request_id
from gateways.api.keys import Keys
from gateways.api.requests import ApiRequest, whole_body
from gateways.api.turns import Turn
from schemas.store import ApiKey
from schemas.store import Scope as KeyScope

REPLAYED = "Idempotent-Replayed"

_DIRECT = "direct"
_encode = msgspec.json.Encoder().encode
_JSON = (b"content-type", b"application/json")
_REPLAYED = (REPLAYED.lower().encode(), b"true")

Headers = list[tuple[bytes, bytes]]
Place = Callable[[ApiKey, Any], Awaitable[tuple[Any, bool]]]
"""Of a key and what it wants: what became of it, and whether that was there before."""


class Entry(Struct, frozen=True):
    """What a request to a direct route comes to."""

    body: type
    place: Place
    scope: KeyScope


def direct(body: type, place: Place, door: dict[str, Any]) -> dict[str, Any]:
    """Settings of a route behind that door, to which requests come directly."""
    return {**door, "opt": {**door["opt"], _DIRECT: Entry(body, place, door["opt"]["scope"])}}


class Application(Litestar):
    """Litestar, and before it the direct routes."""

    def __init__(self, handlers: list[Any], keys: Keys, doors: Doors, *, request_max_body_size: int, **kwargs: Any):
        super().__init__(handlers, request_max_body_size=request_max_body_size, **kwargs)
        self.direct = {
            path: DirectRoute(path, handler, keys, doors, request_max_body_size)
            for handler in handlers
            if isinstance(handler, HTTPRouteHandler) and _DIRECT in handler.opt
            for path in handler.paths
        }
        """By path; all are of POST."""
        self.direct_urls = {path.encode(): route for path, route in self.direct.items()}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        route = self.direct.get(scope["path"]) if scope.get("method") == HttpMethod.POST else None
        if route is None:
            await super().__call__(scope, receive, send)
            return
        status, headers, content = await route.answer(scope, receive)
        headers.append((b"content-length", b"%d" % len(content)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content, "more_body": False})


class DirectRoute:
    """One path."""

    def __init__(self, path: str, handler: HTTPRouteHandler, keys: Keys, doors: Doors, max_body: int) -> None:
        entry: Entry = handler.opt[_DIRECT]
        self._path = path
        self._handler = handler
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(entry.body).decode
        self._place = entry.place
        self._scope = entry.scope
        self._keys = keys
        self._doors = doors
        self._max_body = max_body

    async def answer(self, scope: Scope, receive: Receive) -> tuple[int, Headers, bytes]:
        """Status, headers without the length, and body: every request has its answer."""
        began, status, turn = time.perf_counter(), 500, None
        try:
            turn = self._doors.enter(scope)
            await turn.begin()
            answer, replayed = await turn.working(self._placed(scope, receive, turn))
            status, headers = 200 if replayed else 201, [_JSON]
            if replayed:
                headers.append(_REPLAYED)
        except asyncio.CancelledError:
            status, answer, headers = _told(scope, closing())
        except Exception as error:
            status, answer, headers = _told(scope, error)
        finally:
            if turn is not None:
                self._doors.leave(scope, turn, self._path, status, began)
        if status in HELD_BACK:
            await self._doors.hold_back(scope)
        headers += self._doors.stamps(scope)
        return status, headers, _encode(answer)

    async def _placed(self, scope: Scope, receive: Receive, turn: Turn) -> tuple[Any, bool]:
        key, body = self._keys.known(scope), None
        if key is None:
            scope["route_handler"] = self._handler
            request = ApiRequest(scope, receive)
            key = await self._keys.asker(request)
            body = await request.body()
        await turn.of(key.account.id)
        self._keys.admit(key, self._scope, scope)
        if scope["query_string"]:
            raise invalid("", "there are no parameters here: say all of it in the body")
        if body is None:
            body = await whole_body(receive, self._max_body)
        if not body:
            raise invalid("", "the body is empty: send a JSON object")
        return await self._place(key, self._decode(body))


def _told(scope: Scope, error: Exception) -> tuple[int, ErrorAnswer, Headers]:
    """How a refusal is answered. Whoever kept the error itself would be kept by it, with all of the request: by its
    traceback, until the garbage collector stops everything to find them."""
    refusal = explained(scope, error)
    headers = [(name.lower().encode(), value.encode()) for name, value in refusal.headers.items()]
    return refusal.status, ErrorAnswer(body_of(refusal, request_id(scope))), [_JSON, *headers]
