"""The audit that never stops: what settlement wrote since the last round, by the rules of the full pass; and, a slice a
round, everything once more.

A round sees one moment of the database and does bounded work. It counts the new transactions: the sum of each ledger
account's entries, what each lease brought in, and a digest of all of them, each in the database, so that a round costs
what is new and not what there is. Then it checks what these transactions touched, the fills of the log that are new,
and the next slice of all the rest: who changes a row by hand is found though nothing ever touches it again.

It relies on one writer of transactions (settlement), whose ids are therefore in the order in which they are seen.
"""

import asyncio
import hashlib
import itertools
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from schemas import ids
from schemas.ids import LeaseId
from schemas.log import Log
from schemas.topics import EXECUTIONS
from settlement import ledger
from settlement.audit import RULES, Finding, Key, Place, check, compare_fills
from settlement.database import Connection, Queries
from settlement.metrics import AuditMetrics
from settlement.store import Store

INTERVAL_S = 5.0
MAX_COUNTED = 500
"""Transactions of a stretch: the event loop is held for no longer than these take."""
MAX_STRETCHES = 20
"""Of a round; one that is not done with what there is follows at once."""
MAX_COMPARED = 2_000
"""Executions of a partition in a round, and as many once more."""
SLICE = 500
"""Leases, orders and ledger accounts looked at once more in a round."""
SLICE_BLOCKS = 4
"""Stretches of transactions counted once more: more than a round adds, as a rule."""

KEPT_RULES = {"balances_kept": Key.LEDGER_ACCOUNT, "earnings_kept": Key.LEASE}
"""Of the auditor's own sums: true where these have come as far as the rows beside them."""
REPORTED = (*RULES, "balances", "earnings", "fills", "history")
"""The rules, as findings name them."""

_OF_LEASE = re.compile(r"(?:fill|reclaim|end|usage|close|sla|correct):(lse_[^:]+)")
_OF_ORDER = re.compile(r"(?:accept|amend|end):(ord_[^:]+)")
"""References that settlement makes; a deposit's, which comes from outside, may say anything."""


class Standing(Struct):
    """Where the auditor stands, as the table `audit_standing` has it."""

    transaction: int
    digest: bytes
    sweep: int
    """The how manyth it is that looks at everything once more, and behind what it goes on."""
    swept_transaction: int = 0
    swept_lease: int = 0
    swept_order: int = -1
    swept_ledger_account: int = -(1 << 63)


class PartitionRow(Struct):
    """How far a partition of executions is compared, and how far once more."""

    partition: int
    applied_offset: int
    """By settlement."""
    next_offset: int
    position: int
    swept_offset: int
    swept_position: int


class Count(Struct):
    """What a stretch of transactions adds up to."""

    digest: bytes
    """Of the whole ledger up to here: BLAKE2b-256, chained, over each transaction's reference, time, month and
    entries."""
    transactions: list[int] = msgspec.field(default_factory=list)
    sums: defaultdict[int, int] = msgspec.field(default_factory=lambda: defaultdict(int))
    """Ledger account -> µ$."""
    leases: defaultdict[LeaseId, list[int]] = msgspec.field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    """Lease -> µ$ to its supplier and to the exchange, by the entries that name it."""
    orders: set[int] = msgspec.field(default_factory=set)
    """Ids of those that are named."""


class Round(Struct):
    """One round's work."""

    standing: Standing
    partitions: list[PartitionRow]
    behind: int
    """Transactions that are not counted yet."""
    keys: defaultdict[Key, set[int]] = msgspec.field(default_factory=lambda: defaultdict(set))
    """What is to be checked."""
    findings: list[Finding] = msgspec.field(default_factory=list)
    is_swept: bool = True
    """Whether everything has been looked at once more."""

    def touch(self, ledger_accounts: Iterable[int]) -> None:
        """They, and whose they are, are to be checked."""
        self.keys[Key.LEDGER_ACCOUNT].update(ledger_accounts)
        self.keys[Key.ACCOUNT] |= {ledger.owner(each) for each in ledger_accounts if ledger.owner(each)}


