"""What the API takes and gives, as JSON: money and prices are decimal strings of dollars, times RFC 3339 in UTC."""

from typing import Annotated, Any, Generic, TypeVar

from msgspec import Meta, Struct, field

from gateways.api.errors import ErrorBody
from schemas.attributes import DELIVERIES, INTERCONNECTS, REGIONS, TIERS, name_of
from schemas.book import Obstacle
from schemas.commands import HaltMode, Prefer, SelfTrade, TimeInForce
from schemas.instructions import WITHDRAWAL_REFERENCE, Source, WithdrawalState
from schemas.refusals import Refusal
from schemas.store import CloseReason, LeaseState, LedgerKind, OrderStatus, Scope, SpenderKind
from schemas.units import MAX_FEE_BPS

HALT_MODES = {name_of(mode): mode for mode in HaltMode}
PREFERENCES = {name_of(prefer): prefer for prefer in Prefer}
SELF_TRADES = {name_of(self_trade): self_trade for self_trade in SelfTrade}
TIMES_IN_FORCE = {name_of(time_in_force): time_in_force for time_in_force in TimeInForce}
_DIGITS = "0-9a-hjkmnp-tv-z"
_ID = f"(0|[1-9a-hjkmnp-tv-z][{_DIGITS}]{{0,11}}|[1-7][{_DIGITS}]{{12}})"
ACCOUNT_ID = f"^acc_{_ID}$"
ORDER_ID = f"^ord_{_ID}$"
LEASE_ID = f"^lse_{_ID}-[0-9]{{1,9}}$"
NAME = "^[ -~]{1,64}$"
PATH_NAME = "^([ -,0-~-][ -.0-~]?|[.][ -,0-~-]|[ -.0-~]{3,64})$"
"""What is a part of paths: no slash, and none of the two names that those who join URLs resolve."""
CLASS_NAME = PATH_NAME
TIER = "^[a-z0-9_-]{1,32}$"
SPENDER_NAME = "^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$"
EVENT_ID = "^evt_[1-9][0-9]{0,17}$"
MONTH = "^(19[7-9][0-9]|[2-8][0-9]{3}|9[0-8][0-9]{2}|99[0-8][0-9]|999[0-8])-(0[1-9]|1[0-2])$"
DURATION = "^(?=[0-9])([0-9]{1,5}d)?([0-9]{1,6}h)?([0-9]{1,8}m)?$"
_YEAR = "(19[7-9][0-9]|[2-9][0-9]{3})"
_INNER_YEAR = "(19(7[1-9]|[89][0-9])|[2-8][0-9]{3}|9([0-8][0-9]{2}|9([0-8][0-9]|9[0-8])))"
_LEAP_YEAR = "(19(7[26]|8[048]|9[26])|[2-9][0-9](0[48]|[2468][048]|[13579][26])|([2468][048]|[3579][26])00)"
_DAY = "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
_DATE = f"({_YEAR}-{_DAY}|{_LEAP_YEAR}-02-29)"
_CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9]"
_SECOND = f"{_CLOCK}:[0-5][0-9]([.][0-9]{{1,9}})?"
_INNER_DATE = f"({_INNER_YEAR}-{_DAY}|{_LEAP_YEAR}-02-29)"
_TIME = f"({_INNER_DATE}T{_SECOND}(Z|[+-]{_CLOCK})|(1970|9999)-{_DAY}T{_SECOND}(Z|[+-]00:00))"
DATE = f"^{_DATE}$"
TIME = f"^{_TIME}$"
MOMENT = f"^(now([+]{DURATION.strip('^$')})?|{_TIME})$"
"""What texts must look like, for who reads the API's description. Bodies are held against the parsers themselves, whose
words say more: so these are `extra_json_schema`, which a decoder passes over."""


def _told(shape: dict[str, Any], description: str, *examples: str | int | list[str]) -> Meta:
    return Meta(extra_json_schema={"description": description, "examples": list(examples), **shape})


def _held(pattern: str, description: str, example: str) -> Meta:
    """A pattern that the decoder holds. To Python `$` is before a last line break, too; to JSON Schema it is not."""
    shape = {"pattern": pattern, "description": description, "examples": [example]}
    return Meta(pattern=f"{pattern}(?!\n)", extra_json_schema=shape)


