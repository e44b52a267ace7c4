"""What teams, users and pools may spend: caps that no number of gateways gets past, counters that always agree."""

import asyncio
import contextlib

import asyncpg
import pytest

from schemas import units
from schemas.commands import PlaceBid
from schemas.events import Cancelled, CancelReason, Rejected
from schemas.instructions import Accept, Correct, Deliver, Renew, UsageReport
from schemas.refusals import Refusal
from schemas.store import Account, CapReached, Caps, PlaceStatus, Spender, SpenderKind, Spent
from schemas.units import DAY_MS, HOUR_MS
from settlement.audit import audit
from settlement.store import Store
from tests.settling import SPEC, Market, ScriptedLog, ask_of, bid_of, fill_of, settling

PRICE, LIMIT, FEE_BPS = 2_499_997, 2_611_113, 133
MONEY = 10_000 * units.MICRO
EACH = units.hold(LIMIT, 1, HOUR_MS, FEE_BPS)
"""What a bid for a GPU and an hour can cost."""
ANN = Spender(team="ml", user="ann")


@pytest.fixture
async def buyer(market: Market) -> Account:
    return await market.account("buyer", fee_bps=FEE_BPS, money=MONEY)


async def caps_of(market: Market, account: Account, kind: SpenderKind, name: str) -> Caps:
    found = await market.store.caps(account.id, kind, name, now=market.log.time)
    assert found is not None
    return found


async def cap(market: Market, account: Account, kind: SpenderKind, name: str, **caps: int) -> None:
    await market.store.set_caps(account.id, kind, name, most=10, **{"day_cap": None, "month_cap": None, **caps})


def bid(market: Market, account: Account, name: str, gpus: int = 1) -> PlaceBid:
    return bid_of(account, LIMIT, gpus, 1, market.log.time, name)


async def test_of_a_thousand_orders_at_once_exactly_those_that_the_cap_covers_are_taken(
    market: Market, buyer: Account, dsn: str
) -> None:
    """Through ten gateways, 40 connections; nothing of the others is held or counted."""
    await cap(market, buyer, SpenderKind.TEAM, "ml", day_cap=100 * EACH + EACH - 1)
    async with contextlib.AsyncExitStack() as stack:
        gateways = []
        for _ in range(10):
            gateway = await Store.connect(dsn, max_connections=4)
            stack.push_async_callback(gateway.close)
            gateways.append(Market(market.log, gateway))
        answers = await asyncio.gather(
            *(
                gateways[number % 10].intend(
                    bid(market, buyer, f"bid {number}"), spender=Spender(team="ml", user=f"user-{number % 7}")
                )
                for number in range(1_000)
            )
        )
    statuses = [answer.status for answer in answers]
    assert (statuses.count(PlaceStatus.NEW), statuses.count(PlaceStatus.OVER_CAP)) == (100, 900)
    assert answers[statuses.index(PlaceStatus.OVER_CAP)].order is None
    assert (await market.store.balance(buyer.id)).held == 100 * EACH
    assert (await caps_of(market, buyer, SpenderKind.TEAM, "ml")).committed == 100 * EACH
    users = await market.store.spent_by(buyer.id, "user", days=(0, 1), after=None, limit=10)
    assert sum(user.committed for user in users) == 100 * EACH


