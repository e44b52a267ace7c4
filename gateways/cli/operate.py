"""`cx` for who runs an exchange: the whole of it, its processes one by one, the play, the audit."""

import asyncio
import contextlib
import shutil
import signal
import sys
import traceback
from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
import uvloop
from cyclopts import Parameter, validators
from prometheus_client import CollectorRegistry

from gateways.cli.play import play as play_market
from gateways.cli.processes import Settings, audited, connected, connected_store, exchange, forever, serving
from gateways.cli.view import View
from gateways.log.broker import Broker, BrokerError
from gateways.market_data.fills import FillsPublisher
from matching_engine.service import EngineMetrics, EngineService
from schemas.log import LogError
from schemas.store import StoreError
from settlement.audit import audit as audit_books
from settlement.postgres import PostgresError
from settlement.service import SettlementService

DATA = Path(".data")
FAILED = 70
"""Exit code of a process that one of its services ended (EX_SOFTWARE): its supervisor starts it again."""


Log = Annotated[str, Parameter(help="embedded, or kafka://HOST:PORT[,HOST:PORT]")]
Dsn = Annotated[str | None, Parameter(help="a Postgres to use, like postgresql://user@host/db; else the embedded one")]
Partitions = Annotated[int, Parameter(help="of the log's topics", validator=validators.Number(gte=1, lte=1024))]
Port = Annotated[int, Parameter(help="0 picks a free one", validator=validators.Number(gte=0, lte=65535))]


def up(
    *,
    data: Path = DATA / "exchange",
    log: Log = "embedded",
    dsn: Dsn = None,
    host: str = "127.0.0.1",
    port: Port = 8080,
    partitions: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=64))] = 1,
) -> None:
    """Run a whole exchange in one process: persistent, and empty at first.

    Parameters
    ----------
    data
        folder of the embedded log, the embedded Postgres, and cx.json with the address and the admin's key
    partitions
        of a log that is created now; the classes are spread over them
    """
    _supervise(_up(Settings(data=data, log=log, dsn=dsn, host=host, port=port, partitions=partitions)))


async def _up(settings: Settings) -> None:
    async with exchange(settings) as running:
        print(f"The exchange is open at {running.url}. For cx in another terminal:\n")
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


def audit(*, data: Path = DATA / "exchange", log: Log = "embedded", dsn: Dsn = None, json: bool = False) -> None:
    """Prove that the money adds up and that fills, leases and entries agree. Exit code 1 where they do not.

    An exchange on embedded parts must be stopped; one on Kafka and a Postgres of its own may run.

    Parameters
    ----------
    data
        the exchange's folder
    """
    _supervise(_audit(Settings(data=data, log=log, dsn=dsn), json))


async def _audit(settings: Settings, as_json: bool) -> None:
    async with audited(settings) as (log, store):
        found = await audit_books(store, log)
    print(msgspec.json.encode(found).decode() if as_json else found.text())
    if found.findings:
        raise SystemExit(1)


def engine(*, log: Log, partition: int = 0, partitions: Partitions = 1) -> None:
    """Match one partition's orders. A second one on the same partition is a hot standby: both write the same bytes."""
    _supervise(_engine(log, partition, partitions))


async def _engine(url: str, partition: int, partitions: int) -> None:
    async with connected(url, partitions) as log:
        await forever([EngineService(log, partition, metrics=EngineMetrics(CollectorRegistry()))])


def settlement(*, log: Log, dsn: str, partitions: Partitions = 1) -> None:
    """Turn executions into leases and money. A second one waits until the first is gone."""
    _supervise(_settlement(log, dsn, partitions))


async def _settlement(url: str, dsn: str, partitions: int) -> None:
    async with connected(url, partitions) as log, connected_store(dsn) as store:
        await forever([SettlementService(log, store)])


def marketdata(*, log: Log, partitions: Partitions = 1) -> None:
    """Publish the public stream of fills."""
    _supervise(_marketdata(log, partitions))


async def _marketdata(url: str, partitions: int) -> None:
    async with connected(url, partitions) as log:
        await forever([FillsPublisher(log, partition) for partition in range(partitions)])


def gateway(*, log: Log, dsn: str, host: str = "127.0.0.1", port: Port = 8080, partitions: Partitions = 1) -> None:
    """Serve the HTTP API, with a replica of the books beside it. Any number of them can run."""
    _supervise(_gateway(log, dsn, host, port, partitions))


async def _gateway(url: str, dsn: str, host: str, port: int, partitions: int) -> None:
    async with (
        connected(url, partitions) as log,
        connected_store(dsn) as store,
        serving(log, store, host, port, CollectorRegistry()) as address,
    ):
        print(f"The API is open at {address}", flush=True)
        await asyncio.Event().wait()


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
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_signalled(work))
    except (LogError, StoreError, PostgresError, BrokerError, OSError, ValueError) as error:
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
