"""The log on Apache Kafka, through aiokafka. This file and `kafka_reader` alone import it.

Appends are idempotent and acknowledged by every replica in sync. No reader joins a group or commits an offset: each
service knows its own place. How it is read: `kafka_reader`.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any, Self

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code

from gateways.log.kafka_reader import DELETED, Partition, SharedReader, consumer_of, stop
from schemas import topics
from schemas.log import LogError, check_sizes

CONNECT_TIMEOUT_S = 10.0
WATCHDOG_S = 30.0
RETRY_S = 0.1
BATCH_BYTES = 1 << 20
"""Of one batch, just below what a broker takes by default."""
MAX_QUEUED = 1024
"""Appends under way at once; further ones wait for room."""
LOG_APPEND_TIME = 1
"""Of an acknowledgement: its time is the one that the broker stamped."""
BATCHES_IN_FLIGHT = 2
"""Of one partition: one is with the broker, one is ready; what comes meanwhile shares the next."""


class KafkaLog:
    """`schemas.log.Log` on the topics of a cluster. All calls belong to the event loop that connected it."""

    speed = 1

    @classmethod
    async def connect(
        cls,
        bootstrap: str,
        *,
        partitions: int = 1,
        create_topics: bool = True,
        replication_factor: int = 1,
        prefix: str = "",
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        watchdog_s: float = WATCHDOG_S,
    ) -> Self:
        """Connects to `HOST:PORT[,HOST:PORT]`, creates missing topics if it may, and checks all of them.

        `prefix` goes before the topics' names, so that several exchanges can share a cluster. Where an append stays
        unacknowledged for `watchdog_s`, the log fails. Raises LogError where no broker answers in time, or where a
        topic is missing, has another number of partitions, or has settings under which records would not last.
        """
        log = cls(bootstrap, partitions, prefix, watchdog_s)
        try:
            async with asyncio.timeout(connect_timeout_s):
                await log._start(create_topics, replication_factor)
        except BaseException as error:
            await log.close()
            if isinstance(error, TimeoutError | KafkaError):
                why = str(error) or "no answer"
                raise LogError(
                    f"there is no Kafka to use at {bootstrap} ({why}; waited {connect_timeout_s:g} s): "
                    "start it, or correct the address"
                ) from error
            raise
        return log

    def __init__(self, bootstrap: str, partitions: int, prefix: str, watchdog_s: float) -> None:
        self.id = ""
        """The cluster's id and the prefix, once connected. aiokafka 0.14 does not ask for ids of topics."""
        self._bootstrap = bootstrap
        self._partitions = partitions
        self._prefix = prefix
        self._watchdog_s = watchdog_s
        self._failure = ""
        self._room = asyncio.Semaphore(MAX_QUEUED)
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=BATCH_BYTES,
            request_timeout_ms=round(watchdog_s * 1000),
        )
        self._tail = consumer_of(bootstrap)  # it fetches nothing: behind a long poll, the end is known a second later
        self._writers: dict[TopicPartition, _Writer] = {}
        self._read: dict[TopicPartition, Partition] = {}

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def partitions(self, topic: str) -> int:
        self._place(topic, 0)
        return self._partitions

    async def append(self, topic: str, partition: int, values: Sequence[bytes]) -> Sequence[int]:
        place = self._place(topic, partition)
        check_sizes(values)
        if not values:
            return ()
        await self._room.acquire()
        if self._failure:
            self._room.release()
            raise LogError(self._failure)
        if place not in self._writers:
            appended = self._partition(place).appended
            self._writers[place] = _Writer(self._producer, place, self._watchdog_s, self._fail, appended)
        taken = self._writers[place].put(values)
        taken.add_done_callback(self._answered)
        return await asyncio.shield(taken)  # its records are on their way, even when the caller goes away

    async def reader(self, topic: str, partition: int, offset: int) -> SharedReader:
        place = self._place(topic, partition)
        begin, end = await asyncio.gather(
            self._edge(place, self._tail.beginning_offsets), self._edge(place, self._tail.end_offsets)
        )
        if not 0 <= offset <= end:
            raise LogError(f"{place.topic}/{partition} has no offset {offset}: it ends at {end}")
        if offset < begin:
            raise LogError(f"{place.topic}/{partition} has no offset {offset}: it begins at {begin}. {DELETED}")
        return await self._partition(place).reader(offset)

    async def end(self, topic: str, partition: int) -> int:
        return await self._edge(self._place(topic, partition), self._tail.end_offsets)

    async def close(self) -> None:
        self._failure = self._failure or f"the log on Kafka at {self._bootstrap} is closed"
        for partition in self._read.values():
            await partition.close()
        for writer in self._writers.values():
            await writer.close()
        await stop(self._tail, self._tail._client)
        await stop(self._producer, self._producer.client)

    def _place(self, topic: str, partition: int) -> TopicPartition:
        if topic not in topics.ALL or not 0 <= partition < self._partitions:
            known = f"{self._partitions} of each of {', '.join(topics.ALL)}"
            raise LogError(f"the log has no partition {partition} of {topic}: it has {known}")
        return TopicPartition(self._prefix + topic, partition)

    async def _edge(self, place: TopicPartition, ask: Callable[..., Awaitable[dict[TopicPartition, int]]]) -> int:
        try:
            return (await ask([place]))[place]
        except KafkaError as error:
            raise LogError(f"where {place.topic}/{place.partition} ends cannot be read: {error!r}") from error

    def _partition(self, place: TopicPartition) -> Partition:
        if place not in self._read:
            self._read[place] = Partition(self._bootstrap, place)
        return self._read[place]

    def _fail(self, why: str) -> None:
        """From now on every append fails (crash-only): whether those under way were taken is unknown."""
        failure = f"Kafka at {self._bootstrap} {why}. See to it, then start again"
        self._failure = self._failure or failure
        for writer in self._writers.values():
            writer.fail(failure)
        # Or it would try for ever, and stop() would wait for that.
        self._producer._sender.sender_task.cancel()

    def _answered(self, taken: "asyncio.Future[Sequence[int]]") -> None:
        self._room.release()
        taken.exception()  # seen, even when the caller went away

    async def _start(self, create_topics: bool, replication_factor: int) -> None:
        """Retries while no broker answers; `connect` bounds it."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        try:
            await _until_answered(admin.start)
            self.id = f"{(await admin.describe_cluster())['cluster_id']}/{self._prefix}"
            names = {self._prefix + topic for topic in topics.ALL}
            missing = names - set(await admin.list_topics())
            if missing and not create_topics:
                raise LogError(f"Kafka at {self._bootstrap} lacks the topics {', '.join(sorted(missing))}: create them")
            if missing:
                await _create(admin, missing, self._partitions, replication_factor)
            await _check_partitions(admin, names, self._partitions)
            await _check_settings(admin, names)
        finally:
            await admin.close()
        await _until_answered(self._producer.start)
        await _until_answered(self._tail.start)
        await asyncio.gather(*(self.end(topic, 0) for topic in topics.ALL))  # the first question for a topic is slow


class _Append:
    """One call's records, on their way."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self.values = values
        self.sent = 0
        self.offsets: list[range] = []
        self.taken: asyncio.Future[Sequence[int]] = asyncio.get_running_loop().create_future()

    def acknowledge(self, first: int, count: int) -> Sequence[bytes]:
        """Takes note that the next `count` of its values are in the log, from `first` on; returns these."""
        before = sum(map(len, self.offsets))
        self.offsets.append(range(first, first + count))
        if before + count == len(self.values) and not self.taken.done():  # it is when the log failed
            self.taken.set_result(self.offsets[0] if len(self.offsets) == 1 else list(chain(*self.offsets)))
        return self.values[before : before + count]


