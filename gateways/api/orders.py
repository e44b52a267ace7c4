"""An order's way: intent and hold to the store, command to the log, answer from the execution, never from hope.

Why nothing is lost or done twice: the store knows each (account, client_order_id) for ever, and the engine until the
command's not_after. So the same bytes may be appended again, and every way ends at the first order.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from gateways.api import resources
from gateways.api.errors import ApiError, as_api_error, invalid, new_name, refused, unknown
from gateways.api.market import Checks, Classes
from gateways.api.replies import APPLIED_TIMEOUT_S, Replies, settled
from gateways.api.terms import (
    MAX_SHOWN_FILLS,
    amended_command,
    ask_command,
    bid_command,
    command_of,
    extension_command,
    fills_in,
    given,
    must_be_of_paths,
    parsed,
    plain_text,
    shown_fill,
    shown_order,
)
from schemas.attributes import ClassSpec
from schemas.codec import encode
from schemas.commands import Amend, Cancel, CancelNamed, Extend, PlaceAsk, PlaceBid, Side
from schemas.events import Accepted, Cancelled, Duplicate, Execution, Expired, Fill, Rejected
from schemas.ids import format_lease_id, format_order_id, parse_order_id, partition_of, position
from schemas.log import Log, LogError
from schemas.refusals import Args, Refusal
from schemas.store import (
    Account,
    Amendment,
    AmendStatus,
    ApiKey,
    CapReached,
    Intent,
    Lease,
    LeaseState,
    Listing,
    Order,
    OrderStatus,
    Placed,
    PlaceStatus,
    Scope,
    SshKey,
    Store,
    StoreError,
)
from schemas.topics import COMMANDS
from schemas.units import BPS, HOUR_MS, ceil_grid, format_time, format_usd, hold

LATER_FIELDS = ("display", "ssh_key")
"""Of a new order, since there were others; false where they change nothing."""

Outcome = Execution | Exception | None
"""The engine's answer to an order, or why there is none; None where it was not new, and the store has the answer."""
Hear = Callable[[Outcome], None]
Waiter = asyncio.Future[Execution | None]
NewOrder = resources.NewBid | resources.NewAsk
Answered = tuple[resources.Order, bool]
"""The order, and whether it was there before."""
Value = TypeVar("Value")

_digest_form = msgspec.msgpack.Encoder()


class Begun(Struct):
    """An order that is on its way, or was there before."""

    intent: Intent
    at: int
    """ms."""
    answer: Waiter | None = None
    """Where somebody awaits it."""
    written: Placed | None = None
    """What the store has said."""


