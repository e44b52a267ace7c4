"""The hot path: nothing of Litestar's stands between a request's bytes and what places an order, nor on the way back.

Litestar's own way costs as much as an order does. Such a route is one of its own all the same: it is described there,
and there it takes what comes under another form of its path. Nor has a request a task of its own, where its order has
to wait for nothing but its answer: that costs as much as to check it.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from types import CoroutineType
from typing import Any

import msgspec
from litestar import Litestar
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler
from litestar.types import Receive, Scope
from msgspec import Struct

from gateways.api.doors import HELD_BACK, Doors
from gateways.api.errors import REQUEST, ApiError, ErrorAnswer, body_of, closing, explained, invalid, request_id
from gateways.api.keys import Keys
from gateways.api.requests import ApiRequest, must_have_no_zero, whole_body
from gateways.api.turns import Turn
from schemas.store import ApiKey
from schemas.store import Scope as KeyScope

REPLAYED = "Idempotent-Replayed"

_DIRECT = "direct"
_encode = msgspec.json.Encoder().encode
_JSON = (b"content-type", b"application/json")
_REPLAYED = (REPLAYED.lower().encode(), b"true")

Headers = list[tuple[bytes, bytes]]
Answered = tuple[Any, bool]
"""What became of what was wanted, and whether that was there before."""
Place = Callable[[ApiKey, Any], Awaitable[Answered]]
"""Of a key and what it wants."""
Made = Callable[[], Any | Coroutine[Any, Any, Answered]]
"""Makes the answer: of what was not there before, or else what has to be awaited."""
PlaceSoon = Callable[[ApiKey, Any, Callable[[Made], None]], bool]
"""Likewise, without a wait before it is on its way: whether it can be. Who is told hears of it once."""


class Entry(Struct, frozen=True):
    """What a request to a direct route comes to."""

    body: type
    place: Place
    place_soon: PlaceSoon
    scope: KeyScope


def direct(body: type, place: Place, place_soon: PlaceSoon, door: dict[str, Any]) -> dict[str, Any]:
    """Settings of a route behind that door, to which requests come directly."""
    return {**door, "opt": {**door["opt"], _DIRECT: Entry(body, place, place_soon, door["opt"]["scope"])}}


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
        self.path = path
        self.doors = doors
        self.place = entry.place
        self.place_soon = entry.place_soon
        self._handler = handler
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(entry.body).decode
        self._scope = entry.scope
        self._keys = keys
        self._max_body = max_body

    async def answer(self, scope: Scope, receive: Receive) -> tuple[int, Headers, bytes]:
        """Status, headers without the length, and body: every request has its answer."""
        began, status, turn = time.perf_counter_ns(), 500, None
        try:
            turn = self.doors.enter(scope)
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
                self.doors.leave(scope, turn, self.path, status, began)
        if status in HELD_BACK:
            await self.doors.hold_back(scope)
        headers += self.doors.stamps(scope)
        return status, headers, _encode(answer)

    async def _placed(self, scope: Scope, receive: Receive, turn: Turn) -> Answered:
        key, body = self._keys.known(scope), None
        if key is None:
            scope["route_handler"] = self._handler
            request = ApiRequest(scope, receive)
            key = await self._keys.asker(request)
            body = await request.body()
        await turn.of(key.account.id)
        self.admit(key, scope)
        if scope["query_string"]:
            raise invalid("", "there are no parameters here: say all of it in the body")
        if body is None:
            body = await whole_body(receive, self._max_body)
        return await self.place(key, self.wanted(body))

    def holder(self, scope: Scope, turn: Turn) -> ApiKey | None:
        """Whose request it is, where that is known and it is this account's turn. Raises ApiError."""
        key = self._keys.known(scope)
        return key if key is not None and key.account.id == turn.party.name else None

    def admit(self, key: ApiKey, scope: Scope) -> None:
        """One request more of the key. Raises ApiError 429, 403."""
        self._keys.admit(key, self._scope, scope)

    def wanted(self, body: bytes) -> Any:
        """What the body says. Raises ApiError 400, and msgspec's errors."""
        if not body:
            raise invalid("", "the body is empty: send a JSON object")
        return self._decode(body)

    async def unknown(self, scope: Scope, body: bytes, turn: Turn) -> Answered:
        """Of a request of whom nobody knows yet."""

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        return await self._placed(scope, receive, turn)


