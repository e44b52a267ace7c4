"""What stands in an order's way is looked for in bounded work, and says so where it stopped."""

from matching_engine.engine import Engine
from matching_engine.why import MAX_LOOKED, why
from schemas.attributes import Accepts, Attributes, ClassSpec
from schemas.book import Excluded, Obstacle
from schemas.commands import CreateClass, Halt, HaltMode, PlaceAsk, PlaceBid
from schemas.units import HOUR_MS, MAX_TIME_MS

H100 = "H100-SXM-80GB"
T0 = 1_795_489_200_000
TICK = 100


def ask(name: str, price: int, quantity: int = 8, hours: int = 720) -> PlaceAsk:
    return PlaceAsk(H100, 1, 1, name, MAX_TIME_MS, quantity, price, T0, T0 + hours * HOUR_MS, Attributes())


def bid(name: str, price: int, quantity: int, hour: int, hours: int) -> PlaceBid:
    return PlaceBid(
        H100, 2, 2, name, MAX_TIME_MS, quantity, price, hours * HOUR_MS, (T0 + hour * HOUR_MS,), Accepts(), quantity
    )


class Market:
    """One engine at one moment."""

    def __init__(self) -> None:
        self.engine = Engine(0)
        self.offset = -1
        self.apply(CreateClass(ClassSpec(H100, "H100", 80, "SXM")))

    def apply(self, command: CreateClass | PlaceAsk | PlaceBid | Halt) -> int:
        """Its position."""
        self.offset += 1
        self.engine.apply(self.offset, T0, command)
        return self.offset

    def excluded(self, order_id: int) -> tuple[Excluded, ...]:
        order = self.engine.order(order_id)
        assert order is not None
        return why(order, self.engine.now).excluded


def test_no_more_than_the_best_are_looked_at() -> None:
    market = Market()
    for number in range(MAX_LOOKED + 1):
        market.apply(ask(f"a{number}", 2_700_000 + number * TICK))
    order = market.engine.order(market.apply(bid("b", 2_600_000, 8, 0, 24)))
    assert order is not None
    found = why(order, T0)
    assert (found.looked, found.complete) == (MAX_LOOKED, False)
    assert found.excluded == (Excluded(Obstacle.PRICE, MAX_LOOKED, 2_700_000, 0),)


def test_the_moment_from_which_an_ask_is_free_is_behind_what_is_sold_of_it() -> None:
    market = Market()
    market.apply(ask("a", 2_500_000))
    market.apply(bid("first", 2_600_000, 4, 0, 10))
    market.apply(bid("second", 2_600_000, 4, 12, 5))
    waits = market.apply(bid("all of it", 2_600_000, 8, 1, 3))
    assert market.excluded(waits) == (Excluded(Obstacle.WINDOW, 1, 2_500_000, T0 + 17 * HOUR_MS),), (
        "10 to 12 is too short"
    )
    waits = market.apply(bid("short", 2_600_000, 8, 1, 2))
    assert market.excluded(waits) == (Excluded(Obstacle.WINDOW, 1, 2_500_000, T0 + 10 * HOUR_MS),)
    waits = market.apply(bid("too long", 2_600_000, 8, 1, 704))
    assert market.excluded(waits) == (Excluded(Obstacle.WINDOW, 1, 2_500_000, 0),), "never"


def test_sold_out_asks_are_counted_and_a_halt_is_said() -> None:
    market = Market()
    market.apply(ask("a", 2_500_000, hours=24))
    market.apply(bid("all", 2_600_000, 8, 0, 24))
    waits = market.apply(bid("late", 2_600_000, 8, 0, 24))
    assert market.excluded(waits) == (Excluded(Obstacle.SOLD_OUT, 1, 0, 0),)
    market.apply(Halt(H100, HaltMode.NO_NEW))
    order = market.engine.order(waits)
    assert order is not None
    assert why(order, T0).closed
