"""What one batch of records does to orders, leases and money: a fold in memory, with no I/O.

`Wanted` says which rows a batch needs, `tables.py` reads them into `Books`, the records are applied one by one in
their order, and `tables.py` writes what has changed.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from schemas import codec, units
from schemas.attributes import ClassSpec
from schemas.commands import Amend, HaltMode, PlaceAsk, PlaceBid, Side
from schemas.events import (
    Accepted,
    AllCancelled,
    Amended,
    Cancelled,
    CancelReason,
    ClassChanged,
    ClassRetired,
    DeadManChanged,
    Duplicate,
    Event,
    Execution,
    Expired,
    Extension,
    Fill,
    Filled,
    HaltChanged,
    KillChanged,
    LimitsChanged,
    ReferenceChanged,
    Rejected,
    Returned,
    RulesChanged,
    Ticked,
    Withdrawn,
)
from schemas.ids import MAX_ACCOUNT, LeaseId, format_lease_id, format_order_id, partition_of
from schemas.instructions import (
    Accept,
    Correct,
    CreditLimit,
    DailyCredits,
    Degrade,
    Deliver,
    Deposit,
    End,
    Instruction,
    Reclaim,
    Renew,
    Restore,
    Source,
    UsageReport,
    Withdrawal,
    WithdrawalNews,
)
from schemas.refusals import Refusal
from schemas.store import AmendStatus, CloseReason, OrderStatus, Renewal
from schemas.units import MAX_TIME_MS
from settlement import corrections, daily_credits, invoices, leases, ledger, outbox, payments, sla
from settlement.corrections import Corrected, Correction
from settlement.daily_credits import DailyCreditRow
from settlement.invoices import Billed, Charge, ChargeKey
from settlement.leases import LeaseRow, Refused, Step
from settlement.ledger import Entries, Transaction
from settlement.machines import MAX_NAMED, Gpu, Machines, is_name, wrong_names
from settlement.metering import Bill
from settlement.outbox import OutboxRow
from settlement.payments import CreditRow, DepositRow, WithdrawalKey, WithdrawalRow
from settlement.spend import Spend
from settlement.usage import UsageRow, accepted_row, neighbours
from settlement.webhooks import Events

UNFUNDED = CloseReason.UNFUNDED.value
"""The reason that an open bid shows whose account had not the money for its whole hold."""
MAX_SEQUENCE = (1 << 31) - 1

OrderKey = tuple[int, str]
"""(account, client_order_id)."""

_encode = msgspec.msgpack.Encoder().encode
_NOT_BILLED = Billed()


class OrderRow(Struct):
    """An order as the table `orders` has it, column by column. Times in ms, money in µ$."""

    account: int
    client_order_id: str
    order_id: int | None
    side: int
    class_id: str
    partition: int
    command: bytes
    digest: bytes
    not_after: int
    status: str
    price: int
    duration: int
    fee_bps: int
    filled: int
    remaining: int
    held: int
    reason: str
    refusal: str | None
    refusal_args: str
    created_at: int
    team: str = ""
    user: str = ""
    pool: str = ""
    ssh_key: str = ""

    @property
    def key(self) -> OrderKey:
        return self.account, self.client_order_id

    @property
    def payer(self) -> int:
        return self.account

    @property
    def committed(self) -> int:
        return self.held

    @property
    def may_cost(self) -> int:
        """What an answered order can still cost: a bid its hold (rulebook: Units), an ask nothing."""
        if self.side == Side.ASK:
            return 0
        return units.hold(self.price, self.remaining, self.duration, self.fee_bps)


class AmendRow(Struct):
    """An amend as the table `amends` has it, column by column. Times in ms, money in µ$."""

    account: int
    client_order_id: str
    order_id: int
    partition: int
    command: bytes
    digest: bytes
    not_after: int
    status: str
    held: int
    refusal: str | None
    refusal_args: str
    created_at: int
    team: str = ""
    user: str = ""
    pool: str = ""

    @property
    def key(self) -> OrderKey:
        return self.account, self.client_order_id

    @property
    def payer(self) -> int:
        return self.account

    @property
    def committed(self) -> int:
        return self.held


class ClassState(Struct):
    """What a batch changes of how a class stands: None leaves it."""

    retired: bool = False
    halt: HaltMode | None = None
    reference: int | None = None


class Due(NamedTuple):
    """A deadline of a partition. In order of time; of intents first, then of leases by their ids."""

    deadline: int
    lease: LeaseId
    """(-1, 0) for an intent."""
    intent: OrderKey
    """(0, '') for a lease."""
    is_amend: bool = False
    """Whether the intent is that of an amend."""
    payer: int = 0
    """The account whose daily credits lapse; 0 for all others."""


class Wanted(Struct):
    """Which rows the records of a batch may touch."""

    orders: set[OrderKey] = msgspec.field(default_factory=set)
    order_ids: set[int] = msgspec.field(default_factory=set)
    amends: set[OrderKey] = msgspec.field(default_factory=set)
    amended: set[int] = msgspec.field(default_factory=set)
    """Ids of orders whose amend on its way has its answer here."""
    leases: set[LeaseId] = msgspec.field(default_factory=set)
    reports: set[tuple[int, int, int]] = msgspec.field(default_factory=set)
    references: set[str] = msgspec.field(default_factory=set)
    depositors: set[int] = msgspec.field(default_factory=set)
    withdrawals: set[WithdrawalKey] = msgspec.field(default_factory=set)
    withdrawers: set[int] = msgspec.field(default_factory=set)
    """Accounts whose free money, or credit, is asked for."""
    gpus: set[Gpu] = msgspec.field(default_factory=set)
    extended: set[LeaseId] = msgspec.field(default_factory=set)
    """Leases that go on here, whose GPUs may be needed."""
    gpus_since: int = MAX_TIME_MS
    """Who had a GPU before that does not matter."""
    payers: set[int] = msgspec.field(default_factory=set)
    """Accounts whose credits may be wanted, beside the buyers of `leases`."""
    granted: set[int] = msgspec.field(default_factory=set)
    corrected: set[LeaseId] = msgspec.field(default_factory=set)
    times: dict[int, int] = msgspec.field(default_factory=dict)
    """Partition -> the time to which its executions come."""

    def add_execution(self, execution: Execution) -> None:
        self.times[partition_of(execution.position)] = execution.time
        for event in execution.events:
            match event:
                case Accepted():
                    self.orders.add((event.account, event.client_order_id))
                    if (lease := outbox.renewed(event.client_order_id)) is not None:
                        self._add_lease(lease)
                case Extension():
                    if self._add_lease(event.lease):
                        self.extended.add(event.lease)
                        self.gpus_since = min(self.gpus_since, execution.time)
                case Rejected():
                    self.orders.add((event.account, event.client_order_id))
                    self.amends.add((event.account, event.client_order_id))
                case Fill():
                    self.order_ids |= {event.bid_id, event.ask_id}
                    self.payers.add(event.buyer)
                case Amended() | Filled() | Cancelled() | Expired():
                    self.order_ids.add(event.order_id)
                    if isinstance(event, Amended) or _is_amend(event):
                        self.amended.add(event.order_id)
                case _:
                    pass

    def add_instruction(self, instruction: Instruction, now: int) -> None:
        match instruction:
            case Deliver():
                self._add_lease(instruction.lease)
                if instruction.account <= MAX_ACCOUNT:
                    named = filter(is_name, instruction.gpus[:MAX_NAMED])
                    self.gpus.update((instruction.account, gpu) for gpu in named)
                self.gpus_since = min(self.gpus_since, now)
            case Deposit():
                if not payments.wrong_deposit(instruction):
                    self.references.add(_deposit_reference(instruction))
                    self.depositors.add(instruction.account)
            case Withdrawal():
                if not payments.wrong_withdrawal(instruction):
                    self.withdrawals.add((instruction.account, instruction.reference))
                    self.withdrawers.add(instruction.account)
            case CreditLimit():
                if not payments.wrong_credit(instruction):
                    self.withdrawers.add(instruction.account)
            case WithdrawalNews():
                if payments.is_possible(instruction.account, instruction.reference):
                    self.withdrawals.add((instruction.account, instruction.reference))
            case DailyCredits():
                if not daily_credits.wrong(instruction):
                    self.payers.add(instruction.account)
                    self.granted.add(instruction.account)
            case _:
                if self._add_lease(instruction.lease) and isinstance(instruction, Correct):
                    self.corrected.add(instruction.lease)

    def add_usage(self, report: UsageReport) -> None:
        if self._add_lease(report.lease) and 1 <= report.sequence <= MAX_SEQUENCE:
            self.reports.add((*report.lease, report.sequence))

    def _add_lease(self, lease: LeaseId) -> bool:
        possible = 0 <= lease[0] < 1 << 63 and 0 <= lease[1] < 1 << 31
        if possible:
            self.leases.add(lease)
        return possible


class Books:
    """The rows of one batch, and the rules by which records change them."""

    def __init__(self, classes: dict[str, ClassSpec], leases_so_far: int) -> None:
        self.classes = classes
        self.leases_so_far = leases_so_far
        self.orders: dict[OrderKey, OrderRow] = {}
        self.answered: dict[int, OrderRow] = {}
        """The orders that have an id, by it."""
        self.amends: dict[OrderKey, AmendRow] = {}
        self.amending: dict[int, AmendRow] = {}
        """Of an order, the amend that is on its way."""
        self.leases: dict[LeaseId, LeaseRow] = {}
        self.usage: defaultdict[LeaseId, dict[int, UsageRow]] = defaultdict(dict)
        """Per lease, by sequence: at least the neighbours of each report of the batch."""
        self.deposits: dict[str, tuple[int, int]] = {}
        """Reference -> (account, µ$) of those that were made before."""
        self.known_accounts: set[int] = set()
        self.withdrawals: dict[WithdrawalKey, WithdrawalRow] = {}
        self.withdrawers: set[int] = set()
        """Accounts that want money out."""
        self.receivables: dict[int, int] = {}
        """µ$ that they, and the parties of corrected leases, have still to receive; below 0 they owe it."""
        self.credits: dict[int, CreditRow] = {}
        """Of accounts that withdraw, or whose limit is set, the last limit."""
        self.corrected: dict[LeaseId, Corrected] = {}
        self.cash: dict[int, int] = {}
        """Free µ$ of accounts that withdraw, have bids that are not held for in full, or leases that are corrected."""
        self.clock: dict[int, int] = {}
        """Partition -> the time of its executions so far."""

        self.daily_credits: dict[int, DailyCreditRow] = {}
        """By account."""

        self.changed_classes: dict[str, int] = {}
        """Class -> its partition."""
        self.class_states: defaultdict[str, ClassState] = defaultdict(ClassState)
        self.new_orders: dict[OrderKey, OrderRow] = {}
        self.changed_orders: dict[OrderKey, OrderRow] = {}
        self.changed_amends: dict[OrderKey, AmendRow] = {}
        self.new_leases: dict[LeaseId, LeaseRow] = {}
        self.changed_leases: dict[LeaseId, LeaseRow] = {}
        self.metered_leases: dict[LeaseId, LeaseRow] = {}
        """Of which only the use and the bill have changed."""
        self.transactions: list[Transaction] = []
        self.released: defaultdict[int, int] = defaultdict(int)
        """Account -> µ$ of its cash that are reserved no longer."""
        self.new_deposits: list[DepositRow] = []
        self.changed_withdrawals: dict[WithdrawalKey, WithdrawalRow] = {}
        self.new_credits: list[CreditRow] = []
        self.new_usage: list[UsageRow] = []
        self.outbox: list[OutboxRow] = []
        self.spend = Spend()
        self.changed_daily_credits: dict[int, DailyCreditRow] = {}
        self.charges: dict[ChargeKey, Charge] = {}
        """What the batch charges for."""
        self.machines = Machines()
        self.new_corrections: list[Correction] = []
        self.events = Events()
        """What accounts with webhooks, and readers of leases, are to be told."""

        self._billed: dict[LeaseId, Billed] = {}
        self._times: dict[int, int] = {}
        self._due: defaultdict[int, list[Due]] = defaultdict(list)

    # What the batch is given.

    def add_orders(self, rows: Iterable[OrderRow]) -> None:
        """Rows as they are in the database; one that is here already is left alone."""
        for row in rows:
            known = self.orders.setdefault(row.key, row)
            if known is row:
                self.spend.watch(row)
            if known.order_id is not None:
                self.answered[known.order_id] = known
            if row.status == OrderStatus.SENT:
                self._expect(row.partition, Due(row.not_after, (-1, 0), row.key))

    def add_amends(self, rows: Iterable[AmendRow]) -> None:
        """Likewise."""
        for row in rows:
            if self.amends.setdefault(row.key, row) is row and row.status == AmendStatus.SENT:
                self.spend.watch(row)
                self.amending[row.order_id] = row
                self._expect(row.partition, Due(row.not_after, (-1, 0), row.key, is_amend=True))

    def add_leases(self, rows: Iterable[LeaseRow]) -> None:
        """Likewise."""
        for row in rows:
            lease_id = row.id
            if self.leases.setdefault(lease_id, row) is row:
                self.spend.watch(row)
                self._billed[lease_id] = invoices.billed(row)
                self.events.know(row)
            self._watch(row)

    def add_daily_credits(self, rows: Iterable[DailyCreditRow]) -> None:
        """Likewise."""
        for row in rows:
            self._await_midnight(self.daily_credits.setdefault(row.account, row))

    def add_usage(self, row: UsageRow) -> None:
        self.usage[row.position, row.fill_index][row.sequence] = row

    def horizon(self, times: dict[int, int]) -> None:
        """How far each partition's time may come in this batch: later deadlines are not its matter."""
        self._times = times

    def short_of_hold(self, executions: Iterable[Execution]) -> set[int]:
        """The accounts whose cash the batch needs: their bids have not the hold they should have."""
        short = set()
        for execution in executions:
            for event in execution.events:
                if isinstance(event, Accepted) and event.side is Side.BID:
                    row = self.orders.get((event.account, event.client_order_id))
                    if row is None or row.held < _hold(event):
                        short.add(event.account)
                elif isinstance(event, Fill):
                    row = self.answered.get(event.bid_id)
                    if row is not None and row.held < row.may_cost:
                        short.add(event.buyer)
                elif isinstance(event, Amended) and event.side is Side.BID:
                    short.add(event.account)  # what it holds by then, the batch itself decides
        return short

    # Records of executions.

    def execution(self, execution: Execution) -> None:
        """Time first: what has passed by then. Then the events, in order."""
        partition, now = partition_of(execution.position), execution.time
        self.clock[partition] = now
        self.expire(partition, now)
        self.events.at = now
        for event in execution.events:
            match event:
                case Accepted():
                    self._accepted(event, execution.position, now)
                case Rejected():
                    self._rejected(event, execution.position, now)
                case Fill():
                    self._fill(event, execution.position, now)
                case Amended():
                    self._amended(event, execution.position, now)
                case Filled():
                    self._end(self.answered[event.order_id], OrderStatus.FILLED, "", 0, now)
                case Cancelled():
                    if _is_amend(event) and (amend := self.amending.get(event.order_id)) is not None:
                        self._end_amend(amend, AmendStatus.DONE)
                    self._end(self.answered[event.order_id], OrderStatus.CANCELLED, event.reason, event.left, now)
                case Expired():
                    self._end(self.answered[event.order_id], OrderStatus.EXPIRED, "", event.left, now)
                case ClassChanged():
                    self.classes[event.spec.class_id] = event.spec
                    self.changed_classes[event.spec.class_id] = partition
                case Extension():
                    self._extended(event, execution.position, now)
                case Returned() | Withdrawn():
                    pass  # they move no money
                case ClassRetired():
                    self.class_states[event.class_id].retired = True
                case HaltChanged():
                    self.class_states[event.class_id].halt = event.mode
                case ReferenceChanged():
                    self.class_states[event.class_id].reference = event.price
                case KillChanged() | DeadManChanged() | AllCancelled():
                    pass  # what they end, Cancelled says order by order
                case Duplicate() | LimitsChanged() | RulesChanged() | Ticked():
                    pass

    def expire(self, partition: int, now: int) -> None:
        """Applies the partition's deadlines before `now`, in order of (deadline, lease)."""
        due = self._due[partition]
        while due and due[0].deadline < now:
            deadline, lease_id, intent, is_amend, payer = heapq.heappop(due)
            self.events.at = deadline
            if payer:
                self._turn_credits(self.daily_credits[payer], deadline + 1)
            elif is_amend:
                if self.amends[intent].status == AmendStatus.SENT:
                    self._end_amend(self.amends[intent], AmendStatus.LOST)
            elif intent[0]:
                order = self.orders[intent]
                if order.status == OrderStatus.SENT:
                    self._end(order, OrderStatus.LOST, "", order.remaining, now)
            elif self.leases[lease_id].deadline == deadline:
                self._lapse(self.leases[lease_id], deadline)

    def _accepted(self, event: Accepted, position: int, now: int) -> None:
        order = self._order_to_answer(event, position, now)
        reserved = self._release(order)
        order.order_id, order.status, order.created_at = position, OrderStatus.OPEN, now
        order.price, order.duration, order.fee_bps = event.price, event.duration, event.fee_bps
        order.remaining = event.quantity
        self.answered[position] = order
        self._change(order)
        self._cover(order, f"accept:{format_order_id(position)}", now, reserved)

    def _amended(self, event: Amended, position: int, now: int) -> None:
        order = self.answered[event.order_id]
        order.price, order.duration, order.remaining = event.price, event.duration, event.left
        reserved = 0
        if (amend := self.amending.get(event.order_id)) is not None:  # else it came to the log past the gateways
            reserved = self._end_amend(amend, AmendStatus.DONE)
            order.command = _amended_command(order, amend, now)
        self._change(order)
        self._cover(order, f"amend:{format_order_id(event.order_id)}:{position}", now, reserved)

    def _end_amend(self, amend: AmendRow, status: AmendStatus) -> int:
        """It has its answer; returns what was reserved for it, in µ$."""
        amend.status = status
        del self.amending[amend.order_id]
        self.changed_amends[amend.key] = amend
        return self._release(amend)

    def _cover(self, order: OrderRow, reference: str, now: int, reserved: int) -> None:
        """Moves between cash and hold so that the order has the hold that its terms want, where there is the cash:
        what was reserved for it until now, or what is known to be free."""
        missing = order.may_cost - order.held
        # Without the money, which only a bid or an amend from past the gateways can be, fills beyond are void (README).
        short = missing > 0 and missing > self.cash.get(order.account, reserved)
        order.reason = UNFUNDED if short else ""
        if not short:
            order.held += missing
            self._post(reference, now, _from_cash_to_hold(order.account, missing))

    def _order_to_answer(self, event: Accepted, position: int, now: int) -> OrderRow:
        """The intent's row; a new one where the command came to the log past the gateways."""
        assert event.account <= MAX_ACCOUNT, f"account {event.account} of order {position} is no account"
        client_order_id = event.client_order_id
        known = self.orders.get((event.account, client_order_id))
        if known is not None and known.order_id is None:
            return known
        if known is not None:
            client_order_id = f"{client_order_id} {format_order_id(position)}"
        order = OrderRow(
            account=event.account,
            client_order_id=client_order_id,
            order_id=None,
            side=event.side,
            class_id=event.class_id,
            partition=partition_of(position),
            command=b"",
            digest=b"",
            not_after=now,
            status=OrderStatus.OPEN,
            price=event.price,
            duration=event.duration,
            fee_bps=event.fee_bps,
            filled=0,
            remaining=event.quantity,
            held=0,
            reason="",
            refusal=None,
            refusal_args="[]",
            created_at=now,
        )
        renewed = outbox.renewed(event.client_order_id)
        if renewed is not None and (lease := self.leases.get(renewed)) is not None and lease.buyer == event.account:
            order.command = codec.encode(outbox.extension(lease)) if lease.renewal else b""
            order.team, order.user, order.pool = lease.team, lease.user, lease.pool
        self.spend.watch_new(order)
        self.orders[order.key] = self.new_orders[order.key] = order
        return order

    def _rejected(self, event: Rejected, position: int, now: int) -> None:
        amend = self.amends.get((event.account, event.client_order_id))
        if amend is not None and amend.status == AmendStatus.SENT:
            amend.refusal, amend.refusal_args = event.code, msgspec.json.encode(event.args).decode()
            self._end_amend(amend, AmendStatus.REJECTED)
        order = self.orders.get((event.account, event.client_order_id))
        if order is None or order.order_id is not None:
            return  # no order of a gateway's, or a late copy of one that has its answer
        order.order_id, order.created_at = position, now
        order.refusal, order.refusal_args = event.code, msgspec.json.encode(event.args).decode()
        self.answered[position] = order
        self._end(order, OrderStatus.REJECTED, "", order.remaining, now)

    def _fill(self, fill: Fill, position: int, now: int) -> None:
        bid, ask = self.answered[fill.bid_id], self.answered[fill.ask_id]
        bid.filled += fill.quantity
        bid.remaining = fill.bid_left
        if not bid.remaining:  # the engine says Filled of a command's own bid alone
            bid.status, bid.reason = OrderStatus.FILLED, ""
        ask.filled += fill.quantity
        self._change(bid)
        self._change(ask)
        self.leases_so_far += 1
        lease = leases.opened(
            fill,
            (position, fill.index),
            number=self.leases_so_far,
            partition=partition_of(position),
            attributes=_encode(fill.attributes),
            spec=self.classes[fill.class_id],
            now=now,
        )
        lease.team, lease.user, lease.pool = bid.team, bid.user, bid.pool
        self.leases[lease.id] = self.new_leases[lease.id] = lease
        self._watch(lease)
        self.spend.watch_new(lease)
        self.events.fill(fill, lease, bid, ask)
        if not bid.remaining:
            self.events.order(bid)
        price = units.escrow(fill.price, fill.quantity, fill.end - fill.start, fill.buyer_fee_bps)
        from_hold = min(bid.held, price)
        if price - from_hold > self.cash.get(fill.buyer, 0):
            leases.close(lease, Step.VOID, CloseReason.UNFUNDED, now)
            self.outbox.append(outbox.returned(lease, now))
            self.events.lease(lease)
            price = from_hold = 0
        to_hold = min(bid.held - from_hold, bid.may_cost)
        released = bid.held - from_hold - to_hold
        entries = {
            ledger.hold(fill.buyer): to_hold - bid.held,
            ledger.escrow(lease.number): price,
            ledger.cash(fill.buyer): released - (price - from_hold),
        }
        bid.held = to_hold
        self._post(f"fill:{format_lease_id(lease.id)}", now, entries)

    def _extended(self, event: Extension, position: int, now: int) -> None:
        """The lease of the fill before it goes on with another: on its machines, where those are free then."""
        lease, before = self.leases[position, event.index], self.leases.get(event.lease)
        if before is None or not leases.go_on(before, lease, now):
            return
        self._change_lease(before)
        if before.state not in (leases.DELIVERED, leases.ACTIVE, leases.DEGRADED):
            return  # it is delivered like any other
        gpus = self.machines.of(before.id)
        if self.machines.clash(lease.seller, gpus, lease.start, lease.end) is None:
            self.machines.bind(lease.id, lease.seller, gpus, lease.start, lease.end)
            leases.deliver(lease, before.connection, now, before.proof)
            self.events.lease(lease)
            if before.state != leases.DELIVERED:
                leases.accept(lease, now)
                self.events.lease(lease)
            self._watch(lease)

    def _end(self, order: OrderRow, status: OrderStatus, reason: str, left: int, now: int) -> None:
        """Ends the order and releases what it held."""
        if order.status == OrderStatus.SENT:
            self._release(order)
        elif order.held:
            assert order.order_id is not None, "what holds is answered"
            reference = f"end:{format_order_id(order.order_id)}"
            self._post(reference, now, _from_cash_to_hold(order.account, -order.held))
        has_ended = order.status == status  # a bid that a fill has filled
        order.status, order.reason, order.remaining, order.held = status, reason, left, 0
        self._change(order)
        if not has_ended:
            self.events.order(order)

    def _lapse(self, lease: LeaseRow, at: int) -> None:
        """What time alone does to a lease, at its deadline."""
        match lease.state:
            case leases.PENDING:
                self._close(lease, Step.VOID, CloseReason.NOT_DELIVERED, at)
                self.outbox.append(outbox.withdrawn(lease, at))
            case leases.DELIVERED:
                leases.accept(lease, at)
            case _ if leases.renewal_due(lease):
                self.outbox.append(outbox.extended(lease, at))
            case _:
                self._close(lease, Step.CLOSE, CloseReason.COMPLETED, at)
        self._change_lease(lease)

    # Records of instructions and of usage. `now` is the largest time so far of their partition of their topic.

    def instruction(self, instruction: Instruction, now: int) -> Refused | None:
        match instruction:
            case Deposit():
                return self._deposit(instruction, now)
            case Withdrawal():
                return self._withdraw(instruction, now)
            case WithdrawalNews():
                return self._hear(instruction, now)
            case CreditLimit():
                return self._limit_credit(instruction, now)
            case DailyCredits():
                return self._grant_daily(instruction, now)
            case Correct():
                return self._correct(instruction, now)
            case _:
                lease = self.leases.get(instruction.lease)
                is_buyers = isinstance(instruction, Accept | End | Renew)
                if lease is None or instruction.account != (lease.buyer if is_buyers else lease.seller):
                    return _unknown(instruction.lease)
                self.events.at = self._not_too_late(lease, now)
                refusal = self._step(lease, instruction, self.events.at)
                if refusal is None:
                    self._change_lease(lease)
                return refusal

    def _step(
        self, lease: LeaseRow, said: Deliver | Accept | Degrade | Restore | Reclaim | End | Renew, now: int
    ) -> Refused | None:
        match said:
            case Deliver():
                return self._deliver(lease, said, now)
            case Accept():
                return leases.accept(lease, now)
            case Degrade():
                return leases.degrade(lease, said.gpus, said.note, now)
            case Restore():
                return leases.restore(lease, now)
            case Reclaim():
                escrow = lease.in_escrow
                if (refusal := leases.reclaim(lease, now)) is None:
                    self.machines.free(lease.id, lease.seller, lease.until)
                    self._bill(lease, f"reclaim:{format_lease_id(lease.id)}", now, escrow)
                    self.outbox.append(outbox.withdrawn(lease, now))
                return refusal
            case End():
                escrow, was = lease.in_escrow, lease.state
                if (refusal := leases.end(lease, now)) is None:
                    self.machines.free(lease.id, lease.seller, lease.until)
                    self._bill(lease, f"end:{format_lease_id(lease.id)}", now, escrow)
                    if was != leases.RECLAIMING:  # which the engine knows as withdrawn
                        self.outbox.append(outbox.returned(lease, now))
                return refusal

            case Renew(duration=0):
                return leases.renew(lease, None, now)
            case Renew():
                return leases.renew(lease, Renewal(said.duration, said.price, said.owner, said.fee_bps), now)

    def _deliver(self, lease: LeaseRow, said: Deliver, now: int) -> Refused | None:
        since = max(lease.start, now)
        refusal = (
            leases.refused(lease, Step.DELIVER)
            or wrong_names(said.gpus, lease.quantity)
            or self.machines.clash(lease.seller, said.gpus, since, lease.end)
            or leases.deliver(lease, said.connection, now, said.proof)
        )
        if refusal is None:
            self.machines.bind(lease.id, lease.seller, said.gpus, since, lease.end)
        return refusal

    def use(self, report: UsageReport, now: int) -> Refused | None:
        """The bill follows the highest sequence; a final report closes the lease at once, as no later one can be."""
        lease = self.leases.get(report.lease)
        if lease is None or lease.seller != report.account:
            return _unknown(report.lease)
        if not 1 <= report.sequence <= MAX_SEQUENCE:
            return Refusal.SEQUENCE_OUT_OF_RANGE, (report.sequence, MAX_SEQUENCE)
        now = self.events.at = self._not_too_late(lease, now)
        known = self.usage[lease.id]
        same = known.get(report.sequence)
        if same is not None:
            equal = (same.gpu_ms, same.final) == (report.gpu_ms, report.final)
            return None if equal else (Refusal.USAGE_CONFLICT, (report.sequence,))
        before, after = neighbours(known, report.sequence)
        least, most = before.gpu_ms if before else 0, after.gpu_ms if after else None
        was_accepted = lease.accepted_at is not None
        if (refusal := leases.meter(lease, report, least, most, now)) is not None:
            return refusal
        if report.final and report.sequence < lease.last_sequence:
            return Refusal.USAGE_NOT_LAST, (report.sequence, lease.last_sequence)
        row = accepted_row(lease, report, before, after, now)
        known[report.sequence] = row
        self.new_usage.append(row)
        if report.sequence > lease.last_sequence:
            lease.last_sequence, lease.used_gpu_ms = report.sequence, report.gpu_ms
            self._bill(lease, f"usage:{format_lease_id(lease.id)}:{report.sequence}", now)
        if report.final:
            self.events.lease(lease)  # which this very report may have accepted
            self._close(lease, Step.CLOSE, CloseReason.COMPLETED, now)
        if was_accepted and not report.final:
            self._meter_lease(lease)
        else:
            self._change_lease(lease)
        return None

    def parties_of_corrected(self, executions: Iterable[Execution]) -> set[int]:
        """Whose money corrections move: of leases that are here, and of those that these executions make."""
        parties = set()
        for lease in self.corrected.keys() & self.leases.keys():
            parties |= {self.leases[lease].buyer, self.leases[lease].seller}
        for execution in executions if self.corrected else ():
            for event in execution.events:
                if isinstance(event, Fill) and (execution.position, event.index) in self.corrected:
                    parties |= {event.buyer, event.seller}
        return parties

    def _correct(self, said: Correct, now: int) -> Refused | None:
        lease = self.leases.get(said.lease)
        if lease is None or said.account not in (0, lease.seller):
            return _unknown(said.lease)
        so_far = self.corrected[lease.id]
        if (refusal := corrections.refused(lease, said, so_far)) is not None:
            return refusal
        if said.gpu_ms == lease.used_gpu_ms + so_far.gpu_ms:
            return None
        note = corrections.corrected(lease, said, so_far, self._not_too_late(lease, now))
        refusal = corrections.uncovered(note, self.cash[lease.buyer], self.receivables[lease.seller])
        if refusal is None:
            self.corrected[lease.id] = so_far._replace(ordinal=note.ordinal, gpu_ms=so_far.gpu_ms + note.gpu_ms)
            self.new_corrections.append(note)
            self.spend.charge(lease, lease.class_id, note.charged, note.made_at)
            entries = note.entries
            if note.charged < 0:
                entries |= self._refund(lease, -note.charged, corrections.paid(lease, so_far), note.made_at)
            self._post(note.reference, note.made_at, entries)
        return refusal

    def _deposit(self, deposit: Deposit, now: int) -> Refused | None:
        if (wrong := payments.wrong_deposit(deposit)) is not None:
            return wrong
        if deposit.account not in self.known_accounts:
            return Refusal.UNKNOWN_ACCOUNT, (deposit.account,)
        reference, content = _deposit_reference(deposit), (deposit.account, deposit.amount)
        if (made := self.deposits.get(reference)) is not None:
            return None if made == content else (Refusal.REFERENCE_REUSED, (deposit.reference,))
        self.deposits[reference] = content
        self.new_deposits.append(DepositRow(deposit.reference, *content, now))
        self._post(reference, now, {ledger.OUTSIDE: -deposit.amount, ledger.cash(deposit.account): deposit.amount})
        return None

    def _withdraw(self, asked: Withdrawal, now: int) -> Refused | None:
        if (wrong := payments.wrong_withdrawal(asked)) is not None:
            return wrong
        if asked.account not in self.known_accounts:
            return Refusal.UNKNOWN_ACCOUNT, (asked.account,)
        row = payments.requested(asked, now)
        if (known := self.withdrawals.get(row.key)) is not None:
            return None if payments.is_same(known, asked) else (Refusal.REFERENCE_REUSED, (asked.reference,))
        if asked.source is Source.CASH:  # its own: what is lent does not go out
            free = max(0, self.cash[asked.account] - self._credit(asked.account).credit)
        else:
            free = max(0, self.receivables[asked.account])
        if asked.amount > free:
            return Refusal.INSUFFICIENT_FUNDS, (asked.reference, asked.amount, free, asked.source)
        self.withdrawals[row.key] = self.changed_withdrawals[row.key] = row
        self.events.withdrawal(row, now)
        self._post(f"withdrawal:{row.account}:{row.reference}", now, payments.request_entries(row))
        return None

    def _hear(self, news: WithdrawalNews, now: int) -> Refused | None:
        row = self.withdrawals.get((news.account, news.reference))
        if row is None:
            return Refusal.UNKNOWN_WITHDRAWAL, (news.reference,)
        had_ended, was = row.ended_at is not None, row.state
        if (refusal := payments.hear(row, news, now)) is not None:
            return refusal
        self.changed_withdrawals[row.key] = row
        if row.state != was:
            self.events.withdrawal(row, now)
        if row.ended_at is not None and not had_ended:
            self._post(f"{row.state}:{row.account}:{row.reference}", now, payments.end_entries(row))
        return None

    def _limit_credit(self, said: CreditLimit, now: int) -> Refused | None:
        if (wrong := payments.wrong_credit(said)) is not None:
            return wrong
        if said.account not in self.known_accounts:
            return Refusal.UNKNOWN_ACCOUNT, (said.account,)
        was, free = self._credit(said.account), self.cash[said.account]
        more = said.credit - was.credit
        if free + more < 0:
            return Refusal.CREDIT_IN_USE, (said.account, said.credit, was.credit - free)
        if more:
            row = CreditRow(said.account, was.number + 1, said.credit, now)
            self.credits[said.account] = row
            self.new_credits.append(row)
            entries = {ledger.lent(said.account): -more, ledger.cash(said.account): more}
            self._post(f"credit:{row.account}:{row.number}", now, entries)
        return None

    def _credit(self, account: int) -> CreditRow:
        return self.credits.get(account, CreditRow(account, 0, 0, 0))

    def _grant_daily(self, asked: DailyCredits, now: int) -> Refused | None:
        if (wrong := daily_credits.wrong(asked)) is not None:
            return wrong
        if asked.account not in self.known_accounts:
            return Refusal.UNKNOWN_ACCOUNT, (asked.account,)
        row = self.daily_credits.setdefault(asked.account, DailyCreditRow(asked.account, 0, now // units.DAY_MS))
        self._post_credits(row, daily_credits.change(row, asked.daily, now))
        return None

    def _turn_credits(self, row: DailyCreditRow, at: int) -> None:
        """The credits of the days before `at` lapse, and those of its day are granted."""
        if row.day < at // units.DAY_MS:
            self._post_credits(row, daily_credits.turn(row, at // units.DAY_MS))

    def _post_credits(self, row: DailyCreditRow, postings: Sequence[daily_credits.Posting]) -> None:
        for posting in postings:
            self._post(*posting)
        self.changed_daily_credits[row.account] = row
        self._await_midnight(row)

    def _pay_by_credits(self, payer: int, charged: int, at: int) -> int:
        """µ$ of a charge that the payer's credits of the day take over."""
        if (row := self.daily_credits.get(payer)) is None:
            return 0
        self._turn_credits(row, at)
        if taken := daily_credits.take(row, charged, at):
            self.changed_daily_credits[payer] = row
        return taken

    def _await_midnight(self, row: DailyCreditRow) -> None:
        if row.deadline is not None:
            self._expect(0, Due(row.deadline, (-1, 0), (0, ""), payer=row.account))

    def _close(self, lease: LeaseRow, step: Step, reason: CloseReason, at: int) -> None:
        """What is left of its escrow goes back."""
        escrow = lease.in_escrow
        leases.close(lease, step, reason, at)
        self._bill(lease, f"close:{format_lease_id(lease.id)}", at, escrow)
        if due := sla.credit_due(lease):
            self._give_back(lease, due, at)

    def _give_back(self, lease: LeaseRow, due: int, at: int) -> None:
        """Out of what its supplier earned with it; what that has withdrawn already, it owes (below 0)."""
        lease.credited = due
        entries = {ledger.payable(lease.seller): -due, **self._refund(lease, due, lease.charged, at)}
        self._post(f"sla:{format_lease_id(lease.id)}", at, entries, invoices.month_of_charge(at, lease.until))

    def _refund(self, lease: LeaseRow, refund: int, paid: int, at: int) -> Entries:
        """Where a refund goes of what the lease's buyer paid for it in all, µ$: to who paid, to its cash first."""
        if back := daily_credits.returned(refund, paid, lease.by_credits):
            row = self.daily_credits[lease.buyer]
            self._turn_credits(row, at)
            daily_credits.put_back(row, back)
            self.changed_daily_credits[row.account] = row
            self._await_midnight(row)
            lease.by_credits -= back
            self._change_lease(lease)
        return {ledger.cash(lease.buyer): refund - back, ledger.daily_credits(lease.buyer): back}

    def _bill(self, lease: LeaseRow, reference: str, at: int, escrow: int | None = None) -> None:
        """Charges what the lease's cumulative bill has grown by, out of its escrow. Where not only its use has changed,
        `escrow` is what that was, in µ$: what is in it beyond what the lease may still cost goes back."""
        owed = lease.owed
        charged, earned = owed.charged - lease.charged, owed.earned - lease.earned
        lease.charged, lease.earned = owed.charged, owed.earned
        if charged:
            self.spend.charge(lease, lease.class_id, charged, at)
        left_over = 0 if escrow is None else escrow - charged - lease.in_escrow
        if by_credits := self._pay_by_credits(lease.buyer, charged, at):
            lease.by_credits += by_credits
            self._change_lease(lease)
        entries = {
            ledger.escrow(lease.number): -charged - left_over,
            ledger.payable(lease.seller): earned,
            ledger.REVENUE: charged - earned,
            ledger.cash(lease.buyer): left_over + by_credits,
            ledger.daily_credits(lease.buyer): -by_credits,
        }
        month = invoices.month_of_charge(at, lease.until)
        self._charge(lease, owed, month)
        self._post(reference, at, entries, month)

    def _charge(self, lease: LeaseRow, owed: Bill, month: int) -> None:
        lease_id = lease.id
        before, now = self._billed.get(lease_id, _NOT_BILLED), invoices.billed(lease)
        if now != before:
            self._billed[lease_id] = now
            key = lease_id, month
            self.charges[key] = invoices.together(self.charges.get(key), invoices.charge(lease, before, owed, month))
            if (known := self.corrected.get(lease_id)) is not None:
                self.corrected[lease_id] = known._replace(charged_month=max(month, known.charged_month or month))

    # Bookkeeping of the batch.

    def _not_too_late(self, lease: LeaseRow, now: int) -> int:
        return max(now, self.clock.get(lease.partition, 0) - invoices.LATE_MS)

    def _release(self, intent: OrderRow | AmendRow) -> int:
        """What was on its way is answered: what was reserved for it is free; how much, in µ$."""
        reserved, intent.held = intent.held, 0
        if reserved:
            self.released[intent.account] += reserved
            if intent.account in self.cash:
                self.cash[intent.account] += reserved
        return reserved

    def _post(self, reference: str, time: int, entries: Entries, month: int | None = None) -> None:
        made = ledger.transaction(reference, time, entries, month)
        if made is not None:
            self.transactions.append(made)
            for account in self.cash:
                self.cash[account] += made.entries.get(ledger.cash(account), 0)
            for ledger_account, amount in made.entries.items():
                if ledger.is_payable(ledger_account) and (seller := ledger.owner(ledger_account)) in self.receivables:
                    self.receivables[seller] += amount

    def _change(self, order: OrderRow) -> None:
        if order.key not in self.new_orders:
            self.changed_orders[order.key] = order

    def _change_lease(self, lease: LeaseRow) -> None:
        if lease.id not in self.new_leases:
            self.changed_leases[lease.id] = lease
            self.metered_leases.pop(lease.id, None)
        self.events.lease(lease)
        self._watch(lease)

    def _meter_lease(self, lease: LeaseRow) -> None:
        """Likewise, where nothing but its use and its bill has changed."""
        if lease.id not in self.new_leases and lease.id not in self.changed_leases:
            self.metered_leases[lease.id] = lease

    def _watch(self, lease: LeaseRow) -> None:
        if lease.deadline is not None:
            self._expect(lease.partition, Due(lease.deadline, lease.id, (0, "")))

    def _expect(self, partition: int, due: Due) -> None:
        if due.deadline < self._times.get(partition, 0):
            heapq.heappush(self._due[partition], due)


def _is_amend(event: Event) -> bool:
    """Whether the order ended by an amend to no more than what had been filled."""
    return isinstance(event, Cancelled) and event.reason is CancelReason.AMENDED


def _amended_command(order: OrderRow, amend: AmendRow, now: int) -> bytes:
    """The order's command with the amend's terms, "now" in them as the engine understood it."""
    old, command = codec.decode_command(order.command), codec.decode_command(amend.command)
    assert isinstance(old, PlaceAsk | PlaceBid)
    assert isinstance(command, Amend)
    terms = command.terms
    if isinstance(terms, PlaceBid):
        terms = msgspec.structs.replace(terms, starts=units.starts_from(terms.starts, now))
    else:
        terms = msgspec.structs.replace(terms, start=terms.start or units.ceil_grid(now))
    return codec.encode(msgspec.structs.replace(terms, client_order_id=old.client_order_id, not_after=old.not_after))


def _hold(event: Accepted) -> int:
    return units.hold(event.price, event.quantity, event.duration, event.fee_bps)


def _from_cash_to_hold(account: int, amount: int) -> Entries:
    return {ledger.cash(account): -amount, ledger.hold(account): amount}


def _unknown(lease: LeaseId) -> Refused:
    try:
        shown = format_lease_id(lease)
    except (ValueError, IndexError):
        shown = str(lease)
    return Refusal.UNKNOWN_LEASE, (shown,)


def _deposit_reference(deposit: Deposit) -> str:
    return f"deposit:{deposit.reference}"
