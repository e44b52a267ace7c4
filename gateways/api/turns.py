"""Whose request is worked on next: the parties take turns, so that one that floods waits for itself alone.

A party is an account, however many keys and connections it has; or an address, as long as nobody knows whose the
request is. Of those with requests that wait, who has had least goes first (start-time fair queueing: Goyal, Vin, Cheng,
1996). What counts is for how long requests hold the event loop, measured step by step: so each costs what it costs.

Nobody waits while nobody else does, but for two bounds. In one turn of the event loop requests are started that will
take SLICE_NS, so that it comes round soon; and of one party so many are at work that what they still have to do, should
all of them come to it in one turn, takes AT_ONCE_NS.
"""

import asyncio
import time
import types
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Any, Protocol, TypeVar

from gateways.api.errors import ApiError

Outcome = TypeVar("Outcome")
Value = TypeVar("Value")
Shown = TypeVar("Shown")
Place = TypeVar("Place")
Name = int | str
"""An account's id, or an address."""
US = 1_000
MS = 1_000_000

MAX_AT_WORK = 256
"""Requests at work at once, of all."""
MAX_OF_ONE = 32
"""Of one party: more would add nothing to what one process does."""
AT_ONCE_NS = 4 * MS
SLICE_NS = 500 * US
LATELY_NS = 3_000 * MS
"""A party that came within so long is one of several; who is alone has no slices."""
BESIDE_NS = 50 * US
"""What a request costs beside what is measured: it is read, and its answer is sent."""
USUAL_NS = 500 * US
"""What a request is taken to cost of whom nothing is known yet."""
SMOOTHING = 8
"""What a party's requests cost is known from so many of the last, about."""
TURN_NS = 250 * MS
"""A request that takes longer waits for something, and counts no more."""
REFUSED_NS = 5 * MS
"""Of one party a request is refused at the door every so long: who asks again at once costs others nothing."""
MAX_HELD_NS = 2_000 * MS
"""For so long at most."""
LISTED_AT_ONCE = 20
"""Of a list: a part of a ms."""
MAX_PARTIES = 10_000
"""From here on those are forgotten that want nothing."""
TURN = "turn"
"""In the state of an ASGI scope: the request's."""


class Waiting(Protocol):
    """What waits for a turn: a future that somebody awaits, or what is to be done then."""

    def done(self) -> bool: ...

    def set_result(self, expected: int, /) -> None: ...

    def set_exception(self, error: ApiError, /) -> None: ...


Line = deque[Waiting]


class Party:
    """What it has under way here."""

    __slots__ = (
        "at_work",
        "begun",
        "cost",
        "had",
        "is_ready",
        "name",
        "refused_at",
        "started_in",
        "under_way",
        "waiting",
    )

    def __init__(self, name: Name, had: int) -> None:
        self.name = name
        self.had = had
        """ns, where it had less than others before it came: what they had then."""
        self.cost = USUAL_NS
        """ns that a request of it takes."""
        self.under_way = 0
        """Requests, those too that wait for something to happen."""
        self.at_work = 0
        self.refused_at = 0
        """ns: when it is told that the last of its requests is refused."""
        self.started_in = -1
        """The turn of the event loop in which one last started."""
        self.is_ready = False
        """It is among those of whom one is started next."""
        self.waiting: Line = deque()
        """Requests that wait for their turn, the first in front."""
        self.begun: Line = deque()
        """Those of which a part is done: they come before, and are not refused any more."""

    @property
    def has_room(self) -> bool:
        """Whether a further request may be at work."""
        return not self.at_work or (self.at_work < MAX_OF_ONE and (self.at_work + 1) * self.cost <= AT_ONCE_NS)


