"""The engine on a log: one partition's commands in, one answer each out.

Crash-only, and by six rules no answer is lost or given twice, without transactions (architecture.md, kafka.md): any
error ends the service; the place to go on from is the last answer in the log itself; two engines at once write the
same bytes.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from matching_engine.ahead import AT_ONCE
from matching_engine.engine import Engine
from matching_engine.metrics import LOGGED, MATCHED, EngineMetrics
from matching_engine.replay import last_answered, next_offset, recovered
from schemas.codec import decode_command, encode
from schemas.commands import Tick
from schemas.events import Execution
from schemas.ids import offset_of
from schemas.log import Log, Record
from schemas.topics import COMMANDS, EXECUTIONS

LAG_EVERY_S = 1.0
LINGER_S = 0.01
"""Where those who wait have heard the answers already, they are appended in batches of so long."""
_TICK = encode(Tick())


class EngineService:
    """The engine of one partition. `run` ends only by being cancelled, or with the error that ended it."""

    def __init__(
        self,
        log: Log,
        partition: int,
        *,
        metrics: EngineMetrics,
        snapshots: Path | None = None,
        max_poll: int = 5000,
        idle_tick_s: float = 1.0,
    ) -> None:
        self.ready = asyncio.Event()
        """Set when all that had been answered before is folded."""
        self.engine = Engine(partition)
        self.listeners: list[Callable[[Execution], None]] = []
        """Each hears every answer at once, before it is in the log: its command is, so the answer is certain."""
        self._log = log
        self._partition = partition
        self._snapshots = snapshots
        self._max_poll = max_poll
        self._idle_tick_s = idle_tick_s
        self._unsent: list[bytes] = []
        self._unsent_stamps: list[int] = []
        self._lag_known_at = 0.0
        self._commands = metrics.commands.labels(partition)
        self._lag = metrics.lag.labels(partition)
        self._apply_seconds = metrics.apply_seconds.labels(partition)
        self._command_seconds = metrics.command_seconds.labels(partition)
        self._polled = metrics.polled.labels(partition)
        self._appended = metrics.appended.labels(partition)
        self._answer_seconds = metrics.answer_seconds
        metrics.watch(partition, lambda: self.engine)

    async def run(self) -> None:
        """Folds what was answered before, from the newest snapshot on, then answers each further command, in order."""
        answered = await last_answered(self._log, self._partition)
        self.engine = await recovered(
            self._log, self._partition, answered, self._snapshots, on_passed_over=_warn_of_snapshot
        )
        reader = await self._log.reader(COMMANDS, self._partition, next_offset(answered))
        self.ready.set()
        appending: asyncio.Task[None] | None = None
        try:
            while True:
                records = await reader.poll(self._max_poll, self._idle_tick_s)
                # One append at a time, so that answers stay in order; the next polls are matched while it is under way.
                if appending is not None and (appending.done() or len(self._unsent) >= self._max_poll):
                    await appending
                    appending = None
                if records:
                    self._unsent += self._answer(records)
                    appending = appending or asyncio.create_task(self._append())
                elif appending is None:
                    await self._log.append(COMMANDS, self._partition, [_TICK])
        finally:
            if appending is not None:
                appending.cancel()
                await asyncio.gather(appending, return_exceptions=True)
            await reader.close()

    def _answer(self, records: list[Record]) -> list[bytes]:
        """Applies the commands; their answers."""
        expect, apply = self.engine.expect, self.engine.apply
        executions: list[Execution] = []
        began = time.perf_counter()
        for first in range(0, len(records), AT_ONCE):
            some = records[first : first + AT_ONCE]
            commands = [decode_command(record.value) for record in some]
            expect(commands)
            executions += [
                apply(record.offset, record.time, command) for record, command in zip(some, commands, strict=True)
            ]
        took = time.perf_counter() - began
        for listener in self.listeners:
            for execution in executions:
                listener(execution)
        stamps = [record.time for record in records]
        self._watch_delay(MATCHED, stamps)
        self._unsent_stamps += stamps
        self._apply_seconds.observe(took)
        self._command_seconds.observe(took / len(records))
        self._polled.observe(len(records))
        return [encode(execution) for execution in executions]

    async def _append(self) -> None:
        """Appends what is answered, until nothing is left."""
        while self._unsent:
            if self.listeners:
                await asyncio.sleep(LINGER_S)
            answers, self._unsent = self._unsent, []
            stamps, self._unsent_stamps = self._unsent_stamps, []
            await self._log.append(EXECUTIONS, self._partition, answers)
            self._watch_delay(LOGGED, stamps)
            self._appended.observe(len(answers))
            self._commands.inc(len(answers))
            await self._watch_lag()

    def _watch_delay(self, stage: str, stamps: list[int]) -> None:
        if self._log.speed == 1:  # else a stamp is a time of the play
            self._answer_seconds.observe(self._partition, stage, stamps, self._log.now())

    async def _watch_lag(self) -> None:
        if time.monotonic() - self._lag_known_at > LAG_EVERY_S:  # on Kafka it is a round trip
            self._lag_known_at = time.monotonic()
            end = await self._log.end(COMMANDS, self._partition)
            self._lag.set(max(0, end - 1 - offset_of(self.engine.position)))


def _warn_of_snapshot(why: str) -> None:
    structlog.get_logger().warning("a snapshot was passed over", why=why)
