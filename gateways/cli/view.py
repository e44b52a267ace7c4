"""The play on the terminal: a live view, or a line every few seconds where there is no terminal."""

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group, JustifyMethod
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateways.cli.play import PlayState
from schemas.units import format_duration, format_time, parse_time

UPDATES_PER_S = 4
LINE_EVERY_S = 5.0
MAX_FILLS = 12
_OTHER_LINES = 11
"""Of the view, beside a line a book and a line a fill."""
_CROSSED = "A bid above an ask wants another region, size, fabric, tier or time."


class View:
    """Shows each state it is given, no more often than a person can follow."""

    def __init__(self, url: str, config: Path, console: Console | None = None) -> None:
        self._console = console or Console()
        self._url = url
        self._config = config
        self._live: Live | None = None
        self._shown_at = -LINE_EVERY_S

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, state: PlayState) -> None:
        """Draws the state, unless the last one was drawn a moment ago."""
        now = time.monotonic()
        if now - self._shown_at < (1 / UPDATES_PER_S if self._live else LINE_EVERY_S):
            return
        self._shown_at = now
        if self._live is not None:
            self._live.update(self._screen(state), refresh=True)
        else:
            self._console.print(progress(state), soft_wrap=True, highlight=False, markup=False)

    def _screen(self, state: PlayState) -> Group:
        room = self._console.height - len(state.classes) - _OTHER_LINES
        clock = f"{_minute(state.time)}, {state.speed}x wall clock" if state.speed > 1 else _minute(state.time)
        return Group(
            _line(f"Exchange at {self._url}  {clock}", "bold"),
            _line(
                f"prices: published list prices of {state.prices_date}; quantities simulated (seed {state.seed})", "dim"
            ),
            _books(state),
            *([_fills(state, min(room, MAX_FILLS))] if room > 0 else []),
            *_figures(state),
            _line(f"Ctrl-C ends. For cx in another terminal: export CX_CONFIG={self._config}", "dim"),
        )


def progress(state: PlayState) -> str:
    """The state in one line."""
    if state.status is None:
        return "the market opens"
    status = state.status
    return (
        f"{_minute(state.time)}  {status.orders:,} orders ({state.orders_per_s}/s), {status.fills:,} fills, "
        f"{status.leases_open:,} leases running, {_whole(status.gpu_hours)} GPU-hours, "
        f"${_whole(status.charged)} charged, order to fill p50 {state.p50_ms} ms"
        f"{'; ' if state.trouble else ''}{state.trouble}"
    )


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _table(*columns: tuple[str, JustifyMethod]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for name, justify in columns:
        table.add_column(name, justify=justify, no_wrap=True)
    return table


def _books(state: PlayState) -> Table:
    table = _table(
        ("class", "left"),
        ("GPUs", "right"),
        ("bid $/h", "right"),
        ("ask $/h", "right"),
        ("GPUs", "right"),
        ("last $/h", "right"),
    )
    for class_id in state.classes:
        book = state.books.get(class_id)
        bid = book.bids[0] if book and book.bids else None
        ask = book.asks[0] if book and book.asks else None
        table.add_row(
            class_id,
            f"{bid.quantity:,}" if bid else "",
            Text(bid.price if bid else "", style="green"),
            Text(ask.price if ask else "", style="red"),
            f"{ask.quantity:,}" if ask else "",
            state.last.get(class_id, ""),
        )
    return table


def _fills(state: PlayState, rows: int) -> Table:
    table = _table(
        ("last fills", "left"), ("", "left"), ("GPUs", "right"), ("$/h", "right"), ("for", "right"), ("where", "left")
    )
    for fill in list(state.recent)[: -rows - 1 : -1]:
        table.add_row(
            fill.time[5:16].replace("T", " "),
            fill.class_id,
            str(fill.quantity),
            fill.price,
            format_duration(parse_time(fill.end) - parse_time(fill.start)),
            fill.region,
        )
    return table


def _figures(state: PlayState) -> list[Text]:
    status = state.status
    if status is None:
        return []
    off = status.imbalance_microusd
    refused = ", ".join(f"{count:,} {code}" for code, count in state.refusals.most_common(3))
    return [
        _line(
            f"orders {status.orders:,} ({state.orders_per_s}/s)  fills {status.fills:,}  "
            f"order to fill p50 {state.p50_ms} ms, p99 {state.p99_ms} ms"
        ),
        _line(
            f"leases {status.leases_open:,} running, {status.leases_closed:,} closed  "
            f"{_whole(status.gpu_hours)} GPU-hours metered"
        ),
        _line(
            f"charged ${_whole(status.charged)}  escrow ${_whole(status.escrow)}  held ${_whole(status.held)}  "
            + ("every cent accounted for" if off == 0 else f"OFF BY {off} µ$"),
            "" if off == 0 else "bold red",
        ),
        _line(f"refused: {refused or 'none'}", "dim"),
        _line(state.trouble, "bold yellow") if state.trouble else _line(_CROSSED, "dim"),
    ]


def _minute(time_ms: int) -> str:
    return format_time(time_ms)[:16].replace("T", " ") + " UTC"


def _whole(decimal: str) -> str:
    """A decimal string's whole part, for reading alone: '12345.67' -> '12,345'."""
    return f"{int(decimal.partition('.')[0]):,}"
