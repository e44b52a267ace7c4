"""`python -m schemas` writes each topic's published schema anew, and refuses a change that breaks its old readers.

A public topic is JSON, so its schema is JSON Schema. An internal one is array-like MessagePack, for which JSON Schema
would lose the names: its schema is a table of messages, each with its fields in the order of the array.
"""

import json
import re
import sys
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import msgspec
from msgspec import Struct

from schemas import topics
from schemas.commands import Command
from schemas.events import Event, Execution
from schemas.fills import PublicFill
from schemas.instructions import Instruction, UsageReport

PUBLISHED = Path(__file__).parent / "published"

Table = dict[str, Any]


def published() -> dict[str, Table]:
    """Each topic's schema as it follows from the types."""
    return {
        topics.COMMANDS: _tables(Command),
        topics.EXECUTIONS: _tables(Execution | Event),
        topics.USAGE: _tables(UsageReport),
        topics.INSTRUCTIONS: _tables(Instruction),
        topics.FILLS: msgspec.json.schema(PublicFill),
    }


def _tables(messages: Any) -> Table:
    tables: Table = {}
    roots = get_args(messages) if isinstance(messages, UnionType) else (messages,)
    for root in roots:
        _describe(root, tables)
    return tables


def _describe(kind: Any, tables: Table) -> str:
    """The name of a type; what it is made of goes into `tables`."""
    if get_args(kind):
        inner = ", ".join("…" if part is Ellipsis else _describe(part, tables) for part in get_args(kind))
        return f"{'union' if isinstance(kind, UnionType) else kind.__name__}[{inner}]"
    name: str = kind.__name__
    if issubclass(kind, Struct) and name not in tables:
        table: Table = {"tag": kind.__struct_config__.tag, "fields": []}
        tables[name] = table
        for field in msgspec.structs.fields(kind):
            optional = "" if field.required else ", optional"
            table["fields"].append(f"{field.name}: {_describe(field.type, tables)}{optional}")
    elif issubclass(kind, Enum):
        tables[name] = {"values": {member.name: member.value for member in kind}}
    return name


def breaks(old: Table, new: Table) -> list[str]:
    """What a reader of the `old` schema would stumble over in messages of the `new` one, in words."""
    if "$defs" in old:
        return _json_breaks(old["$defs"], new["$defs"])
    found = []
    for name, was in old.items():
        now = new.get(name)
        if now is None:
            found.append(f"{name} is gone")
        elif "values" in was:
            found += [
                f"{name}.{key} was {value!r}" for key, value in was["values"].items() if now["values"].get(key) != value
            ]
        else:
            if was["tag"] != now["tag"]:
                found.append(f"{name} had the tag {was['tag']!r}")
            found += [
                f"{name}: field {place} was {field!r}"
                for place, field in enumerate(was["fields"])
                if not _reads_alike(field, now["fields"][place : place + 1], new)
            ]
            found += [
                f"{name}: the new field {field!r} must be optional"
                for field in now["fields"][len(was["fields"]) :]
                if not field.endswith(", optional")
            ]
    return found


_UNION = re.compile(r"union\[([^\]]*)\]")


def _reads_alike(was: str, now: list[str], new: Table) -> bool:
    """Whether the field, where it is still there, is what it was; a union of messages may have more of them."""
    if not now or _UNION.sub("union", was) != _UNION.sub("union", now[0]):
        return False
    unions = zip(_UNION.findall(was), _UNION.findall(now[0]), strict=True)
    return all(old == grown or _has_grown(old.split(", "), grown.split(", "), new) for old, grown in unions)


def _has_grown(was: list[str], now: list[str], new: Table) -> bool:
    """Whether only messages were added: the tag tells them apart, so their order is nothing to a reader."""
    return set(was) <= set(now) and all(new.get(name, {}).get("tag") for name in now)


def _json_breaks(old: Table, new: Table) -> list[str]:
    return [
        f"{name}.{key} was {kind}"
        for name, was in old.items()
        for key, kind in was["properties"].items()
        if new.get(name, {"properties": {}})["properties"].get(key) != kind
    ]


def render(schema: Table) -> str:
    """The text of a published file."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Writes the files; exits with the reasons where a change breaks old readers."""
    for topic, schema in published().items():
        path = PUBLISHED / f"{topic}.json"
        if path.exists() and (found := breaks(json.loads(path.read_text()), schema)):
            sys.exit(f"{topic}: its old readers would break; give the topic a new version.\n" + "\n".join(found))
        path.write_text(render(schema))


if __name__ == "__main__":
    main()
