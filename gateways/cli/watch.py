"""`cx watch`: a class, or one's own orders, as things happen."""

import asyncio
import contextlib
import csv
import sys
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateways.cli.access import HERE, USAGE, Access, fail, run
from gateways.cli.show import print_json, timed
from gateways.client import Exchange
from gateways.client.stream import Message
from gateways.client.types import BookLevel, Depth

DRAWS_PER_S = 4
LEVELS = 10
"""Prices a side."""
FILLS = 15
CSV_COLUMNS = ("time", "channel", "what")


def watch(
    class_: Annotated[str | None, Parameter(name="class")] = None,
    /,
    *,
    for_: Annotated[Literal["1h", "24h", "7d", "30d"], Parameter(name="--for")] = "24h",
    orders: bool = False,
    access: Access = HERE,
) -> None:
    """Show a class's book, last price and fills as they change, until Ctrl-C; or with --orders what becomes of yours.

    Where there is no terminal it prints a line for each fill and each change of the best prices. With --json it prints
    the messages of the stream as they come, one a line.

    Parameters
    ----------
    class_
        like H100-SXM-80GB
    for_
        the book of windows that begin now and last so long
    orders
        your own orders, of all classes
    """
    if (class_ is None) != orders:
        fail("say what: a class, or --orders", USAGE)

    async def call(exchange: Exchange) -> None:
        if class_ is None:
            await _orders(exchange, access)
        elif access.json:
            await _together(
                _messages(exchange.watch("depth", class_, window=for_)),
                _messages(exchange.watch("ticker", class_)),
                _messages(exchange.watch("fills", class_)),
            )
        else:
            await _class(exchange, class_, for_, access)

    run(call, access)


async def _together(*work: Coroutine[Any, Any, None]) -> None:
    """All of it, until one part fails, as that fails."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in work:
                group.create_task(part)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def _messages(stream: AsyncIterator[Message]) -> None:
    async for message in stream:
        print_json(message.body)


async def _orders(exchange: Exchange, access: Access) -> None:
    if access.json:
        await _messages(exchange.watch("orders"))
        return
    lines = Lines(access)
    async for message in exchange.watch("orders"):
        if message.type == "whole":
            for order in message.body["orders"]:
                said = (
                    f"{order['order_id']} is {order['status']}: {order['side']} {order['left']} of {order['quantity']}"
                )
                lines.add("", "orders", f"{said} {order['class']} at {order['price']} $/GPU-h")
        else:
            lines.add(message.body["time"], "orders", _what(message.body))


def _what(body: dict[str, Any]) -> str:
    """Of one order what became of it, in the names of the API."""
    skipped = {"type", "channel", "number", "stream", "time"}
    return ", ".join(
        f"{name} {value}" for name, value in body.items() if name not in skipped and value not in (None, "")
    )


class Lines:
    """Lines for who has no terminal, and for files."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._csv = csv.writer(sys.stdout, lineterminator="\n") if access.csv else None
        if self._csv is not None:
            self._csv.writerow(CSV_COLUMNS)

    def add(self, time: str, channel: str, what: str) -> None:
        if self._csv is not None:
            self._csv.writerow((time, channel, what))
            sys.stdout.flush()
        else:
            print(timed(f"{time}  {what}".strip(), self._access), flush=True)


class Seen:
    """What is known of a class."""

    def __init__(self, class_id: str, window: str) -> None:
        self.class_id = class_id
        self.window = window
        self.depth: Depth | None = None
        self.ticker: dict[str, Any] = {}
        self.fills: deque[dict[str, Any]] = deque(maxlen=FILLS)
        self.news = asyncio.Event()

    def best(self) -> str:
        if self.depth is None:
            return ""
        sides = ("bid", self.depth.bids), ("ask", self.depth.asks)
        said = (f"{name} {side[0].quantity} x {side[0].price}" if side else f"no {name}" for name, side in sides)
        return ", ".join(said) + f" $/GPU-h for {self.window}"


async def _class(exchange: Exchange, class_id: str, window: str, access: Access) -> None:
    seen = Seen(class_id, window)
    on_terminal = sys.stdout.isatty() and not access.csv
    lines = None if on_terminal else Lines(access)
    with Live(console=Console(), auto_refresh=False, screen=True) if on_terminal else contextlib.nullcontext() as live:
        await _together(
            _depth(seen, exchange.depth(class_id, window), lines),
            _ticker(seen, exchange),
            _fills(seen, exchange, lines),
            *([_drawn(seen, live, access)] if live is not None else []),
        )


async def _drawn(seen: Seen, live: Live, access: Access) -> None:
    while True:
        await seen.news.wait()
        seen.news.clear()
        live.update(screen(seen, access), refresh=True)
        await asyncio.sleep(1 / DRAWS_PER_S)


async def _depth(seen: Seen, books: AsyncIterator[Depth], lines: Lines | None) -> None:
    best = ""
    async for seen.depth in books:
        seen.news.set()
        if lines is not None and seen.best() != best:
            best = seen.best()
            lines.add(seen.depth.time, "depth", best)


async def _ticker(seen: Seen, exchange: Exchange) -> None:
    async for message in exchange.watch("ticker", seen.class_id):
        seen.ticker = message.body
        seen.news.set()


async def _fills(seen: Seen, exchange: Exchange, lines: Lines | None) -> None:
    async for message in exchange.watch("fills", seen.class_id):
        new = message.body["fills"] if message.type == "whole" else [message.body["fill"]]
        seen.fills.extend(new)
        seen.news.set()
        if lines is not None:
            for fill in new:
                lines.add(fill["time"], "fills", _fill(fill))


def _fill(fill: dict[str, Any]) -> str:
    window = f"{fill['start']} to {fill['end']}"
    return f"#{fill['number']} {fill['quantity']} GPUs at {fill['price']} $/GPU-h, {window}, {fill['region']}"


def screen(seen: Seen, access: Access) -> Group:
    """All of it, for a terminal."""
    day = seen.ticker.get("day") or {}
    last = f"last {seen.ticker['last']} $/GPU-h" if seen.ticker.get("last") else "nothing traded yet"
    traded = f"  24 h: low {day['low']}, high {day['high']}, {day['gpu_hours']} GPU-h" if day else ""
    at = timed(seen.depth.time, access) if seen.depth is not None else ""
    return Group(
        Text(f"{seen.class_id}  {last}{traded}", style="bold"),
        Text(f"for {seen.window} from now on  {at}", style="dim"),
        _book(seen.depth),
        Text(""),
        *(Text(timed(f"{fill['time']}  {_fill(fill)}", access), no_wrap=True) for fill in reversed(seen.fills)),
        Text("Ctrl-C ends.", style="dim"),
    )


def _book(depth: Depth | None) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in ("orders", "GPUs", "bid $/GPU-h", "ask $/GPU-h", "GPUs", "orders"):
        table.add_column(column, justify="right")
    bids, asks = ([], []) if depth is None else (depth.bids[:LEVELS], depth.asks[:LEVELS])
    for place in range(max(len(bids), len(asks))):
        table.add_row(*_level(bids, place, "green"), *reversed(_level(asks, place, "red")))
    return table


def _level(side: list[BookLevel], place: int, style: str) -> list[Text]:
    if place >= len(side):
        return [Text("")] * 3
    level = side[place]
    return [Text(str(level.orders)), Text(str(level.quantity)), Text(level.price, style=style)]
