"""The edge of every bound: the last value that is taken, and the first that is refused, with its code."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from matching_engine import checks
from matching_engine.checks import Refused
from schemas.attributes import Accepts, Attributes, ClassSpec
from schemas.commands import Extend, PlaceAsk, PlaceBid, Return, SetLimits, TimeInForce
from schemas.refusals import Refusal
from schemas.units import (
    BPS,
    DAY_MS,
    GRID_MS,
    HOUR_MS,
    MAX_FEE_BPS,
    MAX_PRICE,
    MAX_QUANTITY,
    MAX_STARTS,
    MAX_TIME_MS,
    MAX_WINDOW_MS,
    MINUTE_MS,
)

NOW = 1_795_478_400_000
START = NOW + DAY_MS
SPEC = ClassSpec("H100", "NVIDIA H100", 80, "SXM", tick=1, max_price=10_000, max_quantity=64)
ASK = PlaceAsk("H100", 1, 1, "a", NOW, 4, 5_000, START, START + DAY_MS, Attributes())
BID = PlaceBid("H100", 2, 2, "b", NOW, 4, 5_000, HOUR_MS, (START,), Accepts(), 1)
EXTEND = Extend((0, 0), 1, 2, 2, "e", NOW, 4, START, START + HOUR_MS, 5_000)
RETURN = Return((0, 0), 1, 4, START, START + HOUR_MS)
LIMITS = SetLimits(1, 10, 10, 10)
ACCOUNT = (1 << 63) - 1
LAST = MAX_TIME_MS // GRID_MS * GRID_MS

Check = Callable[[Any], Refused | None]


def of_ask(ask: PlaceAsk, now: int = NOW) -> Refused | None:
    return checks.check_ask(ask, ask.start, SPEC, now)


def of_bid(bid: PlaceBid, now: int = NOW) -> Refused | None:
    return checks.check_bid(bid, bid.starts, SPEC, now)


def of_extend(extend: Extend, now: int = NOW) -> Refused | None:
    return checks.check_extend(extend, SPEC, now)


def window(start: int, end: int) -> Refused | None:
    return checks.check_offered(start, end, GRID_MS)


def gtd(expire_at: int) -> PlaceBid:
    return replace(BID, time_in_force=TimeInForce.GTD, expire_at=expire_at)


def starting(count: int) -> tuple[int, ...]:
    return tuple(START + minute * MINUTE_MS for minute in range(count))


def field(check: Check, message: Any, name: str) -> Check:
    return lambda value: check(replace(message, **{name: value}))


EDGES: list[tuple[str, Check, int, int, int, Refusal]] = [
    *(
        (f"{name}.{each}", field(check, message, each), least, most, step, code)
        for name, check, message in (("ask", of_ask, ASK), ("bid", of_bid, BID), ("extend", of_extend, EXTEND))
        for each, least, most, step, code in (
            ("price", 1, 10_000, 1, Refusal.PRICE_OUT_OF_RANGE),
            ("quantity", 1, 64, 1, Refusal.QUANTITY_OUT_OF_RANGE),
            ("owner", 1, ACCOUNT, 1, Refusal.UNKNOWN_ACCOUNT),
            ("fee_bps", 0, MAX_FEE_BPS, 1, Refusal.FEE_OUT_OF_RANGE),
        )
    ),
    ("ask.lot", field(of_ask, ASK, "lot"), 1, 4, 3, Refusal.LOT_OUT_OF_RANGE),
    ("ask.display", field(of_ask, ASK, "display"), 0, 4, 1, Refusal.DISPLAY_OUT_OF_RANGE),
    ("bid.min_fill", field(of_bid, BID, "min_fill"), 1, 4, 1, Refusal.MIN_FILL_OUT_OF_RANGE),
    (
        "ask.min_duration",
        lambda value: checks.check_offered(START, START + MAX_WINDOW_MS, value),
        GRID_MS,
        MAX_WINDOW_MS,
        GRID_MS,
        Refusal.MIN_DURATION_OUT_OF_RANGE,
    ),
    ("ask.start", lambda value: window(value, value + GRID_MS), 0, LAST - GRID_MS, LAST, Refusal.TIME_OUT_OF_RANGE),
    (
        "ask.end",
        lambda value: window(LAST - 2 * GRID_MS, value),
        LAST - GRID_MS,
        LAST,
        LAST,
        Refusal.TIME_OUT_OF_RANGE,
    ),
    (
        "ask.window",
        lambda value: window(START, START + value),
        GRID_MS,
        MAX_WINDOW_MS,
        MAX_WINDOW_MS,
        Refusal.DURATION_OUT_OF_RANGE,
    ),
    (
        "attributes.notice_minutes",
        lambda value: checks.check_stated(Attributes(notice_minutes=value)),
        0,
        7 * 24 * 60,
        1,
        Refusal.ATTRIBUTES_INVALID,
    ),
    ("bid.duration", field(of_bid, BID, "duration"), GRID_MS, MAX_WINDOW_MS, GRID_MS, Refusal.DURATION_OUT_OF_RANGE),
    (
        "bid.starts",
        lambda value: of_bid(replace(BID, starts=starting(value))),
        1,
        MAX_STARTS,
        1,
        Refusal.START_COUNT_OUT_OF_RANGE,
    ),
    (
        "bid.starts",
        lambda value: checks.check_wanted((value,), GRID_MS),
        0,
        (MAX_TIME_MS - MAX_WINDOW_MS) // GRID_MS * GRID_MS,
        GRID_MS,
        Refusal.TIME_OUT_OF_RANGE,
    ),
    (
        "accepts.only_suppliers",
        lambda value: checks.check_accepted(Accepts(only_suppliers=(value,))),
        1,
        ACCOUNT,
        1,
        Refusal.ACCEPTS_INVALID,
    ),
    *(
        (f"class.{name}", field(checks.check_class, SPEC, name), least, most, 1, Refusal.CLASS_INVALID)
        for name, least, most in (
            ("memory_gb", 0, 1 << 20),
            ("max_price", 1, MAX_PRICE),
            ("tick", 1, 10_000),
            ("max_quantity", 1, MAX_QUANTITY),
            ("delivery_due_ms", MINUTE_MS, DAY_MS),
            ("acceptance_ms", 0, DAY_MS),
            ("grace_ms", 0, MAX_WINDOW_MS),
            ("band_bps", 0, BPS - 1),
        )
    ),
    *(
        (
            f"class.{name}",
            lambda value, name=name: checks.check_class(replace(SPEC, **{name: "x" * value})),
            1,
            64,
            1,
            Refusal.CLASS_INVALID,
        )
        for name in ("class_id", "accelerator", "form_factor")
    ),
    ("limits.open_orders", field(checks.check_limits, LIMITS, "open_orders"), 1, 10_000, 1, Refusal.LIMITS_INVALID),
    ("limits.notional", field(checks.check_limits, LIMITS, "notional"), 0, 1 << 62, 1, Refusal.LIMITS_INVALID),
    ("limits.quantity", field(checks.check_limits, LIMITS, "quantity"), 0, MAX_QUANTITY, 1, Refusal.LIMITS_INVALID),
    ("fill.fill_id", lambda value: checks.check_fill((value, 0)), 0, ACCOUNT, 1, Refusal.RETURN_INVALID),
    ("fill.fill_id", lambda value: checks.check_fill((0, value)), 0, (1 << 31) - 1, 1, Refusal.RETURN_INVALID),
    ("lease.quantity", field(checks.check_lease, RETURN, "quantity"), 1, MAX_QUANTITY, 1, Refusal.RETURN_INVALID),
    (
        "lease.start",
        field(checks.check_lease, replace(RETURN, end=LAST), "start"),
        0,
        LAST - GRID_MS,
        LAST,
        Refusal.RETURN_INVALID,
    ),
    ("lease.end", field(checks.check_lease, RETURN, "end"), START + GRID_MS, LAST, GRID_MS, Refusal.RETURN_INVALID),
    (
        "extend.window",
        lambda value: of_extend(replace(EXTEND, end=START + value)),
        GRID_MS,
        MAX_WINDOW_MS,
        GRID_MS,
        Refusal.DURATION_OUT_OF_RANGE,
    ),
    (
        "extend.start",
        lambda value: of_extend(replace(EXTEND, start=value, end=value + GRID_MS), 0),
        0,
        LAST - GRID_MS,
        LAST,
        Refusal.TIME_OUT_OF_RANGE,
    ),
    (
        "extend.end",
        lambda value: of_extend(replace(EXTEND, start=LAST - 2 * GRID_MS, end=value)),
        LAST - GRID_MS,
        LAST,
        LAST,
        Refusal.TIME_OUT_OF_RANGE,
    ),
    ("bid.expire_at", lambda value: of_bid(gtd(value)), NOW + 1, MAX_TIME_MS, MAX_TIME_MS, Refusal.TIME_OUT_OF_RANGE),
]


NAMED = {
    Refusal.TIME_OUT_OF_RANGE,
    Refusal.ATTRIBUTES_INVALID,
    Refusal.ACCEPTS_INVALID,
    Refusal.CLASS_INVALID,
    Refusal.LIMITS_INVALID,
    Refusal.RETURN_INVALID,
}
"""Codes whose arguments begin with the field."""


@pytest.mark.parametrize(("name", "check", "least", "most", "step", "code"), EDGES, ids=[edge[0] for edge in EDGES])
def test_each_bound_is_taken_and_what_is_beyond_it_is_not(
    name: str, check: Check, least: int, most: int, step: int, code: Refusal
) -> None:
    assert (check(least), check(most)) == (None, None), name
    beyond = check(most + step)
    assert beyond is not None, name
    assert beyond[0] is code, name
    assert code not in NAMED or beyond[1][0] == name.split(".")[1]
    before = check(least - step)
    assert before is not None, name


def test_the_last_moment_at_which_an_order_can_trade_is_taken_and_the_next_is_not() -> None:
    minute = replace(ASK, min_duration=GRID_MS)
    assert of_ask(minute, ASK.end - GRID_MS) is None
    assert of_ask(minute, ASK.end - GRID_MS + 1) == (Refusal.WINDOW_EMPTY, (ASK.end, ASK.end, GRID_MS))
    assert of_ask(minute, ASK.end) == (Refusal.WINDOW_PAST, ("end", ASK.end, ASK.end))
    assert of_bid(BID, START) is None
    assert of_bid(BID, START + 1) == (Refusal.WINDOW_PAST, ("starts", START, START + 1))
    assert of_extend(EXTEND, START) is None
    assert of_extend(EXTEND, START + 1) == (Refusal.WINDOW_PAST, ("start", START, START + 1))
    assert of_bid(gtd(NOW)) == (Refusal.EXPIRY_PAST, (NOW, NOW))


def test_starts_are_counted_as_they_were_given() -> None:
    """Where "now" was among them they come resolved, and may be one fewer."""

    def given(*starts: int, market: bool = False) -> Refused | None:
        return checks.check_bid(replace(BID, starts=starts, market=market), (START,), SPEC, NOW)

    assert given(0) is None
    assert given(0, *starting(MAX_STARTS - 1)) is None
    for starts in ((0,), (0, *starting(MAX_STARTS - 1))):
        assert given(*starts, market=True) == (Refusal.MARKET_RESTS, ()), "what comes after is checked all the same"
    assert given(0, 0) == (Refusal.START_COUNT_OUT_OF_RANGE, (2, MAX_STARTS))
    assert given(0, *starting(MAX_STARTS)) == (Refusal.START_COUNT_OUT_OF_RANGE, (MAX_STARTS + 1, MAX_STARTS))


def test_as_many_suppliers_as_a_set_may_name() -> None:
    for name in ("only_suppliers", "not_suppliers"):
        assert checks.check_accepted(replace(Accepts(), **{name: tuple(range(1, 65))})) is None
        refused = checks.check_accepted(replace(Accepts(), **{name: tuple(range(1, 66))}))
        assert refused == (Refusal.ACCEPTS_INVALID, (name, "at most 64 accounts"))
