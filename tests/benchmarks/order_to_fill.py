"""An order's way through HTTP to its fill, the whole exchange in a process of its own, one order at a time."""

import asyncio
import contextlib
import re
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from settlement.postgres import EmbeddedPostgres
from tests.benchmarks.broker import running_broker
from tests.benchmarks.harness import Result, in_turn, p50_ms
from tests.exchange_process import WITHOUT_RATES, ExchangeProcess, ready_market

REQUESTS = 200
ROUNDS = 5

METHOD = f"p50 of {REQUESTS} orders one by one, median of {ROUNDS} rounds, not pinned"

Request = Callable[[], Awaitable[None]]


async def order_to_fill_embedded() -> Result:
    """p50 of POST /v1/bids until its answer holds the fill, against a bare route with as many durable writes."""
    with tempfile.TemporaryDirectory() as folder:
        async with _buying(Path(folder), "embedded") as buy, _bare_route(Path(folder)) as bare:
            value, baseline, ratio = await in_turn(
                lambda: p50_ms(buy, REQUESTS), lambda: p50_ms(bare, REQUESTS), ROUNDS
            )
    note = (
        f"{METHOD}; baseline: a Litestar route with one Postgres and two SQLite commits; ours answers before its last"
    )
    return Result("order_to_fill_embedded", value, "ms", baseline, ratio, "<= 2", note)


async def order_to_fill_kafka() -> Result:
    """The same on Kafka, against a bare round trip: a record is produced, consumed, produced back and consumed."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            running_broker() as address,
            _buying(Path(folder), f"kafka://{address}") as buy,
            _bare_trip(address) as bare,
        ):
            value, baseline, ratio = await in_turn(
                lambda: p50_ms(buy, REQUESTS), lambda: p50_ms(bare, REQUESTS), ROUNDS
            )
    note = f"{METHOD}; baseline: a record and an echo of it, each produced, acknowledged and consumed"
    return Result("order_to_fill_kafka", value, "ms", baseline, ratio, "<= 1.5", note)


def _bid(class_id: str) -> dict[str, Any]:
    return {"class": class_id, "quantity": 1, "price": "2.60", "duration": "1h", "min_fill": 1}


@contextlib.asynccontextmanager
async def _buying(folder: Path, log: str) -> AsyncIterator[Request]:
    """A request that places a bid of one GPU and sees its fill in the answer."""
    async with (
        ExchangeProcess.running(folder / "exchange", log=log, arguments=WITHOUT_RATES) as exchange,
        ready_market(exchange) as market,
        posting(exchange.url, "/v1/bids", _bid(market.class_id), market.buyer_key) as post,
    ):

        async def buy() -> None:
            status, body = await post()
            if status != 201 or msgspec.json.decode(body)["status"] != "filled":
                raise RuntimeError(f"{status}: {body!r}")

        yield buy


@contextlib.asynccontextmanager
async def posting(
    url: str, path: str, content: dict[str, Any], key: str = ""
) -> AsyncIterator[Callable[[], Awaitable[tuple[int, bytes]]]]:
    """A request that posts the same each time over one connection -> (status, body).

    Bare, as the time of a client library is not the exchange's: aiohttp's own was 0.6 ms of each request.
    """
    address = urlsplit(url)
    body = msgspec.json.encode(content)
    head = f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
    if key:
        head += f"Authorization: Bearer {key}\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    reader, writer = await asyncio.open_connection(address.hostname, address.port)

    async def post() -> tuple[int, bytes]:
        writer.write(request)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"\ncontent-length: (\d+)\r", answer)
        if length is None:
            raise RuntimeError(f"an answer without its length: {answer!r}")
        return int(answer.split(b" ", 2)[1]), await reader.readexactly(int(length[1]))

    try:
        yield post
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def _bare_route(folder: Path) -> AsyncIterator[Request]:
    async with EmbeddedPostgres.running(folder / "bare") as dsn:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.benchmarks.bare_route", dsn, str(folder), stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            port = int(await process.stdout.readline())
            async with posting(f"http://127.0.0.1:{port}", "/", _bid("H100-SXM-80GB")) as post:

                async def post_bare() -> None:
                    status, body = await post()
                    if status != 201:
                        raise RuntimeError(f"{status}: {body!r}")

                yield post_bare
        finally:
            process.terminate()
            await process.wait()


@contextlib.asynccontextmanager
async def _bare_trip(address: str) -> AsyncIterator[Request]:
    out, back = (f"trip-{uuid.uuid4().hex[:8]}-{way}" for way in ("out", "back"))
    async with (
        AIOKafkaProducer(bootstrap_servers=address, enable_idempotence=True) as producer,
        _reading(address, producer, out) as outward,
        _reading(address, producer, back) as homeward,
    ):

        async def echo() -> None:
            while True:
                record = await outward.getone()
                await producer.send_and_wait(back, record.value, partition=0)

        async def trip() -> None:
            await producer.send_and_wait(out, b"x" * 150, partition=0)
            await homeward.getone()

        echoing = asyncio.create_task(echo())
        try:
            yield trip
        finally:
            echoing.cancel()
            await asyncio.wait([echoing])


@contextlib.asynccontextmanager
async def _reading(address: str, producer: AIOKafkaProducer, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer at the end of a new topic."""
    await producer.send_and_wait(topic, b"first", partition=0)
    place = TopicPartition(topic, 0)
    async with AIOKafkaConsumer(
        bootstrap_servers=address, enable_auto_commit=False, auto_offset_reset="none"
    ) as consumer:
        consumer.assign([place])
        consumer.seek(place, 1)
        yield consumer
