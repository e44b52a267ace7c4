"""What of an ask has been sold, at each moment (rulebook: Orders, Ask)."""

from bisect import bisect_left, bisect_right

TRIM_FROM = 64
"""Pieces; a longer calendar forgets its past, once that is more than half of it."""


class Calendar:
    """GPUs sold: `sold[i]` from `times[i]` to the next time, the last piece for ever. It begins at 0 with the epoch.

    Neighbouring pieces differ, so that a calendar whose windows meet again is short again.
    """

    __slots__ = ("sold", "times")

    def __init__(self) -> None:
        self.times = [0]
        self.sold = [0]

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
        for piece in range(first, after):
            self.sold[piece] += quantity
        self._join(after)
        self._join(first)

    def longest(self, start: int, end: int, most: int) -> int:
        """The longest stretch of `[start, end)` in ms with at most `most` GPUs sold throughout; 0: there is none."""
        times, sold = self.times, self.sold
        first = bisect_right(times, start) - 1
        longest, begin = 0, -1
        for piece in range(first, bisect_left(times, end, first + 1)):
            if sold[piece] > most:
                if begin >= 0:
                    longest = max(longest, times[piece] - begin)
                    begin = -1
            elif begin < 0:
                begin = max(start, times[piece])
        return max(longest, end - begin) if begin >= 0 else longest

    def trim(self, now: int) -> None:
        """Forgets what was sold before `now`, where there is much of it: no window begins there any more."""
        if len(self.times) > TRIM_FROM and (past := bisect_right(self.times, now) - 1) * 2 > len(self.times):
            del self.times[1 : past + 1], self.sold[:past]

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
