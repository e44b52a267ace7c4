"""Daily credits: what a day grants, what a charge takes of it, and what lapses."""

import pytest

from schemas.instructions import DailyCredits
from schemas.refusals import Refusal
from schemas.units import DAY_MS
from settlement import daily_credits, ledger
from settlement.daily_credits import MAX_DAILY, DailyCreditRow

DAY = 20_783
NOON = DAY * DAY_MS + DAY_MS // 2


def moved(postings: list[daily_credits.Posting]) -> list[tuple[str, int, int]]:
    """(reference, time, µ$ of the account) of what moves; the other side is the grants'."""
    for posting in postings:
        assert sum(posting.entries.values()) == 0
        assert posting.entries.keys() == {ledger.daily_credits(7), ledger.GRANTS}
    return [
        (each.reference, each.time, each.entries[ledger.daily_credits(7)])
        for each in postings
        if any(each.entries.values())
    ]


def test_what_is_granted_counts_from_now_and_a_raise_adds_what_is_missing() -> None:
    row = DailyCreditRow(7, 0, DAY)
    assert moved(daily_credits.change(row, 50, NOON)) == [(f"grant:acc_7:{DAY}:50", NOON, 50)]
    assert daily_credits.take(row, 30, NOON) == 30
    assert moved(daily_credits.change(row, 50, NOON)) == []
    assert moved(daily_credits.change(row, 80, NOON)) == [(f"grant:acc_7:{DAY}:80", NOON, 30)]
    assert moved(daily_credits.change(row, 10, NOON)) == [], "what the day had it keeps"
    assert row == DailyCreditRow(7, daily=10, day=DAY, granted=80, remaining=50, taken=30)
    assert moved(daily_credits.change(row, 80, NOON)) == []


def test_what_is_left_lapses_at_midnight_and_never_rolls_over() -> None:
    row = DailyCreditRow(7, 0, DAY)
    daily_credits.change(row, 50, NOON)
    daily_credits.take(row, 20, NOON)
    assert moved(daily_credits.turn(row, DAY)) == []
    assert row.deadline == (DAY + 1) * DAY_MS - 1
    assert moved(daily_credits.turn(row, DAY + 2)) == [
        (f"lapse:acc_7:{DAY}:50", (DAY + 1) * DAY_MS, -30),
        (f"grant:acc_7:{DAY + 1}:50", (DAY + 1) * DAY_MS, 50),
        (f"lapse:acc_7:{DAY + 1}:50", (DAY + 2) * DAY_MS, -50),
        (f"grant:acc_7:{DAY + 2}:50", (DAY + 2) * DAY_MS, 50),
    ]
    assert (row.day, row.granted, row.remaining, row.taken) == (DAY + 2, 50, 50, 20)


def test_no_more_credits_are_granted_and_none_are_awaited_once_they_are_ended() -> None:
    row = DailyCreditRow(7, 0, DAY)
    daily_credits.change(row, 50, NOON)
    daily_credits.change(row, 0, NOON)
    assert moved(daily_credits.turn(row, DAY + 1)) == [(f"lapse:acc_7:{DAY}:50", (DAY + 1) * DAY_MS, -50)]
    assert row.deadline is None
    assert moved(daily_credits.turn(row, DAY + 1_000_000)) == []
    assert (row.day, row.remaining) == (DAY + 1_000_000, 0)


@pytest.mark.parametrize(
    ("charged", "at", "taken"),
    [(49, NOON, 49), (50, NOON, 50), (51, NOON, 50), (0, NOON, 0), (-5, NOON, 0), (5, NOON - DAY_MS, 0)],
)
def test_a_charge_takes_from_the_credits_of_its_own_day_first(charged: int, at: int, taken: int) -> None:
    row = DailyCreditRow(7, 0, DAY)
    daily_credits.change(row, 50, NOON)
    assert daily_credits.take(row, charged, at) == taken
    assert (row.remaining, row.taken) == (50 - taken, taken)


@pytest.mark.parametrize("daily", [-1, MAX_DAILY + 1])
def test_credits_have_a_range(daily: int) -> None:
    assert daily_credits.wrong(DailyCredits(7, daily)) == (Refusal.CREDITS_OUT_OF_RANGE, (daily, MAX_DAILY))
    assert daily_credits.wrong(DailyCredits(0, 5)) == (Refusal.UNKNOWN_ACCOUNT, (0,))
    assert daily_credits.wrong(DailyCredits(7, MAX_DAILY)) is None
