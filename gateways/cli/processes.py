"""Wires the exchange: every service gets its collaborators here and nowhere else.

Crash-only: a service that fails ends the whole process with its error, and starting again is the only recovery.
"""

import asyncio
import contextlib
import gc
import os
import resource
import tomllib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry, start_http_server

from gateways.api.app import Exchange, create_app
from gateways.api.keys import digest, made_key, new_secret, of_secret
from gateways.api.limits import USUAL, Rates
from gateways.api.server import serve
from gateways.api.socket import USUAL as USUAL_STREAMS
from gateways.api.socket import Bounds
from gateways.api.vault import Vault
from gateways.api.webhook import secrets_in
from gateways.cli.facts.classes import standard_classes
from gateways.client import Exchange as Client
from gateways.log.open import open_log
from gateways.market_data.fills import FillsPublisher
from gateways.market_data.metrics import FillsMetrics
from gateways.market_data.replica import Replica
from gateways.market_data.tape import Tape
from gateways.webhooks.deliverer import Deliverer
from gateways.webhooks.target import Targets
from matching_engine import checks
from matching_engine.metrics import EngineMetrics
from matching_engine.service import EngineService
from schemas.log import Log
from schemas.store import Network, Scope
from schemas.topics import COMMANDS
from settlement.auditor import REPORTED, Auditor
from settlement.metrics import AuditMetrics, SettlementMetrics
from settlement.postgres import EmbeddedPostgres
from settlement.service import SettlementService
from settlement.store import Store

READY_TIMEOUT_S = 600.0
"""For recovery: folding a long log from its start takes its time."""
SPARE_FILES = 600
"""Open at once beside streams: requests' connections, the log's, the database's."""
CONFIG = "cx.toml"
SECRETS = "secrets"
"""The file of those that seal what buyers alone may read."""
PAYMENTS_SECRET = "CX_PAYMENTS_SECRET"
"""The environment's: what signs a payment provider's events (gateways/api/webhook.py)."""
EXCHANGE = "exchange"
"""The name of the exchange's own account, the first one."""


class Settings(Struct, frozen=True):
    """Where one exchange lives and how it is reached."""

    data: Path
    """Folder of the embedded log, the embedded Postgres and `cx.toml`."""
    log: str = "embedded"
    """`embedded` or `kafka://HOST:PORT[,HOST:PORT]`."""
    dsn: str | None = None
    """A Postgres to use; None runs the embedded one."""
    host: str = "127.0.0.1"
    port: int = 8080
    """0 picks a free one."""
    partitions: int = 1
    speed: int = 1
    """Of the embedded log's clock, fixed when it is created."""
    trusted_proxies: tuple[Network, ...] = ()
    """Whose word is taken on where a request comes from (gateways/api/addresses.py)."""
    rates: Rates = USUAL
    """How often a key and an account may ask."""
    streams: Bounds | None = None
    """How many clients' streams may be open at once; None is the usual, as far as there may be open files."""
    private_webhooks: bool = False
    """Whether customers' servers may have http and addresses that are not public."""
    list_classes: bool = True
    """Open a book for each standard class at start."""


class Service(Protocol):
    """Runs until cancelled; raises on any unexpected error."""

    ready: asyncio.Event

    async def run(self) -> None: ...


class Running(Struct, frozen=True):
    """A running exchange."""

    url: str
    admin_key: str
    config: Path
    """The file with both, for `CX_CONFIG`."""
    log: Log


