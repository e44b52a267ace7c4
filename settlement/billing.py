"""Reads an account's months from the database: invoices of what it bought, statements of what it sold."""

from typing import Any

import msgspec

from schemas.attributes import Attributes
from schemas.commands import Side
from schemas.ids import LeaseId
from schemas.invoices import Head, Invoice, Line, LineId, LineKind, Note, Totals
from schemas.store import Account
from schemas.topics import EXECUTIONS
from schemas.units import month_of
from settlement import ledger
from settlement.database import Connection, Queries
from settlement.invoices import is_final, number

_attributes = msgspec.msgpack.Decoder(Attributes).decode


async def heads(
    connection: Connection, sql: Queries, account: Account, role: Side, before: int | None, limit: int
) -> list[Head]:
    """The account's months, newest first."""
    sold = role is Side.ASK
    standing = await connection.fetchrow(sql.invoice_finality, account.id, sold, EXECUTIONS)
    first, last = _months(account, standing)
    newest = last if before is None else min(last, before - 1)
    months = range(newest, max(first, newest - limit + 1) - 1, -1)
    if not months:
        return []
    rows = await connection.fetch(sql.invoice_totals, account.id, sold, months[-1], months[0])
    totals = {row["month"]: Totals(*row[1:]) for row in rows}
    if not sold:
        paid = await connection.fetch(sql.invoice_credits, ledger.daily_credits(account.id), months[-1], months[0])
        for month, credits in paid:
            totals[month] = msgspec.structs.replace(totals.get(month, Totals()), credits=credits)
    return [_head(account, role, month, standing, totals.get(month, Totals())) for month in months]


async def invoice(
    connection: Connection,
    sql: Queries,
    account: Account,
    month: int,
    role: Side,
    after: LineId | None,
    limit: int | None,
) -> Invoice | None:
    """The month with its lines after `after`; None where the account has no such month."""
    found = await heads(connection, sql, account, role, month + 1, 1)
    if not found or found[0].month != month:
        return None
    (position, index), ordinal = after or ((None, None), None)
    which = account.id, role is Side.ASK, month
    rows = await connection.fetch(sql.invoice_lines, *which, position, index, ordinal, limit)
    return Invoice(found[0], [_line(row, account) for row in rows])


async def notes(connection: Connection, sql: Queries, account: Account, lease: LeaseId, role: Side) -> list[Line]:
    """The corrections of a lease, as its buyer or its supplier sees them."""
    rows = await connection.fetch(sql.notes, account.id, role is Side.ASK, *lease)
    return [_line(row, account) for row in rows]


def _months(account: Account, standing: Any) -> tuple[int, int]:
    """The first and the last: from that in which it was opened to the present one."""
    first = month_of(account.created_at)
    return first, max(first, month_of(standing["now"] or 0))


def _head(account: Account, role: Side, month: int, standing: Any, totals: Totals) -> Head:
    final = is_final(month, standing["settled_to"] or 0, standing["open_until"])
    return Head(account.id, role, month, number(month, account.created_at), final, totals)


def _line(row: Any, account: Account) -> Line:
    note = None
    if row["corrects"] is not None:
        numbers = [(month, number(month, account.created_at)) for month in (row["month"], row["corrects"])]
        note = Note(*numbers[0], *numbers[1], row["reason"], row["made_at"])
    return Line(
        id=((row["position"], row["fill_index"]), row["ordinal"]),
        kind=LineKind(row["kind"]),
        class_id=row["class_id"],
        supplier=row["seller"],
        supplier_name=row["seller_name"] or "",
        buyer=row["buyer"],
        attributes=_attributes(row["attributes"]),
        quantity=row["quantity"],
        price=row["price"],
        fee_bps=row["fee_bps"],
        start=row["start_at"],
        end=row["until"],
        gpu_ms=row["gpu_ms"],
        forfeited_gpu_ms=row["forfeited_gpu_ms"],
        cost=row["cost"],
        fee=row["fee"],
        amount=row["amount"],
        team="" if row["sold"] else row["team"],
        user="" if row["sold"] else row["user_name"],
        note=note,
    )
