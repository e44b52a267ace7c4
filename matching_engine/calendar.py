"""What of an ask has been sold, at each moment (rulebook: Orders, Ask)."""

from bisect import bisect_left, bisect_right
from itertools import pairwise

from matching_engine.rings import ALL, RING, Hours, opens, span, twice
from schemas.units import HOUR_MS

TRIM_FROM = 64
"""Pieces; a longer calendar forgets its past, once that is more than half of it."""


LENGTHS = 14
"""As many doubles as windows of a year have."""
ERA = 256
"""Hours: the first of a ring stays for so long. It is close behind `now`, so that the windows that bids want are in the
low bits: an `&` with those takes a quarter of the time that one of whole rings does."""


def origin_of(now: int) -> int:
    """The first hour of rings at that time."""
    return now // (ERA * HOUR_MS) * ERA


def ring(run: int, first: int) -> int:
    """Bits from `first` hours after a ring's first on; what lies before that is over."""
    if first < 0:
        run >>= -first
    else:
        run <<= first % RING
    while run > ALL:
        run = run & ALL | run >> RING
    return run


def whole_ring(start: int, end: int, double: int, origin: int) -> int:
    """The hours from which on `1 << double` touch `[start, end)`, in a ring that begins at the hour `origin`."""
    first = max(start // HOUR_MS - origin, 0)
    count = -(-end // HOUR_MS) - origin - first - (1 << double) + 1
    return ring(span(0, count), first) if count > 0 else 0


class Calendar:
    """GPUs sold: `sold[i]` from `times[i]` to the next time, the last piece for ever. It begins at 0 with the epoch.

    Neighbouring pieces differ, so that a calendar whose windows meet again is short again.
    """

    __slots__ = ("_end", "_most", "_start", "first", "origin", "runs", "sold", "stale", "times")

    def __init__(self, times: list[int], sold: list[int], start: int, end: int, most: int) -> None:
        """It knows in which hours of `[start, end)` at most `most` GPUs are sold at some moment."""
        self.times = times
        self.sold = sold
        self.stale = False
        """Whether more was sold since the ask's bounds were measured."""
        self._start, self._end, self._most = start, end, most
        self.first = start // HOUR_MS
        self.runs = [0]
        """A bit for each hour from `first` on, from which on 1, 2, 4, ... hours are such, as far as was asked."""
        self.origin = -1
        """Where the runs are rings, the hour at which these begin, which is `first`."""
        self._reopen(start, end)

    def opens(self, hours: Hours | None) -> bool:
        """Whether a window of these may find a lot unsold throughout: never no where one does."""
        if hours is None:
            return True
        first, starts, double, gap = hours
        return opens(self._run(double), starts, first - self.first, gap)

    def ring(self, double: int, origin: int) -> int:
        """The hours from which on `1 << double` are open, in a ring that begins at the hour `origin`."""
        if self.origin != origin and self._end <= (origin + RING) * HOUR_MS:
            self.runs = [ring(self.runs[0], self.first - origin)]
            self.first = self.origin = origin
        run = self._run(double)
        return run if self.origin == origin else ring(run, self.first - origin)

    def reach(self, last: int) -> int:
        """A bound: no window that begins by `last` and finds a lot unsold is longer. ms."""
        double, starts = 0, (1 << max(0, last // HOUR_MS + 1 - self.first)) - 1
        while self._run(double) & starts:
            double += 1
        hours = 0
        while double:
            double -= 1
            longer = starts & self._run(double) >> hours
            if longer:
                starts = longer
                hours += 1 << double
        return hours * HOUR_MS

    def _run(self, double: int) -> int:
        runs = self.runs
        known = len(runs)
        while known <= double:
            runs.append(twice(runs[known - 1], 1 << known - 1))
            known += 1
        return runs[double]

    def most(self, start: int, end: int) -> int:
        """The most GPUs sold at any moment of `[start, end)`."""
        times = self.times
        first = bisect_right(times, start) - 1
        after = bisect_left(times, end, first + 1)
        return self.sold[first] if after == first + 1 else max(self.sold[first:after])

    def least(self, start: int, end: int) -> int:
        """The fewest GPUs sold at any moment of `[start, end)`."""
        first = bisect_right(self.times, start) - 1
        return min(self.sold[first : bisect_left(self.times, end, first + 1)])

    def add(self, start: int, end: int, quantity: int) -> None:
        """`quantity` more GPUs are sold over `[start, end)`; below 0, so many fewer."""
        first = self._cut(start)
        after = self._cut(end)
        sold, most, changes = self.sold, self._most, False
        for piece in range(first, after):
            before = sold[piece]
            then = sold[piece] = before + quantity
            if (then > most) != (before > most):
                changes = True
        self._join(after)
        self._join(first)
        if changes:  # else the hours are as they were
            self._reopen(start, end)

    def longest(self, start: int, end: int, most: int) -> int:
        """The longest stretch of `[start, end)` in ms with at most `most` GPUs sold throughout; 0: there is none."""
        times, sold = self.times, self.sold
        first = bisect_right(times, start) - 1
        longest, begin = 0, -1
        for piece in range(first, bisect_left(times, end, first + 1)):
            if sold[piece] > most:
                if begin >= 0:
                    if times[piece] - begin > longest:
                        longest = times[piece] - begin
                    begin = -1
            elif begin < 0:
                begin = max(start, times[piece])
        return max(longest, end - begin) if begin >= 0 else longest

    def trim(self, now: int) -> None:
        """Forgets what was sold before `now`, where there is much of it: no window begins there any more."""
        if len(self.times) > TRIM_FROM and (past := bisect_right(self.times, now) - 1) * 2 > len(self.times):
            del self.times[1 : past + 1], self.sold[:past]

    def check(self) -> None:
        """Raises AssertionError where it is not what it would be when made anew; but for time that it has forgotten."""
        assert all(a < b for a, b in pairwise(self.times)), "out of order"
        anew = Calendar(self.times, self.sold, self._start, self._end, self._most)
        known = max([*self.times, 0][1] // HOUR_MS + 1, anew.first, self.first)
        assert anew.runs[0] >> known - anew.first == self.runs[0] >> known - self.first, (
            "hours are open, and not known as such"
        )
        for double, run in enumerate(self.runs[1:]):
            assert run == self.runs[double] & self.runs[double] >> (1 << double)

    def _reopen(self, start: int, end: int) -> None:
        """Looks anew at the hours of `[start, end)`."""
        hour, times, sold, first, most = HOUR_MS, self.times, self.sold, self.first, self._most
        start = max(self._start, start // hour * hour, first * hour)
        end = min(self._end, -(-end // hour) * hour)
        if start >= end:
            return
        piece = bisect_right(times, start) - 1
        after = bisect_left(times, end, piece + 1)
        hours = self.runs[0] & ~span(start // hour - first, -(-end // hour) - first)
        while piece < after:
            if sold[piece] > most:
                piece += 1
                continue
            begin = max(start, times[piece])
            while piece < after and sold[piece] <= most:
                piece += 1
            last = end if piece == after else times[piece]
            hours |= span(begin // hour - first, -(-last // hour) - first)
        self.runs = [hours]

    def _cut(self, time: int) -> int:
        """Makes a piece begin at `time`; returns which."""
        piece = bisect_left(self.times, time)
        if piece == len(self.times) or self.times[piece] != time:
            self.times.insert(piece, time)
            self.sold.insert(piece, self.sold[piece - 1])
        return piece

    def _join(self, piece: int) -> None:
        """Makes a piece one with the piece before it where they do not differ."""
        if 0 < piece < len(self.times) and self.sold[piece] == self.sold[piece - 1]:
            del self.times[piece], self.sold[piece]