class Desk:
    """Places, amends, cancels and shows orders."""

    def __init__(
        self, log: Log, store: Store, replies: list[Replies], classes: Classes, checks: Checks, timeout_s: float
    ) -> None:
        self._log = log
        self._store = store
        self._replies = replies
        self._classes = classes
        self._checks = checks
        self._timeout_s = timeout_s
        self._under_way: dict[tuple[int, str], list[Hear]] = {}
        """Orders that this process has sent and that are not answered: who waits for each, equal ones together."""
        self._unsent: dict[int, list[Order]] = {}
        """Of them by partition those of this turn of the event loop."""
        self._expected: dict[int, tuple[int, str]] = {}
        """Likewise those that are in the log, by position. Bounded by what comes in `timeout_s`."""
        for reply in replies:
            reply.listeners.append(self._hear)
        self._sending: set[asyncio.Task[None]] = set()

    async def place(self, key: ApiKey, body: NewOrder) -> Answered:
        """The order, and whether it was there before. Raises ApiError."""
        now = self._log.now()
        ssh_keys = await self._store.ssh_keys(key.account.id) if _ssh_name(body) is not None else []
        return await self._answer(await self._begun(key, body, ssh_keys, now))

    def place_soon(
        self,
        key: ApiKey,
        body: NewOrder,
        told: Callable[[Callable[[], resources.Order | Coroutine[Any, Any, Answered]]], None],
    ) -> bool:
        """`place`, where the store need not be asked anything before: whether that is so. `told` hears what makes the
        answer: the new order, or what has to be awaited for whatever else became of it. Raises ApiError."""
        listing = self._classes.at_hand(body.class_id)
        if listing is None or _ssh_name(body) is not None:
            return False
        now = self._log.now()
        intent, wrong = self._understood(key, body, "", listing, now)
        if wrong is not None:
            return False
        begun, command = Begun(intent, now), intent.command
        assert not isinstance(command, Extend), "an extension is no new order"

        def hear(outcome: Outcome) -> None:
            order = None if begun.written is None else begun.written.order
            if isinstance(outcome, Execution) and order is not None and _is_accepted(outcome):
                told(partial(_as_accepted, order, outcome, command))
            else:
                told(partial(self._answer_to, begun, outcome))

        self._begin(begun, hear)
        return True

    async def begin_many(self, key: ApiKey, bodies: Sequence[NewOrder | ApiError]) -> list[Begun | ApiError]:
        """All that are right are on their way, in order: they share a write, and an append a partition."""
        now = self._log.now()
        names_key = any(not isinstance(body, ApiError) and _ssh_name(body) is not None for body in bodies)
        ssh_keys = await self._store.ssh_keys(key.account.id) if names_key else []
        return [
            body if isinstance(body, ApiError) else await _or_refusal(self._begun(key, body, ssh_keys, now))
            for body in bodies
        ]

    async def answer_many(self, begun: Sequence[Begun | ApiError]) -> list[Answered | ApiError]:
        """Each as `place` answers it, in order."""
        return [each if isinstance(each, ApiError) else await _or_refusal(self._answer(each)) for each in begun]

    async def _begun(self, key: ApiKey, body: NewOrder, ssh_keys: Sequence[SshKey], now: int) -> Begun:
        """The order on its way. Raises ApiError."""
        intent, first = await self._prepared(key, body, ssh_keys, now)
        if first is not None:
            return Begun(intent, now, written=Placed(PlaceStatus.REPLAY, first))
        return self._awaited(intent, now)

    async def understood(self, key: ApiKey, body: NewOrder) -> tuple[PlaceBid | PlaceAsk, int]:
        """The command that the order would be sent as now, and how far its partition has answered. Raises ApiError."""
        ssh_keys = await self._store.ssh_keys(key.account.id)
        intent, _ = await self._prepared(key, body, ssh_keys, self._log.now())
        assert not isinstance(intent.command, Extend), "an extension is no new order"
        return intent.command, self._replies[intent.partition].position

    async def _prepared(
        self, key: ApiKey, body: NewOrder, ssh_keys: Sequence[SshKey], now: int
    ) -> tuple[Intent, Order | None]:
        """What an order is to be entered as; and the first one of its name, where that alone makes it right.

        Raises ApiError.
        """
        listing = await self._classes.listing(body.class_id)
        ssh_name = _ssh_name(body)
        ssh_key = next((known.public_key for known in ssh_keys if known.name == ssh_name), "")
        intent, wrong = self._understood(key, body, ssh_key, listing, now)
        if wrong is None and ssh_name is not None and not ssh_key:
            wrong = Refusal.UNKNOWN_SSH_KEY, (ascii(ssh_name)[1:65],)
        first = None
        if wrong is not None:
            # An order that was right when it was first sent may be late by now: then it is a repeat all the same.
            named = body.client_order_id
            first = None if named is None else await self._store.order_by_client_id(key.account.id, named)
            if first is None:
                raise refused(*wrong)
        return intent, first

    def _understood(
        self, key: ApiKey, body: NewOrder, ssh_key: str, listing: Listing, now: int
    ) -> tuple[Intent, tuple[Refusal, Args] | None]:
        """What an order of a class is to be entered as, with that public key; and what is wrong with it by the rules.
        Raises ApiError."""
        client_order_id = _name_for(body.client_order_id)
        account = key.account.at(now)  # for the fee that the order is stamped with
        command: PlaceBid | PlaceAsk
        if isinstance(body, resources.NewBid):
            command = bid_command(body, account, client_order_id, now, self._log.speed)
        else:
            command = ask_command(body, account, client_order_id, now, self._log.speed)
        wrong = self._check(command, listing.spec, now)
        intent = Intent(
            command=command,
            class_id=body.class_id,
            partition=listing.partition,
            digest=meaning(body),
            hold=_hold(command, command.quantity) if isinstance(command, PlaceBid) else 0,
            spender=key.spender,
            ssh_key=ssh_key,
        )
        return intent, wrong

    async def extend(self, key: ApiKey, lease: Lease, body: resources.NewExtension) -> Answered:
        """The bid that makes a lease of the account longer, and whether it was there before. Raises ApiError."""
        account = key.account
        client_order_id = _name_for(body.client_order_id)
        digest = meaning(body, about=format_lease_id(lease.id))
        named = body.client_order_id is not None
        if named and (first := await self._store.order_by_client_id(account.id, client_order_id)) is not None:
            return await self._repeat(first, digest)
        if lease.next is not None:
            raise ApiError(
                409,
                "lease_extended",
                f"the lease goes on with {format_lease_id(lease.next)}: extend that one",
                "lease_id",
            )
        if lease.ends_at is not None or lease.state is LeaseState.CLOSED:
            raise refused(Refusal.LEASE_STATE, (format_lease_id(lease.id), lease.state, "running to its end"))
        now, listing = self._log.now(), await self._classes.listing(lease.class_id)
        command = extension_command(body, lease, account, client_order_id, now, self._log.speed)
        if (wrong := self._checks.check_extend(command, listing.spec, now)) is not None:
            raise refused(*wrong)
        intent = Intent(
            command=command,
            class_id=lease.class_id,
            partition=partition_of(lease.id[0]),
            digest=digest,
            hold=hold(command.price, command.quantity, command.end - command.start, command.fee_bps),
            spender=key.spender,
            ssh_key=lease.ssh_key,
        )
        return await self._answer(self._awaited(intent, now))

    def _awaited(self, intent: Intent, now: int) -> Begun:
        """The intent on its way, for who awaits its answer. Raises StoreError."""
        answer: Waiter = asyncio.get_running_loop().create_future()
        begun = Begun(intent, now, answer)
        self._begin(begun, partial(_tell, answer))
        return begun

    def _begin(self, begun: Begun, hear: Hear) -> None:
        """The intent is to be written, with what it holds, and sent; `hear` is told what became of it. Raises
        StoreError."""

        def told(outcome: Placed | Exception) -> None:
            """It goes on its way at once, not when this request's turn comes round, and also where the caller left."""
            if isinstance(outcome, Exception):
                hear(outcome)
                return
            begun.written = outcome
            if outcome.status is PlaceStatus.NEW and outcome.order is not None:
                self._append([outcome.order])
                self._under_way[outcome.order.account, outcome.order.client_order_id].append(hear)
            else:
                hear(None)

        self._store.place_soon(begun.intent, now=begun.at, told=told)

    async def _answer(self, begun: Begun) -> Answered:
        """The order, and whether it was there before. Raises ApiError."""
        outcome: Outcome = None
        if begun.answer is not None:
            try:
                outcome = await begun.answer
            except (TimeoutError, LogError) as error:
                outcome = error
        return await self._answer_to(begun, outcome)

    async def _answer_to(self, begun: Begun, outcome: Outcome) -> Answered:
        """Likewise, where that is what became of it."""
        intent, placed = begun.intent, begun.written
        if isinstance(outcome, TimeoutError | LogError):
            raise _unknown(intent.command.client_order_id)
        if isinstance(outcome, Exception):
            raise outcome
        assert placed is not None, "told before there was an answer"
        if placed.status is PlaceStatus.NO_FUNDS:
            raise _no_funds("the order", "held", intent.hold, placed.cash)
        if placed.cap is not None:
            raise _over_cap("the order can cost", intent.hold, placed.cap, begun.at)
        assert placed.order is not None, "only an order without funds, or over a cap, is not there"
        if outcome is not None:
            return await self._shown(placed.order, outcome), False
        return await self._repeat(placed.order, intent.digest)

    async def amend(self, key: ApiKey, order_id: int, body: resources.NewTerms) -> tuple[resources.Order, bool]:
        """The order as it stands then, and whether the same amend was there before. Raises ApiError."""
        account, amend_id = key.account, body.amend_id if body.amend_id is not None else new_name()
        plain_text("amend_id", amend_id)
        order = await self._own(account.id, order_id)
        _may_end(key, order)
        name, digest = _amend_name(order_id, amend_id), meaning(body)
        known = None if body.amend_id is None else await self._store.amendment(account.id, name)
        if known is not None:
            return await self._repeat_amend(known, digest), True
        await self.settled(order.partition)
        order, now = await self._own(account.id, order_id), self._log.now()
        if order.status is not OrderStatus.OPEN:
            raise refused(Refusal.UNKNOWN_ORDER, (format_order_id(order_id),))
        terms = amended_command(body, order, account, name, now, self._log.speed)
        old = command_of(order)
        only_less = terms.quantity <= old.quantity and given(body).keys() <= {"quantity"}
        if not only_less and terms.quantity > order.filled * (order.side is Side.BID):
            listing = await self._classes.listing(order.class_id)
            if (wrong := self._check(terms, listing.spec, now)) is not None:
                raise refused(*wrong)
        amendment = Amendment(
            account=account.id,
            client_order_id=name,
            order_id=order_id,
            partition=order.partition,
            command=encode(Amend(order_id, terms)),
            digest=digest,
            not_after=terms.not_after,
            hold=0 if only_less else further_hold(order, terms),
            spender=order.spender,
        )
        placed = await self._store.place_amend(amendment, terms=order.command, now=now)
        match placed.status:
            case PlaceStatus.NEW:
                return await self._send_amend(amendment), False
            case PlaceStatus.NO_FUNDS:
                raise _no_funds("the amend", "further held", amendment.hold, placed.cash)
            case PlaceStatus.OVER_CAP if placed.cap is not None:
                raise _over_cap("the amend can cost further", amendment.hold, placed.cap, now)
            case PlaceStatus.BUSY:
                raise ApiError(
                    409,
                    "amend_under_way",
                    f"the order {format_order_id(order_id)} is being changed right now: look at it, and amend it again",
                    "order_id",
                )
        assert placed.amendment is not None, "an amend that is not new is there"
        return await self._repeat_amend(placed.amendment, digest), True

    async def cancel(self, key: ApiKey, order_id: int) -> resources.Order:
        """The order as it stands after it: cancelled, or as it had ended before. Raises ApiError."""
        return await self._whole(await self._cancel(key, await self._own(key.account.id, order_id)))

    async def cancel_named(self, key: ApiKey, client_order_id: str) -> resources.Order:
        """Likewise; an order that has no answer yet can be cancelled so. Raises ApiError."""
        order = await self._named(key.account.id, client_order_id)
        if order.status is OrderStatus.SENT:
            await self.settled(order.partition)
            order = await self._named(key.account.id, client_order_id)
        return await self._whole(await self._cancel(key, order))

    async def cancel_many(self, key: ApiKey, names: Sequence[resources.OrderName]) -> list[resources.Order | ApiError]:
        """Each as `cancel` or `cancel_named` answers it, in order, without its fills."""
        keys = [await _or_refusal(self._key_of(name)) for name in names]
        found = await self._by_key(key.account.id, keys)
        if sent := {order.partition for order in found.values() if order.status is OrderStatus.SENT}:
            await asyncio.gather(*map(self.settled, sent))
            found = await self._by_key(key.account.id, keys)

        async def cancel(this: int | str) -> resources.Order:
            if this in found:
                return shown_order(await self._cancel(key, found[this]), None)
            raise _no_order(this) if isinstance(this, int) else _no_name(this)

        return await asyncio.gather(
            *(_itself(this) if isinstance(this, ApiError) else _or_refusal(cancel(this)) for this in keys)
        )

    async def _key_of(self, name: resources.OrderName) -> int | str:
        """The order's id, once settlement knows the order; or its client_order_id. Raises ApiError."""
        if name.client_order_id is not None and name.order_id is None:
            must_be_of_paths("client_order_id", name.client_order_id)
            return name.client_order_id
        if name.order_id is None or name.client_order_id is not None:
            raise invalid("order_id", "say order_id or client_order_id: one of the two")
        order_id = parsed("order_id", parse_order_id, name.order_id)
        if order_id <= self._replies_of(order_id).position:
            await self._store.wait_applied(partition_of(order_id), order_id, APPLIED_TIMEOUT_S)
        return order_id

    async def _by_key(self, account: int, keys: Sequence[int | str | ApiError]) -> dict[int | str, Order]:
        """The account's orders, by id and by client_order_id."""
        ids, names = [key for key in keys if isinstance(key, int)], [key for key in keys if isinstance(key, str)]
        orders = await self._store.own_orders(account, ids, names)
        found: dict[int | str, Order] = {order.client_order_id: order for order in orders}
        return found | {order.order_id: order for order in orders if order.order_id is not None}

    async def _whole(self, order: Order) -> resources.Order:
        return shown_order(order, await self._fills(order))

    async def _cancel(self, key: ApiKey, order: Order) -> Order:
        """The order as it stands after it. Raises ApiError."""
        _may_end(key, order)
        if order.status not in (OrderStatus.OPEN, OrderStatus.SENT):
            return order
        account, client_order_id = order.account, order.client_order_id
        command: Cancel | CancelNamed = CancelNamed(account, client_order_id)
        if order.order_id is not None:
            command = Cancel(account, order.order_id)
        undecided = unknown(f"look at the order {client_order_id}, by its client_order_id")
        try:
            execution = await self._replies[order.partition].say(command, self._timeout_s)
        except (TimeoutError, LogError):
            raise undecided from None
        for event in execution.events:
            if isinstance(event, Cancelled) and event.order_id == order.order_id:
                return msgspec.structs.replace(
                    order,
                    status=OrderStatus.CANCELLED,
                    reason=event.reason.value,
                    filled=order.filled if order.side is Side.ASK else order.filled + order.left - event.left,
                    left=event.left,
                    held=0,
                )
            if isinstance(event, Rejected) and event.code is not Refusal.UNKNOWN_ORDER:
                raise refused(event.code, event.args)
        # It ended before the cancel came, by a fill or by time; or it had no id here when the cancel was sent.
        if not await self._store.wait_applied(order.partition, execution.position, APPLIED_TIMEOUT_S):
            raise undecided
        order = await self._named(account, client_order_id)
        if order.status is OrderStatus.SENT:
            raise ApiError(
                504,
                "unknown",
                f"the order {client_order_id} has not reached the book, and may until "
                f"{format_time(command_of(order).not_after)}: cancel it again",
            )
        return order

    async def show(self, account: Account, order_id: int) -> resources.Order:
        """As all that was answered before has left it. Raises ApiError 404."""
        self._replies_of(order_id)
        await self.settled(partition_of(order_id))
        order = await self._own(account.id, order_id)
        return shown_order(order, await self._fills(order))

    async def show_named(self, account: Account, client_order_id: str) -> resources.Order:
        """Likewise."""
        await settled(self._store, self._replies)
        order = await self._named(account.id, client_order_id)
        return shown_order(order, await self._fills(order))

    async def show_changed(self, account: Account, order_id: int, filled: int, timeout_s: float) -> resources.Order:
        """As `show`, but waits until the order ends, is amended or has filled another number than `filled`."""
        partition = partition_of(order_id)
        changes = self._replies_of(order_id).changes(order_id)
        try:
            # All that came before `changes` is in the store by now: nothing falls between.
            await self.settled(partition)
            order = await self._own(account.id, order_id)
            if order.status in (OrderStatus.OPEN, OrderStatus.SENT) and order.filled == filled:
                async with asyncio.timeout(timeout_s):
                    changed_at = await changes
                await self._store.wait_applied(partition, changed_at, APPLIED_TIMEOUT_S)
        except TimeoutError:
            pass
        finally:
            changes.cancel()
        return await self.show(account, order_id)

    def answered(self, order_id: int) -> int:
        """How far the order's partition is answered. Raises ApiError 404 where there is no such partition."""
        return self._replies_of(order_id).position

    async def settled(self, partition: int) -> None:
        """Returns once settlement has applied all that was answered before, or after a bounded wait."""
        await self._store.wait_applied(partition, self._replies[partition].position, APPLIED_TIMEOUT_S)

    def _check(self, command: PlaceBid | PlaceAsk, spec: ClassSpec, now: int) -> tuple[Refusal, Args] | None:
        if command.not_after < now:
            return Refusal.STALE, (now, command.not_after)
        if isinstance(command, PlaceBid):
            starts = tuple(start or ceil_grid(now) for start in command.starts)
            return self._checks.check_bid(command, starts, spec, now)
        return self._checks.check_ask(command, command.start or ceil_grid(now), spec, now)

    async def _repeat(self, first: Order, digest: bytes) -> Answered:
        """The same order again -> the first one, which was there before."""
        if first.digest != digest:
            raise ApiError(
                409,
                "client_order_id_reused",
                f"client_order_id {first.client_order_id} names another order: choose a new one",
                "client_order_id",
            )
        if first.status is not OrderStatus.SENT:
            return await self._stored(first), True
        if (first.account, first.client_order_id) not in self._under_way and (
            self._log.now() > command_of(first).not_after
        ):
            raise _unknown(first.client_order_id)
        return await self._shown(first, await self._answered(first)), True

    async def _answered(self, order: Order) -> Execution:
        """The engine's answer to the order, which is under way already or is appended now. Raises ApiError 504."""
        name = (order.account, order.client_order_id)
        if name not in self._under_way:
            self._append([order])
        answer: Waiter = asyncio.get_running_loop().create_future()
        self._under_way[name].append(partial(_tell, answer))
        try:
            execution = await answer
        except (TimeoutError, LogError):
            raise _unknown(order.client_order_id) from None
        assert execution is not None, "it has been written"
        return execution

    def _append(self, orders: Sequence[Order]) -> None:
        """From now on they are under way: what comes in one turn of the event loop, as when a write of intents ends,
        goes in one append a partition, in order. Not those that are so already: who sent one again may have been told
        of it before who sent it first."""
        for order in orders:
            name = (order.account, order.client_order_id)
            if name in self._under_way:
                continue
            self._under_way[name] = []
            if order.partition not in self._unsent:
                self._unsent[order.partition] = []
                asyncio.get_running_loop().call_soon(self._send, order.partition)
            self._unsent[order.partition].append(order)

    def _send(self, partition: int) -> None:
        sending = asyncio.create_task(self._sent(partition, self._unsent.pop(partition)))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    async def _sent(self, partition: int, orders: Sequence[Order]) -> None:
        """They are appended, and who waits for them has the answers as soon as those are there."""
        names = [(order.account, order.client_order_id) for order in orders]
        try:
            offsets = await self._log.append(COMMANDS, partition, [order.command for order in orders])
        except Exception as error:
            for name in names:
                self._end(name, error)
            return
        positions = [position(partition, offset) for offset in offsets]
        for place, name in zip(positions, names, strict=True):
            known = self._replies[partition].known(place)
            if known is None:
                self._expected[place] = name
            else:
                self._end(name, known)
        asyncio.get_running_loop().call_later(self._timeout_s, self._give_up, positions)

    def _hear(self, execution: Execution) -> None:
        name = self._expected.pop(execution.position, None)
        if name is not None:
            self._end(name, execution)

    def _give_up(self, positions: Sequence[int]) -> None:
        for place in positions:
            name = self._expected.pop(place, None)
            if name is not None:
                self._end(name, TimeoutError())

    def _end(self, name: tuple[int, str], outcome: Execution | Exception) -> None:
        """Tells all who wait for that order."""
        for hear in self._under_way.pop(name):
            hear(outcome)

    async def _shown(self, order: Order, execution: Execution) -> resources.Order:
        """The order as the execution of its command left it."""
        for event in execution.events:
            if isinstance(event, Accepted):
                return _as_accepted(order, execution)
            if isinstance(event, Duplicate):
                return await self._first(order, event.first, execution)
            if isinstance(event, Rejected):
                if event.code is Refusal.STALE:
                    # This copy came late; another one may have been in time.
                    return await self._first(order, None, execution)
                raise refused(event.code, event.args)
        raise _unknown(order.client_order_id)

    async def _first(self, order: Order, first: int | None, execution: Execution) -> resources.Order:
        """The answer to an earlier copy of the order's command."""
        known = None if first is None else self._replies[order.partition].known(first)
        if known is not None:
            return await self._shown(order, known)
        await self._store.wait_applied(order.partition, execution.position, self._timeout_s)
        stored = await self._store.order_by_client_id(order.account, order.client_order_id)
        if stored is None or stored.status is OrderStatus.SENT:
            raise _unknown(order.client_order_id)
        return await self._stored(stored)

    async def _stored(self, order: Order) -> resources.Order:
        """An order that the store knows the answer to. Raises ApiError where that was a refusal."""
        if order.refusal is not None:
            raise refused(order.refusal, order.refusal_args)
        if order.status is OrderStatus.LOST:
            raise ApiError(
                409,
                "order_lost",
                f"the order {order.client_order_id} never reached the book and never will, and nothing is held for it: "
                "send it with a new client_order_id",
                "client_order_id",
            )
        return shown_order(order, await self._fills(order))

    async def _send_amend(self, amendment: Amendment) -> resources.Order:
        """The amend's bytes to the log; what became of it, once settlement knows. Raises ApiError."""
        partition, order_id = amendment.partition, format_order_id(amendment.order_id)
        undecided = unknown(f"look at the order {order_id}, or send the same amend again, with its amend_id")
        try:
            execution = await self._replies[partition].ask(amendment.command, self._timeout_s)
        except (TimeoutError, LogError):
            raise undecided from None
        await self._store.wait_applied(partition, execution.position, self._timeout_s)
        known = await self._store.amendment(amendment.account, amendment.client_order_id)
        if known is None or known.status is AmendStatus.SENT:
            raise undecided
        return await self._amended(known)

    async def _repeat_amend(self, first: Amendment, digest: bytes) -> resources.Order:
        """The same amend again -> what became of the first."""
        if first.digest != digest:
            raise ApiError(
                409, "amend_id_reused", "amend_id names another amend of this order: choose a new one", "amend_id"
            )
        return await (self._send_amend(first) if first.status is AmendStatus.SENT else self._amended(first))

    async def _amended(self, amendment: Amendment) -> resources.Order:
        """The order after an amend that has its answer. Raises ApiError where that was a refusal."""
        if amendment.refusal is not None:
            raise refused(amendment.refusal, amendment.refusal_args)
        if amendment.status is AmendStatus.LOST:
            raise ApiError(
                409,
                "amend_lost",
                "the amend never reached the book and never will, and nothing is held for it: "
                "send it with a new amend_id",
                "amend_id",
            )
        order = await self._own(amendment.account, amendment.order_id)
        return shown_order(order, await self._fills(order))

    async def _own(self, account: int, order_id: int) -> Order:
        """An order of the account. Raises ApiError 404."""
        if order_id <= self._replies_of(order_id).position:
            await self._store.wait_applied(partition_of(order_id), order_id, APPLIED_TIMEOUT_S)
        order = await self._store.order(account, order_id)
        if order is None:
            raise _no_order(order_id)
        return order

    async def _named(self, account: int, client_order_id: str) -> Order:
        """Likewise."""
        order = await self._store.order_by_client_id(account, client_order_id)
        if order is None:
            raise _no_name(client_order_id)
        return order

    def _replies_of(self, order_id: int) -> Replies:
        """Raises ApiError 404 where there is no such partition."""
        partition = partition_of(order_id)
        if partition >= len(self._replies):
            raise _no_order(order_id)
        return self._replies[partition]

    async def _fills(self, order: Order) -> list[resources.OrderFill]:
        """Oldest first."""
        if order.order_id is None or not order.filled:
            return []
        leases = await self._store.leases(
            order.account,
            role=order.side,
            states=(),
            class_id=None,
            before=None,
            limit=MAX_SHOWN_FILLS,
            order_id=order.order_id,
        )
        return [shown_fill(lease.id, lease) for lease in reversed(leases)]


