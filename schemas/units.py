"""Money, price, quantity and time: ints inside, decimal strings and RFC 3339 outside (rulebook: Units).

Money is micro-dollars (µ$), a price is µ$ per GPU-hour, time is milliseconds since the epoch in UTC.
A float never holds any of them.
"""

import functools
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

MICRO = 1_000_000
SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
GRID_MS = MINUTE_MS
"""Windows are aligned to this."""
MAX_WINDOW_MS = 365 * DAY_MS
MAX_TIME_MS = 253_402_300_799_999
"""The last millisecond of year 9999, where RFC 3339 ends."""
BPS = 10_000
"""Fees are basis points: 10,000 of them are the whole."""

# The largest order still costs less than 2^63 µ$, fee included: see test_units.
MAX_PRICE = 10_000 * MICRO
MAX_QUANTITY = 65_536
MAX_FEE_BPS = 1_000
MAX_STARTS = 32


def cost(price: int, quantity: int, duration_ms: int) -> int:
    """Cost in µ$, floored, of `quantity` GPUs at `price` µ$ per GPU-hour for `duration_ms` (rulebook: Units).

    >>> cost(2_500_000, 8, 90 * 60_000)
    30000000
    """
    return price * quantity * duration_ms // HOUR_MS


def fee(price: int, quantity: int, duration_ms: int, fee_bps: int) -> int:
    """Fee in µ$, floored once, of that cost at `fee_bps` basis points.

    >>> fee(2_500_000, 8, 90 * 60_000, 200)
    600000
    """
    return price * quantity * duration_ms * fee_bps // (HOUR_MS * BPS)


def hold(limit: int, left: int, duration_ms: int, fee_bps: int) -> int:
    """µ$ held for the open rest of a bid: ceil(cost(limit, left, duration) * (1 + buyer's fee)).

    >>> hold(2_500_001, 1, 60_000, 0)
    41667
    """
    return -(-limit * left * duration_ms * (BPS + fee_bps) // (HOUR_MS * BPS))


def escrow(price: int, quantity: int, duration_ms: int, fee_bps: int) -> int:
    """µ$ put aside for a fill: floored cost plus floored buyer's fee; never above what the hold had for it."""
    return cost(price, quantity, duration_ms) + fee(price, quantity, duration_ms, fee_bps)


def ceil_grid(time_ms: int) -> int:
    """`time_ms` rounded up to the window grid."""
    return -(-time_ms // GRID_MS) * GRID_MS


def starts_from(starts: tuple[int, ...], now: int) -> tuple[int, ...]:
    """A bid's starts, "now" (0) resolved. Where now is one of the other starts too, the earlier mention stands."""
    soon = ceil_grid(now)
    return tuple(dict.fromkeys(start or soon for start in starts))


_USD = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,6}))?", re.ASCII)
"""In µ$ all of them have 63 bits."""


@lru_cache(1024)
def parse_usd(text: str) -> int:
    """Dollars as a decimal string -> µ$. Raises ValueError with what to do.

    >>> parse_usd("2.60")
    2600000
    """
    match = _USD.fullmatch(text)
    if match is None:
        advice = "write it like 2.60, with at most 12 digits before the point and 6 after it"
        raise ValueError(f"{text!r} is not an amount in dollars: {advice}")
    sign, whole, fraction = match.groups()
    amount = int(whole) * MICRO + int((fraction or "").ljust(6, "0"))
    return -amount if sign else amount


@lru_cache(4096)
@lru_cache(4096)
def format_usd(amount: int) -> str:
    """µ$ -> dollars as an exact decimal string with at least two decimals.

    >>> format_usd(2_499_900)
    '2.4999'
    """
    whole, fraction = divmod(abs(amount), MICRO)
    decimals = f"{fraction:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if amount < 0 else ''}{whole}.{decimals}"


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(
    r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII
)


