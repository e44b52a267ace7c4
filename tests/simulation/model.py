"""The market's rules once more: slow, obvious, and written from the rulebook, not from the engine.

Of all pairs that can trade with the order that moves, the best one does; and again, until none can. Nothing is kept
but lists of orders and of what each ask has sold, and a few words per class and per account.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from schemas.attributes import Accepts, Attributes, ClassSpec, Region, Tier
from schemas.commands import (
    Amend,
    Cancel,
    CancelAll,
    CancelNamed,
    ChangeClass,
    Command,
    CreateClass,
    Extend,
    Halt,
    HaltMode,
    Kill,
    PlaceAsk,
    PlaceBid,
    Prefer,
    RenewDeadMan,
    RetireClass,
    Return,
    SelfTrade,
    SetLimits,
    SetReference,
    SetRules,
    Side,
    Tick,
    TimeInForce,
    Withdraw,
)
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
from schemas.ids import FillId
from schemas.refusals import Refusal
from schemas.units import MAX_FEE_BPS, MAX_PRICE, MAX_QUANTITY, MAX_TIME_MS, MAX_WINDOW_MS, cost

MINUTE = 60_000
MAX_ACCOUNT = 2**63 - 1
"""As far as the log goes; gateways give out fewer."""


@dataclass(eq=False)
class Ask:
    """An ask and all its sales: (start, end, quantity). What came back is a sale of less than nothing."""

    id: int
    place: int
    order: PlaceAsk
    start: int
    sales: list[tuple[int, int, int]] = field(default_factory=list)

    def unsold(self, start: int, end: int) -> int:
        return min(self.unsold_at(moment) for moment in self._moments(start, end))

    def unsold_at(self, moment: int) -> int:
        offered = self.order.quantity if self.start <= moment < self.order.end else 0
        return max(0, offered - self.sold_at(moment))

    def sold(self, start: int, end: int) -> int:
        """The least that is sold at any moment of the window."""
        return min(self.sold_at(moment) for moment in self._moments(start, end))

    def sold_at(self, moment: int) -> int:
        return sum(q for s, e, q in self.sales if s <= moment < e)

    def leaves(self) -> int:
        fillable_until = self.order.end - self.order.min_duration + 1
        return min(fillable_until, self.order.expire_at or fillable_until)

    def notional(self) -> int:
        return cost(self.order.price, self.order.quantity, self.order.end - self.start)

    def _moments(self, start: int, end: int) -> list[int]:
        """All at which what is offered or sold may change within the window."""
        changes = [self.start, self.order.end, *(moment for s, e, _ in self.sales for moment in (s, e))]
        return [start, *(moment for moment in changes if start < moment < end)]


@dataclass(eq=False)
class Bid:
    """A bid and what it still wants."""

    id: int
    place: int
    order: PlaceBid
    starts: list[int]
    left: int

    def leaves(self) -> int:
        fillable_until = max(self.starts, default=-1) + 1
        return min(fillable_until, self.order.expire_at or fillable_until)

    def notional(self) -> int:
        return cost(self.order.price, self.left, self.order.duration)


@dataclass(eq=False)
class Listing:
    """A class and what was said about it."""

    spec: ClassSpec
    fills: int = 0
    halt: HaltMode = HaltMode.NONE
    retired: bool = False
    reference: int | None = None

    def band(self, price: int) -> tuple[int, int]:
        """The lowest and the highest price that the class takes around this one, both on the tick."""
        tick, bps = self.spec.tick, self.spec.band_bps
        highest = self.spec.max_price // tick * tick
        if not bps:
            return tick, highest
        low = (price * (10_000 - bps) + 10_000 * tick - 1) // (10_000 * tick) * tick
        high = price * (10_000 + bps) // (10_000 * tick) * tick
        return max(low, tick), min(high, highest)


def suits(accepts: Accepts, attributes: Attributes, supplier: int) -> bool:
    if accepts.regions and not accepts.regions & (1 << attributes.region):
        return False
    if attributes.delivery < accepts.delivery or attributes.interconnect < accepts.interconnect:
        return False
    if accepts.confidential and not attributes.confidential:
        return False
    if attributes.tier is Tier.INTERRUPTIBLE and not accepts.interruptible:
        return False
    if accepts.only_suppliers and supplier not in accepts.only_suppliers:
        return False
    return supplier not in accepts.not_suppliers


def gives(ask: Ask, bid: Bid, start: int, now: int, left: int | None = None) -> int:
    """GPUs that the pair would trade at this start; 0: it cannot trade then. The rulebook's paragraph, line by line."""
    left = bid.left if left is None else left
    if bid.order.class_id != ask.order.class_id or bid.order.price < ask.order.price:
        return 0
    if not suits(bid.order.accepts, ask.order.attributes, ask.order.account):
        return 0
    if bid.order.duration < ask.order.min_duration or start < now:
        return 0
    end = start + bid.order.duration
    if start < ask.start or end > ask.order.end:
        return 0
    quantity = min(ask.unsold(start, end), left)
    quantity -= quantity % ask.order.lot
    return quantity if quantity >= max(1, min(bid.order.min_fill, left)) else 0


