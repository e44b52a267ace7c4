"""What a batch has to tell accounts that want to hear it: by their webhooks, or of their leases by the stream. Pure:
rows come from the fold itself, step by step.

They are written in the batch's own transaction, so that a crash neither loses what happened nor tells of what did not;
and they are told as the records are applied, so that batches of other sizes tell the same.
"""

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from schemas.commands import Side
from schemas.events import Fill
from schemas.ids import LeaseId, format_account_id, format_fill_id, format_lease_id, format_order_id
from schemas.units import format_time, format_usd
from schemas.webhooks import Event, EventKind, FillData, LeaseData, OrderData, WithdrawalData
from settlement.leases import LeaseRow
from settlement.payments import WithdrawalRow

if TYPE_CHECKING:
    from settlement.books import OrderRow

BUYER, SUPPLIER = "buyer", "supplier"
_encode = msgspec.json.Encoder().encode


class EventRow(NamedTuple):
    """What one account is told."""

    account: int
    kind: str
    at: int
    body: str


class Events:
    """Of one batch, in order."""

    def __init__(self) -> None:
        self._watched: dict[int, tuple[bool, bool]] = {}
        """Of those who are told anything, whether by webhooks, and whether as readers of leases."""
        self.rows: list[EventRow] = []
        self.at = 0
        """The time of what is being applied, ms."""
        self._states: dict[LeaseId, str] = {}

    def watch(self, account: int, *, has_webhooks: bool, reads_leases: bool) -> None:
        """From now on it is told."""
        self._watched[account] = has_webhooks, reads_leases

    def for_webhooks(self) -> list[EventRow]:
        """To all of an account's that want the kind."""
        return [row for row in self.rows if self._watched[row.account][0]]

    def for_lease_readers(self) -> list[EventRow]:
        """Of their leases."""
        return [row for row in self.rows if self._watched[row.account][1] and row.kind.startswith("lease.")]

    def know(self, lease: LeaseRow) -> None:
        """As it was before the batch."""
        if self._watched:
            self._states[lease.id] = lease.state

    def fill(self, fill: Fill, lease: LeaseRow, bid: "OrderRow", ask: "OrderRow") -> None:
        """A trade, and the lease that it made, before anything happens to that."""
        for order, own_id, role in ((bid, lease.bid_id, BUYER), (ask, lease.ask_id, SUPPLIER)):
            if order.account not in self._watched:
                continue
            data = FillData(
                account_id=format_account_id(order.account),
                side=_side(order),
                fill_id=format_fill_id(lease.id),
                lease_id=format_lease_id(lease.id),
                order_id=format_order_id(own_id),
                client_order_id=order.client_order_id,
                class_id=lease.class_id,
                quantity=fill.quantity,
                price=format_usd(fill.price),
                start=format_time(fill.start),
                end=format_time(fill.end),
            )
            self._tell(order.account, EventKind.FILL_MADE, data)
            self._tell_lease(lease, role, EventKind.LEASE_BOUGHT if role == BUYER else EventKind.LEASE_SOLD)
        self.know(lease)

    def lease(self, lease: LeaseRow) -> None:
        """It may have changed: told where its state has."""
        if not self._watched or self._states.get(lease.id) == lease.state:
            return
        self._states[lease.id] = lease.state
        for role in (BUYER, SUPPLIER):
            self._tell_lease(lease, role, EventKind(f"lease.{lease.state}"))

    def order(self, order: "OrderRow") -> None:
        """It has ended."""
        if order.account not in self._watched:
            return
        data = OrderData(
            account_id=format_account_id(order.account),
            side=_side(order),
            order_id=None if order.order_id is None else format_order_id(order.order_id),
            client_order_id=order.client_order_id,
            class_id=order.class_id,
            status=order.status,
            reason=order.reason,
            refusal=order.refusal,
            filled=order.filled,
            left=order.remaining,
        )
        self._tell(order.account, EventKind(f"order.{order.status}"), data)

    def withdrawal(self, row: WithdrawalRow, at: int) -> None:
        """It was requested, or became something else."""
        if row.account not in self._watched:
            return
        self.at = at
        data = WithdrawalData(
            account_id=format_account_id(row.account),
            reference=row.reference,
            amount=format_usd(row.amount),
            source=row.source,
            state=row.state,
            provider_reference=row.provider_reference,
            reason=row.reason,
        )
        self._tell(row.account, EventKind(f"withdrawal.{row.state}"), data)

    def _tell_lease(self, lease: LeaseRow, role: str, kind: EventKind) -> None:
        account, order = (lease.buyer, lease.bid_id) if role == BUYER else (lease.seller, lease.ask_id)
        if account not in self._watched:
            return
        data = LeaseData(
            account_id=format_account_id(account),
            role=role,
            lease_id=format_lease_id(lease.id),
            order_id=format_order_id(order),
            class_id=lease.class_id,
            quantity=lease.quantity,
            price=format_usd(lease.price),
            start=format_time(lease.start),
            end=format_time(lease.end),
            state=lease.state,
            close_reason=lease.close_reason,
        )
        self._tell(account, kind, data)

    def _tell(self, account: int, kind: EventKind, data: LeaseData | FillData | OrderData | WithdrawalData) -> None:
        body = _encode(Event(kind, format_time(self.at), data)).decode()
        self.rows.append(EventRow(account, kind, self.at, body))


def _side(order: "OrderRow") -> str:
    return "bid" if order.side == Side.BID else "ask"
