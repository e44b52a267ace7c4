"""From fill to closed lease, on a real Postgres: every figure exact, every refusal by rule, every restart the same."""

import asyncio

import asyncpg
import msgspec
import pytest

from schemas import codec, units
from schemas.commands import HaltMode, PlaceBid, Side
from schemas.events import (
    AllCancelled,
    Cancelled,
    CancelReason,
    ClassChanged,
    ClassRetired,
    DeadManChanged,
    Duplicate,
    Extension,
    Filled,
    HaltChanged,
    KillChanged,
    LimitsChanged,
    ReferenceChanged,
    Rejected,
    Returned,
    RulesChanged,
    Ticked,
    Withdrawn,
)
from schemas.instructions import Accept, Deliver, Deposit, UsageReport
from schemas.refusals import Refusal
from schemas.store import (
    Account,
    AmendStatus,
    CloseReason,
    Lease,
    LeaseState,
    Listing,
    Order,
    OrderStatus,
    Placed,
    PlaceStatus,
    Spender,
)
from schemas.units import HOUR_MS, MINUTE_MS
from settlement import database, ledger, service
from settlement.audit import audit
from settlement.store import Store
from tests.settling import (
    SOON_S,
    SPEC,
    Market,
    ScriptedLog,
    accepted,
    amended,
    ask_of,
    audited,
    bid_of,
    fill_of,
    settling,
)

PRICE, LIMIT, FEE_BPS = 2_499_997, 2_611_113, 133
QUANTITY, HOURS = 3, 2
MONEY = 100 * units.MICRO
WHOLE = QUANTITY * HOURS * HOUR_MS


@pytest.fixture
async def buyer(market: Market) -> Account:
    return await market.account("buyer", fee_bps=FEE_BPS, money=MONEY)


async def sold(market: Market, buyer: Account, seller: Account) -> Lease:
    return await lease_of(market, await market.sell(buyer, seller, price=PRICE, limit=LIMIT))


async def lease_of(market: Market, lease: tuple[int, int]) -> Lease:
    found = await market.store.lease(lease)
    assert found is not None
    return found


async def order_of(market: Market, account: Account, order_id: int) -> Order:
    found = await market.store.order(account.id, order_id)
    assert found is not None
    return found


async def placed(market: Market, bid: PlaceBid) -> int:
    """A bid that came through a gateway and rests; its id."""
    assert (await market.intend(bid)).status is PlaceStatus.NEW
    return await market.accept(bid)


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


async def test_each_report_keeps_up_to_when_it_was_measured(market: Market, buyer: Account, seller: Account) -> None:
    lease = await running(market, buyer, seller)
    market.log.time = now = lease.start + HOUR_MS
    for sequence, measured_at in enumerate((7, lease.start + MINUTE_MS, 0, now + 5), 1):
        said = UsageReport(lease.id, seller.id, sequence, 0, measured_at=measured_at)
        assert (await market.report(said)).refusal is None
    kept = [usage.measured_at for usage in await market.store.usage(lease.id, after=0, limit=9)]
    assert kept == [lease.start, lease.start + MINUTE_MS, now, now]
    assert (await lease_of(market, lease.id)).last_sequence == 4


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


async def test_an_amend_changes_what_a_bid_holds_at_once(market: Market, buyer: Account) -> None:
    start = market.log.time
    bid = await placed(market, bid_of(buyer, LIMIT, 4, 2, start))
    for limit, quantity, hours in ((LIMIT, 3, 2), (LIMIT + 100_001, 5, 3), (LIMIT - 100_001, 5, 1), (LIMIT, 4, 2)):
        await market.amend(bid, bid_of(buyer, limit, quantity, hours, start))
        held = units.hold(limit, quantity, hours * HOUR_MS, FEE_BPS)
        order = await order_of(market, buyer, bid)
        assert (order.status, order.left, order.held, order.reason) == (OrderStatus.OPEN, quantity, held, "")
        balance = await market.store.balance(buyer.id)
        assert (balance.cash, balance.held) == (MONEY - held, held)


