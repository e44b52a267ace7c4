"""What the stream tells: channels, each a whole and the changes behind it, numbered without gaps.

A channel's numbers are its own, count from 0 and begin anew with the gateway, so that a reader names the run that they
are of (`stream`). Those of fills are the market's and last for ever.
"""

import asyncio
import secrets
import zlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Protocol

import msgspec

from gateways.api import terms
from gateways.api.errors import ApiError
from gateways.api.replies import Replies, settled
from gateways.api.wire import text_frame
from schemas.book import BookLevel, Books, BookView
from schemas.events import Accepted, Amended, Cancelled, Event, Execution, Expired, Fill, Filled, Rejected
from schemas.fills import PublicFill
from schemas.ids import format_order_id
from schemas.refusals import sentence
from schemas.store import LeaseStep, OrderStatus, Store
from schemas.tape import Candle, Tape
from schemas.units import format_time, format_usd

KEPT = 256
"""Changes that a channel keeps for readers who were away."""
LEVELS = 50
"""Prices a side that depth shows."""
CANDLES = 200
"""Candles in a whole."""
FILLS = 50
"""Fills in a whole."""
ORDERS = 500
"""Open orders in a whole, the newest."""
LEASES = 500
"""Of them in a whole, of those bought and of those sold, the newest."""
TURN = 250
"""Readers of heartbeats told at a time: thousands may do nothing else."""
MISSED_AT_ONCE = 100
"""Changes that are made ready at a time for who reads on."""

OF_AN_ORDER = (Accepted, Amended, Cancelled, Expired, Filled, Rejected)
"""Events that say what became of one order; a Fill says it of two."""

Body = dict[str, Any]
_json = msgspec.json.Encoder()


class Subscriber(Protocol):
    """Who reads channels; messages are frames as they are sent."""

    def tell(self, channel: "Channel", message: bytes) -> None:
        """A change. Does not wait: who has no room for it pauses the channel, or keeps it."""
        ...

    async def send(self, message: bytes) -> None:
        """Waits until there is room for it."""
        ...


class Channel(ABC):
    """What is told alike to all its subscribers."""

    conflates = True
    """A reader that is slow may get the whole in place of changes: nothing is lost but what was in between."""

    def __init__(self, name: dict[str, str]) -> None:
        self.name = name
        """As in a subscription: `channel`, and what further tells it from others."""
        self.stream = secrets.token_hex(4)
        self.number = 0
        """Of the last change."""
        self.readers: set[Subscriber] = set()
        """Who wants to be told."""
        self.subscribers: dict[Subscriber, int] = {}
        """Those of them who were told all so far; each with the change after which it began."""
        self._kept: deque[bytes] = deque(maxlen=KEPT)

    @abstractmethod
    async def whole(self) -> tuple[int, Body]:
        """The channel as it is now, with the number of a change that is in it; those behind that may be, too."""

    def change(self, body: Body) -> None:
        """Tells the next change."""
        message = self._next(body)
        for subscriber in list(self.subscribers):
            subscriber.tell(self, message)

    async def change_by_turns(self, body: Body, turn: int) -> None:
        """Likewise, where there may be thousands to tell: others have their say after `turn` of them. No other change
        may come meanwhile."""
        message, number = self._next(body), self.number
        for told, subscriber in enumerate(list(self.subscribers), 1):
            if self.subscribers.get(subscriber, number) < number:
                subscriber.tell(self, message)
            if not told % turn:
                await asyncio.sleep(0)

    async def since(self, number: int) -> list[bytes] | None:
        """The first changes behind that number; None where the channel has forgotten some, or has not come so far."""
        missing = self.number - number
        if not 0 <= missing <= len(self._kept):
            return None
        first = len(self._kept) - missing
        return list(islice(self._kept, first, first + MISSED_AT_ONCE))

    async def place(self, after: int | None, run: str) -> int | None:
        """Where a reader can go on that knows the change `after` of that run of the channel; None: by a whole."""
        if after is None or run != self.stream or await self.since(after) is None:
            return None
        return after

    async def join(self, subscriber: Subscriber, after: int | None) -> None:
        """From now on it is told all changes: those behind `after`, or else behind a whole, which it is told first.
        Takes as long as the subscriber takes to have room for them."""
        self.pause(subscriber)
        at = after
        while at != self.number:
            missed = None if at is None else await self.since(at)
            if at is None or missed is None:
                at, whole = await self.whole()
                missed = [self._message("whole", at, whole)]
            else:
                at += len(missed)
            for message in missed:
                await subscriber.send(message)
        self.subscribers[subscriber] = at

    def pause(self, subscriber: Subscriber) -> None:
        """It is told nothing until it joins again."""
        self.subscribers.pop(subscriber, None)

    def _next(self, body: Body) -> bytes:
        self.number += 1
        message = self._message("change", self.number, body)
        self._kept.append(message)
        return message

    def _message(self, kind: str, number: int, body: Body) -> bytes:
        head = {**self.name, "type": kind, "stream": self.stream, "number": number}
        assert head.keys().isdisjoint(body), f"a {self.name['channel']} must not say {head.keys() & body.keys()} itself"
        return text_frame(_json.encode(head | body))


