"""The audit: each rule finds what was tampered with, in the full pass and in the one that goes on all the time."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from gateways.client import ExchangeError
from schemas import topics, units
from schemas.commands import Side
from schemas.instructions import Accept, Deliver, Deposit, Source, UsageReport, Withdrawal
from schemas.log import Record
from schemas.store import Account, Spender
from schemas.units import HOUR_MS
from settlement import auditor
from settlement.audit import RULES, WHOLE_RULES, audit
from settlement.auditor import REPORTED, Auditor, Round
from settlement.metrics import AuditMetrics
from settlement.store import Store
from tests.integration.conftest import Venue, running
from tests.integration.test_cli import cx
from tests.settling import Market, ScriptedLog, audited, bid_of, settling

PRICE, FEE_BPS, MONEY = 2_499_997, 133, 100 * units.MICRO

CORRUPTIONS = {
    "transactions": "UPDATE entries SET amount = amount + 1 WHERE ledger_account < 0 AND amount > 0",
    "balances": "UPDATE ledger_accounts SET balance = balance + 1 WHERE kind = 'cash' AND balance > 0",
    "holds": "UPDATE ledger_accounts SET balance = balance + 1 WHERE kind = 'hold' AND balance > 0",
    "reserves": "UPDATE ledger_accounts SET reserved = reserved + 1 WHERE kind = 'cash' AND balance > 0",
    "orders": "UPDATE orders SET remaining = remaining + 1 WHERE client_order_id = 'resting'",
    "amends": "UPDATE amends SET held = held + 1 WHERE status <> 'sent'",
    "escrows": "UPDATE leases SET ends_at = end_at - 60000 WHERE state = 'active'",
    "charges": "UPDATE leases SET charged = charged + 1",
    "usage": "UPDATE usage SET gpu_ms = gpu_ms - 1",
    "earnings": "UPDATE leases SET earned = earned - 1",
    "uptimes": "UPDATE leases SET uptime_bps = 10000",
    "sla": "UPDATE leases SET credited = credited + 1",
    "credits": "INSERT INTO credit_limits VALUES (1, 99, 5, 0)",
    "corrections": "INSERT INTO corrections "
    "SELECT position, fill_index, 1, 0, 0, buyer, seller, 1, 5, 0, 0, 0, 1, 'x' FROM leases",
    "daily_credits": "INSERT INTO daily_credits VALUES (1, 5, 0, 5, 5, 0)",
    "months": "UPDATE charges SET cost = cost + 1",
    "committed": "UPDATE spenders SET committed = committed + 1",
    "outgoing": "UPDATE withdrawals SET amount = amount - 1",
    "payments": "UPDATE deposits SET amount = amount + 1",
    "fills": "UPDATE leases SET class_id = 'L40S'",
    "history": "UPDATE entries SET amount = 2 * amount",
}
"""Of a superuser who switched the triggers off: by the rule that must find it."""
WHOLE_CORRUPTIONS = {
    "spend": "UPDATE spend SET charged = charged + 1",
    "grants": "UPDATE ledger_accounts SET balance = balance - 1 WHERE kind = 'grants'",
    "invoices": "UPDATE charges SET month = month + 1",
}
"""Likewise, by the rules of the full pass alone."""


@pytest.fixture
async def log() -> ScriptedLog:
    return ScriptedLog()


@pytest.fixture
async def market(log: ScriptedLog, store: Store) -> AsyncIterator[Market]:
    """Settlement at work on a lease that was used, a bid that stands, and an amend that is done."""
    async with settling(log, store):
        market = Market(log, store)
        await market.open()
        buyer = await market.account("buyer", fee_bps=FEE_BPS, money=MONEY)
        await used(market, buyer, await market.account("seller", fee_bps=FEE_BPS))
        out = Withdrawal(buyer.id, "rent", Source.CASH, units.MICRO, "bank")
        assert (await market.instruct(out)).refusal is None
        resting, more = (bid_of(buyer, PRICE, gpus, 1, log.time, "resting") for gpus in (1, 2))
        await market.intend(resting, spender=Spender(team="research"))
        order = await store.order(buyer.id, await market.accept(resting))
        assert order is not None
        assert order.order_id is not None
        await market.intend_amend(order, more)
        await market.amend(order.order_id, more)
        yield market


async def used(market: Market, buyer: Account, seller: Account) -> None:
    lease = await market.sell(buyer, seller, price=PRICE, limit=PRICE)
    await market.instruct(Deliver(lease, seller.id, "ssh there"))
    await market.instruct(Accept(lease, buyer.id))
    market.log.time += HOUR_MS
    assert (await market.report(UsageReport(lease, seller.id, 1, 5_000_000))).refusal is None


async def tamper(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SET session_replication_role = replica")
        assert await connection.execute(sql) not in ("UPDATE 0", "DELETE 0")
    finally:
        await connection.close()


async def one_round(log: ScriptedLog, store: Store) -> Round:
    """Of an auditor that has just been started."""
    async with store.auditing() as connection:
        return await Auditor(log, store, metrics=AuditMetrics(CollectorRegistry(), REPORTED)).round(connection)


def test_a_corruption_is_made_for_each_rule() -> None:
    assert set(CORRUPTIONS) == set(REPORTED)
    assert {*CORRUPTIONS, *WHOLE_CORRUPTIONS} == {*RULES, *WHOLE_RULES, "fills", "history"}


@pytest.mark.parametrize("rule", CORRUPTIONS)
async def test_every_rule_finds_what_was_tampered_with_though_nothing_touches_it_again(
    market: Market, log: ScriptedLog, store: Store, dsn: str, rule: str
) -> None:
    assert (await audited(log, store)).findings == []
    await tamper(dsn, CORRUPTIONS[rule])
    assert rule in {found.rule for found in (await audited(log, store)).findings}
    if rule != "history":  # which the full pass finds in the balances
        assert rule in {found.rule for found in (await audit(store, log)).findings}


@pytest.mark.parametrize("rule", WHOLE_CORRUPTIONS)
async def test_the_full_pass_finds_what_only_it_adds_up(
    market: Market, log: ScriptedLog, store: Store, dsn: str, rule: str
) -> None:
    told: list[tuple[int, int | None]] = []
    found = await audit(store, log, on_progress=lambda done, of: told.append((done, of)))
    assert found.findings == []
    rules = len(RULES) + len(WHOLE_RULES)
    assert told == [(done, rules + 1) for done in range(rules + 1)], "the comparison of fills is one more"
    await tamper(dsn, WHOLE_CORRUPTIONS[rule])
    assert rule in {found.rule for found in (await audit(store, log)).findings}


@pytest.mark.parametrize("rule", ["balances", "holds", "reserves", "escrows", "earnings"])
async def test_what_is_touched_is_checked_in_the_next_round(
    market: Market, log: ScriptedLog, store: Store, dsn: str, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditor, "SLICE", 0)
    monkeypatch.setattr(auditor, "SLICE_BLOCKS", 0)
    await one_round(log, store)
    await tamper(dsn, CORRUPTIONS[rule])
    await one_round(log, store)
    assert (await store.audit_status(limit=9)).findings == [], "nothing touched it"
    buyer, seller = await store.accounts(after=0, limit=2)
    await market.instruct(Deposit(buyer.id, MONEY, "more"))
    (lease,) = await store.leases(buyer.id, role=Side.BID, states=(), class_id=None, before=None, limit=2)
    assert (await market.report(UsageReport(lease.id, seller.id, 2, 6_000_000))).refusal is None
    await one_round(log, store)
    assert rule in {found.rule for found in (await store.audit_status(limit=99)).findings}


async def test_a_round_does_bounded_work_and_many_come_to_the_same(
    market: Market, log: ScriptedLog, store: Store, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await audited(log, store)
    await tamper(dsn, "TRUNCATE audit_sums, audit_lease_sums, audit_blocks, audit_partitions, audit_standing")
    await tamper(dsn, "INSERT INTO audit_standing DEFAULT VALUES")
    for name, bound in (("MAX_COUNTED", 2), ("MAX_STRETCHES", 2), ("MAX_COMPARED", 2), ("SLICE", 2)):
        monkeypatch.setattr(auditor, name, bound)
    first = await one_round(log, store)
    assert (first.standing.transaction, first.partitions[0].next_offset, first.is_swept) == (4, 2, False)
    assert first.behind == whole.transaction - 4
    rounds, status = 1, await store.audit_status(limit=9)
    while (status.sweep, status.behind) != (2, 0):
        await one_round(log, store)
        rounds, status = rounds + 1, await store.audit_status(limit=9)
    assert rounds > 3, "each goes on where the last one stood, though each is of an auditor of its own"
    assert (status.transaction, status.digest, status.findings) == (whole.transaction, whole.digest, [])
    await tamper(dsn, CORRUPTIONS["charges"])
    while status.sweep != 4:
        await one_round(log, store)
        status = await store.audit_status(limit=9)
    assert {found.rule for found in status.findings} == {"charges", "earnings", "escrows", "months"}


async def test_a_finding_is_an_alarm_until_a_whole_look_does_not_see_it_again(
    market: Market, log: ScriptedLog, store: Store, dsn: str
) -> None:
    registry = CollectorRegistry()
    service = Auditor(log, store, metrics=AuditMetrics(registry, REPORTED))
    assert (await store.audit_status(limit=9)).is_alarming, "it has not begun"
    async with store.auditing() as connection:
        await service.round(connection)
        status = await store.audit_status(limit=9)
        assert (status.is_alarming, status.behind, status.sweep) == (False, 0, 2)
        assert registry.get_sample_value("audit_transaction") == status.transaction
        assert registry.get_sample_value("audit_lag") == 0
        assert registry.get_sample_value("audit_findings", {"rule": "balances"}) == 0
        await tamper(dsn, "UPDATE ledger_accounts SET balance = balance + 7 WHERE kind = 'outside'")
        with capture_logs() as logged:
            await service.round(connection)
            await service.round(connection)
        what = {
            "rule": "balances",
            "finding": f"the balance of ledger account 6: {7 - MONEY}, where it must be {-MONEY}",
        }
        said = {"log_level": "error", "event": "the audit found what must not be"}
        assert logged == [what | said], "once"
        status = await store.audit_status(limit=9)
        assert ([found.rule for found in status.findings], status.imbalance) == (["balances"], 7)
        assert status.is_alarming
        assert registry.get_sample_value("audit_findings", {"rule": "balances"}) == 1
        assert registry.get_sample_value("audit_imbalance_microusd") == 7
        assert registry.get_sample_value("audit_rounds_total") == 3
        await tamper(dsn, "UPDATE ledger_accounts SET balance = balance - 7 WHERE kind = 'outside'")
        await service.round(connection)
        await service.round(connection)
        assert not (await store.audit_status(limit=9)).is_alarming
        assert registry.get_sample_value("audit_findings", {"rule": "balances"}) == 0
        assert registry.get_sample_value("audit_imbalance_microusd") == 0


async def test_a_log_that_was_damaged_is_found_and_read_on(market: Market, log: ScriptedLog, store: Store) -> None:
    executions = log.records[topics.EXECUTIONS]
    assert (await audited(log, store)).findings == []
    kept = executions[1]
    executions[1] = Record(1, kept.time, b"\x00")
    what = {"the record executions.v1/0/1", "the record executions.v1/0/2"}
    for findings in ((await audited(log, store)).findings, (await audit(store, log)).findings):
        assert what <= {found.what for found in findings if found.rule == "fills"}
    executions[1] = kept
    await audited(log, store)
    assert (await audited(log, store)).findings == []


async def test_a_fill_without_a_lease_and_a_lease_without_a_fill_are_found(
    market: Market, log: ScriptedLog, store: Store, dsn: str
) -> None:
    await audited(log, store)
    await tamper(dsn, "UPDATE leases SET fill_index = 7")
    (missing, *more) = [found for found in (await audited(log, store)).findings if found.rule == "fills"]
    assert (missing.found, more) == ("None", []), "one too many and one too few"
    await tamper(
        dsn, 'INSERT INTO leases SELECT (jsonb_populate_record(leases, \'{"number": 9, "position": 0}\')).* FROM leases'
    )
    whats = {found.what for found in (await audited(log, store)).findings if found.rule == "fills"}
    assert any(what.startswith("the number of leases made by executions") for what in whats)


async def test_two_auditors_never_work_at_once(log: ScriptedLog, store: Store) -> None:
    service = Auditor(log, store, metrics=AuditMetrics(CollectorRegistry(), REPORTED), interval_s=0.01)
    async with store.auditing():
        waiting = asyncio.create_task(service.run())
        await asyncio.sleep(0.2)
        assert (await store.audit_status(limit=1)).round_age_ms is None
    async with asyncio.timeout(10):
        while (await store.audit_status(limit=1)).round_age_ms is None:  # noqa: ASYNC110 - it says so to nobody
            await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait({waiting})


# Through the real exchange.


async def test_an_operator_asks_a_running_exchange(exchange: Venue, dsn: str) -> None:
    words = ("audit", "--status", "--url", exchange.url, "--key", exchange.key)
    code, out, _ = await cx(*words)
    assert (code, "round_age_s" in out) == (1, False), "no round yet: it may have stopped"
    service = Auditor(
        exchange.log, exchange.store, metrics=AuditMetrics(CollectorRegistry(), REPORTED), interval_s=0.05
    )
    async with running([service]), exchange.trader("developer") as developer:
        with pytest.raises(ExchangeError, match="admin"):
            await developer.audit()
        async with asyncio.timeout(10):
            while (status := await exchange.admin.audit()).sweep < 3 or not status.transaction:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert (status.alarm, status.behind, status.imbalance_microusd, status.findings) == (False, 0, 0, [])
        assert (await cx(*words))[0] == 0
        await tamper(dsn, "UPDATE ledger_accounts SET balance = balance + 5 WHERE kind = 'cash' AND balance > 0")
        async with asyncio.timeout(10):
            while not (status := await exchange.admin.audit()).alarm:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert (status.imbalance_microusd, [found.rule for found in status.findings]) == (5, ["balances"])
        code, out, _ = await cx(*words)
        assert code == 1
        assert "the balance of ledger account 17: 1000000000005, where it must be 1000000000000" in out
