"""Daily credits on a real Postgres: spent first, lapsed at midnight, exact to the micro-dollar."""

from collections.abc import AsyncIterator

import asyncpg
import msgspec
import pytest

from gateways.client import ExchangeError
from schemas import units
from schemas.attributes import SlaStep
from schemas.codec import encode
from schemas.commands import Side
from schemas.events import Execution, Ticked
from schemas.ids import LeaseId
from schemas.instructions import Accept, Correct, DailyCredits, Deliver, UsageReport
from schemas.refusals import Refusal
from schemas.store import Account, Credits, LedgerKind
from schemas.topics import EXECUTIONS, INSTRUCTIONS, USAGE
from schemas.units import DAY_MS, HOUR_MS, month_of
from settlement.audit import audit
from settlement.daily_credits import MAX_DAILY
from settlement.store import Store
from tests.integration.conftest import Venue
from tests.integration.test_cli import cx_json
from tests.settling import SPEC, Market, ScriptedLog, ask_of, bid_of, fill_of, settling

PRICE, FEE_BPS = 2_499_997, 133
MONEY = 10_000 * units.MICRO
EVENING = units.parse_time("2026-11-26T22:00:00Z")
DAY = EVENING // DAY_MS
DAILY = 3 * units.MICRO


@pytest.fixture
async def market(store: Store) -> AsyncIterator[Market]:
    log = ScriptedLog()
    log.time = EVENING
    async with settling(log, store):
        market = Market(log, store)
        await market.open()
        yield market
        assert (await audit(store, log)).findings == []


@pytest.fixture
async def buyer(market: Market) -> Account:
    account = await market.account("buyer", fee_bps=FEE_BPS, money=MONEY)
    assert (await market.instruct(DailyCredits(account.id, DAILY))).refusal is None
    return account


@pytest.fixture
async def seller(market: Market) -> Account:
    return await market.account("seller", fee_bps=FEE_BPS)


async def running(market: Market, buyer: Account, seller: Account) -> LeaseId:
    """A GPU for five hours from now, at some $2.53 an hour, fee included."""
    lease = await market.sell(buyer, seller, price=PRICE, limit=PRICE, quantity=1, hours=5)
    await market.instruct(Deliver(lease, seller.id, "ssh there"))
    await market.instruct(Accept(lease, buyer.id))
    return lease


def charge(hours: int) -> int:
    return units.escrow(PRICE, 1, hours * HOUR_MS, FEE_BPS)


async def test_charges_take_from_the_credits_of_their_day_first_and_these_lapse_at_midnight(
    market: Market, buyer: Account, seller: Account
) -> None:
    lease = await running(market, buyer, seller)
    before = await market.store.balance(buyer.id)
    assert (before.cash, before.escrow, before.daily_credits) == (MONEY - charge(5), charge(5), DAILY)

    market.log.time = EVENING + HOUR_MS
    await market.report(UsageReport(lease, seller.id, 1, HOUR_MS))
    balance = await market.store.balance(buyer.id)
    assert (balance.cash, balance.escrow) == (before.cash + charge(1), charge(5) - charge(1)), "credits paid all of it"
    assert balance.daily_credits == DAILY - charge(1)
    sold = await market.store.lease(lease)
    assert sold is not None
    assert (sold.charged, (await market.store.balance(seller.id)).receivable) == (charge(1), sold.earned)

    market.log.time = EVENING + 2 * HOUR_MS - 1
    await market.report(UsageReport(lease, seller.id, 2, 2 * HOUR_MS - 1))
    assert (await market.store.balance(buyer.id)).daily_credits == 0
    assert (await market.store.balance(buyer.id)).cash == before.cash + DAILY

    market.log.time = EVENING + 2 * HOUR_MS
    await market.execute(Ticked())
    assert await market.store.daily_credits(buyer.id) == Credits(DAILY, DAY + 1, DAILY, DAILY)
    market.log.time = EVENING + 5 * HOUR_MS
    await market.report(UsageReport(lease, seller.id, 3, 5 * HOUR_MS, final=True))
    balance = await market.store.balance(buyer.id)
    assert (balance.cash, balance.escrow, balance.daily_credits) == (MONEY - charge(5) + 2 * DAILY, 0, 0)


