"""kill -9 of settlement, and of Postgres under it, between two batches and within: the ledger is as without them."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from settlement.postgres import EmbeddedPostgres
from settlement.store import Store
from tests.simulation.dealings import T0
from tests.simulation.recorded_log import RecordedLog
from tests.simulation.settled import PARTITIONS, Simulation, ledger_digest, settling_in_process

KILLS = 20
"""Of each of the two."""
ROUND = 1_000
MAX_POLL = 25
"""So that a round is dozens of transactions, and a kill comes between the first and the last."""
SEED = 9


class Killed:
    """Settlement under kills: each round it is killed once, or its server is, until there were enough of both."""

    def __init__(self, server: EmbeddedPostgres, folder: Path) -> None:
        self.server = server
        self.kills = {"settlement": 0, "postgres": 0}
        """Those that came in the middle of a round."""
        self.said: list[str] = []
        """By settlement, where its server was away."""
        self.simulation: Simulation
        self.log = RecordedLog(T0, PARTITIONS, folder / "log")
        self._file = folder / "log"
        self._folder = folder
        self._draw = random.Random(SEED)

    @property
    def done(self) -> bool:
        return all(kills >= KILLS for kills in self.kills.values())

    async def settle(self) -> None:
        """All that the log holds, with a kill on the way."""
        process = await self._start()
        victim = min(self.kills, key=lambda name: self.kills[name])
        if await self._comes_to(self._draw.uniform(0.05, 0.9), process):
            await asyncio.sleep(self._draw.uniform(0, 0.03))
            if victim == "settlement":
                process.kill()
                self.kills[victim] += await process.wait() == -signal.SIGKILL
            else:
                await self._kill_postgres()
                self.kills[victim] += await self._failed(process)
                await self._restart_postgres()
            process = await self._start()
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        self.log.refresh()

    async def _start(self) -> asyncio.subprocess.Process:
        words = ("-m", "tests.simulation.settler", str(self._file), self.server.dsn, str(PARTITIONS), str(MAX_POLL))
        return await asyncio.create_subprocess_exec(
            sys.executable, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )

    async def _comes_to(self, part: float, process: asyncio.subprocess.Process) -> bool:
        """Waits until settlement has applied so much of what it has to; whether it still runs then."""
        connection = await asyncpg.connect(self.server.dsn)
        try:
            begun = await connection.fetchval(APPLIED)
            total = sum(
                len(self.log.records[topic, n]) for topic, n in self.log.records if not topic.startswith("comm")
            )
            while process.returncode is None:
                if await connection.fetchval(APPLIED) >= begun + part * (total - begun):
                    return True
                await asyncio.sleep(0.002)
            return False
        finally:
            await connection.close()

    async def _failed(self, process: asyncio.subprocess.Process) -> bool:
        """Whether it ended because its server did, and said so in words."""
        output, _ = await process.communicate()
        if process.returncode:
            self.said.append(output.decode())
        return process.returncode != 0

    async def _kill_postgres(self) -> None:
        """The server and all its processes."""
        connection = await asyncpg.connect(self.server.dsn)
        home = await connection.fetchval("SHOW data_directory")
        await connection.close()
        await asyncio.to_thread(kill_with_children, Path(home, "postmaster.pid"))

    async def _restart_postgres(self) -> None:
        await self.simulation.store.close()
        await asyncio.to_thread(self.server.stop)
        self.server = EmbeddedPostgres(self._folder)
        await asyncio.to_thread(self.server.start)
        self.simulation.store = await Store.connect(self.server.dsn)


def kill_with_children(pid_file: Path) -> None:
    pid = int(pid_file.read_text().split()[0])
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True).stdout
    for each in (pid, *map(int, listed.split())):
        os.kill(each, signal.SIGKILL)


APPLIED = "SELECT coalesce(sum(next_offset), 0)::bigint FROM positions"


@pytest.fixture
def folder() -> Iterator[Path]:
    """That the server's own user reaches."""
    made = Path(tempfile.mkdtemp(prefix="cx-kill-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.mark.long
async def test_killed_again_and_again_it_comes_to_the_ledger_of_a_run_without_faults(folder: Path, dsn: str) -> None:
    server = EmbeddedPostgres(folder)
    await asyncio.to_thread(server.start)
    killed = Killed(server, folder)
    try:
        store = await Store.connect(server.dsn)
        killed.simulation = await Simulation.open(store, killed.log, SEED, killed.settle)
        rounds = 0
        while not killed.done and rounds < 4 * KILLS:
            await killed.simulation.round(ROUND)
            rounds += 1
        await killed.simulation.check()
        under_kills = await ledger_digest(killed.server.dsn)
        await killed.simulation.store.close()
    finally:
        await asyncio.to_thread(killed.server.stop)
        await killed.log.close()
    assert killed.done, killed.kills
    for said in killed.said:
        assert "the database cannot be used now" in said, said
        assert "Traceback" not in said, said
    assert await without_faults(dsn, rounds) == under_kills


async def without_faults(dsn: str, rounds: int) -> str:
    log, store = RecordedLog(T0, PARTITIONS), await Store.connect(dsn)
    try:
        simulation = await Simulation.open(store, log, SEED, settling_in_process(store, log, ROUND))
        for _ in range(rounds):
            await simulation.round(ROUND)
        await simulation.check()
        return await ledger_digest(dsn)
    finally:
        await store.close()
