"""Whose request is worked on next."""

import asyncio
import random
from collections import deque
from collections.abc import Iterator

import pytest

from gateways.api.errors import ApiError
from gateways.api.turns import (
    AT_ONCE_NS,
    BESIDE_NS,
    LATELY_NS,
    MAX_AT_WORK,
    MAX_OF_ONE,
    MS,
    REFUSED_NS,
    SLICE_NS,
    TURN_NS,
    US,
    Turn,
    Turns,
)

NOISY, QUIET, THIRD = 1, 2, "203.0.113.7"

Came = list[tuple[Turn, "asyncio.Future[None]"]]


class Clock:
    """Of which a test says what it shows."""

    def __init__(self) -> None:
        self.ns = 10 * LATELY_NS

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["awaited", "called"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test twice: requests await their turns, or are called when they are there."""
    monkeypatch.setitem(WAY, "is_called", request.param == "called")


WAY = {"is_called": False}
only_awaited = pytest.mark.parametrize("way", ["awaited"], indirect=True)


async def coming(turns: Turns, party: int | str, requests: int) -> Came:
    """So many requests: each with what is done when its turn is there."""
    came: Came = []
    for _ in range(requests):
        turn = Turn(turns, turns.enter(party))
        if WAY["is_called"]:
            came.append((turn, called(turn)))
        else:
            came.append((turn, asyncio.create_task(turn.begin())))
    await asyncio.sleep(0)
    return came


def called(turn: Turn) -> "asyncio.Future[None]":
    is_there: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def then(refusal: ApiError | None) -> None:
        if is_there.cancelled():
            return
        if refusal is None:
            is_there.set_result(None)
        else:
            is_there.set_exception(refusal)

    asyncio.get_running_loop().call_soon(turn.begin_soon, then)  # as a task begins
    return is_there


def begun(came: Came) -> list[Turn]:
    return [turn for turn, task in came if task.done() and not task.cancelled()]


def end(turns: Turns, turn: Turn, took: int) -> None:
    """The request is answered, after it held the event loop for so many ns."""
    turn.took(took)
    turn.end()
    turns.leave(turn.party)


async def soon() -> None:
    """What may start has started."""
    for _ in range(5):
        await asyncio.sleep(0)


async def given_up(*came: Came) -> None:
    tasks = [task for each in came for _, task in each]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def cheap(turns: Turns, *parties: int | str) -> None:
    """They are known for requests that cost little."""
    for party in parties:
        for _ in range(60):
            ((turn, _),) = await coming(turns, party, 1)
            end(turns, turn, 50 * US)
    await soon()


async def test_a_request_of_a_quiet_party_starts_at_once_whatever_a_noisy_one_has_waiting() -> None:
    turns = Turns(1_000)
    await cheap(turns, QUIET, NOISY, QUIET)
    noisy = await coming(turns, NOISY, 100)
    quiet = await coming(turns, QUIET, 1)
    assert len(begun(noisy)) < MAX_OF_ONE
    assert len(begun(quiet)) == 1, "though in this turn of the event loop a slice was started"
    await given_up(noisy, quiet)


async def test_who_has_had_more_does_not_start_before_one_that_waits(clock: Clock) -> None:
    turns = Turns(1_000, clock)
    ((costly, _),) = await coming(turns, NOISY, 1)
    end(turns, costly, 50 * MS)
    quiet = await coming(turns, QUIET, 20)
    noisy = await coming(turns, NOISY, 1)
    assert len(begun(quiet)) < 20
    assert not begun(noisy)
    await given_up(noisy, quiet)


async def test_what_a_party_has_had_counts_as_it_is_when_the_next_is_started() -> None:
    turns = Turns(1_000)
    await cheap(turns, NOISY, QUIET)
    noisy, quiet = await coming(turns, NOISY, 100), await coming(turns, QUIET, 100)
    costly = begun(noisy)[0]
    at_work = costly.party.at_work
    end(turns, costly, 50 * MS)  # while it is ready to start more
    await soon()
    assert costly.party.at_work == at_work - 1
    assert len(begun(quiet)) > at_work
    await given_up(noisy, quiet)


async def test_who_comes_after_a_rest_has_no_claim_on_what_it_did_not_want() -> None:
    turns = Turns(1_000)
    await cheap(turns, QUIET, NOISY)
    for _ in range(100):
        ((turn, _),) = await coming(turns, NOISY, 1)
        end(turns, turn, MS)
    quiet, noisy = await coming(turns, QUIET, 100), await coming(turns, NOISY, 100)
    for _ in range(40):
        for turn in begun(noisy) + begun(quiet):
            if turn.at_work_until is not None:
                end(turns, turn, MS)
        await asyncio.sleep(0)
    assert abs(len(begun(noisy)) - len(begun(quiet))) < 15
    await given_up(noisy, quiet)


async def test_a_further_part_goes_before_the_party_s_requests_that_have_not_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateways.api.turns.MAX_AT_WORK", 1)
    turns = Turns(1_000)
    ((batch, _),) = came = await coming(turns, NOISY, 1)
    others, quiet = await coming(turns, NOISY, 5), await coming(turns, QUIET, 1)
    further = asyncio.create_task(batch.again())
    await soon()
    assert (len(begun(quiet)), further.done()) == (1, False), "who has had less comes first"
    begun(quiet)[0].end()
    await soon()
    assert (len(begun(others)), further.done()) == (0, True)
    await given_up(came, others, quiet)


async def test_who_has_had_less_goes_first() -> None:
    turns = Turns(1_000)
    noisy, quiet = await coming(turns, NOISY, 20), await coming(turns, QUIET, 20)
    began: list[int | str] = []
    while waiting := [each for each in noisy + quiet if not each[1].done()]:
        for turn in begun(noisy) + begun(quiet):
            if turn.at_work_until is not None:
                began.append(turn.party.name)
                end(turns, turn, 3 * MS if turn.party.name == NOISY else MS)
        await soon()
        assert len(waiting) > len([each for each in waiting if not each[1].done()]), "somebody's start each time"
    last_of_quiet = max(at for at, name in enumerate(began) if name == QUIET)
    assert began[: last_of_quiet + 1].count(NOISY) in range(5, 14), "a third as many, as each costs three times as much"
    await given_up(noisy, quiet)


async def test_of_one_party_no_more_is_at_work_than_it_may_do_at_once(clock: Clock) -> None:
    turns = Turns(1_000, clock)
    await cheap(turns, NOISY)
    many = await coming(turns, NOISY, 100)
    clock.ns += 2 * LATELY_NS
    many += await coming(turns, NOISY, 1)
    await soon()
    assert len(begun(many)) == MAX_OF_ONE
    for turn in begun(many):
        end(turns, turn, 5 * MS)
    await soon()
    costly = [turn for turn in begun(many) if turn.at_work_until is not None]
    assert len(costly) == 1, "each takes as much as it may have at once"
    await given_up(many)


async def test_of_several_no_more_is_started_in_a_turn_of_the_event_loop_than_a_slice() -> None:
    turns = Turns(1_000)
    await cheap(turns, NOISY, QUIET)
    noisy = await coming(turns, NOISY, 100)
    cost = noisy[0][0].party.cost
    most = -(-SLICE_NS // cost)
    assert len(begun(noisy)) <= most < MAX_OF_ONE
    for _ in range(2 * MAX_OF_ONE):
        before = len(begun(noisy))
        await asyncio.sleep(0)
        assert len(begun(noisy)) - before <= most
    assert len(begun(noisy)) == min(MAX_OF_ONE, AT_ONCE_NS // cost), "nobody else waits: so it has all that it may have"
    await given_up(noisy)


async def test_nor_of_requests_that_end_at_once() -> None:
    turns = Turns(1_000)
    await cheap(turns, NOISY, QUIET)
    ended = 0

    async def refused() -> None:
        nonlocal ended
        turn = Turn(turns, turns.enter(NOISY))
        await turn.begin()
        end(turns, turn, 50 * US)
        ended += 1

    tasks = [asyncio.create_task(refused()) for _ in range(64)]
    for _ in range(64):
        before = ended
        await asyncio.sleep(0)
        assert ended - before <= 2 * SLICE_NS // (100 * US), "what the last turn let start, and what came in this one"
    assert ended == 64
    await asyncio.wait(tasks)


async def test_who_is_alone_has_no_slices(clock: Clock) -> None:
    turns = Turns(1_000, clock)
    await cheap(turns, QUIET, NOISY)
    clock.ns += LATELY_NS
    noisy = await coming(turns, NOISY, 100)
    assert len(begun(noisy)) == MAX_OF_ONE
    await given_up(noisy)


async def test_busy_is_who_floods_and_no_other() -> None:
    turns = Turns(100)
    noisy = await coming(turns, NOISY, 50)
    with pytest.raises(ApiError, match="50 requests of this account are under way") as refused:
        turns.enter(NOISY)
    assert (refused.value.status, refused.value.code, refused.value.headers) == (429, "busy", {"Retry-After": "1"})
    third, fourth = await coming(turns, THIRD, 25), await coming(turns, 4, 24)
    quiet = await coming(turns, QUIET, 2)
    await soon()
    assert len(begun(quiet)) == 2
    assert isinstance(noisy[-1][1].exception(), ApiError), "its newest made room for another's"
    assert not third[-1][1].done()
    await given_up(noisy, third, fourth, quiet)


async def test_a_request_that_waits_for_something_to_happen_has_no_turn(clock: Clock) -> None:
    turns = Turns(1_000, clock)
    slow = await coming(turns, NOISY, 100)
    await soon()
    before = len(begun(slow))
    clock.ns += TURN_NS
    turns.end_slow()
    await soon()
    assert len(begun(slow)) >= 2 * before
    await given_up(slow)


async def test_a_further_part_of_a_request_has_its_own_time(clock: Clock) -> None:
    turns = Turns(1_000, clock)
    ((batch, _),) = came = await coming(turns, NOISY, 1)
    clock.ns += TURN_NS - 1
    await batch.again()
    for later, at_work in ((1, 1), (TURN_NS - 1, 0)):
        clock.ns += later
        turns.end_slow()
        assert batch.party.at_work == at_work
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
    await soon()
    assert not begun(waiting), "so many are at work"
    turn.end()
    await soon()
    assert begun(waiting)
    await given_up(*others, unknown, waiting)


@only_awaited
async def test_a_request_given_up_while_it_waits_leaves_nothing() -> None:
    turns = Turns(1_000)
    noisy = await coming(turns, NOISY, 100)
    await soon()
    at_work = len(begun(noisy))
    await given_up(noisy[at_work + 2 :])
    assert len(noisy[0][0].party.waiting) == 2
    for turn in begun(noisy):
        end(turns, turn, MS)
    await soon()
    last = [turn for turn in begun(noisy[: at_work + 2]) if turn.at_work_until is not None]
    assert len(last) == 2
    for turn in last:
        end(turns, turn, MS)
    party = noisy[0][0].party
    assert (party.at_work, len(party.waiting), party.under_way) == (0, 0, 100 - at_work - 2), "but what never left"


async def test_parties_that_want_nothing_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.api.turns.MAX_PARTIES", 2)
    turns = Turns(1_000)
    first = turns.enter(1)
    second = turns.enter(2)
    turns.leave(second)
    turns.enter(3)
    assert turns.enter(1) is first
    assert turns.enter(2) is not second


async def test_a_party_is_refused_no_more_often_than_every_so_long_and_waits_for_a_bounded_time(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateways.api.turns.MAX_HELD_NS", 4 * REFUSED_NS)
    turns, began = Turns(1_000, clock), clock.ns
    noisy, quiet = [turns.enter(name) for name in (NOISY, QUIET)]
    told = []
    for _ in range(6):
        told.append(asyncio.create_task(turns.hold_back(NOISY)))
        await asyncio.sleep(0)
    assert noisy.refused_at == began + 4 * REFUSED_NS
    assert quiet.refused_at == 0
    assert not any(each.done() for each in told)
    await turns.hold_back(QUIET)
    assert quiet.refused_at == began + REFUSED_NS
    clock.ns += 100 * REFUSED_NS
    await turns.hold_back(NOISY)
    assert noisy.refused_at == began + 101 * REFUSED_NS
    await asyncio.gather(*told)


@only_awaited
async def test_a_request_given_up_just_as_another_takes_its_place_leaves_nothing() -> None:
    turns = Turns(64)
    noisy = await coming(turns, NOISY, 32)
    third = await coming(turns, THIRD, 32)
    last = third[-1][1]
    last.cancel()
    quiet = await coming(turns, QUIET, 1)
    await given_up(noisy, third, quiet)
    assert not turns._by_waiting


@only_awaited
async def test_a_request_given_up_just_as_it_starts_leaves_nothing() -> None:
    turns = Turns(1_000)
    noisy = await coming(turns, NOISY, 100)
    await soon()
    party, waiting = noisy[0][0].party, [task for _, task in noisy if not task.done()]
    at_work = party.at_work
    for turn in begun(noisy):
        turn.end()
    await asyncio.sleep(0)  # the next have their turns, and do not know it yet
    assert party.at_work
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert at_work
    assert party.at_work == 0


async def test_where_nobody_waits_who_comes_to_a_full_gateway_is_refused() -> None:
    turns = Turns(8)
    ((costly, _),) = await coming(turns, NOISY, 1)
    for _ in range(20):  # one after the other: the next waits until the first has ended
        waiting = await coming(turns, NOISY, 2)
        end(turns, costly, 50 * MS)
        await soon()
        first, costly = (turn for turn, _ in waiting)
        end(turns, first, 50 * MS)
        await soon()
    full = [await coming(turns, number, 2) for number in (10, 11, 12)]
    turns.enter(13)
    with pytest.raises(ApiError, match="under way"):
        turns.enter(14)
    await given_up(*full)


async def test_what_a_request_does_after_its_turn_counts_too(clock: Clock) -> None:
    turns = Turns(1_000, clock)
    ((turn, _),) = await coming(turns, NOISY, 1)
    turn.end()
    before = turn.party.had
    turn.took(7 * MS)
    assert turn.party.had == before + 7 * MS


async def test_a_request_of_many_parts_lets_others_go_between_and_is_refused_in_none_of_them(clock: Clock) -> None:
    turns = Turns(4, clock)
    (batch, _), _ = noisy = await coming(turns, NOISY, 2)
    clock.ns += LATELY_NS
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


async def test_what_counts_is_for_how_long_a_request_holds_the_event_loop(clock: Clock) -> None:
    turns = Turns(1_000, clock)
    ((turn, _),) = await coming(turns, NOISY, 1)

    async def work() -> str:
        clock.ns += 2 * MS
        await asyncio.sleep(0)
        clock.ns += MS
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            clock.ns += MS
        return "done"

    async def working() -> str:
        return await turn.working(work())

    task = asyncio.create_task(working())
    await soon()
    clock.ns += 100 * MS  # it waits, and others work
    task.cancel()
    assert await task == "done"
    before, counted = turn.party.had, turn.party.cost
    turn.end()
    assert turn.party.had - before + counted in range(4 * MS, 4 * MS + 100 * US)


UnderWay = tuple[Turn, "asyncio.Task[None]", list[int], "asyncio.Future[int]"]
"""A request, the ns that each of its steps will hold the event loop, and its answer."""


class Simulated:
    """An exchange of one thread that does what has begun, a step of each request in each turn of the event loop, and
    the callers of some parties, each of which sends its next request when the last is answered."""

    def __init__(self, seed: int, costs: dict[int, int], callers: dict[int, int], steps: int) -> None:
        self.clock = Clock()
        self.turns = Turns(sum(callers.values()) * 2 + 2, self.clock)
        self.done: dict[int, int] = dict.fromkeys(costs, 0)
        self.held: dict[int, int] = dict.fromkeys(costs, 0)
        """ns of the event loop."""
        self.idle = 0
        """Turns of the event loop with callers that wait, and nothing at work."""
        self._random = random.Random(seed)
        self._costs = costs
        self._callers = callers
        self._steps = steps
        self._under_way: deque[UnderWay] = deque()

    async def run(self, loops: int) -> None:
        for party, callers in self._callers.items():
            for _ in range(callers):
                self.ask(party)
        for _ in range(loops):
            await self.turn()
        await given_up([each[:2] for each in self._under_way])

    def ask(self, party: int) -> "asyncio.Future[int]":
        """A request of it: when it is answered."""
        cost = round(self._costs[party] * self._random.uniform(0.5, 1.5) / self._steps)
        turn, answer = Turn(self.turns, self.turns.enter(party)), asyncio.get_running_loop().create_future()
        self._under_way.append((turn, asyncio.create_task(turn.begin()), [cost] * self._steps, answer))
        return answer

    async def turn(self) -> None:
        """Of the event loop."""
        await asyncio.sleep(0)
        at_work = list(self.at_work())
        self.idle += not at_work and bool(self._under_way)
        for turn, task, steps, answer in at_work:
            party = turn.party.name
            assert isinstance(party, int)
            took = steps.pop()
            self.clock.ns += took
            turn.took(took)
            self.held[party] += took
            if not steps:
                self.clock.ns += BESIDE_NS
                self.held[party] += BESIDE_NS
                turn.end()
                self.turns.leave(turn.party)
                self.done[party] += 1
                answer.set_result(self.clock.ns)
                self._under_way.remove((turn, task, steps, answer))
                if self._callers.get(party):
                    self.ask(party)

    def at_work(self) -> "Iterator[UnderWay]":
        return (each for each in self._under_way if each[1].done())


@pytest.mark.parametrize("seed", range(5))
async def test_parties_that_want_all_have_equal_shares_of_the_event_loop_whatever_their_requests_cost(
    seed: int,
) -> None:
    costs = {1: 100 * US, 2: 300 * US, 3: 5 * MS, 4: 200 * US}
    callers = {1: 64, 2: 8, 3: 8, 4: 200}
    simulated = Simulated(seed, costs, callers, steps=4)
    await simulated.run(3_000)
    shares = [held / sum(simulated.held.values()) for held in simulated.held.values()]
    assert max(shares) < 1.05 * min(shares), shares
    assert simulated.idle <= 3, "nobody waits while nothing is done"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("cost", [100 * US, 300 * US, 5 * MS])
async def test_a_quiet_party_waits_for_a_bounded_time_whatever_another_sends(seed: int, cost: int) -> None:
    simulated = Simulated(seed, {NOISY: cost, QUIET: 100 * US}, {NOISY: 64}, steps=4)
    asking = asyncio.create_task(simulated.run(4_000))
    await asyncio.sleep(0)
    worst, pauses = 0, random.Random(seed)
    for _ in range(100):
        for _ in range(pauses.randrange(20)):
            await asyncio.sleep(0)
        came = simulated.clock.ns
        worst = max(worst, await simulated.ask(QUIET) - came)
    await asking
    assert simulated.done[NOISY] > 200, "and that has what the quiet one does not want"
    alone = 100 * US * 1.5
    assert worst < alone + 5 * max(AT_ONCE_NS, 1.5 * cost), "of each of its steps no more than the other may do at once"
