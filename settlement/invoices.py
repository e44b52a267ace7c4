"""What belongs to which month, and when a month is final (README: Invoices). Pure functions.

An invoice is not a document that somebody makes at a moment: it is what the ledger's entries of an account and a month
say, by lease. Each charge is given its month when it is booked, for good, and a month that is final gets none any more;
so the same invoice comes out whenever it is asked for, and out of a replay.
"""

from typing import NamedTuple

from schemas.ids import LeaseId
from schemas.units import DAY_MS, month_of, month_start
from settlement.leases import LeaseRow
from settlement.metering import Bill, bill

LATE_MS = DAY_MS
"""A record counts as of no more than so long before the executions that settlement had applied when it came to it: a
topic that was away for longer changes no month that was final meanwhile."""


class Billed(NamedTuple):
    """Cumulative use for which a lease has been charged, GPU-milliseconds."""

    used: int = 0
    forfeited: int = 0


class Charge(NamedTuple):
    """What a lease was charged in a month, as the table `charges` has it."""

    position: int
    fill_index: int
    month: int
    buyer: int
    seller: int
    used_gpu_ms: int
    forfeited_gpu_ms: int
    cost: int
    buyer_fee: int
    seller_fee: int


def billed(lease: LeaseRow) -> Billed:
    """What the lease has been charged for, once its bill is up to date."""
    return Billed(lease.used_gpu_ms, lease.forfeited_gpu_ms)


def month_of_charge(at: int, until: int) -> int:
    """The month of what is charged at `at` for a lease whose use ends at `until`: a late report belongs to the month in
    which the use ended, not to that in which it came."""
    return month_of(min(at, until - 1))


def charge(lease: LeaseRow, before: Billed, owed: Bill, month: int) -> Charge:
    """What the lease's bill has grown by, to `owed`, since it was charged for `before`."""
    was = bill(lease.price, before.used + before.forfeited, lease.buyer_fee_bps, lease.seller_fee_bps)
    return Charge(
        lease.position,
        lease.fill_index,
        month,
        lease.buyer,
        lease.seller,
        lease.used_gpu_ms - before.used,
        lease.forfeited_gpu_ms - before.forfeited,
        owed.cost - was.cost,
        owed.buyer_fee - was.buyer_fee,
        owed.seller_fee - was.seller_fee,
    )


def together(one: Charge | None, other: Charge) -> Charge:
    """Two charges of one lease and month as one."""
    if one is None:
        return other
    return Charge(*other[:5], *(a + b for a, b in zip(one[5:], other[5:], strict=True)))


def is_final(month: int, settled_to: int, open_until: int | None) -> bool:
    """Whether no charge can be booked in the month any more.

    `settled_to` is the time up to which every partition's executions are settled; `open_until` when the use of that of
    the account's leases ends first which are not closed, None where all are. A charge's month is never before that of
    `min(settled_to - LATE_MS, until - 1)`, so a month that ended before both is at rest.
    """
    end = month_start(month + 1)
    return end + LATE_MS < settled_to and (open_until is None or open_until > end)


def number(month: int, opened_at: int) -> int:
    """Of an account's document: 1 for the month in which it was opened, then by one a month."""
    return month - month_of(opened_at) + 1


ChargeKey = tuple[LeaseId, int]
"""(lease, month)."""
