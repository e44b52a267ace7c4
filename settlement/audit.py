"""The proof that the money adds up, and that fills, leases and entries agree: its rules, and the pass over all of it.

The full pass reads one snapshot and writes nothing. `auditor.py` goes by the same rules, all the time, over what
changes.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec
from msgspec import Struct

from schemas import ids
from schemas.codec import decode_execution
from schemas.events import Execution, Fill
from schemas.executions import Follower, GapError
from schemas.ids import LeaseId
from schemas.log import Log, Record
from schemas.topics import EXECUTIONS
from settlement.database import Connection, Queries
from settlement.store import Store

MAX_FINDINGS = 20
"""Of each rule: one is enough to stop the presses."""
MAX_RECORDS = 5000
"""Of executions compared at once."""
POLL_TIMEOUT_S = 10.0


class Key(StrEnum):
    """By what a rule's query can be narrowed."""

    TRANSACTION = "transaction"
    LEDGER_ACCOUNT = "ledger_account"
    ACCOUNT = "account"
    ORDER = "order"
    """By its id."""
    LEASE = "lease"
    """By its number."""


RULES = {
    "transactions": Key.TRANSACTION,
    "holds": Key.ACCOUNT,
    "reserves": Key.ACCOUNT,
    "orders": Key.ORDER,
    "amends": Key.ACCOUNT,
    "escrows": Key.LEASE,
    "charges": Key.LEASE,
    "usage": Key.LEASE,
    "uptimes": Key.LEASE,
    "sla": Key.LEASE,
    "months": Key.LEASE,
    "corrections": Key.LEASE,
    "committed": Key.ACCOUNT,
    "daily_credits": Key.ACCOUNT,
    "outgoing": Key.ACCOUNT,
    "credits": Key.ACCOUNT,
    "payments": Key.TRANSACTION,
}
"""Of the database alone: each is the query `audit_…`, over all keys or some of them."""
WHOLE_RULES = ("balances", "earnings", "spend", "grants", "invoices")
"""Those whose queries add up all that there is. In place of the first two the auditor has rules of its own sums; the
others follow from what it checks of each lease and each entry, but for how these are grouped."""


class Finding(Struct, frozen=True):
    """Something that is not as it must be."""

    rule: str
    what: str
    found: str
    expected: str

    def text(self) -> str:
        """For people."""
        return f"{self.what}: {self.found}, where it must be {self.expected}"


class Audit(Struct, frozen=True):
    """What was looked at, and what was found: nothing, when all is well."""

    orders: int
    leases: int
    entries: int
    fills: int
    """In the executions log, up to where settlement has come."""
    imbalance_microusd: int
    findings: list[Finding]

    def text(self) -> str:
        """For people."""
        looked = f"{self.orders} orders, {self.fills} fills, {self.leases} leases, {self.entries} entries"
        if not self.findings:
            return f"{looked}: the money adds up to the last micro-dollar, and all of it agrees"
        lines = [finding.text() for finding in self.findings]
        return "\n".join([f"{looked}: {len(lines)} findings, {self.imbalance_microusd} micro-dollars off", *lines])


class Place(NamedTuple):
    """How far the fills of a partition of executions are compared."""

    offset: int = 0
    """Of the next record."""
    position: int = -1
    """Of the last execution."""


class Compared(NamedTuple):
    """A stretch of executions beside the leases that it made."""

    place: Place
    fills: int
    findings: list[Finding]


async def audit(
    store: Store, log: Log, *, on_progress: Callable[[int, int | None], None] = lambda done, of: None
) -> Audit:
    """Compares the ledger with itself, with orders, leases and usage, and leases with the log's fills.

    May run beside settlement: it sees one moment. `on_progress` is told how many of all rules are checked. Raises
    StoreError, and LogError.
    """
    sql = Queries()
    rules = *RULES, *WHOLE_RULES
    findings: list[Finding] = []
    async with store.snapshot() as connection:
        for done, rule in enumerate(rules):
            on_progress(done, len(rules) + 1)
            findings += await check(connection, sql, rule, None)
        on_progress(len(rules), len(rules) + 1)
        figures = await connection.fetchrow(sql.audit_figures)
        totals = await connection.fetchrow(sql.totals)
        fills = 0
        for row in await connection.fetch(sql.positions):
            if row["topic"] == EXECUTIONS:
                compared = await compare_fills(connection, sql, log, row["partition"], Place(), row["next_offset"])
                findings += compared.findings
                fills += compared.fills
        if fills != figures["leases"]:
            findings.append(
                Finding("fills", "the number of leases", str(figures["leases"]), f"{fills}, one for each fill")
            )
    return Audit(
        orders=figures["orders"],
        leases=figures["leases"],
        entries=figures["entries"],
        fills=fills,
        imbalance_microusd=totals["imbalance"],
        findings=findings,
    )


