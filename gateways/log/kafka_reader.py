"""Reading of the log on Kafka: readers of one partition share what is fetched.

What this process appended itself is read without being fetched: its acknowledgement says that every replica in sync
has it, where, and at what time. A process that runs the whole exchange would else fetch each record six times.
"""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import attrgetter
from typing import Any

from aiokafka import AIOKafkaClient, AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    LeaderNotAvailableError,
    NoError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords
from msgspec.structs import replace

from schemas.log import LogError, Record

FETCH_BYTES = 4 << 20
"""The most that is fetched at once, and that a stream keeps beside it for readers that are behind its end."""
FETCH_RECORDS = 5000
KEPT_RECORDS = 20_000
"""The most that a stream keeps beside what was fetched at once, however small they are."""
FETCH_MS = 1000
BUSY_FETCH_BYTES = 16 << 10
"""Where a fetch brings so much, records come fast, and the next one waits until there is more to bring."""
BUSY_BYTES = 256 << 10
BUSY_MS = 20
"""How much, and for how long at most. A fetch costs broker and reader as much as 100 records do."""
RETRY_S = 0.1
LOG_APPEND_TIME = 1
"""Of a batch: all its records have the time that the broker stamped it with."""
REST_S = 0.05
"""After an append of its own, a process waits so long before it fetches what others appended there."""
CLOSE_TIMEOUT_S = 5.0

DELETED = "Records were deleted, and the log is to be kept whole: restore it from a backup"
"""What an offset that is not there means, and what to do."""

Run = tuple[int, int, Sequence[bytes]]
"""Records one after the other: the first offset, the time of all in ms, the values."""

_offset = attrgetter("offset")
_value = attrgetter("value")


def consumer_of(bootstrap: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="none",
    )


async def stop(worker: AIOKafkaConsumer | AIOKafkaProducer, client: AIOKafkaClient) -> None:
    """Stops what works over that client. Bounded, whatever aiokafka waits for: then the connections are cut."""
    try:
        await asyncio.wait_for(worker.stop(), CLOSE_TIMEOUT_S)
    except TimeoutError:
        await client.close()


def _name(place: TopicPartition) -> str:
    return f"{place.topic}/{place.partition}"


