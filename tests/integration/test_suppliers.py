"""What became of suppliers' leases, as anyone sees it."""

import pytest

from gateways.client import Exchange, ExchangeError
from schemas import units
from schemas.attributes import Attributes, Tier
from schemas.events import Ticked
from schemas.ids import LeaseId
from schemas.instructions import Accept, Degrade, Deliver, Reclaim, Restore, UsageReport
from schemas.store import Account, Lease, Spread, SupplierRecord
from schemas.units import HOUR_MS, MINUTE_MS, format_time
from tests.integration.conftest import CLASS, Venue
from tests.integration.test_cli import cx, cx_json
from tests.settling import SPEC, Market, ask_of, bid_of, fill_of

PRICE, MONEY, QUANTITY, HOURS = 2_500_000, 1_000 * units.MICRO, 4, 2
WHOLE = QUANTITY * HOURS * HOUR_MS


async def sold(market: Market, buyer: Account, seller: Account, attributes: Attributes | None = None) -> LeaseId:
    """From the next full hour on, some minutes from now."""
    market.log.time += MINUTE_MS
    return await market.sell(
        buyer, seller, price=PRICE, limit=PRICE, quantity=QUANTITY, hours=HOURS, attributes=attributes
    )


async def used(market: Market, buyer: Account, seller: Account, *, late_ms: int = 0, gap_ms: int = 0) -> LeaseId:
    """A lease that was delivered and accepted so late, and metered all the time but for a gap on all GPUs; closed."""
    lease = await sold(market, buyer, seller)
    start = (await lease_of(market, lease)).start
    market.log.time = start + late_ms
    assert (await market.instruct(Deliver(lease, seller.id, "ssh there"))).refusal is None
    assert (await market.instruct(Accept(lease, buyer.id))).refusal is None
    market.log.time = start + HOURS * HOUR_MS
    gpu_ms = WHOLE - QUANTITY * (late_ms + gap_ms)
    assert (await market.report(UsageReport(lease, seller.id, 1, gpu_ms, final=True))).refusal is None
    return lease


async def lease_of(market: Market, lease: LeaseId) -> Lease:
    found = await market.store.lease(lease)
    assert found is not None
    return found


async def records(
    market: Market, *, since: int = 0, account: int | None = None, after: int = 0, limit: int = 10
) -> list[SupplierRecord]:
    until = market.log.time + 1
    return await market.store.supplier_records(since=since, until=until, account=account, after=after, limit=limit)


