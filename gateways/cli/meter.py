"""`cx meter`: loaded only when it is called, so that the other commands start at once."""

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter, validators
from msgspec import Struct

from gateways.cli.access import HERE, UNREACHABLE, USAGE, Access, connection, fail
from gateways.meter.exporter import Source
from gateways.meter.meter import Meter, Metered, MeterError
from gateways.meter.spool import Spool, SpoolError

SPOOL = Path(".data/meter")
EXPORTER = "http://127.0.0.1:9400/metrics"
"""Where dcgm-exporter listens by itself."""


class Config(Struct, forbid_unknown_fields=True):
    """What --config names."""

    leases: list[Metered]


def meter(
    *,
    lease: str | None = None,
    gpus: str | None = None,
    exporter: str = EXPORTER,
    config: Path | None = None,
    spool: Path = SPOOL,
    interval: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=3600))] = 60,
    once: bool = False,
    access: Access = HERE,
) -> None:
    """As their supplier, meter leases by dcgm-exporter and report what they use, until they are over.

    A GPU counts from one look to the next if both show it, from its buyer's acceptance to the lease's end. All is on
    disk before it is sent; while the exchange is away it waits there.

    Parameters
    ----------
    lease
        one lease, with --gpus; or say --config
    gpus
        its GPUs, with commas: the exporter's `gpu` labels, like 0,1, or UUIDs
    exporter
        the address of dcgm-exporter's metrics
    config
        a JSON file for leases on several nodes:
        {"leases": [{"lease_id": "lse_…", "sources": [{"exporter": "http://…", "gpus": ["0", "1"]}]}]}
    spool
        folder for what is not reported yet; one meter's alone
    interval
        seconds from look to look; where they are more than three of these apart, the time between is not metered
    once
        look and send once, for a timer of yours that calls it every --interval
    """
    leases = _leases(lease, gpus, exporter, config)
    opened = connection(access)

    async def metering() -> bool:
        async with opened as exchange:
            meter = Meter(
                leases, exchange, kept, interval_ms=interval * 1000, tell=lambda line: print(line, flush=True)
            )
            if not once:
                what = ", ".join(each.lease_id for each in leases)
                print(f"cx: metering {what} every {interval} s; Ctrl-C ends it", file=sys.stderr, flush=True)
                await meter.run()
                return True
            reached = await meter.send()
            await meter.observe()
            return reached and await meter.send()

    try:
        with contextlib.closing(Spool(spool)) as kept, contextlib.suppress(KeyboardInterrupt):
            if not asyncio.run(metering()):
                raise SystemExit(UNREACHABLE)
    except (MeterError, SpoolError) as error:
        fail(str(error), USAGE)


def _leases(lease: str | None, gpus: str | None, exporter: str, config: Path | None) -> list[Metered]:
    if (lease is None) == (config is None) or (lease is None) != (gpus is None):
        fail("say what to meter: --lease with --gpus, or --config", USAGE)
    if lease is not None and gpus is not None:
        return [Metered(lease, [Source(exporter, gpus.split(","))])]
    assert config is not None
    try:
        return msgspec.json.decode(config.read_bytes(), type=Config).leases
    except (OSError, msgspec.MsgspecError) as error:
        fail(f"{config} cannot be read: {error}", USAGE)