NewUsd = Annotated[
    str,
    _told({"pattern": r"^-?[0-9]{1,12}([.][0-9]{1,6})?$"}, "dollars as a decimal string, at most 6 decimals", "2.60"),
]
Usd = Annotated[
    str,
    _told({"pattern": r"^-?[0-9]{1,13}[.][0-9]{2,6}$"}, "dollars as a decimal string, 2 to 6 decimals", "2.60"),
]
"""What the largest order comes to has a digit more than what is sent may have."""
Price = Annotated[
    str, _told({"pattern": r"^-?[0-9]{1,12}([.][0-9]{1,6})?$"}, "dollars per GPU-hour as a decimal string", "2.60")
]
Time = Annotated[str, _told({"pattern": TIME}, "RFC 3339, UTC", "2026-11-24T03:00:00Z")]
Moment = Annotated[
    str,
    _told(
        {"pattern": MOMENT},
        "RFC 3339 on a whole minute, or `now`, or like `now+24h`: from the exchange's clock, rounded up",
        "now",
        "now+24h",
        "2026-11-24T03:00:00Z",
    ),
]
Duration = Annotated[str, _told({"pattern": DURATION}, "whole minutes, like 24h, 90m, 7d or 1h30m", "24h")]
LeaseId = Annotated[str, _told({"pattern": LEASE_ID}, "a lease", "lse_7k2-0")]
AccountId = Annotated[str, _told({"pattern": ACCOUNT_ID}, "an account", "acc_2")]
ClassId = Annotated[str, _told({"pattern": CLASS_NAME}, "a class", "H100-SXM-80GB")]
OrderId = Annotated[str, _told({"pattern": ORDER_ID}, "an order", "ord_7k2")]
AcceptedRegion = Annotated[
    str, _told({"enum": [each for each in REGIONS if each != "unspecified"]}, "where", "us-east")
]
Region = Annotated[str, _told({"enum": list(REGIONS)}, "where", "us-east")]
Delivery = Annotated[str, _told({"enum": list(DELIVERIES)}, "what is delivered", "vm")]
Interconnect = Annotated[str, _told({"enum": list(INTERCONNECTS)}, "between nodes", "infiniband")]
Tier = Annotated[str, _told({"enum": list(TIERS)}, "whether the supplier may take it back", "guaranteed")]
Label = Annotated[str, _told({"pattern": "^[ -~]{0,64}$"}, "at most 64 printable ASCII characters", "night runs")]
Spender = Annotated[str, _told({"pattern": SPENDER_NAME}, "a team, a user or a pool", "research")]
_ED25519 = "^ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}( [ -~]{1,64})?$"
_A_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHZb2vMTCLV5JCHZsRPqZkBDsbWGxgFM3s2p2sB0bR9m"
Ed25519Key = Annotated[str, _told({"pattern": _ED25519}, "as `ssh-keygen -t ed25519` writes it", _A_KEY)]
TimeInForceName = Annotated[str, _told({"enum": list(TIMES_IN_FORCE)}, "how long it stands", "gtc")]
SelfTradeName = Annotated[str, _told({"enum": list(SELF_TRADES)}, "instead of a trade with its own", "cancel_newest")]
PreferName = Annotated[str, _told({"enum": list(PREFERENCES)}, "of several starts", "price")]
HaltName = Annotated[str, _told({"enum": list(HALT_MODES)}, "what of a class is halted", "no_new")]
TierName = Annotated[str, _told({"pattern": TIER}, "of a fee schedule", "gold")]
Name = Annotated[str, _told({"pattern": NAME}, "1 to 64 printable ASCII characters", "night-run-7")]
PathName = Annotated[
    str, _told({"pattern": PATH_NAME}, "1 to 64 printable ASCII characters, no slash, and not . or ..", "night-run-7")
]
Address = Annotated[
    str, Meta(description="an address or a network in CIDR, IPv4 or IPv6", examples=["10.0.0.0/8", "2001:db8::/32"])
]
Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""JSON has larger numbers; nothing here does."""
Sequence = Annotated[Int, _told({"exclusiveMinimum": 0}, "its number", 1)]
GpuMs = Annotated[Int, _told({"exclusiveMinimum": -1}, "GPUs × milliseconds", 28_800_000)]
MAX_ADDRESSES = 32
"""Of a key."""
Item = TypeVar("Item")


class Request(Struct, forbid_unknown_fields=True, rename={"class_id": "class"}):
    """What all bodies have in common: no field that we do not know."""


class Answer(Struct, rename={"class_id": "class"}):
    """What all answers have in common."""


class Page(Struct, Generic[Item]):
    """A part of a list."""

    items: list[Item]
    next: str | None
    """The `after` of the next part; null at the end."""


# Accounts and keys


class NewAccount(Request):
    """A party that trades. `scopes`, if any, gives it a first key."""

    name: Name
    owner: AccountId | None = None
    """Whose orders may not trade with its: an account's id; its own where absent."""
    buyer_fee_bps: Int = 0
    seller_fee_bps: Int = 0
    scopes: list[Scope] = []


class NewFee(Request):
    """What accounts of a tier pay from then on, in basis points of the cost."""

    buyer_fee_bps: Annotated[int, Meta(ge=0, le=MAX_FEE_BPS)]
    seller_fee_bps: Annotated[int, Meta(ge=0, le=MAX_FEE_BPS)]
    since: Moment


class Fee(Answer):
    """What accounts of a tier pay from `since` on, until the tier's next one."""

    tier: Name
    since: Time
    buyer_fee_bps: int
    seller_fee_bps: int


class NewTier(Request):
    """Which tier an account is of."""

    tier: TierName | None
    """One that has fees; null for the account's own fees."""


class Account(Answer):
    """A party."""

    account_id: AccountId
    name: str
    owner: str
    tier: Name | None
    buyer_fee_bps: int
    """In force now: what an order is stamped with when it is placed, and pays for its life."""
    seller_fee_bps: int
    coming_fees: list[Fee]
    """What its tier's fees will be, and from when on."""
    created_at: Time


class CreatedAccount(Account):
    """A new party, with the secret of its first key: shown this once."""

    key: str | None


