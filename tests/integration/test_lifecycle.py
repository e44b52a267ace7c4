"""Leases that do not run as sold: degraded, reclaimed, ended early, never delivered.

Through the real exchange, and with records written by hand where hours pass."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from gateways.client import Exchange, ExchangeError
from gateways.client.types import Lease
from schemas import codec, units
from schemas.attributes import Attributes, Tier
from schemas.commands import Command, Return, Side, Unreadable, Withdraw
from schemas.events import Event, Ticked, Withdrawn
from schemas.ids import format_lease_id
from schemas.instructions import Accept, Correct, Degrade, Deliver, End, Reclaim, Restore, UsageReport
from schemas.log import LogError
from schemas.refusals import Refusal
from schemas.store import Account, CloseReason, Degradation, LeaseState, Outcome
from schemas.store import Lease as StoredLease
from schemas.topics import COMMANDS, EXECUTIONS, INSTRUCTIONS
from schemas.units import HOUR_MS, MINUTE_MS, parse_time
from settlement.audit import audit
from settlement.store import Store
from tests.integration.conftest import CLASS, Venue
from tests.settling import FEE_BPS, MONEY, SOON_S, SPEC, Market, ScriptedLog, ask_of, bid_of, fill_of, settling

AnyEvent = TypeVar("AnyEvent", bound=Event)

PRICE = 2_499_997
QUANTITY, HOURS = 3, 2


# Through the real exchange.


async def bought(cx: Exchange, gpus: int = 8, hours: int = 24, **terms: Any) -> Lease:
    order = await cx.buy(CLASS, gpus=gpus, hours=hours, max_price="2.60", now_only=True, **terms)
    (lease,) = await cx.leases(order_id=order.order_id)
    return lease


async def running(cloud: Exchange, cx: Exchange, **terms: Any) -> Lease:
    lease = await bought(cx, **terms)
    await cloud.deliver(lease.lease_id, "ssh gpu@host")
    return await cx.accept(lease.lease_id)


async def events(exchange: Venue, kind: type[AnyEvent]) -> list[AnyEvent]:
    """All that the engine said of a kind, once it has said any."""
    reader = await exchange.log.reader(EXECUTIONS, 0, 0)
    found: list[AnyEvent] = []
    async with asyncio.timeout(SOON_S):
        while not found:
            for record in await reader.poll():
                found += [event for event in codec.decode_execution(record.value).events if isinstance(event, kind)]
    await reader.close()
    return found


@contextlib.asynccontextmanager
async def parties(exchange: Venue, **terms: Any) -> AsyncIterator[tuple[Exchange, Exchange]]:
    """A supplier with 8 GPUs for sale, and a developer; at the end the money adds up."""
    async with exchange.trader("cloud", money="") as cloud, exchange.trader("developer", money="1000") as cx:
        await cloud.sell(CLASS, gpus=8, price="2.50", hours=720, **terms)
        yield cloud, cx
        assert (await audit(exchange.store, exchange.log)).findings == []


async def test_what_its_buyer_ends_is_for_sale_again_at_once_and_the_class_says_what_is_refunded(
    exchange: Venue,
) -> None:
    await exchange.admin.change_class(CLASS, refund_bps=7_500)
    async with parties(exchange) as (cloud, cx), exchange.trader("next") as another:
        lease = await running(cloud, cx)
        waiting = await another.buy(CLASS, gpus=8, hours=1, max_price="2.50", starts=["now+1h"])
        assert (waiting.status, lease.refund_bps) == ("open", 7_500)
        ended = await cx.end(lease.lease_id)
        assert (ended.state, ended.close_reason, ended.charged, ended.escrow) == (
            "ended",
            "ended_early",
            "120.00",
            "0.00",
        )
        assert parse_time(ended.ends_at or "") < parse_time(ended.end)
        assert (await cx.end(lease.lease_id)).ends_at == ended.ends_at, "once more changes nothing"
        async with asyncio.timeout(SOON_S):
            assert [fill.quantity async for fill in another.fills(waiting)] == [8]
        assert ((await cx.balance()).cash, (await cloud.balance()).receivable) == ("880.00", "120.00")


async def test_what_its_supplier_reclaims_ends_with_the_notice_and_is_not_sold_again(exchange: Venue) -> None:
    terms = {"tier": "interruptible", "notice_minutes": 30}
    async with parties(exchange, **terms) as (cloud, cx):
        lease = await running(cloud, cx, accepts={"interruptible": True})
        reclaimed = await cloud.reclaim(lease.lease_id)
        assert (reclaimed.state, reclaimed.close_reason) == ("reclaiming", "reclaimed")
        assert (await cloud.reclaim(lease.lease_id)).ends_at == reclaimed.ends_at, "once more changes nothing"
        seen = await cx.lease(lease.lease_id)
        assert seen.ends_at == reclaimed.ends_at
        left_ms = parse_time(seen.ends_at or "") - parse_time(seen.start)
        assert 29 * MINUTE_MS <= left_ms <= 30 * MINUTE_MS
        assert seen.escrow == units.format_usd(units.cost(2_500_000, 8, left_ms)), "what is beyond is back at once"
        (withdrawn,) = await events(exchange, Withdrawn)
        assert format_lease_id(withdrawn.fill) == lease.lease_id
        last = await cx.buy(
            CLASS,
            gpus=1,
            hours=24,
            max_price="2.60",
            now_only=True,
            accepts={"interruptible": True},
            time_in_force="ioc",
        )
        assert (last.status, last.filled) == ("cancelled", 0)
        assert (await cx.end(lease.lease_id)).close_reason == "reclaimed", "who came first"
        assert (await cx.balance()).escrow == "0.00"


async def test_a_guaranteed_lease_is_not_reclaimed_and_nobody_acts_for_the_other_side(exchange: Venue) -> None:
    async with parties(exchange) as (cloud, cx):
        lease = await running(cloud, cx)
        for call, status, code in (
            (cloud.reclaim(lease.lease_id), 422, "lease_guaranteed"),
            (cloud.end(lease.lease_id), 404, "unknown_lease"),
            (cx.reclaim(lease.lease_id), 404, "unknown_lease"),
            (cx.degrade(lease.lease_id, 1, "mine"), 404, "unknown_lease"),
            (cx.restore(lease.lease_id), 404, "unknown_lease"),
            (cloud.degrade(lease.lease_id, 9, "more than there are"), 422, "gpus_out_of_range"),
        ):
            with pytest.raises(ExchangeError) as refused:
                await call
            assert (refused.value.status, refused.value.code) == (status, code)
            assert lease.lease_id in refused.value.message
        assert await cx.lease(lease.lease_id) == lease


async def test_a_degradation_is_seen_by_its_buyer_from_its_beginning_to_its_end(exchange: Venue) -> None:
    async with parties(exchange) as (cloud, cx):
        lease = await running(cloud, cx)
        await cloud.degrade(lease.lease_id, 2, "link down")
        said = await exchange.log.end(INSTRUCTIONS, 0)
        await cloud.degrade(lease.lease_id, 2, "link down")
        assert await exchange.log.end(INSTRUCTIONS, 0) == said, "once more changes nothing"
        seen = await cx.lease(lease.lease_id)
        assert seen.degradations is not None
        assert [(each.gpus, each.note, each.until) for each in seen.degradations] == [(2, "link down", None)]
        (listed,) = await cx.leases(state="degraded")
        assert (listed.lease_id, listed.state, listed.degradations) == (lease.lease_id, "degraded", None)
        assert (await cloud.restore(lease.lease_id)).state == "active"
        assert (await cloud.restore(lease.lease_id)).state == "active"


# With records written by hand.


async def active(market: Market, buyer: Account, seller: Account, attributes: Attributes | None = None) -> StoredLease:
    lease = await market.sell(buyer, seller, price=PRICE, limit=PRICE, attributes=attributes)
    assert (await market.instruct(Deliver(lease, seller.id, "ssh there"))).refusal is None
    assert (await market.instruct(Accept(lease, buyer.id))).refusal is None
    return await market.lease(lease)


async def told(log: ScriptedLog, number: int) -> list[Command | Unreadable]:
    """What settlement sent to the engine, once it is so many."""
    async with asyncio.timeout(SOON_S), log.grown:
        await log.grown.wait_for(lambda: len(log.records[COMMANDS]) >= number)
    return [codec.decode_command(record.value) for record in log.records[COMMANDS]]


async def test_what_is_not_delivered_in_time_is_withdrawn_from_sale(
    market: Market, log: ScriptedLog, buyer: Account, seller: Account
) -> None:
    lease = await market.lease(await market.sell(buyer, seller, price=PRICE, limit=PRICE))
    log.time = lease.deliver_by + 1
    await market.execute(Ticked())
    assert (await market.lease(lease.id)).close_reason is CloseReason.NOT_DELIVERED
    assert await told(log, 1) == [Withdraw(lease.id, lease.ask_id, QUANTITY, lease.start, lease.end)]


async def test_what_its_account_cannot_pay_is_for_sale_again(market: Market, log: ScriptedLog, seller: Account) -> None:
    poor, start = await market.account("poor"), log.time
    ask = await market.accept(ask_of(seller, PRICE, QUANTITY, start))
    bid = await market.accept(bid_of(poor, PRICE, QUANTITY, HOURS, start))
    fill = fill_of(bid, ask, poor, seller, price=PRICE, quantity=QUANTITY, start=start, hours=HOURS)
    lease = await market.lease((await market.execute(fill), 0))
    assert lease.close_reason is CloseReason.UNFUNDED
    assert await told(log, 1) == [Return(lease.id, ask, QUANTITY, lease.start, lease.end)]


async def test_use_before_the_end_is_billed_though_its_report_comes_after_it(
    market: Market, log: ScriptedLog, buyer: Account, seller: Account
) -> None:
    lease = await active(market, buyer, seller)
    log.time = lease.start + HOUR_MS
    assert (await market.instruct(End(lease.id, buyer.id))).refusal is None
    assert await told(log, 1) == [Return(lease.id, lease.ask_id, QUANTITY, lease.start, lease.end)]
    ended = await market.lease(lease.id)
    half = units.escrow(PRICE, QUANTITY, HOUR_MS, FEE_BPS)
    assert (ended.state, ended.ends_at, ended.escrow) == (LeaseState.ENDED, log.time, half)
    log.time += 70 * HOUR_MS
    final = UsageReport(lease.id, seller.id, 1, QUANTITY * HOUR_MS, final=True)
    assert (await market.report(final)).refusal is None
    closed = await market.lease(lease.id)
    assert (closed.state, closed.close_reason) == (LeaseState.CLOSED, CloseReason.ENDED_EARLY)
    assert (closed.charged, closed.escrow) == (half, 0)
    assert (await market.store.balance(buyer.id)).cash == MONEY - half


async def test_what_is_not_reported_within_the_grace_time_is_not_billed(
    market: Market, log: ScriptedLog, buyer: Account, seller: Account
) -> None:
    attributes = Attributes(tier=Tier.INTERRUPTIBLE, notice_minutes=15)
    lease = await active(market, buyer, seller, attributes)
    log.time = lease.start + HOUR_MS
    assert (await market.instruct(Degrade(lease.id, seller.id, 1, "link down"))).refusal is None
    assert (await market.instruct(Reclaim(lease.id, seller.id))).refusal is None
    log.time = lease.start + 75 * MINUTE_MS + SPEC.grace_ms + 1
    await market.execute(Ticked())
    closed = await market.lease(lease.id)
    assert (closed.state, closed.close_reason, closed.charged) == (LeaseState.CLOSED, CloseReason.RECLAIMED, 0)
    assert (await market.store.balance(buyer.id)).cash == MONEY
    assert [isinstance(each, Withdraw) for each in await told(log, 1)] == [True]


async def test_degradations_are_there_after_a_restart(log: ScriptedLog, store: Store) -> None:
    market = Market(log, store)
    async with settling(log, store):
        await market.open()
        buyer, seller = await market.account("buyer", money=MONEY), await market.account("seller")
        lease = await active(market, buyer, seller)
        log.time = lease.start + MINUTE_MS
        await market.instruct(Degrade(lease.id, seller.id, 2, 'two "gone"'))
    async with settling(log, store):
        log.time += MINUTE_MS
        assert (await market.instruct(Restore(lease.id, seller.id))).refusal is None
    found = (await market.lease(lease.id)).degradations
    assert found == (Degradation(lease.start + MINUTE_MS, lease.start + 2 * MINUTE_MS, 2, 'two "gone"'),)


class FailingLog(ScriptedLog):
    """Takes a number of appends to `commands` and says that it could not."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0

    async def append(self, topic: str, partition: int, values: Sequence[bytes]) -> Sequence[int]:
        offsets = await super().append(topic, partition, values)
        if topic == COMMANDS and self.failures:
            self.failures -= 1
            raise LogError("the broker went away before it answered")
        return offsets


