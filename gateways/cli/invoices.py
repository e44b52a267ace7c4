"""`cx` for who keeps the books: months of an account, as buyer and as supplier."""

import sys

from gateways.cli.access import HERE, USAGE, Access, fail, run
from gateways.cli.show import show
from gateways.client import Exchange
from gateways.client.types import Correction, Invoice, InvoiceLine, InvoiceMonth


def invoice(
    month: str | None = None,
    /,
    *,
    html: bool = False,
    limit: int = 50,
    account: str | None = None,
    access: Access = HERE,
) -> None:
    """Show what you are billed for a month like 2026-11, by lease; without a month, list your months.

    Parameters
    ----------
    html
        print a page to read and print, with all lines; --csv has all lines, too
    account
        another's, like acc_3, for a key with the scope audit or admin
    """
    _show("buyer", month, html, limit, account, access)


def statement(
    month: str | None = None,
    /,
    *,
    html: bool = False,
    limit: int = 50,
    account: str | None = None,
    access: Access = HERE,
) -> None:
    """Show what you earn as a supplier in a month like 2026-11, by lease; without a month, list your months.

    Parameters
    ----------
    html
        print a page to read and print, with all lines; --csv has all lines, too
    account
        another's, like acc_3, for a key with the scope audit or admin
    """
    _show("supplier", month, html, limit, account, access)


def correct(lease_id: str, gpu_ms: int, reason: str, /, *, access: Access = HERE) -> None:
    """As its supplier, say that a closed lease used less than was billed: its buyer gets a credit note.

    Parameters
    ----------
    gpu_ms
        what it used in all: GPUs x milliseconds
    reason
        for the buyer
    """

    async def call(exchange: Exchange) -> None:
        show_corrections(await exchange.correct(lease_id, gpu_ms, reason), access)

    run(call, access)


def corrections(lease_id: str, /, *, access: Access = HERE) -> None:
    """List the credit and debit notes of a lease."""

    async def call(exchange: Exchange) -> None:
        show_corrections(await exchange.corrections(lease_id), access)

    run(call, access)


def show_corrections(found: list[Correction], access: Access) -> None:
    columns = ("note", "in", "corrects", "made", "GPU-ms", "amount $", "reason")
    rows = ((n.note_id, n.invoice_id, n.corrects, n.made_at, str(n.gpu_ms), n.amount, n.reason) for n in found)
    show(found, columns, rows, access)


def _show(role: str, month: str | None, html: bool, limit: int, account: str | None, access: Access) -> None:
    if html and (month is None or access.for_programs):
        fail("--html is of one month, like 2026-11, and goes with neither --json nor --csv", USAGE)

    async def call(exchange: Exchange) -> None:
        if month is None:
            _show_months(await exchange.invoices(role=role, limit=limit, account=account), access)
        elif html or access.csv:
            print_file(await exchange.invoice_file(month, "html" if html else "csv", role=role, account=account))
        else:
            _show_month(await exchange.invoice(month, role=role, limit=limit, account=account), access)

    run(call, access)


def print_file(value: bytes) -> None:
    """As it is, byte by byte."""
    sys.stdout.buffer.write(value)
    sys.stdout.buffer.flush()


def _show_months(found: list[InvoiceMonth], access: Access) -> None:
    rows = ((m.month, m.invoice_id, m.status, str(m.line_count), m.gpu_hours, m.cost, m.fees, m.total) for m in found)
    show(found, ("month", "invoice", "status", "lines", "GPU-hours", "cost $", "fees $", "total $"), rows, access)


def _show_month(found: Invoice, access: Access) -> None:
    columns = ("lease", "class", "GPUs", "$/GPU-h", "from", "until", "GPU-hours", "cost $", "fee $", "amount $")
    rows = [
        (
            each.note_id or each.lease_id,
            each.class_id,
            str(each.quantity),
            each.price,
            each.start,
            each.end,
            *_money(each),
        )
        for each in found.lines
    ]
    left = found.line_count - len(found.lines)
    rest = f"and {left} more" if left else ""
    total = (f"{found.invoice_id}, {found.status}", rest, "", "", "", "", found.gpu_hours, found.cost, found.fees)
    show(found, columns, [*rows, (*total, found.total)], access)


def _money(line: InvoiceLine) -> tuple[str, str, str, str]:
    return line.gpu_hours, line.cost, line.fee, line.amount