async def test_an_amended_bid_trades_on_its_new_terms(market: Market, buyer: Account, seller: Account) -> None:
    start = market.log.time
    ask = await market.accept(ask_of(seller, PRICE, 9, start))
    bid = await placed(market, bid_of(buyer, LIMIT, 4, 2, start))
    await market.execute(fill_of(bid, ask, buyer, seller, price=PRICE, quantity=1, start=start, hours=2, left=3))
    dearer = LIMIT + 100_001
    fill = fill_of(bid, ask, buyer, seller, price=dearer, quantity=2, start=start, hours=3, left=4)
    await market.amend(bid, bid_of(buyer, dearer, 7, 3, start), fill, filled=1)
    order = await order_of(market, buyer, bid)
    held = units.hold(dearer, 4, 3 * HOUR_MS, FEE_BPS)
    assert (order.filled, order.left, order.held) == (3, 4, held)
    escrow = units.escrow(PRICE, 1, 2 * HOUR_MS, FEE_BPS) + units.escrow(dearer, 2, 3 * HOUR_MS, FEE_BPS)
    balance = await market.store.balance(buyer.id)
    assert (balance.cash, balance.held, balance.escrow) == (MONEY - held - escrow, held, escrow)
    last = fill_of(bid, ask, buyer, seller, price=PRICE, quantity=3, start=start, hours=3, left=0)
    await market.amend(bid, bid_of(buyer, dearer, 6, 3, start), last, Filled(bid, buyer.id), filled=3)
    order = await order_of(market, buyer, bid)
    assert (order.status, order.filled, order.left, order.held) == (OrderStatus.FILLED, 6, 0, 0)


async def test_an_amend_that_cash_does_not_cover_leaves_the_hold_and_fills_beyond_are_void(
    market: Market, seller: Account
) -> None:
    start, hours = market.log.time, 2
    each = units.hold(LIMIT, 1, hours * HOUR_MS, 0)
    buyer = await market.account("buyer", money=3 * each)
    ask = await market.accept(ask_of(seller, LIMIT, 9, start))
    bid = await placed(market, bid_of(buyer, LIMIT, 2, hours, start))
    await market.amend(bid, bid_of(buyer, LIMIT, 6, hours, start))
    order = await order_of(market, buyer, bid)
    assert (order.status, order.left, order.held, order.reason) == (OrderStatus.OPEN, 6, 2 * each, "unfunded")
    assert (await audit(market.store, market.log)).findings == []

    async def fill(quantity: int, left: int) -> Lease:
        terms = fill_of(bid, ask, buyer, seller, price=LIMIT, quantity=quantity, start=start, hours=hours, left=left)
        return await lease_of(market, (await market.execute(terms), 0))

    void = await fill(4, left=2)
    assert (void.state, void.close_reason) == (LeaseState.CLOSED, CloseReason.UNFUNDED)
    assert (await order_of(market, buyer, bid)).held == 2 * each
    void = await fill(1, left=1)
    assert void.state is LeaseState.PENDING_DELIVERY
    order = await order_of(market, buyer, bid)
    assert (order.held, (await market.store.balance(buyer.id)).cash) == (each, each)
    await market.amend(bid, bid_of(buyer, LIMIT, 9, hours, start), filled=5)
    assert (await order_of(market, buyer, bid)).reason == "unfunded"
    void = await fill(3, left=1)
    assert void.close_reason is CloseReason.UNFUNDED
    assert (await order_of(market, buyer, bid)).held == each, "what the rest may cost, no more"
    await market.amend(bid, bid_of(buyer, LIMIT, 10, hours, start), filled=8)
    order = await order_of(market, buyer, bid)
    assert (order.held, order.reason) == (2 * each, ""), "there is the cash again"
    await market.execute(Cancelled(bid, buyer.id, CancelReason.REQUESTED, 2))
    assert (await market.store.balance(buyer.id)).cash == 2 * each


async def test_a_void_fill_of_the_whole_rest_leaves_nothing_held(market: Market, seller: Account) -> None:
    start = market.log.time
    each = units.hold(LIMIT, 1, HOUR_MS, 0)
    buyer = await market.account("buyer", money=each)
    ask = await market.accept(ask_of(seller, LIMIT, 9, start))
    bid = await placed(market, bid_of(buyer, LIMIT, 1, 1, start))
    await market.amend(bid, bid_of(buyer, LIMIT, 2, 1, start))
    await market.execute(fill_of(bid, ask, buyer, seller, price=LIMIT, quantity=2, start=start, hours=1))
    order = await order_of(market, buyer, bid)
    assert (order.status, order.held, order.reason) == (OrderStatus.FILLED, 0, "")
    assert (await market.store.balance(buyer.id)).cash == each


