"""dcgm-exporter for tests: a real HTTP server on loopback whose text the test writes, and a network that it can cut."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

TEXTS = Path(__file__).parent / "golden" / "dcgm"
NODE = (TEXTS / "two_gpus.prom").read_text()
"""Two GPUs."""

MIG_NODE = (TEXTS / "mig.prom").read_text()
"""One GPU in three instances."""


def without_gpu(text: str, gpu: str) -> str:
    """As when it has fallen off the bus."""
    return "".join(line for line in text.splitlines(keepends=True) if f'gpu="{gpu}"' not in line)


def after_boot(text: str) -> str:
    """Counters begin anew."""
    return text.replace(" 41231992877", " 11877").replace(" 5123188291", " 9231")


class Exporter:
    """Serves `text` while `running`."""

    def __init__(self) -> None:
        self.text = NODE
        self.status = 200
        self.url = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Exporter"]:
        """At the same address every time."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app)
        await runner.setup()
        port = int(self.url.split(":")[2].split("/")[0]) if self.url else 0
        site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
        await site.start()
        (address,) = runner.addresses
        self.url = f"http://127.0.0.1:{address[1]}/metrics"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=self.text, status=self.status, content_type="text/plain")


class Network:
    """What lies between a client and a server: it can be cut, or lose the answers to reports of usage."""

    def __init__(self, target: str) -> None:
        self._target = target.removeprefix("http://").split(":")
        self._open: set[asyncio.StreamWriter] = set()
        self.cut = False
        self.loses_answers = False
        self.url = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Network"]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            self.end_connections()

    def end_connections(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut:
            writer.transport.abort()
            return
        there, out = await asyncio.open_connection(self._target[0], int(self._target[1]))
        self._open |= {writer, out}
        reporting = asyncio.Event()
        await asyncio.gather(self._ask(reader, out, reporting), self._answer(there, writer, reporting))
        self._open -= {writer, out}

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reporting: asyncio.Event) -> None:
        with contextlib.suppress(ConnectionError):
            while (data := await reader.read(65536)) and not self.cut:
                if data.startswith(b"POST /v1/usage "):
                    reporting.set()
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reporting: asyncio.Event
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while (data := await reader.read(65536)) and not (self.cut or (self.loses_answers and reporting.is_set())):
                writer.write(data)
                await writer.drain()
        writer.close()
