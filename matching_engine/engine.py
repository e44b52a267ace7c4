"""The fold: a command in, its answer out. All state is a pure function of the commands so far (RULES.md)."""

import hashlib
from collections import deque
from heapq import heapify, heappop, heappush

import msgspec

from matching_engine.book import Ask, Bid, Book
from matching_engine.checks import MAX_ACCOUNT, Refused, check_ask, check_bid, check_class, is_name, shown
from matching_engine.matching import Walk
from schemas.commands import Cancel, Command, CreateClass, PlaceAsk, PlaceBid, Side, Tick, TimeInForce, Unreadable
from schemas.events import (
    Accepted,
    Cancelled,
    CancelReason,
    ClassChanged,
    Duplicate,
    Event,
    Execution,
    Expired,
    Filled,
    Rejected,
    Ticked,
)
from schemas.ids import format_order_id, position
from schemas.refusals import Refusal
from schemas.units import GRID_MS, MAX_TIME_MS, ceil_grid

GTC, GTD, IOC, FOK = TimeInForce
BID, ASK = Side

_ID_BITS = 63
_NEVER = 1 << 62
MAX_EXPIRED = 5000
"""Expiries that one answer tells; the rest are told by the next answers."""
_canonical = msgspec.msgpack.Encoder(order="sorted")

Key = tuple[int, str]
"""(account, client_order_id)."""


