"""`cx suppliers`: what became of what they sold."""

from gateways.cli.access import HERE, Access, run
from gateways.cli.show import show, show_one
from gateways.client import Exchange
from gateways.client.types import Spread, SupplierRecord

COLUMNS = ("supplier", "name", "leases", "in time", "delivery s", "uptime", "degraded", "not delivered", "ended early")


def suppliers(
    account_id: str | None = None,
    /,
    *,
    since: str | None = None,
    until: str | None = None,
    limit: int = 50,
    access: Access = HERE,
) -> None:
    """Show what became of suppliers' leases, of all or of one: those that closed in the last 90 days.

    Of uptime and delivery time it shows what a tenth, half and nine tenths of the leases have at most.

    Parameters
    ----------
    account_id
        of one supplier
    since
        RFC 3339; closed from then on
    until
        RFC 3339; closed before
    """

    async def call(exchange: Exchange) -> None:
        if account_id is not None:
            show_one(await exchange.supplier_record(account_id, since=since, until=until), access)
        else:
            found = await exchange.suppliers(since=since, until=until, limit=limit)
            show(found, COLUMNS, map(_row, found), access)

    run(call, access)


def _row(record: SupplierRecord) -> tuple[str, ...]:
    counts = map(str, (record.degraded, record.not_delivered, record.ended_early))
    on_time = record.delivered_on_time_bps
    return (
        record.account_id,
        record.name,
        str(record.leases),
        "" if on_time is None else _percent(on_time),
        "" if record.delivery_s is None else " ".join(map(str, _three(record.delivery_s))),
        "" if record.uptime_bps is None else " ".join(map(_percent, _three(record.uptime_bps))),
        *counts,
    )


def _three(spread: Spread) -> tuple[int, int, int]:
    return spread.p10, spread.median, spread.p90


def _percent(bps: int) -> str:
    """
    >>> _percent(9_950)
    '99.50%'
    """
    return f"{bps // 100}.{bps % 100:02}%"
