"""The play: one seed, one market; what it sends is valid, what it meters is true, and the view fits a terminal."""

import asyncio
import io
import itertools
import re
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

from gateways.cli.demand import HORIZON_MS, ORDERS_PER_S, Demand, Offer, Pace, Wish, offers, pace, terms
from gateways.cli.facts.classes import standard_classes
from gateways.cli.facts.prices import list_prices
from gateways.cli.play import PlayState
from gateways.cli.players import Clock, Floor, accepted_by, moment, usage_report
from gateways.cli.view import View
from gateways.client import ExchangeError
from gateways.client.types import Book, BookLevel, Fill, Lease, Status
from matching_engine.checks import check_ask, check_bid, check_class
from schemas.attributes import Accepts, region_mask
from schemas.commands import PlaceAsk, PlaceBid
from schemas.units import HOUR_MS, MAX_TIME_MS, MINUTE_MS, ceil_grid, format_time, parse_duration, parse_time

SPECS = {spec.class_id: spec for spec in standard_classes()}
TICKS = {spec.class_id: spec.tick for spec in SPECS.values()}
NOW = parse_time("2026-11-24T03:00:30Z")
SPEEDS = pytest.mark.parametrize("speed", [1, 60, 3600, 86_400])


def supply(seed: int = 7) -> list[Offer]:
    return offers(list_prices(), SPECS, seed)


def wishes(count: int, seed: int = 7, of: Pace | None = None) -> list[Wish]:
    demand = Demand(supply(), TICKS, of or pace(3600), seed)
    return [demand.wish() for _ in range(count)]


def test_a_seed_is_a_market_and_another_seed_another() -> None:
    assert supply() == supply()
    assert wishes(500) == wishes(500)
    assert supply() != supply(seed=8)
    assert wishes(500) != wishes(500, seed=8)


@SPEEDS
def test_the_exchange_takes_every_class_every_offer_and_every_wish(speed: int) -> None:
    of = pace(speed)
    specs = {class_id: terms(spec, of.unit_ms) for class_id, spec in SPECS.items()}
    assert [spec for spec in specs.values() if check_class(spec) is not None] == []
    start = ceil_grid(NOW)
    for offer in supply():
        line = offer.line
        ask = PlaceAsk(
            line.class_id,
            1,
            1,
            "x",
            MAX_TIME_MS,
            offer.quantity,
            line.price,
            start,
            start + HORIZON_MS,
            offer.attributes,
            of.unit_ms,
            line.instance_size,
        )
        assert check_ask(ask, start, specs[line.class_id], NOW) is None, offer
    for wish in wishes(2000, of=of):
        starts = tuple(start + (wish.first_step + step) * of.unit_ms for step in range(wish.steps))
        accepts = Accepts(region_mask(list(wish.regions)), interconnect=wish.interconnect)
        bid = PlaceBid(
            wish.class_id,
            2,
            2,
            "x",
            MAX_TIME_MS,
            wish.quantity,
            wish.price,
            wish.duration_ms,
            starts,
            accepts,
            wish.min_fill,
            wish.prefer,
            wish.time_in_force,
        )
        assert check_bid(bid, starts, specs[wish.class_id], NOW) is None, wish


def test_asks_are_at_the_listed_prices_and_bids_on_both_sides_of_them() -> None:
    assert [(offer.line, offer.quantity % offer.line.instance_size) for offer in supply()] == [
        (line, 0) for line in list_prices()
    ]
    cheapest = {
        class_id: min(offer.line.price for offer in supply() if offer.line.class_id == class_id)
        for class_id in {offer.line.class_id for offer in supply()}
    }
    above = sum(wish.price >= cheapest[wish.class_id] for wish in wishes(2000))
    assert 1000 < above < 1950


def test_bids_arrive_by_the_profile_at_the_rate_stated() -> None:
    demand = Demand(supply(), TICKS, pace(3600), 7)
    elapsed = 0.0
    by_second = [0] * 351
    while elapsed < 350:
        elapsed += demand.gap_s(elapsed)
        by_second[int(elapsed)] += 1
    assert sum(by_second) == pytest.approx(350 * ORDERS_PER_S, rel=0.05)
    quiet, busy = sorted(by_second[:350])[35], sorted(by_second[:350])[-35]
    assert busy > 1.5 * quiet, "the trace is not even"


def test_moments_are_as_the_api_reads_them() -> None:
    assert moment(0, HOUR_MS) == "now"
    assert moment(3, MINUTE_MS) == "now+3m"
    assert parse_duration(moment(25, HOUR_MS).removeprefix("now+")) == 25 * HOUR_MS


def test_the_clock_is_never_ahead() -> None:
    clock = Clock(3600)
    clock.set("2026-11-24T03:00:00.500Z")
    first, second = clock.now(), clock.now()
    assert parse_time("2026-11-24T03:00:00.500Z") <= first <= second


# Metering: four GPUs from 03:00 to 05:00, delivered at 03:10

LEASE = Lease(
    lease_id="",
    class_id="H100-SXM-80GB",
    role="supplier",
    order_id="ord_1",
    buyer="acc_1",
    supplier="acc_2",
    price="2.50",
    quantity=4,
    start="2026-11-24T03:00:00Z",
    end="2026-11-24T05:00:00Z",
    region="us-east",
    delivery="vm",
    interconnect="none",
    confidential=False,
    tier="guaranteed",
    notice_minutes=0,
    state="active",
    close_reason="",
    created_at="2026-11-24T02:00:00Z",
    deliver_by="2026-11-24T04:00:00Z",
    delivered_at="2026-11-24T03:10:00Z",
    accepted_at=None,
    closed_at=None,
    connection="",
    used_gpu_ms=0,
    escrow=None,
    charged=None,
    earned="0.00",
)


