"""What an order would do if it came next: a walk that trades with copies, so that the book stays as it is."""

from collections.abc import Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from matching_engine.asks import recall
from matching_engine.book import Book
from matching_engine.matching import Walk, fit
from matching_engine.orders import Ask, Bid
from schemas.events import Event


class Preview(Struct, frozen=True):
    """The events that an order would have, and the order as they would leave it."""

    events: tuple[Event, ...]
    order: Ask | Bid | None = None
    """None: it is refused."""
    as_sent: Ask | Bid | None = None
    """As it came."""


class DryWalk(Walk):
    """A walk of an order that is not in the book, with copies of those that are.

    What is in the book can never do less than its copy: so the bounds by which a walk passes over orders hold for the
    copies, and `fit` on a copy says what it still has.
    """

    __slots__ = ("_copies",)

    def __init__(self, book: Book, now: int, events: list[Event]) -> None:
        seen = Book(book.spec)
        seen.fills, seen.ask_queue, seen.bid_queue = book.fills, book.ask_queue, book.bid_queue
        super().__init__(seen, now, events)
        self._repairs = 0  # of bounds, which are the book's
        self._plainly = False
        self._copies: dict[int, Ask | Bid] = {}

    def _asks_for(self, bid: Bid, starts: Sequence[int], need: int) -> Iterator[Ask]:
        for ask in super()._asks_for(bid, starts, need):
            copy = self._copies.get(ask.id)
            if copy is None:
                if not fit(ask, starts, bid.duration, bid.left, need)[1]:
                    continue  # as the walk would see at once: so only what trades is copied
                copy = self._copies[ask.id] = _copy_of_ask(ask)
            assert isinstance(copy, Ask)
            if copy.live and copy.free >= need:
                yield copy

    def _bids_for(self, ask: Ask) -> Iterator[Bid]:
        for bid in super()._bids_for(ask):
            copy = self._copies[bid.id] = replace(bid, chunk=None)
            yield copy


def _copy_of_ask(ask: Ask) -> Ask:
    copy = replace(ask, chunk=None)
    if ask.calendar is not None:
        recall(copy, list(ask.calendar.times), list(ask.calendar.sold))
    return copy
