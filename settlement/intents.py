"""Order intents on their way to the database: those that come while others are being written share the next write.

A single intent is written at once. Under load a commit carries hundreds, so that one gateway enters many thousand
orders a second. Those of one account are written by one writer at a time: others would only wait for its lock, and with
them all whose intents they have.
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import asyncpg
import msgspec

from schemas.store import StoreError
from settlement import ledger
from settlement.books import OrderRow
from settlement.database import ACQUIRE_S, COLLISIONS, Connection, Pool, Queries, as_store_error

MAX_WRITERS = 4
"""Writes under way at once."""
SHARE = 64
"""So many wait for each write that is under way before a further one begins: a write costs as much as twenty orders in
another's. Without it a gateway enters a fifth less."""
STUCK_S = 0.01
"""Or else, for so long none began, as those under way wait for a lock."""
MAX_BATCH = 500
MAX_WAITING = 20_000
MAX_ATTEMPTS = 5

Answer = tuple[str, int, Any, Any]
"""As the function `place_intents` has it: `new`, `known`, `no_funds` or `over_cap`; free cash; the order that is there;
the cap."""
WENT_IN: Answer = ("new", 0, None, None)
Told = Callable[[Answer | Exception], None]


class Waiting(NamedTuple):
    """An intent, and who waits for its answer."""

    account: int
    client_order_id: str
    plain: int
    """What it holds, of a bid for which no cap has to be looked at; else 0."""
    row: tuple[Any, ...]
    told: Told


class Intents:
    """Writes intents. What was taken is written even when its caller goes away: the order then is on its way."""

    def __init__(self, pool: Pool, sql: Queries) -> None:
        self._pool = pool
        self._sql = sql
        self._waiting: dict[int, list[Waiting]] = {}
        """By account, who came first in front."""
        self._held_back: dict[int, list[Waiting]] = {}
        """Of accounts of which others are being written."""
        self._count = 0
        """Of all that wait and are not held back."""
        self._count_held_back = 0
        self._writers: set[asyncio.Task[None]] = set()
        self._began_at = 0.0
        """When the newest write began, of the event loop."""
        self._look: asyncio.TimerHandle | None = None

    def place_soon(self, row: OrderRow, told: Told) -> None:
        """`told` hears the answer, or a StoreError: it may be written all the same. Raises StoreError where too many
        wait."""
        if self._count + self._count_held_back >= MAX_WAITING:
            raise StoreError(f"{MAX_WAITING} orders wait for the database already: send fewer")
        one = _waiting(row, told)
        line = self._held_back.get(one.account)
        if line is None:
            self._waiting.setdefault(one.account, []).append(one)
            self._count += 1
        else:
            line.append(one)
            self._count_held_back += 1
        if self._count >= SHARE * len(self._writers):
            self._add_writer()
        elif self._look is None:
            self._look = asyncio.get_running_loop().call_later(STUCK_S, self._looked)

    def _add_writer(self) -> None:
        if self._waiting and len(self._writers) < MAX_WRITERS:
            writer = asyncio.create_task(self._write())
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)

    def _looked(self) -> None:
        self._look = None
        loop = asyncio.get_running_loop()
        if self._waiting:
            if loop.time() - self._began_at >= STUCK_S:
                self._add_writer()
            self._look = loop.call_later(STUCK_S, self._looked)

    async def close(self) -> None:
        """Returns once all that was taken is written, or could not be."""
        while self._writers:
            await asyncio.wait(self._writers)

    async def _write(self) -> None:
        """Writes until nobody waits."""
        while self._waiting:
            self._began_at = asyncio.get_running_loop().time()
            batch = self._batch()
            accounts = {one.account for one in batch}
            try:
                await self._place(sorted(batch, key=itemgetter(0)))  # in the order of accounts, as everybody locks them
            finally:
                for account in accounts:
                    if line := self._held_back.pop(account):
                        self._waiting[account] = line
                        self._count += len(line)
                        self._count_held_back -= len(line)

    def _batch(self) -> list[Waiting]:
        """What is written next; what else comes of these accounts is held back."""
        batch: list[Waiting] = []
        while self._waiting and len(batch) < MAX_BATCH:
            account = next(iter(self._waiting))
            line, room = self._waiting.pop(account), MAX_BATCH - len(batch)
            batch += line[:room]
            self._held_back[account] = line[room:]
            self._count -= len(line)
            self._count_held_back += len(line[room:])
        return batch

    async def _place(self, batch: Sequence[Waiting]) -> None:
        try:
            with as_store_error():
                async with self._pool.acquire(timeout=ACQUIRE_S) as connection:
                    answers = await self._written(connection, batch)
                    # Before the connection goes back, which takes time.
                    for one, answer in zip(batch, answers, strict=True):
                        one.told(answer)
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, StoreError):
                for one in batch:  # one of them cannot be written: the others shall not suffer
                    await self._place([one])
                return
            for one in batch:
                one.told(error)

    async def _written(self, connection: Connection, batch: Sequence[Waiting]) -> list[Answer]:
        went_in = await self._went_in(connection, batch)
        rows = [one.row for one in batch if one.account not in went_in]
        if not rows:
            return [WENT_IN] * len(batch)
        for attempt in itertools.count(1):
            try:
                answers = iter(await connection.fetch(self._sql.place, rows))
                break
            except asyncpg.TransactionRollbackError:  # somebody was in the way, and nothing was written
                if attempt == MAX_ATTEMPTS:
                    raise
        return [WENT_IN if one.account in went_in else next(answers) for one in batch]

    async def _went_in(self, connection: Connection, batch: Sequence[Waiting]) -> set[int]:
        """The accounts of which all is written, as it is nothing but new bids for which they have the funds. Of the
        others, or where another was in the way, nothing was written."""
        held: dict[int, int] = {}
        for account, _, plain, _, _ in batch:
            held[account] = held.get(account, 0) + plain
        for account in {one.account for one in batch if not one.plain}:
            del held[account]
        bids = [one for one in batch if one.account in held]
        try:
            if len(bids) == len(batch) == 1:
                return {bids[0].account} if await connection.fetchval(self._sql.place_one, bids[0].row) else set()
            if not bids:
                return set()
            found = await connection.fetch(
                self._sql.place_plain,
                [one.row for one in bids],
                [ledger.cash(account) for account in held],
                list(held.values()),
                [one.account for one in bids],
                [one.client_order_id for one in bids],
            )
        except COLLISIONS:
            return set()
        return {account for (account,) in found}


def _waiting(row: OrderRow, told: Told) -> Waiting:
    plain = 0 if row.team or row.user or row.pool else row.held
    return Waiting(row.account, row.client_order_id, plain, msgspec.structs.astuple(row), told)