async def check(connection: Connection, sql: Queries, rule: str, keys: Sequence[int] | None) -> list[Finding]:
    """What breaks the rule among the keys, or of all for None; the first of it."""
    if rule in WHOLE_RULES:
        rows = await connection.fetch(getattr(sql, f"audit_{rule}"), MAX_FINDINGS)
    else:
        rows = await connection.fetch(getattr(sql, f"audit_{rule}"), MAX_FINDINGS, keys)
    return [Finding(rule.removesuffix("_kept"), row["what"], row["found"], row["expected"]) for row in rows]


async def compare_fills(
    connection: Connection, sql: Queries, log: Log, partition: int, place: Place, end: int
) -> Compared:
    """Each fill of the partition's log from `place` up to offset `end` must have its one lease, with equal terms, and
    no lease may be without a fill."""
    follower, first = Follower(place.position), ids.position(partition, 0)
    offset, fills = place.offset, 0
    findings: list[Finding] = []
    if offset >= end:
        return Compared(place, 0, findings)
    reader = await log.reader(EXECUTIONS, partition, offset)
    try:
        while offset < end:
            records = await reader.poll(min(MAX_RECORDS, end - offset), POLL_TIMEOUT_S)
            if not records:
                where = f"the end of {EXECUTIONS}/{partition}"
                findings.append(Finding("fills", where, str(offset), f"at least {end}"))
                break
            behind, offset = max(follower.position + 1, first), records[-1].offset + 1
            followed = _followed(follower, partition, records, findings)
            terms = {(each.position, fill.index): _terms(fill) for each in followed for fill in _fills(each)}
            fills += len(terms)
            findings += await _compared(connection, sql, terms, behind, follower.position)
    finally:
        await reader.close()
    return Compared(Place(offset, follower.position), fills, findings[:MAX_FINDINGS])


def _followed(
    follower: Follower, partition: int, records: Sequence[Record], findings: list[Finding]
) -> list[Execution]:
    """The executions that are new; what is damaged in the log is found, and passed over."""
    followed = []
    for record in records:
        where = f"the record {EXECUTIONS}/{partition}/{record.offset}"
        try:
            execution = decode_execution(record.value)
            if follower.accept(execution):
                followed.append(execution)
        except msgspec.MsgspecError as error:
            findings.append(Finding("fills", where, str(error), "an execution"))
        except GapError as error:
            findings.append(Finding("fills", where, str(error), "the next execution"))
            follower.position = execution.position
            followed.append(execution)
    return followed


async def _compared(
    connection: Connection, sql: Queries, terms: dict[LeaseId, tuple[object, ...]], first: int, last: int
) -> list[Finding]:
    """The fills of the executions with positions from `first` to `last`, beside their leases."""
    positions, indexes = [lease[0] for lease in terms], [lease[1] for lease in terms]
    leases = {(row[0], row[1]): tuple(row[2:]) for row in await connection.fetch(sql.audit_leases, positions, indexes)}
    found = [
        Finding("fills", f"lease {ids.format_lease_id(lease)}", str(leases.get(lease)), str(fill))
        for lease, fill in terms.items()
        if leases.get(lease) != fill
    ]
    made = await connection.fetchval(sql.audit_leases_between, first, last)
    if made != len(terms):
        what = f"the number of leases made by executions {first} to {last}"
        found.append(Finding("fills", what, str(made), f"{len(terms)}, one for each fill"))
    return found


def _fills(execution: Execution) -> list[Fill]:
    return [event for event in execution.events if isinstance(event, Fill)]


def _terms(fill: Fill) -> tuple[object, ...]:
    """As the table `leases` has them."""
    return (
        fill.class_id,
        fill.bid_id,
        fill.ask_id,
        fill.buyer,
        fill.seller,
        fill.price,
        fill.quantity,
        fill.start,
        fill.end,
        fill.buyer_fee_bps,
        fill.seller_fee_bps,
    )
