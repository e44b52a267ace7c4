"""Settlement at work: reads executions, usage and instructions, and applies them to the database, batch by batch.

A batch is one transaction: its effects, how far each partition was read, and the order in which its records were
applied. So a crash between batches loses nothing and repeats nothing, and a replay that follows the journal does the
same again. Within reach, records are merged in order of log time, so that a delivery is not judged after a deadline
that passed later than it; where that races, the journal's order decides.
"""

import asyncio
import contextlib
import heapq
import itertools
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from schemas import codec
from schemas.commands import Unreadable
from schemas.events import Execution
from schemas.executions import Follower
from schemas.ids import partition_of
from schemas.instructions import Instruction, UsageReport
from schemas.log import Log, LogError, Record
from schemas.refusals import Refusal
from schemas.topics import COMMANDS, EXECUTIONS, INSTRUCTIONS, USAGE
from settlement import tables
from settlement.books import Books, Wanted
from settlement.database import COLLISIONS, Connection, Queries, as_store_error
from settlement.leases import Refused
from settlement.metrics import SettlementMetrics
from settlement.store import Store
from settlement.tables import JournalRow, PositionRow, RefusalRow, Step
from settlement.usage import RefusedUsageRow, refused_row

TOPICS = (EXECUTIONS, INSTRUCTIONS, USAGE)
"""In the order in which records of one time are applied."""
MAX_DUE = 2_000
"""Deadlines of a kind and partition in one transaction."""
MAX_ATTEMPTS = 5
IDLE_POLL_S = 1.0
BUSY_POLL_S = 0.05
PACE_S = 0.25
"""After a batch a stream rests so long, so that what comes meanwhile shares one transaction; it is what leaves the
database to the orders' own writes. A record that comes after a rest is applied at once, and who waits ends the rest."""
MIN_PACE_S = 0.01
WATCH_S = 1.0
"""Between two looks at how far behind it is: on Kafka each is a round trip for every partition."""
MAX_CALM = 250
"""Records in one transaction while no more than a poll waits. It locks the cash of all whose orders it has until it is
on disk: with one account's two thousand others waited 30 ms for it."""
MAX_SENT = 500
"""Commands for the engine in one append."""

Message = Execution | Instruction | UsageReport | Unreadable
StreamKey = tuple[str, int]
"""(topic, partition)."""


class Item(NamedTuple):
    """A record, read and not yet applied."""

    stream: "Stream"
    offset: int
    time: int
    """ms: of an execution its own, of others the largest log time so far."""
    message: Message | None
    """None for an execution that was known already."""


class Stream:
    """One partition of one topic: how far it was applied, and what was read beyond."""

    def __init__(self, rank: int, standing: PositionRow, end: int) -> None:
        self.rank = rank
        """Its turn among streams whose next records have one time."""
        self.key: StreamKey = (standing.topic, standing.partition)
        self.standing = standing
        self.end = end
        """Of the log when settlement started."""
        self.may_have_more = standing.next_offset < end
        """Whether the log may hold records that are not here, as far as the last poll tells."""
        self.items: deque[Item] = deque()
        self.taken = asyncio.Event()
        """Set when there is room for the next poll."""
        self.wanted = asyncio.Event()
        """Set when somebody waits for what may come next."""
        self._time = standing.time
        self._follower = Follower(standing.position)

    def add(self, records: Sequence[Record], max_poll: int) -> None:
        """Raises LogError for executions that cannot be read, GapError where one is missing."""
        for record in records:
            message = self._decoded(record)
            self._time = max(self._time, message.time if isinstance(message, Execution) else record.time)
            self.items.append(Item(self, record.offset, self._time, message))
        next_offset = records[-1].offset + 1 if records else self.standing.next_offset
        self.may_have_more = len(records) >= max_poll or next_offset < self.end

    async def rest(self) -> None:
        """Lets records gather, unless somebody waits for them."""
        await asyncio.sleep(MIN_PACE_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PACE_S - MIN_PACE_S):
                await self.wanted.wait()
        self.wanted.clear()

    def _decoded(self, record: Record) -> Message | None:
        topic, partition = self.key
        if topic == INSTRUCTIONS:
            return codec.decode_instruction(record.value)
        if topic == USAGE:
            return codec.decode_usage(record.value)
        try:
            execution = codec.decode_execution(record.value)
        except msgspec.MsgspecError as error:
            raise LogError(f"{topic}-{partition} is damaged at offset {record.offset}: {error}") from error
        if partition_of(execution.position) != partition:
            raise LogError(f"{topic}-{partition} is damaged at offset {record.offset}: it answers another partition")
        return execution if self._follower.accept(execution) else None

    def drop(self, standing: PositionRow) -> None:
        """What was applied goes; once all is, there is room for the next poll."""
        self.standing = standing
        while self.items and self.items[0].offset < standing.next_offset:
            self.items.popleft()
        if not self.items:
            self.taken.set()