def meaning(
    body: resources.NewBid | resources.NewAsk | resources.NewTerms | resources.NewExtension, *, about: str = ""
) -> bytes:
    """A digest of what the caller wrote, `about` what, defaults filled in: equal for the same order sent again.

    A field that came later counts only where it says something: an order that was sent before it is still the same.
    Of an amend only what it states counts.
    """
    content = msgspec.to_builtins(body)
    if isinstance(body, resources.NewTerms):
        content = {name: value for name, value in content.items() if value is not None}
    else:
        for name in LATER_FIELDS:
            if not content.get(name):
                content.pop(name, None)
    meant = (type(body).__name__, content, about) if about else (type(body).__name__, content)
    return hashlib.sha256(_digest_form.encode(meant)).digest()


def further_hold(order: Order, terms: PlaceBid | PlaceAsk) -> int:
    """µ$ that a bid with these new terms may need beyond what it holds, whatever of it fills before they are read."""
    if isinstance(terms, PlaceAsk):
        return 0
    old = command_of(order)
    assert isinstance(old, PlaceBid)
    filled = old.quantity - order.left
    # What is missing is linear in what fills meanwhile, but for rounding: the most is at one of the two ends.
    nothing_fills = _hold(terms, max(0, terms.quantity - filled)) - order.held
    all_fills = _hold(terms, max(0, terms.quantity - old.quantity))
    rounding = any(
        _hold(each, 1) * HOUR_MS * BPS != each.price * each.duration * (BPS + each.fee_bps) for each in (old, terms)
    )
    return max(0, max(nothing_fills, all_fills) + rounding)


