"""What `make core` runs on a core that counts what it does, so that the compiler knows what is usual: ordinary orders,
windows, a restore. `python -m tests.benchmarks.training FOLDER`, with CX_CORE=pure; that core is in FOLDER.
"""

import sys

import matching_engine

PLACED, LIVE, SEED = 40_000, 2_000, 7


def train() -> None:
    """Other orders than any benchmark has."""
    from matching_engine.columns import decoded, encoded
    from matching_engine.engine import Engine
    from tests.benchmarks.engine_streams import CREATE, PlainMarket, WindowMarket, at, full

    plain = Engine(0)
    plain.apply(0, at(0), CREATE)
    for place, command in enumerate(full(PlainMarket(LIVE, SEED).take(PLACED), 1), 1):
        plain.apply(place, at(place), command)
    windows = Engine(0)
    windows.apply(0, at(0), CREATE)
    market = WindowMarket(windows, LIVE, SEED)
    for place, command in enumerate(market.fill_up(), 1):
        windows.apply(place, at(place), command)
    while market.offset < PLACED // 4:
        for place, command in enumerate(market.take(100), market.offset - 100):
            windows.apply(place, at(place), command)
    for engine in (plain, windows):
        Engine.from_state(0, decoded(encoded(engine.state())))


if __name__ == "__main__":
    matching_engine.__path__.insert(0, sys.argv[1])
    train()
