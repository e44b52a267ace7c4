"""Credits where a lease was not what its class promises: by hand on a log whose time is the test's, and through the
real exchange on a clock that runs fast."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from gateways.client import ExchangeError
from gateways.client.types import UsageReport as Report
from gateways.log.embedded import EmbeddedLog
from schemas import units
from schemas.attributes import Attributes, SlaStep, Tier
from schemas.commands import Side
from schemas.events import ClassChanged
from schemas.instructions import Accept, Deliver, End, Reclaim, Source, UsageReport, Withdrawal
from schemas.invoices import LineKind
from schemas.refusals import Refusal
from schemas.store import Account, Lease
from schemas.units import HOUR_MS, MINUTE_MS, month_of
from settlement.audit import audit
from settlement.store import Store
from tests.integration.conftest import CLASS, Venue
from tests.integration.test_cli import cx, cx_json
from tests.settling import FEE_BPS, MONEY, SPEC, Market, ScriptedLog, audited, settling, trading

PRICE = 2_499_997
QUANTITY, HOURS = 3, 2
WHOLE = QUANTITY * HOURS * HOUR_MS
PROMISING = msgspec.structs.replace(
    SPEC,
    sla=(SlaStep(9_990, 1_000), SlaStep(9_900, 2_500), SlaStep(5_000, 10_000)),
    reclaim_credit_bps=5_000,
)


@pytest.fixture
async def market(log: ScriptedLog, store: Store) -> AsyncIterator[Market]:
    async with trading(log, store, PROMISING) as market:
        yield market


async def running(market: Market, buyer: Account, seller: Account, attributes: Attributes | None = None) -> Lease:
    lease = await market.sell(buyer, seller, price=PRICE, limit=PRICE, attributes=attributes)
    assert (await market.instruct(Deliver(lease, seller.id, "ssh there"))).refusal is None
    assert (await market.instruct(Accept(lease, buyer.id))).refusal is None
    found = await market.lease(lease)
    market.log.time = found.start
    return found


async def closed(market: Market, lease: Lease, gpu_ms: int) -> Lease:
    market.log.time = max(market.log.time, lease.ends_at or lease.end)
    report = UsageReport(lease.id, lease.seller, 9, gpu_ms, final=True)
    assert (await market.report(report)).refusal is None
    return await market.lease(lease.id)


@pytest.mark.parametrize(
    ("missing_ms", "uptime_bps", "credit_bps"),
    [
        (0, 10_000, 0),
        (WHOLE // 1000, 9_990, 0),
        (WHOLE // 1000 + 1, 9_989, 1_000),
        (WHOLE // 100, 9_900, 1_000),
        (WHOLE // 80, 9_875, 2_500),
    ],
)
async def test_a_share_of_the_cost_goes_back_by_the_step_that_the_uptime_is_below(
    market: Market, buyer: Account, seller: Account, missing_ms: int, uptime_bps: int, credit_bps: int
) -> None:
    lease = await closed(market, await running(market, buyer, seller), WHOLE - missing_ms)
    credit = units.cost(PRICE, 1, WHOLE - missing_ms) * credit_bps // 10_000
    assert (lease.uptime_bps, lease.credited) == (uptime_bps, credit)
    assert (await market.store.balance(buyer.id)).cash == MONEY - lease.charged + credit
    assert (await market.store.balance(seller.id)).receivable == lease.earned - credit
    for account, role, sign in ((buyer, Side.BID, 1), (seller, Side.ASK, -1)):
        invoice = await market.store.invoice(account, month_of(lease.end - 1), role=role, after=None, limit=None)
        assert invoice is not None
        assert [line.amount for line in invoice.lines if line.kind is LineKind.CREDIT] == ([-credit] if credit else [])
        assert invoice.head.totals.amount * sign == (
            lease.charged - credit if role is Side.BID else -(lease.earned - credit)
        )


async def test_no_more_goes_back_than_the_supplier_earned_with_the_lease(
    market: Market, buyer: Account, seller: Account
) -> None:
    first = await closed(market, await running(market, buyer, seller), WHOLE)
    lease = await closed(market, await running(market, buyer, seller), WHOLE // 4)
    assert lease.earned < units.cost(PRICE, 1, WHOLE // 4), "its fee is the exchange's"
    assert (lease.uptime_bps, lease.credited) == (2_500, lease.earned)
    assert (await market.store.balance(seller.id)).receivable == first.earned


async def test_what_the_supplier_has_withdrawn_it_owes_and_pays_with_what_it_earns_next(
    market: Market, buyer: Account, seller: Account
) -> None:
    lease = await running(market, buyer, seller)
    market.log.time = lease.start + HOUR_MS
    assert (await market.report(UsageReport(lease.id, seller.id, 1, WHOLE // 2))).refusal is None
    earned = (await market.store.balance(seller.id)).receivable
    out = Withdrawal(seller.id, "all-but-7", Source.RECEIVABLE, earned - 7, "bank")
    assert (await market.instruct(out)).refusal is None
    lease = await closed(market, lease, WHOLE // 2)
    due = units.cost(PRICE, 1, WHOLE // 2) * 2_500 // 10_000
    assert (lease.uptime_bps, lease.credited) == (5_000, due)
    assert (await market.store.balance(buyer.id)).cash == MONEY - lease.charged + due, "however little is there"
    assert (await market.store.balance(seller.id)).receivable == 7 - due
    more = Withdrawal(seller.id, "more", Source.RECEIVABLE, 1, "bank")
    assert (await market.instruct(more)).refusal is Refusal.INSUFFICIENT_FUNDS
    again = await closed(market, await running(market, buyer, seller), WHOLE)
    assert (await market.store.balance(seller.id)).receivable == 7 - due + again.earned


async def test_a_supplier_that_takes_it_back_credits_a_share_of_the_rest_however_early_its_buyer_goes(
    market: Market, buyer: Account, seller: Account
) -> None:
    attributes = Attributes(tier=Tier.INTERRUPTIBLE, notice_minutes=30)
    for goes_early in (False, True):
        lease = await running(market, buyer, seller, attributes)
        market.log.time = lease.start + HOUR_MS
        assert (await market.instruct(Reclaim(lease.id, seller.id))).refusal is None
        if goes_early:
            assert (await market.instruct(End(lease.id, buyer.id))).refusal is None
        reclaimed = await market.lease(lease.id)
        assert reclaimed.ends_at is not None
        lease = await closed(market, reclaimed, QUANTITY * (reclaimed.ends_at - lease.start))
        rest = units.cost(PRICE, QUANTITY, HOURS * HOUR_MS - 90 * MINUTE_MS)
        assert (lease.uptime_bps, lease.credited) == (10_000, rest * 5_000 // 10_000)


async def test_what_the_class_said_at_the_fill_counts(market: Market, buyer: Account, seller: Account) -> None:
    lease = await running(market, buyer, seller)
    await market.execute(ClassChanged(SPEC))
    assert (await closed(market, lease, WHOLE // 4)).credited > 0
    assert (await closed(market, await running(market, buyer, seller), WHOLE // 4)).credited == 0


async def test_in_one_batch_it_comes_to_the_same_ledger(
    log: ScriptedLog, store: Store, bare_dsn: str, market: Market, buyer: Account, seller: Account
) -> None:
    for used in (WHOLE // 2, WHOLE // 4):
        market.log.time += MINUTE_MS  # what came before is earlier then, and so comes first in any batch
        await closed(market, await running(market, buyer, seller), used)
    again = await Store.connect(bare_dsn)
    try:
        for each in (buyer, seller):
            await again.create_account(each.name, buyer_fee_bps=FEE_BPS, seller_fee_bps=FEE_BPS, owner=None, now=0)
        async with settling(log, again):
            assert (await audited(log, again)).digest == (await audited(log, store)).digest
    finally:
        await again.close()


# Through the real exchange.


@pytest.fixture
async def embedded_log(tmp_path: Path) -> AsyncIterator[EmbeddedLog]:
    """A minute passes in a sixtieth of a second."""
    fast = await EmbeddedLog.open(tmp_path / "log", speed=3600)
    yield fast
    await fast.close()


async def when(exchange: Venue, ms: int) -> None:
    while exchange.log.now() < ms:  # noqa: ASYNC110 - the clock tells nobody
        await asyncio.sleep(0.01)


async def test_both_sides_see_what_is_promised_and_what_went_back_and_why(exchange: Venue) -> None:
    steps = [{"below_bps": 9_990, "credit_bps": 1_000}, {"below_bps": 9_000, "credit_bps": 2_500}]
    words = ("admin", "change-class", CLASS, "--sla", "9990:1000,9000:2500", "--reclaim-credit-bps", "700")
    admin = {"CX_URL": exchange.url, "CX_KEY": exchange.key}
    assert (await cx_json(*words, env=admin))["sla"] == steps
    code, _, error = await cx("admin", "change-class", CLASS, "--sla", "99%:10%", env=admin)
    assert (code, "write it like 9990:1000,9900:2500" in error) == (2, True)
    with pytest.raises(ExchangeError, match="the class's sla step is 9990:1000") as refused:
        await exchange.admin.change_class(CLASS, sla=[steps[1], steps[0]])
    assert refused.value.code == "class_invalid"
    async with exchange.trader("cloud") as cloud, exchange.trader("developer") as developer:
        await cloud.sell(CLASS, gpus=8, price="2.50", hours=48)
        order = await developer.buy(CLASS, gpus=8, hours=24, max_price="2.60", now_only=True)
        (lease,) = await developer.leases(order_id=order.order_id)
        assert (msgspec.to_builtins(lease.sla), lease.reclaim_credit_bps, lease.credit) == (steps, 700, None)
        await cloud.deliver(lease.lease_id, "ssh gpu@host")
        accepted = await developer.accept(lease.lease_id)
        began = max(units.parse_time(lease.start), units.parse_time(accepted.accepted_at or ""))
        await when(exchange, began + 40 * MINUTE_MS)
        ended = await developer.end(lease.lease_id)
        used = 8 * (units.parse_time(ended.ends_at or "") - began) * 3 // 4
        (answer,) = await cloud.report_usage([Report(lease.lease_id, 1, used, final=True)])
        assert answer.error is None
        seen = await developer.lease(lease.lease_id)
        credit = units.format_usd(units.cost(2_500_000, 1, used) * 2_500 // 10_000)
        assert seen.uptime_bps in (7_499, 7_500), "rounded down"
        reason = f"uptime {seen.uptime_bps / 100:.2f}% is below 90.00%: 25.00% of the cost"
        assert seen.credit is not None
        assert (seen.credit.amount, seen.credit.reason) == (credit, reason)
        assert (await cloud.lease(lease.lease_id)).credit == seen.credit
        lines = (await developer.invoice(units.format_time(began)[:7])).lines
        assert [(line.kind, line.amount) for line in lines if line.kind != "lease"] == [("credit", f"-{credit}")]
    assert (await audit(exchange.store, exchange.log)).findings == []
