"""Whose request is worked on next: the parties take turns, so that one that floods waits for itself alone.

A party is an account, however many keys and connections it has; or an address, as long as nobody knows whose the
request is. Who has had less goes first, and meanwhile who has had more starts nothing (start-time fair queueing:
Goyal, Vin, Cheng, 1996). What counts is the time for which requests are at work: so each costs what it costs.
"""

import asyncio
import time
from collections import deque
from typing import Any

from gateways.api.errors import ApiError

Name = int | str
"""An account's id, or an address."""
MS = 1_000_000

MAX_AT_WORK = 256
"""Requests at work at once, of all."""
MAX_OF_ONE = 16
"""Of one party, while no other wants anything: more would add nothing to what one process does."""
MAX_OF_EACH = 2
"""Of each of several: what one finds at work when it comes is done soon."""
LATELY_NS = 3_000 * MS
"""A party that came within so long is one of several."""
AHEAD_NS = 5 * MS
"""So far a party may be ahead of the one that had least, and still start."""
LOOK_NS = MS
"""How long what all have had is good for: to add it up took longer than a request, with many parties."""
CREDIT_NS = 100 * MS
"""So far at most a party is behind that comes after a rest: the others wait no longer for it."""
TURN_S = 0.25
"""A request that takes longer waits for something, and counts no more."""
LOOK_S = 0.002
MAX_PARTIES = 10_000
"""From here on those are forgotten that want nothing."""
TURN = "turn"
"""In the state of an ASGI scope: the request's."""


class Party:
    """What it has under way here."""

    __slots__ = ("at_work", "begun", "counted_at", "had", "name", "under_way", "waiting")

    def __init__(self, name: Name, had: int) -> None:
        self.name = name
        self.had = had
        """ns for which its requests were at work, until `counted_at`."""
        self.counted_at = 0
        self.under_way = 0
        """Requests, those too that wait for something to happen."""
        self.at_work = 0
        self.waiting: deque[asyncio.Future[None]] = deque()
        """Requests that wait for their turn, the first in front."""
        self.begun: deque[asyncio.Future[None]] = deque()
        """Those of which a part is done: they come before, and are not refused any more."""

    def count(self, now: int) -> None:
        self.had += self.at_work * (now - self.counted_at)
        self.counted_at = now


class Turn:
    """Of one request."""

    __slots__ = ("_turns", "at_work_until", "party")

    def __init__(self, turns: "Turns", party: Party) -> None:
        self._turns = turns
        self.at_work_until: float | None = None
        """In s of the event loop; None: it is not at work."""
        self.party = party

    async def begin(self) -> None:
        """Returns once it is there. Raises ApiError 429 where another's request was to wait in place of this one."""
        if not self._turns.starts(self.party, self.party.waiting):
            await self._turns.wait(self.party, self.party.waiting)
        self._turns.watch(self)

    def end(self) -> None:
        """The request waits for something to happen now, or is done. Once more changes nothing."""
        if self.at_work_until is not None:
            self.at_work_until = None
            self._turns.end(self.party)

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
        if not self._turns.starts(self.party, self.party.begun):
            await self._turns.wait(self.party, self.party.begun)
        self._turns.watch(self)
        return self._turns.is_alone(self.party, time.monotonic_ns())


