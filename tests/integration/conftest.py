"""The whole exchange, real in every part, in the test's own process: log, engine, settlement, Postgres, HTTP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import pytest
from msgspec import Struct
from prometheus_client import CollectorRegistry

from gateways.api.app import Exchange, create_app
from gateways.api.keys import digest, new_secret
from gateways.api.limits import USUAL, Rates
from gateways.api.server import serve
from gateways.api.socket import USUAL as USUAL_STREAMS
from gateways.api.socket import Bounds
from gateways.api.vault import Vault, new_vault_secret
from gateways.client import Exchange as Client
from gateways.log.embedded import EmbeddedLog
from gateways.market_data.fills import FillsPublisher
from gateways.market_data.metrics import FillsMetrics
from gateways.market_data.replica import Replica
from gateways.market_data.tape import Tape
from matching_engine import checks
from matching_engine.metrics import EngineMetrics
from matching_engine.service import EngineService
from schemas.ids import position
from schemas.store import Account, Network, Scope
from schemas.topics import COMMANDS
from settlement.service import SettlementService
from settlement.store import Store
from tests.settling import FEE_BPS, MONEY, Market, ScriptedLog, trading

CLASS = "H100-SXM-80GB"


class Service(Protocol):
    ready: asyncio.Event

    async def run(self) -> None: ...


class Venue(Struct):
    """An exchange that runs, its admin's client, and what stands behind it."""

    url: str
    key: str
    admin: Client
    log: EmbeddedLog
    store: Store

    async def key_of(self, name: str, *scopes: str, money: str = "") -> str:
        """The key of a new account."""
        account = await self.admin.create_account(name, scopes=scopes)
        if money:
            await self.admin.deposit(account.account_id, money, reference=f"first-{name}")
        assert account.key is not None
        return account.key

    @contextlib.asynccontextmanager
    async def trader(self, name: str, *, money: str = "1000000") -> AsyncIterator[Client]:
        """A new account that may do all but administer."""
        key = await self.key_of(name, "read", "trade", "supply", "meter", money=money)
        async with Client(self.url, key) as client:
            yield client


@contextlib.asynccontextmanager
async def running(services: Sequence[Service]) -> AsyncIterator[None]:
    """Runs the services, entered when all are ready."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(service.run()) for service in services]
        for service in services:
            await asyncio.wait_for(service.ready.wait(), 30)
        yield
        for task in tasks:
            task.cancel()


def engines(log: EmbeddedLog) -> list[Service]:
    """What answers commands, and publishes the answers."""
    registry = CollectorRegistry()
    metrics, fills = EngineMetrics(registry), FillsMetrics(registry)
    partitions = range(log.partitions("commands.v1"))
    return [
        *(EngineService(log, partition, metrics=metrics) for partition in partitions),
        *(FillsPublisher(log, partition, metrics=fills) for partition in partitions),
    ]


@contextlib.asynccontextmanager
async def serving(
    log: EmbeddedLog,
    store: Store,
    *,
    answer_timeout_s: float = 5.0,
    payment_secrets: tuple[bytes, ...] = (),
    trusted_proxies: tuple[Network, ...] = (),
    vault: Vault | None = None,
    private_webhooks: bool = False,
    rates: Rates = USUAL,
    streams: Bounds = USUAL_STREAMS,
) -> AsyncIterator[str]:
    """The API over them: its address."""
    replica, tape = Replica(log), Tape(log)
    api = Exchange(
        log=log,
        store=store,
        books=replica,
        standings=replica,
        tape=tape,
        vault=vault or Vault([new_vault_secret()]),
        checks=checks,
        registry=CollectorRegistry(),
        answer_timeout_s=answer_timeout_s,
        payment_secrets=payment_secrets,
        trusted_proxies=trusted_proxies,
        rates=rates,
        private_webhooks=private_webhooks,
        streams=streams,
    )
    async with running([replica, tape, api]), serve(create_app(api)) as server:
        yield server.url


async def admin_key(store: Store, log: EmbeddedLog) -> str:
    """The key of the exchange's own account, made anew."""
    account = await store.create_account("exchange", buyer_fee_bps=0, seller_fee_bps=0, owner=None, now=log.now())
    secret = new_secret()
    await store.create_key(
        account.id, digest=digest(secret), prefix=secret[:10], label="", scopes=frozenset(Scope), now=log.now()
    )
    return secret


async def ready_key(log: EmbeddedLog, store: Store) -> str:
    """The admin's key of an exchange that ran for a moment: its class is open, and the account has $1,000."""
    async with running(engines(log)), serving(log, store) as url:
        key = await admin_key(store, log)
        async with Client(url, key) as admin:
            await admin.create_class(CLASS, accelerator="H100", memory_gb=80, form_factor="SXM")
            await admin.deposit((await admin.account()).account_id, "1000", reference="first")
    return key


@pytest.fixture
async def exchange(embedded_log: EmbeddedLog, store: Store) -> AsyncIterator[Venue]:
    """The whole of it, with one class."""
    services = [*engines(embedded_log), SettlementService(embedded_log, store)]
    async with running(services), serving(embedded_log, store) as url:
        key = await admin_key(store, embedded_log)
        async with Client(url, key) as admin:
            await admin.create_class(CLASS, accelerator="H100", memory_gb=80, form_factor="SXM")
            for partition in range(embedded_log.partitions(COMMANDS)):  # a further gateway knows it from the store
                if end := await embedded_log.end(COMMANDS, partition):
                    await store.wait_applied(partition, position(partition, end - 1), 30)
            yield Venue(url=url, key=key, admin=admin, log=embedded_log, store=store)


# With records written by hand, where the test says how time passes.


@pytest.fixture
async def log() -> ScriptedLog:
    return ScriptedLog()


@pytest.fixture
async def market(log: ScriptedLog, store: Store) -> AsyncIterator[Market]:
    async with trading(log, store) as market:
        yield market


@pytest.fixture
async def buyer(market: Market) -> Account:
    return await market.account("buyer", fee_bps=FEE_BPS, money=MONEY)


@pytest.fixture
async def seller(market: Market) -> Account:
    return await market.account("seller", fee_bps=FEE_BPS)
