"""`cx focus`: what an account bought, as a file for cost tools."""

from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from gateways.cli.access import HERE, USAGE, Access, fail, run
from gateways.cli.invoices import print_file
from gateways.cli.show import show
from gateways.client import Exchange
from schemas.focus import COLUMNS, DECIMAL_PLACES, Kind, Row

DECIMAL_DIGITS = 38


def focus(*, month: str, parquet: Path | None = None, account: str | None = None, access: Access = HERE) -> None:
    """Write what you bought in a month as FOCUS 1.2, the open format of cost tools.

    Parameters
    ----------
    month
        like 2026-11
    account
        another's, like acc_3, for a key with the scope audit or admin
    parquet
        write this file instead; needs pyarrow: pip install pyarrow
    """

    async def call(exchange: Exchange) -> None:
        if parquet is not None:
            await write_parquet(parquet, exchange.focus(month, account=account))
        elif access.csv:
            print_file(await exchange.focus_csv(month, account=account))
        else:
            rows = [row async for page in exchange.focus(month, account=account) for row in page]
            columns = ("ChargePeriodStart", "ServiceName", "ResourceId", "HostProviderName", "BilledCost", "InvoiceId")
            show(rows, columns, ([row[name] or "" for name in columns] for row in rows), access)

    run(call, access)


async def write_parquet(path: Path, pages: AsyncIterator[list[Row]]) -> None:
    """Decimals and times are written as such, not as text or floats."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        fail("Parquet needs pyarrow: pip install pyarrow, or take --csv", USAGE)
    kinds = {
        Kind.STRING: pyarrow.string(),
        Kind.JSON: pyarrow.string(),
        Kind.DECIMAL: pyarrow.decimal128(DECIMAL_DIGITS, DECIMAL_PLACES),
        Kind.TIME: pyarrow.timestamp("ms", tz="UTC"),
    }
    schema = pyarrow.schema([pyarrow.field(each.name, kinds[each.kind], each.nullable) for each in COLUMNS])
    try:
        with parquet.ParquetWriter(path, schema) as file:
            async for rows in pages:
                table = [{column.name: _value(column.kind, row[column.name]) for column in COLUMNS} for row in rows]
                file.write_table(pyarrow.Table.from_pylist(table, schema))
    except OSError as error:
        fail(f"{path} cannot be written: {error}", USAGE)


def _value(kind: Kind, text: str | None) -> Any:
    if text is None or kind in (Kind.STRING, Kind.JSON):
        return text
    return Decimal(text) if kind is Kind.DECIMAL else datetime.fromisoformat(text)