async def test_what_is_committed_and_spent_follows_an_order_to_the_end_of_its_lease(
    market: Market, buyer: Account, seller: Account
) -> None:
    start, hours = market.log.time, 2
    day = start // DAY_MS

    async def figures(kind: SpenderKind = SpenderKind.TEAM, name: str = "ml") -> tuple[int, int]:
        found = await caps_of(market, buyer, kind, name)
        assert found.spent_today == found.spent_this_month
        return found.committed, found.spent_today

    ask = await market.accept(ask_of(seller, PRICE, 9, start))
    terms = bid_of(buyer, LIMIT, 4, hours, start)
    await market.intend(terms, spender=ANN)
    held = units.hold(LIMIT, 4, hours * HOUR_MS, FEE_BPS)
    assert await figures() == (held, 0)
    order_id = await market.accept(terms)
    assert await figures() == (held, 0)

    order = await market.store.order(buyer.id, order_id)
    assert order is not None
    assert order.spender == ANN
    more = bid_of(buyer, LIMIT, 5, hours, start)
    assert (await market.intend_amend(order, more)).status is PlaceStatus.NEW
    held = units.hold(LIMIT, 5, hours * HOUR_MS, FEE_BPS)
    assert held <= (await figures())[0] <= held + 1
    await market.amend(order_id, more)
    assert await figures() == (held, 0)

    place = market.next_place
    await market.execute(fill_of(order_id, ask, buyer, seller, price=PRICE, quantity=3, start=start, hours=2, left=2))
    escrow = units.escrow(PRICE, 3, hours * HOUR_MS, FEE_BPS)
    assert await figures() == (units.hold(LIMIT, 2, hours * HOUR_MS, FEE_BPS) + escrow, 0)
    await market.execute(Cancelled(order_id, buyer.id, CancelReason.REQUESTED, 2))
    assert await figures() == (escrow, 0)

    lease = (place, 0)
    await market.instruct(Deliver(lease, seller.id, "ssh there"))
    await market.instruct(Accept(lease, buyer.id))
    market.log.time = start + HOUR_MS
    await market.report(UsageReport(lease, seller.id, 1, 3 * HOUR_MS))
    spent = units.escrow(PRICE, 3, HOUR_MS, FEE_BPS)
    assert await figures() == (escrow - spent, spent)
    market.log.time = start + hours * HOUR_MS
    await market.report(UsageReport(lease, seller.id, 2, 4 * HOUR_MS, final=True))
    spent = units.escrow(PRICE, 4, HOUR_MS, FEE_BPS)
    assert await figures() == await figures(SpenderKind.USER, "ann") == (0, spent)
    for by, name in (("team", "ml"), ("user", "ann"), ("class", SPEC.class_id)):
        found = await market.store.spent_by(buyer.id, by, days=(day, day + 1), after=None, limit=10)
        assert found == [Spent(name, spent, 0)]
        found = await market.store.spent_by(buyer.id, by, days=(day + 1, day + 9), after=None, limit=10)
        assert [each.charged for each in found if each.charged] == []

    market.log.time += DAY_MS
    assert (await market.instruct(Correct(lease, seller.id, HOUR_MS, "was down"))).refusal is None
    back = units.escrow(PRICE, 1, HOUR_MS, FEE_BPS) - spent
    for by, name in (("team", "ml"), ("user", "ann"), ("class", SPEC.class_id)):
        found = await market.store.spent_by(buyer.id, by, days=(day + 1, day + 2), after=None, limit=10)
        assert found == [Spent(name, back, 0)], "a correction counts on the day on which it is made"


async def test_what_is_charged_counts_on_the_day_of_the_charge_and_in_its_month(
    market: Market, buyer: Account, seller: Account
) -> None:
    """A lease from the last evening of a month to the next morning, in UTC."""
    market.log.time = units.parse_time("2026-11-30T23:00:00Z")
    lease = await market.sell(buyer, seller, price=PRICE, limit=LIMIT, quantity=1, hours=3, spender=ANN)
    await market.instruct(Deliver(lease, seller.id, "ssh there"))
    await market.instruct(Accept(lease, buyer.id))
    one, two = (units.escrow(PRICE, 1, hours * HOUR_MS, FEE_BPS) for hours in (1, 2))
    market.log.time = units.parse_time("2026-11-30T23:59:59.999Z")
    await market.report(UsageReport(lease, seller.id, 1, HOUR_MS - 1))
    november = units.escrow(PRICE, 1, HOUR_MS - 1, FEE_BPS)
    assert (await caps_of(market, buyer, SpenderKind.USER, "ann")).spent_this_month == november
    market.log.time = units.parse_time("2026-12-01T01:00:00Z")
    await market.report(UsageReport(lease, seller.id, 2, 2 * HOUR_MS))
    found = await caps_of(market, buyer, SpenderKind.USER, "ann")
    assert (found.spent_today, found.spent_this_month) == (two - november, two - november)
    market.log.time = units.parse_time("2026-12-02T00:00:00Z")
    await market.report(UsageReport(lease, seller.id, 3, 2 * HOUR_MS + 1, final=True))
    found = await caps_of(market, buyer, SpenderKind.USER, "ann")
    rest = units.escrow(PRICE, 1, 2 * HOUR_MS + 1, FEE_BPS) - two
    assert (found.spent_today, found.spent_this_month) == (rest, two - november + rest)
    assert one > november


