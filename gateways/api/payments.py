"""Routes of money in and out, and of an account's own entries in the ledger."""

from typing import Annotated

from litestar import get, post, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from gateways.api import resources, terms
from gateways.api.errors import invalid, refused
from gateways.api.instructions import Clerk
from gateways.api.keys import Keys
from gateways.api.replies import Replies, settled
from gateways.api.requests import ApiRequest
from gateways.api.routes import Limit
from schemas.ids import LeaseId, format_account_id, parse_account_id, parse_lease_id
from schemas.instructions import Withdrawal, WithdrawalNews, WithdrawalState
from schemas.refusals import Refusal
from schemas.store import Scope, Store
from schemas.units import parse_usd

_STATES = {state.value: state for state in WithdrawalState}


def payment_routes(store: Store, keys: Keys, clerk: Clerk, replies: list[Replies]) -> list[HTTPRouteHandler]:
    """Deposits and withdrawals as lists, and what becomes of withdrawals."""

    @post("/v1/withdrawals", **keys.door(Scope.WITHDRAW, 402, 404, 409, 422, 504))
    async def withdraw(request: ApiRequest, data: JSONBody[resources.NewWithdrawal]) -> resources.Withdrawal:
        """Ask for money to be paid out: cash, or as a supplier what was earned.

        It leaves the balance at once, and is back if the payment fails. The same reference again changes nothing.
        """
        account = request.user.account.id
        if not data.destination.isprintable():
            raise invalid("destination", "destination must be printable characters")
        amount = terms.parsed("amount", parse_usd, data.amount)
        await clerk.withdraw(Withdrawal(account, data.reference, data.source, amount, data.destination))
        return await shown(account, data.reference)

    @get("/v1/withdrawals", **keys.door(Scope.READ))
    async def list_withdrawals(
        request: ApiRequest,
        state_name: Annotated[str | None, QueryParameter(name="state")] = None,
        after: FromQuery[str | None] = None,
        limit: Limit = 100,
    ) -> resources.Page[resources.Withdrawal]:
        """The account's withdrawals, newest first."""
        found = await store.withdrawals(
            request.user.account.id,
            state=None if state_name is None else terms.choice("state", _STATES, state_name),
            after=after,
            limit=limit,
        )
        return resources.Page(
            [terms.shown_withdrawal(each) for each in found], found[-1].reference if len(found) == limit else None
        )

    @get("/v1/withdrawals/{reference:str}", **keys.door(Scope.READ, 404))
    async def show_withdrawal(request: ApiRequest, reference: FromPath[str]) -> resources.Withdrawal:
        """A withdrawal of the account."""
        return await shown(request.user.account.id, reference)

    @get("/v1/outgoing", **keys.door(Scope.ADMIN))
    async def list_outgoing(
        after: FromQuery[str | None] = None, limit: Limit = 100
    ) -> resources.Page[resources.Withdrawal]:
        """What is on its way out, of all accounts, the oldest first: for who pays it out."""
        account, _, reference = (after or "").partition(":")
        place = None if after is None else (terms.parsed("after", parse_account_id, account), reference)
        found = await store.withdrawals_under_way(after=place, limit=limit)
        last = f"{format_account_id(found[-1].account)}:{found[-1].reference}" if len(found) == limit else None
        return resources.Page([terms.shown_withdrawal(each) for each in found], last)

    @put("/v1/accounts/{account_id:str}/withdrawals/{reference:str}", **keys.door(Scope.ADMIN, 404, 409, 504))
    async def hear_of_withdrawal(
        account_id: FromPath[str], reference: FromPath[str], data: JSONBody[resources.NewWithdrawalState]
    ) -> resources.Withdrawal:
        """Say what became of a withdrawal: sent, settled (the money is out), or failed (it is back)."""
        if data.state is WithdrawalState.REQUESTED:
            raise invalid("state", "say sent, settled or failed")
        for name, text in (("provider_reference", data.provider_reference), ("reason", data.reason)):
            if not text.isprintable():
                raise invalid(name, f"{name} must be printable characters")
        account = terms.parsed("account_id", parse_account_id, account_id)
        await clerk.hear(WithdrawalNews(account, reference, data.state, data.provider_reference, data.reason))
        return await shown(account, reference)

    @put("/v1/accounts/{account_id:str}/credit", **keys.door(Scope.ADMIN, 404, 409, 422, 504))
    async def limit_credit(account_id: FromPath[str], data: JSONBody[resources.NewCredit]) -> resources.Balance:
        """How far the account's cash may go below 0, for orders to come; no less than it uses now. 0 is none."""
        account = terms.parsed("account_id", parse_account_id, account_id)
        await clerk.limit_credit(account, terms.parsed("credit", parse_usd, data.credit))
        return terms.shown_balance(account, await store.balance(account))

    @get("/v1/deposits", **keys.door(Scope.READ))
    async def list_deposits(
        request: ApiRequest, after: FromQuery[str | None] = None, limit: Limit = 100
    ) -> resources.Page[resources.MadeDeposit]:
        """The account's deposits, newest first."""
        found = await store.deposits(request.user.account.id, after=after, limit=limit)
        return resources.Page(
            [terms.shown_deposit(each) for each in found], found[-1].reference if len(found) == limit else None
        )

    @get("/v1/entries", **keys.door(Scope.READ, 404))
    async def list_entries(
        request: ApiRequest,
        lease_id: FromQuery[str | None] = None,
        after: FromQuery[str | None] = None,
        limit: Limit = 100,
    ) -> resources.Page[resources.Entry]:
        """The entries of the account's cash, held, receivable and outgoing, newest first.

        With `lease_id` those of the escrow of a lease that it bought: what the lease cost, charge by charge.
        """
        await settled(store, replies)
        account = request.user.account.id
        lease = None if lease_id is None else await bought(account, lease_id)
        try:
            found, following = await store.entries(account, lease=lease, after=after, limit=limit)
        except ValueError as error:
            raise invalid("after", str(error)) from None
        return resources.Page([terms.shown_entry(each) for each in found], following)

    async def shown(account: int, reference: str) -> resources.Withdrawal:
        """Raises ApiError 404."""
        found = await store.withdrawal(account, reference)
        if found is None:
            raise refused(Refusal.UNKNOWN_WITHDRAWAL, (reference,))
        return terms.shown_withdrawal(found)

    async def bought(account: int, text: str) -> LeaseId:
        """Raises ApiError 404 where the account is not its buyer."""
        lease = await store.lease(terms.parsed("lease_id", parse_lease_id, text))
        if lease is None or lease.buyer != account:
            raise refused(Refusal.UNKNOWN_LEASE, (text,))
        return lease.id

    return [
        withdraw,
        list_withdrawals,
        show_withdrawal,
        list_outgoing,
        hear_of_withdrawal,
        limit_credit,
        list_deposits,
        list_entries,
    ]
