"""The stream's fan-out beside a bare one, and thousands of clients of a whole exchange."""

import asyncio
import contextlib
import functools
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from gateways.api.socket import Bounds
from gateways.cli.processes import within_files
from tests.benchmarks.harness import Result, in_turn, pinned_to_one_core
from tests.benchmarks.order_to_fill import posting
from tests.exchange_process import ExchangeProcess, Market, ready_market

READERS = 200
AT_ONCE = 10
BURSTS = 40
ROUNDS = 5

ACTIVE, IDLE = 500, 5_000
TRADES = 60
PAUSE_S = 0.1
APART = "each on a core of its own where the system can"
FILLS = {"op": "subscribe", "channel": "fills", "class": "A"}
OPENING = 50
"""Connections that are being opened at a time."""
WAIT_S = 30.0
PING = b"\x89\x04"
"""As uvicorn begins one: nowhere else in what a server sends, which is ASCII."""


async def stream_fanout() -> Result:
    """Messages a second from one channel to all who read it, against a bare broadcast over uvicorn's WebSockets."""
    async with _served("bare") as bare, _served("ours") as ours:
        with pinned_to_one_core(-1):
            async with _read(bare, []) as bare_readers, _read(ours, [FILLS]) as our_readers:
                value, baseline, ratio = await in_turn(
                    lambda: _rate(ours, our_readers), lambda: _rate(bare, bare_readers), ROUNDS
                )
    note = (
        f"{READERS} readers in another process than the server, {APART}, {BURSTS} times {AT_ONCE} fills, median of "
        f"{ROUNDS} rounds; baseline: the same messages by a bare ASGI app on the same uvicorn, no compression"
    )
    return Result("stream_fanout", value, "messages/s", baseline, ratio, ">= 0.5", note)


async def stream_clients() -> Result:
    """How long a fill takes from its bid to the p99 of 500 active clients, with 5,000 idle ones beside and without."""
    streams = ACTIVE + IDLE + 10
    within_files(Bounds(all=streams))
    arguments = ("--streams", str(streams), "--streams-each", str(streams))
    with tempfile.TemporaryDirectory() as folder:
        exchange = ExchangeProcess(Path(folder) / "exchange", arguments=arguments)
        with pinned_to_one_core():
            await exchange.start()
        try:
            with pinned_to_one_core(-1):
                async with ready_market(exchange) as market, _readers(exchange.url, ACTIVE, _active(market)) as active:
                    alone = await _delays(exchange, market, active)
                    before = exchange.memory_bytes
                    async with _readers(exchange.url, IDLE, [{"op": "subscribe", "channel": "heartbeats"}]) as idle:
                        memory = (exchange.memory_bytes - before) // IDLE
                        beside = await _delays(exchange, market, active)
                        if lost := sum(reader.is_lost for reader in [*active, *idle]):
                            raise RuntimeError(f"{lost} clients were cut off")
        finally:
            await exchange.stop()
    note = (
        f"p99 from a bid to its fill at {ACTIVE} clients that read fills, depth, orders, {TRADES} fills, {APART}, "
        f"with {IDLE} more that read heartbeats, against without; p50 {beside.p50:.1f} and {alone.p50:.1f} ms; "
        f"{memory / 1024:.1f} KiB of the exchange's memory for each of the {IDLE}"
    )
    return Result("stream_clients", beside.p99, "ms", alone.p99, beside.p99 / alone.p99, "<= 2", note)


class _Delays(Struct, frozen=True):
    p50: float
    p99: float


async def _delays(exchange: ExchangeProcess, market: Market, readers: Sequence["_Reader"]) -> _Delays:
    """ms, of all fills at all readers."""
    bid = {"class": market.class_id, "quantity": 1, "price": "2.60", "duration": "1h", "min_fill": 1}
    taken: list[float] = []
    async with posting(exchange.url, "/v1/bids", bid, market.buyer_key) as post:
        for _ in range(TRADES):
            for reader in readers:
                reader.seen_at = 0.0
            began = time.perf_counter()
            await post()
            await _all(readers, lambda reader: reader.seen_at > 0)
            taken += [(reader.seen_at - began) * 1000 for reader in readers]
            await asyncio.sleep(PAUSE_S)
    parts = statistics.quantiles(taken, n=100)
    return _Delays(parts[49], parts[98])


