"""What settlement tells the engine: that a lease's rest is for sale again, or never will be, or that it is renewed.

A batch writes these commands in its own transaction, so that they are as certain as what they follow from; the service
sends them to `commands` and then removes them. A crash between sends one twice, which changes nothing: the engine
remembers each lease.
"""

from enum import StrEnum
from typing import NamedTuple

from schemas import codec
from schemas.commands import Extend, Return, Withdraw
from schemas.ids import LeaseId, format_lease_id, parse_lease_id
from settlement.leases import LeaseRow, renewal

RENEWAL_OF = "renewal of "
"""In front of the lease's id: the client_order_id of the extension that renews it."""


class Kind(StrEnum):
    """Of a lease there is at most one command of a kind, and no more than one of the first two."""

    RETURN = "return"
    WITHDRAW = "withdraw"
    EXTEND = "extend"


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


def extended(lease: LeaseRow, at: int) -> OutboxRow:
    """It is to be renewed: it goes on, if its ask has the GPUs at the price."""
    return _about(lease, Kind.EXTEND, extension(lease), at)


def extension(lease: LeaseRow) -> Extend:
    """Of a lease that is to be renewed."""
    wanted = renewal(lease)
    assert wanted is not None, "a lease that is not to be renewed"
    return Extend(
        fill=lease.id,
        ask_id=lease.ask_id,
        account=lease.buyer,
        owner=wanted.owner,
        client_order_id=f"{RENEWAL_OF}{format_lease_id(lease.id)}",
        not_after=lease.end,
        quantity=lease.quantity,
        start=lease.end,
        end=lease.end + wanted.duration,
        price=wanted.price,
        fee_bps=wanted.fee_bps,
    )


def renewed(client_order_id: str) -> LeaseId | None:
    """The lease whose renewal has this name."""
    if not client_order_id.startswith(RENEWAL_OF):
        return None
    try:
        return parse_lease_id(client_order_id.removeprefix(RENEWAL_OF))
    except ValueError:
        return None


def _about(lease: LeaseRow, kind: Kind, command: Return | Withdraw | Extend, at: int) -> OutboxRow:
    return OutboxRow(*lease.id, kind, lease.partition, codec.encode(command), at)
