"""What the exchange answers, as Structs. Money and prices are decimal strings of dollars, times RFC 3339 in UTC.

They say what the API's OpenAPI document says. A field that a newer exchange adds is passed over.
"""

from typing import Generic, TypeVar

from msgspec import Struct

Item = TypeVar("Item")


class Answer(Struct, rename={"class_id": "class"}, kw_only=True):
    """What all have in common: in JSON `class_id` is `class`."""


class Page(Struct, Generic[Item]):
    """A part of a list; `next` is the `after` of the next part."""

    items: list[Item]
    next: str | None


class Account(Answer):
    """A party. `key` is the secret of its first key, shown once."""

    account_id: str
    name: str
    owner: str
    buyer_fee_bps: int
    seller_fee_bps: int
    created_at: str
    key: str | None = None


class Key(Answer):
    """An API key; `key` is its secret, shown once."""

    key_id: int
    prefix: str
    label: str
    scopes: list[str]
    created_at: str
    revoked: bool
    key: str | None = None


class Balance(Answer):
    """An account's money in dollars."""

    account_id: str
    cash: str
    held: str
    escrow: str
    receivable: str


class Class(Answer):
    """A contract that trades."""

    class_id: str
    accelerator: str
    memory_gb: int
    form_factor: str
    tick: str
    max_price: str
    max_quantity: int
    delivery_due: str
    acceptance: str
    grace: str


class BookLevel(Answer):
    """All orders of one side at one price."""

    price: str
    quantity: int
    orders: int


class Book(Answer):
    """A class's book for one delivery window, best prices first."""

    class_id: str
    position: str | None
    time: str
    start: str
    duration: str
    asks: list[BookLevel]
    bids: list[BookLevel]


class Status(Answer):
    """How the exchange is: public figures."""

    time: str
    speed: int
    position: list[str | None]
    settlement_lag: int
    orders: int
    fills: int
    leases_open: int
    leases_closed: int
    gpu_hours: str
    charged: str
    escrow: str
    held: str
    imbalance_microusd: int


class OrderFill(Answer):
    """A trade of an own order, and its lease."""

    fill_id: str
    lease_id: str
    price: str
    quantity: int
    start: str
    end: str


class Refusal(Answer):
    """Why the engine refused an order."""

    code: str
    message: str
    field: str


class Accepts(Answer):
    """What a bid accepts within its class; as it stands here, any guaranteed capacity."""

    regions: list[str] = []
    """Empty: any."""
    delivery: str = "container"
    """The least: container, vm or bare_metal."""
    interconnect: str = "none"
    """The least: none, nvlink or infiniband."""
    confidential: bool = False
    interruptible: bool = False
    only_suppliers: list[str] = []
    not_suppliers: list[str] = []


class OrderState(Answer):
    """What bids and asks have in common. `fills` is None in lists."""

    order_id: str | None
    client_order_id: str
    class_id: str
    status: str
    """sent, open, filled, cancelled, expired, rejected or lost."""
    quantity: int
    filled: int
    left: int
    price: str
    held: str
    reason: str
    refusal: Refusal | None
    created_at: str
    fills: list[OrderFill] | None
    time_in_force: str
    expire_at: str | None
    post_only: bool
    self_trade: str
    not_after: str
    fee_bps: int

    @property
    def stands(self) -> bool:
        """Whether more can come of it."""
        return self.status in ("sent", "open")


class Bid(OrderState, tag_field="side", tag="bid"):
    """A bid, every term as the exchange understood it."""

    duration: str
    starts: list[str]
    min_fill: int
    accepts: Accepts
    prefer: str


class Ask(OrderState, tag_field="side", tag="ask"):
    """An ask, every term as the exchange understood it."""

    start: str
    end: str
    region: str
    delivery: str
    interconnect: str
    confidential: bool
    tier: str
    notice_minutes: int
    min_duration: str
    lot: int


Order = Bid | Ask


class Lease(Answer):
    """Capacity that was sold, as this account sees it. The other side's money is None."""

    lease_id: str
    class_id: str
    role: str
    order_id: str
    buyer: str
    supplier: str
    price: str
    quantity: int
    start: str
    end: str
    region: str
    delivery: str
    interconnect: str
    confidential: bool
    tier: str
    notice_minutes: int
    state: str
    """pending_delivery, delivered, active or closed."""
    close_reason: str
    created_at: str
    deliver_by: str
    delivered_at: str | None
    accepted_at: str | None
    closed_at: str | None
    connection: str
    used_gpu_ms: int
    escrow: str | None
    charged: str | None
    earned: str | None


class UsageReport(Answer):
    """What a lease has used so far, in all: GPUs × milliseconds, cumulative."""

    lease_id: str
    sequence: int
    gpu_ms: int
    final: bool = False


class UsageAnswer(Answer):
    """What became of a report: accepted, refused, or unknown (not answered in time: send it again)."""

    lease_id: str
    sequence: int
    status: str
    error: Refusal | None


class Usage(Answer):
    """A report that was accepted."""

    sequence: int
    gpu_ms: int
    final: bool
    reported_at: str


class Fill(Answer):
    """A trade as anyone may see it. It may come twice: go by `number`, which counts its class's fills."""

    number: int
    class_id: str
    fill_id: str
    time: str
    price: str
    quantity: int
    start: str
    end: str
    region: str
    interconnect: str
    confidential: bool
    tier: str
    delivery: str
    taker: str
