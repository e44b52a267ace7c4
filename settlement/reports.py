"""Reads what was used over any time, by the hour or by lease: differences of the cumulative figures, so that the parts
of any division of time, hours or others, add up to the bill.

Use is of the time up to which its report counts (usage.py); what is forfeited, of the moment from which it would have
been used. A lease's bill at a moment is that of its figures then (metering.py), floored once.
"""

from collections.abc import Sequence
from typing import Any

from schemas.commands import Side
from schemas.ids import LeaseId
from schemas.store import HourUse, LeaseState, LeaseUse, Use
from schemas.units import HOUR_MS
from settlement.database import Connection, Queries
from settlement.metering import bill


async def span(
    connection: Connection, sql: Queries, account: int, role: Side, lease: LeaseId | None
) -> tuple[int, int] | None:
    """From the first start to the last end of the account's leases, or of the one; None where there are none."""
    row = await connection.fetchrow(sql.usage_span, account, role is Side.ASK, *(lease or (None, None)))
    return None if row["start_at"] is None else (row["start_at"], row["end_at"])


async def by_hour(
    connection: Connection, sql: Queries, account: int, role: Side, lease: LeaseId | None, since: int, until: int
) -> list[HourUse]:
    """The hours in `[since, until)` in which something was used, in order; the first and the last may be in part."""
    which = account, role is Side.ASK, since, until, *(lease or (None, None))
    rows = await connection.fetch(sql.usage_by_hour, *which)
    return [
        HourUse(
            since=max(since, row["hour"] * HOUR_MS),
            until=min(until, (row["hour"] + 1) * HOUR_MS),
            use=_use(role, row["used"], row["forfeited"], row["cost"], row["fee"]),
        )
        for row in rows
    ]


async def by_lease(
    connection: Connection,
    sql: Queries,
    account: int,
    role: Side,
    since: int,
    until: int,
    before: LeaseId | None,
    limit: int,
) -> list[LeaseUse]:
    """The leases whose window meets `[since, until)`, the newest first, with what was used of them in it."""
    which = account, role is Side.ASK, since, until, *(before or (None, None)), limit
    return [_lease_use(row, role) for row in await connection.fetch(sql.usage_by_lease, *which)]


def _lease_use(row: Any, role: Side) -> LeaseUse:
    fees = row["buyer_fee_bps"], row["seller_fee_bps"]
    first, last = (bill(row["price"], row[used] + row[lost], *fees) for used, lost in _ENDS)
    fee = last.buyer_fee - first.buyer_fee if role is Side.BID else last.seller_fee - first.seller_fee
    used, forfeited = (row[after] - row[before] for before, after in zip(*_ENDS, strict=True))
    return LeaseUse(
        lease=(row["position"], row["fill_index"]),
        class_id=row["class_id"],
        quantity=row["quantity"],
        start=row["start_at"],
        end=row["until"],
        state=LeaseState(row["state"]),
        use=_use(role, used, forfeited, last.cost - first.cost, fee),
    )


_ENDS: Sequence[tuple[str, str]] = (("used_before", "forfeited_before"), ("used_after", "forfeited_after"))


def _use(role: Side, gpu_ms: int, forfeited_gpu_ms: int, cost: int, fee: int) -> Use:
    return Use(gpu_ms, forfeited_gpu_ms, cost, fee, cost + fee if role is Side.BID else cost - fee)
