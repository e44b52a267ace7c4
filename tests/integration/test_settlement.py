"""From fill to closed lease, on a real Postgres: every figure exact, every refusal by rule, every restart the same."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from schemas import units
from schemas.commands import Side
from schemas.events import Rejected, Ticked
from schemas.instructions import Accept, Deliver, Deposit, UsageReport
from schemas.refusals import Refusal
from schemas.store import Account, CloseReason, Lease, LeaseState, OrderStatus, PlaceStatus
from schemas.units import HOUR_MS, MINUTE_MS
from settlement.audit import audit
from settlement.store import Store
from tests.settling import SPEC, Market, ScriptedLog, bid_of, settling

PRICE, LIMIT, FEE_BPS = 2_499_997, 2_611_113, 133
QUANTITY, HOURS = 3, 2
MONEY = 100 * units.MICRO
WHOLE = QUANTITY * HOURS * HOUR_MS


@pytest.fixture
async def market(store: Store) -> AsyncIterator[Market]:
    log = ScriptedLog()
    async with settling(log, store):
        market = Market(log, store)
        await market.open()
        yield market
        found = await audit(store, log)
        assert found.findings == []
        assert found.imbalance_microusd == 0


@pytest.fixture
async def buyer(market: Market) -> Account:
    return await market.account("buyer", fee_bps=FEE_BPS, money=MONEY)


@pytest.fixture
async def seller(market: Market) -> Account:
    return await market.account("seller", fee_bps=FEE_BPS)


async def sold(market: Market, buyer: Account, seller: Account) -> Lease:
    return await lease_of(market, await market.sell(buyer, seller, price=PRICE, limit=LIMIT))


async def lease_of(market: Market, lease: tuple[int, int]) -> Lease:
    found = await market.store.lease(lease)
    assert found is not None
    return found


async def running(market: Market, buyer: Account, seller: Account) -> Lease:
    """Delivered and accepted before its window begins."""
    lease = await sold(market, buyer, seller)
    assert (await market.instruct(Deliver(lease.id, seller.id, "ssh there"))).refusal is None
    assert (await market.instruct(Accept(lease.id, buyer.id))).refusal is None
    return await lease_of(market, lease.id)


async def test_a_fill_moves_exactly_its_cost_and_fee_from_hold_to_escrow(
    market: Market, buyer: Account, seller: Account
) -> None:
    lease = await sold(market, buyer, seller)
    escrow = PRICE * 6 + PRICE * 6 * FEE_BPS // 10_000
    assert lease.escrow == escrow
    balance = await market.store.balance(buyer.id)
    assert (balance.cash, balance.held, balance.escrow) == (MONEY - escrow, 0, escrow)
    assert (lease.state, lease.deliver_by) == (LeaseState.PENDING_DELIVERY, lease.start + SPEC.delivery_due_ms)


async def test_use_in_any_order_is_charged_once_and_the_rest_goes_back(
    market: Market, buyer: Account, seller: Account
) -> None:
    lease = await running(market, buyer, seller)
    market.log.time = lease.end
    used = WHOLE - 123_457
    for sequence, gpu_ms in ((2, 5_000_001), (1, 1_000), (1, 1_000), (4, used), (3, 7_000_003)):
        assert (await market.report(UsageReport(lease.id, seller.id, sequence, gpu_ms))).refusal is None
    assert (await market.report(UsageReport(lease.id, seller.id, 5, used, final=True))).refusal is None
    closed = await lease_of(market, lease.id)
    cost, fee = PRICE * used // HOUR_MS, PRICE * used * FEE_BPS // (HOUR_MS * 10_000)
    assert (closed.state, closed.close_reason) == (LeaseState.CLOSED, CloseReason.COMPLETED)
    assert (closed.charged, closed.earned, closed.escrow) == (cost + fee, cost - fee, 0)
    assert (await market.store.balance(buyer.id)).cash == MONEY - cost - fee
    assert (await market.store.balance(seller.id)).receivable == cost - fee


async def test_nothing_is_billed_before_acceptance(market: Market, buyer: Account, seller: Account) -> None:
    lease = await sold(market, buyer, seller)
    market.log.time = lease.start + 5 * MINUTE_MS
    await market.instruct(Deliver(lease.id, seller.id, "ssh there"))
    market.log.time = lease.start + 9 * MINUTE_MS
    await market.instruct(Accept(lease.id, buyer.id))
    market.log.time = lease.start + 10 * MINUTE_MS
    over = await market.report(UsageReport(lease.id, seller.id, 1, QUANTITY * MINUTE_MS + 1))
    assert over.refusal is Refusal.USAGE_ABOVE_ALLOCATED
    assert (await market.report(UsageReport(lease.id, seller.id, 1, QUANTITY * MINUTE_MS))).refusal is None


async def test_what_is_not_delivered_in_time_is_void_and_paid_back(
    market: Market, buyer: Account, seller: Account
) -> None:
    lease = await sold(market, buyer, seller)
    market.log.time = lease.deliver_by + 1
    await market.execute(Ticked())
    void = await lease_of(market, lease.id)
    assert (void.state, void.close_reason) == (LeaseState.CLOSED, CloseReason.NOT_DELIVERED)
    assert (await market.store.balance(buyer.id)).cash == MONEY
    late = await market.instruct(Deliver(lease.id, seller.id, "ssh there"))
    assert late.refusal is Refusal.LEASE_STATE


async def test_silence_after_delivery_is_acceptance_at_the_moment_it_is_due(
    market: Market, buyer: Account, seller: Account
) -> None:
    lease = await sold(market, buyer, seller)
    await market.instruct(Deliver(lease.id, seller.id, "ssh there"))
    delivered = market.log.time
    market.log.time += SPEC.acceptance_ms + 1
    await market.execute(Ticked())
    accepted = await lease_of(market, lease.id)
    assert (accepted.state, accepted.accepted_at) == (LeaseState.ACTIVE, delivered + SPEC.acceptance_ms)


async def test_without_a_last_report_the_rest_goes_back_after_the_grace_time(
    market: Market, buyer: Account, seller: Account
) -> None:
    lease = await running(market, buyer, seller)
    market.log.time = lease.end + SPEC.grace_ms + 1
    await market.execute(Ticked())
    closed = await lease_of(market, lease.id)
    assert (closed.state, closed.charged, closed.escrow) == (LeaseState.CLOSED, 0, 0)
    assert (await market.store.balance(buyer.id)).cash == MONEY


async def test_wrong_use_is_refused_by_rule_and_changes_nothing(
    market: Market, buyer: Account, seller: Account
) -> None:
    lease = await running(market, buyer, seller)
    market.log.time = lease.start + HOUR_MS
    good = UsageReport(lease.id, seller.id, 5, 5_000)
    assert (await market.report(good)).refusal is None
    before = await lease_of(market, lease.id)
    for wrong, why in (
        (UsageReport(lease.id, seller.id, 5, 5_001), Refusal.USAGE_CONFLICT),
        (UsageReport(lease.id, seller.id, 6, 4_999), Refusal.USAGE_BACKWARDS),
        (UsageReport(lease.id, seller.id, 4, 5_001), Refusal.USAGE_BACKWARDS),
        (UsageReport(lease.id, seller.id, 6, QUANTITY * HOUR_MS + 1), Refusal.USAGE_ABOVE_ALLOCATED),
        (UsageReport(lease.id, seller.id, 6, 6_000, final=True), Refusal.USAGE_NOT_YET_FINAL),
        (UsageReport(lease.id, buyer.id, 6, 6_000), Refusal.UNKNOWN_LEASE),
        (UsageReport((lease.id[0], 7), seller.id, 1, 1), Refusal.UNKNOWN_LEASE),
    ):
        assert (await market.report(wrong)).refusal is why
    assert await lease_of(market, lease.id) == before


async def test_only_the_right_party_delivers_and_accepts(market: Market, buyer: Account, seller: Account) -> None:
    lease = await sold(market, buyer, seller)
    assert (await market.instruct(Deliver(lease.id, buyer.id, "ssh there"))).refusal is Refusal.UNKNOWN_LEASE
    assert (await market.instruct(Accept(lease.id, buyer.id))).refusal is Refusal.LEASE_STATE
    await market.instruct(Deliver(lease.id, seller.id, "ssh there"))
    assert (await market.instruct(Accept(lease.id, seller.id))).refusal is Refusal.UNKNOWN_LEASE


async def test_a_deposit_counts_once_for_ever(market: Market, buyer: Account) -> None:
    assert (await market.instruct(Deposit(buyer.id, 5, "wire"))).refusal is None
    assert (await market.instruct(Deposit(buyer.id, 5, "wire"))).refusal is None
    assert (await market.instruct(Deposit(buyer.id, 6, "wire"))).refusal is Refusal.REFERENCE_REUSED
    assert (await market.instruct(Deposit(buyer.id, 0, "none"))).refusal is Refusal.AMOUNT_OUT_OF_RANGE
    assert (await market.instruct(Deposit(buyer.id + 100, 5, "nobody"))).refusal is Refusal.UNKNOWN_ACCOUNT
    assert (await market.store.balance(buyer.id)).cash == MONEY + 5


async def test_a_refused_order_gives_its_hold_back_and_keeps_the_reason(market: Market, buyer: Account) -> None:
    bid = bid_of(buyer, LIMIT, 2, 1, market.log.time)
    await market.intend(bid)
    assert (await market.store.balance(buyer.id)).held == units.hold(LIMIT, 2, HOUR_MS, FEE_BPS)
    await market.execute(Rejected(buyer.id, "bid", Refusal.PRICE_OFF_TICK, (LIMIT, 100, SPEC.class_id)))
    order = await market.store.order_by_client_id(buyer.id, "bid")
    assert order is not None
    assert (order.status, order.refusal, order.held) == (OrderStatus.REJECTED, Refusal.PRICE_OFF_TICK, 0)
    assert (await market.store.balance(buyer.id)).cash == MONEY


async def test_an_intent_that_never_reached_the_log_is_lost_once_its_time_is_over(
    market: Market, buyer: Account
) -> None:
    bid = bid_of(buyer, LIMIT, 2, 1, market.log.time)
    await market.intend(bid)
    market.log.time = bid.not_after
    await market.execute(Ticked())
    assert (await market.store.balance(buyer.id)).held > 0, "it may still come"
    market.log.time = bid.not_after + 1
    await market.execute(Ticked())
    order = await market.store.order_by_client_id(buyer.id, "bid")
    assert order is not None
    assert order.status is OrderStatus.LOST
    assert (await market.store.balance(buyer.id)).cash == MONEY


async def test_a_bid_that_came_past_the_gateways_never_makes_cash_negative(
    market: Market, buyer: Account, seller: Account
) -> None:
    poor = await market.account("poor")
    bid = bid_of(poor, LIMIT, 2, 1, market.log.time)
    place = await market.accept(bid)
    order = await market.store.order(poor.id, place)
    assert order is not None
    assert (order.side, order.held) == (Side.BID, 0)


async def test_equal_intents_at_once_are_one_order_and_funds_cover_no_more_than_there_are(
    market: Market, buyer: Account
) -> None:
    bid = bid_of(buyer, LIMIT, 1, 1, market.log.time, "same")
    answers = await asyncio.gather(*(market.intend(bid) for _ in range(200)))
    assert [answer.status for answer in answers].count(PlaceStatus.NEW) == 1
    assert {answer.status for answer in answers} == {PlaceStatus.NEW, PlaceStatus.REPLAY}
    assert (await market.intend(bid, digest=b"other")).status is PlaceStatus.CONFLICT
    each = units.hold(LIMIT, 1, HOUR_MS, FEE_BPS)
    covered = (MONEY - each) // each
    bids = [bid_of(buyer, LIMIT, 1, 1, market.log.time, f"bid {number}") for number in range(10 * covered)]
    answers = await asyncio.gather(*(market.intend(bid) for bid in bids))
    statuses = [answer.status for answer in answers]
    assert (statuses.count(PlaceStatus.NEW), statuses.count(PlaceStatus.NO_FUNDS)) == (covered, 9 * covered)
    assert (await market.store.balance(buyer.id)).cash == MONEY - each - covered * each


async def test_settlement_that_starts_again_after_every_record_comes_to_the_same_ledger(dsn: str) -> None:
    store = await Store.connect(dsn)
    log = ScriptedLog()
    market = Market(log, store)
    try:
        async with settling(log, store):
            buyer = await market.account("buyer", fee_bps=FEE_BPS, money=MONEY)
            seller = await market.account("seller", fee_bps=FEE_BPS)
        async with settling(log, store):
            await market.open()
        async with settling(log, store):
            lease = await market.sell(buyer, seller, price=PRICE, limit=LIMIT)
        for instruction in (Deliver(lease, seller.id, "ssh there"), Accept(lease, buyer.id)):
            async with settling(log, store):
                assert (await market.instruct(instruction)).refusal is None
        log.time += 3 * HOUR_MS
        for sequence in (1, 2, 3):
            async with settling(log, store):
                await market.report(UsageReport(lease, seller.id, sequence, sequence * 1_111_111, final=sequence == 3))
        async with settling(log, store):
            found = await audit(store, log)
        assert (found.findings, found.imbalance_microusd, found.fills) == ([], 0, 1)
        assert (await lease_of(market, lease)).charged == units.escrow(PRICE, 1, 3_333_333, FEE_BPS)
    finally:
        await store.close()


CORRUPTIONS = {
    "UPDATE entries SET amount = amount + 1 WHERE amount > 0 AND ledger_account < 0": "the entries of transaction",
    "UPDATE ledger_accounts SET balance = balance + 1 WHERE kind = 'payable'": "what account",
    "UPDATE ledger_accounts SET balance = balance + 1 WHERE kind = 'cash'": "the balance of ledger account",
    "UPDATE orders SET held = held + 1 WHERE side = 0": "what is held for order",
    "UPDATE leases SET charged = charged + 1": "the bill of lease number",
    "UPDATE leases SET used_gpu_ms = used_gpu_ms - 1": "the use of lease number",
    "UPDATE leases SET quantity = quantity + 1": "lease lse_",
    "DELETE FROM leases": "the number of leases",
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
async def test_the_audit_finds_what_was_tampered_with(dsn: str, corruption: str) -> None:
    store = await Store.connect(dsn)
    log = ScriptedLog()
    market = Market(log, store)
    try:
        async with settling(log, store):
            await market.open()
            buyer = await market.account("buyer", fee_bps=FEE_BPS, money=MONEY)
            seller = await market.account("seller", fee_bps=FEE_BPS)
            lease = await running(market, buyer, seller)
            log.time = lease.start + HOUR_MS
            await market.report(UsageReport(lease.id, seller.id, 1, 5_000_000))
        assert (await audit(store, log)).findings == []
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute("SET session_replication_role = replica")
            await connection.execute(corruption)
        finally:
            await connection.close()
        findings = (await audit(store, log)).findings
        assert any(finding.what.startswith(CORRUPTIONS[corruption]) for finding in findings), findings
    finally:
        await store.close()


async def test_the_database_itself_refuses_unbalanced_and_changed_entries(dsn: str, store: Store) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        added = await connection.fetchval("INSERT INTO transactions (reference, time) VALUES ('x', 0) RETURNING id")
        with pytest.raises(asyncpg.CheckViolationError, match="do not sum to 0"):
            await connection.execute("INSERT INTO entries VALUES ($1, 6, -5), ($1, 7, 4)", added)
        await connection.execute("INSERT INTO entries VALUES ($1, 6, -5), ($1, 7, 5)", added)
        for change in ("UPDATE entries SET amount = 6", "DELETE FROM entries", "TRUNCATE entries"):
            with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="is written once"):
                await connection.execute(change)
    finally:
        await connection.close()
