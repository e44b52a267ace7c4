"""`python -m tests.benchmarks.bare_entry DSN FOLDER` serves a bare Litestar raw route that enters orders.

It reads the body, writes what the exchange writes of an order, as durably, and answers: a row in a table like
`orders`, a record of the log, and, which nobody waits for, another record. What comes while others are being written
shares the next write. Nothing is checked: no key, no funds, no terms; nothing is matched. Prints its address and
serves until it is ended.
"""

import asyncio
import socket
import sys
import time
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import uvicorn
import uvloop
from litestar import Litestar, asgi
from litestar.types import Receive, Scope, Send
from msgspec import Struct

from gateways.api.resources import NewBid
from gateways.cli.processes import spare_garbage_collection
from gateways.log.embedded import EmbeddedLog
from matching_engine.service import LINGER_S
from schemas.topics import COMMANDS, EXECUTIONS
from settlement.intents import MAX_BATCH, MAX_WRITERS

PRICE = 600_000


class Answer(Struct):
    """Says which order it is."""

    order_id: int
    status: str


class Rows:
    """Writes rows by COPY."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[None]]] = []
        self._writers: set[asyncio.Task[None]] = set()

    async def write(self, row: tuple[Any, ...]) -> None:
        """Returns once the row is committed."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, written))
        if len(self._writers) < MAX_WRITERS:
            writer = asyncio.create_task(self._write())
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)
        await written

    async def _write(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            async with self._pool.acquire() as connection:
                await connection.copy_records_to_table("bare", records=[row for row, _ in taken])
            for _, written in taken:
                written.set_result(None)


class Echoes:
    """Appends each record once more, in batches, as the engine's answers are."""

    def __init__(self, log: EmbeddedLog) -> None:
        self._log = log
        self._waiting: list[bytes] = []

    def add(self, record: bytes) -> None:
        self._waiting.append(record)

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(LINGER_S)
            if self._waiting:
                taken, self._waiting = self._waiting, []
                await self._log.append(EXECUTIONS, 0, taken)


async def serve(dsn: str, folder: Path) -> None:
    """Runs until the process ends."""
    pool = await asyncpg.create_pool(dsn, min_size=MAX_WRITERS, max_size=MAX_WRITERS)
    await pool.execute("CREATE TABLE bare (LIKE orders INCLUDING ALL)")
    log = await EmbeddedLog.open(folder)
    rows, echoes, encode, decode = Rows(pool), Echoes(log), msgspec.json.Encoder().encode, msgspec.json.Decoder(NewBid)
    number = 0

    @asgi("/v1/bids")
    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal number
        content, more = b"", True
        while more:
            message: Any = await receive()
            content += message["body"]
            more = message["more_body"]
        bid = decode.decode(content)
        number += 1
        now = time.time_ns() // 1_000_000
        head = (1, f"{number:032}", None, 1, bid.class_id, 0, content, content[:32], now + 60_000)
        await rows.write((*head, "sent", PRICE, 0, 0, 0, bid.quantity, PRICE, "", None, "[]", now, "", "", "", ""))
        (offset,) = await log.append(COMMANDS, 0, [content])
        echoes.add(content)
        body = encode(Answer(offset, "open"))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    class Server(uvicorn.Server):
        """Prints its address once it serves."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            spare_garbage_collection()
            print(f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}", flush=True)

    app = Litestar([route], openapi_config=None, logging_config=None)
    config = uvicorn.Config(app, port=0, http="httptools", lifespan="off", log_level="warning", access_log=False)
    async with asyncio.TaskGroup() as group:
        group.create_task(echoes.run())
        group.create_task(Server(config).serve())


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], Path(sys.argv[2])))
