"""What settlement tells Prometheus."""

import asyncio

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from schemas import codec
from schemas.instructions import Deposit, Source, Withdrawal, WithdrawalNews, WithdrawalState
from schemas.topics import INSTRUCTIONS
from schemas.units import HOUR_MS, MICRO
from settlement import service
from settlement.metrics import SettlementMetrics
from settlement.service import SettlementService
from settlement.store import Store
from tests.integration.conftest import running
from tests.settling import Market, ScriptedLog, settling


async def test_how_far_behind_it_is_and_how_long_the_oldest_payout_waits(
    store: Store, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "WATCH_S", 0.02)
    log, registry = ScriptedLog(), CollectorRegistry()

    async def figures(lag: float, payout_s: float) -> None:
        wanted = lag, payout_s
        for _ in range(500):
            found = (
                registry.get_sample_value("settlement_lag", {"topic": INSTRUCTIONS, "partition": "0"}),
                registry.get_sample_value("settlement_oldest_payout_seconds"),
            )
            if found == wanted:
                return
            await asyncio.sleep(0.02)
        pytest.fail(f"{found}, where it must become {wanted}")

    async with settling(log, store):
        market = Market(log, store)
        owner = await market.account("owner", money=100 * MICRO)
        await market.instruct(Withdrawal(owner.id, "first", Source.CASH, MICRO, "bank"))
        log.time += HOUR_MS
        await market.instruct(Withdrawal(owner.id, "second", Source.CASH, MICRO, "bank"))

    log.time += HOUR_MS
    blocker = await asyncpg.connect(dsn)
    async with running([SettlementService(log, store, metrics=SettlementMetrics(registry))]):
        await figures(0, 2 * 3600)
        await market.instruct(WithdrawalNews(owner.id, "first", WithdrawalState.SENT, "po_1", ""))
        await figures(0, 3600)
        async with blocker.transaction():
            await blocker.execute("LOCK TABLE positions IN EXCLUSIVE MODE")
            await log.append(INSTRUCTIONS, 0, [codec.encode(Deposit(owner.id, MICRO, "more"))])
            await figures(1, 3600)
        await figures(0, 3600)
        await market.instruct(WithdrawalNews(owner.id, "second", WithdrawalState.FAILED, "", "closed"))
        await figures(0, 0)
    await blocker.close()
