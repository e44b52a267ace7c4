"""`cx` for who runs an exchange: the whole of it, its processes one by one, the play, the audit."""

import asyncio
import contextlib
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
import structlog
import uvloop
from cyclopts import Parameter, validators
from prometheus_client import CollectorRegistry

from gateways.api.addresses import network
from gateways.api.limits import USUAL, Rate, Rates
from gateways.api.socket import USUAL as USUAL_STREAMS
from gateways.api.socket import Bounds
from gateways.api.vault import Vault, VaultError, new_vault_secret
from gateways.cli.access import HERE, Access, run
from gateways.cli.play import play as play_market
from gateways.cli.processes import (
    Settings,
    audited,
    connected,
    connected_store,
    exchange,
    forever,
    new_admin_key,
    serving,
    told_to_prometheus,
)
from gateways.cli.show import progress, show_one
from gateways.cli.view import View
from gateways.client import Exchange
from gateways.log.broker import Broker, BrokerError
from gateways.market_data.fills import FillsPublisher
from gateways.market_data.metrics import FillsMetrics
from gateways.webhooks.deliverer import Deliverer
from gateways.webhooks.target import Targets
from matching_engine import CORE
from matching_engine.metrics import EngineMetrics
from matching_engine.replay import last_answered, recovered, verified
from matching_engine.service import EngineService
from matching_engine.state import BookState
from schemas.ids import format_order_id, offset_of, parse_order_id, partition_of
from schemas.log import LogError
from schemas.store import Network, StoreError
from schemas.topics import COMMANDS
from schemas.units import format_duration, format_time, format_usd
from settlement.audit import audit as audit_books
from settlement.auditor import REPORTED, Auditor
from settlement.metrics import AuditMetrics, SettlementMetrics
from settlement.postgres import PostgresError
from settlement.service import SettlementService

DATA = Path(".data")
FAILED = 70
"""Exit code of a process that one of its services ended (EX_SOFTWARE): its supervisor starts it again."""


Log = Annotated[str, Parameter(help="embedded, or kafka://HOST:PORT[,HOST:PORT]")]
Dsn = Annotated[str | None, Parameter(help="a Postgres to use, like postgresql://user@host/db; else the embedded one")]
Partitions = Annotated[int, Parameter(help="of the log's topics", validator=validators.Number(gte=1, lte=1024))]
PrivateWebhooks = Annotated[
    bool,
    Parameter(
        name="--private-webhooks",
        negative=(),
        help="let webhooks have http and addresses that are not public",
    ),
]
Port = Annotated[int, Parameter(help="0 picks a free one", validator=validators.Number(gte=0, lte=65535))]
MetricsPort = Annotated[
    int | None,
    Parameter(
        help="serve /metrics for Prometheus on this port of --host", validator=validators.Number(gte=1, lte=65535)
    ),
]
Bounded = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=1_000_000))]


