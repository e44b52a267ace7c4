"""What the scenarios do not show: bounds, hostile commands, what is remembered, what the hash covers."""

import itertools
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matching_engine import engine as engine_module
from matching_engine.ahead import AT_ONCE
from matching_engine.checks import MAX_ACCOUNT, check_ask, check_bid
from matching_engine.columns import decoded, encoded, in_columns
from matching_engine.engine import MAX_TOLD, RULES, Engine, UnknownRulesError
from matching_engine.matching import MAX_WALK
from schemas.attributes import Accepts, Attributes, ClassSpec, Delivery, Interconnect, Region, Tier
from schemas.codec import decode_command, decode_execution, encode
from schemas.commands import (
    Amend,
    Cancel,
    CancelAll,
    CancelNamed,
    ChangeClass,
    Command,
    CreateClass,
    Extend,
    Halt,
    HaltMode,
    Kill,
    PlaceAsk,
    PlaceBid,
    RenewDeadMan,
    RetireClass,
    Return,
    SelfTrade,
    SetLimits,
    SetReference,
    SetRules,
    Side,
    Tick,
    TimeInForce,
    Unreadable,
    Withdraw,
)
from schemas.events import (
    Accepted,
    AllCancelled,
    Cancelled,
    CancelReason,
    Duplicate,
    Event,
    Execution,
    Expired,
    Fill,
    HaltChanged,
    Rejected,
    Ticked,
)
from schemas.ids import position
from schemas.log import MAX_RECORD_BYTES
from schemas.refusals import Refusal, sentence
from schemas.units import HOUR_MS, MAX_FEE_BPS, MAX_PRICE, MAX_QUANTITY, MAX_TIME_MS, MINUTE_MS, ceil_grid

T0 = 1_795_478_400_000
CLASS = "H" * 64
SPEC = ClassSpec(CLASS, "NVIDIA H100", 80, "SXM")
START = T0 + 24 * HOUR_MS
BIG = 2**63 - 1


def ask(name: str, **terms: Any) -> PlaceAsk:
    order = PlaceAsk(CLASS, 1, 1, name, T0 + HOUR_MS, 1, 2_500_000, START, START + HOUR_MS, Attributes())
    return msgspec.structs.replace(order, **terms)


def bid(name: str, **terms: Any) -> PlaceBid:
    order = PlaceBid(CLASS, 2, 2, name, T0 + HOUR_MS, 1, 2_500_000, HOUR_MS, (START,), Accepts(), 1)
    return msgspec.structs.replace(order, **terms)


class Market:
    """An engine with one class, fed one command after the other."""

    def __init__(self) -> None:
        self.engine = Engine(0)
        self._offset = 0
        self.send(CreateClass(SPEC))

    def send(self, command: Command | Unreadable, time: int = T0) -> tuple[Event, ...]:
        execution = self.engine.apply(self._offset, time, command)
        self._offset += 1
        assert len(encode(execution)) < MAX_RECORD_BYTES
        return execution.events


def test_every_command_has_one_answer_that_names_the_one_before() -> None:
    engine = Engine(5)
    answers = [engine.apply(offset, T0, Tick()) for offset in (0, 1, 7)]
    places = [position(5, offset) for offset in (0, 1, 7)]
    assert [(answer.position, answer.prev) for answer in answers] == [
        (places[0], -1),
        (places[1], places[0]),
        (places[2], places[1]),
    ]
    assert engine.position == places[2]


def test_an_answer_says_whose_request_it_answers() -> None:
    engine = Engine(0)
    asked: tuple[Command, ...] = (
        CreateClass(SPEC, "r-0"),
        ask("a", request_id="r-1"),
        bid("b", request_id="r-2"),
        Cancel(1, 1, "r-3"),
        Amend(1, ask("a+1", request_id="r-4")),
        Kill(1, True, "r-5"),
        ask("c", request_id="ä" * 64),
        ask("d", request_id="x" * 65),
        Cancel(1, 1, "x" * 999_000),
        Tick(),
    )
    answers = [engine.apply(offset, T0, command) for offset, command in enumerate(asked)]
    said = [answer.request_id for answer in answers]
    assert said == ["r-0", "r-1", "r-2", "r-3", "r-4", "r-5", "ä" * 64, "", "", ""]
    assert max(len(encode(answer)) for answer in answers) < MAX_RECORD_BYTES


