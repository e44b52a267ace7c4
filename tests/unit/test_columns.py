"""A state in columns: equal states are equal bytes, and nothing of a state is lost in them."""

import sys
from typing import Any

import pytest

from matching_engine import columns
from matching_engine.asks import is_spent, measure, sold_from
from matching_engine.columns import decoded, encoded, in_columns, packed, unpacked
from matching_engine.engine import Engine
from matching_engine.names import NEVER
from matching_engine.orders import Ask, Bid
from schemas.commands import Amend, Cancel, CancelAll, CreateClass, Return
from schemas.events import Cancelled, Returned
from schemas.units import HOUR_MS
from tests.simulation.streams import PROFILES, stream
from tests.unit.test_engine import CLASS, SPEC, START, T0, Market, ask, bid


def restored(engine: Engine) -> Engine:
    return Engine.from_state(0, decoded(encoded(engine.state())))


@pytest.mark.parametrize(
    ("numbers", "bytes_"),
    [
        ([], b""),
        ([0, 0, 0], b""),
        ([1, 255], b"\x01\xff"),
        ([256, 1], b"\x00\x01\x01\x00"),
        ([1 << 16], b"\x00\x00\x01\x00"),
        ([(1 << 32) - 1, 0], b"\xff\xff\xff\xff\x00\x00\x00\x00"),
        ([1 << 32], b"\x00\x00\x00\x00\x01\x00\x00\x00"),
        ([(1 << 63) - 1], b"\xff\xff\xff\xff\xff\xff\xff\x7f"),
    ],
)
def test_numbers_are_as_wide_as_the_largest_needs(numbers: list[int], bytes_: bytes) -> None:
    assert packed(numbers) == bytes_
    assert unpacked(bytes_, len(numbers)) == numbers


def test_a_machine_of_the_other_byte_order_turns_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sys.byteorder == "little", "on the other one the bytes above are the proof"
    monkeypatch.setattr(sys, "byteorder", "big")
    assert packed([0x0102]) == b"\x01\x02"
    assert unpacked(b"\x01\x02", 1) == [0x0102]


def test_what_orders_state_alike_is_there_once_and_runs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "RUN", 3)
    market = Market()
    for number, price in enumerate((2_500_000, 2_500_000, 2_600_000, 2_400_000), 1):
        market.send(ask(f"a{number}", price=price))
    first, second = in_columns(market.engine.state()).books[0].asks
    assert (first.count, second.count) == (3, 1)
    assert first.names.split("\n") == ["a4", "a1", "a2"]
    assert (first.prices.values, first.prices.numbers) == ([2_400_000, 2_500_000], b"\x00\x01\x01")
    assert (first.lots.values, first.lots.numbers) == ([1], b"")
    assert unpacked(first.by_id, 3) == [1, 2, 0]
    assert first.moved == b""


def test_an_amended_order_has_its_id_and_its_new_place(monkeypatch: pytest.MonkeyPatch) -> None:
    market = Market()
    for number in range(3):
        market.send(bid(f"b{number}"))
    market.send(Amend(1, bid("again", quantity=9)))
    stored = in_columns(market.engine.state()).books[0].bids[0]
    assert unpacked(stored.ids, 3) == [2, 3, 1]
    assert unpacked(stored.moved, 3) == [0, 0, 3]
    again = restored(market.engine)
    assert [(order.id, order.place) for order in again.books[CLASS].bids()] == [(2, 2), (3, 3), (1, 4)]


def test_more_values_in_a_run_than_a_byte_can_number() -> None:
    market = Market()
    for number in range(300):
        market.send(ask(f"a{number}", price=2_500_000 + 100 * number))
    (stored,) = in_columns(market.engine.state()).books[0].asks
    assert len(stored.prices.numbers) == 600
    prices = [order.price for order in restored(market.engine).books[CLASS].asks()]
    assert prices == [2_500_000 + 100 * number for number in range(300)]


def test_a_column_that_names_no_value_or_is_too_short_restores_nothing() -> None:
    market = Market()
    for number in range(3):
        market.send(ask(f"a{number}", price=2_500_000 + 100 * number))
    for numbers in (b"\0\1\3", b"\0\1"):
        state = in_columns(market.engine.state())
        state.books[0].asks[0].prices.numbers = numbers
        with pytest.raises((LookupError, ValueError)):
            Engine.from_state(0, state)


def test_a_restored_account_s_orders_leave_in_the_order_of_their_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "RUN", 2)
    market = Market()
    for number in range(6):
        market.send(ask(f"a{number}", price=2_500_000 - 100 * number))
    again = restored(market.engine)
    again.apply(7, T0, ask("later"))
    again.apply(8, T0, Amend(3, ask("amended", quantity=9)))
    told = again.apply(9, T0, CancelAll(1, CLASS)).events
    assert [event.order_id for event in told if isinstance(event, Cancelled)] == [1, 2, 3, 4, 5, 6, 7]


