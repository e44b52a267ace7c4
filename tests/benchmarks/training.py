"""What `make core` runs on a core that counts what it does, so that the compiler knows what is usual: ordinary orders,
windows, a restore. `python -m tests.benchmarks.training FOLDER`, with CX_CORE=pure; that core is in FOLDER.
"""

import sys
from collections.abc import Iterable
from itertools import islice

import matching_engine
from schemas.commands import Command

PLACED, LIVE, SEED = 40_000, 2_000, 7


def train() -> None:
    """Other orders than any benchmark has."""
    from matching_engine.ahead import AT_ONCE
    from matching_engine.columns import decoded, encoded
    from matching_engine.engine import Engine
    from tests.benchmarks.engine_streams import CREATE, PlainMarket, WindowMarket, at, full

    def apply(engine: Engine, commands: Iterable[Command], offset: int) -> None:
        records = enumerate(commands, offset)
        while some := list(islice(records, AT_ONCE)):
            engine.expect([command for _, command in some])
            for place, command in some:
                engine.apply(place, at(place), command)

    plain, windows = Engine(0), Engine(0)
    apply(plain, [CREATE, *full(PlainMarket(LIVE, SEED).take(PLACED), 1)], 0)
    market = WindowMarket(windows, LIVE, SEED)
    apply(windows, [CREATE, *market.fill_up()], 0)
    while market.offset < PLACED // 4:
        offset = market.offset
        apply(windows, market.take(100), offset)
    for engine in (plain, windows):
        Engine.from_state(0, decoded(encoded(engine.state())))


if __name__ == "__main__":
    matching_engine.__path__.insert(0, sys.argv[1])
    train()
