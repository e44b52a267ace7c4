"""A state in columns, as snapshots hold it and the state hash is of: what restores an engine in least time.

Orders stand as in their book, in runs: what is made of one is used while the processor's caches have it. One column
says how a run stands in the order of ids, so that little is sorted again. What many of a run state alike is there once.
Columns of numbers are little-endian ints, all as wide as the largest of them needs. All of it follows from the state
alone: equal states, equal bytes, on any machine.
"""

import sys
from array import array
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from matching_engine.memory import Answered, Key, Repeat
from matching_engine.state import AskState, BidState, BookState, PartyState, State
from schemas.attributes import Accepts, Attributes, ClassSpec
from schemas.commands import HaltMode, Prefer, SelfTrade
from schemas.events import Cancelled, Expired

Value = TypeVar("Value", bound=Hashable)
Made = TypeVar("Made")
Row = TypeVar("Row")

Field = tuple[list[Any], bytes | None]
"""Values, and for each order the number of its own; None where each has its own."""

RUN = 4096
"""Orders, or repeats, whose columns stand together."""
BETWEEN = "\n"
"""Between two names, which are printable."""
_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
"""`array`'s, by width in bytes."""


class Column(Struct, Generic[Value], array_like=True, gc=False):
    """Values of which many are alike: each once, as they first come, and for each order the number of its own."""

    values: list[Value]
    numbers: bytes


class OrderColumns(Struct, array_like=True, gc=False):
    """What asks and bids begin with."""

    count: int
    ids: bytes
    moved: bytes
    """How far their places are behind their ids: 0 of all that were not amended."""
    by_id: bytes
    """The numbers of the orders (how many of the run are better), in the order of the ids."""
    known_until: bytes
    """Until when a repeat of the command that placed it is known; 0 where that is past."""
    names: str
    accounts: Column[int]
    owners: Column[int]
    prices: Column[int]
    quantities: Column[int]
    self_trades: Column[SelfTrade]
    fees_bps: Column[int]
    leaves: Column[int]


Numbers = Column[int]
Head = tuple[
    int, bytes, bytes, bytes, bytes, str, Numbers, Numbers, Numbers, Numbers, Column[SelfTrade], Numbers, Numbers
]
"""The fields of OrderColumns."""


class AskColumns(OrderColumns, array_like=True, gc=False):
    """Neighbours among a book's live asks."""

    times: Column[tuple[int, int, int]]
    """(start, end, min_duration)."""
    attributes: Column[Attributes]
    lots: Column[int]
    displays: Column[int]
    sold: list[tuple[int, list[int], list[int]]]
    """Of whom something is sold: the ask's number, and the times and GPUs of its calendar."""


class BidColumns(OrderColumns, array_like=True, gc=False):
    """Neighbours among a book's live bids."""

    left: Column[int]
    times: Column[tuple[tuple[int, ...], int]]
    """(starts, duration)."""
    accepts: Column[Accepts]
    min_fills: Column[int]
    prefers: Column[Prefer]


class BookColumns(Struct, array_like=True, gc=False):
    """A class and its orders, best first."""

    spec: ClassSpec
    fills: int
    reference: int
    halt: HaltMode
    retired: bool
    asks: list[AskColumns]
    bids: list[BidColumns]


class RepeatColumns(Struct, array_like=True, gc=False):
    """Repeats whose orders are gone, or were refused."""

    count: int
    accounts: Column[int]
    names: str
    positions: bytes
    not_after: bytes


class StateColumns(Struct, array_like=True, gc=False):
    """All of a State."""

    rules: int
    now: int
    position: int
    books: list[BookColumns]
    parties: list[PartyState]
    repeats: list[RepeatColumns]
    returned: list[tuple[int, int, int]]
    untold: list[Cancelled | Expired]


_encoder = msgspec.msgpack.Encoder(order="sorted")
_decoder = msgspec.msgpack.Decoder(StateColumns)


def encoded(state: State) -> bytes:
    """Canonical: equal states, equal bytes."""
    return _encoder.encode(in_columns(state))


def decoded(payload: bytes) -> StateColumns:
    """Raises msgspec.MsgspecError where it is no state in this form."""
    return _decoder.decode(payload)


def in_columns(state: State) -> StateColumns:
    """The same state, to restore an engine from."""
    repeats = dict(state.repeats)
    return StateColumns(
        state.rules,
        state.now,
        state.position,
        [_book(book, repeats) for book in state.books],
        state.parties,
        [_repeats(run) for run in _runs(list(repeats.items()))],
        state.returned,
        state.untold,
    )


