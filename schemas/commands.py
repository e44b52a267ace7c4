"""What enters the log for the engine: one record of `commands` is one of these (rulebook: Orders).

Every Struct is array-like MessagePack with a tag in front. Fields are only ever added at the end, with a default:
an old reader skips what it does not know, a new one fills in what an old writer did not say.
"""

from enum import IntEnum

from msgspec import Struct

from schemas.attributes import Accepts, Attributes, ClassSpec
from schemas.ids import FillId
from schemas.units import HOUR_MS


class Side(IntEnum):
    """Which side of the book an order is on."""

    BID = 0
    ASK = 1


class TimeInForce(IntEnum):
    """How long an order stands (rulebook: Orders)."""

    GTC = 0
    GTD = 1
    IOC = 2
    FOK = 3


class Prefer(IntEnum):
    """What a bid with several starts puts first."""

    PRICE = 0
    START = 1


class SelfTrade(IntEnum):
    """What happens instead of a trade between two orders of one owner; the newer order's word counts."""

    CANCEL_NEWEST = 0
    CANCEL_OLDEST = 1
    CANCEL_BOTH = 2
    SKIP = 3


class HaltMode(IntEnum):
    """What of a class is halted (rulebook: Halt)."""

    NONE = 0
    """Nothing: it trades."""
    NO_NEW = 1
    """Cancels and amends that only take quantity away pass."""
    FULL = 2
    """Not even those."""


class PlaceAsk(Struct, frozen=True, array_like=True, gc=False, tag="ask"):
    """Capacity for sale: `quantity` GPUs over `[start, end)` at `price` µ$ per GPU-hour or better."""

    class_id: str
    account: int
    owner: int
    client_order_id: str
    not_after: int
    """ms; the engine refuses the command when its log time is past this, and knows a repeat until then."""
    quantity: int
    price: int
    start: int
    """ms on the grid; 0 is the command's log time rounded up to the grid."""
    end: int
    attributes: Attributes
    min_duration: int = HOUR_MS
    lot: int = 1
    time_in_force: TimeInForce = TimeInForce.GTC
    expire_at: int = 0
    post_only: bool = False
    self_trade: SelfTrade = SelfTrade.CANCEL_NEWEST
    fee_bps: int = 0
    """The supplier's fee, stamped by the gateway."""
    display: int = 0
    """GPUs that published depth shows of it at most; 0 shows all. Priority is the same."""
    request_id: str = ""
    """Of the request that sent it, for who looks for its answer: up to 64 characters. The same in the others."""


class PlaceBid(Struct, frozen=True, array_like=True, gc=False, tag="bid"):
    """A wish for `quantity` GPUs over `duration` ms from one of `starts`, at `price` µ$ per GPU-hour or better."""

    class_id: str
    account: int
    owner: int
    client_order_id: str
    not_after: int
    quantity: int
    price: int
    """The limit; of a market order the worst price, which serves as its limit."""
    duration: int
    starts: tuple[int, ...]
    """1 to 32 moments in order of preference, ms on the grid; 0 is the log time rounded up to the grid."""
    accepts: Accepts
    min_fill: int
    """The least GPUs in one fill; equal to `quantity`: from one place or not at all."""
    prefer: Prefer = Prefer.PRICE
    time_in_force: TimeInForce = TimeInForce.GTC
    expire_at: int = 0
    post_only: bool = False
    self_trade: SelfTrade = SelfTrade.CANCEL_NEWEST
    fee_bps: int = 0
    """The buyer's fee, stamped by the gateway."""
    market: bool = False
    request_id: str = ""


class Cancel(Struct, frozen=True, array_like=True, gc=False, tag="cancel"):
    """Ends what is unsold of an order of this account; its leases stay."""

    account: int
    order_id: int
    request_id: str = ""


class CancelNamed(Struct, frozen=True, array_like=True, gc=False, tag="cancel_named"):
    """Cancels the live order that was placed under this client_order_id."""

    account: int
    client_order_id: str
    request_id: str = ""


class CancelAll(Struct, frozen=True, array_like=True, gc=False, tag="cancel_all"):
    """Cancels all live orders of an account and a class, in the order of their ids."""

    account: int
    """0: of every account, which is an admin's word and passes in every halt."""
    class_id: str = ""
    """Empty: in every class of this partition."""
    request_id: str = ""


