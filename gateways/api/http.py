"""HTTP of uvicorn's, in which a short request to a direct route goes past ASGI.

ASGI takes as long as an order: some objects and two waits more for each request, and every header is looked at again.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateways.api.direct import Application, DirectRoute

MAX_DIRECT_BYTES = 16_384
"""The body of a longer one is read piece by piece, as ASGI has it; so is one that does not say its length."""


class Cycle:
    """One request and its answer, with what uvicorn's own has for its protocol."""

    __slots__ = ("body", "disconnected", "keep_alive", "more_body", "response_complete", "route", "scope")

    def __init__(self, route: DirectRoute, scope: Any, *, keep_alive: bool) -> None:
        self.route = route
        self.scope = scope
        self.keep_alive = keep_alive
        self.body = bytearray()
        self.more_body = True
        self.disconnected = False
        self.response_complete = False

    @property
    def message_event(self) -> "Cycle":
        return self

    def set(self) -> None:
        """Nobody waits for more of the body: it is looked at once it is whole."""

    async def receive(self) -> Any:
        """The body, as ASGI gives it."""
        return {"type": "http.request", "body": bytes(self.body), "more_body": False}


class Http(HttpToolsProtocol):
    """One connection."""

    _begun: Cycle | None = None
    """The request that is being read, where it is to go past ASGI: `cycle` may be of one before, as where this one asks
    for a WebSocket."""

    def on_headers_complete(self) -> None:
        app: Any = self.config.app
        route = app.direct_urls.get(self.url) if isinstance(app, Application) else None
        before: Any = self.cycle
        is_free = before is None or before.response_complete
        if route is None or not is_free or not self._is_short_post():
            super().on_headers_complete()
            return
        scope: Any = self.scope
        scope |= {"method": "POST", "path": self.url.decode(), "raw_path": self.url, "query_string": b""}
        cycle: Any = Cycle(route, scope, keep_alive=self.parser.should_keep_alive())
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
            task = self.loop.create_task(self._answer(begun))
            task.add_done_callback(self.tasks.discard)
            self.tasks.add(task)

    async def _answer(self, cycle: Cycle) -> None:
        try:
            status, headers, content = await cycle.route.answer(cycle.scope, cycle.receive)
            if self.flow.write_paused and not cycle.disconnected:
                await self.flow.drain()
        except BaseException:
            self.transport.close()
            raise
        if cycle.disconnected:
            return
        parts = [STATUS_LINE[status]]
        for name, value in self.server_state.default_headers:
            parts += (name, b": ", value, b"\r\n")
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        if not cycle.keep_alive:
            parts.append(b"connection: close\r\n")
        parts += (b"content-length: %d\r\n\r\n" % len(content), content)
        self.transport.write(b"".join(parts))
        cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()
