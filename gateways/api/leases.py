"""Routes of leases: what was sold, its delivery, its use and its end."""

from operator import attrgetter
from typing import Annotated

from litestar import Response, delete, get, post, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from gateways.api import resources, terms
from gateways.api.errors import ApiError, invalid, refused
from gateways.api.instructions import Clerk
from gateways.api.keys import Keys
from gateways.api.orders import Desk
from gateways.api.replies import APPLIED_TIMEOUT_S, Replies, settled
from gateways.api.requests import ApiRequest
from gateways.api.routes import ClassFilter, Limit, placed
from gateways.api.ssh import public_key
from gateways.api.turns import listed, turn_of
from schemas.commands import Side
from schemas.ids import LeaseId, format_lease_id, parse_lease_id, parse_order_id, partition_of
from schemas.log import Log
from schemas.refusals import Refusal
from schemas.store import ApiKey, Lease, LeaseState, Scope, SshKey, Store
from schemas.units import parse_duration, parse_usd

MAX_SSH_KEYS = 50
"""Of an account."""
SIDES = {"buyer": Side.BID, "supplier": Side.ASK}
_STATES = {state.value: state for state in LeaseState}


def lease_routes(store: Store, keys: Keys, desk: Desk, clerk: Clerk, replies: list[Replies]) -> list[HTTPRouteHandler]:
    """What was sold, its delivery and its use."""

    @get("/v1/leases", **keys.door(Scope.READ))
    async def list_leases(
        request: ApiRequest,
        role: FromQuery[str] = "buyer",
        states: Annotated[str | None, QueryParameter(name="state")] = None,
        class_id: ClassFilter = None,
        order_id: FromQuery[str | None] = None,
        after: FromQuery[str | None] = None,
        limit: Limit = 100,
    ) -> resources.Page[resources.Lease]:
        """The account's leases as buyer or supplier, newest first; `state` may name several, with commas."""
        account, side = request.user.account.id, terms.choice("role", SIDES, role)
        wanted = [terms.choice("state", _STATES, each) for each in states.split(",")] if states else ()
        before = None if after is None else terms.parsed("after", parse_lease_id, after)
        of_order = None if order_id is None else terms.parsed("order_id", parse_order_id, order_id)
        await settled(store, replies)

        async def older(before: LeaseId | None, count: int) -> list[Lease]:
            return await store.leases(
                account, role=side, states=wanted, class_id=class_id, before=before, limit=count, order_id=of_order
            )

        items, last = await listed(
            older,
            attrgetter("id"),
            lambda lease: shown(lease, account, in_list=True),
            before,
            limit,
            turn_of(request.scope),
        )
        return resources.Page(items, None if last is None else format_lease_id(last))

    @get("/v1/leases/{lease_id:str}", **keys.door(Scope.READ, 404))
    async def show_lease(request: ApiRequest, lease_id: FromPath[str]) -> resources.Lease:
        """A lease of the account, as buyer or supplier."""
        lease = await own_lease(request.user, lease_id)
        return shown(lease, request.user.account.id)

    @post("/v1/leases/{lease_id:str}/delivery", status_code=200, **keys.door(Scope.SUPPLY, 404, 409, 422, 504))
    async def deliver(
        request: ApiRequest, lease_id: FromPath[str], data: JSONBody[resources.NewDelivery]
    ) -> resources.Lease:
        """The supplier hands the machines over. It may name the GPUs: none is in two leases at one time."""
        for name, text in (("connection", data.connection), ("proof", data.proof)):
            if not all(each.isprintable() or each in "\n\t" for each in text):
                raise invalid(name, f"{name} has control characters: the buyer's terminal would obey them")
        lease = await own_lease(request.user, lease_id, as_supplier=True)
        await clerk.deliver(lease, data)
        return shown(await own_lease(request.user, lease_id), lease.seller)

    @post("/v1/leases/{lease_id:str}/acceptance", status_code=200, **keys.door(Scope.TRADE, 404, 409, 504))
    async def accept(request: ApiRequest, lease_id: FromPath[str]) -> resources.Lease:
        """The buyer accepts the delivery: billing starts, though never before the lease does."""
        account = request.user.account.id
        lease = await own_lease(request.user, lease_id, as_buyer=True)
        await clerk.accept(account, lease)
        return shown(await own_lease(request.user, lease_id), account)

    @post("/v1/leases/{lease_id:str}/degradation", status_code=200, **keys.door(Scope.SUPPLY, 404, 409, 422, 504))
    async def degrade(
        request: ApiRequest, lease_id: FromPath[str], data: JSONBody[resources.NewDegradation]
    ) -> resources.Lease:
        """The supplier says that some of the GPUs do not work, from now on. Said anew it replaces what was said."""
        lease = await own_lease(request.user, lease_id, as_supplier=True)
        await clerk.degrade(lease, data.gpus, data.note)
        return shown(await own_lease(request.user, lease_id), lease.seller)

    @delete("/v1/leases/{lease_id:str}/degradation", status_code=200, **keys.door(Scope.SUPPLY, 404, 409, 504))
    async def restore(request: ApiRequest, lease_id: FromPath[str]) -> resources.Lease:
        """The supplier says that all of it works again."""
        lease = await own_lease(request.user, lease_id, as_supplier=True)
        await clerk.restore(lease)
        return shown(await own_lease(request.user, lease_id), lease.seller)

    @post("/v1/leases/{lease_id:str}/reclaim", status_code=200, **keys.door(Scope.SUPPLY, 404, 409, 422, 504))
    async def reclaim(request: ApiRequest, lease_id: FromPath[str]) -> resources.Lease:
        """The supplier takes an interruptible lease back: it ends after the notice that its ask stated, at `ends_at`.

        What the buyer paid for the time after that is back at once. It is not sold again.
        """
        lease = await own_lease(request.user, lease_id, as_supplier=True)
        await clerk.reclaim(lease)
        return shown(await own_lease(request.user, lease_id), lease.seller)

    @post("/v1/leases/{lease_id:str}/end", status_code=200, **keys.door(Scope.TRADE, 404, 409, 504))
    async def end_lease(request: ApiRequest, lease_id: FromPath[str]) -> resources.Lease:
        """The buyer ends it now; the rest of its window is for sale again.

        What was paid for the rest goes back at once, but for what the lease's `refund_bps` leaves to the supplier. All
        of it goes back where the supplier was late, degraded the lease or reclaims it.
        """
        lease = await own_lease(request.user, lease_id, as_buyer=True)
        await clerk.end(lease)
        return shown(await own_lease(request.user, lease_id), lease.buyer)

    @post("/v1/leases/{lease_id:str}/extension", **keys.door(Scope.TRADE, 402, 404, 409, 422, 504))
    async def extend(
        request: ApiRequest, lease_id: FromPath[str], data: JSONBody[resources.NewExtension]
    ) -> Response[resources.Order]:
        """The buyer makes it longer, on the same machines: all of its GPUs, or nothing changes.

        The answer is a fill-or-kill bid that meets the lease's ask alone. Filled, its lease goes on where this one
        ends, without another delivery: `extended_by`.
        """
        lease = await own_lease(request.user, lease_id, as_buyer=True)
        return placed(*await desk.extend(request.user, lease, data))

    @put("/v1/leases/{lease_id:str}/renewal", **keys.door(Scope.TRADE, 404, 409, 422, 504))
    async def renew(
        request: ApiRequest, lease_id: FromPath[str], data: JSONBody[resources.NewRenewal]
    ) -> resources.Lease:
        """The buyer wants it to go on: it is extended so an hour before its end, and what it becomes likewise.

        Not of a lease that counts to a team, user or pool: an order for its extension meets their caps.
        """
        duration = terms.parsed("duration", parse_duration, data.duration)
        price = terms.parsed("max_price", parse_usd, data.max_price)
        lease = await own_lease(request.user, lease_id, as_buyer=True)
        await clerk.renew(request.user.account, lease, duration, price)
        return shown(await own_lease(request.user, lease_id), lease.buyer)

    @delete("/v1/leases/{lease_id:str}/renewal", status_code=200, **keys.door(Scope.TRADE, 404, 409, 504))
    async def stop_renewal(request: ApiRequest, lease_id: FromPath[str]) -> resources.Lease:
        """It ends when its window does."""
        lease = await own_lease(request.user, lease_id, as_buyer=True)
        await clerk.renew(request.user.account, lease, 0, 0)
        return shown(await own_lease(request.user, lease_id), lease.buyer)

    async def own_lease(key: ApiKey, text: str, *, as_buyer: bool = False, as_supplier: bool = False) -> Lease:
        return await find_lease(store, replies, key, text, as_buyer=as_buyer, as_supplier=as_supplier)

    def shown(lease: Lease, account: int, *, in_list: bool = False) -> resources.Lease:
        connection = clerk.connection(lease) if account == lease.buyer else None
        return terms.shown_lease(lease, account, connection, in_list=in_list)

    return [
        list_leases,
        show_lease,
        deliver,
        accept,
        degrade,
        restore,
        reclaim,
        end_lease,
        extend,
        renew,
        stop_renewal,
    ]