class Engine:
    """The matching engine of one partition: `apply` each command in the order of the log."""

    def __init__(self, partition: int) -> None:
        self.position = -1
        """Of the last command that had an answer."""
        self.now = 0
        """ms: the largest log time so far. Time moves with commands alone."""
        self.books: dict[str, Book] = {}
        self._base = position(partition, 0)
        self._orders: dict[int, Ask | Bid] = {}
        self._leaving: list[int] = []
        """A heap of (time it leaves, id) of the live orders, and of some that have left already."""
        self._answered: dict[Key, tuple[int, int]] = {}
        """Repeats: (position of the first command, its not_after)."""
        self._forget: dict[int, list[Key]] = {}
        """By minute of not_after, what to forget after it."""
        self._forget_minutes: list[int] = []
        """A heap of the minutes in `_forget`."""
        self._due = _NEVER
        """The first ms of `now` at which an order leaves or a repeat can be forgotten."""
        self._expired: deque[Expired] = deque()
        """Orders that have left by time, not yet told."""

    def apply(self, offset: int, time: int, command: Command | Unreadable) -> Execution:
        """The answer to the command at `offset`, which the log stamped with `time` in ms.

        Never raises on what a command says: whatever it is, the answer has at least one event.
        """
        events: list[Event] = []
        if time > self.now:
            self.now = time
            if time >= self._due:
                self._pass_time()
        if self._expired:
            events += [self._expired.popleft() for _ in range(min(len(self._expired), MAX_EXPIRED))]
        this = self._base | offset
        assert this > self.position, "commands come in the order of the log"
        if isinstance(command, PlaceBid):
            self._place_bid(this, command, events)
        elif isinstance(command, PlaceAsk):
            self._place_ask(this, command, events)
        elif isinstance(command, Cancel):
            self._cancel(command, events)
        elif isinstance(command, Tick):
            events.append(Ticked())
        elif isinstance(command, CreateClass):
            self._create_class(command, events)
        else:
            events.append(Rejected(0, "", Refusal.UNREADABLE, (command.reason,)))
        execution = Execution(this, self.position, self.now, tuple(events))
        self.position = this
        return execution

    def order(self, order_id: int) -> Ask | Bid | None:
        """The live order with this id."""
        return self._orders.get(order_id)

    def state(self) -> dict[str, object]:
        """All that later answers depend on, in a canonical form; nothing that can be rebuilt from it."""
        return {
            "now": self.now,
            "position": self.position,
            "repeats": sorted([*key, *first] for key, first in self._answered.items() if first[1] >= self.now),
            "expired": list(self._expired),
            "books": {
                class_id: {
                    "spec": book.spec,
                    "fills": book.fills,
                    "asks": [_ask_state(ask) for ask in book.asks()],
                    "bids": [_bid_state(bid) for bid in book.bids()],
                }
                for class_id, book in self.books.items()
            },
        }

    def state_hash(self) -> bytes:
        """BLAKE2b-256 over the canonical MessagePack of the state: equal states, equal hashes, on any machine."""
        return hashlib.blake2b(_canonical.encode(self.state()), digest_size=32).digest()

    def _place_ask(self, this: int, command: PlaceAsk, events: list[Event]) -> None:
        if not self._first_time(this, command, events):
            return
        book = self.books.get(command.class_id)
        if book is None:
            _reject(command, (Refusal.UNKNOWN_CLASS, (shown(command.class_id),)), events)
            return
        now = self.now
        start, end = command.start or ceil_grid(now), command.end
        refused = check_ask(command, start, book.spec, now)
        if refused is not None:
            _reject(command, refused, events)
            return
        leaves = end - command.min_duration + 1
        if command.time_in_force is GTD and command.expire_at < leaves:
            leaves = command.expire_at
        ask = Ask(
            this,
            this,
            command.account,
            command.owner,
            book.spec.class_id,
            command.price,
            command.quantity,
            start,
            end,
            command.attributes,
            command.min_duration,
            command.lot,
            command.self_trade,
            command.fee_bps,
            leaves,
        )
        crossed = book.crossed_by_ask(ask)
        if crossed and command.post_only and self._would_trade(book, ask, command, events):
            return
        events.append(
            Accepted(
                ask.account,
                command.client_order_id,
                ask.class_id,
                ASK,
                ask.quantity,
                ask.price,
                ask.fee_bps,
                start,
                end - start,
            )
        )
        if crossed:
            walk = Walk(book, now, events)
            walk.meet_bids(ask)
            self._drop(walk.done)
        if not ask.live:
            return
        if command.time_in_force is IOC:
            events.append(Cancelled(this, ask.account, CancelReason.IOC_REST, ask.quantity))
            return
        book.add_ask(ask)
        self._add(ask)

    def _place_bid(self, this: int, command: PlaceBid, events: list[Event]) -> None:
        if not self._first_time(this, command, events):
            return
        book = self.books.get(command.class_id)
        if book is None:
            _reject(command, (Refusal.UNKNOWN_CLASS, (shown(command.class_id),)), events)
            return
        now = self.now
        starts = command.starts
        if 0 in starts:
            soon = ceil_grid(now)
            # Where now is one of the other starts too, the earlier mention stands.
            starts = tuple(dict.fromkeys(start or soon for start in starts))
        refused = check_bid(command, starts, book.spec, now)
        if refused is not None:
            _reject(command, refused, events)
            return
        leaves = max(starts) + 1
        if command.time_in_force is GTD and command.expire_at < leaves:
            leaves = command.expire_at
        bid = Bid(
            this,
            this,
            command.account,
            command.owner,
            book.spec.class_id,
            command.price,
            command.quantity,
            command.quantity,
            command.duration,
            starts,
            command.accepts,
            command.min_fill,
            command.prefer,
            command.self_trade,
            command.fee_bps,
            leaves,
        )
        crossed = book.crossed_by_bid(bid)
        if crossed and command.post_only and self._would_trade(book, bid, command, events):
            return
        events.append(
            Accepted(
                bid.account,
                command.client_order_id,
                bid.class_id,
                BID,
                bid.quantity,
                bid.price,
                bid.fee_bps,
                starts[0],
                bid.duration,
            )
        )
        if crossed:
            walk = Walk(book, now, events)
            if command.time_in_force is FOK:
                walk.fill_or_kill(bid)
            else:
                walk.meet_asks(bid)
            self._drop(walk.done)
        if not bid.left:
            events.append(Filled(this, bid.account))
        elif not bid.live:
            return
        elif command.time_in_force is IOC or command.time_in_force is FOK:
            reason = CancelReason.IOC_REST if command.time_in_force is IOC else CancelReason.FOK_UNFILLED
            events.append(Cancelled(this, bid.account, reason, bid.left))
        else:
            book.add_bid(bid)
            self._add(bid)

    def _cancel(self, command: Cancel, events: list[Event]) -> None:
        order = self._orders.get(command.order_id)
        if order is None or order.account != command.account:
            known = 0 <= command.order_id < 1 << _ID_BITS
            shown_id = format_order_id(command.order_id) if known else command.order_id
            account = command.account if 1 <= command.account <= MAX_ACCOUNT else 0
            events.append(Rejected(account, "", Refusal.UNKNOWN_ORDER, (shown_id,)))
            return
        self._remove(order)
        events.append(Cancelled(order.id, order.account, CancelReason.REQUESTED, _left(order)))

    def _create_class(self, command: CreateClass, events: list[Event]) -> None:
        spec = command.spec
        refused = check_class(spec)
        if refused is None and spec.class_id in self.books:
            refused = Refusal.CLASS_EXISTS, (spec.class_id,)
        if refused is not None:
            events.append(Rejected(0, "", *refused))
            return
        self.books[spec.class_id] = Book(spec)
        events.append(ClassChanged(spec))

    def _first_time(self, this: int, command: PlaceAsk | PlaceBid, events: list[Event]) -> bool:
        """Whether this is neither late nor a repeat. From here on its client_order_id is answered, even by a refusal:
        another copy of the same bytes must not do later what the first did not.
        """
        account, client_order_id, not_after = command.account, command.client_order_id, command.not_after
        if not 1 <= account <= MAX_ACCOUNT:
            _reject(command, (Refusal.UNKNOWN_ACCOUNT, (account,)), events)
        elif not is_name(client_order_id):
            _reject(command, (Refusal.CLIENT_ORDER_ID_INVALID, ()), events)
        elif not_after > MAX_TIME_MS:
            _reject(command, (Refusal.TIME_OUT_OF_RANGE, ("not_after", not_after)), events)
        elif self.now > not_after:
            _reject(command, (Refusal.STALE, (self.now, not_after)), events)
        else:
            key = (account, client_order_id)
            first = self._answered.get(key)
            if first is not None and self.now <= first[1]:
                events.append(Duplicate(account, client_order_id, first[0]))
                return False
            self._answered[key] = (this, not_after)
            minute = not_after // GRID_MS
            keys = self._forget.get(minute)
            if keys is None:
                self._forget[minute] = [key]
                heappush(self._forget_minutes, minute)
                self._due = min(self._due, (minute + 1) * GRID_MS)
            else:
                keys.append(key)
            return True
        return False

    def _would_trade(self, book: Book, order: Ask | Bid, command: PlaceAsk | PlaceBid, events: list[Event]) -> bool:
        other = Walk(book, self.now, events).taken_by(order)
        if other is None:
            return False
        _reject(command, (Refusal.WOULD_TRADE, (format_order_id(other),)), events)
        return True

    def _add(self, order: Ask | Bid) -> None:
        """The order, already in its book, is live from now on."""
        self._orders[order.id] = order
        heappush(self._leaving, order.leaves << _ID_BITS | order.id)
        if order.leaves < self._due:
            self._due = order.leaves
        if len(self._leaving) > 2 * len(self._orders) + 1024:
            self._leaving = [live.leaves << _ID_BITS | live.id for live in self._orders.values()]
            heapify(self._leaving)

    def _remove(self, order: Ask | Bid) -> None:
        self.books[order.class_id].remove(order)
        del self._orders[order.id]

    def _drop(self, done: list[int]) -> None:
        """Forgets orders that a walk took out of their book."""
        for order_id in done:
            del self._orders[order_id]

    def _pass_time(self) -> None:
        """Who has left by time leaves, by (time it left, id); repeats whose time is over are forgotten."""
        now, leaving, minutes = self.now, self._leaving, self._forget_minutes
        while leaving and leaving[0] >> _ID_BITS <= now:
            order = self._orders.get(heappop(leaving) & (1 << _ID_BITS) - 1)
            if order is not None:
                self._remove(order)
                self._expired.append(Expired(order.id, order.account, _left(order)))
        while minutes and (minutes[0] + 1) * GRID_MS <= now:
            for key in self._forget.pop(heappop(minutes)):
                if key in self._answered and self._answered[key][1] < now:
                    del self._answered[key]
        self._due = min(
            leaving[0] >> _ID_BITS if leaving else _NEVER, (minutes[0] + 1) * GRID_MS if minutes else _NEVER
        )