async def test_what_is_for_the_engine_is_sent_at_least_once_and_kept_no_longer(store: Store) -> None:
    log = FailingLog()
    market = Market(log, store)
    log.failures = 1
    async with settling(log, store):
        await market.open()
        buyer, seller = await market.account("buyer", money=MONEY), await market.account("seller")
        lease = await active(market, buyer, seller)
        await market.instruct(End(lease.id, buyer.id))
        await told(log, 1)
    assert len(await store.outbox(10)) == 1, "settlement ended without knowing that the log has it"
    async with settling(log, store):
        first, second = await told(log, 2)
        assert first == second, "which the engine knows as a repeat"
        await emptied(store)
    async with settling(log, store):
        await market.execute(Ticked())
    assert len(log.records[COMMANDS]) == 2


async def emptied(store: Store) -> None:
    async with asyncio.timeout(SOON_S):
        while await store.outbox(10):  # noqa: ASYNC110 - it says so to nobody
            await asyncio.sleep(0.01)


async def test_an_end_use_a_last_report_and_a_correction_at_once_leave_what_the_rules_allow_in_any_order(
    market: Market, buyer: Account, seller: Account
) -> None:
    """All 24 orders of one lease's records, each lease's in the log before settlement answers any of them."""
    orders = list(itertools.permutations(("end", "use", "final", "correct")))
    seen: set[tuple[str | None, ...]] = set()
    for order in orders:
        lease = await market.sell(buyer, seller, price=PRICE, limit=PRICE, quantity=1, hours=2)
        assert (await market.instruct(Deliver(lease, seller.id, "ssh there"))).refusal is None
        assert (await market.instruct(Accept(lease, buyer.id))).refusal is None
        begun = await market.store.lease(lease)
        assert begun is not None
        market.log.time = begun.start + HOUR_MS
        half = HOUR_MS // 2
        said: dict[str, Coroutine[Any, Any, Outcome]] = {
            "end": market.instruct(End(lease, buyer.id)),
            "use": market.report(UsageReport(lease, seller.id, 1, half)),
            "final": market.report(UsageReport(lease, seller.id, 2, half + 7, final=True)),
            "correct": market.instruct(Correct(lease, 0, 7, "it was down")),
        }
        answers = await asyncio.gather(*(said[each] for each in order))
        refused = {each: answer.refusal for each, answer in zip(order, answers, strict=True)}
        found = await market.store.lease(lease)
        assert found is not None
        if refused["final"] is None:
            assert (found.state, found.used_gpu_ms) == (LeaseState.CLOSED, half + 7)
        else:
            assert (refused["final"], found.state) == (Refusal.USAGE_NOT_YET_FINAL, LeaseState.ENDED)
            assert found.used_gpu_ms == (half if refused["use"] is None else 0)
        notes = await market.store.notes(buyer, lease, role=Side.BID)
        assert len(notes) == (refused["correct"] is None)
        assert refused["correct"] in (None, Refusal.LEASE_STATE), "of a lease that is open still"
        assert refused["use"] in (None, Refusal.LEASE_STATE, Refusal.USAGE_BACKWARDS)
        assert refused["end"] is None
        assert (await audit(market.store, market.log)).findings == []
        seen.add(tuple(refused.values()))
    assert len(seen) > 1, "orders that differ"
