"""Kafka in, engine, Kafka out, against a bare echo of the same bytes on the same broker.

By the method under which the design's costs were measured: a producer of orders, the broker, the engine and a reader
that counts the answers all share one core, so that the figures are of the work done and not of how well it overlaps;
the echo is getmany of 500, one send_batch, awaited. The engine runs as in production: `EngineService` on `KafkaLog`,
one answer record per command. Producer and counting reader are bare aiokafka on both sides, or what `KafkaLog` saves
would speed up the baseline, too. A second figure leaves those two out: the orders are there before.
"""

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Coroutine

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from prometheus_client import CollectorRegistry

from gateways.cli.processes import spare_garbage_collection
from gateways.log.kafka import KafkaLog
from matching_engine.engine import Engine
from matching_engine.metrics import EngineMetrics
from matching_engine.service import EngineService
from schemas import codec, topics
from schemas.attributes import Accepts, Attributes, ClassSpec
from schemas.commands import Cancel, Command, CreateClass, PlaceAsk, PlaceBid
from schemas.units import DAY_MS, HOUR_MS
from tests.benchmarks.broker import running_broker
from tests.benchmarks.harness import Result, in_turn, pinned_to_one_core

ORDERS = 100_000
LIVE = 2_000
POLL = 5_000
ECHO_POLL = 500
ROUNDS = 5
CLASS = "H100-SXM-80GB"


def plain_orders(count: int, now: int, seed: int = 1) -> list[Command]:
    """An ordinary price-time book: orders around a moving price, all of one window; from about LIVE live orders on,
    every other command cancels one of them. An engine is run along to know which are live."""
    rng = random.Random(seed)
    start = -(-now // DAY_MS) * DAY_MS + DAY_MS
    not_after = now + 365 * DAY_MS
    engine = Engine(0)
    commands: list[Command] = []
    placed: list[int] = []
    middle = 25_000

    def add(command: Command) -> None:
        engine.apply(len(commands), now, command)
        commands.append(command)

    add(CreateClass(ClassSpec(CLASS, "NVIDIA H100", 80, "SXM")))
    while len(commands) < count:
        number = len(commands)
        account = 1 + number % 50
        if len(placed) > LIVE:
            last = placed.pop()
            place = rng.randrange(LIVE)
            placed[place], drawn = last, placed[place]
            if (order := engine.order(drawn)) is not None:
                add(Cancel(order.account, drawn))
            continue
        middle += rng.choice((-1, 0, 1))
        price, quantity = (middle + rng.randint(-20, 20)) * 100, rng.randint(1, 8)
        terms = (CLASS, account, account, f"o{number}", not_after, quantity, price)
        placed.append(number)
        if rng.random() < 0.5:
            add(PlaceAsk(*terms, start, start + HOUR_MS, Attributes()))
        else:
            add(PlaceBid(*terms, HOUR_MS, (start,), Accepts(), 1))
    return commands


async def pipeline_kafka() -> Result:
    """Orders a second through the engine's service on Kafka, against a bare aiokafka echo: at least 0.6."""
    orders = [codec.encode(command) for command in plain_orders(ORDERS, time.time_ns() // 1_000_000)]
    with pinned_to_one_core() as pinned:
        async with running_broker() as address:
            value, baseline, ratio = await in_turn(
                lambda: _rate(address, orders, _engine, live=True),
                lambda: _rate(address, orders, _echo, live=True),
                ROUNDS,
            )
            _, _, bare_ratio = await in_turn(
                lambda: _rate(address, orders, _engine, live=False),
                lambda: _rate(address, orders, _echo, live=False),
                3,
            )
    note = (
        f"median of {ROUNDS} runs of {ORDERS:,} plain orders, {pinned}; "
        f"without producer and counting reader {bare_ratio:.2f}"
    )
    return Result("pipeline_kafka", value, "orders/s", baseline, ratio, ">= 0.6", note)


Answering = Callable[[str, str, asyncio.Event], Coroutine[None, None, None]]
"""Answers all commands of the log at (address, prefix); says by the event when it is ready."""


async def _rate(address: str, orders: list[bytes], answering: Answering, *, live: bool) -> float:
    """Orders a second until all are answered. `live`: produced and counted meanwhile, else they are there before."""
    prefix = f"bench-{uuid.uuid4().hex[:8]}-"
    log = await KafkaLog.connect(address, prefix=prefix)  # makes the topics
    try:
        if not live:
            await _produce(address, prefix, orders)
        ready = asyncio.Event()
        running = asyncio.create_task(answering(address, prefix, ready))
        await ready.wait()
        spare_garbage_collection()
        began = time.perf_counter()
        if live:
            _, counted = await asyncio.gather(_produce(address, prefix, orders), _count(address, prefix))
        else:
            while (counted := await log.end(topics.EXECUTIONS, 0)) < ORDERS:
                await asyncio.wait([running], timeout=0.02)
        taken = time.perf_counter() - began
        running.cancel()
        await asyncio.wait([running])
        if counted < ORDERS:
            raise RuntimeError(f"{counted} of {ORDERS} orders were answered")
        return ORDERS / taken
    finally:
        await log.close()


async def _produce(address: str, prefix: str, orders: list[bytes]) -> None:
    async with _producer(address) as producer:
        for first in range(0, ORDERS, ECHO_POLL):
            await _send(producer, prefix + topics.COMMANDS, orders[first : first + ECHO_POLL])


async def _count(address: str, prefix: str) -> int:
    counted = 0
    async with _consumer(address) as consumer:
        _read_from_start(consumer, prefix + topics.EXECUTIONS)
        while counted < ORDERS and (found := await consumer.getmany(timeout_ms=30_000, max_records=POLL)):
            counted += sum(map(len, found.values()))
    return counted


async def _engine(address: str, prefix: str, ready: asyncio.Event) -> None:
    log = await KafkaLog.connect(address, prefix=prefix)
    service = EngineService(log, 0, max_poll=POLL, metrics=EngineMetrics(CollectorRegistry()))
    running = asyncio.create_task(service.run())
    try:
        await service.ready.wait()
        ready.set()
        await running
    finally:
        running.cancel()
        await asyncio.wait([running])
        await log.close()


async def _echo(address: str, prefix: str, ready: asyncio.Event) -> None:
    async with _consumer(address) as consumer, _producer(address) as producer:
        _read_from_start(consumer, prefix + topics.COMMANDS)
        ready.set()
        while True:
            for records in (await consumer.getmany(timeout_ms=1000, max_records=ECHO_POLL)).values():
                await _send(producer, prefix + topics.EXECUTIONS, [record.value for record in records])


def _producer(address: str) -> AIOKafkaProducer:
    return AIOKafkaProducer(bootstrap_servers=address, enable_idempotence=True, max_batch_size=1 << 20)


def _consumer(address: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(bootstrap_servers=address, enable_auto_commit=False, auto_offset_reset="none")


def _read_from_start(consumer: AIOKafkaConsumer, topic: str) -> None:
    place = TopicPartition(topic, 0)
    consumer.assign([place])
    consumer.seek(place, 0)


async def _send(producer: AIOKafkaProducer, topic: str, values: list[bytes]) -> None:
    batch = producer.create_batch()
    for value in values:
        batch.append(key=None, value=value, timestamp=None)
    await (await producer.send_batch(batch, topic, partition=0))
