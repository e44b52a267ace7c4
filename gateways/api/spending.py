"""Routes of what teams, users and pools may spend, and do; and of daily credits."""

import re
from datetime import date, timedelta
from typing import Annotated

from litestar import get, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from gateways.api import resources, terms
from gateways.api.errors import ApiError, invalid
from gateways.api.instructions import Clerk
from gateways.api.keys import MAX_SPENDERS, Keys, must_be_unbound, spender_name, too_many_spenders
from gateways.api.replies import Replies, settled
from gateways.api.requests import ApiRequest
from gateways.api.routes import Limit
from schemas.ids import format_account_id, parse_account_id
from schemas.log import Log
from schemas.store import Caps, Credits, Scope, SpenderKind, Spent, Store
from schemas.units import DAY_MS, MICRO, format_time, format_usd, parse_usd

MAX_CAP = 10**9 * MICRO
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_EPOCH = date(1970, 1, 1)
_BY = {kind.value: kind.value for kind in SpenderKind} | {"class": "class"}


def spending_routes(log: Log, store: Store, keys: Keys, clerk: Clerk, replies: list[Replies]) -> list[HTTPRouteHandler]:
    """Caps of teams, users and pools, what they spend, and credits."""

    async def shown(request: ApiRequest, kind: SpenderKind, name: str) -> resources.Caps:
        await settled(store, replies)
        caps = await store.caps(request.user.account.id, kind, spender_name(kind, name), now=log.now())
        if caps is None:
            raise ApiError(404, "not_found", f"this account has no {kind} {name}: a key or a cap makes one", kind)
        return _shown_caps(kind, name, caps)

    async def set_caps(request: ApiRequest, kind: SpenderKind, name: str, data: resources.NewCaps) -> resources.Caps:
        must_be_unbound(request.user, "caps are set")
        was_set = await store.set_caps(
            request.user.account.id,
            kind,
            spender_name(kind, name),
            day_cap=_cap("day", data.day),
            month_cap=_cap("month", data.month),
            most=MAX_SPENDERS,
        )
        if not was_set:
            raise too_many_spenders(kind)
        return await shown(request, kind, name)

    @get("/v1/teams/{team:str}/caps", **keys.door(Scope.READ, 404))
    async def team_caps(request: ApiRequest, team: FromPath[str]) -> resources.Caps:
        """What a team may cost at most in a day and a month, and does."""
        return await shown(request, SpenderKind.TEAM, team)

    @get("/v1/users/{user_name:str}/caps", **keys.door(Scope.READ, 404))
    async def user_caps(request: ApiRequest, user_name: FromPath[str]) -> resources.Caps:
        """Likewise a user, over all teams."""
        return await shown(request, SpenderKind.USER, user_name)

    @get("/v1/pools/{pool:str}/caps", **keys.door(Scope.READ, 404))
    async def pool_caps(request: ApiRequest, pool: FromPath[str]) -> resources.Caps:
        """Likewise a pool of machine users."""
        return await shown(request, SpenderKind.POOL, pool)

    @put("/v1/teams/{team:str}/caps", **keys.door(Scope.TRADE, 409, 422))
    async def set_team_caps(
        request: ApiRequest, team: FromPath[str], data: JSONBody[resources.NewCaps]
    ) -> resources.Caps:
        """Cap a team's spend, for orders to come; with a key that is bound to nobody. What stands goes on."""
        return await set_caps(request, SpenderKind.TEAM, team, data)

    @put("/v1/users/{user_name:str}/caps", **keys.door(Scope.TRADE, 409, 422))
    async def set_user_caps(
        request: ApiRequest, user_name: FromPath[str], data: JSONBody[resources.NewCaps]
    ) -> resources.Caps:
        """Likewise a user's, over all teams."""
        return await set_caps(request, SpenderKind.USER, user_name, data)

    @put("/v1/pools/{pool:str}/caps", **keys.door(Scope.TRADE, 409, 422))
    async def set_pool_caps(
        request: ApiRequest, pool: FromPath[str], data: JSONBody[resources.NewCaps]
    ) -> resources.Caps:
        """Likewise a pool's."""
        return await set_caps(request, SpenderKind.POOL, pool, data)

    @get("/v1/spend", **keys.door(Scope.READ))
    async def spend(
        request: ApiRequest,
        by: FromQuery[str],
        first: Annotated[str | None, QueryParameter(name="from")] = None,
        until: FromQuery[str | None] = None,
        after: FromQuery[str | None] = None,
        limit: Limit = 100,
    ) -> resources.Page[resources.Spend]:
        """What each team, user, pool or class was charged on the days (UTC) from `from` to before `until`, by name.

        The first, whose name is null, is what no team, user or pool ordered. Where absent, the days are those of this
        month so far. A charge is of the day on which it was made.
        """
        await settled(store, replies)
        today = log.now() // DAY_MS
        first_of_month = today + 1 - (_EPOCH + timedelta(today)).day
        days = (
            first_of_month if first is None else _day("from", first),
            today + 1 if until is None else _day("until", until),
        )
        if days[0] >= days[1]:
            raise invalid("until", "until must be after from: it is the first day that does not count")
        found = await store.spent_by(
            request.user.account.id, terms.choice("by", _BY, by), days=days, after=after, limit=limit
        )
        return resources.Page(
            [_shown_spend(each, by) for each in found], found[-1].name if len(found) == limit else None
        )

    @get("/v1/daily-credits", **keys.door(Scope.READ))
    async def show_credits(request: ApiRequest) -> resources.DailyCredits:
        """The account's daily credits."""
        await settled(store, replies)
        account = request.user.account.id
        return _shown_credits(account, await store.daily_credits(account))

    @put("/v1/accounts/{account_id:str}/daily-credits", **keys.door(Scope.ADMIN, 404, 422, 504))
    async def grant_daily(
        account_id: FromPath[str], data: JSONBody[resources.NewDailyCredits]
    ) -> resources.DailyCredits:
        """Grant an account credits each UTC day from now on. The same again changes nothing."""
        account = terms.parsed("account_id", parse_account_id, account_id)
        await clerk.grant_daily(account, terms.parsed("daily", parse_usd, data.daily))
        return _shown_credits(account, await store.daily_credits(account))

    return [
        show_credits,
        grant_daily,
        team_caps,
        user_caps,
        pool_caps,
        set_team_caps,
        set_user_caps,
        set_pool_caps,
        spend,
    ]


