"""Routes of an account's months: invoices of what it bought, statements of what it sold, the export for cost tools."""

from collections.abc import AsyncIterator

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Stream

from gateways.api import focus, resources, statements, terms
from gateways.api.errors import ApiError, refused
from gateways.api.keys import Keys
from gateways.api.replies import Replies, settled
from gateways.api.requests import ApiRequest
from gateways.api.routes import Limit
from gateways.api.statements import ROLES, StatedInvoice, StatedMonth
from schemas.commands import Side
from schemas.focus import NAMES, Row
from schemas.ids import parse_account_id
from schemas.invoices import Invoice, LineId
from schemas.refusals import Refusal
from schemas.store import Account, ApiKey, Scope, Store
from schemas.units import format_month, month_of, parse_month

PAGE_LINES = 1_000
"""Of a month as a page."""
CHUNK_LINES = 1_000
"""Of a file, read at once."""


def invoice_routes(store: Store, keys: Keys, replies: list[Replies]) -> list[HTTPRouteHandler]:
    """Months of the account that asks, as buyer or as supplier; of any for who keeps or audits the books."""

    @get("/v1/invoices", **keys.door(Scope.READ, 404))
    async def list_invoices(
        request: ApiRequest,
        role: FromQuery[str] = "buyer",
        after: FromQuery[str | None] = None,
        limit: Limit = 12,
        account_id: FromQuery[str | None] = None,
    ) -> resources.Page[StatedMonth]:
        """The account's months, newest first: invoices as buyer, statements of sales as supplier.

        Another account's (`account_id`, here and below) are shown to a key with the scope audit or admin.

        A month is final a day after its end, once the grace time of every lease that ended in it is over.
        """
        side = terms.choice("role", ROLES, role)
        before = None if after is None else terms.parsed("after", parse_month, after)
        account = await whose(request.user, account_id)
        await settled(store, replies)
        found = await store.invoices(account, role=side, before=before, limit=limit)
        return resources.Page(
            [statements.shown_month(head) for head in found],
            format_month(found[-1].month) if len(found) == limit else None,
        )

    @get("/v1/invoices/{month:str}", **keys.door(Scope.READ, 404))
    async def show_invoice(
        request: ApiRequest,
        month: FromPath[str],
        role: FromQuery[str] = "buyer",
        after: FromQuery[str | None] = None,
        limit: Limit = 100,
        account_id: FromQuery[str | None] = None,
    ) -> StatedInvoice:
        """A month like 2026-11: its totals, and its lines by lease. Until it is final, what is known so far."""
        side, number = terms.choice("role", ROLES, role), terms.parsed("month", parse_month, month)
        line = None if after is None else terms.parsed("after", statements.parse_line, after)
        account = await whose(request.user, account_id)
        await settled(store, replies)
        return statements.shown_invoice(await found(account, number, side, line, limit), limit)

    @get("/v1/invoices/{month:str}/csv", media_type="text/csv", **keys.door(Scope.READ, 404))
    async def invoice_csv(
        request: ApiRequest,
        month: FromPath[str],
        role: FromQuery[str] = "buyer",
        account_id: FromQuery[str | None] = None,
    ) -> Stream:
        """All lines of a month as CSV, one row each, with the names of the columns first."""
        side, number = terms.choice("role", ROLES, role), terms.parsed("month", parse_month, month)
        account = await whose(request.user, account_id)
        await settled(store, replies)
        first = await found(account, number, side, None, CHUNK_LINES)
        headers = {"Content-Disposition": f'attachment; filename="{statements.invoice_id(first.head)}.csv"'}
        return Stream(csv_of(account, first), media_type="text/csv", headers=headers)

    @get("/v1/invoices/{month:str}/html", media_type="text/html", **keys.door(Scope.READ, 404))
    async def invoice_page(
        request: ApiRequest,
        month: FromPath[str],
        role: FromQuery[str] = "buyer",
        account_id: FromQuery[str | None] = None,
    ) -> Response[str]:
        """A month as a page to read and print, which stands alone and runs nothing; its first 1,000 lines."""
        side, number = terms.choice("role", ROLES, role), terms.parsed("month", parse_month, month)
        account = await whose(request.user, account_id)
        await settled(store, replies)
        shown = statements.page(await found(account, number, side, None, PAGE_LINES), account)
        return Response(shown, media_type="text/html", headers=statements.PAGE_HEADERS)

    @get("/v1/focus", **keys.door(Scope.READ, 404))
    async def list_focus(
        request: ApiRequest,
        month: FromQuery[str],
        after: FromQuery[str | None] = None,
        limit: Limit = 100,
        account_id: FromQuery[str | None] = None,
    ) -> resources.Page[Row]:
        """What the account bought in a month like 2026-11, as rows of FOCUS 1.2: of `limit` lines of its invoice."""
        number = terms.parsed("month", parse_month, month)
        line = None if after is None else terms.parsed("after", statements.parse_line, after)
        account = await whose(request.user, account_id)
        await settled(store, replies)
        invoice = await found(account, number, Side.BID, line, limit)
        last = invoice.lines[-1].id if len(invoice.lines) == limit else None
        return resources.Page(focus.rows(invoice, account), None if last is None else statements.line_name(last))

    @get("/v1/focus/csv", media_type="text/csv", **keys.door(Scope.READ, 404))
    async def focus_csv(request: ApiRequest, month: FromQuery[str], account_id: FromQuery[str | None] = None) -> Stream:
        """All of it as a CSV file of FOCUS 1.2."""
        number = terms.parsed("month", parse_month, month)
        account = await whose(request.user, account_id)
        await settled(store, replies)
        first = await found(account, number, Side.BID, None, CHUNK_LINES)
        headers = {"Content-Disposition": f'attachment; filename="focus-{statements.invoice_id(first.head)}.csv"'}
        return Stream(focus_of(account, first), media_type="text/csv", headers=headers)

    async def whose(key: ApiKey, account_id: str | None) -> Account:
        """Raises ApiError 403 where another's books are not this key's matter, and 404 where there are none."""
        number = key.account.id if account_id is None else terms.parsed("account_id", parse_account_id, account_id)
        if number == key.account.id:
            return key.account
        if not key.scopes & {Scope.AUDIT, Scope.ADMIN}:
            raise ApiError(
                403, "missing_scope", "another account's months need a key with the scope audit, or admin", "account_id"
            )
        account = await store.account(number)
        if account is None:
            raise refused(Refusal.UNKNOWN_ACCOUNT, (number,))
        return account

    async def found(account: Account, month: int, role: Side, after: LineId | None, limit: int) -> Invoice:
        """Raises ApiError 404 for a month before the account's first, or to come."""
        invoice = await store.invoice(account, month, role=role, after=after, limit=limit)
        if invoice is None:
            first = format_month(month_of(account.created_at))
            raise ApiError(
                404, "not_found", f"there is nothing of {format_month(month)}: ask for {first} to this month", "month"
            )
        return invoice

    async def csv_of(account: Account, invoice: Invoice) -> AsyncIterator[str]:
        yield statements.csv_header()
        async for part in parts(account, invoice):
            yield statements.csv_lines(part)

    async def focus_of(account: Account, invoice: Invoice) -> AsyncIterator[str]:
        yield statements.csv_rows([NAMES])
        async for part in parts(account, invoice):
            yield statements.csv_rows(row.values() for row in focus.rows(part, account))

    async def parts(account: Account, invoice: Invoice) -> AsyncIterator[Invoice]:
        head = invoice.head
        while invoice.lines:
            yield invoice
            invoice = await found(account, head.month, head.role, invoice.lines[-1].id, CHUNK_LINES)

    return [list_invoices, show_invoice, invoice_csv, invoice_page, list_focus, focus_csv]
