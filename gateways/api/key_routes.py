"""Routes of API keys: made, listed, given a new secret, revoked."""

from litestar import delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody

from gateways.api import resources, signing, terms
from gateways.api.addresses import network
from gateways.api.errors import ApiError, invalid
from gateways.api.keys import (
    MAX_SPENDERS,
    Credential,
    Keys,
    made_key,
    may_rule,
    must_give,
    new_secret,
    of_public_key,
    of_secret,
    shown,
    spender_of,
    too_many_spenders,
)
from gateways.api.requests import ApiRequest
from gateways.api.routes import Limit
from schemas.ids import parse_account_id
from schemas.log import Log
from schemas.refusals import Refusal
from schemas.store import ApiKey, Network, Scope, Store
from schemas.units import DAY_MS, format_duration, format_time, parse_duration

MAX_KEYS = 1_000
"""Of an account, that are good; of old ones and those in their place together twice as many."""
MAX_LIFE_MS = 3660 * DAY_MS
MAX_OVERLAP_MS = 30 * DAY_MS


def key_routes(log: Log, store: Store, keys: Keys) -> list[HTTPRouteHandler]:
    """Keys of an account."""

    @post("/v1/accounts/{account_id:str}/keys", **keys.door(Scope.READ, 404, 409))
    async def create_key(
        request: ApiRequest, account_id: FromPath[str], data: JSONBody[resources.NewKey]
    ) -> resources.CreatedKey:
        """Make a key with scopes that this key has itself; an admin's key makes any, for any account. It has a secret,
        shown this once, or else is told a public key.

        A key of a team, a user or a pool makes keys of the same alone; one that ends, or is for some addresses alone,
        makes none that outlive it or are for others.
        """
        account = await ruled_account(store, request.user, account_id)
        if not data.scopes:
            raise invalid("scopes", "a key needs at least one scope")
        spender = spender_of(data.team, data.user, data.pool)
        if not may_rule(request.user, data.scopes, spender):
            raise ApiError(403, "missing_scope", f"a key can give only what it has: {shown(request.user)}", "scopes")
        expires_at, addresses = expiry(data.expires_at), networks(data.addresses)
        must_give(request.user, expires_at, addresses)
        label = terms.plain_text("label", data.label) if data.label else ""
        await must_have_room(account, MAX_KEYS)
        if (kind := await store.one_spender_too_many(account, spender, most=MAX_SPENDERS)) is not None:
            raise too_many_spenders(kind)
        credential, secret = fresh(data.public_key)
        key = await made_key(
            store,
            account,
            credential,
            label=label,
            scopes=frozenset(data.scopes),
            now=log.now(),
            spender=spender,
            expires_at=expires_at,
            addresses=addresses,
        )
        return terms.created_key(key, secret)

    @get("/v1/accounts/{account_id:str}/keys", **keys.door(Scope.READ, 404))
    async def list_keys(
        request: ApiRequest, account_id: FromPath[str], after: FromQuery[int] = 0, limit: Limit = 100
    ) -> resources.Page[resources.Key]:
        """The account's keys, the oldest first and without their secrets; those too that have ended."""
        account = await ruled_account(store, request.user, account_id)
        found = await store.keys(account, after=after, limit=limit)
        return resources.Page(
            [terms.shown_key(key) for key in found], str(found[-1].id) if len(found) == limit else None
        )

    @post("/v1/accounts/{account_id:str}/keys/{key_id:str}/rotation", **keys.door(Scope.READ, 404, 409))
    async def rotate_key(
        request: ApiRequest, account_id: FromPath[str], key_id: FromPath[int], data: JSONBody[resources.NewRotation]
    ) -> resources.CreatedKey:
        """Give a key a new secret: a new key like it, and the old one ends with the overlap. A second time makes one
        more, and moves the old one's end no further."""
        old = await ruled_key(request.user, account_id, key_id)
        now = log.now()
        if old.ended(now):
            raise ApiError(409, "key_ended", f"the key {key_id} has ended: make a new one", "key_id")
        overlap = terms.parsed("overlap", parse_duration, data.overlap)
        if overlap > MAX_OVERLAP_MS:
            raise invalid("overlap", f"an overlap is {format_duration(MAX_OVERLAP_MS)} at most")
        expires_at = old.expires_at if data.expires_at is None else expiry(data.expires_at)
        must_give(request.user, expires_at, old.addresses)
        if old.public_key is not None and data.public_key is None:
            raise invalid("public_key", f"the key {key_id} has no secret: say the new public key")
        await must_have_room(old.account.id, 2 * MAX_KEYS)  # so that what leaked can be replaced
        credential, secret = fresh(data.public_key)
        key = await keys.rotate(old, credential, now=now, expires_at=expires_at, overlap_until=now + overlap)
        return terms.created_key(key, secret)

    @delete("/v1/accounts/{account_id:str}/keys/{key_id:str}", **keys.door(Scope.READ, 404))
    async def revoke_key(request: ApiRequest, account_id: FromPath[str], key_id: FromPath[int]) -> None:
        """Revoke a key that has no scope beyond this key's own; an admin's key revokes any."""
        key = await ruled_key(request.user, account_id, key_id)
        await store.revoke_key(key.account.id, key_id)
        keys.forget(key_id)

    async def ruled_key(user: ApiKey, account_id: str, key_id: int) -> ApiKey:
        """Raises ApiError where there is none, or this one may do more than the user's."""
        account = await ruled_account(store, user, account_id)
        key = await store.own_key(account, key_id)
        if key is None:
            raise ApiError(404, "not_found", f"this account has no key {key_id}", "key_id")
        if not may_rule(user, key.scopes, key.spender):
            raise ApiError(403, "missing_scope", f"the key {key_id} may do more than yours: {shown(key)}")
        return key

    async def must_have_room(account: int, most: int) -> None:
        """Raises ApiError 409."""
        if (live := await store.live_keys(account, now=log.now())) >= most:
            message = f"the account has {live} keys that are good, and {most} are the most: revoke some"
            raise ApiError(409, "too_many_keys", message)

    def expiry(text: str | None) -> int | None:
        now = log.now()
        until = None if text is None else terms.moment("expires_at", text, now)
        if until is not None and not now < until <= now + MAX_LIFE_MS:
            days = MAX_LIFE_MS // DAY_MS
            raise invalid("expires_at", f"{text} is not within {days} days after now, {format_time(now)}")
        return until

    return [create_key, list_keys, rotate_key, revoke_key]


def fresh(public_key: str | None) -> tuple[Credential, str | None]:
    """What a new key is known by, and the secret that its holder is to have. Raises ApiError 400."""
    if public_key is not None:
        return of_public_key(terms.parsed("public_key", signing.public_key, public_key)), None
    secret = new_secret()
    return of_secret(secret), secret


def networks(texts: list[str]) -> tuple[Network, ...]:
    """Raises ApiError 400."""
    if len(texts) > resources.MAX_ADDRESSES:
        raise invalid("addresses", f"a key has at most {resources.MAX_ADDRESSES}")
    return tuple(dict.fromkeys(terms.parsed("addresses", network, text) for text in texts))


async def ruled_account(store: Store, key: ApiKey, text: str) -> int:
    """The account in the path, `me` for the key's own; another's for an admin alone. Raises ApiError 404."""
    if text == "me":
        return key.account.id
    account = terms.parsed("account_id", parse_account_id, text)
    known = account == key.account.id or (Scope.ADMIN in key.scopes and await store.account(account) is not None)
    if not known:
        raise ApiError(404, Refusal.UNKNOWN_ACCOUNT.value, f"there is no account {text} of yours", "account_id")
    return account