class _Writer:
    """All that is on its way to one partition, in the order of the calls."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        place: TopicPartition,
        watchdog_s: float,
        on_failure: Callable[[str], None],
        on_appended: Callable[[int, int, Sequence[bytes]], None],
    ) -> None:
        self._producer = producer
        self._place = place
        self._watchdog_s = watchdog_s
        self._on_failure = on_failure
        self._on_appended = on_appended
        self._queue: deque[_Append] = deque()
        self._arrived = asyncio.Event()
        self._free = asyncio.Semaphore(BATCHES_IN_FLIGHT)
        self._unanswered: set[asyncio.Future[Sequence[int]]] = set()
        self._sending = asyncio.create_task(self._send())
        self._sending.add_done_callback(self._stopped)

    def put(self, values: Sequence[bytes]) -> asyncio.Future[Sequence[int]]:
        append = _Append(values)
        self._unanswered.add(append.taken)
        append.taken.add_done_callback(self._unanswered.discard)
        self._queue.append(append)
        self._arrived.set()
        return append.taken

    async def close(self) -> None:
        """Waits for what is under way; the watchdog bounds that."""
        if self._unanswered:
            await asyncio.wait(self._unanswered)
        self._sending.cancel()
        await asyncio.wait([self._sending])

    def fail(self, failure: str) -> None:
        self._sending.cancel()
        for taken in self._unanswered:
            if not taken.done():
                taken.set_exception(LogError(failure))

    async def _send(self) -> None:
        """Makes batches of what has queued up and hands them over, as long as few are in flight."""
        loop = asyncio.get_running_loop()
        while True:
            await self._free.acquire()
            self._arrived.clear()
            if not self._queue:
                await self._arrived.wait()
            batch, parts = self._next_batch()
            overdue = loop.call_later(self._watchdog_s, self._on_failure, self._overdue())
            sent = await self._producer.send_batch(batch, self._place.topic, partition=self._place.partition)
            sent.add_done_callback(partial(self._acknowledged, parts, overdue))

    def _stopped(self, sending: asyncio.Task[None]) -> None:
        if not sending.cancelled() and (error := sending.exception()):
            self._on_failure(f"was not sent a batch: {error!r}")

    def _overdue(self) -> str:
        name = f"{self._place.topic}/{self._place.partition}"
        return f"acknowledged nothing for {self._watchdog_s:g} s on {name}"

    def _next_batch(self) -> tuple[Any, list[tuple[_Append, int]]]:
        """A batch of what is first in the queue, and how many records of which append it has."""
        batch = self._producer.create_batch()
        add = batch.append
        now = time.time_ns() // 1_000_000
        parts = []
        while self._queue:
            append = self._queue[0]
            before = batch.record_count()
            for value in islice(append.values, append.sent, None):
                if add(key=None, value=value, timestamp=now) is None:
                    break
            count = batch.record_count() - before
            append.sent += count
            if count:
                parts.append((append, count))
            if append.sent < len(append.values):
                break
            self._queue.popleft()
        return batch, parts

    def _acknowledged(
        self, parts: list[tuple[_Append, int]], overdue: asyncio.TimerHandle, sent: asyncio.Future[Any]
    ) -> None:
        overdue.cancel()
        self._free.release()
        if error := sent.exception():
            self._on_failure(f"did not take a batch: {error!r}")
            return
        taken = sent.result()
        first: int = taken.offset
        if first < 0:
            self._on_failure("took a batch but no longer knows where")
            return
        for append, count in parts:
            values = append.acknowledge(first, count)
            if taken.timestamp_type == LOG_APPEND_TIME:
                self._on_appended(first, taken.timestamp, values)
            first += count


async def _until_answered(start: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            return await start()
        except KafkaConnectionError:
            await asyncio.sleep(RETRY_S)


async def _create(admin: AIOKafkaAdminClient, names: set[str], partitions: int, replication_factor: int) -> None:
    settings = {**topics.KAFKA_SETTINGS, "min.insync.replicas": str(min(2, replication_factor))}
    answer = await admin.create_topics(
        [NewTopic(name, partitions, replication_factor, topic_configs=settings) for name in sorted(names)]
    )
    for name, code, why in answer.topic_errors:
        if code and for_code(code) is not TopicAlreadyExistsError:  # another process may be creating them, too
            raise LogError(f"topic {name} cannot be created: {why or for_code(code).__name__}")


async def _check_partitions(admin: AIOKafkaAdminClient, names: set[str], partitions: int) -> None:
    """Waits until each partition has a leader; `connect` bounds it."""
    while True:
        described = await admin.describe_topics(sorted(names))
        for topic in described:
            found = len(topic["partitions"])
            if not topic["error_code"] and found != partitions:
                raise LogError(
                    f"topic {topic['topic']} has {found} partitions, which never change: say {found}, not {partitions}"
                )
        if all(part["leader"] >= 0 for topic in described for part in topic["partitions"] or [{"leader": -1}]):
            return
        await asyncio.sleep(RETRY_S)


async def _check_settings(admin: AIOKafkaAdminClient, names: set[str]) -> None:
    wanted = topics.KAFKA_SETTINGS
    asked = [ConfigResource(ConfigResourceType.TOPIC, name, wanted) for name in sorted(names)]
    for answer in await admin.describe_configs(asked):
        for code, why, _, name, found in answer.resources:
            if code:
                raise LogError(f"the settings of topic {name} cannot be read: {why or for_code(code).__name__}")
            for setting, value, *_ in found:
                if value != wanted[setting]:
                    raise LogError(
                        f"topic {name} has {setting}={value}, under which the log would not last: set it with "
                        f"kafka-configs.sh --alter --entity-type topics --entity-name {name} "
                        f"--add-config {setting}={wanted[setting]}"
                    )
