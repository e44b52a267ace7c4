"""`python -m tests.benchmarks.bare_route DSN FOLDER` serves a bare Litestar route with three durable writes.

As many as an order costs until its fill is known: one commit in Postgres, two commits in SQLite (WAL,
synchronous=FULL), one after the other. Prints its port and serves until it is ended.
"""

import asyncio
import socket
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import uvicorn
import uvloop
from litestar import Litestar, Request, post
from litestar.datastructures import State


async def serve(dsn: str, folder: Path) -> None:
    """Runs until the process ends."""
    pool = await asyncpg.create_pool(dsn, min_size=2, max_size=4)
    await pool.execute("CREATE TABLE IF NOT EXISTS bare (id bigserial PRIMARY KEY, body bytea)")
    writer = ThreadPoolExecutor(1)
    log = sqlite3.connect(folder / "bare.sqlite", check_same_thread=False, isolation_level=None)
    log.execute("PRAGMA journal_mode=WAL")
    log.execute("PRAGMA synchronous=FULL")
    log.execute("CREATE TABLE IF NOT EXISTS bare (id INTEGER PRIMARY KEY, body BLOB)")

    def append(body: bytes) -> None:
        log.execute("INSERT INTO bare (body) VALUES (?)", (body,))

    @post("/")
    async def route(request: Request[object, object, State]) -> dict[str, int]:
        body = await request.body()
        await pool.execute("INSERT INTO bare (body) VALUES ($1)", body)
        for _ in range(2):
            await asyncio.get_running_loop().run_in_executor(writer, append, body)
        return {"size": len(body)}

    class Server(uvicorn.Server):
        """Prints its port once it serves."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(self.servers[0].sockets[0].getsockname()[1], flush=True)

    app = Litestar([route], openapi_config=None)
    await Server(uvicorn.Config(app, port=0, log_level="warning")).serve()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], Path(sys.argv[2])))
