"""What traded, as market data shows it: candles and tickers, and the Protocol by which gateways ask for them."""

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from schemas.fills import PublicFill
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS

INTERVALS = {"1m": MINUTE_MS, "15m": 15 * MINUTE_MS, "1h": HOUR_MS, "1d": DAY_MS}
"""Of candles, by name: ms."""


class Candle(Struct):
    """The fills of one class in one interval of log time. An interval without fills has none."""

    start: int
    """ms; a multiple of the interval since the epoch."""
    open: int
    """µ$ per GPU-hour, as the three below."""
    high: int
    low: int
    close: int
    fills: int
    gpu_ms: int
    """Quantity × length of the windows that were sold."""
    value: int
    """µ$, what they cost in all: each fill's cost floored, without fees."""


class Ticker(Struct, frozen=True):
    """A class's last 24 hours."""

    last: int
    """µ$ per GPU-hour of the newest fill."""
    time: int
    """ms; of the newest fill."""
    number: int
    """Of the newest fill."""
    day: Candle | None
    """The last 1,440 minutes, the running one included, as one candle; None: nothing traded."""


class Tape(Protocol):
    """Who answers for what traded: a fold of the public fills."""

    listeners: list[Callable[[PublicFill], None]]
    """Each hears every new fill, once and in the order of its class."""

    def candles(self, class_id: str, interval: str, *, before: int, limit: int) -> list[Candle]:
        """The newest `limit` that begin before that ms, oldest first."""
        ...

    def ticker(self, class_id: str, now: int) -> Ticker | None:
        """None before the first fill."""
        ...

    def after(self, class_id: str, number: int) -> list[PublicFill] | None:
        """The fills behind that number; None where the tape has forgotten some of them, or has not had that one."""
        ...

    def last(self, class_id: str) -> int:
        """The number of the newest fill; 0 before the first."""
        ...
