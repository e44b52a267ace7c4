"""A price list, in any of its forms, as lines of fields; and each line as an offer, or what is wrong with it.

No number of a list is ever a float: CSV is text, YAML is read as text, and JSON's numbers are kept as they are written.
"""

import csv
import hashlib
import io
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import yaml
from msgspec import Struct
from msgspec.structs import replace

from gateways.supply.naming import Settled, Unclear, class_of, region_of, stated_count
from schemas.attributes import DELIVERIES, INTERCONNECTS, TIERS, Delivery, Interconnect, Region, Tier
from schemas.units import (
    GRID_MS,
    HOUR_MS,
    MAX_QUANTITY,
    MICRO,
    format_usd,
    parse_duration,
    parse_time,
)

FIELDS = {
    "id": "your own name for the row; without one it is identified by all that it says but price, GPUs and end",
    "seller": "whose names these are",
    "gpu": "the seller's name of the GPU, or a class",
    "accelerator": "another name of it, for where `gpu` says nothing",
    "memory_mib": "a GPU's memory, as measured",
    "gpus": "how many are offered in all, those included that were sold here",
    "price": "dollars per GPU-hour",
    "instance_price": "dollars an hour for an instance of `instance_gpus` GPUs, instead of price",
    "instance_gpus": "GPUs in one instance",
    "region": "where, by the seller's name of it",
    "delivery": "container, vm (by default) or bare_metal",
    "interconnect": "none (by default), nvlink or infiniband",
    "confidential": "yes or no (by default)",
    "tier": "guaranteed (by default) or interruptible",
    "notice_minutes": "of an interruptible one",
    "min_duration": "the shortest lease, 1h by default",
    "lot": "a lease takes a multiple of it; by default instance_gpus where that is given, else 1",
    "start": "from when; by default now",
    "end": "until when; by default as long as the sync says, put off again and again",
}
"""What a row may say."""
NEEDED = (("gpu", "accelerator"), ("gpus",), ("price", "instance_price"))
"""Of each one, a column must say it, or the mapping for all rows."""
_CHANGES = {"id", "gpus", "price", "instance_price", "end"}
"""What a row may say otherwise tomorrow and still be the same row."""
MAX_ROWS = 50_000
YES = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False, "": False}

Value = TypeVar("Value")


class ListError(Exception):
    """The list cannot be read at all."""


class Line(Struct, frozen=True):
    """What a list says of one thing for sale, by field, in its own words."""

    where: str
    """`line 3`, or of JSON `item 3`."""
    said: Mapping[str, str]

    def get(self, field: str) -> str:
        return self.said.get(field, "")


