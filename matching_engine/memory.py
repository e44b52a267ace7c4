"""What the engine remembers until a time that a command says, and forgets after the minute of that."""

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import Any

from matching_engine.orders import Ask, Bid
from schemas.ids import FillId
from schemas.units import GRID_MS

NEVER = 1 << 62

Key = tuple[int, str]
"""(account, client_order_id)."""
Answered = tuple[int, int]
"""(position of the first command, its not_after)."""
Repeat = tuple[Key, Answered]


class Memory:
    """Repeats, and leases that came back (rulebook: Repeats, Return)."""

    __slots__ = ("_minutes", "answered", "due", "forget", "returned")

    def __init__(self) -> None:
        self.answered: dict[Key, Answered] = {}
        """Repeats."""
        self.returned: dict[FillId, int] = {}
        """Leases returned or withdrawn, until their windows end."""
        self.forget: dict[int, list[Any]] = {}
        """By minute, what of the two above to forget after it."""
        self._minutes: list[int] = []
        """A heap of the minutes in `forget`."""
        self.due = NEVER
        """The first ms of `now` at which something can be forgotten."""

    def remember(self, key: Key | FillId, last_ms: int) -> None:
        """It can be forgotten after the minute of `last_ms`."""
        minute = last_ms // GRID_MS
        keys = self.forget.get(minute)
        if keys is None:
            self.forget[minute] = [key]
            heappush(self._minutes, minute)
            self.due = min(self.due, (minute + 1) * GRID_MS)
        else:
            keys.append(key)

    def forget_before(self, now: int) -> None:
        """What need not be remembered at `now` any more is forgotten."""
        minutes, returned, answered = self._minutes, self.returned, self.answered
        while minutes and (minutes[0] + 1) * GRID_MS <= now:
            for key in self.forget.pop(heappop(minutes)):
                if returned and key in returned:
                    del returned[key]
                elif (first := answered.pop(key, None)) is not None and first[1] >= now:
                    answered[key] = first  # the id was used anew, and is known for longer
        self.due = (minutes[0] + 1) * GRID_MS if minutes else NEVER

    def repeats(self, now: int) -> list[Repeat]:
        """Those that count, in order."""
        return sorted([repeat for repeat in self.answered.items() if repeat[1][1] >= now])

    def returns(self, now: int) -> list[tuple[int, int, int]]:
        """(fill_id, until when), likewise."""
        return sorted((*fill, end) for fill, end in self.returned.items() if end > now)

    def fill(self, keys: list[Key], answers: list[Answered]) -> None:
        """Takes in repeats of a state."""
        self.answered.update(zip(keys, answers, strict=True))
        for key, (_, not_after) in zip(keys, answers, strict=True):
            self.remember(key, not_after)

    def fill_placed(self, orders: Sequence[Ask | Bid], known_until: list[int]) -> None:
        """Likewise, of the commands that placed these orders; 0 is of none."""
        answered = self.answered
        for order, not_after in zip(orders, known_until, strict=True):
            if not_after:
                key = order.account, order.client_order_id
                answered[key] = order.id, not_after
                self.remember(key, not_after)

    def fill_returned(self, returns: Iterable[tuple[int, int, int]]) -> None:
        """Likewise, leases that came back."""
        for first, index, end in returns:
            self.returned[first, index] = end
            self.remember((first, index), end - 1)
