"""What gateways ask of settlement's database. Implementation: `settlement/store.py`; wired by `gateways/cli`.

Everything is in the units of the inside: ints of µ$ and ms. Calls raise StoreError when the database cannot be
used; each write is one transaction, so that nothing is half done.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple, Protocol

import msgspec
from msgspec import Struct

from schemas.attributes import Attributes, ClassSpec, SlaStep
from schemas.commands import Extend, HaltMode, PlaceAsk, PlaceBid, Side
from schemas.ids import LeaseId
from schemas.instructions import Source, WithdrawalState
from schemas.invoices import Head, Invoice, Line, LineId
from schemas.refusals import Args, Refusal
from schemas.webhooks import LeaseEvent, Webhooks

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class StoreError(Exception):
    """The database cannot be used now: the message says why. The caller may try again."""


class Scope(StrEnum):
    """What an API key may do."""

    READ = "read"
    TRADE = "trade"
    SUPPLY = "supply"
    METER = "meter"
    WITHDRAW = "withdraw"
    AUDIT = "audit"
    """Invoices, statements of sales and FOCUS rows of all accounts."""
    ADMIN = "admin"


class Fee(Struct, frozen=True):
    """What accounts of a tier pay from `since` on, in basis points."""

    tier: str
    since: int
    """ms, log time."""
    buyer_fee_bps: int
    seller_fee_bps: int
    set_at: int
    """ms, log time, before `since`: a fee that is in force is not changed, another follows it."""


class Account(Struct, frozen=True):
    """A party. `owner` groups accounts that may not trade with each other."""

    id: int
    name: str
    owner: int
    buyer_fee_bps: int
    seller_fee_bps: int
    created_at: int
    tier: str = ""
    """Whose fees it pays; '' for its own."""
    fees: tuple[Fee, ...] = ()
    """Of its tier, by time."""

    def at(self, now: int) -> "Account":
        """The account with the fees that are in force for it at that log time, and of its tier's only those to come."""
        if not self.fees:  # as of nearly all
            return self
        coming = next((place for place, fee in enumerate(self.fees) if fee.since > now), len(self.fees))
        if not coming:
            return self
        fee = self.fees[coming - 1]
        return msgspec.structs.replace(
            self,
            buyer_fee_bps=fee.buyer_fee_bps,
            seller_fee_bps=fee.seller_fee_bps,
            fees=self.fees[coming:],
        )


class SpenderKind(StrEnum):
    """Who within an account spends, and has caps."""

    TEAM = "team"
    USER = "user"
    POOL = "pool"
    """Machine users, apart from teams and users."""


class Spender(Struct, frozen=True):
    """Who within an account a key is for, and what it orders: '' is none. A pool stands alone."""

    team: str = ""
    user: str = ""
    pool: str = ""


NOBODY = Spender()


class Caps(Struct, frozen=True):
    """What a team, user or pool may spend at most, and does: µ$, by UTC day and month."""

    day_cap: int | None
    """None: no cap."""
    month_cap: int | None
    committed: int
    """What its open orders and leases can still cost."""
    spent_today: int
    spent_this_month: int


class Spent(Struct, frozen=True):
    """What one name was charged, over some days, and has committed now, in µ$. Of teams, users and pools '' is all
    that nobody of the kind ordered; a class has nothing committed here."""

    name: str
    charged: int
    committed: int


class Credits(Struct, frozen=True):
    """An account's daily credits, in µ$: spent before its cash, and gone with the day."""

    daily: int
    """Granted each day from now on."""
    day: int
    """Of which the following are: UTC, in days since the epoch."""
    granted: int
    remaining: int


class CapReached(Struct, frozen=True):
    """The cap that an order would pass: all in µ$."""

    kind: SpenderKind
    name: str
    period: str
    """day or month."""
    cap: int
    spent: int
    committed: int


