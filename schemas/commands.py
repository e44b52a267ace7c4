"""What enters the log for the engine: one record of `commands` is one of these (rulebook: Orders).

Every Struct is array-like MessagePack with a tag in front. Fields are only ever added at the end, with a default:
an old reader skips what it does not know, a new one fills in what an old writer did not say.
"""

from enum import IntEnum

from msgspec import Struct

from schemas.attributes import Accepts, Attributes, ClassSpec
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


class PlaceAsk(Struct, frozen=True, array_like=True, tag="ask"):
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


class PlaceBid(Struct, frozen=True, array_like=True, tag="bid"):
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


class Cancel(Struct, frozen=True, array_like=True, tag="cancel"):
    """Ends what is unsold of an order of this account; its leases stay."""

    account: int
    order_id: int


class CreateClass(Struct, frozen=True, array_like=True, tag="class"):
    """Opens a book. The class lives in the partition in which this was logged."""

    spec: ClassSpec


class Tick(Struct, frozen=True, array_like=True, tag="tick"):
    """Moves time when nothing else does."""


Command = PlaceAsk | PlaceBid | Cancel | CreateClass | Tick


class Unreadable(Struct, frozen=True):
    """What the codec makes of bytes that are no command. Never in the log itself."""

    reason: str
