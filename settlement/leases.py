"""A lease's way from fill to close (rulebook: Lease). Pure: time comes as an argument, from the log.

Each step is refused, as `(code, arguments)`, or changes the lease and gives None. Money is not moved here.
"""

from enum import StrEnum

import msgspec
from msgspec import Struct

from schemas.attributes import Attributes, ClassSpec, Tier
from schemas.events import Fill
from schemas.ids import LeaseId, format_lease_id
from schemas.instructions import UsageReport
from schemas.refusals import Args, Refusal
from schemas.store import CloseReason, Degradation, LeaseState, Renewal
from schemas.units import BPS, GRID_MS, HOUR_MS, MAX_PRICE, MAX_WINDOW_MS, MINUTE_MS
from settlement.metering import Bill, allocated_gpu_ms, bill, first_use, forfeited_gpu_ms, uptime_bps

MAX_CONNECTION = 24_000
"""Characters of how to reach the machines, sealed: of 4,096 that anybody may write."""
MAX_PROOF = 4096
RENEW_BEFORE_MS = HOUR_MS
"""Before its end a lease that is to be renewed is extended."""
MAX_NOTE = 500
MAX_DEGRADATIONS = 100
"""Of one lease."""

Refused = tuple[Refusal, Args]


class Step(StrEnum):
    """What can happen to a lease."""

    DELIVER = "deliver"
    ACCEPT = "accept"
    METER = "meter"
    DEGRADE = "degrade"
    RESTORE = "restore"
    RECLAIM = "reclaim"
    END = "end"
    RENEW = "renew"
    VOID = "void"
    CLOSE = "close"


PENDING = LeaseState.PENDING_DELIVERY
DELIVERED = LeaseState.DELIVERED
ACTIVE = LeaseState.ACTIVE
DEGRADED = LeaseState.DEGRADED
RECLAIMING = LeaseState.RECLAIMING
ENDED = LeaseState.ENDED
CLOSED = LeaseState.CLOSED

TRANSITIONS: dict[Step, dict[LeaseState, LeaseState]] = {
    Step.DELIVER: {PENDING: DELIVERED},
    Step.ACCEPT: {DELIVERED: ACTIVE},
    Step.METER: {state: state for state in (DELIVERED, ACTIVE, DEGRADED, RECLAIMING, ENDED)},
    Step.DEGRADE: {ACTIVE: DEGRADED, DEGRADED: DEGRADED},
    Step.RESTORE: {DEGRADED: ACTIVE},
    Step.RECLAIM: {PENDING: CLOSED, DELIVERED: RECLAIMING, ACTIVE: RECLAIMING, DEGRADED: RECLAIMING},
    Step.END: {PENDING: CLOSED, DELIVERED: ENDED, ACTIVE: ENDED, DEGRADED: ENDED, RECLAIMING: ENDED},
    Step.RENEW: {state: state for state in (PENDING, DELIVERED, ACTIVE, DEGRADED)},
    Step.VOID: {PENDING: CLOSED},
    Step.CLOSE: {state: CLOSED for state in (DELIVERED, ACTIVE, DEGRADED, RECLAIMING, ENDED)},
}
"""For each step, the states that allow it and where it leads."""

_attributes = msgspec.msgpack.Decoder(Attributes).decode
_degradations = msgspec.json.Decoder(list[Degradation]).decode
_renewal = msgspec.json.Decoder(Renewal).decode


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
    """Known before it is closed where somebody ended it."""
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
    refund_bps: int = BPS
    ends_at: int | None = None
    """Where it ends before its window does."""
    forfeited_gpu_ms: int = 0
    degradations: str = "[]"
    """JSON of Degradation: only the last can be open, and is while the lease is degraded."""
    team: str = ""
    """Who ordered it, like the next two; '' where its bid says nobody."""
    user: str = ""
    pool: str = ""
    uptime_bps: int | None = None
    """Once it is closed: how much of what was to be billed worked; None where nothing was."""
    proof: str = ""
    next_position: int | None = None
    """The lease with which it goes on, on the same machines, and which follows."""
    next_index: int | None = None
    renewal: str = ""
    """JSON of Renewal; '' is none."""
    sla: str = "[]"
    """JSON of SlaStep, of its class at the fill, like the next."""
    reclaim_credit_bps: int = 0
    lost_gpu_ms: int = 0
    """Of its window, what its supplier took back."""
    credited: int = 0
    """At its close: what by these terms went back."""
    by_credits: int = 0
    """What its buyer's daily credits paid of it, less what of that came back."""

    @property
    def id(self) -> LeaseId:
        return self.position, self.fill_index

    @property
    def payer(self) -> int:
        return self.buyer

    @property
    def committed(self) -> int:
        return self.in_escrow

    @property
    def until(self) -> int:
        """When its use ends."""
        return self.end if self.ends_at is None else self.ends_at

    @property
    def usable_from(self) -> int:
        """The earliest moment at which its use can have begun."""
        began = self.delivered_at if self.accepted_at is None else self.accepted_at
        return self.start if began is None else max(self.start, began)

    @property
    def owed(self) -> Bill:
        """The bill so far."""
        return self._bill(self.used_gpu_ms + self.forfeited_gpu_ms)

    @property
    def in_escrow(self) -> int:
        """What it may still cost, µ$."""
        if self.state == CLOSED:
            return 0
        most = self.quantity * (max(self.start, self.until) - self.start) + self.forfeited_gpu_ms
        return self._bill(most).charged - self.charged

    def _bill(self, gpu_ms: int) -> Bill:
        return bill(self.price, gpu_ms, self.buyer_fee_bps, self.seller_fee_bps)


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
        refund_bps=spec.refund_bps,
        sla=msgspec.json.encode(spec.sla).decode(),
        reclaim_credit_bps=spec.reclaim_credit_bps,
    )


