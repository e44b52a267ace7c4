"""What lives, made of a state's columns: orders field by field, a run of them at a time."""

from operator import add
from typing import Any

from matching_engine.asks import measure, recall
from matching_engine.book import Book, Known
from matching_engine.columns import (
    BETWEEN,
    AskColumns,
    BidColumns,
    Column,
    Field,
    OrderColumns,
    RepeatColumns,
    spread,
    structs,
    unpacked,
)
from matching_engine.memory import Answered, Key
from matching_engine.orders import Ask, Bid


def restored_asks(book: Book, known: Known, stored: AskColumns) -> list[Ask]:
    """Best first. They are not in the book yet."""
    times = [known.offered[each] for each in stored.times.values]
    stated = [known.stated[each] for each in stored.attributes.values]
    at_times, at_stated = stored.times.numbers, stored.attributes.numbers
    asks = structs(
        Ask,
        stored.count,
        [
            *_resting(book, stored),
            ([start for start, _, _, _, _, _ in times], at_times),
            ([end for _, end, _, _, _, _ in times], at_times),
            ([attributes for attributes, _, _ in stated], at_stated),
            ([min_duration for _, _, min_duration, _, _, _ in times], at_times),
            _each(stored.lots),
            _each(stored.displays),
            ([signature for _, signature, _ in stated], at_stated),
            _each(stored.quantities),
            ([length for _, _, _, length, _, _ in times], at_times),
        ],
    )
    for number, moments, sold in stored.sold:
        recall(asks[number], moments, sold)
        measure(asks[number])
    return asks


def restored_bids(book: Book, known: Known, stored: BidColumns) -> list[Bid]:
    """Likewise."""
    times = [known.wanted[each] for each in stored.times.values]
    accepted = [known.accepted[each] for each in stored.accepts.values]
    at_times, at_accepted = stored.times.numbers, stored.accepts.numbers
    return structs(
        Bid,
        stored.count,
        [
            *_resting(book, stored),
            _each(stored.left),
            ([duration for _, duration, _, _, _ in times], at_times),
            ([starts for starts, _, _, _, _ in times], at_times),
            ([accepts for accepts, _, _ in accepted], at_accepted),
            _each(stored.min_fills),
            _each(stored.prefers),
            ([refuses for _, refuses, _ in accepted], at_accepted),
            ([hours for _, _, _, hours, _ in times], at_times),
        ],
    )


def restored_repeats(stored: RepeatColumns) -> tuple[list[Key], list[Answered]]:
    """Each repeat's key, and what is known of it."""
    count, accounts = stored.count, stored.accounts
    keys = list(zip(spread(accounts.values, accounts.numbers, count), stored.names.split(BETWEEN), strict=True))
    return keys, list(zip(unpacked(stored.positions, count), unpacked(stored.not_after, count), strict=True))


def _resting(book: Book, stored: OrderColumns) -> list[Field]:
    """The fields of Resting, of each order."""
    count = stored.count
    ids = places = unpacked(stored.ids, count)  # one object for both, where none of them was amended
    if stored.moved:
        places = list(map(add, ids, unpacked(stored.moved, count)))
    return [
        (ids, None),
        (places, None),
        _each(stored.accounts),
        _each(stored.owners),
        (stored.names.split(BETWEEN), None),
        ([book], b""),
        _each(stored.prices),
        _each(stored.quantities),
        _each(stored.self_trades),
        _each(stored.fees_bps),
        _each(stored.leaves),
        ([None], b""),
        ([True], b""),
    ]


def _each(column: Column[Any]) -> Field:
    return column.values, column.numbers
