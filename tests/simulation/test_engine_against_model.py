"""The engine answers random streams as the model does, and what must always hold holds after every command."""

import hashlib
import itertools
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from matching_engine.engine import Engine
from schemas.codec import decode_command, decode_execution, encode
from schemas.events import Duplicate, Event, Rejected
from schemas.refusals import sentence
from tests.simulation.model import Model
from tests.simulation.streams import PROFILES, stream

ROOT = Path(__file__).parents[2]
SMALL = 30
"""Orders: on books up to this the invariants are checked by brute force after every command, else every tenth."""
SEED = int(os.environ.get("SIMULATION_SEED", "1"))


@pytest.mark.parametrize("profile", PROFILES)
def test_the_engine_answers_as_the_model(profile: str) -> None:
    compare(profile, SEED, 4_000)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 7))
@pytest.mark.parametrize("profile", PROFILES)
def test_the_engine_answers_as_the_model_for_long(profile: str, seed: int) -> None:
    compare(profile, seed, 100_000 // (5 * len(PROFILES)))


def compare(profile: str, seed: int, count: int) -> None:
    """Everything needed to see it again is in the message of a failure: profile, seed, offset."""
    engine, model = Engine(0), Model()
    kinds: Counter[str] = Counter()
    for offset, time, command in stream(profile, seed, count):
        before = engine.state()["books"] if offset % 10 == 0 and engine.now >= time else None
        execution = engine.apply(offset, time, decode_command(encode(command)))
        where = f"profile {profile}, seed {seed}, offset {offset}: {command}"
        expected = model.apply(offset, time, command)
        assert [plain(event, model) for event in execution.events] == expected, where
        assert (execution.position, execution.prev, execution.time) == (offset, offset - 1, model.now), where
        assert decode_execution(encode(execution)) == execution, where
        if offset % 10 == 0 or len(model.asks) + len(model.bids) <= SMALL:
            assert_invariants(engine, model, where)
        if before is not None and isinstance(execution.events[-1], Rejected | Duplicate):
            assert engine.state()["books"] == before, where
        kinds.update(type(event).__name__ for event in execution.events)
    assert kinds["Fill"] > count // 30, f"profile {profile}, seed {seed} hardly trades: {kinds}"


def plain(event: Event, model: Model) -> Event:
    """The event as the model gives it: of several reasons to refuse an order the engine may name any, in a sentence."""
    if not isinstance(event, Rejected):
        return event
    assert "{" not in sentence(event.code, event.args)
    code = min(model.reasons) if event.code in model.reasons else event.code
    return Rejected(event.account, event.client_order_id, code)


def assert_invariants(engine: Engine, model: Model, where: str) -> None:
    assert not list(model.tradable()), f"a pair can trade after {where}"
    asks = {ask.id: ask for book in engine.books.values() for ask in book.asks()}
    bids = {bid.id: bid for book in engine.books.values() for bid in book.bids()}
    assert set(asks) == {ask.id for ask in model.asks}, where
    assert {bid.id: bid.left for bid in bids.values()} == {bid.id: bid.left for bid in model.bids}, where
    for ask in model.asks:
        moments = sorted({ask.start, ask.order.end, *(m for start, end, _ in ask.sales for m in (start, end))})
        for moment, after in itertools.pairwise(moments):
            assert asks[ask.id].unsold(moment, after) == ask.unsold_at(moment), where
        assert asks[ask.id].unsold(moments[0], moments[-1]) == ask.unsold(moments[0], moments[-1]), where
    for book in engine.books.values():
        assert [ask.id for ask in book.asks()] == sorted(
            (ask.id for ask in book.asks()), key=lambda ask_id: (asks[ask_id].price, ask_id)
        ), where


def test_every_hash_seed_gives_the_same_answers_and_state() -> None:
    program = "from tests.simulation.test_engine_against_model import digest; print(digest())"
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(digests) == 1


def digest() -> str:
    """Of all answers to a mixed stream and of the state after it."""
    engine = Engine(3)
    answers = hashlib.blake2b()
    for offset, time, command in stream("mixed", SEED, 3_000):
        answers.update(encode(engine.apply(offset, time, command)))
    return f"{answers.hexdigest()} {engine.state_hash().hex()}"