def refused(lease: LeaseRow, step: Step) -> Refused | None:
    """Whether the lease's state forbids the step."""
    allowed = TRANSITIONS[step]
    if lease.state in allowed:
        return None
    return Refusal.LEASE_STATE, (format_lease_id(lease.id), lease.state, " or ".join(allowed))


def deliver(lease: LeaseRow, connection: str, now: int, proof: str = "") -> Refused | None:
    """The supplier hands over, once and in time."""
    if (refusal := refused(lease, Step.DELIVER)) is not None:
        return refusal
    if now > lease.deliver_by:
        return Refusal.LEASE_STATE, (format_lease_id(lease.id), "past its time of delivery", PENDING)
    if len(connection) > MAX_CONNECTION or "\0" in connection:
        return Refusal.UNREADABLE, (f"its connection has at most {MAX_CONNECTION} characters, and no NUL",)
    if len(proof) > MAX_PROOF or "\0" in proof:
        return Refusal.UNREADABLE, (f"its proof has at most {MAX_PROOF} characters, and no NUL",)
    _go(lease, Step.DELIVER, now)
    lease.delivered_at = now
    lease.connection, lease.proof = connection, proof
    lease.deadline = now + lease.acceptance_ms
    return None


def accept(lease: LeaseRow, at: int) -> Refused | None:
    """The buyer's word, or silence: billing starts at `at`, though not after the time for an answer is over."""
    if (refusal := refused(lease, Step.ACCEPT)) is not None:
        return refusal
    assert lease.delivered_at is not None
    _go(lease, Step.ACCEPT, at)
    lease.accepted_at = min(at, lease.delivered_at + lease.acceptance_ms)
    _await_end(lease)
    return None


def meter(lease: LeaseRow, report: UsageReport, before: int, after: int | None, now: int) -> Refused | None:
    """Cumulative use becomes the lease's, if its neighbours by sequence, `before` and `after`, leave room for it.

    First use accepts a delivered lease, from the latest moment at which that use can have begun.
    """
    if (refusal := refused(lease, Step.METER)) is not None:
        return refusal
    if now > lease.until + lease.grace_ms:
        return Refusal.LEASE_STATE, (format_lease_id(lease.id), "past its grace time", ACTIVE)
    if report.gpu_ms < before or (after is not None and report.gpu_ms > after):
        shown = "none" if after is None else after
        return Refusal.USAGE_BACKWARDS, (report.sequence, report.gpu_ms, before, shown)
    if report.final and now < lease.until:
        return Refusal.USAGE_NOT_YET_FINAL, (lease.until,)
    measured = measured_at(report, now)
    allocated = allocated_gpu_ms(lease.quantity, lease.usable_from, lease.until, measured)
    if report.gpu_ms > allocated:
        return Refusal.USAGE_ABOVE_ALLOCATED, (report.sequence, report.gpu_ms, allocated, min(measured, lease.until))
    if lease.accepted_at is None and report.gpu_ms:
        began = first_use(lease.quantity, report.gpu_ms, lease.until, measured)
        if lease.state == DELIVERED:
            accept(lease, began)
        else:  # its buyer used it, said nothing, and it is on its way to its end
            assert lease.delivered_at is not None
            lease.accepted_at = min(began, lease.delivered_at + lease.acceptance_ms)
    return None