class NewKey(Request):
    """A key for programs."""

    scopes: Annotated[list[Scope], _told({"minItems": 1}, "what it may do", ["read", "trade"])]
    label: Label = ""
    team: Spender | None = None
    """Who spends with it: a team, a user or both, or a pool. Their caps are met by all that it orders."""
    user: Spender | None = None
    pool: Spender | None = None
    """Of machine users: it counts apart from teams and users."""
    expires_at: Moment | None = None
    """It is not taken from then on; absent or null: it never ends."""
    addresses: Annotated[
        list[Address], _told({"maxItems": MAX_ADDRESSES}, "from where it is taken", ["10.0.0.0/8"])
    ] = []
    """From where alone it is taken; none: from anywhere."""
    public_key: Ed25519Key | None = None
    """Instead of a secret: Ed25519, a line as `ssh-keygen -t ed25519` writes it. Requests are then signed."""


class NewRotation(Request):
    """A new secret for a key."""

    overlap: Duration
    """How long the old one is still taken; `0m`: not any more."""
    expires_at: Moment | None = None
    """Of the new one; absent or null: as the old one was given it."""
    public_key: Ed25519Key | None = None
    """Instead of a secret, as for a new key."""


class Key(Answer):
    """A key without its secret."""

    key_id: int
    prefix: str
    label: str
    scopes: list[Scope]
    created_at: Time
    revoked: bool
    team: str | None
    user: str | None
    pool: str | None
    expires_at: Time | None
    """It is not taken from then on: by its own end, or as a newer one takes its place."""
    addresses: list[Address]
    public_key: str | None
    """null: it has a secret."""


class NewCaps(Request):
    """What a team, user or pool may cost at most. Both are set at once; absent or null is no cap."""

    day: NewUsd | None = None
    month: NewUsd | None = None


class Caps(Answer):
    """What a team, user or pool may cost at most, by UTC day and month, and does. An order is refused that would take
    what was spent in the period and what is committed over a cap."""

    kind: SpenderKind
    name: str
    day: Usd | None
    """null: no cap."""
    month: Usd | None
    spent_today: Usd
    spent_this_month: Usd
    committed: Usd
    """What its open orders and leases can still cost."""


class NewDailyCredits(Request):
    """What an account is granted each UTC day from now on; 0: no more. Today's are raised to it, never lowered."""

    daily: NewUsd


class DailyCredits(Answer):
    """An account's daily credits: charges take from them first, and what is left lapses with the UTC day."""

    account_id: AccountId
    daily: Usd
    """Granted at each 00:00 UTC from now on."""
    granted: Usd
    """For the day that runs."""
    remaining: Usd
    """Of those, not spent yet."""
    lapse_at: Time | None
    """null: it was never granted any."""


class Spend(Answer):
    """What one team, user, pool or class was charged."""

    name: str | None
    """null: what no team, user or pool ordered."""
    charged: Usd
    committed: Usd | None
    """What its open orders and leases can still cost, now; null for a class, and where there is no name."""


class CreatedKey(Key):
    """A new key with its secret: shown this once. null: it has a public key."""

    key: str | None


class NewDeposit(Request):
    """Money that came in from outside. The same `reference` again changes nothing."""

    account_id: AccountId
    amount: NewUsd
    reference: Name


class Deposit(Answer):
    """Money that is in."""

    account_id: AccountId
    amount: Usd
    reference: str


class Balance(Answer):
    """An account's money. What orders can use is cash and credit together."""

    account_id: AccountId
    cash: Usd
    """Its own, free to use; below 0 what it owes."""
    held: Usd
    """For open bids."""
    escrow: Usd
    """For leases bought and not used up."""
    receivable: Usd
    """Earned as a supplier."""
    outgoing: Usd
    """Withdrawn, and not out yet."""
    credit: Usd
    """How far cash may go below 0."""
    daily_credits: Usd
    """Granted for today (UTC) and not spent yet: charges take from them first."""


class NewCredit(Request):
    """How far an account's cash may go below 0."""

    credit: NewUsd


class MadeDeposit(Deposit):
    """Money that came in."""

    made_at: Time


class NewWithdrawal(Request):
    """Money that is to go out. The same `reference` again changes nothing."""

    reference: Annotated[str, _held(WITHDRAWAL_REFERENCE, "your own, once for ever", "nov-1")]
    amount: NewUsd
    destination: Annotated[str, Meta(min_length=1, max_length=256, examples=["DE02 1203 0000 0000 2020 51"])]
    """Where to, as agreed with the exchange."""
    source: Source = Source.CASH
    """`cash`, or `receivable`: what was earned as a supplier."""


class Withdrawal(Answer):
    """Money on its way out, or out, or back."""

    account_id: AccountId
    reference: str
    amount: Usd
    destination: str
    source: Source
    state: WithdrawalState
    provider_reference: str
    """The payment's, at the provider."""
    reason: str
    """Why it failed, and else ''."""
    requested_at: Time
    sent_at: Time | None
    ended_at: Time | None
    """When it settled or failed."""


class NewWithdrawalState(Request):
    """What became of a withdrawal. To say the same again changes nothing."""

    state: WithdrawalState
    provider_reference: Annotated[str, Meta(max_length=128)] = ""
    reason: Annotated[str, Meta(max_length=128)] = ""
    """Of a failure."""


Words = Annotated[str, _held(r"^[^\x00-\x1f\x7f]{0,128}$", "at most 128 characters, no control characters", "")]


class PaymentData(Struct):
    """What a payment provider says of a payment. Fields that we do not know are the provider's own."""

    account_id: AccountId
    reference: Annotated[str, _held(NAME, "once for ever", "pay_7")]
    """Of a deposit the payment's own, once for ever; of a withdrawal the account's."""
    amount: NewUsd | None = None
    """Of a deposit."""
    provider_reference: Words = ""
    """Of a withdrawal."""
    reason: Words = ""
    """Of a failure."""


