"""An engine that goes on from a snapshot goes on as the one that was never stopped: same bytes, same state hash."""

import random
from itertools import pairwise

import pytest

from matching_engine import book, columns
from matching_engine.columns import decoded, encoded
from matching_engine.engine import Engine
from schemas.codec import encode
from schemas.commands import Command
from tests.simulation.streams import PROFILES, stream

COMMANDS = 3_000
CUTS = 100
"""Of one profile in the short leg."""
LONG_CUTS = 1_000


@pytest.mark.parametrize("profile", PROFILES)
def test_from_a_snapshot_on_all_is_the_same(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_and_go_on(profile, 1, CUTS, monkeypatch)


@pytest.mark.long
def test_from_a_thousand_snapshots_on_all_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_and_go_on("mixed", 2, LONG_CUTS, monkeypatch)


def cut_and_go_on(profile: str, seed: int, cuts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is stopped and restored at random positions, each time with chunks of another size; its answers and
    hashes are those of the one that ran through."""
    monkeypatch.setattr(columns, "RUN", 16)
    whole, commands, answers, hashes = Engine(0), list[tuple[int, int, Command]](), list[bytes](), list[bytes]()
    places = sorted(random.Random(seed).sample(range(1, COMMANDS), cuts))
    made = stream(profile, seed, COMMANDS)
    for offset, time, command in made:
        execution = whole.apply(offset, time, command)
        made.note(execution)
        commands.append((offset, time, command))
        answers.append(encode(execution))
        if offset + 1 in places:
            hashes.append(whole.state_hash())
    engine = Engine(0)
    for number, (first, after) in enumerate(pairwise([0, *places, COMMANDS])):
        for offset, time, command in commands[first:after]:
            assert encode(engine.apply(offset, time, command)) == answers[offset], f"{profile}, seed {seed}: {offset}"
        monkeypatch.setattr(book, "CHUNK", 4 + number % 7 * 20)
        monkeypatch.setattr(book, "GROUP", 2 + number % 3)
        if after in places:
            assert engine.state_hash() == hashes[number]
            engine = Engine.from_state(0, decoded(encoded(engine.state())))
            assert engine.state_hash() == hashes[number], f"{profile}, seed {seed}: restored before {after}"
            for restored in engine.books.values():
                restored.check()
    assert engine.state_hash() == whole.state_hash()
