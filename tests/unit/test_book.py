"""Price-time order in chunks, and bounds that never hide who could trade."""

import random
from typing import Any

import msgspec
import pytest

from matching_engine import book as book_module
from matching_engine.asks import for_sale, take
from matching_engine.book import (
    MAX_KNOWN,
    WORTH_A_LOOK,
    Book,
    Known,
    refused,
    signature,
    some_suit,
    suits_supplier,
)
from matching_engine.calendar import ERA, ring
from matching_engine.matching import Walk, fit
from matching_engine.orders import Ask, Bid
from matching_engine.rings import RING, hours_of, shows
from schemas.attributes import Accepts, Attributes, ClassSpec, Delivery, Interconnect, Region, Tier, region_mask
from schemas.commands import Prefer, SelfTrade
from schemas.units import HOUR_MS

SPEC = ClassSpec("H100", "NVIDIA H100", 80, "SXM")
BOOK = Book(SPEC)


def bid(place: int, price: int, **terms: Any) -> Bid:
    made = Bid(
        place, place, 1, 1, "b", BOOK, price, 1, SelfTrade.CANCEL_NEWEST, 0, 1, None, True,
        1, 60_000, (0,), Accepts(), 1, Prefer.PRICE, refused(Accepts()), (0, 1, 0, 0),
    )  # fmt: skip
    changed = msgspec.structs.replace(made, **terms)
    changed.hours = hours_of(changed.starts, changed.duration)
    return changed


def ask(place: int, price: int, **terms: Any) -> Ask:
    made = Ask(
        place, place, 1, 1, "a", BOOK, price, 4, SelfTrade.CANCEL_NEWEST, 0, 991, None, True,
        0, 1000, Attributes(), 10, 1, 0, signature(Attributes()), 4, 1000,
    )  # fmt: skip
    return msgspec.structs.replace(made, **terms)


@pytest.fixture
def book() -> Book:
    return Book(SPEC)


def test_orders_are_in_price_time_order_on_each_side(book: Book) -> None:
    for place, price in ((1, 10), (2, 30), (3, 20), (4, 30), (5, 20)):
        book.add(bid(place, price))
        book.add(ask(place, price))
    assert [order.id for order in book.bids()] == [2, 4, 3, 5, 1]
    assert [order.id for order in book.asks()] == [1, 3, 5, 2, 4]


def test_who_leaves_during_a_walk_is_not_met_any_more(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "CHUNK", 4)
    orders = [bid(place, 10 + place % 3) for place in range(9)]
    for order in orders:
        book.add(order)
    met = []
    for order in book.bid_queue:
        met.append(order.id)
        book.remove(order)
        if order.id == 2:
            book.remove(orders[8])
    assert met == [2, 5, 1, 4, 7, 0, 3, 6]
    assert (book.bid_queue.chunks, list(book.bid_queue.first_ranks)) == ([], [])


def test_an_order_that_comes_back_stands_at_its_place_once(book: Book) -> None:
    orders = [ask(place, 10) for place in range(5)]
    for order in orders:
        book.add(order)
    book.set_aside(orders[2])
    assert [order.id for order in book.ask_queue] == [0, 1, 3, 4]
    assert [order.id for order in book.asks()] == [0, 1, 2, 3, 4]
    del book.spent[2]
    book.add(orders[2])
    assert [order.id for order in book.ask_queue] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("chunk", [4, 128])
def test_whoever_comes_back_stands_where_it_stood(book: Book, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "CHUNK", chunk)
    orders = sorted((ask(place, 10 + place % 3) for place in range(24)), key=lambda order: (order.price, order.place))
    for order in orders:
        book.add(order)
    rng = random.Random(3)
    for _ in range(400):
        away = rng.sample(orders, rng.randint(1, 20))
        for order in away:
            book.set_aside(order)
        for order in rng.sample(away, len(away)):
            del book.spent[order.id]
            book.add(order)
        book.check()
        assert list(book.ask_queue) == orders


