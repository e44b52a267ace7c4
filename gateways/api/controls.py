"""Commands that name no order: for all of an account, for a class, for the whole exchange.

What concerns all classes is appended to every partition, and done when all have answered (rulebook: Halt). Each says
how things are to be from now on: sent again it changes nothing more.
"""

import asyncio
from collections.abc import Iterable

from gateways.api import resources
from gateways.api.errors import ApiError, invalid, refused, unknown
from gateways.api.market import Classes
from gateways.api.replies import Replies, settled
from gateways.api.terms import moment
from schemas.codec import encode
from schemas.commands import CancelAll, Command, RenewDeadMan, Side
from schemas.events import AllCancelled, Event, Execution, Rejected
from schemas.log import Log, LogError
from schemas.refusals import Refusal
from schemas.store import ApiKey, OrderStatus, Scope, Store
from schemas.units import SECOND_MS, format_time

_SCOPES = {Side.BID: Scope.TRADE, Side.ASK: Scope.SUPPLY}


class Controls:
    """Sends them, and says what the engines answered."""

    def __init__(self, log: Log, store: Store, replies: list[Replies], classes: Classes, timeout_s: float) -> None:
        self._log = log
        self._store = store
        self._replies = replies
        self._classes = classes
        self._timeout_s = timeout_s

    async def cancel_all(self, key: ApiKey, class_id: str | None) -> resources.AllCancelled:
        """Raises ApiError."""
        partitions = await self._partitions(class_id)
        await self._may_end_all(key, class_id)
        events = await self._done(CancelAll(key.account.id, class_id or ""), partitions)
        orders = sum(event.orders for event in events if isinstance(event, AllCancelled))
        return resources.AllCancelled(class_id=class_id, orders=orders)

    async def arm_dead_man(self, key: ApiKey, body: resources.NewDeadMan) -> resources.DeadMan:
        """Raises ApiError."""
        if (body.seconds is None) == (body.until is None):
            raise invalid("", "say when: seconds from now, or until")
        now = self._log.now()
        until = now + (body.seconds or 0) * SECOND_MS * self._log.speed
        if body.until is not None:
            until = moment("until", body.until, now)
        if until <= now:
            message = f"until {format_time(until)} is not after now, {format_time(now)}"
            raise ApiError(422, Refusal.EXPIRY_PAST.value, message, "until")
        return await self._set_dead_man(key, until)

    async def disarm_dead_man(self, key: ApiKey) -> resources.DeadMan:
        """Raises ApiError."""
        return await self._set_dead_man(key, 0)

    async def _set_dead_man(self, key: ApiKey, until: int) -> resources.DeadMan:
        await self._may_end_all(key, None)
        await self._done(RenewDeadMan(key.account.id, until), await self._partitions(None))
        return resources.DeadMan(until=format_time(until) if until else None)

    async def _may_end_all(self, key: ApiKey, class_id: str | None) -> None:
        """Raises ApiError 403 where the account has open orders that this key may not cancel one by one."""
        if not key.scopes >= set(_SCOPES.values()):
            await settled(self._store, self._replies)
        for side, scope in _SCOPES.items():
            if scope not in key.scopes and await self._store.orders(
                key.account.id, status=OrderStatus.OPEN, class_id=class_id, before=None, limit=1, side=side
            ):
                raise ApiError(403, "missing_scope", f"the account has open {side.name.lower()}s: this needs {scope}")

    async def _partitions(self, class_id: str | None) -> Iterable[int]:
        """Where the class lives; of no class, all. Raises ApiError 404."""
        if class_id is None:
            return range(len(self._replies))
        return [(await self._classes.listing(class_id)).partition]

    async def _done(self, command: Command, partitions: Iterable[int]) -> list[Event]:
        """The events of all answers. Raises ApiError: the refusal, or that not all have answered."""
        answers = await asyncio.gather(*(self._answer(partition, encode(command)) for partition in partitions))
        events = [event for answer in answers for event in answer.events]
        for event in events:
            if isinstance(event, Rejected):
                raise refused(event.code, event.args)
        return events

    async def _answer(self, partition: int, command: bytes) -> Execution:
        try:
            return await self._replies[partition].ask(command, self._timeout_s)
        except (TimeoutError, LogError):
            raise unknown("send it again, which is safe") from None
