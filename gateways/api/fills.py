"""The public stream of fills by long poll: the newest of each partition are in memory, older ones in the log."""

import asyncio
import re

from gateways.api.errors import ApiError, invalid
from schemas.codec import decode_fill
from schemas.fills import PublicFill
from schemas.log import Log, Reader, Record
from schemas.topics import FILLS

MAX_RECENT = 5_000
MAX_WAITING = 1_000
"""Long polls at a time, over all callers."""
_CURSOR = re.compile(r"\d{1,15}(\.\d{1,15})*", re.ASCII)


class _Tail:
    """The newest records of one partition."""

    def __init__(self, end: int, reader: Reader) -> None:
        self.end = end
        self.records: list[Record] = []
        self.reader = reader

    def add(self, records: list[Record]) -> None:
        self.records += records
        self.end += len(records)
        if len(self.records) > 2 * MAX_RECENT:
            del self.records[:-MAX_RECENT]

    def read(self, offset: int, limit: int) -> list[Record] | None:
        """From `offset` on; None where that is older than what is here."""
        first = offset - (self.end - len(self.records))
        return None if first < 0 else self.records[first : first + limit]


class FillsFeed:
    """Follows the topic `fills`. `start` before the first request is taken."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._tails: list[_Tail] = []
        self._news: asyncio.Event = asyncio.Event()
        self._waiting = 0

    async def start(self) -> None:
        """Finds the ends. Raises LogError."""
        for partition in range(self._log.partitions(FILLS)):
            end = await self._log.end(FILLS, partition)
            self._tails.append(_Tail(end, await self._log.reader(FILLS, partition, end)))

    async def run(self) -> None:
        """Raises LogError."""
        async with asyncio.TaskGroup() as group:
            for tail in self._tails:
                group.create_task(self._follow(tail))

    async def after(
        self, cursor: str, *, class_id: str | None, limit: int, wait_s: float
    ) -> tuple[list[PublicFill], str]:
        """Fills after `cursor` (or `start`, `end`) and the cursor behind them; waits where there are none yet.

        Ordered within a class. Raises ApiError.
        """
        offsets = self._offsets(cursor)
        deadline = asyncio.get_running_loop().time() + wait_s
        while True:
            news = self._news
            read_on = await self._read(offsets, limit)
            fills = [fill for fill in read_on if class_id is None or fill.class_id == class_id]
            remaining = deadline - asyncio.get_running_loop().time()
            if fills or (remaining <= 0 and not read_on):
                return fills, ".".join(map(str, offsets))
            if not read_on:
                await self._wait(news, remaining)

    async def _read(self, offsets: list[int], limit: int) -> list[PublicFill]:
        """Up to `limit` fills; moves the offsets past them."""
        fills: list[PublicFill] = []
        for partition, tail in enumerate(self._tails):
            room = limit - len(fills)
            if not room or offsets[partition] == tail.end:
                continue
            records = tail.read(offsets[partition], room)
            if records is None:
                records = await self._from_log(partition, offsets[partition], room)
            offsets[partition] += len(records)
            fills += [decode_fill(record.value) for record in records]
        return fills

    async def _from_log(self, partition: int, offset: int, limit: int) -> list[Record]:
        reader = await self._log.reader(FILLS, partition, offset)
        try:
            return await reader.poll(limit, timeout_s=5.0)
        finally:
            await reader.close()

    async def _wait(self, news: asyncio.Event, timeout_s: float) -> None:
        if self._waiting >= MAX_WAITING:
            raise ApiError(
                429, "busy", f"{MAX_WAITING} requests wait for fills already: try again", headers={"Retry-After": "1"}
            )
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                await news.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1

    async def _follow(self, tail: _Tail) -> None:
        try:
            while True:
                records = await tail.reader.poll()
                if records:
                    tail.add(records)
                    news, self._news = self._news, asyncio.Event()
                    news.set()
        finally:
            await tail.reader.close()

    def _offsets(self, cursor: str) -> list[int]:
        ends = [tail.end for tail in self._tails]
        if cursor == "start":
            return [0] * len(ends)
        if cursor == "end":
            return ends
        offsets = [int(part) for part in cursor.split(".")] if _CURSOR.fullmatch(cursor) else []
        if len(offsets) != len(ends) or any(offset > end for offset, end in zip(offsets, ends, strict=True)):
            raise invalid(
                "after", f"{cursor!r} is no cursor of this stream: use start, end, or one that an answer gave"
            )
        return offsets