def _book(book: BookState, repeats: dict[Key, Answered]) -> BookColumns:
    """Takes the orders' own repeats out of all."""
    return BookColumns(
        book.spec,
        book.fills,
        book.reference,
        book.halt,
        book.retired,
        [_asks(run, repeats) for run in _runs(book.asks)],
        [_bids(run, repeats) for run in _runs(book.bids)],
    )


def _runs(rows: list[Row]) -> list[list[Row]]:
    return [rows[first : first + RUN] for first in range(0, len(rows), RUN)]


def _asks(asks: list[AskState], repeats: dict[Key, Answered]) -> AskColumns:
    return AskColumns(
        *_orders(asks, repeats),
        times=_column([(ask.start, ask.end, ask.min_duration) for ask in asks]),
        attributes=_column([ask.attributes for ask in asks]),
        lots=_column([ask.lot for ask in asks]),
        displays=_column([ask.display for ask in asks]),
        sold=[(number, *ask.sold) for number, ask in enumerate(asks) if ask.sold is not None],
    )


def _bids(bids: list[BidState], repeats: dict[Key, Answered]) -> BidColumns:
    return BidColumns(
        *_orders(bids, repeats),
        left=_column([bid.left for bid in bids]),
        times=_column([(bid.starts, bid.duration) for bid in bids]),
        accepts=_column([bid.accepts for bid in bids]),
        min_fills=_column([bid.min_fill for bid in bids]),
        prefers=_column([bid.prefer for bid in bids]),
    )


def _orders(orders: Sequence[AskState | BidState], repeats: dict[Key, Answered]) -> Head:
    ids = [order.id for order in orders]
    return (
        len(ids),
        packed(ids),
        packed([order.place - order.id for order in orders]),
        packed(sorted(range(len(ids)), key=ids.__getitem__)),
        packed([_known_until(order, repeats) for order in orders]),
        BETWEEN.join([order.client_order_id for order in orders]),
        _column([order.account for order in orders]),
        _column([order.owner for order in orders]),
        _column([order.price for order in orders]),
        _column([order.quantity for order in orders]),
        _column([order.self_trade for order in orders]),
        _column([order.fee_bps for order in orders]),
        _column([order.leaves for order in orders]),
    )


def _known_until(order: AskState | BidState, repeats: dict[Key, Answered]) -> int:
    key = order.account, order.client_order_id
    position, not_after = repeats.get(key, (-1, 0))
    if position != order.id or not not_after:  # of another order, or none is known, or 0 would not tell
        return 0
    del repeats[key]
    return not_after


def _repeats(repeats: list[Repeat]) -> RepeatColumns:
    return RepeatColumns(
        len(repeats),
        _column([account for (account, _), _ in repeats]),
        BETWEEN.join([name for (_, name), _ in repeats]),
        packed([position for _, (position, _) in repeats]),
        packed([not_after for _, (_, not_after) in repeats]),
    )


def _column(values: list[Value]) -> Column[Value]:
    numbers: dict[Value, int] = {}
    of_each = [numbers.setdefault(value, len(numbers)) for value in values]
    return Column(list(numbers), packed(of_each))


def packed(numbers: list[int]) -> bytes:
    """Little-endian, each as wide as the largest needs; nothing where all are 0. Below 2^64, none below 0."""
    width = (max(numbers, default=0).bit_length() + 7) // 8
    if not width:
        return b""
    return _little_endian(array(_CODES[1 << (width - 1).bit_length()], numbers)).tobytes()


def unpacked(numbers: bytes, count: int) -> list[int]:
    """What was packed."""
    if not numbers:
        return [0] * count
    return _little_endian(array(_CODES[len(numbers) // count], numbers)).tolist()


def spread(values: list[Made], numbers: bytes | None, count: int) -> list[Made]:
    """Of each order its value: the one with its number, or the one in its place."""
    if numbers is None:
        return values
    if len(values) == 1:
        return values * count
    if len(numbers) == count:  # a byte each, as most are, is a number at once
        return [values[number] for number in numbers]
    return [values[number] for number in unpacked(numbers, count)]


def structs(kind: Callable[..., Made], count: int, fields: list[Field]) -> list[Made]:
    """So many of that Struct; what it has by default is None. At C speed: in a loop it took 0.4 µs more."""
    return list(map(kind, *[spread(values, numbers, count) for values, numbers in fields]))


def _little_endian(numbers: "array[int]") -> "array[int]":
    """To and fro."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
