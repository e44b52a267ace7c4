"""A market of random dealings, settled by the real service on a real Postgres, round by round.

A round: gateways place intents; then engines, parties and meters write a thousand and more records; then settlement
applies them all, in batches of the size that is tried; then what it told the engines begins the next round. So the same
seed gives the same records whatever the batches are, and what settlement made of them can be compared to the last byte.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Self

import asyncpg

from gateways.api.orders import further_hold
from matching_engine.engine import Engine
from schemas import codec, topics, units
from schemas.commands import (
    Amend,
    Cancel,
    CancelAll,
    ChangeClass,
    Command,
    CreateClass,
    Extend,
    Halt,
    Kill,
    PlaceAsk,
    PlaceBid,
    RenewDeadMan,
    Return,
    SetReference,
    Tick,
    Unreadable,
    Withdraw,
)
from schemas.ids import LeaseId, partition_of
from schemas.instructions import Instruction, UsageReport
from schemas.log import Log
from schemas.store import Amendment, Intent, OrderStatus, PlaceStatus, Spender, SpenderKind
from settlement.audit import audit
from settlement.service import SettlementService
from settlement.store import Store
from tests.simulation.dealings import CLASSES, NAMES, SPENDERS, T0, Dealings, Said
from tests.simulation.recorded_log import RecordedLog

PARTITIONS = len(CLASSES)
ORDERS = 0.22
"""Of a round's records, those that are orders through gateways; and amends:"""
AMENDS = 0.01
LOST = 0.03
"""Of the orders and amends that gateways wrote down, those that never reach the log."""
STEPS_MS = (0, 1, 800, 2_000, 20_000)
AT_ONCE = 500
"""Intents in one write: the most that go in as one, and so in the order in which they came."""
PATIENCE_S = 120.0

Settle = Callable[[], Awaitable[None]]
"""Returns once all that the log holds is applied, and the engines' commands are sent."""


class Simulation:
    """The exchange, with everything but its clock, its log's disk and its HTTP."""

    @classmethod
    async def open(cls, store: Store, log: RecordedLog, seed: int, settle: Settle) -> Self:
        """With its accounts, their caps, and the classes."""
        made = [
            await store.create_account(name, buyer_fee_bps=37 * place, seller_fee_bps=91, owner=None, now=T0)
            for place, name in enumerate(NAMES)
        ]
        for account in made:
            await store.set_caps(account.id, SpenderKind.TEAM, "ml", day_cap=400 * units.MICRO, month_cap=None, most=10)
            await store.set_caps(account.id, SpenderKind.POOL, "ci", day_cap=None, month_cap=900 * units.MICRO, most=10)
        return cls(store, log, Dealings(seed, made), settle)

    def __init__(self, store: Store, log: RecordedLog, dealings: Dealings, settle: Settle) -> None:
        self.dealings = dealings
        self.written = 0
        """Records in the log, but for those of the engines."""
        self.store = store
        """Another where its server is another."""
        self._log = log
        self._settle = settle
        self._engines = [Engine(partition) for partition in range(PARTITIONS)]
        self._next = [0] * PARTITIONS
        self._told = [0] * PARTITIONS
        for spec in CLASSES:
            self._say(CreateClass(spec))

    async def round(self, count: int) -> None:
        """So many records more, settled."""
        for command in self._from_settlement():
            self._say(command)
        plan: list[Said | None] = [None] * count
        entered = await self._through_gateways(count)
        places = sorted(self.dealings.rng.sample(range(count), len(entered)))
        for place, command in zip(places, entered, strict=True):
            plan[place] = command
        for said in plan:
            self.dealings.now += self.dealings.rng.choice(STEPS_MS)
            self._say(self.dealings.draw() if said is None else said)
        await self._settle()

    async def check(self) -> None:
        """Raises AssertionError where a micro-dollar is missing, or anything does not agree."""
        found = await audit(self.store, self._log)
        where = f"after {self.written} records: {found.text()}"
        assert found.findings == [], where
        assert found.imbalance_microusd == 0, where

    def _from_settlement(self) -> list[Command | Unreadable]:
        """What settlement sent since. It says so at least once and in any order, so here: once and in order."""
        found: list[Command | Unreadable] = []
        for partition in range(PARTITIONS):
            records = self._log.records[topics.COMMANDS, partition]
            values = sorted({record.value for record in records[self._told[partition] :]})
            self._told[partition] = len(records)
            found += map(codec.decode_command, values)
        return found

    async def _through_gateways(self, count: int) -> list[Command]:
        """Orders and amends that gateways wrote down, and that reach the log; some reach it never."""
        dealings = self.dealings
        step_ms = sum(STEPS_MS) / len(STEPS_MS) / ORDERS
        orders = [dealings.order(dealings.now + int(n * step_ms)) for n in range(int(count * ORDERS))]
        entered: list[Command] = []
        for first in range(0, len(orders), AT_ONCE):
            some = orders[first : first + AT_ONCE]
            intents = [_intent(order, dealings.rng.choice(SPENDERS)) for order in some]
            placed = await asyncio.gather(*(self.store.place(intent, now=dealings.now) for intent in intents))
            answers = Counter(answer.status for answer in placed)
            dealings.said.update({f"order {status}": number for status, number in answers.items()})
            entered += [order for order, answer in zip(some, placed, strict=True) if answer.status is PlaceStatus.NEW]
        for _ in range(int(count * AMENDS)):
            amend = dealings.amend()
            if amend is not None and await self._placed(amend):
                entered.insert(0, amend)
        return [command for command in entered if dealings.rng.random() >= LOST]

    async def _placed(self, amend: Amend) -> bool:
        order = await self.store.order(amend.terms.account, amend.order_id)
        if order is None or order.status is not OrderStatus.OPEN or not order.command:
            return False
        amendment = Amendment(
            account=amend.terms.account,
            client_order_id=amend.terms.client_order_id,
            order_id=amend.order_id,
            partition=order.partition,
            command=codec.encode(amend),
            digest=b"",
            not_after=amend.terms.not_after,
            hold=further_hold(order, amend.terms),
            spender=order.spender,
        )
        placed = await self.store.place_amend(amendment, terms=order.command, now=self.dealings.now)
        self.dealings.said[f"amend {placed.status}"] += 1
        return placed.status is PlaceStatus.NEW

    def _say(self, said: Said | Unreadable) -> None:
        """Writes it where it belongs, at the time that it is."""
        self._log.time = self.dealings.now
        self.written += 1
        match said:
            case bytes():
                topic = topics.USAGE if self.written % 2 else topics.INSTRUCTIONS
                self._log.put(topic, 0, said)
            case UsageReport():
                self._log.put(topics.USAGE, _partition_of(said.lease), codec.encode(said))
            case _ if isinstance(said, Instruction):
                lease: LeaseId = getattr(said, "lease", (0, 0))
                self._log.put(topics.INSTRUCTIONS, _partition_of(lease), codec.encode(said))
            case _:
                for partition in _partitions(said):
                    self._command(partition, said)

    def _command(self, partition: int, command: Any) -> None:
        """An engine answers it, as its service would."""
        execution = self._engines[partition].apply(self._next[partition], self.dealings.now, command)
        self._next[partition] += 1
        self._log.put(topics.EXECUTIONS, partition, codec.encode(execution))
        self.dealings.note(command, execution)


