"""The engine on a real log: whatever ends it, each command is answered once, and always with the same bytes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from gateways.log.embedded import EmbeddedLog
from matching_engine import CORE, snapshot
from matching_engine.ahead import AT_ONCE
from matching_engine.engine import Engine
from matching_engine.metrics import EngineMetrics
from matching_engine.replay import recovered
from matching_engine.service import EngineService
from schemas.codec import decode_command, decode_execution, encode
from schemas.commands import Tick
from schemas.events import Execution
from schemas.executions import Follower
from schemas.log import Log, LogError, Reader, Record
from schemas.topics import COMMANDS, EXECUTIONS
from tests.simulation.streams import stream


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[EmbeddedLog]:
    log = await EmbeddedLog.open(folder, partitions=2)
    try:
        yield log
    finally:
        await log.close()


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[EmbeddedLog]:
    async with opened(tmp_path) as log:
        yield log


def service(log: Log, *, partition: int = 0, max_poll: int = 50, idle_tick_s: float = 60.0) -> EngineService:
    metrics = EngineMetrics(CollectorRegistry())
    return EngineService(log, partition, metrics=metrics, max_poll=max_poll, idle_tick_s=idle_tick_s)


@contextlib.asynccontextmanager
async def running(engine: EngineService) -> AsyncIterator[EngineService]:
    task = asyncio.create_task(engine.run())
    try:
        yield engine
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def send(log: Log, first: int, count: int, partition: int = 0) -> None:
    """So many commands of one random stream, from its `first` on."""
    commands = [command for _, _, command in stream("mixed", 9, first + count)]
    await log.append(COMMANDS, partition, [encode(command) for command in commands[first:]])


async def records(log: Log, topic: str, partition: int = 0) -> list[Record]:
    end = await log.end(topic, partition)
    reader = await log.reader(topic, partition, 0)
    return [record for record in await reader.poll(100_000) if record.offset < end]


async def answered(log: Log, count: int, partition: int = 0) -> list[bytes]:
    """All executions, once there are that many."""
    reader = await log.reader(EXECUTIONS, partition, 0)
    found: list[bytes] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += [record.value for record in await reader.poll()]
    return found


async def folded(log: Log, partition: int = 0) -> list[bytes]:
    """What the answers to the commands in the log must be."""
    engine = Engine(partition)
    return [
        encode(engine.apply(record.offset, record.time, decode_command(record.value)))
        for record in await records(log, COMMANDS, partition)
    ]


async def test_each_command_is_answered_in_a_record_of_its_own(log: EmbeddedLog) -> None:
    await send(log, 0, 120, partition=1)
    async with running(service(log, partition=1)) as engine:
        await engine.ready.wait()
        assert await answered(log, 120, partition=1) == await folded(log, partition=1)
        await send(log, 120, 30, partition=1)
        assert await answered(log, 150, partition=1) == await folded(log, partition=1)
    assert await log.end(EXECUTIONS, 0) == 0


async def test_a_long_poll_is_answered_as_one_command_after_the_other(log: EmbeddedLog) -> None:
    await send(log, 0, 3 * AT_ONCE + 1)
    async with running(service(log, max_poll=1000)):
        assert await answered(log, 3 * AT_ONCE + 1) == await folded(log)


async def test_a_restart_answers_nothing_twice_and_goes_on_from_the_last_answer(log: EmbeddedLog) -> None:
    for restart in range(6):
        await send(log, restart * 70, 70)
        async with running(service(log, max_poll=20)):
            await answered(log, restart * 70 + 30)  # in the middle, or wherever it is by then
    async with running(service(log)) as engine:
        await engine.ready.wait()
        answers = await answered(log, 420)
    assert answers == await folded(log)


async def test_ready_means_that_all_former_answers_are_folded(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        await send(log, 0, 200)
        async with running(service(log)):
            await answered(log, 200)
    # Opened anew, the log reads from disk, and others run between its polls.
    async with opened(tmp_path) as log, running(service(log, max_poll=10)) as engine:
        await engine.ready.wait()
        assert engine.engine.position == 199


async def test_two_at_once_write_equal_answers_only(log: EmbeddedLog) -> None:
    async with running(service(log, max_poll=7)), running(service(log, max_poll=13)):
        for first in range(0, 300, 60):
            await send(log, first, 60)
            await asyncio.sleep(0.01)
        written = await answered(log, 600)
    expected = await folded(log)
    assert set(written) == set(expected)
    follower = Follower()
    assert [value for value in written if follower.accept(decode_execution(value))] == expected


class Failing:
    """A log of which one append to executions is taken, but fails, as when the broker's answer is lost."""

    def __init__(self, log: Log, good_appends: int) -> None:
        self._log = log
        self._left = good_appends
        self.id, self.speed = log.id, log.speed

    def now(self) -> int:
        return self._log.now()

    def partitions(self, topic: str) -> int:
        return self._log.partitions(topic)

    async def append(self, topic: str, partition: int, values: Sequence[bytes]) -> Sequence[int]:
        taken = await self._log.append(topic, partition, values)
        self._left -= 1
        if self._left < 0:
            raise LogError("the broker did not answer")
        return taken

    async def reader(self, topic: str, partition: int, offset: int) -> Reader:
        return await self._log.reader(topic, partition, offset)

    async def end(self, topic: str, partition: int) -> int:
        return await self._log.end(topic, partition)

    async def close(self) -> None:
        await self._log.close()


