"""Channels: a whole and the changes behind it; whoever reads them has what the exchange has."""

import asyncio
import json
import random
from typing import Any

import pytest

from gateways.api import channels
from gateways.api.channels import Body, Candles, Channel, Depth, Fills, Leases, Quote, accounts_in, news
from gateways.api.errors import ApiError
from gateways.client.stream import DepthBook, Message
from gateways.client.types import BookLevel as SeenLevel
from gateways.client.types import Depth as Seen
from gateways.log.embedded import EmbeddedLog
from gateways.market_data.tape import Tape
from schemas.attributes import Attributes
from schemas.book import BookLevel, BookView
from schemas.commands import Side
from schemas.events import Accepted, Cancelled, CancelReason, Event, Execution, Expired, Fill, Filled, Rejected
from schemas.refusals import Refusal
from schemas.store import LeasesNow, LeaseStep
from schemas.units import HOUR_MS, format_usd
from schemas.webhooks import EventKind, LeaseData, LeaseEvent
from tests.unit.test_tape import NOON, fill


class Counter(Channel):
    """Counts; its whole is what it has counted."""

    async def whole(self) -> tuple[int, Body]:
        return self.number, {"count": self.number}

    def count(self) -> None:
        self.change({"count": self.number + 1})


def heard(frame: bytes) -> Body:
    """What a frame of a server's says."""
    start = {126: 4, 127: 10}.get(frame[1], 2)
    body: Body = json.loads(frame[start:])
    return body


class Reader:
    """A subscriber that keeps all it is told."""

    def __init__(self) -> None:
        self.told: list[Body] = []

    def tell(self, channel: Channel, message: bytes) -> None:
        self.told.append(heard(message))

    async def send(self, message: bytes) -> None:
        await asyncio.sleep(0)
        self.told.append(heard(message))

    def numbers(self) -> list[tuple[str, int]]:
        return [(message["type"], message["number"]) for message in self.told]


async def test_a_reader_gets_the_whole_and_then_each_change() -> None:
    channel, reader = Counter({"channel": "counter"}), Reader()
    channel.count()
    await channel.join(reader, None)
    channel.count()
    channel.count()
    channel.pause(reader)
    channel.count()
    assert reader.numbers() == [("whole", 1), ("change", 2), ("change", 3)]
    assert reader.told[0] == {"channel": "counter", "type": "whole", "stream": channel.stream, "number": 1, "count": 1}


async def test_a_reader_that_was_away_reads_on_where_the_channel_still_knows() -> None:
    channel = Counter({"channel": "counter"})
    for _ in range(channels.KEPT + 10):
        channel.count()
    last, run = channel.number, channel.stream
    for after, place in ((last, last), (last - channels.KEPT, 10), (9, None), (last + 1, None), (None, None)):
        assert await channel.place(after, run) == place, after
    assert await channel.place(last, "another run") is None
    reader = Reader()
    await channel.join(reader, last - 2)
    assert reader.numbers() == [("change", last - 1), ("change", last)]


async def test_what_changes_while_the_whole_is_made_is_told_behind_it() -> None:
    class Slow(Counter):
        async def whole(self) -> tuple[int, Body]:
            count = self.number
            await asyncio.sleep(0.01)
            return count, {"count": count}

    channel, reader = Slow({"channel": "slow"}), Reader()
    joining = asyncio.create_task(channel.join(reader, None))
    await asyncio.sleep(0)
    channel.count()
    await joining
    channel.count()
    assert reader.numbers() == [("whole", 0), ("change", 1), ("change", 2)]


class Books:
    """Shows what it is told to."""

    def __init__(self) -> None:
        self.view = BookView("A", -1, 0, 0, HOUR_MS, (), ())

    async def book(self, class_id: str, start_ms: int, duration_ms: int, levels: int) -> BookView:
        return self.view


def levels(rng: random.Random, *, highest_first: bool) -> tuple[BookLevel, ...]:
    prices = sorted(rng.sample(range(1, 15), rng.randint(0, 6)), reverse=highest_first)
    return tuple(BookLevel(price * 1_100_000, rng.randint(1, 3), rng.randint(1, 2)) for price in prices)


