"""Settlement and order entry against a bare COPY of every row that they wrote, new or changed, into tables with the
same indexes and constraints, with as many commits, on the same server.

The bare tables have no trigger, no rule is applied, nothing is read and nothing is updated: what is compared is all
that settlement does with what the storage alone costs. `settle_growth` is settlement beside itself in a larger
database.
"""

import asyncio
import contextlib
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from msgspec import Struct

from gateways.cli.processes import spare_garbage_collection
from schemas import codec, topics
from schemas.commands import PlaceBid
from schemas.events import Execution, Fill
from schemas.instructions import Accept, Deliver, UsageReport
from schemas.log import Record
from schemas.store import Account, PlaceStatus
from schemas.units import HOUR_MS, MICRO
from settlement.postgres import EmbeddedPostgres
from settlement.store import Store
from tests.benchmarks.harness import Measure, Result, in_turn
from tests.settling import Market, ScriptedLog, accepted, ask_of, bid_of, fill_of, settling
from tests.simulation.settled import settled

FILLS = 10_000
REPORTS = 10_000
ORDERS = 10_000
AT_ONCE = 1_000
"""Orders on their way at once: half of what a gateway takes."""
BATCH = 2_000
ROUNDS = 3
ACCOUNTS = 50
PRICE = 2_499_997
SMALL, LARGE = 10_000, int(os.environ.get("BENCH_ENTRIES", "10000000"))
"""Entries in the two databases of `settle_growth`."""
_names = (f"bench_{number}" for number in itertools.count())

TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename <> 'transactions', tablename"
REFERENCES = "ALTER TABLE bare.entries ADD FOREIGN KEY (transaction) REFERENCES bare.transactions"
WRITTEN = "SELECT * FROM {table} WHERE xmin::text::bigint >= $1"
COMMITS = "SELECT count(DISTINCT xmin::text) FROM {table} WHERE xmin::text::bigint >= $1"


class Prepared(Struct):
    """A database to be copied for each run, and the log that is settled on the copy."""

    server: str
    database: str
    log: ScriptedLog


async def settle_fills() -> Result:
    """Fills a second of resting bids: at least 0.35 of the bare COPY."""
    async with _server() as server:
        prepared, _ = await _with_fills(server)
        return await _beside_copy("settle_fills", "fills/s", prepared, FILLS, "leases", ">= 0.35")


async def settle_usage() -> Result:
    """Usage reports a second, each billed: at least 0.5."""
    async with _server() as server:
        prepared = await _with_reports(server)
        return await _beside_copy("settle_usage", "reports/s", prepared, REPORTS, "usage", ">= 0.5")


async def holds() -> Result:
    """Orders a second through one gateway, each with its reserve: at least 0.3."""
    async with _server() as server:
        name = next(_names)
        store = await _created(server, name)
        log = ScriptedLog()
        buyers = await _buyers(log, store)
        await store.close()
        bids = [_bid(buyers[number % ACCOUNTS], log.time, number) for number in range(ORDERS)]
        prepared = Prepared(server, name, log)

        async def enter(store: Store) -> None:
            market, left = Market(log, store), iter(bids)

            async def one_by_one() -> None:
                for bid in left:
                    assert (await market.intend(bid)).status is PlaceStatus.NEW

            await asyncio.gather(*(one_by_one() for _ in range(AT_ONCE)))

        return await _beside_copy("holds", "orders/s", prepared, ORDERS, "orders", ">= 0.3", enter)


async def settle_growth() -> Result:
    """What a fill costs at ten million entries beside ten thousand: at most 1.3."""
    async with _server() as server:
        small, _ = await _with_fills(server, SMALL)
        large, _ = await _with_fills(server, LARGE)
        costs = (_cost(large), _cost(small))
        value, baseline, ratio = await in_turn(*costs, ROUNDS)
        note = f"median of {ROUNDS} runs of {FILLS:,} fills; {LARGE:,} entries beside {SMALL:,}"
        return Result("settle_growth", value, "µs a fill", baseline, ratio, "<= 1.3", note)