async def test_a_cap_of_a_day_or_a_month_refuses_with_the_figures_and_a_new_day_takes_again(
    market: Market, buyer: Account, seller: Account
) -> None:
    lease = await market.sell(buyer, seller, price=PRICE, limit=LIMIT, quantity=1, hours=2, spender=ANN)
    await market.instruct(Deliver(lease, seller.id, "ssh there"))
    await market.instruct(Accept(lease, buyer.id))
    market.log.time += HOUR_MS
    await market.report(UsageReport(lease, seller.id, 1, HOUR_MS))
    spent = units.escrow(PRICE, 1, HOUR_MS, FEE_BPS)
    committed = units.escrow(PRICE, 1, 2 * HOUR_MS, FEE_BPS) - spent
    await cap(market, buyer, SpenderKind.USER, "ann", day_cap=spent + committed + EACH - 1, month_cap=MONEY)
    over = await market.intend(bid(market, buyer, "over"), spender=ANN)
    assert (over.status, over.order) == (PlaceStatus.OVER_CAP, None)
    assert over.cap == CapReached(SpenderKind.USER, "ann", "day", spent + committed + EACH - 1, spent, committed)
    assert (await market.store.balance(buyer.id)).held == 0
    assert (await market.intend(bid(market, buyer, "bob"), spender=Spender("ml", "bob"))).status is PlaceStatus.NEW
    assert (await market.intend(bid(market, buyer, "nobody's"))).status is PlaceStatus.NEW

    market.log.time += DAY_MS
    await market.execute(Rejected(buyer.id, "bob", Refusal.HALTED))
    assert (await market.intend(bid(market, buyer, "next day"), spender=ANN)).status is PlaceStatus.NEW
    most = spent + committed + 2 * EACH - 1
    await cap(market, buyer, SpenderKind.USER, "ann")
    await cap(market, buyer, SpenderKind.TEAM, "ml", month_cap=most)
    over = await market.intend(bid(market, buyer, "next"), spender=ANN)
    assert over.cap == CapReached(SpenderKind.TEAM, "ml", "month", most, spent, committed + EACH)
    market.log.time = units.parse_time("2026-12-01T00:00:00Z")
    assert (await market.intend(bid(market, buyer, "next month"), spender=ANN)).status is PlaceStatus.NEW
    assert (await market.intend(bid(market, buyer, "and one"), spender=ANN)).status is PlaceStatus.OVER_CAP
    await cap(market, buyer, SpenderKind.TEAM, "ml")
    assert (await market.intend(bid(market, buyer, "no cap"), spender=ANN)).status is PlaceStatus.NEW


async def test_an_amend_meets_the_caps_of_its_order(market: Market, buyer: Account) -> None:
    terms = bid(market, buyer, "bid", gpus=2)
    await market.intend(terms, spender=ANN)
    order_id = await market.accept(terms)
    order = await market.store.order(buyer.id, order_id)
    assert order is not None
    await cap(market, buyer, SpenderKind.TEAM, "ml", month_cap=3 * EACH)
    over = await market.intend_amend(order, bid(market, buyer, "bid", gpus=4), name="over")
    assert (over.status, over.amendment) == (PlaceStatus.OVER_CAP, None)
    assert over.cap == CapReached(SpenderKind.TEAM, "ml", "month", 3 * EACH, 0, order.held)
    assert await market.store.amendment(buyer.id, "over") is None
    assert (await market.store.balance(buyer.id)).held == order.held
    within = bid_of(buyer, LIMIT + 100, 2, 1, market.log.time)
    assert (await market.intend_amend(order, within, name="refused")).status is PlaceStatus.NEW
    await market.execute(Rejected(buyer.id, "refused", Refusal.HALTED))
    assert (await caps_of(market, buyer, SpenderKind.TEAM, "ml")).committed == order.held


async def test_the_same_order_again_is_the_first_whatever_the_cap_is_by_now(market: Market, buyer: Account) -> None:
    terms = bid(market, buyer, "same")
    answers = await asyncio.gather(*(market.intend(terms, spender=ANN) for _ in range(50)))
    assert [answer.status for answer in answers].count(PlaceStatus.NEW) == 1
    await cap(market, buyer, SpenderKind.USER, "ann", day_cap=0)
    assert (await market.intend(terms, spender=ANN)).status is PlaceStatus.REPLAY
    assert (await caps_of(market, buyer, SpenderKind.USER, "ann")).committed == EACH


async def test_what_counts_to_somebody_is_not_renewed_past_its_caps(
    market: Market, buyer: Account, seller: Account
) -> None:
    for spender in (ANN, Spender(user="bob"), Spender(pool="agents"), Spender()):
        name = f"of {spender}"[:60]
        lease = await market.sell(
            buyer, seller, price=PRICE, limit=PRICE, quantity=1, hours=6, name=name, spender=spender
        )
        answer = await market.instruct(Renew(lease, buyer.id, 2 * HOUR_MS, PRICE, buyer.owner, FEE_BPS))
        found = await market.store.lease(lease)
        assert found is not None
        assert (found.renewal is None) == (spender != Spender()), spender
        assert answer.refusal is (None if spender == Spender() else Refusal.RENEWAL_INVALID)