class Model:
    """Folds the same commands as the engine, of one partition whose offsets are its positions."""

    def __init__(self) -> None:
        self.now = 0
        self.classes: dict[str, Listing] = {}
        self.asks: list[Ask] = []
        self.bids: list[Bid] = []
        self.answered: list[tuple[int, str, int, int]] = []
        """(account, client_order_id, not_after, position)."""
        self.returned: list[tuple[FillId, int]] = []
        """(fill, end of the window): of leases that were returned or withdrawn."""
        self.killed: set[int] = set()
        self.dead_men: dict[int, int] = {}
        """Account -> until when it must renew."""
        self.limits: dict[int, SetLimits] = {}
        self.reasons: set[Refusal] = set()
        """All that was wrong with the command just refused; its event names the first by name."""
        self._events: list[Event] = []
        self._index = 0

    def apply(self, position: int, time: int, command: Command) -> list[Event]:
        """The events of one command. A refusal's arguments are left out."""
        self._events = []
        self._index = 0
        self.reasons = set()
        self.now = max(self.now, time)
        self.answered = [known for known in self.answered if self.now <= known[2]]
        self.returned = [known for known in self.returned if self.now < known[1]]
        self._leave_by_time()
        match command:
            case Tick():
                self._events.append(Ticked())
            case CreateClass(spec):
                self._create_class(spec)
            case ChangeClass(spec):
                self._change_class(spec)
            case RetireClass(class_id):
                self._retire_class(class_id)
            case SetReference(class_id, price):
                self._set_reference(class_id, price)
            case Halt(class_id, mode):
                self._halt(class_id, mode)
            case Kill(account, on):
                self._kill(account, on)
            case RenewDeadMan(account, until):
                self._renew_dead_man(account, until)
            case SetLimits():
                self._set_limits(command)
            case SetRules(number):
                self._set_rules(number)
            case Cancel(account, order_id):
                orders = [order for order in self._live() if order.id == order_id and order.order.account == account]
                self._cancel(account, orders)
            case CancelNamed(account, name):
                orders = [o for o in self._live() if (o.order.account, o.order.client_order_id) == (account, name)]
                self._cancel(account, orders)
            case CancelAll(account, class_id):
                self._cancel_all(account, class_id)
            case Return() | Withdraw():
                self._give_back(command)
            case Extend():
                if self._is_new(position, command):
                    self._extend(position, command)
            case Amend(order_id, terms):
                if self._is_new(position, terms):
                    self._amend(position, order_id, terms)
            case PlaceAsk() | PlaceBid():
                if self._is_new(position, command):
                    self._place(position, command)
        return self._events

    def tradable(self) -> Iterator[tuple[Ask, Bid]]:
        """Every pair of two owners that could trade now: there must be none after a command, but in halted classes."""
        for ask in self.asks:
            for bid in self.bids:
                if ask.order.owner != bid.order.owner and any(gives(ask, bid, s, self.now) for s in bid.starts):
                    yield ask, bid

    def halted(self, class_id: str) -> HaltMode:
        return self.classes[class_id].halt

    # Time

    def _leave_by_time(self) -> None:
        """Orders whose time has come leave; where a dead man's comes before it, with him."""
        leaving: list[tuple[int, int, Ask | Bid, bool]] = []
        for order in self._live():
            until = self.dead_men.get(order.order.account, order.leaves())
            dead = until < order.leaves()
            leaving.append((min(until, order.leaves()), order.id, order, dead))
        for at, _, order, dead in sorted(leaving, key=lambda entry: entry[:2]):
            if at > self.now:
                break
            if dead:
                self._end(order, CancelReason.DEAD_MAN)
            else:
                self._events.append(Expired(order.id, order.order.account, self._take_out(order)))
        self.dead_men = {account: until for account, until in self.dead_men.items() if until > self.now}

    def _soon(self) -> int:
        """Now, rounded up to the grid."""
        return (self.now + MINUTE - 1) // MINUTE * MINUTE

    # Classes

    def _create_class(self, spec: ClassSpec) -> None:
        reasons = spec_reasons(spec)
        if spec.class_id in self.classes:
            reasons.add(Refusal.CLASS_EXISTS)
        if self._refused(0, "", reasons):
            return
        self.classes[spec.class_id] = Listing(spec)
        self._events.append(ClassChanged(spec))

    def _change_class(self, spec: ClassSpec) -> None:
        reasons = spec_reasons(spec) | self._class_reasons(spec.class_id)
        listing = self.classes.get(spec.class_id)
        if listing is not None:
            old = listing.spec
            if (old.accelerator, old.memory_gb, old.form_factor) != (
                spec.accelerator,
                spec.memory_gb,
                spec.form_factor,
            ):
                reasons.add(Refusal.CLASS_FIXED)
        if self._refused(0, "", reasons) or listing is None:
            return
        listing.spec = spec
        self._events.append(ClassChanged(spec))

    def _retire_class(self, class_id: str) -> None:
        if self._refused(0, "", self._class_reasons(class_id)):
            return
        self.classes[class_id].retired = True
        self._events.append(ClassRetired(class_id))
        self._end_all([o for o in self._live() if o.order.class_id == class_id], CancelReason.CLASS_RETIRED)

    def _set_reference(self, class_id: str, price: int) -> None:
        reasons = self._class_reasons(class_id)
        if class_id in self.classes and not 1 <= price <= self.classes[class_id].spec.max_price:
            reasons.add(Refusal.PRICE_OUT_OF_RANGE)
        if self._refused(0, "", reasons):
            return
        listing = self.classes[class_id]
        listing.reference = price
        self._events.append(ReferenceChanged(class_id, price, *listing.band(price)))

    def _halt(self, class_id: str, mode: HaltMode) -> None:
        meant = [class_id] if class_id else sorted(name for name, known in self.classes.items() if not known.retired)
        if not meant:
            self._refused(0, "", {Refusal.UNKNOWN_CLASS})
        elif not self._refused(0, "", self._class_reasons(meant[0])):
            for name in meant:
                self._halt_one(name, mode)

    def _halt_one(self, class_id: str, mode: HaltMode) -> None:
        """On resuming every bid, best price first, then oldest place, meets the asks as if it were new."""
        resumes = self.classes[class_id].halt is not HaltMode.NONE and mode is HaltMode.NONE
        self.classes[class_id].halt = mode
        self._events.append(HaltChanged(class_id, mode))
        if resumes:
            waiting = [bid for bid in self.bids if bid.order.class_id == class_id]
            for bid in sorted(waiting, key=lambda bid: (-bid.order.price, bid.place)):
                self._move_bid(bid)

    def _class_reasons(self, class_id: str) -> set[Refusal]:
        if class_id not in self.classes:
            return {Refusal.UNKNOWN_CLASS}
        return {Refusal.CLASS_RETIRED} if self.classes[class_id].retired else set()

    # Accounts

    def _kill(self, account: int, on: bool) -> None:
        if self._refused(account, "", account_reasons(account)):
            return
        self._events.append(KillChanged(account, on))
        self.killed.discard(account)
        if on:
            self.killed.add(account)
            self._end_all([o for o in self._live() if o.order.account == account], CancelReason.KILLED)

    def _renew_dead_man(self, account: int, until: int) -> None:
        reasons = account_reasons(account)
        if not 0 <= until <= MAX_TIME_MS:
            reasons.add(Refusal.TIME_OUT_OF_RANGE)
        elif 0 < until <= self.now:
            reasons.add(Refusal.EXPIRY_PAST)
        if self._refused(account, "", reasons):
            return
        self.dead_men.pop(account, None)
        if until:
            self.dead_men[account] = until
        self._events.append(DeadManChanged(account, until))

    def _set_limits(self, limits: SetLimits) -> None:
        reasons = account_reasons(limits.account)
        in_range = (
            0 <= limits.open_orders <= 10_000 and 0 <= limits.notional <= 2**62 and 0 <= limits.quantity <= MAX_QUANTITY
        )
        if not in_range or (limits.notional > 0 and limits.open_orders == 0):
            reasons.add(Refusal.LIMITS_INVALID)
        if self._refused(limits.account, "", reasons):
            return
        self.limits[limits.account] = limits
        self._events.append(LimitsChanged(limits.account, limits.open_orders, limits.notional, limits.quantity))

    def _set_rules(self, number: int) -> None:
        """There is one set of rules so far; an engine stops at others, and so does the model."""
        if number > 1:
            raise ValueError(f"the model knows rules 1 only, not {number}")
        if not self._refused(0, "", {Refusal.RULES_INVALID} if number < 1 else set()):
            self._events.append(RulesChanged(number))

    def _limit_reasons(self, order: Ask | Bid, amended: Ask | Bid | None = None) -> set[Refusal]:
        """Of a new order, or of an order's new terms: what the account's limits have against it."""
        found = set[Refusal]()
        account = order.order.account
        limits = self.limits.get(account, SetLimits(account))
        others = [other for other in self._live() if other.order.account == account and other is not amended]
        if limits.quantity and order.order.quantity > limits.quantity:
            found.add(Refusal.QUANTITY_ABOVE_LIMIT)
        if limits.open_orders and len(others) >= limits.open_orders and amended is None:
            found.add(Refusal.TOO_MANY_ORDERS)
        if limits.notional and order.notional() + sum(other.notional() for other in others) > limits.notional:
            found.add(Refusal.TOO_MUCH_NOTIONAL)
        return found

    # Cancels

    def _cancel(self, account: int, orders: list[Ask | Bid]) -> None:
        """Cancels the newest of these, unless its class is fully halted."""
        if not orders:
            self._refused(account, "", {Refusal.UNKNOWN_ORDER})
            return
        order = max(orders, key=lambda order: order.place)
        fully_halted = self.halted(order.order.class_id) is HaltMode.FULL
        if not self._refused(account, "", {Refusal.HALTED} if fully_halted else set()):
            self._end(order, CancelReason.REQUESTED)

    def _cancel_all(self, account: int, class_id: str) -> None:
        reasons = account_reasons(account) if account else set()
        if class_id and class_id not in self.classes:
            reasons.add(Refusal.UNKNOWN_CLASS)
        if self._refused(account, "", reasons):
            return
        orders = [
            order
            for order in self._live()
            if not account
            or (order.order.account == account and self.halted(order.order.class_id) is not HaltMode.FULL)
            if order.order.class_id == class_id or not class_id
        ]
        self._events.append(AllCancelled(account, class_id, len(orders)))
        self._end_all(orders, CancelReason.REQUESTED)

    # Leases

    def _give_back(self, command: Return | Withdraw) -> None:
        c = command
        ask = next((ask for ask in self.asks if ask.id == c.ask_id), None)
        start = max(c.start, self._soon())
        reasons = self._lease_reasons(c.fill, ask)
        in_range = 0 <= c.start < c.end <= MAX_TIME_MS and c.start % MINUTE == c.end % MINUTE == 0
        valid = 1 <= c.quantity <= MAX_QUANTITY and in_range and start < c.end
        if not valid or (ask is not None and ask.sold(start, c.end) < c.quantity):
            reasons.add(Refusal.RETURN_INVALID)
        if self._refused(0, "", reasons) or ask is None:
            return
        self.returned.append((c.fill, c.end))
        if isinstance(c, Withdraw):
            self._events.append(Withdrawn(c.fill, ask.id, ask.order.account, c.quantity, start, c.end))
            return
        ask.sales.append((start, c.end, -c.quantity))
        self._events.append(Returned(c.fill, ask.id, ask.order.account, c.quantity, start, c.end))
        if self.halted(ask.order.class_id) is HaltMode.NONE:
            self._move_ask(ask)

    def _lease_reasons(self, fill: FillId, ask: Ask | None) -> set[Refusal]:
        found = set[Refusal]()
        if not (0 <= fill[0] < 2**63 and 0 <= fill[1] < 2**31):
            found.add(Refusal.RETURN_INVALID)
        if any(known == fill for known, _ in self.returned):
            found.add(Refusal.ALREADY_RETURNED)
        if ask is None:
            found.add(Refusal.UNKNOWN_ORDER)
        return found

    def _extend(self, position: int, command: Extend) -> None:
        c = command
        ask = next((ask for ask in self.asks if ask.id == c.ask_id), None)
        reasons = self._extend_reasons(c, ask)
        if self._refused(c.account, c.client_order_id, reasons) or ask is None:
            return
        class_id = ask.order.class_id
        self._events.append(
            Accepted(
                c.account, c.client_order_id, class_id, Side.BID, c.quantity, c.price, c.fee_bps, c.start,
                c.end - c.start,
            )
        )  # fmt: skip
        trades = (
            ask.order.owner != c.owner
            and ask.order.price <= c.price
            and ask.start <= c.start
            and c.end <= ask.order.end
            and c.quantity % ask.order.lot == 0
            and ask.unsold(c.start, c.end) >= c.quantity
        )
        if not trades:
            self._events.append(Cancelled(position, c.account, CancelReason.FOK_UNFILLED, c.quantity))
            return
        ask.sales.append((c.start, c.end, c.quantity))
        self.classes[class_id].fills += 1
        self._events += [
            Fill(
                0, self.classes[class_id].fills, class_id, position, ask.id, c.account, ask.order.account,
                ask.order.price, c.quantity, c.start, c.end, Side.BID, 0, c.fee_bps, ask.order.fee_bps,
                ask.order.attributes,
            ),
            Extension(0, c.fill),
            Filled(position, c.account),
        ]  # fmt: skip

    def _extend_reasons(self, c: Extend, ask: Ask | None) -> set[Refusal]:
        found = self._lease_reasons(c.fill, ask)

        def refuse(when: bool, code: Refusal) -> None:
            if when:
                found.add(code)

        refuse(c.account in self.killed, Refusal.KILLED)
        refuse(not 1 <= c.owner <= MAX_ACCOUNT, Refusal.UNKNOWN_ACCOUNT)
        refuse(not 0 <= c.fee_bps <= MAX_FEE_BPS, Refusal.FEE_OUT_OF_RANGE)
        refuse(not (0 <= c.start <= MAX_TIME_MS and 0 <= c.end <= MAX_TIME_MS), Refusal.TIME_OUT_OF_RANGE)
        refuse(c.start % MINUTE != 0 or c.end % MINUTE != 0, Refusal.WINDOW_OFF_GRID)
        refuse(not 1 <= c.end - c.start <= MAX_WINDOW_MS, Refusal.DURATION_OUT_OF_RANGE)
        refuse(c.start < self.now, Refusal.WINDOW_PAST)
        if ask is not None:
            listing = self.classes[ask.order.class_id]
            refuse(listing.halt is not HaltMode.NONE, Refusal.HALTED)
            refuse(not 1 <= c.quantity <= listing.spec.max_quantity, Refusal.QUANTITY_OUT_OF_RANGE)
            refuse(not 1 <= c.price <= listing.spec.max_price, Refusal.PRICE_OUT_OF_RANGE)
        return found

    # Orders

    def _is_new(self, position: int, c: PlaceAsk | PlaceBid | Extend) -> bool:
        """Whether the command is to be looked at: it can be remembered, is not stale, and no copy of another."""
        if account_reasons(c.account):
            return not self._refused(c.account, c.client_order_id, {Refusal.UNKNOWN_ACCOUNT})
        if not is_name(c.client_order_id):
            return not self._refused(c.account, c.client_order_id, {Refusal.CLIENT_ORDER_ID_INVALID})
        if self.now > c.not_after:
            return not self._refused(c.account, c.client_order_id, {Refusal.STALE})
        for account, client_order_id, _, first in self.answered:
            if (account, client_order_id) == (c.account, c.client_order_id):
                self._events.append(Duplicate(account, client_order_id, first))
                return False
        self.answered.append((c.account, c.client_order_id, c.not_after, position))
        return True

    def _place(self, position: int, command: PlaceAsk | PlaceBid) -> None:
        order = self._order(position, position, command)
        reasons = self._order_reasons(order) | self._limit_reasons(order)
        if self._refused(command.account, command.client_order_id, reasons or self._post_only_reasons(order)):
            return
        if isinstance(order, Ask):
            self._place_ask(order)
        else:
            self._place_bid(order)

    def _order(self, order_id: int, place: int, terms: PlaceAsk | PlaceBid) -> Ask | Bid:
        if isinstance(terms, PlaceAsk):
            return Ask(order_id, place, terms, terms.start or self._soon())
        return Bid(order_id, place, terms, self._starts(terms), terms.quantity)

    def _starts(self, terms: PlaceBid) -> list[int]:
        starts: list[int] = []
        for start in terms.starts:
            resolved = self._soon() if start == 0 else start
            if resolved not in starts:
                starts.append(resolved)
        return starts

    def _order_reasons(self, order: Ask | Bid) -> set[Refusal]:
        """Every reason that there is to refuse the order, whatever else is wrong with it."""
        c, now, found = order.order, self.now, set[Refusal]()
        listing = self.classes.get(c.class_id)
        if listing is None:
            return {Refusal.UNKNOWN_CLASS} | ({Refusal.KILLED} if c.account in self.killed else set())
        spec = listing.spec
        gtd, ioc, fok = (c.time_in_force is t for t in (TimeInForce.GTD, TimeInForce.IOC, TimeInForce.FOK))

        def refuse(when: bool, code: Refusal) -> None:
            if when:
                found.add(code)

        refuse(listing.retired, Refusal.CLASS_RETIRED)
        refuse(listing.halt is not HaltMode.NONE, Refusal.HALTED)
        refuse(c.account in self.killed, Refusal.KILLED)
        refuse(not 1 <= c.price <= spec.max_price, Refusal.PRICE_OUT_OF_RANGE)
        refuse(c.price % spec.tick != 0, Refusal.PRICE_OFF_TICK)
        if spec.band_bps and listing.reference is not None:
            low, high = listing.band(listing.reference)
            refuse(not low <= c.price <= high, Refusal.PRICE_OUTSIDE_BAND)
        refuse(not 1 <= c.quantity <= spec.max_quantity, Refusal.QUANTITY_OUT_OF_RANGE)
        refuse(not 1 <= c.owner <= MAX_ACCOUNT, Refusal.UNKNOWN_ACCOUNT)
        refuse(not 0 <= c.fee_bps <= MAX_FEE_BPS, Refusal.FEE_OUT_OF_RANGE)
        refuse(gtd == (c.expire_at == 0), Refusal.EXPIRY_NOT_ALLOWED)
        refuse(gtd and c.expire_at != 0 and c.expire_at <= now, Refusal.EXPIRY_PAST)
        refuse(not 0 <= c.expire_at <= MAX_TIME_MS, Refusal.TIME_OUT_OF_RANGE)
        refuse(c.post_only and (ioc or fok), Refusal.POST_ONLY_TAKES)
        if isinstance(order, Ask):
            ask, start = order.order, order.start
            refuse(not 1 <= ask.lot <= ask.quantity, Refusal.LOT_OUT_OF_RANGE)
            refuse(ask.lot > 0 and ask.quantity % ask.lot != 0, Refusal.QUANTITY_OFF_LOT)
            refuse(not 0 <= ask.display <= ask.quantity, Refusal.DISPLAY_OUT_OF_RANGE)
            refuse(ask.min_duration % MINUTE != 0 or ask.min_duration < MINUTE, Refusal.MIN_DURATION_OUT_OF_RANGE)
            refuse(ask.min_duration > MAX_WINDOW_MS, Refusal.MIN_DURATION_OUT_OF_RANGE)
            refuse(not (0 <= start <= MAX_TIME_MS and 0 <= ask.end <= MAX_TIME_MS), Refusal.TIME_OUT_OF_RANGE)
            refuse(start % MINUTE != 0 or ask.end % MINUTE != 0, Refusal.WINDOW_OFF_GRID)
            refuse(ask.end - max(start, now) < ask.min_duration, Refusal.WINDOW_EMPTY)
            refuse(ask.end - start > MAX_WINDOW_MS, Refusal.DURATION_OUT_OF_RANGE)
            refuse(ask.end <= now, Refusal.WINDOW_PAST)
            refuse(not 0 <= ask.attributes.notice_minutes <= 7 * 24 * 60, Refusal.ATTRIBUTES_INVALID)
            refuse(fok, Refusal.FOK_ASK)
        else:
            bid, starts, accepts = order.order, order.starts, order.order.accepts
            suppliers = accepts.only_suppliers, accepts.not_suppliers
            refuse(not 1 <= bid.min_fill <= bid.quantity, Refusal.MIN_FILL_OUT_OF_RANGE)
            refuse(bid.duration % MINUTE != 0, Refusal.DURATION_OUT_OF_RANGE)
            refuse(not MINUTE <= bid.duration <= MAX_WINDOW_MS, Refusal.DURATION_OUT_OF_RANGE)
            known_regions = sum(1 << region for region in Region if region is not Region.UNSPECIFIED)
            refuse(accepts.regions & ~known_regions != 0, Refusal.ACCEPTS_INVALID)
            refuse(any(len(named) > 64 for named in suppliers), Refusal.ACCEPTS_INVALID)
            refuse(
                any(not 1 <= account <= MAX_ACCOUNT for named in suppliers for account in named),
                Refusal.ACCEPTS_INVALID,
            )
            refuse(
                len(set(bid.starts)) != len(bid.starts) or not 1 <= len(bid.starts) <= 32,
                Refusal.START_COUNT_OUT_OF_RANGE,
            )
            refuse(any(not 0 <= s <= MAX_TIME_MS for s in starts), Refusal.TIME_OUT_OF_RANGE)
            refuse(any(s % MINUTE for s in starts), Refusal.WINDOW_OFF_GRID)
            refuse(all(s < now for s in starts), Refusal.WINDOW_PAST)
            refuse(bid.market and not (ioc or fok), Refusal.MARKET_RESTS)
            refuse(bid.market and listing.reference is None, Refusal.NO_REFERENCE)
        return found

    def _post_only_reasons(self, order: Ask | Bid) -> set[Refusal]:
        if not order.order.post_only:
            return set()
        pairs = [(order, bid) for bid in self.bids] if isinstance(order, Ask) else [(ask, order) for ask in self.asks]
        would_trade = any(
            ask.order.owner != bid.order.owner and gives(ask, bid, start, self.now)
            for ask, bid in pairs
            for start in bid.starts
        )
        return {Refusal.WOULD_TRADE} if would_trade else set()

    def _place_ask(self, ask: Ask) -> None:
        self._accept(ask.order, Side.ASK, ask.start, ask.order.end - ask.start)
        self.asks.append(ask)
        self._move_ask(ask)
        if ask in self.asks and ask.order.time_in_force is TimeInForce.IOC:
            self._end(ask, CancelReason.IOC_REST)

    def _place_bid(self, bid: Bid) -> None:
        order = bid.order
        self._accept(order, Side.BID, bid.starts[0], order.duration)
        self.bids.append(bid)
        if order.time_in_force is TimeInForce.FOK:
            self._fill_or_kill(bid)
        else:
            self._move_bid(bid)
        if not bid.left:
            self._events.append(Filled(bid.id, order.account))
        elif bid in self.bids and order.time_in_force is TimeInForce.IOC:
            self._end(bid, CancelReason.IOC_REST)
        elif bid in self.bids and order.time_in_force is TimeInForce.FOK:
            self._end(bid, CancelReason.FOK_UNFILLED)

    def _accept(self, order: PlaceAsk | PlaceBid, side: Side, start: int, duration: int) -> None:
        self._events.append(
            Accepted(
                order.account, order.client_order_id, order.class_id, side, order.quantity, order.price,
                order.fee_bps, start, duration,
            )
        )  # fmt: skip

    # Amends

    def _amend(self, position: int, order_id: int, terms: PlaceAsk | PlaceBid) -> None:
        reasons = {Refusal.KILLED} if terms.account in self.killed else set()
        order = next((o for o in self._live() if o.id == order_id and o.order.account == terms.account), None)
        if order is None:
            self._refused(terms.account, terms.client_order_id, reasons | {Refusal.UNKNOWN_ORDER})
            return
        if type(terms) is not type(order.order) or terms.class_id != order.order.class_id:
            reasons.add(Refusal.AMEND_INVALID)
        if self.halted(order.order.class_id) is HaltMode.FULL:
            reasons.add(Refusal.HALTED)
        if self._refused(terms.account, terms.client_order_id, reasons):
            return
        if terms.quantity <= filled(order):
            self._end(order, CancelReason.AMENDED)
        elif self._reduces(order, terms):
            self._reduce(order, terms)
        else:
            self._renew(position, order, terms)

    def _reduces(self, order: Ask | Bid, terms: PlaceAsk | PlaceBid) -> bool:
        """Whether the new terms do nothing but take quantity away."""
        old, new = order.order, self._order(order.id, order.place, terms)
        if terms.time_in_force not in (TimeInForce.GTC, TimeInForce.GTD) or new.leaves() != order.leaves():
            return False
        if terms.quantity > old.quantity or (terms.price, terms.self_trade) != (old.price, old.self_trade):
            return False
        if isinstance(order, Ask) and isinstance(new, Ask):
            return described(new) == described(order)
        if isinstance(order, Bid) and isinstance(new, Bid):
            least, was = new.order.min_fill, order.order.min_fill
            lowered = least == was or was > least == new.order.quantity
            return lowered and not new.order.market and wish(new) == wish(order)
        return False

    def _reduce(self, order: Ask | Bid, terms: PlaceAsk | PlaceBid) -> None:
        """The order keeps its place. A bid meets the asks: its min_fill may have been too much for them."""
        reasons = set[Refusal]()
        if isinstance(terms, PlaceAsk) and terms.lot > terms.quantity:
            reasons.add(Refusal.LOT_OUT_OF_RANGE)
        if isinstance(terms, PlaceAsk) and terms.quantity % terms.lot:
            reasons.add(Refusal.QUANTITY_OFF_LOT)
        if isinstance(terms, PlaceBid) and terms.min_fill > terms.quantity:
            reasons.add(Refusal.MIN_FILL_OUT_OF_RANGE)
        if self._refused(terms.account, terms.client_order_id, reasons):
            return
        if isinstance(order, Ask):
            order.order = replace(order.order, quantity=terms.quantity)
            self._tell_amended(order)
        elif isinstance(terms, PlaceBid):
            order.left = terms.quantity - filled(order)
            order.order = replace(order.order, quantity=terms.quantity, min_fill=terms.min_fill)
            self._tell_amended(order)
            if self.halted(order.order.class_id) is HaltMode.NONE:
                self._move_amended_bid(order)

    def _renew(self, position: int, order: Ask | Bid, terms: PlaceAsk | PlaceBid) -> None:
        """The order gets a new place and is matched as new; what it is for life, has filled and has sold it keeps."""
        old = order.order
        as_stated = self._order(order.id, position, terms)
        reasons = self._order_reasons(as_stated)
        if terms.time_in_force in (TimeInForce.IOC, TimeInForce.FOK) or (isinstance(terms, PlaceBid) and terms.market):
            reasons.add(Refusal.AMEND_INVALID)
        kept = replace(terms, owner=old.owner, fee_bps=old.fee_bps, client_order_id=old.client_order_id)
        new = self._order(order.id, position, kept)
        if isinstance(new, Ask) and isinstance(order, Ask):
            new.sales = order.sales
        elif isinstance(new, Bid):
            new.left = terms.quantity - filled(order)
        reasons |= self._limit_reasons(new, amended=order)
        if self._refused(terms.account, terms.client_order_id, reasons or self._post_only_reasons(new)):
            return
        self._take_out(order)
        if isinstance(new, Ask):
            self.asks.append(new)
            self._tell_amended(new)
            self._move_ask(new)
        else:
            self.bids.append(new)
            self._tell_amended(new)
            self._move_amended_bid(new)

    def _move_amended_bid(self, bid: Bid) -> None:
        self._move_bid(bid)
        if not bid.left:
            self._events.append(Filled(bid.id, bid.order.account))

    def _tell_amended(self, order: Ask | Bid) -> None:
        c = order.order
        if isinstance(order, Ask):
            side, left, start, duration = Side.ASK, c.quantity, order.start, order.order.end - order.start
        else:
            side, left, start, duration = Side.BID, order.left, order.starts[0], order.order.duration
        self._events.append(Amended(order.id, c.account, side, order.place, c.quantity, left, c.price, start, duration))

    # Matching

    def _move_bid(self, bid: Bid) -> None:
        """Trades with the best ask, again and again. What is best: price, place, start; or start first."""
        passed: list[Ask] = []
        while bid in self.bids:
            able = []
            for ask in self.asks:
                for rank, start in enumerate(bid.starts):
                    if ask not in passed and (quantity := gives(ask, bid, start, self.now)):
                        by_price = (ask.order.price, ask.place)
                        key = (rank, *by_price) if bid.order.prefer is Prefer.START else (*by_price, rank)
                        able.append((key, ask, start, quantity))
            if not able:
                return
            _, ask, start, quantity = min(able, key=lambda pair: pair[0])
            if ask.order.owner == bid.order.owner:
                self._self_trade(ask, bid)
                passed.append(ask)
            else:
                self._trade(ask, bid, start, quantity)

    def _move_ask(self, ask: Ask) -> None:
        """Trades with the best bid, again and again; then bids whose rest fell below min_fill look around."""
        passed: list[Bid] = []
        short: list[Bid] = []
        while ask in self.asks:
            able = [
                (bid, start, quantity)
                for bid in sorted(self.bids, key=lambda bid: (-bid.order.price, bid.place))
                if bid not in passed
                for start in bid.starts
                if (quantity := gives(ask, bid, start, self.now))
            ]
            if not able:
                break
            bid, start, quantity = able[0]
            if ask.order.owner == bid.order.owner:
                self._self_trade(ask, bid)
                passed.append(bid)
                continue
            before = bid.left
            self._trade(ask, bid, start, quantity)
            if bid.left < bid.order.min_fill <= before:
                short.append(bid)
        for bid in short:
            self._move_bid(bid)

    def _fill_or_kill(self, bid: Bid) -> None:
        for start in bid.starts:
            wanted, plan = bid.left, list[tuple[Ask, int]]()
            while wanted:
                able = [
                    (ask.order.price, ask.place, ask, quantity)
                    for ask in self.asks
                    if ask.order.owner != bid.order.owner and all(ask is not planned for planned, _ in plan)
                    if (quantity := gives(ask, bid, start, self.now, wanted))
                ]
                if not able:
                    break
                _, _, ask, quantity = min(able, key=lambda pair: pair[:2])
                plan.append((ask, quantity))
                wanted -= quantity
            if not wanted:
                for ask, quantity in plan:
                    self._trade(ask, bid, start, quantity)
                return

    def _trade(self, ask: Ask, bid: Bid, start: int, quantity: int) -> None:
        a, b = ask.order, bid.order
        end = start + b.duration
        ask.sales.append((start, end, quantity))
        bid.left -= quantity
        listing = self.classes[a.class_id]
        listing.fills += 1
        older, taker = (a, Side.BID) if ask.place < bid.place else (b, Side.ASK)
        self._events.append(
            Fill(
                self._index, listing.fills, a.class_id, bid.id, ask.id, b.account, a.account, older.price,
                quantity, start, end, taker, bid.left, b.fee_bps, a.fee_bps, a.attributes,
            )
        )  # fmt: skip
        self._index += 1
        if not bid.left:
            self.bids.remove(bid)

    def _self_trade(self, ask: Ask, bid: Bid) -> None:
        pair: list[Ask | Bid] = [ask, bid]
        older, newer = sorted(pair, key=lambda order: order.place)
        word = newer.order.self_trade
        if word in (SelfTrade.CANCEL_OLDEST, SelfTrade.CANCEL_BOTH):
            self._end(older, CancelReason.SELF_TRADE)
        if word in (SelfTrade.CANCEL_NEWEST, SelfTrade.CANCEL_BOTH):
            self._end(newer, CancelReason.SELF_TRADE)

    # What all of it needs

    def _refused(self, account: int, client_order_id: str, reasons: set[Refusal]) -> bool:
        """Whether there is any reason to refuse; if so, tells it."""
        if reasons:
            self.reasons = reasons
            known = 0 if account_reasons(account) else account
            name = client_order_id if is_name(client_order_id) else ""
            self._events.append(Rejected(known, name, min(reasons)))
        return bool(reasons)

    def _live(self) -> list[Ask | Bid]:
        return [*self.asks, *self.bids]

    def _end_all(self, orders: list[Ask | Bid], reason: CancelReason) -> None:
        for order in sorted(orders, key=lambda order: order.id):
            self._end(order, reason)

    def _end(self, order: Ask | Bid, reason: CancelReason) -> None:
        self._events.append(Cancelled(order.id, order.order.account, reason, self._take_out(order)))

    def _take_out(self, order: Ask | Bid) -> int:
        """What was left of it."""
        if isinstance(order, Ask):
            self.asks.remove(order)
            return order.order.quantity
        self.bids.remove(order)
        return order.left


