"""Bytes and back. Inside, array-like MessagePack; outside, JSON."""

import msgspec

from schemas.commands import Command, Unreadable
from schemas.events import Execution
from schemas.fills import PublicFill
from schemas.instructions import Instruction, UsageReport

_pack = msgspec.msgpack.Encoder()
_json = msgspec.json.Encoder()
_commands: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_executions = msgspec.msgpack.Decoder(Execution)
_instructions: msgspec.msgpack.Decoder[Instruction] = msgspec.msgpack.Decoder(Instruction)
_usage = msgspec.msgpack.Decoder(UsageReport)
_fills = msgspec.json.Decoder(PublicFill)

encode = _pack.encode
"""Any message of the inside -> its bytes."""
encode_fill = _json.encode
"""A PublicFill -> its JSON bytes."""
decode_execution = _executions.decode
"""Raises msgspec.MsgspecError for bytes that are no execution: then the log is damaged and a reader stops."""
decode_fill = _fills.decode
"""Raises msgspec.MsgspecError likewise."""

# MsgspecError covers what does not fit; the others are what its decoder lets through on hostile bytes.
_BAD_BYTES = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError, MemoryError)


def decode_command(value: bytes) -> Command | Unreadable:
    """Any bytes -> a command, or Unreadable with a reason that is the same on every machine. Never raises."""
    try:
        return _commands.decode(value)
    except _BAD_BYTES as error:
        return _unreadable(error)


def decode_instruction(value: bytes) -> Instruction | Unreadable:
    """Any bytes -> an instruction, or Unreadable. Never raises."""
    try:
        return _instructions.decode(value)
    except _BAD_BYTES as error:
        return _unreadable(error)


def decode_usage(value: bytes) -> UsageReport | Unreadable:
    """Any bytes -> a usage report, or Unreadable. Never raises."""
    try:
        return _usage.decode(value)
    except _BAD_BYTES as error:
        return _unreadable(error)


def _unreadable(error: BaseException) -> Unreadable:
    # The decoder's own wording may change with its version, and the reason ends up in bytes that must not.
    if isinstance(error, msgspec.ValidationError):
        return Unreadable("it does not fit the schema")
    return Unreadable("it is not MessagePack")
