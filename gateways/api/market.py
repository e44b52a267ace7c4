"""Which classes there are and where each lives; and the rules by which the engine takes an order."""

import asyncio
import time
import zlib
from typing import Protocol

from gateways.api.errors import refused, unknown
from gateways.api.replies import Replies, settled
from schemas.attributes import ClassSpec
from schemas.commands import CreateClass, Extend, PlaceAsk, PlaceBid
from schemas.events import Rejected
from schemas.log import Log
from schemas.refusals import Args, Refusal
from schemas.store import Listing, Store
from schemas.topics import COMMANDS

REFRESH_S = 5.0
MISS_REFRESH_S = 0.2
"""How soon the store is asked again after it did not know a class."""


class Checks(Protocol):
    """The engine's own checks, so that what it would refuse is refused before anything is written.

    Each gives None, or the refusal's code and its arguments. `matching_engine.checks` is one.
    """

    def check_ask(self, ask: PlaceAsk, start: int, spec: ClassSpec, now: int) -> tuple[Refusal, Args] | None: ...

    def check_bid(
        self, bid: PlaceBid, starts: tuple[int, ...], spec: ClassSpec, now: int
    ) -> tuple[Refusal, Args] | None: ...

    def check_extend(self, extend: Extend, spec: ClassSpec, now: int) -> tuple[Refusal, Args] | None: ...

    def check_class(self, spec: ClassSpec) -> tuple[Refusal, Args] | None: ...


class Classes:
    """The classes, as the store had them a moment ago."""

    def __init__(self, log: Log, store: Store, replies: list[Replies], checks: Checks, timeout_s: float) -> None:
        self._log = log
        self._store = store
        self._replies = replies
        self._checks = checks
        self._timeout_s = timeout_s
        self._known: dict[str, Listing] = {}
        self._known_at = -REFRESH_S
        self._refreshing = asyncio.Lock()

    def at_hand(self, class_id: str) -> Listing | None:
        """The class, where it is known without asking the store."""
        return self._known.get(class_id) if time.monotonic() - self._known_at <= REFRESH_S else None

    async def listing(self, class_id: str) -> Listing:
        """Raises ApiError 404."""
        listing = self.at_hand(class_id) or await self._find(class_id)
        if listing is None:
            raise refused(Refusal.UNKNOWN_CLASS, (class_id,))
        return listing

    async def all(self) -> list[Listing]:
        """By class_id."""
        await self._refresh(MISS_REFRESH_S)
        return [self._known[class_id] for class_id in sorted(self._known)]

    async def create(self, spec: ClassSpec) -> Listing:
        """Opens the book; returns once it is open. Raises ApiError."""
        wrong = self._checks.check_class(spec)
        if wrong is not None:
            raise refused(*wrong)
        if await self._find(spec.class_id) is not None:
            raise refused(Refusal.CLASS_EXISTS, (spec.class_id,))
        partition = zlib.crc32(spec.class_id.encode()) % self._log.partitions(COMMANDS)
        try:
            execution = await self._replies[partition].say(CreateClass(spec), self._timeout_s)
        except TimeoutError:
            raise unknown("look for the class in the list of classes") from None
        for event in execution.events:
            if isinstance(event, Rejected):
                raise refused(event.code, event.args)
        listing = self._known[spec.class_id] = Listing(spec, partition)
        return listing

    async def changed(self) -> None:
        """Some were changed: from now on they are what settlement has of all that was answered so far."""
        await settled(self._store, self._replies)
        await self._refresh(0)

    async def _find(self, class_id: str) -> Listing | None:
        await self._refresh(REFRESH_S)
        if class_id not in self._known:
            await self._refresh(MISS_REFRESH_S)
        return self._known.get(class_id)

    async def _refresh(self, older_than_s: float) -> None:
        # Who comes meanwhile waits for what is on its way, and is not told that it is not there.
        async with self._refreshing:
            if time.monotonic() - self._known_at > older_than_s:
                self._known |= {listing.spec.class_id: listing for listing in await self._store.classes()}
                self._known_at = time.monotonic()
