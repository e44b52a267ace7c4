"""API keys: what a key's secret looks like, who holds it, what it may do, and who spends with it."""

import asyncio
import hashlib
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from msgspec import Struct

from gateways.api.addresses import address_of, allowed, subscriber, within
from gateways.api.errors import ANYWHERE, ApiError, documented, invalid
from gateways.api.limits import RATE, USUAL, Limits, Rates
from gateways.api.resources import SPENDER_NAME
from gateways.api.signing import SIGNATURE, WINDOW_MS, Nonces, Signature, nonce_used, signature_in, ssh_line, target_of
from gateways.api.ssh import fingerprint
from gateways.api.turns import Name, turn_of
from schemas.store import NOBODY, Address, ApiKey, Network, Scope, Spender, SpenderKind, Store
from schemas.units import format_time

SECRET_BYTES = 32
PREFIX_LENGTH = 10
"""How much of a secret is kept and shown, so that people can tell their keys apart."""
FINGERPRINT_LENGTH = 17
"""Likewise of a public key's fingerprint."""
SIGNED_BY = "signed_by"
"""In the state of an ASGI scope that the stream made: the id of the signing key that its connection was opened with."""
READING = ("GET", "HEAD")
"""Methods that change nothing: their nonces are each gateway's own affair."""
MAX_SPENDERS = 10_000
"""Teams of an account, and users, and pools: as what each spent stays known, none is ever gone."""
MAX_CACHED = 10_000
ROWS = 25
"""Of a page, which take as long as a request."""
TTL_S = 2.0
"""A key that another process revoked works here for at most so long."""
_SIGNED = SIGNATURE.lower().encode()
_SECRET = "secret"
"""In the state of an ASGI scope: the digest of the secret that was sent."""
_WHO = {"WWW-Authenticate": "Bearer"}
_SPENDER_NAME = re.compile(SPENDER_NAME)
_ROWS = re.compile("[0-9]{1,3}")


def new_secret() -> str:
    """A key as its holder keeps it: `cx_` and 32 random bytes."""
    return f"cx_{secrets.token_hex(SECRET_BYTES)}"


def digest(secret: str) -> bytes:
    """All that is stored of a secret: its SHA-256. The secret has 256 bits of its own, so no salt is needed."""
    return hashlib.sha256(secret.encode()).digest()


class Credential(Struct, frozen=True):
    """What is kept of how a key's holder shows that it is he: of a secret its digest, or else an Ed25519 public key."""

    digest: bytes | None
    prefix: str
    public_key: bytes | None = None


def of_secret(secret: str) -> Credential:
    """For who sends the secret."""
    return Credential(digest(secret), secret[:PREFIX_LENGTH])


def of_public_key(public_key: bytes) -> Credential:
    """For who signs, and sends no secret."""
    return Credential(None, fingerprint(ssh_line(public_key))[:FINGERPRINT_LENGTH], public_key)


async def made_key(
    store: Store,
    account: int,
    credential: Credential,
    *,
    label: str,
    scopes: frozenset[Scope],
    now: int,
    spender: Spender = NOBODY,
    expires_at: int | None = None,
    addresses: Sequence[Network] = (),
) -> ApiKey:
    """A new key, from now on: in ms of the log."""
    return await store.create_key(
        account,
        label=label,
        scopes=scopes,
        now=now,
        spender=spender,
        expires_at=expires_at,
        addresses=addresses,
        **msgspec.structs.asdict(credential),
    )