class Depth(Channel):
    """A class's book for windows of one length that begin now."""

    def __init__(self, name: dict[str, str], books: Books, class_id: str, duration_ms: int) -> None:
        super().__init__(name)
        self._books = books
        self._class_id = class_id
        self._duration_ms = duration_ms
        self._shown: BookView | None = None

    async def whole(self) -> tuple[int, Body]:
        await self.look()
        view = self._shown
        assert view is not None, "a class never goes away"
        body = _depth(view, [_level(level) for level in view.asks], [_level(level) for level in view.bids])
        return self.number, body

    async def look(self) -> None:
        """Tells what has changed in the book since the last look."""
        view = await self._books.book(self._class_id, 0, self._duration_ms, LEVELS)
        before, self._shown = self._shown, view
        if view is None or before is None or (view.asks, view.bids) == (before.asks, before.bids):
            return
        self.change(_depth(view, _changed(before.asks, view.asks), _changed(before.bids, view.bids)))


class Fills(Channel):
    """A class's fills, by their own numbers."""

    conflates = False

    def __init__(self, name: dict[str, str], tape: Tape, class_id: str) -> None:
        super().__init__(name)
        self.stream = "fills"
        self.number = tape.last(class_id)
        self._tape = tape
        self._class_id = class_id

    async def whole(self) -> tuple[int, Body]:
        return self.number, {"fills": self._tape.after(self._class_id, max(0, self.number - FILLS)) or []}

    async def since(self, number: int) -> list[bytes]:
        """A reader must not miss a fill without knowing. Raises ApiError 410."""
        fills = self._tape.after(self._class_id, number)
        if fills is None:
            raise ApiError(
                410, "gone", f"the fills behind {number} are not all kept here: read GET /v1/fills first", "after"
            )
        return [self._message("change", fill.number, {"fill": fill}) for fill in fills[:MISSED_AT_ONCE]]

    async def place(self, after: int | None, run: str) -> int | None:
        """The numbers are of one run for ever. Raises ApiError 410."""
        if after is not None:
            await self.since(after)
        return after

    def take(self, fill: PublicFill) -> None:
        assert fill.number == self.number + 1, f"fill {fill.number} of {fill.class_id} follows {self.number}"
        self.change({"fill": fill})


