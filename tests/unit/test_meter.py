"""The meter's rules: what counts as use, what is on disk before it is said, what a bound does."""

from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateways.client import Exchange
from gateways.meter.exporter import ExporterError, Source, present, shown
from gateways.meter.meter import Meter, Metered
from gateways.meter.spool import LeaseRow, Report, Spool, SpoolError
from gateways.meter.use import Clock, Run, Terms, used_gpu_ms
from schemas.units import HOUR_MS, MINUTE_MS
from tests.exporter import MIG_NODE, NODE, Exporter, after_boot, without_gpu

NOON = 1_795_521_600_000
UUIDS = ("GPU-5fd4f087-86f3-7a43-b711-4771313afc50", "GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52")
LEASE = "lse_12-0"


# What an exporter shows


def test_a_gpu_is_there_where_something_of_it_is_measured() -> None:
    assert shown(NODE) == {"0": {UUIDS[0]}, "1": {UUIDS[1]}}
    assert shown(without_gpu(NODE, "1")) == {"0": {UUIDS[0]}}
    assert shown(after_boot(NODE)) == shown(NODE)
    assert shown("") == {}


def test_the_instances_of_one_gpu_are_one_gpu_and_a_switch_is_none() -> None:
    assert shown(MIG_NODE) == {"0": {UUIDS[0]}}


def test_a_value_that_is_no_number_is_not_there() -> None:
    assert shown('DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1"} NaN\n') == {}
    assert shown('node_cpu_seconds{gpu="0",UUID="GPU-1"} 1\n') == {}


@pytest.mark.parametrize("text", ["<html>", 'DCGM_FI_DEV_GPU_UTIL{gpu="0"', 'DCGM_FI_DEV_GPU_UTIL{gpu="0"} much\n'])
def test_what_is_no_prometheus_text_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ExporterError, match="not Prometheus text"):
        shown(text)


def test_gpus_are_named_by_label_or_by_uuid_and_by_uuid_where_labels_are_not_unique() -> None:
    assert present(shown(NODE), ["0", UUIDS[1]]) == set(UUIDS)
    assert present(shown(NODE), ["7"]) == set()
    two_nodes = {"0": {"GPU-a", "GPU-b"}}
    assert present(two_nodes, ["GPU-a"]) == {"GPU-a"}
    with pytest.raises(ExporterError, match="gpu 0 is 2 GPUs here: name it by its UUID, GPU-a or GPU-b"):
        present(two_nodes, ["0"])


def test_use_is_what_of_the_runs_lies_between() -> None:
    runs = [Run(0, 10, 2), Run(20, 30, 1)]
    assert [used_gpu_ms(runs, since, until) for since, until in ((0, 30), (5, 25), (10, 20), (25, 5))] == [30, 15, 0, 0]


# From looks to reports, with the exchange's clock and the lease's terms known and the exchange away