@pytest.mark.parametrize("good_appends", [0, 1, 3])
async def test_any_error_ends_it_and_a_restart_completes_the_answers(log: EmbeddedLog, good_appends: int) -> None:
    await send(log, 0, 300)
    with pytest.raises(LogError, match="the broker did not answer"):
        await asyncio.wait_for(service(Failing(log, good_appends)).run(), 20)
    assert await log.end(EXECUTIONS, 0) == 50 * (good_appends + 1)
    async with running(service(log)):
        assert await answered(log, 300) == await folded(log)


class Held(Failing):
    """A log that takes no answers until it is released."""

    def __init__(self, log: Log) -> None:
        super().__init__(log, 1_000)
        self.asked = asyncio.Event()
        self.released = asyncio.Event()

    async def append(self, topic: str, partition: int, values: Sequence[bytes]) -> Sequence[int]:
        self.asked.set()
        await self.released.wait()
        return await super().append(topic, partition, values)


async def test_what_listeners_hear_before_it_is_in_the_log_comes_there_even_after_a_crash(log: EmbeddedLog) -> None:
    told: asyncio.Queue[Execution] = asyncio.Queue()
    heard: list[bytes] = []

    async def hear(count: int) -> None:
        async with asyncio.timeout(20):
            while len(heard) < count:
                heard.append(encode(await told.get()))

    held, figure = Held(log), Figures()
    engine = EngineService(held, 0, metrics=figure.metrics, max_poll=50, idle_tick_s=60)
    engine.listeners.append(told.put_nowait)
    await send(log, 0, 40)
    async with running(engine):
        await hear(40)
        await asyncio.wait_for(held.asked.wait(), 20)
        for first in (40, 60):  # two polls while the append of the first is under way
            await send(log, first, 20)
            await hear(first + 20)
        assert await log.end(EXECUTIONS, 0) == 0
        held.released.set()
        assert await answered(log, 80) == heard == await folded(log)
        held.released.clear()
        await send(log, 80, 40)
        await hear(120)
    assert await log.end(EXECUTIONS, 0) == 80
    assert figure("engine_answer_seconds_count", stage="logged") == 80
    async with running(service(log)):
        assert await answered(log, 120) == heard == await folded(log)


async def test_time_passes_by_ticks_while_nothing_comes(log: EmbeddedLog) -> None:
    async with running(service(log, idle_tick_s=0.02)):
        answers = await answered(log, 3)
    assert {decode_command(record.value) for record in await records(log, COMMANDS)} == {Tick()}
    assert answers == (await folded(log))[: len(answers)]


async def test_answers_to_other_commands_are_noticed(log: EmbeddedLog) -> None:
    await log.append(EXECUTIONS, 0, [encode(Engine(0).apply(7, 0, Tick()))])
    with pytest.raises(LogError, match="answers command 7, which is not in"):
        await service(log).run()