def test_whose_request_it_was_is_no_part_of_the_state() -> None:
    one, other = Engine(0), Engine(0)
    asked: tuple[Any, ...] = (
        CreateClass(SPEC),
        ask("a"),
        bid("b"),
        bid("c", quantity=2),
        SetLimits(2, 5),
        Cancel(2, 2),
    )
    for offset, command in enumerate(asked):
        one.apply(offset, T0, command)
        other.apply(offset, T0, msgspec.structs.replace(command, request_id="r"))
    assert one.state_hash() == other.state_hash()


def test_bytes_that_are_no_command_are_answered() -> None:
    events = Market().send(decode_command(b"\xc1"))
    assert events == (Rejected(0, "", Refusal.UNREADABLE, ("it is not MessagePack",)),)


def test_a_class_is_checked_whole() -> None:
    market = Market()
    for change in (
        {"class_id": ""},
        {"class_id": "H\n100"},
        {"class_id": "Ä" * 65},
        {"tick": 0},
        {"tick": 10**9, "max_price": 10**6},
        {"max_price": 10**11},
        {"max_quantity": 65_537},
        {"memory_gb": -1},
        {"grace_ms": -1},
    ):
        (event,) = market.send(CreateClass(msgspec.structs.replace(SPEC, **{"class_id": "X", **change})))
        assert isinstance(event, Rejected)
        assert event.code is Refusal.CLASS_INVALID
        assert sentence(event.code, event.args).isascii()
    assert list(market.engine.books) == [CLASS]


def test_the_answer_to_most_fills_fits_a_record_and_the_rest_is_cancelled() -> None:
    market = Market()
    market.send(ask("a", quantity=1, price=1_000_000, account=BIG, owner=BIG))
    for number in range(MAX_WALK):
        market.send(ask(f"a{number}", account=BIG, owner=BIG, fee_bps=1000))
    events = market.send(bid("b", quantity=MAX_WALK + 1, account=BIG - 1, owner=BIG - 1, fee_bps=1000))
    assert sum(isinstance(event, Fill) for event in events) == MAX_WALK
    assert events[-1] == Cancelled(MAX_WALK + 2, BIG - 1, CancelReason.WALK_LIMIT, 1)
    events = market.send(bid("c", quantity=1))
    assert isinstance(events[1], Fill)
    assert events[1].number == MAX_WALK + 1


def test_the_largest_answer_of_all_fits_a_record() -> None:
    """Fills up to the limit, each leaving a bid that finds the walk over, behind as many expiries as are told."""
    attributes = Attributes(
        Region.AP_OCEANIA, Delivery.BARE_METAL, Interconnect.INFINIBAND, True, Tier.INTERRUPTIBLE, 1
    )
    fill = Fill(
        MAX_WALK, BIG, CLASS, BIG, BIG, BIG, BIG, MAX_PRICE, MAX_QUANTITY, MAX_TIME_MS, MAX_TIME_MS, Side.ASK,
        MAX_QUANTITY, MAX_FEE_BPS, MAX_FEE_BPS, attributes,
    )  # fmt: skip
    events: list[Event] = [Expired(BIG, BIG, MAX_QUANTITY)] * MAX_TOLD
    events += [Accepted(BIG, CLASS, CLASS, Side.ASK, MAX_QUANTITY, MAX_PRICE, MAX_FEE_BPS, MAX_TIME_MS, MAX_TIME_MS)]
    events += [fill] * MAX_WALK
    events += [Cancelled(BIG, BIG, CancelReason.WALK_LIMIT, MAX_QUANTITY)] * (MAX_WALK + 2)
    assert len(encode(Execution(BIG, BIG, MAX_TIME_MS, tuple(events)))) < MAX_RECORD_BYTES


def test_bids_that_find_the_walk_over_end_so_that_no_pair_can_trade() -> None:
    market = Market()
    market.send(ask("one"))
    for number in range(MAX_WALK):
        market.send(bid(f"b{number}", quantity=3, min_fill=2))
    events = market.send(ask("lots", quantity=2 * MAX_WALK, lot=2))
    assert [type(event) for event in events[1:]] == [Fill] * MAX_WALK + [Cancelled] * MAX_WALK
    assert not market.engine.books[CLASS].bids()
    assert len(market.engine.books[CLASS].asks()) == 2


