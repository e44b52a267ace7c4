"""`cx` for who keeps the books: months of an account, as buyer and as supplier."""

import sys
from pathlib import Path

from gateways.cli.commands import HERE, USAGE, Access, fail, run, show
from gateways.client import Exchange
from gateways.client.types import Correction, Invoice, InvoiceLine, InvoiceMonth

STDOUT = Path("-")


def invoice(
    month: str | None = None,
    /,
    *,
    csv: Path | None = None,
    html: Path | None = None,
    limit: int = 50,
    access: Access = HERE,
) -> None:
    """Show what you are billed for a month like 2026-11, by lease; without a month, list your months.

    Parameters
    ----------
    csv
        write all lines to this file instead, - for here
    html
        write a page to read and print to this file instead, - for here
    """
    _show("buyer", month, {"csv": csv, "html": html}, limit, access)


def statement(
    month: str | None = None,
    /,
    *,
    csv: Path | None = None,
    html: Path | None = None,
    limit: int = 50,
    access: Access = HERE,
) -> None:
    """Show what you earn as a supplier in a month like 2026-11, by lease; without a month, list your months.

    Parameters
    ----------
    csv
        write all lines to this file instead, - for here
    html
        write a page to read and print to this file instead, - for here
    """
    _show("supplier", month, {"csv": csv, "html": html}, limit, access)


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


def _show(role: str, month: str | None, files: dict[str, Path | None], limit: int, access: Access) -> None:
    wanted = {kind: path for kind, path in files.items() if path is not None}
    if wanted and month is None:
        fail("say which month, like 2026-11", USAGE)

    async def call(exchange: Exchange) -> None:
        if month is None:
            _show_months(await exchange.invoices(role=role, limit=limit), access)
        elif not wanted:
            _show_month(await exchange.invoice(month, role=role, limit=limit), access)
        else:
            for kind, path in wanted.items():
                write(path, await exchange.invoice_file(month, kind, role=role))

    run(call, access)


def write(path: Path, value: bytes) -> None:
    """To the file, or to stdout."""
    if path == STDOUT:
        sys.stdout.buffer.write(value)
        return
    try:
        path.write_bytes(value)
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}", USAGE)
    print(f"{path}: {len(value):,} bytes", file=sys.stderr)


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
