"""The engine alone, in this process, on one core, the garbage collector as in the service.

A timed loop calls `Engine.apply` with commands that are decoded already, and keeps nothing of the answers. They are
made poll by poll, and a poll is applied at once: the service, too, applies what it has just decoded, with the offset
and the time that are in the record, and tells the engine of some dozens at a time that they come next. What was made
long before, no cache holds any more. The bare book has it likewise.
"""

import random
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import msgspec
from msgspec import Struct

from gateways.cli.processes import spare_garbage_collection
from matching_engine.ahead import AT_ONCE
from matching_engine.columns import decoded, encoded
from matching_engine.engine import Engine
from schemas import codec
from schemas.attributes import Accepts, Attributes, Delivery
from schemas.commands import Cancel, Command, PlaceAsk, PlaceBid
from schemas.events import Fill
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS
from tests.benchmarks.bare_book import ASK, BID, BareBook, BareCommand
from tests.benchmarks.engine_streams import (
    CLASS,
    CREATE,
    INTERCONNECTS,
    MIDDLE,
    REGIONS,
    TOMORROW,
    PlainMarket,
    WindowMarket,
    account,
    ask,
    at,
    bid,
    full,
)
from tests.benchmarks.harness import Result, in_turn, pinned_to_one_core

COMMANDS = 500_000
LIVE = 2_000
ROUNDS = 3
POLL = 1_000
"""Commands made at once, before the clock runs, and applied."""
PIECE = 2_000
"""Commands of a round where two books that stay are measured in turn."""
STEP = 100
"""Commands of a WindowMarket made at once."""
PIECES = 8
WANTED_BYTES = 400
MEASURED_ORDERS = 50_000
RECOVERED_ORDERS = 100_000
PROBES = 300
PROBE_SECONDS = 4.0
"""A bad case is probed PROBES times, or as often as this allows."""
BAD_ORDERS = 100_000
WORST_US = 5_000


def new_engine() -> Engine:
    """With the class of all streams, so that their first offset is 1."""
    engine = Engine(0)
    engine.apply(0, at(0), CREATE)
    return engine


def apply_all(engine: Engine, commands: Iterable[Command], offset: int) -> float:
    """Seconds that the engine takes for the commands from that offset on."""
    expect, apply, taken, made = engine.expect, engine.apply, 0.0, iter(commands)
    while poll := list(islice(made, POLL)):
        stamps = [(place, at(place)) for place in range(offset, offset + len(poll))]
        offset += len(poll)
        began = time.perf_counter()
        for first in range(0, len(poll), AT_ONCE):
            some = poll[first : first + AT_ONCE]
            expect(some)
            for (place, time_ms), command in zip(stamps[first : first + AT_ONCE], some, strict=True):
                apply(place, time_ms, command)
        taken += time.perf_counter() - began
    return taken


def plain_stream() -> list[BareCommand]:
    """The stream of `engine_plain`."""
    return PlainMarket(LIVE).take(COMMANDS)


async def engine_rate(stream: Sequence[BareCommand]) -> float:
    """Commands a second through a new engine."""
    engine = new_engine()
    spare_garbage_collection()
    return len(stream) / apply_all(engine, full(stream, 1), 1)


async def bare_rate(stream: Sequence[BareCommand]) -> float:
    """Commands a second through a new bare book."""
    apply, taken = BareBook().apply, 0.0
    commands = ((what, order_id, price, quantity) for what, order_id, price, quantity in stream)
    spare_garbage_collection()
    while poll := list(islice(commands, POLL)):
        began = time.perf_counter()
        for command in poll:
            apply(command)
        taken += time.perf_counter() - began
    return len(stream) / taken


async def engine_plain() -> Result:
    """An ordinary price-time book, against a bare loop over ints: at least 0.35."""
    stream = plain_stream()
    with pinned_to_one_core() as pinned:
        value, baseline, ratio = await in_turn(lambda: engine_rate(stream), lambda: bare_rate(stream), ROUNDS)
    note = f"median of {ROUNDS} runs of {COMMANDS:,}, about {LIVE:,} live, {pinned}"
    return Result("engine_plain", value, "commands/s", baseline, ratio, ">= 0.35", note)


async def engine_peer() -> Result:
    """The same stream, against lightmatchingengine: at least 1.3; pyorderbook is beside it."""
    from tests.benchmarks.peers import lightmatchingengine_rate, pyorderbook_rate

    stream = plain_stream()
    with pinned_to_one_core() as pinned:
        value, baseline, ratio = await in_turn(
            lambda: engine_rate(stream), lambda: lightmatchingengine_rate(stream), ROUNDS
        )
        other = await pyorderbook_rate(stream)
    note = f"median of {ROUNDS} runs of {COMMANDS:,}; pyorderbook once: {other:,.0f}, {value / other:.2f}; {pinned}"
    return Result("engine_peer", value, "commands/s", baseline, ratio, ">= 1.3", note)


