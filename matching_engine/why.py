"""What stands in the way of an order: how many of the other side cannot trade with it, why, and what comes nearest.

Each order of the other side counts once, by the first reason of this order: whose it is, what it is, how many and when,
and last its price. So those that count by their price would trade at once for another one.
"""

from collections.abc import Callable, Iterable
from itertools import islice

from matching_engine.asks import needed, sold_from
from matching_engine.book import KINDS, suits_supplier
from matching_engine.matching import fit
from matching_engine.orders import Ask, Bid
from schemas.attributes import Attributes
from schemas.book import Excluded, Obstacle, Why
from schemas.units import ceil_grid

MAX_LOOKED = 1_000
"""Orders looked at, the best first: some 10 ms, as nothing else goes on meanwhile where the exchange is one process."""
MAX_PIECES = 10_000
"""Of calendars looked at, in search of the moments from which asks are free."""
_OF_KIND = (Obstacle.REGION, Obstacle.DELIVERY, Obstacle.INTERCONNECT, Obstacle.CONFIDENTIAL, Obstacle.TIER)

Nearer = Callable[[int, int], int]
Miss = tuple[Obstacle, int]
"""Why not; and how near it comes, as `Excluded.nearest` has it."""


def why(order: Ask | Bid, now: int) -> Why:
    """`order` may be in its book, or be one that is to come."""
    book = order.book
    found: list[tuple[int, Miss | None]]
    if isinstance(order, Bid):
        search = _Search(order, now)
        found = [(ask.price, search.miss(ask)) for ask in islice(book.ask_queue, MAX_LOOKED)]
        sold_out = len(book.spent)
        excluded = _counted(found, duration=min, size=max)
    else:
        found = [(bid.price, _miss_of(bid, order, now)) for bid in islice(book.bid_queue, MAX_LOOKED)]
        sold_out = 0
        excluded = _counted(found, duration=max, size=min)
    if sold_out:
        excluded.append(Excluded(Obstacle.SOLD_OUT, sold_out, 0, 0))
    return Why(
        looked=len(found) + sold_out,
        complete=len(found) < MAX_LOOKED,
        closed=book.closed,
        suit=sum(miss is None for _, miss in found),
        excluded=tuple(sorted(excluded, key=lambda each: -each.count)),
    )


def _counted(found: Iterable[tuple[int, Miss | None]], *, duration: Nearer, size: Nearer) -> list[Excluded]:
    """Of each obstacle; the best price is the first."""
    nearer: dict[Obstacle, Nearer] = {Obstacle.DURATION: duration, Obstacle.SIZE: size, Obstacle.WINDOW: _sooner}
    counted: dict[Obstacle, Excluded] = {}
    for price, miss in found:
        if miss is None:
            continue
        obstacle, nearest = miss
        known = counted.get(obstacle, Excluded(obstacle, 0, price, nearest))
        nearest = nearer[obstacle](known.nearest, nearest) if obstacle in nearer else known.nearest
        counted[obstacle] = Excluded(obstacle, known.count + 1, known.price, nearest)
    return list(counted.values())


def _sooner(one: int, other: int) -> int:
    """0 is never."""
    return min(one, other) if one and other else one or other


class _Search:
    """Why each ask does not serve one bid, in bounded time."""

    def __init__(self, bid: Bid, now: int) -> None:
        self._bid = bid
        self._soon = ceil_grid(now)
        self._starts = [start for start in bid.starts if start >= now]
        self._pieces = MAX_PIECES

    def miss(self, ask: Ask) -> Miss | None:
        bid, duration = self._bid, self._bid.duration
        if ask.owner == bid.owner:
            return Obstacle.OWN, ask.id
        if (kind := _unsuitable(ask, bid)) is not None:
            return _OF_KIND[kind], _stated(ask.attributes)[kind]
        if not suits_supplier(bid.accepts, ask.account):
            return Obstacle.SUPPLIER, 0
        if ask.min_duration > duration:
            return Obstacle.DURATION, ask.min_duration
        need = -(-needed(bid) // ask.lot) * ask.lot
        if need > min(ask.quantity, bid.left):
            return Obstacle.SIZE, min(ask.quantity, ask.display or ask.quantity)
        if not fit(ask, self._starts, duration, bid.left, needed(bid))[1]:
            return Obstacle.WINDOW, self._free_from(ask, need)
        return (Obstacle.PRICE, 0) if ask.price > bid.price else None

    def _free_from(self, ask: Ask, need: int) -> int:
        """The first moment from which so many GPUs are unsold for the bid's duration; 0: there is none, or the search
        has looked at enough."""
        start, duration = max(ask.start, self._soon), self._bid.duration
        times, sold = sold_from(ask, 0)
        self._pieces -= len(times)
        if self._pieces < 0:
            return 0
        for piece, begins in enumerate(times):
            if begins >= start + duration:
                break
            if ask.quantity - sold[piece] < need:
                start = max(start, times[piece + 1] if piece + 1 < len(times) else ask.end)
        return start if start + duration <= ask.end else 0


def _miss_of(bid: Bid, ask: Ask, now: int) -> Miss | None:
    """Why an ask does not serve this bid."""
    if ask.owner == bid.owner:
        return Obstacle.OWN, bid.id
    if (kind := _unsuitable(ask, bid)) is not None:
        return _OF_KIND[kind], 0
    if not suits_supplier(bid.accepts, ask.account):
        return Obstacle.SUPPLIER, 0
    if ask.min_duration > bid.duration:
        return Obstacle.DURATION, bid.duration
    need = -(-needed(bid) // ask.lot) * ask.lot
    if need > min(ask.quantity, bid.left):
        return Obstacle.SIZE, need
    starts = [start for start in bid.starts if start >= now]
    if not fit(ask, starts, bid.duration, bid.left, needed(bid))[1]:
        return Obstacle.WINDOW, min(starts, default=0)
    return (Obstacle.PRICE, 0) if ask.price > bid.price else None


def _unsuitable(ask: Ask, bid: Bid) -> int | None:
    """Which of what the ask states does not suit, first of all."""
    wrong = ask.signature & bid.refuses
    return next((number for number, kind in enumerate(KINDS) if wrong & kind), None)


def _stated(attributes: Attributes) -> tuple[int, int, int, int, int]:
    return (
        attributes.region,
        attributes.delivery,
        attributes.interconnect,
        attributes.confidential,
        attributes.tier,
    )