class ApiKey(Struct, frozen=True):
    """A key without its secret: of that only a digest is kept."""

    id: int
    account: Account
    prefix: str
    label: str
    scopes: frozenset[Scope]
    created_at: int
    revoked: bool
    spender: Spender = NOBODY
    """To whom all that it orders counts."""
    expires_at: int | None = None
    """As it was given; None: never. In ms of the log, as the next."""
    overlap_until: int | None = None
    """A newer secret takes its place, and until then both are good."""
    addresses: tuple[Network, ...] = ()
    """From where alone it is taken; none: from anywhere."""
    public_key: bytes | None = None
    """Ed25519, 32 bytes: its holder signs, and there is no secret."""

    @property
    def ends_at(self) -> int | None:
        """From then on it is not taken."""
        return min((end for end in (self.expires_at, self.overlap_until) if end is not None), default=None)

    def ended(self, now: int) -> bool:
        """Whether it is not taken any more."""
        expires_at, overlap_until = self.expires_at, self.overlap_until
        return (
            self.revoked
            or (expires_at is not None and now >= expires_at)
            or (overlap_until is not None and now >= overlap_until)
        )


class Balance(Struct, frozen=True):
    """An account's money in µ$."""

    cash: int
    """Its own, free to use; below 0 what it owes."""
    held: int
    """For open bids."""
    escrow: int
    """For leases it bought and has not used up."""
    receivable: int
    """Earned as a supplier."""
    outgoing: int
    """Withdrawn, and not out yet."""
    credit: int
    """How far its cash may go below 0."""
    daily_credits: int = 0
    """Of the day, not spent yet."""


class Deposited(Struct, frozen=True):
    """A deposit that was made."""

    reference: str
    account: int
    amount: int
    made_at: int


class Withdrawn(Struct, frozen=True):
    """A withdrawal, and how far it is. Times in ms, money in µ$."""

    account: int
    reference: str
    source: Source
    amount: int
    destination: str
    state: WithdrawalState
    provider_reference: str
    reason: str
    """Why it failed, and else ''."""
    requested_at: int
    sent_at: int | None
    ended_at: int | None


class LedgerKind(StrEnum):
    """The ledger accounts of a party, as a Balance names them."""

    CASH = "cash"
    HELD = "held"
    RECEIVABLE = "receivable"
    OUTGOING = "outgoing"
    LENT = "lent"
    """Below 0: what of the ledger's cash is lent. Of both together a Balance has the sum."""
    DAILY_CREDITS = "daily_credits"
    ESCROW = "escrow"


class Entry(Struct, frozen=True):
    """What a transaction did to one ledger account of a party."""

    time: int
    reference: str
    """The transaction's, such as `fill:lse_…`."""
    kind: LedgerKind
    amount: int
    """µ$; above 0 it adds."""
    balance: int
    """µ$ of the ledger account after it."""


class OrderStatus(StrEnum):
    """Where an order stands."""

    SENT = "sent"
    """On its way: the log has not answered yet."""
    OPEN = "open"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    LOST = "lost"
    """It never reached the log before its not_after, and never will."""


class Intent(Struct, frozen=True):
    """An order as the gateway is about to append it."""

    command: PlaceAsk | PlaceBid | Extend
    class_id: str
    partition: int
    digest: bytes
    """Of the request's meaning: the same client_order_id with another digest is a conflict."""
    hold: int
    """µ$; 0 for an ask."""
    spender: Spender = NOBODY
    ssh_key: str = ""
    """Of a bid: the SSH public key that its machines are to let in."""


class Order(Struct, frozen=True):
    """An order as settlement knows it."""

    order_id: int | None
    """None until the log has answered."""
    account: int
    client_order_id: str
    side: Side
    class_id: str
    partition: int
    command: bytes
    """As it was sent; once amended, the same with the terms that it has now."""
    digest: bytes
    status: OrderStatus
    filled: int
    """GPUs filled; of an ask the sum over its fills, which may exceed its quantity: its windows differ."""
    left: int
    """Of a bid: GPUs still wanted while open, or that ended unfilled. Of an ask: its quantity as offered."""
    held: int
    """µ$ held now."""
    reason: str
    """Why it ended: a reason of cancellation, or ''."""
    refusal: Refusal | None
    refusal_args: Args
    created_at: int
    """ms; log time of the answer, or the gateway's while on its way."""
    spender: Spender = NOBODY
    ssh_key: str = ""


class AmendStatus(StrEnum):
    """Where an amend stands."""

    SENT = "sent"
    DONE = "done"
    REJECTED = "rejected"
    """The order and its place are as they were."""
    LOST = "lost"
    """It never reached the log before its not_after, and never will."""


