"""`schemas.store.Store` on Postgres: what gateways write and read."""

import asyncio
import contextlib
import heapq
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Self

import asyncpg
import msgspec

from schemas import codec, topics
from schemas.attributes import Attributes, ClassSpec, SlaStep
from schemas.commands import HaltMode, PlaceAsk, Side
from schemas.ids import MAX_ACCOUNT, LeaseId
from schemas.instructions import Source, WithdrawalState
from schemas.invoices import Head, Invoice, Line, LineId
from schemas.refusals import Args, Refusal
from schemas.store import (
    NOBODY,
    Account,
    Amendment,
    AmendStatus,
    ApiKey,
    AuditFinding,
    AuditStatus,
    Balance,
    CapReached,
    Caps,
    CloseReason,
    Credits,
    Degradation,
    Deposited,
    Entry,
    Fee,
    HourUse,
    Intent,
    Lease,
    LeasesNow,
    LeaseState,
    LeaseStep,
    LeaseUse,
    LedgerKind,
    Listing,
    Network,
    Order,
    OrderStatus,
    Outcome,
    Placed,
    PlacedAmend,
    PlaceStatus,
    RefusedUsage,
    Renewal,
    Scope,
    Spender,
    SpenderKind,
    Spent,
    Spread,
    SshKey,
    StoreError,
    SupplierRecord,
    Totals,
    Usage,
    Withdrawn,
)
from schemas.units import DAY_MS
from schemas.webhooks import LeaseEvent
from settlement import billing, database, entries, reports
from settlement.books import AmendRow, OrderRow
from settlement.database import (
    ACQUIRE_S,
    LOCK_AUDIT,
    LOCK_LEASE_READERS,
    LOCK_SETTLEMENT,
    UNAVAILABLE,
    Connection,
    Pool,
    Queries,
    as_store_error,
)
from settlement.intents import Answer, Intents
from settlement.outbox import OutboxRow
from settlement.tables import MAX_LEASE_STEPS
from settlement.webhook_store import Webhooks

MAX_CONNECTIONS = 16
RECHECK_S = 0.25
"""A notification that was lost delays its waiters by so much at most."""
MAX_WAITERS = 100_000

_args = msgspec.json.Decoder(Args).decode
_attributes = msgspec.msgpack.Decoder(Attributes).decode
_degradations = msgspec.json.Decoder(tuple[Degradation, ...]).decode
_lease_event = msgspec.json.Decoder(LeaseEvent).decode
_RUNNING = [state for state in LeaseState if state is not LeaseState.CLOSED]
_renewal = msgspec.json.Decoder(Renewal).decode
_sla = msgspec.json.Decoder(tuple[SlaStep, ...]).decode
_spec = msgspec.msgpack.Decoder(ClassSpec).decode


