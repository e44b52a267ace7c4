"""uvicorn inside an event loop that belongs to somebody else, and without taking over that one's signals."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from litestar import Litestar
from msgspec import Struct

from gateways.api.http import Http
from gateways.api.wire import Wire

BACKLOG = 2048
GRACE_S = 1
"""How long requests under way may go on when the server closes."""
MAX_MESSAGE_BYTES = 1_000_000
"""Of what a client says over a WebSocket."""


class Server(Struct, frozen=True):
    """A server that takes requests."""

    host: str
    port: int

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.open = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.open.set()


@contextlib.asynccontextmanager
async def serve(app: Litestar, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Server]:
    """Serves the app while the body runs; port 0 picks a free one. Raises OSError where the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named, asyncio sets TCP_NODELAY on what it accepts: an answer in two parts waits 40 ms else.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        server = _Uvicorn(
            uvicorn.Config(
                app,
                http=Http,
                ws=Wire,
                ws_max_size=MAX_MESSAGE_BYTES,
                ws_per_message_deflate=False,  # it costs each client's messages anew, and memory of each
                lifespan="off",
                log_config=None,
                log_level="critical",  # errors are told by our own handler; the rest is long polls cut at the end
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        opening = asyncio.create_task(server.open.wait())
        try:
            await asyncio.wait({serving, opening}, return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                yield Server(host=host, port=listening.getsockname()[1])
        finally:
            opening.cancel()
            server.should_exit = True
            await serving