async def test_what_comes_in_one_batch_is_settled_as_if_it_came_one_by_one(
    market: Market, buyer: Account, seller: Account
) -> None:
    """A fill first takes from the hold; the amend after it then wants more than the batch found there."""
    start = market.log.time
    bid, ask = bid_of(buyer, LIMIT, 4, 2, start), ask_of(seller, PRICE, 9, start)
    resting = await placed(market, bid)
    place = market.next_place
    other = await market.account("other", fee_bps=FEE_BPS, money=MONEY)
    past = bid_of(other, LIMIT, 1, 1, start)
    last = fill_of(resting, place, buyer, seller, price=PRICE, quantity=1, start=start, hours=2, left=2, index=1)
    await market.execute_all(
        [accepted(ask)],
        [fill_of(resting, place, buyer, seller, price=PRICE, quantity=3, start=start, hours=2, left=1)],
        [amended(resting, bid_of(buyer, LIMIT + 100_000, 6, 2, start), filled=3), last],
        [accepted(past)],
        [amended(place + 3, bid_of(other, LIMIT, 2, 1, start))],
        [amended(place, ask_of(seller, PRICE + 100, 7, start))],
    )
    held = units.hold(LIMIT + 100_000, 2, 2 * HOUR_MS, FEE_BPS)
    order = await order_of(market, buyer, resting)
    assert (order.filled, order.left, order.held, order.reason) == (4, 2, held, "")
    order = await order_of(market, other, place + 3)
    assert (order.left, order.held) == (2, units.hold(LIMIT, 2, HOUR_MS, FEE_BPS))
    order = await order_of(market, seller, place)
    assert (order.status, order.filled, order.left, order.held) == (OrderStatus.OPEN, 4, 7, 0)


async def test_an_amend_that_can_cost_more_holds_the_difference_before_it_is_sent(
    market: Market, buyer: Account, seller: Account
) -> None:
    """And enough of it, whatever the bid fills on its old terms before: here all but one GPU, dearer than the new."""
    start, hours = market.log.time, 2
    ask = await market.accept(ask_of(seller, LIMIT, 9, start))
    old, new = bid_of(buyer, LIMIT, 3, hours, start), bid_of(buyer, 1_000_001, 30, hours, start)
    bid = await placed(market, old)
    before = await order_of(market, buyer, bid)
    made = await market.intend_amend(before, new)
    further = units.hold(1_000_001, 30 - 3, hours * HOUR_MS, FEE_BPS) + 1
    assert (made.status, made.amendment and made.amendment.hold) == (PlaceStatus.NEW, further)
    assert (await market.store.balance(buyer.id)).cash == MONEY - before.held - further
    place = market.next_place
    fill = fill_of(place, ask, buyer, seller, price=LIMIT, quantity=2, start=start, hours=hours, left=1)
    fill = msgspec.structs.replace(fill, bid_id=bid)
    await market.execute_all([fill], [amended(bid, new, filled=2)])
    order = await order_of(market, buyer, bid)
    assert (order.left, order.held, order.reason) == (28, units.hold(1_000_001, 28, hours * HOUR_MS, FEE_BPS), "")
    assert codec.decode_command(order.command) == msgspec.structs.replace(new, not_after=old.not_after)
    amendment = await market.store.amendment(buyer.id, "amend")
    assert amendment is not None
    assert (amendment.status, amendment.hold) == (AmendStatus.DONE, 0)


