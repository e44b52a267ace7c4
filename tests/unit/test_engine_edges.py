"""The engine at the edges of what it takes, and whom its refusals name. Found as holes by `make mutants`."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from matching_engine.checks import MAX_ACCOUNT
from matching_engine.columns import in_columns
from matching_engine.engine import Engine
from matching_engine.memory import FORGOTTEN_AT_ONCE, Memory
from matching_engine.names import NEVER
from schemas.commands import (
    Amend,
    Cancel,
    CancelAll,
    CancelNamed,
    Command,
    Extend,
    Halt,
    HaltMode,
    Kill,
    PlaceAsk,
    PlaceBid,
    RenewDeadMan,
    Return,
    SetLimits,
    SetReference,
    Tick,
    TimeInForce,
    Withdraw,
)
from schemas.events import (
    Accepted,
    Amended,
    Cancelled,
    DeadManChanged,
    Duplicate,
    Expired,
    Fill,
    KillChanged,
    Rejected,
    Returned,
)
from schemas.ids import format_order_id
from schemas.refusals import Refusal
from schemas.units import HOUR_MS, MAX_TIME_MS, MINUTE_MS
from tests.unit.test_engine import CLASS, SPEC, START, T0, Market, ask, bid

OTHER = "L40S"


def restored(market: Market) -> Engine:
    return Engine.from_state(0, in_columns(market.engine.state()))


@pytest.mark.parametrize(
    ("account", "named"), [(1, 1), (2, 2), (MAX_ACCOUNT, MAX_ACCOUNT), (0, 0), (MAX_ACCOUNT + 1, 0)]
)
def test_a_refusal_names_the_account_if_it_can_be_one(account: int, named: int) -> None:
    market = Market()
    (order,) = market.send(bid("b", account=account, class_id="no such class"))
    (cancel,) = market.send(Cancel(account, 99))
    (limits,) = market.send(SetLimits(account, -1, 0, 0))
    for refusal in (order, cancel, limits):
        assert isinstance(refusal, Rejected)
        assert refusal.account == named
    assert isinstance(order, Rejected)
    assert order.client_order_id == "b"


@pytest.mark.parametrize("name", ["", "ä", "x" * 65, "a\n"])
def test_a_refusal_names_an_order_only_by_what_can_be_its_name(name: str) -> None:
    (event,) = Market().send(bid(name))
    assert event == Rejected(2, "", Refusal.CLIENT_ORDER_ID_INVALID, ())


@pytest.mark.parametrize("account", [1, 2, MAX_ACCOUNT])
def test_any_account_can_be_killed_and_no_other_number(account: int) -> None:
    assert Market().send(Kill(account, on=True)) == (KillChanged(account, on=True),)
    for wrong in (0, -1, MAX_ACCOUNT + 1):
        assert Market().send(Kill(wrong, on=True)) == (Rejected(0, "", Refusal.UNKNOWN_ACCOUNT, (wrong,)),)


def test_a_halt_of_all_classes_where_there_is_none_is_refused_to_nobody_in_particular() -> None:
    events = Engine(0).apply(0, T0, Halt("", HaltMode.FULL)).events
    assert events == (Rejected(0, "", Refusal.UNKNOWN_CLASS, ("",)),)


@pytest.mark.parametrize(
    ("order_id", "shown"),
    [(0, "ord_0"), (1, "ord_1"), (MAX_ACCOUNT, format_order_id(MAX_ACCOUNT)), (1 << 63, 1 << 63), (-1, -1)],
)
def test_an_order_that_is_not_there_is_shown_as_one_if_it_can_be_one(order_id: int, shown: str | int) -> None:
    assert Market().send(Cancel(2, order_id)) == (Rejected(2, "", Refusal.UNKNOWN_ORDER, (shown,)),)


def test_an_order_may_be_good_until_the_end_of_time_and_no_longer() -> None:
    market = Market()
    (taken,) = market.send(bid("b", not_after=MAX_TIME_MS))
    (refused,) = market.send(bid("c", not_after=MAX_TIME_MS + 1))
    assert isinstance(taken, Accepted)
    assert refused == Rejected(2, "c", Refusal.TIME_OUT_OF_RANGE, ("not_after", MAX_TIME_MS + 1))


def test_a_dead_man_s_switch_goes_until_the_end_of_time_and_is_none_once_it_is_off_or_has_acted() -> None:
    market = Market()
    assert market.send(RenewDeadMan(2, MAX_TIME_MS)) == (DeadManChanged(2, MAX_TIME_MS),)
    assert market.send(RenewDeadMan(2, 0)) == (DeadManChanged(2, 0),)
    assert market.engine.state().parties == []
    market.send(RenewDeadMan(2, T0 + MINUTE_MS))
    market.send(Tick(), T0 + MINUTE_MS)
    assert market.engine.state().parties == []
    (refused,) = market.send(RenewDeadMan(2, 1), T0 + MINUTE_MS)
    assert refused == Rejected(2, "", Refusal.EXPIRY_PAST, (1, T0 + MINUTE_MS))


def test_an_ask_with_an_expiry_that_is_only_reduced_keeps_its_place() -> None:
    terms = {"time_in_force": TimeInForce.GTD, "expire_at": T0 + HOUR_MS}
    market = Market()
    market.send(ask("a", quantity=4, **terms))
    for quantity in (4, 3):
        (amended,) = market.send(Amend(1, ask(f"less {quantity}", quantity=quantity, **terms)))
        assert isinstance(amended, Amended)
        assert (amended.place, amended.left) == (1, quantity)
    (moved,) = market.send(Amend(1, ask("longer", quantity=3, **(terms | {"expire_at": T0 + HOUR_MS + 1}))))
    assert isinstance(moved, Amended)
    assert moved.place == 4


def test_a_reduced_ask_must_rest() -> None:
    market = Market()
    market.send(ask("a", quantity=4))
    (refused,) = market.send(Amend(1, ask("now", quantity=3, time_in_force=TimeInForce.IOC)))
    assert isinstance(refused, Rejected)
    assert refused.code is Refusal.AMEND_INVALID


def test_an_ask_amended_to_post_only_is_refused_where_it_would_trade_and_taken_where_not() -> None:
    market = Market()
    market.send(ask("a", price=3_000_000))
    market.send(bid("b", price=2_500_000))
    (refused,) = market.send(Amend(1, ask("low", price=2_500_000, post_only=True)))
    (taken,) = market.send(Amend(1, ask("high", price=2_600_000, post_only=True)))
    assert refused == Rejected(1, "low", Refusal.WOULD_TRADE, ("ord_2",))
    assert isinstance(taken, Amended)


def test_an_amended_order_is_one_order_of_its_account_even_where_its_number_was_tidied_away() -> None:
    market = Market()
    market.send(ask("first"))
    for number in range(200):
        market.send(ask(f"a{number}", price=3_000_000 + 100 * number))
    for order_id in range(2, 202):
        market.send(Cancel(1, order_id))
    market.send(Amend(1, ask("more", quantity=5)))
    market.send(ask("last", price=9_000_000))
    assert [order.id for order in market.engine._live.of(1)] == [1, 403]
    (refused,) = market.send(CancelNamed(1, "no such"))
    assert isinstance(refused, Rejected)
    ended = market.send(CancelAll(1, ""))
    assert [event.order_id for event in ended if isinstance(event, Cancelled)] == [1, 403]


def test_a_resume_of_two_classes_numbers_the_fills_of_both() -> None:
    market = Market()
    state = market.engine.state()
    (book,) = state.books
    both = []
    for first, class_id in ((1, CLASS), (11, OTHER)):
        other = Market()
        other.send(ask("a", quantity=1))
        asks = other.engine.state().books[0].asks
        bids_of = Market()
        for number in range(2):
            bids_of.send(bid(f"b{number}", quantity=1))
        bids = bids_of.engine.state().books[0].bids
        both.append(
            msgspec.structs.replace(
                book,
                spec=msgspec.structs.replace(SPEC, class_id=class_id),
                halt=HaltMode.FULL,
                asks=[msgspec.structs.replace(stored, id=first, place=first, quantity=2) for stored in asks],
                bids=[
                    msgspec.structs.replace(stored, id=first + number, place=first + number)
                    for number, stored in enumerate(bids, 1)
                ],
            )
        )
    state.books, state.position = both, 100
    events = Engine.from_state(0, in_columns(state)).apply(101, T0, Halt("", HaltMode.NONE)).events
    fills = [event for event in events if isinstance(event, Fill)]
    assert [(fill.class_id, fill.index, fill.number) for fill in fills] == [
        (CLASS, 0, 1),
        (CLASS, 1, 2),
        (OTHER, 2, 1),
        (OTHER, 3, 2),
    ]


def test_a_restored_engine_holds_an_account_to_its_limits_and_knows_its_orders() -> None:
    market = Market()
    market.send(SetLimits(1, 3, 0, 0))
    market.send(ask("a"))
    market.send(bid("b", account=1, price=100))
    engine = restored(market)
    offset = 10
    for name, taken in (("c", True), ("d", False)):
        (event,) = engine.apply(offset, T0, ask(name)).events
        assert isinstance(event, Accepted) is taken
        offset += 1
    ended = engine.apply(offset, T0, CancelAll(1, "")).events
    assert [event.order_id for event in ended if isinstance(event, Cancelled)] == [2, 3, 10]


def test_a_restored_engine_remembers_returns_and_repeats_as_long_as_the_one_before() -> None:
    market = Market()
    market.send(ask("a", quantity=2))
    market.send(bid("b", quantity=1, min_fill=1))
    once = Return((2, 0), 1, 1, START, START + HOUR_MS)
    (returned,) = market.send(once)
    assert isinstance(returned, Returned)
    ends = START + HOUR_MS
    for time, repeats, returns in ((T0 + HOUR_MS, 2, 1), (T0 + HOUR_MS + 1, 0, 1), (ends - 1, 0, 1), (ends, 0, 0)):
        engine = restored(market)
        engine.apply(100, time, Tick())
        whole = market.engine.state()
        seen = engine.state()
        assert (len(seen.repeats), len(seen.returned)) == (repeats, returns), time - T0
        assert len(whole.repeats) == 2
        engine.apply(101, ends + 2 * MINUTE_MS, Tick())
        assert (engine._memory.parties, engine._memory.returned, engine._memory._forget) == ({}, {}, {})
        assert (engine._names.due, engine._names._minutes) == (NEVER, [])


def test_of_what_is_remembered_a_bounded_part_is_forgotten_at_a_command_and_the_rest_counts_no_more() -> None:
    market, memory = Market(), Memory()
    count = 2 * FORGOTTEN_AT_ONCE + 500
    memory.fill([(1, f"{n}") for n in range(count)], [(n, MINUTE_MS - 1) for n in range(count)])
    left = []
    while memory.names.due <= MINUTE_MS:
        memory.forget_before(MINUTE_MS)
        left.append(sum(len(party.answered) for party in memory.parties.values()))
    assert left == [FORGOTTEN_AT_ONCE + 500, 500, 0]
    assert (memory.names._minutes, memory.parties, memory.names.due) == ([], {}, NEVER)
    market.send(ask("a", quantity=2))
    market.send(bid("b", quantity=1, min_fill=1))
    once, ends = Return((2, 0), 1, 1, START, START + HOUR_MS), START + HOUR_MS
    assert isinstance(market.send(once)[0], Returned)
    for number in range(FORGOTTEN_AT_ONCE):
        market.send(bid(f"{number}", price=1, not_after=ends - 1), ends - 1)
    for now, code in ((ends - 1, Refusal.ALREADY_RETURNED), (ends, Refusal.UNKNOWN_ORDER)):
        (refused,) = market.send(once, now)
        assert isinstance(refused, Rejected)
        assert refused.code is code
    assert (2, 0) in market.engine._memory.returned, "it is not forgotten yet"
    (new,) = market.send(bid("0", not_after=ends + 1, starts=(ends,)), ends)
    assert not isinstance(new, Duplicate)
    market.send(Tick(), ends + 1)
    assert market.engine._memory.returned == {}


def test_a_state_names_each_account_of_which_it_keeps_something() -> None:
    market = Market()
    market.send(Kill(3, on=True))
    market.send(SetLimits(4, 5, 0, 0))
    market.send(RenewDeadMan(5, T0 + HOUR_MS))
    market.send(Kill(6, on=True))
    market.send(Kill(6, on=False))
    assert [party.account for party in market.engine.state().parties] == [3, 4, 5]
    engine = restored(market)
    assert engine.state() == market.engine.state()
    (refused,) = engine.apply(50, T0, bid("b", account=3)).events
    assert isinstance(refused, Rejected)
    assert refused.code is Refusal.KILLED


def test_orders_that_leave_at_one_time_are_told_in_the_order_of_their_ids_whatever_ends_them() -> None:
    market = Market()
    at = T0 + 10 * MINUTE_MS
    gtd = {"time_in_force": TimeInForce.GTD, "expire_at": at}
    market.send(ask("a", account=3, owner=3))
    market.send(bid("b", price=100, **gtd))
    market.send(ask("c", account=3, owner=3))
    market.send(bid("d", price=100, **gtd))
    market.send(RenewDeadMan(3, at))
    events = market.send(Tick(), at)
    told = [event for event in events if isinstance(event, Cancelled | Expired)]
    assert [(type(event), event.order_id) for event in told] == [
        (Cancelled, 1),
        (Expired, 2),
        (Cancelled, 3),
        (Expired, 4),
    ]


NUMBERS = (-(1 << 63), -1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
"""What MessagePack can hold, at its edges."""


def odd(said: Any) -> Iterator[Any]:
    """Commands, or terms of one, with one of its numbers at such an edge."""
    for name in said.__struct_fields__:
        value = getattr(said, name)
        for number in NUMBERS:
            if type(value) is int:
                yield msgspec.structs.replace(said, **{name: number})
            elif type(value) is tuple and value:
                yield msgspec.structs.replace(said, **{name: (number, *value[1:])})


def test_no_number_in_a_command_is_too_large_or_too_small_to_be_answered() -> None:
    market = Market()
    market.send(SetLimits(9, 500, 1 << 60, 1_000))
    market.send(ask("a", account=9, owner=9, end=START + 2 * HOUR_MS))
    _, fill, _ = market.send(bid("b", account=2, starts=(START,), duration=HOUR_MS))
    assert isinstance(fill, Fill)
    lease = (fill.ask_id, 1, fill.start, fill.end)
    orders: list[PlaceAsk | PlaceBid] = [
        ask("", account=9, owner=9),
        ask("", time_in_force=TimeInForce.GTD, expire_at=START),
        bid(""),
        bid("", account=9, owner=9, market=True, time_in_force=TimeInForce.IOC),
    ]
    extend = Extend((fill.bid_id, 0), fill.ask_id, 2, 2, "", MAX_TIME_MS, 1, fill.end, fill.end + HOUR_MS, fill.price)
    others: list[Command] = [
        Cancel(2, 2),
        CancelAll(2, CLASS),
        Return((fill.bid_id, 0), *lease),
        Withdraw((fill.bid_id, 0), *lease),
        SetReference(CLASS, 5),
        RenewDeadMan(2, START),
        SetLimits(2, 1, 1, 1),
    ]
    named = [order for each in (*orders, extend) for order in odd(each)]
    sent = [msgspec.structs.replace(order, client_order_id=f"x{number}") for number, order in enumerate(named)]
    amends = [
        Amend(fill.ask_id, msgspec.structs.replace(terms, client_order_id=f"y{number}"))
        for number, terms in enumerate(order for each in orders for order in odd(each))
    ]
    for command in (*sent, *amends, *(command for each in others for command in odd(each))):
        assert market.send(command)
