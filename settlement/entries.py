"""An account's own entries as a list with running balances, taken further by a cursor that carries them.

Entries are never changed and settlement alone adds them, so what is older than an entry is the same for ever: a reader
who comes back with the balances that stood before it needs no sum over what came since.
"""

import re
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from schemas.store import Entry, LedgerKind
from settlement import ledger

IDS = {
    LedgerKind.CASH: ledger.cash,
    LedgerKind.HELD: ledger.hold,
    LedgerKind.RECEIVABLE: ledger.payable,
    LedgerKind.OUTGOING: ledger.outgoing,
    LedgerKind.LENT: ledger.lent,
    LedgerKind.DAILY_CREDITS: ledger.daily_credits,
}
_CURSOR = re.compile(r"-?\d{1,19}(\.-?\d{1,19})+", re.ASCII)
_LIMIT = 10**18
"""µ$: as long as any amount that is written has."""


class Cursor(Struct, frozen=True):
    """The last entry that was read, and what each ledger account of the list held before it."""

    transaction: int
    ledger_account: int
    balances: tuple[int, ...]

    def text(self) -> str:
        return ".".join(map(str, (self.transaction, self.ledger_account, *self.balances)))


def parse(text: str, accounts: int) -> Cursor:
    """Raises ValueError where it is not the cursor of a list over so many ledger accounts."""
    numbers = [int(part) for part in text.split(".")] if _CURSOR.fullmatch(text) else []
    if len(numbers) != accounts + 2 or not all(-_LIMIT <= number < _LIMIT for number in numbers):
        raise ValueError(f"{text!r} is no cursor of this list: take the `next` of its last part")
    return Cursor(numbers[0], numbers[1], tuple(numbers[2:]))


def listed(
    rows: Sequence[Any], kinds: dict[int, LedgerKind], before: Cursor | None, limit: int
) -> tuple[list[Entry], str | None]:
    """Rows of the query `entries`, newest first -> the entries, each with the balance after it, and the next cursor."""
    if not rows:
        return [], None
    balances = dict(zip(kinds, before.balances if before else rows[0]["balances"], strict=True))
    found = []
    for _, time, reference, account, amount, _ in rows:
        found.append(Entry(time, reference, kinds[account], amount, balances[account]))
        balances[account] -= amount
    last = Cursor(rows[-1]["transaction"], rows[-1]["ledger_account"], tuple(balances.values()))
    return found, last.text() if len(rows) == limit else None