async def test_what_an_amend_held_goes_back_when_it_is_refused_or_never_comes(market: Market, buyer: Account) -> None:
    bid = bid_of(buyer, LIMIT, 2, 1, market.log.time)
    place = await placed(market, bid)
    order = await order_of(market, buyer, place)
    balance = await market.store.balance(buyer.id)
    dearer = bid_of(buyer, LIMIT + 100, 2, 1, market.log.time)
    assert (await market.intend_amend(order, dearer, name="refused")).status is PlaceStatus.NEW
    assert (await market.store.balance(buyer.id)).held > balance.held
    await market.execute(Rejected(buyer.id, "refused", Refusal.HALTED, (SPEC.class_id,)))
    assert await market.store.balance(buyer.id) == balance
    refused = await market.store.amendment(buyer.id, "refused")
    assert refused is not None
    assert (refused.status, refused.refusal, refused.refusal_args) == (
        AmendStatus.REJECTED,
        Refusal.HALTED,
        (SPEC.class_id,),
    )
    await market.execute(Rejected(buyer.id, "refused", Refusal.STALE, (2, 1)))  # a late copy of it
    assert await market.store.amendment(buyer.id, "refused") == refused

    assert (await market.intend_amend(order, dearer, name="lost")).status is PlaceStatus.NEW
    market.log.time = dearer.not_after
    await market.execute(Ticked())
    assert (await market.store.balance(buyer.id)).held > balance.held
    market.log.time = dearer.not_after + 1
    await market.execute(Ticked())
    assert await market.store.balance(buyer.id) == balance
    lost = await market.store.amendment(buyer.id, "lost")
    assert lost is not None
    assert (lost.status, lost.refusal, lost.hold) == (AmendStatus.LOST, None, 0)
    assert await order_of(market, buyer, place) == order


async def test_one_amend_of_an_order_at_a_time_and_only_of_the_terms_that_it_has(
    market: Market, buyer: Account
) -> None:
    now = market.log.time
    place = await placed(market, bid_of(buyer, LIMIT, 2, 1, now))
    order = await order_of(market, buyer, place)
    dearer = [bid_of(buyer, LIMIT + 100 * number, 2, 1, now) for number in range(1, 21)]
    answers = await asyncio.gather(*(market.intend_amend(order, each, name=str(each.price)) for each in dearer))
    statuses = [answer.status for answer in answers]
    assert (statuses.count(PlaceStatus.NEW), statuses.count(PlaceStatus.BUSY)) == (1, 19)
    sent = dearer[statuses.index(PlaceStatus.NEW)]
    assert (await market.intend_amend(order, sent, name=str(sent.price))).status is PlaceStatus.REPLAY
    assert (await market.intend_amend(order, dearer[0], name=str(sent.price + 1))).status is PlaceStatus.BUSY
    other = msgspec.structs.replace(sent, quantity=3)
    assert (await market.intend_amend(order, other, name=str(sent.price))).status is PlaceStatus.CONFLICT
    await market.amend(place, sent)
    assert (await market.intend_amend(order, dearer[0], name="late")).status is PlaceStatus.BUSY
    assert await market.store.amendment(buyer.id, "late") is None
    order = await order_of(market, buyer, place)
    too_dear = bid_of(buyer, MONEY, 2, 1, now)
    assert (await market.intend_amend(order, too_dear, name="too dear")).status is PlaceStatus.NO_FUNDS
    assert (await market.intend_amend(order, dearer[0], name="in time")).status is PlaceStatus.NEW
    await market.execute(Cancelled(place, buyer.id, CancelReason.AMENDED, 2))
    assert (await market.store.balance(buyer.id)).cash == MONEY
    assert (await market.intend_amend(order, dearer[0], name="over")).status is PlaceStatus.BUSY


async def test_settlement_never_waits_for_cash_while_it_has_an_amend_s_row(
    market: Market, buyer: Account, dsn: str
) -> None:
    """A gateway waits for that row with its account's cash locked: both would wait for ever."""
    bid = bid_of(buyer, LIMIT, 2, 1, market.log.time)
    order = await order_of(market, buyer, await placed(market, bid))
    await market.intend_amend(order, bid_of(buyer, LIMIT + 100, 2, 1, market.log.time))
    gateway = await asyncpg.connect(dsn)
    try:
        async with gateway.transaction():
            await gateway.fetch("SELECT 1 FROM ledger_accounts WHERE account = $1 FOR NO KEY UPDATE", buyer.id)
            settled = asyncio.create_task(market.execute(Rejected(buyer.id, "amend", Refusal.HALTED)))
            async with asyncio.timeout(SOON_S):
                while not await gateway.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 - it says so to nobody
                    await asyncio.sleep(0.01)
            await gateway.fetch("SELECT 1 FROM amends FOR UPDATE NOWAIT")
        await settled
    finally:
        await gateway.close()


