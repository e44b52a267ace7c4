"""`make bench` runs all, `make bench ARGS="NAME …"` some: a table, then one JSON line each."""

import asyncio
import sys

import msgspec
import uvloop

from tests.benchmarks.engine import (
    engine_bad_cases,
    engine_growth,
    engine_memory,
    engine_peer,
    engine_plain,
    engine_recovery,
    engine_windows_2k,
    engine_windows_100k,
)
from tests.benchmarks.harness import Benchmark, Result, table
from tests.benchmarks.order_entry import order_entry_batch50
from tests.benchmarks.order_to_fill import order_to_fill_embedded, order_to_fill_kafka
from tests.benchmarks.pipeline import pipeline_kafka
from tests.benchmarks.settlement import holds, settle_fills, settle_growth, settle_usage

BENCHMARKS: dict[str, Benchmark] = {
    "engine_plain": engine_plain,
    "engine_peer": engine_peer,
    "engine_windows_2k": engine_windows_2k,
    "engine_windows_100k": engine_windows_100k,
    "engine_bad_cases": engine_bad_cases,
    "engine_growth": engine_growth,
    "engine_memory": engine_memory,
    "engine_recovery": engine_recovery,
    "pipeline_kafka": pipeline_kafka,
    "order_entry_batch50": order_entry_batch50,
    "order_to_fill_embedded": order_to_fill_embedded,
    "order_to_fill_kafka": order_to_fill_kafka,
    "settle_fills": settle_fills,
    "settle_usage": settle_usage,
    "holds": holds,
    "settle_growth": settle_growth,
}


def main(names: list[str]) -> None:
    """Exits with 2 where a name is unknown."""
    if unknown := set(names) - set(BENCHMARKS):
        sys.exit(f"no such benchmark: {', '.join(sorted(unknown))}. There are: {', '.join(BENCHMARKS)}")
    results: list[Result] = []
    for name in names or BENCHMARKS:
        print(f"{name} …", file=sys.stderr, flush=True)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            results.append(runner.run(BENCHMARKS[name]()))
    print(table(results))
    for result in results:
        line = {
            "name": result.name,
            "value": result.value,
            "unit": result.unit,
            "baseline": result.baseline,
            "ratio": result.ratio,
        }
        print(msgspec.json.encode(line).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
