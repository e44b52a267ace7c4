"""One class's book: live orders in price-time order, in queues by what they state or accept."""

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any, Generic, TypeVar

from msgspec import Struct

from matching_engine.calendar import Calendar
from schemas.attributes import Accepts, Attributes, ClassSpec, Tier
from schemas.commands import Prefer, SelfTrade
from schemas.units import MAX_PRICE


class Ask(Struct, eq=False, gc=False):
    """A live ask. `place` is the log position at which it got its present terms."""

    id: int
    place: int
    account: int
    owner: int
    class_id: str
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
    """The first ms of `now` at which it is no longer in the book."""
    sold: int = 0
    """GPUs sold over the whole availability, as long as `calendar` is None."""
    calendar: Calendar | None = None
    """What is sold when, from the first fill of a part of the availability on: most asks never need it."""
    queued: bool = False
    live: bool = True

    def unsold(self, start: int, end: int) -> int:
        """The least GPUs for sale at any moment of `[start, end)`; 0 where that leaves the availability."""
        if start < self.start or end > self.end:
            return 0
        return max(0, self.quantity - (self.sold if self.calendar is None else self.calendar.most(start, end)))

    def take(self, start: int, end: int, quantity: int) -> None:
        """Sells `quantity` GPUs over `[start, end)`."""
        if self.calendar is None:
            if start == self.start and end == self.end:
                self.sold += quantity
                return
            self.calendar = Calendar(self.start, self.end, self.sold)
        self.calendar.take(start, end, quantity)

    def spent(self) -> bool:
        """Whether it can serve nobody: no stretch of its `min_duration` has a lot left."""
        if self.calendar is None:
            return self.quantity - self.sold < self.lot
        return self.calendar.longest(self.quantity - self.lot) < self.min_duration


class Bid(Struct, eq=False, gc=False):
    """A live bid: `left` of `quantity` GPUs are still wanted."""

    id: int
    place: int
    account: int
    owner: int
    class_id: str
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
    """The first ms of `now` at which it is no longer in the book."""
    queued: bool = False
    live: bool = True


GUARANTEED = Tier.GUARANTEED

AnyOrder = TypeVar("AnyOrder", Ask, Bid)


class Level(Generic[AnyOrder]):
    """The orders of one queue at one price, oldest place first. Who leaves is passed over until half have left."""

    __slots__ = ("first", "gone", "orders")

    def __init__(self, order: AnyOrder) -> None:
        self.orders: list[AnyOrder] = [order]
        self.first = 0
        """Where the first order that has not left stands."""
        self.gone = 0

    def drop(self) -> bool:
        """Takes note that an order has left; returns whether it was the last."""
        self.gone += 1
        orders = self.orders
        if self.gone == len(orders):
            return True
        while not orders[self.first].queued:
            self.first += 1
        if self.gone > 32 and self.gone * 2 > len(orders):
            # A new list: a walk that is under way goes on over the old one.
            self.orders = [order for order in orders if order.queued]
            self.first = self.gone = 0
        return False


class Queue(Generic[AnyOrder]):
    """Orders in the order in which they trade: best price, then oldest place. A rank is a price, a bid's negated."""

    __slots__ = ("levels", "ranks")

    def __init__(self) -> None:
        self.levels: dict[int, Level[AnyOrder]] = {}
        self.ranks: list[int] = []

    def add(self, rank: int, order: AnyOrder) -> None:
        """`order` is newer than all others of its rank."""
        level = self.levels.get(rank)
        if level is None:
            self.levels[rank] = Level(order)
            insort(self.ranks, rank)
        else:
            level.orders.append(order)
        order.queued = True

    def remove(self, rank: int, order: AnyOrder) -> None:
        order.queued = False
        if self.levels[rank].drop():
            del self.levels[rank]
            del self.ranks[bisect_left(self.ranks, rank)]

    def upto(self, rank: int) -> Iterator[AnyOrder]:
        """Best first, while the rank is no worse than `rank`. Orders may leave meanwhile, none may come."""
        for this in self.ranks[: bisect_right(self.ranks, rank)]:
            level = self.levels[this]
            orders = level.orders
            for place in range(level.first, len(orders)):
                if (order := orders[place]).queued:
                    yield order


