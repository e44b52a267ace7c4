"""Ids are log positions; outside they are short strings with a prefix.

A position is `partition << 48 | offset`, below 2^63. An order's id is the position of its command. A fill's id
is the position of the command that made it and its index among that command's fills; its lease has the same.
"""

import re

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32 in lower case: no i, l, o, u."""
_VALUES = {letter: value for value, letter in enumerate(ALPHABET)}
_OFFSET_BITS = 48
MAX_PARTITION = (1 << 15) - 1
MAX_ACCOUNT = (1 << 53) - 1
"""An account's id is exact in any JSON reader."""

FillId = tuple[int, int]
"""(position of the command, index of the fill among that command's fills)."""
LeaseId = FillId
"""A lease has the id of the fill that made it."""

_ID = re.compile(r"([a-z]{3,4})_([0-9a-hjkmnp-tv-z]{1,13})(?:-([0-9]{1,9}))?")


def position(partition: int, offset: int) -> int:
    """The id of the record at `offset` of `partition`."""
    if not (0 <= partition <= MAX_PARTITION and 0 <= offset < 1 << _OFFSET_BITS):
        raise ValueError(f"partition {partition}, offset {offset}: no such log position")
    return partition << _OFFSET_BITS | offset


def partition_of(place: int) -> int:
    """The partition in a position."""
    return place >> _OFFSET_BITS


def offset_of(place: int) -> int:
    """The offset in a position."""
    return place & ((1 << _OFFSET_BITS) - 1)


def _base32(number: int) -> str:
    if number < 0:
        raise ValueError(f"{number} is no id: ids are 0 or above")
    digits = ""
    while True:
        number, value = divmod(number, 32)
        digits = ALPHABET[value] + digits
        if not number:
            return digits


def _parse(text: str, prefix: str, indexed: bool) -> tuple[int, int]:
    match = _ID.fullmatch(text)
    number = 0
    if match is not None:
        for letter in match[2]:
            number = number * 32 + _VALUES[letter]
    canonical = match is not None and (match[2] == "0" or match[2][0] != "0")
    if match is None or match[1] != prefix or (match[3] is not None) != indexed or number >= 1 << 63 or not canonical:
        example = f"{prefix}_7k2{'-0' if indexed else ''}"
        raise ValueError(f"{text!r} is not such an id: it looks like {example}")
    return number, int(match[3] or 0)


def format_order_id(order_id: int) -> str:
    """
    >>> format_order_id(1000)
    'ord_z8'
    """
    return f"ord_{_base32(order_id)}"


def parse_order_id(text: str) -> int:
    """Raises ValueError with what such an id looks like."""
    return _parse(text, "ord", indexed=False)[0]


def format_fill_id(fill_id: FillId) -> str:
    """
    >>> format_fill_id((1000, 2))
    'fil_z8-2'
    """
    return f"fil_{_base32(fill_id[0])}-{fill_id[1]}"


def parse_fill_id(text: str) -> FillId:
    """Raises ValueError with what such an id looks like."""
    return _parse(text, "fil", indexed=True)


def format_lease_id(lease_id: LeaseId) -> str:
    """
    >>> format_lease_id((1000, 2))
    'lse_z8-2'
    """
    return f"lse_{_base32(lease_id[0])}-{lease_id[1]}"


def parse_lease_id(text: str) -> LeaseId:
    """Raises ValueError with what such an id looks like."""
    return _parse(text, "lse", indexed=True)


def format_account_id(account: int) -> str:
    """
    >>> format_account_id(7)
    'acc_7'
    """
    return f"acc_{_base32(account)}"


def parse_account_id(text: str) -> int:
    """Raises ValueError with what such an id looks like."""
    return _parse(text, "acc", indexed=False)[0]


def format_invoice_id(account: int, number: int, *, sales: bool) -> str:
    """An account's invoices are numbered from 1, and so are its statements of sales.

    >>> format_invoice_id(7, 3, sales=False), format_invoice_id(7, 3, sales=True)
    ('inv_7-3', 'stm_7-3')
    """
    return f"{'stm' if sales else 'inv'}_{_base32(account)}-{number}"
