"""`make bench` runs all, `make bench ARGS="NAME …"` some: a table, then one JSON line each.

Where there is a compiled core (`make core`), the benchmarks of the engine run on it and on the pure one, each core in a
process of its own; the others run on the one that is in use.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import uvloop

from matching_engine import compiled_core
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
from tests.benchmarks.noisy_neighbour import noisy_neighbour
from tests.benchmarks.order_entry import order_entry_batch50
from tests.benchmarks.order_entry_http import order_entry_http
from tests.benchmarks.order_to_fill import order_to_fill_embedded, order_to_fill_kafka
from tests.benchmarks.pipeline import pipeline_kafka
from tests.benchmarks.settlement import holds, settle_fills, settle_growth, settle_usage
from tests.benchmarks.stream import stream_clients, stream_fanout

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
    "order_entry_http": order_entry_http,
    "order_entry_batch50": order_entry_batch50,
    "noisy_neighbour": noisy_neighbour,
    "stream_fanout": stream_fanout,
    "stream_clients": stream_clients,
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
    results = [result for name in names or BENCHMARKS for result in _results(name)]
    print(table(results))
    for result in results:
        print(msgspec.json.encode(result).decode())


def _results(name: str) -> Iterator[Result]:
    """Of both cores, where the choice is open and there are two."""
    if not name.startswith("engine_") or "CX_CORE" in os.environ or not compiled_core().is_dir():
        print(f"{name} …", file=sys.stderr, flush=True)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            yield runner.run(BENCHMARKS[name]())
        return
    for core in ("pure", "compiled"):
        ran = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks", name],
            env={**os.environ, "CX_CORE": core},
            check=True,
            stdout=subprocess.PIPE,
        )
        result = msgspec.json.decode(ran.stdout.splitlines()[-1], type=Result)
        yield msgspec.structs.replace(result, note=f"{core} core; {result.note}")


if __name__ == "__main__":
    main(sys.argv[1:])