class Amendment(Struct, frozen=True):
    """New terms for an order, as the gateway appends them, and what became of them."""

    account: int
    client_order_id: str
    """Of the amend, not of its order: the engine knows repeats by it."""
    order_id: int
    partition: int
    command: bytes
    """The encoded Amend."""
    digest: bytes
    """Of the request's meaning, as an Intent's."""
    not_after: int
    hold: int
    """µ$ held beyond what the order holds, while it is on its way."""
    status: AmendStatus = AmendStatus.SENT
    refusal: Refusal | None = None
    refusal_args: Args = ()
    spender: Spender = NOBODY
    """Its order's."""


class PlaceStatus(StrEnum):
    """What became of `place` or `place_amend`."""

    NEW = "new"
    """The intent and its hold are written: append it."""
    REPLAY = "replay"
    """The same order is here already."""
    CONFLICT = "conflict"
    """Another order has this client_order_id."""
    NO_FUNDS = "no_funds"
    """The cash does not cover the hold; nothing was written."""
    OVER_CAP = "over_cap"
    """The hold would take the team, user or pool over a cap; nothing was written."""
    BUSY = "busy"
    """Of an amend: the order has other terms by now, is not open, or has an amend on its way; nothing was written."""


class Placed(Struct, frozen=True):
    """Answer to one intent."""

    status: PlaceStatus
    order: Order | None
    """The order that has the client_order_id; None where there are no funds, or it is over a cap."""
    cash: int = 0
    """Where there are no funds: µ$ that are free."""
    cap: CapReached | None = None


class PlacedAmend(Struct, frozen=True):
    """Answer to an amend's intent."""

    status: PlaceStatus
    amendment: Amendment | None
    """The one that has the client_order_id; None where nothing was written."""
    cash: int
    """µ$ free before the hold."""
    cap: CapReached | None = None


class LeaseState(StrEnum):
    """A lease's way (rulebook: Lease)."""

    PENDING_DELIVERY = "pending_delivery"
    DELIVERED = "delivered"
    """Proof stands, the buyer has not answered."""
    ACTIVE = "active"
    CLOSED = "closed"
    DEGRADED = "degraded"
    """Active, and part of it does not work, says its supplier."""
    RECLAIMING = "reclaiming"
    """Its supplier takes it back: it ends when the notice is over, and late usage counts."""
    ENDED = "ended"
    """Its buyer ended it: late usage counts."""


class CloseReason(StrEnum):
    """The true reason why a lease closed."""

    NONE = ""
    COMPLETED = "completed"
    """Its window ended and its usage is final."""
    NOT_DELIVERED = "not_delivered"
    """The supplier did not deliver in time: void, all money back."""
    ENDED_EARLY = "ended_early"
    """Its buyer ended it before its window did."""
    RECLAIMED = "reclaimed"
    """Its supplier took it back, with notice."""
    UNFUNDED = "unfunded"
    """The bid came to the log past the gateways and its account has not the money: void from the first moment."""


class Degradation(Struct, frozen=True, array_like=True):
    """For so long so many of a lease's GPUs did not work, as its supplier said. Times in ms."""

    since: int
    until: int | None
    """None: still."""
    gpus: int
    note: str


class Renewal(Struct, frozen=True, array_like=True):
    """How a lease goes on by itself: by `duration` ms, at up to `price` µ$ per GPU-hour."""

    duration: int
    price: int
    owner: int
    fee_bps: int
    sent: bool = False
    """The extension was sent: whether it filled, its order says, and `next` of the lease."""


