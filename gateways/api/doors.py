"""What every request passes first and last: a bound, an id, figures."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateways.api.errors import REQUEST_ID, ApiError, request_id
from gateways.api.limits import RATE

_REQUEST_ID = REQUEST_ID.lower().encode()

Door = Callable[[Scope, Receive, Send], Awaitable[None]]


class Doors:
    """Counts requests and bounds those in flight; answers 429 beyond."""

    def __init__(self, registry: CollectorRegistry, max_in_flight: int, *, access_log: bool) -> None:
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._access_log = structlog.get_logger("access") if access_log else None
        self._answers = Counter("api_answers", "Requests answered", ["route", "method", "status"], registry=registry)
        self._seconds = Histogram("api_seconds", "Time to answer", ["route", "method"], registry=registry)
        in_flight = Gauge("api_in_flight", "Requests being answered", registry=registry)
        in_flight.set_function(lambda: self._in_flight)
        self._counted: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        """As many as routes have methods and statuses: to find a figure by its labels takes longer than to count."""

    def middleware(self, app: ASGIApp) -> Door:
        """A Litestar middleware."""

        async def door(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] is ScopeType.WEBSOCKET:  # which lasts, and is bounded by itself
                await app(scope, receive, send)
                return
            began = time.perf_counter()
            route, method = scope["path_template"], str(scope.get("method"))
            status = 500

            async def stamped(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    headers = list(message["headers"])
                    if not any(name == _REQUEST_ID for name, _ in headers):  # as an error has it already
                        headers.append((_REQUEST_ID, request_id(scope).encode()))
                    headers += [
                        (name.lower().encode(), value.encode()) for name, value in scope["state"].get(RATE, {}).items()
                    ]
                    message["headers"] = headers
                await send(message)

            if self._in_flight >= self._max_in_flight:
                raise ApiError(
                    429, "busy", f"{self._in_flight} requests are under way: try again", headers={"Retry-After": "1"}
                )
            self._in_flight += 1
            try:
                await app(scope, receive, stamped)
            except asyncio.CancelledError:  # the server closes, and this request waited for something to happen
                raise ApiError(503, "closing", "the exchange is closing: try again when it is back") from None
            finally:
                self._in_flight -= 1
                seconds = time.perf_counter() - began
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

        return door

    def _figures(self, route: str, method: str, status: int) -> tuple[Counter, Histogram]:
        named = route, method, status
        if named not in self._counted:
            self._counted[named] = self._answers.labels(*named), self._seconds.labels(route, method)
        return self._counted[named]
