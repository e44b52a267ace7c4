"""One class's book: the live orders of each side in price-time order, in chunks that a walk can pass over whole.

A chunk knows bounds of what its orders can do: which attributes they state or accept, from when to when, how many GPUs,
for how long. A walk that none of them can serve costs a look at the chunk; neighbouring chunks of asks have bounds in
common, so that it passes over dozens at once. Bounds are generous, never too narrow: they widen as orders come, and are
measured anew when a chunk is split, and when a walk came in vain through one of which much was sold or has left.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from operator import attrgetter, itemgetter
from typing import Any, Generic, Self, TypeVar

from matching_engine.asks import is_spent, measure, needed, ring_of
from matching_engine.calendar import LENGTHS, whole_ring
from matching_engine.checks import check_accepted, check_offered, check_stated, well_timed
from matching_engine.fetch import foresee_orders, numbers
from matching_engine.orders import Ask, Bid
from matching_engine.rings import Hours, hours_of
from schemas.attributes import Accepts, Attributes, ClassSpec, Tier
from schemas.commands import HaltMode
from schemas.units import BPS

CHUNK = 128
"""Orders at which a chunk is split."""
GROUP = 64
"""Chunks of asks at which their group is split."""
WORTH_A_LOOK = 8
"""Chunks from which on a walk asks for their group's bounds first."""
FEW = 16
"""Bids up to which those short enough are put in order one by one; of more, all of their chunk are looked at."""
NOBODY = 1 << 62
"""More than any quantity, duration or time."""
MAX_KNOWN = 4096


AnyOrder = TypeVar("AnyOrder", bound=Ask | Bid)
Given = TypeVar("Given")
Made = TypeVar("Made")


class Chunk(ABC, Generic[AnyOrder]):
    """Neighbours in the order in which they trade, and some that have left: their `chunk` is another.

    Who leaves is let go of later, with others: so nobody is looked for, and a walk goes through orders that stay where
    they are. `orders` changes in place only where an order comes or the chunk is split.
    """

    __slots__ = ("first", "first_rank", "front", "gone", "live", "lost", "orders", "ranks", "stale")

    def __init__(self, ranks: list[int], orders: list[AnyOrder]) -> None:
        self.ranks = ranks
        """Of `orders`: the price of an ask, the negative price of a bid."""
        self.orders: list[AnyOrder] = orders
        self.first = 0
        """Before this place all have left."""
        self.front: Any = orders[0]
        """Who stands there, and has not left."""
        self.live = len(orders)
        """How many have not left."""
        self.lost = 0
        """How many of `orders` have. Who leaves a deep book need not read the lists, which no cache holds."""
        self.first_rank = ranks[0]
        """At or before the rank of its first order, and not before that of the last order in the chunk before."""
        self.gone = 0
        """How many have left since the bounds were measured."""
        self.stale = 0
        """How many cuts of calendars its bounds do not know of."""
        order: Any
        for order in orders:
            order.chunk = self
        self.measure()

    @property
    def loose(self) -> bool:
        """Whether its bounds may be much wider than its orders need."""
        return self.stale + self.gone > 2 * self.live

    def lose(self, order: Ask | Bid) -> None:
        """The order leaves; it is let go of with others, before walks meet many that have left."""
        order.chunk = None
        self.gone += 1
        self.lost += 1
        self.live -= 1
        if self.lost > self.live or 4 * (self.lost - self.first) > self.live:  # a walk passes by those before `first`
            self.sift()
        elif order is self.front:
            orders: list[Any] = self.orders
            first = self.first + 1
            ahead = orders[first]
            while ahead.chunk is not self:
                first += 1
                ahead = orders[first]
            self.first, self.front = first, ahead

    def sift(self) -> None:
        """Lets go of orders that are not of it any more."""
        foresee_orders(self.orders)
        there, ranks = self.orders[self.first :], self.ranks[self.first :]
        staying = 0
        for place, order in enumerate(there):
            if order.chunk is self:
                there[staying] = order
                ranks[staying] = ranks[place]
                staying += 1
        del there[staying:], ranks[staying:]
        self.gone += self.live - len(there)
        self.first, self.live, self.lost, self.orders, self.ranks = 0, len(there), 0, there, ranks
        self.front = there[0] if there else None

    @abstractmethod
    def measure(self) -> None:
        """Makes the bounds as narrow as they can be."""

    @abstractmethod
    def widen(self, order: AnyOrder) -> None:
        """From now on the bounds hold for this order, too."""

    def follow(self, before: Self) -> None:
        """It has its place in the queue, behind that chunk."""

    def leave(self) -> None:
        """It leaves the queue."""


