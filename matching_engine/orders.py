"""A live order: what it says, and where it stands in its book."""

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from schemas.attributes import Accepts, Attributes
from schemas.commands import Prefer, SelfTrade

if TYPE_CHECKING:
    from matching_engine.book import Book
    from matching_engine.calendar import Calendar
    from matching_engine.rings import Hours


class Resting(Struct, eq=False, gc=False):
    """What asks and bids have alike. `place` is the log position at which it got its present terms."""

    id: int
    place: int
    account: int
    owner: int
    client_order_id: str
    book: "Book"
    price: int
    quantity: int
    self_trade: SelfTrade
    fee_bps: int
    leaves: int
    """The first ms of `now` at which it is no longer in the book."""
    chunk: Any
    """Where it stands in the book, an AskChunk or a BidChunk; None where it can serve nobody, or is not in the book."""
    live: bool


class Ask(Resting, eq=False, gc=False):
    """A live ask."""

    start: int
    end: int
    attributes: Attributes
    min_duration: int
    lot: int
    display: int
    signature: int
    free: int
    """A bound: at no moment of its availability are more GPUs unsold. Exact while `calendar` is None."""
    longest: int
    """A bound: no stretch in which a lot is unsold is longer. ms."""
    calendar: "Calendar | None" = None
    """What is sold when, from the first fill of a part of the availability on: most asks never need it."""

    @property
    def left(self) -> int:
        """What a cancel ends: its quantity as offered."""
        return self.quantity


class Bid(Resting, eq=False, gc=False):
    """A live bid: `left` of `quantity` GPUs are still wanted."""

    left: int
    duration: int
    starts: tuple[int, ...]
    accepts: Accepts
    min_fill: int
    prefer: Prefer
    refuses: int
    """The bits of an ask's signature that do not suit it."""
    hours: "Hours | None"
    """Its windows, past ones as well."""


class Limits(Struct, frozen=True, array_like=True, gc=False, tag="limits"):
    """What an account may have, as SetLimits says it; 0 is no limit."""

    account: int
    open_orders: int = 0
    notional: int = 0
    quantity: int = 0