def test_a_resume_that_would_fill_an_answer_stays_halted_and_goes_on_when_told_again() -> None:
    market = Market()
    market.send(ask("a", quantity=60_000))
    market.send(Halt(CLASS, HaltMode.FULL))
    state = market.engine.state()
    resting = msgspec.structs.replace(bid("b", quantity=1), client_order_id="r")
    other = Market()
    for number in range(MAX_WALK + 5):
        other.send(msgspec.structs.replace(resting, client_order_id=f"r{number}", price=2_400_000 - 100 * number))
    state.books[0].bids = [
        msgspec.structs.replace(stored, price=stored.price + 10**9, id=stored.id + 10, place=stored.place + 10)
        for stored in other.engine.state().books[0].bids
    ]
    state.position = 10**6
    engine = Engine.from_state(0, in_columns(state))
    first = engine.apply(10**6 + 1, T0, Halt(CLASS, HaltMode.NONE)).events
    assert isinstance(first[0], HaltChanged)
    assert sum(isinstance(event, Fill) for event in first) == MAX_WALK - 1
    assert first[-1] == HaltChanged(CLASS, HaltMode.FULL)
    assert not any(isinstance(event, Cancelled) for event in first)
    second = engine.apply(10**6 + 2, T0, Halt(CLASS, HaltMode.NONE)).events
    assert [type(event) for event in second] == [HaltChanged, *[Fill] * 6]
    assert engine.books[CLASS].halt is HaltMode.NONE


def test_orders_cancelled_together_are_told_over_several_answers_but_gone_at_once() -> None:
    market = Market()
    for number in range(MAX_TOLD + 10):
        market.send(bid(f"b{number}", price=100))
    first = market.send(CancelAll(2))
    assert first[0] == AllCancelled(2, "", MAX_TOLD + 10)
    assert len(first) == MAX_TOLD
    assert market.engine.books[CLASS].bids() == []
    assert len(market.send(Tick())) == 11 + 1


def test_a_fok_bid_that_needs_more_fills_than_an_answer_holds_is_not_filled() -> None:
    market = Market()
    for number in range(MAX_WALK + 1):
        market.send(ask(f"a{number}"))
    events = market.send(bid("b", quantity=MAX_WALK + 1, time_in_force=TimeInForce.FOK))
    assert events[1:] == (Cancelled(MAX_WALK + 2, 2, CancelReason.FOK_UNFILLED, MAX_WALK + 1),)
    assert len(market.send(bid("c", quantity=MAX_WALK, time_in_force=TimeInForce.FOK))) == MAX_WALK + 2


def test_self_trade_cancels_count_for_the_limit_of_an_answer() -> None:
    market = Market()
    for number in range(MAX_WALK + 1):
        market.send(ask(f"a{number}"))
    events = market.send(bid("b", owner=1, self_trade=SelfTrade.CANCEL_OLDEST))
    assert [type(event) for event in events[1:]] == [Cancelled] * (MAX_WALK + 1)
    assert events[-1] == Cancelled(MAX_WALK + 2, 2, CancelReason.WALK_LIMIT, 1)


def test_orders_that_leave_together_are_told_over_several_answers_but_gone_at_once() -> None:
    market = Market()
    for number in range(MAX_TOLD + 2):
        market.send(bid(f"b{number}"))
    events = market.send(Tick(), START + 1)
    assert [type(event) for event in events] == [Expired] * MAX_TOLD + [Ticked]
    assert not market.engine.books[CLASS].bids()
    assert market.send(Tick(), START + 1) == (
        Expired(MAX_TOLD + 1, 2, 1),
        Expired(MAX_TOLD + 2, 2, 1),
        Ticked(),
    )


def test_what_is_remembered_of_repeats_goes_when_their_time_is_over() -> None:
    market = Market()
    for minute in range(100):
        now = T0 + minute * MINUTE_MS
        assert not isinstance(market.send(bid("b", not_after=now), now)[0], Duplicate)
        assert isinstance(market.send(bid("b", not_after=now + MINUTE_MS), now)[0], Duplicate)
        for number in range(3):
            market.send(bid(f"{minute} {number}", not_after=now + number), now)
    assert sum(len(party.answered) for party in market.engine._memory.parties.values()) <= 8
    assert len(market.engine._names._minutes) <= 2


def test_an_id_used_anew_is_remembered_as_long_as_its_new_use_says() -> None:
    market = Market()
    market.send(bid("b", not_after=T0))
    market.send(bid("b", not_after=T0 + HOUR_MS), T0 + 1)
    market.send(Tick(), T0 + 2 * MINUTE_MS)
    assert market.send(bid("b", not_after=T0 + HOUR_MS), T0 + HOUR_MS) == (Duplicate(2, "b", 2),)


def test_orders_that_left_do_not_pile_up() -> None:
    market = Market()
    for number in range(3000):
        market.send(bid(f"b{number}"))
        market.send(Cancel(2, 2 * number + 1))
    assert sum(map(len, market.engine._live._leaving.values())) < 1100