class Price(Struct, frozen=True):
    """Dollars, exactly as written, for so many GPUs and an hour."""

    usd: Decimal
    gpus: int

    def per_gpu(self, tick: int) -> int | None:
        """µ$ per GPU-hour; None where that is off the tick. An instance's is rounded up to it, never down."""
        scaled = self.usd * MICRO
        if self.gpus == 1:
            return int(scaled) if scaled == int(scaled) and int(scaled) % tick == 0 else None
        top, bottom = scaled.as_integer_ratio()
        return -(-top // (bottom * self.gpus * tick)) * tick


class Offer(Struct, frozen=True):
    """A row that is understood: an ask as it should stand. Prices in µ$ per GPU-hour, times in ms."""

    where: str
    key: str
    """Equal for the same row of another day."""
    name: str
    """The seller's own, for who reads about it."""
    class_id: str
    quantity: int
    price: int
    region: Region
    delivery: Delivery
    interconnect: Interconnect
    confidential: bool
    tier: Tier
    notice_minutes: int
    min_duration: int
    lot: int
    start: int | None
    end: int | None


class Wrong(Struct, frozen=True):
    """A row that is not in order: `column` has `value`, and `message` says what to do. Its ask, if any, is let be."""

    where: str
    key: str
    column: str
    value: str
    message: str


class Quarantined(Struct, frozen=True):
    """A row that nothing is wrong with but that nobody can tell what it is; its ask, if it has one, is let be."""

    where: str
    key: str
    name: str
    reason: str
    settle: str
    """The command that settles it; empty where none does."""


class Inventory(Struct, frozen=True):
    """All rows of a list, each in one of three."""

    offers: Sequence[Offer]
    quarantined: Sequence[Quarantined]
    wrong: Sequence[Wrong]
    unused: Sequence[str] = ()
    """Columns that no field is mapped to."""


class Columns(Struct, frozen=True, forbid_unknown_fields=True, rename={"fields": "columns", "same": "set"}):
    """How a list's columns are to be understood: column -> field, and fields that are the same for every row."""

    fields: Mapping[str, str] = {}
    same: Mapping[str, str] = {}

    def check(self) -> None:
        """Raises ListError where it names a field that there is not."""
        for field in (*self.fields.values(), *self.same):
            if field not in FIELDS:
                raise ListError(f"{field!r} is no field: there is {', '.join(FIELDS)}")


def lines_of(text: str, form: str) -> list[Line]:
    """The rows of a list in `csv`, `json` or `yaml`, by its own columns. Raises ListError."""
    lines = list(_READERS[form](text))
    if len(lines) > MAX_ROWS:
        raise ListError(f"it has {len(lines)} rows: at most {MAX_ROWS}")
    return lines


def mapped(lines: Sequence[Line], mapping: Columns) -> tuple[list[Line], list[str]]:
    """The rows by field, and the columns that are of no use. A column that has a field's name is that field's."""
    mapping.check()
    columns = list(dict.fromkeys(column for line in lines for column in line.said))
    for column in mapping.fields:
        if lines and column not in columns:
            raise ListError(f"there is no column {column!r}: there is {', '.join(columns)}")
    fields = {column: mapping.fields.get(column, column) for column in columns}
    taken = set(mapping.fields.values())
    used = {
        column: field
        for column, field in fields.items()
        if field in FIELDS and (column in mapping.fields or column not in taken)
    }
    if len(set(used.values())) < len(used):
        twice = next(field for field in used.values() if list(used.values()).count(field) > 1)
        raise ListError(f"two columns are mapped to {twice}: {', '.join(c for c, f in used.items() if f == twice)}")
    known = {*used.values(), *mapping.same}
    unsaid = [names[0] for names in NEEDED if lines and known.isdisjoint(names)]
    if unsaid:
        raise ListError(
            f"no column says {', '.join(unsaid)}: there is {', '.join(columns)}. Say which is which, with "
            "--map COLUMN=FIELD, or once for all in a mapping file beside the list (cx supply sync --help)"
        )
    said = [
        Line(line.where, {**{field: line.get(column).strip() for column, field in used.items()}, **mapping.same})
        for line in lines
    ]
    return said, [column for column in columns if column not in used and column not in mapping.same]


def inventory(
    lines: Sequence[Line], ticks: Mapping[str, int], settled: Settled, unused: Sequence[str] = ()
) -> Inventory:
    """Each row understood. `ticks`: of each class that the exchange lists, its tick."""
    offers: list[Offer] = []
    quarantined: list[Quarantined] = []
    wrong: list[Wrong] = []
    seen: dict[str, str] = {}
    for line in lines:
        key = key_of(line)
        if key in seen:
            advice = f"{seen[key]} is the same: give each its own id, or leave one out"
            wrong.append(Wrong(line.where, key, "id", line.get("id"), advice))
            continue
        seen[key] = line.where
        found = _row(line, key, ticks, settled)
        match found:
            case Offer():
                offers.append(found)
            case Quarantined():
                quarantined.append(found)
            case _:
                wrong += found
    return Inventory(offers, quarantined, wrong, unused)


def key_of(line: Line) -> str:
    """What identifies a row: its id, or all that it says but price, GPUs and end."""
    said = {"id": line.get("id")} if line.get("id") else {f: v for f, v in line.said.items() if v and f not in _CHANGES}
    return hashlib.sha256(json.dumps(sorted(said.items())).encode()).hexdigest()[:16]


def _row(line: Line, key: str, ticks: Mapping[str, int], settled: Settled) -> Offer | Quarantined | list[Wrong]:
    read = _Reader(line, key)
    name = line.get("gpu") or line.get("accelerator")
    read.check("gpu", bool(name), "say which GPU it is: map a column to gpu with --map COLUMN=gpu")
    for field in ("gpu", "accelerator", "region", "seller"):  # which are shown on a terminal
        read.check(field, line.get(field).isprintable(), "say it in characters that can be printed, on one line")
    instance = read.number("instance_gpus", 1)
    price = read.price(instance)
    memory = read.number("memory_mib", 0, least=0, most=1 << 30)
    offer = Offer(
        where=line.where,
        key=key,
        name=name,
        class_id="",
        quantity=read.number("gpus", None),
        price=0,
        region=Region.UNSPECIFIED,
        delivery=read.choice("delivery", DELIVERIES, Delivery.VM),
        interconnect=read.choice("interconnect", INTERCONNECTS, Interconnect.NONE),
        confidential=read.choice("confidential", YES, False),
        tier=read.choice("tier", TIERS, Tier.GUARANTEED),
        notice_minutes=read.number("notice_minutes", 0, least=0),
        min_duration=read.parsed("min_duration", parse_duration, HOUR_MS),
        lot=read.number("lot", instance),
        start=read.parsed("start", _on_the_minute, None),
        end=read.parsed("end", _on_the_minute, None),
    )
    count = stated_count(name) or 1
    if not read.wrong:
        read.check(
            "gpus",
            offer.quantity % offer.lot == 0,
            f"make it a multiple of {offer.lot}, its lot: an offer sells whole lots",
        )
        read.check("gpus", offer.quantity % count == 0, f"{name!r} is {count} GPUs: say how many GPUs there are in all")
    if read.wrong:
        return read.wrong
    seller = line.get("seller")
    class_id = _class_of(line, settled, ticks, memory)
    if isinstance(class_id, Unclear):
        return Quarantined(line.where, key, name, class_id.reason, _settle("name", name, "CLASS", seller))
    region = region_of(seller, line.get("region"), settled)
    if isinstance(region, Unclear):
        settle = _settle("region", line.get("region"), "REGION", seller)
        return Quarantined(line.where, key, name, region.reason, settle)
    tick = ticks[class_id]
    per_gpu = price.per_gpu(tick)
    read.check("price", per_gpu is not None, _off_tick(price, tick, class_id))
    read.check("price", per_gpu != 0, "offer it for more than nothing")
    return read.wrong or replace(offer, class_id=class_id, region=region, price=per_gpu or 0)


def _class_of(line: Line, settled: Settled, ticks: Mapping[str, int], memory: int) -> str | Unclear:
    """By the seller's name; where that says nothing, by another that is beside it, which is nobody's in particular."""
    seller, gpu, accelerator = line.get("seller"), line.get("gpu"), line.get("accelerator")
    first = class_of(seller, gpu, settled, ticks, memory) if gpu else Unclear("it has no name")
    if isinstance(first, str) or not accelerator:
        return first
    return class_of("", accelerator, settled, ticks, memory)


def _off_tick(price: Price, tick: int, class_id: str) -> str:
    below = int(price.usd * MICRO) // tick * tick
    near = f"{format_usd(below)} or {format_usd(below + tick)}"
    return f"it is not a multiple of the tick {format_usd(tick)} of {class_id}: say {near}"


def _on_the_minute(text: str) -> int:
    time = parse_time(text)
    if time % GRID_MS:
        raise ValueError(f"{text!r} is not on a whole minute: write it like 2026-11-24T03:00:00Z")
    return time


class _Reader:
    """Reads a row's fields, and gathers what is wrong with them."""

    def __init__(self, line: Line, key: str) -> None:
        self.wrong: list[Wrong] = []
        self._key = key
        self._line = line

    def check(self, field: str, right: bool, advice: str) -> None:
        if not right:
            self.wrong.append(Wrong(self._line.where, self._key, field, self._line.get(field), advice))

    def number(self, field: str, default: int | None, *, least: int = 1, most: int = MAX_QUANTITY) -> int:
        text = self._line.get(field)
        if not text and default is not None:
            return default
        match = re.fullmatch(r"(\d{1,10})(?:\.0+)?", text, re.ASCII)  # catalogues write 8.0
        value = int(match[1]) if match else -1
        self.check(field, least <= value <= most, f"say a whole number from {least} to {most}")
        return max(value, least)

    def choice(self, field: str, choices: Mapping[str, Value], default: Value) -> Value:
        text = self._line.get(field).casefold()
        if not text:
            return default
        self.check(field, text in choices, f"say one of {', '.join(choice for choice in choices if choice)}")
        return choices.get(text, default)

    def parsed(self, field: str, parse: Callable[[str], int], default: Any) -> Any:
        text = self._line.get(field)
        if not text:
            return default
        try:
            return parse(text)
        except ValueError as error:
            self.check(field, False, str(error))
            return default

    def price(self, instance_gpus: int) -> Price:
        each, whole = self._line.get("price"), self._line.get("instance_price")
        field = "instance_price" if whole and not each else "price"
        self.check("price", not (each and whole), "say price or instance_price, not both")
        if field == "instance_price":
            self.check("instance_gpus", bool(self._line.get("instance_gpus")), "say how many GPUs an instance has")
        usd = self._usd(field, whole or each)
        return Price(usd, instance_gpus if field == "instance_price" else 1)

    def _usd(self, field: str, text: str) -> Decimal:
        try:
            usd = Decimal(text.removeprefix("$").strip())
        except InvalidOperation:
            usd = Decimal(-1)
        fine = usd.is_finite() and 0 <= usd < 10**9 and len(text) <= 40
        self.check(field, fine, "say dollars an hour, like 2.35")
        return usd if fine else Decimal(1)


def _csv(text: str) -> Iterator[Line]:
    reader = csv.reader(io.StringIO(text.removeprefix("﻿"), newline=""), strict=True)
    try:
        columns = [column.strip() for column in next(reader, [])]
        if len(set(columns)) < len(columns):
            raise ListError(f"line 1: a column is there twice: {', '.join(columns)}")
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            where = f"line {reader.line_num}"
            if len(row) != len(columns):
                raise ListError(f"{where}: it has {len(row)} cells, and the first line {len(columns)}")
            yield Line(where, dict(zip(columns, row, strict=True)))
    except csv.Error as error:
        raise ListError(f"line {reader.line_num}: it is no CSV: {error}") from None


def _json(text: str) -> Iterator[Line]:
    return _items(read_json(text))


def _yaml(text: str) -> Iterator[Line]:
    lines = list(_items(read_yaml(text)))
    rows = yaml.compose(text, Loader=yaml.BaseLoader)
    if isinstance(rows, yaml.MappingNode):
        rows = rows.value[0][1]
    for line, row in zip(lines, rows.value, strict=True):
        yield Line(f"line {row.start_mark.line + 1}", line.said)


def read_json(text: str) -> Any:
    """JSON with its numbers as they are written. Raises ListError."""
    try:
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise ListError(f"it is no JSON: {error}") from None


def read_yaml(text: str) -> Any:
    """YAML with every scalar as it is written: this loader makes text, lists and mappings, and nothing else."""
    try:
        return yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ListError(f"it is no YAML: {' '.join(str(error).split())}") from None


def _items(content: Any) -> Iterator[Line]:
    if isinstance(content, dict) and len(content) == 1:  # {"inventory": [...]}
        content = next(iter(content.values()))
    if not isinstance(content, list):
        raise ListError("it is no list of rows: [{...}, {...}], by itself or under one name")
    for number, item in enumerate(content, 1):
        if not isinstance(item, dict):
            raise ListError(f"item {number}: it is not a row with fields")
        yield Line(f"item {number}", {str(name): text_of(value) for name, value in item.items()})


def text_of(value: Any) -> str:
    """A scalar of JSON or YAML as a cell of CSV would have it; what is no scalar is no cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else ""


_READERS: dict[str, Callable[[str], Iterator[Line]]] = {"csv": _csv, "json": _json, "yaml": _yaml}


def _settle(what: str, raw: str, means: str, seller: str) -> str:
    of_seller = f" --seller {shlex.quote(seller)}" if seller else ""
    return f"cx supply {what} {shlex.quote(raw)} {means}{of_seller}"