async def test_a_pool_counts_for_itself(market: Market, buyer: Account) -> None:
    await cap(market, buyer, SpenderKind.POOL, "agents", day_cap=2 * EACH)
    await cap(market, buyer, SpenderKind.TEAM, "agents", day_cap=0)
    agents = Spender(pool="agents")
    answers = [await market.intend(bid(market, buyer, f"agent {n}"), spender=agents) for n in range(3)]
    assert [answer.status for answer in answers] == [PlaceStatus.NEW, PlaceStatus.NEW, PlaceStatus.OVER_CAP]
    assert (await caps_of(market, buyer, SpenderKind.POOL, "agents")).committed == 2 * EACH


async def test_what_nobody_of_a_kind_ordered_is_listed_first_and_lists_go_on(
    market: Market, buyer: Account, seller: Account
) -> None:
    day = market.log.time // DAY_MS
    spenders = (Spender(), ANN, Spender(team="web"))
    for spender in spenders:
        lease = await market.sell(
            buyer, seller, price=PRICE, limit=LIMIT, quantity=1, hours=1, name=f"of {spender.team}", spender=spender
        )
        await market.instruct(Deliver(lease, seller.id, "ssh there"))
        await market.instruct(Accept(lease, buyer.id))
        market.log.time += HOUR_MS
        await market.report(UsageReport(lease, seller.id, 1, HOUR_MS, final=True))
        await market.store.set_caps(buyer.id, SpenderKind.TEAM, "idle", day_cap=1, month_cap=None, most=10)
    charge = units.escrow(PRICE, 1, HOUR_MS, FEE_BPS)
    found = await market.store.spent_by(buyer.id, "team", days=(day, day + 1), after=None, limit=10)
    assert found == [Spent("", charge, 0), Spent("idle", 0, 0), Spent("ml", charge, 0), Spent("web", charge, 0)]
    found = await market.store.spent_by(buyer.id, "team", days=(day, day + 1), after="idle", limit=1)
    assert found == [Spent("ml", charge, 0)]
    found = await market.store.spent_by(buyer.id, "class", days=(day, day + 1), after=None, limit=10)
    assert found == [Spent(SPEC.class_id, 3 * charge, 0)]


async def test_settlement_and_gateways_never_wait_in_a_circle_for_spenders(market: Market, dsn: str) -> None:
    """A gateway has the cash and spenders of the first account and comes for the second's cash, as settlement does."""
    buyers = [await market.account(f"buyer {n}", fee_bps=FEE_BPS, money=MONEY) for n in range(2)]
    terms = [bid(market, buyer, "bid") for buyer in buyers]
    for each in terms:
        await market.intend(each, spender=ANN)
    gateway = await asyncpg.connect(dsn)
    try:
        async with gateway.transaction():
            lock = "SELECT FROM ledger_accounts WHERE id = $1 FOR NO KEY UPDATE"
            await gateway.execute(lock, 8 * buyers[0].id + 1)
            refused = [[Rejected(buyer.id, "bid", Refusal.HALTED)] for buyer in reversed(buyers)]
            settled = asyncio.create_task(market.execute_all(*refused))
            async with asyncio.timeout(10):
                while not await gateway.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 - it says so to nobody
                    await asyncio.sleep(0.01)
                await gateway.execute("SELECT FROM spenders WHERE account = $1 FOR UPDATE NOWAIT", buyers[0].id)
                await gateway.execute(f"{lock} NOWAIT", 8 * buyers[1].id + 1)
        await settled
    finally:
        await gateway.close()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("UPDATE spenders SET committed = committed + 1 WHERE kind = 'team'", "team ml of account 1 has committed"),
        ("DELETE FROM spenders WHERE kind = 'user'", "user ann of account 1 has committed"),
        (
            "UPDATE spend SET charged = charged - 1 WHERE kind = 'class'",
            f"class {SPEC.class_id} of account 1 has spent",
        ),
        ("DELETE FROM spend WHERE kind = 'user'", "user ann of account 1 has spent"),
    ],
)
async def test_the_audit_counts_anew(store: Store, dsn: str, change: str, what: str) -> None:
    log = ScriptedLog()
    async with settling(log, store):
        market = Market(log, store)
        await market.open()
        buyer, seller = await market.account("buyer", money=MONEY), await market.account("seller")
        lease = await market.sell(buyer, seller, price=PRICE, limit=LIMIT, spender=ANN)
        await market.instruct(Deliver(lease, seller.id, "ssh there"))
        await market.instruct(Accept(lease, buyer.id))
        log.time += HOUR_MS
        await market.report(UsageReport(lease, seller.id, 1, HOUR_MS))
        assert (await audit(store, log)).findings == []
        connection = await asyncpg.connect(dsn)
        await connection.execute(change)
        await connection.close()
        assert [finding.what for finding in (await audit(store, log)).findings] == [f"what {what}"]