class PaymentEvent(Struct):
    """What happened: `deposit.received`, or `withdrawal.` with sent, settled or failed, and then a PaymentData."""

    type: str
    data: dict[str, Any]


class KnownPaymentEvent(Struct):
    """An event of a type that the exchange knows."""

    data: PaymentData


class PaymentEventAnswer(Answer):
    """What was made of it."""

    event_id: str
    status: str
    """`done`, now or before; `ignored`, of a type that the exchange does not know."""


class Entry(Answer):
    """What one transaction did to one of the account's ledger accounts."""

    time: Time
    reference: str
    """The transaction's; all entries of one sum to 0 over all accounts."""
    ledger_account: LedgerKind
    amount: Usd
    """Above 0 it adds."""
    balance: Usd
    """Of the ledger account after it. In cash, what orders on their way reserve and what is lent are still there."""


# The market


class SlaStep(Request):
    """A lease whose uptime is below `below_bps` gets `credit_bps` of its cost back, in basis points."""

    below_bps: Int
    credit_bps: Int


class NewClass(Request):
    """A contract to trade: the accelerator, and the market's terms."""

    class_id: ClassId
    accelerator: Name
    memory_gb: Int
    form_factor: Name
    tick: Price = "0.0001"
    max_price: Price = "10000"
    max_quantity: Int = 65_536
    delivery_due: Duration = "15m"
    acceptance: Duration = "10m"
    grace: Duration = "72h"
    band_bps: Int = 0
    """How far from the reference price an order's may be, in basis points; 0: as far as it likes."""
    refund_bps: Int = 10_000
    """What goes back of the unused rest of a lease that its buyer ends early, in basis points."""
    sla: list[SlaStep] = []
    """What goes back of a lease's cost by its uptime: each step is below the one before and credits more."""
    reclaim_credit_bps: Int = 0
    """What goes back, of what the rest of a lease that its supplier reclaims would have cost, in basis points."""


class Class(Answer):
    """A contract that trades."""

    class_id: ClassId
    accelerator: str
    memory_gb: int
    form_factor: str
    tick: Price
    max_price: Price
    max_quantity: int
    delivery_due: Duration
    """A lease that is not delivered for so long is void."""
    acceptance: Duration
    """Silence for so long after delivery is acceptance."""
    grace: Duration
    """Late usage counts for so long after a lease's end."""
    band_bps: int
    """How far from the reference price an order's may be, in basis points; 0: as far as it likes."""
    reference: Price | None
    """The price around which the band lies; null: none yet."""
    halt: str
    """none: it trades; no_new: it takes cancels, and less quantity; full: not even those."""
    retired: bool
    """It takes no more orders, for ever."""
    refund_bps: int
    """What goes back of the unused rest of a lease that its buyer ends early, in basis points: the supplier earns the
    remainder. Of a lease what its class said at the fill."""
    sla: list[SlaStep]
    reclaim_credit_bps: int


class NewClassTerms(Request):
    """New terms for a class, for orders to come: what is absent stays as it is."""

    tick: Price | None = None
    max_price: Price | None = None
    max_quantity: Int | None = None
    delivery_due: Duration | None = None
    acceptance: Duration | None = None
    grace: Duration | None = None
    band_bps: Int | None = None
    refund_bps: Int | None = None
    sla: list[SlaStep] | None = None
    reclaim_credit_bps: Int | None = None


class NewReference(Request):
    """The price around which a class's band lies from now on."""

    price: Price


class Reference(Answer):
    """A class's reference price, and its band: orders from `low` to `high` are taken."""

    class_id: ClassId
    price: Price
    low: Price
    high: Price


class NewHalt(Request):
    """What of a class is halted, or of all where none is named."""

    mode: HaltName
    """none resumes it; no_new takes cancels and less quantity; full not even those."""
    class_id: ClassId | None = None


class ClassHalt(Answer):
    """What of a class is halted from now on."""

    class_id: ClassId
    mode: HaltName


class Halts(Answer):
    """Each class that the halt concerned. A resumed class that has too much to match at once stays halted: resume it
    again."""

    classes: list[ClassHalt]


class NewKill(Request):
    """Whether an account's kill switch is on."""

    on: bool


class Kill(Answer):
    """An account's kill switch: while it is on, all that it sends is refused."""

    account_id: AccountId
    on: bool


class NewLimits(Request):
    """What an account may have at most, in each partition for itself; 0 is no limit. All are set at once."""

    open_orders: Int = 0
    notional: NewUsd = "0"
    """Over its open orders, what each can still cost or bring in. It needs a limit on open orders, too."""
    quantity: Int = 0
    """GPUs in one order."""


class Limits(Answer):
    """What an account may have at most; 0 is no limit."""

    account_id: AccountId
    open_orders: int
    notional: Usd
    quantity: int


class Standing(Answer):
    """What holds for an account from one moment to the next."""

    account_id: AccountId
    killed: bool
    """Its kill switch is on: all that it sends is refused."""
    open_orders: int
    """The most that it may have, as the two below; 0 is no limit."""
    notional: Usd
    quantity: int
    """GPUs in one order."""
    dead_man_until: Time | None
    """When its dead man's switch acts; null: it is off."""


