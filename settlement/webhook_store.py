"""`schemas.webhooks.Webhooks` on Postgres."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from schemas.webhooks import Attempt, Delivery, DeliveryState, DueDelivery, EventKind, Webhook
from settlement.database import ACQUIRE_S, LOCK_WEBHOOKS, Connection, Pool, Queries, as_store_error

MAX_ID = (1 << 63) - 1


class Webhooks:
    """Where accounts are told of what happens to them; a part of `Store`."""

    def __init__(
        self, pool: Pool, sql: Queries, alone: Callable[[int], AbstractAsyncContextManager[Connection]]
    ) -> None:
        self._pool = pool
        self._sql = sql
        self._alone = alone

    async def add(
        self, account: int, *, url: str, kinds: Sequence[EventKind], secret: str, now: int, most: int
    ) -> Webhook | None:
        rows = await self._rows(self._sql.add_webhook, account, url, list(kinds), secret, now, most)
        return Webhook(rows[0]["id"], account, url, tuple(kinds), now) if rows else None

    async def of(self, account: int, *, after: int, limit: int) -> list[Webhook]:
        rows = await self._rows(self._sql.webhooks, account, after, limit)
        return [msgspec.convert(dict(row), Webhook) for row in rows]

    async def remove(self, account: int, webhook: int) -> bool:
        return bool(await self._rows(self._sql.remove_webhook, account, webhook))

    async def deliveries(
        self, account: int, webhook: int, *, state: DeliveryState | None, before: int | None, limit: int
    ) -> list[Delivery] | None:
        if not await self._rows(self._sql.has_webhook, account, webhook):
            return None
        rows = await self._rows(self._sql.webhook_deliveries, webhook, state, before, limit)
        return [msgspec.convert(dict(row), Delivery) for row in rows]

    async def replay(self, account: int, webhook: int, event: int) -> Delivery | None:
        rows = await self._rows(self._sql.replay_webhook_delivery, account, webhook, event)
        return msgspec.convert(dict(rows[0]), Delivery) if rows else None

    @contextlib.asynccontextmanager
    async def delivering(self) -> AsyncIterator["Deliveries"]:
        async with self._alone(LOCK_WEBHOOKS) as connection:
            deliveries = Deliveries(connection, self._sql)
            with as_store_error():
                await connection.add_listener("webhooks", deliveries.wake)
            yield deliveries

    async def _rows(self, query: str, *args: object) -> list[Any]:
        with as_store_error():
            async with self._pool.acquire(timeout=ACQUIRE_S) as connection:
                rows: list[Any] = await connection.fetch(query, *args)
                return rows


class Deliveries:
    """`schemas.webhooks.Deliveries`: all on the connection that has the lock, so that who lost it writes nothing."""

    def __init__(self, connection: Connection, sql: Queries) -> None:
        self._connection = connection
        self._sql = sql
        self._more = asyncio.Event()

    def wake(self, *_: object) -> None:
        self._more.set()

    async def due(self, *, busy: Sequence[int], each: int, limit: int) -> list[DueDelivery]:
        with as_store_error():
            rows = await self._connection.fetch(self._sql.webhooks_due, busy, each, limit)
        return [DueDelivery(**row) for row in rows]

    async def save(self, attempts: Sequence[Attempt]) -> None:
        with as_store_error():
            columns = zip(*map(msgspec.structs.astuple, attempts), strict=True)
            await self._connection.execute(self._sql.save_webhook_attempts, *columns)

    async def tidy(self, *, keep_days: int, limit: int) -> None:
        with as_store_error():
            await self._connection.execute(self._sql.forget_webhook_deliveries, keep_days, limit)

    async def wait(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._more.wait()
        self._more.clear()
