"""A market played on the whole exchange, and its fills as an analyst reads them."""

import asyncio
import contextlib
import itertools
import json
import re
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from gateways.cli.play import PlayState, Summary, play
from gateways.client import Exchange as Client
from gateways.log.embedded import EmbeddedLog
from gateways.log.kafka import KafkaLog
from gateways.market_data import fills
from gateways.market_data.fills import FillsPublisher
from gateways.market_data.metrics import FillsMetrics
from matching_engine.metrics import EngineMetrics
from matching_engine.service import EngineService
from schemas.attributes import Accepts, Attributes, ClassSpec
from schemas.codec import decode_fill, encode
from schemas.commands import CreateClass, PlaceAsk, PlaceBid
from schemas.fills import PublicFill
from schemas.log import Log
from schemas.topics import COMMANDS, FILLS
from schemas.units import HOUR_MS, MAX_TIME_MS, ceil_grid
from settlement.service import SettlementService
from settlement.store import Store
from tests.integration.conftest import admin_key, running, serving

README = Path(fills.__file__).parent / "README.md"
PARTITIONS = 2
SPEED = 3600


@pytest.fixture
async def fast_log(tmp_path: Path) -> AsyncIterator[EmbeddedLog]:
    log = await EmbeddedLog.open(tmp_path / "log", partitions=PARTITIONS, speed=SPEED)
    yield log
    await log.close()


async def publish_with_interruptions(log: Log, partition: int) -> None:
    """A publisher that is killed again and again, each time somewhere else, and started anew."""
    for lives_s in itertools.cycle((0.05, 0.31, 0.002, 0.11)):
        publisher = asyncio.create_task(FillsPublisher(log, partition, metrics=FillsMetrics(CollectorRegistry())).run())
        await asyncio.wait({publisher}, timeout=lives_s)
        publisher.cancel()
        await asyncio.gather(publisher, return_exceptions=True)
        await asyncio.sleep(0)


async def stream(log: Log) -> list[PublicFill]:
    found: list[PublicFill] = []
    for partition in range(log.partitions(FILLS)):
        reader = await log.reader(FILLS, partition, 0)
        found += [decode_fill(record.value) for record in await reader.poll(100_000)]
        await reader.close()
    return found


async def test_a_played_market_is_metered_charged_and_published_without_a_gap(
    fast_log: EmbeddedLog, store: Store
) -> None:
    metrics = EngineMetrics(CollectorRegistry())
    engines = [EngineService(fast_log, partition, metrics=metrics) for partition in range(PARTITIONS)]
    shown: list[PlayState] = []
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(running([*engines, SettlementService(fast_log, store)]))
        publishers = [asyncio.create_task(publish_with_interruptions(fast_log, n)) for n in range(PARTITIONS)]
        url = await stack.enter_async_context(serving(fast_log, store))
        key = await admin_key(store, fast_log)
        summaries = [
            await play(url, key, seed=seed, duration_s=seconds, speed=SPEED, on_state=shown.append)
            for seed, seconds in ((7, 12.0), (8, 2.0))
        ]
        for publisher in publishers:
            publisher.cancel()
        await asyncio.gather(*publishers, return_exceptions=True)
        fills = FillsMetrics(CollectorRegistry())
        await stack.enter_async_context(
            running([FillsPublisher(fast_log, n, metrics=fills) for n in range(PARTITIONS)])
        )
        async with Client(url) as anyone:
            seen = [fill async for fill in anyone.fills(after="start", follow=False)]
            status = await anyone.status()
        published = await stream(fast_log)

    first, last = summaries
    check_summary(first)
    check_summary(last)
    assert last.orders > first.orders, "the second play went on with the first one's accounts and asks"
    assert shown[-1].refusals.total() < 10
    assert shown[-1].books.keys() == set(shown[-1].classes)

    # A publisher that was killed with an append under way may have left a fill twice, with equal bytes.
    published = list(dict.fromkeys(published))
    assert len(published) == len({fill.fill_id for fill in published}) >= last.fills
    by_class: dict[str, list[int]] = {}
    for fill in published:
        by_class.setdefault(fill.class_id, []).append(fill.number)
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in by_class.values())
    assert len(by_class) > 5
    assert {fill.fill_id for fill in seen} == {fill.fill_id for fill in published}
    assert status.imbalance_microusd == 0


def check_summary(summary: Summary) -> None:
    figures = json.loads(msgspec.json.encode(summary))
    assert figures["conservation_microusd"] == 0
    assert figures["fills"] == figures["leases"] > 0
    assert figures["orders"] > figures["fills"] / 10
    assert figures["gpu_hours"] > 0
    assert figures["charged_usd"] > 0
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    assert figures["orders_per_s"] > 0


async def test_the_readme_program_reads_the_stream_with_a_plain_kafka_consumer(broker_address: str) -> None:
    prefix = f"analyst-{uuid.uuid4().hex[:12]}."
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    for told, here in (('"127.0.0.1:9092"', repr(broker_address)), (f'"{FILLS}"', repr(prefix + FILLS))):
        assert told in program
        program = program.replace(told, here)

    end = ceil_grid(time.time_ns() // 1_000_000) + 48 * HOUR_MS
    spec = ClassSpec("H100-SXM-80GB", "NVIDIA H100", 80, "SXM")
    ask = PlaceAsk(spec.class_id, 1, 1, "a", MAX_TIME_MS, 8, 2_500_000, 0, end, Attributes())
    bids = [
        PlaceBid(spec.class_id, 2, 2, f"b{n}", MAX_TIME_MS, 2, 2_600_000, HOUR_MS, (0,), Accepts(), 1) for n in range(4)
    ]
    async with contextlib.AsyncExitStack() as stack:
        log = await KafkaLog.connect(broker_address, prefix=prefix)
        stack.push_async_callback(log.close)
        engine = EngineService(log, 0, metrics=EngineMetrics(CollectorRegistry()))
        await stack.enter_async_context(
            running([engine, FillsPublisher(log, 0, metrics=FillsMetrics(CollectorRegistry()))])
        )
        await log.append(COMMANDS, 0, [encode(command) for command in (CreateClass(spec), ask, *bids)])
        reader = await asyncio.create_subprocess_exec(sys.executable, "-u", "-c", program, stdout=subprocess.PIPE)
        assert reader.stdout is not None
        try:
            lines = [(await asyncio.wait_for(reader.stdout.readline(), 30)).decode() for _ in bids]
        finally:
            reader.kill()
            await reader.communicate()
    assert [line.split()[1:6] for line in lines] == [["H100-SXM-80GB", "2", "GPUs", "at", "2.50"]] * 4
