"""Postgres for settlement: connections, named queries, migrations. This and `store.py` alone import asyncpg."""

import contextlib
import hashlib
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, TypeAlias

import asyncpg

from schemas.store import StoreError

Pool: TypeAlias = Any
Connection: TypeAlias = Any
"""asyncpg publishes no types."""

ACQUIRE_S = 10.0
"""The longest wait for a connection of the pool."""

LOCK_MIGRATIONS = 0x63780001
LOCK_SETTLEMENT = 0x63780002
LOCK_AUDIT = 0x63780003
LOCK_WEBHOOKS = 0x63780004
LOCK_LEASE_READERS = 0x63780005
"""Advisory locks: who migrates, who settles, who audits, who tells customers' servers, who begins to read leases."""

UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresIOError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
)
COLLISIONS = (asyncpg.UniqueViolationError, asyncpg.TransactionRollbackError)
"""Another transaction was in the way: nothing was written, and the same again can go well."""


@contextlib.contextmanager
def as_store_error() -> Iterator[None]:
    """Turns what asyncpg raises where the database cannot be used into StoreError."""
    try:
        yield
    except asyncpg.DataError:
        raise  # an argument is wrong: the caller's error
    except UNAVAILABLE as error:
        raise StoreError(f"the database cannot be used now: {error or type(error).__name__}") from error


async def connect(dsn: str, *, max_size: int) -> Pool:
    """A pool on a database that is as this code needs it: migrates it. Raises StoreError."""
    with as_store_error():
        pool = await asyncpg.create_pool(
            dsn,
            min_size=0,  # a pool with a floor restores it in the background, and logs at length why it cannot
            max_size=max_size,
            max_inactive_connection_lifetime=0,
            command_timeout=None,
            reset=_keep,
            # A plan that was made while a table was small is kept, and would read all of it for each order once it has
            # grown. Who adds up whole tables says so (`whole_tables`).
            server_settings={"application_name": "cx", "jit": "off", "enable_seqscan": "off"},
        )
    try:
        with as_store_error():
            async with pool.acquire() as connection:
                await migrate(connection, migrations())
    except BaseException:
        await pool.close()
        raise
    return pool


async def _keep(_: Connection) -> None:
    """Instead of asyncpg's reset, a round trip at each release: all statements here leave their session as it was."""


class Queries:
    """The statements of `sql/queries.sql`, each under its `-- name:`, as attributes."""

    def __init__(self) -> None:
        text = (files("settlement") / "sql" / "queries.sql").read_text()
        parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
        self._texts = dict(zip(parts[1::2], parts[2::2], strict=True))

    def __getattr__(self, name: str) -> str:
        try:
            return self._texts[name]
        except KeyError:
            raise AttributeError(f"queries.sql has no query {name}") from None


def migrations() -> dict[str, str]:
    """Name -> SQL of the numbered files, in order."""
    found = [file for file in (files("settlement") / "sql").iterdir() if re.match(r"\d{4}_\w+\.sql$", file.name)]
    return {file.name: file.read_text() for file in sorted(found, key=lambda file: file.name)}


async def migrate(connection: Connection, steps: dict[str, str]) -> None:
    """Applies the steps that the database has not yet, all in one transaction, one process at a time.

    Raises StoreError where an applied step was changed since, or where the database has steps that this code has not.
    """
    queries = Queries()
    async with connection.transaction():
        await connection.execute(queries.lock_migrations, LOCK_MIGRATIONS)
        await connection.execute(queries.create_migrations)
        applied = {row["name"]: row["checksum"] for row in await connection.fetch(queries.applied_migrations)}
        if newer := sorted(applied.keys() - steps.keys()):
            raise StoreError(f"the database is newer than this code: it has {newer[-1]}. Run the newer version")
        for name, sql in steps.items():
            checksum = hashlib.sha256(sql.encode()).hexdigest()
            if applied.get(name, checksum) != checksum:
                raise StoreError(
                    f"the migration {name} was changed after this database got it: restore it, add another"
                )
            if name not in applied:
                await connection.execute(sql)
                await connection.execute(queries.add_migration, name, checksum)