def test_of_who_has_left_the_book_keeps_no_more_than_live(book: Book) -> None:
    orders = [bid(place, 10) for place in range(1000)]
    for order in orders:
        book.add(order)
    for order in orders[500:] + orders[:450]:
        book.remove(order)
        kept = [(met.chunk is chunk) for chunk in book.bid_queue.chunks for met in chunk.orders]
        assert 2 * sum(kept) >= len(kept)
        book.check()
    assert [order.id for order in book.bids()] == list(range(450, 500))


def test_the_book_is_as_if_built_anew_whatever_comes_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "CHUNK", 8)
    monkeypatch.setattr(book_module, "GROUP", 3)
    rng = random.Random(5)
    for _ in range(20):
        book, live = Book(SPEC), list[Ask | Bid]()
        for place in range(400):
            if rng.random() < 0.45 and live:
                book.remove(live.pop(rng.randrange(len(live))))
                continue
            price, start = rng.randint(1, 12), rng.randrange(500)
            if rng.random() < 0.5:
                order: Ask | Bid = bid(place, price, starts=(start, start + 9), duration=rng.randint(1, 90), left=3)
            else:
                order = ask(place, price, start=start, end=start + rng.randint(20, 500))
                order.longest = order.end - order.start
            book.add(order)
            live.append(order)
            if isinstance(order, Ask) and order.chunk is not None and rng.random() < 0.5:
                take(order, order.start, order.start + rng.randint(1, order.end - order.start), rng.randint(1, 4))
                if order.free < order.lot:
                    book.set_aside(order)
            book.check()
        asks = sorted((order for order in live if isinstance(order, Ask)), key=lambda order: (order.price, order.place))
        bids = sorted(
            (order for order in live if isinstance(order, Bid)), key=lambda order: (-order.price, order.place)
        )
        assert (book.asks(), book.bids()) == (asks, bids)


def test_a_check_finds_bounds_that_are_too_narrow(book: Book) -> None:
    order = ask(1, 10)
    book.add(order)
    book.check()
    order.longest = 5
    with pytest.raises(AssertionError, match="an ask can do more"):
        book.check()


def suits(accepts: Accepts, stated: Attributes) -> bool:
    """The rulebook's table, row by row."""
    if accepts.regions and not accepts.regions & (1 << stated.region):
        return False
    if stated.delivery < accepts.delivery or stated.interconnect < accepts.interconnect:
        return False
    if accepts.confidential and not stated.confidential:
        return False
    return accepts.interruptible or stated.tier is Tier.GUARANTEED


def test_a_signature_has_a_bit_that_is_refused_just_where_it_does_not_suit() -> None:
    every = [
        Attributes(region, delivery, interconnect, confidential, tier)
        for region in Region
        for delivery in Delivery
        for interconnect in Interconnect
        for confidential in (False, True)
        for tier in Tier
    ]
    assert len({signature(stated) for stated in every}) == len(every)
    rng = random.Random(3)
    for _ in range(50):
        accepts = Accepts(
            region_mask(rng.sample(list(Region)[1:], rng.randint(0, 4))),
            rng.choice(list(Delivery)),
            rng.choice(list(Interconnect)),
            rng.random() < 0.5,
            rng.random() < 0.5,
        )
        refuses = refused(accepts)
        assert [not signature(stated) & refuses for stated in every] == [suits(accepts, stated) for stated in every]
        few = rng.sample(every, 2)
        both = signature(few[0]) | signature(few[1])
        assert some_suit(both, refuses) >= any(suits(accepts, stated) for stated in few)
    assert not some_suit(signature(Attributes(Region.US_EAST)), refused(Accepts(1 << Region.US_WEST)))


def test_suppliers_are_allowed_or_denied() -> None:
    assert suits_supplier(Accepts(), 3)
    assert suits_supplier(Accepts(only_suppliers=(3, 4)), 3)
    assert not suits_supplier(Accepts(only_suppliers=(4,)), 3)
    assert not suits_supplier(Accepts(not_suppliers=(3,)), 3)


