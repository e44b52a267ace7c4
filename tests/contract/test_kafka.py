"""What only Kafka's log has: topics to check, and a broker that can be away."""

import asyncio
import os
import random
import re
import signal
import time
import uuid
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from gateways.log import kafka_reader
from gateways.log.broker import Broker
from gateways.log.kafka import KafkaLog
from gateways.log.kafka_reader import SharedReader
from schemas.log import LogError, Record
from schemas.topics import COMMANDS, KAFKA_SETTINGS
from tests.contract.test_log import assert_each_appender_in_order, read


async def test_no_broker_is_said_in_time() -> None:
    began = time.monotonic()
    with pytest.raises(LogError, match=r"no Kafka to use at 127\.0\.0\.1:1 .*start it, or correct the address"):
        await KafkaLog.connect("127.0.0.1:1", connect_timeout_s=1)
    assert time.monotonic() - began < 3


async def test_topics_are_made_to_last_and_checked_at_each_start(broker_address: str) -> None:
    prefix = f"test-{uuid.uuid4().hex[:12]}."
    with pytest.raises(LogError, match=rf"lacks the topics {prefix}commands\.v1, .*: create them"):
        await KafkaLog.connect(broker_address, prefix=prefix, create_topics=False)
    await (await KafkaLog.connect(broker_address, prefix=prefix, partitions=3)).close()
    with pytest.raises(LogError, match=r"has 3 partitions, which never change: say 3, not 1"):
        await KafkaLog.connect(broker_address, prefix=prefix)

    for setting, value in (("retention.ms", "1000"), ("message.timestamp.type", "CreateTime")):
        await alter(broker_address, prefix + COMMANDS, {setting: value})
        with pytest.raises(LogError, match=rf"{prefix}{COMMANDS} has {setting}={value}.* --add-config {setting}="):
            await KafkaLog.connect(broker_address, prefix=prefix, partitions=3)
    await alter(broker_address, prefix + COMMANDS, {})
    await (await KafkaLog.connect(broker_address, prefix=prefix, partitions=3, create_topics=False)).close()


async def test_a_reader_sees_no_time_go_back_nor_a_null(broker_address: str) -> None:
    prefix = f"test-{uuid.uuid4().hex[:12]}."
    log = await KafkaLog.connect(broker_address, prefix=prefix)
    await alter(broker_address, prefix + COMMANDS, {"message.timestamp.type": "CreateTime"})
    producer = AIOKafkaProducer(bootstrap_servers=broker_address)
    await producer.start()
    for stamp, value in ((5_000, b"a"), (4_000, b"b"), (6_000, None), (5_500, b"d")):
        await producer.send_and_wait(prefix + COMMANDS, value, key=b"k", partition=0, timestamp_ms=stamp)
    await producer.stop()

    records = await read(log, count=4)
    assert [(record.time, record.value) for record in records] == [
        (5_000, b"a"),
        (5_000, b"b"),
        (6_000, b""),
        (6_000, b"d"),
    ]
    await log.close()


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_broker_that_stays_away_fails_the_log_in_time(broker: Broker, fault: signal.Signals) -> None:
    await warmed_up(broker.address)
    log = await KafkaLog.connect(broker.address, watchdog_s=2)
    os.kill(broker.pid, fault)
    await asyncio.to_thread(os.waitpid, broker.pid, os.WUNTRACED)  # until then some of its threads may still answer
    try:
        answers = await asyncio.gather(*(log.append(COMMANDS, 0, [b"y"]) for _ in range(20)), return_exceptions=True)
        assert {str(answer) for answer in answers} == {
            f"Kafka at {broker.address} acknowledged nothing for 2 s on {COMMANDS}/0. See to it, then start again"
        }
        with pytest.raises(LogError, match="acknowledged nothing"):
            await log.append(COMMANDS, 0, [b"z"])
        await asyncio.wait_for(log.close(), 30)
    finally:
        broker.kill()


async def warmed_up(address: str) -> None:
    """Returns once the broker has taken a record: its first one may take it seconds."""
    log = await KafkaLog.connect(address, connect_timeout_s=60)
    await log.append(COMMANDS, 0, [b"x"])
    await log.close()


@pytest.mark.parametrize("seed", range(2))
async def test_a_broker_killed_under_load_loses_nothing_acknowledged_and_doubles_nothing(
    broker: Broker, seed: int
) -> None:
    rng = random.Random(seed)
    log = await KafkaLog.connect(broker.address)
    reader = await log.reader(COMMANDS, 0, 0)
    acknowledged: dict[int, bytes] = {}
    stop, progress = asyncio.Event(), asyncio.Event()

    async def append(appender: int) -> None:
        number = 0
        while not stop.is_set():
            values = [b"%d:%d" % (appender, number + more) for more in range(3)]
            acknowledged.update(zip(await log.append(COMMANDS, 0, values), values, strict=True))
            progress.set()
            number += 3

    async with asyncio.TaskGroup() as appenders:
        for appender in range(10):
            appenders.create_task(append(appender))
        for _ in range(2):
            await asyncio.sleep(rng.uniform(0.1, 0.6))
            await asyncio.to_thread(broker.kill)
            progress.clear()
            await asyncio.to_thread(broker.start)
            await asyncio.wait_for(progress.wait(), 20)
        stop.set()

    records: list[Record] = []
    while len(records) < await log.end(COMMANDS, 0):
        records += await reader.poll(timeout_s=10)
    assert {record.offset: record.value for record in records} == acknowledged
    assert_each_appender_in_order(records)
    await log.close()


