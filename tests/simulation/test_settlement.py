"""Whatever a market sends, settlement keeps every micro-dollar; the same seed gives the same ledger to the last byte.

By hand a million, and as many as one likes: README of `tests`.
"""

import os

import asyncpg
import pytest

from settlement.store import Store
from tests.simulation.dealings import T0
from tests.simulation.recorded_log import RecordedLog
from tests.simulation.settled import PARTITIONS, Simulation, ledger_digest, settling_in_process

SEED = int(os.environ.get("SIMULATION_SEED", "1"))
LONG_COUNT = int(os.environ.get("SIMULATION_COUNT", "200000"))
COUNT = 8_000
ROUND = 2_000
CHECKPOINT = 20_000
"""Records between two audits of everything, in the long leg."""
LEAST = {
    "refusals": (
        "SELECT code, count(*) FROM refusals GROUP BY code",
        {
            "amount_out_of_range": 1,
            "correction_out_of_range": 2,
            "correction_upwards": 2,
            "gpus_out_of_range": 5,
            "lease_guaranteed": 5,
            "lease_state": 100,
            "reclaim_too_late": 2,
            "reference_reused": 5,
            "sequence_out_of_range": 20,
            "unknown_account": 2,
            "unknown_lease": 100,
            "unreadable": 20,
            "usage_above_allocated": 100,
            "usage_backwards": 10,
            "usage_conflict": 50,
            "usage_not_yet_final": 10,
            "usage_not_last": 1,
            "withdrawal_state": 1,
            "insufficient_funds": 10,
            "gpu_in_use": 5,
            "gpu_names_invalid": 20,
            "renewal_invalid": 2,
        },
    ),
    "leases": (
        "SELECT close_reason, count(*) FROM leases WHERE state = 'closed' GROUP BY close_reason",
        {"completed": 100, "ended_early": 10, "not_delivered": 10, "reclaimed": 3},
    ),
    "notes": (
        "SELECT CASE WHEN gpu_ms < 0 THEN 'credit' ELSE 'debit' END, count(*) FROM corrections GROUP BY 1",
        {"credit": 5, "debit": 1},
    ),
    "orders": (
        "SELECT status, count(*) FROM orders GROUP BY status",
        {"filled": 100, "cancelled": 50, "expired": 20, "rejected": 50, "lost": 10},
    ),
    "what came back": (
        "SELECT split_part(reference, ':', 1) || ' as ' || replace(kind, 'daily_', ''), count(*) "
        "FROM entries JOIN transactions ON transactions.id = transaction "
        "JOIN ledger_accounts AS ledger ON ledger.id = ledger_account "
        "WHERE kind IN ('cash', 'daily_credits') AND amount > 0 AND reference ~ '^(sla|correct):' GROUP BY 1",
        {"sla as cash": 20, "sla as credits": 5, "correct as cash": 5, "correct as credits": 1},
    ),
    "amends": ("SELECT status, count(*) FROM amends GROUP BY status", {"done": 10}),
}
"""What a run must have had of each kind; else it tries little."""


async def test_the_same_seed_gives_the_same_ledger_whatever_the_batches_are(dsn: str, bare_dsn: str) -> None:
    first = await simulated(dsn, SEED, COUNT, max_poll=ROUND, checkpoint=ROUND)
    await assert_busy(dsn)
    assert await simulated(bare_dsn, SEED, COUNT, max_poll=97, checkpoint=COUNT) == first


async def test_another_seed_gives_another_ledger(dsn: str, bare_dsn: str) -> None:
    first = await simulated(dsn, SEED, 500, max_poll=ROUND, checkpoint=ROUND)
    assert await simulated(bare_dsn, SEED + 1, 500, max_poll=ROUND, checkpoint=ROUND) != first


@pytest.mark.long
async def test_many_random_commands_lose_no_micro_dollar(dsn: str, bare_dsn: str) -> None:
    first = await simulated(dsn, SEED, LONG_COUNT, max_poll=ROUND, checkpoint=CHECKPOINT)
    await assert_busy(dsn)
    assert await simulated(bare_dsn, SEED, LONG_COUNT, max_poll=500, checkpoint=LONG_COUNT) == first


async def simulated(dsn: str, seed: int, count: int, *, max_poll: int, checkpoint: int) -> str:
    """The digest of what `count` records and more came to, audited at each checkpoint and at the end."""
    log, store = RecordedLog(T0, PARTITIONS), await Store.connect(dsn)
    try:
        simulation = await Simulation.open(store, log, seed, settling_in_process(store, log, max_poll))
        audited = 0
        while simulation.written < count:
            await simulation.round(min(ROUND, count))
            if simulation.written - audited >= checkpoint or simulation.written >= count:
                await simulation.check()
                audited = simulation.written
        return await ledger_digest(dsn)
    finally:
        await store.close()


async def assert_busy(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for table, (query, least) in LEAST.items():
            found = dict(await connection.fetch(query))
            few = {kind: found.get(kind, 0) for kind, number in least.items() if found.get(kind, 0) < number}
            assert not few, f"few {table} of some kinds: {few}"
    finally:
        await connection.close()