def _amend_name(order_id: int, amend_id: str) -> str:
    """By which the engine and the store know an amend: no caller's name for an order is like it."""
    return f"amend {hashlib.sha256(f'{order_id} {amend_id}'.encode()).hexdigest()[:48]}"


def _may_end(key: ApiKey, order: Order) -> None:
    """Raises ApiError 403."""
    needed = Scope.TRADE if order.side is Side.BID else Scope.SUPPLY
    if needed not in key.scopes:
        raise ApiError(403, "missing_scope", f"for this order it needs a key with the scope {needed}")


def _hold(bid: PlaceBid, left: int) -> int:
    return hold(bid.price, left, bid.duration, bid.fee_bps)


def _name_for(sent: str | None) -> str:
    """Of an order: as its caller named it, or a new one. Raises ApiError 400."""
    if sent is None:
        return new_name()
    must_be_of_paths("client_order_id", sent)
    return sent


def _ssh_name(body: NewOrder) -> str | None:
    """Of the account's SSH key that it names."""
    return body.ssh_key if isinstance(body, resources.NewBid) else None


def _is_accepted(execution: Execution) -> bool:
    """Whether the engine took the order, by the first answer to this copy of it."""
    return any(isinstance(event, Accepted) for event in execution.events)


def _as_accepted(order: Order, execution: Execution, sent: PlaceBid | PlaceAsk | None = None) -> resources.Order:
    """The order as the execution of its own command left it; `sent` is that, where it is at hand and no extension."""
    command = sent or command_of(order)
    filled = sum(event.quantity for event in execution.events if isinstance(event, Fill))
    left = command.quantity - filled if isinstance(command, PlaceBid) else command.quantity
    status, reason = OrderStatus.OPEN, ""
    if isinstance(command, PlaceBid) and not left:
        status = OrderStatus.FILLED
    for event in execution.events:
        if isinstance(event, Cancelled) and event.order_id == execution.position:
            status, reason = OrderStatus.CANCELLED, event.reason.value
        elif isinstance(event, Expired) and event.order_id == execution.position:
            status = OrderStatus.EXPIRED
    held = _hold(command, left) if isinstance(command, PlaceBid) and status is OrderStatus.OPEN else 0
    answered = msgspec.structs.replace(
        order,
        order_id=execution.position,
        status=status,
        filled=filled,
        left=left,
        held=held,
        reason=reason,
        created_at=execution.time,
    )
    return shown_order(answered, fills_in(execution), sent)


