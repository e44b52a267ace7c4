"""What of an ask has been taken, at each moment of its availability (rulebook: Orders, Ask)."""

from bisect import bisect_left, bisect_right


class Calendar:
    """GPUs taken over `[start, end)`, in pieces: `taken[i]` from `times[i]` to the next time, or to the end.

    Neighbouring pieces differ, so that a calendar whose windows meet again is short again.
    """

    __slots__ = ("end", "taken", "times")

    def __init__(self, start: int, end: int, taken: int = 0) -> None:
        self.end = end
        self.times = [start]
        self.taken = [taken]

    def most(self, start: int, end: int) -> int:
        """The most GPUs taken at any moment of `[start, end)`, which must lie inside the calendar."""
        first = bisect_right(self.times, start) - 1
        after = bisect_left(self.times, end)
        return self.taken[first] if after == first + 1 else max(self.taken[first:after])

    def take(self, start: int, end: int, quantity: int) -> None:
        """Takes `quantity` GPUs over `[start, end)`, which must lie inside the calendar."""
        first = self._cut(start)
        after = self._cut(end) if end < self.end else len(self.times)
        for piece in range(first, after):
            self.taken[piece] += quantity
        self._join(after)
        self._join(first)

    def longest(self, most: int) -> int:
        """The longest stretch in ms with at most `most` GPUs taken throughout; 0 where there is none."""
        longest = 0
        begin: int | None = None
        for time, taken in zip(self.times, self.taken, strict=True):
            if taken > most:
                if begin is not None:
                    longest = max(longest, time - begin)
                begin = None
            elif begin is None:
                begin = time
        return max(longest, self.end - begin) if begin is not None else longest

    def _cut(self, time: int) -> int:
        """Makes a piece begin at `time`; returns which."""
        piece = bisect_left(self.times, time)
        if piece == len(self.times) or self.times[piece] != time:
            self.times.insert(piece, time)
            self.taken.insert(piece, self.taken[piece - 1])
        return piece

    def _join(self, piece: int) -> None:
        """Makes a piece one with the piece before it where they do not differ."""
        if 0 < piece < len(self.times) and self.taken[piece] == self.taken[piece - 1]:
            del self.times[piece], self.taken[piece]
