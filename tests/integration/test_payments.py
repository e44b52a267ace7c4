"""Money in and out through the real exchange, and with records written by hand: lists, entries, the audit."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from functools import partial
from itertools import pairwise
from typing import Any

import aiohttp
import asyncpg
import pytest

from gateways.client import Exchange, ExchangeError
from gateways.client.types import Balance
from schemas import codec
from schemas.commands import PlaceBid
from schemas.events import Execution
from schemas.instructions import (
    Accept,
    CreditLimit,
    Deliver,
    Deposit,
    Instruction,
    Source,
    UsageReport,
    Withdrawal,
    WithdrawalNews,
    WithdrawalState,
)
from schemas.refusals import Refusal
from schemas.store import Account, Entry, LedgerKind
from schemas.topics import EXECUTIONS, INSTRUCTIONS
from schemas.units import HOUR_MS, MICRO
from settlement import database
from settlement.audit import audit
from settlement.store import Store
from tests.integration.conftest import CLASS, Venue
from tests.integration.test_cli import cx, cx_json
from tests.settling import NOON, SOON_S, Market, ScriptedLog, accepted, bid_of, settling

PRICE, MONEY = 2_000_000, 100 * MICRO
IBAN = "DE02 1203 0000 0000 2020 51"


# Through the real exchange.


@contextlib.asynccontextmanager
async def holder(exchange: Venue, name: str = "developer", *, money: str = "1000") -> AsyncIterator[Exchange]:
    """Who may withdraw; at the end the money adds up."""
    key = await exchange.key_of(name, "read", "trade", "withdraw", money=money)
    async with Exchange(exchange.url, key) as cx:
        yield cx
        assert (await audit(exchange.store, exchange.log)).findings == []


def money_of(balance: Balance) -> tuple[str, str]:
    return balance.cash, balance.outgoing


async def test_a_withdrawal_leaves_the_balance_at_once_and_then_the_exchange(exchange: Venue) -> None:
    async with holder(exchange) as cx:
        account = (await cx.account()).account_id
        asked = await cx.withdraw("400", IBAN, reference="rent-11")
        assert (asked.state, asked.amount, asked.source, asked.destination) == ("requested", "400.00", "cash", IBAN)
        assert money_of(await cx.balance()) == ("600.00", "400.00")
        assert await cx.withdraw("400", IBAN, reference="rent-11") == asked, "the same again changes nothing"
        assert [(each.account_id, each.reference) for each in await exchange.admin.outgoing()] == [(account, "rent-11")]
        sent = await exchange.admin.set_withdrawal(account, "rent-11", "sent", provider_reference="po_7")
        assert (sent.state, sent.ended_at) == ("sent", None)
        settled = await exchange.admin.set_withdrawal(account, "rent-11", "settled")
        assert (settled.state, settled.provider_reference) == ("settled", "po_7")
        assert await exchange.admin.set_withdrawal(account, "rent-11", "settled", provider_reference="po_7") == settled
        assert money_of(await cx.balance()) == ("600.00", "0.00")
        assert await cx.withdrawal("rent-11") == settled
        assert await exchange.admin.outgoing() == []


async def test_what_cannot_be_paid_out_is_back_with_the_reason(exchange: Venue) -> None:
    async with holder(exchange) as cx:
        account = (await cx.account()).account_id
        await cx.withdraw("1000", IBAN, reference="all")
        failed = await exchange.admin.set_withdrawal(account, "all", "failed", reason="account closed")
        assert (failed.state, failed.reason) == ("failed", "account closed")
        assert money_of(await cx.balance()) == ("1000.00", "0.00")
        with pytest.raises(ExchangeError) as refused:
            await exchange.admin.set_withdrawal(account, "all", "settled")
        assert (refused.value.status, refused.value.code) == (409, "withdrawal_state")
        assert [each.state for each in await cx.withdrawals(state="failed")] == ["failed"]
        assert await cx.withdrawals(state="settled") == []


async def test_no_more_than_is_free_goes_out_and_the_refusal_has_the_figures(exchange: Venue) -> None:
    async with holder(exchange) as cx, holder(exchange, "another") as another:
        order = await cx.buy(CLASS, gpus=8, hours=24, max_price="2.50")
        assert order.held == "480.00"
        for call, status, code, part in (
            (cx.withdraw("520.01", IBAN, reference="a"), 402, "insufficient_funds", "cash 520.00 is free"),
            (cx.withdraw("1", IBAN, reference="a", source="receivable"), 402, "insufficient_funds", "0.00 is free"),
            (cx.withdraw("0", IBAN, reference="a"), 422, "amount_out_of_range", "above 0"),
            (cx.withdraw("-5", IBAN, reference="a"), 422, "amount_out_of_range", "above 0"),
            (cx.withdraw("1e3", IBAN, reference="a"), 400, "invalid", "1e3"),
            (cx.withdraw("1", "", reference="a"), 400, "invalid", "length"),
            (cx.withdraw("1", "bell\x07", reference="a"), 400, "invalid", "printable"),
            (cx.withdraw("1", IBAN, reference="a/b"), 400, "invalid", "regex"),
            (cx.withdraw("1", IBAN, reference="a", source="escrow"), 400, "invalid", "escrow"),
            (cx.withdrawal("none"), 404, "unknown_withdrawal", "none"),
            (cx.withdrawal("\x00"), 400, "invalid", "reference"),
        ):
            with pytest.raises(ExchangeError) as refused:
                await call
            assert (refused.value.status, refused.value.code) == (status, code)
            assert part in refused.value.message
        assert (await cx.withdraw("520", IBAN, reference="a")).state == "requested"
        with pytest.raises(ExchangeError) as refused:
            await cx.withdraw("520", "elsewhere", reference="a")
        assert (refused.value.status, refused.value.code) == (409, "reference_reused")
        assert (await another.withdraw("1", IBAN, reference="a")).amount == "1.00", "another's references are its own"
        for call in (another.withdrawal("b"), exchange.admin.set_withdrawal("acc_zz", "a", "settled")):
            with pytest.raises(ExchangeError) as refused:
                await call
            assert refused.value.status == 404


async def test_a_key_that_trades_cannot_take_money_out(exchange: Venue) -> None:
    async with exchange.trader("developer") as cx:
        account = (await cx.account()).account_id
        for call in (
            cx.withdraw("1", IBAN, reference="a"),
            cx.set_withdrawal(account, "a", "settled"),
            cx.outgoing(),
        ):
            with pytest.raises(ExchangeError) as refused:
                await call
            assert (refused.value.status, refused.value.code) == (403, "missing_scope")


async def test_at_once_a_balance_goes_out_no_more_than_once(exchange: Venue) -> None:
    async with holder(exchange, money="100") as cx:
        asked = [cx.withdraw("10", IBAN, reference=f"w{number % 50}") for number in range(100)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        refused = [answer.code for answer in answers if isinstance(answer, ExchangeError)]
        assert refused == ["insufficient_funds"] * 80, "ten withdrawals, each asked for twice"
        assert money_of(await cx.balance()) == ("0.00", "100.00")


async def walked(exchange: Venue, path: str, key: Exchange) -> list[Any]:
    """A list, two at a time."""
    found: list[Any] = []
    query: dict[str, str] | None = {"limit": "2"}
    async with aiohttp.ClientSession(exchange.url, headers=key._headers) as http:
        while query:
            async with http.get(f"/v1/{path}", params=query) as answer:
                page = await answer.json()
            found += page["items"]
            query = {"limit": "2", "after": page["next"]} if page["next"] else None
    return found


async def test_with_credit_cash_goes_below_0_down_to_the_limit_and_no_further(exchange: Venue) -> None:
    async with holder(exchange, money="100") as cx, exchange.trader("cloud", money="") as cloud:
        account = (await cx.account()).account_id
        given = await exchange.admin.set_credit(account, "300")
        assert (given.account_id, given.cash, given.credit) == (account, "100.00", "300.00")
        assert await exchange.admin.set_credit(account, "300") == given
        with pytest.raises(ExchangeError) as refused:
            await cx.withdraw("100.01", IBAN, reference="a")
        assert "100.00 is free" in refused.value.message, "what is lent does not go out"
        await cloud.sell(CLASS, gpus=16, price="2.50", hours=720)
        bid = await cx.buy(CLASS, gpus=8, hours=18, max_price="2.50", now_only=True)
        assert bid.status == "filled"
        balance = await cx.balance()
        assert (balance.cash, balance.escrow, balance.credit) == ("-260.00", "360.00", "300.00")
        with pytest.raises(ExchangeError) as refused:
            await cx.buy(CLASS, gpus=1, hours=17, max_price="2.50", now_only=True)
        assert (refused.value.status, "40.00 is free" in refused.value.message) == (402, True)
        for call, status, code, part in (
            (exchange.admin.set_credit(account, "259.99"), 409, "credit_in_use", "260.00"),
            (exchange.admin.set_credit(account, "-1"), 422, "limits_invalid", "-1.00"),
            (exchange.admin.set_credit("acc_zz", "1"), 404, "unknown_account", ""),
            (cx.set_credit(account, "1000"), 403, "missing_scope", "admin"),
            (cx.withdraw("0.01", IBAN, reference="a"), 402, "insufficient_funds", "0.00 is free"),
        ):
            with pytest.raises(ExchangeError) as refused:
                await call
            assert (refused.value.status, refused.value.code) == (status, code)
            assert part in refused.value.message
        assert (await exchange.admin.set_credit(account, "260")).credit == "260.00"
        await exchange.admin.deposit(account, "300", reference="paid-back")
        assert (await cx.balance()).cash == "40.00"
        assert (await exchange.admin.set_credit(account, "0")).credit == "0.00"
        found = [(each.reference, each.ledger_account, each.amount, each.balance) for each in await cx.entries(limit=2)]
        reference = f"credit:{account[4:]}:3"
        assert found == [(reference, "lent", "260.00", "0.00"), (reference, "cash", "-260.00", "40.00")]


async def test_lists_of_payments_go_on_behind_their_cursor(exchange: Venue) -> None:
    async with holder(exchange, money="5") as cx:
        account = (await cx.account()).account_id
        for number in range(5):
            await cx.withdraw("1", IBAN, reference=f"w{number}")
            await exchange.admin.deposit(account, "2", reference=f"d{number}")
        for path, names, key in (
            ("withdrawals", [f"w{n}" for n in range(4, -1, -1)], cx),
            ("deposits", [*(f"d{n}" for n in range(4, -1, -1)), "first-developer"], cx),
            ("outgoing", [f"w{n}" for n in range(5)], exchange.admin),
        ):
            assert [each["reference"] for each in await walked(exchange, path, key)] == names, path
        assert [(each.reference, each.amount) for each in await cx.deposits(limit=1)] == [("d4", "2.00")]


async def test_entries_have_each_step_of_the_money_with_the_balance_after_it(exchange: Venue) -> None:
    async with holder(exchange) as cx, exchange.trader("cloud", money="") as cloud:
        await cloud.sell(CLASS, gpus=8, price="2.50", hours=48)
        order = await cx.buy(CLASS, gpus=8, hours=1, max_price="2.60", now_only=True)
        assert (await cx.balance()).escrow == "20.00", "settled, so that its entries come first"
        await cx.withdraw("80", IBAN, reference="w")
        found = [
            (each.reference.partition(":")[0], each.ledger_account, each.amount, each.balance)
            for each in await cx.entries()
        ]
        assert found == [
            ("withdrawal", "outgoing", "80.00", "80.00"),
            ("withdrawal", "cash", "-80.00", "900.00"),
            ("fill", "held", "-20.80", "0.00"),
            ("fill", "cash", "0.80", "980.00"),
            ("accept", "held", "20.80", "20.80"),
            ("accept", "cash", "-20.80", "979.20"),
            ("deposit", "cash", "1000.00", "1000.00"),
        ]
        (lease,) = await cx.leases(order_id=order.order_id)
        (escrow,) = await cx.entries(lease_id=lease.lease_id)
        assert (escrow.ledger_account, escrow.amount, escrow.balance) == ("escrow", "20.00", "20.00")
        with pytest.raises(ExchangeError) as refused:
            await cloud.entries(lease_id=lease.lease_id)
        assert (refused.value.status, refused.value.code) == (404, "unknown_lease")
        async with aiohttp.ClientSession(headers=cx._headers) as http:
            for after in ("1", "1.2", "x", "1.9.1.1.1", "9" * 30, "%00", f"1.9{'.' + '9' * 19}" * 4):
                async with http.get(f"{exchange.url}/v1/entries?after={after}") as answer:
                    assert (answer.status, (await answer.json())["error"]["field"]) == (400, "after"), after


async def test_money_goes_out_by_hand(exchange: Venue) -> None:
    admin = {"CX_URL": exchange.url, "CX_KEY": exchange.key}
    made = await cx_json("accounts", "create", "developer", "--scopes", "read,withdraw", env=admin)
    developer = {"CX_URL": exchange.url, "CX_KEY": made["key"]}
    await cx("deposit", made["account_id"], "100", "--reference", "wire-1", env=admin)
    assert [each["reference"] for each in await cx_json("deposits", env=developer)] == ["wire-1"]
    asked = await cx_json("withdraw", "99.50", "--to", IBAN, "--reference", "back", env=developer)
    assert (asked["state"], asked["amount"]) == ("requested", "99.50")
    _, out, _ = await cx("admin", "outgoing", env=admin)
    assert made["account_id"] in out
    assert IBAN in out
    paid = "admin", "paid", made["account_id"], "back", "failed", "--reason", "no such bank"
    assert (await cx_json(*paid, env=admin))["state"] == "failed"
    _, out, _ = await cx("withdrawals", env=developer)
    assert "failed (no such bank)" in out
    _, out, _ = await cx("entries", env=developer)
    assert out.splitlines()[1].split()[1:] == [f"failed:{made['account_id'][4:]}:back", "outgoing", "-99.50", "0.00"]
    code, _, err = await cx("withdraw", "101", "--to", IBAN, "--reference", "more", env=developer)
    assert (code, "100.00 is free" in err) == (1, True)
    assert (await cx_json("admin", "credit", made["account_id"], "50", env=admin))["credit"] == "50.00"


# With records written by hand.


def news(account: Account, reference: str, state: WithdrawalState) -> WithdrawalNews:
    return WithdrawalNews(account.id, reference, state, "po_1", "")


async def earned(market: Market, buyer: Account, seller: Account) -> int:
    """What the supplier earned with a lease that was used to its end, in µ$."""
    lease = await market.sell(buyer, seller, price=PRICE, limit=PRICE, quantity=3, hours=2)
    await market.instruct(Deliver(lease, seller.id, "ssh there"))
    await market.instruct(Accept(lease, buyer.id))
    market.log.time += 4 * HOUR_MS
    outcome = await market.report(UsageReport(lease, seller.id, 1, 3 * 2 * HOUR_MS, final=True))
    assert outcome.refusal is None
    return (await market.store.balance(seller.id)).receivable


async def test_a_payout_takes_what_was_earned_and_leaves_cash_alone(market: Market) -> None:
    buyer, seller = await market.account("buyer", money=MONEY), await market.account("seller", money=7)
    amount = await earned(market, buyer, seller)
    assert amount == 3 * 2 * PRICE
    payout = Withdrawal(seller.id, "november", Source.RECEIVABLE, amount, IBAN)
    assert (await market.instruct(payout)).refusal is None
    again = await market.instruct(Withdrawal(seller.id, "again", Source.RECEIVABLE, 1, IBAN))
    assert (again.refusal, again.args) == (Refusal.INSUFFICIENT_FUNDS, ("again", 1, 0, "receivable"))
    balance = await market.store.balance(seller.id)
    assert (balance.cash, balance.receivable, balance.outgoing) == (7, 0, amount)
    assert (await audit(market.store, market.log)).findings == []
    assert (await market.instruct(news(seller, "november", WithdrawalState.SETTLED))).refusal is None
    assert (await market.store.balance(seller.id)).outgoing == 0


async def test_credit_covers_a_bid_that_comes_past_the_gateways_and_no_more(market: Market) -> None:
    buyer = await market.account("buyer", money=10 * MICRO)
    assert (await market.instruct(CreditLimit(buyer.id, 70 * MICRO))).refusal is None
    await market.accept(bid_of(buyer, PRICE, 10, 4, market.log.time, "within"))
    balance = await market.store.balance(buyer.id)
    assert (balance.cash, balance.held, balance.credit) == (-70 * MICRO, 80 * MICRO, 70 * MICRO)
    beyond = await market.accept(bid_of(buyer, PRICE, 1, 1, market.log.time, "beyond"))
    order = await market.store.order(buyer.id, beyond)
    assert order is not None
    assert (order.held, order.reason) == (0, "unfunded")
    less = await market.instruct(CreditLimit(buyer.id, 70 * MICRO - 1))
    assert (less.refusal, less.args) == (Refusal.CREDIT_IN_USE, (buyer.id, 70 * MICRO - 1, 70 * MICRO))


async def test_gateways_at_once_use_a_credit_once(market: Market) -> None:
    buyer = await market.account("buyer")
    await market.instruct(CreditLimit(buyer.id, 100 * MICRO))
    bids = [bid_of(buyer, PRICE, 1, 1, market.log.time, f"bid {number}") for number in range(200)]
    placed = await asyncio.gather(*(market.intend(bid) for bid in bids))
    assert sum(each.order is not None for each in placed) == 50
    assert (await market.store.balance(buyer.id)).cash == -100 * MICRO
    assert (await market.instruct(CreditLimit(buyer.id, 0))).refusal is Refusal.CREDIT_IN_USE


async def test_what_orders_on_their_way_reserve_does_not_go_out(market: Market) -> None:
    buyer = await market.account("buyer", money=MONEY)
    bid = bid_of(buyer, PRICE, 10, 4, market.log.time)
    await market.intend(bid)
    asked = await market.instruct(Withdrawal(buyer.id, "a", Source.CASH, MONEY - 80 * MICRO + 1, IBAN))
    assert (asked.refusal, asked.args) == (Refusal.INSUFFICIENT_FUNDS, ("a", 20 * MICRO + 1, 20 * MICRO, "cash"))
    assert (await market.instruct(Withdrawal(buyer.id, "a", Source.CASH, 20 * MICRO, IBAN))).refusal is None
    await market.accept(bid)
    balance = await market.store.balance(buyer.id)
    assert (balance.cash, balance.held, balance.outgoing) == (0, 80 * MICRO, 20 * MICRO)


async def test_entries_of_any_page_size_have_the_same_balances_though_more_are_made_meanwhile(market: Market) -> None:
    buyer, seller = await market.account("buyer", money=MONEY), await market.account("seller")
    await earned(market, buyer, seller)
    for number in range(3):
        await market.instruct(Withdrawal(buyer.id, f"w{number}", Source.CASH, MICRO, IBAN))
    await market.instruct(news(buyer, "w1", WithdrawalState.FAILED))
    whole, following = await market.store.entries(buyer.id, lease=None, after=None, limit=500)
    assert following is None
    for size in (1, 2, 3, 7):
        read: list[Entry] = []
        page, after = await market.store.entries(buyer.id, lease=None, after=None, limit=size)
        await market.instruct(Withdrawal(buyer.id, f"meanwhile-{size}", Source.CASH, 5, IBAN))
        read += page
        while after is not None:
            page, after = await market.store.entries(buyer.id, lease=None, after=after, limit=size)
            read += page
        made_before = len(read) - len(whole)
        assert read[made_before:] == whole
    for kind in LedgerKind:
        steps = [entry for entry in read if entry.kind is kind]
        assert all(newer.balance - newer.amount == older.balance for newer, older in pairwise(steps))
        assert not steps or steps[-1].balance == steps[-1].amount


async def test_withdrawals_are_there_after_a_restart_between_any_two_records(store: Store) -> None:
    log = ScriptedLog()
    market = Market(log, store)
    async with settling(log, store):
        buyer = await market.account("buyer", money=MONEY)
    ways = (WithdrawalState.SENT, WithdrawalState.SETTLED, WithdrawalState.SETTLED)
    async with settling(log, store):
        await market.instruct(Withdrawal(buyer.id, "a", Source.CASH, MICRO, IBAN))
    for state in ways:
        async with settling(log, store):
            assert (await market.instruct(news(buyer, "a", state))).refusal is None
    async with settling(log, store):
        await market.instruct(Withdrawal(buyer.id, "a", Source.CASH, MICRO, IBAN))
    assert (await store.balance(buyer.id)).cash == MONEY - MICRO
    assert (await audit(store, log)).findings == []


CORRUPTIONS = {
    "UPDATE withdrawals SET amount = amount + 1 WHERE reference = 'under-way'": "what of account",
    "UPDATE withdrawals SET amount = amount + 1 WHERE reference = 'out'": "the payment settled:",
    "UPDATE withdrawals SET state = 'failed' WHERE reference = 'out'": "the payment settled:",
    "UPDATE withdrawals SET state = 'settled' WHERE reference = 'back'": "the payment settled:",
    "UPDATE withdrawals SET amount = amount - 1 WHERE source = 'receivable'": "what account",
    "UPDATE deposits SET amount = amount + 1": "the payment deposit:",
    "UPDATE ledger_accounts SET balance = balance - 1 WHERE kind = 'lent'": "what is lent to account",
    "INSERT INTO credit_limits SELECT account, number + 1, 9, set_at FROM credit_limits": "what is lent to account",
    "DELETE FROM deposits": "the payment deposit:",
    "DELETE FROM withdrawals WHERE reference = 'under-way'": "what of account",
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
async def test_the_audit_finds_a_payment_that_was_tampered_with(dsn: str, corruption: str) -> None:
    store, log = await Store.connect(dsn), ScriptedLog()
    market = Market(log, store)
    try:
        async with settling(log, store):
            await market.open()
            buyer, seller = await market.account("buyer", money=MONEY), await market.account("seller")
            amount = await earned(market, buyer, seller)
            for reference, end in (
                ("under-way", None),
                ("out", WithdrawalState.SETTLED),
                ("back", WithdrawalState.FAILED),
            ):
                await market.instruct(Withdrawal(buyer.id, reference, Source.CASH, MICRO, IBAN))
                if end is not None:
                    await market.instruct(news(buyer, reference, end))
            await market.instruct(Withdrawal(seller.id, "payout", Source.RECEIVABLE, amount, IBAN))
            await market.instruct(CreditLimit(buyer.id, MICRO))
        assert (await audit(store, log)).findings == []
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(corruption)
        finally:
            await connection.close()
        findings = (await audit(store, log)).findings
        assert any(finding.what.startswith(CORRUPTIONS[corruption]) for finding in findings), findings
    finally:
        await store.close()


async def test_a_database_of_before_has_its_deposits_in_the_list(bare_dsn: str) -> None:
    before = {name: step for name, step in database.migrations().items() if name < "0009"}
    connection = await asyncpg.connect(bare_dsn)
    try:
        await database.migrate(connection, before)
        await connection.execute(
            """
            INSERT INTO accounts (name, owner, buyer_fee_bps, seller_fee_bps, created_at) VALUES ('old', 1, 0, 0, 1);
            INSERT INTO ledger_accounts (id, kind, account) VALUES (9, 'cash', 1), (10, 'hold', 1);
            INSERT INTO transactions (reference, time) VALUES ('deposit:deposit:old', 7), ('accept:ord_1', 8);
            INSERT INTO entries VALUES (1, 6, -1000), (1, 9, 1000), (2, 9, -10), (2, 10, 10);
            """
        )
    finally:
        await connection.close()
    store = await Store.connect(bare_dsn)
    try:
        (found,) = await store.deposits(1, after=None, limit=10)
        assert (found.reference, found.account, found.amount, found.made_at) == ("deposit:old", 1, 1000, 7)
    finally:
        await store.close()


LEFT_BEHIND = (
    "SELECT reference, time, ledger_account, amount FROM entries JOIN transactions ON id = transaction ORDER BY 1, 3",
    "SELECT * FROM deposits ORDER BY reference",
    "SELECT * FROM withdrawals ORDER BY account, reference",
    "SELECT * FROM credit_limits ORDER BY account, number",
    "SELECT account, client_order_id, held, reason FROM orders ORDER BY account, client_order_id",
    "SELECT record_offset, code, args FROM refusals ORDER BY record_offset",
)


def dealings() -> list[Instruction | PlaceBid]:
    """Payments of two accounts in every kind of wrong order, with bids that come past the gateways between."""
    rng = random.Random(7)
    buyers = [Account(number, f"buyer {number}", number, 0, 0, 0) for number in (1, 2)]
    said: list[Instruction | PlaceBid] = []
    for number in range(600):
        buyer, reference = rng.choice(buyers), f"w{rng.randrange(40)}"
        withdrawal = Withdrawal(buyer.id, reference, rng.choice(list(Source)), rng.randint(1, 9 * MICRO), IBAN)
        told = WithdrawalNews(buyer.id, reference, rng.choice(list(WithdrawalState)), "", "")
        deposit = Deposit(buyer.id, rng.randint(1, 9 * MICRO), f"d{rng.randrange(200)}")
        credit = CreditLimit(buyer.id, rng.choice((0, 3, 20)) * MICRO)
        bid = bid_of(buyer, rng.randint(1, 12) * MICRO, 1, 1, NOON, f"bid {number}")
        said.append(rng.choice((withdrawal, told, told, deposit, credit, bid)))
    return said


async def said_to(log: ScriptedLog, one: Instruction | PlaceBid) -> tuple[str, int]:
    """Writes it at a time of its own; where it is in the log."""
    log.time += 1
    if isinstance(one, PlaceBid):
        place = len(log.records[EXECUTIONS])
        await log.append(EXECUTIONS, 0, [codec.encode(Execution(place, place - 1, log.time, (accepted(one),)))])
        return EXECUTIONS, place
    return INSTRUCTIONS, (await log.append(INSTRUCTIONS, 0, [codec.encode(one)]))[0]


async def test_payments_in_one_batch_are_settled_as_if_they_came_one_by_one(dsn: str, bare_dsn: str) -> None:
    found = []
    for database_dsn, is_one_batch in ((dsn, False), (bare_dsn, True)):
        store, log = await Store.connect(database_dsn), ScriptedLog()
        try:
            for number in (1, 2):
                await store.create_account(f"buyer {number}", buyer_fee_bps=0, seller_fee_bps=0, owner=None, now=NOON)
            if is_one_batch:
                for one in dealings():
                    await said_to(log, one)
            async with settling(log, store):
                for one in [] if is_one_batch else dealings():
                    topic, place = await said_to(log, one)
                    wait = store.wait_applied if topic == EXECUTIONS else partial(store.outcome, topic)
                    assert await wait(0, place, SOON_S)
            assert (await audit(store, log)).findings == []
            async with store.snapshot() as connection:
                found.append([[tuple(row) for row in await connection.fetch(query)] for query in LEFT_BEHIND])
        finally:
            await store.close()
    assert found[0] == found[1]
    codes = {code for _, code, _ in found[0][-1]}
    assert codes >= {
        "insufficient_funds",
        "credit_in_use",
        "withdrawal_state",
        "reference_reused",
        "unknown_withdrawal",
    }
    assert {reason for *_, reason in found[0][-2]} == {"", "unfunded"}
