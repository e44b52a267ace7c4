"""The stream's channels, and who keeps them told: looks at books and the tape, hears fills and the engine's answers."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import TypeVar

from gateways.api.channels import (
    Candles,
    Channel,
    Depth,
    Fills,
    Heartbeats,
    Leases,
    Orders,
    Quote,
    Subscriber,
    accounts_in,
)
from gateways.api.errors import ApiError, invalid
from gateways.api.market import Classes
from gateways.api.replies import Replies
from gateways.api.terms import choice
from schemas.book import Books
from schemas.events import Execution
from schemas.fills import PublicFill
from schemas.store import Store, StoreError
from schemas.tape import INTERVALS, Tape
from schemas.units import DAY_MS, HOUR_MS

WINDOWS = {"1h": HOUR_MS, "24h": DAY_MS, "7d": 7 * DAY_MS, "30d": 30 * DAY_MS}
"""Of depth: from now on, so long."""
DEPTH_S = 0.1
"""Between two looks at books: the most often that depth changes."""
TAPE_S = 0.25
"""Likewise of candles and tickers."""
LEASES_S = 0.05
"""Between two looks at what became of leases, at least: settlement has moved on then."""
LEASES_AGAIN_S = 1.0
"""A look is taken so often where nothing is heard of settlement."""
STEPS_AT_ONCE = 200
"""Of an account's leases."""
HEARTBEAT_S = 1.0
LINGER_S = 60.0
"""A channel without readers is kept so long, for who comes back."""
MAX_CHANNELS = 20_000

FIELDS: dict[str, tuple[str, ...]] = {
    "depth": ("class", "window"),
    "fills": ("class",),
    "candles": ("class", "interval"),
    "ticker": ("class",),
    "orders": (),
    "leases": (),
    "heartbeats": (),
}
"""Of each channel, what tells it from others of its kind."""
PRIVATE = ("orders", "leases")
"""Each account has its own."""
DEFAULTS = {"window": "24h", "interval": "1h"}

AnyChannel = TypeVar("AnyChannel", bound=Channel)
Fields = Mapping[str, str]
"""What a subscription says of its channel."""


