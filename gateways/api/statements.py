"""Invoices and statements of sales as programs, spreadsheets and people read them: JSON, CSV, a plain page."""

import csv
import io
from collections.abc import Iterable
from html import escape
from typing import Annotated

import msgspec
from msgspec import Meta

from gateways.api.resources import Answer, Int, LeaseId, Price, Request, Time, Usd
from gateways.api.terms import hours
from schemas.attributes import name_of
from schemas.commands import Side
from schemas.ids import format_account_id, format_invoice_id, format_lease_id, parse_lease_id
from schemas.invoices import Head, Invoice, Line, LineId
from schemas.store import Account
from schemas.units import format_month, format_time, format_usd, month_start

ISSUER = "Compute Exchange"
ROLES = {"buyer": Side.BID, "supplier": Side.ASK}
_ROLE = {side: role for role, side in ROLES.items()}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class StatedMonth(Answer):
    """A month of an account: the invoice of what it bought, or the statement of what it sold."""

    invoice_id: str
    account_id: str
    role: str
    """buyer: an invoice; supplier: a statement of sales."""
    month: str
    number: int
    """1 for the month in which the account was opened, then one a month."""
    status: str
    """preliminary, or final: no line changes any more."""
    period_start: Time
    period_end: Time
    line_count: int
    gpu_hours: str
    cost: Usd
    fees: Usd
    corrections: Usd
    """Of the total, what is of credit and debit notes."""
    credits: Usd
    """Of the total, what the buyer's daily credits paid."""
    total: Usd
    """For a buyer to pay: cost and fees. For a supplier to receive: cost less fees."""


class StatedLine(Answer):
    """What one lease came to in the month."""

    line: str
    """Its name within the month: the `after` of the lines behind it."""
    kind: str
    lease_id: str
    class_id: str
    supplier: str
    supplier_name: str
    buyer: str
    region: str
    tier: str
    team: str
    """Of the buyer, like the next: shown to it alone."""
    user: str
    quantity: int
    price: Price
    start: Time
    """Of the lease."""
    end: Time
    """When its use ended, or will."""
    gpu_ms: int
    """What is billed in the month: metered, and forfeited."""
    forfeited_gpu_ms: int
    gpu_hours: str
    """The same, rounded down to 6 places."""
    cost: Usd
    fee_bps: int
    fee: Usd
    amount: Usd
    """For a buyer to pay: cost and fee. For a supplier to receive: cost less fee."""
    note_id: str
    """Of a correction, like the next two; else ''."""
    corrects: str
    """The invoice and the line that it corrects, like `inv_3-1 lse_7k2-0`."""
    reason: str


class Correction(Answer):
    """A credit or debit note of a lease, as the account sees it that asks. Its figures are differences."""

    note_id: str
    """crn_… where the buyer is billed less, dbn_… where it is billed more."""
    lease_id: str
    invoice_id: str
    """The invoice, or the statement of sales, that has it."""
    corrects: str
    """The invoice and the line that it corrects."""
    reason: str
    made_at: Time
    gpu_ms: int
    cost: Usd
    fee: Usd
    amount: Usd


class NewCorrection(Request):
    """What a closed lease used in all, as it should have been, and why."""

    gpu_ms: Int
    """GPUs × milliseconds, cumulative, without what was forfeited."""
    reason: Annotated[str, Meta(min_length=1, max_length=500)]


class CorrectionOf(NewCorrection):
    """The same of any lease."""

    lease_id: LeaseId


class StatedInvoice(StatedMonth):
    """A month with its lines, or a part of them."""

    lines: list[StatedLine]
    next: str | None
    """The `after` of the next lines; null at the end."""


def shown_month(head: Head) -> StatedMonth:
    """Without its lines."""
    return StatedMonth(
        invoice_id=invoice_id(head),
        account_id=format_account_id(head.account),
        role=_ROLE[head.role],
        month=format_month(head.month),
        number=head.number,
        status="final" if head.final else "preliminary",
        period_start=format_time(month_start(head.month)),
        period_end=format_time(month_start(head.month + 1)),
        line_count=head.totals.lines,
        gpu_hours=hours(head.totals.gpu_ms),
        cost=format_usd(head.totals.cost),
        fees=format_usd(head.totals.fees),
        corrections=format_usd(head.totals.corrections),
        credits=format_usd(head.totals.credits),
        total=format_usd(head.totals.amount),
    )


