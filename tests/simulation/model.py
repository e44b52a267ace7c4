"""The market's rules once more: slow, obvious, and written from the rulebook, not from the engine.

Of all pairs that can trade with the order that moves, the best one does; and again, until none can. Nothing is kept
but lists of orders and of what each ask has sold.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from schemas.attributes import Accepts, Attributes, ClassSpec, Tier
from schemas.commands import (
    Cancel,
    Command,
    CreateClass,
    PlaceAsk,
    PlaceBid,
    Prefer,
    SelfTrade,
    Side,
    Tick,
    TimeInForce,
)
from schemas.events import (
    Accepted,
    Cancelled,
    CancelReason,
    ClassChanged,
    Duplicate,
    Event,
    Expired,
    Fill,
    Filled,
    Rejected,
    Ticked,
)
from schemas.refusals import Refusal
from schemas.units import MAX_WINDOW_MS

MINUTE = 60_000


@dataclass(eq=False)
class Ask:
    """An ask and all its sales: (start, end, quantity)."""

    id: int
    order: PlaceAsk
    start: int
    sales: list[tuple[int, int, int]] = field(default_factory=list)

    def unsold(self, start: int, end: int) -> int:
        moments = [start, *(s for s, _, _ in self.sales if start < s < end)]
        return min(self.unsold_at(moment) for moment in moments)

    def unsold_at(self, moment: int) -> int:
        return max(0, self.order.quantity - sum(q for s, e, q in self.sales if s <= moment < e))

    def leaves(self) -> int:
        fillable_until = self.order.end - self.order.min_duration + 1
        return min(fillable_until, self.order.expire_at or fillable_until)


@dataclass(eq=False)
class Bid:
    """A bid and what it still wants."""

    id: int
    order: PlaceBid
    starts: list[int]
    left: int

    def leaves(self) -> int:
        fillable_until = max(self.starts) + 1
        return min(fillable_until, self.order.expire_at or fillable_until)


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
        self.specs: dict[str, ClassSpec] = {}
        self.fills: dict[str, int] = {}
        self.asks: list[Ask] = []
        self.bids: list[Bid] = []
        self.answered: list[tuple[int, str, int, int]] = []
        """(account, client_order_id, not_after, position)."""
        self.reasons: set[Refusal] = set()
        """All that was wrong with the order just refused; its event names the first by name."""
        self._events: list[Event] = []
        self._index = 0

    def apply(self, position: int, time: int, command: Command) -> list[Event]:
        """The events of one command. A refusal's arguments are left out."""
        self._events = []
        self._index = 0
        self.reasons = set()
        self.now = max(self.now, time)
        self._expire()
        match command:
            case Tick():
                self._events.append(Ticked())
            case CreateClass(spec):
                if spec.class_id in self.specs:
                    self._events.append(Rejected(0, "", Refusal.CLASS_EXISTS))
                else:
                    self.specs[spec.class_id] = spec
                    self.fills[spec.class_id] = 0
                    self._events.append(ClassChanged(spec))
            case Cancel(account, order_id):
                self._cancel(account, order_id)
            case _:
                self._place(position, command)
        return self._events

    def tradable(self) -> Iterator[tuple[Ask, Bid]]:
        """Every pair of two owners that could trade now: there must be none after a command."""
        for ask in self.asks:
            for bid in self.bids:
                if ask.order.owner != bid.order.owner and any(gives(ask, bid, s, self.now) for s in bid.starts):
                    yield ask, bid

    def _reasons(self, command: PlaceAsk | PlaceBid) -> set[Refusal]:
        """Every reason that there is to refuse the order, whatever else is wrong with it."""
        c, now, found = command, self.now, set[Refusal]()
        spec = self.specs.get(c.class_id)
        if spec is None:
            return {Refusal.UNKNOWN_CLASS}
        gtd, ioc, fok = (c.time_in_force is t for t in (TimeInForce.GTD, TimeInForce.IOC, TimeInForce.FOK))

        def refuse(when: bool, code: Refusal) -> None:
            if when:
                found.add(code)

        refuse(not 1 <= c.price <= spec.max_price, Refusal.PRICE_OUT_OF_RANGE)
        refuse(c.price % spec.tick != 0, Refusal.PRICE_OFF_TICK)
        refuse(not 1 <= c.quantity <= spec.max_quantity, Refusal.QUANTITY_OUT_OF_RANGE)
        refuse(c.owner < 1, Refusal.UNKNOWN_ACCOUNT)
        refuse(not 0 <= c.fee_bps <= 1000, Refusal.FEE_OUT_OF_RANGE)
        refuse(gtd == (c.expire_at == 0), Refusal.EXPIRY_NOT_ALLOWED)
        refuse(gtd and 0 < c.expire_at <= now, Refusal.EXPIRY_PAST)
        refuse(c.post_only and (ioc or fok), Refusal.POST_ONLY_TAKES)
        if isinstance(c, PlaceAsk):
            start = c.start or self._soon()
            refuse(not 1 <= c.lot <= c.quantity, Refusal.LOT_OUT_OF_RANGE)
            refuse(c.lot > 0 and c.quantity % c.lot != 0, Refusal.QUANTITY_OFF_LOT)
            refuse(c.min_duration % MINUTE != 0 or c.min_duration < MINUTE, Refusal.MIN_DURATION_OUT_OF_RANGE)
            refuse(start % MINUTE != 0 or c.end % MINUTE != 0, Refusal.WINDOW_OFF_GRID)
            refuse(c.end - max(start, now) < c.min_duration, Refusal.WINDOW_EMPTY)
            refuse(c.end - start > MAX_WINDOW_MS, Refusal.DURATION_OUT_OF_RANGE)
            refuse(c.end <= now, Refusal.WINDOW_PAST)
            refuse(fok, Refusal.FOK_ASK)
        else:
            starts = self._starts(c)
            refuse(not 1 <= c.min_fill <= c.quantity, Refusal.MIN_FILL_OUT_OF_RANGE)
            refuse(c.duration % MINUTE != 0, Refusal.DURATION_OUT_OF_RANGE)
            refuse(not MINUTE <= c.duration <= MAX_WINDOW_MS, Refusal.DURATION_OUT_OF_RANGE)
            refuse(0 in (*c.accepts.only_suppliers, *c.accepts.not_suppliers), Refusal.ACCEPTS_INVALID)
            refuse(
                len(set(c.starts)) != len(c.starts) or not 1 <= len(c.starts) <= 32, Refusal.START_COUNT_OUT_OF_RANGE
            )
            refuse(any(s % MINUTE for s in starts), Refusal.WINDOW_OFF_GRID)
            refuse(all(s < now for s in starts), Refusal.WINDOW_PAST)
            refuse(c.market and not (ioc or fok), Refusal.MARKET_RESTS)
        return found

    def _place(self, position: int, command: PlaceAsk | PlaceBid) -> None:
        account, client_order_id = command.account, command.client_order_id
        if account < 1:
            self._events.append(Rejected(0, client_order_id, Refusal.UNKNOWN_ACCOUNT))
            return
        if not client_order_id:
            self._reject(command, Refusal.CLIENT_ORDER_ID_INVALID)
            return
        if self.now > command.not_after:
            self._reject(command, Refusal.STALE)
            return
        for known_account, known_id, not_after, first in self.answered:
            if (known_account, known_id) == (account, client_order_id) and self.now <= not_after:
                self._events.append(Duplicate(account, client_order_id, first))
                return
        self.answered.append((account, client_order_id, command.not_after, position))
        self.reasons = self._reasons(command)
        if self.reasons:
            self._reject(command, min(self.reasons))
        elif isinstance(command, PlaceAsk):
            self._place_ask(Ask(position, command, command.start or self._soon()))
        else:
            self._place_bid(Bid(position, command, self._starts(command), command.quantity))

    def _place_ask(self, ask: Ask) -> None:
        order = ask.order
        if order.post_only and any(
            bid.order.owner != order.owner and any(gives(ask, bid, s, self.now) for s in bid.starts)
            for bid in self.bids
        ):
            self._reject(order, Refusal.WOULD_TRADE)
            return
        self._accept(order, Side.ASK, ask.start, order.end - ask.start)
        self.asks.append(ask)
        self._move_ask(ask)
        if ask in self.asks and order.time_in_force is TimeInForce.IOC:
            self._end(ask, CancelReason.IOC_REST)

    def _place_bid(self, bid: Bid) -> None:
        order = bid.order
        if order.post_only and any(
            ask.order.owner != order.owner and any(gives(ask, bid, s, self.now) for s in bid.starts)
            for ask in self.asks
        ):
            self._reject(order, Refusal.WOULD_TRADE)
            return
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

    def _move_bid(self, bid: Bid) -> None:
        """Trades with the best ask, again and again. What is best: price, place, start; or start first."""
        passed: list[Ask] = []
        while bid in self.bids:
            able = []
            for ask in self.asks:
                for rank, start in enumerate(bid.starts):
                    if ask not in passed and (quantity := gives(ask, bid, start, self.now)):
                        by_price = (ask.order.price, ask.id)
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
                for bid in sorted(self.bids, key=lambda bid: (-bid.order.price, bid.id))
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
                    (ask.order.price, ask.id, ask, quantity)
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
        self.fills[a.class_id] += 1
        older, taker = (a, Side.BID) if ask.id < bid.id else (b, Side.ASK)
        self._events.append(
            Fill(
                self._index, self.fills[a.class_id], a.class_id, bid.id, ask.id, b.account, a.account, older.price,
                quantity, start, end, taker, bid.left, b.fee_bps, a.fee_bps, a.attributes,
            )
        )  # fmt: skip
        self._index += 1
        if not bid.left:
            self.bids.remove(bid)

    def _self_trade(self, ask: Ask, bid: Bid) -> None:
        pair: list[Ask | Bid] = [ask, bid]
        older, newer = sorted(pair, key=lambda order: order.id)
        word = newer.order.self_trade
        if word in (SelfTrade.CANCEL_OLDEST, SelfTrade.CANCEL_BOTH):
            self._end(older, CancelReason.SELF_TRADE)
        if word in (SelfTrade.CANCEL_NEWEST, SelfTrade.CANCEL_BOTH):
            self._end(newer, CancelReason.SELF_TRADE)

    def _cancel(self, account: int, order_id: int) -> None:
        for order in self._live():
            if order.id == order_id and order.order.account == account:
                self._end(order, CancelReason.REQUESTED)
                return
        self._events.append(Rejected(account, "", Refusal.UNKNOWN_ORDER))

    def _end(self, order: Ask | Bid, reason: CancelReason) -> None:
        self._events.append(Cancelled(order.id, order.order.account, reason, self._take_out(order)))

    def _expire(self) -> None:
        leaving = [order for order in self._live() if order.leaves() <= self.now]
        for order in sorted(leaving, key=lambda order: (order.leaves(), order.id)):
            self._events.append(Expired(order.id, order.order.account, self._take_out(order)))

    def _live(self) -> list[Ask | Bid]:
        return [*self.asks, *self.bids]

    def _take_out(self, order: Ask | Bid) -> int:
        if isinstance(order, Ask):
            self.asks.remove(order)
            return order.order.quantity
        self.bids.remove(order)
        return order.left

    def _accept(self, order: PlaceAsk | PlaceBid, side: Side, start: int, duration: int) -> None:
        self._events.append(
            Accepted(
                order.account, order.client_order_id, order.class_id, side, order.quantity, order.price,
                order.fee_bps, start, duration,
            )
        )  # fmt: skip

    def _reject(self, command: PlaceAsk | PlaceBid, code: Refusal) -> None:
        self._events.append(Rejected(command.account, command.client_order_id, code))

    def _soon(self) -> int:
        """Now, rounded up to the grid."""
        return (self.now + MINUTE - 1) // MINUTE * MINUTE

    def _starts(self, command: PlaceBid) -> list[int]:
        starts: list[int] = []
        for start in command.starts:
            resolved = self._soon() if start == 0 else start
            if resolved not in starts:
                starts.append(resolved)
        return starts