@pytest.mark.parametrize("reason", CancelReason)
async def test_every_reason_to_cancel_ends_the_order_and_gives_its_hold_back(
    market: Market, buyer: Account, seller: Account, reason: CancelReason
) -> None:
    start = market.log.time
    bid = await placed(market, bid_of(buyer, LIMIT, 4, 2, start))
    ask = await market.accept(ask_of(seller, PRICE, 9, start))
    await market.execute(Cancelled(bid, buyer.id, reason, 4), Cancelled(ask, seller.id, reason, 9))
    for account, order_id, left in ((buyer, bid, 4), (seller, ask, 9)):
        order = await order_of(market, account, order_id)
        assert (order.status, order.reason, order.left) == (OrderStatus.CANCELLED, reason.value, left)
    assert (await market.store.balance(buyer.id)).cash == MONEY


@pytest.mark.parametrize("intended", [True, False], ids=["by intent", "past the gateways"])
async def test_an_extension_is_paid_as_a_bid_is(
    market: Market, buyer: Account, seller: Account, intended: bool
) -> None:
    lease = await sold(market, buyer, seller)
    cash = (await market.store.balance(buyer.id)).cash
    bid = bid_of(buyer, LIMIT, QUANTITY, 1, lease.end, "extend")
    if intended:
        await market.intend(bid)
    place = market.next_place
    terms = fill_of(place, lease.ask_id, buyer, seller, price=PRICE, quantity=QUANTITY, start=lease.end, hours=1)
    await market.accept(bid, terms, Extension(0, lease.id), Filled(place, buyer.id))
    longer = await lease_of(market, (place, 0))
    assert (longer.state, longer.start) == (LeaseState.PENDING_DELIVERY, lease.end)
    assert longer.escrow == units.escrow(PRICE, QUANTITY, HOUR_MS, FEE_BPS)
    assert (await market.store.balance(buyer.id)).cash == cash - longer.escrow
    order = await order_of(market, buyer, place)
    assert (order.status, order.filled, order.held) == (OrderStatus.FILLED, QUANTITY, 0)

    unfilled = bid_of(buyer, LIMIT, QUANTITY, 1, longer.end, "extend again")
    if intended:
        await market.intend(unfilled)
    place = market.next_place
    await market.accept(unfilled, Cancelled(place, buyer.id, CancelReason.FOK_UNFILLED, QUANTITY))
    assert (await order_of(market, buyer, place)).reason == "fok_unfilled"
    assert (await market.store.balance(buyer.id)).cash == cash - longer.escrow


async def test_what_does_not_concern_money_changes_nothing(market: Market, buyer: Account, seller: Account) -> None:
    lease = await running(market, buyer, seller)
    bid = await placed(market, bid_of(buyer, LIMIT, 1, 1, market.log.time, "resting"))
    before = await everything(market, buyer, seller)
    window = QUANTITY, lease.start + HOUR_MS, lease.end
    await market.execute(
        Duplicate(buyer.id, "resting", bid),
        Returned(lease.id, lease.ask_id, seller.id, *window),
        Withdrawn(lease.id, lease.ask_id, seller.id, *window),
        KillChanged(buyer.id, True),
        DeadManChanged(buyer.id, market.log.time + HOUR_MS),
        AllCancelled(buyer.id, SPEC.class_id, 0),
        LimitsChanged(buyer.id, 1, 1, 1),
        RulesChanged(1),
        Rejected(buyer.id, "", Refusal.HALTED, (SPEC.class_id,)),
        Rejected(buyer.id, "resting", Refusal.AMEND_INVALID, ("side", "no")),
        Ticked(),
    )
    assert await everything(market, buyer, seller) == before


async def test_a_class_stands_as_its_last_events_say(market: Market) -> None:
    other = msgspec.structs.replace(SPEC, class_id="L40S")
    await market.execute(ClassChanged(other), ClassRetired(other.class_id))
    await market.execute(HaltChanged(SPEC.class_id, HaltMode.NO_NEW), HaltChanged(SPEC.class_id, HaltMode.FULL))
    await market.execute(*(ReferenceChanged(name, PRICE, PRICE, PRICE) for name in (SPEC.class_id, other.class_id)))
    retired = Listing(other, 0, True, HaltMode.NONE, PRICE)
    assert await market.store.classes() == [Listing(SPEC, 0, False, HaltMode.FULL, PRICE), retired]
    changed = msgspec.structs.replace(SPEC, tick=200)
    await market.execute(ClassChanged(changed), HaltChanged(SPEC.class_id, HaltMode.NONE))
    assert await market.store.classes() == [Listing(changed, 0, False, HaltMode.NONE, PRICE), retired]


