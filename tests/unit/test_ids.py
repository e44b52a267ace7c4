"""Orders by id, against a plain dict: what the compiled core has in place of one."""

import random

import pytest

from matching_engine.book import Book
from matching_engine.ids import ById
from matching_engine.orders import Ask
from schemas.attributes import Attributes, ClassSpec
from schemas.commands import SelfTrade

BOOK = Book(ClassSpec("H100-SXM-80GB", "NVIDIA H100", 80, "SXM"))


def ask(order_id: int) -> Ask:
    newest, offered = SelfTrade.CANCEL_NEWEST, Attributes()
    return Ask(order_id, 1, 1, 1, "a", BOOK, 1, 1, newest, 0, 1, None, True, 0, 1, offered, 1, 1, 0, 0, 1, 1)


@pytest.mark.parametrize("seed", range(4))
def test_an_order_is_found_by_its_id_until_it_is_taken_out(seed: int) -> None:
    rng, by_id = random.Random(seed), ById()
    orders: dict[int, Ask] = {}
    first = rng.choice((0, 1 << 48, (1 << 63) - 3_001))
    for number in range(3_000):
        order_id = first + number
        assert by_id.get(order_id) is None
        by_id[order_id] = orders[order_id] = ask(order_id)
        if rng.random() < 0.6 + 0.4 * (number % 1_000 > 700):  # it grows, and it shrinks
            gone = rng.choice(list(orders))
            order = orders.pop(gone)
            if number % 2:
                assert by_id.pop(gone) is order
            else:
                del by_id[gone]
            assert gone not in by_id
            assert by_id.pop(gone, None) is None
        if number % 100 == 0:
            assert len(by_id) == len(orders)
            assert all(by_id.get(known) is order for known, order in orders.items())
            assert sorted(order.id for order in by_id.values()) == list(orders)
    by_id.update((known, order) for known, order in list(orders.items()))
    assert len(by_id) == len(orders) > 0
    for unknown in (-1, first - 1, 1 << 63, 1 << 200, -(1 << 200)):
        assert by_id.get(unknown) is None
        with pytest.raises(KeyError):
            by_id.pop(unknown)
