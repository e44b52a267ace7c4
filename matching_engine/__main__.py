"""`python -m matching_engine` drives the core from standard input: a command a line, its answer a line.

A line is a command in the schemas' JSON form, like ["tick"] or ["cancel", 2, 41], or an object that also says where
and when the log had it: {"offset": 7, "time": 1795489200000, "command": ["tick"]}. Without, offsets count on from the
last one and the time stays what it was. A line that is no command is answered with a refusal.

Each answer is an execution as JSON: [position, prev, time, [[event, ...], ...], request_id]. With `--state`, books and
calendars follow at the end as one JSON line. `--partition N` sets the partition, 0 unless said.
"""

import argparse
import sys
from collections.abc import Iterable
from typing import BinaryIO

import msgspec
from msgspec import Struct

from matching_engine import CORE
from matching_engine.engine import Engine
from schemas.commands import Command, Unreadable


class Line(Struct, forbid_unknown_fields=True):
    """A command, and where and when the log had it."""

    command: Command
    offset: int | None = None
    time: int | None = None


_lines = msgspec.json.Decoder(Line)
_commands: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)
_json = msgspec.json.Encoder()


def drive(engine: Engine, lines: Iterable[bytes], output: BinaryIO) -> None:
    """Answers each line that is not empty."""
    offset, time = -1, 0
    for text in lines:
        if not text.strip():
            continue
        line = _read(text)
        offset = offset + 1 if line.offset is None else line.offset
        time = time if line.time is None else line.time
        output.write(_json.encode(engine.apply(offset, time, line.command)) + b"\n")


def _read(text: bytes) -> "Line | NoCommand":
    try:
        if text.lstrip().startswith(b"{"):
            return _lines.decode(text)
        return Line(_commands.decode(text))
    except msgspec.ValidationError:
        return NoCommand(Unreadable("it does not fit the schema"))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return NoCommand(Unreadable("it is not JSON"))


class NoCommand(Struct):
    """A line that is no command."""

    command: Unreadable
    offset: int | None = None
    time: int | None = None


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m matching_engine",
        description=__doc__,
        epilog=f"The core that runs is {CORE} (CX_CORE).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--state", action="store_true", help="print books and calendars at the end")
    parser.add_argument("--partition", type=int, default=0)
    said = parser.parse_args(arguments)
    engine = Engine(said.partition)
    drive(engine, sys.stdin.buffer, sys.stdout.buffer)
    if said.state:
        sys.stdout.buffer.write(_json.encode({"hash": engine.state_hash().hex(), "state": engine.state()}) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
