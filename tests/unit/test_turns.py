"""Whose request is worked on next."""

import asyncio

import pytest

from gateways.api.errors import ApiError
from gateways.api.turns import MAX_AT_WORK, MAX_OF_EACH, MAX_OF_ONE, Turn, Turns

NOISY, QUIET, THIRD = 1, 2, "203.0.113.7"


async def coming(turns: Turns, party: int | str, requests: int) -> list[tuple[Turn, "asyncio.Task[None]"]]:
    """So many requests: each with the task that ends when its turn is there."""
    came = []
    for _ in range(requests):
        turn = Turn(turns, turns.enter(party))
        came.append((turn, asyncio.create_task(turn.begin())))
    await asyncio.sleep(0)
    return came


def begun(came: list[tuple[Turn, "asyncio.Task[None]"]]) -> list[Turn]:
    return [turn for turn, task in came if task.done()]


async def soon() -> None:
    """What has ended counts as ended, and who waited for it goes on."""
    for _ in range(3):
        await asyncio.sleep(0)


async def given_up(*came: list[tuple[Turn, "asyncio.Task[None]"]]) -> None:
    tasks = [task for each in came for _, task in each]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_request_of_a_quiet_party_starts_before_all_that_a_noisy_one_has_waiting() -> None:
    turns = Turns(1_000)
    noisy = await coming(turns, NOISY, 100)
    assert len(begun(noisy)) == MAX_OF_ONE
    quiet = await coming(turns, QUIET, 1)
    assert len(begun(quiet)) == 1
    begun(noisy)[0].end()
    await soon()
    assert len(begun(noisy)) == MAX_OF_ONE, "while two want something each has few at work"
    await given_up(noisy, quiet)


async def test_who_has_had_less_goes_first_and_the_other_starts_nothing_meanwhile() -> None:
    turns = Turns(1_000)
    quiet, noisy = await coming(turns, QUIET, 1), await coming(turns, NOISY, 10)
    begun(quiet)[0].end()
    await asyncio.sleep(0.11)  # the noisy one has its requests at work all the while
    quiet = await coming(turns, QUIET, 2 * MAX_OF_EACH)
    started = len(begun(noisy))
    for turn in begun(noisy):
        turn.end()
    await soon()
    assert len(begun(noisy)) == started
    assert len(begun(quiet)) == MAX_OF_EACH
    for _ in range(2):
        for turn in begun(quiet):
            turn.end()
        await soon()
    assert len(begun(quiet)) == 2 * MAX_OF_EACH
    assert len(begun(noisy)) == started + MAX_OF_EACH
    await given_up(noisy, quiet)


async def test_busy_is_who_floods_and_no_other() -> None:
    turns = Turns(100)
    noisy = await coming(turns, NOISY, 50)
    with pytest.raises(ApiError, match="50 requests of this account are under way") as refused:
        turns.enter(NOISY)
    assert (refused.value.status, refused.value.code, refused.value.headers) == (429, "busy", {"Retry-After": "1"})
    third = await coming(turns, THIRD, 49)
    quiet = await coming(turns, QUIET, 2)
    assert len(begun(quiet)) == 2
    assert isinstance(noisy[-1][1].exception(), ApiError), "its newest made room for another's"
    assert not third[-1][1].done()
    await given_up(noisy, third, quiet)


async def test_a_request_that_waits_for_something_to_happen_has_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.api.turns.TURN_S", 0.01)
    turns = Turns(1_000)
    slow = await coming(turns, NOISY, MAX_OF_ONE + 1)
    assert len(begun(slow)) == MAX_OF_ONE
    await asyncio.wait([task for _, task in slow])
    await given_up(slow)


async def test_a_further_part_of_a_request_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.api.turns.TURN_S", 0.02)
    turns = Turns(1_000)
    ((batch, _),) = came = await coming(turns, NOISY, 1)
    monkeypatch.setattr("gateways.api.turns.TURN_S", 60)
    await batch.again()
    await asyncio.sleep(0.05)
    assert batch.party.at_work == 1, "the time of its first part is over, and not that of the second"
    await given_up(came)


async def test_whose_a_request_is_may_turn_out_later() -> None:
    turns = Turns(1_000)
    others = [await coming(turns, number, 1) for number in range(10, 10 + MAX_AT_WORK - 1)]
    ((turn, _),) = unknown = await coming(turns, THIRD, 1)
    before = turn.party
    moving = asyncio.create_task(turn.of(NOISY))
    await soon()
    assert moving.done()
    assert turn.party.name == NOISY
    assert (before.under_way, before.at_work, turn.party.under_way, turn.party.at_work) == (0, 0, 1, 1)
    waiting = await coming(turns, QUIET, 1)
    assert not begun(waiting), "so many are at work"
    turn.end()
    await soon()
    assert begun(waiting)
    await given_up(*others, unknown, waiting)


async def test_a_request_given_up_while_it_waits_leaves_nothing() -> None:
    turns = Turns(1_000)
    noisy = await coming(turns, NOISY, MAX_OF_ONE + 2)
    await given_up(noisy[-1:])
    begun(noisy[:-1])[0].end()
    await soon()
    assert noisy[-2][1].done()
    assert not noisy[-2][1].cancelled()
    for turn in begun(noisy[:-1]):
        turn.end()
        turns.leave(turn.party)
    await soon()
    assert (turn.party.at_work, turn.party.under_way, len(turn.party.waiting)) == (0, 1, 0)


async def test_parties_that_want_nothing_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.api.turns.MAX_PARTIES", 2)
    turns = Turns(1_000)
    first = turns.enter(1)
    turns.leave(turns.enter(2))
    turns.enter(3)
    assert turns.enter(1) is first


async def test_a_request_of_many_parts_lets_others_go_between_and_is_refused_in_none_of_them() -> None:
    turns = Turns(4)
    (batch, _), _ = noisy = await coming(turns, NOISY, 2)
    assert await batch.again(), "it is alone"
    quiet = await coming(turns, QUIET, 2)
    further = asyncio.create_task(batch.again())
    await asyncio.sleep(0)
    with pytest.raises(ApiError):
        turns.enter(THIRD)
    for turn in begun(quiet):
        turn.end()
    assert not await further, "others want something, too"
    await given_up(noisy, quiet)


async def test_in_one_turn_of_the_event_loop_no_more_is_done_than_may_be_at_work_at_once() -> None:
    turns = Turns(1_000)
    quiet, noisy = await coming(turns, QUIET, 1), await coming(turns, NOISY, MAX_OF_EACH)
    for turn in begun(noisy):
        turn.end()
    further = Turn(turns, turns.enter(NOISY)).begin()
    further.send(None)  # it waits: StopIteration would be raised had it begun
    further.close()
    await given_up(quiet, noisy)