@contextlib.asynccontextmanager
async def exchange(settings: Settings) -> AsyncIterator[Running]:
    """The whole exchange in this process, ready to trade. Leaves nothing running behind."""
    settings.data.mkdir(parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        folder = settings.data / "log"
        log = await stack.enter_async_context(
            connected(settings.log, settings.partitions, folder=folder, speed=settings.speed)
        )
        snapshots, vault = folder / "snapshots", Vault.in_folder(settings.data / SECRETS)
        store = await stack.enter_async_context(connected_store(settings.dsn, settings.data / "postgres"))
        registry = CollectorRegistry()
        metrics, fills = EngineMetrics(registry), FillsMetrics(registry)
        partitions = range(log.partitions(COMMANDS))
        engines = [EngineService(log, partition, metrics=metrics, snapshots=snapshots) for partition in partitions]
        await stack.enter_async_context(
            supervised(
                [
                    *engines,
                    SettlementService(log, store, metrics=SettlementMetrics(registry)),
                    Auditor(log, store, metrics=AuditMetrics(registry, REPORTED)),
                    *(FillsPublisher(log, partition, metrics=fills) for partition in partitions),
                    Deliverer(store.webhooks, vault, registry, targets=Targets(settings.private_webhooks)),
                ]
            )
        )
        url = await stack.enter_async_context(
            serving(
                log,
                store,
                vault,
                settings.host,
                settings.port,
                registry,
                engines,
                settings.trusted_proxies,
                rates=settings.rates,
                streams=settings.streams,
                private_webhooks=settings.private_webhooks,
            )
        )
        key = await _admin_key(store, _saved_key(settings.data / CONFIG), log.now())
        if settings.list_classes:
            await _list_standard_classes(url, key)
        spare_garbage_collection()
        yield Running(url=url, admin_key=key, config=_write_config(settings.data / CONFIG, url, key), log=log)


@contextlib.asynccontextmanager
async def audited(settings: Settings) -> AsyncIterator[tuple[Log, Store]]:
    """The log and the database of an exchange that is to be looked at; an embedded one must not be running."""
    async with (
        connected(settings.log, folder=settings.data / "log", read_only=True) as log,
        connected_store(settings.dsn, settings.data / "postgres") as store,
    ):
        yield log, store


@contextlib.asynccontextmanager
async def connected(
    url: str, partitions: int = 1, *, folder: Path = Path(), speed: int = 1, read_only: bool = False
) -> AsyncIterator[Log]:
    """The log that `url` names; an embedded one in `folder`."""
    log = await open_log(url, folder=folder, partitions=partitions, speed=speed, read_only=read_only)
    try:
        yield log
    finally:
        await log.close()


@contextlib.asynccontextmanager
async def connected_store(dsn: str | None, folder: Path = Path()) -> AsyncIterator[Store]:
    """Settlement's database, migrated: the one that `dsn` names, else the embedded one in `folder`."""
    async with contextlib.AsyncExitStack() as stack:
        if dsn is None:
            dsn = await stack.enter_async_context(EmbeddedPostgres.running(folder))
        store = await Store.connect(dsn)
        stack.push_async_callback(store.close)
        yield store


@contextlib.asynccontextmanager
async def serving(
    log: Log,
    store: Store,
    vault: Vault,
    host: str,
    port: int,
    registry: CollectorRegistry,
    engines: Sequence[EngineService] = (),
    trusted_proxies: Sequence[Network] = (),
    *,
    private_webhooks: bool = False,
    rates: Rates = USUAL,
    streams: Bounds | None = None,
) -> AsyncIterator[str]:
    """The HTTP API, with the books beside it: its address. It answers as soon as an engine that runs in this process
    does, and by the log for those that run elsewhere. Raises OSError where so many streams cannot be."""
    replica, tape = Replica(log, engines), Tape(log)
    api = Exchange(
        log=log,
        store=store,
        books=replica,
        standings=replica,
        tape=tape,
        vault=vault,
        checks=checks,
        registry=registry,
        payment_secrets=secrets_in(os.environ.get(PAYMENTS_SECRET, "")),
        trusted_proxies=trusted_proxies,
        rates=rates,
        private_webhooks=private_webhooks,
        streams=within_files(streams),
    )
    async with supervised([replica, tape, api]), serve(create_app(api), host, port) as server:
        for engine, replies in zip(engines, api.replies, strict=False):
            engine.listeners.append(replies.hear)
        yield server.url


def within_files(streams: Bounds | None) -> Bounds:
    """The bounds, once this process may have as many open files as they want; None is the usual ones, or what the
    system allows of them. Raises OSError where it does not allow what was asked for."""
    wanted = (streams or USUAL_STREAMS).all + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return streams or USUAL_STREAMS
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except ValueError:
        most = hard - SPARE_FILES
        if streams is None and most > 0:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            return msgspec.structs.replace(USUAL_STREAMS, all=most)
        raise OSError(
            f"{wanted - SPARE_FILES} streams want {wanted} open files, and this process may have {hard}: "
            f"raise its limit (ulimit -Hn {wanted}){f', or say --streams {most}' if most > 0 else ''}"
        ) from None
    return streams or USUAL_STREAMS


@contextlib.contextmanager
def told_to_prometheus(registry: CollectorRegistry, host: str, port: int | None) -> Iterator[None]:
    """Serves the registry's figures at /metrics, from a thread of its own, for a process that has no API; not where
    `port` is None. Raises OSError where the address is taken."""
    if port is None:
        yield
        return
    server, thread = start_http_server(port, host, registry)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.asynccontextmanager
async def supervised(services: Sequence[Service]) -> AsyncIterator[None]:
    """Runs the services, entered when all are ready; where one fails the body is cancelled and its error raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(service.run(), name=type(service).__name__) for service in services]
            try:
                async with asyncio.timeout(READY_TIMEOUT_S):
                    for service in services:
                        await service.ready.wait()
                yield
            finally:
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None  # the first ended the others


def spare_garbage_collection() -> None:
    """Leaves what lives for good out of every collection, and makes what is left short: each stops all that this
    process does, for as long as the objects take that came since the last, 2 ms at 5,000. Cycles are few: messages are
    Structs and tuples."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 4, 1_000)


async def forever(services: Sequence[Service]) -> None:
    """Runs the services until cancelled, or until one fails."""
    async with supervised(services):
        spare_garbage_collection()
        await asyncio.Event().wait()


async def _admin_key(store: Store, saved: str | None, now: int) -> str:
    """The key of the exchange's own account: the saved one, or a new one where that is not valid any more."""
    if saved is not None and (known := await store.key(digest(saved))) is not None and not known.ended(now):
        return saved
    return await new_admin_key(store, now)


async def new_admin_key(store: Store, now: int) -> str:
    """A key of the exchange's own account, the first one, which is made where there is none. Ms."""
    first = await store.accounts(after=0, limit=1)
    account = (
        first[0]
        if first
        else await store.create_account(EXCHANGE, buyer_fee_bps=0, seller_fee_bps=0, owner=None, now=now)
    )
    secret = new_secret()
    await made_key(store, account.id, of_secret(secret), label="the exchange", scopes=frozenset(Scope), now=now)
    return secret


def _saved_key(config: Path) -> str | None:
    try:
        key: str = tomllib.loads(config.read_text())["key"]
    except (OSError, ValueError, KeyError):
        return None
    return key


def _write_config(path: Path, url: str, key: str) -> Path:
    """Atomically, readable by this user alone: it holds a secret."""
    draft = path.with_suffix(".new")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(f'url = "{url}"\nkey = "{key}"\n')
    draft.replace(path)
    return path


async def _list_standard_classes(url: str, key: str) -> None:
    """Opens a book for each standard class that has none yet."""
    async with Client(url, key) as client:
        listed = {listing.class_id for listing in await client.classes()}
        for spec in standard_classes():
            if spec.class_id not in listed:
                await client.create_class(
                    spec.class_id,
                    accelerator=spec.accelerator,
                    memory_gb=spec.memory_gb,
                    form_factor=spec.form_factor,
                )
