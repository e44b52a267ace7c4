"""Who lives: orders by id, by account and by the time at which they leave; and what holds for accounts."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush

from matching_engine.memory import NEVER
from matching_engine.orders import Ask, Bid
from schemas.commands import SetLimits

Order = Ask | Bid


class Party:
    """An account, as far as the engine knows it."""

    __slots__ = ("dead_man", "killed", "limits", "live", "most", "orders")

    def __init__(self) -> None:
        self.orders: list[int] = []
        """Ids of its live orders in order, and of some that have left."""
        self.most = 64
        """At more ids those that have left are looked for."""
        self.live = 0
        """How many orders live."""
        self.killed = False
        self.limits: SetLimits | None = None
        self.dead_man = 0
        """ms; 0: none is set."""


class LiveOrders:
    """The orders of all books of one engine, and the accounts whose they are."""

    __slots__ = ("_dead_men", "_leaving", "_left", "_times", "bound", "due", "orders", "parties")

    def __init__(self) -> None:
        self.orders: dict[int, Order] = {}
        """By id."""
        self.parties: dict[int, Party] = {}
        self.bound: set[int] = set()
        """The accounts that are killed, or have limits."""
        self.due = NEVER
        """The first ms of `now` at which an order leaves."""
        self._leaving: dict[int, list[int]] = {}
        """By the ms at which they leave, ids of the live orders, and of some that have left already. Windows are on the
        grid, so that few such times are there: a list of each is cheaper than a heap of orders."""
        self._times: list[int] = []
        """A heap of the times in `_leaving`."""
        self._left = 0
        """How many that have left were found among parties' orders since `_leaving` was made anew."""
        self._dead_men: list[tuple[int, int]] = []
        """A heap of (until, account), and of some that were renewed since."""

    def keep(self, order: Order) -> None:
        """An order that is in its book can be found from now on."""
        order_id, leaves = order.id, order.leaves
        self.orders[order_id] = order
        party = self.parties.get(order.account) or self.party(order.account)
        party.live += 1
        party.orders.append(order_id)
        leavers = self._leaving.get(leaves)
        if leavers is not None:
            leavers.append(order_id)
        else:
            self._leaving[leaves] = [order_id]
            heappush(self._times, leaves)
            if leaves < self.due:
                self.due = leaves
        if len(party.orders) > party.most:
            self._tidy(party)

    def keep_amended(self, order: Order) -> None:
        """Likewise of one that was dropped a moment ago, and has its old id."""
        self.keep(order)
        ids = self.parties[order.account].orders
        ids.pop()
        at = bisect_left(ids, order.id)
        if at == len(ids) or ids[at] != order.id:  # its place was cleared away meanwhile
            ids.insert(at, order.id)

    def drop(self, done: Iterable[Order]) -> None:
        """Forgets orders that are out of their book already."""
        orders, parties = self.orders, self.parties
        for order in done:
            del orders[order.id]
            parties[order.account].live -= 1

    def fill(self, orders: Sequence[Order], by_id: list[int]) -> None:
        """Takes in orders of a state, with their numbers in the order of their ids. After the last comes `filled`."""
        ids = [order.id for order in orders]
        self.orders.update(zip(ids, orders, strict=True))
        for number in by_id:
            account = orders[number].account
            party = self.parties.get(account) or self.party(account)
            party.orders.append(ids[number])
        leaves, leavers = 0, list[int]()
        for order in orders:
            if order.leaves != leaves:  # most leave when the one before does
                leaves = order.leaves
                leavers = self._leaving.setdefault(leaves, [])
            leavers.append(order.id)

    def filled(self) -> None:
        """All orders of a state are here."""
        for party in self.parties.values():
            party.orders.sort()  # of few runs, each in order
            party.live = len(party.orders)
        self._times = sorted(self._leaving)  # which is a heap, too
        self._next_due()

    def party(self, account: int) -> Party:
        """The account's, made where there is none."""
        party = self.parties.get(account)
        if party is None:
            party = self.parties[account] = Party()
        return party

    def of(self, account: int) -> list[Order]:
        """An account's live orders, in order of id."""
        party = self.parties.get(account)
        if party is None:
            return []
        orders = self.orders
        return [orders[known] for known in party.orders if known in orders]

    def mark_bound(self, account: int, party: Party) -> None:
        """Its kill switch or its limits have changed."""
        if party.killed or party.limits is not None:
            self.bound.add(account)
        else:
            self.bound.discard(account)

    def set_dead_man(self, account: int, until: int) -> None:
        """All of the account is cancelled then."""
        self.party(account).dead_man = until
        heappush(self._dead_men, (until, account))
        self.due = min(self.due, until)

    def dead_men_before(self, now: int) -> list[tuple[int, int]]:
        """(until, account) of those whose time has come, in order; each acts once."""
        acting: list[tuple[int, int]] = []
        dead_men = self._dead_men
        while dead_men and dead_men[0][0] <= now:
            until, account = heappop(dead_men)
            party = self.parties[account]
            if party.dead_man == until:  # else it was renewed
                party.dead_man = 0
                acting.append((until, account))
        return acting

    def leavers_before(self, now: int) -> list[Order]:
        """The live orders that leave by then; after this none of a later time is due."""
        times = self._times
        leavers: dict[int, Order] = {}
        while times and times[0] <= now:
            leaves = heappop(times)
            for order_id in self._leaving.pop(leaves):
                leaver = self.orders.get(order_id)
                if leaver is not None and leaver.leaves == leaves:  # else it left, or was amended
                    leavers[order_id] = leaver
        self._next_due()
        return list(leavers.values())

    def _tidy(self, party: Party) -> None:
        """Lets go of ids of orders that have left, where they have become many."""
        orders = self.orders
        ids = [known for known in party.orders if known in orders]
        self._left += len(party.orders) - len(ids)
        party.orders, party.most = ids, 2 * len(ids) + 64
        if self._left > 2 * len(orders) + 1024:
            self._sort_by_leaving()

    def _sort_by_leaving(self) -> None:
        """Makes `_leaving` anew, of the live orders alone."""
        leaving = defaultdict[int, list[int]](list)
        for order_id, order in self.orders.items():
            leaving[order.leaves].append(order_id)
        self._leaving = dict(leaving)
        self._times = sorted(leaving)  # which is a heap, too
        self._left = 0

    def _next_due(self) -> None:
        times, dead_men = self._times, self._dead_men
        self.due = min(times[0] if times else NEVER, dead_men[0][0] if dead_men else NEVER)