class Partition:
    """The open streams and readers of one partition."""

    def __init__(self, bootstrap: str, place: TopicPartition) -> None:
        self.name = _name(place)
        self._bootstrap = bootstrap
        self._place = place
        self._streams: list[Stream] = []
        self._readers: set[SharedReader] = set()
        self._closing: set[asyncio.Task[None]] = set()

    async def reader(self, offset: int) -> "SharedReader":
        """Raises LogError where the partition cannot be read."""
        reader = SharedReader(self, await self.stream_at(offset), offset)
        self._readers.add(reader)
        return reader

    def appended(self, first: int, time_ms: int, values: Sequence[bytes]) -> None:
        """Shows the streams what this process appended, once it is acknowledged."""
        for stream in self._streams:
            stream.put(first, time_ms, values)

    def covering(self, offset: int) -> "Stream | None":
        """The oldest stream that has the offset or ends there: readers of several end up in it."""
        return next((stream for stream in self._streams if stream.first <= offset <= stream.end), None)

    async def stream_at(self, offset: int) -> "Stream":
        stream = self.covering(offset)
        if stream is None:
            stream = Stream(self._bootstrap, self._place, offset)
            self._streams.append(stream)
        stream.readers += 1
        try:
            await stream.started()
        except BaseException as error:
            self.leave(stream)
            if isinstance(error, KafkaError):
                raise LogError(f"{self.name} cannot be read: {error!r}") from error
            raise
        return stream

    def leave(self, stream: "Stream") -> None:
        stream.readers -= 1
        if not stream.readers:
            self._streams.remove(stream)
            closing = asyncio.create_task(stream.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def left(self, reader: "SharedReader") -> None:
        self._readers.discard(reader)
        if self._closing:
            await asyncio.wait(self._closing)

    async def close(self) -> None:
        for reader in list(self._readers):
            await reader.close()


class Stream:
    """A run of records, `first` to `end - 1`: fetched once, all readers within it share it.

    It fetches only while a reader waits at its end, and forgets the older half when it holds too much: who needs that
    still, reads on by a stream of its own until it meets another.
    """

    def __init__(self, bootstrap: str, place: TopicPartition, offset: int) -> None:
        self.first = self.end = offset
        self.readers = 0
        self._source = _Source(bootstrap, place)
        self._starting: asyncio.Task[None] | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._records: list[Record] = []
        self._bytes = 0
        self._newest = 0
        self._own = False
        self._waiters: set[asyncio.Future[None]] = set()

    async def started(self) -> None:
        if self._starting is None:
            self._starting = asyncio.create_task(self._source.start())
        await asyncio.shield(self._starting)

    def read(self, offset: int, max_records: int) -> list[Record]:
        """What it holds from an offset between `first` and `end` on."""
        if offset == self.end:
            return []
        start = bisect_left(self._records, offset, key=_offset)
        return self._records[start : start + max_records]

    async def grow(self, timeout_s: float) -> None:
        """Waits until it has grown, or so long. Raises the KafkaError or LogError that the fetch met."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._fetched)
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            pass
        finally:
            self._waiters.discard(waiter)

    def put(self, first: int, time_ms: int, values: Sequence[bytes]) -> None:
        """Adds what was appended, where it goes on from here; else it will be fetched."""
        if first <= self.end < first + len(values):
            self._own = True
            self._add([(first, time_ms, values)])

    async def close(self) -> None:
        tasks = [task for task in (self._starting, self._fetching) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._source.close()

    async def _fetch(self) -> None:
        if self._own:  # or each append of this process would be fetched, only to be dropped
            self._own = False
            await asyncio.sleep(REST_S)
        self._add(await self._source.read(self.end))

    def _fetched(self, fetching: asyncio.Task[None]) -> None:
        self._fetching = None
        if not fetching.cancelled():
            self._wake(fetching.exception())

    def _wake(self, error: BaseException | None = None) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None) if error is None else waiter.set_exception(error)

    def _add(self, runs: Iterable[Run]) -> None:
        held = len(self._records)
        for first, time_ms, values in runs:
            if first < self.end:
                values = values[self.end - first :]
                first = self.end
            if values:
                self._newest = max(self._newest, time_ms)  # a new leader's clock may be behind
                self.end = first + len(values)
                self._records += map(Record, range(first, self.end), repeat(self._newest), values)
                self._bytes += sum(map(len, values))
        if len(self._records) == held:
            return
        if self._bytes > FETCH_BYTES or len(self._records) > KEPT_RECORDS:
            # Never of what came just now: who waited for it has not read it yet.
            del self._records[: min(held, len(self._records) // 2)]
            self._bytes = sum(map(len, map(_value, self._records)))
            self.first = self._records[0].offset
        self._wake()


class _Source:
    """The records of one partition, straight from its leader: aiokafka's consumer spends three times as much on each.

    What one fetch brought is handed out in parts, so that a long one does not stop all else.
    """

    def __init__(self, bootstrap: str, place: TopicPartition) -> None:
        self._place = place
        self._name = _name(place)
        self._client = AIOKafkaClient(bootstrap_servers=bootstrap)
        self._next = 0
        """The offset after what was handed out."""
        self._rest = MemoryRecords(b"")
        self._busy = False

    async def start(self) -> None:
        """Raises KafkaError."""
        await self._client.bootstrap()
        await self._client.set_topics([self._place.topic])

    async def read(self, offset: int) -> list[Run]:
        """From the offset on, some of what came before it perhaps included; none when none came in a second.

        Tries again where the leader is not to be had. Raises KafkaError or LogError where that would not help.
        """
        if offset > self._next:
            self._rest, self._next = MemoryRecords(b""), offset
        if not self._rest.has_next():
            self._rest = MemoryRecords(await self._fetch(self._next))
        runs: list[Run] = []
        count = 0
        while count < FETCH_RECORDS and self._rest.has_next():
            try:
                found, after = _runs(self._rest.next_batch(), self._next, self._name)
            except (KafkaError, LogError):
                self._rest = MemoryRecords(b"")  # the next read fetches it again, and not what comes after it
                if runs:
                    break
                raise
            runs += found
            count += after - self._next
            self._next = after
        return runs

    async def close(self) -> None:
        await self._client.close()

    async def _fetch(self, offset: int) -> bytes:
        topic, partition = self._place
        wait_ms, least = (BUSY_MS, BUSY_BYTES) if self._busy else (FETCH_MS, 1)
        asked = FetchRequest(wait_ms, least, FETCH_BYTES, 0, [(topic, [(partition, offset, FETCH_BYTES)])])
        while True:
            try:
                leader = self._client.cluster.leader_for_partition(self._place)
                if leader is None or leader < 0:
                    await self._client.force_metadata_update()
                    raise LeaderNotAvailableError
                response = await self._client.send(leader, asked)
            except KafkaError:
                await asyncio.sleep(RETRY_S)
                continue
            ((_, ((_, code, *_, found),)),) = response.topics
            error = for_code(code)
            if error is NoError:
                records: bytes = found or b""
                self._busy = len(records) >= BUSY_FETCH_BYTES
                return records
            if error is OffsetOutOfRangeError:
                raise LogError(f"{self._name} has no offset {offset} any more. {DELETED}")
            if error is TopicAuthorizationFailedError:
                raise TopicAuthorizationFailedError(topic)
            await self._client.force_metadata_update()  # mostly it has another leader
            await asyncio.sleep(RETRY_S)


def _runs(batch: Any, expected: int, name: str) -> tuple[list[Run], int]:
    """The records of a batch, and the offset after it. Raises CorruptRecordException; and LogError where it leaves out
    an offset, as who reads the log counts on each having its record.

    Nothing of the exchange leaves one out: its topics are neither compacted nor cut off (`schemas.topics`), and it
    writes no transactions, whose ends take an offset each.
    """
    first, after = batch.base_offset, batch.next_offset
    if not batch.validate_crc():
        raise CorruptRecordException(f"the batch at {first} is damaged")
    if batch.is_transactional:
        raise LogError(
            f"{name} has a transaction at offset {first}, whose end takes an offset and is no record. Let nobody else "
            "write to it, and restore it from a backup"
        )
    runs: list[Run]
    if batch.timestamp_type == LOG_APPEND_TIME:
        values = [record.value or b"" for record in batch]  # others can write a null
        runs, count = [(first, batch.max_timestamp, values)], len(values)
    else:  # of a restored log
        runs = [(record.offset, record.timestamp, [record.value or b""]) for record in batch]
        count = len(runs)
    missing = max(0, first - expected) + after - first - count
    if missing:
        raise LogError(
            f"{name} lacks {missing} records between offsets {min(first, expected)} and {after}: "
            "they were deleted, as compaction does. Restore it from a backup"
        )
    return runs, after


class SharedReader:
    """`schemas.log.Reader` of a KafkaLog: a place in one partition, in whichever stream has it."""

    def __init__(self, partition: Partition, stream: Stream, offset: int) -> None:
        self._partition = partition
        self._stream = stream
        self._next = offset
        self._newest = 0
        self._open = True

    async def poll(self, max_records: int = 5000, timeout_s: float = 1.0) -> list[Record]:
        deadline = time.monotonic() + timeout_s
        while not (records := await self._found(max_records)):
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            try:
                await self._stream.grow(left)
            except KafkaError as error:
                raise LogError(f"{self._partition.name} cannot be read: {error!r}") from error
        self._next = records[-1].offset + 1
        if records[0].time < self._newest:  # this stream began after a later time stamp
            records = [replace(record, time=max(record.time, self._newest)) for record in records]
        self._newest = records[-1].time
        return records

    async def close(self) -> None:
        if self._open:
            self._open = False
            self._partition.leave(self._stream)
            await self._partition.left(self)

    async def _found(self, max_records: int) -> list[Record]:
        """What its stream holds of its place on; without any, the reader goes to the stream that has its place."""
        if not self._stream.first <= self._next < self._stream.end:
            elsewhere = self._partition.covering(self._next)
            if elsewhere is not self._stream:
                stream = await self._partition.stream_at(self._next)
                self._partition.leave(self._stream)
                self._stream = stream
        return self._stream.read(self._next, max_records)
