"""The engine answers random streams as the model does, and what must always hold holds after every command.

By hand as many as one likes: `SIMULATION_SEED=7 SIMULATION_COUNT=1000000 pytest --timeout 0 tests/simulation`. Of a
difference, `python -m tests.simulation.reduce PROFILE SEED` prints the fewest commands that show it.
"""

import itertools
import os
from collections import Counter

import pytest

from matching_engine import book
from matching_engine.asks import for_sale
from matching_engine.engine import Engine
from schemas.codec import decode_command, decode_execution, encode
from schemas.commands import Command, HaltMode
from schemas.events import Duplicate, Event, Execution, Rejected
from schemas.refusals import sentence
from tests.simulation.model import Model
from tests.simulation.streams import PROFILES, stream

SMALL = 30
"""Orders: on books up to this the invariants are checked by brute force after every command."""
SELDOM = 1_000
"""On larger books after every so many commands."""
SEED = int(os.environ.get("SIMULATION_SEED", "1"))
COUNT = int(os.environ.get("SIMULATION_COUNT", "3000"))
LONG_SEEDS = range(2, 7)
LONG_COUNT = 300_000
"""Commands of the long leg, over all profiles, seeds and sizes of chunks."""
BUSY: dict[str, dict[str, float]] = {
    "attributes": {"Fill": 4},
    "amends": {"Fill": 8, "Amended": 10},
    "halts": {"Fill": 3, "HaltChanged": 2, "DeadManChanged": 0.8, "KillChanged": 0.6, "ReferenceChanged": 1},
    "returns": {"Fill": 12, "Returned": 3, "Withdrawn": 1, "Extension": 0.5},
    "mixed": {"Fill": 2, "Amended": 3, "Returned": 1, "Extension": 0.2},
}
"""Events of each kind that a hundred commands of a profile must at least give; else it tests little."""


@pytest.fixture(autouse=True, params=[4, book.CHUNK], ids=["small chunks", "chunks"])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small books have one chunk a side: with chunks of four orders, their bounds and splits are tried as well."""
    monkeypatch.setattr(book, "CHUNK", request.param)
    monkeypatch.setattr(book, "GROUP", request.param // 2)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_engine_answers_as_the_model(profile: str) -> None:
    compare(profile, SEED, COUNT)


@pytest.mark.long
@pytest.mark.parametrize("seed", LONG_SEEDS)
@pytest.mark.parametrize("profile", PROFILES)
def test_the_engine_answers_as_the_model_for_long(profile: str, seed: int) -> None:
    compare(profile, seed, LONG_COUNT // (2 * len(PROFILES) * len(LONG_SEEDS)))


def compare(profile: str, seed: int, count: int) -> None:
    """Everything needed to see it again is in the message of a failure: profile, seed, offset."""
    pair, commands = Pair(), stream(profile, seed, count)
    kinds: Counter[str] = Counter()
    for offset, time, command in commands:
        where = f"profile {profile}, seed {seed}, offset {offset}: {command}"
        execution = pair.apply(offset, time, command, where)
        commands.note(execution)
        kinds.update(type(event).__name__ for event in execution.events)
    for kind, least in BUSY.get(profile, {"Fill": 10}).items():
        assert kinds[kind] >= least * (count // 100), f"profile {profile}, seed {seed} has few {kind}: {kinds}"


class Pair:
    """The engine and the model beside it."""

    def __init__(self) -> None:
        self.engine, self.model = Engine(0), Model()
        self._previous = -1

    def apply(self, offset: int, time: int, command: Command, where: str) -> Execution:
        """The engine's answer. Raises AssertionError, which says `where`, if the model's is another."""
        engine, model = self.engine, self.model
        before = engine.state().books if offset % 10 == 0 and engine.now >= time else None
        execution = engine.apply(offset, time, decode_command(encode(command)))
        assert execution is not None, where
        expected = model.apply(offset, time, command)
        answered = [plain(event, model) for event in execution.events]
        assert answered == expected, f"{where}\nengine: {execution.events}\nmodel: {expected}, {sorted(model.reasons)}"
        assert (execution.position, execution.prev, execution.time) == (offset, self._previous, model.now), where
        assert decode_execution(encode(execution)) == execution, where
        self._previous = offset
        if offset % SELDOM == 0 or len(model.asks) + len(model.bids) <= SMALL:
            assert_invariants(engine, model, where)
        if before is not None and isinstance(execution.events[-1], Rejected | Duplicate):
            assert engine.state().books == before, where
        return execution


def plain(event: Event, model: Model) -> Event:
    """The event as the model gives it: of several reasons to refuse the engine may name any, in a sentence."""
    if not isinstance(event, Rejected):
        return event
    assert "{" not in sentence(event.code, event.args)
    code = min(model.reasons) if event.code in model.reasons else event.code
    return Rejected(event.account, event.client_order_id, code)


def assert_invariants(engine: Engine, model: Model, where: str) -> None:
    trading = [pair for pair in model.tradable() if model.halted(pair[0].order.class_id) is HaltMode.NONE]
    assert not trading, f"a pair can trade after {where}"
    asks = {ask.id: ask for book in engine.books.values() for ask in book.asks()}
    bids = {bid.id: bid for book in engine.books.values() for bid in book.bids()}
    assert {ask.id: ask.place for ask in asks.values()} == {ask.id: ask.place for ask in model.asks}, where
    assert {bid.id: (bid.place, bid.left) for bid in bids.values()} == {
        bid.id: (bid.place, bid.left) for bid in model.bids
    }, where
    for ask in model.asks:
        moments = sorted({ask.start, ask.order.end, *(m for start, end, _ in ask.sales for m in (start, end))})
        for moment, after in itertools.pairwise(moments):
            assert for_sale(asks[ask.id], moment, after) == ask.unsold_at(moment), where
        assert for_sale(asks[ask.id], moments[0], moments[-1]) == ask.unsold(moments[0], moments[-1]), where
    for traded in engine.books.values():
        traded.check()
        in_line = [(ask.price, ask.place) for ask in traded.asks()]
        assert in_line == sorted(in_line), where
        in_line = [(-bid.price, bid.place) for bid in traded.bids()]
        assert in_line == sorted(in_line), where