class SettlementService:
    """The one settlement of a database: a second waits until the first is gone, and has no figures until then."""

    def __init__(
        self, log: Log, store: Store, *, metrics: SettlementMetrics | None = None, max_poll: int = 2_000
    ) -> None:
        self.ready = asyncio.Event()
        """Set once all that the log held at the start is applied."""
        self._log = log
        self._store = store
        self._metrics = metrics
        self._sql = Queries()
        self._max_poll = max_poll
        self._streams: list[Stream] = []
        self._arrived = asyncio.Event()
        self._outbox = asyncio.Event()
        """Set where there may be commands for the engine."""

    async def run(self) -> None:
        """Applies records until cancelled. Raises what goes wrong; starting again is the recovery."""
        async with self._store.settling() as connection:
            with as_store_error():
                self._classes = await tables.classes(connection, self._sql)
                self._leases, self._journal = await connection.fetchrow(self._sql.standing)
                self._streams = await self._begin(connection)
                await connection.add_listener("wanted", self._hurry)
            async with asyncio.TaskGroup() as group:
                for stream in self._streams:
                    group.create_task(self._read(stream))
                group.create_task(self._settle_all(connection))
                group.create_task(self._send_all())
                if self._metrics is not None:
                    group.create_task(self._watch(self._metrics))

    async def _begin(self, connection: Connection) -> list[Stream]:
        places = [(topic, partition) for topic in TOPICS for partition in range(self._log.partitions(topic))]
        await connection.execute(self._sql.begin_positions, *zip(*places, strict=True))
        rows = [PositionRow(*row) for row in await connection.fetch(self._sql.positions)]
        rows.sort(key=lambda row: (TOPICS.index(row.topic), row.partition))
        return [Stream(rank, row, await self._log.end(row.topic, row.partition)) for rank, row in enumerate(rows)]

    async def _read(self, stream: Stream) -> None:
        standing = stream.standing
        reader = await self._log.reader(standing.topic, standing.partition, standing.next_offset)
        try:
            while True:
                timeout_s = BUSY_POLL_S if stream.may_have_more else IDLE_POLL_S
                stream.add(await reader.poll(self._max_poll, timeout_s), self._max_poll)
                stream.taken.clear()
                self._arrived.set()
                if stream.items:
                    await stream.taken.wait()
                    if not stream.may_have_more:
                        await stream.rest()
        finally:
            await reader.close()

    def _hurry(self, *_: object) -> None:
        for stream in self._streams:
            stream.wanted.set()

    async def _settle_all(self, connection: Connection) -> None:
        while True:
            while batch := self._merged():
                await self._settle(connection, batch)
            if all(stream.standing.next_offset >= stream.end for stream in self._streams):
                self.ready.set()
            await self._arrived.wait()
            self._arrived.clear()

    def _merged(self) -> list[Item]:
        """The next records in order of time and rank. None while a stream that may hold earlier ones is still being
        read: so what the log held at the start has one order, in whatever portions it is read."""
        behind = [stream for stream in self._streams if stream.may_have_more]
        if not all(stream.items for stream in behind):
            return []
        horizon = min((_turn(stream.items[-1]) for stream in behind), default=None)
        merged = heapq.merge(*(stream.items for stream in self._streams), key=_turn)
        known = itertools.takewhile(lambda item: horizon is None or _turn(item) <= horizon, merged)
        return list(itertools.islice(known, self._max_poll if behind else min(MAX_CALM, self._max_poll)))

    async def _settle(self, connection: Connection, batch: list[Item]) -> None:
        """Applies the batch, or the first part of it, in one transaction; again where another was in its way. Raises
        StoreError where the database is away or full: then nothing of the batch is there."""
        with as_store_error():
            books, applied = await self._applied(connection, batch)
        self._classes, self._leases = books.classes, books.leases_so_far
        self._journal += len(applied.journal)
        if books.outbox:
            self._outbox.set()
        for stream in self._streams:
            if stream.items and (step := applied.steps.get(stream.key)) is not None:
                stream.drop(step.now)

    async def _applied(self, connection: Connection, batch: list[Item]) -> tuple[Books, "Applied"]:
        for attempt in itertools.count(1):
            try:
                async with connection.transaction():
                    done = await self._apply(connection, batch)
                break
            except COLLISIONS:
                if attempt == MAX_ATTEMPTS:
                    raise
        return done

    async def _send_all(self) -> None:
        """Sends what batches wrote for the engine, those first that a crash left. Where the log or the database is away
        it raises: what was sent and not removed is sent again then, and the engine knows it."""
        while True:
            self._outbox.clear()
            while rows := await self._store.outbox(MAX_SENT):
                for partition in sorted({row.partition for row in rows}):
                    commands = [row.command for row in rows if row.partition == partition]
                    await self._log.append(COMMANDS, partition, commands)
                await self._store.sent(rows)
            await self._outbox.wait()

    async def _watch(self, metrics: SettlementMetrics) -> None:
        while True:
            for stream in self._streams:
                topic, partition = stream.key
                end = await self._log.end(topic, partition)
                metrics.behind(topic, partition, max(0, end - stream.standing.next_offset))
            requested_at = await self._store.oldest_requested_withdrawal()
            metrics.payout_waits(max(0, self._log.now() - requested_at) if requested_at is not None else 0)
            await asyncio.sleep(WATCH_S)

    async def _apply(self, connection: Connection, batch: list[Item]) -> tuple[Books, "Applied"]:
        books, wanted = Books(dict(self._classes), self._leases), Wanted()
        for item in batch:
            _want(wanted, item)
        books.clock = {each.key[1]: each.standing.time for each in self._streams if each.key[0] == EXECUTIONS}
        complete_to = await tables.load(connection, self._sql, books, wanted, MAX_DUE)
        within = _within(batch, complete_to)
        executions = [item.message for item in within if isinstance(item.message, Execution)]
        await tables.load_cash(connection, self._sql, books, executions)
        applied = Applied(self._journal)
        if not within:  # so many deadlines pass before the first record that they are a batch of their own
            stream = batch[0].stream
            books.expire(stream.standing.partition, complete_to[stream.standing.partition] + 1)
            applied.add_lapses(stream.standing)
        for item in within:
            applied.add(item, _apply(books, item))
        await tables.save(connection, self._sql, books)
        await tables.advance(connection, self._sql, list(applied.steps.values()), applied.journal, applied.refusals)
        if applied.refused_usage:
            await connection.execute(self._sql.save_refused_usage, applied.refused_usage)
        return books, applied