async def delete_before(address: str, topic: str, offset: int) -> None:
    """Deletes the records before the offset, as retention does and kafka-delete-records.sh."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(offset)})
    finally:
        await admin.close()


async def alter(address: str, topic: str, settings: dict[str, str]) -> None:
    """Gives the topic these settings, and otherwise those it should have."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {**KAFKA_SETTINGS, **settings})])
    finally:
        await admin.close()


@pytest.mark.parametrize(("bound", "most"), [("FETCH_BYTES", 20_000), ("KEPT_RECORDS", 200)])
async def test_readers_share_a_stream_and_one_that_falls_behind_reads_on_by_another(
    broker_address: str, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    monkeypatch.setattr(kafka_reader, bound, most)
    log = await KafkaLog.connect(broker_address, prefix=f"test-{uuid.uuid4().hex[:12]}.")
    values = [b"%0100d" % number for number in range(2_000)]
    slow, fast, late = [await log.reader(COMMANDS, 0, 0) for _ in range(3)]
    seen: dict[SharedReader, list[Record]] = {slow: [], fast: [], late: []}

    async def take(reader: SharedReader, count: int, most: int) -> None:
        while len(seen[reader]) < count:
            seen[reader] += await reader.poll(most, timeout_s=10)

    for first in range(0, len(values), 100):
        await log.append(COMMANDS, 0, values[first : first + 100])
        await take(fast, first + 100, 5000)
        await take(slow, first // 10, 7)  # soon so far behind that its records are forgotten
    assert slow._stream is not fast._stream
    await take(slow, len(values), 5000)
    await take(late, len(values), 300)
    await log.append(COMMANDS, 0, [b"last"])
    for reader in seen:
        await take(reader, len(values) + 1, 5000)
        assert await reader.poll(timeout_s=0) == []
    for records in seen.values():
        assert [record.value for record in records] == [*values, b"last"]
        assert [record.offset for record in records] == list(range(len(values) + 1))
        assert records == seen[fast]
    assert slow._stream is fast._stream is late._stream
    await log.close()


async def test_what_this_process_appends_and_what_others_append_is_read_in_order(broker_address: str) -> None:
    prefix = f"test-{uuid.uuid4().hex[:12]}."
    ours, theirs = [await KafkaLog.connect(broker_address, prefix=prefix) for _ in range(2)]
    reader, behind = [await ours.reader(COMMANDS, 0, 0) for _ in range(2)]
    taken: dict[int, bytes] = {}

    async def append(log: KafkaLog, name: bytes) -> None:
        for number in range(100):
            (offset,) = await log.append(COMMANDS, 0, [b"%s:%d" % (name, number)])
            taken[offset] = b"%s:%d" % (name, number)

    appending = asyncio.gather(append(ours, b"ours"), append(theirs, b"theirs"))
    records: list[Record] = []
    while len(records) < 200:
        records += await reader.poll(timeout_s=10)
    await appending
    assert {record.offset: record.value for record in records} == taken
    assert [record.offset for record in records] == list(range(200))
    assert await behind.poll() == records
    fetched = await read(theirs, count=200)
    assert [record.time for record in records] == [record.time for record in fetched]
    await ours.close()
    await theirs.close()


async def test_a_reader_that_goes_over_to_another_stream_sees_no_time_go_back(
    broker_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_reader, "KEPT_RECORDS", 10)
    prefix = f"test-{uuid.uuid4().hex[:12]}."
    log = await KafkaLog.connect(broker_address, prefix=prefix)
    await alter(broker_address, prefix + COMMANDS, {"message.timestamp.type": "CreateTime"})
    fast, slow = [await log.reader(COMMANDS, 0, 0) for _ in range(2)]
    records: list[Record] = []
    async with AIOKafkaProducer(bootstrap_servers=broker_address) as producer:
        for number, stamp in enumerate((9_000, *[1_000] * 40, 9_500)):
            await producer.send_and_wait(prefix + COMMANDS, b"x", partition=0, timestamp_ms=stamp)
            assert len(await fast.poll(timeout_s=10)) == 1
            if not number:
                records += await slow.poll(timeout_s=10)
    while len(records) < 42:
        records += await slow.poll(5, timeout_s=10)
    assert [record.time for record in records] == [9_000] * 41 + [9_500]
    await log.close()


async def test_what_a_broker_did_not_stamp_has_the_time_that_the_broker_keeps(broker_address: str) -> None:
    prefix = f"test-{uuid.uuid4().hex[:12]}."
    log = await KafkaLog.connect(broker_address, prefix=prefix)
    await alter(broker_address, prefix + COMMANDS, {"message.timestamp.type": "CreateTime"})
    reader = await log.reader(COMMANDS, 0, 0)
    polling = asyncio.create_task(reader.poll(timeout_s=10))
    await log.append(COMMANDS, 0, [b"x"])
    (record,) = await polling
    assert abs(record.time - log.now()) < 60_000
    await log.close()


async def test_a_transaction_of_others_is_refused_as_its_end_is_an_offset_without_a_record(broker_address: str) -> None:
    prefix = f"test-{uuid.uuid4().hex[:12]}."
    log = await KafkaLog.connect(broker_address, prefix=prefix)
    await log.append(COMMANDS, 0, [b"ours"])
    reader = await log.reader(COMMANDS, 0, 1)
    producer = AIOKafkaProducer(bootstrap_servers=broker_address, transactional_id=prefix)
    async with producer as other, other.transaction():
        await other.send_and_wait(prefix + COMMANDS, b"theirs", partition=0)
    for _ in range(2):  # nor does it read on after it
        with pytest.raises(LogError, match=rf"{COMMANDS}/0 has a transaction at offset 1, .* Let nobody else write"):
            await reader.poll(timeout_s=10)
    assert [record.value for record in await read(log, count=1)] == [b"ours"]
    await log.close()


async def test_where_the_beginning_was_deleted_is_said_with_what_to_do(
    broker_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_reader, "FETCH_BYTES", 1)  # a batch at once
    prefix = f"test-{uuid.uuid4().hex[:12]}."
    log = await KafkaLog.connect(broker_address, prefix=prefix)
    for number in range(5):
        await log.append(COMMANDS, 0, [b"%d" % number])
    reader = await log.reader(COMMANDS, 0, 0)
    assert [record.value for record in await reader.poll(timeout_s=10)] == [b"0"]
    await delete_before(broker_address, prefix + COMMANDS, 3)

    with pytest.raises(LogError, match=rf"{COMMANDS}/0 has no offset 1 any more\. .*: restore it from a backup"):
        await reader.poll(timeout_s=10)
    with pytest.raises(LogError, match=rf"{COMMANDS}/0 has no offset 2: it begins at 3\. .*: restore it from a backup"):
        await log.reader(COMMANDS, 0, 2)
    assert [record.value for record in await read(log, count=2, offset=3)] == [b"3", b"4"]
    await log.close()


@pytest.mark.long
async def test_a_compacted_topic_is_refused(broker_address: str) -> None:
    prefix = f"test-{uuid.uuid4().hex[:12]}."
    log = await KafkaLog.connect(broker_address, prefix=prefix)
    compacting = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01"}
    await alter(broker_address, prefix + COMMANDS, compacting)
    async with AIOKafkaProducer(bootstrap_servers=broker_address) as producer:
        for number in range(10):
            await producer.send_and_wait(prefix + COMMANDS, b"%d" % number, key=b"%d" % (number % 2), partition=0)
            await asyncio.sleep(0.15)  # a segment of its own: the newest is never compacted
        async with asyncio.timeout(120):
            while True:
                try:
                    assert len(await read(log, count=10)) == 10
                except LogError as error:
                    refused = str(error)
                    break
                await asyncio.sleep(1)
    assert re.search(rf"{COMMANDS}/0 lacks \d records between offsets 0 and \d+: they were deleted", refused)
    await log.close()


@pytest.mark.parametrize(
    ("offsets", "expected", "missing"), [((0, 1, 3), 5, 1), ((0, 1, 2), 4, 1), ((0, 4), 2, 6)], ids=str
)
def test_an_offset_without_a_record_is_not_counted_away(offsets: tuple[int, ...], expected: int, missing: int) -> None:
    batch = batch_of(offsets, first=5)
    with pytest.raises(LogError, match=rf"t/0 lacks {missing} records between offsets {min(5, expected)} and"):
        kafka_reader._runs(batch, expected, "t/0")


def batch_of(offsets: tuple[int, ...], first: int) -> Any:
    """A batch as a broker serves it: of what it once held, only these offsets after the first are left."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 20)
    for offset in offsets:
        builder.append(offset, 1_000, None, b"x", [])
    buffer = bytearray(builder.build())
    buffer[:8] = first.to_bytes(8, "big")  # no part of what the checksum covers
    return MemoryRecords(bytes(buffer)).next_batch()


async def test_readers_close_at_once_and_leave_nothing_running(
    broker_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_reader, "FETCH_MS", 60_000)
    log = await KafkaLog.connect(broker_address, prefix=f"test-{uuid.uuid4().hex[:12]}.")
    before = asyncio.all_tasks()
    async with asyncio.timeout(10):
        for polls in (False, True):
            reader = await log.reader(COMMANDS, 0, 0)
            if polls:
                assert await reader.poll(timeout_s=0.05) == []  # its fetch goes on
            await reader.close()
            assert asyncio.all_tasks() == before
    await log.reader(COMMANDS, 0, 0)
    await log.close()
    assert asyncio.all_tasks() < before