async def everything(market: Market, *accounts: Account) -> list[object]:
    """All that the store says of money, of these accounts' orders, and of the leases of the first."""
    found: list[object] = [await market.store.totals(), await market.store.classes()]
    for account in accounts:
        found.append(await market.store.balance(account.id))
        found.append(await market.store.orders(account.id, status=None, class_id=None, before=None, limit=100))
    found.append(
        await market.store.leases(accounts[0].id, role=Side.BID, states=(), class_id=None, before=None, limit=100)
    )
    return found


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


async def test_gateways_at_once_reserve_for_many_accounts_exactly_what_each_has(market: Market, dsn: str) -> None:
    each = units.hold(LIMIT, 1, HOUR_MS, 0)
    accounts = [await market.account(f"account {number}", money=10 * each + number) for number in range(10)]
    second = await Store.connect(dsn)
    try:
        bids = [bid_of(account, LIMIT, 1, 1, market.log.time, f"bid {n}") for n in range(50) for account in accounts]
        gateways = (market, Market(market.log, second))
        answers = await asyncio.gather(*(gateway.intend(bid) for bid in bids for gateway in gateways))
    finally:
        await second.close()
    statuses = [answer.status for answer in answers]
    assert statuses.count(PlaceStatus.NEW) == 100
    assert statuses.count(PlaceStatus.NO_FUNDS) + statuses.count(PlaceStatus.REPLAY) == 900
    for number, account in enumerate(accounts):
        balance = await market.store.balance(account.id)
        assert (balance.cash, balance.held) == (number, 10 * each)


async def test_intents_that_share_a_write_have_each_its_own_answer(market: Market) -> None:
    each = units.hold(LIMIT, 1, HOUR_MS, 0)
    names = ("rich", "poor", "again", "mixed", "seller")
    rich, poor, again, mixed, seller = [await market.account(name, money=3 * each) for name in names]

    def bid(account: Account, name: str) -> PlaceBid:
        return bid_of(account, LIMIT, 1, 1, market.log.time, name)

    assert (await market.intend(bid(again, "0"))).status is PlaceStatus.NEW
    answers = await asyncio.gather(
        *(market.intend(bid(rich, str(number))) for number in range(3)),
        *(market.intend(bid(poor, str(number))) for number in range(4)),
        market.intend(bid(again, "0")),
        market.intend(bid(again, "0"), digest=b"other"),
        market.intend(bid(again, "1")),
        market.intend(bid(mixed, "0")),
        market.intend(bid(mixed, "1"), spender=Spender(team="ml")),
        market.intend(ask_of(mixed, LIMIT, 1, market.log.time)),
        market.intend(ask_of(seller, LIMIT, 1, market.log.time)),
    )
    new, known, other, unfunded = (
        PlaceStatus.NEW,
        PlaceStatus.REPLAY,
        PlaceStatus.CONFLICT,
        PlaceStatus.NO_FUNDS,
    )
    assert [answer.status for answer in answers] == [*[new] * 6, unfunded, known, other, *[new] * 5]
    assert [(await market.store.balance(account.id)).held for account in (rich, poor, again, mixed, seller)] == [
        number * each for number in (3, 3, 2, 2, 0)
    ]


async def test_a_write_that_waits_for_a_lock_holds_up_no_other(market: Market, dsn: str) -> None:
    held, free = [await market.account(name, money=MONEY) for name in ("held", "free")]
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM ledger_accounts WHERE id = $1 FOR UPDATE", 8 * held.id + 1)
            waiting = asyncio.create_task(market.intend(bid_of(held, LIMIT, 1, 1, market.log.time)))
            await asyncio.sleep(0.05)
            async with asyncio.timeout(SOON_S):
                assert (await market.intend(bid_of(free, LIMIT, 1, 1, market.log.time))).status is PlaceStatus.NEW
            assert not waiting.done()
        assert (await waiting).status is PlaceStatus.NEW
    finally:
        await connection.close()