def parse_time(text: str) -> int:
    """RFC 3339 with an offset -> ms since the epoch, floored. Raises ValueError with what to do.

    In 1970 and 9999, the first year and the last, it is taken in UTC alone: with an offset it may be of another.

    >>> parse_time("1970-01-02T00:00:00.5Z")
    86400500
    """
    advice = f"{text!r} is not a time: write it in RFC 3339 like 2026-11-24T03:00:00Z"
    if not _TIME.fullmatch(text):  # of what ISO 8601 has beyond it Python reads much
        raise ValueError(advice)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(advice) from None
    if moment.year < 1970:
        raise ValueError(f"{text!r} is before 1970")
    if moment.year in (1970, 9999) and moment.utcoffset():
        raise ValueError(f"{text!r} is not in UTC: write times of 1970 and 9999 with a Z")
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def format_time(time_ms: int) -> str:
    """ms since the epoch -> RFC 3339 in UTC, with milliseconds only where there are any.

    >>> format_time(86_400_500)
    '1970-01-02T00:00:00.500Z'
    """
    if not 0 <= time_ms <= MAX_TIME_MS:
        raise ValueError(f"{time_ms} ms is outside the years 1970 to 9999")
    seconds, ms = divmod(time_ms, 1000)
    return f"{_format_second(seconds)}.{ms:03d}Z" if ms else f"{_format_second(seconds)}Z"


@lru_cache(4096)
def _format_second(seconds: int) -> str:
    """Kept, as answers of one moment have the same times in them; to make one takes 2 µs."""
    return (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat(timespec="seconds")


def month_of(time_ms: int) -> int:
    """The UTC month of a moment, counted from January 1970.

    >>> month_of(86_400_500), month_of(31 * DAY_MS)
    (0, 1)
    """
    return _month_of_day(time_ms // DAY_MS)


@functools.lru_cache(maxsize=1024)  # asked twice for each charge, of few days
def _month_of_day(day: int) -> int:
    moment = _EPOCH + timedelta(days=day)
    return (moment.year - 1970) * 12 + moment.month - 1


def month_start(month: int) -> int:
    """Its first moment, in ms. A month ends where the next begins."""
    year, before = divmod(month, 12)
    return (datetime(1970 + year, 1 + before, 1, tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)


_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)


def parse_month(text: str) -> int:
    """A month like 2026-11. Raises ValueError with what to do.

    >>> parse_month("1971-02")
    13
    """
    match = _MONTH.fullmatch(text)
    if match is None or not 1970 <= int(match[1]) < 9999:
        raise ValueError(f"{text!r} is not a month: write it like 2026-11")
    return (int(match[1]) - 1970) * 12 + int(match[2]) - 1


def format_month(month: int) -> str:
    """
    >>> format_month(13)
    '1971-02'
    """
    year, before = divmod(month, 12)
    return f"{1970 + year:04d}-{before + 1:02d}"


_DURATION = re.compile(r"(?:(\d{1,5})d)?(?:(\d{1,6})h)?(?:(\d{1,8})m)?", re.ASCII)


@lru_cache(1024)
@lru_cache(1024)
def parse_duration(text: str) -> int:
    """A duration like 24h, 90m, 7d or 1h30m -> ms. Raises ValueError with what to do.

    >>> parse_duration("1h30m")
    5400000
    """
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"{text!r} is not a duration: write it like 24h, 90m, 7d or 1h30m")
    days, hours, minutes = (int(part or 0) for part in match.groups())
    return days * DAY_MS + hours * HOUR_MS + minutes * MINUTE_MS


@lru_cache(1024)
def format_duration(duration_ms: int) -> str:
    """ms (a multiple of a minute) -> the form that `parse_duration` reads.

    >>> format_duration(90 * 60_000)
    '1h30m'
    """
    minutes = duration_ms // MINUTE_MS
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{n}{unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "m")) if n]
    return "".join(parts) or "0m"
