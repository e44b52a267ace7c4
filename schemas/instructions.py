"""What enters the log for settlement: money and deliveries on `instructions`, metered use on `usage`."""

from msgspec import Struct

from schemas.ids import LeaseId


class Deposit(Struct, frozen=True, array_like=True, tag="deposit"):
    """Money came in from outside for an account; `reference` is the payment's own, once for ever."""

    account: int
    amount: int
    """µ$, above 0."""
    reference: str


class Deliver(Struct, frozen=True, array_like=True, tag="deliver"):
    """The supplier hands the machines over: how to reach them, for the buyer alone."""

    lease: LeaseId
    account: int
    """Who says so: must be the lease's supplier."""
    connection: str


class Accept(Struct, frozen=True, array_like=True, tag="accept"):
    """The buyer accepts the delivery; billing starts, though never before the window does."""

    lease: LeaseId
    account: int
    """Who says so: must be the lease's buyer."""


class Degrade(Struct, frozen=True, array_like=True, tag="degrade"):
    """The supplier says that part of a lease does not work, from now on; said anew it replaces what it said before."""

    lease: LeaseId
    account: int
    """Who says so: must be the lease's supplier."""
    gpus: int
    """How many of its GPUs."""
    note: str


class Restore(Struct, frozen=True, array_like=True, tag="restore"):
    """All of a degraded lease works again."""

    lease: LeaseId
    account: int
    """Who says so: must be the lease's supplier."""


class Reclaim(Struct, frozen=True, array_like=True, tag="reclaim"):
    """The supplier takes an interruptible lease back, with the notice that its ask stated."""

    lease: LeaseId
    account: int
    """Who says so: must be the lease's supplier."""


class End(Struct, frozen=True, array_like=True, tag="end"):
    """The buyer ends a lease before its window does: now."""

    lease: LeaseId
    account: int
    """Who says so: must be the lease's buyer."""


Instruction = Deposit | Deliver | Accept | Degrade | Restore | Reclaim | End


class UsageReport(Struct, frozen=True, array_like=True, tag="usage"):
    """The cumulative allocated GPU-milliseconds of a lease so far, as metered by its supplier (rulebook: Usage)."""

    lease: LeaseId
    account: int
    """Who says so: must be the lease's supplier."""
    sequence: int
    """1, 2, 3, … per lease; may arrive in any order and more than once."""
    gpu_ms: int
    final: bool = False
    """No more will come: the lease may close without waiting for the grace time. Only once its window has ended."""