class Turns:
    """Of all requests of this process. `max_under_way` at once, of which half of one party."""

    def __init__(self, max_under_way: int) -> None:
        self._max_under_way = max_under_way
        self.under_way = 0
        """Requests that have no answer yet."""
        self._at_work = 0
        self._parties: dict[Name, Party] = {}
        self._active: dict[Party, None] = {}
        """Those that have requests at work or waiting for their turn."""
        self._in_line: dict[Party, None] = {}
        """Of them those with requests that wait."""
        self._ended: list[Party] = []
        """Of this turn of the event loop: by each request that is at work no more."""
        self._watched: deque[tuple[float, Turn]] = deque()
        """Requests by when they are at work no more, the first in front: bounded by what comes in TURN_S."""
        self._least = 0
        """What of all that are active the one has had that had least, as of `_looked_at`."""
        self._looked_at = 0
        self._clock = 0
        """The most that it ever was: where who comes begins."""
        self._newest: Party | None = None
        """Who came last, and when before that another came."""
        self._another_at = -LATELY_NS
        self._newest_at = 0
        self._look: asyncio.TimerHandle | None = None

    def enter(self, name: Name) -> Party:
        """A request came. Raises ApiError 429 where too many are under way: to who has most."""
        party = self._parties.get(name)
        if party is None:
            party = self._parties[name] = Party(name, self._clock - CREDIT_NS)
            if len(self._parties) > MAX_PARTIES:
                self._parties = {each.name: each for each in self._parties.values() if each.under_way} | {name: party}
        if party.under_way >= self._max_under_way // 2:
            raise _busy(party)
        if self.under_way >= self._max_under_way:
            largest = max((each for each in self._active if each.waiting), key=_under_way, default=party)
            if largest.under_way <= party.under_way + 1:
                raise _busy(party)
            largest.waiting.pop().set_exception(_busy(largest))
        party.under_way += 1
        self.under_way += 1
        return party

    def leave(self, party: Party) -> None:
        """The request has its answer."""
        party.under_way -= 1
        self.under_way -= 1

    def is_alone(self, party: Party, now: int) -> bool:
        """Whether no other has come lately."""
        return party is self._newest and now - self._another_at >= LATELY_NS

    def starts(self, party: Party, line: deque[asyncio.Future[None]]) -> bool:
        """Whether the party's request that comes to the end of that line is at work at once: else it is to wait."""
        now = time.monotonic_ns()
        self._came(party, now)
        if line or not self._may_start(party, now):
            return False
        self._start(party, now)
        return True

    async def wait(self, party: Party, line: deque[asyncio.Future[None]]) -> None:
        """Until that request is at work. Raises ApiError 429."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(turn)
        self._in_line[party] = None
        self._look_later()
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.end(party)  # it came just as the request was given up
            else:
                if turn in line:
                    line.remove(turn)
                self._rest(party)
            raise

    def watch(self, turn: Turn) -> None:
        """The request is at work, for TURN_S at most: by one timer for all, which costs less than one for each."""
        loop = asyncio.get_running_loop()
        turn.at_work_until = loop.time() + TURN_S
        if not self._watched:
            loop.call_at(turn.at_work_until, self._end_slow)
        self._watched.append((turn.at_work_until, turn))

    def _end_slow(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._watched and self._watched[0][0] <= now:
            until, turn = self._watched.popleft()
            if turn.at_work_until == until:  # else it has ended, or goes on with a further part
                turn.end()
        if self._watched:
            loop.call_at(self._watched[0][0], self._end_slow)

    def end(self, party: Party) -> None:
        """One of the party's requests is at work no more, from the next turn of the event loop on: so in none of them
        more are done than may be at work at once."""
        if not self._ended:
            asyncio.get_running_loop().call_soon(self._end)
        self._ended.append(party)

    def _end(self) -> None:
        now = time.monotonic_ns()
        ended, self._ended = self._ended, []
        for party in ended:
            party.count(now)
            party.at_work -= 1
            self._rest(party)
        self._at_work -= len(ended)
        self._start_next(now)

    def _came(self, party: Party, now: int) -> None:
        if party not in self._active:
            party.had = max(party.had, self._clock - CREDIT_NS)
            self._active[party] = None
            self._least = min(self._least, party.had)
        if party is not self._newest:
            self._newest, self._another_at = party, self._newest_at
        self._newest_at = now

    def _rest(self, party: Party) -> None:
        if not (party.at_work or party.begun or party.waiting):
            self._active.pop(party, None)

    def _start(self, party: Party, now: int) -> None:
        party.count(now)
        party.at_work += 1
        self._at_work += 1

    def _start_next(self, now: int) -> None:
        if self._in_line and now - self._looked_at >= LOOK_NS:
            self._look_at_all(now)
        for party in sorted(self._in_line, key=_had):
            while (line := _line(party)) and self._may_start(party, now):
                turn = line.popleft()
                if not turn.done():
                    self._start(party, now)
                    turn.set_result(None)
            if not line:
                del self._in_line[party]
        if self._in_line:
            self._look_later()

    def _may_start(self, party: Party, now: int) -> bool:
        most = MAX_OF_ONE if self.is_alone(party, now) else MAX_OF_EACH
        if self._at_work >= MAX_AT_WORK or party.at_work >= most:
            return False
        if now - self._looked_at >= LOOK_NS:
            self._look_at_all(now)
        if party.had > self._least + AHEAD_NS and now > self._looked_at:
            self._look_at_all(now)  # before it has to wait
        return party.had <= self._least + AHEAD_NS

    def _look_at_all(self, now: int) -> None:
        self._looked_at = now
        for each in self._active:
            each.had += each.at_work * (now - each.counted_at)
            each.counted_at = now
        self._least = min(map(_had, self._active))
        self._clock = max(self._clock, self._least)

    def _look_later(self) -> None:
        """Time passes for those that are at work, and so for who waits for them."""
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(LOOK_S, self._looked)

    def _looked(self) -> None:
        self._look = None
        self._start_next(time.monotonic_ns())


def _busy(party: Party) -> ApiError:
    whose = "of this account" if isinstance(party.name, int) else f"from {party.name}"
    message = f"{party.under_way} requests {whose} are under way: wait for some, and try again"
    return ApiError(429, "busy", message, headers={"Retry-After": "1"})


def _line(party: Party) -> deque[asyncio.Future[None]]:
    return party.begun or party.waiting


def _had(party: Party) -> int:
    return party.had


def _under_way(party: Party) -> int:
    return party.under_way


def turn_of(scope: Any) -> Turn:
    """Of the request of that ASGI scope."""
    turn: Turn = scope["state"][TURN]
    return turn
