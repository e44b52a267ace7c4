"""API keys: what a key's secret looks like, who holds it, what it may do, and who spends with it."""

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from gateways.api.addresses import address_of, allowed, within
from gateways.api.errors import ANYWHERE, ApiError, documented, invalid
from schemas.store import NOBODY, ApiKey, Network, Scope, Spender, Store
from schemas.units import format_time

SECRET_BYTES = 32
PREFIX_LENGTH = 10
"""How much of a secret is kept and shown, so that people can tell their keys apart."""
MAX_CACHED = 10_000
TTL_S = 2.0
"""A key that another process revoked works here for at most so long."""
_WHO = {"WWW-Authenticate": "Bearer"}
_SPENDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")


def new_secret() -> str:
    """A key as its holder keeps it: `cx_` and 32 random bytes."""
    return f"cx_{secrets.token_hex(SECRET_BYTES)}"


def digest(secret: str) -> bytes:
    """All that is stored of a secret: its SHA-256. The secret has 256 bits of its own, so no salt is needed."""
    return hashlib.sha256(secret.encode()).digest()


async def made_key(
    store: Store,
    account: int,
    secret: str,
    *,
    label: str,
    scopes: frozenset[Scope],
    now: int,
    spender: Spender = NOBODY,
    expires_at: int | None = None,
    addresses: Sequence[Network] = (),
) -> ApiKey:
    """The key with this secret, from now on: in ms of the log."""
    return await store.create_key(
        account,
        digest=digest(secret),
        prefix=secret[:PREFIX_LENGTH],
        label=label,
        scopes=scopes,
        now=now,
        spender=spender,
        expires_at=expires_at,
        addresses=addresses,
    )


class Keys:
    """Who holds which secret: the store's answer, kept for a moment. `now` is the exchange's clock, in ms.

    `proxies` are those whose word is taken on where a request comes from.
    """

    def __init__(self, store: Store, now: Callable[[], int], proxies: Sequence[Network] = ()) -> None:
        self._store = store
        self._now = now
        self._proxies = proxies
        self._known: dict[bytes, tuple[ApiKey, float]] = {}

    async def holder(self, authorization: str | None, scope: Mapping[str, Any]) -> ApiKey:
        """The key in an Authorization header, for who came by that ASGI scope. Raises ApiError 401, or 403 where the
        key is not for use from there."""
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise _unauthorized("send your key: Authorization: Bearer cx_…")
        key = await self._of_digest(digest(secret.strip()))
        if key.ended(self._now()):
            assert key.ends_at is not None
            raise ApiError(
                401, "key_ended", f"the key ended at {format_time(key.ends_at)}: use a newer one", headers=_WHO
            )
        if key.addresses and not allowed(address := address_of(scope, self._proxies), key.addresses):
            where = address or "an address that cannot be told"
            raise ApiError(403, "address_refused", f"the key is not for use from {where}")
        return key

    async def _of_digest(self, key_digest: bytes) -> ApiKey:
        """Raises ApiError 401 where there is none, or it was revoked."""
        known = self._known.get(key_digest)
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        key = await self._store.key(key_digest)
        if key is None or key.revoked:
            self._known.pop(key_digest, None)
            raise _unauthorized("the key is unknown or revoked")
        self._known.pop(key_digest, None)
        if len(self._known) >= MAX_CACHED:
            del self._known[next(iter(self._known))]
        self._known[key_digest] = (key, time.monotonic() + TTL_S)
        return key

    async def rotate(self, old: ApiKey, secret: str, *, now: int, expires_at: int | None, overlap_until: int) -> ApiKey:
        """The key with this secret in place of the old one, which ends with the overlap. Raises ApiError 409."""
        key = await self._store.rotate_key(
            old,
            digest=digest(secret),
            prefix=secret[:PREFIX_LENGTH],
            now=now,
            expires_at=expires_at,
            overlap_until=overlap_until,
        )
        if key is None:
            raise ApiError(409, "key_ended", f"the key {old.id} was revoked: make a new one", "key_id")
        self.forget(old.id)
        return key

    def forget(self, key_id: int) -> None:
        """The key was changed: from now on its secret is asked of the store again."""
        self._known = {known: entry for known, entry in self._known.items() if entry[0].id != key_id}

    def forget_account(self, account: int) -> None:
        """Likewise of all keys of an account that has changed."""
        self._known = {known: entry for known, entry in self._known.items() if entry[0].account.id != account}

    def door(self, scope: Scope, *errors: int) -> dict[str, Any]:
        """Settings of a route that wants a key with this scope; the handler finds it as `request.user`.

        `errors` are the statuses of refusals that are the route's own.
        """

        async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
            key = await self.holder(connection.headers.get("authorization"), connection.scope)
            if scope not in key.scopes:
                raise ApiError(403, "missing_scope", f"this needs a key with the scope {scope}: yours has {shown(key)}")
            connection.scope["user"] = key

        return {
            "guards": [guard],
            "security": [{"key": [scope.value]}],
            "opt": {"scope": scope},
            "responses": ANYWHERE | documented(401, 403, *errors),
        }