async def test_what_is_not_spent_is_gone_with_the_day_whoever_comes_first(
    market: Market, buyer: Account, seller: Account
) -> None:
    """A charge that is there before any execution of the new day takes from that day's, not from what is over."""
    lease = await running(market, buyer, seller)
    market.log.time = EVENING + 3 * HOUR_MS
    await market.report(UsageReport(lease, seller.id, 1, HOUR_MS))
    assert await market.store.daily_credits(buyer.id) == Credits(DAILY, DAY + 1, DAILY, DAILY - charge(1))
    await market.execute(Ticked())
    assert await market.store.daily_credits(buyer.id) == Credits(DAILY, DAY + 1, DAILY, DAILY - charge(1))
    market.log.time = EVENING + 3 * DAY_MS
    await market.execute(Ticked())
    entries, _ = await market.store.entries(buyer.id, lease=None, after=None, limit=50)
    of_credits = [entry for entry in reversed(entries) if entry.kind is LedgerKind.DAILY_CREDITS]
    moved = [(entry.reference.partition(":")[0], entry.time, entry.amount) for entry in of_credits]
    midnights = [(DAY + days) * DAY_MS for days in range(1, 4)]
    assert moved[1:4] == [
        ("lapse", midnights[0], -DAILY),
        ("grant", midnights[0], DAILY),
        ("usage", EVENING + 3 * HOUR_MS, -charge(1)),
    ]
    assert moved[4:] == [
        ("lapse", midnights[1], charge(1) - DAILY),
        ("grant", midnights[1], DAILY),
        ("lapse", midnights[2], -DAILY),
        ("grant", midnights[2], DAILY),
    ]


async def test_what_comes_back_of_what_credits_paid_is_credits_of_that_day_and_never_cash(
    market: Market, buyer: Account, seller: Account
) -> None:
    """Of a lease for 2 hours that credits paid the half of: a first note is of what cash paid, a second of the rest."""
    lease = await market.sell(buyer, seller, price=PRICE, limit=PRICE, quantity=1, hours=2)
    await market.instruct(Deliver(lease, seller.id, "ssh there"))
    await market.instruct(Accept(lease, buyer.id))
    market.log.time = EVENING + 2 * HOUR_MS
    await market.report(UsageReport(lease, seller.id, 1, 2 * HOUR_MS, final=True))
    by_cash = charge(2) - DAILY
    assert (await market.store.balance(buyer.id)).cash == MONEY - by_cash

    market.log.time += HOUR_MS
    assert (await market.instruct(Correct(lease, seller.id, HOUR_MS + 1, "it was slow"))).refusal is None
    refund = charge(2) - units.escrow(PRICE, 1, HOUR_MS + 1, FEE_BPS)
    assert refund > by_cash
    back = await market.store.balance(buyer.id)
    assert (back.cash, back.daily_credits) == (MONEY, refund - by_cash)

    market.log.time += DAY_MS
    assert (await market.instruct(Correct(lease, 0, 0, "it was down"))).refusal is None
    back = await market.store.balance(buyer.id)
    assert (back.cash, back.daily_credits) == (MONEY, DAILY + charge(2) - refund), "beside those of its day"
    month = month_of(EVENING)
    invoice = await market.store.invoice(buyer, month, role=Side.BID, after=None, limit=None)
    assert invoice is not None
    assert (invoice.head.totals.amount, invoice.head.totals.credits) == (0, 0)

    market.log.time += DAY_MS
    await market.execute(Ticked())
    back = await market.store.balance(buyer.id)
    assert (back.cash, back.daily_credits) == (MONEY, DAILY)