class Keys:
    """Who holds which secret: the store's answer, kept for a moment. `now` is the exchange's clock, in ms.

    `proxies` are those whose word is taken on where a request comes from.
    """

    def __init__(
        self, store: Store, now: Callable[[], int], proxies: Sequence[Network] = (), rates: Rates = USUAL
    ) -> None:
        self._store = store
        self._now = now
        self._proxies = proxies
        self._nonces = Nonces(began=_wall_ms())
        self._limits = Limits(rates)
        self._known: dict[bytes | int | None, tuple[ApiKey, float]] = {}
        """By the digest of a secret or the id of a signing key."""
        self._asking: dict[bytes | int, asyncio.Task[ApiKey | None]] = {}
        """What is asked of the store right now: who comes meanwhile waits for the same answer."""

    async def asker(self, request: Request[Any, Any, Any]) -> ApiKey:
        """Whose request it is, by its secret or its signature. Raises ApiError."""
        signed_by = request.scope["state"].get(SIGNED_BY)
        if signed_by is not None:
            return await self.signed_by(signed_by, request.scope)
        headers = request.scope["headers"]
        signature = signature_in(request.headers) if any(name == _SIGNED for name, _ in headers) else None
        if signature is None:
            return await self._held(_secret_in(request.scope), request.scope)
        return await self.signer(signature, request.method, request.scope, request.body)

    def known(self, scope: Mapping[str, Any]) -> ApiKey | None:
        """Whose request it is, where it sends a secret that this gateway knows; else `asker` can tell. Raises ApiError
        as `holder`."""
        known = self._known.get(_secret_in(scope))
        return self._good(known[0], scope) if known is not None and time.monotonic() < known[1] else None

    def party(self, scope: Mapping[str, Any]) -> Name:
        """Whose turn a request takes before anybody looks at it: its account's where this gateway has met the secret;
        else that of where it comes from, as what it says of itself is not shown to be so."""
        known = self._known.get(scope["state"].get(SIGNED_BY) or _secret_in(scope))
        return known[0].account.id if known is not None else subscriber(self.address(scope))

    async def holder(self, authorization: str | None, scope: Mapping[str, Any]) -> ApiKey:
        """The key in an Authorization header, for who came by that ASGI scope. Raises ApiError 401, or 403 where the
        key is not for use from there."""
        return await self._held(_sent((authorization or "").encode()), scope)

    async def _held(self, secret: bytes | None, scope: Mapping[str, Any]) -> ApiKey:
        """By the digest of what was sent."""
        if secret is None:
            raise _unauthorized("send your key: Authorization: Bearer cx_…")
        return self._good(await self._found(secret, lambda: self._store.key(secret)), scope)

    async def signer(
        self, signature: Signature, method: str, scope: Mapping[str, Any], body: Callable[[], Awaitable[bytes]]
    ) -> ApiKey:
        """The key that signed the request, whose nonce is then used. Raises ApiError 401, 403 as above, or 429."""
        self._nonces.check_time(signature, _wall_ms())
        key = await self._signing(signature.key_id)
        if key is None or key.public_key is None:
            raise _bad_signature()
        if not signature.is_of(key.public_key, method, target_of(scope), await body()):
            raise _bad_signature()
        now = _wall_ms()
        self._nonces.take(signature, now)
        if method not in READING and not await self._store.use_nonce(
            signature.key_id, signature.nonce, until=now + 2 * WINDOW_MS, now=now
        ):
            raise nonce_used()
        return self._good(key, scope)

    async def signed_by(self, key_id: int, scope: Mapping[str, Any]) -> ApiKey:
        """The key, for a request of a connection that was opened with its signature. Raises ApiError 401, 403."""
        return self._good(await self._signing(key_id), scope)

    def address(self, scope: Mapping[str, Any]) -> Address | None:
        """Where who came by that ASGI scope came from; None where that cannot be told."""
        return address_of(scope, self._proxies)

    def _good(self, key: ApiKey | None, scope: Mapping[str, Any]) -> ApiKey:
        """Raises ApiError where there is none, or it is not to be taken now and from there."""
        if key is None or key.revoked:
            raise _unauthorized("the key is unknown or revoked")
        if key.ended(self._now()):
            assert key.ends_at is not None
            raise ApiError(
                401, "key_ended", f"the key ended at {format_time(key.ends_at)}: use a newer one", headers=_WHO
            )
        if key.addresses and not allowed(address := self.address(scope), key.addresses):
            where = address or "an address that cannot be told"
            raise ApiError(403, "address_refused", f"the key is not for use from {where}")
        return key

    async def _signing(self, key_id: int) -> ApiKey | None:
        return await self._found(key_id, lambda: self._store.signing_key(key_id))

    async def _found(self, name: bytes | int, ask: Callable[[], Coroutine[Any, Any, ApiKey | None]]) -> ApiKey | None:
        """What the store says of a secret's digest or of a signing key's id, now or a moment ago."""
        known = self._known.get(name)
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        if name not in self._asking:
            self._asking[name] = asyncio.create_task(self._asked(name, ask()))
        return await asyncio.shield(self._asking[name])

    async def _asked(self, name: bytes | int, answer: Awaitable[ApiKey | None]) -> ApiKey | None:
        this = asyncio.current_task()
        try:
            key = await answer
        finally:
            if is_newest := self._asking.get(name) is this:
                del self._asking[name]
        if is_newest:  # else it was forgotten meanwhile
            self._known.pop(name, None)
            if key is not None and not key.revoked:
                if len(self._known) >= MAX_CACHED:
                    del self._known[next(iter(self._known))]
                self._known[name] = (key, time.monotonic() + TTL_S)
        return key

    async def rotate(
        self, old: ApiKey, credential: Credential, *, now: int, expires_at: int | None, overlap_until: int
    ) -> ApiKey:
        """The key with this credential in place of the old one, which ends with the overlap. Raises ApiError 409."""
        known_by = msgspec.structs.asdict(credential)
        key = await self._store.rotate_key(old, now=now, expires_at=expires_at, overlap_until=overlap_until, **known_by)
        if key is None:
            raise ApiError(409, "key_ended", f"the key {old.id} was revoked: make a new one", "key_id")
        self.forget(old.id)
        return key

    def forget(self, key_id: int) -> None:
        """The key was changed: from now on its secret is asked of the store again."""
        self._known = {known: entry for known, entry in self._known.items() if entry[0].id != key_id}
        self._asking.clear()

    def forget_account(self, account: int) -> None:
        """Likewise of all keys of an account that has changed."""
        self._known = {known: entry for known, entry in self._known.items() if entry[0].account.id != account}
        self._asking.clear()

    def admit(
        self, key: ApiKey, needed: Scope, scope: Mapping[str, Any], *, weight: int = 1, preview: bool = False
    ) -> None:
        """One request more of the key, which is to have that scope; `preview`: it walks over a book. Raises ApiError
        429, 403."""
        now = time.monotonic_ns()
        scope["state"][RATE] = self._limits.take(key.id, key.account.id, now, weight=weight, preview=preview)
        if needed not in key.scopes:
            raise ApiError(403, "missing_scope", f"this needs a key with the scope {needed}: yours has {shown(key)}")

    def count(self, request: Request[ApiKey, Any, Any], orders: int) -> None:
        """The request is of so many orders, each of which counts as it would alone."""
        key = request.user
        left = self._limits.further(key.id, key.account.id, time.monotonic_ns(), orders - 1)
        request.scope["state"][RATE] = left

    def walk(self, *errors: int) -> dict[str, Any]:
        """Settings of a route that walks over a book and wants no key; `errors` as below."""

        async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
            party = self.party(connection.scope)
            connection.scope["state"][RATE] = self._limits.walk(party, time.monotonic_ns())

        return {"guards": [guard], "responses": ANYWHERE | documented(*errors)}

    def door(self, scope: Scope, *errors: int, preview: bool = False) -> dict[str, Any]:
        """Settings of a route that wants a key with this scope; the handler finds it as `request.user`.

        `errors` are the statuses of refusals that are the route's own; `preview`: it walks over a book.
        """

        async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
            assert isinstance(connection, Request), "of an HTTP route"
            key = await self.asker(connection)
            await turn_of(connection.scope).of(key.account.id)
            self.admit(key, scope, connection.scope, weight=_weight(connection, handler), preview=preview)
            connection.scope["user"] = key

        return {
            "guards": [guard],
            "security": [{"key": [scope.value]}],
            "opt": {"scope": scope},
            "responses": ANYWHERE | documented(401, 403, *errors),
        }


