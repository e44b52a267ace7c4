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
from gateways.api.terms import changed_class, moment, parsed, shown_class
from schemas.attributes import name_of
from schemas.book import Standings
from schemas.commands import (
    CancelAll,
    ChangeClass,
    Command,
    Halt,
    HaltMode,
    Kill,
    RenewDeadMan,
    RetireClass,
    SetLimits,
    SetReference,
    Side,
)
from schemas.events import AllCancelled, Event, Execution, HaltChanged, ReferenceChanged, Rejected
from schemas.ids import format_account_id
from schemas.log import Log, LogError
from schemas.refusals import Refusal
from schemas.store import ApiKey, OrderStatus, Scope, Store
from schemas.units import SECOND_MS, format_time, format_usd, parse_usd

_SCOPES = {Side.BID: Scope.TRADE, Side.ASK: Scope.SUPPLY}


class Controls:
    """Sends them, and says what the engines answered."""

    def __init__(
        self, log: Log, store: Store, standings: Standings, replies: list[Replies], classes: Classes, timeout_s: float
    ) -> None:
        self._log = log
        self._store = store
        self._standings = standings
        self._replies = replies
        self._classes = classes
        self._timeout_s = timeout_s

    async def cancel_all(self, key: ApiKey, class_id: str | None) -> resources.AllCancelled:
        """Raises ApiError."""
        partitions = await self._partitions(class_id)
        await self._may_end_all(key, class_id)
        events = await self._done(CancelAll(key.account.id, class_id or ""), partitions)
        return _all_cancelled(class_id, events)

    async def cancel_everybody(self, class_id: str | None) -> resources.AllCancelled:
        """Raises ApiError."""
        events = await self._done(CancelAll(0, class_id or ""), await self._partitions(class_id))
        return _all_cancelled(class_id, events)

    async def halt(self, mode: HaltMode, class_id: str | None) -> resources.Halts:
        """Raises ApiError."""
        # To every partition, whatever this process knows of its classes: none may be missed.
        events = await self._answers(Halt(class_id or "", mode), await self._partitions(class_id))
        modes = {event.class_id: event.mode for event in events if isinstance(event, HaltChanged)}
        if not modes:  # else a partition without classes says that it has none
            _refuse(events)
        await self._classes.changed()
        halts = [resources.ClassHalt(class_id=name, mode=name_of(mode)) for name, mode in sorted(modes.items())]
        return resources.Halts(classes=halts)

    async def kill(self, account: int, *, on: bool) -> resources.Kill:
        """Raises ApiError."""
        await self._known(account)
        await self._done(Kill(account, on), await self._partitions(None))
        return resources.Kill(account_id=format_account_id(account), on=on)

    async def limit(self, account: int, body: resources.NewLimits) -> resources.Limits:
        """Raises ApiError."""
        await self._known(account)
        notional = parsed("notional", parse_usd, body.notional)
        limits = SetLimits(account, body.open_orders, notional, body.quantity)
        await self._done(limits, await self._partitions(None))
        return resources.Limits(
            account_id=format_account_id(account),
            open_orders=limits.open_orders,
            notional=format_usd(limits.notional),
            quantity=limits.quantity,
        )

    async def standing(self, account: int) -> resources.Standing:
        """Raises ApiError."""
        await self._known(account)
        positions = [replies.position for replies in self._replies]
        try:
            found = await self._standings.standing(account, positions, self._timeout_s)
        except TimeoutError:
            raise unknown("ask again") from None
        return resources.Standing(
            account_id=format_account_id(account),
            killed=found.killed,
            open_orders=found.open_orders,
            notional=format_usd(found.notional),
            quantity=found.quantity,
            dead_man_until=format_time(found.dead_man) if found.dead_man else None,
        )

    async def set_reference(self, class_id: str, price: int) -> resources.Reference:
        """Raises ApiError."""
        events = await self._done(SetReference(class_id, price), await self._partitions(class_id))
        await self._classes.changed()
        (made,) = [event for event in events if isinstance(event, ReferenceChanged)]
        return resources.Reference(
            class_id=class_id, price=format_usd(made.price), low=format_usd(made.low), high=format_usd(made.high)
        )

    async def change_class(self, class_id: str, body: resources.NewClassTerms) -> resources.Class:
        """Raises ApiError."""
        await self._classes.changed()
        spec = changed_class(body, await self._classes.listing(class_id))
        return await self._change(class_id, ChangeClass(spec))

    async def retire_class(self, class_id: str) -> resources.Class:
        """Raises ApiError."""
        return await self._change(class_id, RetireClass(class_id))

    async def _change(self, class_id: str, command: ChangeClass | RetireClass) -> resources.Class:
        await self._done(command, await self._partitions(class_id))
        await self._classes.changed()
        return shown_class(await self._classes.listing(class_id))

    async def _known(self, account: int) -> None:
        """Raises ApiError 404."""
        if await self._store.account(account) is None:
            raise refused(Refusal.UNKNOWN_ACCOUNT, (account,))

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
        """As `_answers`. Raises ApiError, where any of them is a refusal."""
        events = await self._answers(command, partitions)
        _refuse(events)
        return events

    async def _answers(self, command: Command, partitions: Iterable[int]) -> list[Event]:
        """The events of all answers. Raises ApiError where not all have answered."""
        answers = await asyncio.gather(*(self._answer(partition, command) for partition in partitions))
        return [event for answer in answers for event in answer.events]

    async def _answer(self, partition: int, command: Command) -> Execution:
        try:
            return await self._replies[partition].say(command, self._timeout_s)
        except (TimeoutError, LogError):
            raise unknown("send it again, which is safe") from None


def _all_cancelled(class_id: str | None, events: Iterable[Event]) -> resources.AllCancelled:
    orders = sum(event.orders for event in events if isinstance(event, AllCancelled))
    return resources.AllCancelled(class_id=class_id, orders=orders)


def _refuse(events: Iterable[Event]) -> None:
    """Raises ApiError for the first refusal."""
    for event in events:
        if isinstance(event, Rejected):
            raise refused(event.code, event.args)