class Amend(Struct, frozen=True, array_like=True, gc=False, tag="amend"):
    """New terms for a live order (rulebook: Amend).

    `terms` state the whole order anew: its side, class and account must be the order's; owner and fee stay what they
    were. `quantity` is the new total. The client_order_id, not_after and request_id are of this command: a repeat
    changes nothing.
    """

    order_id: int
    terms: PlaceAsk | PlaceBid


class Return(Struct, frozen=True, array_like=True, gc=False, tag="return"):
    """From settlement: the buyer ended a lease early, so the rest of its window is for sale again."""

    fill: FillId
    ask_id: int
    quantity: int
    start: int
    end: int


class Withdraw(Struct, frozen=True, array_like=True, gc=False, tag="withdraw"):
    """From settlement: a lease was not delivered, or its supplier reclaimed it. Nothing comes back for sale."""

    fill: FillId
    ask_id: int
    quantity: int
    start: int
    end: int


class Extend(Struct, frozen=True, array_like=True, gc=False, tag="extend"):
    """A fill-or-kill bid of a lease's buyer that meets only that lease's ask, from the lease's end on."""

    fill: FillId
    """Whose lease goes on, on the same machines."""
    ask_id: int
    account: int
    owner: int
    client_order_id: str
    not_after: int
    quantity: int
    start: int
    """The lease's end."""
    end: int
    price: int
    """The limit; it trades at the ask's."""
    fee_bps: int = 0
    request_id: str = ""


class CreateClass(Struct, frozen=True, array_like=True, gc=False, tag="class"):
    """Opens a book. The class lives in the partition in which this was logged."""

    spec: ClassSpec
    request_id: str = ""


class ChangeClass(Struct, frozen=True, array_like=True, gc=False, tag="change_class"):
    """New terms for a class, for orders to come: what it is stays, and so do the orders in its book."""

    spec: ClassSpec
    request_id: str = ""


class RetireClass(Struct, frozen=True, array_like=True, gc=False, tag="retire_class"):
    """Closes a book for ever: its orders are cancelled, its leases stay."""

    class_id: str
    request_id: str = ""


class SetReference(Struct, frozen=True, array_like=True, gc=False, tag="reference"):
    """The price around which a class's band lies from now on, µ$ per GPU-hour."""

    class_id: str
    price: int
    request_id: str = ""


class Halt(Struct, frozen=True, array_like=True, gc=False, tag="halt"):
    """Halts a class, or with `NONE` resumes it; an empty class_id is every class of this partition."""

    class_id: str
    mode: HaltMode
    request_id: str = ""


class Kill(Struct, frozen=True, array_like=True, gc=False, tag="kill"):
    """The kill switch: cancels all of an account and refuses what it sends, until switched off."""

    account: int
    on: bool
    request_id: str = ""


class RenewDeadMan(Struct, frozen=True, array_like=True, gc=False, tag="dead_man"):
    """The dead-man switch: all of an account is cancelled at `until`, unless renewed before; 0 disarms it."""

    account: int
    until: int
    request_id: str = ""


class SetLimits(Struct, frozen=True, array_like=True, gc=False, tag="limits"):
    """What an account may have in this partition at most; 0 is no limit."""

    account: int
    open_orders: int = 0
    notional: int = 0
    """µ$: the sum over its open orders, the new one included, of what each can still cost or bring in, without fees."""
    quantity: int = 0
    """GPUs in one order."""
    request_id: str = ""


class SetRules(Struct, frozen=True, array_like=True, gc=False, tag="rules"):
    """From the next command on the rules with this number hold. An engine that does not know them stops."""

    number: int


class Tick(Struct, frozen=True, array_like=True, gc=False, tag="tick"):
    """Moves time when nothing else does."""


Command = (
    PlaceAsk
    | PlaceBid
    | Cancel
    | CancelNamed
    | CancelAll
    | Amend
    | Return
    | Withdraw
    | Extend
    | CreateClass
    | ChangeClass
    | RetireClass
    | SetReference
    | Halt
    | Kill
    | RenewDeadMan
    | SetLimits
    | SetRules
    | Tick
)


class Unreadable(Struct, frozen=True):
    """What the codec makes of bytes that are no command. Never in the log itself."""

    reason: str