@Parameter(name="*")
@dataclass(frozen=True)
class Doors:
    """Where the API listens, whom it believes, and how much it takes.

    Parameters
    ----------
    host
        address that it listens on
    trusted_proxies
        address or network whose X-Forwarded-For is believed on where a request comes from; may be repeated
    key_rate
        requests a second of each API key; an order counts as one, and so do 25 rows of a page
    key_burst
        of each API key at once, after a rest
    account_rate
        likewise of each account, all its keys together
    account_burst
        of each account at once, after a rest
    preview_rate
        of them, what an order would do and why one waits
    preview_burst
        of those at once, after a rest
    walk_rate
        books and offers a second that an address may ask for, or an account
    walk_burst
        of those at once, after a rest
    streams
        WebSockets open at once; 6000, or what the limit of open files allows
    streams_each
        of them, of one account; or without a key, of one address
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    trusted_proxies: Annotated[tuple[str, ...], Parameter(name="--trusted-proxy")] = ()
    key_rate: Bounded = USUAL.key.per_s
    key_burst: Bounded = USUAL.key.burst
    account_rate: Bounded = USUAL.account.per_s
    account_burst: Bounded = USUAL.account.burst
    preview_rate: Bounded = USUAL.preview.per_s
    preview_burst: Bounded = USUAL.preview.burst
    walk_rate: Bounded = USUAL.walk.per_s
    walk_burst: Bounded = USUAL.walk.burst
    streams: Bounded | None = None
    streams_each: Bounded = USUAL_STREAMS.each
    private_webhooks: PrivateWebhooks = False

    @property
    def trusted(self) -> tuple[Network, ...]:
        """Raises ValueError where one is no network."""
        return tuple(map(network, self.trusted_proxies))

    @property
    def rates(self) -> Rates:
        key, account = Rate(self.key_rate, self.key_burst), Rate(self.account_rate, self.account_burst)
        preview, walk = Rate(self.preview_rate, self.preview_burst), Rate(self.walk_rate, self.walk_burst)
        return Rates(key, account, preview, walk)

    @property
    def bounds(self) -> Bounds | None:
        """None is the usual, as far as there may be open files."""
        if self.streams is None and self.streams_each == USUAL_STREAMS.each:
            return None
        return Bounds(USUAL_STREAMS.all if self.streams is None else self.streams, self.streams_each)


USUAL_DOORS = Doors()


def up(
    *,
    data: Path = DATA / "exchange",
    log: Log = "embedded",
    dsn: Dsn = None,
    partitions: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=64))] = 1,
    doors: Doors = USUAL_DOORS,
) -> None:
    """Run a whole exchange in one process: persistent, and empty at first.

    Parameters
    ----------
    data
        folder of the embedded log, the embedded Postgres, and cx.toml with the address and the admin's key
    partitions
        of a log that is created now; the classes are spread over them
    """
    _supervise(_up(data, log, dsn, partitions, doors))


async def _up(data: Path, log: str, dsn: str | None, partitions: int, doors: Doors) -> None:
    settings = Settings(
        data=data,
        log=log,
        dsn=dsn,
        host=doors.host,
        port=doors.port,
        partitions=partitions,
        trusted_proxies=doors.trusted,
        rates=doors.rates,
        streams=doors.bounds,
        private_webhooks=doors.private_webhooks,
    )
    async with exchange(settings) as running:
        print(f"The exchange is open at {running.url}, its engine's core is {CORE}. For cx in another terminal:\n")
        print(f"  export CX_CONFIG={running.config.resolve()}\n")
        print("Ctrl-C closes it; the same command opens it again.", flush=True)
        await asyncio.Event().wait()


def play(
    *,
    seed: int = 1,
    for_: Annotated[timedelta | None, Parameter(name="--for", help="end by itself after so long, like 30s")] = None,
    speed: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=86_400))] = 3600,
    data: Path = DATA / "play",
    resume: bool = False,
    log: Log = "embedded",
    dsn: Dsn = None,
    port: Port = 8080,
) -> None:
    """Run an exchange and play a market on it, through its public API alone.

    Parameters
    ----------
    seed
        of all that the players draw
    speed
        how many times faster than the wall the exchange's clock runs; on Kafka always 1
    data
        the play's own folder, emptied first
    resume
        go on with what is in the folder instead
    """
    speed = speed if log == "embedded" else 1
    if not resume and data.exists():
        shutil.rmtree(data)
    settings = Settings(data=data, log=log, dsn=dsn, port=port, speed=speed, list_classes=False)
    _supervise(_play(settings, seed, None if for_ is None else for_.total_seconds()))


async def _play(settings: Settings, seed: int, duration_s: float | None) -> None:
    async with exchange(settings) as running:
        with View(running.url, running.config) as view:
            summary = await play_market(
                running.url,
                running.admin_key,
                seed=seed,
                duration_s=duration_s,
                speed=running.log.speed,
                on_state=view.update,
            )
    print(msgspec.json.encode(summary).decode(), flush=True)


def audit(
    *,
    data: Path = DATA / "exchange",
    log: Log = "embedded",
    dsn: Dsn = None,
    status: bool = False,
    access: Access = HERE,
) -> None:
    """Prove that the money adds up and that fills, leases and entries agree. Exit code 1 where they do not.

    An exchange on embedded parts must be stopped; one on Kafka and a Postgres of its own may run.

    Parameters
    ----------
    data
        the exchange's folder
    status
        ask a running exchange instead, as its admin, what the audit found that goes on all the time; also 1 where that
        has stopped
    """
    if status:
        run(lambda exchange: _audit_status(exchange, access), access)
    else:
        _supervise(_audit(Settings(data=data, log=log, dsn=dsn), access.json))


async def _audit_status(exchange: Exchange, access: Access) -> None:
    found = await exchange.audit()
    if access.json:
        print(msgspec.json.encode(found).decode())
    else:
        show_one(msgspec.structs.replace(found, findings=[]), access)
        for each in found.findings:
            print(f"{each.what}: {each.found}, where it must be {each.expected} (since {each.age_s} s)")
    if found.alarm:
        raise SystemExit(1)


async def _audit(settings: Settings, as_json: bool) -> None:
    async with audited(settings) as (log, store):
        with progress("auditing", "rules") as on_progress:
            found = await audit_books(store, log, on_progress=on_progress)
    print(msgspec.json.encode(found).decode() if as_json else found.text())
    if found.findings:
        raise SystemExit(1)


def engine(
    *,
    log: Log,
    partition: int = 0,
    partitions: Partitions = 1,
    snapshots: Path | None = None,
    host: str = "127.0.0.1",
    metrics_port: MetricsPort = None,
) -> None:
    """Match one partition's orders. A second one on the same partition is a hot standby: both write the same bytes.

    Parameters
    ----------
    snapshots
        folder of snapshots to start from; see cx snapshot
    """
    _supervise(_engine(log, partition, partitions, snapshots, host, metrics_port))


async def _engine(
    url: str, partition: int, partitions: int, snapshots: Path | None, host: str, metrics_port: int | None
) -> None:
    registry = CollectorRegistry()
    async with connected(url, partitions) as log:
        with told_to_prometheus(registry, host, metrics_port):
            metrics = EngineMetrics(registry)
            await forever([EngineService(log, partition, metrics=metrics, snapshots=snapshots)])


def snapshot(*, snapshots: Path, log: Log, partition: int = 0, partitions: Partitions = 1) -> None:
    """Write a snapshot of an engine up to its last answer, from the log alone: the engine itself is not stopped.

    Parameters
    ----------
    snapshots
        folder of snapshots, which the engine is told too
    """
    _supervise(_snapshot(snapshots, log, partition, partitions))


async def _snapshot(folder: Path, url: str, partition: int, partitions: int) -> None:
    async with connected(url, partitions, read_only=True) as log:
        last = await last_answered(log, partition)
        with progress(f"partition {partition}", "commands") as on_progress:
            made = await recovered(log, partition, last, folder, snapshot_after=1, on_progress=on_progress)
    print(f"partition {partition} at position {made.position}: state {made.state_hash().hex()}")


def replay(
    *,
    data: Path = DATA / "exchange",
    log: Log = "embedded",
    partitions: Partitions = 1,
    verify: bool = False,
    until: str | None = None,
    class_id: Annotated[str | None, Parameter(name="--class")] = None,
    json: bool = False,
) -> None:
    """Fold the log once more: compare every answer byte by byte with what was published, or show a book of the past.

    An exchange on the embedded log must be stopped; one on Kafka may run. Exit code 1 where an answer differs.

    Parameters
    ----------
    data
        the exchange's folder
    verify
        compare the answers; without --until it is what there is to do
    until
        an order's id: the books as they were after the command that placed it
    class_id
        with --until, this class alone
    """
    settings = Settings(data=data, log=log, partitions=partitions)
    _supervise(_replay(settings, verify or until is None, until, class_id, json))


async def _replay(settings: Settings, verify: bool, until: str | None, class_id: str | None, as_json: bool) -> None:
    differences = 0
    place = None if until is None else parse_order_id(until)
    folder = settings.data / "log"
    async with connected(settings.log, settings.partitions, folder=folder, read_only=True) as log:
        for partition in range(log.partitions(COMMANDS)) if place is None else [partition_of(place)]:
            if place is not None and offset_of(place) >= await log.end(COMMANDS, partition):
                raise ValueError(f"there is no {until} in this log")
            if verify:
                with progress(f"partition {partition}", "commands") as on_progress:
                    found = await verified(log, partition, place, on_progress=on_progress)
                differences += len(found.differences)
                print(msgspec.json.encode(found).decode() if as_json else found.text())
            if place is not None:
                with progress(f"partition {partition}", "commands") as on_progress:
                    past = await recovered(log, partition, place, on_progress=on_progress)
                for book in past.state().books:
                    if class_id in (None, book.spec.class_id):
                        print(msgspec.json.encode(book).decode() if as_json else _shown(book))
    if differences:
        raise SystemExit(1)


def _shown(book: BookState) -> str:
    """Orders best first: asks, then bids."""
    lines = [f"{book.spec.class_id}: {len(book.asks)} asks, {len(book.bids)} bids, {book.fills} fills"]
    for ask in book.asks:
        window = f"{format_time(ask.start)} to {format_time(ask.end)}"
        sold = f", at most {max(ask.sold[1])} sold" if ask.sold is not None else ""
        lines.append(f"  ask {format_order_id(ask.id)}  {ask.quantity} x {format_usd(ask.price)}  {window}{sold}")
    for bid in book.bids:
        window = f"{format_duration(bid.duration)} from {format_time(bid.starts[0])}"
        lines.append(f"  bid {format_order_id(bid.id)}  {bid.left} x {format_usd(bid.price)}  {window}")
    return "\n".join(lines)


def settlement(
    *, log: Log, dsn: str, partitions: Partitions = 1, host: str = "127.0.0.1", metrics_port: MetricsPort = None
) -> None:
    """Turn executions into leases and money, and audit both. A second one waits until the first is gone."""
    _supervise(_settlement(log, dsn, partitions, host, metrics_port))


async def _settlement(url: str, dsn: str, partitions: int, host: str, metrics_port: int | None) -> None:
    registry = CollectorRegistry()
    async with connected(url, partitions) as log, connected_store(dsn) as store:
        with told_to_prometheus(registry, host, metrics_port):
            auditor = Auditor(log, store, metrics=AuditMetrics(registry, REPORTED))
            await forever([SettlementService(log, store, metrics=SettlementMetrics(registry)), auditor])


def marketdata(
    *, log: Log, partitions: Partitions = 1, host: str = "127.0.0.1", metrics_port: MetricsPort = None
) -> None:
    """Publish the public stream of fills."""
    _supervise(_marketdata(log, partitions, host, metrics_port))


async def _marketdata(url: str, partitions: int, host: str, metrics_port: int | None) -> None:
    registry = CollectorRegistry()
    async with connected(url, partitions) as log:
        with told_to_prometheus(registry, host, metrics_port):
            metrics = FillsMetrics(registry)
            await forever([FillsPublisher(log, partition, metrics=metrics) for partition in range(partitions)])


def gateway(
    *,
    log: Log,
    dsn: str,
    secrets: Path,
    partitions: Partitions = 1,
    doors: Doors = USUAL_DOORS,
) -> None:
    """Serve the HTTP API, with a replica of the books beside it. Any number of them can run.

    Parameters
    ----------
    secrets
        file of what seals how buyers reach their machines, the same for all gateways; made by cx new-secret > FILE. To
        change it, put a new one on a line in front, and keep those behind
    """
    _supervise(_gateway(log, dsn, secrets, partitions, doors))


async def _gateway(url: str, dsn: str, secrets: Path, partitions: int, doors: Doors) -> None:
    vault = Vault.of_file(secrets)
    async with (
        connected(url, partitions) as log,
        connected_store(dsn) as store,
        serving(
            log,
            store,
            vault,
            doors.host,
            doors.port,
            CollectorRegistry(),
            trusted_proxies=doors.trusted,
            rates=doors.rates,
            streams=doors.bounds,
            private_webhooks=doors.private_webhooks,
        ) as address,
    ):
        print(f"The API is open at {address}", flush=True)
        await asyncio.Event().wait()


def deliverer(
    *,
    dsn: str,
    secrets: Path,
    private_webhooks: PrivateWebhooks = False,
    host: str = "127.0.0.1",
    metrics_port: MetricsPort = None,
) -> None:
    """Tell customers' servers (webhooks) what settlement wrote down. A second one waits until the first is gone.

    Parameters
    ----------
    secrets
        the file that all gateways are told
    """
    _supervise(_deliverer(dsn, secrets, private_webhooks, host, metrics_port))


async def _deliverer(dsn: str, secrets: Path, private_webhooks: bool, host: str, metrics_port: int | None) -> None:
    registry, vault = CollectorRegistry(), Vault.of_file(secrets)
    async with connected_store(dsn) as store:
        with told_to_prometheus(registry, host, metrics_port):
            await forever([Deliverer(store.webhooks, vault, registry, targets=Targets(private_webhooks))])


def print_secret() -> None:
    """Print a new secret for the file that all gateways are told (--secrets)."""
    print(new_vault_secret())


def admin_key(*, dsn: str) -> None:
    """Print a new key of the exchange's own account, which is made where there is none: the first key of all."""
    _supervise(_admin_key(dsn))