async def test_an_sla_credit_for_what_credits_paid_is_credits_though_no_more_are_granted(store: Store) -> None:
    log = ScriptedLog()
    log.time = EVENING
    async with settling(log, store):
        market = Market(log, store)
        await market.open(msgspec.structs.replace(SPEC, sla=(SlaStep(9_000, 5_000),)))
        buyer, seller = await market.account("buyer", money=MONEY), await market.account("seller")
        await market.instruct(DailyCredits(buyer.id, 10 * DAILY))
        lease = await running(market, buyer, seller)
        await market.instruct(DailyCredits(buyer.id, 0))
        log.time = EVENING + HOUR_MS
        await market.report(UsageReport(lease, seller.id, 1, HOUR_MS))
        log.time = EVENING + 5 * HOUR_MS
        await market.report(UsageReport(lease, seller.id, 2, HOUR_MS, final=True))
        balance = await store.balance(buyer.id)
        assert (balance.cash, balance.daily_credits) == (MONEY, PRICE // 2)
        assert (await audit(store, log)).findings == []
        log.time = EVENING + 5 * HOUR_MS + DAY_MS
        await market.execute(Ticked())
        balance = await store.balance(buyer.id)
        assert (balance.cash, balance.daily_credits) == (MONEY, 0)
        assert (await audit(store, log)).findings == []


async def test_credits_of_many_accounts_turn_over_in_parts_and_to_the_same(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("settlement.service.MAX_DUE", 2)
    accounts = [await market.account(f"account {n}") for n in range(7)]
    for account in accounts:
        await market.instruct(DailyCredits(account.id, DAILY + account.id))
    market.log.time = EVENING + 2 * DAY_MS
    await market.execute(Ticked())
    for account in accounts:
        daily = DAILY + account.id
        assert await market.store.daily_credits(account.id) == Credits(daily, DAY + 2, daily, daily)


async def test_a_lease_that_is_sold_and_charged_in_one_batch_is_paid_by_credits_too(store: Store) -> None:
    log = ScriptedLog()
    log.time = EVENING
    async with settling(log, store):
        market = Market(log, store)
        await market.open()
        buyer, seller = await market.account("buyer", money=MONEY), await market.account("seller")
        await market.instruct(DailyCredits(buyer.id, DAILY))
        ask = await market.accept(ask_of(seller, PRICE, 1, EVENING))
        terms = bid_of(buyer, PRICE, 1, 5, EVENING)
        await market.intend(terms)
        bid = await market.accept(terms)
    lease = (market.next_place, 0)
    fill = fill_of(bid, ask, buyer, seller, price=PRICE, quantity=1, start=EVENING, hours=5)
    await log.append(EXECUTIONS, 0, [encode(Execution(lease[0], bid, EVENING, (fill,)))])
    await log.append(INSTRUCTIONS, 0, [encode(Deliver(lease, seller.id, "ssh")), encode(Accept(lease, buyer.id))])
    log.time = EVENING + HOUR_MS
    await log.append(USAGE, 0, [encode(UsageReport(lease, seller.id, 1, HOUR_MS))])
    async with settling(log, store):
        found = await store.daily_credits(buyer.id)
        assert found is not None
        assert found.remaining == DAILY - PRICE
        assert (await audit(store, log)).findings == []


async def test_granting_the_same_again_changes_nothing_and_wrong_grants_are_refused(
    market: Market, buyer: Account
) -> None:
    assert (await market.instruct(DailyCredits(buyer.id, DAILY))).refusal is None
    assert (await market.store.balance(buyer.id)).daily_credits == DAILY
    assert (await market.instruct(DailyCredits(buyer.id, MAX_DAILY + 1))).refusal is Refusal.CREDITS_OUT_OF_RANGE
    assert (await market.instruct(DailyCredits(buyer.id + 100, 5))).refusal is Refusal.UNKNOWN_ACCOUNT
    assert (await market.instruct(DailyCredits(buyer.id, 0))).refusal is None
    market.log.time += DAY_MS
    await market.execute(Ticked())
    assert (await market.store.balance(buyer.id)).daily_credits == 0


async def test_the_audit_finds_credits_that_nobody_granted(store: Store, dsn: str) -> None:
    log = ScriptedLog()
    async with settling(log, store):
        market = Market(log, store)
        buyer = await market.account("buyer")
        await market.instruct(DailyCredits(buyer.id, DAILY))
    connection = await asyncpg.connect(dsn)
    await connection.execute("UPDATE daily_credits SET remaining = remaining - 1")
    await connection.close()
    whats = [finding.what for finding in (await audit(store, log)).findings]
    assert whats == ["what is left of the credits of account 1", "what was granted"]


async def test_an_admin_grants_them_and_their_account_sees_them(exchange: Venue) -> None:
    async with exchange.trader("lab") as lab:
        mine = (await lab.account()).account_id
        assert (await lab.daily_credits()).lapse_at is None
        granted = await exchange.admin.grant_daily(mine, "50")
        assert (granted.daily, granted.granted, granted.remaining) == ("50.00", "50.00", "50.00")
        assert await lab.daily_credits() == granted
        assert (await lab.balance()).daily_credits == "50.00"
        with pytest.raises(ExchangeError) as refused:
            await lab.grant_daily(mine, "60")
        assert refused.value.status == 403
        with pytest.raises(ExchangeError) as refused:
            await exchange.admin.grant_daily(mine, "-1")
        assert (refused.value.code, refused.value.field) == ("credits_out_of_range", "daily")
        with pytest.raises(ExchangeError) as refused:
            await exchange.admin.grant_daily("acc_999", "1")
        assert refused.value.status == 404
        env = {"CX_URL": exchange.url, "CX_KEY": exchange.key}
        assert (await cx_json("admin", "daily-credits", mine, "60", env=env))["remaining"] == "60.00"
        assert (await cx_json("daily-credits", env=env))["daily"] == "0.00"