class Figures:
    """What the engines of one process told Prometheus."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.metrics = EngineMetrics(self._registry)

    def __call__(self, name: str, partition: int = 0, **labels: str) -> float | None:
        return self._registry.get_sample_value(name, {"partition": str(partition), **labels})


async def test_what_it_tells_prometheus(log: EmbeddedLog) -> None:
    figure = Figures()
    await send(log, 0, 100)
    engine = EngineService(log, 0, metrics=figure.metrics)
    async with running(engine), running(EngineService(log, 1, metrics=figure.metrics)):
        await answered(log, 100)
        await asyncio.sleep(0.1)  # the service learns of its append after the readers do
    assert figure("engine_commands_total") == 100
    assert figure("engine_commands_total", 1) == 0
    assert figure("engine_lag") == 0
    for polls in ("engine_apply_seconds", "engine_command_seconds", "engine_polled_commands"):
        assert (figure(polls + "_count"), figure(polls + "_count", 1)) == (1, 0), polls
    each, all_of_it = figure("engine_command_seconds_sum"), figure("engine_apply_seconds_sum")
    assert each is not None
    assert all_of_it is not None
    assert all_of_it == pytest.approx(100 * each)
    assert all_of_it < 60, "it is of the poll alone, not from the machine's start on"
    assert figure("engine_polled_commands_sum") == figure("engine_appended_answers_sum") == 100
    assert figure("engine_polled_commands_bucket", le="50.0") == 0
    assert (figure("engine_books"), figure("engine_books", 1)) == (len(engine.engine.books), 0)
    assert engine.engine.books


def test_the_live_orders_are_counted_the_sold_out_too() -> None:
    figure, engine = Figures(), Engine(0)
    figure.metrics.watch(0, lambda: engine)
    spent = 0
    for count, (offset, time, command) in enumerate(stream("clusters", 9, 400)):
        engine.apply(offset, time, command)
        if count % 40 == 0:
            live = [len(book.asks) + len(book.bids) for book in engine.state().books]
            assert (figure("engine_orders"), figure("engine_books")) == (sum(live), len(live))
            spent += sum(len(book.spent) for book in engine.books.values())
    assert spent
    assert figure("engine_orders") != 0


async def test_how_long_each_answer_took_is_told_of_every_command(log: EmbeddedLog) -> None:
    figure = Figures()

    def slower_than(seconds: str, stage: str) -> float:
        every = figure("engine_answer_seconds_count", stage=stage)
        within = figure("engine_answer_seconds_bucket", stage=stage, le=seconds)
        assert every is not None
        assert within is not None
        return every - within

    await send(log, 0, 30)
    await asyncio.sleep(0.25)
    await send(log, 30, 10)
    held = Held(log)
    async with running(EngineService(held, 0, metrics=figure.metrics)):
        await asyncio.wait_for(held.asked.wait(), 20)
        assert figure("engine_answer_seconds_count", stage="matched") == 40
        assert slower_than("0.2", "matched") == 30
        assert figure("engine_answer_seconds_count", stage="logged") is None
        await asyncio.sleep(0.25)
        held.released.set()
        await answered(log, 40)
        await asyncio.sleep(0.1)
    assert slower_than("0.2", "logged") == 40
    assert slower_than("30.0", "logged") == 0
    total = figure("engine_answer_seconds_sum", stage="logged")
    assert total is not None
    assert 30 * 0.5 + 10 * 0.25 <= total < 40 * 20


async def test_a_clock_that_runs_faster_tells_no_delays(tmp_path: Path) -> None:
    figure = Figures()
    log = await EmbeddedLog.open(tmp_path, speed=60)
    await send(log, 0, 10)
    async with running(EngineService(log, 0, metrics=figure.metrics)):
        await answered(log, 10)
        await asyncio.sleep(0.1)
    await log.close()
    assert figure("engine_commands_total") == 10
    assert figure("engine_answer_seconds_count", stage="logged") is None


def test_a_stamp_ahead_of_the_clock_is_no_delay() -> None:
    figure = Figures()
    figure.metrics.answer_seconds.observe(0, "matched", [1_000, 1_003, 1_900], 1_004)
    buckets = [figure("engine_answer_seconds_bucket", stage="matched", le=le) for le in ("0.001", "0.002", "0.005")]
    assert buckets == [2, 2, 3]
    assert figure("engine_answer_seconds_sum", stage="matched") == 0


def test_each_figure_has_a_name_and_says_what_it_is() -> None:
    registry = CollectorRegistry()
    EngineMetrics(registry).watch(3, lambda: Engine(3))
    told = generate_latest(registry).decode().splitlines()
    assert [line[7:] for line in told if line.startswith("# HELP")] == [
        "engine_commands_total Commands answered",
        "engine_lag Commands in the log that are not answered yet",
        "engine_apply_seconds Time to match one poll",
        "engine_command_seconds Time to match a command: the mean of one poll",
        "engine_polled_commands Commands of one poll",
        "engine_appended_answers Answers of one append",
        "engine_orders Live orders",
        "engine_books Classes with a book",
        "engine_answer_seconds From a command's time stamp in the log to its answer",
        "engine_core Which core the engines of this process run",
    ]
    assert 'engine_orders{partition="3"} 0.0' in told
    assert f'engine_core{{core="{CORE}"}} 1.0' in told


def test_a_figure_of_many_commands_has_buckets_for_counts_and_for_microseconds() -> None:
    figure = Figures()
    for observed in (figure.metrics.polled, figure.metrics.appended):
        observed.labels(0).observe(3)
    figure.metrics.command_seconds.labels(0).observe(7e-6)
    for name, below, above in (
        ("engine_polled_commands", "2.0", "5.0"),
        ("engine_appended_answers", "2.0", "5.0"),
        ("engine_command_seconds", "5e-06", "1e-05"),
    ):
        assert (figure(name + "_bucket", le=below), figure(name + "_bucket", le=above)) == (0, 1)


def test_delays_are_of_their_partition_and_add_up() -> None:
    figure = Figures()
    figure.metrics.answer_seconds.observe(0, "matched", [1_000, 1_001], 1_002)
    figure.metrics.answer_seconds.observe(0, "matched", [2_000], 2_030)
    figure.metrics.answer_seconds.observe(1, "matched", [1_000], 41_000)
    assert figure("engine_answer_seconds_count", stage="matched") == 3
    assert figure("engine_answer_seconds_sum", stage="matched") == pytest.approx(0.033)
    assert figure("engine_answer_seconds_bucket", stage="matched", le="0.02") == 2
    assert figure("engine_answer_seconds_bucket", 1, stage="matched", le="30.0") == 0
    assert figure("engine_answer_seconds_bucket", 1, stage="matched", le="+Inf") == 1


async def test_a_snapshot_that_is_passed_over_is_told_and_what_was_answered_folded(
    log: EmbeddedLog, tmp_path: Path
) -> None:
    await send(log, 0, 30)
    async with running(service(log)):
        await answered(log, 30)
    other = Engine(0)
    other.apply(0, 0, Tick())
    path = snapshot.write(tmp_path / "snapshots", b"o" * 32, 0, other.state())
    again = EngineService(
        log, 0, metrics=EngineMetrics(CollectorRegistry()), snapshots=tmp_path / "snapshots", idle_tick_s=60
    )
    with capture_logs() as logged:
        async with running(again):
            await again.ready.wait()
            assert again.engine.position == 29
    assert logged == [
        {"log_level": "warning", "event": "a snapshot was passed over", "why": f"{path} is of another log"}
    ]


async def test_a_start_goes_on_from_its_snapshot(
    log: EmbeddedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As told by what it folds: only what came after it is read."""
    await send(log, 0, 40)
    async with running(service(log)):
        await answered(log, 40)
    await recovered(log, 0, 29, tmp_path / "snapshots", snapshot_after=1)
    metrics = EngineMetrics(CollectorRegistry())
    engine = EngineService(log, 0, metrics=metrics, snapshots=tmp_path / "snapshots", idle_tick_s=60)
    read: list[int] = []
    reader = log.reader

    async def noted(topic: str, partition: int, offset: int) -> Reader:
        read.append(offset)
        return await reader(topic, partition, offset)

    monkeypatch.setattr(log, "reader", noted)
    async with running(engine):
        await engine.ready.wait()
        assert engine.engine.position == 39
    assert read == [39, 0, 30, 40]


async def test_the_lag_is_what_is_in_the_log_and_not_matched(log: EmbeddedLog) -> None:
    figure = Figures()
    engine = EngineService(log, 1, metrics=figure.metrics, idle_tick_s=60)
    await send(log, 0, 12, partition=1)
    engine.engine.apply(0, 0, Tick())
    engine.engine.apply(3, 0, Tick())
    await engine._watch_lag()
    assert figure("engine_lag", 1) == 8
    engine.engine.apply(11, 0, Tick())
    await engine._watch_lag()
    assert figure("engine_lag", 1) == 8, "it is looked up once a second"
    engine._lag_known_at = 0.0
    await engine._watch_lag()
    assert figure("engine_lag", 1) == 0
