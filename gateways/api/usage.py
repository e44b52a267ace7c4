"""Routes of metered use: what suppliers report, what of it was taken or refused."""

from typing import Annotated

from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from gateways.api import cloud_events, resources, terms
from gateways.api.errors import invalid
from gateways.api.instructions import Clerk
from gateways.api.keys import Keys
from gateways.api.leases import SIDES, find_lease
from gateways.api.replies import Replies, settled
from gateways.api.requests import ApiRequest
from gateways.api.routes import Limit
from schemas.commands import Side
from schemas.ids import format_lease_id, parse_lease_id
from schemas.store import RefusedUsage, Scope, Store
from schemas.units import HOUR_MS, MAX_TIME_MS, format_time, parse_time

BY = {"lease": "lease", "hour": "hour"}


def usage_routes(store: Store, keys: Keys, clerk: Clerk, replies: list[Replies]) -> list[HTTPRouteHandler]:
    """What suppliers report, what of it was taken or refused."""

    door = keys.door(Scope.METER, 504)

    @post("/v1/usage", status_code=200, **{**door, "opt": {**door["opt"], "read": cloud_events.reports}})
    async def report_usage(request: ApiRequest, data: JSONBody[resources.UsageReports]) -> resources.UsageAnswers:
        """Metered use of leases that the account supplies: each report is answered for itself, in order.

        A CloudEvents 1.0 event of type exchange.lease.usage.v1 is a report, too: structured, a batch, or binary. Its
        subject is the lease's id, its time up to when the figure counts, its data has sequence, gpu_ms and final.
        """
        answers = await clerk.report(request.user.account.id, data.reports)
        cloud_events.check_answered(request.headers, answers)
        return resources.UsageAnswers(answers=answers)

    @get("/v1/leases/{lease_id:str}/usage", **keys.door(Scope.READ, 404))
    async def list_usage(
        request: ApiRequest,
        lease_id: FromPath[str],
        after: FromQuery[int] = 0,
        limit: Limit = 100,
    ) -> resources.Page[resources.Usage]:
        """The accepted reports of a lease, by sequence."""
        lease = await find_lease(store, replies, request.user, lease_id)
        found = await store.usage(lease.id, after=after, limit=limit)
        return resources.Page(
            [terms.shown_usage(usage) for usage in found], str(found[-1].sequence) if len(found) == limit else None
        )

    @get("/v1/usage/refused", **keys.door(Scope.READ, 404))
    async def list_refused_usage(
        request: ApiRequest,
        lease_id: FromQuery[str | None] = None,
        after: FromQuery[str | None] = None,
        limit: Limit = 100,
    ) -> resources.Page[resources.RefusedUsage]:
        """The account's own reports that had no effect, with the reason of each, the newest first.

        What named no lease of the account was answered so at once, and is not kept.
        """
        lease = None if lease_id is None else await find_lease(store, replies, request.user, lease_id, as_supplier=True)
        found = await store.refused_usage(
            request.user.account.id,
            lease=None if lease is None else lease.id,
            before=None if after is None else terms.parsed("after", _parse_place, after),
            limit=limit,
        )
        return resources.Page(
            [terms.shown_refused_usage(each) for each in found], _place(found[-1]) if len(found) == limit else None
        )

    @get("/v1/usage", **keys.door(Scope.READ, 404))
    async def usage_report(
        request: ApiRequest,
        by: FromQuery[str] = "lease",
        role: FromQuery[str] = "buyer",
        since: Annotated[str | None, QueryParameter(name="from")] = None,
        until: FromQuery[str | None] = None,
        lease_id: FromQuery[str | None] = None,
        after: FromQuery[str | None] = None,
        limit: Limit = 100,
    ) -> resources.Page[resources.LeaseUse | resources.HourUse]:
        """What the account's leases used in a time range, closed ones too: by `lease`, the newest first, or by `hour`.

        Figures are differences of the cumulative ones that suppliers report, each of the time up to which its report
        counts: whatever the ranges, together they are the bill. By hour `limit` is of hours that are looked at, and
        those in which nothing was used are not there; with `lease_id` it is of that lease alone.
        """
        await settled(store, replies)
        account, side = request.user.account.id, terms.choice("role", SIDES, role)
        first = 0 if since is None else terms.parsed("from", parse_time, since)
        last = MAX_TIME_MS if until is None else terms.parsed("until", parse_time, until)
        if not 0 <= first <= last <= MAX_TIME_MS:
            raise invalid("until", "until must not be before from, nor from before 1970")
        if terms.choice("by", BY, by) == "lease":
            if lease_id is not None:
                raise invalid("lease_id", "lease_id goes with by=hour: by=lease has every lease")
            before = None if after is None else terms.parsed("after", parse_lease_id, after)
            leases = await store.usage_by_lease(account, role=side, since=first, until=last, before=before, limit=limit)
            following = format_lease_id(leases[-1].lease) if len(leases) == limit else None
            return resources.Page([terms.shown_lease_use(each) for each in leases], following)
        lease = None
        if lease_id is not None:
            found = await find_lease(
                store, replies, request.user, lease_id, as_buyer=side is Side.BID, as_supplier=side is Side.ASK
            )
            lease = found.id
        span = await store.usage_span(account, role=side, lease=lease)
        begin = first if after is None else max(first, terms.parsed("after", parse_time, after))
        begin, last = max(begin, span[0]) if span else last, min(last, span[1]) if span else last
        end = min(last, (begin // HOUR_MS + limit) * HOUR_MS)
        if begin >= end:
            return resources.Page([], None)
        hours = await store.usage_by_hour(account, role=side, lease=lease, since=begin, until=end)
        return resources.Page([terms.shown_hour_use(each) for each in hours], format_time(end) if end < last else None)

    return [report_usage, usage_report, list_usage, list_refused_usage]


def _place(refused: RefusedUsage) -> str:
    return ".".join(map(str, (refused.refused_at, *refused.record)))


def _parse_place(text: str) -> tuple[int, int, int]:
    """Raises ValueError."""
    numbers = [int(part) for part in text.split(".") if part.isdecimal() and part.isascii() and len(part) <= 18]
    if len(numbers) != 3 or text.count(".") != 2 or numbers[1] >= 1 << 31:
        raise ValueError(f"{text!r} is no cursor of this list: take the `next` of its last part")
    return numbers[0], numbers[1], numbers[2]
