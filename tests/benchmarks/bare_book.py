"""The baseline of the engine: a bare price-time order book over ints. No rules, no checks, no ids but the caller's.

What a good Python engineer writes for speed: a deque per price, a heap of the prices, a dict to find an order by. Who
is cancelled stays in its deque with quantity 0 until its turn comes. Dicts as queues and a sorted list of prices leave
no such rests, but were measured to take a fifth longer.
"""

from collections import deque
from heapq import heappop, heappush

BID, ASK, CANCEL = range(3)

BareCommand = tuple[int, int, int, int]
"""(what, order id, price, quantity) with `what` one of BID, ASK, CANCEL; a cancel's price and quantity say nothing."""

BareFill = tuple[int, int, int, int]
"""(taker's order id, maker's order id, price, quantity)."""

Level = deque[list[int]]
"""The [order id, quantity left] at one price, oldest first."""

NONE: list[BareFill] = []


class BareBook:
    """One book."""

    def __init__(self) -> None:
        self.live: dict[int, list[int]] = {}
        """By order id: [order id, quantity left]."""
        self._bids: dict[int, Level] = {}
        self._asks: dict[int, Level] = {}
        self._bid_prices: list[int] = []
        """A heap of the negative prices."""
        self._ask_prices: list[int] = []
        """A heap."""

    def apply(self, command: BareCommand) -> list[BareFill]:
        """The fills that the command makes. Who is cancelled must be live."""
        what, order_id, price, quantity = command
        if what == CANCEL:
            self.live.pop(order_id)[1] = 0
            return NONE
        fills = NONE
        if what == BID:
            prices = self._ask_prices
            if prices and prices[0] <= price:
                fills = []
                quantity = self._take_asks(order_id, price, quantity, fills)
            levels, prices, rank = self._bids, self._bid_prices, -price
        else:
            prices = self._bid_prices
            if prices and -prices[0] >= price:
                fills = []
                quantity = self._take_bids(order_id, price, quantity, fills)
            levels, prices, rank = self._asks, self._ask_prices, price
        if quantity:
            order = self.live[order_id] = [order_id, quantity]
            level = levels.get(price)
            if level is None:
                levels[price] = deque((order,))
                heappush(prices, rank)
            else:
                level.append(order)
        return fills

    def _take_asks(self, taker: int, limit: int, quantity: int, fills: list[BareFill]) -> int:
        prices, asks = self._ask_prices, self._asks
        while prices and (best := prices[0]) <= limit:
            quantity = self._take(taker, best, quantity, asks[best], fills)
            if not quantity:
                break
            del asks[best]
            heappop(prices)
        return quantity

    def _take_bids(self, taker: int, limit: int, quantity: int, fills: list[BareFill]) -> int:
        prices, bids = self._bid_prices, self._bids
        while prices and (best := -prices[0]) >= limit:
            quantity = self._take(taker, best, quantity, bids[best], fills)
            if not quantity:
                break
            del bids[best]
            heappop(prices)
        return quantity

    def _take(self, taker: int, price: int, quantity: int, level: Level, fills: list[BareFill]) -> int:
        """Takes from the level until it is empty or nothing is wanted any more; returns what is still wanted."""
        while level:
            order = level[0]
            maker, offered = order
            if offered > quantity:
                order[1] = offered - quantity
                fills.append((taker, maker, price, quantity))
                return 0
            level.popleft()
            if offered:
                fills.append((taker, maker, price, offered))
                del self.live[maker]
                quantity -= offered
                if not quantity:
                    return 0
        return quantity