def _no_funds(what: str, held: str, hold: int, cash: int) -> ApiError:
    return ApiError(
        402,
        "insufficient_funds",
        f"{what} needs {format_usd(hold)} {held}, but {format_usd(cash)} is free: deposit "
        f"{format_usd(hold - cash)} more, or order less",
    )


def _over_cap(what: str, hold: int, reached: CapReached, now: int) -> ApiError:
    free = max(0, reached.cap - reached.spent - reached.committed)
    period = format_time(now)[: len("2026-11-26" if reached.period == "day" else "2026-11")]
    return ApiError(
        422,
        "over_cap",
        f"{what} {format_usd(hold)}, and of its cap of {format_usd(reached.cap)} for {period} the {reached.kind} "
        f"{reached.name} has spent {format_usd(reached.spent)} and committed {format_usd(reached.committed)}: "
        f"order for {format_usd(free)} at most, or have the cap raised",
    )


def _unknown(client_order_id: str) -> ApiError:
    return unknown(f"ask by client_order_id {client_order_id}, or send the same order again")


def _tell(waiter: Waiter, outcome: Execution | Exception | None) -> None:
    if waiter.done():
        return
    if isinstance(outcome, Exception):
        waiter.set_exception(outcome)
        waiter.exception()  # who has left does not ask for it
    else:
        waiter.set_result(outcome)


async def _or_refusal(answer: Awaitable[Value]) -> Value | ApiError:
    try:
        return await answer
    except (ApiError, StoreError, LogError) as error:
        return as_api_error(error)


async def _itself(value: Value) -> Value:
    return value


def _no_name(client_order_id: str) -> ApiError:
    return ApiError(404, Refusal.UNKNOWN_ORDER.value, f"there is no order {client_order_id} of this account")


def _no_order(order_id: int) -> ApiError:
    return ApiError(
        404, Refusal.UNKNOWN_ORDER.value, f"there is no order {format_order_id(order_id)} of this account", "order_id"
    )
