"""What every request passes first and last: its turn, an id, figures."""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable
from itertools import accumulate

import structlog
from litestar.enums import HttpMethod, ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from gateways.api.errors import REQUEST, REQUEST_ID, ApiError, closing, going_on_unlogged, request_id
from gateways.api.limits import RATE, Left
from gateways.api.turns import TURN, Name, Turn, Turns

ANSWER_MS = (5, 10, 25, 50, 75, 100, 250, 500, 750, 1_000, 2_500, 5_000, 7_500, 10_000)
HELD_BACK = (401, 429)
"""Statuses of requests that are refused before anything is done for them."""
_REQUEST_ID = REQUEST_ID.lower().encode()

_BOUNDS_NS = tuple(bound * 1_000_000 for bound in ANSWER_MS)

Door = Callable[[Scope, Receive, Send], Awaitable[None]]


class Answers:
    """`api_answers` and `api_seconds`, as a counter and a histogram. Those of the library take as long for each answer
    as to check who asks."""

    def __init__(self) -> None:
        self._counted: dict[tuple[str, str, int], list[int]] = {}
        """By route, method and status, as many as there are: answers by how long they took, and ns of all."""

    def add(self, route: str, method: str, status: int, spent: int) -> None:
        """An answer took so many ns."""
        named = route, method, status
        counts = self._counted.get(named)
        if counts is None:
            counts = self._counted[named] = [0] * (len(_BOUNDS_NS) + 2)
        counts[bisect_left(_BOUNDS_NS, spent)] += 1
        counts[-1] += spent

    def collect(self) -> Iterable[CounterMetricFamily | HistogramMetricFamily]:
        """For the registry."""
        answers = CounterMetricFamily("api_answers", "Requests answered", labels=["route", "method", "status"])
        seconds = HistogramMetricFamily("api_seconds", "Time to answer", labels=["route", "method"])
        spent: dict[tuple[str, str], list[int]] = {}
        for (route, method, status), counts in self._counted.items():
            answers.add_metric([route, method, str(status)], sum(counts[:-1]))
            known = spent.setdefault((route, method), [0] * len(counts))
            spent[route, method] = [one + other for one, other in zip(known, counts, strict=True)]
        bounds = [*(str(bound / 1_000) for bound in ANSWER_MS), "+Inf"]
        for labels, (*counts, ns) in spent.items():
            seconds.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), ns / 1e9)
        yield from (answers, seconds)


class Doors:
    """Counts requests, and lets each wait for its turn."""

    def __init__(
        self, registry: CollectorRegistry, turns: Turns, party: Callable[[Scope], Name], *, access_log: bool
    ) -> None:
        self._turns = turns
        self._party = party
        self._access_log = structlog.get_logger("access") if access_log else None
        self._answers = Answers()
        registry.register(self._answers)
        in_flight = Gauge("api_in_flight", "Requests being answered", registry=registry)
        in_flight.set_function(lambda: turns.under_way)

    def middleware(self, app: ASGIApp) -> Door:
        """A Litestar middleware."""

        async def door(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == ScopeType.WEBSOCKET:  # which lasts, and is bounded by itself
                await app(scope, receive, send)
                return
            began, status = time.perf_counter_ns(), 500
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

    def lines(self, scope: Scope) -> bytes:
        """The same, as HTTP has them."""
        left: Left | None = scope["state"].get(RATE)
        this = b"%b: %b\r\n" % (_REQUEST_ID, request_id(scope).encode())
        return this if left is None else this + left.lines()

    def leave(self, scope: Scope, turn: Turn, route: str, status: int, began: int) -> None:
        """The request has its answer; it began at that time of `time.perf_counter_ns`."""
        turn.end()
        self._turns.leave(turn.party)
        spent = time.perf_counter_ns() - began
        method = str(scope.get("method"))
        self._answers.add(route, method, status, spent)
        if self._access_log is not None:
            with going_on_unlogged():
                self._access_log.info(
                    "answered",
                    method=method,
                    path=scope["path"],
                    status=status,
                    seconds=round(spent / 1e9, 6),
                    request_id=request_id(scope),
                )


def _methods(scope: Scope) -> set[str]:
    """What may be done with the path. Litestar's own answer leaves out what was registered after the first handler."""
    routes = scope["litestar_app"].routes
    return {method for route in routes if route.path_format == scope["path_template"] for method in route.methods}