async def _admin_key(dsn: str) -> None:
    async with connected_store(dsn) as store:
        print(await new_admin_key(store, time.time_ns() // 1_000_000))


def kafka(*, data: Path = DATA / "kafka", port: Port = 9092) -> None:
    """Run a Kafka broker of one's own on this machine: Apache's jars, fetched once by Maven, on Java 17 or newer.

    Parameters
    ----------
    data
        folder of the broker's records and output
    """
    _supervise(_kafka(Broker(data, port=port)))


async def _kafka(broker: Broker) -> None:
    await asyncio.to_thread(broker.start)
    try:
        print(
            f"Kafka listens on {broker.address}. In another terminal:\n\n  cx up --log kafka://{broker.address}\n",
            flush=True,
        )
        await asyncio.Event().wait()
    finally:
        broker.stop()


def _supervise(work: Coroutine[Any, Any, None]) -> None:
    """Runs a process to its end: Ctrl-C and SIGTERM end it in good order; what its user can mend is said in a sentence,
    and any other error is shown whole. Exit code 0, or FAILED."""
    # As text: rich, where it is there, takes 60 ms for each, and shows what variables hold.
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], renderer])
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_signalled(work))
    except (LogError, StoreError, PostgresError, BrokerError, VaultError, OSError, ValueError) as error:
        print(f"cx: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except Exception:
        traceback.print_exc()
        sys.exit(FAILED)


async def _until_signalled(work: Coroutine[Any, Any, None]) -> None:
    loop = asyncio.get_running_loop()
    working = asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, working.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await working