class Turn:
    """Of one request."""

    __slots__ = ("_expected", "_taken", "_turns", "at_work_until", "party")

    def __init__(self, turns: "Turns", party: Party) -> None:
        self._turns = turns
        self._expected = 0
        self._taken = 0
        self.at_work_until: int | None = None
        """In ns; None: it is not at work."""
        self.party = party

    async def begin(self) -> None:
        """Returns once it is there. Raises ApiError 429 where another's request was to wait in place of this one."""
        await self._begin(self.party.waiting)

    def begin_soon(self, then: Callable[[ApiError | None], None]) -> None:
        """Likewise: `then` is called once it is there, at once where nobody is to wait, or with the refusal."""
        party = self.party
        expected = self._turns.starts(party, party.waiting)
        if expected:
            self._begun(expected)
            then(None)
        else:
            self._turns.wait_for(party, party.waiting, _Then(self, then))

    @types.coroutine
    def working(self, work: Awaitable[Outcome]) -> Generator[Any, Any, Outcome]:
        """Does it, and measures for how long it holds the event loop."""
        steps: Any = work.__await__()
        now, step = self._turns.now, steps.__next__
        while True:
            began = now()
            try:
                waits_for = step()
            except StopIteration as done:
                outcome: Outcome = done.value
                return outcome
            finally:
                self.took(now() - began)
            try:
                yield waits_for
                step = steps.__next__
            except BaseException as error:
                step = partial(steps.throw, error)

    def now(self) -> int:
        """In ns."""
        return self._turns.now()

    def took(self, spent: int) -> None:
        """It held the event loop for so many ns."""
        if self.at_work_until is None:
            self.party.had += spent
        else:
            self._taken += spent

    def end(self) -> None:
        """The request waits for something to happen now, or is done. Once more changes nothing."""
        if self.at_work_until is not None:
            self.at_work_until = None
            self._turns.unwatch(self)
            self._turns.end(self.party, self._expected, self._taken + BESIDE_NS)

    async def of(self, name: Name) -> None:
        """It turned out whose request it is. Raises ApiError 429."""
        if self.party.name != name:
            party = self._turns.enter(name)
            self.end()
            self._turns.leave(self.party)
            self.party = party
            await self.begin()

    async def again(self) -> bool:
        """Returns when a further part of a request that is like many may be done: who has had less goes first. Whether
        no other party wants anything, so that the part may be large."""
        self.end()
        await self._begin(self.party.begun)
        return self.is_alone

    @property
    def is_alone(self) -> bool:
        """Whether no other party has come lately."""
        return self._turns.is_alone(self.party)

    async def _begin(self, line: Line) -> None:
        self._begun(self._turns.starts(self.party, line) or await self._turns.wait(self.party, line))

    def _begun(self, expected: int) -> None:
        self._expected = expected
        self._taken = 0
        self._turns.watch(self)


class _Then:
    """What is to be done at a request's turn."""

    __slots__ = ("_then", "_turn")

    def __init__(self, turn: Turn, then: Callable[[ApiError | None], None]) -> None:
        self._turn = turn
        self._then = then

    def done(self) -> bool:
        return False

    def set_result(self, expected: int, /) -> None:
        self._turn._begun(expected)
        self._then(None)

    def set_exception(self, error: ApiError, /) -> None:
        asyncio.get_running_loop().call_soon(self._then, error)