class Candles(Channel):
    """A class's candles of one interval."""

    def __init__(self, name: dict[str, str], tape: Tape, class_id: str, interval: str) -> None:
        super().__init__(name)
        self._tape = tape
        self._class_id = class_id
        self._interval = interval
        self._told = 0, 0
        """Of the newest candle that was told: its start and its fills."""

    async def whole(self) -> tuple[int, Body]:
        return self.number, {"candles": [terms.shown_candle(candle) for candle in self._newest(CANDLES)]}

    def look(self) -> None:
        """Tells the newest candles: all that can have changed since the last look."""
        candles, told = self._newest(CANDLES), self._told
        if candles and told != (now := (candles[-1].start, candles[-1].fills)):
            self._told = now
            self.change({"candles": [terms.shown_candle(candle) for candle in candles if candle.start >= told[0]]})

    def _newest(self, limit: int) -> list[Candle]:
        return self._tape.candles(self._class_id, self._interval, before=1 << 62, limit=limit)


class Quote(Channel):
    """A class's ticker."""

    def __init__(self, name: dict[str, str], tape: Tape, class_id: str, now: Callable[[], int]) -> None:
        super().__init__(name)
        self._tape = tape
        self._class_id = class_id
        self._now_ms = now
        self._told: Body | None = None

    async def whole(self) -> tuple[int, Body]:
        return self.number, self._now()

    def look(self) -> None:
        told = self._now()
        if told != self._told:
            self._told = told
            self.change(told)

    def _now(self) -> Body:
        ticker = self._tape.ticker(self._class_id, self._now_ms())
        body: Body = msgspec.to_builtins(terms.shown_ticker(self._class_id, ticker))
        return {name: body[name] for name in ("last", "time", "day")}  # its number is of fills, and not of this channel


class Orders(Channel):
    """What becomes of an account's orders: for its own keys alone. The whole is its open orders."""

    conflates = False

    def __init__(self, name: dict[str, str], account: int, store: Store, replies: Sequence[Replies]) -> None:
        super().__init__(name)
        self._account = account
        self._store = store
        self._replies = replies

    async def whole(self) -> tuple[int, Body]:
        number = self.number
        await settled(self._store, self._replies)
        orders = await self._store.orders(
            self._account, status=OrderStatus.OPEN, class_id=None, before=None, limit=ORDERS
        )
        return number, {"orders": [terms.shown_order(order, None) for order in orders]}

    def take(self, execution: Execution) -> None:
        """Tells what it says of the account."""
        for event in execution.events:
            for body in news(event, execution.position, self._account):
                self.change({"time": format_time(execution.time), **body})


class Leases(Channel):
    """What becomes of an account's leases, as buyer and as supplier: for its own keys alone, and never how to reach the
    machines. The whole is those that are not closed.

    The numbers are the database's: the same at each gateway, and after each restart.
    """

    conflates = False

    def __init__(self, name: dict[str, str], account: int, store: Store, run: str, number: int) -> None:
        super().__init__(name)
        self.account = account
        self.stream, self.number = run, number
        self._store = store

    async def whole(self) -> tuple[int, Body]:
        now = await self._store.leases_now(self.account, after=self.number, limit=LEASES)
        shown = [terms.shown_lease(lease, self.account, None, in_list=True) for lease in now.leases]
        body: Body = {"leases": shown}
        if not self.take(now.steps):
            self._begin_anew(now.number, body)
        return now.number, body

    async def since(self, number: int) -> list[bytes] | None:
        known = await super().since(number)
        if known is not None or not 0 <= number < self.number:
            return known
        steps = await self._store.lease_steps({self.account: number}, each=MISSED_AT_ONCE)
        if not steps or steps[0].number != number + 1:
            return None
        return [self._message("change", step.number, _step(step)) for step in steps if step.number <= self.number]

    def take(self, steps: Sequence[LeaseStep]) -> bool:
        """Tells those that are new; False where some before them are not kept."""
        for step in steps:
            if step.number > self.number + 1:
                return False
            if step.number > self.number:
                self.change(_step(step))
        return True

    def _begin_anew(self, number: int, whole: Body) -> None:
        """Changes are lost for good: who reads is told the whole."""
        self._kept.clear()
        self.number = number
        message = self._message("whole", number, whole)
        for subscriber in list(self.subscribers):
            subscriber.tell(self, message)