class BookLevel(Answer):
    """All orders of one side at one price."""

    price: Price
    quantity: int
    orders: int


class Book(Answer):
    """A class's book for one delivery window, best prices first."""

    class_id: ClassId
    position: str | None
    """The log position that it is true for, in the form of an order's id."""
    time: Time
    start: Time
    duration: Duration
    asks: list[BookLevel]
    """Quantity: what is unsold over the whole window, of an ask with a `display` at most so many."""
    bids: list[BookLevel]
    """Quantity: what is still wanted, in whatever window."""


class Offer(Answer):
    """All asks of one price that are alike in all else that a buyer chooses by."""

    price: Price
    region: Region
    delivery: Delivery
    interconnect: Interconnect
    confidential: bool
    tier: Tier
    notice_minutes: int
    lot: int
    """A purchase takes a multiple of it."""
    quantity: int
    """GPUs unsold over the whole window, over all of them."""
    most: int
    """GPUs that come from one place."""
    asks: int


class Offers(Answer):
    """What of a class is for sale over one delivery window, by where and how, cheapest first."""

    class_id: ClassId
    position: str | None
    """The log position that it is true for, in the form of an order's id."""
    time: Time
    start: Time
    duration: Duration
    offers: list[Offer]


class Candle(Answer):
    """The fills of a class in one interval. An interval without fills has none."""

    start: Time
    open: Price
    high: Price
    low: Price
    close: Price
    fills: int
    gpu_hours: Annotated[str, Meta(description="GPU-hours sold, as a decimal string", examples=["192.5"])]
    value: Usd
    """What they cost in all, without fees."""


class Ticker(Answer):
    """What a class last traded at, and its last 24 hours."""

    class_id: ClassId
    last: Price | None
    """Null before the first fill."""
    time: Time | None
    number: int
    """Of the newest fill: how many there were."""
    day: Candle | None
    """The last 24 hours as one candle; null where nothing traded."""


class Status(Answer):
    """How the exchange is: public figures."""

    time: Time
    """The exchange's own clock."""
    speed: int
    """How many times faster than the wall it runs: 1, except in a demo."""
    position: list[str | None]
    """Of each partition: the newest answer, in the form of an order's id."""
    settlement_lag: int
    """Answers that settlement has not applied yet, over all partitions."""
    orders: int
    fills: int
    leases_open: int
    leases_closed: int
    gpu_hours: str
    """Metered, as billed."""
    charged: Usd
    escrow: Usd
    held: Usd
    imbalance_microusd: int
    """Always 0."""


# Orders


class NewAccepts(Request):
    """What a bid accepts within its class."""

    regions: list[AcceptedRegion] = []
    """Empty: any."""
    delivery: Delivery = "container"
    """The least: container, vm, bare_metal."""
    interconnect: Interconnect = "none"
    """The least: none, nvlink, infiniband."""
    confidential: bool = False
    interruptible: bool = False
    only_suppliers: list[AccountId] = []
    not_suppliers: list[AccountId] = []


class NewBid(Request):
    """A wish for GPUs over time."""

    class_id: ClassId
    quantity: Int
    price: Price
    """The limit."""
    duration: Duration
    min_fill: Int
    """The least GPUs in one fill, so from one place; equal to `quantity`: from one place or not at all."""
    start: Moment | None = None
    starts: list[Moment] | None = None
    """Instead of `start`, up to 32 in order of preference. Without either: now."""
    accepts: NewAccepts = field(default_factory=NewAccepts)
    prefer: PreferName = "price"
    """price or start: what comes first among several starts."""
    time_in_force: TimeInForceName = "gtc"
    expire_at: Moment | None = None
    post_only: bool = False
    self_trade: SelfTradeName = "cancel_newest"
    client_order_id: PathName | None = None
    """Your own name for the order, once for ever: with it, sending the order again is safe. No slash: it is a part of
    paths."""
    not_after: Moment | None = None
    """Not taken after this time; a minute from now where absent."""
    ssh_key: str | None = None
    """One of the account's SSH keys, by name: the supplier sees it with the lease, to let it in."""


class NewAsk(Request):
    """Capacity for sale, at one place."""

    class_id: ClassId
    quantity: Int
    price: Price
    """The limit."""
    end: Moment
    start: Moment = "now"
    region: Region = "unspecified"
    delivery: Delivery = "vm"
    interconnect: Interconnect = "none"
    confidential: bool = False
    tier: Tier = "guaranteed"
    notice_minutes: Int = 0
    min_duration: Duration = "1h"
    lot: Int = 1
    time_in_force: TimeInForceName = "gtc"
    expire_at: Moment | None = None
    post_only: bool = False
    self_trade: SelfTradeName = "cancel_newest"
    client_order_id: PathName | None = None
    """As of a bid."""
    not_after: Moment | None = None
    display: Int = 0
    """GPUs that the book shows of it at most; 0 shows all. Its place in the queue is the same."""


MAX_BATCH = 500


class BatchBid(NewBid, tag_field="side", tag="bid"):
    """A bid among others."""


class BatchAsk(NewAsk, tag_field="side", tag="ask"):
    """An ask among others."""


class NewOrders(Request):
    """Bids and asks to place, in this order."""

    orders: Annotated[list[BatchBid | BatchAsk], Meta(min_length=1, max_length=MAX_BATCH)]


