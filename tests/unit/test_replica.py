"""The replica shows the book that the engine matches on, for one delivery window, and never an older one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gateways.log.embedded import EmbeddedLog
from gateways.market_data.replica import Replica
from matching_engine.metrics import EngineMetrics
from matching_engine.service import EngineService
from schemas.attributes import Accepts, Attributes, ClassSpec
from schemas.book import BookLevel, BookView, Standing
from schemas.codec import encode
from schemas.commands import Cancel, CreateClass, Kill, PlaceAsk, PlaceBid, RenewDeadMan, SetLimits
from schemas.ids import position
from schemas.topics import COMMANDS
from schemas.units import HOUR_MS, MAX_TIME_MS, ceil_grid

H100 = "H100-SXM-80GB"


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[EmbeddedLog]:
    log = await EmbeddedLog.open(tmp_path, partitions=2)
    yield log
    await log.close()


class Market:
    """Orders in partition 1, where the class is, and the replica's view after each."""

    def __init__(self, log: EmbeddedLog, replica: Replica) -> None:
        self.log = log
        self.replica = replica
        self.opens = ceil_grid(log.now()) + HOUR_MS
        self.placed = 0

    async def ask(self, price: int, quantity: int, hours: int, min_hours: int = 1, display: int = 0) -> int:
        end = self.opens + hours * HOUR_MS
        return await self.append(
            PlaceAsk(
                H100,
                1,
                1,
                self.name(),
                MAX_TIME_MS,
                quantity,
                price,
                self.opens,
                end,
                Attributes(),
                min_hours * HOUR_MS,
                display=display,
            )
        )

    async def bid(self, price: int, quantity: int, hours: int) -> int:
        starts = (self.opens,)
        return await self.append(
            PlaceBid(H100, 2, 2, self.name(), MAX_TIME_MS, quantity, price, hours * HOUR_MS, starts, Accepts(), 1)
        )

    async def append(self, command: PlaceAsk | PlaceBid | Cancel | CreateClass) -> int:
        (offset,) = await self.log.append(COMMANDS, 1, [encode(command)])
        return position(1, offset)

    def name(self) -> str:
        self.placed += 1
        return f"order-{self.placed}"

    async def view(self, at: int, hours: int, levels: int = 10) -> BookView:
        """The book once the replica has folded the command at position `at`."""
        async with asyncio.timeout(5):
            while True:
                view = await self.replica.book(H100, self.opens, hours * HOUR_MS, levels)
                if view is not None and view.position >= at:
                    return view
                await asyncio.sleep(0.001)


def engines(log: EmbeddedLog, count: int) -> list[EngineService]:
    """Of the first partitions; no tick comes between the commands of a test."""
    metrics = EngineMetrics(CollectorRegistry())
    return [EngineService(log, partition, metrics=metrics, idle_tick_s=60) for partition in range(count)]


@contextlib.asynccontextmanager
async def running(services: Sequence[EngineService | Replica]) -> AsyncIterator[None]:
    """The services, ready."""
    runs = [asyncio.create_task(service.run()) for service in services]
    for service in services:
        await service.ready.wait()
    yield
    for run in runs:
        run.cancel()
    await asyncio.gather(*runs, return_exceptions=True)


@pytest.fixture(params=[0, 1, 2], ids=["all folded", "one beside", "all beside"])
async def market(log: EmbeddedLog, request: pytest.FixtureRequest) -> AsyncIterator[Market]:
    beside = engines(log, request.param)
    replica = Replica(log, beside)
    market = Market(log, replica)
    await market.append(CreateClass(ClassSpec(H100, "NVIDIA H100", 80, "SXM")))
    async with running([*beside, replica]):
        yield market


async def test_levels_show_what_is_unsold_over_the_window_asked_for(market: Market) -> None:
    await market.ask(2_500_000, 8, hours=24)
    await market.ask(2_500_000, 4, hours=2)
    await market.ask(2_600_000, 16, hours=24, min_hours=6)
    await market.bid(2_500_000, 3, hours=1)  # takes 3 of the oldest, in the first hour
    last = await market.bid(2_400_000, 5, hours=2)
    assert (await market.view(last, hours=1)).asks == (BookLevel(2_500_000, 5 + 4, 2),)
    assert (await market.view(last, hours=24)).asks == (BookLevel(2_500_000, 5, 1), BookLevel(2_600_000, 16, 1))
    assert (await market.view(last, hours=24, levels=1)).asks == (BookLevel(2_500_000, 5, 1),)
    assert (await market.view(last, hours=24)).bids == (BookLevel(2_400_000, 5, 1),)


