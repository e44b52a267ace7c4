"""What settlement tells the engine: that a lease's rest is for sale again, or never will be.

A batch writes these commands in its own transaction, so that they are as certain as what they follow from; the service
sends them to `commands` and then removes them. A crash between sends one twice, which changes nothing: the engine
remembers each lease.
"""

from enum import StrEnum
from typing import NamedTuple

from schemas import codec
from schemas.commands import Return, Withdraw
from settlement.leases import LeaseRow


class Kind(StrEnum):
    """Of a lease there is at most one command of a kind, and no more than one of these two."""

    RETURN = "return"
    WITHDRAW = "withdraw"


class OutboxRow(NamedTuple):
    """A command on its way to the engine, as the table `outbox` has it."""

    position: int
    fill_index: int
    kind: str
    partition: int
    command: bytes
    created_at: int


def returned(lease: LeaseRow, at: int) -> OutboxRow:
    """The buyer does not use the rest of it: it is for sale again."""
    return _about(lease, Kind.RETURN, Return(lease.id, lease.ask_id, lease.quantity, lease.start, lease.end), at)


def withdrawn(lease: LeaseRow, at: int) -> OutboxRow:
    """The supplier does not give the rest of it: it is not to be sold again."""
    return _about(lease, Kind.WITHDRAW, Withdraw(lease.id, lease.ask_id, lease.quantity, lease.start, lease.end), at)


def _about(lease: LeaseRow, kind: Kind, command: Return | Withdraw, at: int) -> OutboxRow:
    return OutboxRow(*lease.id, kind, lease.partition, codec.encode(command), at)