async def find_lease(
    store: Store, replies: list[Replies], key: ApiKey, text: str, *, as_buyer: bool = False, as_supplier: bool = False
) -> Lease:
    """Raises ApiError 404 where the account has no part in it, or another part than it needs."""
    lease_id: LeaseId = terms.parsed("lease_id", parse_lease_id, text)
    place, account = lease_id[0], key.account.id
    partition = partition_of(place)
    if partition < len(replies) and place <= replies[partition].position:
        await store.wait_applied(partition, place, APPLIED_TIMEOUT_S)
    lease = await store.lease(lease_id)
    parts = [] if lease is None else [lease.buyer] * (not as_supplier) + [lease.seller] * (not as_buyer)
    if lease is None or account not in parts:
        raise refused(Refusal.UNKNOWN_LEASE, (text,))
    return lease


def ssh_routes(store: Store, keys: Keys, log: Log) -> list[HTTPRouteHandler]:
    """The SSH public keys that machines are to let in."""

    @post("/v1/ssh-keys", **keys.door(Scope.TRADE, 409))
    async def add_ssh_key(request: ApiRequest, data: JSONBody[resources.NewSshKey]) -> resources.SshKey:
        """Keep a public key, for bids to name it; in place of the one with that name. Leases keep what they had."""
        terms.must_be_of_paths("name", data.name)
        key = SshKey(data.name, terms.parsed("public_key", public_key, data.public_key), log.now())
        if not await store.add_ssh_key(request.user.account.id, key, most=MAX_SSH_KEYS):
            raise ApiError(409, "too_many_ssh_keys", f"the account has {MAX_SSH_KEYS} SSH keys: remove one", "name")
        return terms.shown_ssh_key(key)

    @get("/v1/ssh-keys", **keys.door(Scope.READ))
    async def list_ssh_keys(request: ApiRequest) -> resources.Page[resources.SshKey]:
        """The account's SSH public keys, by name."""
        return resources.Page([terms.shown_ssh_key(key) for key in await store.ssh_keys(request.user.account.id)], None)

    @delete("/v1/ssh-keys/{name:str}", **keys.door(Scope.TRADE, 404))
    async def remove_ssh_key(request: ApiRequest, name: FromPath[str]) -> None:
        """Bids can name it no longer; what named it stays as it is."""
        if not await store.remove_ssh_key(request.user.account.id, name):
            raise ApiError(404, "not_found", "there is no SSH key of that name", "name")

    return [add_ssh_key, list_ssh_keys, remove_ssh_key]
