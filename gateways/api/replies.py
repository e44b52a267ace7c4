"""The engine's answers as they come, so that a request can wait for its own: the tail of one partition's executions."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from msgspec.structs import replace

from gateways.api.errors import REQUEST
from schemas.codec import decode_execution, encode
from schemas.commands import Command
from schemas.events import Accepted, Amended, Cancelled, Execution, Expired, Fill
from schemas.executions import Follower
from schemas.ids import position as place_of
from schemas.log import Log, LogError, Reader
from schemas.store import Store
from schemas.topics import COMMANDS, EXECUTIONS

MAX_RECENT = 4096
"""Answers kept for those who come to ask a little late."""
LOOK_BACK = 1000
"""A second engine may leave late duplicates at the end of the topic: the last position is the largest of so many."""

APPLIED_TIMEOUT_S = 2.0
"""How long a reader of its own writes waits for settlement."""

Answer = TypeVar("Answer")


class Waiters(Generic[Answer]):
    """Who waits for what, by a number. Bounded by the requests in flight."""

    def __init__(self) -> None:
        self._waiting: dict[int, set[asyncio.Future[Answer]]] = {}

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    def add(self, key: int) -> asyncio.Future[Answer]:
        """Done with what `wake` gives. Goes by itself when it is done or cancelled."""
        waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, set()).add(waiter)
        waiter.add_done_callback(lambda done: self._remove(key, done))
        return waiter

    def wake(self, key: int, answer: Answer) -> None:
        """Gives all who wait for `key` the answer."""
        for waiter in self._waiting.get(key, ()):
            if not waiter.done():
                waiter.set_result(answer)

    def _remove(self, key: int, waiter: asyncio.Future[Answer]) -> None:
        waiting = self._waiting[key]
        waiting.discard(waiter)
        if not waiting:
            del self._waiting[key]


class Replies:
    """One partition. `start` before the first request is taken; `run` ends only with an error or by being cancelled."""

    def __init__(self, log: Log, partition: int) -> None:
        self.listeners: list[Callable[[Execution], None]] = []
        """Each hears every answer from now on, once and in order."""
        self._log = log
        self._partition = partition
        self._follower = Follower()
        self._recent: OrderedDict[int, Execution] = OrderedDict()
        self._answers: Waiters[Execution] = Waiters()
        self._orders: Waiters[int] = Waiters()
        self._reader: Reader | None = None

    @property
    def position(self) -> int:
        """Of the last answer seen; -1 before the first."""
        return self._follower.position

    async def start(self) -> None:
        """Finds the end. Raises LogError."""
        end = await self._log.end(EXECUTIONS, self._partition)
        offset = max(0, end - LOOK_BACK)
        self._reader = await self._log.reader(EXECUTIONS, self._partition, offset)
        position = -1
        while offset < end:
            records = await self._reader.poll(end - offset, timeout_s=10.0)
            if not records:
                raise LogError(f"{EXECUTIONS}, partition {self._partition}, could not be read to its end in 10 s")
            offset += len(records)
            position = max(position, *(decode_execution(record.value).position for record in records))
        self._follower = Follower(position)

    async def run(self) -> None:
        """Raises GapError and LogError: then the log is damaged, and this process must end (crash-only)."""
        assert self._reader is not None
        try:
            while True:
                for record in await self._reader.poll():
                    self._take(decode_execution(record.value))
        finally:
            await self._reader.close()

    def hear(self, execution: Execution) -> None:
        """The next answer, from an engine in this process that has not appended it yet.

        It is certain: its command is in the log, and from the log every engine makes the same answer (rulebook,
        Determinism). One that is not the next comes by the log.
        """
        if execution.prev == self._follower.position:
            self._take(execution)

    def known(self, position: int) -> Execution | None:
        """The answer to that command, if it is among the newest."""
        return self._recent.get(position)

    async def answer(self, position: int, timeout_s: float) -> Execution:
        """The answer to the command at that position. Raises TimeoutError."""
        known = self._recent.get(position)
        if known is not None:
            return known
        async with asyncio.timeout(timeout_s):
            return await self._answers.add(position)

    async def ask(self, command: bytes, timeout_s: float) -> Execution:
        """Appends the command; its answer. Raises TimeoutError, and LogError: then too it may still be done."""
        (offset,) = await self._log.append(COMMANDS, self._partition, [command])
        return await self.answer(place_of(self._partition, offset), timeout_s)

    async def say(self, command: Command, timeout_s: float) -> Execution:
        """`ask`, of a command of the request that is being answered: it says whose it is."""
        return await self.ask(encode(replace(command, request_id=REQUEST.get())), timeout_s)

    def changes(self, order_id: int) -> asyncio.Future[int]:
        """Done with the position of the next answer that touches the order; to be cancelled when not needed."""
        return self._orders.add(order_id)

    def _take(self, execution: Execution) -> None:
        if not self._follower.accept(execution):
            return
        position = execution.position
        self._recent[position] = execution
        if len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)
        if self._answers:
            self._answers.wake(position, execution)
        for event in execution.events if self._orders else ():
            if isinstance(event, Fill):
                self._orders.wake(event.bid_id, position)
                self._orders.wake(event.ask_id, position)
            elif isinstance(event, Amended | Cancelled | Expired):
                self._orders.wake(event.order_id, position)
            elif isinstance(event, Accepted):
                self._orders.wake(position, position)
        for listener in self.listeners:
            listener(execution)


async def settled(store: Store, replies: Sequence[Replies]) -> None:
    """Returns once settlement has applied all that was answered before, or after a bounded wait."""
    await asyncio.gather(
        *(store.wait_applied(partition, reply.position, APPLIED_TIMEOUT_S) for partition, reply in enumerate(replies))
    )
