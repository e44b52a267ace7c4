"""The meter against the real exchange, on a clock that runs 600 times faster: ten minutes a second."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest

from gateways.client import Exchange
from gateways.client.types import Lease, UsageReport
from gateways.log.embedded import EmbeddedLog
from gateways.meter.exporter import Source
from gateways.meter.meter import Meter, Metered, MeterError
from gateways.meter.spool import LeaseRow, Report, Spool
from schemas import codec
from schemas.instructions import UsageReport as Logged
from schemas.topics import USAGE
from schemas.units import HOUR_MS, parse_time, parse_usd
from settlement.audit import audit
from settlement.service import SettlementService
from settlement.store import Store
from tests.exporter import NODE, Exporter, Network, without_gpu
from tests.integration.conftest import CLASS, Venue, admin_key, engines, running, serving

SPEED = 600
INTERVAL_MS = 100
"""A minute on the exchange."""


@pytest.fixture
async def venue(tmp_path: Path, store: Store) -> AsyncIterator[Venue]:
    """An exchange with one class, whose clock runs fast. What it settled adds up."""
    log = await EmbeddedLog.open(tmp_path / "log", speed=SPEED)
    services = [*engines(log), SettlementService(log, store)]
    async with running(services), serving(log, store) as url:
        key = await admin_key(store, log)
        async with Exchange(url, key) as admin:
            await admin.create_class(CLASS, accelerator="H100", memory_gb=80, form_factor="SXM")
            yield Venue(url=url, key=key, admin=admin, log=log, store=store)
            assert (await audit(store, log)).findings == []
    await log.close()


@contextlib.asynccontextmanager
async def rented(venue: Venue, *, hours: int, accept: bool = True) -> AsyncIterator[tuple[str, Lease]]:
    """The key of a supplier's meter, and a lease of two GPUs that it has delivered."""
    cloud_key = await venue.key_of("cloud", "read", "supply", "meter")
    async with Exchange(venue.url, cloud_key) as cloud, venue.trader("developer") as developer:
        await cloud.sell(CLASS, gpus=8, price="2.50", hours=480)
        await developer.buy(CLASS, gpus=2, hours=hours, max_price="2.60", now_only=True)
        (lease,) = await cloud.leases(role="supplier")
        await cloud.deliver(lease.lease_id, "ssh gpu@node-17")
        if accept:
            await developer.accept(lease.lease_id)
        yield cloud_key, lease


@contextlib.asynccontextmanager
async def metering(
    url: str, key: str, lease: Lease, exporter: Exporter, folder: Path, told: list[str]
) -> AsyncIterator[tuple[Spool, asyncio.Task[None]]]:
    """A meter's spool, and its work, which ends by itself when all is metered."""
    spool = Spool(folder)
    async with Exchange(url, key) as exchange:
        metered = [Metered(lease.lease_id, [Source(exporter.url, ["0", "1"])])]
        work = asyncio.create_task(
            Meter(metered, exchange, spool, interval_ms=INTERVAL_MS, tell=told.append).run(), name="meter"
        )
        try:
            yield spool, work
        finally:
            work.cancel()
            await asyncio.wait({work})
            spool.close()


async def taken(cloud: Exchange, lease: Lease, *, closed: bool = False, more_than: int = 0) -> Lease:
    """The lease once more reports than that are taken, or it is closed."""
    async with asyncio.timeout(30):
        while True:
            found = await cloud.lease(lease.lease_id)
            if found.state == "closed" if closed else found.last_sequence > more_than:
                return found
            await asyncio.sleep(0.05)


async def hours_one_by_one(url: str, key: str) -> list[dict[str, object]]:
    """What the supplier's leases used in each hour, asked for by the hour."""
    found: list[dict[str, object]] = []
    query = {"by": "hour", "role": "supplier", "limit": "1"}
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as http:
        while True:
            async with http.get(f"{url}/v1/usage", params=query) as answer:
                part = await answer.json()
            found += [{name: value for name, value in item.items() if name != "by"} for item in part["items"]]
            if part["next"] is None:
                return found
            query["after"] = part["next"]


async def written(log: EmbeddedLog) -> list[Logged]:
    """All reports in the log, in its order."""
    reader = await log.reader(USAGE, 0, 0)
    records = await reader.poll(10_000, 0)
    reports = [codec.decode_usage(record.value) for record in records]
    return [report for report in reports if isinstance(report, Logged)]


