"""Candles and tickers: a fold of the public fills."""

import asyncio
import random

import pytest

from gateways.log.embedded import EmbeddedLog
from gateways.market_data import tape as tape_module
from gateways.market_data.tape import Tape
from schemas.codec import encode_fill
from schemas.fills import PublicFill
from schemas.tape import Candle
from schemas.topics import FILLS
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS, format_time, format_usd

NOON = 20_000 * DAY_MS + 12 * HOUR_MS


def fill(number: int, price: int, at: int, quantity: int = 1, hours: int = 1, class_id: str = "A") -> PublicFill:
    start = NOON + 5 * DAY_MS
    return PublicFill(
        number, class_id, f"fil_{number}-0", format_time(at), format_usd(price), quantity, format_time(start),
        format_time(start + hours * HOUR_MS), "us-east", "none", confidential=False, tier="guaranteed",
        delivery="vm", taker="bid",
    )  # fmt: skip


@pytest.fixture
def tape(embedded_log: EmbeddedLog) -> Tape:
    return Tape(embedded_log)


async def test_a_candle_has_first_highest_lowest_and_last_price_and_what_was_sold(tape: Tape) -> None:
    for number, (price, seconds, quantity, hours) in enumerate(
        [(2_000_000, 0, 8, 24), (2_500_000, 10, 1, 1), (1_900_000, 59, 2, 2), (2_100_000, 60, 1, 1)], 1
    ):
        tape.add(fill(number, price, NOON + seconds * 1000, quantity, hours))
    sold, worth = (8 * 24 + 1 + 4) * HOUR_MS, 8 * 24 * 2_000_000 + 2_500_000 + 4 * 1_900_000
    first = Candle(NOON, 2_000_000, 2_500_000, 1_900_000, 1_900_000, 3, sold, worth)
    second = Candle(NOON + MINUTE_MS, 2_100_000, 2_100_000, 2_100_000, 2_100_000, 1, HOUR_MS, 2_100_000)
    assert tape.candles("A", "1m", before=1 << 62, limit=9) == [first, second]
    hour = Candle(NOON, 2_000_000, 2_500_000, 1_900_000, 2_100_000, 4, sold + HOUR_MS, worth + 2_100_000)
    assert tape.candles("A", "1h", before=1 << 62, limit=9) == [hour]
    assert tape.candles("A", "1d", before=NOON, limit=9) == [
        Candle(NOON - 12 * HOUR_MS, *[getattr(hour, name) for name in Candle.__struct_fields__[1:]])
    ]
    assert tape.candles("B", "1d", before=NOON, limit=9) == []


async def test_candles_are_asked_for_page_by_page(tape: Tape) -> None:
    for number in range(1, 11):
        tape.add(fill(number, 1_000_000 + number, NOON + number * HOUR_MS))
    newest = tape.candles("A", "1h", before=1 << 62, limit=4)
    assert [candle.open for candle in newest] == [1_000_007, 1_000_008, 1_000_009, 1_000_010]
    before = tape.candles("A", "1h", before=newest[0].start, limit=4)
    assert [candle.open for candle in before] == [1_000_003, 1_000_004, 1_000_005, 1_000_006]


async def test_every_interval_agrees_with_the_minutes(tape: Tape) -> None:
    rng = random.Random(3)
    at = NOON
    for number in range(1, 1_001):
        at += rng.randrange(5 * MINUTE_MS)
        tape.add(fill(number, rng.randint(10, 30) * 100_000, at, rng.randint(1, 8), rng.randint(1, 9)))
    minutes = tape.candles("A", "1m", before=1 << 62, limit=5_000)
    for interval, length in (("15m", 15 * MINUTE_MS), ("1h", HOUR_MS), ("1d", DAY_MS)):
        for candle in tape.candles("A", interval, before=1 << 62, limit=5_000):
            within = [minute for minute in minutes if candle.start <= minute.start < candle.start + length]
            whole = tape_module.joined(within)
            assert whole is not None
            whole.start = candle.start
            assert whole == candle


async def test_a_ticker_is_of_the_last_24_hours(tape: Tape) -> None:
    assert tape.ticker("A", NOON) is None
    tape.add(fill(1, 3_000_000, NOON))
    tape.add(fill(2, 1_000_000, NOON + MINUTE_MS))
    tape.add(fill(3, 2_000_000, NOON + 2 * HOUR_MS))
    day = tape.ticker("A", NOON + 2 * HOUR_MS)
    assert day is not None
    assert (day.last, day.number, day.time) == (2_000_000, 3, NOON + 2 * HOUR_MS)
    assert day.day is not None
    assert (day.day.open, day.day.high, day.day.low, day.day.fills) == (3_000_000, 3_000_000, 1_000_000, 3)
    last_minute = tape.ticker("A", NOON + DAY_MS - 1)
    assert last_minute is not None
    assert last_minute.day is not None
    assert last_minute.day.fills == 3
    later = tape.ticker("A", NOON + DAY_MS)
    assert later is not None
    assert later.day is not None
    assert (later.day.open, later.day.fills) == (1_000_000, 2)
    much_later = tape.ticker("A", NOON + 9 * DAY_MS)
    assert much_later is not None
    assert (much_later.last, much_later.day) == (2_000_000, None)


async def test_a_fill_that_comes_twice_counts_once_and_is_told_once(tape: Tape) -> None:
    told: list[int] = []
    tape.listeners.append(lambda told_fill: told.append(told_fill.number))
    for number in (1, 2, 2, 1, 3):
        tape.add(fill(number, 1_000_000, NOON))
    assert told == [1, 2, 3]
    assert tape.candles("A", "1d", before=1 << 62, limit=1)[0].fills == 3


async def test_the_newest_fills_and_candles_are_kept(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape_module, "MAX_RECENT", 10)
    monkeypatch.setattr(tape_module, "MAX_CANDLES", 10)
    for number in range(1, 101):
        tape.add(fill(number, number * 100, NOON + number * MINUTE_MS))
    assert [known.number for known in tape.after("A", 90) or []] == list(range(91, 101))
    assert (tape.after("A", 100), tape.after("A", 89), tape.after("A", 101)) == ([], None, None)
    assert (tape.after("B", 0), tape.after("B", 1), tape.last("A"), tape.last("B")) == ([], None, 100, 0)
    minutes = tape.candles("A", "1m", before=1 << 62, limit=5_000)
    assert 10 <= len(minutes) <= 20
    assert minutes[-1].close == 10_000


async def test_a_tape_folds_what_the_log_holds_and_what_comes(embedded_log: EmbeddedLog) -> None:
    await embedded_log.append(FILLS, 0, [encode_fill(fill(number, 1_000_000, NOON)) for number in range(1, 51)])
    tape = Tape(embedded_log)
    running = asyncio.create_task(tape.run())
    await asyncio.wait_for(tape.ready.wait(), 10)
    assert tape.last("A") == 50
    heard: asyncio.Queue[int] = asyncio.Queue()
    tape.listeners.append(lambda told: heard.put_nowait(told.number))
    await embedded_log.append(FILLS, 0, [encode_fill(fill(51, 2_000_000, NOON))])
    assert await asyncio.wait_for(heard.get(), 10) == 51
    assert tape.last("A") == 51
    running.cancel()
    await asyncio.wait([running])