async def test_of_an_ask_no_more_is_shown_than_it_displays(market: Market) -> None:
    await market.ask(2_500_000, 8, hours=24, display=3)
    await market.ask(2_500_000, 4, hours=24)
    last = await market.ask(2_600_000, 5, hours=24, display=5)
    assert (await market.view(last, hours=1)).asks == (BookLevel(2_500_000, 3 + 4, 2), BookLevel(2_600_000, 5, 1))
    last = await market.bid(2_500_000, 6, hours=1)  # of the oldest: what it does not display trades like the rest
    assert (await market.view(last, hours=1)).asks == (BookLevel(2_500_000, 2 + 4, 2), BookLevel(2_600_000, 5, 1))
    assert (await market.view(last, hours=24)).asks == (BookLevel(2_500_000, 2 + 4, 2), BookLevel(2_600_000, 5, 1))


async def test_a_view_is_never_older_than_the_last_command(market: Market) -> None:
    order = await market.ask(2_500_000, 8, hours=24)
    assert (await market.view(order, hours=1)).asks == (BookLevel(2_500_000, 8, 1),)
    cancel = await market.append(Cancel(1, order))
    assert (await market.view(cancel, hours=1)).asks == ()


async def test_no_such_class_and_a_start_of_now(market: Market) -> None:
    assert await market.replica.book("H100", 0, HOUR_MS, 10) is None
    view = await market.replica.book(H100, 0, HOUR_MS, 10)
    assert view is not None
    assert view.start == ceil_grid(view.time)


async def test_ready_only_when_all_that_was_there_is_folded(log: EmbeddedLog) -> None:
    market = Market(log, Replica(log))
    await market.append(CreateClass(ClassSpec(H100, "NVIDIA H100", 80, "SXM")))
    bids = [await market.bid(2_000_000 + 100 * number, 1, hours=1) for number in range(1200)]
    async with running([market.replica]):
        book = await market.replica.book(H100, market.opens, HOUR_MS, 10)
    assert book is not None
    assert (book.position, [level.price for level in book.bids][-1]) == (bids[-1], 2_000_000 + 100 * 1190)
    beside = engines(log, 2)
    other = Replica(log, beside)
    async with running([*beside, other]):
        assert await other.book(H100, market.opens, HOUR_MS, 10) == book


async def test_an_engine_beside_is_read_and_no_other_folds_for_it(log: EmbeddedLog) -> None:
    beside = engines(log, 2)
    market = Market(log, Replica(log, beside))
    await market.append(CreateClass(ClassSpec(H100, "NVIDIA H100", 80, "SXM")))
    async with running([*beside, market.replica]):
        ask = await market.ask(2_500_000, 8, hours=24)
        await market.view(ask, hours=1)
        engine = beside[1].engine
        before = engine.state_hash()
        bid = PlaceBid(H100, 2, 2, "if", MAX_TIME_MS, 3, 2_500_000, HOUR_MS, (market.opens,), Accepts(), 1)
        assert [fill.quantity for fill in (await market.replica.preview(bid, ask, 5)).fills] == [3]
        assert engine.state_hash() == before
        late = asyncio.create_task(market.replica.preview(bid, position(1, 2), 5))
        await asyncio.sleep(0)
        assert not late.done()
        await market.append(Cancel(1, ask))
        assert (await late).fills == ()


async def test_what_holds_for_an_account_is_told_once_its_commands_are_folded(market: Market) -> None:
    standing, nothing = market.replica.standing, Standing(False, 0, 0, 0, 0)
    assert await standing(7, [-1, -1], 5) == nothing
    until = market.log.now() + HOUR_MS
    for partition in range(2):
        for command in (Kill(7, True), SetLimits(7, 5, 1_000_000, 8), RenewDeadMan(7, until)):
            (offset,) = await market.log.append(COMMANDS, partition, [encode(command)])
    last = [position(partition, offset if partition else 2) for partition in range(2)]
    assert await standing(7, last, 5) == Standing(True, 5, 1_000_000, 8, until)
    assert await standing(8, last, 5) == nothing
    with pytest.raises(TimeoutError):
        await standing(7, [last[0], last[1] + 1], 0.01)
