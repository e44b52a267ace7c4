"""Months of accounts: what is on an invoice, when it is final, and that all of them together are the ledger.

With records written by hand, where months pass; through the real exchange at the end."""

import csv
import io
import random
import re
from decimal import Decimal
from pathlib import Path

import aiohttp
import asyncpg
import msgspec
import pytest
from pyarrow import parquet

from gateways.api import focus, statements
from gateways.cli.focus import write_parquet
from gateways.client import Exchange, ExchangeError
from gateways.client.types import Lease
from gateways.client.types import UsageReport as LastReport
from schemas import codec, units
from schemas.attributes import Attributes
from schemas.commands import Side
from schemas.events import Execution, Filled, Ticked
from schemas.focus import COLUMNS
from schemas.ids import LeaseId, format_lease_id, parse_lease_id
from schemas.instructions import Accept, Correct, DailyCredits, Deliver, Deposit, End, Source, UsageReport, Withdrawal
from schemas.invoices import Head, Invoice, Line, Note
from schemas.refusals import Refusal
from schemas.store import Account
from schemas.topics import EXECUTIONS, INSTRUCTIONS, USAGE
from schemas.units import DAY_MS, HOUR_MS, month_of, month_start, parse_time
from settlement import database
from settlement.audit import audit, check
from settlement.invoices import LATE_MS
from settlement.metering import bill
from settlement.store import Store
from tests.focus_rules import problems
from tests.integration.conftest import CLASS, Venue
from tests.integration.test_cli import cx_json
from tests.settling import SPEC, Market, ScriptedLog, accepted, ask_of, bid_of, fill_of, settling

PRICE, FEE_BPS, MONEY = 2_499_997, 133, 100_000 * units.MICRO
QUANTITY, HOURS = 3, 6
EVENING = parse_time("2026-11-30T20:30:00Z")
MIDNIGHT = parse_time("2026-12-01T00:00:00Z")
NOVEMBER, DECEMBER = month_of(EVENING), month_of(MIDNIGHT)


@pytest.fixture
async def log() -> ScriptedLog:
    log = ScriptedLog()
    log.time = EVENING
    return log


@pytest.fixture
async def buyer(market: Market) -> Account:
    return await market.account("buyer", fee_bps=FEE_BPS, money=MONEY)


async def active(market: Market, buyer: Account, seller: Account, hours: int = HOURS) -> LeaseId:
    """Runs from the next full hour on."""
    lease = await market.sell(buyer, seller, price=PRICE, limit=PRICE, quantity=QUANTITY, hours=hours)
    assert (await market.instruct(Deliver(lease, seller.id, "ssh there"))).refusal is None
    assert (await market.instruct(Accept(lease, buyer.id))).refusal is None
    return lease


async def report(market: Market, lease: LeaseId, seller: Account, sequence: int, gpu_ms: int, at: int) -> None:
    market.log.time = at
    assert (await market.report(UsageReport(lease, seller.id, sequence, gpu_ms))).refusal is None


async def tick(market: Market, at: int) -> None:
    market.log.time = at
    await market.execute(Ticked())


async def month_for(market: Market, account: Account, month: int, role: Side = Side.BID) -> Invoice:
    found = await market.store.invoice(account, month, role=role, after=None, limit=None)
    assert found is not None
    return found


def money(line: Line) -> tuple[int, int, int, int]:
    return line.gpu_ms, line.cost, line.fee, line.amount


async def test_a_lease_over_midnight_is_on_both_invoices_and_what_comes_late_on_that_of_its_end(
    market: Market, buyer: Account, seller: Account
) -> None:
    lease = await active(market, buyer, seller)
    await report(market, lease, seller, 1, QUANTITY * 3 * HOUR_MS - 77_777, MIDNIGHT - 1)
    await report(market, lease, seller, 2, QUANTITY * 4 * HOUR_MS, MIDNIGHT + HOUR_MS)
    await report(market, lease, seller, 3, QUANTITY * 6 * HOUR_MS - 1, MIDNIGHT + 2 * DAY_MS)
    first = bill(PRICE, QUANTITY * 3 * HOUR_MS - 77_777, FEE_BPS, FEE_BPS)
    whole = bill(PRICE, QUANTITY * 6 * HOUR_MS - 1, FEE_BPS, FEE_BPS)
    before, after = [await month_for(market, buyer, month) for month in (NOVEMBER, DECEMBER)]
    (line,) = before.lines
    assert money(line) == (QUANTITY * 3 * HOUR_MS - 77_777, first.cost, first.buyer_fee, first.charged)
    (line,) = after.lines
    assert line.amount == whole.charged - first.charged
    assert [each.head.totals.amount for each in (before, after)] == [first.charged, whole.charged - first.charged]
    sales = [await month_for(market, seller, month, Side.ASK) for month in (NOVEMBER, DECEMBER)]
    assert [each.head.totals.amount for each in sales] == [first.earned, whole.earned - first.earned]
    assert [line.fee for each in sales for line in each.lines] == [
        first.seller_fee,
        whole.seller_fee - first.seller_fee,
    ]


