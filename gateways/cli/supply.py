"""`cx supply`: the book made equal to a supplier's own price list."""

import asyncio
import contextlib
import re
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from gateways.cli.access import HERE, REFUSED, USAGE, Access, fail, run
from gateways.cli.show import progress, show
from gateways.client import Exchange, ExchangeError
from gateways.supply import export as catalogues
from gateways.supply import sources
from gateways.supply.catalogues import FORMATS, catalogue
from gateways.supply.inventory import FIELDS, ListError, inventory, lines_of, mapped
from gateways.supply.plan import plan, too_much
from gateways.supply.report import Report, report
from gateways.supply.sync import LIST_NAME, Outcome, carry_out, market, ticks
from schemas.attributes import REGIONS
from schemas.units import MAX_WINDOW_MS, MINUTE_MS, parse_duration

FORMS = ("csv", "json", "yaml", *FORMATS)
COLUMNS = ("", "row", "name", "class", "GPUs", "$/GPU-h", "region", "what")
_INTERVAL = re.compile(r"(\d{1,6})(s|m|h)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600}

app = cyclopts.App(name="supply", help="Sell from a price list: the book is made equal to it.")


@dataclass(frozen=True)
class Job:
    """What is to be synced, and how."""

    source: str
    form: str
    mapping: Path | None
    mapped: dict[str, str]
    same: dict[str, str]
    names: Path
    list_name: str
    horizon_ms: int
    max_withdraw: int
    apply: bool


@app.command
def sync(
    source: str,
    /,
    *,
    apply: bool = False,
    dry_run: bool = False,
    map: list[str] | None = None,
    set: list[str] | None = None,
    mapping: Path | None = None,
    format: str | None = None,
    list: str = "inventory",
    for_: Annotated[str, Parameter(name="--for")] = "30d",
    max_withdraw: str = "20%",
    interval: str | None = None,
    names: Path | None = None,
    access: Access = HERE,
) -> None:
    """Make the book equal to a price list: only the difference is sent, and a second time nothing.

    Parameters
    ----------
    source
        a file or a URL: CSV, JSON or YAML
    apply
        do it; without it, show what would be done
    dry_run
        show what would be done, which is the default
    map
        COLUMN=FIELD: what one of your columns is; may be given several times. `cx supply fields` lists the fields
    set
        FIELD=VALUE: what is the same for every row, like region=us-east; may be given several times
    mapping
        a file that says both: {columns: {COLUMN: FIELD}, set: {FIELD: VALUE}}, in YAML or JSON; by default
        inventory.mapping.yaml beside inventory.csv, where there is one
    format
        csv, json or yaml, where the name's ending does not tell; or what the ecosystem lists: skypilot, runpod, vast,
        lambda, hyperbolic, and of the first three :spot for interruptible prices
    list
        the name of the list, which its asks carry: each list is in charge of its own asks alone
    for_
        how long rows without an end are on offer; put off again when half of it is over
    max_withdraw
        of the GPUs on offer, how many may be taken off the market at once, in percent
    interval
        do it again and again, like every 60s, until stopped
    names
        the file of settled names; by default supply-names.csv beside the list
    """
    if apply and dry_run:
        fail("say --apply or --dry-run, not both", USAGE)
    job = _job(source, apply, map, set, mapping, format, list, for_, max_withdraw, names)
    pause_s = 0 if interval is None else _interval(interval)
    went_well = True

    async def once(exchange: Exchange) -> None:
        nonlocal went_well
        try:
            found = await _sync(exchange, job)
        except ListError as error:
            fail(f"{source}: {error}", REFUSED)
        _show(found, job, access)
        went_well = found.went_well

    async def forever(exchange: Exchange) -> None:
        await _serve(exchange, job, pause_s, access)

    run(forever if interval is not None else once, access)
    if not went_well:
        sys.exit(REFUSED)


@app.command
def name(
    raw: str, class_: Annotated[str, Parameter(name="class")], /, *, seller: str = "", names: Path | None = None
) -> None:
    """Say which class a name means. It is written down in supply-names.csv, and counts from the next sync on.

    Parameters
    ----------
    raw
        the name, as the list has it
    class_
        like H100-SXM-80GB; see `cx classes`
    seller
        for this seller alone
    names
        the file, where it is not in this folder
    """
    _settle("class", seller, raw, class_, names)


@app.command
def region(raw: str, region: str, /, *, seller: str = "", names: Path | None = None) -> None:
    """Say in which region a place lies. It is written down like a name.

    Parameters
    ----------
    raw
        the place, as the list has it
    region
        like us-east
    seller
        for this seller alone
    names
        the file, where it is not in this folder
    """
    if region not in REGIONS:
        fail(f"{region!r} is none of {', '.join(REGIONS)}", USAGE)
    _settle("region", seller, raw, region, names)


@app.command
def fields(*, access: Access = HERE) -> None:
    """List what a row of a price list may say."""
    show(FIELDS, ("field", "is"), FIELDS.items(), access)


@app.command
def export(
    *,
    skypilot: bool = False,
    for_: Annotated[str, Parameter(name="--for")] = "24h",
    out: Path | None = None,
    access: Access = HERE,
) -> None:
    """Write what is for sale as a catalogue that other tools read. It needs no key.

    Parameters
    ----------
    skypilot
        SkyPilot's vms.csv
    for_
        what can be had for so long from now on
    out
        a file; else it is printed
    """
    if not skypilot:
        fail("say in which form: --skypilot", USAGE)

    async def call(exchange: Exchange) -> None:
        with progress("reading what is for sale", "classes") as on_read:
            text = catalogues.skypilot(*await catalogues.on_sale(exchange, for_, on_read))
        if out is None:
            print(text, end="")
            return
        try:
            await asyncio.to_thread(out.write_text, text, "utf-8")
        except OSError as error:
            fail(f"{out}: {error.strerror}", REFUSED)

    run(call, access)


async def _sync(exchange: Exchange, job: Job) -> Report:
    """Reads, compares, and with `apply` sends. Raises ListError and ExchangeError."""
    text = await sources.read(job.source)
    rows = catalogue(text, job.form) if job.form in FORMATS else lines_of(text, job.form)
    lines, unused = mapped(rows, sources.columns(job.mapping, job.mapped, job.same))
    found = inventory(lines, await ticks(exchange), sources.settled(job.names), unused)
    first = plan(found, await market(exchange, job.list_name), job.horizon_ms)
    if not job.apply:
        return report(job.list_name, found, first, refused=too_much(first, job.max_withdraw))
    if found.wrong:
        return report(job.list_name, found, first, refused=f"{len(found.wrong)} rows are wrong, so nothing is sent")
    if refused := too_much(first, job.max_withdraw):
        return report(job.list_name, found, first, refused=refused)
    with progress(job.source, "steps") as on_done:
        outcomes: list[Outcome] = [await carry_out(exchange, first, job.list_name, on_done)]
    if any(post.replaces for post in first.posts) and outcomes[0].went_well:
        # What is leased from the asks that went is known only now.
        second = plan(found, await market(exchange, job.list_name), job.horizon_ms)
        if not too_much(second, job.max_withdraw):
            outcomes.append(await carry_out(exchange, second, job.list_name))
    return report(job.list_name, found, first, outcomes)


async def _serve(exchange: Exchange, job: Job, pause_s: int, access: Access) -> None:
    """Syncs again and again until SIGINT or SIGTERM; what goes wrong is said, and the next round tries again."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print(f"cx: syncing {job.source} every {pause_s} s; Ctrl-C ends it", file=sys.stderr, flush=True)
    while not stop.is_set():
        began = time.monotonic()
        try:
            found = await _sync(exchange, job)
        except (ListError, ExchangeError) as error:
            print(f"cx: {job.source}: {error}", file=sys.stderr, flush=True)
        else:
            if found.found_anything or access.json:
                _show(found, job, access)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), max(0.0, began + pause_s - time.monotonic()))


def _show(found: Report, job: Job, access: Access) -> None:
    if not access.json:
        rows = [*found.rows()]
        if rows or access.csv:
            show(found, COLUMNS, rows, access)
        beside = sys.stderr if access.csv else sys.stdout
        for each in found.quarantined:
            if each.settle:
                print(f"to settle {each.where}: {each.settle}{_elsewhere(job.names)}", file=beside)
        if found.unused_columns:
            print(
                f"columns that say nothing here: {', '.join(found.unused_columns)} (see cx supply fields)", file=beside
            )
        print(found.summary(), file=beside, flush=True)
    else:
        show(found, (), (), access)
        sys.stdout.flush()
    for trouble in (found.refused, found.stopped):
        if trouble:
            print(f"cx: {trouble}", file=sys.stderr, flush=True)


def _elsewhere(names: Path) -> str:
    return "" if names == Path(sources.NAMES) else f" --names {shlex.quote(str(names))}"


def _job(
    source: str,
    apply: bool,
    map: Sequence[str] | None,
    set: Sequence[str] | None,
    mapping: Path | None,
    format: str | None,
    list_name: str,
    for_: str,
    max_withdraw: str,
    names: Path | None,
) -> Job:
    try:
        horizon_ms = parse_duration(for_)
        form = format or sources.form_of(source)
    except (ValueError, ListError) as error:
        fail(str(error), USAGE)
    if form not in FORMS:
        fail(f"--format {form!r} is none of {', '.join(FORMS)}", USAGE)
    if not MINUTE_MS <= horizon_ms <= MAX_WINDOW_MS:
        fail(f"--for {for_} must be from 1m to 365d", USAGE)
    if LIST_NAME.fullmatch(list_name) is None:
        fail(f"--list {list_name!r} must be 1 to 24 letters, digits, dots, dashes or underscores", USAGE)
    percent = max_withdraw.removesuffix("%")
    if not (percent.isdecimal() and percent.isascii() and int(percent) <= 100):
        fail(f"--max-withdraw {max_withdraw!r} must be like 20%, at most 100%", USAGE)
    return Job(
        source=source,
        form=form,
        mapping=mapping or sources.mapping_beside(source),
        mapped=_pairs("--map", "COLUMN=FIELD", map or []),
        same=_pairs("--set", "FIELD=VALUE", set or []),
        names=names or sources.names_beside(source),
        list_name=list_name,
        horizon_ms=horizon_ms,
        max_withdraw=int(percent),
        apply=apply,
    )


def _pairs(option: str, form: str, said: Sequence[str]) -> dict[str, str]:
    """`a=b` -> {a: b}; a column's name may have = in it, a field's has none."""
    pairs = {}
    for each in said:
        first, equals, last = each.rpartition("=") if option == "--map" else each.partition("=")
        if not equals or not first:
            fail(f"{option} {each!r}: write it {form}", USAGE)
        pairs[first] = last
    return pairs


def _interval(text: str) -> int:
    match = _INTERVAL.fullmatch(text)
    if match is None or int(match[1]) == 0:
        fail(f"--interval {text!r}: write it like 60s, 5m or 1h", USAGE)
    return int(match[1]) * _SECONDS[match[2]]


def _settle(what: str, seller: str, raw: str, means: str, names: Path | None) -> None:
    path = names or Path(sources.NAMES)
    try:
        sources.settle(path, what, seller, raw, means)
    except (ListError, OSError) as error:
        fail(f"{path}: {error}", REFUSED)
    print(f"{raw!r} means {means}: written down in {path}")
