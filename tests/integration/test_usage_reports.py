"""What was used over any time: however it is divided, the parts add up to the bill, to the last micro-dollar."""

import itertools
from collections.abc import AsyncIterator
from random import Random

import msgspec
import pytest

from gateways.client import ExchangeError
from gateways.client.types import UsageReport
from schemas.commands import Side
from schemas.events import Filled
from schemas.ids import LeaseId
from schemas.instructions import Accept, Deliver, End
from schemas.instructions import UsageReport as Logged
from schemas.store import Account, Lease, LeaseState, Use
from schemas.units import HOUR_MS, MAX_TIME_MS, MINUTE_MS
from settlement.metering import bill
from settlement.store import Store
from tests.integration.conftest import CLASS, Venue
from tests.settling import FEE_BPS, SPEC, Market, ScriptedLog, ask_of, bid_of, fill_of, trading

PRICE, REFUND_BPS = 2_499_997, 7_777
NOTHING = Use(0, 0, 0, 0, 0)


@pytest.fixture
async def market(log: ScriptedLog, store: Store) -> AsyncIterator[Market]:
    async with trading(log, store, msgspec.structs.replace(SPEC, refund_bps=REFUND_BPS)) as market:
        yield market


async def running(market: Market, buyer: Account, seller: Account, quantity: int, hours: int) -> LeaseId:
    """A lease from the next full hour on, delivered and accepted before it."""
    start, name = -(-market.log.time // HOUR_MS) * HOUR_MS, str(market.next_place)
    ask = msgspec.structs.replace(ask_of(seller, PRICE, quantity, start), client_order_id=name)
    bid = msgspec.structs.replace(bid_of(buyer, PRICE, quantity, hours, start), client_order_id=name)
    await market.intend(ask)
    ask_id = await market.accept(ask)
    await market.intend(bid)
    place = market.next_place
    fill = fill_of(place, ask_id, buyer, seller, price=PRICE, quantity=quantity, start=start, hours=hours)
    await market.accept(bid, fill, Filled(place, buyer.id))
    assert (await market.instruct(Deliver((place, 0), seller.id, "ssh there"))).refusal is None
    assert (await market.instruct(Accept((place, 0), buyer.id))).refusal is None
    return place, 0


async def dealings(market: Market, buyer: Account, seller: Account, random: Random) -> list[LeaseId]:
    """Leases that are metered in every kind of wrong order, some of which end early."""
    leases: list[tuple[LeaseId, int]] = []
    for step in range(50):
        market.log.time += random.randrange(20 * MINUTE_MS)
        if step % 12 == 0:
            quantity = random.randint(1, 4)
            leases.append((await running(market, buyer, seller, quantity, random.randint(1, 5)), quantity))
        lease, quantity = random.choice(leases)
        if random.random() < 0.1:
            await market.instruct(End(lease, buyer.id))
            continue
        found = await market.store.lease(lease)
        assert found is not None
        measured_at = market.log.time - random.randrange(2 * HOUR_MS)
        most = max(0, quantity * (min(measured_at, found.ends_at or found.end) - found.start))
        figure = random.choice([most, random.randint(0, most), found.used_gpu_ms])
        said = Logged(lease, seller.id, found.last_sequence + random.randint(-2, 3), figure, measured_at=measured_at)
        await market.report(random.choice([said, msgspec.structs.replace(said, measured_at=0)]))
    return [lease for lease, _ in leases]


def total(uses: list[Use]) -> Use:
    return Use(*(sum(figures) for figures in zip(*map(msgspec.structs.astuple, [NOTHING, *uses]), strict=True)))


async def model(store: Store, leases: list[LeaseId], role: Side, since: int, until: int) -> Use:
    """What was used, reckoned from the reports one by one."""
    parts = []
    for lease in leases:
        found = await store.lease(lease)
        assert found is not None
        reports = await store.usage(lease, after=0, limit=1000)
        figures, bills = [], []
        for moment in (since, until):
            used = max((report.gpu_ms for report in reports if report.measured_at <= moment), default=0)
            is_lost = found.ends_at is not None and max(found.start, found.ends_at) < moment
            figures.append((used, found.forfeited_gpu_ms * is_lost))
            bills.append(bill(PRICE, sum(figures[-1]), FEE_BPS, FEE_BPS))
        fees = [each.buyer_fee if role is Side.BID else each.seller_fee for each in bills]
        amounts = [each.charged if role is Side.BID else each.earned for each in bills]
        used, lost = (after - before for before, after in zip(*figures, strict=True))
        parts.append(Use(used, lost, bills[1].cost - bills[0].cost, fees[1] - fees[0], amounts[1] - amounts[0]))
    return total(parts)


@pytest.mark.parametrize("seed", range(4))
async def test_however_time_is_divided_the_parts_add_up_to_the_bill(
    market: Market, buyer: Account, seller: Account, seed: int
) -> None:
    random, store = Random(seed), market.store
    leases = await dealings(market, buyer, seller, random)
    found = [lease for each in leases if (lease := await store.lease(each)) is not None]
    assert any(lease.used_gpu_ms for lease in found)
    begin, end = min(lease.start for lease in found), max(lease.end for lease in found)
    reports = [report for each in leases for report in await store.usage(each, after=0, limit=99)]
    moments = [random.choice(reports).measured_at for _ in range(4)]
    cuts = sorted({0, MAX_TIME_MS, *moments, *(random.randrange(begin, end) for _ in range(4)), begin + HOUR_MS})
    for role, account in ((Side.BID, buyer), (Side.ASK, seller)):
        by_lease: dict[LeaseId, list[Use]] = {each: [] for each in leases}
        by_hour: list[Use] = []
        for since, until in itertools.pairwise(cuts):
            rows = await store.usage_by_lease(account.id, role=role, since=since, until=until, before=None, limit=100)
            for row in rows:
                by_lease[row.lease].append(row.use)
            hours = await store.usage_by_hour(account.id, role=role, lease=None, since=since, until=until)
            assert total([hour.use for hour in hours]) == total([row.use for row in rows])
            for hour in hours:
                assert hour.use == await model(store, leases, role, hour.since, hour.until)
                assert (hour.since // HOUR_MS, since <= hour.since < hour.until <= until) == (
                    (hour.until - 1) // HOUR_MS,
                    True,
                )
            by_hour += [hour.use for hour in hours]
        for lease in found:
            billed = total(by_lease[lease.id])
            assert (billed.gpu_ms, billed.forfeited_gpu_ms) == (lease.used_gpu_ms, lease.forfeited_gpu_ms)
            assert billed.amount == (lease.charged if role is Side.BID else lease.earned)
            alone = await store.usage_by_hour(account.id, role=role, lease=lease.id, since=0, until=MAX_TIME_MS)
            assert total([hour.use for hour in alone]) == billed
        assert total(by_hour) == total([use for uses in by_lease.values() for use in uses])


async def test_an_hour_has_what_was_measured_after_its_beginning_until_its_end(
    market: Market, buyer: Account, seller: Account
) -> None:
    lease = await running(market, buyer, seller, 2, 3)
    found = await market.store.lease(lease)
    assert found is not None
    market.log.time = found.end
    minutes = {1: 60, 2: 90, 3: 120, 4: 150}
    for sequence, minute in minutes.items():
        at = found.start + minute * MINUTE_MS
        said = Logged(lease, seller.id, sequence, 2 * minute * MINUTE_MS, measured_at=at)
        assert (await market.report(said)).refusal is None
    hours = await market.store.usage_by_hour(buyer.id, role=Side.BID, lease=None, since=0, until=MAX_TIME_MS)
    assert [((hour.since - found.start) // HOUR_MS, hour.use.gpu_ms // MINUTE_MS) for hour in hours] == [
        (0, 120),
        (1, 120),
        (2, 60),
    ]


async def ended(market: Market, buyer: Account, seller: Account) -> Lease:
    lease = await running(market, buyer, seller, 2, 3)
    found = await market.store.lease(lease)
    assert found is not None
    market.log.time = found.start - 1
    assert (await market.instruct(End(lease, buyer.id))).refusal is None
    closed = await market.store.lease(lease)
    assert closed is not None
    return closed


async def test_what_is_forfeited_is_of_when_it_would_have_been_used(
    market: Market, buyer: Account, seller: Account
) -> None:
    lease = await ended(market, buyer, seller)
    assert lease.forfeited_gpu_ms > 0
    assert lease.state is LeaseState.ENDED
    (hour,) = await market.store.usage_by_hour(buyer.id, role=Side.BID, lease=None, since=0, until=MAX_TIME_MS)
    assert (hour.since, hour.use.gpu_ms, hour.use.forfeited_gpu_ms) == (lease.start, 0, lease.forfeited_gpu_ms)
    assert hour.use.amount == lease.charged


async def test_an_hour_in_which_only_something_was_forfeited_keeps_what_was_used_before(
    market: Market, buyer: Account, seller: Account
) -> None:
    lease = await running(market, buyer, seller, 2, 5)
    found = await market.store.lease(lease)
    assert found is not None
    market.log.time = found.start + 3 * HOUR_MS + 1
    said = Logged(lease, seller.id, 1, HOUR_MS, measured_at=found.start + HOUR_MS)
    assert (await market.report(said)).refusal is None
    assert (await market.instruct(End(lease, buyer.id))).refusal is None
    first, last = await market.store.usage_by_hour(buyer.id, role=Side.BID, lease=None, since=0, until=MAX_TIME_MS)
    assert (first.use.gpu_ms, first.use.forfeited_gpu_ms) == (HOUR_MS, 0)
    assert (last.since, last.use.gpu_ms) == (found.start + 3 * HOUR_MS, 0)
    assert last.use.forfeited_gpu_ms > 0


async def test_reports_over_the_api_come_in_parts_and_to_each_side_its_own(exchange: Venue) -> None:
    async with exchange.trader("cloud") as cloud, exchange.trader("developer") as developer:
        await cloud.sell(CLASS, gpus=8, price="2.50", hours=48)
        for _ in range(3):
            await developer.buy(CLASS, gpus=2, hours=1, max_price="2.60", start="now+0h", now_only=True)
        leases = await cloud.leases(role="supplier")
        for lease in leases:
            await cloud.deliver(lease.lease_id, "ssh gpu@host")
            await developer.accept(lease.lease_id)
        report = [UsageReport(lease_id=lease.lease_id, sequence=1, gpu_ms=0) for lease in leases]
        assert {answer.status for answer in await cloud.report_usage(report)} == {"accepted"}
        for role, trader in (("supplier", cloud), ("buyer", developer)):
            found = await trader.usage_by_lease(role=role)
            assert [use.lease_id for use in found] == [lease.lease_id for lease in leases]
            assert {(use.gpu_ms, use.amount, use.state) for use in found} == {(0, "0.00", "active")}
            assert await trader.usage_by_hour(role=role) == []
        assert await cloud.usage_by_lease(role="buyer") == []
        assert await developer.usage_by_lease(until=leases[0].start) == []
        with pytest.raises(ExchangeError) as not_its_part:
            await developer.usage_by_hour(leases[0].lease_id, role="supplier")
        assert (not_its_part.value.status, not_its_part.value.code) == (404, "unknown_lease")
        for since, until, field in (
            ("yesterday", None, "from"),
            ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", "until"),
        ):
            with pytest.raises(ExchangeError) as refused:
                await developer.usage_by_hour(since=since, until=until)
            assert (refused.value.status, refused.value.field) == (400, field)