class Turns:
    """Of all requests of this process. `max_under_way` at once, of which half of one party. `now` is a clock in ns."""

    def __init__(self, max_under_way: int, now: Callable[[], int] = time.monotonic_ns) -> None:
        self.now = now
        self._max_under_way = max_under_way
        self.under_way = 0
        """Requests that have no answer yet."""
        self._at_work = 0
        self._parties: dict[Name, Party] = {}
        self._ready: list[tuple[int, int, Party]] = []
        """A heap of those with requests that wait and may start, by what each has had."""
        self._numbers = count()
        self._clock = 0
        """What who had least had when it last started: who comes begins there."""
        self._started_ns = 0
        """What will take what was started in this turn of the event loop."""
        self._number = 0
        """Of this turn of the event loop, among those in which anything started or may."""
        self._is_going_on = False
        """More is started in the next turn of the event loop, if there is any."""
        self._watched: dict[Turn, None] = {}
        """Requests at work, who is so for longest in front."""
        self._is_watching = False
        """Somebody looks at them when the first may be at work for too long."""
        self._newest: Party | None = None
        """Who came last, and when before that another came."""
        self._another_at = -LATELY_NS
        self._newest_at = -LATELY_NS
        self._by_waiting: dict[int, dict[Party, None]] = {}
        """Parties by how many of their requests wait, none left out that has any."""
        self._most_waiting = 0

    def enter(self, name: Name) -> Party:
        """A request came. Raises ApiError 429 where too many are under way: to who has most."""
        party = self._party(name)
        if party.under_way >= self._max_under_way // 2:
            raise _busy(party)
        if self.under_way >= self._max_under_way:
            if self._most_waiting <= len(party.waiting) + 1:
                raise _busy(party)
            most = next(iter(self._by_waiting[self._most_waiting]))
            last = most.waiting.pop()
            self._rank(most, -1)
            if not last.done():  # else it was given up
                last.set_exception(_busy(most))
        party.under_way += 1
        self.under_way += 1
        return party

    def _party(self, name: Name) -> Party:
        party = self._parties.get(name)
        if party is None:
            party = self._parties[name] = Party(name, self._clock)
            if len(self._parties) > MAX_PARTIES:
                self._parties = {each.name: each for each in self._parties.values() if each.under_way} | {name: party}
        return party

    async def hold_back(self, name: Name) -> None:
        """Returns when the party may be told that a request of it is refused. What waits here is under way no more:
        there is one for each connection at most."""
        party, now = self._party(name), self.now()
        party.refused_at = min(max(party.refused_at, now) + REFUSED_NS, now + MAX_HELD_NS)
        await asyncio.sleep((party.refused_at - now) / 1e9)

    def leave(self, party: Party) -> None:
        """The request has its answer."""
        party.under_way -= 1
        self.under_way -= 1

    def is_alone(self, party: Party) -> bool:
        """Whether no other has come lately."""
        return party is self._newest and self.now() - self._another_at >= LATELY_NS

    def starts(self, party: Party, line: Line) -> int:
        """What is counted for the party's request that comes to the end of that line: it is at work at once. 0: it is
        to wait."""
        self._came(party)
        if line or self._at_work >= MAX_AT_WORK or (self._ready and self._ready[0][0] < party.had):
            return 0
        # Who has nothing at work, and started nothing in this turn of the event loop, waits for no other: such are no
        # more than there are parties. What ends at once, as a refusal does, is never found at work.
        if (party.at_work or party.started_in == self._number) and not (party.has_room and self._has_time(party)):
            return 0
        return self._start(party)

    async def wait(self, party: Party, line: Line) -> int:
        """Until that request is at work: what is counted for it. Raises ApiError 429."""
        turn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.wait_for(party, line, turn)
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.end(party, turn.result(), 0)  # it came just as the request was given up
            elif turn in line:
                line.remove(turn)
                if line is party.waiting:
                    self._rank(party, -1)
            raise

    def wait_for(self, party: Party, line: Line, turn: Waiting) -> None:
        """It hears what is counted for that request once it is at work, or the refusal."""
        line.append(turn)
        if line is party.waiting:
            self._rank(party, 1)
        self._make_ready(party)

    def watch(self, turn: Turn) -> None:
        """The request is at work, for TURN_NS at most: by one timer for all, which costs less than one for each."""
        turn.at_work_until = self.now() + TURN_NS
        self._watched[turn] = None
        if not self._is_watching:
            self._is_watching = True
            asyncio.get_running_loop().call_later(TURN_NS / 1e9, self.end_slow)

    def unwatch(self, turn: Turn) -> None:
        """It is at work no more."""
        del self._watched[turn]

    def end_slow(self) -> None:
        """Those count no more that have been at work for too long."""
        now = self.now()
        while self._watched:
            turn = next(iter(self._watched))
            assert turn.at_work_until is not None, "it is at work"
            if turn.at_work_until > now:
                asyncio.get_running_loop().call_later((turn.at_work_until - now) / 1e9, self.end_slow)
                return
            turn.end()
        self._is_watching = False

    def end(self, party: Party, expected: int, taken: int) -> None:
        """One of the party's requests is at work no more; how many ns were counted for it, and how many it took."""
        party.at_work -= 1
        self._at_work -= 1
        party.had += taken - expected
        party.cost = max(1, party.cost + (taken - party.cost) // SMOOTHING)
        self._make_ready(party)
        if self._ready:
            self._go_on()

    def _came(self, party: Party) -> None:
        if not (party.at_work or party.begun or party.waiting):
            party.had = max(party.had, self._clock)
        now = self.now()
        if party is not self._newest:
            self._newest, self._another_at = party, self._newest_at
        self._newest_at = now

    def _has_time(self, party: Party) -> bool:
        """Whether more may start in this turn of the event loop."""
        return self._started_ns < SLICE_NS or self.is_alone(party)

    def _make_ready(self, party: Party) -> None:
        if not party.is_ready and (party.begun or party.waiting) and party.has_room:
            party.is_ready = True
            heappush(self._ready, (party.had, next(self._numbers), party))
            self._go_on()

    def _start(self, party: Party) -> int:
        self._clock = max(self._clock, party.had)
        party.had += party.cost
        party.at_work += 1
        self._at_work += 1
        self._started_ns += party.cost
        party.started_in = self._number
        self._go_on()
        return party.cost

    def _go_on(self) -> None:
        if not self._is_going_on:
            self._is_going_on = True
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        """Of the event loop: starts those that have had least."""
        self._is_going_on = False
        self._number += 1
        self._started_ns = 0
        while self._ready and self._at_work < MAX_AT_WORK and self._has_time(self._ready[0][2]):
            had, _, party = heappop(self._ready)
            party.is_ready = False
            if had == party.had:
                self._start_first(party)
            self._make_ready(party)  # with further requests; or it has had another time than it was ready with

    def _start_first(self, party: Party) -> None:
        line = party.begun or party.waiting
        while line and party.has_room:
            turn = line.popleft()
            if line is party.waiting:
                self._rank(party, -1)
            if not turn.done():  # else it was given up
                turn.set_result(self._start(party))
                return

    def _rank(self, party: Party, change: int) -> None:
        """One more of its requests waits, or one less."""
        now = len(party.waiting)
        before = self._by_waiting.get(now - change)
        if before is not None:
            before.pop(party, None)
            if not before:
                del self._by_waiting[now - change]
        if now:
            self._by_waiting.setdefault(now, {})[party] = None
        if now > self._most_waiting or self._most_waiting not in self._by_waiting:
            self._most_waiting = now


async def listed(
    fetch: Callable[[Place | None, int], Awaitable[Sequence[Value]]],
    place: Callable[[Value], Place],
    show: Callable[[Value], Shown],
    after: Place | None,
    limit: int,
    turn: Turn,
) -> tuple[list[Shown], Place | None]:
    """A page of a list, behind `after`, and where the next one goes on if there is any. While others want something
    too it is fetched part by part: to wait for each leaves the event loop to them between."""
    items: list[Shown] = []
    while len(items) < limit:
        wanted = min(limit if turn.is_alone else LISTED_AT_ONCE, limit - len(items))
        found = await fetch(after, wanted)
        items += map(show, found)
        if len(found) < wanted:
            return items, None
        after = place(found[-1])
    return items, after


def _busy(party: Party) -> ApiError:
    whose = "of this account" if isinstance(party.name, int) else f"from {party.name}"
    message = f"{party.under_way} requests {whose} are under way: wait for some, and try again"
    return ApiError(429, "busy", message, headers={"Retry-After": "1"})


def turn_of(scope: Any) -> Turn:
    """Of the request of that ASGI scope."""
    turn: Turn = scope["state"][TURN]
    return turn
