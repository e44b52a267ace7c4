"""Who plays the market: suppliers and developers, each with a key of its own, on the public API alone."""

import asyncio
import time
import zlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from random import Random
from typing import Any, TypeVar

from gateways.cli.demand import HORIZON_MS, Demand, Offer, Pace, Wish
from gateways.client import Exchange, ExchangeError
from gateways.client.types import Lease, UsageReport
from schemas.attributes import name_of
from schemas.units import ceil_grid, format_duration, format_time, format_usd, parse_time

MAX_IN_FLIGHT = 64
"""Bids under way at once; further ones wait."""
AT_ONCE = 8
"""Requests of one player at once."""
MAX_OPEN = 50
"""Open orders that a developer has in mind, to cancel one."""
MAX_LATENCIES = 5_000
MAX_REPORTS = 500
MAX_LEASES = 5_000
"""Of one player, seen at a time: the newest."""
OFFER_EVERY_S = 5.0
DELIVER_EVERY_S = 0.3
ACCEPT_EVERY_S = 1.0
MAX_PAUSE_S = 5.0
BUDGET_USD = "2000000"
"""A developer's money at first, and again whenever it has run out."""

Result = TypeVar("Result")


class Clock:
    """The exchange's time in ms: never ahead of it, a little behind by what an answer took."""

    def __init__(self, speed: int) -> None:
        self._speed = speed
        self._time = 0
        self._read_at_ns = 0

    def set(self, text: str) -> None:
        """As an answer that has just come says it."""
        self._time = parse_time(text)
        self._read_at_ns = time.monotonic_ns()

    def now(self) -> int:
        return self._time + (time.monotonic_ns() - self._read_at_ns) * self._speed // 1_000_000