class Call(ABC):
    """A request whose body is there, until it has its answer."""

    __slots__ = ("_began", "_body", "_is_answered", "_turn", "route", "scope")

    def __init__(self, route: DirectRoute, scope: Any) -> None:
        self.route = route
        self.scope = scope
        self._began = 0
        self._body = b""
        self._turn: Turn | None = None
        self._is_answered = False

    @abstractmethod
    def answered(self, status: int, head: bytes, content: bytes) -> None:
        """It has its answer. The head is lines of headers, without its length."""

    @abstractmethod
    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """It has to be awaited, beside others."""

    def begin(self, body: bytes) -> None:
        """It is to be answered, be it by an error."""
        self._began, self._body = time.perf_counter_ns(), body
        try:
            self._turn = self.route.doors.enter(self.scope)
        except Exception as error:
            self._refuse(error)
        else:
            self._turn.begin_soon(self._start)

    def cancel(self, msg: str | None = None) -> None:
        """The server closes, as uvicorn tells its tasks."""
        asyncio.get_running_loop().call_soon(self._refuse, closing())

    def _start(self, refusal: ApiError | None) -> None:
        """Its turn is there, or will not come."""
        turn, route = self._turn, self.route
        assert turn is not None, "it has entered"
        if self._is_answered:  # the server closes: nothing is to be done that was said not to be
            turn.end()
            return
        began = turn.now()
        try:
            if refusal is not None:
                raise refusal
            REQUEST.set(request_id(self.scope))  # others have had theirs since
            key = route.holder(self.scope, turn)
            if key is None:
                self._await(route.unknown(self.scope, self._body, turn))
                return
            route.admit(key, self.scope)
            must_have_no_zero(self._body)
            wanted = route.wanted(self._body)
            if not route.place_soon(key, wanted, self._told):
                self._await(route.place(key, wanted))
        except Exception as error:
            self._refuse(error)
        finally:
            turn.took(turn.now() - began)

    def _told(self, made: Made) -> None:
        """What is wanted is there, or was refused."""
        if self._is_answered:
            return
        turn = self._turn
        assert turn is not None, "it has entered"
        began = turn.now()
        try:
            answer = made()
            if isinstance(answer, CoroutineType):
                self._await(answer)
            else:
                self._answer(201, _JSON_LINE, answer)
        except Exception as error:
            self._refuse(error)
        finally:
            turn.took(turn.now() - began)

    def _await(self, work: Awaitable[Answered]) -> None:
        REQUEST.set(request_id(self.scope))  # as the task takes over: who tells of an answer does so to many
        self.spawn(self._awaited(work))

    async def _awaited(self, work: Awaitable[Answered]) -> None:
        assert self._turn is not None, "it has entered"
        try:
            answer, replayed = await self._turn.working(work)
        except asyncio.CancelledError:
            self._refuse(closing())
        except Exception as error:
            self._refuse(error)
        else:
            self._answer(200 if replayed else 201, _JSON_LINE + _REPLAYED_LINE if replayed else _JSON_LINE, answer)

    def _refuse(self, error: Exception) -> None:
        status, answer, headers = _told(self.scope, error)
        self._answer(status, b"".join(map(_line, headers)), answer)

    def _answer(self, status: int, head: bytes, answer: Any) -> None:
        if self._is_answered:
            return
        content = _encode(answer)
        self._is_answered = True
        doors = self.route.doors
        if self._turn is not None:
            doors.leave(self.scope, self._turn, self.route.path, status, self._began)
        head += doors.lines(self.scope)
        if status in HELD_BACK:
            self.spawn(self._held_back(status, head, content))
        else:
            self.answered(status, head, content)

    async def _held_back(self, status: int, head: bytes, content: bytes) -> None:
        try:
            await self.route.doors.hold_back(self.scope)
        finally:  # also as the server closes
            self.answered(status, head, content)


def _line(header: tuple[bytes, bytes]) -> bytes:
    return b"%b: %b\r\n" % header


_JSON_LINE, _REPLAYED_LINE = _line(_JSON), _line(_REPLAYED)


def _told(scope: Scope, error: Exception) -> tuple[int, ErrorAnswer, Headers]:
    """How a refusal is answered. Whoever kept the error itself would be kept by it, with all of the request: by its
    traceback, until the garbage collector stops everything to find them."""
    refusal = explained(scope, error)
    headers = [(name.lower().encode(), value.encode()) for name, value in refusal.headers.items()]
    return refusal.status, ErrorAnswer(body_of(refusal, request_id(scope))), [_JSON, *headers]
