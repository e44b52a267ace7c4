"""The engines' books, read only, so that gateways can ask for them: of an engine that runs in this process its own,
else those of the same fold over the same commands."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from matching_engine.asks import for_sale
from matching_engine.engine import Engine
from matching_engine.orders import Limits
from matching_engine.replay import next_offset
from matching_engine.service import EngineService
from matching_engine.why import why
from schemas.attributes import Attributes
from schemas.book import BookLevel, BookView, Offer, OffersView, Preview, Reason, Standing
from schemas.codec import decode_command
from schemas.commands import PlaceAsk, PlaceBid
from schemas.events import Cancelled, Execution, Fill, Rejected
from schemas.ids import partition_of
from schemas.log import Log
from schemas.topics import COMMANDS
from schemas.units import ceil_grid

MAX_POLL = 500
MAX_FOLDED = 25
"""Commands folded at a time: other tasks of the process need not wait longer than some half a ms."""
PACE_S = 0.05
"""How far a book may be behind, beside the way of the commands themselves."""
MAX_VIEWS = 1024
"""Views kept for who asks for the same again before the next command."""

MAX_ASKS = 10_000
"""Looked at for one view of offers."""

_View = tuple[str, int, int, int]


class Replica:
    """`schemas.book.Previews` and `Standings` over all partitions. `beside` are the engines of the first of them that
    run in this process: to fold their commands once more would cost as much as to match them.

    `run` ends only by being cancelled, or with the error that ended it.
    """

    def __init__(self, log: Log, beside: Sequence[EngineService] = ()) -> None:
        self.ready = asyncio.Event()
        """Set when all commands that the log held at the start are folded."""
        self._log = log
        self._beside = beside
        self._engines = [Engine(partition) for partition in range(log.partitions(COMMANDS))]
        self._views: dict[_View, BookView] = {}
        self._offers: dict[_View, OffersView] = {}
        self._waiting: set[asyncio.Future[None]] = set()
        """Who waits for commands to be folded: bounded by the requests under way."""

    async def run(self) -> None:
        """Folds the commands of all partitions as they come."""
        ends = [await self._log.end(COMMANDS, partition) for partition in range(len(self._engines))]
        async with asyncio.TaskGroup() as group:
            for service in self._beside:
                service.listeners.append(self._hear)
            for partition in range(len(self._beside), len(self._engines)):
                group.create_task(self._fold(partition, ends[partition]))
            for partition, service in enumerate(self._beside):
                await service.ready.wait()
                self._engines[partition] = service.engine
            await self._until(
                lambda: all(
                    next_offset(engine.position) >= end for engine, end in zip(self._engines, ends, strict=True)
                )
            )
            self.ready.set()

    async def book(self, class_id: str, start_ms: int, duration_ms: int, levels: int) -> BookView | None:
        """The view over `[start_ms, start_ms + duration_ms)`, as `schemas.book.Books` says."""
        key = (class_id, start_ms, duration_ms, levels)
        view = self._views.get(key)
        if view is None:
            engine = next((engine for engine in self._engines if class_id in engine.books), None)
            if engine is None:
                return None
            view = _view(engine, *key)
            if len(self._views) < MAX_VIEWS:
                self._views[key] = view
        return view

    async def offers(self, class_id: str, start_ms: int, duration_ms: int, limit: int) -> OffersView | None:
        """As `schemas.book.Offers` says; of asks the cheapest `MAX_ASKS` are looked at."""
        key = (class_id, start_ms, duration_ms, limit)
        view = self._offers.get(key)
        if view is None:
            engine = next((engine for engine in self._engines if class_id in engine.books), None)
            if engine is None:
                return None
            view = _offers_view(engine, *key)
            if len(self._offers) < MAX_VIEWS:
                self._offers[key] = view
        return view

    async def preview(self, command: PlaceBid | PlaceAsk, position: int, timeout_s: float) -> Preview:
        """As `schemas.book.Previews` says."""
        return _preview(await self._folded_to(position, timeout_s), command)

    async def why(self, order_id: int, position: int, timeout_s: float) -> Reason:
        """Likewise."""
        engine = await self._folded_to(position, timeout_s)
        order = engine.order(order_id)
        return Reason(engine.position, engine.now, None if order is None else why(order, engine.now))

    async def _folded_to(self, position: int, timeout_s: float) -> Engine:
        """The engine of the position's partition, once it has come so far. Raises TimeoutError."""
        partition = partition_of(position) if position >= 0 else 0
        async with asyncio.timeout(timeout_s):
            await self._until(lambda: self._engines[partition].position >= position)
        return self._engines[partition]

    async def standing(self, account: int, positions: Sequence[int], timeout_s: float) -> Standing:
        """As `schemas.book.Standings` says."""
        async with asyncio.timeout(timeout_s):
            await self._until(
                lambda: all(engine.position >= at for engine, at in zip(self._engines, positions, strict=True))
            )
        # What concerns all classes is said to every partition, so that all know the same of an account.
        known = [party for engine in self._engines if (party := engine.party(account)) is not None]
        limits = next((party.limits for party in known if party.limits is not None), Limits(account))
        return Standing(
            killed=any(party.killed for party in known),
            open_orders=limits.open_orders,
            notional=limits.notional,
            quantity=limits.quantity,
            dead_man=max((party.dead_man for party in known), default=0),
        )

    async def _until(self, is_so: Callable[[], bool]) -> None:
        """Returns once that is so, which changes only as commands are folded."""
        while not is_so():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)

    def _hear(self, _: Execution) -> None:
        """An engine of this process has answered a command."""
        self._views.clear()
        self._offers.clear()
        if self._waiting:
            self._wake()

    def _wake(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def _fold(self, partition: int, end: int) -> None:
        """`end` is where the log ended at the start."""
        engine, offset = self._engines[partition], 0
        reader = await self._log.reader(COMMANDS, partition, offset)
        try:
            while True:
                for nth, record in enumerate(await reader.poll(MAX_POLL), 1):
                    engine.apply(record.offset, record.time, decode_command(record.value))
                    offset = record.offset + 1
                    self._views.clear()
                    self._offers.clear()
                    if nth % MAX_FOLDED == 0:
                        await asyncio.sleep(0)
                self._wake()
                # Rests, so that what comes meanwhile is one poll; behind, it only lets others run.
                await asyncio.sleep(PACE_S if offset >= end else 0)
        finally:
            await reader.close()


def _view(engine: Engine, class_id: str, start_ms: int, duration_ms: int, levels: int) -> BookView:
    book = engine.books[class_id]
    start = start_ms or ceil_grid(engine.now)
    asks = (
        (ask.price, min(unsold, ask.display or unsold))
        for ask in book.asks()
        if ask.min_duration <= duration_ms and (unsold := for_sale(ask, start, start + duration_ms))
    )
    return BookView(
        class_id=class_id,
        position=engine.position,
        time=engine.now,
        start=start,
        duration=duration_ms,
        asks=_levels(asks, levels),
        bids=_levels(((bid.price, bid.left) for bid in book.bids()), levels),
    )


def _offers_view(engine: Engine, class_id: str, start_ms: int, duration_ms: int, limit: int) -> OffersView:
    start = start_ms or ceil_grid(engine.now)
    offers: dict[tuple[int, Attributes, int], Offer] = {}
    for ask in islice(engine.books[class_id].asks(), MAX_ASKS):
        if ask.min_duration > duration_ms:
            continue
        unsold = for_sale(ask, start, start + duration_ms)
        shown = min(unsold, ask.display or unsold) // ask.lot * ask.lot
        if shown:
            key = (ask.price, ask.attributes, ask.lot)
            known = offers.get(key)
            if known is None and len(offers) == limit:
                break
            known = known or Offer(*key, quantity=0, most=0, asks=0)
            offers[key] = Offer(*key, known.quantity + shown, max(known.most, shown), known.asks + 1)
    return OffersView(class_id, engine.position, engine.now, start, duration_ms, tuple(offers.values()))


def _preview(engine: Engine, command: PlaceBid | PlaceAsk) -> Preview:
    seen = engine.preview(command)
    order, as_sent = seen.order, seen.as_sent
    if order is None or as_sent is None:
        refusal = next((event.code, event.args) for event in seen.events if isinstance(event, Rejected))
        return Preview(engine.position, engine.now, refusal)
    cancelled = [event for event in seen.events if isinstance(event, Cancelled)]
    return Preview(
        position=engine.position,
        time=engine.now,
        refusal=None,
        fills=tuple(event for event in seen.events if isinstance(event, Fill)),
        cancels=tuple(event.order_id for event in cancelled if event.order_id != order.id),
        left=order.left,
        reason=next((event.reason for event in cancelled if event.order_id == order.id), None),
        until=order.leaves if order.leaves == command.expire_at else order.leaves - 1,
        why=why(as_sent, engine.now),
    )


def _levels(orders: Iterable[tuple[int, int]], most: int) -> tuple[BookLevel, ...]:
    """(price, quantity) of orders, best first -> the first `most` prices."""
    levels: dict[int, BookLevel] = {}
    for price, quantity in orders:
        level = levels.get(price)
        if level is None:
            if len(levels) == most:
                break
            level = BookLevel(price, 0, 0)
        levels[price] = BookLevel(price, level.quantity + quantity, level.orders + 1)
    return tuple(levels.values())
