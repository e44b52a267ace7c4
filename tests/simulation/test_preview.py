"""A preview says what then happens, and changes nothing: over all random streams."""

import pytest

from matching_engine import book
from matching_engine.engine import Engine
from schemas.commands import PlaceAsk, PlaceBid
from schemas.events import Cancelled, Duplicate, Event, Fill, Rejected
from schemas.refusals import Refusal
from schemas.units import MAX_TIME_MS
from tests.simulation.streams import PROFILES, stream

COUNT = 4_000
OF_THE_NAME = {Refusal.STALE, Refusal.CLIENT_ORDER_ID_INVALID, Refusal.UNKNOWN_ACCOUNT}
"""Refusals that a preview does not know of: it has no name yet, and no time limit."""


@pytest.mark.parametrize("chunk", [4, book.CHUNK])
@pytest.mark.parametrize("profile", PROFILES)
def test_a_preview_is_what_then_happens(profile: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "CHUNK", chunk)
    monkeypatch.setattr(book, "GROUP", chunk // 2)
    engine, commands = Engine(0), stream(profile, 11, COUNT)
    foreseen = fills = 0
    for offset, time, command in commands:
        expected: tuple[Event, ...] | None = None
        if isinstance(command, PlaceAsk | PlaceBid) and time <= engine.now and command.not_after <= MAX_TIME_MS:
            before = engine.state_hash() if offset % 5 == 0 else None
            expected = engine.preview(command).events
            assert engine.preview(command).events == expected, "a second time it is the same"
            if before is not None:
                assert engine.state_hash() == before, "a preview changed something"
                for each in engine.books.values():
                    each.check()
        execution = engine.apply(offset, time, command)
        commands.note(execution)
        if expected is not None and not any(
            isinstance(event, Duplicate) or (isinstance(event, Rejected) and event.code in OF_THE_NAME)
            for event in execution.events
        ):
            assert execution.events == expected, f"profile {profile}, offset {offset}: {command}"
            foreseen += 1
            fills += sum(isinstance(event, Fill | Cancelled) for event in expected)
    assert foreseen > COUNT // 20, f"only {foreseen} orders were foreseen"
    assert fills > foreseen // 10, f"only {fills} fills were foreseen"