def shown_invoice(invoice: Invoice, limit: int) -> StatedInvoice:
    """With the lines that are here, of which `limit` were asked for."""
    lines = [shown_line(line, invoice.head.role) for line in invoice.lines]
    return StatedInvoice(
        **msgspec.structs.asdict(shown_month(invoice.head)),
        lines=lines,
        next=lines[-1].line if len(lines) == limit else None,
    )


def shown_line(line: Line, role: Side) -> StatedLine:
    """Money as decimal strings, times in RFC 3339."""
    return StatedLine(
        line=line_name(line.id),
        kind=line.kind,
        lease_id=format_lease_id(line.id[0]),
        class_id=line.class_id,
        supplier=format_account_id(line.supplier),
        supplier_name=line.supplier_name,
        buyer=format_account_id(line.buyer),
        region=name_of(line.attributes.region),
        tier=name_of(line.attributes.tier),
        team=line.team,
        user=line.user,
        quantity=line.quantity,
        price=format_usd(line.price),
        start=format_time(line.start),
        end=format_time(line.end),
        gpu_ms=line.gpu_ms,
        forfeited_gpu_ms=line.forfeited_gpu_ms,
        gpu_hours=hours(line.gpu_ms),
        cost=format_usd(line.cost),
        fee_bps=line.fee_bps,
        fee=format_usd(line.fee),
        amount=format_usd(line.amount),
        note_id=note_id(line),
        corrects=corrects(line, role),
        reason=line.note.reason if line.note is not None else "",
    )


def shown_correction(line: Line, account: int, role: Side) -> Correction:
    """Of a lease, beside the others."""
    assert line.note is not None
    return Correction(
        note_id=note_id(line),
        lease_id=format_lease_id(line.id[0]),
        invoice_id=format_invoice_id(account, line.note.number, sales=role is Side.ASK),
        corrects=corrects(line, role),
        reason=line.note.reason,
        made_at=format_time(line.note.made_at),
        gpu_ms=line.gpu_ms,
        cost=format_usd(line.cost),
        fee=format_usd(line.fee),
        amount=format_usd(line.amount),
    )


def note_id(line: Line) -> str:
    """Like crn_7k2-0.1: the lease's id and the number of the note; '' of a line that is none."""
    if line.note is None:
        return ""
    return f"{'crn' if line.gpu_ms < 0 else 'dbn'}_{line_name(line.id).removeprefix('lse_')}"


def corrects(line: Line, role: Side) -> str:
    """The invoice of the account and its line that a note corrects; '' of a line that is none."""
    if line.note is None:
        return ""
    account = line.supplier if role is Side.ASK else line.buyer
    invoice = format_invoice_id(account, line.note.corrects_number, sales=role is Side.ASK)
    return f"{invoice} {format_lease_id(line.id[0])}"


def invoice_id(head: Head) -> str:
    """Like inv_3-1, or stm_3-1 of a statement of sales."""
    return format_invoice_id(head.account, head.number, sales=head.role is Side.ASK)


def line_name(line: LineId) -> str:
    """Like lse_7k2-0."""
    lease, ordinal = line
    return f"{format_lease_id(lease)}.{ordinal}" if ordinal else format_lease_id(lease)


def parse_line(text: str) -> LineId:
    """A line's name. Raises ValueError with what one looks like."""
    lease, dot, ordinal = text.partition(".")
    if dot and not (ordinal.isascii() and ordinal.isdecimal() and len(ordinal) <= 9):
        raise ValueError(f"{text!r} is not a line: it looks like lse_7k2-0 or lse_7k2-0.1")
    return parse_lease_id(lease), int(ordinal or 0)


# For spreadsheets.

_LINE_COLUMNS = tuple(field.encode_name for field in msgspec.structs.fields(StatedLine))


def csv_header() -> str:
    """The names of the columns: the month's, then the line's."""
    return csv_rows([("invoice_id", "month", "status", *_LINE_COLUMNS)])


def csv_lines(invoice: Invoice) -> str:
    """A row for each line that is here."""
    month = shown_month(invoice.head)
    of_month = month.invoice_id, month.month, month.status
    lines = (shown_line(line, invoice.head.role) for line in invoice.lines)
    return csv_rows((*of_month, *msgspec.structs.astuple(line)) for line in lines)


