"""An engine's state in rows, for people and tests: orders and calendars, and what is remembered."""

from operator import attrgetter

from msgspec import Struct

from matching_engine.asks import sold_from
from matching_engine.book import Book
from matching_engine.memory import Repeat
from matching_engine.orders import Ask, Limits
from schemas.attributes import Accepts, Attributes, ClassSpec
from schemas.commands import HaltMode, Prefer, SelfTrade
from schemas.events import Cancelled, Expired


class AskState(Struct, array_like=True, gc=False):
    """A live ask."""

    id: int
    place: int
    account: int
    owner: int
    client_order_id: str
    price: int
    quantity: int
    start: int
    end: int
    attributes: Attributes
    min_duration: int
    lot: int
    self_trade: SelfTrade
    fee_bps: int
    leaves: int
    display: int
    sold: tuple[list[int], list[int]] | None
    """Times from `now` on, and the GPUs sold from each on; None where none are."""


class BidState(Struct, array_like=True, gc=False):
    """A live bid."""

    id: int
    place: int
    account: int
    owner: int
    client_order_id: str
    price: int
    quantity: int
    left: int
    duration: int
    starts: tuple[int, ...]
    accepts: Accepts
    min_fill: int
    prefer: Prefer
    self_trade: SelfTrade
    fee_bps: int
    leaves: int


# All but the last of an ask's, which is of its calendar.
_ask_fields = attrgetter(*AskState.__struct_fields__[:-1])
_bid_fields = attrgetter(*BidState.__struct_fields__)


class BookState(Struct, array_like=True, gc=False):
    """A class and its orders, best first."""

    spec: ClassSpec
    fills: int
    reference: int
    halt: HaltMode
    retired: bool
    asks: list[AskState]
    bids: list[BidState]


class PartyState(Struct, array_like=True, gc=False):
    """An account of which the engine keeps more than orders."""

    account: int
    killed: bool
    limits: Limits | None
    dead_man: int


class State(Struct, array_like=True):
    """All that an engine's later answers depend on."""

    rules: int
    now: int
    position: int
    books: list[BookState]
    parties: list[PartyState]
    repeats: list[Repeat]
    returned: list[tuple[int, int, int]]
    """(position and index of the fill, end of its window)."""
    untold: list[Cancelled | Expired]


def book_state(book: Book, now: int) -> BookState:
    return BookState(
        book.spec,
        book.fills,
        book.reference,
        book.halt,
        book.retired,
        [AskState(*(*_ask_fields(ask), _sold(ask, now))) for ask in book.asks()],
        [BidState(*_bid_fields(bid)) for bid in book.bids()],
    )


def _sold(ask: Ask, now: int) -> tuple[list[int], list[int]] | None:
    if ask.calendar is None and ask.free == ask.quantity:  # the usual one at a look
        return None
    times, sold = sold_from(ask, now)
    return (times, sold) if len(times) > 1 else None