async def assert_each_number_has_one_content_and_comes_in_order(log: EmbeddedLog) -> None:
    first: dict[int, Logged] = {}
    for report in await written(log):
        assert first.setdefault(report.sequence, report) == report
    assert list(first) == sorted(first), "a repeat aside, they come in order"
    figures = [report.gpu_ms for report in first.values()]
    assert figures == sorted(figures)


async def test_a_lease_is_metered_to_its_end_and_closed(venue: Venue, tmp_path: Path) -> None:
    told: list[str] = []
    async with (
        rented(venue, hours=1) as (key, lease),
        Exporter().running() as exporter,
        metering(venue.url, key, lease, exporter, tmp_path / "spool", told) as (_, work),
        Exchange(venue.url, key) as cloud,
    ):
        closed = await taken(cloud, lease, closed=True)
        await asyncio.wait_for(work, 10)
        assert closed.close_reason == "completed"
        assert 0.8 * 2 * HOUR_MS < closed.used_gpu_ms <= 2 * HOUR_MS
        assert told[-1] == f"{lease.lease_id}: metered to its end, {closed.used_gpu_ms} GPU-milliseconds"
        assert "refused" not in "".join(told)
        reports = await cloud.usage(lease.lease_id)
        assert reports[-1].measured_at == lease.end
        hours = await cloud.usage_by_hour(lease.lease_id, role="supplier")
        assert sum(hour.gpu_ms for hour in hours) == closed.used_gpu_ms
        assert closed.earned is not None
        assert sum(parse_usd(hour.amount) for hour in hours) == parse_usd(closed.earned)
        assert await hours_one_by_one(venue.url, key) == [msgspec.to_builtins(hour) for hour in hours]
        (whole,) = await cloud.usage_by_lease(role="supplier")
        assert (whole.gpu_ms, whole.amount, whole.state) == (closed.used_gpu_ms, closed.earned, "closed")
        assert [report.final for report in reports] == [False] * (len(reports) - 1) + [True]
    await assert_each_number_has_one_content_and_comes_in_order(venue.log)


async def test_what_is_metered_while_the_exchange_is_away_is_sent_in_order_when_it_is_back(
    venue: Venue, tmp_path: Path
) -> None:
    told: list[str] = []
    async with (
        rented(venue, hours=24) as (key, lease),
        Exporter().running() as exporter,
        Network(venue.url).running() as network,
        Exchange(venue.url, key) as cloud,
    ):
        async with metering(network.url, key, lease, exporter, tmp_path / "spool", told):
            before = await taken(cloud, lease)
            network.loses_answers = True
            before = await taken(cloud, lease, more_than=before.last_sequence)
            network.cut = True
            await asyncio.sleep(1)
        async with metering(network.url, key, lease, exporter, tmp_path / "spool", told) as (spool, _):
            await asyncio.sleep(1)  # it has restarted, and the exchange is still away
            waiting = spool.waiting(1000)
            assert len(waiting) > 10
            network.cut = network.loses_answers = False
            after = await taken(cloud, lease, more_than=waiting[-1].sequence)
        reports = {report.sequence: report for report in await cloud.usage(lease.lease_id)}
        for report in waiting:
            was = reports[report.sequence]
            assert (was.gpu_ms, parse_time(was.measured_at)) == (report.gpu_ms, report.measured_at)
            assert was.reported_at > was.measured_at, "it counts for when it was measured"
        used_ms = parse_time(reports[after.last_sequence].measured_at) - parse_time(lease.start)
        assert after.used_gpu_ms > 0.8 * 2 * used_ms, "nothing is lost but what no look showed"
    assert list(reports) == list(range(1, len(reports) + 1))
    await assert_each_number_has_one_content_and_comes_in_order(venue.log)


async def test_a_new_spool_goes_on_where_the_exchange_has_come_to(venue: Venue, tmp_path: Path) -> None:
    told: list[str] = []
    async with (
        rented(venue, hours=24) as (key, lease),
        Exporter().running() as exporter,
        Exchange(venue.url, key) as cloud,
    ):
        async with metering(venue.url, key, lease, exporter, tmp_path / "lost", told):
            before = await taken(cloud, lease, more_than=3)
        async with metering(venue.url, key, lease, exporter, tmp_path / "new", told):
            after = await taken(cloud, lease, more_than=before.last_sequence + 2)
        assert after.used_gpu_ms > before.used_gpu_ms
        (last,) = await cloud.usage(lease.lease_id, after=after.last_sequence - 1, limit=1)
        assert last.gpu_ms <= 2 * (parse_time(last.measured_at) - parse_time(lease.start)), "nothing counts twice"