def _active(market: Market) -> list[dict[str, str]]:
    channels = [{"channel": "orders"}, *({"channel": name, "class": market.class_id} for name in ("depth", "fills"))]
    return [{"op": "auth", "key": market.buyer_key}, *({"op": "subscribe", **channel} for channel in channels)]


class _Reader(asyncio.Protocol):
    """A client that costs little: it counts bytes, and notes when a fill comes."""

    def __init__(self, host: str, ops: Sequence[dict[str, str]]) -> None:
        self.got = 0
        self.seen_at = 0.0
        self.is_lost = False
        self.is_ready = asyncio.get_running_loop().create_future()
        self._host = host
        self._said = b"".join(map(_masked, ops))
        self._head = bytearray()
        self._is_upgraded = False
        self._awaited = sum(op["op"] == "subscribe" for op in ops)
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(
            f"GET /v1/stream HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        if not self.is_ready.done():
            self._begin(data)
            return
        self.got += len(data)
        if b'"channel":"fills"' in data:
            self.seen_at = time.perf_counter()
        if (ping := data.find(PING)) >= 0:
            assert self.transport is not None
            self.transport.write(_frame(0x8A, data[ping + 2 : ping + 6]))

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True
        if not self.is_ready.done():
            self.is_ready.set_exception(RuntimeError(f"a client was cut off: {self.heard}"))

    @property
    def heard(self) -> str:
        """The end of what it was told before it was ready."""
        return repr(bytes(self._head[-500:]))

    def has(self, wanted: int) -> bool:
        return self.got >= wanted

    def _begin(self, data: bytes) -> None:
        """Says its ops, and is ready once the whole of each channel has come."""
        assert self.transport is not None
        self._head += data
        if not self._is_upgraded and self._head.endswith(b"\r\n\r\n"):
            self._is_upgraded = True
            self.transport.write(self._said)
        if self._is_upgraded and self._head.count(b'"type":"whole"') >= self._awaited:
            self._head.clear()
            self.is_ready.set_result(None)


@contextlib.asynccontextmanager
async def _served(kind: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`tests.benchmarks.stream_server` in a process of its own."""
    with pinned_to_one_core():
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.benchmarks.stream_server",
            kind,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def _read(process: asyncio.subprocess.Process, ops: Sequence[dict[str, str]]) -> AsyncIterator[list[_Reader]]:
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    async with _readers(f"http://127.0.0.1:{port}", READERS, ops) as readers:
        yield readers


async def _rate(process: asyncio.subprocess.Process, readers: Sequence[_Reader]) -> float:
    """Messages a second."""
    assert process.stdin is not None
    assert process.stdout is not None
    began = time.perf_counter()
    for _ in range(BURSTS):
        for reader in readers:
            reader.got = 0
        process.stdin.write(b"%d\n" % AT_ONCE)
        wanted = int(await process.stdout.readline())
        await _all(readers, functools.partial(_Reader.has, wanted=wanted))
    return BURSTS * AT_ONCE * READERS / (time.perf_counter() - began)


@contextlib.asynccontextmanager
async def _readers(url: str, count: int, ops: Sequence[dict[str, str]]) -> AsyncIterator[list[_Reader]]:
    address, loop = urlsplit(url), asyncio.get_running_loop()
    host, port = str(address.hostname), int(address.port or 0)
    readers: list[_Reader] = []
    opening = asyncio.Semaphore(OPENING)

    async def opened() -> None:
        async with opening:
            _, reader = await loop.create_connection(lambda: _Reader(address.netloc, ops), host, port)
            readers.append(reader)
            try:
                await asyncio.wait_for(reader.is_ready, WAIT_S)
            except TimeoutError:
                raise RuntimeError(f"a client was not told all it reads, only {reader.heard}") from None

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(opened())
        yield readers
    finally:
        for reader in readers:
            if reader.transport is not None:
                reader.transport.abort()


async def _all(readers: Sequence[_Reader], holds: Callable[[_Reader], bool]) -> None:
    """Returns once it holds of all of them."""
    async with asyncio.timeout(WAIT_S):
        for reader in readers:
            while True:
                if holds(reader):
                    break
                await asyncio.sleep(0)


def _masked(op: dict[str, str]) -> bytes:
    return _frame(0x81, msgspec.json.encode(op))


def _frame(kind: int, payload: bytes) -> bytes:
    """Of a client's, by a mask of zeros."""
    size = len(payload)
    head = struct.pack("!BB", kind, 0x80 | size) if size < 126 else struct.pack("!BBH", kind, 0x80 | 126, size)
    return head + bytes(4) + payload
