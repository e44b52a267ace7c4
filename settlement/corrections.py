"""Corrections of closed leases: credit and debit notes (README: Invoices). Pure: rows in, refusals and rows out.

A closed lease stays as it is. What it should have been is the sum of it and its corrections, by the same bill.
"""

from typing import NamedTuple

from schemas.ids import format_lease_id
from schemas.instructions import Correct
from schemas.refusals import Refusal
from schemas.units import month_of
from settlement import ledger
from settlement.leases import CLOSED, MAX_NOTE, LeaseRow, Refused
from settlement.ledger import Entries
from settlement.metering import allocated_gpu_ms, bill

MAX_CORRECTIONS = 100
"""Of one lease."""


class Corrected(NamedTuple):
    """A lease's corrections so far, and the last month in which it was charged."""

    ordinal: int = 0
    gpu_ms: int = 0
    """In all: added to what was metered."""
    charged_month: int | None = None


class Correction(NamedTuple):
    """A credit or debit note, as the table `corrections` has it. Figures are what it adds; money in µ$."""

    position: int
    fill_index: int
    ordinal: int
    """1, 2, … of its lease."""
    month: int
    """In whose invoices it is."""
    corrects: int
    """The month whose invoices have the line that it corrects."""
    buyer: int
    seller: int
    gpu_ms: int
    cost: int
    buyer_fee: int
    seller_fee: int
    made_at: int
    made_by: int
    """The supplier, or 0: the exchange."""
    reason: str

    @property
    def charged(self) -> int:
        return self.cost + self.buyer_fee

    @property
    def earned(self) -> int:
        return self.cost - self.seller_fee

    @property
    def reference(self) -> str:
        return f"correct:{format_lease_id((self.position, self.fill_index))}:{self.ordinal}"

    @property
    def entries(self) -> Entries:
        """From the buyer's cash to the supplier and the exchange; below 0 the other way round."""
        return {
            ledger.cash(self.buyer): -self.charged,
            ledger.payable(self.seller): self.earned,
            ledger.REVENUE: self.charged - self.earned,
        }


def refused(lease: LeaseRow, said: Correct, so_far: Corrected) -> Refused | None:
    """Whether the lease cannot be so corrected, whatever the money."""
    shown, used = format_lease_id(lease.id), lease.used_gpu_ms + so_far.gpu_ms
    if lease.state != CLOSED:
        return Refusal.LEASE_STATE, (shown, lease.state, CLOSED)
    if lease.delivered_at is None:
        return Refusal.LEASE_STATE, (shown, "closed without a delivery", "one that was delivered")
    if not (1 <= len(said.reason) <= MAX_NOTE and said.reason.isprintable()):
        return Refusal.UNREADABLE, (f"its reason has 1 to {MAX_NOTE} printable characters",)
    most = allocated_gpu_ms(lease.quantity, lease.usable_from, lease.until, lease.until)
    if not 0 <= said.gpu_ms <= most:
        return Refusal.CORRECTION_OUT_OF_RANGE, (said.gpu_ms, shown, most)
    if said.account == lease.seller and said.gpu_ms > used:
        return Refusal.CORRECTION_UPWARDS, (said.gpu_ms, shown, used)
    if so_far.ordinal >= MAX_CORRECTIONS:
        return Refusal.TOO_MANY_CORRECTIONS, (shown, MAX_CORRECTIONS)
    return None


def corrected(lease: LeaseRow, said: Correct, so_far: Corrected, now: int) -> Correction:
    """The note that makes the lease's use in all `said.gpu_ms`: the difference of its bill then and until now."""
    before = lease.used_gpu_ms + so_far.gpu_ms
    fees = lease.buyer_fee_bps, lease.seller_fee_bps
    was, owed = (bill(lease.price, used + lease.forfeited_gpu_ms, *fees) for used in (before, said.gpu_ms))
    charged_month = so_far.charged_month
    return Correction(
        *lease.id,
        ordinal=so_far.ordinal + 1,
        month=month_of(now),
        corrects=month_of(lease.until - 1) if charged_month is None else charged_month,
        buyer=lease.buyer,
        seller=lease.seller,
        gpu_ms=said.gpu_ms - before,
        cost=owed.cost - was.cost,
        buyer_fee=owed.buyer_fee - was.buyer_fee,
        seller_fee=owed.seller_fee - was.seller_fee,
        made_at=now,
        made_by=said.account,
        reason=said.reason,
    )


def paid(lease: LeaseRow, so_far: Corrected) -> int:
    """µ$ that its buyer paid for it until now, by cash and by credits, less its SLA credit."""
    used = lease.used_gpu_ms + so_far.gpu_ms + lease.forfeited_gpu_ms
    return bill(lease.price, used, lease.buyer_fee_bps, lease.seller_fee_bps).charged - lease.credited


def uncovered(note: Correction, cash: int, receivable: int) -> Refused | None:
    """Whether who has to pay cannot: the buyer out of its free cash, the supplier out of what it earned."""
    shown = format_lease_id((note.position, note.fill_index))
    if note.charged > cash:
        return Refusal.CORRECTION_UNCOVERED, (shown, note.charged, "buyer's cash", cash)
    if -note.earned > receivable:
        return Refusal.CORRECTION_UNCOVERED, (shown, -note.earned, "supplier's receivable", receivable)
    return None