async def test_a_record_tells_deliveries_uptime_and_early_ends_by_lease(market: Market) -> None:
    buyer, good, bad = [await market.account(name, money=MONEY) for name in ("buyer", "good", "bad")]
    for minutes in range(10):
        await used(market, buyer, good, late_ms=minutes * MINUTE_MS, gap_ms=minutes * MINUTE_MS)
    void = await sold(market, buyer, bad)
    market.log.time = (await lease_of(market, void)).deliver_by + 1
    await market.execute(Ticked())
    poor, start = await market.account("poor"), market.log.time
    ask = await market.accept(ask_of(bad, PRICE, QUANTITY, start))
    bid = await market.accept(bid_of(poor, PRICE, QUANTITY, HOURS, start))
    await market.execute(
        fill_of(bid, ask, poor, bad, price=PRICE, quantity=QUANTITY, start=start, hours=HOURS)
    )  # void, as its buyer cannot pay: not the supplier's matter
    interruptible = Attributes(tier=Tier.INTERRUPTIBLE, notice_minutes=15)
    reclaimed = await sold(market, buyer, bad, interruptible)
    market.log.time = (await lease_of(market, reclaimed)).start
    await market.instruct(Deliver(reclaimed, bad.id, "ssh there"))
    await market.instruct(Accept(reclaimed, buyer.id))
    assert (await market.instruct(Reclaim(reclaimed, bad.id))).refusal is None
    market.log.time += 15 * MINUTE_MS
    report = UsageReport(reclaimed, bad.id, 1, QUANTITY * 15 * MINUTE_MS, final=True)
    assert (await market.report(report)).refusal is None
    first, second = await records(market)
    ups = [(120 - 2 * minutes) * 10_000 // (120 - minutes) for minutes in range(9, -1, -1)]
    assert first == SupplierRecord(
        good.id,
        "good",
        leases=10,
        delivered=10,
        not_delivered=0,
        degraded=9,
        ended_early=0,
        delivery_s=Spread(0, 240, 480),
        uptime_bps=Spread(ups[0], ups[4], ups[8]),
    )
    assert (second.leases, second.delivered, second.not_delivered, second.ended_early) == (2, 1, 1, 1)
    assert second.uptime_bps == Spread(10_000, 10_000, 10_000), "up to its end it worked"
    closed_last = (await lease_of(market, reclaimed)).closed_at
    assert closed_last is not None
    nothing, last = await records(market, since=closed_last)
    assert (nothing.leases, nothing.uptime_bps, nothing.delivery_s, last.leases) == (0, None, None, 1)
    assert [record.account for record in await records(market, limit=1)] == [good.id]
    assert [record.account for record in await records(market, after=good.id)] == [bad.id]
    assert await records(market, account=buyer.id) == [], "who sold nothing has no record"


async def test_degraded_time_is_no_uptime_though_it_is_metered_and_counts_once(market: Market) -> None:
    buyer, seller = [await market.account(name, money=MONEY) for name in ("buyer", "seller")]
    for gap_ms, expected in ((0, 10_000 - 1_250), (15 * MINUTE_MS, 10_000 - 1_250), (30 * MINUTE_MS, 10_000 - 2_500)):
        lease = await sold(market, buyer, seller)
        market.log.time = (await lease_of(market, lease)).start
        await market.instruct(Deliver(lease, seller.id, "ssh there"))
        await market.instruct(Accept(lease, buyer.id))
        market.log.time += HOUR_MS
        assert (await market.instruct(Degrade(lease, seller.id, 2, "link down"))).refusal is None
        market.log.time += HOUR_MS // 2
        assert (await market.instruct(Restore(lease, seller.id))).refusal is None
        market.log.time += HOUR_MS // 2
        final = UsageReport(lease, seller.id, 1, WHOLE - QUANTITY * gap_ms, final=True)
        assert (await market.report(final)).refusal is None
        assert (await lease_of(market, lease)).uptime_bps == expected


async def test_what_is_never_accepted_or_open_has_no_uptime_and_unmetered_time_is_none(
    market: Market,
) -> None:
    buyer, seller = [await market.account(name, money=MONEY) for name in ("buyer", "seller")]
    silent, void = [await sold(market, buyer, seller) for _ in range(2)]
    market.log.time = (await lease_of(market, silent)).start
    await market.instruct(Deliver(silent, seller.id, "ssh there"))
    assert (await lease_of(market, silent)).uptime_bps is None
    market.log.time += HOURS * HOUR_MS + SPEC.grace_ms + 1
    await market.execute(Ticked())
    assert [(await lease_of(market, lease)).uptime_bps for lease in (silent, void)] == [0, None]
    (record,) = await records(market)
    assert (record.delivered, record.not_delivered, record.uptime_bps) == (1, 1, Spread(0, 0, 0))


async def test_anyone_sees_suppliers_and_their_records(exchange: Venue) -> None:
    async with (
        exchange.trader("cloud") as cloud,
        exchange.trader("developer") as developer,
        Exchange(exchange.url) as anyone,
    ):
        await cloud.sell(CLASS, gpus=8, price="2.50", hours=24, tier="interruptible", notice_minutes=0)
        accepts = {"interruptible": True}
        order = await developer.buy(
            CLASS, gpus=8, hours=2, max_price="2.60", starts=["now+1h"], accepts=accepts, time_in_force="ioc"
        )
        (lease,) = await cloud.leases(role="supplier")
        assert (order.status, (await cloud.reclaim(lease.lease_id)).state) == ("filled", "closed")
        (record,) = await anyone.suppliers()
        assert (record.name, record.account_id, record.leases, record.ended_early) == ("cloud", lease.supplier, 1, 1)
        assert (record.delivered_on_time_bps, record.delivery_s, record.uptime_bps) == (None, None, None)
        same = await anyone.supplier_record(lease.supplier, since=record.since, until=record.until)
        assert same == record
        earlier = await anyone.suppliers(until=format_time(exchange.log.now() - HOUR_MS))
        assert [each.leases for each in earlier] == [0]
        for account, terms, status, code in (
            (lease.buyer, {}, 404, "unknown_account"),
            ("acc_zzz", {}, 404, "unknown_account"),
            ("cloud", {}, 400, "invalid"),
            (lease.supplier, {"since": record.until}, 400, "invalid"),
            (lease.supplier, {"since": "2020-01-01T00:00:00Z"}, 400, "invalid"),
        ):
            with pytest.raises(ExchangeError) as refused:
                await anyone.supplier_record(account, until=record.until, **terms)
            assert (refused.value.status, refused.value.code) == (status, code)
        env = {"CX_URL": exchange.url}
        assert (await cx_json("suppliers", lease.supplier, env=env))["ended_early"] == 1
        code_, out, _ = await cx("suppliers", env=env)
        assert (code_, "cloud" in out) == (0, True)
