"""The market that `make run` plays, through the public API and nothing else.

What its players offer and want is in `demand.py`, how they go about it in `players.py`; here they get their accounts,
are set to work, and are watched.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from msgspec import Raw, Struct, field

from gateways.cli.demand import DEVELOPERS, Demand, offers, pace, terms
from gateways.cli.facts.classes import standard_classes
from gateways.cli.facts.prices import list_prices
from gateways.cli.players import (
    ACCEPT_EVERY_S,
    BUDGET_USD,
    DELIVER_EVERY_S,
    OFFER_EVERY_S,
    Clock,
    Developers,
    Floor,
    Supplier,
)
from gateways.client import Exchange
from gateways.client.types import Book, Fill, Status
from schemas.attributes import ClassSpec
from schemas.units import format_duration, format_usd

SHOW_EVERY_S = 0.25
STATUS_EVERY_S = 0.5
BOOKS_EVERY_S = 1.0
MAX_ACCOUNTS = 1_000
RATE_OVER = 10
"""Readings of the status over which the rate of orders is taken: about five seconds."""
MAX_RECENT = 20


class PlayState(Struct):
    """What there is to see of a play."""

    seed: int
    speed: int
    prices_date: str
    classes: list[str]
    time: int = 0
    """ms, of the exchange."""
    status: Status | None = None
    books: dict[str, Book] = {}
    """By class, for a delivery window from now on."""
    last: dict[str, str] = {}
    """By class, the price of its last fill."""
    recent: deque[Fill] = field(default_factory=lambda: deque(maxlen=MAX_RECENT))
    """The last fills, oldest first."""
    orders_per_s: float = 0.0
    p50_ms: float = 0.0
    """Order to fill: from sending an order to the answer that has its fill."""
    p99_ms: float = 0.0
    refusals: Counter[str] = field(default_factory=Counter)
    trouble: str = ""


class Summary(Struct, frozen=True):
    """What came of a play. All but the last four are the exchange's own figures."""

    orders: int
    fills: int
    leases: int
    gpu_hours: Raw
    """Metered: an exact decimal number."""
    charged_usd: Raw
    """An exact decimal number."""
    conservation_microusd: int
    """By how much the ledger's entries do not add up: 0."""
    orders_per_s: float
    p50_ms: float
    p99_ms: float
    seed: int


async def play(
    url: str,
    admin_key: str,
    *,
    seed: int,
    duration_s: float | None,
    speed: int,
    on_state: Callable[[PlayState], None],
) -> Summary:
    """Plays on the exchange at `url` for `duration_s` wall seconds, or until cancelled.

    `speed` is the exchange's; `on_state` gets the state some times a second. Raises ExchangeError where the exchange
    cannot be used when it begins; later troubles are waited out.
    """
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(Exchange(url, admin_key))
        clock = Clock(speed)
        before = await admin.status()
        began = time.monotonic()
        clock.set(before.time)
        floor = Floor(pace(speed), clock, run=f"{seed}-{clock.now()}")
        prices = list_prices()
        specs = {spec.class_id: spec for spec in standard_classes()}
        traded = sorted({line.class_id for line in prices})
        await _open_classes(admin, [terms(specs[class_id], floor.pace.unit_ms) for class_id in traded])

        supply = offers(prices, specs, seed)
        sellers = sorted({offer.line.seller for offer in supply})
        buyers = [f"developer-{number:02}" for number in range(1, DEVELOPERS + 1)]
        known = {account.name: account.account_id for account in await admin.accounts(limit=MAX_ACCOUNTS)}
        accounts = Accounts(url, admin, stack, known)
        suppliers = [
            Supplier(
                floor,
                await accounts.enter(seller, ["read", "supply", "meter"]),
                [offer for offer in supply if offer.line.seller == seller],
            )
            for seller in sellers
        ]
        exchanges = [await accounts.enter(buyer, ["read", "trade"]) for buyer in buyers]
        developers = Developers(
            floor, exchanges, Demand(supply, {name: specs[name].tick for name in traded}, floor.pace, seed), seed
        )
        bank = Bank(admin, [accounts.ids[buyer] for buyer in buyers], floor.run)
        await asyncio.gather(*(supplier.remember() for supplier in suppliers))
        await asyncio.gather(*(supplier.offer() for supplier in suppliers), bank.pay(set(range(DEVELOPERS))))

        state = PlayState(seed=seed, speed=speed, prices_date=max(line.date for line in prices), classes=traded)
        watch = Watch(admin, floor, state, on_state)
        await watch.read_status()
        try:
            async with asyncio.timeout(duration_s), asyncio.TaskGroup() as group:
                group.create_task(developers.bid())
                group.create_task(floor.again(ACCEPT_EVERY_S, developers.accept))
                group.create_task(floor.again(ACCEPT_EVERY_S, lambda: bank.pay(developers.broke)))
                for supplier in suppliers:
                    group.create_task(floor.again(DELIVER_EVERY_S, supplier.deliver))
                    group.create_task(floor.again(floor.pace.meter_every_s, supplier.meter))
                    group.create_task(floor.again(OFFER_EVERY_S, supplier.offer))
                group.create_task(watch.run())
        except TimeoutError:
            return await watch.summary(before.orders, time.monotonic() - began)
    raise AssertionError("a play ends by its time, or is cancelled")