def test_a_chunk_spans_what_one_of_its_asks_does() -> None:
    rng = random.Random(11)
    for _ in range(300):
        book = Book(SPEC)
        asks = [ask(place, 10, start=rng.randrange(50), end=rng.randint(51, 100)) for place in range(rng.randint(1, 6))]
        for order in asks:
            book.add(order)
        (chunk,) = book.ask_queue.chunks
        starts = sorted(rng.sample(range(100), rng.randint(1, 8)))
        duration = rng.randint(1, 60)
        spanned = any(order.start <= start and start + duration <= order.end for order in asks for start in starts)
        assert chunk.bounds.stairs.spans(starts, duration) is spanned


def test_who_is_available_within_the_time_of_one_that_is_cut_is_in_the_rings(book: Book) -> None:
    book.add(ask(1, 10, start=0, end=10 * HOUR_MS, longest=10 * HOUR_MS))
    book.ask_queue.chunks[0].ring(0, 0)
    cut = ask(2, 10, start=0, end=48 * HOUR_MS, longest=48 * HOUR_MS)
    take(cut, 10 * HOUR_MS, 40 * HOUR_MS, cut.quantity)
    book.add(cut)
    book.add(ask(3, 10, start=12 * HOUR_MS, end=20 * HOUR_MS, longest=8 * HOUR_MS))
    book.check()


def test_a_walk_makes_the_bounds_of_neighbouring_chunks_as_narrow_as_theirs(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book_module, "CHUNK", 2)
    orders = [ask(place, 10, free=9 if place == 5 else 4) for place in range(2 * WORTH_A_LOOK)]
    for order in orders:
        book.add(order)
    chunks = book.ask_queue.chunks
    assert len({chunk.group for chunk in chunks}) == 1
    group = chunks[0].group
    assert group is not None
    group.measure()
    book.remove(orders[5])
    wanted = bid(99, 10, owner=2, quantity=5, left=5, min_fill=5, duration=100)
    for measured, chunk in enumerate(chunks, 1):
        chunk.measure()
        assert Walk(book, 0, []).taken_by(wanted) is None
        assert group.bounds.free == (4 if 2 * measured > len(chunks) else 9)


