"""What only the embedded log has: its lock, its speed, a read-only way in, and a disk that fills up."""

import asyncio
import os
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from gateways.log import embedded
from gateways.log.embedded import EmbeddedLog
from schemas.log import LogError
from schemas.topics import COMMANDS


async def test_one_process_holds_it_and_the_next_is_told_which(tmp_path: Path) -> None:
    log = await EmbeddedLog.open(tmp_path)
    for read_only in (False, True):
        with pytest.raises(LogError, match=f"in use by process {os.getpid()}: stop that first"):
            await EmbeddedLog.open(tmp_path, read_only=read_only)
    await log.close()

    await (await EmbeddedLog.open(tmp_path)).close()


async def test_a_stopped_log_can_be_read_by_several_and_written_by_none(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="there is no log in"):
        await EmbeddedLog.open(tmp_path / "none", read_only=True)
    log = await EmbeddedLog.open(tmp_path, partitions=2, speed=60)
    await log.append(COMMANDS, 1, [b"x"])
    await log.close()

    readers = [await EmbeddedLog.open(tmp_path, read_only=True) for _ in range(2)]
    for log in readers:
        assert (log.partitions(COMMANDS), log.speed) == (2, 60)
        assert [record.value for record in await (await log.reader(COMMANDS, 1, 0)).poll()] == [b"x"]
        with pytest.raises(LogError, match="read only"):
            await log.append(COMMANDS, 1, [b"y"])
    with pytest.raises(LogError, match="in use by a reader"):
        await EmbeddedLog.open(tmp_path, partitions=2, speed=60)
    for log in readers:
        await log.close()


async def test_partitions_and_speed_never_change(tmp_path: Path) -> None:
    await (await EmbeddedLog.open(tmp_path, partitions=2, speed=60)).close()

    for partitions, speed in ((1, 60), (2, 1)):
        with pytest.raises(LogError, match="created with 2 partitions and speed 60, which never change"):
            await EmbeddedLog.open(tmp_path, partitions=partitions, speed=speed)
    for partitions, speed in ((0, 1), (1, 0), (1 << 15 | 1, 1)):
        with pytest.raises(ValueError):
            await EmbeddedLog.open(tmp_path / "new", partitions=partitions, speed=speed)


async def test_an_older_one_gets_an_id_when_it_is_next_written(tmp_path: Path) -> None:
    await (await EmbeddedLog.open(tmp_path)).close()
    with sqlite3.connect(tmp_path / "log.sqlite") as database:
        database.execute("DROP TABLE identity")
    database.close()

    ids = []
    for read_only in (True, False, False, True):
        log = await EmbeddedLog.open(tmp_path, read_only=read_only)
        ids.append(log.id)
        await log.close()
    assert ids == ["", ids[1], ids[1], ids[1]]
    assert len(ids[1]) == 32


async def test_its_clock_runs_at_its_speed_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    log = await EmbeddedLog.open(tmp_path, speed=3600)
    assert abs(log.now() - time.time() * 1000) < 3_600_000
    began, wall_began = log.now(), time.monotonic()
    await asyncio.sleep(0.2)
    await log.append(COMMANDS, 0, [b"x"])
    taken, wall_taken = log.now() - began, time.monotonic() - wall_began
    await log.close()
    assert abs(taken - 3_600_000 * wall_taken) < 100_000  # 28 ms of the wall

    log = await EmbeddedLog.open(tmp_path, speed=3600)
    reader = await log.reader(COMMANDS, 0, 0)
    (record,) = await reader.poll()
    assert began < record.time <= log.now() < record.time + 3_600_000
    await log.close()


async def test_at_speed_1_it_catches_up_with_the_wall_but_never_goes_back(tmp_path: Path) -> None:
    await (await EmbeddedLog.open(tmp_path)).close()
    for written in (1_000, 10**13):  # long ago; in the year 2286, as after a wrong wall clock
        with sqlite3.connect(tmp_path / "log.sqlite") as database:
            database.execute(f'INSERT INTO "{COMMANDS}/0" VALUES (?, ?, ?)', (written, written, b"x"))
        database.close()
        wall = time.time_ns() // 1_000_000
        log = await EmbeddedLog.open(tmp_path)
        assert max(wall, written) <= log.now() < max(wall, written) + 5_000
        await log.close()


async def test_what_has_left_memory_is_read_from_disk_without_a_seam(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "RECENT_RECORDS", 50)
    monkeypatch.setattr(embedded, "POLL_BYTES", 300)
    log = await EmbeddedLog.open(tmp_path)
    reader = await log.reader(COMMANDS, 0, 0)
    for number in range(0, 400, 4):
        await log.append(COMMANDS, 0, [b"%d" % more for more in range(number, number + 4)])

    written = [b"%d" % number for number in range(400)]
    values: list[bytes] = []
    while records := await reader.poll(max_records=7, timeout_s=0.01):
        values += [record.value for record in records]
    assert values == written
    for offset in range(330, 400):
        (record,) = await (await log.reader(COMMANDS, 0, offset)).poll(max_records=1)
        assert record.value == written[offset]
    await log.close()


async def test_a_full_disk_fails_every_append_and_loses_none_acknowledged(tmp_path: Path) -> None:
    fill = """
import asyncio, resource, sys
from pathlib import Path
from gateways.log import embedded
from gateways.log.embedded import EmbeddedLog
from schemas.log import LogError
from schemas.topics import COMMANDS

async def main():
    log = await EmbeddedLog.open(Path(sys.argv[1]))
    reader = await log.reader(COMMANDS, 0, 0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    embedded.MAX_QUEUED = 20  # a transaction's: more still wait in the queue when the disk is full
    taken = 0

    async def append():
        nonlocal taken
        while True:
            offsets = await log.append(COMMANDS, 0, [b"x" * 1000])
            taken += len(offsets)

    errors = await asyncio.gather(*(append() for _ in range(50)), return_exceptions=True)
    print(taken)
    for call in (log.append(COMMANDS, 0, [b"x"]), reader.poll()):
        errors += await asyncio.gather(call, return_exceptions=True)
    print(sum(isinstance(error, LogError) and " cannot be written: " in str(error) for error in errors))
    await log.close()

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", fill, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    taken, failed = map(int, output.split())
    assert taken > 100, taken
    assert failed == 52

    log = await EmbeddedLog.open(tmp_path)
    assert await log.end(COMMANDS, 0) >= taken
    await log.append(COMMANDS, 0, [b"again"])
    await log.close()