class Lease(Struct, frozen=True):
    """A fill's lease."""

    id: LeaseId
    class_id: str
    bid_id: int
    ask_id: int
    buyer: int
    seller: int
    price: int
    quantity: int
    start: int
    end: int
    attributes: Attributes
    state: LeaseState
    close_reason: CloseReason
    """Known before it is closed where somebody ended it."""
    created_at: int
    delivered_at: int | None
    accepted_at: int | None
    closed_at: int | None
    deliver_by: int
    connection: str
    """For the buyer and the supplier alone."""
    escrow: int
    """µ$ still in escrow."""
    used_gpu_ms: int
    """Metered since acceptance, as billed."""
    charged: int
    """µ$ charged to the buyer so far, fee included."""
    earned: int
    """µ$ credited to the supplier so far, fee deducted."""
    refund_bps: int = 10_000
    """What goes back of the unused rest when the buyer ends it early, as the class had it at the fill."""
    ends_at: int | None = None
    """ms; where it ends before its window: reclaimed, or ended by its buyer."""
    forfeited_gpu_ms: int = 0
    """Of the unused rest, what the buyer pays all the same."""
    degradations: tuple[Degradation, ...] = ()
    uptime_bps: int | None = None
    """Once it is closed: how much of what was to be billed was metered and not degraded; None where nothing was."""
    sla: tuple[SlaStep, ...] = ()
    """What its class promised at the fill, like the next."""
    reclaim_credit_bps: int = 0
    lost_gpu_ms: int = 0
    """Of its window, what its supplier took back."""
    credited: int = 0
    """At its close, µ$: what went back by these terms."""
    last_sequence: int = 0
    """Of its usage reports, the highest accepted."""
    spender: Spender = NOBODY
    """Its bid's."""
    gpus: tuple[str, ...] = ()
    """As the supplier named them at delivery; not in lists."""
    proof: str = ""
    """The supplier's: what shows that the machines can be reached."""
    next: LeaseId | None = None
    """The lease with which it goes on, on the same machines."""
    renewal: Renewal | None = None
    ssh_key: str = ""
    """The SSH public key that its bid named, for the machines to let in; not in lists."""


class SshKey(Struct, frozen=True):
    """An SSH public key of an account, by the account's own name for it."""

    name: str
    public_key: str
    """As in an `authorized_keys` file: its type, and the key in base64."""
    created_at: int


class LeaseStep(Struct, frozen=True):
    """What became of a lease, as one of its two accounts reads it."""

    account: int
    number: int
    """Of the account, without gaps from 1."""
    event: LeaseEvent


class LeasesNow(Struct, frozen=True):
    """An account's leases at one moment."""

    number: int
    """Of the last step that they have taken."""
    steps: list[LeaseStep]
    """Those up to it that were asked for, as far as they are kept: in order."""
    leases: list[Lease]
    """Those that are not closed, the newest first."""


class Spread(NamedTuple):
    """The tenth, the half and nine tenths of some figures are no more than these."""

    p10: int
    median: int
    p90: int


class SupplierRecord(Struct, frozen=True):
    """What became of a supplier's leases that closed in a time range."""

    account: int
    name: str
    leases: int
    delivered: int
    """All of them in time: a lease that is not is void."""
    not_delivered: int
    degraded: int
    """Those of which not all was metered, or some was degraded."""
    ended_early: int
    """By the supplier."""
    delivery_s: Spread | None
    """From when a lease was to begin until its delivery, s; 0 where that was before. None where none was delivered."""
    uptime_bps: Spread | None
    """Of what was to be billed, what was metered and not degraded; None where nothing was to be billed."""


class Use(Struct, frozen=True):
    """What of some leases was used in some time, and what it comes to for their buyer or their supplier."""

    gpu_ms: int
    forfeited_gpu_ms: int
    """Of the unused rest of leases that were ended early, what is billed all the same."""
    cost: int
    """µ$"""
    fee: int
    """µ$; the buyer's or the supplier's."""
    amount: int
    """µ$; charged to the buyer, or earned by the supplier."""


class HourUse(Struct, frozen=True):
    """What was used in an hour of the clock in UTC, or in the part of it that was asked for."""

    since: int
    until: int
    use: Use


class LeaseUse(Struct, frozen=True):
    """What was used of a lease."""

    lease: LeaseId
    class_id: str
    quantity: int
    start: int
    end: int
    """When its use ends."""
    state: LeaseState
    use: Use


class RefusedUsage(Struct, frozen=True):
    """A usage report that had no effect, and why."""

    lease: LeaseId
    sequence: int
    gpu_ms: int
    final: bool
    measured_at: int
    """ms, as the report says; 0: it does not."""
    refused_at: int
    """ms; log time."""
    record: tuple[int, int]
    """(partition, offset) in the log."""
    code: Refusal
    args: Args


