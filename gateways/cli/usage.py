"""`cx` for metered use: what was used, what was reported, what of it was refused."""

from collections.abc import Sequence
from typing import Annotated, Literal

from cyclopts import Parameter

from gateways.cli.access import HERE, USAGE, Access, fail, run
from gateways.cli.show import show
from gateways.client import Exchange
from gateways.client.types import HourUse, LeaseUse


def usage(
    lease_id: str | None = None,
    /,
    *,
    by: Literal["lease", "hour"] | None = None,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    until: str | None = None,
    as_: Annotated[Literal["buyer", "supplier"], Parameter(name="--as")] = "buyer",
    refused: bool = False,
    limit: int = 50,
    access: Access = HERE,
) -> None:
    """Show what your leases used and what that comes to; or the reports of a lease.

    Parameters
    ----------
    by
        lease, the newest first, closed ones too; or hour, of all your leases or of the one
    from_
        from when (RFC 3339); else from the beginning
    until
        until when; else all
    as_
        buyer or supplier
    refused
        as a supplier: your reports that had no effect, of the lease or of any, and why; the newest first
    """
    if lease_id is not None and by == "lease":
        fail("by lease it is all of them: leave out --by for the lease's reports, or say --by hour", USAGE)
    if (refused or (lease_id is not None and by is None)) and (from_ or until):
        fail("--from and --until go with --by", USAGE)

    async def call(exchange: Exchange) -> None:
        if refused:
            await _show_refused(exchange, lease_id, limit, access)
        elif by == "hour":
            found = await exchange.usage_by_hour(lease_id, role=as_, since=from_, until=until, limit=limit)
            rows = ((use.since, use.until, *_figures(use)) for use in found)
            show(found, ("from", "until", *_columns(as_)), rows, access)
        elif lease_id is None:
            leases = await exchange.usage_by_lease(role=as_, since=from_, until=until, limit=limit)
            lines = ((use.lease_id, use.class_id, str(use.quantity), use.state, *_figures(use)) for use in leases)
            show(leases, ("lease", "class", "GPUs", "state", *_columns(as_)), lines, access)
        else:
            await _show_reports(exchange, lease_id, limit, access)

    run(call, access)


async def _show_reports(exchange: Exchange, lease_id: str, limit: int, access: Access) -> None:
    found = await exchange.usage(lease_id, limit=limit)
    rows = ((str(u.sequence), str(u.gpu_ms), "yes" if u.final else "", u.measured_at, u.reported_at) for u in found)
    show(found, ("sequence", "GPU-ms in all", "final", "up to", "reported"), rows, access)


async def _show_refused(exchange: Exchange, lease_id: str | None, limit: int, access: Access) -> None:
    found = await exchange.refused_usage(lease_id, limit=limit)
    rows = ((u.refused_at, u.lease_id, str(u.sequence), str(u.gpu_ms), u.error.message) for u in found)
    show(found, ("refused", "lease", "sequence", "GPU-ms in all", "why"), rows, access)


def _columns(role: str) -> Sequence[str]:
    return "GPU-ms", "forfeited", "cost $", "fee $", "charged $" if role == "buyer" else "earned $"


def _figures(use: HourUse | LeaseUse) -> Sequence[str]:
    return str(use.gpu_ms), str(use.forfeited_gpu_ms), use.cost, use.fee, use.amount
