"""What is said to stand in an order's way is what does, over all random streams."""

import pytest
from msgspec.structs import replace

from matching_engine.asks import needed
from matching_engine.engine import Engine
from matching_engine.orders import Ask, Bid
from matching_engine.why import why
from schemas.book import Excluded, Obstacle
from schemas.commands import PlaceAsk, PlaceBid, SelfTrade
from schemas.events import Cancelled, Fill, Rejected
from schemas.units import MAX_TIME_MS
from tests.simulation.streams import PROFILES, stream

COUNT = 2_500


@pytest.mark.parametrize("profile", PROFILES)
def test_each_order_of_the_other_side_counts_once_and_the_nearest_miss_is_one(profile: str) -> None:
    engine, commands = Engine(0), stream(profile, 5, COUNT)
    mended: dict[Obstacle, int] = {}
    for offset, time, command in commands:
        commands.note(engine.apply(offset, time, command))
        if offset % 3:
            continue
        for book in engine.books.values():
            orders: list[Ask | Bid] = [*book.bids()[:3], *book.asks()[-3:]]
            for order in orders:
                found = why(order, engine.now)
                others = book.asks() if isinstance(order, Bid) else book.bids()
                counted = sum(each.count for each in found.excluded)
                assert (found.looked, counted + found.suit, found.complete) == (len(others), len(others), True)
                assert book.closed or not found.suit, f"offset {offset}: a pair can trade and does not"
                for each in found.excluded:
                    if not book.closed and does(engine, order, each):
                        mended[each.obstacle] = mended.get(each.obstacle, 0) + 1
    for obstacle in (Obstacle.PRICE, Obstacle.WINDOW):
        assert mended.get(obstacle, 0) > 10, f"{obstacle} was hardly tried: {mended}"


def does(engine: Engine, order: Ask | Bid, excluded: Excluded) -> bool:
    """Whether the order with the nearest miss's terms was tried; raises AssertionError where it would not trade."""
    if excluded.obstacle is Obstacle.PRICE:
        changed = sent(order, price=excluded.price)
    elif excluded.obstacle is Obstacle.WINDOW and isinstance(order, Bid) and excluded.nearest:
        highest = order.book.spec.max_price // order.book.spec.tick * order.book.spec.tick
        changed = replace(sent(order, price=highest), starts=(excluded.nearest,))
    else:
        return False
    events = engine.preview(changed).events
    if any(isinstance(event, Rejected) for event in events):
        return False  # a band, a limit, a kill switch
    assert any(isinstance(event, Fill | Cancelled) for event in events), f"{changed} is said to trade"
    return True


def sent(order: Ask | Bid, price: int) -> PlaceAsk | PlaceBid:
    """A new order like what is left of this one."""
    names = (order.book.spec.class_id, order.account, order.owner, "why", MAX_TIME_MS)
    if isinstance(order, Ask):
        return PlaceAsk(
            *names, order.quantity, price, order.start, order.end, order.attributes, order.min_duration, order.lot,
            self_trade=SelfTrade.SKIP,
        )  # fmt: skip
    return PlaceBid(
        *names, order.left, price, order.duration, order.starts, order.accepts, needed(order), self_trade=SelfTrade.SKIP
    )
