"""A log in memory whose records bear the times that a simulation gives them; kept in a file where two processes share
it, one after the other."""

import asyncio
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import msgspec

from schemas.log import Reader, Record

Frame = tuple[str, int, int, bytes]
"""topic, partition, time, value: as the file holds them, each after its length."""


class RecordedLog:
    """`schemas.log.Log`; what its file holds outlives a kill -9 of who wrote it."""

    id = "recorded"
    speed = 1

    def __init__(self, time: int, partitions: int, file: Path | None = None) -> None:
        self.time = time
        self.records: defaultdict[tuple[str, int], list[Record]] = defaultdict(list)
        self._partitions = partitions
        self._read_to = 0
        self._file = None if file is None else os.open(file, os.O_RDWR | os.O_CREAT)
        self.refresh()

    def now(self) -> int:
        return self.time

    def partitions(self, topic: str) -> int:
        return self._partitions

    def put(self, topic: str, partition: int, value: bytes) -> int:
        """One record at the log's `time`; its offset."""
        if self._file is not None:
            frame = msgspec.msgpack.encode((topic, partition, self.time, value))
            os.pwrite(self._file, len(frame).to_bytes(4, "big") + frame, self._read_to)
            self._read_to += 4 + len(frame)
        return self._add(topic, partition, self.time, value)

    def refresh(self) -> None:
        """Reads what another process wrote; a frame that it was killed in is written over."""
        if self._file is None:
            return
        written = os.pread(self._file, os.fstat(self._file).st_size - self._read_to, self._read_to)
        decode, place = msgspec.msgpack.Decoder(Frame).decode, 0
        while place + 4 <= len(written):
            end = place + 4 + int.from_bytes(written[place : place + 4], "big")
            if end > len(written):
                break
            topic, partition, self.time, value = decode(written[place + 4 : end])
            self._add(topic, partition, self.time, value)
            place = end
        self._read_to += place
        os.ftruncate(self._file, self._read_to)

    async def append(self, topic: str, partition: int, values: Sequence[bytes]) -> Sequence[int]:
        return [self.put(topic, partition, value) for value in values]

    async def reader(self, topic: str, partition: int, offset: int) -> Reader:
        return _RecordedReader(self.records[topic, partition], offset)

    async def end(self, topic: str, partition: int) -> int:
        return len(self.records[topic, partition])

    async def close(self) -> None:
        if self._file is not None:
            os.close(self._file)

    def _add(self, topic: str, partition: int, time: int, value: bytes) -> int:
        records = self.records[topic, partition]
        records.append(Record(len(records), time, value))
        return len(records) - 1


class _RecordedReader:
    def __init__(self, records: list[Record], offset: int) -> None:
        self._records = records
        self._offset = offset

    async def poll(self, max_records: int = 5000, timeout_s: float = 1.0) -> list[Record]:
        if len(self._records) <= self._offset:
            await asyncio.sleep(timeout_s)
        found = self._records[self._offset : self._offset + max_records]
        self._offset += len(found)
        return found

    async def close(self) -> None:
        pass
