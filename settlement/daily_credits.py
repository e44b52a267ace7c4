"""Daily credits: granted at 00:00 UTC, spent before cash, and what is left of them lapses with the day.

What comes back of what they paid is credits again, of the day on which it comes back: it never becomes cash.

Pure. A charge leaves its lease's escrow as ever; what credits pay of it comes out of the account's credits, and so much
of the escrow goes back to its cash. So escrow, bills and suppliers know nothing of credits.
"""

from typing import NamedTuple

from msgspec import Struct

from schemas import units
from schemas.ids import MAX_ACCOUNT, format_account_id
from schemas.instructions import DailyCredits
from schemas.refusals import Args, Refusal
from schemas.units import DAY_MS
from settlement import ledger
from settlement.ledger import Entries

MAX_DAILY = 10**9 * units.MICRO


class DailyCreditRow(Struct):
    """An account's credits as the table `daily_credits` has them, column by column: µ$."""

    account: int
    daily: int
    day: int
    granted: int = 0
    remaining: int = 0
    taken: int = 0

    @property
    def deadline(self) -> int | None:
        """When its day ends, ms: passed once now is greater; None where the next day is no other."""
        return (self.day + 1) * DAY_MS - 1 if self.daily or self.remaining else None


class Posting(NamedTuple):
    """A transaction to be posted, if anything moves in it."""

    reference: str
    time: int
    entries: Entries


def wrong(asked: DailyCredits) -> tuple[Refusal, Args] | None:
    if not 0 <= asked.daily <= MAX_DAILY:
        return Refusal.CREDITS_OUT_OF_RANGE, (asked.daily, MAX_DAILY)
    if not 1 <= asked.account <= MAX_ACCOUNT:
        return Refusal.UNKNOWN_ACCOUNT, (asked.account,)
    return None


def turn(row: DailyCreditRow, day: int) -> list[Posting]:
    """The days up to `day` begin, one after the other."""
    made = []
    while row.day < day:
        if row.deadline is None:
            row.day, row.granted = day, 0
            break
        made.append(_grant(row, "lapse", -row.remaining, (row.day + 1) * DAY_MS))
        row.day, row.granted = row.day + 1, 0
        made.append(_grant(row, "grant", row.daily, row.day * DAY_MS))
    return made


def change(row: DailyCreditRow, daily: int, now: int) -> list[Posting]:
    """From now on each day has `daily`: this one too, unless it had more already."""
    made = turn(row, now // DAY_MS)
    row.daily = daily
    if daily > row.granted:
        made.append(_grant(row, "grant", daily - row.granted, now))
    return made


def take(row: DailyCreditRow, charged: int, at: int) -> int:
    """µ$ of a charge that the credits of its day pay: that day has begun, by `turn`."""
    if at // DAY_MS != row.day:
        return 0
    taken = max(0, min(charged, row.remaining))
    row.remaining -= taken
    row.taken += taken
    return taken


def returned(refund: int, paid: int, by_credits: int) -> int:
    """Of a refund of what was `paid` in all, µ$ that come back as credits: what cash paid of it comes back first.

    >>> returned(30, 100, 80), returned(10, 100, 80), returned(100, 100, 80)
    (10, 0, 80)
    """
    return max(0, min(by_credits, refund - (paid - by_credits)))


def put_back(row: DailyCreditRow, amount: int) -> None:
    """µ$ that credits had paid are there again, until the end of the present day."""
    row.remaining += amount
    row.taken -= amount


def _grant(row: DailyCreditRow, what: str, amount: int, time: int) -> Posting:
    row.remaining += amount
    row.granted += max(0, amount)
    reference = f"{what}:{format_account_id(row.account)}:{row.day}:{row.granted}"
    return Posting(reference, time, {ledger.daily_credits(row.account): amount, ledger.GRANTS: -amount})