def as_client(side: tuple[BookLevel, ...]) -> list[SeenLevel]:
    return [SeenLevel(format_usd(level.price), level.quantity, level.orders) for level in side]


async def test_a_book_kept_by_changes_is_the_exchange_s_book() -> None:
    rng, books, reader, kept = random.Random(4), Books(), Reader(), DepthBook()
    channel = Depth({"channel": "depth", "class": "A", "window": "1h"}, books, "A", HOUR_MS)
    await channel.join(reader, None)
    taken = 0
    for position in range(300):
        books.view = BookView(
            "A", position, position, 0, HOUR_MS, levels(rng, highest_first=False), levels(rng, highest_first=True)
        )
        await channel.look()
        seen: Seen | None = None
        for body in reader.told[taken:]:
            seen = kept.take(Message(body["type"], body["number"], body["stream"], body))
            assert seen is not None, "its checksum is another"
        taken = len(reader.told)
        assert seen is None or (seen.asks, seen.bids) == (as_client(books.view.asks), as_client(books.view.bids))
    assert [number for _, number in reader.numbers()] == list(range(channel.number + 1))
    assert channel.number > 250


async def test_a_book_that_missed_a_change_is_found_out() -> None:
    books, reader, kept = Books(), Reader(), DepthBook()
    channel = Depth({"channel": "depth", "class": "A", "window": "1h"}, books, "A", HOUR_MS)
    await channel.join(reader, None)
    for price in (10, 20):
        before = books.view.asks
        books.view = BookView("A", price, 0, 0, HOUR_MS, (*before, BookLevel(price, 1, 1)), ())
        await channel.look()
    for body, right in zip((reader.told[0], reader.told[2]), (True, False), strict=True):
        assert (kept.take(Message(body["type"], body["number"], body["stream"], body)) is not None) is right


async def test_a_book_that_is_as_before_is_not_told() -> None:
    books, reader = Books(), Reader()
    channel = Depth({"channel": "depth", "class": "A", "window": "1h"}, books, "A", HOUR_MS)
    await channel.join(reader, None)
    books.view = BookView("A", 7, 8, HOUR_MS, HOUR_MS, (), ())
    await channel.look()
    assert reader.numbers() == [("whole", 0)]


async def test_fills_go_on_behind_any_number_that_is_kept_and_never_with_a_gap(embedded_log: EmbeddedLog) -> None:
    tape, reader, late = Tape(embedded_log), Reader(), Reader()
    for number in range(1, 61):
        tape.add(fill(number, 1_000_000, NOON))
    channel = Fills({"channel": "fills", "class": "A"}, tape, "A")
    tape.listeners.append(channel.take)
    await channel.join(reader, await channel.place(None, ""))
    tape.add(fill(61, 1_000_000, NOON))
    await channel.join(late, await channel.place(58, ""))
    assert [shown["number"] for shown in reader.told[0]["fills"]] == list(range(11, 61))
    assert reader.numbers() == [("whole", 60), ("change", 61)]
    assert [(message["number"], message["fill"]["number"]) for message in late.told] == [(59, 59), (60, 60), (61, 61)]
    with pytest.raises(ApiError, match="GET /v1/fills"):
        await channel.place(62, "")


async def test_candles_and_tickers_are_told_when_they_are_other_and_numbered_without_gaps(
    embedded_log: EmbeddedLog,
) -> None:
    tape, bars, quotes = Tape(embedded_log), Reader(), Reader()
    candles = Candles({"channel": "candles", "class": "A", "interval": "1h"}, tape, "A", "1h")
    quote = Quote({"channel": "ticker", "class": "A"}, tape, "A", lambda: NOON)
    await candles.join(bars, None)
    await quote.join(quotes, None)
    for number, time in enumerate((NOON, NOON + 1, NOON + 2, NOON + HOUR_MS), 1):
        tape.add(fill(number, 1_000_000 * number, time))
        for _ in range(3):
            candles.look()
            quote.look()
    assert [(len(told["candles"]), told["number"]) for told in bars.told] == [(0, 0), (1, 1), (1, 2), (1, 3), (2, 4)]
    assert [(told["last"], told["number"]) for told in quotes.told] == [
        (None, 0), ("1.00", 1), ("2.00", 2), ("3.00", 3), ("4.00", 4),
    ]  # fmt: skip


