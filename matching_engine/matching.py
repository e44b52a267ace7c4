"""Which pairs can trade, and in what order they do (rulebook: Matching).

The one rule behind every walk: of all pairs that can trade now, the best one does, and again, until none can.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

from matching_engine.asks import is_spent, measure, needed, take
from matching_engine.book import WORTH_A_LOOK, AskChunk, Book, some_suit, suits_supplier
from matching_engine.calendar import origin_of, ring
from matching_engine.orders import Ask, Bid
from matching_engine.rings import ALL, hours_of, shows
from schemas.commands import Prefer, SelfTrade, Side
from schemas.events import Cancelled, CancelReason, Event, Fill
from schemas.units import HOUR_MS

# Members as names of their own: reading one off its class costs as much as a call.
BID, ASK = Side
PRICE = Prefer.PRICE

MAX_WALK = 3000
"""Fills and self-trade cancels of one command. With `MAX_TOLD`, it keeps an answer below `MAX_RECORD_BYTES`."""


NOTHING = (0, 0)


def taken(events: list[Event]) -> tuple[Event, ...]:
    """What is in the list, which is empty from now on: the room that it has serves the next command."""
    made = tuple(events)
    events.clear()
    return made


def fit(ask: Ask, starts: Sequence[int], duration: int, wanted: int, need: int) -> tuple[int, int]:
    """The first of `starts` at which the ask gives at least `need` of the `wanted` GPUs over `duration`, and how many
    it gives then; NOTHING where there is none.

    Price, attributes, `min_duration` and whether a start is past are the caller's.
    """
    lot = ask.lot
    if lot != 1:
        need = -(-need // lot) * lot
        wanted -= wanted % lot
        if need > wanted:
            return NOTHING
    first, last = ask.start, ask.end - duration
    calendar = ask.calendar
    if calendar is None:
        if ask.free >= need:
            for start in starts:
                if first <= start <= last:
                    return start, _cut(ask.free, wanted, lot)
        return NOTHING
    most = ask.quantity - need
    """GPUs that may be sold at any moment."""
    times, pieces = calendar.times, calendar.sold
    for start in starts:
        if first <= start <= last:
            piece = bisect_right(times, start) - 1
            sold = pieces[piece]
            if sold > most:
                continue
            for more in pieces[piece + 1 : bisect_left(times, start + duration, piece + 1)]:
                if more > sold:
                    sold = more
                    if sold > most:
                        break
            if sold <= most:
                return start, _cut(ask.quantity - sold, wanted, lot)
    return NOTHING


def _cut(unsold: int, wanted: int, lot: int) -> int:
    return wanted if unsold >= wanted else unsold - unsold % lot


MAX_RINGS = 16
"""Chunks whose rings a walk makes, likewise: it goes through more of them ask by ask."""
MAX_REPAIRS = 4
"""Chunks whose bounds a walk measures anew: each walk mends a little, none pays for all."""


def _likely(
    chunk: AskChunk, refuses: int, first_end: int, last: int, duration: int, double: int, at: int, gap: int, origin: int
) -> list[Ask]:
    """Best first, asks of a chunk that suit and may be available, as far as their hours tell, over one of the windows
    at those bits: all at once, as C code goes through a list faster than a generator does."""
    likely: list[Ask] = []
    for ask in chunk.orders if not chunk.first else chunk.orders[chunk.first :]:
        if ask.signature & refuses:
            continue
        calendar = ask.calendar
        if calendar is None:
            if ask.end < first_end or ask.start > last or ask.longest < duration:
                continue
        else:
            runs = calendar.runs
            there = len(runs) > double and calendar.origin == origin  # as `ring` looks, without the call
            run = runs[double] if there else calendar.ring(double, origin)
            if not run & at or (gap and not shows(run, at, gap)):
                continue
        likely.append(ask)
    return likely


class Walk:
    """One command's matching in one book.

    It appends what happens to `events`, takes resting orders that are done out of their queue, and lists them in
    `done`.
    """

    __slots__ = ("_first_number", "_most", "_plainly", "_repairs", "_resuming", "book", "done", "events", "full", "now")

    def __init__(
        self,
        book: Book,
        now: int,
        events: list[Event],
        *,
        first_index: int = 0,
        most: int | None = None,
        resuming: bool = False,
    ) -> None:
        """Its fills count from `first_index`; it is over, `full`, when there are `most` events, and then the order
        that moves is cancelled, unless all that rests is tried for `resuming`.
        """
        self.done: list[Ask | Bid] = []
        """Resting orders that left; and asks, still live, that are sold out."""
        self.begin(book, now, events)
        self._resuming = resuming
        self._plainly = True
        """Whether the usual orders in front of the book may be met as they stand there."""
        self._first_number -= first_index
        if most is not None:
            self._most = most

    def begin(self, book: Book, now: int, events: list[Event]) -> None:
        """The walk of another command."""
        self.book = book
        self.now = now
        self.events = events
        self.full = False
        self._repairs = MAX_REPAIRS
        self._first_number = book.fills + 1
        self._most = len(events) + MAX_WALK

    def meet_asks(self, bid: Bid) -> None:
        """The bid trades with the best ask that it can trade with, again and again, until there is none."""
        starts = self._to_come(bid)
        # Asks that had been passed can serve a rest that fell below min_fill: then all begins anew, at most once.
        if bid.prefer is PRICE or len(starts) == 1:
            while bid.live and self._pass(bid, starts):
                pass
        else:
            while self._pass_each(bid, starts):
                pass

    def meet_bids(self, ask: Ask) -> None:
        """The ask trades with the best bid that it can trade with, again and again, until there is none.

        A bid whose rest falls below its min_fill by this may suit other asks than before: it meets them afterwards.
        """
        if self._plainly and self._meet_usual_bids(ask):
            return
        short: list[Bid] = []
        cuts = 0
        events, most, owner, start, end = self.events, self._most, ask.owner, ask.start, ask.end
        whole = (start,) if ask.lot == 1 else None
        for bid in self._bids_for(ask):
            before = bid.left
            if (
                bid.starts == whole
                and start + bid.duration == end
                and ask.calendar is None
                and bid.owner != owner
                and len(events) < most
            ):  # the usual case at once: all of its availability is sold, so no calendar is needed
                free = ask.free
                self.fill(ask, bid, start, free if free < before else before)
                if bid.left < bid.min_fill <= before and bid.live:
                    short.append(bid)
                if not ask.free:
                    break
                continue
            starts = self._to_come(bid)
            while bid.live and self._trade_once(ask, bid, starts, ask) and len(starts) > 1:
                pass
            if bid.live and bid.left < bid.min_fill <= before:
                short.append(bid)
            if not ask.live:
                break
            if bid.left < before:
                cuts += 1
                if ask.calendar is not None and cuts * 4 > len(ask.calendar.times):
                    measure(ask)  # seldom, as it costs a look at each piece
                    cuts = 0
                if is_spent(ask):
                    break
        for bid in short:
            if bid.live:
                self.meet_asks(bid)

    def meet_all_bids(self) -> None:
        """Every bid of the book, best first, meets the asks."""
        for bid in self.book.bids():
            if bid.live:
                self.meet_asks(bid)
            if self.full:
                return

    def fill_or_kill(self, bid: Bid) -> None:
        """At the first start at which the whole quantity can be had, the bid takes it; else nothing happens."""
        for start in self._to_come(bid):
            plan = self._plan(bid, start)
            if plan is not None:
                for ask, quantity in plan:
                    self.fill(ask, bid, start, quantity)
                return

    def taken_by(self, order: Ask | Bid) -> int | None:
        """The id of the best order of another owner with which `order` could trade now, if there is one."""
        if isinstance(order, Bid):
            starts = self._to_come(order)
            pairs = ((ask, order, starts, ask.id) for ask in self._asks_for(order, starts, needed(order)))
        else:
            pairs = ((order, bid, self._to_come(bid), bid.id) for bid in self._bids_for(order))
        for ask, bid, starts, other in pairs:
            if ask.owner != bid.owner and fit(ask, starts, bid.duration, bid.left, needed(bid))[1]:
                return other
        return None

    def fill(self, ask: Ask, bid: Bid, start: int, quantity: int) -> None:
        """The pair trades."""
        book = self.book
        end = start + bid.duration
        if ask.calendar is None and start == ask.start and end == ask.end:  # as `take` does, without the call
            ask.free -= quantity
            begins, ends = ask.start, ask.end  # the very objects: no other numbers are made
        else:
            take(ask, start, end, quantity)
            if ask.calendar is not None:
                ask.calendar.trim(self.now)
            begins, ends = start, end
        left = bid.left = bid.left - quantity
        number = book.fills = book.fills + 1
        spec = book.spec
        # The price is the older order's, who came second is the taker.
        bid_takes = bid.place > ask.place
        self.events.append(
            Fill(
                number - self._first_number,
                number,
                spec.class_id,
                bid.id,
                ask.id,
                bid.account,
                ask.account,
                ask.price if bid_takes else bid.price,
                quantity,
                begins,
                ends,
                BID if bid_takes else ASK,
                left,
                bid.fee_bps,
                ask.fee_bps,
                ask.attributes,
            )
        )
        chunk = bid.chunk
        if not left:
            self._end(bid)
        elif chunk is not None and left < chunk.need:
            chunk.need = left
        if ask.free < ask.lot and ask.chunk is not None:
            book.set_aside(ask)
            self.done.append(ask)

    def _to_come(self, bid: Bid) -> Sequence[int]:
        starts, hours = bid.starts, bid.hours
        # With one start the bid would have left by time already.
        if len(starts) == 1 or (hours is not None and hours[0] * HOUR_MS >= self.now):
            return starts
        return [start for start in starts if start >= self.now]

    def _asks_for(self, bid: Bid, starts: Sequence[int], need: int) -> Iterator[Ask]:
        """Best first, the asks that may give the bid `need` GPUs from one of `starts`, as far as their bounds tell."""
        price, duration, refuses, accepts = bid.price, bid.duration, bid.refuses, bid.accepts
        in_order = starts if len(starts) == 1 else sorted(starts)
        first, last = in_order[0], in_order[-1]
        first_end = first + duration
        hours = bid.hours if len(starts) == len(bid.starts) else hours_of(starts, duration)
        origin = origin_of(self.now)
        double, gap, at = 0, 0, ALL
        if hours is not None:
            hour, bits, double, gap = hours
            at = ring(bits, hour - origin)
        rings_made = 0
        signatures, suits = 0, False
        choosy = bool(accepts.only_suppliers or accepts.not_suppliers)
        chunks = self.book.ask_queue.within(price)
        group, place = None, 0
        while place < len(chunks):
            chunk = chunks[place]
            if chunk.group is not group:
                group = chunk.group
                assert group is not None
                if len(group.chunks) >= WORTH_A_LOOK:
                    if group.loose and self._repairs:
                        self._repairs -= 1
                        group.measure()
                    bounds = group.bounds
                    if (
                        bounds.free < need
                        or bounds.longest < duration
                        or not some_suit(bounds.signatures, refuses)
                        or not bounds.stairs.spans(in_order, duration)
                    ):
                        # No chunk comes to a group during a walk, and those that left stand here still: not beyond it.
                        place += len(group.chunks)
                        continue
            place += 1
            bounds = chunk.bounds
            if bounds.free < need or bounds.longest < duration:
                continue
            if not chunk.cut:
                if not bounds.stairs.spans(in_order, duration):
                    continue
            else:
                run = chunk.rings[double] if chunk.origin == origin else None
                if run is None and rings_made < MAX_RINGS:
                    rings_made += 1
                    run = chunk.ring(double, origin)
                if run is not None and not (run & at and (not gap or shows(run, at, gap))):
                    continue
            if bounds.signatures != signatures:
                signatures = bounds.signatures
                suits = some_suit(signatures, refuses)
            if not suits:
                continue
            for ask in _likely(chunk, refuses, first_end, last, duration, double, at, gap, origin):
                if ask.free < need or ask.min_duration > duration or ask.chunk is not chunk:
                    continue
                if ask.price > price:
                    return
                if not choosy or suits_supplier(accepts, ask.account):
                    yield ask
            if chunk.loose and self._repairs:  # nobody there took it all: its bounds promised too much
                self._repairs -= 1
                chunk.measure()

    def _bids_for(self, ask: Ask) -> Iterator[Bid]:
        """Best first, the bids that the ask may serve, as far as their bounds tell."""
        price, start, end, signature, account = ask.price, ask.start, ask.end, ask.signature, ask.account
        min_duration = ask.min_duration
        longest, runs, last = ask.longest, None, 0
        chunks = self.book.bid_queue.within(price)
        for chunk in chunks:
            calendar = ask.calendar
            if calendar is not None and calendar.runs is not runs:  # else it is as it was
                runs, last = calendar.runs, last or max(chunk.last_start for chunk in chunks)
                longest = calendar.reach(last)
            if (
                chunk.need > ask.free
                or chunk.refuses & signature
                or chunk.shortest > longest
                or chunk.last_start < start
                or chunk.first_end > end
            ):
                continue
            for bid in chunk.orders[chunk.first :] if calendar is None else chunk.short(longest, signature):
                duration = bid.duration
                if (
                    duration > longest
                    or bid.refuses & signature
                    or duration < min_duration
                    or bid.min_fill > ask.free < bid.left
                    or bid.chunk is not chunk
                    or ((calendar := ask.calendar) is not None and not calendar.opens(bid.hours))
                ):
                    continue
                if bid.price < price:
                    return
                accepts = bid.accepts
                choosy = accepts.only_suppliers or accepts.not_suppliers
                if not choosy or suits_supplier(accepts, account):
                    yield bid
            if chunk.loose and self._repairs:
                self._repairs -= 1
                chunk.measure()

    def _pass(self, bid: Bid, starts: Sequence[int]) -> bool:
        """Once through the asks; True: the bid's rest fell below its min_fill and is still wanted."""
        events, most, owner, min_fill = self.events, self._most, bid.owner, bid.min_fill
        start = starts[0] if len(starts) == 1 else None
        if self._plainly and start is not None and (known := self._pass_usual(bid, start)) is not None:
            return known
        left = bid.left
        for ask in self._asks_for(bid, starts, needed(bid)):  # which is the same until the pass ends
            before = left
            if (
                start is not None
                and ask.calendar is None
                and ask.lot == 1
                and ask.owner != owner
                and len(events) < most
            ):
                # The usual case at once: with one start and no calendar an ask that may serve the bid can, and once.
                free = ask.free
                self.fill(ask, bid, start, free if free < left else left)
                left = bid.left
            else:
                while self._trade_once(ask, bid, starts, bid) and bid.live and start is None:
                    if bid.left < min_fill <= before:
                        return True
                left = bid.left
            if not bid.live or self.full:
                return False
            if left < min_fill <= before:
                return True
        return False

    def _pass_usual(self, bid: Bid, start: int) -> bool | None:
        """`_pass` without all that unusual asks need, chunk after chunk that is sold out.

        None at the first that is not usual. Nobody traded with here can serve the bid then, so that a pass may begin
        anew.
        """
        accepts = bid.accepts
        if accepts.only_suppliers or accepts.not_suppliers:
            return None
        queue, events, most, owner = self.book.ask_queue, self.events, self._most, bid.owner
        price, refuses, min_fill, left, duration = bid.price, bid.refuses, bid.min_fill, bid.left, bid.duration
        need, end = min_fill if min_fill < left else left, start + duration
        while queue.chunks:
            chunk = queue.chunks[0]
            orders, at = chunk.orders, chunk.first
            while at < len(orders):
                ask = orders[at]
                at += 1
                if ask.chunk is not chunk:
                    continue
                if ask.price > price:
                    return False
                free = ask.free
                if (
                    free < need
                    or ask.start > start
                    or ask.end < end
                    or ask.signature & refuses
                    or ask.min_duration > duration
                    or ask.calendar is not None
                    or ask.lot != 1
                    or ask.owner == owner
                    or len(events) >= most
                ):
                    return None
                self.fill(ask, bid, start, free if free < left else left)
                if free >= left:
                    return False
                if left - free < min_fill <= left:
                    return True
                left -= free
            if chunk.live:
                return None
        return False

    def _meet_usual_bids(self, ask: Ask) -> bool:
        """`meet_bids` likewise, where each bid wants all of the ask's availability; whether nothing is left to do."""
        if ask.calendar is not None or ask.lot != 1:
            return False
        queue, events, most, owner = self.book.bid_queue, self.events, self._most, ask.owner
        price, start, end, signature, free = ask.price, ask.start, ask.end, ask.signature, ask.free
        duration = end - start
        while queue.chunks:
            chunk = queue.chunks[0]
            orders, at = chunk.orders, chunk.first
            while at < len(orders):
                bid = orders[at]
                at += 1
                if bid.chunk is not chunk:
                    continue
                if bid.price < price:
                    return True
                left, min_fill, starts, accepts = bid.left, bid.min_fill, bid.starts, bid.accepts
                if (
                    bid.duration != duration
                    or bid.refuses & signature
                    or min_fill > free < left
                    or len(starts) != 1
                    or starts[0] != start
                    or accepts.only_suppliers
                    or accepts.not_suppliers
                    or bid.owner == owner
                    or len(events) >= most
                    or 0 < left - free < min_fill <= left
                ):
                    return False
                quantity = free if free < left else left
                self.fill(ask, bid, start, quantity)
                free -= quantity
                if not free:
                    return True
            if chunk.live:
                return False
        return True

    def _pass_each(self, bid: Bid, starts: Sequence[int]) -> bool:
        """Likewise, with one start after the other."""
        return any(bid.live and self._pass(bid, (start,)) for start in starts)

    def _trade_once(self, ask: Ask, bid: Bid, starts: Sequence[int], walker: Ask | Bid) -> bool:
        """The pair trades at the first start at which it can; False: it cannot, has one owner, or the walk is over."""
        start, quantity = fit(ask, starts, bid.duration, bid.left, needed(bid))
        if not quantity:
            return False
        if len(self.events) >= self._most:
            self.full = True
            if not self._resuming:
                self._cancel(walker, CancelReason.WALK_LIMIT)
            return False
        if ask.owner == bid.owner:
            self._self_trade(ask, bid)
            return False
        self.fill(ask, bid, start, quantity)
        return True

    def _self_trade(self, ask: Ask, bid: Bid) -> None:
        """Instead of a trade within one owner, the newer order's instruction acts."""
        older, newer = (ask, bid) if bid.place > ask.place else (bid, ask)
        instruction = newer.self_trade
        if instruction in (SelfTrade.CANCEL_OLDEST, SelfTrade.CANCEL_BOTH):
            self._cancel(older, CancelReason.SELF_TRADE)
        if instruction in (SelfTrade.CANCEL_NEWEST, SelfTrade.CANCEL_BOTH):
            self._cancel(newer, CancelReason.SELF_TRADE)

    def _cancel(self, order: Ask | Bid, reason: CancelReason) -> None:
        self.events.append(Cancelled(order.id, order.account, reason, order.left))
        self._end(order)

    def _end(self, order: Ask | Bid) -> None:
        order.live = False
        if order.chunk is not None:
            self.book.remove(order)
            self.done.append(order)

    def _plan(self, bid: Bid, start: int) -> Iterable[tuple[Ask, int]] | None:
        """What each ask would give at `start`, in the order of the walk; None where that is not all that is wanted."""
        plan: dict[int, tuple[Ask, int]] = {}
        wanted = bid.left
        anew = True
        while anew:
            anew = False
            need = min(bid.min_fill, wanted)
            for ask in self._asks_for(bid, (start,), need):
                if ask.owner == bid.owner or ask.id in plan:
                    continue
                quantity = fit(ask, (start,), bid.duration, wanted, need)[1]
                if not quantity:
                    continue
                if len(plan) == MAX_WALK:
                    return None
                plan[ask.id] = (ask, quantity)
                before, wanted = wanted, wanted - quantity
                if not wanted:
                    return plan.values()
                if wanted < bid.min_fill <= before:
                    anew = True
                    break
        return None