def test_equal_histories_have_equal_hashes_and_others_have_not() -> None:
    first, second = Market(), Market()
    for market in (first, second):
        market.send(ask("a", quantity=4, end=START + 2 * HOUR_MS))
    assert first.engine.state_hash() == second.engine.state_hash()
    first.send(bid("b"))
    second.send(bid("b", quantity=2))
    assert first.engine.state_hash() != second.engine.state_hash()


def test_a_refusal_changes_no_book() -> None:
    market = Market()
    market.send(ask("a"))
    before = market.engine.state().books
    market.send(bid("b", price=1))
    market.send(bid("c", post_only=True))
    market.send(Cancel(2, 1))
    market.send(CreateClass(SPEC))
    assert market.engine.state().books == before


def test_commands_come_in_the_order_of_the_log() -> None:
    engine = Engine(0)
    engine.apply(1, T0, Tick())
    with pytest.raises(AssertionError):
        engine.apply(1, T0, Tick())


NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([T0, START, START + HOUR_MS, HOUR_MS, 2_500_000, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)]),
)
TEXTS = st.one_of(st.just(CLASS), st.text(max_size=70), st.just("\x00"))


@st.composite
def hostile(draw: st.DrawFn) -> bytes:
    """A well-formed command with some of its numbers and texts replaced, or any bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    lease = ((3, 0), 2, 1, START, START + HOUR_MS)
    good: list[Command] = [
        ask("a"),
        bid("b"),
        bid("c", starts=(0, START), min_fill=1),
        Cancel(2, 1),
        CancelNamed(1, "a0"),
        CancelAll(1, CLASS),
        Amend(1, ask("d", quantity=2)),
        Amend(1, bid("e")),
        Return(*lease),
        Withdraw(*lease),
        Extend((3, 0), 1, 2, 2, "x", T0 + HOUR_MS, 1, START, START + HOUR_MS, 2_500_000),
        CreateClass(SPEC),
        ChangeClass(SPEC),
        RetireClass(CLASS),
        SetReference(CLASS, 2_500_000),
        Halt(CLASS, HaltMode.NO_NEW),
        Kill(1, True),
        RenewDeadMan(1, T0 + HOUR_MS),
        SetLimits(1, 10, 10**12, 8),
        SetRules(1),
    ]
    fields = msgspec.msgpack.decode(encode(draw(st.sampled_from(good))))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(1, len(fields) - 1))
        fields[at] = replaced(draw, fields[at])
    return msgspec.msgpack.encode(fields)


def replaced(draw: st.DrawFn, value: Any) -> Any:
    match value:
        case bool():
            return draw(st.booleans())
        case int():
            return draw(NUMBERS)
        case str():
            return draw(TEXTS)
        case list() if value and not all(isinstance(item, int) for item in value):
            at = draw(st.integers(0, len(value) - 1))
            return [*value[:at], replaced(draw, value[at]), *value[at + 1 :]]
        case _:
            return draw(st.lists(NUMBERS, max_size=40))


@settings(max_examples=400, deadline=None)
@given(st.lists(hostile(), min_size=1, max_size=10))
def test_whatever_the_log_holds_is_answered(values: list[bytes]) -> None:
    market = Market()
    for value in [encode(ask("a0")), *values, encode(Tick())]:
        command = decode_command(value)
        if isinstance(command, SetRules) and command.number > RULES:
            with pytest.raises(UnknownRulesError):
                market.send(command)
            return
        events = market.send(command)
        assert events
        for event in events:
            if isinstance(event, Rejected):
                assert sentence(event.code, event.args)
                assert 0 <= event.account <= BIG
            else:
                assert max([0, *(field for field in msgspec.structs.astuple(event) if type(field) is int)]) <= BIG
    state = decoded(encoded(market.engine.state()))
    assert Engine.from_state(0, state).state_hash() == market.engine.state_hash()


@pytest.fixture(scope="module")
def all_are_expected() -> Iterator[None]:
    """In an engine of few orders, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "MANY", 0)
        yield


