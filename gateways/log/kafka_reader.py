"""Reading of the log on Kafka: readers of one partition share what is fetched.

What this process appended itself is read without being fetched: its acknowledgement says that every replica in sync
has it, where, and at what time. A process that runs the whole exchange would else fetch each record six times.
"""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import partial
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

from schemas.log import LogError, Record

FETCH_BYTES = 4 << 20
"""The most that is fetched at once, and that a stream keeps beside it for readers that are behind its end."""
FETCH_RECORDS = 5000
KEPT_RECORDS = 20_000
"""The most that a stream keeps beside what was fetched at once, however small they are."""
FETCH_MS = 1000
RETRY_S = 0.1
LOG_APPEND_TIME = 1
"""Of a batch: all its records have the time that the broker stamped it with."""
REST_S = 0.05
"""After an append of its own, a process waits so long before it fetches what others appended there."""
CLOSE_TIMEOUT_S = 5.0

Run = tuple[int, int, Sequence[bytes]]
"""Records one after the other: the first offset, the time of all in ms, the values."""

_offset = attrgetter("offset")
_record = partial(tuple.__new__, Record)
"""Of a tuple. Half of what a call of the class costs."""


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


class Partition:
    """The open streams and readers of one partition."""

    def __init__(self, bootstrap: str, place: TopicPartition) -> None:
        self.name = f"{place.topic}/{place.partition}"
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
        """Waits until it has grown, or so long. Raises the KafkaError that the fetch met."""
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
                self._records += map(_record, zip(range(first, self.end), repeat(self._newest), values))
                self._bytes += sum(map(len, values))
        if len(self._records) == held:
            return
        if self._bytes > FETCH_BYTES or len(self._records) > KEPT_RECORDS:
            # Never of what came just now: who waited for it has not read it yet.
            del self._records[: min(held, len(self._records) // 2)]
            self._bytes = sum(len(record.value) for record in self._records)
            self.first = self._records[0].offset
        self._wake()


class _Source:
    """The records of one partition, straight from its leader: aiokafka's consumer spends three times as much on each.

    What one fetch brought is handed out in parts, so that a long one does not stop all else.
    """

    def __init__(self, bootstrap: str, place: TopicPartition) -> None:
        self._place = place
        self._client = AIOKafkaClient(bootstrap_servers=bootstrap)
        self._next = 0
        """The offset after what was handed out."""
        self._rest = MemoryRecords(b"")

    async def start(self) -> None:
        """Raises KafkaError."""
        await self._client.bootstrap()
        await self._client.set_topics([self._place.topic])

    async def read(self, offset: int) -> list[Run]:
        """From the offset on, some of what came before it perhaps included; none when none came in a second.

        Tries again where the leader is not to be had. Raises KafkaError where that would not help.
        """
        if offset > self._next:
            self._rest, self._next = MemoryRecords(b""), offset
        if not self._rest.has_next():
            self._rest = MemoryRecords(await self._fetch(self._next))
        runs: list[Run] = []
        count = 0
        while count < FETCH_RECORDS and self._rest.has_next():
            batch: Any = self._rest.next_batch()
            if not batch.validate_crc():
                self._rest = MemoryRecords(b"")  # or the next read would go on after it
                raise CorruptRecordException(f"the batch at {batch.base_offset} is damaged")
            if not batch.is_control_batch:  # else it is the end of somebody's transaction
                runs += _runs(batch)
            count += batch.next_offset - self._next
            self._next = batch.next_offset
        return runs

    async def close(self) -> None:
        await self._client.close()

    async def _fetch(self, offset: int) -> bytes:
        topic, partition = self._place
        asked = FetchRequest(FETCH_MS, 1, FETCH_BYTES, 0, [(topic, [(partition, offset, FETCH_BYTES)])])
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
                return bytes(found or b"")
            if error is OffsetOutOfRangeError:
                raise OffsetOutOfRangeError(offset)
            if error is TopicAuthorizationFailedError:
                raise TopicAuthorizationFailedError(topic)
            await self._client.force_metadata_update()  # mostly it has another leader
            await asyncio.sleep(RETRY_S)


def _runs(batch: Any) -> list[Run]:
    """Others can write a null; a restored log has a time for each record."""
    if batch.timestamp_type != LOG_APPEND_TIME:
        return [(record.offset, record.timestamp, [record.value or b""]) for record in batch]
    return [(batch.base_offset, batch.max_timestamp, [record.value or b"" for record in batch])]


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
            except OffsetOutOfRangeError as error:
                why = f"{self._partition.name} has no offset {error}: its records were deleted. Restore them"
                raise LogError(why) from error
            except KafkaError as error:
                raise LogError(f"{self._partition.name} cannot be read: {error!r}") from error
        self._next = records[-1].offset + 1
        if records[0].time < self._newest:  # this stream began after a later time stamp
            records = [record._replace(time=max(record.time, self._newest)) for record in records]
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
