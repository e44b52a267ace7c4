"""What gateways show of an account's month: a buyer's invoice, a supplier's statement of sales. Money in µ$."""

from enum import StrEnum

from msgspec import Struct

from schemas.attributes import Attributes
from schemas.commands import Side
from schemas.ids import LeaseId

LineId = tuple[LeaseId, int]
"""A lease's own line is its number 0, its notes are 1, 2, … Lines come in this order."""


class LineKind(StrEnum):
    """What a line is for."""

    LEASE = "lease"
    """What was billed of a lease in the month."""
    CORRECTION = "correction"
    """A credit or debit note: what a lease that had closed should have been billed more, or less."""
    CREDIT = "credit"
    """What goes back of it, as it was not what its class promises. Its figures are below 0."""


class Note(Struct, frozen=True):
    """What a correction says of itself. Numbers are of invoices of the account that asks."""

    month: int
    """In whose invoice it is."""
    number: int
    corrects: int
    """The month whose invoice has the lease's line that it corrects."""
    corrects_number: int
    reason: str
    made_at: int
    """ms."""


class Line(Struct, frozen=True):
    """A part of the month's total. Its figures are the month's alone; a lease may have a line in several months."""

    id: LineId
    kind: LineKind
    class_id: str
    supplier: int
    supplier_name: str
    buyer: int
    attributes: Attributes
    quantity: int
    price: int
    """Per GPU-hour."""
    fee_bps: int
    """Of the account that the document is for."""
    start: int
    """Of the lease, ms."""
    end: int
    """When its use ended, or will."""
    gpu_ms: int
    """What is billed: metered, and forfeited."""
    forfeited_gpu_ms: int
    cost: int
    fee: int
    amount: int
    """For a buyer to pay: cost and fee. For a supplier to receive: cost less fee."""
    team: str = ""
    """Of the buyer, like the next: for the buyer alone."""
    user: str = ""
    note: Note | None = None
    """Of a correction, whose figures are differences."""


class Totals(Struct, frozen=True):
    """Sums over all lines of a month."""

    lines: int = 0
    gpu_ms: int = 0
    cost: int = 0
    fees: int = 0
    amount: int = 0
    corrections: int = 0
    """Of the amount, what is of notes."""
    credits: int = 0
    """Of the amount, what the buyer's daily credits paid; the rest came out of its cash."""


class Head(Struct, frozen=True):
    """A month of an account, without its lines."""

    account: int
    role: Side
    """BID: the invoice for what it bought; ASK: the statement of what it sold."""
    month: int
    number: int
    """1 for the account's first month, then without gaps: every month has one, be it empty."""
    final: bool
    """No line of it changes any more. Until then it is preliminary: what is known so far."""
    totals: Totals


class Invoice(Struct, frozen=True):
    """A month of an account, and its lines or a part of them."""

    head: Head
    lines: list[Line]