class OrderName(Request):
    """Which order: one of the two."""

    order_id: OrderId | None = None
    client_order_id: PathName | None = None


class OrderNames(Request):
    """Orders to cancel."""

    orders: Annotated[list[OrderName], Meta(min_length=1, max_length=MAX_BATCH)]


class NewTerms(Request):
    """New terms for an order of yours: what is absent stays as it is. Side and class stay in any case.

    Less quantity alone keeps the order's place in the queue; anything else gives it a new one, behind its equals.
    """

    quantity: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    """The new total, what is filled included; no more than that ends the order."""
    price: Price | None = None
    time_in_force: TimeInForceName | None = None
    """gtc or gtd."""
    expire_at: Moment | None = None
    post_only: bool | None = None
    self_trade: SelfTradeName | None = None
    start: Moment | None = None
    duration: Duration | None = None
    """Of a bid, like the next four."""
    starts: list[Moment] | None = None
    min_fill: Int | None = None
    """Where absent it comes down to a quantity below it."""
    accepts: NewAccepts | None = None
    """As a whole: what it does not say is its default."""
    prefer: PreferName | None = None
    end: Moment | None = None
    """Of an ask, like all the following but the last two."""
    region: Region | None = None
    delivery: Delivery | None = None
    interconnect: Interconnect | None = None
    confidential: bool | None = None
    tier: Tier | None = None
    notice_minutes: Int | None = None
    min_duration: Duration | None = None
    lot: Int | None = None
    display: Int | None = None
    amend_id: Name | None = None
    """Your own name for this amend of this order, once for ever: with it, sending the amend again is safe."""
    not_after: Moment | None = None
    """The amend is not taken after this time; a minute from now where absent."""


class Accepts(Answer):
    """What a bid accepts, as understood."""

    regions: list[Region]
    delivery: Delivery
    interconnect: Interconnect
    confidential: bool
    interruptible: bool
    only_suppliers: list[AccountId]
    not_suppliers: list[AccountId]


class OrderFill(Answer):
    """A trade of an order; its lease has the same number in its id."""

    fill_id: str
    lease_id: str
    price: Price
    quantity: int
    start: Time
    end: Time


class RefusalNote(Answer):
    """Why the engine refused an order."""

    code: Refusal
    message: str
    field: str


class OrderState(Answer):
    """Where an order stands, bid or ask."""

    order_id: str | None
    """null until the log has answered."""
    client_order_id: Name
    class_id: ClassId
    status: OrderStatus
    quantity: int
    filled: int
    left: int
    price: Price
    held: Usd
    reason: str
    """Why it ended, where it was cancelled: requested, ioc_rest, fok_unfilled, self_trade, walk_limit (its command had
    made as many fills as one can), amended (to no more than what was filled), killed, dead_man, class_retired.
    Of an open bid: unfunded, where the account had not the money for its new terms."""
    refusal: RefusalNote | None
    created_at: Time
    fills: list[OrderFill] | None
    """Oldest first, at most 500; null in lists."""
    time_in_force: TimeInForceName
    expire_at: Time | None
    post_only: bool
    self_trade: SelfTradeName
    not_after: Time
    fee_bps: int
    team: str | None
    """Who placed it, like the next two: of its key."""
    user: str | None
    pool: str | None


class Bid(OrderState, tag_field="side", tag="bid"):
    """A bid as understood: every term of it."""

    duration: Duration
    starts: list[Time]
    min_fill: int
    accepts: Accepts
    prefer: PreferName
    ssh_key: str | None
    """The SSH public key that it named, as it was then."""
    extends: str | None
    """The lease that it makes longer."""


class Ask(OrderState, tag_field="side", tag="ask"):
    """An ask as understood: every term of it."""

    start: Time
    end: Time
    region: Region
    delivery: Delivery
    interconnect: Interconnect
    confidential: bool
    tier: Tier
    notice_minutes: int
    min_duration: Duration
    lot: int
    display: int


Order = Bid | Ask


class Excluded(Answer):
    """Orders of the other side that one reason keeps from trading with an order: each counts once, by the first of own,
    region, delivery, interconnect, confidential, tier, supplier, duration, size, window, price."""

    reason: Obstacle
    count: int
    price: Price | None
    """The best of them; null where they are sold out."""
    nearest: str | None
    """How near one comes, by the reason: the region (or delivery, …) of the best of them, a duration, a number of GPUs,
    the moment from which one is free (or, of bids, that one accepts), an order's id. Otherwise null."""


class Obstacles(Answer):
    """What stands in the way of an order."""

    looked: int
    """Orders of the other side that were looked at: the best 1,000, and asks that are sold out."""
    complete: bool
    """Those were all."""
    halted: bool
    """The class is halted: nothing trades."""
    suit: int
    """How many could trade with it now; of a preview those with which it would."""
    excluded: list[Excluded]
    """The most first."""
    text: str
    """All of it in one sentence."""


class Why(Answer):
    """Why an order does not trade."""

    order_id: str
    status: OrderStatus
    position: str | None
    """The log position that it is true for, in the form of an order's id."""
    time: Time
    why: Obstacles | None
    """null: the order is not in the book."""


class PreviewFill(Answer):
    """A trade that would happen now."""

    price: Price
    quantity: int
    start: Time
    end: Time
    region: Region
    delivery: Delivery
    interconnect: Interconnect
    confidential: bool
    tier: Tier
    notice_minutes: int