async def test_what_the_exchange_refuses_is_told_with_its_reason(venue: Venue, tmp_path: Path) -> None:
    told: list[str] = []
    async with rented(venue, hours=24) as (key, lease), Exchange(venue.url, key) as cloud:
        await cloud.report_usage([UsageReport(lease_id=lease.lease_id, sequence=1, gpu_ms=0)])
        with contextlib.closing(Spool(tmp_path / "spool")) as spool:
            with spool.transaction():
                spool.save(LeaseRow(lease.lease_id, last_sequence=1))
                spool.add_report(Report(lease.lease_id, 1, 1, parse_time(lease.end), final=False))
            meter = Meter([Metered(lease.lease_id, [])], cloud, spool, interval_ms=INTERVAL_MS, tell=told.append)
            assert await meter.send()
            assert spool.waiting(1) == [], "an answer is an answer"
            assert spool.lease(lease.lease_id).taken_until == 0
    assert told == [
        f"{lease.lease_id}: report 1 is refused: usage 1 of this lease was reported before with another content"
    ]


async def test_gpus_that_the_lease_does_not_have_and_leases_of_others_are_not_metered(
    venue: Venue, tmp_path: Path
) -> None:
    told: list[str] = []
    async with rented(venue, hours=24) as (key, lease), Exchange(venue.url, key) as cloud:
        with contextlib.closing(Spool(tmp_path / "spool")) as spool:
            three = Metered(lease.lease_id, [Source("http://127.0.0.1:9", ["0", "1", "2"])])
            with pytest.raises(MeterError, match="has 2 GPUs, and 3 are named"):
                await Meter([three], cloud, spool, interval_ms=60_000, tell=told.append).send()
            others = Metered("lse_zzzz-0", [Source("http://127.0.0.1:9", ["0"])])
            assert not await Meter([others], cloud, spool, interval_ms=60_000, tell=told.append).send()
    assert told == ["lse_zzzz-0 is not metered: there is no lease lse_zzzz-0 of this account"]


@pytest.mark.long
async def test_cx_meter_survives_kill_9(venue: Venue, tmp_path: Path) -> None:
    async with (
        rented(venue, hours=2) as (key, lease),
        Exporter().running() as exporter,
        Exchange(venue.url, key) as cloud,
    ):
        words = ["--lease", lease.lease_id, "--gpus", "0,1", "--exporter", exporter.url, "--interval", "1"]
        words += ["--spool", str(tmp_path / "spool"), "--url", venue.url, "--key", key]
        for _ in range(2):
            before = await cloud.lease(lease.lease_id)
            process = await cx_meter(*words)
            await taken(cloud, lease, more_than=before.last_sequence)
            os.kill(process.pid, signal.SIGKILL)
            assert await process.wait() == -signal.SIGKILL
        exporter.text = without_gpu(NODE, "0")
        process = await cx_meter(*words, "--once")
        assert process.stdout is not None
        assert f"{lease.lease_id}: 1 of its 2 GPUs are there" in (await process.stdout.read()).decode()
        assert await process.wait() == 0
        process = await cx_meter(*words)
        closed = await taken(cloud, lease, closed=True)
        assert await process.wait() == 0, "all is metered"
        assert closed.close_reason == "completed"
        assert 0 < closed.used_gpu_ms < 4 * HOUR_MS
        hours = await cloud.usage_by_hour(role="supplier")
        assert await hours_one_by_one(venue.url, key) == [msgspec.to_builtins(hour) for hour in hours]
    await assert_each_number_has_one_content_and_comes_in_order(venue.log)


async def test_cx_meter_says_what_is_wrong_with_its_words(tmp_path: Path) -> None:
    config = tmp_path / "meter.json"
    config.write_text('{"leases": [{"lease_id": "lse_1-0", "gpus": []}]}')
    for words, code, part in (
        ((), 2, "say what to meter"),
        (("--lease", "lse_1-0"), 2, "say what to meter"),
        (("--config", str(config)), 2, "cannot be read: Object contains unknown field `gpus`"),
        (("--lease", "lse_1-0", "--gpus", "0", "--once", "--url", "http://127.0.0.1:9"), 3, "what is metered waits in"),
    ):
        process = await cx_meter(*words, "--spool", str(tmp_path / "spool"))
        out, err = await process.communicate()
        assert (process.returncode, part in (out + err).decode()) == (code, True), err.decode()


async def cx_meter(*words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateways.cli.main", "meter", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
