"""The book as market data shows it, what holds for an account, and the Protocol by which gateways ask for both."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from schemas.attributes import Attributes
from schemas.commands import PlaceAsk, PlaceBid
from schemas.events import CancelReason, Fill
from schemas.refusals import Args, Refusal


class BookLevel(Struct, frozen=True):
    """All orders of one side at one price."""

    price: int
    """µ$ per GPU-hour."""
    quantity: int
    """GPUs: of asks the least unsold over the window, of bids what they still want."""
    orders: int


class BookView(Struct, frozen=True):
    """One class's book for one delivery window: no accounts, best price first on each side.

    Asks: those that are available over the whole window, allow its duration and have something unsold. Bids: all live
    ones, whatever windows they accept.
    """

    class_id: str
    position: int
    """Of the last command folded in: the view is true for the log up to here. -1 before the first."""
    time: int
    """ms; the log time of that command."""
    start: int
    duration: int
    asks: tuple[BookLevel, ...]
    bids: tuple[BookLevel, ...]


class Offer(Struct, frozen=True):
    """All asks of one price that are alike in all else that a buyer chooses by."""

    price: int
    """µ$ per GPU-hour."""
    attributes: Attributes
    lot: int
    quantity: int
    """GPUs unsold over the window, over all of them, in whole lots."""
    most: int
    """GPUs that one of them has: what comes from one place."""
    asks: int


class OffersView(Struct, frozen=True):
    """What of one class is for sale over one delivery window, by where and how, cheapest first."""

    class_id: str
    position: int
    """As a `BookView`'s, and the next three."""
    time: int
    start: int
    duration: int
    offers: tuple[Offer, ...]


class Books(Protocol):
    """Who answers for books: a read-only replica of the engine."""

    async def book(self, class_id: str, start_ms: int, duration_ms: int, levels: int) -> BookView | None:
        """The view over `[start_ms, start_ms + duration_ms)`, at most `levels` prices a side; None: no such class.

        `start_ms` 0 is the replica's now, rounded up to the grid.
        """
        ...


class Offers(Books, Protocol):
    """Who answers for what is for sale by where and how, too."""

    async def offers(self, class_id: str, start_ms: int, duration_ms: int, limit: int) -> OffersView | None:
        """What is for sale over that window, the cheapest `limit`; likewise."""
        ...


class Preview(Struct, frozen=True):
    """What one order would do if it came next."""

    position: int
    """As a `BookView`'s, and the next."""
    time: int
    refusal: tuple[Refusal, Args] | None
    """Why it would not be taken; then nothing else would happen."""
    fills: tuple[Fill, ...] = ()
    cancels: tuple[int, ...] = ()
    """Orders of the same owner that it would cancel instead of trading with them."""
    left: int = 0
    """GPUs that it still wants, or offers."""
    reason: CancelReason | None = None
    """Why it would end, where it would not rest for what is left."""
    until: int = 0
    """ms; when it leaves by time, where it rests."""
    why: "Why | None" = None
    """What stood in its way before it came."""


class Obstacle(StrEnum):
    """Why two orders do not trade."""

    OWN = "own"
    REGION = "region"
    DELIVERY = "delivery"
    INTERCONNECT = "interconnect"
    CONFIDENTIAL = "confidential"
    TIER = "tier"
    SUPPLIER = "supplier"
    DURATION = "duration"
    SIZE = "size"
    WINDOW = "window"
    PRICE = "price"
    SOLD_OUT = "sold_out"


class Excluded(Struct, frozen=True):
    """Orders of the other side that one obstacle keeps from trading, and the nearest miss among them."""

    obstacle: Obstacle
    count: int
    price: int
    """µ$ per GPU-hour: the best of them; 0 where they are sold out."""
    nearest: int
    """Of asks: what the best of them states, as its enum (region, delivery, interconnect, confidential, tier), the
    shortest that one is let for (duration, ms), the most GPUs of one (size), the first moment from which one is free
    for long enough (window, ms; 0: never). Of bids: the longest (duration), the fewest GPUs that one takes (size), the
    first moment that one accepts (window). Of both an order's id (own). Otherwise 0."""


class Why(Struct, frozen=True):
    """What stands in the way of one order."""

    looked: int
    """Orders of the other side that were looked at, the best first, and sold-out asks."""
    complete: bool
    """Those were all."""
    closed: bool
    """The class is halted: nothing trades."""
    suit: int
    """How many could trade with it now."""
    excluded: tuple[Excluded, ...]
    """The most first."""


class Reason(Struct, frozen=True):
    """Where an order stands in the book, and what stands in its way."""

    position: int
    """As a `BookView`'s, and the next."""
    time: int
    why: Why | None
    """None: it is not in the book."""


class Previews(Offers, Protocol):
    """Who answers for what an order would do, too."""

    async def preview(self, command: PlaceBid | PlaceAsk, position: int, timeout_s: float) -> Preview:
        """Once the class's partition is folded up to that position. Raises TimeoutError."""
        ...

    async def why(self, order_id: int, position: int, timeout_s: float) -> Reason:
        """What stands in the way of an order, likewise."""
        ...


class Standing(Struct, frozen=True):
    """What holds for an account in the engines."""

    killed: bool
    """Its kill switch is on: all that it sends is refused."""
    open_orders: int
    """The most that it may have in a partition, as the two below; 0 is no limit."""
    notional: int
    """µ$."""
    quantity: int
    """GPUs in one order."""
    dead_man: int
    """ms; when all its orders are cancelled. 0: never."""


class Standings(Protocol):
    """Who answers for what holds for accounts: likewise."""

    async def standing(self, account: int, positions: Sequence[int], timeout_s: float) -> Standing:
        """What holds for the account once each partition is folded up to that position: who sent a command there, and
        has its answer, finds it in this. Raises TimeoutError."""
        ...