@pytest.mark.parametrize(
    ("by", "accepted", "used_minutes", "at", "minutes", "final"),
    [
        ("word", None, 0, "03:40", None, False),
        ("silence", None, 0, "03:40", None, False),
        ("use", None, 0, "03:40", 30, False),
        ("use", "03:20", 30, "03:40", 30, None),
        ("word", "03:30", 0, "03:40", 10, False),
        ("word", "02:30", 0, "02:50", 0, None),
        ("word", "02:30", 0, "03:40", 40, False),
        ("word", "03:30", 10, "05:00", 90, True),
        ("word", "03:30", 90, "06:00", 90, True),
        ("silence", "05:30", 0, "06:00", 0, True),
    ],
)
def test_the_meter_reports_all_gpus_since_acceptance_and_ends_with_the_window(
    by: str, accepted: str | None, used_minutes: int, at: str, minutes: int | None, final: bool | None
) -> None:
    lease = replace(
        LEASE,
        lease_id=next(f"lse_{n}-0" for n in itertools.count(1) if accepted_by(f"lse_{n}-0") == by),
        accepted_at=accepted and f"2026-11-24T{accepted}:00Z",
        used_gpu_ms=4 * used_minutes * MINUTE_MS,
    )
    report = usage_report(lease, 3, parse_time(f"2026-11-24T{at}:00Z"))
    if minutes is None or final is None:
        assert report is None
    else:
        assert report is not None
        assert (report.sequence, report.gpu_ms, report.final) == (3, 4 * minutes * MINUTE_MS, final)


# Troubles


async def test_a_play_that_ends_leaves_no_call_begun_and_none_made_that_nobody_awaits() -> None:
    floor = Floor(pace(3600), Clock(3600), "run")
    made: list[int] = []

    def call(number: int) -> Coroutine[Any, Any, None]:
        made.append(number)
        return asyncio.sleep(60)

    acting = asyncio.create_task(floor.attempt_all([partial(call, number) for number in range(1_000)]))
    await asyncio.sleep(0.01)
    acting.cancel()
    await asyncio.gather(acting, return_exceptions=True)
    assert 0 < len(made) < 1_000


async def test_refusals_are_counted_and_an_exchange_that_is_away_is_waited_for() -> None:
    floor = Floor(pace(3600), Clock(3600), "run")

    async def refused() -> str:
        raise ExchangeError("insufficient_funds", "no money", status=402)

    assert await floor.attempt(refused()) is None
    assert floor.refusals == {"insufficient_funds": 1}

    troubles: list[str] = []

    async def away_twice() -> None:
        troubles.append(floor.trouble)
        if len(troubles) < 3:
            raise ExchangeError("unreachable", "nobody there")
        if len(troubles) == 5:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await floor.again(0.001, away_twice)
    assert troubles == ["", "nobody there: trying again", "nobody there: trying again", "", ""]


# The view


def state_of_a_busy_market() -> PlayState:
    classes = sorted({offer.line.class_id for offer in supply()})
    state = PlayState(seed=7, speed=3600, prices_date="2026-10-10", classes=classes, time=NOW)
    when = format_time(ceil_grid(NOW))
    level = BookLevel(price="9999.9999", quantity=65_536, orders=100)
    for class_id in classes:
        state.books[class_id] = Book(class_id, "ord_1", when, when, "1h", [level], [level])
        state.last[class_id] = "9999.9999"
    for number in range(30):
        state.recent.append(
            Fill(
                number=number,
                class_id=classes[number % 12],
                fill_id="fil_1-0",
                time=when,
                price="9999.9999",
                quantity=65_536,
                start=when,
                end=format_time(ceil_grid(NOW) + 365 * 24 * HOUR_MS),
                region="unspecified",
                interconnect="none",
                confidential=False,
                tier="guaranteed",
                delivery="vm",
                taker="bid",
            )
        )
    state.status = Status(
        time=when,
        speed=3600,
        position=["ord_1"],
        settlement_lag=0,
        orders=10_000_000,
        fills=10_000_000,
        leases_open=1_000_000,
        leases_closed=10_000_000,
        gpu_hours="1234567890.123456",
        charged="1234567890.123456",
        escrow="1234567890.12",
        held="1234567890.12",
        imbalance_microusd=0,
    )
    return state


@pytest.mark.parametrize("height", [24, 50])
def test_the_view_fits_a_terminal_of_80_columns(height: int) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, color_system=None, width=80, height=height)
    with View("http://127.0.0.1:8080", Path("/home/somebody/exchange/.data/play/cx.toml"), console) as view:
        view.update(state_of_a_busy_market())
        lines = [re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", line) for line in written.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    assert len(lines) <= height
    text = "\n".join(lines)
    assert "published list prices of 2026-10-10; quantities simulated" in text
    assert "H100-SXM-80GB" in text
    assert "10,000,000" in text


def test_without_a_terminal_the_view_is_one_line_now_and_then() -> None:
    written = io.StringIO()
    with View("http://127.0.0.1:8080", Path("cx.toml"), Console(file=written, width=80)) as view:
        for _ in range(3):
            view.update(state_of_a_busy_market())
    (line,) = written.getvalue().splitlines()
    assert line.startswith("2026-11-24 03:00 UTC  10,000,000 orders (0.0/s), 10,000,000 fills")
