"""`python -m tests.benchmarks.stream_server ours|bare` serves a channel of fills, or a bare broadcast of the same.

Prints its port. For each line with a number on its input it tells so many fills to all who are connected, and prints
how many bytes each is to get. Ends with its input.
"""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvloop
from litestar import Litestar
from prometheus_client import CollectorRegistry

from gateways.api.channels import Channel, Fills
from gateways.api.server import serve
from gateways.api.socket import Bounds, Connections, stream_routes
from gateways.api.stream import Stream
from gateways.log.embedded import EmbeddedLog
from gateways.market_data.tape import Tape
from tests.unit.test_tape import NOON, fill

CLASS = "A"


class AnyClass:
    """Every class is there."""

    async def listing(self, class_id: str) -> None:
        pass


class Anybody:
    """Nobody needs a key."""

    def address(self, scope: object) -> None:
        return None


class Noted:
    """A subscriber that keeps the frames of the last fills, as they were made for all."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def tell(self, channel: Channel, message: bytes) -> None:
        self.frames.append(message)

    async def send(self, message: bytes) -> None:
        pass


class Broadcast:
    """The bare one: uvicorn's own send, to one after the other."""

    def __init__(self) -> None:
        self._sends: set[Any] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        self._sends.add(send)
        while (await receive())["type"] != "websocket.disconnect":
            pass
        self._sends.discard(send)

    async def tell(self, frames: list[bytes]) -> None:
        for frame in frames:
            text = frame[4 if frame[1] == 126 else 2 :].decode()
            for send in self._sends:
                await send({"type": "websocket.send", "text": text})


async def main(kind: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tape = Tape(await EmbeddedLog.open(Path(folder)))
        nothing: Any = None
        classes: Any = AnyClass()
        keys: Any = Anybody()
        stream = Stream(store=nothing, books=nothing, tape=tape, classes=classes, replies=[], now=lambda: NOON)
        noted, bare = Noted(), Broadcast()
        connections = Connections(stream, keys, CollectorRegistry(), Bounds(each=10_000))
        app: Any = bare if kind == "bare" else Litestar(stream_routes(connections), openapi_config=None)
        channel = await stream.channel({"channel": "fills", "class": CLASS}, None)
        assert isinstance(channel, Fills)
        await stream.join(channel, noted, None)
        async with serve(app) as server:
            print(server.port, flush=True)
            async for count in numbers():
                noted.frames.clear()
                for _ in range(count):
                    tape.add(fill(channel.number + 1, 2_500_000, NOON))
                if kind == "bare":
                    await bare.tell(noted.frames)
                print(sum(map(len, noted.frames)), flush=True)


async def numbers() -> AsyncIterator[int]:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield int(line)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