async def test_a_repeat_is_answered_while_settlement_is_writing_the_order(
    market: Market, buyer: Account, dsn: str
) -> None:
    bid = bid_of(buyer, LIMIT, 1, 1, market.log.time)
    assert (await market.intend(bid)).status is PlaceStatus.NEW
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():  # with the account's cash still to come: nobody may wait in a circle
            await connection.execute(
                "UPDATE orders SET reason = reason WHERE client_order_id = $1", bid.client_order_id
            )
            async with asyncio.timeout(SOON_S):
                assert (await market.intend(bid)).status is PlaceStatus.REPLAY
    finally:
        await connection.close()


async def test_a_bid_from_past_the_gateways_does_not_get_what_is_reserved_for_another(market: Market) -> None:
    each = units.hold(LIMIT, 1, HOUR_MS, 0)
    owner = await market.account("owner", money=each)
    ours, past = (bid_of(owner, LIMIT, 1, 1, market.log.time, name) for name in ("ours", "past"))
    assert (await market.intend(ours)).status is PlaceStatus.NEW
    last = await market.execute_all([accepted(past)], [accepted(ours)])
    assert ((await order_of(market, owner, last)).held, (await order_of(market, owner, last)).reason) == (each, "")
    assert (await order_of(market, owner, last - 1)).reason == "unfunded"


async def test_an_intent_that_cannot_be_written_fails_alone(market: Market, buyer: Account) -> None:
    bids = [bid_of(buyer, LIMIT, 1, 1, market.log.time, f"bid {number}") for number in range(20)]
    bids[13] = msgspec.structs.replace(bids[13], client_order_id="no \0 in a text")
    answers = await asyncio.gather(*map(market.intend, bids), return_exceptions=True)
    wrong = answers.pop(13)
    assert isinstance(wrong, asyncpg.DataError)
    assert [answer.status for answer in answers if isinstance(answer, Placed)] == 19 * [PlaceStatus.NEW]