def test_a_chunk_knows_from_which_hours_on_one_of_its_asks_can_serve() -> None:
    rng = random.Random(11)
    seen = [0, 0]
    for _ in range(300):
        book = Book(SPEC)
        duration, first = rng.randint(1, 40) * HOUR_MS, rng.choice((0, RING - 40))
        starts = [(first + hour) * HOUR_MS for hour in rng.sample(range(60), rng.choice((1, 4)))]
        hours = hours_of(starts, duration)
        assert hours is not None
        hour, bits, double, gap = hours
        origin = 0
        asks = [ask(place, 10, start=(first + rng.randrange(50)) * HOUR_MS) for place in range(rng.randint(1, 5))]
        for order in asks:
            order.end = order.start + rng.randint(1, 40) * HOUR_MS
            order.longest = order.end - order.start
            book.add(order)
            (chunk,) = book.ask_queue.chunks
            if rng.random() < 0.3 or chunk.rings[double] is None:
                origin = rng.randrange(hour // ERA + 1) * ERA
                chunk.ring(double, origin)
            book.check()
        spanned = any(order.start <= start and start + duration <= order.end for order in asks for start in starts)
        all_of_it = chunk.rings[double]
        assert all_of_it is not None
        shown = shows(all_of_it, ring(bits, hour - origin), gap)
        assert shown >= spanned
        assert len(asks) > 1 or shown == spanned
        seen[spanned] += 1
    assert min(seen) > 50


def test_a_chunk_of_bids_finds_the_short_ones_that_suit(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "CHUNK", 16)
    monkeypatch.setattr(book_module, "FEW", 6)
    rng = random.Random(13)
    orders: list[Bid] = []
    found = 0
    for place in range(400):
        order = bid(place, rng.randint(1, 9), duration=rng.randint(1, 5) * HOUR_MS)
        order.refuses = rng.randrange(8)
        order.hours = hours_of(order.starts, order.duration)
        book.add(order)
        orders.append(order)
        if len(orders) > 40:
            book.remove(orders.pop(rng.randrange(len(orders))))
        if place % 50 == 49:
            leaving = [orders.pop() for _ in range(3)]
            book.remove_all(leaving)
        longest, signature = rng.randint(1, 5) * HOUR_MS, 1 << rng.randrange(3)
        for chunk in book.bid_queue.chunks:
            live = [each for each in chunk.orders if each.chunk is chunk]
            able = [each for each in live if each.duration <= longest and not each.refuses & signature]
            assert chunk.short(longest, signature) == able
            found += len(able)
        book.check()
    assert found > 400


def test_many_that_leave_at_once_are_nowhere_in_the_book(book: Book) -> None:
    rng = random.Random(7)
    orders: list[Ask | Bid] = []
    for place in range(1_000):
        made: Ask | Bid = bid(place, place % 9) if rng.random() < 0.5 else ask(place, place % 9)
        orders.append(made)
    for order in orders:
        book.add(order)
    aside = [order for order in orders if isinstance(order, Ask)][:100]
    for order in aside:
        order.free = 0
        book.set_aside(order)
    leaving = [order for order in orders if order.place % 3 or 200 < order.place < 600]
    book.remove_all(leaving)
    book.check()
    left = sorted(set(range(1_000)) - {order.place for order in leaving})
    assert sorted([*(order.place for order in book.asks()), *(order.place for order in book.bids())]) == left
    book.remove_all([order for order in orders if order.place in left])
    assert (book.asks(), book.bids(), book.ask_queue.chunks, book.bid_queue.chunks) == ([], [], [], [])


def test_what_orders_state_alike_is_made_once_and_what_is_refused_is_not_kept() -> None:
    known = Known()
    first = known.wanted[(60_000,), 60_000]
    assert known.wanted[(60_000,), 60_000] is first
    assert known.times((60_000,), 60_000) is first
    assert known.times((120_000, 60_000), 60_000) == ((120_000, 60_000), 60_000, 120_001, (0, 1, 0, 0), True)
    assert not known.wanted[tuple(range(0, 60_000 * 1000, 60_000)), 60_000][-1]
    assert not known.accepted[Accepts(only_suppliers=(0,) * 1000)][-1]
    assert (len(known.wanted), len(known.accepted)) == (1, 0)
    for minutes in range(1, 2 * MAX_KNOWN):
        assert known.wanted[(60_000 * minutes,), 60_000][2] == 60_000 * minutes + 1
        assert len(known.wanted) <= MAX_KNOWN


def test_orders_of_one_price_have_one_object_for_it(book: Book) -> None:
    for place in range(8):
        book.add(bid(place, int("1000000") + place % 2))
        book.add(ask(place, int("1000000") + place % 2))
    for orders in (book.asks(), book.bids()):
        assert len({id(order.price) for order in orders}) == 2


def test_of_what_a_lot_does_not_divide_the_rest_is_not_sold() -> None:
    """As after a Withdraw of less than a lot."""
    offered = ask(1, 10, quantity=8, lot=2, free=5)
    assert fit(offered, (0,), 1000, 8, 1) == (0, 4)
    take(offered, 0, 500, 0)  # from now on it has a calendar
    assert offered.calendar is not None
    assert fit(offered, (0,), 1000, 8, 1) == (0, 4)


def test_a_fill_of_the_whole_availability_is_in_the_calendar_of_an_ask_that_has_one(book: Book) -> None:
    offered = ask(1, 10)
    book.add(offered)
    walk = Walk(book, 0, [])
    for place, duration, quantity in ((2, 500, 1), (3, 1000, 2)):
        walk.fill(offered, bid(place, 10, duration=duration, quantity=quantity, left=quantity), 0, quantity)
    assert [for_sale(offered, start, start + 500) for start in (0, 500)] == [1, 2]
