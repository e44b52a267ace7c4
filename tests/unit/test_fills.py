"""The public stream of fills goes on exactly where it stopped, wherever that was."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gateways.log.embedded import EmbeddedLog
from gateways.market_data import fills as publishing
from gateways.market_data.fills import FillsPublisher
from gateways.market_data.metrics import FillsMetrics
from schemas.attributes import Attributes
from schemas.codec import decode_fill, encode
from schemas.commands import Side
from schemas.events import Event, Execution, Fill, Ticked
from schemas.executions import GapError
from schemas.ids import position
from schemas.log import Log, Reader
from schemas.topics import EXECUTIONS, FILLS
from schemas.units import HOUR_MS

PARTITIONS = 64
CLASSES = ("A100-SXM-80GB", "H100-SXM-80GB")


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[EmbeddedLog]:
    log = await EmbeddedLog.open(tmp_path, partitions=PARTITIONS)
    yield log
    await log.close()


def market(partition: int, fills_of: Sequence[int]) -> list[Execution]:
    """Answers with that many fills each, of two classes in turn."""
    numbers = dict.fromkeys(CLASSES, 0)
    executions: list[Execution] = []
    for offset, count in enumerate(fills_of):
        events: list[Event] = [Ticked()]
        for index in range(count):
            class_id = CLASSES[(offset + index) % 2]
            numbers[class_id] += 1
            events.append(
                Fill(
                    index=index,
                    number=numbers[class_id],
                    class_id=class_id,
                    bid_id=position(partition, offset),
                    ask_id=0,
                    buyer=1,
                    seller=2,
                    price=2_500_000,
                    quantity=1,
                    start=0,
                    end=HOUR_MS,
                    taker=Side.BID,
                    bid_left=0,
                    buyer_fee_bps=0,
                    seller_fee_bps=0,
                    attributes=Attributes(),
                )
            )
        prev = executions[-1].position if executions else -1
        executions.append(Execution(position(partition, offset), prev, offset * 1000, tuple(events)))
    return executions


async def published(log: Log, partition: int) -> list[tuple[str, int]]:
    """(class, number) of each record of the public stream."""
    if not await log.end(FILLS, partition):
        return []
    reader = await log.reader(FILLS, partition, 0)
    found = [decode_fill(record.value) for record in await reader.poll(100_000)]
    await reader.close()
    return [(fill.class_id, fill.number) for fill in found]


def expected(executions: list[Execution]) -> list[tuple[str, int]]:
    return [
        (event.class_id, event.number) for answer in executions for event in answer.events if isinstance(event, Fill)
    ]


async def run_until_ready(log: Log, partition: int, registry: CollectorRegistry | None = None) -> None:
    publisher = FillsPublisher(log, partition, metrics=FillsMetrics(registry or CollectorRegistry()))
    run = asyncio.create_task(publisher.run())
    ready = asyncio.create_task(publisher.ready.wait())
    await asyncio.wait({run, ready}, return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    if not run.done():
        run.cancel()
    await asyncio.gather(ready, return_exceptions=True)
    try:
        await run
    except asyncio.CancelledError:
        return


class Killed(Exception):
    pass


class FailingLog:
    """A log whose process dies after that many records of the public stream: an append may be taken in part."""

    def __init__(self, log: Log, records: int) -> None:
        self.id, self.speed = log.id, log.speed
        self._log = log
        self._left = records

    def now(self) -> int:
        return self._log.now()

    def partitions(self, topic: str) -> int:
        return self._log.partitions(topic)

    async def append(self, topic: str, partition: int, values: Sequence[bytes]) -> Sequence[int]:
        taken = values[: self._left]
        self._left -= len(taken)
        offsets = await self._log.append(topic, partition, taken) if taken else ()
        if len(taken) < len(values) or not self._left:
            raise Killed
        return offsets

    async def reader(self, topic: str, partition: int, offset: int) -> Reader:
        return await self._log.reader(topic, partition, offset)

    async def end(self, topic: str, partition: int) -> int:
        return await self._log.end(topic, partition)

    async def close(self) -> None:
        await self._log.close()


async def test_killed_after_any_record_nothing_is_lost_and_nothing_comes_twice(
    log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "MAX_POLL", 3)
    monkeypatch.setattr(publishing, "STEP_BACK", 2)
    fills_of = (0, 1, 3, 0, 0, 2, 4, 0, 1, 0, 0, 0, 5, 1, 0, 2, 0, 0, 0, 0, 1, 0)
    total = sum(fills_of)
    for partition in range(1, total + 1):
        executions = market(partition, fills_of)
        await log.append(EXECUTIONS, partition, [encode(execution) for execution in executions])
        with pytest.raises(Killed):
            await run_until_ready(FailingLog(log, partition), partition)
        assert len(await published(log, partition)) == partition
        await run_until_ready(log, partition)
        assert await published(log, partition) == expected(executions)


async def test_it_tells_how_many_are_public_and_how_far_behind_it_is(
    log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "MAX_POLL", 2)
    await log.append(EXECUTIONS, 7, [encode(execution) for execution in market(7, (1, 1, 1, 1, 1))])
    killed, caught_up = CollectorRegistry(), CollectorRegistry()
    with pytest.raises(Killed):
        await run_until_ready(FailingLog(log, 3), 7, killed)
    assert figures(killed, 7) == (2, 3)
    monkeypatch.setattr(publishing, "WATCH_S", 0)
    await run_until_ready(log, 7, caught_up)
    assert figures(caught_up, 7) == (2, 0)


def figures(registry: CollectorRegistry, partition: int) -> tuple[float | None, float | None]:
    """Fills made public, and answers still to look at."""
    labels = {"partition": str(partition)}
    published, lag = (registry.get_sample_value(name, labels) for name in ("fills_published_total", "fills_lag"))
    return published, lag


async def test_a_later_start_goes_on_and_what_an_engine_wrote_twice_is_published_once(
    log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engines that start again or run at the same time leave equal answers anywhere behind the first copy."""
    monkeypatch.setattr(publishing, "STEP_BACK", 4)
    for partition in range(12):
        draw = random.Random(partition)
        executions = market(partition, [draw.choice((0, 0, 1, 2)) for _ in range(60)])
        copies = [executions]
        for _ in range(2):
            first = draw.randrange(50)
            copies.append(executions[first : first + draw.randrange(10)])
        merged: list[Execution] = []
        while any(copies):
            # The first copy of an answer is always before any later one, as the second engine reads its position.
            source = draw.choice([copy for copy in copies if copy and (copy is copies[0] or copy[0] in merged)])
            merged.append(source.pop(0))
        for part in (merged[:25], merged[25:40], merged[40:]):
            await log.append(EXECUTIONS, partition, [encode(execution) for execution in part])
            await run_until_ready(log, partition)
        unique = list(dict.fromkeys(merged))
        assert await published(log, partition) == expected(unique), f"seed {partition}"


async def test_two_publishers_at_once_leave_no_gap(log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "MAX_POLL", 7)
    executions = market(0, [index % 3 for index in range(200)])
    await log.append(EXECUTIONS, 0, [encode(execution) for execution in executions])
    await asyncio.gather(run_until_ready(log, 0), run_until_ready(log, 0))
    assert sorted(set(await published(log, 0))) == sorted(expected(executions))
    for class_id in CLASSES:
        seen = 0
        for name, number in await published(log, 0):
            if name == class_id:
                assert number <= seen + 1
                seen = max(seen, number)


async def test_a_gap_in_executions_stops_the_stream(log: EmbeddedLog) -> None:
    executions = market(0, [1] * 10)
    del executions[6]
    await log.append(EXECUTIONS, 0, [encode(execution) for execution in executions])
    with pytest.raises(GapError):
        await run_until_ready(log, 0)
