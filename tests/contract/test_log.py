"""What every log keeps to (schemas.log.Log): one suite over SQLite and a real Kafka."""

import asyncio
import random
import signal
import sys
import time
import tracemalloc
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateways.log.open import open_log
from schemas.log import MAX_RECORD_BYTES, Log, LogError, Record
from schemas.topics import COMMANDS, EXECUTIONS
from tests.contract.writer import open_named


class Place:
    """Where one log is: it can be opened there again and again."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self._opened: list[Log] = []

    async def open(self) -> Log:
        log = await open_named(self.words)
        self._opened.append(log)
        return log

    async def close(self) -> None:
        while self._opened:
            await self._opened.pop().close()


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    if request.param == "embedded":
        words = ["embedded", str(tmp_path / "log")]
    else:
        words = ["kafka", request.getfixturevalue("broker_address"), f"test-{uuid.uuid4().hex[:12]}."]
    place = Place(words)
    yield place
    await place.close()


@pytest.fixture
async def log(place: Place) -> Log:
    return await place.open()


async def read(log: Log, *, count: int, offset: int = 0, max_records: int = 5000) -> list[Record]:
    """That many records from `offset` on, or fewer where no more come within 10 s."""
    reader = await log.reader(COMMANDS, 0, offset)
    records: list[Record] = []
    while len(records) < count and (more := await reader.poll(max_records, timeout_s=10)):
        assert len(more) <= max_records
        records += more
    await reader.close()
    return records


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


async def test_its_id_stays_and_another_log_has_another(place: Place, tmp_path: Path) -> None:
    words = (
        ["embedded", str(tmp_path / "other")]
        if place.words[0] == "embedded"
        else [*place.words[:2], f"{place.words[2]}other."]
    )
    other = Place(words)
    log = await place.open()
    await place.close()
    assert log.id == (await place.open()).id
    assert len(log.id) > 20
    assert log.id != (await other.open()).id
    await other.close()


async def test_records_come_back_in_order_with_their_offsets(log: Log) -> None:
    assert list(await log.append(COMMANDS, 0, numbered(3))) == [0, 1, 2]
    assert list(await log.append(COMMANDS, 0, [b"", bytes(range(256))])) == [3, 4]

    records = await read(log, count=5)

    assert [record.offset for record in records] == [0, 1, 2, 3, 4]
    assert [record.value for record in records] == [*numbered(3), b"", bytes(range(256))]


async def test_topics_and_partitions_are_apart_and_unknown_ones_are_named(log: Log) -> None:
    await log.append(COMMANDS, 0, numbered(2))

    assert await log.end(COMMANDS, 0) == 2
    assert await log.end(EXECUTIONS, 0) == 0
    assert log.partitions(COMMANDS) == 1
    with pytest.raises(LogError, match=r"no partition 1 of commands\.v1"):
        await log.append(COMMANDS, 1, [b"x"])
    with pytest.raises(LogError, match="nonsense"):
        log.partitions("nonsense")


async def test_an_append_of_nothing_and_one_too_large_change_nothing(log: Log) -> None:
    assert list(await log.append(COMMANDS, 0, [])) == []
    with pytest.raises(LogError, match=f"the most is {MAX_RECORD_BYTES}"):
        await log.append(COMMANDS, 0, [b"small", b"x" * (MAX_RECORD_BYTES + 1)])
    await log.append(COMMANDS, 0, [b"x" * MAX_RECORD_BYTES])

    assert await log.end(COMMANDS, 0) == 1


async def test_calls_keep_their_order_even_when_they_share_the_disk_or_fill_many_batches(log: Log) -> None:
    sizes = [1, 3, 20_000, 1, 2] * 4
    appends = []
    for call, size in enumerate(sizes):
        values = [b"%04d:%096d" % (call, number) for number in range(size)]
        appends.append(asyncio.create_task(log.append(COMMANDS, 0, values)))
    offsets = await asyncio.gather(*appends)

    assert [offset for call in offsets for offset in call] == list(range(sum(sizes)))
    values = [record.value for record in await read(log, count=sum(sizes))]
    assert values == sorted(values)


async def test_each_of_many_appenders_keeps_its_order(log: Log) -> None:
    async def append(appender: int) -> dict[int, bytes]:
        taken: dict[int, bytes] = {}
        for number in range(0, 40, 2):
            values = [b"%d:%d" % (appender, number), b"%d:%d" % (appender, number + 1)]
            taken.update(zip(await log.append(COMMANDS, 0, values), values, strict=True))
        return taken

    taken: dict[int, bytes] = {}
    for each in await asyncio.gather(*(append(appender) for appender in range(25))):
        taken |= each

    records = await read(log, count=1000)
    assert {record.offset: record.value for record in records} == taken
    assert_each_appender_in_order(records)


async def test_an_append_whose_caller_went_away_leaves_the_others_alone(log: Log) -> None:
    leaving = asyncio.create_task(log.append(COMMANDS, 0, [b"left"]))
    await asyncio.sleep(0)
    leaving.cancel()
    (offset,) = await log.append(COMMANDS, 0, [b"stayed"])

    assert (await read(log, count=1, offset=offset))[0].value == b"stayed"


async def test_a_reader_starts_at_any_offset_and_takes_no_more_than_it_asks_for(log: Log) -> None:
    await log.append(COMMANDS, 0, numbered(100))

    for offset in (0, 1, 57, 99):
        records = await read(log, count=100 - offset, offset=offset, max_records=7)
        assert [record.value for record in records] == numbered(100)[offset:]


async def test_a_reader_at_the_end_waits_and_is_woken_at_once(log: Log) -> None:
    await log.append(COMMANDS, 0, numbered(5))
    reader = await log.reader(COMMANDS, 0, 5)

    began = time.monotonic()
    assert await reader.poll(timeout_s=0.3) == []
    assert 0.2 < time.monotonic() - began < 2

    waiting = asyncio.create_task(reader.poll(timeout_s=60))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    await log.append(COMMANDS, 0, [b"new"])
    assert [(record.offset, record.value) for record in await waiting] == [(5, b"new")]
    assert time.monotonic() - began < 2
    await reader.close()


async def test_no_reader_starts_beyond_the_end_or_before_the_first(log: Log) -> None:
    await log.append(COMMANDS, 0, numbered(5))

    for offset in (6, 1_000_000, -1):
        with pytest.raises(LogError, match=rf"no offset {offset}: it ends at 5"):
            await log.reader(COMMANDS, 0, offset)


async def test_times_rise_and_are_near_the_clock_of_the_log(log: Log) -> None:
    for value in numbered(5):
        await log.append(COMMANDS, 0, [value])
        await asyncio.sleep(0.003)

    times = [record.time for record in await read(log, count=5)]
    assert times == sorted(times)
    assert abs(times[-1] - log.now()) < 5_000


async def test_a_slow_reader_holds_up_no_writer_and_costs_no_memory(log: Log) -> None:
    count, size = 480, 100_000
    slow = await log.reader(COMMANDS, 0, 0)
    tracemalloc.start()
    try:
        for number in range(0, count, 40):
            await asyncio.wait_for(log.append(COMMANDS, 0, [b"%0*d" % (size, number + more) for more in range(40)]), 30)
        assert tracemalloc.get_traced_memory()[0] < count * size // 2
    finally:
        tracemalloc.stop()

    expected = 0
    while expected < count:
        for record in await slow.poll(max_records=50, timeout_s=10):
            assert (record.offset, int(record.value[-9:])) == (expected, expected)
            expected += 1
    await slow.close()


async def test_all_is_there_when_it_is_opened_again_and_times_go_on(place: Place) -> None:
    log = await place.open()
    await log.append(COMMANDS, 0, numbered(10))
    before = await read(log, count=10)
    await place.close()

    log = await place.open()
    assert await log.end(COMMANDS, 0) == 10
    assert list(await log.append(COMMANDS, 0, [b"more"])) == [10]
    records = await read(log, count=11)
    assert records[:10] == before
    assert records[10].value == b"more"
    assert records[10].time >= records[9].time


async def test_a_closing_log_waits_for_what_is_under_way_and_takes_nothing_more(log: Log) -> None:
    under_way = [asyncio.create_task(log.append(COMMANDS, 0, [b"x" * 100] * 10_000)) for _ in range(6)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(log.close())
    await asyncio.sleep(0)
    with pytest.raises(LogError, match="closed"):
        await log.append(COMMANDS, 0, [b"y"])
    assert [offset for taken in await asyncio.gather(*under_way) for offset in taken] == list(range(60_000))
    await closing


@pytest.mark.parametrize("seed", range(2))
async def test_what_was_acknowledged_outlives_a_kill_of_the_writer(place: Place, seed: int) -> None:
    await check_kills(place, seed, kills=2)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 110))
async def test_what_was_acknowledged_outlives_many_kills(place: Place, seed: int) -> None:
    await check_kills(place, seed, kills=10)


async def check_kills(place: Place, seed: int, kills: int) -> None:
    """Kills a writing process after a random number of acknowledgements, again and again on the same log."""
    rng = random.Random(seed)
    first = 0
    for _ in range(kills):
        acknowledged = await kill_writer(place, after=rng.randint(1, 600))
        log = await place.open()
        records = await read(log, count=await log.end(COMMANDS, 0) - first, offset=first)
        await place.close()
        assert [record.offset for record in records] == list(range(first, first + len(records)))
        assert [record.time for record in records] == sorted(record.time for record in records)
        assert acknowledged.items() <= {record.offset: record.value for record in records}.items()
        assert_each_appender_in_order(records)
        first += len(records)


async def kill_writer(place: Place, after: int) -> dict[int, bytes]:
    """Starts a writer, kills it after so many acknowledgements; returns all that were, by offset."""
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.contract.writer", *place.words, stdout=asyncio.subprocess.PIPE
    )
    assert writer.stdout is not None
    lines = [await writer.stdout.readline() for _ in range(after)]
    writer.kill()
    lines += (await writer.stdout.read()).splitlines(keepends=True)
    assert await writer.wait() == -signal.SIGKILL
    said = [line.split() for line in lines if line.endswith(b"\n")]
    assert len(said) >= after
    return {int(offset): value for offset, value in said}


def assert_each_appender_in_order(records: list[Record]) -> None:
    """Each appender's numbers are there from 0 on, in order, none missing and none twice."""
    numbers = defaultdict(list)
    for record in records:
        appender, number = record.value.split(b":")
        numbers[appender].append(int(number))
    for found in numbers.values():
        assert found == list(range(len(found)))


async def test_one_setting_chooses_the_log(tmp_path: Path) -> None:
    log = await open_log("embedded", folder=tmp_path)
    await log.close()
    for url, words in (("redis://x", "write embedded, or kafka://HOST:PORT"), ("kafka://x:1", "the embedded log")):
        with pytest.raises(ValueError, match=words):
            await open_log(url, folder=tmp_path, speed=2)
