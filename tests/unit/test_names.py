"""What is remembered of names, against a plain list of all of it."""

import random

import pytest

from matching_engine.names import NEVER, Names
from schemas.units import MINUTE_MS

ACCOUNTS = (1, 2)


@pytest.mark.parametrize("seed", range(8))
def test_a_name_is_a_repeat_until_its_time_and_then_forgotten(seed: int) -> None:
    rng, names = random.Random(seed), Names()
    answers = {account: names.of(account) for account in ACCOUNTS}
    said: dict[tuple[int, str], tuple[int, int]] = {}
    now = 0
    for position in range(1 << 40, (1 << 40) + 6_000):
        now += rng.choice((0, 0, 1, 1_000))
        account, name = rng.choice(ACCOUNTS), "n" * rng.randrange(60) + f"{rng.randrange(1, 900):04}"
        not_after = now + rng.choice((0, 1, 500, MINUTE_MS, 9 * MINUTE_MS))
        known, until = said.get((account, name), (position, -1))
        if now > until:
            known, said[account, name] = position, (position, not_after)
        assert names.first(answers[account], name, position, not_after, now) == known
        if position % 50 == 0:
            gone: list[int] = []
            assert 0 <= names.forget_before(now, 40, gone) <= 40
        if position % 500 == 0:
            for each in ACCOUNTS:
                assert sorted(answers[each].counting(now)) == sorted(
                    (name, *known) for (account, name), known in said.items() if account == each and known[1] >= now
                )
    while names.due <= now:
        names.forget_before(now, 1, [])
    counting = [until for _, until in said.values() if until >= now]
    of_this_minute = [until for _, until in said.values() if until < now and until // MINUTE_MS == now // MINUTE_MS]
    assert 0 <= sum(map(len, answers.values())) - len(counting) <= len(of_this_minute)
    gone = []
    assert names.forget_before(NEVER, 100_000, gone) > 0
    assert (sorted(gone), [len(answers[account]) for account in ACCOUNTS]) == (list(ACCOUNTS), [0, 0])
    assert names.due == NEVER


def test_no_more_is_forgotten_at_once_than_is_said() -> None:
    names = Names()
    one = names.of(7)
    for position in range(1_000):
        names.first(one, f"{position}", position, position, 0)
    assert names.due == MINUTE_MS
    left: list[int] = []
    emptied: list[int] = []
    while names.due != NEVER:
        left.append(names.forget_before(MINUTE_MS, 300, emptied))
        assert len(one) == 1_000 - 300 * len(left) or emptied == [7]
    assert (left, len(one), emptied) == ([0, 0, 0, 200], 0, [7])
    assert names.first(one, "5", 2_000, MINUTE_MS, MINUTE_MS) == 2_000
    assert names.first(one, "5", 3_000, MINUTE_MS, MINUTE_MS) == 2_000