def test_names_have_spaces() -> None:
    market = Market()
    market.send(ask("a b "))
    market.send(bid(" c", price=100))
    market.send(ask("of the refused", price=1))
    again = restored(market.engine)
    assert [order.client_order_id for order in again._live.all()] == ["a b ", " c"]
    assert (1, "of the refused", 3) in known(again)


def test_an_ask_of_which_all_came_back_is_as_one_of_which_nothing_was_sold() -> None:
    market = Market()
    market.send(ask("a", end=START + 2 * HOUR_MS))
    market.send(bid("b"))
    assert market.engine.state().books[0].asks[0].sold == ([0, START, START + HOUR_MS], [0, 1, 0])
    (returned,) = market.send(Return((2, 0), 1, 1, START, START + HOUR_MS))
    assert isinstance(returned, Returned)
    assert market.engine.state().books[0].asks[0].sold is None
    assert restored(market.engine).books[CLASS].asks()[0].calendar is None


def terms(order: Ask | Bid) -> dict[str, Any]:
    """All that an order is, but for where it stands and what of it is sold."""
    others = ("book", "chunk", "calendar", "free", "longest")
    fields = {name: getattr(order, name) for name in order.__struct_fields__ if name not in others}
    return fields | {"class": order.book.spec.class_id}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_restored_engine_has_all_that_the_one_before_had(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "RUN", 7)
    engine, commands = Engine(0), stream(profile, 5, 700)
    for offset, time, command in commands:
        commands.note(engine.apply(offset, time, command))
    again, now = restored(engine), engine.now
    for class_id, book in engine.books.items():
        twin = again.books[class_id]
        assert [terms(order) for order in twin.asks()] == [terms(order) for order in book.asks()]
        assert [terms(order) for order in twin.bids()] == [terms(order) for order in book.bids()]
        assert [sold_from(order, now) for order in twin.asks()] == [sold_from(order, now) for order in book.asks()]
        for order in twin.asks():
            bounds = order.free, order.longest
            measure(order)
            assert bounds == (order.free, order.longest)
            assert order.calendar is not None or order.free == order.quantity
        assert list(twin.spent) == [order.id for order in twin.asks() if is_spent(order)]
        twin.check()
    assert [order.id for order in again._live.all()] == [order.id for order in engine._live.all()]
    for live in (again._live, engine._live):
        assert all(order.chunk is not None for order in live.orders.values())
        assert all(order.chunk is None for order in live.spent.values())
    for account, party in again._memory.parties.items():
        assert party.in_order() == [order.id for order in engine._live.of(account)]
        assert party.live == len(party.orders) == engine._memory.parties[account].live
    assert again._memory.repeats(0) == engine._memory.repeats(now)
    first = again._live.due
    assert again._live.leavers_before(first - 1) == []
    assert first == min([order.leaves for order in engine._live.all()], default=first)
    leavers = again._live.leavers_before(NEVER)
    assert sorted(order.id for order in leavers) == [order.id for order in engine._live.all()]
    again._memory.forget_before(NEVER)
    assert (again._memory.repeats(0), again._memory.returned) == ([], {})


def known(engine: Engine) -> list[tuple[int, str, int]]:
    return [(account, name, first) for (account, name), (first, _) in engine.state().repeats]


def test_a_repeat_stands_with_its_order_or_apart_where_that_is_gone() -> None:
    market = Market()
    market.send(ask("lives"))
    market.send(bid("lives too", price=100))
    market.send(ask("gone"))
    market.send(Cancel(1, 3))
    market.send(ask("refused", price=1))
    state = in_columns(market.engine.state())
    assert [repeats.names.split("\n") for repeats in state.repeats] == [["gone", "refused"]]
    all_known = [(1, "gone", 3), (1, "lives", 1), (1, "refused", 5), (2, "lives too", 2)]
    assert known(market.engine) == all_known
    assert known(restored(market.engine)) == all_known


def test_a_name_used_anew_is_the_newer_order_s() -> None:
    market = Market()
    market.send(ask("a", not_after=T0))
    market.engine.apply(2, T0 + 1, ask("a", not_after=T0 + HOUR_MS))
    again = restored(market.engine)
    assert known(again) == [(1, "a", 2)]
    assert len(again.books[CLASS].asks()) == 2


def test_a_repeat_that_is_known_for_its_own_millisecond_alone_is_kept_at_the_beginning_of_time() -> None:
    engine = Engine(0)
    engine.apply(0, 0, CreateClass(SPEC))
    engine.apply(1, 0, bid("b", not_after=0))
    assert known(restored(engine)) == [(2, "b", 1)]