class Node:
    """A meter with a clock that the test moves, by the minute."""

    def __init__(self, exporter: Exporter, folder: Path) -> None:
        self.exporter = exporter
        self.folder = folder
        self.wall = NOON
        self.told: list[str] = []
        self.spool = Spool(folder)
        self.restart()

    def restart(self, **bounds: int) -> None:
        self.spool.close()
        self.spool = Spool(self.folder, **bounds)
        metered = Metered(LEASE, [Source(self.exporter.url, ["0", "1"])])
        self.meter = Meter(
            [metered],
            Exchange("http://127.0.0.1:9"),
            self.spool,
            interval_ms=MINUTE_MS,
            tell=self.told.append,
            wall_ms=lambda: self.wall,
        )

    def learn(self, billed_from: int | None, until: int = NOON + HOUR_MS) -> None:
        """What the exchange would say."""
        with self.spool.transaction():
            self.spool.set_clock(Clock(NOON, NOON, 1))
            lease = self.spool.lease(LEASE)
            lease.terms = Terms(2, billed_from, until, closed=False)
            self.spool.save(lease)

    async def look(self, text: str | None = NODE, *, minutes: int = 1) -> None:
        """At the text, None for an exporter that cannot be reached; then time passes."""
        self.exporter.status, self.exporter.text = (200, text) if text is not None else (503, "")
        await self.meter.observe()
        self.wall += minutes * MINUTE_MS

    def reported(self) -> list[int]:
        """GPU-minutes in all, of each report that waits."""
        reports = self.spool.waiting(1000)
        assert [report.sequence for report in reports] == list(range(1, len(reports) + 1))
        assert all(report.gpu_ms % MINUTE_MS == 0 for report in reports)
        return [report.gpu_ms // MINUTE_MS for report in reports]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with Exporter().running() as exporter:
        node = Node(exporter, tmp_path / "spool")
        yield node
        node.spool.close()


async def test_a_gpu_counts_from_one_look_to_the_next(node: Node) -> None:
    node.learn(NOON)
    for _ in range(4):
        await node.look()
    assert node.reported() == [2, 4, 6]
    assert [report.measured_at for report in node.spool.waiting(9)] == [NOON + n * MINUTE_MS for n in (1, 2, 3)]


async def test_a_boot_that_sets_counters_back_lowers_nothing(node: Node) -> None:
    node.learn(NOON)
    for text in (NODE, NODE, None, after_boot(NODE), after_boot(NODE)):
        await node.look(text)
    assert node.reported() == [2, 4]


async def test_a_missing_gpu_is_not_used_and_is_named_missing(node: Node) -> None:
    node.learn(NOON)
    for text in (NODE, without_gpu(NODE, "1"), without_gpu(NODE, "1"), NODE, NODE):
        await node.look(text)
    assert node.reported() == [1, 2, 3, 5]
    missing = f"{LEASE}: 1 of its 2 GPUs are there"
    assert node.told == [missing, f"no longer: {missing}"]


async def test_an_instance_of_a_gpu_is_the_gpu(node: Node) -> None:
    node.learn(NOON)
    for text in (MIG_NODE, MIG_NODE, NODE):
        await node.look(text)
    assert node.reported() == [1, 2]


@pytest.mark.parametrize("away", [None, "<html>"])
async def test_what_cannot_be_seen_is_a_gap_and_not_use(node: Node, away: str | None) -> None:
    node.learn(NOON)
    for text in (NODE, NODE, away, NODE, NODE):
        await node.look(text)
    assert node.reported() == [2, 4]


async def test_an_exporter_that_is_not_there_at_all_is_a_gap_too(tmp_path: Path) -> None:
    exporter = Exporter()
    async with exporter.running():
        node = Node(exporter, tmp_path / "spool")
        node.learn(NOON)
        await node.look()
        await node.look()
    await node.look()
    assert any("cannot be reached" in line for line in node.told)
    async with exporter.running():
        await node.look()
        await node.look()
    assert node.reported() == [2, 4]
    node.spool.close()


async def test_a_meter_that_was_away_too_long_leaves_a_gap_and_a_restart_none(node: Node) -> None:
    node.learn(NOON)
    await node.look()
    await node.look(minutes=3)
    node.restart()
    await node.look(minutes=4)
    node.restart()
    await node.look()
    await node.look()
    assert node.reported() == [2, 8, 10]


async def test_a_clock_that_goes_back_counts_no_time_twice(node: Node) -> None:
    node.learn(NOON)
    for minutes in (1, 1, -2):
        await node.look(minutes=minutes)
    for text in (None, NODE, NODE, NODE):
        await node.look(text)
    assert node.reported() == [2, 4, 6]


async def test_nothing_counts_before_its_buyer_accepts_and_all_does_from_then_on(node: Node) -> None:
    node.learn(None)
    for _ in range(4):
        await node.look()
    assert node.reported() == []
    node.learn(NOON + MINUTE_MS)
    await node.look()
    assert node.reported() == [6], "from acceptance, though the meter heard of it later"


async def test_nothing_counts_after_the_end_and_the_last_report_says_that_it_is_the_last(node: Node) -> None:
    node.learn(NOON, until=NOON + 2 * MINUTE_MS + 30_000)
    await node.look()
    await node.look(minutes=2)
    assert [report.final for report in node.spool.waiting(9)] == [False]
    await node.look()
    last = node.spool.waiting(9)[-1]
    assert (last.gpu_ms, last.measured_at, last.final) == (5 * MINUTE_MS, NOON + 2 * MINUTE_MS + 30_000, False)
    for report in node.spool.waiting(9):
        with node.spool.transaction():
            node.spool.answered(report, taken=True)
    await node.look()
    (last,) = node.spool.waiting(9)
    assert (last.sequence, last.gpu_ms, last.final) == (3, 5 * MINUTE_MS, True)
    assert not node.meter.done
    with node.spool.transaction():
        node.spool.answered(last, taken=True)
    await node.look()
    assert node.meter.done


async def test_a_lease_that_ended_early_is_reported_down_to_its_end_once_the_rest_is_refused(node: Node) -> None:
    node.learn(NOON)
    for _ in range(5):
        await node.look()
    assert node.reported() == [2, 4, 6, 8]
    node.learn(NOON, until=NOON + 150_000)
    for report in node.spool.waiting(9):
        with node.spool.transaction():
            node.spool.answered(report, taken=report.measured_at <= NOON + 150_000)
    await node.look()
    (last,) = node.spool.waiting(9)
    assert (last.sequence, last.gpu_ms, last.final) == (5, 5 * MINUTE_MS, True)


async def test_a_report_that_was_written_never_changes(node: Node) -> None:
    node.learn(NOON)
    written: dict[int, Report] = {}
    for text in (NODE, NODE, None, NODE, NODE, without_gpu(NODE, "0"), NODE):
        await node.look(text)
        node.restart()
        for report in node.spool.waiting(9):
            assert written.setdefault(report.sequence, report) == report
    assert len(written) == 4


async def test_without_the_exchange_s_clock_nothing_is_metered(node: Node) -> None:
    await node.look()
    assert node.spool.lease(LEASE) == LeaseRow(LEASE)
    assert "not been reached yet" in node.told[0]


# The bound of the spool


async def test_a_spool_full_of_reports_says_so_and_the_next_report_has_what_it_could_not_say(node: Node) -> None:
    node.learn(NOON)
    node.restart(max_reports=2)
    for _ in range(5):
        await node.look()
    assert node.reported() == [2, 4]
    (full,) = node.told
    assert "is full: 2 reports wait for the exchange" in full
    for report in node.spool.waiting(9):
        with node.spool.transaction():
            node.spool.answered(report, taken=True)
    await node.look()
    (last,) = node.spool.waiting(9)
    assert (last.sequence, last.gpu_ms) == (3, 10 * MINUTE_MS)
    assert node.told == [full, f"no longer: {full}"]


async def test_a_spool_full_of_use_says_that_it_meters_no_more(node: Node) -> None:
    node.learn(None)
    node.restart(max_runs=1)
    for text in (NODE, NODE, without_gpu(NODE, "1"), without_gpu(NODE, "1")):
        await node.look(text)
    assert node.spool.runs(LEASE) == [Run(NOON, NOON + MINUTE_MS, 2)]
    assert "is not metered until the exchange takes them" in node.told[0]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path / "spool")) as spool:
        yield spool


def test_a_spool_has_one_meter(spool: Spool) -> None:
    with pytest.raises(SpoolError, match="another meter has it: give this one a --spool of its own"):
        Spool(spool.path.parent)


def test_a_spool_in_no_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="cannot be opened"):
        Spool(tmp_path / "file")
