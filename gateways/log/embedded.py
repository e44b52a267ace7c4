"""The log on one machine: SQLite in one folder, held by one process.

A writer thread commits all that queued up while the commit before it went to disk, in one transaction (WAL,
synchronous=FULL: on disk before it is acknowledged). Readers live in the same process and are woken by the commit.
"""

import asyncio
import fcntl
import queue
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import chain, starmap
from os import getpid
from pathlib import Path
from threading import Thread
from typing import IO, NamedTuple, Self

from msgspec.structs import astuple

from schemas import topics
from schemas.ids import MAX_PARTITION
from schemas.log import LogError, Record, check_sizes

FORMAT = 1
MAX_QUEUED = 1024
"""Appends that may wait for the disk at once; further ones wait for room."""
RECENT_RECORDS = 20_000
RECENT_BYTES = 16 << 20
"""A partition's newest records stay in memory up to these bounds: readers near the end need no disk."""
POLL_BYTES = 16 << 20
"""A poll that reads from disk ends with the record that reaches this."""
ROWS_A_STATEMENT = 256


class EmbeddedLog:
    """`schemas.log.Log` on SQLite. All calls belong to the event loop that opened it."""

    @classmethod
    async def open(cls, folder: Path, *, partitions: int = 1, speed: int = 1, read_only: bool = False) -> Self:
        """Opens the log in `folder`; where there is none, creates it with that many partitions and that speed.

        `read_only` opens one that no process writes, whatever its partitions and speed; several may read it at
        once. Raises LogError where another process holds it, or it was created with other partitions or speed.
        """
        return cls(await asyncio.to_thread(_File.open, folder, partitions, speed, read_only))

    def __init__(self, file: "_File") -> None:
        self.id = file.id
        self.speed = file.speed
        self._file = file
        self._opened_ns = time.monotonic_ns()
        self._loop = asyncio.get_running_loop()
        self._failure = ""
        self._room = asyncio.Semaphore(MAX_QUEUED)
        self._queue: queue.SimpleQueue[_Append | None] = queue.SimpleQueue()
        self._from_disk = ThreadPoolExecutor(1, thread_name_prefix="log-reader")
        self._writer = Thread(target=self._write, name="log-writer", daemon=True)
        self._writer.start()

    def now(self) -> int:
        return self._file.first_time + (time.monotonic_ns() - self._opened_ns) * self.speed // 1_000_000

    def partitions(self, topic: str) -> int:
        self._file.stream(topic, 0)
        return self._file.partitions

    async def append(self, topic: str, partition: int, values: Sequence[bytes]) -> Sequence[int]:
        stream = self._file.stream(topic, partition)
        check_sizes(values)
        if self._file.read_only:
            raise LogError(f"{self._file.path} was opened to be read only")
        await self._room.acquire()
        if self._failure:
            self._room.release()
            raise LogError(self._failure)
        taken: asyncio.Future[Sequence[int]] = self._loop.create_future()
        self._queue.put(_Append(stream, values, taken))
        return await taken

    async def reader(self, topic: str, partition: int, offset: int) -> "_Reader":
        stream = self._file.stream(topic, partition)
        if not 0 <= offset <= stream.end:
            raise LogError(f"{stream.name} has no offset {offset}: it ends at {stream.end}")
        return _Reader(self, stream, offset)

    async def end(self, topic: str, partition: int) -> int:
        return self._file.stream(topic, partition).end

    async def close(self) -> None:
        self._end(f"{self._file.path} is closed")
        self._queue.put(None)
        await asyncio.to_thread(self._writer.join)
        await asyncio.sleep(0)  # the writer's last word is in the event loop's queue
        self._from_disk.shutdown()
        self._file.close()

    def _write(self) -> None:
        """The writer thread, until the None that `close` queues or the first commit that fails."""
        more = True
        while more:
            group = [self._queue.get()]
            while len(group) < MAX_QUEUED and not self._queue.empty():  # nobody else takes from the queue
                group.append(self._queue.get())
            appends = [append for append in group if append is not None]
            more = len(appends) == len(group)
            try:
                written = self._file.write(appends, self.now())
            except Exception as error:
                self._loop.call_soon_threadsafe(self._failed, appends, error)
                return
            self._loop.call_soon_threadsafe(self._written, written)

    def _written(self, written: "list[_Written]") -> None:
        """In the event loop, after a commit."""
        for append, records in written:
            self._room.release()
            append.stream.add(records)
            if not append.taken.done():  # as when the one who waited was cancelled
                append.taken.set_result(range(append.stream.end - len(records), append.stream.end))

    def _failed(self, appends: "list[_Append]", error: Exception) -> None:
        """In the event loop, after a commit that failed: from now on every call fails (crash-only)."""
        failure = f"{self._file.path} cannot be written: {error}. Make room or mend the disk, then start again"
        self._end(failure)
        while not self._queue.empty():
            if (append := self._queue.get()) is not None:
                appends.append(append)
        for append in appends:
            self._room.release()
            if not append.taken.done():
                append.taken.set_exception(LogError(failure))

    def _end(self, failure: str) -> None:
        self._failure = self._failure or failure
        for stream in self._file.streams:
            stream.wake()

    async def _read(self, stream: "_Stream", offset: int, max_records: int, timeout_s: float) -> list[Record]:
        if offset == stream.end and not self._failure:
            await stream.wait(timeout_s)
        if self._failure:
            raise LogError(self._failure)
        count = min(max_records, stream.end - offset)
        if offset >= stream.recent_from:
            first = offset - stream.recent_from
            return stream.recent[first : first + count]
        return await self._loop.run_in_executor(self._from_disk, self._file.read, stream, offset, count)