def _cap(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    cap = terms.parsed(name, parse_usd, text)
    if not 0 <= cap <= MAX_CAP:
        message = f"a cap is 0 to {format_usd(MAX_CAP)}: {name} is {text}"
        raise ApiError(422, "amount_out_of_range", message, name)
    return cap


def _day(name: str, text: str) -> int:
    """Days since the epoch."""
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        return (date.fromisoformat(text) - _EPOCH).days
    except ValueError:
        raise invalid(name, f"{text!r} is not a date: write it like 2026-11-26") from None


def _shown_caps(kind: SpenderKind, name: str, caps: Caps) -> resources.Caps:
    return resources.Caps(
        kind=kind,
        name=name,
        day=None if caps.day_cap is None else format_usd(caps.day_cap),
        month=None if caps.month_cap is None else format_usd(caps.month_cap),
        spent_today=format_usd(caps.spent_today),
        spent_this_month=format_usd(caps.spent_this_month),
        committed=format_usd(caps.committed),
    )


def _shown_credits(account: int, credits: Credits | None) -> resources.DailyCredits:
    known = credits or Credits(0, 0, 0, 0)
    return resources.DailyCredits(
        account_id=format_account_id(account),
        daily=format_usd(known.daily),
        granted=format_usd(known.granted),
        remaining=format_usd(known.remaining),
        lapse_at=None if credits is None else format_time((known.day + 1) * DAY_MS),
    )


def _shown_spend(spent: Spent, by: str) -> resources.Spend:
    return resources.Spend(
        name=spent.name or None,
        charged=format_usd(spent.charged),
        committed=None if by == "class" or not spent.name else format_usd(spent.committed),
    )