async def test_a_month_is_final_once_no_report_can_change_it(market: Market, buyer: Account, seller: Account) -> None:
    lease = await active(market, buyer, seller, hours=3)
    await report(market, lease, seller, 1, HOUR_MS, MIDNIGHT - 1)
    assert not (await month_for(market, buyer, NOVEMBER)).head.final
    grace_over = MIDNIGHT + SPEC.grace_ms
    await tick(market, grace_over)
    assert not (await month_for(market, buyer, NOVEMBER)).head.final, "its lease takes reports until the grace is over"
    await report(market, lease, seller, 2, 3 * HOUR_MS, grace_over)
    await tick(market, grace_over + 1)
    final = await month_for(market, buyer, NOVEMBER)
    assert (final.head.final, [line.gpu_ms for line in final.lines]) == (True, [3 * HOUR_MS])
    assert (await month_for(market, seller, NOVEMBER, Side.ASK)).head.final
    assert not (await month_for(market, buyer, DECEMBER)).head.final


async def test_months_are_numbered_without_gaps_from_the_one_in_which_the_account_was_opened(
    market: Market, buyer: Account
) -> None:
    await tick(market, month_start(NOVEMBER + 3) + 1)
    found = await market.store.invoices(buyer, role=Side.BID, before=None, limit=100)
    assert [(each.month - NOVEMBER, each.number, each.final) for each in found] == [
        (3, 4, False),
        (2, 3, False),
        (1, 2, True),
        (0, 1, True),
    ]
    assert await market.store.invoices(buyer, role=Side.BID, before=NOVEMBER + 3, limit=2) == found[1:3]
    for month in (NOVEMBER - 1, NOVEMBER + 4):
        assert await market.store.invoice(buyer, month, role=Side.BID, after=None, limit=None) is None


async def test_a_report_that_settlement_reads_days_late_changes_no_final_month(
    market: Market, buyer: Account, seller: Account
) -> None:
    """As when the topic of usage was away, while executions went on."""
    lease = await active(market, buyer, seller, hours=12)
    await tick(market, MIDNIGHT + LATE_MS + 1)
    final = await month_for(market, buyer, NOVEMBER)
    assert (final.head.final, final.lines) == (True, [])
    await report(market, lease, seller, 1, HOUR_MS, MIDNIGHT - 1)
    assert await month_for(market, buyer, NOVEMBER) == final
    assert [line.gpu_ms for line in (await month_for(market, buyer, DECEMBER)).lines] == [HOUR_MS]


