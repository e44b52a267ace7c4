"""What of an ask is sold, at each moment."""

import random
from itertools import pairwise

from matching_engine.calendar import ERA, TRIM_FROM, Calendar
from matching_engine.rings import MOST_HOURS, RING, hours_of
from schemas.units import HOUR_MS


def empty(start: int = 0, end: int = HOUR_MS, most: int = 0) -> Calendar:
    return Calendar([0], [0], start, end, most)


def test_a_window_is_sold_and_the_rest_is_not() -> None:
    calendar = empty()
    calendar.add(10, 12, 8)
    assert [calendar.most(0, 10), calendar.most(10, 12), calendar.most(12, 24)] == [0, 8, 0]
    assert calendar.most(9, 11) == calendar.most(0, 24) == calendar.most(11, 12) == 8
    assert [calendar.least(9, 11), calendar.least(10, 12), calendar.least(11, 13)] == [0, 8, 0]


def test_pieces_that_meet_at_one_level_become_one() -> None:
    calendar = empty()
    for start in (4, 0, 8, 20, 16, 12):
        calendar.add(start, start + 4, 2)
    assert (calendar.times, calendar.sold) == ([0, 24], [2, 0])


def test_what_comes_back_leaves_no_trace() -> None:
    calendar = empty()
    calendar.add(4, 10, 3)
    calendar.add(6, 10, -3)
    calendar.add(4, 6, -3)
    assert (calendar.times, calendar.sold) == ([0], [0])


def test_the_longest_stretch_with_room() -> None:
    calendar = empty()
    assert calendar.longest(0, 24, 0) == 24
    calendar.add(4, 6, 1)
    calendar.add(16, 18, 2)
    assert [calendar.longest(0, 24, most) for most in (0, 1, 2)] == [10, 16, 24]
    assert calendar.longest(5, 17, 0) == 10
    calendar.add(0, 24, 3)
    assert calendar.longest(0, 24, 2) == 0


def test_a_long_calendar_forgets_its_past_and_a_short_one_does_not() -> None:
    short, long = empty(), empty()
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
        calendar, moments = empty(), [0] * 30
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


def test_a_look_by_the_hour_never_hides_a_window_and_shows_none_where_whole_hours_are_sold() -> None:
    rng = random.Random(2)
    hour = HOUR_MS
    seen = [0, 0]
    for grid in (hour // 4, hour):
        for _ in range(300):
            start = rng.randrange(20 * hour // grid) * grid
            end = start + rng.randint(1, 30 * hour // grid) * grid
            most = rng.randrange(3)
            calendar = empty(start, end, most)
            for _ in range(rng.randint(1, 12)):
                begin = start + rng.randrange((end - start) // grid) * grid
                until = rng.randrange(begin + grid, end + grid, grid)
                calendar.add(begin, until, rng.choice((1, 2, -calendar.least(begin, until))))
                calendar.check()
            duration = rng.randint(1, 12 * hour // grid) * grid
            starts = tuple(rng.sample(range(0, 48 * hour, grid), rng.choice((1, 3))))
            can = any(s >= start and s + duration <= end and calendar.most(s, s + duration) <= most for s in starts)
            told = calendar.opens(hours_of(starts, duration))
            assert told >= can
            assert grid < hour or told == can
            seen[can] += 1
            last = rng.randrange(48 * hour // grid) * grid
            longest = 0
            for begin in range(start, min(last + grid, end), grid):
                until = begin
                while until < end and calendar.most(until, until + grid) <= most:
                    until += grid
                longest = max(longest, until - begin)
            assert calendar.reach(last) >= longest
            assert grid < hour or calendar.reach(last) == longest
    assert min(seen) > 80


def test_its_ring_has_the_hours_from_an_origin_on_whenever_that_moves() -> None:
    rng = random.Random(3)
    wrapped = 0
    for _ in range(200):
        first, length = rng.randrange(2 * RING), rng.randint(1, 400)
        calendar = empty(first * HOUR_MS, (first + length) * HOUR_MS)
        origin = 0
        for _ in range(6):
            begin = first + rng.randrange(length)
            calendar.add(begin * HOUR_MS, rng.randint(begin + 1, first + length) * HOUR_MS, rng.choice((1, 1, -1)))
            unsold = [
                hour for hour in range(first, first + length) if calendar.least(hour * HOUR_MS, hour * HOUR_MS + 1) <= 0
            ]
            origin += rng.choice((0, rng.randrange((first + length - origin) // ERA + 1))) * ERA
            double = rng.randrange(4)
            held = 1 << double
            runs = [hour for hour in unsold if hour >= origin and {*range(hour, hour + held)} <= {*unsold}]
            assert calendar.ring(double, origin) == sum(1 << (hour - origin) % RING for hour in runs)
            calendar.check()
            wrapped += first + length - origin > RING
    assert wrapped > 50


def test_one_longer_than_a_ring_that_begins_with_it_is_a_ring_too() -> None:
    start, later = 2 * ERA, 2 * ERA + RING
    calendar = empty(start * HOUR_MS, (later + 100) * HOUR_MS)
    calendar.add(start * HOUR_MS, (start + 50) * HOUR_MS, 1)
    calendar.add((later + 50) * HOUR_MS, (later + 100) * HOUR_MS, 1)
    for double in range(3):
        after = RING + 50 - (1 << double) + 1
        assert calendar.ring(double, start) == sum(1 << hour % RING for hour in range(50, after))


def test_starts_that_lie_too_far_apart_for_a_look_may_all_be_open() -> None:
    far = hours_of((0, MOST_HOURS * HOUR_MS), HOUR_MS)
    assert far is None
    calendar = empty()
    calendar.add(0, HOUR_MS, 1)
    assert calendar.opens(far)
