"""Price-time order, and what keeps it cheap when many orders leave."""

from matching_engine.book import Bid, Book, Queue
from schemas.attributes import Accepts, ClassSpec
from schemas.commands import Prefer, SelfTrade

SPEC = ClassSpec("H100", "NVIDIA H100", 80, "SXM")


def bid(place: int, price: int, accepts: Accepts | None = None) -> Bid:
    return Bid(
        place, place, 1, 1, "H100", price, 1, 1, 60_000, (0,), accepts or Accepts(), 1,
        Prefer.PRICE, SelfTrade.CANCEL_NEWEST, 0, 1,
    )  # fmt: skip


def test_bids_are_in_price_time_order_over_all_that_they_accept() -> None:
    book = Book(SPEC)
    for place, price, delivery in ((1, 10, 0), (2, 30, 1), (3, 20, 0), (4, 30, 0), (5, 20, 1)):
        book.add_bid(bid(place, price, Accepts(interruptible=bool(delivery))))
    assert [order.id for order in book.bids()] == [2, 4, 3, 5, 1]


def test_who_leaves_during_a_walk_is_not_met_any_more() -> None:
    queue: Queue[Bid] = Queue()
    orders = [bid(place, 10 + place % 3) for place in range(9)]
    for order in orders:
        queue.add(-order.price, order)
    met = []
    for order in queue.upto(0):
        met.append(order.id)
        queue.remove(-order.price, order)
        if order.id == 2:
            queue.remove(-orders[8].price, orders[8])
    assert met == [2, 5, 1, 4, 7, 0, 3, 6]
    assert (queue.ranks, queue.levels) == ([], {})


def test_a_level_forgets_those_who_left_whoever_they_were() -> None:
    queue: Queue[Bid] = Queue()
    orders = [bid(place, 10) for place in range(1000)]
    for order in orders:
        queue.add(-10, order)
    for order in orders[500:] + orders[:450]:
        queue.remove(-10, order)
        level = queue.levels[-10]
        live = sum(order.queued for order in orders)
        assert len(level.orders) <= 2 * live + 33
        assert level.orders[level.first].queued
    assert [order.id for order in queue.upto(-10)] == list(range(450, 500))


def test_a_book_keeps_no_queue_that_is_empty() -> None:
    book = Book(SPEC)
    orders = [bid(place, 10, Accepts(not_suppliers=(place,))) for place in range(1, 50)]
    for order in orders:
        book.add_bid(order)
    for order in orders:
        book.remove(order)
    assert not book._bids
