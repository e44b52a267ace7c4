"""The markets that the engine is measured on: seeded, and made before any clock runs.

A command's offset in the log is its place in the stream, so an order's id in partition 0 is its offset; log time is
`at(offset)`: a thousand commands a second.
"""

import random
from collections.abc import Iterable, Iterator

from matching_engine.engine import Engine
from schemas.attributes import Accepts, Attributes, ClassSpec, Interconnect, Region
from schemas.commands import Cancel, Command, CreateClass, PlaceAsk, PlaceBid
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS
from tests.benchmarks.bare_book import ASK, BID, CANCEL, BareBook, BareCommand

CLASS = "H100-SXM-80GB"
CREATE = CreateClass(ClassSpec(CLASS, "NVIDIA H100", 80, "SXM"))
NOW = 20_800 * DAY_MS
TOMORROW = NOW + DAY_MS
TICK = 100
MIDDLE = 25_000
"""Where prices begin, in ticks."""
FAR, NEAR = 20, 5
"""An order's price is up to FAR ticks away from the moving price, or up to NEAR beyond it, where it trades."""
DEPTH = 1_000
"""Where a book is to be deep, orders rest up to so many ticks away."""
VALID_MS = MINUTE_MS
"""How long after its log time a command is not late yet, and a repeat of it is known."""
ACCOUNTS = 25
"""To each side. Nobody is on both: a bare book and the peers know no self-trades."""
SUPPLIER, BUYER = 1, 1 + ACCOUNTS
"""The first of each."""

REGIONS = tuple(Region)[1:9]
INTERCONNECTS = tuple(Interconnect)


def at(offset: int) -> int:
    """The log time of the command there, in ms."""
    return NOW + offset


def account(offset: int, side: int) -> int:
    """Who places an order there."""
    return (BUYER if side == BID else SUPPLIER) + offset % ACCOUNTS


def ask(
    offset: int,
    price: int,
    quantity: int = 1,
    start: int = TOMORROW,
    duration: int = HOUR_MS,
    attributes: Attributes | None = None,
) -> PlaceAsk:
    """`price` in ticks. What an order states is an object of its own, as it is when decoded from the log."""
    who = account(offset, ASK)
    return PlaceAsk(
        CLASS,
        who,
        who,
        f"order-{offset:012}",
        at(offset) + VALID_MS,
        quantity,
        price * TICK,
        start,
        start + duration,
        attributes or Attributes(),
    )


def bid(
    offset: int,
    price: int,
    quantity: int = 1,
    starts: tuple[int, ...] = (TOMORROW,),
    duration: int = HOUR_MS,
    accepts: Accepts | None = None,
    min_fill: int = 1,
) -> PlaceBid:
    """`price` in ticks."""
    who = account(offset, BID)
    return PlaceBid(
        CLASS,
        who,
        who,
        f"order-{offset:012}",
        at(offset) + VALID_MS,
        quantity,
        price * TICK,
        duration,
        starts,
        accepts or Accepts(),
        min_fill,
    )


class PlainMarket:
    """An ordinary price-time book: orders of one window around a moving price; above `live` live orders, every other
    command cancels one of them. A bare book is run along to know which are live. Prices are in ticks."""

    def __init__(self, live: int, seed: int = 1) -> None:
        self.live = live
        self.offset = 1
        """Of the next command; CREATE is at 0."""
        self._rng = random.Random(seed)
        self._middle = MIDDLE
        self._book = BareBook()
        self._placed: list[tuple[int, int]] = []
        """(id, side) of who is live, and of some that are not any more."""

    def fill_up(self) -> Iterator[BareCommand]:
        """Orders that rest, deep in the book, until `live` are there."""
        while len(self._book.live) < self.live:
            side = self._rng.choice((BID, ASK))
            away = self._rng.randint(FAR, DEPTH)
            yield self._place(side, self._middle + (away if side == ASK else -away))

    def take(self, count: int) -> list[BareCommand]:
        """The next commands."""
        return [self._next() for _ in range(count)]

    def _next(self) -> BareCommand:
        rng = self._rng
        if len(self._book.live) > self.live and self.offset % 2:
            return self._cancel()
        self._middle += rng.choice((-1, 0, 1))
        side = rng.choice((BID, ASK))
        away = rng.randint(-NEAR, FAR)
        return self._place(side, self._middle + (away if side == ASK else -away))

    def _place(self, side: int, price: int) -> BareCommand:
        self._placed.append((self.offset, side))
        return self._apply((side, self.offset, price, self._rng.randint(1, 8)))

    def _cancel(self) -> BareCommand:
        placed = self._placed
        while True:
            place = self._rng.randrange(len(placed))
            placed[place], (drawn, side) = placed[-1], placed[place]
            placed.pop()
            if drawn in self._book.live:
                return self._apply((CANCEL, drawn, account(drawn, side), 0))

    def _apply(self, command: BareCommand) -> BareCommand:
        self._book.apply(command)
        self.offset += 1
        return command