def _weight(request: Request[Any, Any, Any], handler: BaseRouteHandler) -> int:
    """As how many requests it counts: a page as one for ROWS of those that it may have."""
    limit = handler.parsed_fn_signature.parameters.get("limit")
    if limit is None:
        return 1
    said = request.query_params.get("limit", "")
    rows = int(said) if _ROWS.fullmatch(said) else limit.default
    return -(-int(rows) // ROWS) or 1


def _secret_in(scope: Mapping[str, Any]) -> bytes | None:
    """The digest of the secret that a request sends, made once; None where it sends none, or is signed."""
    state = scope["state"]
    if _SECRET not in state:
        sent = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                sent = sent or value
            elif name == _SIGNED:
                sent = b""
                break
        state[_SECRET] = _sent(sent)
    secret: bytes | None = state[_SECRET]
    return secret


def _sent(authorization: bytes) -> bytes | None:
    """The digest of the secret in an Authorization header; None where there is none."""
    scheme, _, secret = authorization.partition(b" ")
    return hashlib.sha256(secret.strip()).digest() if scheme.lower() == b"bearer" and secret else None


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


def too_many_spenders(kind: SpenderKind) -> ApiError:
    message = f"the account has {MAX_SPENDERS} {kind}s, as many as it may: use one of them"
    return ApiError(409, "too_many_spenders", message, kind)


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


def _bad_signature() -> ApiError:
    message = "the signature is not over this request, or its key is unknown"
    return ApiError(401, "bad_signature", message, headers=_WHO)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
