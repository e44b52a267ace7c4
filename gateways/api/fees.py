"""Routes of fees: what each tier of accounts pays, and from when on. Gateways stamp it in the order."""

import re

from litestar import get, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody

from gateways.api import resources, terms
from gateways.api.errors import ANYWHERE, ApiError, invalid, refused
from gateways.api.keys import Keys
from gateways.api.routes import Limit
from schemas.ids import parse_account_id
from schemas.log import Log
from schemas.refusals import Refusal
from schemas.store import Fee, Scope, Store
from schemas.units import MINUTE_MS, format_time, parse_time

MAX_FEES = 500
"""Of one tier, for ever."""
NOTICE_MS = MINUTE_MS
"""Of the wall. Other gateways know an account's fees of two seconds ago: so they all change at the same moment."""

_TIER = re.compile(resources.TIER)


def fee_routes(log: Log, store: Store, keys: Keys) -> list[HTTPRouteHandler]:
    """The schedule, and whose it is."""

    @get("/v1/fees", responses=ANYWHERE)
    async def list_fees(after: FromQuery[str | None] = None, limit: Limit = 100) -> resources.Page[resources.Fee]:
        """What accounts of each tier pay, in basis points, and from when on; by tier and time.

        An order pays, for its life, what is in force for its account when it is placed: its `fee_bps`.
        """
        tier, _, since = (after or "").partition(":")
        place = None if after is None else (tier, terms.parsed("after", parse_time, since))
        found = await store.fees(after=place, limit=limit)
        last = f"{found[-1].tier}:{format_time(found[-1].since)}" if len(found) == limit else None
        return resources.Page([terms.shown_fee(fee) for fee in found], last)

    @put("/v1/fees/{tier:str}", **keys.door(Scope.ADMIN, 409, 422))
    async def set_fee(tier: FromPath[str], data: JSONBody[resources.NewFee]) -> resources.Fee:
        """What the tier pays from a moment on, which is a minute ahead at least. Said anew of it, it replaces that.

        What is in force, or was, stays as it is for ever: another fee follows it.
        """
        now = log.now()
        fee = Fee(tier, terms.moment("since", data.since, now), data.buyer_fee_bps, data.seller_fee_bps, now)
        first = now + NOTICE_MS * log.speed
        if fee.since < first:
            raise ApiError(
                422,
                "fee_too_soon",
                f"a fee of {format_time(fee.since)} is too soon: {format_time(first)} is the first that all can know",
                "since",
            )
        if not await store.set_fee(fee, max_fees=MAX_FEES):
            raise ApiError(
                409, "too_many_fees", f"the tier {tier} has {MAX_FEES} fees, which is the most: begin another"
            )
        return terms.shown_fee(fee)

    @put("/v1/accounts/{account_id:str}/tier", **keys.door(Scope.ADMIN, 404))
    async def set_tier(account_id: FromPath[str], data: JSONBody[resources.NewTier]) -> resources.Account:
        """Whose fees the account pays, for orders to come: a tier's, or its own. Other gateways know within 2 s."""
        number = terms.parsed("account_id", parse_account_id, account_id)
        if data.tier is not None and not _TIER.fullmatch(data.tier):
            raise invalid("tier", "a tier has 1 to 32 of a-z, 0-9, _ and -")
        was_set = await store.set_tier(number, data.tier or "")
        account = await store.account(number)
        if account is None:
            raise refused(Refusal.UNKNOWN_ACCOUNT, (account_id,))
        if not was_set:
            raise _no_tier(str(data.tier))
        keys.forget_account(number)
        return terms.shown_account(account, log.now())

    return [list_fees, set_fee, set_tier]


def _no_tier(tier: str) -> ApiError:
    return ApiError(404, "unknown_tier", f"the tier {tier} has no fees: set them first", "tier")