class Applied:
    """What a batch says about the log: how far each partition is applied, in which order, and what was refused."""

    def __init__(self, journal_so_far: int) -> None:
        self.steps: dict[StreamKey, Step] = {}
        self.journal: list[JournalRow] = []
        self.refusals: list[RefusalRow] = []
        self.refused_usage: list[RefusedUsageRow] = []
        self._journal_so_far = journal_so_far

    def add(self, item: Item, refused: Refused | None) -> None:
        """The next record, and why it had no effect."""
        stream, before = item.stream, item.stream.standing
        step = self.steps.get(stream.key)
        if step is not None:
            before = step.now
        position = item.message.position if isinstance(item.message, Execution) else before.position
        after = PositionRow(*stream.key, item.offset + 1, position, item.time)
        self.steps[stream.key] = Step(stream.standing.next_offset, after)
        last = self.journal[-1] if self.journal else None
        if last is not None and (last.topic, last.partition) == stream.key:
            self.journal[-1] = msgspec.structs.replace(last, last_offset=item.offset)
        else:
            self._write(stream.key, item.offset, item.offset)
        if refused is not None:
            code, args = refused
            self.refusals.append(RefusalRow(*stream.key, item.offset, code, msgspec.json.encode(args).decode()))
            if isinstance(item.message, UsageReport):
                row = refused_row(item.message, stream.standing.partition, item.offset, refused, item.time)
                self.refused_usage += [row] if row is not None else []

    def add_lapses(self, standing: PositionRow) -> None:
        """Only deadlines passed: no record was applied."""
        key, next_offset = (standing.topic, standing.partition), standing.next_offset
        self.steps[key] = Step(next_offset, standing)
        self._write(key, next_offset, next_offset - 1)

    def _write(self, key: "StreamKey", first_offset: int, last_offset: int) -> None:
        seq = self._journal_so_far + len(self.journal) + 1
        self.journal.append(JournalRow(seq, *key, first_offset, last_offset))


def _turn(item: Item) -> tuple[int, int]:
    return item.time, item.stream.rank


def _want(wanted: Wanted, item: Item) -> None:
    match item.message:
        case Execution() as execution:
            wanted.add_execution(execution)
        case UsageReport() as report:
            wanted.add_usage(report)
        case Unreadable() | None:
            pass
        case instruction:
            wanted.add_instruction(instruction, item.time)


def _apply(books: Books, item: Item) -> Refused | None:
    """Why the record had no effect, where that is to be said."""
    match item.message:
        case Execution() as execution:
            books.execution(execution)
        case UsageReport() as report:
            return books.use(report, item.time)
        case Unreadable(reason):
            return Refusal.UNREADABLE, (reason,)
        case None:
            pass
        case instruction:
            return books.instruction(instruction, item.time)
    return None


def _within(batch: list[Item], complete_to: dict[int, int]) -> list[Item]:
    """The records before the first execution whose time lies beyond the deadlines that are here."""

    def is_within(item: Item) -> bool:
        partition = item.stream.standing.partition
        return not isinstance(item.message, Execution) or item.time <= complete_to.get(partition, item.time)

    return list(itertools.takewhile(is_within, batch))