def filled(order: Ask | Bid) -> int:
    """GPUs that an amend cannot take back: a bid's fills. Of an ask every GPU can be had back, for it is a calendar."""
    return order.order.quantity - order.left if isinstance(order, Bid) else 0


def described(ask: Ask) -> tuple[object, ...]:
    """What an ask says, but for its quantity and price and how long it stands."""
    c = ask.order
    return ask.start, c.end, c.attributes, c.min_duration, c.lot, c.display


def wish(bid: Bid) -> tuple[object, ...]:
    """What a bid says, but for its quantity, min_fill and price and how long it stands. Suppliers are sets."""
    c = bid.order
    accepts = replace(
        c.accepts,
        only_suppliers=tuple(sorted(set(c.accepts.only_suppliers))),
        not_suppliers=tuple(sorted(set(c.accepts.not_suppliers))),
    )
    return bid.starts, c.duration, accepts, c.prefer


def is_name(text: str) -> bool:
    return 1 <= len(text) <= 64 and all(" " <= letter <= "~" for letter in text)


def account_reasons(account: int) -> set[Refusal]:
    return set() if 1 <= account <= MAX_ACCOUNT else {Refusal.UNKNOWN_ACCOUNT}


def spec_reasons(spec: ClassSpec) -> set[Refusal]:
    numbers = (
        1 <= spec.tick <= spec.max_price <= MAX_PRICE
        and 1 <= spec.max_quantity <= MAX_QUANTITY
        and 0 <= spec.band_bps < 10_000
    )
    return set() if numbers else {Refusal.CLASS_INVALID}
