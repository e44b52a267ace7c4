"""What the engine answers: one record of `executions` holds all events of one command (rulebook: What comes out)."""

from enum import StrEnum

from msgspec import Struct

from schemas.attributes import Attributes, ClassSpec
from schemas.commands import Side
from schemas.refusals import Args, Refusal


class CancelReason(StrEnum):
    """Why what was left of an order ended."""

    REQUESTED = "requested"
    IOC_REST = "ioc_rest"
    FOK_UNFILLED = "fok_unfilled"
    SELF_TRADE = "self_trade"
    WALK_LIMIT = "walk_limit"
    """Its command had made as many fills as one answer holds."""


class Accepted(Struct, frozen=True, array_like=True, tag="accepted"):
    """The order passed every check; its terms as the engine understood them. Its id is the record's position."""

    account: int
    client_order_id: str
    class_id: str
    side: Side
    quantity: int
    price: int
    fee_bps: int
    start: int
    """Of an ask: from when, on the grid. Of a bid: its first start, 'now' resolved."""
    duration: int
    """ms; of an ask the length of its availability."""


class Rejected(Struct, frozen=True, array_like=True, tag="rejected"):
    """Nothing changed. `account` is 0 and `client_order_id` empty where the command did not say them."""

    account: int
    client_order_id: str
    code: Refusal
    args: Args = ()


class Duplicate(Struct, frozen=True, array_like=True, tag="duplicate"):
    """The same (account, client_order_id) was answered before; `first` is the position of that command."""

    account: int
    client_order_id: str
    first: int


class Fill(Struct, frozen=True, array_like=True, tag="fill"):
    """`quantity` GPUs of the ask go to the bid over `[start, end)` at `price` µ$ per GPU-hour.

    The fill's id is (position of the record, index). `number` counts the fills of the class from 1, without gaps.
    """

    index: int
    number: int
    class_id: str
    bid_id: int
    ask_id: int
    buyer: int
    seller: int
    price: int
    quantity: int
    start: int
    end: int
    taker: Side
    bid_left: int
    """GPUs the bid still wants after this fill."""
    buyer_fee_bps: int
    seller_fee_bps: int
    attributes: Attributes
    """Of the ask."""


class Filled(Struct, frozen=True, array_like=True, tag="filled"):
    """The command's own bid has all it wanted."""

    order_id: int
    account: int


class Cancelled(Struct, frozen=True, array_like=True, tag="cancelled"):
    """The unsold rest of an order ended; of an ask `left` is its quantity as offered."""

    order_id: int
    account: int
    reason: CancelReason
    left: int


class Expired(Struct, frozen=True, array_like=True, tag="expired"):
    """The order left by time; `left` as in Cancelled."""

    order_id: int
    account: int
    left: int


class ClassChanged(Struct, frozen=True, array_like=True, tag="class_changed"):
    """The class now has these terms."""

    spec: ClassSpec


class Ticked(Struct, frozen=True, array_like=True, tag="ticked"):
    """Time moved; readers learn it and the position."""


Event = Accepted | Rejected | Duplicate | Fill | Filled | Cancelled | Expired | ClassChanged | Ticked


class Execution(Struct, frozen=True, array_like=True):
    """The answer to one command.

    A reader drops a record whose position it has passed, applies it when `prev` is the last position it applied,
    and otherwise stops: a gap.
    """

    position: int
    """Of the command, partition included: the order id where the command placed one."""
    prev: int
    """Position of the command before it that had an answer; -1 before the first."""
    time: int
    """`now` of the engine in ms: the largest log time so far."""
    events: tuple[Event, ...]