class Store:
    """Any number of these, in any number of processes, may use one database at once."""

    @classmethod
    async def connect(cls, dsn: str, *, max_connections: int = MAX_CONNECTIONS) -> Self:
        """Migrates the database where it is older than this code. Raises StoreError."""
        opened = cls(await database.connect(dsn, max_size=max_connections))
        opened._following = asyncio.create_task(opened._progress.follow(), name="settlement-progress")
        return opened

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = Queries()
        self._progress = Progress(pool, self._sql)
        self._intents = Intents(pool, self._sql)
        self.webhooks = Webhooks(pool, self._sql, self._alone)
        self._following: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Lets go of all connections."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait({self._following})
        await self._intents.close()
        with contextlib.suppress(*UNAVAILABLE):  # one that the server has left cannot be told goodbye
            await self._pool.close()

    def settling(self) -> AbstractAsyncContextManager[Connection]:
        """The connection of the one settlement of this database; waits while another has it."""
        return self._alone(LOCK_SETTLEMENT)

    def auditing(self) -> AbstractAsyncContextManager[Connection]:
        """The connection of its one auditor; waits while another has it."""
        return self._alone(LOCK_AUDIT)

    @contextlib.asynccontextmanager
    async def _alone(self, lock: int) -> AsyncIterator[Connection]:
        with as_store_error():
            connection = await self._pool.acquire(timeout=ACQUIRE_S)
        try:
            await connection.execute(self._sql.lock_alone, lock)
            yield connection
        finally:
            with contextlib.suppress(*UNAVAILABLE):  # else a lost connection hides what went wrong
                try:
                    await connection.close()  # which gives the lock back too
                except UNAVAILABLE:
                    connection.terminate()  # nobody else may get it as it is, in mid-batch
            await self._pool.release(connection)

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """A connection that sees the database as it is at one moment, and writes nothing."""
        with as_store_error():
            connection = await self._pool.acquire(timeout=ACQUIRE_S)
        try:
            # asyncpg leaves a statement that was cancelled half said, in a transaction that has begun: this ends it.
            await connection.execute(self._sql.nothing)
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute(self._sql.whole_tables)
                yield connection
        finally:
            await self._pool.release(connection)

    async def create_account(
        self, name: str, *, buyer_fee_bps: int, seller_fee_bps: int, owner: int | None, now: int
    ) -> Account:
        try:
            row = await self._row(self._sql.create_account, name, buyer_fee_bps, seller_fee_bps, owner, now)
        except asyncpg.UniqueViolationError:
            raise ValueError(f"there is an account {name} already: choose another name") from None
        return Account(**row)

    async def account(self, account: int) -> Account | None:
        if not 0 < account <= MAX_ACCOUNT:
            return None
        row = await self._row(self._sql.account, account)
        return _account(row, row["fees"]) if row is not None else None

    async def accounts(self, *, after: int, limit: int) -> list[Account]:
        return [_account(row, row["fees"]) for row in await self._rows(self._sql.accounts, after, limit)]

    async def set_tier(self, account: int, tier: str) -> bool:
        return 0 < account <= MAX_ACCOUNT and await self._row(self._sql.set_tier, account, tier) is not None

    async def fees(self, *, after: tuple[str, int] | None, limit: int) -> list[Fee]:
        return [Fee(**row) for row in await self._rows(self._sql.fees, *(after or (None, None)), limit)]

    async def set_fee(self, fee: Fee, *, max_fees: int) -> bool:
        return await self._row(self._sql.set_fee, *msgspec.structs.astuple(fee), max_fees) is not None

    async def create_key(
        self,
        account: int,
        *,
        digest: bytes | None,
        prefix: str,
        label: str,
        scopes: frozenset[Scope],
        now: int,
        spender: Spender = NOBODY,
        expires_at: int | None = None,
        addresses: Sequence[Network] = (),
        public_key: bytes | None = None,
    ) -> ApiKey:
        owner = await self.account(account)
        if owner is None:
            raise ValueError(f"there is no account {account}")
        terms = (*msgspec.structs.astuple(spender), expires_at, list(addresses), public_key)
        row = await self._row(self._sql.create_key, account, digest, prefix, label, sorted(scopes), now, *terms)
        return ApiKey(
            id=row["id"],
            account=owner,
            prefix=prefix,
            label=label,
            scopes=scopes,
            created_at=now,
            revoked=False,
            spender=spender,
            expires_at=expires_at,
            addresses=tuple(addresses),
            public_key=public_key,
        )

    async def rotate_key(
        self,
        key: ApiKey,
        *,
        digest: bytes | None,
        prefix: str,
        now: int,
        expires_at: int | None,
        overlap_until: int,
        public_key: bytes | None = None,
    ) -> ApiKey | None:
        row = await self._row(self._sql.rotate_key, key.id, digest, prefix, now, expires_at, overlap_until, public_key)
        if row is None:
            return None
        return msgspec.structs.replace(
            key,
            id=row["id"],
            prefix=prefix,
            created_at=now,
            expires_at=expires_at,
            overlap_until=None,
            public_key=public_key,
        )

    async def key(self, digest: bytes) -> ApiKey | None:
        row = await self._row(self._sql.key, digest)
        return _key(row) if row is not None else None

    async def signing_key(self, key_id: int) -> ApiKey | None:
        row = await self._row(self._sql.signing_key, key_id)
        return _key(row) if row is not None else None

    async def use_nonce(self, key_id: int, nonce: str, *, until: int, now: int) -> bool:
        return await self._row(self._sql.use_nonce, key_id, nonce, until, now) is not None

    async def keys(self, account: int, *, after: int, limit: int) -> list[ApiKey]:
        return [_key(row) for row in await self._rows(self._sql.keys, account, after, limit)]

    async def own_key(self, account: int, key_id: int) -> ApiKey | None:
        row = await self._row(self._sql.own_key, account, key_id)
        return _key(row) if row is not None else None

    async def live_keys(self, account: int, *, now: int) -> int:
        (count,) = await self._row(self._sql.live_keys, account, now)
        return int(count)

    async def revoke_key(self, account: int, key_id: int) -> bool:
        return await self._row(self._sql.revoke_key, account, key_id) is not None

    async def add_ssh_key(self, account: int, key: SshKey, *, most: int) -> bool:
        row = await self._row(self._sql.add_ssh_key, account, *msgspec.structs.astuple(key), most)
        return row is not None

    async def ssh_keys(self, account: int) -> list[SshKey]:
        return [SshKey(*row) for row in await self._rows(self._sql.ssh_keys, account)]

    async def remove_ssh_key(self, account: int, name: str) -> bool:
        return await self._row(self._sql.remove_ssh_key, account, name) is not None

    async def balance(self, account: int) -> Balance:
        return Balance(**await self._row(self._sql.balance, account))

    async def set_caps(
        self, account: int, kind: SpenderKind, name: str, *, day_cap: int | None, month_cap: int | None, most: int
    ) -> bool:
        return await self._row(self._sql.save_caps, account, kind, name, day_cap, month_cap, most) is not None

    async def one_spender_too_many(self, account: int, spender: Spender, *, most: int) -> SpenderKind | None:
        row = await self._row(self._sql.one_spender_too_many, account, *msgspec.structs.astuple(spender), most)
        return None if row is None else SpenderKind(row["kind"])

    async def caps(self, account: int, kind: SpenderKind, name: str, *, now: int) -> Caps | None:
        row = await self._row(self._sql.caps, account, kind, name, now // DAY_MS)
        return Caps(**row) if row is not None else None

    async def daily_credits(self, account: int) -> Credits | None:
        row = await self._row(self._sql.daily_credits, account)
        return Credits(**row) if row is not None else None

    async def spent_by(
        self, account: int, by: str, *, days: tuple[int, int], after: str | None, limit: int
    ) -> list[Spent]:
        return [Spent(**row) for row in await self._rows(self._sql.spent_by, account, by, *days, after, limit)]

    async def deposits(self, account: int, *, after: str | None, limit: int) -> list[Deposited]:
        return [Deposited(**row) for row in await self._rows(self._sql.deposits, account, after, limit)]

    async def withdrawal(self, account: int, reference: str) -> Withdrawn | None:
        row = await self._row(self._sql.withdrawal, account, reference)
        return _withdrawn(row) if row is not None else None

    async def withdrawals(
        self, account: int, *, state: WithdrawalState | None, after: str | None, limit: int
    ) -> list[Withdrawn]:
        return [_withdrawn(row) for row in await self._rows(self._sql.withdrawals, account, state, after, limit)]

    async def oldest_requested_withdrawal(self) -> int | None:
        """When the oldest that is not yet sent was requested, ms."""
        row = await self._row(self._sql.oldest_requested_withdrawal)
        return row["requested_at"] if row is not None else None

    async def withdrawals_under_way(self, *, after: tuple[int, str] | None, limit: int) -> list[Withdrawn]:
        rows = await self._rows(self._sql.withdrawals_under_way, *(after or (None, None)), limit)
        return [_withdrawn(row) for row in rows]

    async def entries(
        self, account: int, *, lease: LeaseId | None, after: str | None, limit: int
    ) -> tuple[list[Entry], str | None]:
        if lease is None:
            kinds = {made(account): kind for kind, made in entries.IDS.items()}
        else:
            kinds = {row[0]: LedgerKind.ESCROW for row in await self._rows(self._sql.escrow_of, *lease)}
        before = None if after is None else entries.parse(after, len(kinds))
        place = (None, None) if before is None else (before.transaction, before.ledger_account)
        rows = await self._rows(self._sql.entries, list(kinds), *place, limit)
        return entries.listed(rows, kinds, before, limit)

    async def place(self, intent: Intent, *, now: int) -> Placed:
        placed: asyncio.Future[Placed] = asyncio.get_running_loop().create_future()

        def told(outcome: Placed | Exception) -> None:
            if placed.done():
                return
            if isinstance(outcome, Exception):
                placed.set_exception(outcome)
            else:
                placed.set_result(outcome)

        self.place_soon(intent, now=now, told=told)
        return await placed

    def place_soon(self, intent: Intent, *, now: int, told: Callable[[Placed | Exception], None]) -> None:
        row = _sent(intent, now)

        def tell(answer: Answer | Exception) -> None:
            told(answer if isinstance(answer, Exception) else _placed(intent, row, answer))

        self._intents.place_soon(row, tell)

    async def place_amend(self, amendment: Amendment, *, terms: bytes, now: int) -> PlacedAmend:
        row = AmendRow(
            account=amendment.account,
            client_order_id=amendment.client_order_id,
            order_id=amendment.order_id,
            partition=amendment.partition,
            command=amendment.command,
            digest=amendment.digest,
            not_after=amendment.not_after,
            status=AmendStatus.SENT,
            held=amendment.hold,
            refusal=None,
            refusal_args="[]",
            created_at=now,
            **msgspec.structs.asdict(amendment.spender),
        )
        answer, cash, known, reached = await self._row(self._sql.place_amend, msgspec.structs.astuple(row), terms)
        match answer:
            case "over_cap":
                return PlacedAmend(PlaceStatus.OVER_CAP, None, cash, _cap(reached))
            case "new":
                return PlacedAmend(PlaceStatus.NEW, amendment, cash)
            case "known":
                same = known["digest"] == amendment.digest
                return PlacedAmend(
                    PlaceStatus.REPLAY if same else PlaceStatus.CONFLICT, _amendment(AmendRow(*known)), cash
                )
        return PlacedAmend(PlaceStatus(answer), None, cash)

    async def amendment(self, account: int, client_order_id: str) -> Amendment | None:
        row = await self._row(self._sql.amendment, account, client_order_id)
        return _amendment(AmendRow(*row)) if row is not None else None

    async def order(self, account: int, order_id: int) -> Order | None:
        row = await self._row(self._sql.order, account, order_id)
        return _order(OrderRow(*row)) if row is not None else None

    async def order_by_client_id(self, account: int, client_order_id: str) -> Order | None:
        row = await self._row(self._sql.order_by_client_id, account, client_order_id)
        return _order(OrderRow(*row)) if row is not None else None

    async def own_orders(self, account: int, order_ids: Sequence[int], client_order_ids: Sequence[str]) -> list[Order]:
        rows = await self._rows(self._sql.own_orders, account, order_ids, client_order_ids)
        return [_order(OrderRow(*row)) for row in rows]

    async def orders(
        self,
        account: int,
        *,
        status: OrderStatus | None,
        class_id: str | None,
        before: int | None,
        limit: int,
        side: Side | None = None,
    ) -> list[Order]:
        rows = await self._rows(self._sql.orders, account, status, class_id, before, limit, side)
        return [_order(OrderRow(*row)) for row in rows]

    async def classes(self) -> list[Listing]:
        return [
            Listing(_spec(row["spec"]), row["partition"], row["retired"], HaltMode(row["halt"]), row["reference"])
            for row in await self._rows(self._sql.classes)
        ]

    async def lease(self, lease: LeaseId) -> Lease | None:
        row = await self._row(self._sql.lease, *lease)
        if row is None:
            return None
        details = await self._row(self._sql.lease_details, *lease)
        return msgspec.structs.replace(_lease(row), gpus=tuple(details["gpus"]), ssh_key=details["ssh_key"] or "")

    async def leases(
        self,
        account: int,
        *,
        role: Side,
        states: Sequence[LeaseState],
        class_id: str | None,
        before: LeaseId | None,
        limit: int,
        order_id: int | None = None,
    ) -> list[Lease]:
        query = self._sql.leases_bought if role is Side.BID else self._sql.leases_sold
        position, index = before if before is not None else (None, None)
        rows = await self._rows(query, account, list(states), class_id, position, index, limit, order_id)
        return [_lease(row) for row in rows]

    async def reads_leases(self, account: int) -> tuple[str, int]:
        reader = await self._row(self._sql.lease_reader, account)
        if reader is None:
            with as_store_error():
                async with self._pool.acquire(timeout=ACQUIRE_S) as connection, connection.transaction():
                    await connection.execute(self._sql.lock_lease_readers, LOCK_LEASE_READERS)
                    await connection.execute(self._sql.add_lease_reader, account)
            reader = await self._row(self._sql.lease_reader, account)
        return reader["run"], reader["number"]

    async def lease_steps(self, after: Mapping[int, int], *, each: int) -> list[LeaseStep]:
        rows = await self._rows(self._sql.lease_steps, list(after), list(after.values()), each)
        return [_lease_step(row) for row in rows]

    async def leases_now(self, account: int, *, after: int, limit: int) -> LeasesNow:
        terms = (account, _RUNNING, None, None, None, limit, None)
        with as_store_error():
            async with self.snapshot() as connection:
                reader = await connection.fetchrow(self._sql.lease_reader, account)
                steps = await connection.fetch(self._sql.lease_steps, [account], [after], MAX_LEASE_STEPS)
                rows = await connection.fetch(self._sql.leases_bought, *terms)
                rows += await connection.fetch(self._sql.leases_sold, *terms)
        leases = {lease.id: lease for lease in map(_lease, rows)}
        return LeasesNow(
            reader["number"], [_lease_step(row) for row in steps], [leases[key] for key in sorted(leases, reverse=True)]
        )

    async def moved(self, timeout_s: float) -> None:
        await self._progress.moved(timeout_s)

    async def supplier_records(
        self, *, since: int, until: int, account: int | None, after: int, limit: int
    ) -> list[SupplierRecord]:
        async with self.snapshot() as connection:
            rows = await connection.fetch(self._sql.suppliers, after, limit, account)
            found = await connection.fetch(self._sql.supplier_records, [row["id"] for row in rows], since, until)
        return [_record(row) for row in found]

    async def usage(self, lease: LeaseId, *, after: int, limit: int) -> list[Usage]:
        rows = await self._rows(self._sql.usage, *lease, after, limit)
        return [
            Usage(lease, row["sequence"], row["gpu_ms"], row["final"], row["reported_at"], row["measured_at"])
            for row in rows
        ]

    async def usage_span(self, account: int, *, role: Side, lease: LeaseId | None) -> tuple[int, int] | None:
        with as_store_error():
            async with self._pool.acquire(timeout=ACQUIRE_S) as connection:
                return await reports.span(connection, self._sql, account, role, lease)

    async def usage_by_hour(
        self, account: int, *, role: Side, lease: LeaseId | None, since: int, until: int
    ) -> list[HourUse]:
        with as_store_error():
            async with self._pool.acquire(timeout=ACQUIRE_S) as connection:
                return await reports.by_hour(connection, self._sql, account, role, lease, since, until)

    async def usage_by_lease(
        self, account: int, *, role: Side, since: int, until: int, before: LeaseId | None, limit: int
    ) -> list[LeaseUse]:
        with as_store_error():
            async with self._pool.acquire(timeout=ACQUIRE_S) as connection:
                return await reports.by_lease(connection, self._sql, account, role, since, until, before, limit)

    async def refused_usage(
        self, account: int, *, lease: LeaseId | None, before: tuple[int, int, int] | None, limit: int
    ) -> list[RefusedUsage]:
        place, cursor = lease or (None, None), before or (None, None, None)
        rows = await self._rows(self._sql.refused_usage, account, *place, *cursor, limit)
        return [
            RefusedUsage(
                lease=(row["position"], row["fill_index"]),
                sequence=row["sequence"],
                gpu_ms=row["gpu_ms"],
                final=row["final"],
                measured_at=row["measured_at"],
                refused_at=row["refused_at"],
                record=(row["partition"], row["record_offset"]),
                code=Refusal(row["code"]),
                args=_args(row["args"]),
            )
            for row in rows
        ]

    async def applied(self, partition: int) -> int:
        row = await self._row(self._sql.applied, topics.EXECUTIONS, partition)
        return -1 if row is None else int(row["position"])

    async def wait_applied(self, partition: int, position: int, timeout_s: float) -> bool:
        return await self._progress.wait((topics.EXECUTIONS, partition), position, timeout_s)

    async def outcome(self, topic: str, partition: int, offset: int, timeout_s: float) -> Outcome | None:
        if not await self._progress.wait((topic, partition), offset, timeout_s):
            return None
        row = await self._row(self._sql.refusal, topic, partition, offset)
        return Outcome(None, ()) if row is None else Outcome(Refusal(row["code"]), _args(row["args"]))

    async def outbox(self, limit: int) -> list[OutboxRow]:
        """Commands that settlement has for the engine, the oldest first."""
        return [OutboxRow(*row) for row in await self._rows(self._sql.outbox, limit)]

    async def sent(self, rows: Sequence[OutboxRow]) -> None:
        """The log has them."""
        await self._rows(self._sql.remove_sent, *zip(*((row[:3]) for row in rows), strict=True))

    async def totals(self) -> Totals:
        with as_store_error():
            async with self.snapshot() as connection:
                return Totals(**await connection.fetchrow(self._sql.totals))

    async def invoices(self, account: Account, *, role: Side, before: int | None, limit: int) -> list[Head]:
        async with self.snapshot() as connection:
            return await billing.heads(connection, self._sql, account, role, before, limit)

    async def invoice(
        self, account: Account, month: int, *, role: Side, after: LineId | None, limit: int | None
    ) -> Invoice | None:
        async with self.snapshot() as connection:
            return await billing.invoice(connection, self._sql, account, month, role, after, limit)

    async def notes(self, account: Account, lease: LeaseId, *, role: Side) -> list[Line]:
        async with self.snapshot() as connection:
            return await billing.notes(connection, self._sql, account, lease, role)

    async def audit_status(self, *, limit: int) -> AuditStatus:
        async with self.snapshot() as connection:
            standing = await connection.fetchrow(self._sql.audit_status)
            counts = await connection.fetch(self._sql.audit_counts)
            found = await connection.fetch(self._sql.audit_findings, limit)
        imbalance = sum(row["imbalance"] for row in counts)
        return AuditStatus(**standing, imbalance=imbalance, findings=[AuditFinding(**row) for row in found])

    async def _row(self, query: str, *args: object) -> Any:
        with as_store_error():
            async with self._pool.acquire(timeout=ACQUIRE_S) as connection:
                return await connection.fetchrow(query, *args)

    async def _rows(self, query: str, *args: object) -> list[Any]:
        with as_store_error():
            async with self._pool.acquire(timeout=ACQUIRE_S) as connection:
                rows: list[Any] = await connection.fetch(query, *args)
                return rows


class Progress:
    """How far settlement has come, as it notifies in each of its transactions; and who waits for that.

    Of executions the last position applied counts, of other topics the last offset.
    """

    def __init__(self, pool: Pool, sql: Queries) -> None:
        self._pool = pool
        self._sql = sql
        self._reached: dict[tuple[str, int], int] = {}
        self._waiting: defaultdict[tuple[str, int], list[tuple[int, int, asyncio.Future[None]]]] = defaultdict(list)
        self._tickets = itertools.count()
        self._moved = asyncio.Event()

    async def moved(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._moved.wait()
        self._moved.clear()

    async def wait(self, stream: tuple[str, int], target: int, timeout_s: float) -> bool:
        """Whether `target` is reached within the time. Raises StoreError where far too many wait already."""
        if self._reached.get(stream, -1) >= target:
            return True
        waiting = self._waiting[stream]
        if len(waiting) >= MAX_WAITERS:
            raise StoreError(f"{MAX_WAITERS} calls wait for settlement already: it is far behind")
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(waiting, (target, next(self._tickets), reached))
        try:
            async with asyncio.timeout(timeout_s):
                with contextlib.suppress(StoreError), as_store_error():  # without it, it only takes longer
                    async with self._pool.acquire(timeout=ACQUIRE_S) as connection:
                        await connection.execute(self._sql.hurry)
                await reached
        except TimeoutError:
            return False
        finally:
            reached.cancel()
        return True

    async def follow(self) -> None:
        """Listens, and now and then looks for itself, until cancelled."""
        while True:
            with contextlib.suppress(StoreError), as_store_error():
                async with self._pool.acquire(timeout=ACQUIRE_S) as connection:
                    await connection.add_listener("settled", self._notified)
                    try:
                        while not connection.is_closed():
                            if any(self._waiting.values()):
                                await self._look(connection)
                            await asyncio.sleep(RECHECK_S)
                    finally:
                        with contextlib.suppress(*UNAVAILABLE):  # else a lost connection hides that this is cancelled
                            await connection.remove_listener("settled", self._notified)
            await asyncio.sleep(RECHECK_S)

    async def _look(self, connection: Connection) -> None:
        for topic, partition, next_offset, position, _ in await connection.fetch(self._sql.positions):
            self._come_to(topic, partition, next_offset, position)

    def _notified(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self._moved.set()
        topic, *numbers = str(payload).split()
        self._come_to(topic, *map(int, numbers))

    def _come_to(self, topic: str, partition: int, next_offset: int, position: int) -> None:
        stream = (topic, partition)
        now_at = position if topic == topics.EXECUTIONS else next_offset - 1
        self._reached[stream] = max(now_at, self._reached.get(stream, -1))
        waiting = self._waiting[stream]
        while waiting and (waiting[0][0] <= now_at or waiting[0][2].done()):
            _, _, reached = heapq.heappop(waiting)
            if not reached.done():
                reached.set_result(None)


def _lease_step(row: Any) -> LeaseStep:
    return LeaseStep(row["account"], row["number"], _lease_event(row["body"]))


def _placed(intent: Intent, row: OrderRow, written: Answer) -> Placed:
    answer, cash, known, reached = written
    match answer:
        case "new":
            return Placed(PlaceStatus.NEW, _under_way(intent, row))
        case "no_funds":
            return Placed(PlaceStatus.NO_FUNDS, None, cash)
        case "over_cap":
            return Placed(PlaceStatus.OVER_CAP, None, cap=_cap(reached))
    status = PlaceStatus.REPLAY if known["digest"] == row.digest else PlaceStatus.CONFLICT
    return Placed(status, _order(OrderRow(*known)))


# By place, here and in `_under_way`: of each order, names would take as long again.
def _sent(intent: Intent, now: int) -> OrderRow:
    """The row of an order on its way."""
    command, spender = intent.command, intent.spender
    return OrderRow(
        command.account,
        command.client_order_id,
        None,
        Side.ASK if isinstance(command, PlaceAsk) else Side.BID,
        intent.class_id,
        intent.partition,
        codec.encode(command),
        intent.digest,
        command.not_after,
        OrderStatus.SENT,
        command.price,
        0,
        command.fee_bps,
        0,
        command.quantity,
        intent.hold,
        "",
        None,
        "[]",
        now,
        spender.team,
        spender.user,
        spender.pool,
        intent.ssh_key,
    )


def _under_way(intent: Intent, row: OrderRow) -> Order:
    """As `_order` of a row that was just sent, and with less to look at."""
    return Order(
        None,
        row.account,
        row.client_order_id,
        Side.ASK if isinstance(intent.command, PlaceAsk) else Side.BID,
        row.class_id,
        row.partition,
        row.command,
        row.digest,
        OrderStatus.SENT,
        0,
        row.remaining,
        row.held,
        "",
        None,
        (),
        row.created_at,
        intent.spender,
        row.ssh_key,
    )


def _order(row: OrderRow) -> Order:
    return Order(
        order_id=row.order_id,
        account=row.account,
        client_order_id=row.client_order_id,
        side=Side(row.side),
        class_id=row.class_id,
        partition=row.partition,
        command=row.command,
        digest=row.digest,
        status=OrderStatus(row.status),
        filled=row.filled,
        left=row.remaining,
        held=row.held,
        reason=row.reason,
        refusal=None if row.refusal is None else Refusal(row.refusal),
        refusal_args=_args(row.refusal_args),
        created_at=row.created_at,
        spender=Spender(row.team, row.user, row.pool),
        ssh_key=row.ssh_key,
    )


def _amendment(row: AmendRow) -> Amendment:
    return Amendment(
        account=row.account,
        client_order_id=row.client_order_id,
        order_id=row.order_id,
        partition=row.partition,
        command=row.command,
        digest=row.digest,
        not_after=row.not_after,
        hold=row.held,
        status=AmendStatus(row.status),
        refusal=None if row.refusal is None else Refusal(row.refusal),
        refusal_args=_args(row.refusal_args),
        spender=Spender(row.team, row.user, row.pool),
    )


def _cap(reached: Any) -> CapReached:
    kind, *figures = reached
    return CapReached(SpenderKind(kind), *figures)


def _account(row: Any, fees: Sequence[Any]) -> Account:
    return Account(**{**row, "fees": tuple(Fee(**fee) for fee in fees)})


def _key(row: Any) -> ApiKey:
    return ApiKey(
        id=row["id"],
        account=_account(row["account_row"], row["fees"]),
        prefix=row["prefix"],
        label=row["label"],
        scopes=frozenset(map(Scope, row["scopes"])),
        created_at=row["created_at"],
        revoked=row["revoked"],
        spender=_spender(row),
        expires_at=row["expires_at"],
        overlap_until=row["overlap_until"],
        addresses=tuple(row["addresses"]),
        public_key=row["public_key"],
    )


def _withdrawn(row: Any) -> Withdrawn:
    return Withdrawn(**{**row, "source": Source(row["source"]), "state": WithdrawalState(row["state"])})


def _spender(row: Any) -> Spender:
    return Spender(row["team"], row["user_name"], row["pool"])


def _record(row: Any) -> SupplierRecord:
    delivery, uptime = (None if row[name] is None else Spread(*row[name]) for name in ("delivery_s", "uptime_bps"))
    return SupplierRecord(**dict(row) | {"delivery_s": delivery, "uptime_bps": uptime})


def _lease(row: Any) -> Lease:
    return Lease(
        id=(row["position"], row["fill_index"]),
        class_id=row["class_id"],
        bid_id=row["bid_id"],
        ask_id=row["ask_id"],
        buyer=row["buyer"],
        seller=row["seller"],
        price=row["price"],
        quantity=row["quantity"],
        start=row["start_at"],
        end=row["end_at"],
        attributes=_attributes(row["attributes"]),
        state=LeaseState(row["state"]),
        close_reason=CloseReason(row["close_reason"]),
        created_at=row["created_at"],
        delivered_at=row["delivered_at"],
        accepted_at=row["accepted_at"],
        closed_at=row["closed_at"],
        deliver_by=row["deliver_by"],
        connection=row["connection"],
        escrow=row["escrow"],
        used_gpu_ms=row["used_gpu_ms"],
        charged=row["charged"],
        earned=row["earned"],
        refund_bps=row["refund_bps"],
        ends_at=row["ends_at"],
        forfeited_gpu_ms=row["forfeited_gpu_ms"],
        degradations=_degradations(row["degradations"]),
        uptime_bps=row["uptime_bps"],
        sla=_sla(row["sla"]),
        reclaim_credit_bps=row["reclaim_credit_bps"],
        lost_gpu_ms=row["lost_gpu_ms"],
        credited=row["credited"],
        last_sequence=row["last_sequence"],
        spender=_spender(row),
        proof=row["proof"],
        next=None if row["next_position"] is None else (row["next_position"], row["next_index"]),
        renewal=_renewal(row["renewal"]) if row["renewal"] else None,
    )
