"""Routes of corrections: what a closed lease used was wrong, and a credit or debit note makes up for it."""

from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody

from gateways.api import resources, statements, terms
from gateways.api.errors import refused
from gateways.api.instructions import Clerk
from gateways.api.keys import Keys
from gateways.api.replies import Replies, settled
from gateways.api.requests import ApiRequest
from gateways.api.statements import Correction, CorrectionOf, NewCorrection
from schemas.commands import Side
from schemas.ids import parse_lease_id
from schemas.refusals import Refusal
from schemas.store import Account, Lease, Scope, Store

EXCHANGE = 0
"""Who says so, where it is the exchange itself."""


def correction_routes(store: Store, keys: Keys, clerk: Clerk, replies: list[Replies]) -> list[HTTPRouteHandler]:
    """Credit and debit notes. To say the same again is safe: what is said is the whole use, not a difference."""

    @post("/v1/leases/{lease_id:str}/corrections", status_code=200, **keys.door(Scope.SUPPLY, 402, 404, 409, 422, 504))
    async def correct(
        request: ApiRequest, lease_id: FromPath[str], data: JSONBody[NewCorrection]
    ) -> resources.Page[Correction]:
        """The supplier says that a closed lease used less than was billed: its buyer gets a credit note.

        The answer has all notes of the lease, the oldest first.
        """
        account = request.user.account
        lease = await lease_of(lease_id)
        if account.id != lease.seller:
            raise refused(Refusal.UNKNOWN_LEASE, (lease_id,))
        await clerk.correct(account.id, lease, data.gpu_ms, data.reason)
        return await notes(account, lease, Side.ASK)

    @post("/v1/corrections", status_code=200, **keys.door(Scope.ADMIN, 402, 404, 409, 422, 504))
    async def correct_any(data: JSONBody[CorrectionOf]) -> resources.Page[Correction]:
        """The exchange's own people say what a closed lease used: a credit note, or a debit note that the buyer's cash
        must cover. The answer has all notes of the lease, as its buyer sees them.
        """
        lease = await lease_of(data.lease_id)
        await clerk.correct(EXCHANGE, lease, data.gpu_ms, data.reason)
        buyer = await store.account(lease.buyer)
        assert buyer is not None, "who bought has an account"
        return await notes(buyer, lease, Side.BID)

    @get("/v1/leases/{lease_id:str}/corrections", **keys.door(Scope.READ, 404))
    async def list_corrections(request: ApiRequest, lease_id: FromPath[str]) -> resources.Page[Correction]:
        """The notes of a lease of the account, the oldest first: as its buyer, or as its supplier."""
        account = request.user.account
        await settled(store, replies)
        lease = await lease_of(lease_id)
        if account.id not in (lease.buyer, lease.seller):
            raise refused(Refusal.UNKNOWN_LEASE, (lease_id,))
        return await notes(account, lease, Side.BID if account.id == lease.buyer else Side.ASK)

    async def lease_of(text: str) -> Lease:
        lease = await store.lease(terms.parsed("lease_id", parse_lease_id, text))
        if lease is None:
            raise refused(Refusal.UNKNOWN_LEASE, (text,))
        return lease

    async def notes(account: Account, lease: Lease, role: Side) -> resources.Page[Correction]:
        found = await store.notes(account, lease.id, role=role)
        return resources.Page([statements.shown_correction(line, account.id, role) for line in found], None)

    return [correct, correct_any, list_corrections]
