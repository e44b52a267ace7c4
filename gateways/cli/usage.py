"""`cx` for metered use: what was reported, what of it was refused."""

from gateways.cli.commands import HERE, USAGE, Access, fail, run, show
from gateways.client import Exchange


def usage(lease_id: str | None = None, /, *, refused: bool = False, limit: int = 50, access: Access = HERE) -> None:
    """List the metered use of a lease, or what you reported in vain.

    Parameters
    ----------
    refused
        as a supplier: your reports that had no effect, of the lease or of any, and why; the newest first
    """
    if lease_id is None and not refused:
        fail("say of which lease, or --refused", USAGE)

    async def call(exchange: Exchange) -> None:
        if refused:
            vain = await exchange.refused_usage(lease_id, limit=limit)
            lines = ((u.refused_at, u.lease_id, str(u.sequence), str(u.gpu_ms), u.error.message) for u in vain)
            show(vain, ("refused", "lease", "sequence", "GPU-ms in all", "why"), lines, access)
            return
        found = await exchange.usage(lease_id or "", limit=limit)
        rows = ((str(u.sequence), str(u.gpu_ms), "yes" if u.final else "", u.measured_at, u.reported_at) for u in found)
        show(found, ("sequence", "GPU-ms in all", "final", "up to", "reported"), rows, access)

    run(call, access)
