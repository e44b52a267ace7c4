"""What of an ask is sold, at each moment."""

import random
from itertools import pairwise

from matching_engine.calendar import TRIM_FROM, Calendar


def test_a_window_is_sold_and_the_rest_is_not() -> None:
    calendar = Calendar()
    calendar.add(10, 12, 8)
    assert [calendar.most(0, 10), calendar.most(10, 12), calendar.most(12, 24)] == [0, 8, 0]
    assert calendar.most(9, 11) == calendar.most(0, 24) == calendar.most(11, 12) == 8
    assert [calendar.least(9, 11), calendar.least(10, 12), calendar.least(11, 13)] == [0, 8, 0]


def test_pieces_that_meet_at_one_level_become_one() -> None:
    calendar = Calendar()
    for start in (4, 0, 8, 20, 16, 12):
        calendar.add(start, start + 4, 2)
    assert (calendar.times, calendar.sold) == ([0, 24], [2, 0])


def test_what_comes_back_leaves_no_trace() -> None:
    calendar = Calendar()
    calendar.add(4, 10, 3)
    calendar.add(6, 10, -3)
    calendar.add(4, 6, -3)
    assert (calendar.times, calendar.sold) == ([0], [0])


def test_the_longest_stretch_with_room() -> None:
    calendar = Calendar()
    assert calendar.longest(0, 24, 0) == 24
    calendar.add(4, 6, 1)
    calendar.add(16, 18, 2)
    assert [calendar.longest(0, 24, most) for most in (0, 1, 2)] == [10, 16, 24]
    assert calendar.longest(5, 17, 0) == 10
    calendar.add(0, 24, 3)
    assert calendar.longest(0, 24, 2) == 0


def test_a_long_calendar_forgets_its_past_and_a_short_one_does_not() -> None:
    short, long = Calendar(), Calendar()
    for calendar, windows in ((short, TRIM_FROM // 2 - 1), (long, TRIM_FROM)):
        for number in range(windows):
            calendar.add(10 * number, 10 * number + 5, 1 + number % 3)
        later = [calendar.most(time, time + 1) for time in range(10 * windows - 100, 10 * windows)]
        calendar.trim(10 * windows - 100)
        assert [calendar.most(time, time + 1) for time in range(10 * windows - 100, 10 * windows)] == later
    assert len(short.times) == TRIM_FROM - 2
    assert len(long.times) == 20
    assert long.times[0] == 0


def test_it_counts_as_an_array_of_moments_does() -> None:
    rng = random.Random(1)
    for _ in range(200):
        calendar, moments = Calendar(), [0] * 30
        for _ in range(rng.randint(1, 12)):
            start = rng.randrange(30)
            end = rng.randint(start + 1, 30)
            quantity = rng.choice((1, 2, 3, -min(moments[start:end])))
            calendar.add(start, end, quantity)
            moments[start:end] = [sold + quantity for sold in moments[start:end]]
            start = rng.randrange(30)
            end = rng.randint(start + 1, 30)
            assert calendar.most(start, end) == max(moments[start:end])
            assert calendar.least(start, end) == min(moments[start:end])
            most = rng.randrange(6)
            stretches = "".join("." if sold <= most else "x" for sold in moments[start:end]).split("x")
            assert calendar.longest(start, end, most) == max(map(len, stretches))
        assert all(a != b for a, b in pairwise(calendar.sold))