def measured_at(report: UsageReport, now: int) -> int:
    """Up to when the report's figure counts: as its meter says, though a clock that is ahead says no more than now."""
    return min(report.measured_at or now, now)


def degrade(lease: LeaseRow, gpus: int, note: str, now: int) -> Refused | None:
    """The supplier says that so many GPUs do not work."""
    if (refusal := refused(lease, Step.DEGRADE)) is not None:
        return refusal
    if now >= lease.until:
        return Refusal.LEASE_STATE, (format_lease_id(lease.id), "past its end", ACTIVE)
    if not 1 <= gpus <= lease.quantity:
        return Refusal.GPUS_OUT_OF_RANGE, (gpus, lease.quantity, format_lease_id(lease.id))
    if not (1 <= len(note) <= MAX_NOTE and note.isprintable()):
        return Refusal.UNREADABLE, (f"its note has 1 to {MAX_NOTE} printable characters",)
    if len(degradations(lease)) >= MAX_DEGRADATIONS:
        return Refusal.TOO_MANY_DEGRADATIONS, (format_lease_id(lease.id), MAX_DEGRADATIONS)
    _go(lease, Step.DEGRADE, now)
    _write(lease, [*degradations(lease), Degradation(max(now, lease.start), None, gpus, note)])
    return None


def restore(lease: LeaseRow, now: int) -> Refused | None:
    """The supplier says that all of it works again."""
    if (refusal := refused(lease, Step.RESTORE)) is not None:
        return refusal
    _go(lease, Step.RESTORE, now)
    return None


def reclaim(lease: LeaseRow, now: int) -> Refused | None:
    """The supplier takes an interruptible lease back: it ends once the notice is over. Before its delivery it ends at
    once, if the notice leaves the buyer the time until the start."""
    if (refusal := refused(lease, Step.RECLAIM)) is not None:
        return refusal
    attributes = _attributes(lease.attributes)
    if attributes.tier is not Tier.INTERRUPTIBLE:
        return Refusal.LEASE_GUARANTEED, (format_lease_id(lease.id),)
    notice_ms = attributes.notice_minutes * MINUTE_MS
    pending = lease.state == PENDING
    late = now + notice_ms > lease.start if pending else now + notice_ms >= lease.end
    if late:
        why = "starts, undelivered," if pending else "ends"
        return Refusal.RECLAIM_TOO_LATE, (format_lease_id(lease.id), notice_ms, now + notice_ms, why)
    _end(lease, Step.RECLAIM, CloseReason.RECLAIMED, now, now + notice_ms)
    lease.lost_gpu_ms = lease.quantity * (lease.end - max(lease.start, lease.until))
    return None


def end(lease: LeaseRow, now: int) -> Refused | None:
    """The buyer ends it now. Of the unused rest the class's share is forfeited, unless the supplier owes what was sold:
    it is degraded, reclaimed, or late with its delivery."""
    if (refusal := refused(lease, Step.END)) is not None:
        return refusal
    if now >= lease.until:
        return Refusal.LEASE_STATE, (format_lease_id(lease.id), "past its end", ACTIVE)
    owed = lease.state in (DEGRADED, RECLAIMING) or (lease.state == PENDING and now > lease.start)
    reason = CloseReason(lease.close_reason or CloseReason.ENDED_EARLY)
    _end(lease, Step.END, reason, now, now)
    if not owed:
        unused = lease.quantity * (lease.end - max(lease.start, lease.until))
        lease.forfeited_gpu_ms = forfeited_gpu_ms(unused, lease.refund_bps)
    return None


def renew(lease: LeaseRow, wanted: Renewal | None, now: int) -> Refused | None:
    """The buyer says how it goes on by itself, or with None that it does not."""
    if (refusal := refused(lease, Step.RENEW)) is not None:
        return refusal
    if now >= lease.end or lease.next_position is not None:
        is_over = "past its end" if now >= lease.end else "extended"
        return Refusal.LEASE_STATE, (format_lease_id(lease.id), is_over, "running, and not extended")
    if (before := renewal(lease)) is not None and before.sent:  # the engine hears of each lease's renewal once
        return Refusal.LEASE_STATE, (format_lease_id(lease.id), "asked for already", "running, and not extended")
    if wanted is not None:
        if lease.team or lease.user or lease.pool:
            why = "what it counts to has caps, which only orders meet: extend it by an order before it ends"
            return Refusal.RENEWAL_INVALID, ("lease_id", why)
        if not GRID_MS <= wanted.duration <= MAX_WINDOW_MS or wanted.duration % GRID_MS:
            return Refusal.RENEWAL_INVALID, ("duration", "it must be whole minutes, at most a year")
        if not 1 <= wanted.price <= MAX_PRICE:
            return Refusal.RENEWAL_INVALID, ("price", "it must be above 0, and no more than any class takes")
    lease.renewal = "" if wanted is None else msgspec.json.encode(wanted).decode()
    if lease.state in (ACTIVE, DEGRADED):
        _await_end(lease)
    return None


