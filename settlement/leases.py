"""A lease's way from fill to close (rulebook: Lease). Pure: time comes as an argument, from the log.

Each step is refused, as `(code, arguments)`, or changes the lease and gives None. Money is not moved here.
"""

from enum import StrEnum

from msgspec import Struct

from schemas.attributes import ClassSpec
from schemas.events import Fill
from schemas.ids import LeaseId, format_lease_id
from schemas.instructions import UsageReport
from schemas.refusals import Args, Refusal
from schemas.store import CloseReason, LeaseState
from settlement.metering import allocated_gpu_ms, first_use

MAX_CONNECTION = 4096
"""Characters of how to reach the machines."""

Refused = tuple[Refusal, Args]


class Step(StrEnum):
    """What can happen to a lease."""

    DELIVER = "deliver"
    ACCEPT = "accept"
    METER = "meter"
    VOID = "void"
    CLOSE = "close"


PENDING, DELIVERED, ACTIVE, CLOSED = LeaseState

TRANSITIONS: dict[Step, dict[LeaseState, LeaseState]] = {
    Step.DELIVER: {PENDING: DELIVERED},
    Step.ACCEPT: {DELIVERED: ACTIVE},
    Step.METER: {DELIVERED: DELIVERED, ACTIVE: ACTIVE},
    Step.VOID: {PENDING: CLOSED},
    Step.CLOSE: {DELIVERED: CLOSED, ACTIVE: CLOSED},
}
"""For each step, the states that allow it and where it leads."""


class LeaseRow(Struct):
    """A lease as the table `leases` has it, column by column. Times in ms, money in µ$."""

    position: int
    fill_index: int
    number: int
    partition: int
    class_id: str
    bid_id: int
    ask_id: int
    buyer: int
    seller: int
    price: int
    quantity: int
    start: int
    end: int
    buyer_fee_bps: int
    seller_fee_bps: int
    attributes: bytes
    acceptance_ms: int
    grace_ms: int
    deliver_by: int
    created_at: int
    state: str = PENDING
    close_reason: str = CloseReason.NONE
    delivered_at: int | None = None
    accepted_at: int | None = None
    closed_at: int | None = None
    deadline: int | None = None
    """When time alone takes the next step: passed once now is greater."""
    connection: str = ""
    last_sequence: int = 0
    used_gpu_ms: int = 0
    charged: int = 0
    earned: int = 0

    @property
    def id(self) -> LeaseId:
        return self.position, self.fill_index


def opened(
    fill: Fill, lease: LeaseId, *, number: int, partition: int, attributes: bytes, spec: ClassSpec, now: int
) -> LeaseRow:
    """The lease that a fill makes."""
    deliver_by = max(fill.start, now) + spec.delivery_due_ms
    return LeaseRow(
        position=lease[0],
        fill_index=lease[1],
        number=number,
        partition=partition,
        class_id=fill.class_id,
        bid_id=fill.bid_id,
        ask_id=fill.ask_id,
        buyer=fill.buyer,
        seller=fill.seller,
        price=fill.price,
        quantity=fill.quantity,
        start=fill.start,
        end=fill.end,
        buyer_fee_bps=fill.buyer_fee_bps,
        seller_fee_bps=fill.seller_fee_bps,
        attributes=attributes,
        acceptance_ms=spec.acceptance_ms,
        grace_ms=spec.grace_ms,
        deliver_by=deliver_by,
        created_at=now,
        deadline=deliver_by,
    )


def refused(lease: LeaseRow, step: Step) -> Refused | None:
    """Whether the lease's state forbids the step."""
    allowed = TRANSITIONS[step]
    if lease.state in allowed:
        return None
    return Refusal.LEASE_STATE, (format_lease_id(lease.id), lease.state, " or ".join(allowed))


def deliver(lease: LeaseRow, connection: str, now: int) -> Refused | None:
    """The supplier hands over, once and in time."""
    if (refusal := refused(lease, Step.DELIVER)) is not None:
        return refusal
    if now > lease.deliver_by:
        return Refusal.LEASE_STATE, (format_lease_id(lease.id), "past its time of delivery", PENDING)
    if len(connection) > MAX_CONNECTION or "\0" in connection:
        return Refusal.UNREADABLE, (f"its connection has at most {MAX_CONNECTION} characters, and no NUL",)
    lease.state = TRANSITIONS[Step.DELIVER][PENDING]
    lease.delivered_at = now
    lease.connection = connection
    lease.deadline = now + lease.acceptance_ms
    return None


def accept(lease: LeaseRow, at: int) -> Refused | None:
    """The buyer's word, or silence: billing starts at `at`, though not after the time for an answer is over."""
    if (refusal := refused(lease, Step.ACCEPT)) is not None:
        return refusal
    assert lease.delivered_at is not None
    lease.state = TRANSITIONS[Step.ACCEPT][DELIVERED]
    lease.accepted_at = min(at, lease.delivered_at + lease.acceptance_ms)
    lease.deadline = lease.end + lease.grace_ms
    return None


def meter(lease: LeaseRow, report: UsageReport, before: int, after: int | None, now: int) -> Refused | None:
    """Cumulative use becomes the lease's, if its neighbours by sequence, `before` and `after`, leave room for it.

    First use accepts a delivered lease, from the latest moment at which that use can have begun.
    """
    if (refusal := refused(lease, Step.METER)) is not None:
        return refusal
    if now > lease.end + lease.grace_ms:
        return Refusal.LEASE_STATE, (format_lease_id(lease.id), "past its grace time", ACTIVE)
    if report.gpu_ms < before or (after is not None and report.gpu_ms > after):
        shown = "none" if after is None else after
        return Refusal.USAGE_BACKWARDS, (report.sequence, report.gpu_ms, before, shown)
    if report.final and now < lease.end:
        return Refusal.USAGE_NOT_YET_FINAL, (lease.end,)
    usable_from = lease.delivered_at if lease.accepted_at is None else lease.accepted_at
    assert usable_from is not None
    allocated = allocated_gpu_ms(lease.quantity, max(lease.start, usable_from), lease.end, now)
    if report.gpu_ms > allocated:
        return Refusal.USAGE_ABOVE_ALLOCATED, (report.sequence, report.gpu_ms, allocated, min(now, lease.end))
    if lease.accepted_at is None and report.gpu_ms:
        accept(lease, first_use(lease.quantity, report.gpu_ms, lease.end, now))
    return None


def close(lease: LeaseRow, step: Step, reason: CloseReason, at: int) -> None:
    """Ends the lease by `step`, VOID or CLOSE, which its state must allow."""
    lease.state = TRANSITIONS[step][LeaseState(lease.state)]
    lease.close_reason = reason
    lease.closed_at = at
    lease.deadline = None