def shown(key: ApiKey) -> str:
    """The key's scopes in words, and who spends with it."""
    spender = " ".join(f"for {kind} {name}" for kind, name in msgspec.structs.asdict(key.spender).items() if name)
    return " ".join(part for part in (", ".join(sorted(key.scopes)) or "none", spender) if part)


def may_rule(key: ApiKey, scopes: Iterable[Scope], spender: Spender) -> bool:
    """Whether a holder of `key` may make or revoke keys with these scopes, for this spender: scopes it has itself, and
    for itself where it is bound; or any as admin."""
    return Scope.ADMIN in key.scopes or (set(scopes) <= key.scopes and key.spender in (NOBODY, spender))


def must_give(key: ApiKey, expires_at: int | None, addresses: Sequence[Network]) -> None:
    """Raises ApiError 403 where a holder of `key` may not make keys with that end and for these addresses: those that
    outlive what it was given itself, or are for others. An admin's may."""
    if Scope.ADMIN in key.scopes:
        return
    if key.expires_at is not None and (expires_at is None or expires_at > key.expires_at):
        latest = format_time(key.expires_at)
        raise ApiError(
            403, "missing_scope", f"your key makes none that outlive it: say {latest} or before", "expires_at"
        )
    if key.addresses and not (addresses and all(within(each, key.addresses) for each in addresses)):
        own = ", ".join(map(str, key.addresses))
        raise ApiError(403, "missing_scope", f"your key makes none for addresses beyond its own: {own}", "addresses")


def must_be_unbound(key: ApiKey, what: str) -> None:
    """Raises ApiError 403: who is under caps neither moves them nor gets past them."""
    if key.spender != NOBODY:
        raise ApiError(403, "bound_key", f"{what} with a key that is bound to no team, user or pool")


def spender_name(field: str, name: str) -> str:
    """The name of a team, user or pool. Raises ApiError 400."""
    if not _SPENDER_NAME.fullmatch(name):
        raise invalid(field, f"{name!r} is no name: 1 to 64 of A-Z a-z 0-9 . _ @ + -, the first a letter or digit")
    return name


def spender_of(team: str | None, user: str | None, pool: str | None) -> Spender:
    """Who is to spend with a key. Raises ApiError 400."""
    named = {"team": team, "user": user, "pool": pool}
    labels = {field: spender_name(field, name) for field, name in named.items() if name is not None}
    if pool is not None and len(labels) > 1:
        raise invalid("pool", "a pool counts apart: bind a key to a pool, or to a team and a user")
    return Spender(**labels)


def _unauthorized(message: str) -> ApiError:
    return ApiError(401, "unauthorized", message, headers=_WHO)