class Preview(Answer):
    """What an order would do if it came now. Nothing is placed; another order may come first."""

    class_id: ClassId
    position: str | None
    """The log position that it is true for, in the form of an order's id."""
    time: Time
    fills: list[PreviewFill]
    """At most 500."""
    filled: int
    left: int
    status: OrderStatus
    """What it would be then: open, filled or cancelled."""
    reason: str
    """Why it would end, where it would be cancelled."""
    until: Time | None
    """The last moment at which what is left would stand."""
    cancels: list[str]
    """Orders of the same owner that it would cancel instead of trading with them."""
    cost: Usd
    """Of what fills now, without fees."""
    fee: Usd
    """The account's own on it."""
    held: Usd
    """For what is left of a bid, fee included: for an ask 0.00, like the next three."""
    most: Usd
    """What it can cost in all: cost, fee and what is held."""
    needed: Usd
    """What has to be free when it is placed: all of it at its limit, fee included."""
    short: Usd
    """Of that, what the account lacks now."""
    why: Obstacles
    """What stands in its way before it comes."""


class OrderAnswer(Answer):
    """What one order of many would have been answered alone."""

    status: int
    """Of HTTP."""
    replayed: bool
    """It was there before."""
    order: Order | None
    error: ErrorBody | None
    """Why not, where there is no order."""


class OrderAnswers(Answer):
    """One for each order, in the order in which they were sent."""

    answers: list[OrderAnswer]


class AllCancelled(Answer):
    """How many orders a cancel of all ended. Those in classes that are halted in full stay."""

    class_id: ClassId | None
    """null: in every class."""
    orders: int


class NewDeadMan(Request):
    """When all open orders of the account are cancelled, unless it says so anew before: one of the two."""

    seconds: Annotated[int, Meta(ge=1, le=31_536_000)] | None = None
    """From now, as the wall's clock goes."""
    until: Moment | None = None


class DeadMan(Answer):
    """The account's dead man's switch."""

    until: Time | None
    """When it acts; null: it is off."""


# Leases and usage


class Spread(Answer):
    """A tenth, half and nine tenths of the leases have no more."""

    p10: int
    median: int
    p90: int


class SupplierRecord(Answer):
    """What became of a supplier's leases that closed in the time range. Figures are of leases, each counted once."""

    account_id: AccountId
    name: str
    since: Time
    until: Time
    leases: int
    """Closed, but for those that the buyer could not pay."""
    delivered: int
    not_delivered: int
    """Void: not delivered in the time that the class gives."""
    delivered_on_time_bps: int | None
    """Of those that were delivered or should have been, in basis points; null where there are none."""
    delivery_s: Spread | None
    """From when a lease was to begin until it was delivered, seconds; 0 where that was before."""
    uptime_bps: Spread | None
    """Of the time that was to be billed, what was metered and not degraded, in basis points."""
    degraded: int
    """With an uptime below 10,000."""
    ended_early: int
    """By the supplier."""


class Credit(Answer):
    """What a lease's buyer got back, as it was not what its class promises."""

    amount: Usd
    """By the class's terms, at most what the supplier earned with the lease. What daily credits had paid comes back as
    credits of that day, once all that cash had paid is back."""
    reason: str


class Degradation(Answer):
    """For so long so many of a lease's GPUs did not work, as its supplier said."""

    since: Time
    until: Time | None
    """null: still."""
    gpus: int
    note: str


class Renewal(Answer):
    """How a lease goes on by itself: it is extended so an hour before it ends, and what it becomes likewise."""

    duration: Duration
    max_price: Price
    sent: bool
    """It was extended, or could not be: the order `renewal of lse_…` says which."""


class Lease(Answer):
    """Capacity that was sold, for the account that asks: the other side's money is not shown."""

    lease_id: str
    class_id: ClassId
    role: str
    """buyer or supplier: what the account is in it."""
    order_id: str
    """The account's own order that it came from."""
    buyer: str
    supplier: str
    price: Price
    quantity: int
    start: Time
    end: Time
    region: Region
    delivery: Delivery
    interconnect: Interconnect
    confidential: bool
    tier: Tier
    notice_minutes: int
    state: LeaseState
    close_reason: CloseReason
    """Why it closed, or will: where somebody ended it before its window did, it is known from then on."""
    created_at: Time
    deliver_by: Time
    delivered_at: Time | None
    accepted_at: Time | None
    closed_at: Time | None
    connection: str | None
    """How to reach the machines; null for the supplier, who said it. Kept sealed."""
    used_gpu_ms: int
    """Metered since acceptance, as billed."""
    escrow: Usd | None
    """Of the buyer, still put aside."""
    charged: Usd | None
    """To the buyer so far, fee included."""
    earned: Usd | None
    """By the supplier so far, fee deducted."""
    refund_bps: int
    """What goes back of the unused rest when the buyer ends it early, in basis points."""
    ends_at: Time | None
    """Where it ends before its window does: ended by its buyer, or reclaimed."""
    forfeited_gpu_ms: int
    """Of the unused rest, what is billed all the same."""
    sla: list[SlaStep]
    """What its class promised at the fill, like the next."""
    reclaim_credit_bps: int
    credit: Credit | None
    """Once it is closed: what went back to its buyer."""
    uptime_bps: int | None
    """Once it is closed: of the time that was to be billed, what was metered and not degraded, in basis points."""
    degradations: list[Degradation] | None
    """Oldest first; null in lists."""
    last_sequence: int
    """Of its usage reports, the highest accepted; 0: none yet."""
    team: str | None
    """Of the buyer, who ordered it, like the next two."""
    user: str | None
    pool: str | None
    gpus: list[str] | None
    """Of its GPUs, as its supplier named them; null in lists."""
    proof: str
    """The supplier's: what shows that the machines can be reached."""
    extended_by: str | None
    """The lease with which it goes on, on the same machines."""
    renewal: Renewal | None
    ssh_key: str | None
    """The SSH public key that its bid named; null in lists."""


