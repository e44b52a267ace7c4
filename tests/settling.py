"""A market for settlement's tests: executions and instructions written by hand, on a log whose time the test sets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from schemas import codec, topics, units
from schemas.attributes import Accepts, Attributes, ClassSpec
from schemas.commands import PlaceAsk, PlaceBid, Side
from schemas.events import Accepted, ClassChanged, Event, Execution, Fill, Filled
from schemas.ids import LeaseId
from schemas.instructions import Deposit, Instruction, UsageReport
from schemas.log import Reader, Record
from schemas.store import Account, Intent, Outcome, Placed
from schemas.units import HOUR_MS
from settlement.service import SettlementService
from settlement.store import Store

SPEC = ClassSpec("H100-SXM-80GB", "NVIDIA H100", 80, "SXM")
NOON = 1_795_521_600_000
SOON_S = 10.0


class ScriptedLog:
    """`schemas.log.Log` in memory, of one partition; records are stamped with `time`, which the test moves."""

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


class Market:
    """Writes what gateways and the engine would write, and waits until it is settled."""

    def __init__(self, log: ScriptedLog, store: Store) -> None:
        self.log = log
        self.store = store
        self._prev = -1

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

    async def intend(self, order: PlaceBid | PlaceAsk, *, digest: bytes = b"") -> Placed:
        """Writes an order's intent, as a gateway does."""
        hold = 0
        if bid := isinstance(order, PlaceBid):
            hold = units.hold(order.price, order.quantity, order.duration, order.fee_bps)
        intent = Intent(
            account=order.account,
            client_order_id=order.client_order_id,
            side=Side.BID if bid else Side.ASK,
            class_id=order.class_id,
            partition=0,
            command=codec.encode(order),
            digest=digest or codec.encode(order),
            hold=hold,
            not_after=order.not_after,
        )
        return await self.store.place(intent, now=self.log.time)

    async def accept(self, order: PlaceBid | PlaceAsk, *then: Event) -> int:
        """Writes the engine's acceptance of an order, and what followed; returns the order's id."""
        if isinstance(order, PlaceBid):
            side, start, duration = Side.BID, order.starts[0], order.duration
        else:
            side, start, duration = Side.ASK, order.start, order.end - order.start
        terms = order.quantity, order.price, order.fee_bps, start, duration
        accepted = Accepted(order.account, order.client_order_id, order.class_id, side, *terms)
        return await self.execute(accepted, *then)

    async def execute(self, *events: Event) -> int:
        """Writes one answer of the engine at the log's time; returns its position once it is settled."""
        place = len(self.log.records[topics.EXECUTIONS])
        execution = Execution(place, self._prev, self.log.time, events)
        self._prev = place
        await self.log.append(topics.EXECUTIONS, 0, [codec.encode(execution)])
        assert await self.store.wait_applied(0, place, SOON_S)
        return place

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
        self, buyer: Account, seller: Account, *, price: int, limit: int, quantity: int = 3, hours: int = 2
    ) -> LeaseId:
        """One fill at `price` µ$ of a bid limited to `limit`, from the log's next full hour on; its lease."""
        start = -(-self.log.time // HOUR_MS) * HOUR_MS
        bid, ask = bid_of(buyer, limit, quantity, hours, start), ask_of(seller, price, quantity, start)
        assert (await self.intend(ask)).order is not None
        ask_id = await self.accept(ask)
        assert (await self.intend(bid)).order is not None
        place = len(self.log.records[topics.EXECUTIONS])
        fill = Fill(
            index=0,
            number=1,
            class_id=SPEC.class_id,
            bid_id=place,
            ask_id=ask_id,
            buyer=buyer.id,
            seller=seller.id,
            price=price,
            quantity=quantity,
            start=start,
            end=start + hours * HOUR_MS,
            taker=Side.BID,
            bid_left=0,
            buyer_fee_bps=buyer.buyer_fee_bps,
            seller_fee_bps=seller.seller_fee_bps,
            attributes=Attributes(),
        )
        await self.accept(bid, fill, Filled(place, buyer.id))
        return place, 0


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