class KeptSteps:
    """A store of one account's lease steps, of which the newest are kept."""

    def __init__(self) -> None:
        self.steps: list[LeaseStep] = []
        self.kept = 10

    def add(self, count: int) -> None:
        data = LeaseData("acc_1", "buyer", "lse_1-0", "ord_1", "A", 1, "1.00", "", "", "active", "")
        for number in range(len(self.steps) + 1, len(self.steps) + count + 1):
            self.steps.append(LeaseStep(1, number, LeaseEvent(EventKind.LEASE_ACTIVE, "", data)))

    async def lease_steps(self, after: dict[int, int], *, each: int) -> list[LeaseStep]:
        return [step for step in self.steps[-self.kept :] if step.number > after[1]][:each]

    async def leases_now(self, account: int, *, after: int, limit: int) -> LeasesNow:
        return LeasesNow(len(self.steps), await self.lease_steps({account: after}, each=limit), [])


async def test_leases_tell_the_whole_where_steps_are_not_kept() -> None:
    steps: Any = KeptSteps()
    reader, late = Reader(), Reader()
    channel = Leases({"channel": "leases"}, 1, steps, "run", 0)
    await channel.join(reader, None)
    steps.add(3)
    assert channel.take(await steps.lease_steps({1: 0}, each=5))
    assert channel.take(await steps.lease_steps({1: 1}, each=5)), "what is known is told once"
    await channel.join(late, await channel.place(2, "run"))
    steps.add(20)
    assert not channel.take(await steps.lease_steps({1: 3}, each=5))
    await channel.whole()
    steps.add(1)
    assert channel.take(await steps.lease_steps({1: 23}, each=5))
    changes = [("change", 1), ("change", 2), ("change", 3)]
    assert reader.numbers() == [("whole", 0), *changes, ("whole", 23), ("change", 24)]
    assert late.numbers() == [("change", 3), ("whole", 23), ("change", 24)]
    assert [await channel.place(after, "run") for after in (24, 14, 13, 25, -1)] == [24, 14, None, None, None]


def test_orders_tell_what_became_of_an_account_s_orders_and_of_nobody_else_s() -> None:
    traded = Fill(0, 1, "A", 5, 4, 1, 2, 2_000_000, 3, 0, HOUR_MS, Side.BID, 1, 0, 0, Attributes())
    events: list[Event] = [
        Accepted(1, "mine", "A", Side.BID, 4, 2_500_000, 0, 0, HOUR_MS),
        traded,
        Cancelled(5, 1, CancelReason.IOC_REST, 1),
        Rejected(1, "no", Refusal.HALTED, ("A",)),
        Expired(9, 1, 4),
        Filled(8, 1),
        Accepted(3, "another's", "A", Side.ASK, 4, 2_500_000, 0, 0, HOUR_MS),
    ]
    assert accounts_in(Execution(5, 4, HOUR_MS, tuple(events))) == {1, 2, 3}

    def told(account: int) -> list[Body]:
        return [body for event in events for body in news(event, 5, account)]

    mine = told(1)
    assert [body["event"] for body in mine] == ["accepted", "fill", "cancelled", "rejected", "expired", "filled"]
    assert [body.get("order_id") for body in mine] == ["ord_5", "ord_5", "ord_5", None, "ord_9", "ord_8"]
    assert (mine[1]["fill_id"], mine[1]["price"], mine[1]["left"]) == ("fil_5-0", "2.00", 1)
    assert (mine[2]["reason"], mine[3]["code"]) == ("ioc_rest", "halted")
    assert [(body["event"], body["order_id"], "left" in body) for body in told(2)] == [("fill", "ord_4", False)]
    assert [body["event"] for body in told(3)] == ["accepted"]
    assert told(4) == []
