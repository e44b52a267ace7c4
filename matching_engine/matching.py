"""Which pairs can trade, and in what order they do (rulebook: Matching).

The one rule behind every walk: of all pairs that can trade now, the best one does, and again, until none can.
"""

from collections.abc import Iterable, Sequence

from matching_engine.book import Ask, Bid, Book
from schemas.commands import Prefer, SelfTrade, Side
from schemas.events import Cancelled, CancelReason, Event, Fill

# Members as names of their own: reading one off its class costs as much as a call.
BID, ASK = Side
PRICE = Prefer.PRICE

MAX_WALK = 3000
"""Fills and self-trade cancels of one command. With `MAX_EXPIRED`, it keeps an answer below `MAX_RECORD_BYTES`."""


def given(ask: Ask, start: int, duration: int, wanted: int, min_fill: int) -> int:
    """GPUs that the ask gives over `duration` from `start` to a bid that wants so many; 0 where they cannot trade so.

    Price, attributes, `min_duration` and whether the start is past are the caller's.
    """
    gives = ask.unsold(start, start + duration)
    if gives > wanted:
        gives = wanted
    gives -= gives % ask.lot
    return gives if gives >= min_fill or gives == wanted else 0


class Walk:
    """One command's matching in one book.

    It appends what happens to `events`, takes resting orders that are done out of the book, and lists them in `done`.
    """

    __slots__ = ("_first_number", "_most", "book", "done", "events", "now")

    def __init__(self, book: Book, now: int, events: list[Event]) -> None:
        self.book = book
        self.now = now
        self.events = events
        self.done: list[int] = []
        """Ids of resting orders that left."""
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
            while any(self._pass(bid, (start,)) for start in starts if bid.live):
                pass

    def meet_bids(self, ask: Ask) -> None:
        """The ask trades with the best bid that it can trade with, again and again, until there is none.

        A bid whose rest falls below its min_fill by this may suit other asks than before: it meets them afterwards.
        """
        short: list[Bid] = []
        for bid in self.book.bids_for(ask):
            if bid.duration < ask.min_duration:
                continue
            before = bid.left
            starts = self._to_come(bid)
            while bid.live and self._trade_once(ask, bid, starts, ask):
                pass
            if bid.live and bid.left < bid.min_fill <= before:
                short.append(bid)
            if not ask.live or (bid.left < before and ask.spent()):
                break
        for bid in short:
            self.meet_asks(bid)

    def fill_or_kill(self, bid: Bid) -> None:
        """At the first start at which the whole quantity can be had, the bid takes it; else nothing happens."""
        for start in self._to_come(bid):
            plan = self._plan(bid, start)
            if plan is not None:
                for ask, quantity in plan:
                    self._fill(ask, bid, start, quantity)
                return

    def taken_by(self, order: Ask | Bid) -> int | None:
        """The id of the best order of another owner with which `order` could trade now, if there is one."""
        if isinstance(order, Bid):
            starts = self._to_come(order)
            pairs = ((ask, order, starts, ask.id) for ask in self.book.asks_for(order))
        else:
            pairs = ((order, bid, self._to_come(bid), bid.id) for bid in self.book.bids_for(order))
        for ask, bid, starts, other in pairs:
            if (
                ask.owner != bid.owner
                and bid.duration >= ask.min_duration
                and any(given(ask, start, bid.duration, bid.left, bid.min_fill) for start in starts)
            ):
                return other
        return None

    def _to_come(self, bid: Bid) -> Sequence[int]:
        starts = bid.starts
        # With one start the bid would have left by time already.
        return starts if len(starts) == 1 else [start for start in starts if start >= self.now]

    def _pass(self, bid: Bid, starts: Sequence[int]) -> bool:
        """Once through the asks; True: the bid's rest fell below its min_fill and is still wanted."""
        for ask in self.book.asks_for(bid):
            if bid.duration < ask.min_duration:
                continue
            before = bid.left
            while bid.live and self._trade_once(ask, bid, starts, bid):
                if 0 < bid.left < bid.min_fill <= before:
                    return True
            if not bid.live:
                return False
        return False

    def _trade_once(self, ask: Ask, bid: Bid, starts: Sequence[int], walker: Ask | Bid) -> bool:
        """The pair trades at the first start at which it can; False: it cannot, has one owner, or the walk is over."""
        for start in starts:
            quantity = given(ask, start, bid.duration, bid.left, bid.min_fill)
            if quantity:
                if len(self.events) >= self._most:
                    self._cancel(walker, CancelReason.WALK_LIMIT)
                    return False
                if ask.owner == bid.owner:
                    self._self_trade(ask, bid)
                    return False
                self._fill(ask, bid, start, quantity)
                return True
        return False

    def _fill(self, ask: Ask, bid: Bid, start: int, quantity: int) -> None:
        book = self.book
        end = start + bid.duration
        ask.take(start, end, quantity)
        left = bid.left = bid.left - quantity
        number = book.fills = book.fills + 1
        # The price is the older order's, who came second is the taker.
        bid_takes = bid.place > ask.place
        self.events.append(
            Fill(
                number - self._first_number,
                number,
                bid.class_id,
                bid.id,
                ask.id,
                bid.account,
                ask.account,
                ask.price if bid_takes else bid.price,
                quantity,
                start,
                end,
                BID if bid_takes else ASK,
                left,
                bid.fee_bps,
                ask.fee_bps,
                ask.attributes,
            )
        )
        if not left:
            self._end(bid)
        if ask.queued and ask.spent():
            book.set_aside(ask)

    def _self_trade(self, ask: Ask, bid: Bid) -> None:
        """Instead of a trade within one owner, the newer order's instruction acts."""
        older, newer = (ask, bid) if bid.place > ask.place else (bid, ask)
        instruction = newer.self_trade
        if instruction in (SelfTrade.CANCEL_OLDEST, SelfTrade.CANCEL_BOTH):
            self._cancel(older, CancelReason.SELF_TRADE)
        if instruction in (SelfTrade.CANCEL_NEWEST, SelfTrade.CANCEL_BOTH):
            self._cancel(newer, CancelReason.SELF_TRADE)

    def _cancel(self, order: Ask | Bid, reason: CancelReason) -> None:
        left = order.left if isinstance(order, Bid) else order.quantity
        self.events.append(Cancelled(order.id, order.account, reason, left))
        self._end(order)

    def _end(self, order: Ask | Bid) -> None:
        order.live = False
        if order.queued:
            self.book.remove(order)
            self.done.append(order.id)

    def _plan(self, bid: Bid, start: int) -> Iterable[tuple[Ask, int]] | None:
        """What each ask would give at `start`, in the order of the walk; None where that is not all that is wanted."""
        plan: dict[int, tuple[Ask, int]] = {}
        wanted = bid.left
        anew = True
        while anew:
            anew = False
            for ask in self.book.asks_for(bid):
                if ask.owner == bid.owner or ask.id in plan or bid.duration < ask.min_duration:
                    continue
                quantity = given(ask, start, bid.duration, wanted, bid.min_fill)
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