def _cost(prepared: Prepared) -> Measure:
    async def measure() -> float:
        async with _copy_of(prepared) as dsn:
            return 1e6 * await _seconds_to_settle(dsn, prepared.log) / FILLS

    return measure


async def _beside_copy(
    name: str,
    unit: str,
    prepared: Prepared,
    count: int,
    counted: str,
    wanted: str,
    does: Callable[[Store], Awaitable[None]] | None = None,
) -> Result:
    """`does` it, or settlement, `count` times: as many rows of the table `counted`."""
    rows: dict[str, list[asyncpg.Record]] = {}
    commits = 0

    async def ours() -> float:
        nonlocal rows, commits
        spare_garbage_collection()  # as in the service
        async with _copy_of(prepared) as dsn:
            connection = await asyncpg.connect(dsn)
            before = await connection.fetchval("SELECT txid_current()")
            if does is not None:
                store = await Store.connect(dsn)
                began = time.perf_counter()
                await does(store)
                seconds = time.perf_counter() - began
                await store.close()
            else:
                seconds = await _seconds_to_settle(dsn, prepared.log)
            tables = [table for (table,) in await connection.fetch(TABLES)]
            found = {table: await connection.fetch(WRITTEN.format(table=table), before) for table in tables}
            rows = {table: written for table, written in found.items() if written}
            commits = await connection.fetchval(COMMITS.format(table=counted), before)
            await connection.close()
            assert len(rows[counted]) == count
            return count / seconds

    async def bare() -> float:
        async with _copy_of(prepared) as dsn:
            connection = await asyncpg.connect(dsn)
            await connection.execute("CREATE SCHEMA bare")
            for table in rows:
                await connection.execute(f"CREATE TABLE bare.{table} (LIKE public.{table} INCLUDING ALL)")
            if "entries" in rows:
                await connection.execute(REFERENCES)
            began = time.perf_counter()
            for number in range(commits):
                async with connection.transaction():
                    for table, written in rows.items():
                        part = written[len(written) * number // commits : len(written) * (number + 1) // commits]
                        await connection.copy_records_to_table(table, schema_name="bare", records=part)
            seconds = time.perf_counter() - began
            await connection.close()
            return count / seconds

    await ours()  # which tells what is copied
    value, baseline, ratio = await in_turn(ours, bare, ROUNDS)
    sizes = ", ".join(f"{len(written):,} {table}" for table, written in rows.items())
    note = f"median of {ROUNDS} runs of {count:,} in {commits} commits, beside COPY of {sizes}"
    return Result(name, value, unit, baseline, ratio, wanted, note)


async def _seconds_to_settle(dsn: str, log: ScriptedLog) -> float:
    store = await Store.connect(dsn)
    began = time.perf_counter()
    await settled(store, log, BATCH)
    seconds = time.perf_counter() - began
    await store.close()
    return seconds


async def _with_fills(server: str, entries: int = 0) -> tuple[Prepared, list[Fill]]:
    """Bids that rest, and in the log a fill of each; on a database that has so many entries already."""
    log, name = ScriptedLog(), next(_names)
    store = await _created(server, name)
    buyers = await _buyers(log, store)
    market = Market(log, store)
    market._prev = len(log.records[topics.EXECUTIONS]) - 1
    if entries:
        await _grow(_database(server, name), entries)
    start = log.time + HOUR_MS
    async with settling(log, store):
        await market.open()
        seller = await market.account("seller", fee_bps=91)
        ask_id = await market.execute(accepted(ask_of(seller, PRICE, FILLS, start)))
        bids = [_bid(buyers[number % ACCOUNTS], start, number) for number in range(FILLS)]
        first = market.next_place
        await market.execute_all(*([accepted(bid)] for bid in bids))
    await store.close()
    fills = [
        fill_of(first + n, ask_id, buyers[n % ACCOUNTS], seller, price=PRICE, quantity=1, start=start, hours=1)
        for n in range(FILLS)
    ]
    place = market.next_place
    for number, fill in enumerate(fills):
        execution = Execution(place + number, place + number - 1, log.time, (fill,))
        _put(log, topics.EXECUTIONS, codec.encode(execution))
    return Prepared(server, name, log), fills


async def _with_reports(server: str) -> Prepared:
    """Leases at work, and in the log a report of each."""
    prepared, fills = await _with_fills(server)
    log, name = prepared.log, prepared.database
    place = len(log.records[topics.EXECUTIONS]) - FILLS
    leases = [((place + number, 0), fill) for number, fill in enumerate(fills)]
    log.time = fills[0].start
    for lease, fill in leases:
        _put(log, topics.INSTRUCTIONS, codec.encode(Deliver(lease, fill.seller, "ssh there")))
        _put(log, topics.INSTRUCTIONS, codec.encode(Accept(lease, fill.buyer)))
    store = await Store.connect(_database(server, name))
    await settled(store, log, BATCH)
    await store.close()
    log.time += HOUR_MS // 2
    for lease, fill in leases:
        _put(log, topics.USAGE, codec.encode(UsageReport(lease, fill.seller, 1, HOUR_MS // 2 - 1)))
    return prepared


async def _buyers(log: ScriptedLog, store: Store) -> list[Account]:
    market = Market(log, store)
    async with settling(log, store):
        return [
            await market.account(f"buyer {number}", fee_bps=133, money=1_000_000 * MICRO) for number in range(ACCOUNTS)
        ]


def _bid(buyer: Account, start: int, number: int) -> PlaceBid:
    return bid_of(buyer, PRICE, 1, 1, start, f"bid {number}")


def _put(log: ScriptedLog, topic: str, value: bytes) -> None:
    records = log.records[topic]
    records.append(Record(len(records), log.time, value))


async def _grow(dsn: str, entries: int) -> None:
    """Leases that were, with four entries each, of which every two sum to 0; balances do not know of them."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SET session_replication_role = replica; SET synchronous_commit = off")
        await connection.execute(GROWN_TRANSACTIONS, entries // 2)
        await connection.execute(GROWN_ENTRIES, entries // 2)
        await connection.execute(GROWN_ESCROWS, entries // 4)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


GROWN_TRANSACTIONS = """
INSERT INTO transactions (reference, time) SELECT 'grown:lse_' || n, 1795000000000 + n
FROM generate_series(1, $1::bigint) AS n
"""
GROWN_ENTRIES = """
INSERT INTO entries SELECT id, entry.account, entry.amount
FROM (
    SELECT id, row_number() OVER (ORDER BY id) AS n FROM transactions ORDER BY id DESC LIMIT $1::bigint
) AS made
CROSS JOIN LATERAL (VALUES (-1000000000 - n, -7), (10 + 8 * (n % 50), 7)) AS entry (account, amount)
"""
GROWN_ESCROWS = """
INSERT INTO ledger_accounts (id, kind, account) SELECT -1000000000 - n, 'escrow', 1 + n % 50
FROM generate_series(1, $1::bigint) AS n
"""


@contextlib.asynccontextmanager
async def _server() -> AsyncIterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="cx-bench-"))
    await asyncio.to_thread(folder.chmod, 0o755)  # so that the server's own user reaches it
    try:
        async with EmbeddedPostgres.running(folder) as dsn:
            yield dsn
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)


async def _created(server: str, name: str) -> Store:
    admin = await asyncpg.connect(server)
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    await admin.close()
    return await Store.connect(_database(server, name))


@contextlib.asynccontextmanager
async def _copy_of(prepared: Prepared) -> AsyncIterator[str]:
    """A fresh copy, by files, with what the last one left written out."""
    admin = await asyncpg.connect(prepared.server)
    name = next(_names)
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {prepared.database} STRATEGY file_copy")
        yield _database(prepared.server, name)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.execute("CHECKPOINT")
    finally:
        await admin.close()


def _database(dsn: str, name: str) -> str:
    parts = urlsplit(dsn)
    return f"{parts.scheme}://{parts.netloc}/{name}?{parts.query}"
