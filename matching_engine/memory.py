"""What the engine knows of accounts, and what it remembers until a time that a command says."""

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush

from matching_engine.names import NEVER, Answers, Names
from matching_engine.orders import Ask, Bid, Limits
from schemas.ids import FillId
from schemas.units import GRID_MS

FORGOTTEN_AT_ONCE = 2_000
"""At a command: a minute may leave 60,000 names, which take 10 ms and more."""

Answered = tuple[int, int]
"""(position of the first command, its not_after)."""
Key = tuple[int, str]
"""(account, client_order_id)."""
Repeat = tuple[Key, Answered]


class Party:
    """An account, as far as the engine knows it."""

    __slots__ = ("account", "answered", "bound", "dead_man", "killed", "limits", "live", "orders", "sorted")

    def __init__(self, account: int, answered: Answers) -> None:
        self.account = account
        self.answered = answered
        """Repeats, by client_order_id."""
        self.orders: list[int] = []
        """Ids of its live orders, and of some that have left; `in_order` gives them in order."""
        self.sorted = True
        """Whether they are in order already."""
        self.live = 0
        """How many orders live."""
        self.killed = False
        self.limits: Limits | None = None
        self.bound = False
        """Whether it is killed, or has limits."""
        self.dead_man = 0
        """ms; 0: none is set."""

    def in_order(self) -> list[int]:
        """`orders`, in order: those of a state that was restored are sorted when they are asked for."""
        if not self.sorted:
            self.orders.sort()
            self.sorted = True
        return self.orders


class Memory:
    """Accounts with their repeats, and leases that came back (rulebook: Repeats, Return)."""

    __slots__ = ("_forget", "_minutes", "due", "names", "parties", "returned")

    def __init__(self) -> None:
        self.parties: dict[int, Party] = {}
        """By account, as long as there is something to know."""
        self.names = Names()
        """Which client_order_ids they used."""
        self.returned: dict[FillId, int] = {}
        """Leases returned or withdrawn, until their windows end."""
        self._forget: dict[int, list[FillId]] = {}
        """By minute, the leases to forget after it."""
        self._minutes: list[int] = []
        """A heap of the minutes in `_forget`."""
        self.due = NEVER
        """The first ms of `now` at which a lease can be forgotten."""

    def party(self, account: int) -> Party:
        """The account's, made where there is none."""
        party = self.parties.get(account)
        if party is None:
            party = self.parties[account] = Party(account, self.names.of(account))
        return party

    def return_lease(self, fill: FillId, end: int) -> None:
        """The lease came back; its window ends then."""
        self.returned[fill] = end
        minute = (end - 1) // GRID_MS
        leases = self._forget.get(minute)
        if leases is None:
            leases = self._forget[minute] = []
            heappush(self._minutes, minute)
            self.due = min(self.due, (minute + 1) * GRID_MS)
        leases.append(fill)

    def came_back(self, fill: FillId, now: int) -> bool:
        """Whether the lease did, and its window still runs."""
        return self.returned.get(fill, 0) > now

    def forget_before(self, now: int) -> None:
        """Of what need not be remembered at `now` any more FORGOTTEN_AT_ONCE is forgotten. What is left over counts no
        more, and goes when this is called again: it is due."""
        emptied: list[int] = []
        left = self.names.forget_before(now, FORGOTTEN_AT_ONCE, emptied)
        for account in emptied:
            party = self.parties.get(account)
            if party is not None and not (len(party.answered) or party.live or party.bound or party.dead_man):
                del self.parties[account]
        minutes = self._minutes
        while left and minutes and (minutes[0] + 1) * GRID_MS <= now:
            leases = self._forget[minutes[0]]
            while leases and left:
                left -= 1
                del self.returned[leases.pop()]
            if not leases:
                del self._forget[heappop(minutes)]
        self.due = (minutes[0] + 1) * GRID_MS if minutes else NEVER

    def repeats(self, now: int) -> list[Repeat]:
        """Those that count, in order."""
        return sorted(
            ((account, client_order_id), (position, not_after))
            for account, party in self.parties.items()
            for client_order_id, position, not_after in party.answered.counting(now)
        )

    def returns(self, now: int) -> list[tuple[int, int, int]]:
        """(fill_id, until when), likewise."""
        return sorted((*fill, end) for fill, end in self.returned.items() if end > now)

    def fill(self, keys: list[Key], answers: list[Answered]) -> None:
        """Takes in repeats of a state."""
        for (account, client_order_id), (position, not_after) in zip(keys, answers, strict=True):
            self.names.first(self.party(account).answered, client_order_id, position, not_after, NEVER)

    def fill_placed(self, orders: Sequence[Ask | Bid], parties: list[Party], known_until: list[int]) -> None:
        """Likewise, of the commands that placed these orders of those accounts; 0 is of none."""
        for number, order in enumerate(orders):
            not_after = known_until[number]
            if not_after:
                party = parties[number]
                self.names.first(party.answered, order.client_order_id, order.id, not_after, NEVER)

    def fill_returned(self, returns: Iterable[tuple[int, int, int]]) -> None:
        """Likewise, leases that came back."""
        for first, index, end in returns:
            self.return_lease((first, index), end)
