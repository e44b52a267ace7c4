"""What traded: a fold of the public fills into candles, and the newest fills themselves."""

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from itertools import islice

from msgspec import Struct

from schemas.codec import decode_fill
from schemas.fills import PublicFill
from schemas.log import Log
from schemas.tape import INTERVALS, Candle, Ticker
from schemas.topics import FILLS
from schemas.units import DAY_MS, MINUTE_MS, cost, parse_time, parse_usd

MAX_CANDLES = 5_000
"""Of one class and interval, the newest: of minutes above three days, of hours above half a year."""
MAX_RECENT = 5_000
"""Fills of one class, the newest."""
MAX_POLL = 2_000


class Traded(Struct):
    """One class's fills so far."""

    number: int
    price: int
    time: int
    recent: deque[PublicFill]
    candles: dict[str, list[Candle]]
    """By interval, oldest first; up to twice as many as are promised."""


class Tape:
    """`schemas.tape.Tape` over all partitions. `run` ends only by being cancelled, or with the error that ended it."""

    def __init__(self, log: Log) -> None:
        self.ready = asyncio.Event()
        """Set when all fills that the log held at the start are folded."""
        self.listeners: list[Callable[[PublicFill], None]] = []
        self._log = log
        self._classes: dict[str, Traded] = {}

    async def run(self) -> None:
        """Folds the fills of all partitions as they come."""
        caught_up = [asyncio.Event() for _ in range(self._log.partitions(FILLS))]
        async with asyncio.TaskGroup() as group:
            for partition, event in enumerate(caught_up):
                group.create_task(self._fold(partition, event))
            for event in caught_up:
                await event.wait()
            self.ready.set()

    def candles(self, class_id: str, interval: str, *, before: int, limit: int) -> list[Candle]:
        traded = self._classes.get(class_id)
        if traded is None:
            return []
        candles = traded.candles[interval]
        end = bisect_left(candles, before, key=_start)
        return candles[max(0, end - limit) : end]

    def ticker(self, class_id: str, now: int) -> Ticker | None:
        traded = self._classes.get(class_id)
        if traded is None:
            return None
        minutes = traded.candles["1m"]
        since = now // MINUTE_MS * MINUTE_MS + MINUTE_MS - DAY_MS
        return Ticker(
            traded.price, traded.time, traded.number, joined(minutes[bisect_left(minutes, since, key=_start) :])
        )

    def after(self, class_id: str, number: int) -> list[PublicFill] | None:
        traded = self._classes.get(class_id)
        if traded is None:
            return [] if number == 0 else None
        missing = traded.number - number
        if not 0 <= missing <= len(traded.recent):
            return None
        return list(islice(traded.recent, len(traded.recent) - missing, None))

    def last(self, class_id: str) -> int:
        traded = self._classes.get(class_id)
        return 0 if traded is None else traded.number

    def add(self, fill: PublicFill) -> None:
        """The next fill of its class; one that is known already changes nothing, as a fill may come twice."""
        traded = self._classes.get(fill.class_id)
        if traded is None:
            traded = Traded(0, 0, 0, deque(maxlen=MAX_RECENT), {interval: [] for interval in INTERVALS})
            self._classes[fill.class_id] = traded
        if fill.number <= traded.number:
            return
        traded.number, traded.price, traded.time = fill.number, parse_usd(fill.price), parse_time(fill.time)
        traded.recent.append(fill)
        for interval, candles in traded.candles.items():
            _add(candles, fill, traded.price, traded.time // INTERVALS[interval] * INTERVALS[interval])
        for listener in self.listeners:
            listener(fill)

    async def _fold(self, partition: int, caught_up: asyncio.Event) -> None:
        end = await self._log.end(FILLS, partition)
        offset = 0
        reader = await self._log.reader(FILLS, partition, offset)
        try:
            while True:
                if offset >= end:
                    caught_up.set()
                for record in await reader.poll(MAX_POLL):
                    self.add(decode_fill(record.value))
                    offset = record.offset + 1
                await asyncio.sleep(0)
        finally:
            await reader.close()


def joined(candles: list[Candle]) -> Candle | None:
    """Neighbouring candles as one; None of none."""
    if not candles:
        return None
    return Candle(
        candles[0].start,
        candles[0].open,
        max(candle.high for candle in candles),
        min(candle.low for candle in candles),
        candles[-1].close,
        sum(candle.fills for candle in candles),
        sum(candle.gpu_ms for candle in candles),
        sum(candle.value for candle in candles),
    )


def _add(candles: list[Candle], fill: PublicFill, price: int, start: int) -> None:
    if not candles or candles[-1].start < start:  # time never runs backwards in the log
        candles.append(Candle(start, price, price, price, price, 0, 0, 0))
        if len(candles) > 2 * MAX_CANDLES:
            del candles[:-MAX_CANDLES]
    candle = candles[-1]
    length = parse_time(fill.end) - parse_time(fill.start)
    candle.high, candle.low, candle.close = max(candle.high, price), min(candle.low, price), price
    candle.fills += 1
    candle.gpu_ms += fill.quantity * length
    candle.value += cost(price, fill.quantity, length)


def _start(candle: Candle) -> int:
    return candle.start
