"""The engine over a log that is there: recovery from a snapshot, the proof by replay, the state at any position."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

from msgspec import Struct

from matching_engine import snapshot
from matching_engine.engine import Engine
from schemas.codec import decode_command, decode_execution, encode
from schemas.executions import Follower
from schemas.ids import offset_of, partition_of
from schemas.log import Log, LogError, Record
from schemas.topics import COMMANDS, EXECUTIONS

MAX_POLL = 5000
POLL_TIMEOUT_S = 10.0
MAX_DIFFERENCES = 20
SNAPSHOT_AFTER = 50_000
"""Commands: as long as a start folds fewer, it needs no newer snapshot."""


class Difference(Struct, frozen=True):
    """A published answer that is not what the fold gives."""

    position: int
    published: str
    expected: str


class Replayed(Struct, frozen=True):
    """What a replay found: no differences, when all is well."""

    partition: int
    commands: int
    answers: int
    """Compared byte by byte."""
    state_hash: str
    differences: list[Difference]

    def text(self) -> str:
        """For people."""
        looked = (
            f"partition {self.partition}: {self.commands} commands, {self.answers} answers, state {self.state_hash}"
        )
        if not self.differences:
            return f"{looked}: every answer is what the rules give, byte by byte"
        lines = [
            f"command {each.position} was answered {each.published}, where it must be {each.expected}"
            for each in self.differences
        ]
        return "\n".join([f"{looked}: {len(lines)} differences", *lines])


async def last_answered(log: Log, partition: int) -> int:
    """The position of the last record of executions, -1 where there is none. Raises LogError."""
    end = await log.end(EXECUTIONS, partition)
    if not end:
        return -1
    async for record in records(log, EXECUTIONS, partition, end - 1, end):
        position = decode_execution(record.value).position
        if partition_of(position) == partition and offset_of(position) < await log.end(COMMANDS, partition):
            return position
        raise LogError(
            f"{EXECUTIONS} answers command {position}, which is not in {COMMANDS}, partition {partition}: "
            "the two are not of one exchange"
        )
    raise AssertionError("a record that is there was read")


async def records(log: Log, topic: str, partition: int, first: int, end: int) -> AsyncIterator[Record]:
    """Those from offset `first` to before `end`. Raises LogError where they do not come."""
    if first >= end:
        return
    reader = await log.reader(topic, partition, first)
    try:
        while first < end:
            found = await reader.poll(min(MAX_POLL, end - first), POLL_TIMEOUT_S)
            if not found:
                place = f"offset {first} of {topic}, partition {partition},"
                raise LogError(f"{place} could not be read in {POLL_TIMEOUT_S:g} s")
            for record in found:
                yield record
            first += len(found)
    finally:
        await reader.close()


async def recovered(
    log: Log,
    partition: int,
    until: int,
    snapshots: Path | None = None,
    *,
    snapshot_after: int = SNAPSHOT_AFTER,
    on_passed_over: Callable[[str], None] = lambda why: None,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Engine:
    """The engine as it was after the command at position `until`, from the newest snapshot not beyond that on.

    Where it had to fold `snapshot_after` commands and there is a folder for snapshots, it leaves a new one.
    `on_progress` is told now and then how many of those commands are done.
    """
    engine = Engine(partition)
    if snapshots is not None:
        name = await digest_of(log, partition)
        state, passed_over = snapshot.newest(snapshots, name, partition, until)
        for why in passed_over:
            on_passed_over(why)
        if state is not None:
            engine = Engine.from_state(partition, state)
    first, end = next_offset(engine.position), next_offset(until)
    async for record in records(log, COMMANDS, partition, first, end):
        engine.apply(record.offset, record.time, decode_command(record.value))
        if (record.offset - first) % MAX_POLL == 0:
            on_progress(record.offset - first, end - first)
    if snapshots is not None and end - first >= snapshot_after:
        await asyncio.to_thread(snapshot.write, snapshots, name, partition, engine.state())
    return engine


async def digest_of(log: Log, partition: int) -> bytes:
    """Tells the log from all others, once the partition has a command: of the log's id and the first command.

    Where topics were made anew under the same names the first commands differ, in their time stamps at least.
    """
    named = hashlib.blake2b(log.id.encode(), digest_size=32)
    async for record in records(log, COMMANDS, partition, 0, min(1, await log.end(COMMANDS, partition))):
        named.update(b"%d " % record.time + record.value)
    return named.digest()


def next_offset(position: int) -> int:
    """Of the command after the one at that position; -1 is before the first."""
    return offset_of(position) + 1 if position >= 0 else 0


async def verified(
    log: Log,
    partition: int,
    until: int | None = None,
    *,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Replayed:
    """Folds the log from its start and compares each answer with the published one. Raises LogError, GapError.

    `on_progress` is told now and then how many of all commands are done.
    """
    last = await last_answered(log, partition)
    if until is not None:
        last = min(last, until)
    engine, follower = Engine(partition), Follower()
    commands, answers, differences = 0, 0, list[Difference]()
    published = _answers(log, partition, follower)
    async for record in records(log, COMMANDS, partition, 0, next_offset(last)):
        expected = encode(engine.apply(record.offset, record.time, decode_command(record.value)))
        commands += 1
        if commands % MAX_POLL == 0:
            on_progress(commands, next_offset(last))
        found = await anext(published, b"")
        answers += 1
        if found != expected and _as_today(found) != expected and len(differences) < MAX_DIFFERENCES:
            shown = str(decode_execution(found)) if found else "nothing"
            differences.append(Difference(engine.position, shown, str(decode_execution(expected))))
    await published.aclose()
    return Replayed(partition, commands, answers, engine.state_hash().hex(), differences)


def _as_today(answer: bytes) -> bytes:
    """As it would be written now, when it was before a field came to answers."""
    return encode(decode_execution(answer)) if answer else answer


async def _answers(log: Log, partition: int, follower: Follower) -> AsyncGenerator[bytes, None]:
    """The published answers, each once."""
    async for record in records(log, EXECUTIONS, partition, 0, await log.end(EXECUTIONS, partition)):
        if follower.accept(decode_execution(record.value)):
            yield record.value