class Stairs:
    """When some asks are available: of those that begin by `starts[i]`, none ends after `ends[i]`; both rise."""

    __slots__ = ("ends", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []

    def take_in(self, start: int, end: int) -> bool:
        """From now on they hold for an ask like this, too; whether they did not before."""
        starts, ends = self.starts, self.ends
        step = bisect_right(starts, start)
        if step and ends[step - 1] >= end:
            return False
        if step and starts[step - 1] == start:
            step -= 1
        higher = step
        while higher < len(ends) and ends[higher] <= end:
            higher += 1
        starts[step:higher] = (start,)
        ends[step:higher] = (end,)
        return True

    def take_in_all(self, times: list[tuple[int, int]]) -> None:
        """Likewise for asks of these starts and ends, while they hold for none."""
        starts, ends = self.starts, self.ends
        highest = -1
        for start, end in sorted(times):
            if end > highest:
                highest = end
                if starts and starts[-1] == start:
                    ends[-1] = end
                else:
                    starts.append(start)
                    ends.append(end)

    def spans(self, starts: Sequence[int], duration: int) -> bool:
        """Whether an ask may be available over `duration` from one of `starts`, which are in order."""
        if len(starts) <= len(self.starts):
            for start in starts:
                step = bisect_right(self.starts, start)
                if step and self.ends[step - 1] >= start + duration:
                    return True
            return False
        for step, first in enumerate(self.starts):
            at = bisect_left(starts, first)
            if at < len(starts) and starts[at] + duration <= self.ends[step]:
                return True
        return False


class AskBounds:
    """Bounds of what some asks can serve."""

    __slots__ = ("free", "longest", "signatures", "stairs")

    def __init__(self) -> None:
        self.signatures = self.free = self.longest = 0
        self.stairs = Stairs()

    def take_in(self, signatures: int, free: int, longest: int) -> bool:
        """From now on they hold for an ask like this, too, whenever it is available; whether they did not before."""
        wider = False
        if self.signatures | signatures != self.signatures:
            self.signatures |= signatures
            wider = True
        if free > self.free:
            self.free = free
            wider = True
        if longest > self.longest:
            self.longest = longest
            wider = True
        return wider

    def take_in_all(self, others: "AskBounds") -> None:
        """From now on they hold for what those others hold for, too."""
        self.take_in(others.signatures, others.free, others.longest)
        for start, end in zip(others.stairs.starts, others.stairs.ends, strict=True):
            self.stairs.take_in(start, end)


class AskGroup:
    """Neighbouring chunks of asks, with bounds of their own for all that they hold."""

    __slots__ = ("bounds", "chunks", "measured")

    def __init__(self, chunks: "list[AskChunk]") -> None:
        self.chunks = chunks
        for chunk in chunks:
            chunk.group = self
        self.measure()

    def measure(self) -> None:
        """Makes the bounds as narrow as its chunks' are."""
        self.measured = 0
        """How often a chunk of it was measured anew since."""
        self.bounds = AskBounds()
        for chunk in self.chunks:
            self.bounds.take_in_all(chunk.bounds)

    @property
    def loose(self) -> bool:
        """Whether its bounds may be much wider than its chunks need."""
        return 2 * self.measured > len(self.chunks)

    def add(self, chunk: "AskChunk", before: "AskChunk") -> None:
        """The chunk stands behind that other one of the group."""
        self.chunks.insert(self.chunks.index(before) + 1, chunk)
        chunk.group = self
        self.bounds.take_in_all(chunk.bounds)
        if len(self.chunks) > GROUP:
            half = len(self.chunks) // 2
            AskGroup(self.chunks[half:])
            del self.chunks[half:]
            self.measure()


class AskChunk(Chunk[Ask]):
    """Asks, and bounds of what they can serve."""

    __slots__ = ("bounds", "cut", "group", "origin", "rings", "whole")

    def __init__(self, ranks: list[int], orders: list[Ask]) -> None:
        self.group: AskGroup | None = None
        self.origin = 0
        """The hour at which its rings begin."""
        super().__init__(ranks, orders)
        AskGroup([self])

    def measure(self) -> None:
        self.gone = self.stale = 0
        self.bounds = AskBounds()
        self.cut = False
        """Whether one of them may have a calendar: then rings tell more than the staircase."""
        self.rings: list[int | None] = [None] * LENGTHS
        """All asks' rings in one, of those lengths of which a walk has asked."""
        group = self.group
        if group is not None:
            group.measured += 1
        signatures = free = longest = 0
        times: list[tuple[int, int]] = []
        whole: list[tuple[int, int]] = []
        start = end = -1
        for ask in self.orders:
            if ask.chunk is not self:
                continue
            calendar = ask.calendar
            if calendar is None:
                if ask.start is not start or ask.end is not end:  # as most are: `Known` gives one object
                    start, end = ask.start, ask.end
                    whole.append((start, end))
            else:
                self.cut = True
                times.append((ask.start, ask.end))
                if calendar.stale:
                    measure(ask)
            signatures |= ask.signature
            if ask.free > free:
                free = ask.free
            if ask.longest > longest:
                longest = ask.longest
        bounds = self.bounds
        bounds.signatures, bounds.free, bounds.longest = signatures, free, longest
        bounds.stairs.take_in_all(times + whole)
        self.whole = bounds.stairs
        """Of those that had no calendar when they were measured, or came; as long as none is cut, they are all."""
        if self.cut:
            self.whole = Stairs()
            self.whole.take_in_all(whole)
        if group is not None:
            group.bounds.take_in_all(bounds)

    def widen(self, order: Ask) -> None:
        ask = order
        start, end = ask.start, ask.end
        bounds = self.bounds
        stairs = bounds.stairs
        # The usual ask is available as others are, which one look tells.
        longer = not (stairs.starts and stairs.starts[0] <= start and end <= stairs.ends[0]) and stairs.take_in(
            start, end
        )
        is_cut = ask.calendar is not None
        if is_cut:
            self.cut = True
        # Who comes within the staircase later adds nothing to the rings: so they have all of it, also of who is cut.
        stands = longer if self.whole is stairs else not is_cut and self.whole.take_in(start, end)
        if stands or is_cut:
            self._add_to_rings(ask, stands)
        wider = bounds.take_in(ask.signature, ask.free, ask.longest)
        if (longer or wider) and self.group is not None:
            bounds = self.group.bounds
            bounds.take_in(ask.signature, ask.free, ask.longest)
            bounds.stairs.take_in(start, end)

    def _add_to_rings(self, ask: Ask, as_whole: bool) -> None:
        for double, ring in enumerate(self.rings):
            if ring is not None:
                origin = self.origin
                more = whole_ring(ask.start, ask.end, double, origin) if as_whole else ring_of(ask, double, origin)
                self.rings[double] = ring | more

    def ring(self, double: int, origin: int) -> int:
        """The hours from which on one of them may have a lot unsold for `1 << double` hours."""
        if origin != self.origin:
            self.origin = origin
            self.rings = [None] * LENGTHS
        made = 0
        for start, end in zip(self.whole.starts, self.whole.ends, strict=True):
            made |= whole_ring(start, end, double, origin)
        for ask in self.orders:
            if (calendar := ask.calendar) is not None and ask.chunk is self:
                made |= calendar.ring(double, origin)
        self.rings[double] = made
        return made

    def follow(self, before: "AskChunk") -> None:
        assert before.group is not None
        before.group.add(self, before)

    def leave(self) -> None:
        assert self.group is not None
        self.group.chunks.remove(self)


class BidChunk(Chunk[Bid]):
    """Bids, and bounds of what can serve them."""

    __slots__ = (
        "by_length",
        "first_end",
        "last_start",
        "lengths",
        "need",
        "refuses",
        "seen_duration",
        "seen_starts",
        "shortest",
    )

    def measure(self) -> None:
        self.gone = self.stale = 0
        self.lengths: list[int] | None = None
        """Its orders' durations in order: from a walk for an ask that is cut on, until an order comes."""
        self.by_length: list[Bid] = []
        """The orders, likewise, and some that have left since."""
        self.last_start = self.seen_duration = 0
        self.refuses = -1
        self.need = self.shortest = self.first_end = NOBODY
        self.seen_starts: tuple[int, ...] = ()
        for bid in self.orders:
            if bid.chunk is self:
                self.widen(bid)

    def widen(self, order: Bid) -> None:
        bid = order
        self.refuses &= bid.refuses
        if bid.min_fill < self.need:
            self.need = bid.min_fill
        if bid.left < self.need:
            self.need = bid.left
        duration, starts = bid.duration, bid.starts
        self.lengths = None
        if starts is self.seen_starts and duration == self.seen_duration:  # so are most: `Known` gives one object
            return
        self.seen_starts, self.seen_duration = starts, duration
        if duration < self.shortest:
            self.shortest = duration
        first, last = (starts[0], starts[0]) if len(starts) == 1 else (min(starts), max(starts))
        if last > self.last_start:
            self.last_start = last
        if first + duration < self.first_end:
            self.first_end = first + duration

    def sift(self) -> None:
        Chunk.sift(self)  # `super` is not to be had in a compiled method
        self.lengths = None

    def short(self, longest: int, signature: int) -> list[Bid]:
        """Best first, those that want `longest` ms at most and accept this signature: few, where an ask is cut."""
        if self.lengths is None:
            self.by_length = sorted([bid for bid in self.orders if bid.chunk is self], key=attrgetter("duration"))
            self.lengths = [bid.duration for bid in self.by_length]
        few = bisect_right(self.lengths, longest)
        bids: list[Bid] = []
        for bid in self.by_length[:few] if few <= FEW else self.orders:
            if bid.duration > longest or bid.refuses & signature or bid.chunk is not self:
                continue
            at = len(bids)
            if few <= FEW:
                price, place = bid.price, bid.place
                while at:
                    before = bids[at - 1]
                    if before.price > price or (before.price == price and before.place < place):
                        break
                    at -= 1
            bids.insert(at, bid)
        return bids


AnyChunk = TypeVar("AnyChunk", bound="AskChunk | BidChunk")


class Queue(Generic[AnyChunk, AnyOrder]):
    """One side's orders in the order in which they trade."""

    __slots__ = ("_kind", "_sign", "chunks", "first_ranks")

    def __init__(self, kind: type[AnyChunk], sign: int) -> None:
        """An order's rank is its price times `sign`."""
        self._kind: Any = kind
        self._sign = sign
        self.chunks: list[AnyChunk] = []
        self.first_ranks = numbers()
        """Of the chunks."""

    def __iter__(self) -> Iterator[AnyOrder]:
        """Best first."""
        chunk: Any
        for chunk in self.chunks[:]:  # as some may leave meanwhile
            for order in chunk.orders[:]:
                if order.chunk is chunk:
                    yield order

    def within(self, price: int) -> list[AnyChunk]:
        """The chunks, best first, that may hold orders of that price or a better one."""
        return self.chunks[: bisect_right(self.first_ranks, self._sign * price)]

    def has_within(self, price: int) -> bool:
        """Whether the best order has that price or a better one."""
        if not self.chunks:
            return False
        chunk: Any = self.chunks[0]
        front: Any = chunk.front
        return bool(self._sign * front.price <= self._sign * price)

    def add(self, order: AnyOrder) -> None:
        """Puts the order at its place: behind all of its price, unless it comes back and they are newer."""
        rank = self._sign * order.price
        if not self.chunks:
            self.chunks.append(self._kind([rank], [order]))
            self.first_ranks.append(rank)
            return
        at = bisect_right(self.first_ranks, rank) - 1
        if at < 0:
            at = 0
            self.first_ranks[0] = self.chunks[0].first_rank = rank
        chunk: Any = self.chunks[at]
        ranks, orders = chunk.ranks, chunk.orders
        place = bisect_right(ranks, rank)
        before = orders[place - 1] if place else self.chunks[at - 1].orders[-1] if at else None
        if before is not None and before.price == order.price:
            if before.place >= order.place:
                self._bring_back(order, rank, at)
                return
            order.price = before.price  # one object for all orders of a price
        if place and ranks[place - 1] == rank:
            ranks.insert(place, ranks[place - 1])  # likewise
        else:
            ranks.insert(place, rank)
        orders.insert(place, order)
        self._have(order, place, at)

    def _bring_back(self, order: AnyOrder, rank: int, at: int) -> None:
        """The order came before others of its price, of which the last are in the chunk at `at`."""
        chunk: Any = self.chunks[at]
        while at and chunk.first_rank == rank and (chunk.ranks[0], chunk.orders[0].place) > (rank, order.place):
            at -= 1
            chunk = self.chunks[at]
        ranks, orders = chunk.ranks, chunk.orders
        place = bisect_left(ranks, rank)
        while place < len(orders) and ranks[place] == rank and orders[place].place < order.place:
            place += 1
        if place == len(orders) or orders[place] is not order:
            ranks.insert(place, rank)
            orders.insert(place, order)
        else:  # it was not let go of
            chunk.lost -= 1
        self._have(order, place, at)

    def _have(self, order: AnyOrder, place: int, at: int) -> None:
        """The order stands at its place in the chunk at `at`."""
        chunk: Any = self.chunks[at]
        order.chunk = chunk
        chunk.live += 1
        if place <= chunk.first:
            chunk.first, chunk.front = place, order
        chunk.widen(order)
        if len(chunk.orders) > CHUNK:
            self._split(at)

    def fill(self, orders: list[AnyOrder]) -> None:
        """Puts orders, best first, behind those that are there."""
        for first in range(0, len(orders), CHUNK // 2):
            there = orders[first : first + CHUNK // 2]
            price, rank, ranks = 0, 0, list[int]()
            for order in there:
                if order.price is not price:  # as of most before it: then they have one object
                    price = order.price
                    rank = self._sign * price
                ranks.append(rank)
            chunk = self._kind(ranks, there)
            if self.chunks:
                chunk.follow(self.chunks[-1])
            self.chunks.append(chunk)
            self.first_ranks.append(chunk.first_rank)

    def drop(self, chunk: AnyChunk) -> None:
        """The chunk has become empty."""
        at = self.chunks.index(chunk, bisect_left(self.first_ranks, chunk.first_rank))
        del self.first_ranks[at], self.chunks[at]
        chunk.leave()

    def drop_empty(self) -> None:
        """Chunks have become empty."""
        for chunk in self.chunks:
            if not chunk.orders:
                chunk.leave()
        self.chunks = [chunk for chunk in self.chunks if chunk.orders]
        self.first_ranks = numbers([chunk.first_rank for chunk in self.chunks])

    def _split(self, at: int) -> None:
        chunk: Any = self.chunks[at]
        chunk.sift()
        if 4 * chunk.live < 3 * CHUNK:
            return
        half = chunk.live // 2
        after = self._kind(chunk.ranks[half:], chunk.orders[half:])
        del chunk.ranks[half:], chunk.orders[half:]
        chunk.live = half
        chunk.measure()
        after.follow(chunk)
        self.chunks.insert(at + 1, after)
        self.first_ranks.insert(at + 1, after.first_rank)


class Book:
    """The live orders of one class."""

    def __init__(self, spec: ClassSpec) -> None:
        self.spec = spec
        self.class_id = spec.class_id
        self.fills = 0
        """How many fills the class has had."""
        self.reference = 0
        """µ$ per GPU-hour; 0 before the first."""
        self.halt = HaltMode.NONE
        self.retired = False
        self.closed = False
        """Halted or retired: it takes no order."""
        self.ask_queue: Queue[AskChunk, Ask] = Queue(AskChunk, 1)
        self.bid_queue: Queue[BidChunk, Bid] = Queue(BidChunk, -1)
        self.spent: dict[int, Ask] = {}
        """Live asks that can serve nobody, by id: out of the way of every walk."""

    def close(self, halt: HaltMode, retired: bool) -> None:
        """Whether it takes orders, from now on."""
        self.halt, self.retired = halt, retired
        self.closed = retired or halt is not HaltMode.NONE

    def asks(self) -> list[Ask]:
        """All live asks, best first, the sold-out included."""
        asks = list(self.ask_queue)
        return sorted([*asks, *self.spent.values()], key=attrgetter("price", "place")) if self.spent else asks

    def bids(self) -> list[Bid]:
        """All live bids, best first."""
        return list(self.bid_queue)

    def band(self) -> tuple[int, int]:
        """The lowest and the highest price that orders may have now, inward on the tick (rulebook: Price band)."""
        spec = self.spec
        tick, highest = spec.tick, spec.max_price // spec.tick * spec.tick
        if not spec.band_bps or not self.reference:
            return tick, highest
        low = -(-self.reference * (BPS - spec.band_bps) // (BPS * tick)) * tick
        high = self.reference * (BPS + spec.band_bps) // (BPS * tick) * tick
        return max(tick, low), min(high, highest)

    def add(self, order: Ask | Bid) -> None:
        """Puts the order into the book, at its place."""
        if isinstance(order, Bid):
            self.bid_queue.add(order)
        elif is_spent(order):
            self.spent[order.id] = order
        else:
            self.ask_queue.add(order)

    def fill_asks(self, asks: list[Ask]) -> None:
        """Puts asks, best first, behind those that are there."""
        able: list[Ask] = []
        for ask in asks:
            if is_spent(ask):
                self.spent[ask.id] = ask
            else:
                able.append(ask)
        self.ask_queue.fill(able)

    def remove(self, order: Ask | Bid) -> None:
        """The order leaves the book."""
        chunk = order.chunk
        if chunk is None:
            del self.spent[order.id]
            return
        chunk.lose(order)
        if not chunk.live:
            if isinstance(chunk, BidChunk):
                self.bid_queue.drop(chunk)
            else:
                self.ask_queue.drop(chunk)

    def remove_all(self, orders: Iterable[Ask | Bid]) -> None:
        """All these leave the book: each chunk is looked at once, however many of it they are."""
        thinned: dict[Any, None] = {}
        for order in orders:
            if order.chunk is None:
                del self.spent[order.id]
            else:
                thinned[order.chunk] = None
                order.chunk = None
        for chunk in thinned:
            chunk.sift()
        self.ask_queue.drop_empty()
        self.bid_queue.drop_empty()

    def set_aside(self, ask: Ask) -> None:
        """The ask stays live but can serve nobody any more."""
        self.remove(ask)
        self.spent[ask.id] = ask

    def check(self) -> None:
        """Raises AssertionError where the book is not what it would be when built anew from its orders."""
        queues: tuple[Queue[Any, Any], ...] = (self.ask_queue, self.bid_queue)
        for queue in queues:
            orders: list[Any] = list(queue)
            sign = 1 if queue is self.ask_queue else -1
            keys = [(sign * order.price, order.place) for order in orders]
            assert keys == sorted(set(keys)), "out of order"
            assert list(queue.first_ranks) == [chunk.first_rank for chunk in queue.chunks] == sorted(queue.first_ranks)
            for chunk, following in zip_longest(queue.chunks, queue.first_ranks[1:]):
                there = [place for place, order in enumerate(chunk.orders) if order.chunk is chunk]
                assert there, "an empty chunk"
                assert (chunk.first, chunk.live, chunk.lost) == (there[0], len(there), len(chunk.orders) - len(there))
                assert chunk.front is chunk.orders[chunk.first]
                assert chunk.live * 2 >= len(chunk.orders) <= CHUNK, "who has left is kept"
                assert chunk.ranks == [sign * order.price for order in chunk.orders]
                assert chunk.first_rank <= chunk.ranks[0]
                assert following is None or chunk.ranks[-1] <= following
        groups = dict.fromkeys(chunk.group for chunk in self.ask_queue.chunks)
        grouped = [chunk for group in groups if group is not None for chunk in group.chunks]
        assert grouped == self.ask_queue.chunks, "a chunk is not where its group is"
        for asks in self.ask_queue.chunks:
            assert asks.group is not None
            for ask in (ask for ask in asks.orders if ask.chunk is asks):
                bound = ask.free, ask.longest
                measure(ask)
                assert bound >= (ask.free, ask.longest), "an ask can do more than its bounds say"
                assert asks.cut or ask.calendar is None
                for bounds in (asks.bounds, asks.group.bounds):
                    assert bounds.signatures & ask.signature == ask.signature
                    assert bounds.free >= ask.free
                    assert bounds.longest >= ask.longest
                    assert bounds.stairs.spans((ask.start,), ask.end - ask.start)
                assert ask.calendar is not None or asks.whole.spans((ask.start,), ask.end - ask.start)
                for stairs in (asks.bounds.stairs, asks.group.bounds.stairs, asks.whole):
                    assert (stairs.starts, stairs.ends) == (sorted(set(stairs.starts)), sorted(set(stairs.ends)))
                for double, ring in enumerate(asks.rings):
                    assert ring is None or not ring_of(ask, double, asks.origin) & ~ring
        for bids in self.bid_queue.chunks:
            live = [bid for bid in bids.orders if bid.chunk is bids]
            if bids.lengths is not None:
                assert bids.lengths == [bid.duration for bid in bids.by_length] == sorted(bids.lengths)
                assert bids.short(NOBODY, 0) == live
            for bid in live:
                assert bids.refuses & bid.refuses == bids.refuses
                assert bids.need <= needed(bid)
                assert bids.shortest <= bid.duration
                assert bids.last_start >= max(bid.starts)
                assert bids.first_end <= min(bid.starts) + bid.duration
                assert bid.hours == hours_of(bid.starts, bid.duration)
        for ask in self.spent.values():
            measure(ask)
            assert is_spent(ask), "an ask stands aside that could serve"
        for ask in self.asks():
            if ask.calendar is not None:
                ask.calendar.check()


# A signature has a bit for each thing that an ask states; all are in one digit of Python's ints, so that one `&`
# tells whether it suits.

_REGION, _DELIVERY, _INTERCONNECT, _CONFIDENTIAL, _TIER = 0, 16, 19, 22, 24
KINDS = (0xFFFF, 0b111 << _DELIVERY, 0b111 << _INTERCONNECT, 0b11 << _CONFIDENTIAL, 0b11 << _TIER)
"""The bits of each kind of thing."""


def signature(attributes: Attributes) -> int:
    """A bit of each kind: region, delivery, interconnect, confidential, tier."""
    return (
        1 << attributes.region
        | 1 << _DELIVERY + attributes.delivery
        | 1 << _INTERCONNECT + attributes.interconnect
        | 1 << _CONFIDENTIAL + attributes.confidential
        | 1 << _TIER + attributes.tier
    )


def refused(accepts: Accepts) -> int:
    """The bits of signatures that do not suit, suppliers aside (rulebook: Classes and attributes)."""
    return (
        (accepts.regions and KINDS[0] & ~accepts.regions)
        | (1 << accepts.delivery) - 1 << _DELIVERY
        | (1 << accepts.interconnect) - 1 << _INTERCONNECT
        | (accepts.confidential and 1 << _CONFIDENTIAL + False)
        | (not accepts.interruptible and 1 << _TIER + Tier.INTERRUPTIBLE)
    )


def some_suit(signatures: int, refuses: int) -> bool:
    """Whether one of asks may suit, of whose signatures these are all bits."""
    suitable = signatures & ~refuses
    regions, deliveries, interconnects, confidential, tiers = KINDS
    return bool(
        suitable & regions
        and suitable & deliveries
        and suitable & interconnects
        and suitable & confidential
        and suitable & tiers
    )


def suits_supplier(accepts: Accepts, supplier: int) -> bool:
    """Whether a bid accepts capacity of this account."""
    return supplier not in accepts.not_suppliers and (not accepts.only_suppliers or supplier in accepts.only_suppliers)


class Memo(dict[Given, Made]):
    """What is stated again and again is made once, and kept as one object: a look-up in place of a calculation.

    What is not `sound` is made anew each time: it may be of any size, and is refused anyway.
    """

    def __init__(self, make: Callable[[Given], Made], sound: Callable[[Made], bool]) -> None:
        super().__init__()
        self._make = make
        self._sound = sound

    def __missing__(self, given: Given) -> Made:
        made = self._make(given)
        self.keep(given, made)
        return made

    def keep(self, given: Given, made: Made) -> None:
        """Remembers it where it is sound."""
        if self._sound(made):
            if len(self) >= MAX_KNOWN:
                self.clear()
            self[given] = made


class Known:
    """What orders of one engine state alike, with what follows from it; last, whether all checks of it pass."""

    def __init__(self) -> None:
        self.stated: Memo[Attributes, tuple[Attributes, int, bool]] = Memo(_stated, itemgetter(-1))
        """An ask's attributes, with their signature."""
        self.accepted: Memo[Accepts, tuple[Accepts, int, bool]] = Memo(_accepted, itemgetter(-1))
        """With the bits of signatures that it refuses."""
        self.offered: Memo[tuple[int, int, int], tuple[int, int, int, int, int, bool]] = Memo(_offered, itemgetter(-1))
        """An ask's (start, end, min_duration), with its length and the first ms at which it is too late for it."""
        self.wanted: Memo[tuple[tuple[int, ...], int], tuple[tuple[int, ...], int, int, Hours | None, bool]] = Memo(
            _wanted, itemgetter(-1)
        )
        """A bid's (starts, duration), with the first ms after its last start, and its windows in hours."""

    def times(self, starts: tuple[int, ...], duration: int) -> tuple[tuple[int, ...], int, int, Hours | None, bool]:
        """As `wanted` has it. Of several starts it is made anew: few state the same, and to look cost as much."""
        times = starts, duration
        if len(starts) != 1:
            return _wanted(times)
        known = self.wanted.get(times)
        if known is None:
            known = _wanted(times)
            self.wanted.keep(times, known)
        return known


def _stated(attributes: Attributes) -> tuple[Attributes, int, bool]:
    return attributes, signature(attributes), check_stated(attributes) is None


def _accepted(accepts: Accepts) -> tuple[Accepts, int, bool]:
    sound = check_accepted(accepts) is None
    return accepts, refused(accepts) if sound else 0, sound


def _offered(times: tuple[int, int, int]) -> tuple[int, int, int, int, int, bool]:
    start, end, min_duration = times
    return start, end, min_duration, end - start, end - min_duration + 1, check_offered(*times) is None


def _wanted(times: tuple[tuple[int, ...], int]) -> tuple[tuple[int, ...], int, int, Hours | None, bool]:
    starts, duration = times
    if not well_timed(starts, duration):
        return starts, duration, 0, None, False
    last = starts[0] if len(starts) == 1 else max(starts)
    return starts, duration, last + 1, hours_of(starts, duration), True