def csv_rows(rows: Iterable[Iterable[object]]) -> str:
    """RFC 4180. A text that a spreadsheet would take for a formula gets an apostrophe before it; numbers stay."""
    out = io.StringIO()
    csv.writer(out).writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    return text.removeprefix("-").replace(".", "", 1).isdecimal()


# For people.

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""Of the page: nothing runs, nothing is fetched."""
_KINDS = {"crn": "Credit note", "dbn": "Debit note"}
_STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; color: #111; background: #fff; max-width: 70rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 1rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1.5rem; }
dt { color: #555; }
dd { margin: 0; }
table { border-collapse: collapse; width: 100%; margin: 1.5rem 0; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
th { font-weight: 600; border-bottom-color: #111; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tfoot td { font-weight: 600; border-top: 1px solid #111; }
.draft { color: #a40; font-weight: 600; }
@media print { body { margin: 0; } }
"""


def page(invoice: Invoice, account: Account) -> str:
    """The month as a page that stands alone: no script, no picture, nothing fetched. Everything in it is escaped."""
    month = shown_month(invoice.head)
    sold = invoice.head.role is Side.ASK
    title = f"{'Statement of sales' if sold else 'Invoice'} {month.invoice_id}"
    status = "final" if invoice.head.final else '<span class="draft">preliminary: what is known so far</span>'
    about = [
        ("From" if sold else "To", _text(f"{account.name} ({month.account_id})")),
        ("To" if sold else "From", _text(ISSUER)),
        ("Period", f"{_text(month.period_start)} to {_text(month.period_end)}, end excluded"),
        ("Status", status),
        ("Currency", "US dollars"),
        ("To receive" if sold else "Total", f"<strong>{_text(month.total)}</strong>"),
    ]
    if invoice.head.totals.credits:
        about.append(("Paid by daily credits", _text(month.credits)))
    columns = (
        "Lease",
        "Class",
        "Buyer" if sold else "Supplier",
        "From",
        "Until",
        "GPUs",
        "$/GPU-h",
        "GPU-hours",
        "Cost",
    )
    heads = "".join(f'<th class="{_side(each)}">{_text(each)}</th>' for each in (*columns, "Fee", "Amount"))
    rows = "\n".join(_row(line, sold) for line in invoice.lines)
    left = month.line_count - len(invoice.lines)
    more = f"<p>{left} more lines are in the CSV file of the month, and in its totals.</p>" if left else ""
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{_text(title)}</title>
<style>{_STYLE}</style>
<h1>{_text(title)}</h1>
<dl>{"".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in about)}</dl>
<table>
<thead><tr>{heads}</tr></thead>
<tbody>
{rows}
</tbody>
<tfoot><tr><td colspan="7">Total</td>{"".join(_number(each) for each in _sums(month))}</tr></tfoot>
</table>
{more}
</html>
"""


def _row(line: Line, sold: bool) -> str:
    shown = shown_line(line, Side.ASK if sold else Side.BID)
    numbers = [_number(each) for each in (shown.gpu_hours, shown.cost, shown.fee, shown.amount)]
    if line.note is not None:
        said = f"{_KINDS[shown.note_id[:3]]} {shown.note_id} to {shown.corrects}: {shown.reason}"
        return f'<tr><td colspan="7">{_text(said)}</td>{"".join(numbers)}</tr>'
    other = shown.buyer if sold else f"{shown.supplier_name} ({shown.supplier})"
    texts = shown.lease_id, shown.class_id, other, shown.start, shown.end
    cells = [f"<td>{_text(each)}</td>" for each in texts]
    cells += [_number(str(shown.quantity)), _number(shown.price), *numbers]
    return f"<tr>{''.join(cells)}</tr>"


def _sums(month: StatedMonth) -> tuple[str, ...]:
    return month.gpu_hours, month.cost, month.fees, month.total


def _number(text: str) -> str:
    return f'<td class="n">{_text(text)}</td>'


def _side(column: str) -> str:
    return "n" if column in {"GPUs", "$/GPU-h", "GPU-hours", "Cost", "Fee", "Amount"} else ""


def _text(text: str) -> str:
    return escape(text, quote=True)
