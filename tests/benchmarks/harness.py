"""What a benchmark is: a figure of ours beside the figure of a bare baseline, measured in turn in the same run."""

import contextlib
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence

from msgspec import Struct


class Result(Struct, frozen=True):
    """One line of the table. `ratio` is value / baseline; `wanted` says which way is good and how far."""

    name: str
    value: float
    unit: str
    baseline: float
    ratio: float
    wanted: str
    note: str = ""


Benchmark = Callable[[], Coroutine[None, None, Result]]

Measure = Callable[[], Awaitable[float]]


async def in_turn(ours: Measure, bare: Measure, rounds: int) -> tuple[float, float, float]:
    """Runs the two in turn, `rounds` times each after one uncounted round; returns the medians of ours, of the
    baseline, and of the ratios pair by pair, which hold when the machine's speed drifts."""
    await bare()
    await ours()
    pairs = [(await bare(), await ours()) for _ in range(rounds)]
    return (
        statistics.median(own for _, own in pairs),
        statistics.median(base for base, _ in pairs),
        statistics.median(own / base for base, own in pairs),
    )


async def p50_ms(request: Callable[[], Awaitable[None]], times: int) -> float:
    """The median of that many requests, one after the other, in ms."""
    taken: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        await request()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


@contextlib.contextmanager
def pinned_to_one_core(place: int = 0) -> Iterator[str]:
    """Keeps this process, and what it starts meanwhile, on the first core or that at `place`, where the system can;
    says whether it does."""
    if not hasattr(os, "sched_setaffinity"):
        yield "not pinned"
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores)[place]})
    try:
        yield "all on one core"
    finally:
        os.sched_setaffinity(0, cores)


def table(results: Sequence[Result]) -> str:
    """The results as aligned text."""
    rows = [("name", "ours", "baseline", "ratio", "wanted", "unit, note")]
    rows += [
        (r.name, f"{r.value:,.1f}", f"{r.baseline:,.1f}", f"{r.ratio:.2f}", r.wanted, f"{r.unit}; {r.note}")
        for r in results
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)) for row in rows
    )
