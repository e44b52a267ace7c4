"""How `cx` shows what it found: tables for people, JSON and CSV for programs, progress on a terminal."""

import contextlib
import csv
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from gateways.cli.access import Access
from gateways.client.types import Order

RIGHT = {"GPUs", "filled", "GB", "orders", "sequence", "GPU-ms in all", "GPU-ms", "forfeited", "lines", "GPU-hours"}
"""Columns of numbers; those of money have a $."""
PER_GPU_HOUR = {"price", "max_price", "tick", "reference", "low", "high", "last"}
DOLLARS = {
    *("held", "cash", "escrow", "receivable", "outgoing", "credit", "daily_credits", "charged", "earned", "amount"),
    *("cost", "fee", "most", "due", "notional", "daily", "granted", "remaining", "spent_today", "spent_this_month"),
    *("committed", "day", "month"),
}
SHOWN = 4
"""Of a long list within one thing; the rest is in JSON and CSV."""
WIDTH = 160
"""Of a table where no terminal says how wide it is."""
_DECIMAL = re.compile(r"-?\d+\.\d+", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z", re.ASCII)


def show(
    found: object, columns: Sequence[str], rows: Iterable[Sequence[str]], access: Access, title: str | None = None
) -> None:
    """A list: its JSON, or its rows under the names of the columns."""
    if access.json:
        print_json(found)
    elif access.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    else:
        if title is not None:
            print(timed(title, access))
        table = Table(box=None, pad_edge=False, show_header=any(columns))
        for column in columns:
            right = column in RIGHT or "$" in column
            table.add_column(column, justify="right" if right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(timed(cell, access) for cell in row))
        console = Console(width=None if sys.stdout.isatty() else WIDTH, markup=False, highlight=False)
        with console.capture() as drawn:
            console.print(table)
        print(*(line.rstrip() for line in drawn.get().splitlines()), sep="\n")


def show_one(found: Any, access: Access) -> None:
    """One thing, a line a field; in CSV a line of names and one of values."""
    fields = msgspec.to_builtins(found)
    if access.csv:
        show(found, [*fields], [[_text(value) for value in fields.values()]], access)
        return
    shown = ((name, _with_unit(name, _text(_short(value)).rstrip())) for name, value in fields.items())
    show(found, ("", ""), [(name, text) for name, text in shown if text], access)


def show_order(order: Order, access: Access) -> None:
    """Every term as understood, and what it traded."""
    if access.json:
        print_json(order)
        return
    fields = msgspec.to_builtins(order)
    del fields["fills"]
    show_one(fields, access)
    fills = order.fills or []
    rows = ((f.lease_id, str(f.quantity), f.price, f.start, f.end) for f in fills)
    if fills and not access.csv:
        show(fills, ("lease", "GPUs", "$/GPU-h", "from", "until"), rows, access)


def say(text: str, found: Any, access: Access) -> None:
    """A sentence for people; for programs what it says."""
    if access.for_programs:
        show_one(found, access)
    else:
        print(timed(text, access))


def print_json(found: object) -> None:
    """On a line."""
    print(msgspec.json.encode(found).decode(), flush=True)


def print_row(values: Iterable[object]) -> None:
    """A line of CSV, at once."""
    csv.writer(sys.stdout, lineterminator="\n").writerow(_text(value) for value in values)
    sys.stdout.flush()


def timed(text: str, access: Access) -> str:
    """Its times in this machine's zone, where that is wanted: 2026-11-25T08:07:00Z -> 2026-11-25 09:07:00 CET."""
    if access.settings["times"].value != "local" or not _TIME.search(text):
        return text
    return _TIME.sub(lambda match: _local(match[0]), text)


def _local(time: str) -> str:
    return f"{datetime.fromisoformat(time).astimezone():%Y-%m-%d %H:%M:%S %Z}"


def _short(value: object) -> object:
    """Of a long list its beginning, and how many more there are."""
    if isinstance(value, list) and len(value) > SHOWN:
        return [*value[: SHOWN - 1], f"and {len(value) - SHOWN + 1} more"]
    return value


def _with_unit(name: str, text: str) -> str:
    if not _DECIMAL.fullmatch(text):
        return text
    if name in PER_GPU_HOUR:
        return f"{text} $/GPU-h"
    return f"{text} $" if name in DOLLARS else text


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(each)}" for name, each in value.items() if each not in (None, "", []))
    if isinstance(value, list):
        return ", ".join(_text(each) for each in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


@contextlib.contextmanager
def progress(what: str, unit: str = "") -> Iterator[Callable[[int, int | None], None]]:
    """How far long work is, told by (done, of how many), on a terminal alone; it writes to stderr."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
