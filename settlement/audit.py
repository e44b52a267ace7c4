"""The proof that the money adds up, and that fills, leases and entries agree. Reads one snapshot, writes nothing."""

from msgspec import Struct

from schemas.codec import decode_execution
from schemas.events import Execution, Fill
from schemas.executions import Follower
from schemas.ids import format_lease_id
from schemas.log import Log
from schemas.topics import EXECUTIONS
from settlement.database import Connection, Queries
from settlement.store import Store

MAX_FINDINGS = 20
"""Of each check: one is enough to stop the presses."""
CHECKS = (
    "audit_transactions",
    "audit_balances",
    "audit_holds",
    "audit_reserves",
    "audit_orders",
    "audit_amends",
    "audit_escrows",
    "audit_charges",
    "audit_usage",
    "audit_earnings",
    "audit_committed",
    "audit_spend",
    "audit_months",
    "audit_invoices",
    "audit_outgoing",
    "audit_payments",
)
"""Of the database alone, by the names of their queries."""
POLL_TIMEOUT_S = 10.0


class Finding(Struct, frozen=True):
    """Something that is not as it must be."""

    what: str
    found: str
    expected: str


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
        lines = [f"{each.what}: {each.found}, where it must be {each.expected}" for each in self.findings]
        return "\n".join([f"{looked}: {len(lines)} findings, {self.imbalance_microusd} micro-dollars off", *lines])


async def audit(store: Store, log: Log) -> Audit:
    """Compares the ledger with itself, with orders, leases and usage, and leases with the log's fills.

    May run beside settlement: it sees one moment. Raises StoreError, LogError, and GapError for a damaged log.
    """
    sql = Queries()
    async with store.snapshot() as connection:
        findings = [
            Finding(row["what"], row["found"], row["expected"])
            for check in CHECKS
            for row in await connection.fetch(getattr(sql, check), MAX_FINDINGS)
        ]
        figures = await connection.fetchrow(sql.audit_figures)
        totals = await connection.fetchrow(sql.totals)
        fills = 0
        for row in await connection.fetch(sql.positions):
            if row["topic"] == EXECUTIONS:
                fills += await _compare_fills(connection, sql, log, row["partition"], row["next_offset"], findings)
        if fills != figures["leases"]:
            findings.append(Finding("the number of leases", str(figures["leases"]), f"{fills}, one for each fill"))
    return Audit(
        orders=figures["orders"],
        leases=figures["leases"],
        entries=figures["entries"],
        fills=fills,
        imbalance_microusd=totals["imbalance"],
        findings=findings,
    )


async def _compare_fills(
    connection: Connection, sql: Queries, log: Log, partition: int, end: int, findings: list[Finding]
) -> int:
    """Each fill of the partition's log before offset `end` must have its lease, with equal terms; how many they are."""
    follower = Follower()
    reader = await log.reader(EXECUTIONS, partition, 0)
    fills = offset = 0
    try:
        while offset < end:
            records = await reader.poll(min(5000, end - offset), POLL_TIMEOUT_S)
            if not records:
                findings.append(Finding(f"the end of {EXECUTIONS}/{partition}", str(offset), f"at least {end}"))
                break
            offset += len(records)
            executions = [decode_execution(record.value) for record in records]
            terms = {
                (execution.position, fill.index): _terms(fill)
                for execution in executions
                if follower.accept(execution)
                for fill in _fills(execution)
            }
            fills += len(terms)
            positions, indexes = [lease[0] for lease in terms], [lease[1] for lease in terms]
            leases = {
                (row[0], row[1]): tuple(row[2:]) for row in await connection.fetch(sql.audit_leases, positions, indexes)
            }
            findings += [
                Finding(f"lease {format_lease_id(lease)}", str(leases.get(lease)), str(fill))
                for lease, fill in terms.items()
                if leases.get(lease) != fill and len(findings) < MAX_FINDINGS * len(CHECKS)
            ]
    finally:
        await reader.close()
    return fills


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