class Usage(Struct, frozen=True):
    """One accepted usage report of a lease."""

    lease: LeaseId
    sequence: int
    gpu_ms: int
    final: bool
    reported_at: int
    """ms; log time."""
    measured_at: int
    """ms; up to when the figure counts: never after it was reported, nor before the lease's start."""


class Listing(Struct, frozen=True):
    """A class, the partition in which it lives, and how it stands."""

    spec: ClassSpec
    partition: int
    retired: bool = False
    halt: HaltMode = HaltMode.NONE
    reference: int = 0
    """µ$ per GPU-hour; 0: none yet."""


class Outcome(Struct, frozen=True):
    """What settlement made of one record of `instructions` or `usage`."""

    refusal: Refusal | None
    args: Args


class Totals(Struct, frozen=True):
    """The whole exchange in figures, from the ledger."""

    orders: int
    fills: int
    leases_open: int
    leases_closed: int
    used_gpu_ms: int
    """Metered GPU-milliseconds, as billed."""
    charged: int
    """µ$ charged to buyers."""
    escrow: int
    held: int
    imbalance: int
    """µ$; the sum of all entries plus the differences of balances from their entries. Always 0."""


MAX_ROUND_AGE_MS = 60_000
"""An audit without a round for so long has stopped."""


class AuditFinding(Struct, frozen=True):
    """What the audit found that must not be."""

    rule: str
    what: str
    found: str
    expected: str
    age_ms: int
    """Since it was found, by the database's clock."""


class AuditStatus(Struct, frozen=True):
    """Where the audit stands that goes on all the time. Ages by the database's clock."""

    transaction: int
    """The last that is counted."""
    digest: bytes
    """Of the ledger up to there: equal ledgers have equal ones."""
    behind: int
    """Transactions that are not counted yet, when the last round ended."""
    round_age_ms: int | None
    """Since the last round ended; None before the first."""
    sweep: int
    """The how manyth look at everything is under way."""
    sweep_age_ms: int | None
    """Since the last one was complete; None before the first."""
    imbalance: int
    """µ$."""
    findings: list[AuditFinding]
    """The oldest first."""

    @property
    def is_alarming(self) -> bool:
        """Whether somebody should look: at what it found, or why it does not go on."""
        return bool(self.findings) or self.round_age_ms is None or self.round_age_ms > MAX_ROUND_AGE_MS


