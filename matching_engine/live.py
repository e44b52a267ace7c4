"""Who lives: orders by id, by account and by the time at which they leave; and when accounts' switches act."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from operator import attrgetter

from matching_engine.ids import ById
from matching_engine.memory import Memory, Party
from matching_engine.names import NEVER
from matching_engine.orders import Ask, Bid

Order = Ask | Bid


class LiveOrders:
    """The orders of all books of one engine, and the accounts whose they are."""

    __slots__ = ("_dead_men", "_leavers", "_leaves", "_leaving", "_left", "_times", "due", "memory", "orders", "spent")

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        """The accounts."""
        self.orders = ById()
        """By id, those that stand in the queues of their books: few, so that caches hold what cancels look into."""
        self.spent = ById()
        """Likewise the others: asks that are sold out, often many more."""
        self.due = NEVER
        """The first ms of `now` at which an order leaves."""
        self._leaving: dict[int, list[int]] = {}
        """By the ms at which they leave, ids of the live orders, and of some that have left already. Windows are on the
        grid, so that few such times are there: a list of each is cheaper than a heap of orders."""
        self._leaves = -1
        self._leavers: list[int] = []
        """Who leaves at that time, the last one asked for."""
        self._times: list[int] = []
        """A heap of the times in `_leaving`."""
        self._left = 0
        """How many that have left were found among parties' orders since `_leaving` was made anew."""
        self._dead_men: list[tuple[int, int]] = []
        """A heap of (until, account), and of some that were renewed since."""

    def find(self, order_id: int) -> Order | None:
        """The live order with this id."""
        order = self.orders.get(order_id)
        return self.spent.get(order_id) if order is None else order

    def keep(self, order: Order, party: Party) -> None:
        """An order of that account that is in its book can be found from now on."""
        order_id, leaves = order.id, order.leaves
        if order.chunk is None:
            self.spent[order_id] = order
        else:
            self.orders[order_id] = order
        party.live += 1
        party.orders.append(order_id)
        leavers = self._leavers if leaves == self._leaves else self._leaving_at(leaves)
        leavers.append(order_id)
        if len(party.orders) > 2 * party.live + 64:
            self._tidy(party)

    def _leaving_at(self, leaves: int) -> list[int]:
        leavers = self._leaving.get(leaves)
        if leavers is None:
            leavers = self._leaving[leaves] = []
            heappush(self._times, leaves)
            if leaves < self.due:
                self.due = leaves
        self._leaves, self._leavers = leaves, leavers
        return leavers

    def keep_amended(self, order: Order) -> None:
        """Likewise of one that was dropped a moment ago, and has its old id."""
        party = self.memory.party(order.account)
        party.in_order()
        self.keep(order, party)
        ids = party.orders
        ids.pop()
        at = bisect_left(ids, order.id)
        if at == len(ids) or ids[at] != order.id:  # its place was cleared away meanwhile
            ids.insert(at, order.id)

    def drop(self, done: list[Order]) -> None:
        """After a walk, empties its list of orders that are out of their queues already. Asks sold out live on."""
        orders, parties = self.orders, self.memory.parties
        for order in done:
            del orders[order.id]
            if order.live:
                self.spent[order.id] = order
            else:
                party = parties[order.account]
                party.live -= 1
        done.clear()

    def forget(self, gone: Iterable[Order]) -> None:
        """These have left their books."""
        orders, parties = self.orders, self.memory.parties
        for order in gone:
            if orders.pop(order.id, None) is None:
                del self.spent[order.id]
            party = parties[order.account]
            party.live -= 1

    def set_aside(self, ask: Order) -> None:
        """It stands in no queue any more, and lives on."""
        self.spent[ask.id] = self.orders.pop(ask.id)

    def bring_back(self, ask: Order) -> None:
        """It stands in a queue again."""
        self.orders[ask.id] = self.spent.pop(ask.id)

    def all(self) -> list[Order]:
        """In order of id."""
        return sorted([*self.orders.values(), *self.spent.values()], key=attrgetter("id"))

    def begin(self, count: int) -> None:
        """So many orders come by `fill`."""
        self.orders.expect(count)

    def fill(self, orders: Sequence[Order], parties: list[Party], by_id: list[int], leaves: list[int]) -> None:
        """Takes in orders of a state, of these accounts, which leave at these times; with their numbers in the order of
        their ids. After the last comes `filled`.
        """
        ids = [order.id for order in orders]
        self.orders.put_all(ids, orders)
        for number in by_id:
            party = parties[number]
            party.orders.append(ids[number])
        for spent in [order for order in orders if order.chunk is None]:
            self.set_aside(spent)
        last, leavers = -1, list[int]()
        for place, order_id in enumerate(ids):
            if leaves[place] is not last:  # most leave when the one before does
                last = leaves[place]
                leavers = self._leaving.setdefault(last, [])
            leavers.append(order_id)

    def filled(self) -> None:
        """All orders of a state are here."""
        for party in self.memory.parties.values():
            party.sorted = False  # it is of runs, each in order
            party.live = len(party.orders)
        self._times = sorted(self._leaving)  # which is a heap, too
        self._next_due()

    def of(self, account: int) -> list[Order]:
        """An account's live orders, in order of id."""
        party = self.memory.parties.get(account)
        if party is None:
            return []
        return [order for known in party.in_order() if (order := self.find(known)) is not None]

    def set_dead_man(self, account: int, until: int) -> None:
        """All of the account is cancelled then."""
        self.memory.party(account).dead_man = until
        heappush(self._dead_men, (until, account))
        self.due = min(self.due, until)

    def dead_men_before(self, now: int) -> list[tuple[int, int]]:
        """(until, account) of those whose time has come, in order; each acts once."""
        acting: list[tuple[int, int]] = []
        dead_men = self._dead_men
        while dead_men and dead_men[0][0] <= now:
            until, account = heappop(dead_men)
            party = self.memory.parties.get(account)
            if party is not None and party.dead_man == until:  # else it was renewed
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
                leaver = self.find(order_id)
                if leaver is not None and leaver.leaves == leaves:  # else it left, or was amended
                    leavers[order_id] = leaver
        self._leaves = -1
        self._next_due()
        return list(leavers.values())

    def _tidy(self, party: Party) -> None:
        """Lets go of ids of orders that have left, where they have become many."""
        orders, spent = self.orders, self.spent
        ids = [known for known in party.orders if known in orders or known in spent]
        self._left += len(party.orders) - len(ids)
        party.orders = ids
        if self._left > 2 * (len(orders) + len(spent)) + 1024:
            self._sort_by_leaving()

    def _sort_by_leaving(self) -> None:
        """Makes `_leaving` anew, of the live orders alone."""
        leaving = defaultdict[int, list[int]](list)
        for orders in (self.orders, self.spent):
            for order in orders.values():
                leaving[order.leaves].append(order.id)
        self._leaving, self._leaves = dict(leaving), -1
        self._times = sorted(leaving)  # which is a heap, too
        self._left = 0

    def _next_due(self) -> None:
        times, dead_men = self._times, self._dead_men
        self.due = min(times[0] if times else NEVER, dead_men[0][0] if dead_men else NEVER)