async def _open_classes(admin: Exchange, specs: Sequence[ClassSpec]) -> None:
    """Opens those that are not open from an earlier run."""
    there = {known.class_id for known in await admin.classes()}
    for spec in specs:
        if spec.class_id not in there:
            await admin.create_class(
                spec.class_id,
                accelerator=spec.accelerator,
                memory_gb=spec.memory_gb,
                form_factor=spec.form_factor,
                tick=format_usd(spec.tick),
                delivery_due=format_duration(spec.delivery_due_ms),
                acceptance=format_duration(spec.acceptance_ms),
                grace=format_duration(spec.grace_ms),
            )


class Accounts:
    """The players' accounts, those of an earlier run among them, each with a new key."""

    def __init__(self, url: str, admin: Exchange, stack: AsyncExitStack, ids: dict[str, str]) -> None:
        self.ids = ids
        """By name."""
        self._url = url
        self._admin = admin
        self._stack = stack

    async def enter(self, name: str, scopes: list[str]) -> Exchange:
        """The exchange as that account sees it."""
        if name in self.ids:
            key = (await self._admin.create_key(scopes, account_id=self.ids[name], label="play")).key
        else:
            account = await self._admin.create_account(name, scopes=scopes)
            self.ids[name], key = account.account_id, account.key
        assert key is not None, "a new key comes with its secret"
        return await self._stack.enter_async_context(Exchange(self._url, key))


class Bank:
    """Pays the developers' money in."""

    def __init__(self, admin: Exchange, account_ids: Sequence[str], run: str) -> None:
        self._admin = admin
        self._account_ids = account_ids
        self._run = run
        self._paid = 0

    async def pay(self, broke: set[int]) -> None:
        """Pays each of these developers, and takes them out of the set."""
        while broke:
            developer = min(broke)
            # The same reference until it is known to be paid: a payment whose answer was lost is made once.
            await self._admin.deposit(
                self._account_ids[developer], BUDGET_USD, reference=f"play {self._run} {self._paid}"
            )
            self._paid += 1
            broke.discard(developer)


class Watch:
    """Reads the market's figures from the API and shows them."""

    def __init__(
        self, exchange: Exchange, floor: Floor, state: PlayState, on_state: Callable[[PlayState], None]
    ) -> None:
        self._exchange = exchange
        self._floor = floor
        self._state = state
        self._on_state = on_state
        self._orders: deque[tuple[float, int]] = deque(maxlen=RATE_OVER)

    @property
    def status(self) -> Status:
        assert self._state.status is not None, "read_status comes first"
        return self._state.status

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._floor.again(STATUS_EVERY_S, self.read_status))
            group.create_task(self._floor.again(BOOKS_EVERY_S, self._read_books))
            group.create_task(self._floor.again(STATUS_EVERY_S, self._read_fills))
            group.create_task(self._floor.again(SHOW_EVERY_S, self._show))

    async def read_status(self) -> None:
        """The figures and the clock."""
        status = await self._exchange.status()
        self._floor.clock.set(status.time)
        self._state.status = status
        self._orders.append((time.monotonic(), status.orders))
        (first_at, first), (last_at, last) = self._orders[0], self._orders[-1]
        self._state.orders_per_s = round((last - first) / (last_at - first_at), 1) if last_at > first_at else 0.0
        self._state.p50_ms, self._state.p99_ms = self._percentiles()

    async def summary(self, orders_before: int, elapsed_s: float) -> Summary:
        """At the end."""
        await self.read_status()
        status = self.status
        return Summary(
            orders=status.orders,
            fills=status.fills,
            leases=status.leases_open + status.leases_closed,
            gpu_hours=Raw(status.gpu_hours.encode()),
            charged_usd=Raw(status.charged.encode()),
            conservation_microusd=status.imbalance_microusd,
            orders_per_s=round((status.orders - orders_before) / elapsed_s, 1),
            p50_ms=self._state.p50_ms,
            p99_ms=self._state.p99_ms,
            seed=self._state.seed,
        )

    async def _read_books(self) -> None:
        window = format_duration(self._floor.pace.unit_ms)
        calls = [self._exchange.book(class_id, duration=window, levels=1) for class_id in self._state.classes]
        self._state.books = {book.class_id: book for book in await asyncio.gather(*calls)}

    async def _read_fills(self) -> None:
        async for fill in self._exchange.fills():
            self._state.recent.append(fill)
            self._state.last[fill.class_id] = fill.price

    async def _show(self) -> None:
        self._state.time = self._floor.clock.now()
        self._state.refusals = self._floor.refusals
        self._state.trouble = self._floor.trouble
        self._on_state(self._state)

    def _percentiles(self) -> tuple[float, float]:
        """p50 and p99 of order to fill in ms, over the last orders; 0 before the first fill."""
        if not self._floor.latencies_us:
            return 0.0, 0.0
        ordered = sorted(self._floor.latencies_us)
        p50, p99 = (ordered[len(ordered) * share // 100] / 1000 for share in (50, 99))
        return round(p50, 1), round(p99, 1)
