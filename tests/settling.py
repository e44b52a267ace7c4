"""A market for settlement's tests: executions and instructions written by hand, on a log whose time the test sets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import msgspec
from prometheus_client import CollectorRegistry

from gateways.api.orders import further_hold
from schemas import codec, topics, units
from schemas.attributes import Accepts, Attributes, ClassSpec
from schemas.commands import Amend, PlaceAsk, PlaceBid, Side
from schemas.events import Accepted, Amended, ClassChanged, Event, Execution, Fill, Filled
from schemas.ids import LeaseId
from schemas.instructions import Deposit, Instruction, UsageReport
from schemas.log import Reader, Record
from schemas.store import (
    NOBODY,
    Account,
    Amendment,
    AuditStatus,
    Intent,
    Lease,
    Order,
    Outcome,
    Placed,
    PlacedAmend,
    PlaceStatus,
    Spender,
)
from schemas.units import HOUR_MS
from settlement.audit import audit
from settlement.auditor import REPORTED, Auditor
from settlement.metrics import AuditMetrics
from settlement.service import SettlementService
from settlement.store import Store

FEE_BPS = 133
MONEY = 1_000 * units.MICRO
"""What the buyer of conftest.py begins with."""
SPEC = ClassSpec("H100-SXM-80GB", "NVIDIA H100", 80, "SXM")
NOON = 1_795_521_600_000
SOON_S = 10.0


class ScriptedLog:
    """`schemas.log.Log` in memory, of one partition; records are stamped with `time`, which the test moves."""

    id = "scripted"
    speed = 1

    def __init__(self) -> None:
        self.time = NOON
        self.records: dict[str, list[Record]] = {topic: [] for topic in topics.ALL}
        self.grown = asyncio.Condition()

    def now(self) -> int:
        return self.time

    def partitions(self, topic: str) -> int:
        return 1

    async def append(self, topic: str, partition: int, values: Sequence[bytes]) -> Sequence[int]:
        records = self.records[topic]
        first = len(records)
        records += [Record(first + number, self.time, value) for number, value in enumerate(values)]
        async with self.grown:
            self.grown.notify_all()
        return range(first, len(records))

    async def reader(self, topic: str, partition: int, offset: int) -> Reader:
        return _ScriptedReader(self, topic, offset)

    async def end(self, topic: str, partition: int) -> int:
        return len(self.records[topic])

    async def close(self) -> None:
        pass


class _ScriptedReader:
    def __init__(self, log: ScriptedLog, topic: str, offset: int) -> None:
        self._log = log
        self._records = log.records[topic]
        self._offset = offset

    async def poll(self, max_records: int = 5000, timeout_s: float = 1.0) -> list[Record]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._log.grown:
                await self._log.grown.wait_for(lambda: len(self._records) > self._offset)
        found = self._records[self._offset : self._offset + max_records]
        self._offset += len(found)
        return found

    async def close(self) -> None:
        pass


@contextlib.asynccontextmanager
async def settling(log: ScriptedLog, store: Store) -> AsyncIterator[None]:
    """Settlement at work on what is in the log, and on what comes."""
    service = SettlementService(log, store)
    running = asyncio.create_task(service.run())
    ready = asyncio.create_task(service.ready.wait())
    try:
        await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED, timeout=SOON_S)
        if running.done():
            running.result()
        assert service.ready.is_set()
        yield
    finally:
        running.cancel()
        ready.cancel()
        await asyncio.wait({running, ready})


async def audited(log: ScriptedLog, store: Store) -> AuditStatus:
    """Where the auditor stands once it has looked at everything anew."""
    auditor = Auditor(log, store, metrics=AuditMetrics(CollectorRegistry(), REPORTED))
    async with store.auditing() as connection:
        first = (await auditor.round(connection)).standing.sweep
        while (await auditor.round(connection)).standing.sweep < first + 1:
            pass
    return await store.audit_status(limit=100)


@contextlib.asynccontextmanager
async def trading(log: ScriptedLog, store: Store, spec: ClassSpec = SPEC) -> AsyncIterator["Market"]:
    """A market of one class with settlement at work; at the end both audits find nothing."""
    async with settling(log, store):
        market = Market(log, store)
        await market.open(spec)
        yield market
        found = await audit(store, log)
        assert (found.findings, found.imbalance_microusd) == ([], 0)
        assert (await audited(log, store)).findings == []


class Market:
    """Writes what gateways and the engine would write, and waits until it is settled."""

    def __init__(self, log: ScriptedLog, store: Store) -> None:
        self.log = log
        self.store = store
        self._prev = -1

    async def lease(self, lease: LeaseId) -> Lease:
        """As it stands."""
        found = await self.store.lease(lease)
        assert found is not None
        return found

    async def account(self, name: str, *, fee_bps: int = 0, money: int = 0) -> Account:
        """With `money` µ$ deposited, if any."""
        made = await self.store.create_account(
            name, buyer_fee_bps=fee_bps, seller_fee_bps=fee_bps, owner=None, now=self.log.time
        )
        if money:
            assert (await self.instruct(Deposit(made.id, money, f"first of {name}"))).refusal is None
        return made

    async def open(self, spec: ClassSpec = SPEC) -> None:
        await self.execute(ClassChanged(spec))

    async def intend(self, order: PlaceBid | PlaceAsk, *, digest: bytes = b"", spender: Spender = NOBODY) -> Placed:
        """Writes an order's intent, as a gateway does."""
        hold = 0
        if isinstance(order, PlaceBid):
            hold = units.hold(order.price, order.quantity, order.duration, order.fee_bps)
        intent = Intent(
            command=order,
            class_id=order.class_id,
            partition=0,
            digest=digest or codec.encode(order),
            hold=hold,
            spender=spender,
        )
        placed = await self.store.place(intent, now=self.log.time)
        if placed.status is PlaceStatus.NEW:
            read = await self.store.order_by_client_id(order.account, order.client_order_id)
            assert placed.order == read, "what was written is told as it is read again"
        return placed

    async def intend_amend(self, order: Order, terms: PlaceBid | PlaceAsk, *, name: str = "amend") -> PlacedAmend:
        """Writes an amend's intent, as a gateway does; to fall due with the order's own not_after."""
        assert order.order_id is not None
        terms = msgspec.structs.replace(terms, client_order_id=name)
        amendment = Amendment(
            account=order.account,
            client_order_id=name,
            order_id=order.order_id,
            partition=0,
            command=codec.encode(Amend(order.order_id, terms)),
            digest=codec.encode(terms),
            not_after=terms.not_after,
            hold=further_hold(order, terms),
            spender=order.spender,
        )
        return await self.store.place_amend(amendment, terms=order.command, now=self.log.time)

    async def accept(self, order: PlaceBid | PlaceAsk, *then: Event) -> int:
        """Writes the engine's acceptance of an order, and what followed; returns the order's id."""
        return await self.execute(accepted(order), *then)

    async def amend(self, order_id: int, order: PlaceBid | PlaceAsk, *then: Event, filled: int = 0) -> int:
        """Writes that the order has new terms, and what followed."""
        return await self.execute(amended(order_id, order, filled), *then)

    async def execute(self, *events: Event) -> int:
        """Writes one answer of the engine at the log's time; returns its position once it is settled."""
        return await self.execute_all(events)

    async def execute_all(self, *answers: Sequence[Event]) -> int:
        """Writes several answers, for settlement to take at once; returns the position of the last."""
        place = self.next_place - 1
        values = []
        for events in answers:
            place += 1
            values.append(codec.encode(Execution(place, self._prev, self.log.time, tuple(events))))
            self._prev = place
        await self.log.append(topics.EXECUTIONS, 0, values)
        assert await self.store.wait_applied(0, place, SOON_S)
        return place

    @property
    def next_place(self) -> int:
        """The position that the next answer has."""
        return len(self.log.records[topics.EXECUTIONS])

    async def instruct(self, instruction: Instruction) -> Outcome:
        return await self._outcome(topics.INSTRUCTIONS, codec.encode(instruction))

    async def report(self, report: UsageReport) -> Outcome:
        return await self._outcome(topics.USAGE, codec.encode(report))

    async def _outcome(self, topic: str, value: bytes) -> Outcome:
        (offset,) = await self.log.append(topic, 0, [value])
        outcome = await self.store.outcome(topic, 0, offset, SOON_S)
        assert outcome is not None
        return outcome

    async def sell(
        self,
        buyer: Account,
        seller: Account,
        *,
        price: int,
        limit: int,
        quantity: int = 3,
        hours: int = 2,
        attributes: Attributes | None = None,
        name: str = "bid",
        spender: Spender = NOBODY,
    ) -> LeaseId:
        """One fill at `price` µ$ of a bid limited to `limit`, from the log's next full hour on; its lease."""
        start = -(-self.log.time // HOUR_MS) * HOUR_MS
        bid, ask = bid_of(buyer, limit, quantity, hours, start, name), ask_of(seller, price, quantity, start)
        assert (await self.intend(ask)).order is not None
        ask_id = await self.accept(ask)
        assert (await self.intend(bid, spender=spender)).order is not None
        place = self.next_place
        fill = fill_of(place, ask_id, buyer, seller, price=price, quantity=quantity, start=start, hours=hours)
        if attributes is not None:
            fill = msgspec.structs.replace(fill, attributes=attributes)
        await self.accept(bid, fill, Filled(place, buyer.id))
        return place, 0


def accepted(order: PlaceBid | PlaceAsk) -> Accepted:
    side, start, duration = _window(order)
    terms = order.quantity, order.price, order.fee_bps, start, duration
    return Accepted(order.account, order.client_order_id, order.class_id, side, *terms)


def amended(order_id: int, order: PlaceBid | PlaceAsk, filled: int = 0) -> Amended:
    side, start, duration = _window(order)
    quantity, left = order.quantity, order.quantity - filled
    return Amended(order_id, order.account, side, order_id, quantity, left, order.price, start, duration)


def _window(order: PlaceBid | PlaceAsk) -> tuple[Side, int, int]:
    if isinstance(order, PlaceBid):
        return Side.BID, order.starts[0], order.duration
    return Side.ASK, order.start, order.end - order.start


def fill_of(
    bid_id: int,
    ask_id: int,
    buyer: Account,
    seller: Account,
    *,
    price: int,
    quantity: int,
    start: int,
    hours: int,
    left: int = 0,
    index: int = 0,
) -> Fill:
    return Fill(
        index=index,
        number=1,
        class_id=SPEC.class_id,
        bid_id=bid_id,
        ask_id=ask_id,
        buyer=buyer.id,
        seller=seller.id,
        price=price,
        quantity=quantity,
        start=start,
        end=start + hours * HOUR_MS,
        taker=Side.BID,
        bid_left=left,
        buyer_fee_bps=buyer.buyer_fee_bps,
        seller_fee_bps=seller.seller_fee_bps,
        attributes=Attributes(),
    )


def bid_of(buyer: Account, limit: int, quantity: int, hours: int, start: int, name: str = "bid") -> PlaceBid:
    return PlaceBid(
        SPEC.class_id,
        buyer.id,
        buyer.owner,
        name,
        start + HOUR_MS,
        quantity,
        limit,
        hours * HOUR_MS,
        (start,),
        Accepts(),
        1,
        fee_bps=buyer.buyer_fee_bps,
    )


def ask_of(seller: Account, price: int, quantity: int, start: int) -> PlaceAsk:
    end = start + 48 * HOUR_MS
    return PlaceAsk(
        SPEC.class_id,
        seller.id,
        seller.owner,
        "ask",
        end,
        quantity,
        price,
        start,
        end,
        Attributes(),
        fee_bps=seller.seller_fee_bps,
    )