class Book:
    """The live orders of one class, in a queue for each combination of attributes, so that a walk meets what suits."""

    def __init__(self, spec: ClassSpec) -> None:
        self.spec = spec
        self.fills = 0
        """How many fills the class has had."""
        self._asks: dict[Attributes, Queue[Ask]] = {}
        self._bids: dict[Accepts, Queue[Bid]] = {}
        self._spent: dict[int, Ask] = {}
        """Live asks that can serve nobody, by id: out of the way of every walk."""

    def asks(self) -> list[Ask]:
        """All live asks, best first, the sold-out included."""
        queued = [ask for queue in self._asks.values() for ask in queue.upto(MAX_PRICE)]
        return sorted([*queued, *self._spent.values()], key=_ASK_PRIORITY)

    def bids(self) -> list[Bid]:
        """All live bids, best first."""
        return sorted((bid for queue in self._bids.values() for bid in queue.upto(0)), key=_bid_priority)

    def asks_for(self, bid: Bid) -> Iterable[Ask]:
        """Best first, the asks whose price and attributes suit the bid."""
        limit, accepts = bid.price, bid.accepts
        walks = [
            queue.upto(limit)
            for attributes, queue in self._asks.items()
            if queue.ranks[0] <= limit and suits(accepts, attributes)
        ]
        asks = _merged(walks, _ASK_PRIORITY)
        if accepts.only_suppliers or accepts.not_suppliers:
            return (ask for ask in asks if suits_supplier(accepts, ask.account))
        return asks

    def bids_for(self, ask: Ask) -> Iterable[Bid]:
        """Best first, the bids whose price and attributes suit the ask."""
        limit = -ask.price
        walks = [
            queue.upto(limit)
            for accepts, queue in self._bids.items()
            if queue.ranks[0] <= limit and suits(accepts, ask.attributes) and suits_supplier(accepts, ask.account)
        ]
        return _merged(walks, _bid_priority)

    def crossed_by_bid(self, bid: Bid) -> bool:
        """Whether any ask's price is within the bid's: where none is, there is no need to walk."""
        limit = bid.price
        for queue in self._asks.values():  # noqa: SIM110 (every order comes by: `any` over a generator costs thrice)
            if queue.ranks[0] <= limit:
                return True
        return False

    def crossed_by_ask(self, ask: Ask) -> bool:
        """Whether any bid's price is within the ask's."""
        limit = -ask.price
        for queue in self._bids.values():  # noqa: SIM110 (as above)
            if queue.ranks[0] <= limit:
                return True
        return False

    def add_ask(self, ask: Ask) -> None:
        """Puts a new ask into the book, behind all others of its price."""
        if ask.spent():
            self._spent[ask.id] = ask
            return
        queue = self._asks.get(ask.attributes)
        if queue is None:
            queue = self._asks[ask.attributes] = Queue()
        queue.add(ask.price, ask)

    def add_bid(self, bid: Bid) -> None:
        """Puts a new bid into the book, behind all others of its price."""
        queue = self._bids.get(bid.accepts)
        if queue is None:
            queue = self._bids[bid.accepts] = Queue()
        queue.add(-bid.price, bid)

    def remove(self, order: Ask | Bid) -> None:
        """The order leaves the book."""
        if isinstance(order, Bid):
            queue = self._bids[order.accepts]
            queue.remove(-order.price, order)
            if not queue.ranks:
                del self._bids[order.accepts]
        elif order.queued:
            self._unqueue(order)
        else:
            del self._spent[order.id]

    def set_aside(self, ask: Ask) -> None:
        """The ask stays live but can serve nobody any more."""
        self._unqueue(ask)
        self._spent[ask.id] = ask

    def _unqueue(self, ask: Ask) -> None:
        queue = self._asks[ask.attributes]
        queue.remove(ask.price, ask)
        if not queue.ranks:
            del self._asks[ask.attributes]


def suits(accepts: Accepts, attributes: Attributes) -> bool:
    """Whether a bid accepts what an ask states, its supplier aside (rulebook: Classes and attributes)."""
    return (
        (not accepts.regions or accepts.regions >> attributes.region & 1 == 1)
        and attributes.delivery >= accepts.delivery
        and attributes.interconnect >= accepts.interconnect
        and (attributes.confidential or not accepts.confidential)
        and (accepts.interruptible or attributes.tier is GUARANTEED)
    )


def suits_supplier(accepts: Accepts, supplier: int) -> bool:
    """Whether a bid accepts capacity of this account."""
    return supplier not in accepts.not_suppliers and (not accepts.only_suppliers or supplier in accepts.only_suppliers)


_ASK_PRIORITY = attrgetter("price", "place")


def _bid_priority(bid: Bid) -> tuple[int, int]:
    return -bid.price, bid.place


def _merged(walks: list[Iterator[AnyOrder]], priority: Callable[[AnyOrder], Any]) -> Iterable[AnyOrder]:
    if len(walks) == 1:
        return walks[0]
    return heapq.merge(*walks, key=priority)