def full(bare: Iterable[BareCommand], offset: int) -> Iterator[Command]:
    """The commands of a PlainMarket from that offset on, for the engine; a cancel's price is the account."""
    for place, (what, order_id, price, quantity) in enumerate(bare, offset):
        if what == CANCEL:
            yield Cancel(price, order_id)
        else:
            yield ask(place, price, quantity) if what == ASK else bid(place, price, quantity)


class WindowMarket:
    """Asks of 1 to 90 days and bids of 1 hour to 7 days that begin within a month, half of the bids with up to 32
    starts, 30 % of them for a whole cluster of up to 64, in 8 regions with 3 interconnects, around a moving price;
    above `live` live orders, every other command cancels one of them.

    The engine measured tells which are live: the market is made in pieces, each before it is timed.
    """

    def __init__(self, engine: Engine, live: int, seed: int = 1) -> None:
        self.engine = engine
        self.live = live
        self.offset = 1
        """Of the next command; CREATE is at 0."""
        self._rng = random.Random(seed)
        self._middle = MIDDLE
        self._placed: list[int] = []

    def fill_up(self) -> Iterator[Command]:
        """Orders of which none trades, at the prices at which the market begins, until `live` are there."""
        while len(self._placed) < self.live:
            yield self._order(self._rng.randint(1, FAR))
            self._placed.append(self.offset)
            self.offset += 1

    def take(self, count: int) -> list[Command]:
        """The next commands; those taken before have been applied. Of two on one order, the later finds it gone."""
        self.count()
        placed = self._placed
        commands: list[Command] = []
        for _ in range(count):
            if len(placed) > self.live and self.offset % 2:
                commands.append(self._cancel())
            else:
                self._middle += self._rng.choice((-1, 0, 1))
                commands.append(self._order(self._rng.randint(-NEAR, FAR)))
                placed.append(self.offset)
            self.offset += 1
        return commands

    def count(self) -> int:
        """How many orders are live."""
        order = self.engine.order
        self._placed = [placed for placed in self._placed if order(placed) is not None]
        return len(self._placed)

    def _cancel(self) -> Cancel:
        placed = self._placed
        place = self._rng.randrange(len(placed))
        placed[place], drawn = placed[-1], placed[place]
        placed.pop()
        order = self.engine.order(drawn)
        return Cancel(SUPPLIER if order is None else order.account, drawn)

    def _order(self, away: int) -> PlaceAsk | PlaceBid:
        rng = self._rng
        if rng.random() < 0.4:
            attributes = Attributes(region=rng.choice(REGIONS), interconnect=rng.choice(INTERCONNECTS))
            days = rng.randint(1, 90)
            quantity = rng.choice((8, 16, 32, 64))
            return ask(self.offset, self._middle + away, quantity, self._start(), days * DAY_MS, attributes)
        starts: tuple[int, ...] = (self._start(),)
        if rng.random() < 0.5:
            starts = tuple(sorted({self._start() for _ in range(rng.randint(2, 32))}))
        regions = sum(1 << region for region in rng.sample(REGIONS, rng.randint(1, 8)))
        accepts = Accepts(regions=regions, interconnect=rng.choice(INTERCONNECTS))
        whole = rng.random() < 0.3
        quantity = rng.choice((8, 16, 32, 64)) if whole else rng.randint(1, 16)
        duration = rng.randint(1, 7 * 24) * HOUR_MS
        return bid(
            self.offset, self._middle - away, quantity, starts, duration, accepts, min_fill=quantity if whole else 1
        )

    def _start(self) -> int:
        return TOMORROW + self._rng.randrange(30 * 24) * HOUR_MS
