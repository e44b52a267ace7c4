"""The public stream of fills: derived from executions by a process that keeps no state outside the log.

Each partition of `executions` gives one of `fills`. The last record there says which fill was published last; what
comes after it in executions is still to do. So a crash at any moment loses nothing, and at worst, when two publish
at once, a fill comes again with equal bytes.
"""

import asyncio
import time

from gateways.market_data.metrics import FillsMetrics
from schemas.codec import decode_execution, decode_fill, encode_fill
from schemas.executions import Follower, GapError
from schemas.fills import PublicFill, public_fills
from schemas.ids import FillId, parse_fill_id
from schemas.log import Log, LogError, Record
from schemas.topics import EXECUTIONS, FILLS

PACE_S = 0.05
"""After an append it rests so long, so that what comes meanwhile shares the next, and orders have the log."""
MAX_POLL = 2000
WATCH_S = 1.0
"""How often it looks how far it is behind: on Kafka that is a round trip."""
STEP_BACK = 4096
"""Executions: how far before the end the search for the place to go on begins; doubled until it is before that."""
TAIL_TIMEOUT_S = 10.0
_NONE: FillId = (-1, 0)
"""Before every fill."""


class FillsPublisher:
    """Publishes the fills of one partition. `run` ends only by being cancelled, or with the error that ended it."""

    def __init__(self, log: Log, partition: int, *, metrics: FillsMetrics) -> None:
        self.ready = asyncio.Event()
        """Set when all that executions held at the start is published."""
        self._log = log
        self._partition = partition
        self._last = _NONE
        self._watched_at = -WATCH_S
        self._published = metrics.published.labels(partition)
        self._lag = metrics.lag.labels(partition)

    async def run(self) -> None:
        """Goes on after the last fill published. Raises GapError where executions themselves have a gap."""
        end = await self._log.end(FILLS, self._partition)
        if end:
            record = await self._read(FILLS, end - 1)
            self._last = parse_fill_id(decode_fill(record.value).fill_id)
        offset, follower = await self._place()
        try:
            await self._publish_from(offset, follower)
        except GapError:
            if not offset:
                raise
            # Where two engines wrote at once, a gap seen from the middle need not be one from the start.
            await self._publish_from(0, Follower())

    async def _place(self) -> tuple[int, Follower]:
        """Where in executions to go on: at a record at or before the last fill, so that none after it is missed."""
        end = await self._log.end(EXECUTIONS, self._partition)
        offset, back = end, STEP_BACK
        while self._last != _NONE and (offset := max(0, end - back)):
            first = decode_execution((await self._read(EXECUTIONS, offset)).value)
            if first.position <= self._last[0]:
                return offset, Follower(first.prev)
            back *= 2
        return 0, Follower()

    async def _publish_from(self, offset: int, follower: Follower) -> None:
        end = await self._log.end(EXECUTIONS, self._partition)
        reader = await self._log.reader(EXECUTIONS, self._partition, offset)
        try:
            while True:
                if offset >= end:
                    self.ready.set()
                records = await reader.poll(MAX_POLL)
                offset += len(records)
                await self._publish(records, follower)
                await self._watch_lag(offset)
                if records and self.ready.is_set():
                    await asyncio.sleep(PACE_S)
        finally:
            await reader.close()

    async def _publish(self, records: list[Record], follower: Follower) -> None:
        """One append for all new fills of a poll."""
        fills: list[PublicFill] = []
        for record in records:
            execution = decode_execution(record.value)
            if not follower.accept(execution) or execution.position < self._last[0]:
                continue
            new = public_fills(execution)
            if execution.position == self._last[0]:
                new = [fill for fill in new if parse_fill_id(fill.fill_id) > self._last]
            fills += new
        if fills:
            await self._log.append(FILLS, self._partition, [encode_fill(fill) for fill in fills])
            self._last = parse_fill_id(fills[-1].fill_id)
            self._published.inc(len(fills))

    async def _watch_lag(self, offset: int) -> None:
        if time.monotonic() - self._watched_at >= WATCH_S:
            self._watched_at = time.monotonic()
            self._lag.set(await self._log.end(EXECUTIONS, self._partition) - offset)

    async def _read(self, topic: str, offset: int) -> Record:
        """One record that is there. Raises LogError."""
        reader = await self._log.reader(topic, self._partition, offset)
        try:
            records = await reader.poll(1, timeout_s=TAIL_TIMEOUT_S)
        finally:
            await reader.close()
        if not records:
            raise LogError(f"{topic}, partition {self._partition}: offset {offset} could not be read")
        return records[0]
