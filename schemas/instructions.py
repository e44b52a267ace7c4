"""What enters the log for settlement: money and deliveries on `instructions`, metered use on `usage`."""

from enum import StrEnum

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
    """Sealed by the gateway: neither the log nor the database can read it."""
    gpus: tuple[str, ...] = ()
    """Their names, as the supplier tells them apart: all of the lease's, or none."""
    proof: str = ""
    """What shows that the machines can be reached."""


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


WITHDRAWAL_REFERENCE = "^[A-Za-z0-9._:-]{1,64}$"
"""What an account may call a withdrawal: it is a part of a path."""


class Source(StrEnum):
    """Out of which of its money an account withdraws."""

    CASH = "cash"
    RECEIVABLE = "receivable"
    """What it earned as a supplier: then the withdrawal is its payout."""


class Withdrawal(Struct, frozen=True, array_like=True, tag="withdrawal"):
    """An account wants money out; `reference` is its own, once for ever."""

    account: int
    reference: str
    source: Source
    amount: int
    """µ$, above 0."""
    destination: str
    """Where to, for who pays it out."""


class WithdrawalState(StrEnum):
    """How far a withdrawal is."""

    REQUESTED = "requested"
    SENT = "sent"
    """Given to the payment provider."""
    SETTLED = "settled"
    """The money is out."""
    FAILED = "failed"
    """It could not be paid out: the money is back."""


class WithdrawalNews(Struct, frozen=True, array_like=True, tag="withdrawal_news"):
    """What became of a withdrawal, as the exchange's own people or the payment provider say."""

    account: int
    reference: str
    state: WithdrawalState
    """Any but requested."""
    provider_reference: str
    """The payment's, at the provider."""
    reason: str
    """Why it failed, and else ''."""


class CreditLimit(Struct, frozen=True, array_like=True, tag="credit_limit"):
    """How far an account's cash may go below 0 from now on, as the exchange's own people say."""

    account: int
    credit: int
    """µ$; 0 is none."""


class Renew(Struct, frozen=True, array_like=True, tag="renew"):
    """The buyer wants a lease to go on by itself when it nears its end, by `duration` at up to `price`; the lease that
    it then becomes likewise. A duration of 0 switches that off."""

    lease: LeaseId
    account: int
    """Who says so: must be the lease's buyer."""
    duration: int
    """ms."""
    price: int
    """µ$ per GPU-hour."""
    owner: int
    """Of the account, and its fee, as the gateway stamps them in orders."""
    fee_bps: int


class DailyCredits(Struct, frozen=True, array_like=True, tag="daily_credits"):
    """The exchange grants an account so many credits each UTC day from now on, spent before its cash; 0: no more."""

    account: int
    daily: int
    """µ$."""


class Correct(Struct, frozen=True, array_like=True, tag="correct"):
    """What a closed lease used was wrong: a credit or debit note makes up for it. The same again changes nothing."""

    lease: LeaseId
    account: int
    """Who says so: the lease's supplier, who can correct downwards, or 0: the exchange's own people."""
    gpu_ms: int
    """Cumulative, as in a report: what it used in all."""
    reason: str


Instruction = (
    Deposit
    | Deliver
    | Accept
    | Degrade
    | Restore
    | Reclaim
    | End
    | Withdrawal
    | WithdrawalNews
    | CreditLimit
    | Renew
    | DailyCredits
    | Correct
)


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
    measured_at: int = 0
    """ms: up to when the figure counts, where that is before the record reaches the log; else 0."""
