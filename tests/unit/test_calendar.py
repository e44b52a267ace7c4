"""What of an ask is taken, at each moment."""

import random

from matching_engine.calendar import Calendar


def test_a_window_is_taken_and_the_rest_is_not() -> None:
    calendar = Calendar(0, 24)
    calendar.take(10, 12, 8)
    assert [calendar.most(0, 10), calendar.most(10, 12), calendar.most(12, 24)] == [0, 8, 0]
    assert calendar.most(9, 11) == calendar.most(0, 24) == calendar.most(11, 12) == 8


def test_a_calendar_starts_with_what_was_sold_over_all_of_it() -> None:
    calendar = Calendar(0, 24, taken=3)
    calendar.take(0, 1, 2)
    assert (calendar.most(0, 1), calendar.most(1, 24)) == (5, 3)


def test_pieces_that_meet_at_one_level_become_one() -> None:
    calendar = Calendar(0, 24)
    for start in (4, 0, 8, 20, 16, 12):
        calendar.take(start, start + 4, 2)
    assert (calendar.times, calendar.taken) == ([0], [2])


def test_the_longest_stretch_with_room() -> None:
    calendar = Calendar(0, 24)
    assert calendar.longest(0) == 24
    calendar.take(4, 6, 1)
    calendar.take(16, 18, 2)
    assert [calendar.longest(most) for most in (0, 1, 2)] == [10, 16, 24]
    calendar.take(0, 24, 3)
    assert calendar.longest(2) == 0


def test_it_counts_as_an_array_of_moments_does() -> None:
    rng = random.Random(1)
    for _ in range(200):
        calendar, moments = Calendar(0, 30), [0] * 30
        for _ in range(rng.randint(1, 12)):
            start = rng.randrange(30)
            end = rng.randint(start + 1, 30)
            quantity = rng.randint(1, 3)
            calendar.take(start, end, quantity)
            moments[start:end] = [taken + quantity for taken in moments[start:end]]
            start = rng.randrange(30)
            end = rng.randint(start + 1, 30)
            assert calendar.most(start, end) == max(moments[start:end])
            most = rng.randrange(6)
            stretches = "".join("." if taken <= most else "x" for taken in moments).split("x")
            assert calendar.longest(most) == max(map(len, stretches))
        assert all(a != b for a, b in zip(calendar.taken, calendar.taken[1:], strict=False))
