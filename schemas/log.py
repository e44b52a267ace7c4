"""The log: the one truth, and how it is written and read. Implementations: `gateways/log`."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct


class Record(Struct, frozen=True, gc=False):
    """One message as the log holds it."""

    offset: int
    time: int
    """ms since the epoch, stamped by the log when it took the record."""
    value: bytes


MAX_RECORD_BYTES = 1_000_000
"""Of one record's value: just below what Kafka takes by default. Each log refuses more before it appends any."""


class LogError(Exception):
    """The log cannot be used: the message says what is wrong and what to do. Whether an append under way was
    taken is unknown; a service that meets this ends, and its supervisor starts it again (crash-only)."""


def check_sizes(values: Sequence[bytes]) -> None:
    """Raises LogError where a value is above MAX_RECORD_BYTES."""
    largest = max(map(len, values), default=0)
    if largest > MAX_RECORD_BYTES:
        raise LogError(f"a record of {largest} bytes cannot be appended: the most is {MAX_RECORD_BYTES}")


class Reader(Protocol):
    """A place in one partition. Not for use by two tasks at once."""

    async def poll(self, max_records: int = 5000, timeout_s: float = 1.0) -> list[Record]:
        """The next records in order, at once when there are any; an empty list when none came in `timeout_s`.

        Offsets rise, with no gap. Times may not go back as the reader sees them.
        """
        ...

    async def close(self) -> None:
        """Lets go of what the reader holds."""
        ...


class Log(Protocol):
    """Topics of partitions of records, each kept for ever once its append has returned."""

    id: str
    """The same at each opening; another log has another, but for topics that were made anew under the same names."""
    speed: int
    """How many times faster than the wall its clock runs: 1, except in a demo's own embedded log."""

    def now(self) -> int:
        """About the time in ms that the log would stamp now. For deadlines of requests; never for a rule."""
        ...

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has, 0 to n-1."""
        ...

    async def append(self, topic: str, partition: int, values: Sequence[bytes]) -> Sequence[int]:
        """Appends the records in order and returns their offsets once all are durable.

        Many tasks may append at once: each call's records keep their order. Raises LogError; a value above
        MAX_RECORD_BYTES is one.
        """
        ...

    async def reader(self, topic: str, partition: int, offset: int) -> Reader:
        """A reader whose first record is at `offset`, which may be the end. Raises LogError if it is beyond."""
        ...

    async def end(self, topic: str, partition: int) -> int:
        """The offset that the next record will get."""
        ...

    async def close(self) -> None:
        """Waits for what is under way and lets go of everything."""
        ...
