"""Orders that many clients send one by one to a gateway, beside a bare route with the same writes."""

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import asyncpg
import msgspec

from gateways.client import Exchange as Client
from schemas.ids import parse_account_id
from settlement import ledger
from settlement.postgres import EmbeddedPostgres
from tests.benchmarks.harness import Result, in_turn, pinned_to_one_core

ACCOUNTS = 128
CONNECTIONS = 256
ORDERS = 15_000
ROUNDS = 3
CLASS = "L40S-48GB"
BID = {"class": CLASS, "quantity": 1, "price": "0.60", "duration": "1h", "min_fill": 1}
FUNDED = """
INSERT INTO ledger_accounts (id, kind, account, balance) VALUES ($1, 'cash', $2, 1000000000000)
ON CONFLICT (id) DO UPDATE SET balance = excluded.balance
"""
"""Past the ledger, as no settlement runs."""


async def order_entry_http() -> Result:
    """Bids a second, authenticated, held for, appended, matched and answered: at least 0.5 of the bare route."""
    with tempfile.TemporaryDirectory(prefix="cx-bench-") as path:
        folder = Path(path)
        await asyncio.to_thread(folder.chmod, 0o755)  # so that the server's own user reaches it
        async with (
            EmbeddedPostgres.running(folder / "postgres") as dsn,
            _process("entry_gateway", dsn, folder / "ours") as (url, admin_key),
            _process("bare_entry", dsn, folder / "bare") as (bare_url,),
        ):
            keys = await _keys(url, admin_key, dsn)
            with pinned_to_one_core(-1):
                value, baseline, ratio = await in_turn(lambda: _rate(url, keys), lambda: _rate(bare_url, keys), ROUNDS)
    note = f"{CONNECTIONS} connections of {ACCOUNTS} accounts, {ORDERS:,} bids that rest, median of {ROUNDS} rounds; "
    note += "each server on one core, clients on the other, Postgres on both; "
    note += "baseline: a raw ASGI route of Litestar that decodes the body and has the same batched writes"
    return Result("order_entry_http", value, "orders/s", baseline, ratio, ">= 0.5", note)


@contextlib.asynccontextmanager
async def _process(module: str, dsn: str, folder: Path) -> AsyncIterator[list[str]]:
    """What it prints first, word by word."""
    await asyncio.to_thread(folder.mkdir)
    with pinned_to_one_core():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"tests.benchmarks.{module}", dsn, str(folder), stdout=asyncio.subprocess.PIPE
        )
    try:
        assert process.stdout is not None
        yield (await process.stdout.readline()).decode().split()
    finally:
        process.terminate()
        await process.wait()


async def _keys(url: str, admin_key: str, dsn: str) -> list[str]:
    """Of accounts that have money, where there is a class to bid in."""
    async with Client(url, admin_key) as admin:
        await admin.create_class(CLASS, accelerator="NVIDIA L40S", memory_gb=48, form_factor="PCIe")
        buyers = [await admin.create_account(f"buyer {n}", scopes=["read", "trade"]) for n in range(ACCOUNTS)]
    connection = await asyncpg.connect(dsn)
    accounts = [parse_account_id(buyer.account_id) for buyer in buyers]
    await connection.executemany(FUNDED, [(ledger.cash(account), account) for account in accounts])
    await connection.close()
    return [buyer.key for buyer in buyers if buyer.key is not None]


async def _rate(url: str, keys: Sequence[str]) -> float:
    """Orders a second, each connection with one under way."""
    address, body = urlsplit(url), msgspec.json.encode(BID)
    assert address.hostname is not None
    assert address.port is not None
    left = iter(range(ORDERS))
    clients = []
    for number in range(CONNECTIONS):
        head = f"POST /v1/bids HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        head += f"Authorization: Bearer {keys[number % len(keys)]}\r\nContent-Length: {len(body)}\r\n\r\n"
        client = _Client(head.encode() + body, left)
        clients.append(client)
    for client in clients:
        await asyncio.get_running_loop().create_connection(client.itself, address.hostname, address.port)
    began = time.perf_counter()
    for client in clients:
        client.ask()
    await asyncio.gather(*(client.done for client in clients))
    return ORDERS / (time.perf_counter() - began)


class _Client(asyncio.Protocol):
    """Bare, so that it is not what limits: it costs a fifth of what the bare route does."""

    def __init__(self, request: bytes, left: Iterator[int]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._left = left
        self._got = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of no such class

    def itself(self) -> "_Client":
        """As a factory of protocols."""
        return self

    def ask(self) -> None:
        """The next order, while there are any."""
        if next(self._left, None) is None:
            self.done.set_result(None)
            self._transport.close()
        else:
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, ended, rest = self._got.partition(b"\r\n\r\n")
        if not ended:
            return
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
        if len(rest) < int(length):
            return
        self._got = b""
        if head.startswith(b"HTTP/1.1 201 "):
            self.ask()
        else:
            self.done.set_exception(RuntimeError(f"{head!r} {rest[:500]!r}"))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"the connection was lost: {error}"))