def settling_in_process(store: Store, log: RecordedLog, max_poll: int) -> Settle:
    """Settlement starts, applies what there is in batches of at most `max_poll` records, and is stopped."""

    async def settle() -> None:
        await settled(store, log, max_poll)

    return settle


async def settled(store: Store, log: Log, max_poll: int) -> None:
    """Raises what settlement raises."""
    service = SettlementService(log, store, max_poll=max_poll)
    running = asyncio.create_task(service.run())
    ready = asyncio.create_task(service.ready.wait())
    try:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
            while not running.done() and await store.outbox(1):  # noqa: ASYNC110 - it says so to nobody
                await asyncio.sleep(0.005)
        if running.done():
            running.result()
    finally:
        running.cancel()
        ready.cancel()
        await asyncio.wait({running, ready})


async def ledger_digest(dsn: str) -> str:
    """A hash over all that settlement keeps: entries in their order, every row of every other table, and the order in
    which the records of all topics were applied. Not over the numbers that sequences gave, which a batch that was tried
    twice uses up, nor over where one batch ended and the next began."""
    digest = hashlib.blake2b(digest_size=16)
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            async for row in connection.cursor(ENTRIES, prefetch=5_000):
                digest.update(repr(tuple(row)).encode())
            for (table,) in await connection.fetch(OTHER_TABLES):
                digest.update(table.encode())
                async for (text,) in connection.cursor(ROWS.format(table=table), prefetch=5_000):
                    digest.update(text.encode())
            for run in _joined(await connection.fetch(JOURNAL)):
                digest.update(repr(run).encode())
    finally:
        await connection.close()
    return digest.hexdigest()


ENTRIES = """
SELECT reference, time, ledger_account, amount FROM transactions JOIN entries ON transaction = id
ORDER BY transaction, ledger_account
"""
OTHER_TABLES = """
SELECT tablename FROM pg_tables WHERE schemaname = 'public'
AND tablename NOT IN ('migrations', 'transactions', 'entries', 'journal') ORDER BY 1
"""
ROWS = 'SELECT each::text COLLATE "C" AS text FROM {table} AS each ORDER BY text'
JOURNAL = (
    "SELECT topic, partition, first_offset, last_offset FROM journal WHERE first_offset <= last_offset ORDER BY seq"
)


def _joined(rows: list[Any]) -> list[list[Any]]:
    """Runs of the journal, those that follow each other as one."""
    joined: list[list[Any]] = []
    for topic, partition, first, last in rows:
        if joined and joined[-1][:2] == [topic, partition] and joined[-1][3] + 1 == first:
            joined[-1][3] = last
        else:
            joined.append([topic, partition, first, last])
    return joined


def _partition_of(lease: LeaseId) -> int:
    """As the API does; what names no lease has to go somewhere as well."""
    partition = partition_of(lease[0])
    return partition if 0 <= partition < PARTITIONS else 0


def _partitions(command: Any) -> range | tuple[int]:
    """Where a command is appended."""
    match command:
        case CreateClass(spec) | ChangeClass(spec):
            return (_of_class(spec.class_id),)
        case PlaceAsk() | PlaceBid() | SetReference() | Halt():
            return (_of_class(command.class_id),)
        case Cancel() | Amend():
            return (partition_of(command.order_id),)
        case Extend() | Return() | Withdraw():
            return (partition_of(command.fill[0]),)
        case CancelAll() | Kill() | RenewDeadMan() | Tick():
            return range(PARTITIONS)
    raise TypeError(f"no partition is known for {command}")


def _of_class(class_id: str) -> int:
    return [spec.class_id for spec in CLASSES].index(class_id)


def _intent(order: PlaceAsk | PlaceBid, spender: Spender) -> Intent:
    hold = 0
    if isinstance(order, PlaceBid):
        hold = units.hold(order.price, order.quantity, order.duration, order.fee_bps)
    return Intent(
        command=order,
        class_id=order.class_id,
        partition=_of_class(order.class_id),
        digest=b"",
        hold=hold,
        spender=spender,
    )
