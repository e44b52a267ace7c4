"""Fixtures with a real Postgres: one server for all tests, a fresh database for each.

`CX_TEST_POSTGRES` names a server to use instead of the embedded one, by the DSN of a database on it.
"""

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from settlement.postgres import EmbeddedPostgres
from settlement.store import Store

TEMPLATE = f"cx_template_{os.getpid()}"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The DSN of a server's database from which others are made."""
    given = os.environ.get("CX_TEST_POSTGRES")
    if given:
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="cx-test-"))
    folder.chmod(0o755)  # so that the server's own user reaches it
    server = EmbeddedPostgres(folder)
    try:
        server.start()
        yield server.dsn
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture
async def dsn(postgres_server: str) -> AsyncIterator[str]:
    """A fresh database with all migrations applied, by a superuser of it."""
    admin = await asyncpg.connect(postgres_server)
    try:
        if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", TEMPLATE):
            await admin.execute(f"CREATE DATABASE {TEMPLATE}")
            template = await Store.connect(_database(postgres_server, TEMPLATE))
            await template.close()
    finally:
        await admin.close()
    async with _fresh(postgres_server, TEMPLATE) as made:
        yield made


@pytest.fixture
async def bare_dsn(postgres_server: str) -> AsyncIterator[str]:
    """A fresh database with nothing in it, by a superuser of it."""
    async with _fresh(postgres_server, "template0") as made:
        yield made


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[Store]:
    """A Store on a fresh database."""
    connected = await Store.connect(dsn)
    yield connected
    await connected.close()


@contextlib.asynccontextmanager
async def _fresh(server: str, template: str) -> AsyncIterator[str]:
    admin = await asyncpg.connect(server)
    name = f"cx_test_{os.getpid()}_{next(_numbers)}"
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield _database(server, name)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


def _database(dsn: str, name: str) -> str:
    parts = urlsplit(dsn)
    return f"{parts.scheme}://{parts.netloc}/{name}?{parts.query}"