async def test_what_a_buyer_forfeits_is_shown_beside_what_was_used(
    market: Market, buyer: Account, seller: Account
) -> None:
    await market.open(msgspec.structs.replace(SPEC, refund_bps=5_000))
    lease = await active(market, buyer, seller, hours=2)
    await report(market, lease, seller, 1, QUANTITY * HOUR_MS, EVENING + 90 * units.MINUTE_MS)
    assert (await market.instruct(End(lease, buyer.id))).refusal is None
    (line,) = (await month_for(market, buyer, NOVEMBER)).lines
    assert (line.gpu_ms, line.forfeited_gpu_ms) == (QUANTITY * HOUR_MS * 3 // 2, QUANTITY * HOUR_MS // 2)


async def test_what_daily_credits_paid_of_a_month_is_said(market: Market, buyer: Account, seller: Account) -> None:
    assert (await market.instruct(DailyCredits(buyer.id, units.MICRO))).refusal is None
    lease = await active(market, buyer, seller)
    await report(market, lease, seller, 1, QUANTITY * HOUR_MS, EVENING + 2 * HOUR_MS)
    november = await month_for(market, buyer, NOVEMBER)
    assert (november.head.totals.credits, november.lines[0].amount) == (units.MICRO, november.head.totals.amount)
    left = await market.store.balance(buyer.id)
    assert MONEY - left.cash - left.held - left.escrow == november.head.totals.amount - units.MICRO
    assert "Paid by daily credits</dt><dd>1.00" in statements.page(november, buyer)
    assert (await month_for(market, seller, NOVEMBER, Side.ASK)).head.totals.credits == 0


async def test_lines_come_in_parts_that_make_the_whole(market: Market, buyer: Account, seller: Account) -> None:
    leases = [await active(market, buyer, seller, hours=1) for _ in range(3)]
    for lease in leases:
        await report(market, lease, seller, 1, HOUR_MS, EVENING + 2 * HOUR_MS)
    whole = await month_for(market, buyer, NOVEMBER)
    first = await market.store.invoice(buyer, NOVEMBER, role=Side.BID, after=None, limit=2)
    assert first is not None
    rest = await market.store.invoice(buyer, NOVEMBER, role=Side.BID, after=first.lines[-1].id, limit=2)
    assert rest is not None
    assert [len(first.lines), len(rest.lines)] == [2, 1]
    assert first.lines + rest.lines == whole.lines
    assert first.head == rest.head == whole.head


@pytest.mark.parametrize("seed", range(3))
async def test_all_invoices_are_the_ledger_and_a_final_one_never_changes(
    market: Market, seller: Account, dsn: str, seed: int
) -> None:
    rng = random.Random(seed)
    buyers = [await market.account(f"buyer {n}", fee_bps=rng.choice([0, FEE_BPS]), money=MONEY) for n in range(3)]
    buyers.append(await market.account("both", money=MONEY))
    parties = [*buyers, seller]
    running: dict[LeaseId, tuple[int, int, int]] = {}
    final: dict[tuple[int, Side, int], Head] = {}
    corrected = 0
    for step in range(40):
        market.log.time += rng.randrange(1, 2 * DAY_MS)
        await market.execute(Ticked())
        sells = rng.choice([seller, buyers[-1]])
        lease = await active(market, rng.choice(buyers[:3]), sells, hours=rng.choice([1, 24, 200]))
        running[lease] = (sells.id, 0, 0)
        for lease in rng.sample(list(running), min(4, len(running))):
            supplier, sequence, used = running[lease]
            used += rng.randrange(1, 10**8)
            outcome = await market.report(UsageReport(lease, supplier, sequence + 1, used))
            if outcome.refusal is None:
                running[lease] = (supplier, sequence + 1, used)
        for lease in rng.sample(list(running), min(2, len(running))):
            by, gpu_ms = rng.choice([0, running[lease][0]]), rng.randrange(0, 2 * 10**8)
            outcome = await market.instruct(Correct(lease, by, gpu_ms, f"step {step}"))
            corrected += outcome.refusal is None
        if step % 7 == 0:
            ended = rng.choice(list(running))
            for each in buyers:
                await market.instruct(End(ended, each.id))
            await market.instruct(Deposit(rng.choice(buyers).id, rng.randrange(1, 10**6), f"more {step}"))
        for account in parties:
            for role in Side:
                for head in await market.store.invoices(account, role=role, before=None, limit=100):
                    key = (account.id, role, head.month)
                    assert final.get(key, head) == head
                    if head.final:
                        final[key] = head
    assert len([head for head in final.values() if head.totals.lines]) >= 4
    assert corrected >= 10
    db = await asyncpg.connect(dsn)
    moved = {
        (row["account"], Side(int(row["sold"])), row["month"]): row["amount"]
        for row in await db.fetch(
            """SELECT account, kind = 'payable' AS sold, coalesce(month, month_of(time)) AS month,
                sum(CASE kind WHEN 'payable' THEN amount ELSE -amount END)::bigint AS amount
            FROM entries JOIN transactions ON transactions.id = transaction
            JOIN ledger_accounts AS ledger ON ledger.id = ledger_account
            WHERE account > 0 AND reference NOT LIKE 'deposit:%' GROUP BY 1, 2, 3 HAVING sum(amount) <> 0"""
        )
    }
    await db.close()
    for account in parties:
        for role in Side:
            for head in await market.store.invoices(account, role=role, before=None, limit=100):
                lines = (await month_for(market, account, head.month, role)).lines
                assert head.totals.amount == sum(line.amount for line in lines)
                assert head.totals.amount == moved.pop((account.id, role, head.month), 0)
    assert moved == {}


async def closed(market: Market, buyer: Account, seller: Account) -> LeaseId:
    """On November's invoice, which is final; it is the 5th of December."""
    lease = await active(market, buyer, seller, hours=3)
    await report(market, lease, seller, 1, QUANTITY * 3 * HOUR_MS, MIDNIGHT)
    await tick(market, MIDNIGHT + 4 * DAY_MS)
    assert (await month_for(market, buyer, NOVEMBER)).head.final
    return lease


async def test_what_is_corrected_later_is_a_note_on_the_next_invoice_that_names_the_first(
    market: Market, buyer: Account, seller: Account
) -> None:
    lease = await closed(market, buyer, seller)
    november, cash = await month_for(market, buyer, NOVEMBER), (await market.store.balance(buyer.id)).cash
    wrong, right = (bill(PRICE, QUANTITY * hours * HOUR_MS, FEE_BPS, FEE_BPS) for hours in (3, 2))
    told = Correct(lease, seller.id, QUANTITY * 2 * HOUR_MS, "down for an hour")
    for _ in range(2):
        assert (await market.instruct(told)).refusal is None, "once more changes nothing"
    assert await month_for(market, buyer, NOVEMBER) == november
    december = await month_for(market, buyer, DECEMBER)
    (line,) = december.lines
    assert (line.id, line.kind, line.amount) == ((lease, 1), "correction", right.charged - wrong.charged)
    assert line.note == Note(DECEMBER, 2, NOVEMBER, 1, "down for an hour", MIDNIGHT + 4 * DAY_MS)
    assert december.head.totals.corrections == december.head.totals.amount == line.amount
    assert (await market.store.balance(buyer.id)).cash == cash + wrong.charged - right.charged
    assert (await market.store.balance(seller.id)).receivable == right.earned
    (sale,) = (await month_for(market, seller, DECEMBER, Side.ASK)).lines
    assert (sale.amount, sale.fee) == (right.earned - wrong.earned, right.seller_fee - wrong.seller_fee)
    for row in focus.rows(december, buyer):
        assert problems(row) == []
        assert (row["ChargeClass"], row["x_Corrects"]) == ("Correction", f"inv_{buyer.id}-1 {row['ResourceId']}")
        assert (row["ChargePeriodStart"], row["InvoiceId"]) == ("2026-11-30T21:00:00Z", f"inv_{buyer.id}-2")
        assert row["PricingQuantity"] == "-3"


async def test_the_exchange_can_take_it_back_where_the_cash_covers_it(
    market: Market, buyer: Account, seller: Account
) -> None:
    lease = await closed(market, buyer, seller)
    whole = QUANTITY * 3 * HOUR_MS
    assert (await market.instruct(Correct(lease, seller.id, 0, "was down"))).refusal is None
    assert (await market.store.balance(seller.id)).receivable == 0
    cash = (await market.store.balance(buyer.id)).cash
    assert cash == MONEY
    upwards = await market.instruct(Correct(lease, seller.id, 1, "was up"))
    assert upwards.refusal is Refusal.CORRECTION_UPWARDS
    out = Withdrawal(buyer.id, "all-of-it", Source.CASH, cash - 1, "bank 7")
    assert (await market.instruct(out)).refusal is None
    owed = bill(PRICE, whole, FEE_BPS, FEE_BPS)
    short = await market.instruct(Correct(lease, 0, whole, "was up"))
    shown = format_lease_id(lease)
    assert (short.refusal, short.args) == (
        Refusal.CORRECTION_UNCOVERED,
        (shown, owed.charged, "buyer's cash", 1),
    )
    assert (await market.instruct(Deposit(buyer.id, owed.charged, "for that"))).refusal is None
    assert (await market.instruct(Correct(lease, 0, whole, "was up"))).refusal is None
    assert (await market.store.balance(buyer.id)).cash == 1
    assert (await market.store.balance(seller.id)).receivable == owed.earned
    december = await month_for(market, buyer, DECEMBER)
    assert [line.id[1] for line in december.lines] == [1, 2]
    assert december.head.totals.amount == 0


async def test_what_a_supplier_was_paid_out_already_is_not_there_to_be_given_back(
    market: Market, buyer: Account, seller: Account
) -> None:
    lease = await closed(market, buyer, seller)
    earned = (await market.store.balance(seller.id)).receivable
    out = Withdrawal(seller.id, "november", Source.RECEIVABLE, earned, "bank 7")
    assert (await market.instruct(out)).refusal is None
    short = await market.instruct(Correct(lease, 0, 0, "was down"))
    assert (short.refusal, short.args) == (
        Refusal.CORRECTION_UNCOVERED,
        (format_lease_id(lease), earned, "supplier's receivable", 0),
    )


async def test_a_lease_that_opens_closes_and_is_corrected_in_one_batch_is_corrected(
    log: ScriptedLog, store: Store
) -> None:
    """As when settlement was away meanwhile."""
    async with settling(log, store):
        market = Market(log, store)
        await market.open()
        buyer = await market.account("buyer", fee_bps=FEE_BPS, money=MONEY)
        seller = await market.account("seller", fee_bps=FEE_BPS)
    start = EVENING + HOUR_MS // 2
    ask, bid = ask_of(seller, PRICE, 1, start), bid_of(buyer, PRICE, 1, 1, start)
    await market.intend(ask)
    await market.intend(bid)
    place = market.next_place
    fill = fill_of(place + 1, place, buyer, seller, price=PRICE, quantity=1, start=start, hours=1)
    answers: list[Execution] = [
        Execution(place, place - 1, log.time, (accepted(ask),)),
        Execution(place + 1, place, log.time, (accepted(bid), fill, Filled(place + 1, buyer.id))),
    ]
    await log.append(EXECUTIONS, 0, [codec.encode(answer) for answer in answers])
    lease = (place + 1, 0)
    said = (Deliver(lease, seller.id, "there"), Accept(lease, buyer.id))
    await log.append(INSTRUCTIONS, 0, [codec.encode(each) for each in said])
    log.time = start + HOUR_MS
    await log.append(USAGE, 0, [codec.encode(UsageReport(lease, seller.id, 1, HOUR_MS, final=True))])
    log.time += 1
    await log.append(INSTRUCTIONS, 0, [codec.encode(Correct(lease, 0, HOUR_MS // 2, "half"))])
    async with settling(log, store):
        half = bill(PRICE, HOUR_MS // 2, FEE_BPS, FEE_BPS)
        assert (await store.balance(buyer.id)).cash == MONEY - half.charged
        assert [line.amount for line in await store.notes(seller, lease, role=Side.ASK)] == [
            half.earned - bill(PRICE, HOUR_MS, FEE_BPS, FEE_BPS).earned
        ]
        assert (await audit(store, log)).findings == []


# Through the real exchange.


async def metered(exchange: Venue, cloud: Exchange, cx: Exchange) -> Lease:
    """A lease of 8 GPUs from the next minute on, and ended at once: what is billed is forfeited."""
    await exchange.admin.change_class(CLASS, refund_bps=5_000)
    await cloud.sell(CLASS, gpus=8, price="2.50", hours=48)
    order = await cx.buy(CLASS, gpus=8, hours=2, max_price="2.50", now_only=True)
    (lease,) = await cx.leases(order_id=order.order_id)
    await cloud.deliver(lease.lease_id, "ssh there")
    await cx.accept(lease.lease_id)
    return await cx.end(lease.lease_id)


async def test_a_buyer_and_a_supplier_read_the_same_month_each_from_its_side(exchange: Venue) -> None:
    async with exchange.trader("cloud", money="") as cloud, exchange.trader("developer") as cx:
        lease = await metered(exchange, cloud, cx)
        (month,) = await cx.invoices()
        assert (month.role, month.number, month.status, month.total) == ("buyer", 1, "preliminary", lease.charged)
        invoice = await cx.invoice(month.month)
        (line,) = invoice.lines
        assert (line.lease_id, line.supplier_name, line.cost, line.amount) == (
            lease.lease_id,
            "cloud",
            lease.charged,
            lease.charged,
        )
        assert line.forfeited_gpu_ms == line.gpu_ms == lease.forfeited_gpu_ms
        assert invoice.total == lease.charged
        assert (await cloud.invoice(month.month)).lines == [], "a supplier who bought nothing"
        sales = await cloud.invoice(month.month, role="supplier")
        assert (sales.invoice_id, sales.total) == (f"stm_{sales.account_id.removeprefix('acc_')}-1", lease.charged)
        assert [each.lease_id for each in sales.lines] == [lease.lease_id]
        assert (await cx.invoice(month.month, role="supplier")).lines == [], "another's sales are not there"
        rows = list(csv.DictReader(io.StringIO((await cx.invoice_file(month.month, "csv")).decode())))
        assert [{name: row[name] for name in ("invoice_id", "month", "status", "amount")} for row in rows] == [
            {"invoice_id": month.invoice_id, "month": month.month, "status": "preliminary", "amount": lease.charged}
        ]
        assert set(rows[0]) == {"invoice_id", "month", "status", *msgspec.to_builtins(line)}


async def test_a_page_escapes_all_that_others_wrote_and_runs_nothing(exchange: Venue) -> None:
    async with exchange.trader("<script>alert(1)</script>\"'&", money="") as cloud, exchange.trader("=cmd|x") as cx:
        await metered(exchange, cloud, cx)
        (month,) = await cx.invoices()
        page = (await cx.invoice_file(month.month, "html")).decode()
        sales = await cloud.invoice_file(month.month, "html", role="supplier")
        rows = list(csv.DictReader(io.StringIO((await cx.invoice_file(month.month, "csv")).decode())))
    assert "<script" not in page + sales.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;" in page
    assert not re.search(r"https?://|\bsrc=|\bon\w+=|@import|url\(", page)
    assert f"Invoice {month.invoice_id}" in page
    assert rows[0]["supplier_name"] == "<script>alert(1)</script>\"'&"
    assert statements.csv_rows([["=cmd|x", "-1.50", "+1", "@x", 7, None]]) == "'=cmd|x,-1.50,'+1,'@x,7,\r\n"


async def test_a_page_says_by_its_headers_that_it_may_fetch_and_run_nothing(exchange: Venue) -> None:
    headers = {"Authorization": f"Bearer {exchange.key}"}
    (month,) = await exchange.admin.invoices()
    async with (
        aiohttp.ClientSession(exchange.url, headers=headers) as http,
        http.get(f"/v1/invoices/{month.month}/html") as page,
        http.get(f"/v1/invoices/{month.month}/csv") as file,
    ):
        assert page.headers["Content-Security-Policy"].startswith("default-src 'none';")
        assert page.content_type == "text/html"
        assert (file.content_type, file.headers["Content-Disposition"]) == (
            "text/csv",
            f'attachment; filename="{month.invoice_id}.csv"',
        )
        assert len((await file.text()).splitlines()) == 1, "the names of the columns are there without a line"


@pytest.mark.parametrize(
    ("month", "status", "code"),
    [("2026-13", 400, "invalid"), ("1999-01", 404, "not_found"), ("2999-01", 404, "not_found")],
)
async def test_a_month_that_is_none_or_not_there_is_said_so(
    exchange: Venue, month: str, status: int, code: str
) -> None:
    for call in (exchange.admin.invoice(month), exchange.admin.invoice_file(month, "csv")):
        with pytest.raises(ExchangeError) as refused:
            await call
        assert (refused.value.status, refused.value.code, refused.value.field) == (status, code, "month")


async def test_a_line_has_a_name_by_which_the_next_are_asked_for(
    market: Market, buyer: Account, seller: Account
) -> None:
    leases = [await active(market, buyer, seller, hours=1) for _ in range(5)]
    for lease in leases:
        await report(market, lease, seller, 1, HOUR_MS, EVENING + 2 * HOUR_MS)
    whole = await month_for(market, buyer, NOVEMBER)
    shown = statements.shown_invoice(whole, 5)
    assert statements.parse_line(shown.next or "") == whole.lines[-1].id
    assert statements.parse_line("lse_7k2-0.3") == (parse_lease_id("lse_7k2-0"), 3)
    for wrong in ("lse_7k2", "lse_7k2-0.", "lse_7k2-0.x", "7"):
        with pytest.raises(ValueError, match="looks like"):
            statements.parse_line(wrong)


async def test_what_was_bought_is_exported_as_csv_and_parquet(exchange: Venue, tmp_path: Path) -> None:
    async with exchange.trader("cloud", money="") as cloud, exchange.trader("developer") as cx:
        lease = await metered(exchange, cloud, cx)
        (month,) = await cx.invoices()
        rows = [row async for page in cx.focus(month.month) for row in page]
        text = (await cx.focus_csv(month.month)).decode()
        await write_parquet(tmp_path / "focus.parquet", cx.focus(month.month))
        assert [row async for page in cloud.focus(month.month) for row in page] == [], "who only sold has no costs"
    (row,) = rows
    assert problems(row) == []
    assert (row["ResourceId"], row["BilledCost"], row["ConsumedQuantity"]) == (lease.lease_id, lease.charged, "0")
    assert list(csv.DictReader(io.StringIO(text))) == [{name: value or "" for name, value in row.items()}]
    table = parquet.read_table(tmp_path / "focus.parquet")
    known = {
        "String": "string",
        "JSON": "string",
        "Decimal": "decimal128(38, 12)",
        "Date/Time": "timestamp[ms, tz=UTC]",
    }
    for column in COLUMNS:
        field = table.schema.field(column.name)
        assert (str(field.type), field.nullable) == (known[column.kind], column.nullable), column.name
    (read,) = table.to_pylist()
    assert read["BilledCost"] == Decimal(lease.charged or "")
    assert read["BillingPeriodStart"].isoformat() == f"{month.month}-01T00:00:00+00:00"
    assert {name for name, value in read.items() if value is None} == {n for n, value in row.items() if value is None}


async def test_finance_and_auditors_read_the_books_of_all_accounts_and_nobody_else_does(exchange: Venue) -> None:
    async with exchange.trader("cloud", money="") as cloud, exchange.trader("developer") as cx:
        await metered(exchange, cloud, cx)
        buyer, month = (await cx.account()).account_id, (await cx.invoices())[0].month
        own = await cx.invoice(month), await cx.invoice_file(month, "html"), await cx.focus_csv(month)
        sales = await cloud.invoice(month, role="supplier")
        auditor_key = await exchange.key_of("auditor", "read", "audit")
        async with Exchange(exchange.url, auditor_key) as auditor:
            for reader in (exchange.admin, auditor):
                assert await reader.invoices(account=buyer) == await cx.invoices()
                assert await reader.invoice(month, account=buyer) == own[0]
                assert await reader.invoice_file(month, "html", account=buyer) == own[1]
                assert await reader.focus_csv(month, account=buyer) == own[2]
                assert [row async for page in reader.focus(month, account=buyer) for row in page]
                assert await reader.invoice(month, role="supplier", account=sales.account_id) == sales
                with pytest.raises(ExchangeError) as refused:
                    await reader.invoices(account="acc_999")
                assert refused.value.status == 404
            with pytest.raises(ExchangeError) as refused:
                await auditor.deposit(buyer, "1", reference="who reads does not write")
            assert refused.value.code == "missing_scope"
        reads = [f"invoices/{month}{kind}?" for kind in ("", "/csv", "/html")] + ["invoices?"]
        reads += [f"focus{kind}?month={month}&" for kind in ("", "/csv")]
        headers = {"Authorization": f"Bearer {await exchange.key_of('nosy', 'read', 'trade', 'supply', 'meter')}"}
        async with aiohttp.ClientSession(exchange.url, headers=headers) as http:
            for each in reads:
                for account, status in ((buyer, 403), ("acc_999", 403), ("x", 400)):
                    async with http.get(f"/v1/{each}account_id={account}") as answer:
                        assert answer.status == status, each
        assert await cx.invoice(month, account=buyer) == own[0], "one's own by its name, too"
        env = {"CX_URL": exchange.url, "CX_KEY": auditor_key}
        assert (await cx_json("invoice", month, "--account", buyer, env=env))["invoice_id"] == own[0].invoice_id
        assert len(await cx_json("focus", "--month", month, "--account", buyer, env=env)) == 1


async def test_a_correction_is_said_by_who_may_and_seen_by_both(exchange: Venue) -> None:
    async with exchange.trader("cloud", money="") as cloud, exchange.trader("developer") as cx:
        lease = await metered(exchange, cloud, cx)
        for call, status, code in (
            (cloud.correct(lease.lease_id, 0, "was down"), 409, "lease_state"),
            (cx.correct(lease.lease_id, 0, "was down"), 404, "unknown_lease"),
            (cx.correct_any(lease.lease_id, 0, "was down"), 403, "missing_scope"),
            (exchange.admin.correct_any("lse_zzzz-0", 0, "was down"), 404, "unknown_lease"),
            (exchange.admin.corrections(lease.lease_id), 404, "unknown_lease"),
            (cloud.correct(lease.lease_id, 0, ""), 400, "invalid"),
        ):
            with pytest.raises(ExchangeError) as refused:
                await call
            assert (refused.value.status, refused.value.code) == (status, code)
        await cloud.report_usage([LastReport(lease_id=lease.lease_id, sequence=1, gpu_ms=0, final=True)])
        assert await cloud.correct(lease.lease_id, 0, "as it was") == [], "nothing to correct"
        assert await cx.corrections(lease.lease_id) == []
        with pytest.raises(ExchangeError) as refused:
            await exchange.admin.correct_any(lease.lease_id, 10**12, "more")
        assert (refused.value.status, refused.value.code) == (422, "correction_out_of_range")


async def test_a_note_is_shown_wherever_a_month_is(market: Market, buyer: Account, seller: Account) -> None:
    lease = await closed(market, buyer, seller)
    assert (await market.instruct(Correct(lease, seller.id, 0, "<b>down</b>"))).refusal is None
    december = await month_for(market, buyer, DECEMBER)
    (line,) = december.lines
    shown = format_lease_id(lease)
    stated = statements.shown_line(line, Side.BID)
    note = f"crn_{shown.removeprefix('lse_')}.1"
    assert (stated.line, stated.note_id, stated.corrects) == (f"{shown}.1", note, f"inv_{buyer.id}-1 {shown}")
    page = statements.page(december, buyer)
    assert f"Credit note {note} to inv_{buyer.id}-1 {shown}: &lt;b&gt;down&lt;/b&gt;" in page
    (row,) = csv.DictReader(io.StringIO(statements.csv_header() + statements.csv_lines(december)))
    assert (row["kind"], row["reason"], row["note_id"]) == ("correction", "<b>down</b>", note)
    (sale,) = await market.store.notes(seller, lease, role=Side.ASK)
    seen = statements.shown_correction(sale, seller.id, Side.ASK)
    assert (seen.note_id, seen.invoice_id, seen.corrects) == (note, f"stm_{seller.id}-2", f"stm_{seller.id}-1 {shown}")
    assert seen.amount == units.format_usd(sale.amount)
    assert statements.parse_line(stated.line) == line.id


async def test_a_database_of_before_has_what_it_charged_in_the_months_of_the_leases_ends(bare_dsn: str) -> None:
    before = {name: step for name, step in database.migrations().items() if name < "0009"}
    ends, late = MIDNIGHT - HOUR_MS, MIDNIGHT + DAY_MS
    sold = rf"\x{msgspec.msgpack.encode(Attributes()).hex()}"
    connection = await asyncpg.connect(bare_dsn)
    try:
        await database.migrate(connection, before)
        await connection.execute(
            f"""
            INSERT INTO accounts (name, owner, buyer_fee_bps, seller_fee_bps, created_at)
                VALUES ('buyer', 1, 100, 0, {EVENING}), ('seller', 2, 0, 100, {EVENING});
            INSERT INTO ledger_accounts (id, kind, account)
                VALUES (9, 'cash', 1), (10, 'hold', 1), (11, 'payable', 1), (-1, 'escrow', 1), (19, 'payable', 2);
            INSERT INTO leases VALUES (7, 0, 1, 0, 'X', 7, 3, 1, 2, 2000000, 1, {ends - HOUR_MS}, {ends}, 100, 100,
                '{sold}',
                0, 0, 0, 0, 'closed', 'completed', 1, 1, {late}, NULL, '', 2, 3600000, 2020000, 1980000);
            INSERT INTO usage VALUES (7, 0, 1, 1800000, false, {ends}), (7, 0, 2, 3600000, true, {late});
            INSERT INTO transactions (reference, time) VALUES ('deposit:one', 1), ('fill:lse_7-0', 2),
                ('usage:lse_7-0:1', {ends}), ('usage:lse_7-0:2', {late});
            INSERT INTO entries VALUES (1, 6, -5000000), (1, 9, 5000000), (2, 9, -2020000), (2, -1, 2020000),
                (3, -1, -1010000), (3, 19, 990000), (3, 7, 20000), (4, -1, -1010000), (4, 19, 990000), (4, 7, 20000);
            """
        )
    finally:
        await connection.close()
    store = await Store.connect(bare_dsn)
    try:
        async with store.snapshot() as snapshot:
            for rule in ("months", "invoices", "earnings", "charges"):
                assert await check(snapshot, database.Queries(), rule, None) == []
        for number, role, amount in ((1, Side.BID, 2_020_000), (2, Side.ASK, 1_980_000)):
            account = await store.account(number)
            assert account is not None
            found = await store.invoice(account, NOVEMBER, role=role, after=None, limit=None)
            assert found is not None
            assert [(line.gpu_ms, line.cost, line.amount) for line in found.lines] == [(HOUR_MS, 2_000_000, amount)]
    finally:
        await store.close()
