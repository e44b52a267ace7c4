"""What the engines of one process tell Prometheus, by partition. Each poll is looked at once, whatever it holds."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily

from matching_engine import CORE
from matching_engine.engine import Engine

COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
APPLY_S = (5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 1e-1)
ANSWER_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000)
MATCHED, LOGGED = "matched", "logged"
"""Stages of an answer: listeners in the process have heard it; it is in the log, for all."""


class EngineMetrics:
    """The figures. Labels: partition, and of `engine_answer_seconds` the stage too."""

    def __init__(self, registry: CollectorRegistry) -> None:
        by = ["partition"]
        self.commands = Counter("engine_commands", "Commands answered", by, registry=registry)
        self.lag = Gauge("engine_lag", "Commands in the log that are not answered yet", by, registry=registry)
        self.apply_seconds = Histogram("engine_apply_seconds", "Time to match one poll", by, registry=registry)
        self.command_seconds = Histogram(
            "engine_command_seconds",
            "Time to match a command: the mean of one poll",
            by,
            registry=registry,
            buckets=APPLY_S,
        )
        self.polled = Histogram("engine_polled_commands", "Commands of one poll", by, registry=registry, buckets=COUNTS)
        self.appended = Histogram(
            "engine_appended_answers", "Answers of one append", by, registry=registry, buckets=COUNTS
        )
        self.answer_seconds = Delays()
        self._orders = Gauge("engine_orders", "Live orders", by, registry=registry)
        self._books = Gauge("engine_books", "Classes with a book", by, registry=registry)
        registry.register(self.answer_seconds)
        core = Gauge("engine_core", "Which core the engines of this process run", ["core"], registry=registry)
        core.labels(CORE).set(1)

    def watch(self, partition: int, engine: Callable[[], Engine]) -> None:
        """From now on the partition's books are those of the engine that `engine` gives; counted when asked for."""
        self._orders.labels(partition).set_function(lambda: live_orders(engine()))
        self._books.labels(partition).set_function(lambda: len(engine().books))


def live_orders(engine: Engine) -> int:
    """How many orders live in its books."""
    return sum(
        len(book.spent)
        + sum(chunk.live for chunk in book.ask_queue.chunks)
        + sum(chunk.live for chunk in book.bid_queue.chunks)
        for book in engine.books.values()
    )


class Delays:
    """`engine_answer_seconds`: from a command's time stamp in the log to its answer, as a histogram of all commands.

    The stamps of a batch are in order, so each bucket costs one search in them: a Histogram would cost a call for each.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[list[int], list[int]]] = {}

    def observe(self, partition: int, stage: str, stamps: Sequence[int], now: int) -> None:
        """`stamps` and `now`: ms by the log's clock, the stamps in order. Those ahead of `now` count as 0."""
        empty = [0] * (len(ANSWER_MS) + 1), [0]
        counts, total = self._found.setdefault((str(partition), stage), empty)
        for place, bound in enumerate(ANSWER_MS):
            counts[place] += len(stamps) - bisect_left(stamps, now - bound)
        counts[-1] += len(stamps)
        total[0] += max(0, now * len(stamps) - sum(stamps))

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """For the registry."""
        family = HistogramMetricFamily(
            "engine_answer_seconds",
            "From a command's time stamp in the log to its answer",
            labels=["partition", "stage"],
        )
        bounds = [*(str(bound / 1000) for bound in ANSWER_MS), "+Inf"]
        for labels, (counts, (total,)) in self._found.items():
            family.add_metric(labels, list(zip(bounds, counts, strict=True)), total / 1000)
        yield family
