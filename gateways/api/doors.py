"""What every request passes first and last: its turn, an id, figures."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from litestar.enums import HttpMethod, ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateways.api.errors import REQUEST, REQUEST_ID, ApiError, closing, request_id
from gateways.api.limits import RATE, Left
from gateways.api.turns import TURN, Name, Turn, Turns

HELD_BACK = (401, 429)
"""Statuses of requests that are refused before anything is done for them."""
_REQUEST_ID = REQUEST_ID.lower().encode()

Door = Callable[[Scope, Receive, Send], Awaitable[None]]


class Doors:
    """Counts requests, and lets each wait for its turn."""

    def __init__(
        self, registry: CollectorRegistry, turns: Turns, party: Callable[[Scope], Name], *, access_log: bool
    ) -> None:
        self._turns = turns
        self._party = party
        self._access_log = structlog.get_logger("access") if access_log else None
        self._answers = Counter("api_answers", "Requests answered", ["route", "method", "status"], registry=registry)
        self._seconds = Histogram("api_seconds", "Time to answer", ["route", "method"], registry=registry)
        in_flight = Gauge("api_in_flight", "Requests being answered", registry=registry)
        in_flight.set_function(lambda: turns.under_way)
        self._counted: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        """As many as routes have methods and statuses: to find a figure by its labels takes longer than to count."""

    def middleware(self, app: ASGIApp) -> Door:
        """A Litestar middleware."""

        async def door(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == ScopeType.WEBSOCKET:  # which lasts, and is bounded by itself
                await app(scope, receive, send)
                return
            began, status = time.perf_counter(), 500
            turn: Turn | None = None

            def leave() -> None:
                nonlocal turn
                if turn is not None:
                    self.leave(scope, turn, scope["path_template"], status, began)
                    turn = None

            async def stamped(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    if status in HELD_BACK:
                        leave()
                        await self.hold_back(scope)
                    stamps = self.stamps(scope)
                    names = {name for name, _ in stamps}
                    headers = [each for each in message["headers"] if each[0] not in names] + stamps
                    if scope.get("method") == HttpMethod.OPTIONS:
                        headers = [each for each in headers if each[0] != b"allow"]
                        headers.append((b"allow", ", ".join(sorted(_methods(scope))).encode()))
                    message["headers"] = headers
                await send(message)

            try:
                turn = self.enter(scope)
                await turn.begin()
                await turn.working(app(scope, receive, stamped))
            except asyncio.CancelledError:
                raise closing() from None
            except ApiError as error:
                status = error.status
                leave()
                await self.hold_back(scope)
                raise
            finally:
                leave()

        return door

    def enter(self, scope: Scope) -> Turn:
        """A request came: its turn, which has not begun. Raises ApiError 429."""
        REQUEST.set(request_id(scope))
        turn = scope["state"][TURN] = Turn(self._turns, self._turns.enter(self._party(scope)))
        return turn

    async def hold_back(self, scope: Scope) -> None:
        """Returns when the request may be told that it is refused; it has left."""
        turn: Turn | None = scope["state"].get(TURN)
        await self._turns.hold_back(self._party(scope) if turn is None else turn.party.name)

    def stamps(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """Headers that every answer has."""
        stamps = [(_REQUEST_ID, request_id(scope).encode())]
        left: Left | None = scope["state"].get(RATE)
        if left is not None:
            stamps += left.encoded()
        return stamps

    def leave(self, scope: Scope, turn: Turn, route: str, status: int, began: float) -> None:
        """The request has its answer; it began at that time of `time.perf_counter`."""
        turn.end()
        self._turns.leave(turn.party)
        seconds = time.perf_counter() - began
        method = str(scope.get("method"))
        answers, spent = self._figures(route, method, status)
        answers.inc()
        spent.observe(seconds)
        if self._access_log is not None:
            self._access_log.info(
                "answered",
                method=method,
                path=scope["path"],
                status=status,
                seconds=round(seconds, 6),
                request_id=request_id(scope),
            )

    def _figures(self, route: str, method: str, status: int) -> tuple[Counter, Histogram]:
        named = route, method, status
        if named not in self._counted:
            self._counted[named] = self._answers.labels(*named), self._seconds.labels(route, method)
        return self._counted[named]


def _methods(scope: Scope) -> set[str]:
    """What may be done with the path. Litestar's own answer leaves out what was registered after the first handler."""
    routes = scope["litestar_app"].routes
    return {method for route in routes if route.path_format == scope["path_template"] for method in route.methods}
