"""What customers' own servers are told (webhooks): kinds of events, what each says, and what is kept of them.

The bodies are JSON for outsiders: money and prices are decimal strings of dollars, times RFC 3339 in UTC.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Protocol

from msgspec import Struct


class EventKind(StrEnum):
    """What an account can be told of."""

    FILL_MADE = "fill.made"
    """One of its orders traded."""
    LEASE_SOLD = "lease.sold"
    """To the supplier: capacity of its ask is to be delivered."""
    LEASE_BOUGHT = "lease.bought"
    LEASE_DELIVERED = "lease.delivered"
    LEASE_ACTIVE = "lease.active"
    LEASE_DEGRADED = "lease.degraded"
    LEASE_RECLAIMING = "lease.reclaiming"
    LEASE_ENDED = "lease.ended"
    LEASE_CLOSED = "lease.closed"
    ORDER_FILLED = "order.filled"
    ORDER_CANCELLED = "order.cancelled"
    ORDER_EXPIRED = "order.expired"
    ORDER_REJECTED = "order.rejected"
    ORDER_LOST = "order.lost"
    WITHDRAWAL_REQUESTED = "withdrawal.requested"
    WITHDRAWAL_SENT = "withdrawal.sent"
    WITHDRAWAL_SETTLED = "withdrawal.settled"
    WITHDRAWAL_FAILED = "withdrawal.failed"


class LeaseData(Struct, frozen=True, rename={"class_id": "class"}):
    """Of `lease.…`: the lease as it became then."""

    account_id: str
    role: str
    """buyer or supplier: what the account is in it."""
    lease_id: str
    order_id: str
    """The account's own."""
    class_id: str
    quantity: int
    price: str
    start: str
    end: str
    state: str
    close_reason: str


class FillData(Struct, frozen=True, rename={"class_id": "class"}):
    """Of `fill.made`."""

    account_id: str
    side: str
    """bid or ask: the account's."""
    fill_id: str
    lease_id: str
    order_id: str
    client_order_id: str
    class_id: str
    quantity: int
    price: str
    start: str
    end: str


class OrderData(Struct, frozen=True, rename={"class_id": "class"}):
    """Of `order.…`: how it ended."""

    account_id: str
    side: str
    order_id: str | None
    """None: it never had one."""
    client_order_id: str
    class_id: str
    status: str
    reason: str
    """Of a cancel."""
    refusal: str | None
    """The code, where it was rejected."""
    filled: int
    left: int


class WithdrawalData(Struct, frozen=True):
    """Of `withdrawal.…`."""

    account_id: str
    reference: str
    amount: str
    source: str
    state: str
    provider_reference: str
    reason: str


class Event(Struct, frozen=True):
    """The body that is sent, in the form of Standard Webhooks."""

    type: EventKind
    timestamp: str
    """When it happened: the log's time."""
    data: LeaseData | FillData | OrderData | WithdrawalData


class LeaseEvent(Struct, frozen=True):
    """An Event of `lease.…`."""

    type: EventKind
    timestamp: str
    data: LeaseData


class DeliveryState(StrEnum):
    """How far the telling of an event is."""

    WAITING = "waiting"
    """For its first or next attempt."""
    DELIVERED = "delivered"
    """The receiver took it."""
    DEAD = "dead"
    """Every attempt failed: it is sent again only where somebody says so (replay)."""


class Webhook(Struct, frozen=True):
    """Where an account is told what."""

    id: int
    account: int
    url: str
    kinds: tuple[EventKind, ...]
    created_at: int
    """ms, log time."""


class Delivery(Struct, frozen=True):
    """An event on its way to one webhook. Times in ms: `at` of the log, the others of the database's clock."""

    webhook: int
    event: int
    kind: EventKind
    at: int
    body: str
    state: DeliveryState
    attempts: int
    """Since the beginning, or the last replay."""
    status: int | None
    """Of the last answer."""
    error: str
    """Why the last attempt failed."""
    due_at: int
    done_at: int | None


class DueDelivery(Struct, frozen=True):
    """A delivery that is to be attempted now, and what for."""

    webhook: int
    account: int
    url: str
    secret: str
    """Sealed."""
    event: int
    body: str
    attempts: int


class Attempt(Struct, frozen=True):
    """What came of an attempt."""

    webhook: int
    event: int
    state: DeliveryState
    pause_ms: int
    """Before the next one, where it waits."""
    status: int | None
    error: str


class Deliveries(Protocol):
    """For the one deliverer of a database, on a connection of its own. Calls raise StoreError."""

    async def due(self, *, busy: Sequence[int], each: int, limit: int) -> list[DueDelivery]:
        """Of every webhook but the `busy` ones the first `each` that are due."""
        ...

    async def save(self, attempts: Sequence[Attempt]) -> None: ...

    async def tidy(self, *, keep_days: int, limit: int) -> None:
        """Forgets deliveries that were done so long ago, and those of webhooks that were removed; at most `limit`."""
        ...

    async def wait(self, timeout_s: float) -> None:
        """Until there may be more that is due, or `wake` was called."""
        ...

    def wake(self, *_: object) -> None: ...


class Webhooks(Protocol):
    """What gateways ask of settlement's database about webhooks; a part of `schemas.store.Store`."""

    async def add(
        self, account: int, *, url: str, kinds: Sequence[EventKind], secret: str, now: int, most: int
    ) -> Webhook | None:
        """With its sealed secret. None where the account has `most` already."""
        ...

    async def of(self, account: int, *, after: int, limit: int) -> list[Webhook]: ...

    async def remove(self, account: int, webhook: int) -> bool:
        """False where the account has no such webhook."""
        ...

    async def deliveries(
        self, account: int, webhook: int, *, state: DeliveryState | None, before: int | None, limit: int
    ) -> list[Delivery] | None:
        """Newest first, those before the event `before`. None where the account has no such webhook."""
        ...

    async def replay(self, account: int, webhook: int, event: int) -> Delivery | None:
        """It is sent again, at once. None where the account has no such delivery."""
        ...

    def delivering(self) -> AbstractAsyncContextManager[Deliveries]:
        """Waits while another deliverer is at work."""
        ...
