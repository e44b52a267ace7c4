"""A request without a task of its own: it has one answer, whatever goes wrong, and leaves nothing behind."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry

from gateways.api import turns as bounds
from gateways.api.direct import Call, Made
from gateways.api.doors import Doors
from gateways.api.errors import REQUEST, ApiError
from gateways.api.turns import Turn, Turns

ACCOUNT = 1


class Route:
    """Of orders that are placed as soon as anybody asks, and answered as the test says."""

    path = "/v1/bids"

    def __init__(self) -> None:
        self.turns = Turns(100)
        self.doors = Doors(CollectorRegistry(), self.turns, lambda scope: ACCOUNT, access_log=False)
        self.placed: list[Any] = []
        """Who waits for each to be told."""
        self.ids: list[str] = []
        """As their commands would have them."""

    def holder(self, scope: Any, turn: Turn) -> str:
        return "key"

    def admit(self, key: Any, scope: Any) -> None:
        pass

    def wanted(self, body: bytes) -> bytes:
        return body

    def place_soon(self, key: Any, wanted: bytes, told: Any) -> bool:
        self.placed.append(told)
        self.ids.append(REQUEST.get())
        return True


class Asked(Call):
    """A request of a client that reads all it is told."""

    def __init__(self, route: Any, name: str = "") -> None:
        headers = [(b"x-request-id", name.encode())]
        super().__init__(route, {"method": "POST", "path": Route.path, "headers": headers, "state": {}})
        self.statuses: list[int] = []
        self.spawned: list[asyncio.Task[None]] = []

    def answered(self, status: int, head: bytes, content: bytes) -> None:
        self.statuses.append(status)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.spawned.append(asyncio.create_task(work))


async def test_requests_that_waited_for_their_turns_are_placed_under_their_own_ids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "MAX_AT_WORK", 1)
    route = Route()
    for name in ("first", "second", "third"):
        Asked(route, name).begin(b"{}")
    for nth in range(3):
        route.placed[nth](lambda: "order")
        await asyncio.sleep(0.01)
    assert route.ids == ["first", "second", "third"]


async def test_a_request_that_was_told_the_server_closes_places_nothing_at_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "MAX_AT_WORK", 1)
    route = Route()
    first, call = Asked(route), Asked(route)
    first.begin(b"first")
    call.begin(b"second")
    call.cancel()
    await asyncio.sleep(0)
    assert (first.statuses, call.statuses) == ([], [503])
    route.placed[0](lambda: "order")
    await asyncio.sleep(0.01)
    assert (first.statuses, call.statuses) == ([201], [503])
    assert len(route.placed) == 1
    assert (route.turns.under_way, route.turns._at_work) == (0, 0)


async def test_what_was_told_already_is_not_looked_for_any_more() -> None:
    route = Route()
    call = Asked(route)
    call.begin(b"{}")
    call.cancel()
    await asyncio.sleep(0)
    made: list[Made] = []

    async def looked_for() -> Any:
        raise AssertionError("nobody waits")

    def make() -> Any:
        made.append(make)
        return looked_for()

    route.placed[0](make)
    assert (call.statuses, call.spawned, made) == ([503], [], [])


async def test_a_request_that_fails_at_the_door_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(scope: Any) -> Turn:
        raise RuntimeError("nobody expected it")

    route = Route()
    monkeypatch.setattr(route.doors, "enter", broken)
    call = Asked(route)
    call.begin(b"{}")
    assert call.statuses == [500]


async def test_an_answer_that_cannot_be_written_is_an_error() -> None:
    route = Route()
    call = Asked(route)
    call.begin(b"{}")
    route.placed[0](lambda: object())
    assert call.statuses == [500]
    assert (route.turns.under_way, route.turns._at_work) == (0, 0)


async def test_a_refusal_that_is_held_back_is_told_when_the_server_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    route = Route()
    monkeypatch.setattr(bounds, "REFUSED_NS", 60_000_000_000)
    monkeypatch.setattr(bounds, "MAX_HELD_NS", 60_000_000_000)
    call = Asked(route)

    def admit(key: Any, scope: Any) -> None:
        raise ApiError(429, "too_many", "ask less")

    monkeypatch.setattr(route, "admit", admit)
    call.begin(b"{}")
    await asyncio.sleep(0)
    assert call.statuses == []
    for task in call.spawned:
        task.cancel()
    call.cancel()
    await asyncio.gather(*call.spawned, return_exceptions=True)
    assert call.statuses == [429]


async def test_a_log_that_takes_no_more_keeps_no_answer_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(structlog.PrintLogger, "msg", full)
    monkeypatch.setattr(structlog.PrintLogger, "info", full)
    monkeypatch.setattr(structlog.PrintLogger, "error", full)
    route = Route()
    route.doors = Doors(CollectorRegistry(), route.turns, lambda scope: ACCOUNT, access_log=True)
    call, failing = Asked(route), Asked(route)
    for each in (call, failing):
        each.begin(b"{}")

    def fail() -> Any:
        raise RuntimeError("nobody expected it")

    route.placed[0](lambda: "order")
    route.placed[1](fail)
    assert (call.statuses, failing.statuses) == ([201], [500])
    assert (route.turns.under_way, route.turns._at_work) == (0, 0)