@pytest.mark.usefixtures("all_are_expected")
@settings(max_examples=200, deadline=None)
@given(st.lists(hostile(), max_size=90))
def test_what_is_expected_changes_nothing(values: list[bytes]) -> None:
    told, untold = Market(), Market()
    for number in range(40):  # whom the commands can name
        for market in (told, untold):
            market.send(ask(f"a{number}", price=2_500_000 + 100 * number))
            market.send(bid(f"b{number}", price=2_400_000 - 100 * number))
    commands: list[Command | Unreadable] = [Cancel(2, 2), bid("b"), Cancel(1, 2**64 - 1), Cancel(1, -(2**63))]
    commands += [decode_command(value) for value in values]
    commands += [ask("big", price=2**64 - 1), bid("low", price=-(2**63)), ask("x", class_id="none"), Cancel(1, 3)]
    commands = [command for command in commands if not isinstance(command, SetRules)]
    before = told.engine.state_hash()
    told.engine.expect(commands)
    told.engine.expect([Cancel(1, 2**200), ask("big", price=2**200), bid("low", price=-(2**200)), Cancel(1, -(2**200))])
    assert told.engine.state_hash() == before
    for first in range(0, len(commands), AT_ONCE):
        told.engine.expect(commands[first : first + AT_ONCE])
        for command in commands[first : first + AT_ONCE]:
            assert told.send(command) == untold.send(command)
    assert told.engine.state_hash() == untold.engine.state_hash()
    Engine(0).expect(tuple(commands))


def test_an_answer_is_read_as_it_was_written() -> None:
    engine = Engine(0)
    commands: list[Command] = [CreateClass(SPEC), ask("a"), bid("b", quantity=2), Cancel(2, 2)]
    for offset, command in enumerate(commands):
        answer = engine.apply(offset, T0, command)
        assert decode_execution(encode(answer)) == answer


TICKS = msgspec.structs.replace(SPEC, tick=100)
ODD_TERMS: dict[str, tuple[Any, ...]] = {
    "owner": (0, MAX_ACCOUNT, MAX_ACCOUNT + 1),
    "quantity": (0, MAX_QUANTITY, MAX_QUANTITY + 1),
    "price": (0, 100, 150, MAX_PRICE, MAX_PRICE + 100),
    "fee_bps": (-1, MAX_FEE_BPS, MAX_FEE_BPS + 1),
    "time_in_force": tuple(TimeInForce),
    "expire_at": (T0, START),
    "post_only": (True,),
}
ODD_ASK_TERMS = ODD_TERMS | {
    "start": (0, T0, START + 1, START + HOUR_MS, MAX_TIME_MS),
    "end": (0, T0, START + MINUTE_MS, START + 1, BIG),
    "min_duration": (0, MINUTE_MS, HOUR_MS, 2 * HOUR_MS),
    "lot": (0, 1, 2),
    "display": (1, 2),
    "attributes": (Attributes(notice_minutes=-1), Attributes(notice_minutes=BIG)),
}
ODD_BID_TERMS = ODD_TERMS | {
    "duration": (0, MINUTE_MS, MINUTE_MS + 1, BIG),
    "starts": ((), (0,), (0, 0), (START, START), (0, T0), (T0 - MINUTE_MS,), (START + 1,), tuple(range(40))),
    "accepts": (Accepts(regions=BIG), Accepts(only_suppliers=(0,)), Accepts(not_suppliers=(1,) * 1000)),
    "min_fill": (0, 1, 2),
    "market": (True,),
}


@pytest.mark.parametrize(
    ("order", "first", "second"),
    [
        (order, first, second)
        for order, odd in ((ask("a"), ODD_ASK_TERMS), (bid("b"), ODD_BID_TERMS))
        for first, second in itertools.combinations_with_replacement(odd, 2)
    ],
)
def test_what_is_taken_at_one_look_is_what_the_checks_take(order: PlaceAsk | PlaceBid, first: str, second: str) -> None:
    odd = ODD_ASK_TERMS if isinstance(order, PlaceAsk) else ODD_BID_TERMS
    for one, other in itertools.product(odd[first], odd[second]):
        terms = msgspec.structs.replace(order, **{first: one, second: other})
        engine = Engine(0)
        engine.apply(0, T0, CreateClass(TICKS))
        engine.apply(1, T0, SetReference(CLASS, 2_500_000))
        answer = engine.apply(2, T0, terms).events[0]
        if isinstance(terms, PlaceAsk):
            refused = check_ask(terms, terms.start or ceil_grid(T0), TICKS, T0)
        else:
            starts = tuple(dict.fromkeys(start or ceil_grid(T0) for start in terms.starts))
            refused = check_bid(terms, starts if 0 in terms.starts else terms.starts, TICKS, T0)
        if refused is None:
            assert isinstance(answer, Accepted), (one, other)
        else:
            assert isinstance(answer, Rejected)
            assert (answer.code, answer.args) == refused
