"""What the engine answers: one record of `executions` holds all events of one command (rulebook: What comes out)."""

from enum import StrEnum

from msgspec import Struct

from schemas.attributes import Attributes, ClassSpec
from schemas.commands import HaltMode, Side
from schemas.ids import FillId
from schemas.refusals import Args, Refusal


class CancelReason(StrEnum):
    """Why what was left of an order ended."""

    REQUESTED = "requested"
    IOC_REST = "ioc_rest"
    FOK_UNFILLED = "fok_unfilled"
    SELF_TRADE = "self_trade"
    WALK_LIMIT = "walk_limit"
    """Its command had made as many fills as one answer holds."""
    AMENDED = "amended"
    """The new quantity was no more than what had been filled."""
    KILLED = "killed"
    DEAD_MAN = "dead_man"
    CLASS_RETIRED = "class_retired"


class Accepted(Struct, frozen=True, array_like=True, gc=False, tag="accepted"):
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


class Rejected(Struct, frozen=True, array_like=True, gc=False, tag="rejected"):
    """Nothing changed. `account` is 0 and `client_order_id` empty where the command did not say them."""

    account: int
    client_order_id: str
    code: Refusal
    args: Args = ()


class Duplicate(Struct, frozen=True, array_like=True, gc=False, tag="duplicate"):
    """The same (account, client_order_id) was answered before; `first` is the position of that command."""

    account: int
    client_order_id: str
    first: int


class Fill(Struct, frozen=True, array_like=True, gc=False, tag="fill"):
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


class Filled(Struct, frozen=True, array_like=True, gc=False, tag="filled"):
    """The command's own bid has all it wanted."""

    order_id: int
    account: int


class Cancelled(Struct, frozen=True, array_like=True, gc=False, tag="cancelled"):
    """The unsold rest of an order ended; of an ask `left` is its quantity as offered."""

    order_id: int
    account: int
    reason: CancelReason
    left: int


class Expired(Struct, frozen=True, array_like=True, gc=False, tag="expired"):
    """The order left by time; `left` as in Cancelled."""

    order_id: int
    account: int
    left: int


class Amended(Struct, frozen=True, array_like=True, gc=False, tag="amended"):
    """The order has these terms from now on."""

    order_id: int
    account: int
    side: Side
    place: int
    """The log position that says its place in the queue: its own where it kept it, else this command's."""
    quantity: int
    left: int
    """Of a bid: GPUs still wanted. Of an ask: its quantity as offered."""
    price: int
    start: int
    """As in Accepted."""
    duration: int
    """As in Accepted."""


class Extension(Struct, frozen=True, array_like=True, gc=False, tag="extension"):
    """The fill before this one goes on with a lease, on the same machines."""

    index: int
    """Of that fill in this record."""
    lease: FillId


class Returned(Struct, frozen=True, array_like=True, gc=False, tag="returned"):
    """GPUs of a lease that ended early are for sale again over `[start, end)`, in its ask at its place."""

    fill: FillId
    ask_id: int
    account: int
    quantity: int
    start: int
    end: int


class Withdrawn(Struct, frozen=True, array_like=True, gc=False, tag="withdrawn"):
    """GPUs of a lease that its supplier did not give: over `[start, end)` the ask offers so many fewer."""

    fill: FillId
    ask_id: int
    account: int
    quantity: int
    start: int
    end: int


class AllCancelled(Struct, frozen=True, array_like=True, gc=False, tag="all_cancelled"):
    """All live orders of an account and a class were cancelled: so many. Each is told, here or by the next answers."""

    account: int
    """0: of every account."""
    class_id: str
    """Empty: of every class."""
    orders: int


class ClassChanged(Struct, frozen=True, array_like=True, gc=False, tag="class_changed"):
    """The class now has these terms."""

    spec: ClassSpec


class ClassRetired(Struct, frozen=True, array_like=True, gc=False, tag="class_retired"):
    """The class's book is closed for ever."""

    class_id: str


class ReferenceChanged(Struct, frozen=True, array_like=True, gc=False, tag="reference_changed"):
    """The class's band lies around this price: orders from `low` to `high` are taken, both µ$ per GPU-hour."""

    class_id: str
    price: int
    low: int
    high: int


class HaltChanged(Struct, frozen=True, array_like=True, gc=False, tag="halt_changed"):
    """What of the class is halted from now on."""

    class_id: str
    mode: HaltMode


class KillChanged(Struct, frozen=True, array_like=True, gc=False, tag="kill_changed"):
    """Whether the account's kill switch is on."""

    account: int
    on: bool


class DeadManChanged(Struct, frozen=True, array_like=True, gc=False, tag="dead_man_changed"):
    """When all of the account is cancelled unless it renews; 0: never."""

    account: int
    until: int


class LimitsChanged(Struct, frozen=True, array_like=True, gc=False, tag="limits_changed"):
    """What the account may have in this partition at most; 0 is no limit."""

    account: int
    open_orders: int
    notional: int
    quantity: int


class RulesChanged(Struct, frozen=True, array_like=True, gc=False, tag="rules_changed"):
    """From the next command on these rules hold."""

    number: int


class Ticked(Struct, frozen=True, array_like=True, gc=False, tag="ticked"):
    """Time moved; readers learn it and the position."""


Event = (
    Accepted
    | Rejected
    | Duplicate
    | Fill
    | Filled
    | Cancelled
    | Expired
    | Amended
    | Extension
    | Returned
    | Withdrawn
    | AllCancelled
    | ClassChanged
    | ClassRetired
    | ReferenceChanged
    | HaltChanged
    | KillChanged
    | DeadManChanged
    | LimitsChanged
    | RulesChanged
    | Ticked
)


class Execution(Struct, frozen=True, array_like=True, gc=False):
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
    request_id: str = ""
    """As the command says it: whose request this answers. Empty where none sent it, or it is too long to be one."""