class Floor:
    """What the players have in common."""

    def __init__(self, pace: Pace, clock: Clock, run: str) -> None:
        self.pace = pace
        self.clock = clock
        self.run = run
        """In every client_order_id and reference, so that none comes twice on one exchange."""
        self.refusals: Counter[str] = Counter()
        """How often each code came."""
        self.trouble = ""
        """Why the exchange could not be used a moment ago."""
        self.latencies_us: deque[int] = deque(maxlen=MAX_LATENCIES)
        """From sending an order to the answer that has its fill."""

    async def attempt(self, call: Coroutine[Any, Any, Result]) -> Result | None:
        """None where the exchange refused: that is counted, and the market goes on. Raises ExchangeError otherwise."""
        try:
            return await call
        except ExchangeError as error:
            if error.status is None or error.status >= 500:
                raise
            self.refusals[error.code] += 1
            return None

    async def attempt_all(self, calls: Sequence[Callable[[], Coroutine[Any, Any, Any]]]) -> None:
        """Some at once. Each is called when its turn comes: the play may end before."""

        async def attempt(call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
            await self.attempt(call())

        for first in range(0, len(calls), AT_ONCE):
            await asyncio.gather(*map(attempt, calls[first : first + AT_ONCE]))

    async def again(self, every_s: float, step: Callable[[], Awaitable[None]]) -> None:
        """Takes the step again and again; while the exchange cannot be used, less and less often."""
        pause_s = every_s
        while True:
            try:
                await step()
            except ExchangeError as error:
                self.trouble = f"{error}: trying again"
                pause_s = min(MAX_PAUSE_S, 2 * pause_s)
            else:
                self.trouble = ""
                pause_s = every_s
            await asyncio.sleep(pause_s)


def accepted_by(lease_id: str) -> str:
    """How the play accepts a lease: by its buyer's `word`, by its first `use`, or by `silence`."""
    return ("word", "word", "use", "silence")[zlib.crc32(lease_id.encode()) % 4]


class Supplier:
    """Keeps its price list on sale, hands over what was sold, and meters it."""

    def __init__(self, floor: Floor, exchange: Exchange, supply: Sequence[Offer]) -> None:
        self._floor = floor
        self._exchange = exchange
        self._supply = supply
        self._until: dict[int, int] = {}
        """By row of the price list: the end, ms, of what is on sale."""
        self._sequences: dict[str, int] = {}
        """By running lease: the last report's."""

    async def remember(self) -> None:
        """Finds what it had on sale in an earlier run."""
        for order in await self._exchange.orders(status="open", limit=MAX_LEASES):
            row, _, end = order.client_order_id.removeprefix("row-").partition("-until-")
            if end:
                self._until[int(row)] = max(int(end), self._until.get(int(row), 0))

    async def offer(self) -> None:
        """Offers each line for a further while as soon as what is on sale of it ends before long."""
        now = self._floor.clock.now()
        for offer in self._supply:
            start = max(ceil_grid(now), self._until.get(offer.row, 0))
            if start - now < HORIZON_MS // 4:
                await self._floor.attempt(self._ask(offer, start, start + HORIZON_MS, now))

    async def _ask(self, offer: Offer, start: int, end: int, now: int) -> None:
        line, attributes = offer.line, offer.attributes
        await self._exchange.ask(
            line.class_id,
            offer.quantity,
            format_usd(line.price),
            start="now" if start <= ceil_grid(now) else format_time(start),
            end=format_time(end),
            region=name_of(attributes.region),
            delivery=name_of(attributes.delivery),
            interconnect=name_of(attributes.interconnect),
            tier=name_of(attributes.tier),
            notice_minutes=attributes.notice_minutes,
            min_duration=format_duration(self._floor.pace.unit_ms),
            lot=line.instance_size,
            client_order_id=f"row-{offer.row}-until-{end}",
        )
        self._until[offer.row] = end

    async def deliver(self) -> None:
        """Hands over what was sold since the last time."""
        leases = await self._exchange.leases(role="supplier", state="pending_delivery", limit=MAX_LEASES)
        await self._floor.attempt_all(
            [partial(self._exchange.deliver, lease.lease_id, f"ssh play@{lease.lease_id}.example") for lease in leases]
        )

    async def meter(self) -> None:
        """Reports what each running lease has used so far."""
        leases = await self._exchange.leases(role="supplier", state="delivered,active", limit=MAX_LEASES)
        now = self._floor.clock.now()
        reports: list[UsageReport] = []
        running: dict[str, int] = {}
        for lease in leases:
            sequence = self._sequences.get(lease.lease_id)
            if sequence is None:
                sequence = await self._last_sequence(lease)
            running[lease.lease_id] = sequence
            report = usage_report(lease, sequence + 1, now)
            if report is not None:
                reports.append(report)
        self._sequences = running
        for first in range(0, len(reports), MAX_REPORTS):
            await self._report(reports[first : first + MAX_REPORTS])

    async def _report(self, reports: list[UsageReport]) -> None:
        for answer in await self._exchange.report_usage(reports):
            if answer.status == "accepted":
                self._sequences[answer.lease_id] = answer.sequence
            else:
                # Whether it was taken is in the exchange's own list: looked up before the next report.
                del self._sequences[answer.lease_id]
                self._floor.refusals[answer.error.code if answer.error else answer.status] += 1

    async def _last_sequence(self, lease: Lease) -> int:
        """0 where there is none yet; else as the exchange has it, since an earlier run reported."""
        if not lease.used_gpu_ms:
            return 0
        return (await self._exchange.usage(lease.lease_id, limit=1))[-1].sequence


def usage_report(lease: Lease, sequence: int, now: int) -> UsageReport | None:
    """What the meter says at `now`: all GPUs, all the time since acceptance. None where there is nothing to say."""
    billed_from = lease.accepted_at
    if billed_from is None:
        if accepted_by(lease.lease_id) != "use":
            return None
        billed_from = lease.delivered_at
    assert billed_from is not None, "only a delivered lease is metered"
    end = parse_time(lease.end)
    used_ms = min(now, end) - max(parse_time(lease.start), parse_time(billed_from))
    gpu_ms = max(lease.used_gpu_ms, lease.quantity * used_ms)
    if gpu_ms == lease.used_gpu_ms and now < end:
        return None
    return UsageReport(lease_id=lease.lease_id, sequence=sequence, gpu_ms=gpu_ms, final=now >= end)


class Developers:
    """Bid as the demand says, accept what is delivered, and now and then think better of an order."""

    def __init__(self, floor: Floor, exchanges: Sequence[Exchange], demand: Demand, seed: int) -> None:
        self._floor = floor
        self._exchanges = exchanges
        self._demand = demand
        self._draw = Random(f"cancels {seed}")
        self._open: list[deque[str]] = [deque(maxlen=MAX_OPEN) for _ in exchanges]
        self._room = asyncio.Semaphore(MAX_IN_FLIGHT)
        self.broke: set[int] = set()
        """Who has run out of money."""

    async def bid(self) -> None:
        """Sends bids when the arrival profile says, for ever."""
        loop = asyncio.get_running_loop()
        began = due = loop.time()
        async with asyncio.TaskGroup() as group:
            number = 0
            while True:
                due = max(due + self._demand.gap_s(due - began), loop.time() - 1.0)
                await asyncio.sleep(due - loop.time())
                await self._room.acquire()
                number += 1
                group.create_task(self._act(self._demand.wish(), f"{self._floor.run}-{number}"))

    async def accept(self) -> None:
        """Accepts what was delivered, where the buyer's word does it."""
        for exchange in self._exchanges:
            leases = await exchange.leases(state="delivered", limit=MAX_LEASES)
            await self._floor.attempt_all(
                [partial(exchange.accept, lease.lease_id) for lease in leases if accepted_by(lease.lease_id) == "word"]
            )

    async def _act(self, wish: Wish, name: str) -> None:
        try:
            await self._floor.attempt(self._send(wish, name))
            open_orders = self._open[wish.developer]
            if wish.cancels and open_orders:
                open_orders.rotate(self._draw.randrange(len(open_orders)))
                await self._floor.attempt(self._exchanges[wish.developer].cancel(open_orders.pop()))
        except ExchangeError as error:
            self._floor.trouble = f"{error}: trying again"
        finally:
            self._room.release()

    async def _send(self, wish: Wish, name: str) -> None:
        began_ns = time.perf_counter_ns()
        unit_ms = self._floor.pace.unit_ms
        try:
            order = await self._exchanges[wish.developer].bid(
                wish.class_id,
                wish.quantity,
                format_usd(wish.price),
                duration=format_duration(wish.duration_ms),
                min_fill=wish.min_fill,
                starts=[moment(wish.first_step + step, unit_ms) for step in range(wish.steps)],
                accepts={
                    "regions": [name_of(region) for region in wish.regions],
                    "interconnect": name_of(wish.interconnect),
                    "interruptible": wish.interruptible,
                },
                prefer=name_of(wish.prefer),
                time_in_force=name_of(wish.time_in_force),
                client_order_id=name,
            )
        except ExchangeError as error:
            if error.code == "insufficient_funds":
                self.broke.add(wish.developer)
            raise
        if order.fills:
            self._floor.latencies_us.append((time.perf_counter_ns() - began_ns) // 1000)
        if order.status == "open" and order.order_id is not None:
            self._open[wish.developer].append(order.order_id)


def moment(units: int, unit_ms: int) -> str:
    """So many units from now, as the API takes it."""
    return f"now+{format_duration(units * unit_ms)}" if units else "now"