def _reject(command: PlaceAsk | PlaceBid, refused: Refused, events: list[Event]) -> None:
    """Names only an account and a client_order_id that can be ones."""
    account = command.account if 1 <= command.account <= MAX_ACCOUNT else 0
    client_order_id = command.client_order_id if is_name(command.client_order_id) else ""
    events.append(Rejected(account, client_order_id, *refused))


def _left(order: Ask | Bid) -> int:
    return order.left if isinstance(order, Bid) else order.quantity


def _ask_state(ask: Ask) -> list[object]:
    calendar = ask.calendar
    return [
        ask.id,
        ask.place,
        ask.account,
        ask.owner,
        ask.price,
        ask.quantity,
        ask.start,
        ask.end,
        ask.attributes,
        ask.min_duration,
        ask.lot,
        ask.self_trade,
        ask.fee_bps,
        ask.leaves,
        [ask.start] if calendar is None else calendar.times,
        [ask.sold] if calendar is None else calendar.taken,
    ]


def _bid_state(bid: Bid) -> list[object]:
    return [
        bid.id,
        bid.place,
        bid.account,
        bid.owner,
        bid.price,
        bid.quantity,
        bid.left,
        bid.duration,
        bid.starts,
        bid.accepts,
        bid.min_fill,
        bid.prefer,
        bid.self_trade,
        bid.fee_bps,
        bid.leaves,
    ]
