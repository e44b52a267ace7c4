"""HTTP of uvicorn's, in which a short request to a direct route goes past ASGI.

ASGI takes as long as an order: some objects and two waits more for each request, and every header is looked at again.
"""

from collections.abc import Coroutine
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateways.api.direct import Application, Call, DirectRoute

MAX_DIRECT_BYTES = 16_384
"""The body of a longer one is read piece by piece, as ASGI has it; so is one that does not say its length."""


class Cycle(Call):
    """One request and its answer, with what uvicorn's own has for its protocol."""

    __slots__ = ("_http", "body", "disconnected", "keep_alive", "more_body", "response_complete")

    def __init__(self, http: "Http", route: DirectRoute, scope: Any, *, keep_alive: bool) -> None:
        super().__init__(route, scope)
        self._http = http
        self.keep_alive = keep_alive
        self.body = b""
        self.more_body = True
        self.disconnected = False
        self.response_complete = False

    @property
    def message_event(self) -> "Cycle":
        return self

    def set(self) -> None:
        """Nobody waits for more of the body: it is looked at once it is whole."""

    def answered(self, status: int, head: bytes, content: bytes) -> None:
        self._http.answer(self, status, head, content)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._http.spawn(work)


class Http(HttpToolsProtocol):
    """One connection."""

    _idle_from: float | None = None
    """Of the loop's time, where it has answered all that it was asked."""
    _begun: Cycle | None = None
    """The request that is being read, where it is to go past ASGI: `cycle` may be of one before, as where this one asks
    for a WebSocket."""

    def on_headers_complete(self) -> None:
        self._idle_from = None  # what came in the same piece before it may have its answer already
        app: Any = self.config.app
        route = app.direct_urls.get(self.url) if isinstance(app, Application) else None
        before: Any = self.cycle
        is_free = before is None or before.response_complete
        if route is None or not is_free or not self._is_short_post():
            super().on_headers_complete()
            return
        scope: Any = self.scope
        scope |= {"method": "POST", "path": self.url.decode(), "raw_path": self.url, "query_string": b""}
        cycle: Any = Cycle(self, route, scope, keep_alive=self.parser.should_keep_alive())
        self.cycle = self._begun = cycle

    def _is_short_post(self) -> bool:
        parser = self.parser
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
            return False
        if self.expect_100_continue or parser.should_upgrade():
            return False
        for name, value in self.headers:
            if name == b"content-length":
                return int(value) <= MAX_DIRECT_BYTES
        return False

    def on_message_complete(self) -> None:
        super().on_message_complete()
        begun, self._begun = self._begun, None
        if begun is not None:
            self._under_way.add(begun)
            begun.begin(begun.body)

    @property
    def _under_way(self) -> set[Any]:
        """What uvicorn waits for when it closes, and then cancels: tasks, and requests that have none."""
        under_way: set[Any] = self.tasks
        return under_way

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """It is awaited, beside others."""
        task = self.loop.create_task(work)
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def answer(self, cycle: Cycle, status: int, head: bytes, content: bytes) -> None:
        """Writes it, once who asked takes more."""
        if self.flow.write_paused and not cycle.disconnected:
            self.spawn(self._drained(cycle, status, head, content))
            return
        self._under_way.discard(cycle)
        if cycle.disconnected:
            return
        parts = [STATUS_LINE[status], head]
        parts += [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        if not cycle.keep_alive:
            parts.append(b"connection: close\r\n")
        parts += (b"content-length: %d\r\n\r\n" % len(content), content)
        self.transport.write(b"".join(parts))
        cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    async def _drained(self, cycle: Cycle, status: int, head: bytes, content: bytes) -> None:
        await self.flow.drain()
        self.answer(cycle, status, head, content)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_from = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_later(self.timeout_keep_alive)

    def _unset_keepalive_if_required(self) -> None:
        """A timer for each request costs more than to look, once one has run out, whether another came since."""
        self._idle_from = None

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_from is None or self.transport.is_closing():
            return
        left = self._idle_from + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._look_later(left)
        else:
            self.transport.close()

    def _look_later(self, after_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(after_s, self.timeout_keep_alive_handler)
