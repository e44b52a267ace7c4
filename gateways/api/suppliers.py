"""Routes of what became of suppliers' leases: public statistics."""

from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery

from gateways.api import resources, terms
from gateways.api.errors import ANYWHERE, documented, invalid, refused
from gateways.api.routes import Limit
from schemas.ids import format_account_id, parse_account_id
from schemas.log import Log
from schemas.refusals import Refusal
from schemas.store import Spread, Store, SupplierRecord
from schemas.units import BPS, DAY_MS, format_time, parse_time

USUAL_DAYS, MAX_DAYS = 90, 366


def supplier_routes(log: Log, store: Store) -> list[HTTPRouteHandler]:
    """What anyone may see of suppliers."""

    @get("/v1/suppliers", responses=ANYWHERE)
    async def list_suppliers(
        since: FromQuery[str | None] = None,
        until: FromQuery[str | None] = None,
        after: FromQuery[str | None] = None,
        limit: Limit = 100,
    ) -> resources.Page[resources.SupplierRecord]:
        """Who has sold, by account, each with its record: of leases that closed in the time range, at most 366 days,
        else the last 90."""
        first, last = time_range(since, until)
        behind = 0 if after is None else terms.parsed("after", parse_account_id, after)
        found = await store.supplier_records(since=first, until=last, account=None, after=behind, limit=limit)
        return resources.Page(
            [_shown(record, first, last) for record in found],
            format_account_id(found[-1].account) if len(found) == limit else None,
        )

    @get("/v1/suppliers/{account_id:str}/record", responses=ANYWHERE | documented(404))
    async def supplier_record(
        account_id: FromPath[str], since: FromQuery[str | None] = None, until: FromQuery[str | None] = None
    ) -> resources.SupplierRecord:
        """The record of one supplier, likewise. An account that has sold nothing is none."""
        first, last = time_range(since, until)
        account = terms.parsed("account_id", parse_account_id, account_id)
        found = await store.supplier_records(since=first, until=last, account=account, after=0, limit=1)
        if not found:
            raise refused(Refusal.UNKNOWN_ACCOUNT, (account_id,))
        return _shown(found[0], first, last)

    def time_range(since: str | None, until: str | None) -> tuple[int, int]:
        last = log.now() if until is None else terms.parsed("until", parse_time, until)
        first = last - USUAL_DAYS * DAY_MS if since is None else terms.parsed("since", parse_time, since)
        if not last - MAX_DAYS * DAY_MS <= first < last:
            raise invalid("since", f"since must be before until, by at most {MAX_DAYS} days")
        return max(0, first), max(0, last)

    return [list_suppliers, supplier_record]


def _shown(record: SupplierRecord, since: int, until: int) -> resources.SupplierRecord:
    due = record.delivered + record.not_delivered
    return resources.SupplierRecord(
        account_id=format_account_id(record.account),
        name=record.name,
        since=format_time(since),
        until=format_time(until),
        leases=record.leases,
        delivered=record.delivered,
        not_delivered=record.not_delivered,
        delivered_on_time_bps=record.delivered * BPS // due if due else None,
        delivery_s=_spread(record.delivery_s),
        uptime_bps=_spread(record.uptime_bps),
        degraded=record.degraded,
        ended_early=record.ended_early,
    )


def _spread(spread: Spread | None) -> resources.Spread | None:
    return None if spread is None else resources.Spread(*spread)
