"""The whole exchange as a process of its own, as a user starts it, for tests that kill it and benchmarks."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

from msgspec import Struct

from gateways.client import Exchange as Client

READY_TIMEOUT_S = 60.0
WITHOUT_RATES = tuple(
    word
    for name in ("key", "account", "preview", "walk")
    for word in (f"--{name}-rate", "1000000", f"--{name}-burst", "1000000")
)
"""Arguments of an exchange of which one key is to ask as much as it can."""


class ExchangeProcess:
    """`cx up` (or `cx play`) in a folder: start, kill -9, start again."""

    def __init__(
        self, folder: Path, *, command: str = "up", log: str = "embedded", arguments: tuple[str, ...] = ()
    ) -> None:
        self.folder = folder
        self.url = ""
        self.key = ""
        self._words = [command, "--data", str(folder), "--log", log, "--port", "0", *arguments]
        self._process: asyncio.subprocess.Process | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls, folder: Path, *, log: str = "embedded", arguments: tuple[str, ...] = ()
    ) -> AsyncIterator["ExchangeProcess"]:
        """Ready when entered, stopped in good order when left."""
        exchange = cls(folder, log=log, arguments=arguments)
        await exchange.start()
        try:
            yield exchange
        finally:
            await exchange.stop()

    async def start(self) -> None:
        """Returns when it is ready; raises with its output when it is not within a minute."""
        self.folder.mkdir(parents=True, exist_ok=True)
        output = self.folder / "output"
        config = self.folder / "cx.toml"
        before = config.stat().st_mtime_ns if config.exists() else 0
        with output.open("ab") as file:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateways.cli.main", *self._words, stdout=file, stderr=file
            )
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while not config.exists() or config.stat().st_mtime_ns == before:
                    if self._process.returncode is not None:
                        raise RuntimeError(f"the exchange ended with {self._process.returncode}: {_tail(output)}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            await self.kill()
            raise RuntimeError(f"the exchange was not ready in {READY_TIMEOUT_S:.0f} s: {_tail(output)}") from None
        ready = tomllib.loads(config.read_text())
        self.url, self.key = ready["url"], ready["key"]

    def pin(self, core: int) -> None:
        """Keeps it on that core, alone of what it started."""
        assert self._process is not None
        for task in Path(f"/proc/{self._process.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})

    @property
    def memory_bytes(self) -> int:
        """What its process has in memory."""
        assert self._process is not None
        shown = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(self._process.pid)], capture_output=True, text=True, check=True
        )
        return int(shown.stdout) * 1024

    async def kill(self) -> None:
        """kill -9."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """Ctrl-C; returns the exit code."""
        return await self._end(signal.SIGINT)

    async def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            os.kill(self._process.pid, number)
        return await self._process.wait()


def _tail(output: Path) -> str:
    return output.read_bytes()[-4000:].decode(errors="replace")


class Market(Struct, frozen=True):
    """A class with capacity on sale, a supplier and a buyer with money."""

    class_id: str
    buyer_key: str


@contextlib.asynccontextmanager
async def ready_market(exchange: ExchangeProcess) -> AsyncIterator[Market]:
    """One large ask at 2.50 in H100-SXM-80GB for 30 days, and a buyer with a million dollars."""
    async with Client(exchange.url, exchange.key) as admin:
        supplier = await admin.create_account("supplier", scopes=["read", "supply"])
        buyer = await admin.create_account("buyer", scopes=["read", "trade"])
        await admin.deposit(buyer.account_id, "1000000", reference="bench")
    assert buyer.key is not None
    async with Client(exchange.url, supplier.key) as client:
        await client.sell("H100-SXM-80GB", gpus=50_000, price="2.50", hours=720)
    yield Market(class_id="H100-SXM-80GB", buyer_key=buyer.key)