class _Reader:
    """`schemas.log.Reader` of an EmbeddedLog."""

    def __init__(self, log: EmbeddedLog, stream: "_Stream", offset: int) -> None:
        self._log = log
        self._stream = stream
        self._offset = offset

    async def poll(self, max_records: int = 5000, timeout_s: float = 1.0) -> list[Record]:
        records = await self._log._read(self._stream, self._offset, max_records, timeout_s)
        self._offset += len(records)
        return records

    async def close(self) -> None:
        """Nothing is held."""


class _Stream:
    """One partition of one topic as the event loop sees it: what is durable."""

    def __init__(self, topic: str, partition: int) -> None:
        self.name = f"{topic}/{partition}"
        self.end = 0
        self.recent: list[Record] = []
        self._recent_bytes = 0
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def recent_from(self) -> int:
        return self.end - len(self.recent)

    def add(self, records: list[Record]) -> None:
        self.recent += records
        self.end += len(records)
        self._recent_bytes += sum(len(record.value) for record in records)
        while len(self.recent) > RECENT_RECORDS or self._recent_bytes > RECENT_BYTES:
            older = self.recent[: (len(self.recent) + 1) // 2]  # half at once: cheap in the long run
            del self.recent[: len(older)]
            self._recent_bytes -= sum(len(record.value) for record in older)
        self.wake()

    def wake(self) -> None:
        for waiter in self._waiting:
            _wake(waiter)

    async def wait(self, timeout_s: float) -> None:
        """Until `wake`, or for `timeout_s`."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting.add(waiter)
        timer = loop.call_later(timeout_s, _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiting.discard(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class _Append(NamedTuple):
    stream: _Stream
    values: Sequence[bytes]
    taken: asyncio.Future[Sequence[int]]


_Written = tuple[_Append, list[Record]]


class _File:
    """The folder's lock and database. `write` belongs to the writer thread, `read` to the reader thread."""

    @classmethod
    def open(cls, folder: Path, partitions: int, speed: int, read_only: bool) -> Self:
        if not 1 <= partitions <= MAX_PARTITION + 1:
            raise ValueError(f"{partitions} partitions: a topic has 1 to {MAX_PARTITION + 1}")
        if speed < 1:
            raise ValueError(f"speed {speed}: the log's clock runs 1 time as fast as the wall's, or faster")
        path = folder / "log.sqlite"
        if read_only and not path.exists():
            raise LogError(f"there is no log in {folder}")
        with ExitStack() as held:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(_lock(folder, shared=read_only))
                writing, reading = (held.enter_context(closing(_connect(path, read_only))) for _ in range(2))
                if not read_only:
                    _create(writing, partitions, speed)
                file = cls(path, writing, reading, read_only, held)
            except (OSError, sqlite3.Error) as error:
                raise LogError(f"{path} cannot be opened: {error}") from error
            if not read_only and (file.partitions, file.speed) != (partitions, speed):
                raise LogError(
                    f"{path} was created with {file.partitions} partitions and speed {file.speed}, which never change: "
                    f"say the same again instead of {partitions} and {speed}, or use another folder"
                )
            file._held = held.pop_all()
            return file

    def __init__(
        self, path: Path, writing: sqlite3.Connection, reading: sqlite3.Connection, read_only: bool, held: ExitStack
    ) -> None:
        self.path = path
        self.read_only = read_only
        self._writing = writing
        self._reading = reading
        self._held = held
        self.partitions: int
        self.speed: int
        format, self.partitions, self.speed = reading.execute("SELECT format, partitions, speed FROM log").fetchone()
        named = reading.execute("SELECT 1 FROM sqlite_master WHERE name = 'identity'").fetchone()
        self.id: str = reading.execute("SELECT id FROM identity").fetchone()[0] if named else ""
        """Empty in an older file that was not opened to be written since."""
        if format != FORMAT:
            raise LogError(f"{path} has format {format}, and this version reads format {FORMAT} alone")
        self._by_place = {
            (topic, partition): _Stream(topic, partition)
            for topic in topics.ALL
            for partition in range(self.partitions)
        }
        self.streams = tuple(self._by_place.values())
        last_time = 0
        for stream in self.streams:
            newest = f'SELECT offset + 1, time FROM "{stream.name}" ORDER BY offset DESC LIMIT 1'
            stream.end, time_ms = reading.execute(newest).fetchone() or (0, 0)
            last_time = max(last_time, time_ms)
        self._ends = {stream: stream.end for stream in self.streams}
        wall = time.time_ns() // 1_000_000
        self.first_time = max(last_time, wall) if self.speed == 1 else last_time or wall

    def stream(self, topic: str, partition: int) -> _Stream:
        """Raises LogError where there is none."""
        try:
            return self._by_place[topic, partition]
        except KeyError:
            known = f"{self.partitions} of each of {', '.join(topics.ALL)}"
            raise LogError(f"{self.path} has no partition {partition} of {topic}: it has {known}") from None

    def write(self, appends: list[_Append], time_ms: int) -> list[_Written]:
        """Appends all with that time stamp; returns once they are on disk."""
        written: list[_Written] = []
        rows: dict[_Stream, list[Record]] = {}
        for append in appends:
            offset = self._ends[append.stream]
            records = [Record(at, time_ms, value) for at, value in enumerate(append.values, offset)]
            self._ends[append.stream] = offset + len(records)
            rows.setdefault(append.stream, []).extend(records)
            written.append((append, records))
        statements = [
            (stream.name, records[first : first + ROWS_A_STATEMENT])
            for stream, records in rows.items()
            for first in range(0, len(records), ROWS_A_STATEMENT)
        ]
        if len(statements) > 1:
            self._writing.execute("BEGIN")
        for name, records in statements:
            # Many rows in one statement: after each statement the thread queues for the interpreter's lock.
            places = ",".join(["(?,?,?)"] * len(records))
            values = list(chain.from_iterable(map(astuple, records)))
            self._writing.execute(f'INSERT INTO "{name}" VALUES {places}', values)
        if len(statements) > 1:
            self._writing.execute("COMMIT")
        return written

    def read(self, stream: _Stream, offset: int, count: int) -> list[Record]:
        """The records from `offset` on: `count`, or fewer where they are large. Raises LogError."""
        query = f'SELECT offset, time, value FROM "{stream.name}" WHERE offset >= ? ORDER BY offset LIMIT ?'
        records: list[Record] = []
        size = 0
        try:
            with closing(self._reading.execute(query, (offset, count))) as found:
                for record in starmap(Record, found):
                    records.append(record)
                    size += len(record.value)
                    if size >= POLL_BYTES:
                        break
        except sqlite3.Error as error:
            raise LogError(f"{self.path} cannot be read: {error}") from error
        return records

    def close(self) -> None:
        self._held.close()


def _lock(folder: Path, *, shared: bool) -> IO[str]:
    """The lock on the folder, held until the file is closed. Raises LogError where a process has it."""
    file = (folder / "lock").open("a+")
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "a reader"
        file.close()
        raise LogError(f"the log in {folder} is in use by {holder}: stop that first, or use its API") from None
    file.truncate(0)
    if not shared:
        file.write(f"process {getpid()}")
    file.flush()
    return file


def _connect(path: Path, read_only: bool) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("PRAGMA fullfsync=1")  # macOS: through the disk's own cache, too
    if read_only:
        database.execute("PRAGMA query_only=1")
    return database


def _create(database: sqlite3.Connection, partitions: int, speed: int) -> None:
    """Makes what is missing: in a new file all, in an older one its id and the topics that are new."""
    database.execute("BEGIN IMMEDIATE")
    database.execute("CREATE TABLE IF NOT EXISTS log (format INTEGER, partitions INTEGER, speed INTEGER)")
    found = database.execute("SELECT partitions FROM log").fetchone()
    if found is None:
        database.execute("INSERT INTO log VALUES (?, ?, ?)", (FORMAT, partitions, speed))
    database.execute("CREATE TABLE IF NOT EXISTS identity AS SELECT lower(hex(randomblob(16))) AS id")
    for topic in topics.ALL:
        for partition in range(found[0] if found else partitions):
            name = _Stream(topic, partition).name
            database.execute(
                f'CREATE TABLE IF NOT EXISTS "{name}" (offset INTEGER PRIMARY KEY, time INTEGER, value BLOB)'
            )
    database.execute("COMMIT")