class Auditor:
    """The one auditor of a database: a second waits until the first is gone."""

    def __init__(self, log: Log, store: Store, *, metrics: AuditMetrics, interval_s: float = INTERVAL_S) -> None:
        self.ready = asyncio.Event()
        """Nobody has to wait for it: set at once."""
        self._log = log
        self._store = store
        self._sql = Queries()
        self._metrics = metrics
        self._interval_s = interval_s

    async def run(self) -> None:
        """Rounds until cancelled. Raises StoreError and LogError; starting again is the recovery."""
        self.ready.set()
        async with self._store.auditing() as connection:
            while True:
                now = await self.round(connection)
                await asyncio.sleep(0 if now.behind else self._interval_s)

    async def round(self, connection: Connection) -> Round:
        """One round, in one transaction."""
        began = time.perf_counter()
        async with connection.transaction(isolation="repeatable_read"):
            now = await self._begin(connection)
            await self._count(connection, now)
            await self._compare(connection, now)
            await self._sweep(connection, now)
            await self._check(connection, now)
            new = await self._save(connection, now)
            counts = await connection.fetch(self._sql.audit_counts)
        for found in new:
            structlog.get_logger().error("the audit found what must not be", rule=found.rule, finding=found.text())
        self._metrics.round(now.standing.transaction, now.behind, now.standing.sweep, time.perf_counter() - began)
        self._metrics.found({row["rule"]: row["findings"] for row in counts}, sum(row["imbalance"] for row in counts))
        return now

    async def _begin(self, connection: Connection) -> Round:
        await connection.execute(self._sql.audit_custom_plans)
        standing = Standing(*await connection.fetchrow(self._sql.audit_standing))
        partitions = [PartitionRow(*row) for row in await connection.fetch(self._sql.audit_executions, EXECUTIONS)]
        last = await connection.fetchval(self._sql.last_transaction)
        return Round(standing, partitions, last - standing.transaction)

    async def _count(self, connection: Connection, now: Round) -> None:
        """New transactions enter the sums; what they touch is to be checked."""
        sql, standing = self._sql, now.standing
        last = standing.transaction + now.behind
        for _ in range(MAX_STRETCHES):
            if standing.transaction == last:
                break
            count = counted(
                await connection.fetch(sql.audit_entries, standing.transaction, last, MAX_COUNTED), standing.digest
            )
            block = count.transactions[-1], standing.transaction + 1, standing.digest, count.digest
            await connection.execute(sql.add_audit_block, *block)
            await connection.execute(sql.count_audit_sums, list(count.sums), list(count.sums.values()))
            await connection.execute(sql.count_audit_lease_sums, [(*id, *sums) for id, sums in count.leases.items()])
            standing.transaction, standing.digest = count.transactions[-1], count.digest
            positions, indexes = [id[0] for id in count.leases], [id[1] for id in count.leases]
            leases = await connection.fetch(sql.audit_touched, positions, indexes)
            now.keys[Key.TRANSACTION].update(count.transactions)
            now.keys[Key.LEASE] |= {lease["number"] for lease in leases}
            now.keys[Key.ORDER] |= count.orders | {lease["bid_id"] for lease in leases}
            now.touch(count.sums)
        now.behind = last - standing.transaction

    async def _compare(self, connection: Connection, now: Round) -> None:
        """Fills that are new, and a slice of the others once more, beside their leases."""
        for row in now.partitions:
            place, end = Place(row.next_offset, row.position), min(row.applied_offset, row.next_offset + MAX_COMPARED)
            new = await compare_fills(connection, self._sql, self._log, row.partition, place, end)
            row.next_offset, row.position = new.place
            place, end = Place(row.swept_offset, row.swept_position), min(end, row.swept_offset + MAX_COMPARED)
            old = await compare_fills(connection, self._sql, self._log, row.partition, place, end)
            row.swept_offset, row.swept_position = old.place
            now.findings += new.findings + old.findings
            now.is_swept = now.is_swept and row.swept_offset >= row.applied_offset

    async def _sweep(self, connection: Connection, now: Round) -> None:
        """A slice of all that there is, is to be checked too. What was counted must come to the digest that it had."""
        sql, standing = self._sql, now.standing
        blocks = await connection.fetch(sql.audit_blocks, standing.swept_transaction, SLICE_BLOCKS)
        for last, first, digest_before, digest in blocks:
            count = counted(await connection.fetch(sql.audit_entries, first - 1, last, None), digest_before)
            now.keys[Key.TRANSACTION].update(count.transactions)
            standing.swept_transaction = last
            if count.digest != digest:
                what = f"the digest of the ledger over transactions {first} to {last}"
                now.findings.append(Finding("history", what, count.digest.hex(), digest.hex()))
        leases = [row[0] for row in await connection.fetch(sql.next_leases, standing.swept_lease, SLICE)]
        orders = [row[0] for row in await connection.fetch(sql.next_orders, standing.swept_order, SLICE)]
        of_ledger = await connection.fetch(sql.next_ledger_accounts, standing.swept_ledger_account, SLICE)
        ledger_accounts = [row[0] for row in of_ledger]
        standing.swept_lease = max(leases, default=standing.swept_lease)
        standing.swept_order = max(orders, default=standing.swept_order)
        standing.swept_ledger_account = max(ledger_accounts, default=standing.swept_ledger_account)
        now.keys[Key.LEASE].update(leases)
        now.keys[Key.ORDER].update(orders)
        now.touch(ledger_accounts)
        ended = len(blocks) < SLICE_BLOCKS and max(len(leases), len(orders), len(ledger_accounts)) < SLICE
        now.is_swept = now.is_swept and ended

    async def _check(self, connection: Connection, now: Round) -> None:
        """By every rule; by those of the auditor's own sums once these have come as far as the rows beside them."""
        for rule, key in (RULES if now.behind else RULES | KEPT_RULES).items():
            if keys := now.keys[key]:
                now.findings += await check(connection, self._sql, rule, sorted(keys))

    async def _save(self, connection: Connection, now: Round) -> list[Finding]:
        """Writes where it stands; the findings that are new. Those that a whole sweep did not see again are gone."""
        sql, standing, new = self._sql, now.standing, []
        if now.findings:
            columns = zip(*((each.rule, each.what, each.found, each.expected) for each in now.findings), strict=True)
            rows = await connection.fetch(sql.save_audit_findings, *columns, standing.sweep)
            new = [Finding(*tuple(row)[:4]) for row in rows if row["is_new"]]
        if now.is_swept:
            await connection.execute(sql.forget_audit_findings, standing.sweep)
            now.standing = Standing(standing.transaction, standing.digest, standing.sweep + 1)
            for row in now.partitions:
                row.swept_offset, row.swept_position = Place()
        rows = [
            (row.partition, row.next_offset, row.position, row.swept_offset, row.swept_position)
            for row in now.partitions
        ]
        await connection.execute(sql.save_audit_executions, rows)
        await connection.execute(sql.save_audit_standing, *msgspec.structs.astuple(now.standing), now.behind)
        return new


def counted(rows: Iterable[Sequence[Any]], digest: bytes) -> Count:
    """Adds up rows of (transaction, reference, time, month, ledger account, amount) in order, the last two None where
    there are no entries; `digest` is of all before them."""
    count = Count(digest)
    for transaction, entries in itertools.groupby(rows, key=lambda row: tuple(row[:4])):
        moved = [(row[4], row[5]) for row in entries if row[4] is not None]
        count.transactions.append(transaction[0])
        text = msgspec.json.encode((*transaction[1:], moved))
        count.digest = hashlib.blake2b(count.digest + text, digest_size=32).digest()
        for ledger_account, amount in moved:
            count.sums[ledger_account] += amount
        if (of_order := _OF_ORDER.match(transaction[1])) is not None:
            count.orders.add(ids.parse_order_id(of_order[1]))
        elif (of_lease := _OF_LEASE.match(transaction[1])) is not None:
            sums = count.leases[ids.parse_lease_id(of_lease[1])]
            for ledger_account, amount in moved:
                sums[0] += amount if ledger.is_payable(ledger_account) else 0
                sums[1] += amount if ledger_account == ledger.REVENUE else 0
    return count