class Store(Protocol):
    """Postgres as gateways see it."""

    @property
    def webhooks(self) -> Webhooks: ...

    async def create_account(
        self, name: str, *, buyer_fee_bps: int, seller_fee_bps: int, owner: int | None, now: int
    ) -> Account:
        """A new account; `owner` None makes it its own. An account of that name is a ValueError."""
        ...

    async def account(self, account: int) -> Account | None: ...

    async def accounts(self, *, after: int, limit: int) -> list[Account]:
        """By id, from the one after `after`."""
        ...

    async def set_tier(self, account: int, tier: str) -> bool:
        """False where there is no such account, or no fee of that tier; '' is always there."""
        ...

    async def fees(self, *, after: tuple[str, int] | None, limit: int) -> list[Fee]:
        """The schedule, by tier and time, from the one after (tier, since)."""
        ...

    async def set_fee(self, fee: Fee, *, max_fees: int) -> bool:
        """Adds a fee, or replaces one that is not in force yet; False where its tier has as many already."""
        ...

    async def create_key(
        self,
        account: int,
        *,
        digest: bytes | None,
        prefix: str,
        label: str,
        scopes: frozenset[Scope],
        now: int,
        spender: Spender = NOBODY,
        expires_at: int | None = None,
        addresses: Sequence[Network] = (),
        public_key: bytes | None = None,
    ) -> ApiKey:
        """With a digest of its secret, or else a public key."""
        ...

    async def rotate_key(
        self,
        key: ApiKey,
        *,
        digest: bytes | None,
        prefix: str,
        now: int,
        expires_at: int | None,
        overlap_until: int,
        public_key: bytes | None = None,
    ) -> ApiKey | None:
        """A new key that is like this one but for its secret and its end; the old one ends with the overlap, or before
        where that was said already. None where it is revoked."""
        ...

    async def key(self, digest: bytes) -> ApiKey | None:
        """The key whose secret has this digest, revoked ones too."""
        ...

    async def signing_key(self, key_id: int) -> ApiKey | None:
        """The key of that id that has a public key, revoked ones too."""
        ...

    async def use_nonce(self, key_id: int, nonce: str, *, until: int, now: int) -> bool:
        """False where the key has used it already, anywhere; it may be forgotten after `until`. ms of the wall."""
        ...

    async def keys(self, account: int, *, after: int, limit: int) -> list[ApiKey]:
        """By id, after that one; ended and revoked ones too."""
        ...

    async def own_key(self, account: int, key_id: int) -> ApiKey | None: ...

    async def live_keys(self, account: int, *, now: int) -> int:
        """How many keys the account has that are good then."""
        ...

    async def revoke_key(self, account: int, key_id: int) -> bool:
        """False where the account has no such key."""
        ...

    async def add_ssh_key(self, account: int, key: SshKey, *, most: int) -> bool:
        """Under that name, in place of another; False where the account has `most` keys of other names already."""
        ...

    async def ssh_keys(self, account: int) -> list[SshKey]:
        """By name."""
        ...

    async def remove_ssh_key(self, account: int, name: str) -> bool:
        """False where the account has no such key."""
        ...

    async def balance(self, account: int) -> Balance: ...

    async def set_caps(
        self, account: int, kind: SpenderKind, name: str, *, day_cap: int | None, month_cap: int | None, most: int
    ) -> bool:
        """For orders and amends to come, in µ$; None is no cap. Both are set at once. False where the account has
        `most` of the kind already, and none of this name."""
        ...

    async def one_spender_too_many(self, account: int, spender: Spender, *, most: int) -> SpenderKind | None:
        """What the spender names that the account has not yet, and of which it has `most`."""
        ...

    async def caps(self, account: int, kind: SpenderKind, name: str, *, now: int) -> Caps | None:
        """None where no key and no cap ever named it."""
        ...

    async def daily_credits(self, account: int) -> Credits | None:
        """None where it was never granted any."""
        ...

    async def spent_by(
        self, account: int, by: str, *, days: tuple[int, int], after: str | None, limit: int
    ) -> list[Spent]:
        """What each team, user, pool or class was charged on the days from, until; by name, from the one after."""
        ...

    async def deposits(self, account: int, *, after: str | None, limit: int) -> list[Deposited]:
        """Newest first, from the one after that reference."""
        ...

    async def withdrawal(self, account: int, reference: str) -> Withdrawn | None: ...

    async def withdrawals(
        self, account: int, *, state: WithdrawalState | None, after: str | None, limit: int
    ) -> list[Withdrawn]:
        """Newest first, from the one after that reference."""
        ...

    async def withdrawals_under_way(self, *, after: tuple[int, str] | None, limit: int) -> list[Withdrawn]:
        """Of all accounts, the oldest first, from the one after (account, reference)."""
        ...

    async def entries(
        self, account: int, *, lease: LeaseId | None, after: str | None, limit: int
    ) -> tuple[list[Entry], str | None]:
        """The account's own entries, or those of a lease's escrow; newest first, and the cursor of those after them.

        Raises ValueError for a cursor of another list.
        """
        ...

    async def place(self, intent: Intent, *, now: int) -> Placed:
        """Writes the intent and reserves its hold of the cash, once per (account, client_order_id) for ever.

        Raises StoreError where the database cannot be used, or far too many intents wait already.
        """
        ...

    def place_soon(self, intent: Intent, *, now: int, told: Callable[[Placed | Exception], None]) -> None:
        """Likewise; `told` hears of it at once, before anybody who waits for others can: it takes no longer than to
        note it, and raises nothing. Raises StoreError where far too many intents wait already."""
        ...

    async def place_amend(self, amendment: Amendment, *, terms: bytes, now: int) -> PlacedAmend:
        """Likewise for an amend of an open order whose command is `terms`. One at a time of an order."""
        ...

    async def amendment(self, account: int, client_order_id: str) -> Amendment | None: ...

    async def order(self, account: int, order_id: int) -> Order | None: ...

    async def order_by_client_id(self, account: int, client_order_id: str) -> Order | None: ...

    async def own_orders(self, account: int, order_ids: Sequence[int], client_order_ids: Sequence[str]) -> list[Order]:
        """The account's orders with one of those ids, or one of those names."""
        ...

    async def orders(
        self,
        account: int,
        *,
        status: OrderStatus | None,
        class_id: str | None,
        before: int | None,
        limit: int,
        side: Side | None = None,
    ) -> list[Order]:
        """Answered orders, newest first, with ids below `before`."""
        ...

    async def classes(self) -> list[Listing]: ...

    async def lease(self, lease: LeaseId) -> Lease | None: ...

    async def leases(
        self,
        account: int,
        *,
        role: Side,
        states: Sequence[LeaseState],
        class_id: str | None,
        before: LeaseId | None,
        limit: int,
        order_id: int | None = None,
    ) -> list[Lease]:
        """Of an account as buyer (Side.BID) or supplier (Side.ASK), newest first; no states means all.

        With `order_id` only those that came from this order of the account: its bid or ask, by `role`.
        """
        ...

    async def reads_leases(self, account: int) -> tuple[str, int]:
        """From now on, and for ever, the steps of the account's leases are kept, the newest: the run that their numbers
        are of, and the last number."""
        ...

    async def lease_steps(self, after: Mapping[int, int], *, each: int) -> list[LeaseStep]:
        """Of accounts that read, the first `each` of those that are kept behind a number; by account, in order."""
        ...

    async def leases_now(self, account: int, *, after: int, limit: int) -> LeasesNow:
        """Of an account that reads: with the steps behind `after`, and of the leases at most `limit` as buyer and as
        many as supplier."""
        ...

    async def moved(self, timeout_s: float) -> None:
        """Returns once settlement has applied something since the last call, or after the time."""
        ...

    async def supplier_records(
        self, *, since: int, until: int, account: int | None, after: int, limit: int
    ) -> list[SupplierRecord]:
        """Of who has sold, by account, from the one after `after`, or of `account` alone: of leases that closed from
        `since` to before `until`, ms."""
        ...

    async def usage(self, lease: LeaseId, *, after: int, limit: int) -> list[Usage]:
        """By sequence, from the one after `after`."""
        ...

    async def usage_span(self, account: int, *, role: Side, lease: LeaseId | None) -> tuple[int, int] | None:
        """From the first start to the last end, ms, of what the account bought (Side.BID) or sold (Side.ASK)."""
        ...

    async def usage_by_hour(
        self, account: int, *, role: Side, lease: LeaseId | None, since: int, until: int
    ) -> list[HourUse]:
        """The hours in `[since, until)` in which something was used, in order. They add up to the bill."""
        ...

    async def usage_by_lease(
        self, account: int, *, role: Side, since: int, until: int, before: LeaseId | None, limit: int
    ) -> list[LeaseUse]:
        """The leases whose window meets `[since, until)`, the newest first. They add up to the bill."""
        ...

    async def refused_usage(
        self, account: int, *, lease: LeaseId | None, before: tuple[int, int, int] | None, limit: int
    ) -> list[RefusedUsage]:
        """What the account reported in vain, of a lease or of any, the newest first, from the one before
        (refused_at, partition, offset)."""
        ...

    async def wait_applied(self, partition: int, position: int, timeout_s: float) -> bool:
        """True once settlement has applied the execution of that position; False after the timeout."""
        ...

    async def applied(self, partition: int) -> int:
        """Position of the last execution of that partition that settlement applied; -1 before the first."""
        ...

    async def outcome(self, topic: str, partition: int, offset: int, timeout_s: float) -> Outcome | None:
        """What settlement made of that record, waiting for it; None after the timeout: unknown yet."""
        ...

    async def totals(self) -> Totals: ...

    async def invoices(self, account: Account, *, role: Side, before: int | None, limit: int) -> list[Head]:
        """The account's months as buyer (Side.BID) or supplier (Side.ASK), newest first, those before `before`."""
        ...

    async def invoice(
        self, account: Account, month: int, *, role: Side, after: LineId | None, limit: int | None
    ) -> Invoice | None:
        """A month and its lines after one, all of them where `limit` is None; None where it has none of this month."""
        ...

    async def notes(self, account: Account, lease: LeaseId, *, role: Side) -> list[Line]:
        """The corrections of a lease of the account, the oldest first."""
        ...

    async def audit_status(self, *, limit: int) -> AuditStatus:
        """With at most `limit` findings."""
        ...