class Windows:
    """An engine with that many live orders of a WindowMarket, measured piece by piece."""

    def __init__(self, live: int) -> None:
        self.engine = new_engine()
        self._market = WindowMarket(self.engine, live)
        apply_all(self.engine, self._market.fill_up(), 1)

    async def rate(self) -> float:
        """Commands and fills a second over the next piece."""
        before = self._fills()
        spare_garbage_collection()
        taken = sum(self._step() for _ in range(PIECE // STEP))
        return (PIECE + self._fills() - before) / taken

    def _step(self) -> float:
        offset = self._market.offset
        return apply_all(self.engine, self._market.take(STEP), offset)

    def _fills(self) -> int:
        return self.engine.books[CLASS].fills


class Plain:
    """An engine with that many live plain orders, deep in the book, measured piece by piece."""

    def __init__(self, live: int) -> None:
        self.engine = new_engine()
        self._market = PlainMarket(live)
        apply_all(self.engine, full(self._market.fill_up(), 1), 1)

    async def rate(self) -> float:
        """Commands and fills a second over the next piece."""
        before = self._fills()
        taken = self._apply()
        return (PIECE + self._fills() - before) / taken

    async def cost_us(self) -> float:
        """Microseconds a command over the next piece."""
        return self._apply() / PIECE * 1e6

    def _apply(self) -> float:
        offset = self._market.offset
        commands = full(self._market.take(PIECE), offset)
        spare_garbage_collection()
        return apply_all(self.engine, commands, offset)

    def _fills(self) -> int:
        return self.engine.books[CLASS].fills


async def engine_windows_2k() -> Result:
    """Windows, clusters and attributes at 2,000 live orders, against plain ones: at least 0.25."""
    with pinned_to_one_core() as pinned:
        windows, plain = Windows(LIVE), Plain(LIVE)
        value, baseline, ratio = await in_turn(windows.rate, plain.rate, PIECES)
    note = f"median of {PIECES} pieces of {PIECE:,}, {pinned}"
    return Result("engine_windows_2k", value, "commands + fills/s", baseline, ratio, ">= 0.25", note)


async def engine_windows_100k() -> Result:
    """The same at 100,000 live orders, against 2,000: at least 0.3."""
    with pinned_to_one_core() as pinned:
        many, few = Windows(50 * LIVE), Windows(LIVE)
        value, baseline, ratio = await in_turn(many.rate, few.rate, PIECES)
    note = f"median of {PIECES} pieces of {PIECE:,}, {pinned}"
    return Result("engine_windows_100k", value, "commands + fills/s", baseline, ratio, ">= 0.3", note)


async def engine_growth() -> Result:
    """The cost of a command at 1,000,000 live plain orders, against 1,000: at most 1.5."""
    with pinned_to_one_core() as pinned:
        many, few = Plain(1_000_000), Plain(1_000)
        value, baseline, ratio = await in_turn(many.cost_us, few.cost_us, PIECES)
    note = f"median of {PIECES} pieces of {PIECE:,}, {pinned}"
    return Result("engine_growth", value, "µs/command", baseline, ratio, "<= 1.5", note)


async def engine_memory() -> Result:
    """What a resting order takes, of all that the engine keeps, decoded from the log as in the service."""
    resting = _bytes_per_order(gap_ms=50)
    known = _bytes_per_order(gap_ms=0)
    note = f"{MEASURED_ORDERS:,} plain orders; as long as repeats of it are known: {known:.0f}"
    return Result("engine_memory", resting, "bytes/order", WANTED_BYTES, resting / WANTED_BYTES, "<= 1.1", note)


def _bytes_per_order(gap_ms: int) -> float:
    """With `gap_ms` of log time between two orders: how many repeats are still known at the end depends on it."""
    market = PlainMarket(MEASURED_ORDERS)
    commands = full(market.fill_up(), 1)
    first = at(0)
    values: list[bytes] = []
    for place, command in enumerate(commands, 1):
        assert isinstance(command, PlaceAsk | PlaceBid)
        values.append(codec.encode(msgspec.structs.replace(command, not_after=first + place * gap_ms + MINUTE_MS)))
    engine = new_engine()
    spare_garbage_collection()
    tracemalloc.start()
    try:
        for place, value in enumerate(values, 1):
            engine.apply(place, first + place * gap_ms, codec.decode_command(value))
        return tracemalloc.get_traced_memory()[0] / MEASURED_ORDERS
    finally:
        tracemalloc.stop()


async def engine_recovery() -> Result:
    """Orders restored a second, against commands a second matched live, answers encoded: at least 5. And replayed,
    where no answer is needed: at least 1."""
    with pinned_to_one_core() as pinned:
        market = PlainMarket(RECOVERED_ORDERS)
        engine = new_engine()
        apply_all(engine, full(market.fill_up(), 1), 1)
        offset = market.offset
        values = [codec.encode(command) for command in full(market.take(RECOVERED_ORDERS), offset)]
        state = encoded(engine.state())
        restored: list[float] = []
        live: list[float] = []
        replayed: list[float] = []
        for number in range(2 * ROUNDS):
            engine = Engine(0)  # the one before is gone before the clock runs
            spare_garbage_collection()
            began = time.perf_counter()
            engine = Engine.from_state(0, decoded(state))
            restored.append(RECOVERED_ORDERS / (time.perf_counter() - began))
            if number % 2:  # in turn, and each with a new engine alone: the second of two was slower, whichever it was
                live.append(_log_rate(engine, values, offset, encode=True))
            else:
                replayed.append(_log_rate(engine, values, offset, encode=False))
    value, baseline = statistics.median(restored), statistics.median(live)
    replay = statistics.median(replayed)
    note = f"replay {replay:,.0f}/s, {replay / baseline:.2f} (wanted >= 1); median of {ROUNDS}, {pinned}"
    return Result("engine_recovery", value, "orders restored/s", baseline, value / baseline, ">= 5", note)


def _log_rate(engine: Engine, values: Sequence[bytes], offset: int, *, encode: bool) -> float:
    """Records of the log a second: as the service takes them where answers are encoded, else as a start does."""
    spare_garbage_collection()
    began = time.perf_counter()
    if encode:
        for first in range(0, len(values), AT_ONCE):
            commands = [codec.decode_command(value) for value in values[first : first + AT_ONCE]]
            engine.expect(commands)
            for place, command in enumerate(commands, offset + first):
                codec.encode(engine.apply(place, at(place), command))
    else:
        for place, value in enumerate(values, offset):
            engine.apply(place, at(place), codec.decode_command(value))
    return len(values) / (time.perf_counter() - began)


class BadCase(Struct, frozen=True):
    """A book in which much is to be passed over, and commands to it that make no fill."""

    book: Callable[[], Iterable[Command]]
    """From offset 1 on."""
    probe: Callable[[int, random.Random], Command]
    """The command for that offset. After an order that rests comes its cancel."""


def _other_region() -> Iterator[Command]:
    """Better-priced asks of other regions, fabrics and deliveries."""
    signatures = [
        (region, fabric, delivery) for region in REGIONS[1:] for fabric in INTERCONNECTS for delivery in Delivery
    ]
    for place in range(1, BAD_ORDERS + 1):
        region, fabric, delivery = signatures[place % len(signatures)]
        attributes = Attributes(region=region, interconnect=fabric, delivery=delivery)
        yield ask(place, MIDDLE - place % 1_000, attributes=attributes)


def _probe_region(place: int, rng: random.Random) -> Command:
    return bid(place, MIDDLE, accepts=Accepts(regions=1 << REGIONS[0]))


SPLIT = TOMORROW + 15 * DAY_MS
"""No ask of `_other_window` has this moment inside."""


def _other_window() -> Iterator[Command]:
    """Better-priced asks of 1 to 10 days that begin or end where the probes' windows have their middle."""
    rng = random.Random(2)
    for place in range(1, BAD_ORDERS + 1):
        duration, gap = rng.randint(24, 240) * HOUR_MS, rng.randrange(120) * HOUR_MS
        start = SPLIT + gap if place % 2 else SPLIT - gap - duration
        yield ask(place, MIDDLE - place % 1_000, start=start, duration=duration)


def _probe_window(place: int, rng: random.Random) -> Command:
    count = rng.choice((1, 32))
    starts = tuple(SPLIT - hours * HOUR_MS for hours in rng.sample(range(1, 48), count))
    return bid(place, MIDDLE, starts=starts, duration=48 * HOUR_MS)


def _pieces() -> Iterator[Command]:
    """Better-priced asks of 12 hours of which the sixth is sold: each ask is cheaper than those before, so that a bid
    at its price meets it alone."""
    for place in range(1, 2 * BAD_ORDERS, 2):
        price = MIDDLE + BAD_ORDERS - place // 2
        yield ask(place, price, duration=12 * HOUR_MS)
        yield bid(place + 1, price, starts=(TOMORROW + 5 * HOUR_MS,))


def _probe_pieces(place: int, rng: random.Random) -> Command:
    starts = tuple(TOMORROW + hours * HOUR_MS for hours in rng.sample(range(5), rng.choice((1, 5))))
    return bid(place, MIDDLE + BAD_ORDERS, starts=starts, duration=8 * HOUR_MS)


def _clusters() -> Iterator[Command]:
    """Better-priced bids for 64 GPUs from one place or not at all, half of them with 32 starts."""
    rng = random.Random(3)
    for place in range(1, 10_000 + 1):
        starts = tuple(TOMORROW + hours * HOUR_MS for hours in rng.sample(range(30 * 24), rng.choice((1, 32))))
        duration = rng.randint(1, 7 * 24) * HOUR_MS
        yield bid(place, MIDDLE + place % 1_000, 64, starts, duration, min_fill=64)


def _probe_clusters(place: int, rng: random.Random) -> Command:
    return ask(place, MIDDLE, 48, duration=60 * DAY_MS)


def _leases() -> Iterator[Command]:
    """One ask of a year in which 10,000 leases lie."""
    rng = random.Random(4)
    year = 365 * 24 * 60
    yield ask(1, MIDDLE, 64, duration=year * MINUTE_MS)
    for place in range(2, 10_000 + 2):
        minutes = rng.randint(60, 24 * 60)
        yield bid(
            place, MIDDLE, starts=(TOMORROW + rng.randrange(year - minutes) * MINUTE_MS,), duration=minutes * MINUTE_MS
        )


def _probe_leases(place: int, rng: random.Random) -> Command:
    starts = tuple(TOMORROW + hours * HOUR_MS for hours in rng.sample(range(350 * 24), rng.choice((1, 32))))
    return bid(place, MIDDLE, 64, starts, 7 * DAY_MS, min_fill=64)


def _one_price() -> Iterator[Command]:
    """Asks of 1 to 8 GPUs, all at one price."""
    for place in range(1, BAD_ORDERS + 1):
        yield ask(place, MIDDLE, 1 + place % 8)


def _probe_one_price(place: int, rng: random.Random) -> Command:
    """A bid that none of them can serve whole, or a cancel amid them."""
    if rng.random() < 0.5:
        return bid(place, MIDDLE, 64, min_fill=64)
    drawn = rng.randint(1, BAD_ORDERS)
    return Cancel(account(drawn, ASK), drawn)


BAD_CASES = {
    "region": BadCase(_other_region, _probe_region),
    "window": BadCase(_other_window, _probe_window),
    "pieces": BadCase(_pieces, _probe_pieces),
    "clusters": BadCase(_clusters, _probe_clusters),
    "leases": BadCase(_leases, _probe_leases),
    "one price": BadCase(_one_price, _probe_one_price),
}


async def engine_bad_cases() -> Result:
    """The worst p99 of a command that makes no fill, against `engine_plain`'s mean: at most 60, none above 5 ms."""
    told: list[str] = []
    worst = slowest = 0.0
    with pinned_to_one_core() as pinned:
        baseline = 1e6 / await engine_rate(plain_stream())
        for name, case in BAD_CASES.items():
            taken = _probe(case)
            p99, most = statistics.quantiles(taken, n=100, method="inclusive")[98], max(taken)
            worst, slowest = max(worst, p99), max(slowest, most)
            told.append(f"{name} {p99:,.0f}, max {most:,.0f} of {len(taken)}")
    limit = "none" if slowest <= WORST_US else "some"
    note = f"p99 {'; '.join(told)}; {limit} above {WORST_US:,} µs; {pinned}"
    return Result("engine_bad_cases", worst, "µs/command", baseline, worst / baseline, "<= 60", note)


def _probe(case: BadCase) -> list[float]:
    """Microseconds of each command to the case's book that makes no fill. Of this thread's own time: what else runs on
    the machine would be the maximum."""
    engine, rng = new_engine(), random.Random(5)
    offset = 1
    for offset, command in enumerate(case.book(), 2):
        engine.apply(offset - 1, at(offset - 1), command)
    spare_garbage_collection()
    taken: list[float] = []
    until = time.perf_counter() + PROBE_SECONDS
    while len(taken) < PROBES and time.perf_counter() < until:
        probe = case.probe(offset, rng)
        commands = [probe]
        if not isinstance(probe, Cancel):
            side = ASK if isinstance(probe, PlaceAsk) else BID
            commands.append(Cancel(account(offset, side), offset))
        for command in commands:
            began = time.thread_time_ns()
            execution = engine.apply(offset, at(offset), command)
            ended = time.thread_time_ns()
            assert not any(isinstance(event, Fill) for event in execution.events), "a probe that trades is none"
            taken.append((ended - began) / 1_000)
            offset += 1
    return taken
