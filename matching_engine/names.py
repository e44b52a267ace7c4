"""Names of commands that may come again (rulebook: Repeats): each is remembered until the time that its command says.

The compiled core has the same in C: `core/names.pyx`.
"""

from heapq import heappop, heappush
from typing import Any

from msgspec import Struct

from schemas.units import GRID_MS

NEVER = 1 << 62


class Answer(Struct, frozen=True, gc=False):
    """Of the first command with a name. No collector looks at it, as at tuples of so many commands."""

    position: int
    not_after: int


class Answers(dict[Any, Answer]):
    """What is remembered of one account, by client_order_id."""

    __slots__ = ("account",)

    def __init__(self, account: int) -> None:
        super().__init__()
        self.account = account
        self[None] = Answer(0, 0)
        del self[None]  # a dict of texts alone keeps no hashes: a look-up would read the texts of others

    def counting(self, now: int) -> list[tuple[str, int, int]]:
        """(client_order_id, position, not_after) of those that count, in any order."""
        return [(name, known.position, known.not_after) for name, known in self.items() if known.not_after >= now]


class Names:
    """What is remembered of all accounts, in the order in which it is forgotten."""

    __slots__ = ("_forget", "_keys", "_minute", "_minutes", "due")

    def __init__(self) -> None:
        self.due = NEVER
        """The first ms of `now` at which something can be forgotten."""
        self._forget: dict[int, list[Any]] = {}
        """By minute, what to forget after it: an account's answers and a client_order_id in turn."""
        self._minute = -1
        self._keys: list[Any] = []
        """What to forget after that minute, the last one asked for: most orders of a moment name one or two."""
        self._minutes: list[int] = []
        """A heap of the minutes in `_forget`."""

    def of(self, account: int) -> Answers:
        """For an account of which nothing is remembered yet."""
        return Answers(account)

    def first(self, answers: Answers, name: str, position: int, not_after: int, now: int) -> int:
        """The position of the account's first command with that name: `position` itself, which is remembered from now
        on, unless it is a repeat."""
        answer = Answer(position, not_after)
        known = answers.setdefault(name, answer)
        if known is not answer:
            if now <= known.not_after:
                return known.position
            answers[name] = answer
        minute = not_after // GRID_MS
        keys = self._keys if minute == self._minute else self._after(minute)
        keys.append(answers)
        keys.append(name)
        return position

    def forget_before(self, now: int, most: int, emptied: list[int]) -> int:
        """Of what need not be remembered at `now` any more `most` is forgotten; the rest counts no more, and goes when
        this is called again: it is due. Adds accounts of which nothing is left, and says how many more could go."""
        minutes = self._minutes
        while most and minutes and (minutes[0] + 1) * GRID_MS <= now:
            keys = self._forget[minutes[0]]
            while keys and most:
                most -= 1
                name = keys.pop()
                answers: Answers = keys.pop()
                known = answers.pop(name, None)
                if known is None:
                    continue
                if known.not_after >= now:  # it was used anew
                    answers[name] = known
                elif not answers:
                    emptied.append(answers.account)
            if not keys:
                del self._forget[heappop(minutes)]
        self._minute = -1
        self.due = (minutes[0] + 1) * GRID_MS if minutes else NEVER
        return most

    def _after(self, minute: int) -> list[Any]:
        """What is forgotten after that minute."""
        keys = self._forget.get(minute)
        if keys is None:
            keys = self._forget[minute] = []
            heappush(self._minutes, minute)
            self.due = min(self.due, (minute + 1) * GRID_MS)
        self._minute, self._keys = minute, keys
        return keys