def renewal_due(lease: LeaseRow) -> bool:
    """Whether the deadline that has passed was the one at which it is to be extended; from then on it was."""
    wanted = renewal(lease)
    if wanted is None or wanted.sent or lease.state not in (ACTIVE, DEGRADED) or lease.next_position is not None:
        return False
    lease.renewal = msgspec.json.encode(msgspec.structs.replace(wanted, sent=True)).decode()
    _await_end(lease)
    return True


def renewal(lease: LeaseRow) -> Renewal | None:
    """How it goes on by itself."""
    return _renewal(lease.renewal) if lease.renewal else None


def go_on(before: LeaseRow, lease: LeaseRow, now: int) -> bool:
    """`lease` is that with which the other goes on: on the same machines, delivered and accepted as that is. False, and
    nothing changes, where it does not follow it; it is a lease like any other then."""
    same = (before.buyer, before.seller, before.ask_id) == (lease.buyer, lease.seller, lease.ask_id)
    if not same or before.until != lease.start or before.next_position is not None or lease.state != PENDING:
        return False
    before.next_position, before.next_index = lease.id
    if (wanted := renewal(before)) is not None:
        lease.renewal = msgspec.json.encode(msgspec.structs.replace(wanted, sent=False)).decode()
    if before.state in (ACTIVE, DEGRADED):
        _await_end(before)  # by whatever way it goes on, it is not renewed any more
    return True


def close(lease: LeaseRow, step: Step, reason: CloseReason, at: int) -> None:
    """Ends the lease by `step`, VOID or CLOSE, which its state must allow; a reason that it has already stands."""
    _go(lease, step, at)
    lease.close_reason = lease.close_reason or reason
    lease.closed_at = at
    lease.deadline = None
    lease.uptime_bps = uptime(lease)


def uptime(lease: LeaseRow) -> int | None:
    """Basis points of what was to be billed, from its acceptance to its end: what is not metered, or is said to be
    degraded, is missing."""
    if lease.accepted_at is None:
        return None
    allocated = allocated_gpu_ms(lease.quantity, lease.usable_from, lease.until, lease.until)
    spells = (
        (max(each.since, lease.usable_from), min(each.until or lease.until, lease.until), each.gpus)
        for each in degradations(lease)
    )
    degraded = sum(gpus * max(0, until - since) for since, until, gpus in spells)
    return uptime_bps(allocated, lease.used_gpu_ms, degraded)


def degradations(lease: LeaseRow) -> list[Degradation]:
    """In the order in which they began."""
    return _degradations(lease.degradations)


def _await_end(lease: LeaseRow) -> None:
    """What time does next to a lease in use: it extends it where that is wanted, else closes it."""
    wanted = renewal(lease)
    extends = wanted is not None and not wanted.sent and lease.next_position is None
    lease.deadline = lease.end - RENEW_BEFORE_MS if extends else lease.until + lease.grace_ms


def _end(lease: LeaseRow, step: Step, reason: CloseReason, now: int, at: int) -> None:
    """Its use ends at `at`, or when what is billed already can have ended: usage may be ahead of instructions."""
    used_until = lease.usable_from - (-lease.used_gpu_ms // lease.quantity) if lease.used_gpu_ms else at
    _go(lease, step, now)
    lease.ends_at = max(at, used_until)
    lease.close_reason = reason
    lease.deadline = lease.until + lease.grace_ms
    if lease.state == CLOSED:
        lease.closed_at, lease.deadline = now, None


def _go(lease: LeaseRow, step: Step, at: int) -> None:
    """Where the step leads; a degradation ends when its state does."""
    if lease.state == DEGRADED:
        *before, last = degradations(lease)
        until = min(at, lease.until)
        ended = [msgspec.structs.replace(last, until=until)] if until > last.since else []
        _write(lease, [*before, *ended])
    lease.state = TRANSITIONS[step][LeaseState(lease.state)]


def _write(lease: LeaseRow, found: list[Degradation]) -> None:
    lease.degradations = msgspec.json.encode(found).decode()