async def test_who_waits_ends_the_rest_of_settlement(
    market: Market, buyer: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PACE_S", 3600.0)
    for number in range(3):
        await placed(market, bid_of(buyer, LIMIT, 1, 1, market.log.time, f"bid {number}"))
    orders = await market.store.orders(buyer.id, status=None, class_id=None, before=None, limit=100)
    assert [order.client_order_id for order in orders] == ["bid 2", "bid 1", "bid 0"]


async def test_intents_are_looked_for_by_an_index_though_their_statement_was_planned_while_there_were_none(
    buyer: Account, dsn: str
) -> None:
    place, cash = database.Queries().place_plain, ledger.cash(buyer.id)
    pool = await database.connect(dsn, max_size=1)
    try:
        async with pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            for _ in range(10):  # from the sixth on by one plan, which is kept
                assert await connection.fetch(place, [], [cash], [1], [buyer.id], ["a bid"])
            scans = "SELECT seq_scan, idx_scan FROM pg_stat_xact_user_tables WHERE relname = 'orders'"
            assert tuple(await connection.fetchrow(scans)) == (0, 10)
            await transaction.rollback()
    finally:
        await pool.close()


async def test_a_database_of_before_the_reserves_comes_over_with_its_orders_on_their_way(bare_dsn: str) -> None:
    steps = database.migrations()
    before = {name: step for name, step in steps.items() if name < "0003"}
    log = ScriptedLog()
    connection = await asyncpg.connect(bare_dsn)
    try:
        await database.migrate(connection, before)
        await connection.execute(
            """
            INSERT INTO accounts (name, owner, buyer_fee_bps, seller_fee_bps, created_at) VALUES ('old', 1, 0, 0, 1);
            INSERT INTO ledger_accounts (id, kind, account) VALUES (9, 'cash', 1), (10, 'hold', 1);
            INSERT INTO transactions (reference, time) VALUES ('deposit:old', 1);
            INSERT INTO entries VALUES (1, 6, -1000), (1, 9, 1000);
            """
        )
        for name, held in (("one", 300), ("two", 200)):
            row = (
                1,
                name,
                None,
                0,
                SPEC.class_id,
                0,
                b"",
                b"",
                log.time,
                "sent",
                1,
                0,
                0,
                0,
                1,
                held,
                "",
                None,
                "[]",
                1,
            )
            assert await connection.fetchval("SELECT answer FROM place_intent($1::orders)", row) == "new"
    finally:
        await connection.close()
    store = await Store.connect(bare_dsn)
    try:
        balance = await store.balance(1)
        assert (balance.cash, balance.held) == (500, 500)
        assert (await audit(store, log)).findings == []
        log.time += HOUR_MS
        market = Market(log, store)
        async with settling(log, store):
            await market.execute(Ticked())
        balance = await store.balance(1)
        assert (balance.cash, balance.held) == (1000, 0)
        assert (await audit(store, log)).findings == []
    finally:
        await store.close()


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
    "UPDATE orders SET held = held - 1 WHERE client_order_id = 'resting'": "what is held for order",
    "UPDATE orders SET remaining = remaining + 1 WHERE client_order_id = 'resting'": "what is held for order",
    "UPDATE orders SET held = held + 1 WHERE reason = 'unfunded'": "the hold of account",
    "UPDATE ledger_accounts SET reserved = 1 WHERE kind = 'cash' AND balance > 0": "what of the cash of account",
    "UPDATE orders SET status = 'sent' WHERE client_order_id = 'resting'": "what of the cash of account",
    "UPDATE entries SET amount = amount + 1 WHERE amount > 0 AND ledger_account < 0": "the entries of transaction",
    "UPDATE ledger_accounts SET balance = balance + 1 WHERE kind = 'payable'": "what account",
    "UPDATE ledger_accounts SET balance = balance + 1 WHERE kind = 'cash'": "the balance of ledger account",
    "UPDATE orders SET held = held + 1 WHERE side = 0": "what is held for order",
    "UPDATE orders SET price = price + 100 WHERE side = 0": "what is held for order",
    "UPDATE amends SET held = held + 1 WHERE status = 'sent'": "what of the cash of account",
    "UPDATE amends SET held = held + 1 WHERE status <> 'sent'": "what is reserved for the amend",
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
            resting = await placed(market, bid_of(buyer, LIMIT, 2, 1, log.time, "resting"))
            more = bid_of(buyer, LIMIT, 3, 1, log.time)
            await market.intend_amend(await order_of(market, buyer, resting), more, name="done")
            await market.amend(resting, more)
            more = bid_of(buyer, LIMIT, 4, 1, lease.end)
            await market.intend_amend(await order_of(market, buyer, resting), more, name="on its way")
            await market.accept(bid_of(buyer, MONEY, 2, 1, log.time, "unfunded"))
            log.time = lease.start + HOUR_MS
            await market.report(UsageReport(lease.id, seller.id, 1, 5_000_000))
        assert (await audit(store, log)).findings == []
        assert (await audited(log, store)).findings == []
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute("SET session_replication_role = replica")
            await connection.execute(corruption)
        finally:
            await connection.close()
        findings = (await audit(store, log)).findings
        assert any(finding.what.startswith(CORRUPTIONS[corruption]) for finding in findings), findings
        assert (await audited(log, store)).findings, "by another rule, maybe: see test_audit.py"
    finally:
        await store.close()


async def test_the_database_itself_refuses_unbalanced_and_changed_entries(dsn: str, store: Store) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        added = await connection.fetchval("INSERT INTO transactions (reference, time) VALUES ('x', 0) RETURNING id")
        with pytest.raises(asyncpg.CheckViolationError, match="do not sum to 0"):
            await connection.execute("INSERT INTO entries VALUES ($1, 6, -5), ($1, 7, 4)", added)
        with pytest.raises(asyncpg.ForeignKeyViolationError, match="ledger account that does not exist"):
            await connection.execute("INSERT INTO entries VALUES ($1, 6, -5), ($1, 99999, 5)", added)
        await connection.execute("INSERT INTO entries VALUES ($1, 6, -5), ($1, 7, 5)", added)
        for change in ("UPDATE entries SET amount = 6", "DELETE FROM entries", "TRUNCATE entries"):
            with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="is written once"):
                await connection.execute(change)
    finally:
        await connection.close()