class Heartbeats(Channel):
    """The exchange's clock and how far its log is answered: also a sign that the connection lives."""

    def __init__(self, name: dict[str, str], replies: Sequence[Replies], now: Callable[[], int]) -> None:
        super().__init__(name)
        self._replies = replies
        self._now_ms = now

    async def whole(self) -> tuple[int, Body]:
        return self.number, self._now()

    async def look(self) -> None:
        await self.change_by_turns(self._now(), TURN)

    def _now(self) -> Body:
        positions = [reply.position for reply in self._replies]
        return {
            "time": format_time(self._now_ms()),
            "position": [None if position < 0 else format_order_id(position) for position in positions],
        }


def accounts_in(execution: Execution) -> set[int]:
    """The accounts of whose orders it says something."""
    accounts = set()
    for event in execution.events:
        if isinstance(event, Fill):
            accounts |= {event.buyer, event.seller}
        elif isinstance(event, OF_AN_ORDER):
            accounts.add(event.account)
    return accounts


def checksum(asks: Sequence[BookLevel], bids: Sequence[BookLevel]) -> int:
    """CRC-32 of `price:quantity:orders` of each level, best first, joined by `,`; asks and bids joined by `;`."""
    sides = (
        ",".join(f"{format_usd(level.price)}:{level.quantity}:{level.orders}" for level in side)
        for side in (asks, bids)
    )
    return zlib.crc32(";".join(sides).encode())


def _depth(view: BookView, asks: list[list[Any]], bids: list[list[Any]]) -> Body:
    return {
        "position": None if view.position < 0 else format_order_id(view.position),
        "time": format_time(view.time),
        "start": format_time(view.start),
        "asks": asks,
        "bids": bids,
        "checksum": checksum(view.asks, view.bids),
    }


def _step(step: LeaseStep) -> Body:
    """A lease as it became then, for the account whose step it is."""
    event = step.event
    body: Body = {"event": event.type.removeprefix("lease."), "time": event.timestamp}
    data: Body = msgspec.to_builtins(event.data)
    return body | data


def _level(level: BookLevel) -> list[Any]:
    return [format_usd(level.price), level.quantity, level.orders]


def _changed(before: Sequence[BookLevel], now: Sequence[BookLevel]) -> list[list[Any]]:
    """The levels that are new or other, and with quantity 0 those that are no more."""
    known, there = {level.price: level for level in before}, {level.price for level in now}
    gone = [[format_usd(price), 0, 0] for price in known if price not in there]
    return gone + [_level(level) for level in now if known.get(level.price) != level]


def news(event: Event, position: int, account: int) -> list[Body]:
    """What an event says of an account's orders; of a fill within one account, both sides."""
    if isinstance(event, Fill):
        fill = msgspec.to_builtins(terms.shown_fill((position, event.index), event))
        bid = {"event": "fill", "order_id": format_order_id(event.bid_id), "left": event.bid_left, **fill}
        ask = {"event": "fill", "order_id": format_order_id(event.ask_id), **fill}
        return [*([bid] if event.buyer == account else []), *([ask] if event.seller == account else [])]
    if not isinstance(event, OF_AN_ORDER) or event.account != account:
        return []
    told: Body = {"event": type(event).__name__.lower()}
    if isinstance(event, Rejected):
        told |= {"client_order_id": event.client_order_id}
        return [told | {"code": event.code.value, "message": sentence(event.code, event.args)}]
    if isinstance(event, Accepted):
        told |= {"order_id": format_order_id(position), "client_order_id": event.client_order_id}
        return [told | {"class": event.class_id, "quantity": event.quantity, "price": format_usd(event.price)}]
    told |= {"order_id": format_order_id(event.order_id), "left": 0 if isinstance(event, Filled) else event.left}
    if isinstance(event, Amended):
        told |= {"quantity": event.quantity, "price": format_usd(event.price)}
    if isinstance(event, Cancelled):
        told |= {"reason": event.reason.value}
    return [told]