class NewDegradation(Request):
    """Some of a lease's GPUs do not work."""

    gpus: Int
    note: Annotated[str, Meta(min_length=1, max_length=500)]
    """What is wrong, for the buyer."""


class NewDelivery(Request):
    """The machines of a lease, handed over."""

    connection: Annotated[str, Meta(min_length=1, max_length=4096)]
    """How to reach them: for its buyer alone, and kept sealed."""
    gpus: Annotated[list[str], Meta(max_length=1024)] = []
    """The names of its GPUs, all of them or none. No GPU is in two leases at one time."""
    proof: Annotated[str, Meta(max_length=4096)] = ""
    """What shows that they can be reached, like the output of a probe: for both sides. No secrets."""


class NewExtension(Request):
    """How much longer a lease is to go on, on the same machines: all of it, or nothing changes."""

    duration: Duration
    max_price: Price
    """It trades at the ask's own price, if that is no more."""
    client_order_id: PathName | None = None
    """As of an order: with it, sending it again is safe."""


class NewRenewal(Request):
    """How a lease goes on by itself, an hour before it ends."""

    duration: Duration
    max_price: Price


class NewSshKey(Request):
    """An SSH public key, by a name of your own."""

    name: PathName
    public_key: Annotated[str, Meta(max_length=16384, examples=[_A_KEY])]
    """A line as in ~/.ssh/id_ed25519.pub."""


class SshKey(Answer):
    """An SSH public key of the account."""

    name: str
    public_key: str
    fingerprint: str
    """As `ssh-keygen -l` shows it."""
    created_at: Time


class UsageReport(Request):
    """What a lease has used so far, in all, as its supplier metered it."""

    lease_id: LeaseId
    sequence: Sequence
    """1, 2, 3, … for each lease."""
    gpu_ms: GpuMs
    """GPUs × milliseconds, cumulative."""
    final: bool = False
    """No more will come; only after the lease's end."""
    measured_at: Time | None = None
    """Up to when the figure counts; where absent, or ahead of the exchange's clock, when it arrives."""


class UsageReports(Request):
    """Up to 500 at once, each answered for itself."""

    reports: Annotated[list[UsageReport], Meta(min_length=1, max_length=500)]


class UsageProblem(Answer):
    """Why a report was not taken."""

    code: str
    message: str
    field: str


class UsageAnswer(Answer):
    """What became of one report."""

    lease_id: str
    sequence: int
    status: str
    """accepted, refused, or unknown: not answered in time, send it again."""
    error: UsageProblem | None


class UsageAnswers(Answer):
    """In the order of the reports."""

    answers: list[UsageAnswer]


class Use(Answer):
    """What was used in some time, and what it comes to for the account that asks, as buyer or as supplier."""

    gpu_ms: int
    forfeited_gpu_ms: int
    """Of the unused rest of leases that were ended early, what is billed all the same."""
    cost: Usd
    fee: Usd
    amount: Usd
    """Charged to the buyer, fee included; or earned by the supplier, fee deducted."""


class HourUse(Use, tag_field="by", tag="hour"):
    """What was used in an hour of the clock in UTC, or in the part of it that was asked for."""

    since: Time
    until: Time


class LeaseUse(Use, tag_field="by", tag="lease"):
    """What was used of a lease."""

    lease_id: str
    class_id: ClassId
    quantity: int
    start: Time
    end: Time
    """When its use ends."""
    state: LeaseState


class RefusedUsage(Answer):
    """A report that had no effect, and why."""

    lease_id: str
    sequence: int
    gpu_ms: int
    final: bool
    measured_at: Time | None
    """As the report says."""
    refused_at: Time
    error: UsageProblem


class Usage(Answer):
    """An accepted report."""

    sequence: int
    gpu_ms: int
    final: bool
    reported_at: Time
    measured_at: Time
    """Up to when the figure counts."""


# The audit


class AuditFinding(Answer):
    """What must not be."""

    rule: str
    what: str
    found: str
    expected: str
    age_s: int
    """Since it was found."""


class AuditStatus(Answer):
    """Where the audit stands that goes on all the time."""

    alarm: bool
    """Somebody should look: at the findings, or why there was no round for a minute."""
    transaction: int
    """The last of the ledger that is counted."""
    digest: str
    """Of the ledger up to there, BLAKE2b-256 in hex: equal ledgers have equal ones."""
    behind: int
    """Transactions that are not counted yet."""
    round_age_s: int | None
    """Since the last round; null before the first."""
    sweep: int
    """The how manyth look at everything is under way."""
    sweep_age_s: int | None
    """Since everything was looked at; null before the first time."""
    imbalance_microusd: int
    findings: list[AuditFinding]
    """The oldest first, at most 100."""