class Stream:
    """All channels that somebody reads. `run` ends only by being cancelled, or with the error that ended it."""

    def __init__(
        self,
        *,
        store: Store,
        books: Books,
        tape: Tape,
        classes: Classes,
        replies: Sequence[Replies],
        now: Callable[[], int],
    ) -> None:
        self._store = store
        self._books = books
        self._tape = tape
        self._classes = classes
        self._replies = replies
        self._now = now
        self._channels: dict[tuple[str, ...], Channel] = {}
        self._deserted: dict[Channel, float] = {}
        """Those without readers, and since when."""
        tape.listeners.append(self._hear_fill)
        for reply in replies:
            reply.listeners.append(self._hear_execution)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_books())
            group.create_task(self._watch_tape())
            group.create_task(self._watch_leases())
            group.create_task(self._beat())

    async def channel(self, fields: Fields, account: int | None) -> Channel:
        """The channel of that description. `account` is who asks, None: nobody in particular. Raises ApiError."""
        name = await self._checked(fields)
        is_private = name["channel"] in PRIVATE
        if is_private and account is None:
            raise ApiError(401, "unauthorized", 'say first who you are: {"op": "auth", "key": "cx_…"}')
        key = (*name.values(), str(account)) if is_private else tuple(name.values())
        channel = self._channels.get(key)
        if channel is None:
            if len(self._channels) >= MAX_CHANNELS:
                raise ApiError(429, "busy", f"{MAX_CHANNELS} channels are kept already: try again later")
            made = await self._made(name, account)
            channel = self._channels.setdefault(key, made)  # another may have made it meanwhile
            self._look_after(channel)
        return channel

    async def join(self, channel: Channel, subscriber: Subscriber, after: int | None) -> None:
        """The subscriber reads the channel from now on: behind that change, or else from a whole on."""
        channel.readers.add(subscriber)
        self._deserted.pop(channel, None)
        await channel.join(subscriber, after)

    def leave(self, channel: Channel, subscriber: Subscriber) -> None:
        channel.pause(subscriber)
        channel.readers.discard(subscriber)
        self._look_after(channel)

    def _look_after(self, channel: Channel) -> None:
        if not channel.readers:
            self._deserted[channel] = asyncio.get_running_loop().time()

    async def _checked(self, fields: Fields) -> dict[str, str]:
        """What names the channel. Raises ApiError."""
        kind = fields.get("channel", "")
        wanted = choice("channel", FIELDS, kind)
        for field in fields:
            if field != "channel" and field not in wanted:
                raise invalid(field, f"{kind} has no {field}: it has {', '.join(wanted) or 'no fields'}")
        name = {"channel": kind}
        for field in wanted:
            name[field] = fields.get(field, DEFAULTS.get(field, ""))
        if "class" in wanted:
            await self._classes.listing(name["class"])
        if "window" in wanted:
            choice("window", WINDOWS, name["window"])
        if "interval" in wanted:
            choice("interval", INTERVALS, name["interval"])
        return name

    async def _made(self, name: dict[str, str], account: int | None) -> Channel:
        match name["channel"]:
            case "depth":
                return Depth(name, self._books, name["class"], WINDOWS[name["window"]])
            case "fills":
                return Fills(name, self._tape, name["class"])
            case "candles":
                return Candles(name, self._tape, name["class"], name["interval"])
            case "ticker":
                return Quote(name, self._tape, name["class"], self._now)
            case "orders":
                assert account is not None
                return Orders(name, account, self._store, self._replies)
            case "leases":
                assert account is not None
                return Leases(name, account, self._store, *await self._store.reads_leases(account))
            case _:
                return Heartbeats(name, self._replies, self._now)

    def _read(self, kind: type[AnyChannel]) -> list[AnyChannel]:
        """The channels of a kind that somebody reads."""
        return [channel for channel in self._channels.values() if isinstance(channel, kind) and channel.subscribers]

    async def _watch_books(self) -> None:
        while True:
            for depth in self._read(Depth):
                await depth.look()
            await asyncio.sleep(DEPTH_S)

    async def _watch_tape(self) -> None:
        while True:
            for candles in self._read(Candles):
                candles.look()
            for quote in self._read(Quote):
                quote.look()
            await asyncio.sleep(TAPE_S)

    async def _watch_leases(self) -> None:
        """Looks when settlement has moved on."""
        while True:
            reading = {channel.account: channel for channel in self._read(Leases)}
            with contextlib.suppress(StoreError):  # later, when the database is back
                await self._look_at_leases(reading)
            await asyncio.sleep(LEASES_S)
            await self._store.moved(LEASES_AGAIN_S)

    async def _look_at_leases(self, reading: Mapping[int, Leases]) -> None:
        if not reading:
            return
        after = {account: channel.number for account, channel in reading.items()}
        steps = await self._store.lease_steps(after, each=STEPS_AT_ONCE)
        for account, of_account in groupby(steps, key=lambda step: step.account):
            if not reading[account].take(list(of_account)):
                await reading[account].whole()

    async def _beat(self) -> None:
        while True:
            for heartbeats in self._read(Heartbeats):
                await heartbeats.look()
            self._forget_deserted()
            await asyncio.sleep(HEARTBEAT_S)

    def _forget_deserted(self) -> None:
        now = asyncio.get_running_loop().time()
        old = {channel for channel, since in self._deserted.items() if now - since > LINGER_S}
        if old:
            self._deserted = {channel: since for channel, since in self._deserted.items() if channel not in old}
            self._channels = {key: channel for key, channel in self._channels.items() if channel not in old}

    def _hear_fill(self, fill: PublicFill) -> None:
        channel = self._channels.get(("fills", fill.class_id))
        if isinstance(channel, Fills):
            channel.take(fill)

    def _hear_execution(self, execution: Execution) -> None:
        for account in accounts_in(execution):
            channel = self._channels.get(("orders", str(account)))
            if isinstance(channel, Orders):
                channel.take(execution)
