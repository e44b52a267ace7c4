"""What the engine knows of accounts, and what it remembers until a time that a command says."""

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import Any

from matching_engine.orders import Answer, Ask, Bid, Limits
from schemas.ids import FillId
from schemas.units import GRID_MS

NEVER = 1 << 62
FORGOTTEN_AT_ONCE = 2_000
"""At a command: a minute may leave 60,000 names, which take 10 ms and more."""

Answered = tuple[int, int]
"""(position of the first command, its not_after)."""
Key = tuple[int, str]
"""(account, client_order_id)."""
Repeat = tuple[Key, Answered]


class Party:
    """An account, as far as the engine knows it."""

    __slots__ = ("account", "answered", "bound", "dead_man", "killed", "limits", "live", "orders")

    def __init__(self, account: int) -> None:
        self.account = account
        self.answered: dict[Any, Answer] = {None: Answer(0, 0)}
        """Repeats, by client_order_id."""
        del self.answered[None]  # a dict of texts alone keeps no hashes: a look-up would read the texts of others
        self.orders: list[int] = []
        """Ids of its live orders in order, and of some that have left."""
        self.live = 0
        """How many orders live."""
        self.killed = False
        self.limits: Limits | None = None
        self.bound = False
        """Whether it is killed, or has limits."""
        self.dead_man = 0
        """ms; 0: none is set."""


class Memory:
    """Accounts with their repeats, and leases that came back (rulebook: Repeats, Return)."""

    __slots__ = ("_keys", "_minute", "_minutes", "due", "forget", "parties", "returned")

    def __init__(self) -> None:
        self.parties: dict[int, Party] = {}
        """By account, as long as there is something to know."""
        self.returned: dict[FillId, int] = {}
        """Leases returned or withdrawn, until their windows end."""
        self.forget: dict[int, list[Any]] = {}
        """By minute, what to forget after it: a party and a client_order_id in turn, or None and a lease."""
        self._minute = -1
        self._keys: list[Any] = []
        """What to forget after that minute, the last one asked for: most orders of a moment name one or two."""
        self._minutes: list[int] = []
        """A heap of the minutes in `forget`."""
        self.due = NEVER
        """The first ms of `now` at which something can be forgotten."""

    def party(self, account: int) -> Party:
        """The account's, made where there is none."""
        party = self.parties.get(account)
        if party is None:
            party = self.parties[account] = Party(account)
        return party

    def first(self, answer: Answer, party: Party, client_order_id: str, now: int) -> int:
        """The position of the command that said this first. Unless it is a repeat, `answer` is known from now on."""
        known = party.answered.setdefault(client_order_id, answer)
        if known is not answer:
            if now <= known.not_after:
                return known.position
            party.answered[client_order_id] = answer
        minute = answer.not_after // GRID_MS
        keys = self._keys if minute == self._minute else self._after(minute)
        keys.append(party)
        keys.append(client_order_id)
        return answer.position

    def return_lease(self, fill: FillId, end: int) -> None:
        """The lease came back; its window ends then."""
        self.returned[fill] = end
        self._after((end - 1) // GRID_MS).extend((None, fill))

    def came_back(self, fill: FillId, now: int) -> bool:
        """Whether the lease did, and its window still runs."""
        return self.returned.get(fill, 0) > now

    def forget_before(self, now: int) -> None:
        """Of what need not be remembered at `now` any more FORGOTTEN_AT_ONCE is forgotten. What is left over counts no
        more, and goes when this is called again: it is due."""
        minutes, left = self._minutes, FORGOTTEN_AT_ONCE
        while left and minutes and (minutes[0] + 1) * GRID_MS <= now:
            keys = self.forget[minutes[0]]
            while keys and left:
                left -= 1
                key = keys.pop()
                party = keys.pop()
                if party is None:
                    del self.returned[key]
                    continue
                known = party.answered.pop(key, None)
                if known is None:
                    continue
                if known.not_after >= now:  # it was used anew
                    party.answered[key] = known
                elif not party.answered and not (party.live or party.bound or party.dead_man):
                    del self.parties[party.account]
            if not keys:
                del self.forget[heappop(minutes)]
        self._minute = -1
        self.due = (minutes[0] + 1) * GRID_MS if minutes else NEVER

    def repeats(self, now: int) -> list[Repeat]:
        """Those that count, in order."""
        return sorted(
            ((account, client_order_id), (answer.position, answer.not_after))
            for account, party in self.parties.items()
            for client_order_id, answer in party.answered.items()
            if answer.not_after >= now
        )

    def returns(self, now: int) -> list[tuple[int, int, int]]:
        """(fill_id, until when), likewise."""
        return sorted((*fill, end) for fill, end in self.returned.items() if end > now)

    def fill(self, keys: list[Key], answers: list[Answered]) -> None:
        """Takes in repeats of a state."""
        for (account, client_order_id), (position, not_after) in zip(keys, answers, strict=True):
            self.first(Answer(position, not_after), self.party(account), client_order_id, NEVER)

    def fill_placed(self, orders: Sequence[Ask | Bid], known_until: list[int]) -> None:
        """Likewise, of the commands that placed these orders; 0 is of none."""
        for order, not_after in zip(orders, known_until, strict=True):
            if not_after:
                answer = Answer(order.id, not_after)
                self.first(answer, self.party(order.account), order.client_order_id, NEVER)

    def fill_returned(self, returns: Iterable[tuple[int, int, int]]) -> None:
        """Likewise, leases that came back."""
        for first, index, end in returns:
            self.return_lease((first, index), end)

    def _after(self, minute: int) -> list[Any]:
        """What is forgotten after that minute."""
        keys = self.forget.get(minute)
        if keys is None:
            keys = self.forget[minute] = []
            heappush(self._minutes, minute)
            self.due = min(self.due, (minute + 1) * GRID_MS)
        self._minute, self._keys = minute, keys
        return keys
