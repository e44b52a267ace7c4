"""The fold: a command in, its answer out. All state is a pure function of the commands so far (RULES.md)."""

import gc
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter, itemgetter, ne
from typing import Any, Self

import msgspec
from msgspec.structs import replace

from matching_engine.ahead import MANY, foresee
from matching_engine.asks import cut, is_spent, least_sold, measure, recall, reduce, sold_throughout, take
from matching_engine.book import Book, Known
from matching_engine.checks import (
    MAX_ACCOUNT,
    Refused,
    check_ask,
    check_bid,
    check_class,
    check_extend,
    check_fill,
    check_lease,
    check_limits,
    is_account,
    is_name,
    shown,
)
from matching_engine.columns import OrderColumns, StateColumns, encoded, spread, unpacked
from matching_engine.live import LiveOrders, Order
from matching_engine.matching import MAX_WALK, Walk, fit, taken
from matching_engine.memory import Memory, Party
from matching_engine.orders import Ask, Bid, Limits
from matching_engine.preview import DryWalk, Preview
from matching_engine.restoring import restored_asks, restored_bids, restored_repeats
from matching_engine.rings import Hours
from matching_engine.snapshot import digest
from matching_engine.state import PartyState, State, book_state
from schemas.attributes import Accepts, Attributes
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
    RenewDeadMan,
    RetireClass,
    Return,
    SetLimits,
    SetReference,
    SetRules,
    Side,
    Tick,
    TimeInForce,
    Unreadable,
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
    Execution,
    Expired,
    Extension,
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
from schemas.ids import format_fill_id, format_order_id, position
from schemas.refusals import Refusal
from schemas.units import MAX_FEE_BPS, MAX_TIME_MS, ceil_grid, cost, starts_from

REQUESTED = CancelReason.REQUESTED
GTC, GTD, IOC, FOK = TimeInForce
BID, ASK = Side
TRADES, NO_NEW, FULL = HaltMode

RULES = 1
"""The newest rules that this engine knows (rulebook: SetRules)."""
MAX_TOLD = 5000
"""Orders of whose leaving, by time or by one command for many, one answer tells; the rest the next answers do."""
MAX_REQUEST_ID = 64
"""Characters; a longer one the API does not send, and an answer leaves it out."""
MAX_SHOWN = (1 << 63) - 1
"""The largest amount that a refusal names."""
_ID_BITS = 63
_WHEN_LEFT = itemgetter(0, 1)

Place = PlaceAsk | PlaceBid


class UnknownRulesError(Exception):
    """The log goes on under rules that this engine does not know: it must not guess. Run a newer one."""


class Engine:
    """The matching engine of one partition: `apply` each command in the order of the log."""

    def __init__(self, partition: int) -> None:
        self.position = -1
        """Of the last command that had an answer."""
        self._stamp = 0
        """`now`, as the log said it: one object, however many answers have it."""
        self.now = 0
        """ms: the largest log time so far. Time moves with commands alone."""
        self.books: dict[str, Book] = {}
        self.rules = 1
        self._base = position(partition, 0)
        self._memory = Memory()
        self._live = LiveOrders(self._memory)
        self._names = self._memory.names
        self._parties = self._memory.parties
        self._orders = self._live.orders
        self._untold: deque[Cancelled | Expired] = deque()
        """What has left, and no answer has told yet."""
        self._events: list[Event] = []
        """Of the command that is being applied."""
        self._walk: Walk | None = None
        """Serves one command after the other: to make one takes as long as two fills."""
        self._book: Book | None = None
        """Of the last order: to compare the class costs less than a look-up of a text that has just been decoded."""
        self._known = known = Known()
        # What the last orders stated, as the next ones mostly do: to compare costs less than a look-up.
        self._offered, self._stated = known.offered[0, 0, 0], known.stated[Attributes()]
        self._wanted, self._accepted = known.wanted[(), 0], known.accepted[Accepts()]
        self._does: dict[type, Callable[[int, Any, list[Event]], None]] = {
            CancelNamed: self._cancel_named,
            CancelAll: self._cancel_all,
            Amend: self._amend,
            Return: self._return,
            Withdraw: self._withdraw,
            Extend: self._extend,
            CreateClass: self._create_class,
            ChangeClass: self._change_class,
            RetireClass: self._retire_class,
            SetReference: self._set_reference,
            Halt: self._halt,
            Kill: self._kill,
            RenewDeadMan: self._renew_dead_man,
            SetLimits: self._set_limits,
            SetRules: self._set_rules,
            Tick: self._tick,
            Unreadable: self._refuse_unreadable,
        }

    def apply(self, offset: int, time: int, command: Command | Unreadable) -> Execution:
        """The answer to the command at `offset`, which the log stamped with `time` in ms.

        Never raises on what a command says: whatever it is, the answer has at least one event. The one exception is
        UnknownRulesError.
        """
        events, now = self._events, time
        if now > self.now:
            self.now, self._stamp = now, time
            if now >= self._live.due:
                self._leave_by_time()
            if now >= self._names.due or now >= self._memory.due:
                self._memory.forget_before(now)
        if len(self._untold):  # which C need not ask whether it is true
            self._tell(events)
        this = self._base | offset if self._base else offset  # in partition 0 it is the very object
        prev = self.position
        assert this > prev, "commands come in the order of the log"
        kind = type(command)
        told: Any = command
        if kind is PlaceBid:  # the usual ones without a look-up
            bid = told
            request_id = bid.request_id
            self._place_bid(this, bid, events)
        elif kind is PlaceAsk:
            ask = told
            request_id = ask.request_id
            self._place_ask(this, ask, events)
        elif kind is Cancel:
            cancel = told
            request_id = cancel.request_id
            self._cancel(this, cancel, events)
        else:
            request_id = told.terms.request_id if kind is Amend else getattr(told, "request_id", "")
            self._does[kind](this, command, events)
        if len(request_id) > MAX_REQUEST_ID:
            request_id = ""
        self.position = this
        return Execution(this, prev, self._stamp, taken(events), request_id)

    def expect(self, commands: Sequence[Command | Unreadable]) -> None:
        """These are applied next; of more than `AT_ONCE` only the first count. Changes nothing, and may be left out:
        the compiled core brings what they name to the processor's caches.
        """
        if len(self._orders) >= MANY:
            foresee(self._orders, self.books, self.position + 1, commands)

    def preview(self, command: Place) -> Preview:
        """What the order would be answered if it came next, at this very time. Nothing changes; its client_order_id and
        not_after are not looked at.
        """
        events: list[Event] = []
        this, now, book = max(self.position, self._base) + 1, self.now, self.books.get(command.class_id)
        if book is None or book.closed:
            _reject(command, self._closed(command, book), events)
            return Preview(tuple(events))
        order: Order
        if isinstance(command, PlaceAsk):
            start = self._start(command)
            refused = self._check_ask(book, command, start, None)
            times = self._known.offered[start, command.end, command.min_duration]
            order = self._new_ask(this, this, book, command, times, self._known.stated[command.attributes])
        else:
            starts = self._starts(command)
            refused = self._check_bid(book, command, starts, None)
            wanted = self._known.wanted[starts, command.duration]
            order = self._new_bid(this, this, book, command, wanted, self._known.accepted[command.accepts])
        if refused is None and command.post_only:
            other = DryWalk(book, now, []).taken_by(order)
            refused = None if other is None else (Refusal.WOULD_TRADE, (format_order_id(other),))
        if refused is not None:
            _reject(command, refused, events)
            return Preview(tuple(events))
        as_sent = replace(order)
        events.append(_accepted(order, command.class_id))
        force, walk = command.time_in_force, DryWalk(book, now, events)
        if isinstance(order, Ask):
            walk.meet_bids(order)
        elif force is FOK:
            walk.fill_or_kill(order)
        else:
            walk.meet_asks(order)
        if isinstance(order, Bid) and not order.left:
            events.append(Filled(this, command.account))
        if order.live and (force is IOC or force is FOK):
            order.live = False
            reason = CancelReason.IOC_REST if force is IOC else CancelReason.FOK_UNFILLED
            events.append(Cancelled(this, command.account, reason, order.left))
        return Preview(tuple(events), order, as_sent)

    def order(self, order_id: int) -> Order | None:
        """The live order with this id."""
        return self._live.find(order_id)

    def party(self, account: int) -> Party | None:
        """What is known of the account; None where nothing is."""
        return self._parties.get(account)

    def state(self) -> State:
        """All that later answers depend on, in a canonical form; nothing that can be rebuilt from it."""
        now = self.now
        return State(
            rules=self.rules,
            now=now,
            position=self.position,
            books=[book_state(book, now) for _, book in sorted(self.books.items())],
            parties=[
                PartyState(account, party.killed, party.limits, party.dead_man)
                for account, party in sorted(self._parties.items())
                if party.killed or party.limits or party.dead_man
            ],
            repeats=self._memory.repeats(now),
            returned=self._memory.returns(now),
            untold=list(self._untold),
        )

    def state_hash(self) -> bytes:
        """BLAKE2b-256 over the canonical bytes of the state: equal states, equal hashes, on any machine."""
        return digest(encoded(self.state()))

    @classmethod
    def from_state(cls, partition: int, state: StateColumns) -> Self:
        """The engine that goes on from that state exactly as the one that was there. Raises UnknownRulesError."""
        if state.rules > RULES:
            raise UnknownRulesError(
                f"the state is under rules {state.rules}, and this engine knows rules up to {RULES}"
            )
        engine = cls(partition)
        collecting = gc.isenabled()
        gc.disable()  # all that is made here stays: to look through it again and again took a fifth of the time
        try:
            engine._restore(state)
        finally:
            if collecting:
                gc.enable()
        return engine

    def _restore(self, state: StateColumns) -> None:
        self.rules, self.now, self.position, self._stamp = state.rules, state.now, state.position, state.now
        for known in state.parties:
            party = self._memory.party(known.account)
            party.killed, party.limits = known.killed, known.limits
            party.bound = party.killed or party.limits is not None
            if known.dead_man:
                self._live.set_dead_man(known.account, known.dead_man)
        self._untold.extend(state.untold)
        for repeats in state.repeats:
            keys, answers = restored_repeats(repeats)
            self._memory.fill(keys, answers)
        self._memory.fill_returned(state.returned)
        self._live.begin(sum(some.count for book in state.books for some in (*book.asks, *book.bids)))
        for stored in state.books:
            book = self.books[stored.spec.class_id] = Book(stored.spec)
            book.fills, book.reference = stored.fills, stored.reference
            book.close(stored.halt, stored.retired)
            for some in stored.asks:
                asks = restored_asks(book, self._known, some)
                book.fill_asks(asks)
                self._restored(asks, some)
            for others in stored.bids:
                bids = restored_bids(book, self._known, others)
                book.bid_queue.fill(bids)
                self._restored(bids, others)
        self._live.filled()

    def _restored(self, orders: Sequence[Order], stored: OrderColumns) -> None:
        """They are in their book, and can be found from now on."""
        count, accounts, leaves = stored.count, stored.accounts, stored.leaves
        parties = spread([self._memory.party(account) for account in accounts.values], accounts.numbers, count)
        self._memory.fill_placed(orders, parties, unpacked(stored.known_until, count))
        self._live.fill(orders, parties, unpacked(stored.by_id, count), spread(leaves.values, leaves.numbers, count))

    # Orders.

    def _place_ask(self, this: int, command: PlaceAsk, events: list[Event]) -> None:
        account = command.account
        party = self._first_time(this, command, account, command.client_order_id, command.not_after, events)
        if party is None:
            return
        class_id, book = command.class_id, self._book
        if book is None or book.class_id != class_id:
            book = self._book = self.books.get(class_id)
        if book is None or book.closed:
            _reject(command, self._closed(command, book), events)
            return
        spec, times, stated = book.spec, self._offered, self._stated
        if not (0 < command.start == times[0] and command.end == times[1] and command.min_duration == times[2]):
            times = self._offered = self._known.offered[self._start(command), command.end, command.min_duration]
        if ne(stated[0], command.attributes):
            stated = self._stated = self._known.stated[command.attributes]
        if not (  # the usual ask is taken at one look; of any other the checks say what is wrong, in their order
            times[5]
            and times[4] > self.now
            and 1 <= command.price <= spec.max_price
            and not command.price % spec.tick
            and command.lot == 1 <= command.quantity <= spec.max_quantity
            and is_account(command.owner)
            and 0 <= command.fee_bps <= MAX_FEE_BPS
            and command.time_in_force is GTC
            and not command.expire_at
            and not command.display
            and stated[2]
            and not spec.band_bps
            and not party.bound
        ):
            refused = self._check_ask(book, command, self._start(command), None)
            if refused is not None:
                _reject(command, refused, events)
                return
        ask = self._new_ask(this, this, book, command, times, stated)
        crossed = book.bid_queue.has_within(command.price)
        if crossed and command.post_only and (refused := self._would_trade(ask)) is not None:
            _reject(command, refused, events)
            return
        events.append(
            Accepted(
                account,
                ask.client_order_id,
                command.class_id,
                ASK,
                ask.quantity,
                ask.price,
                ask.fee_bps,
                ask.start,
                times[3],
            )
        )
        if crossed:
            self._meet_bids(ask, events)
            if not ask.live:
                return
        if command.time_in_force is IOC:
            events.append(Cancelled(this, account, CancelReason.IOC_REST, ask.quantity))
            return
        if ask.free < ask.lot:  # all is sold
            book.spent[this] = ask
        elif ask.calendar is None:
            book.ask_queue.add(ask)
        else:
            book.add(ask)
        self._live.keep(ask, party)

    def _place_bid(self, this: int, command: PlaceBid, events: list[Event]) -> None:
        account = command.account
        party = self._first_time(this, command, account, command.client_order_id, command.not_after, events)
        if party is None:
            return
        class_id, book = command.class_id, self._book
        if book is None or book.class_id != class_id:
            book = self._book = self.books.get(class_id)
        if book is None or book.closed:
            _reject(command, self._closed(command, book), events)
            return
        starts = command.starts if 0 not in command.starts else self._starts(command)
        spec, times, accepted = book.spec, self._wanted, self._accepted
        if not (command.duration == times[1] and starts == times[0]):
            times = self._wanted = self._known.times(starts, command.duration)
        if ne(accepted[0], command.accepts):
            accepted = self._accepted = self._known.accepted[command.accepts]
        if not (  # as for an ask
            times[4]
            and times[2] > self.now
            and starts is command.starts  # so that the checks of those given are the checks of these
            and accepted[2]
            and 1 <= command.price <= spec.max_price
            and not command.price % spec.tick
            and 1 <= command.min_fill <= command.quantity <= spec.max_quantity
            and is_account(command.owner)
            and 0 <= command.fee_bps <= MAX_FEE_BPS
            and command.time_in_force is GTC
            and not command.expire_at
            and not command.market
            and not spec.band_bps
            and not party.bound
        ):
            refused = self._check_bid(book, command, starts, None)
            if refused is not None:
                _reject(command, refused, events)
                return
        bid = self._new_bid(this, this, book, command, times, accepted)
        crossed = book.ask_queue.has_within(command.price)
        if crossed and command.post_only and (refused := self._would_trade(bid)) is not None:
            _reject(command, refused, events)
            return
        events.append(
            Accepted(
                account,
                bid.client_order_id,
                command.class_id,
                BID,
                bid.quantity,
                bid.price,
                bid.fee_bps,
                bid.starts[0],
                bid.duration,
            )
        )
        time_in_force = command.time_in_force
        if crossed:
            self._meet_asks(bid, events, fok=time_in_force is FOK)
            if not bid.left:
                events.append(Filled(this, account))
            if not bid.live:
                return
        if time_in_force is IOC or time_in_force is FOK:
            reason = CancelReason.IOC_REST if time_in_force is IOC else CancelReason.FOK_UNFILLED
            events.append(Cancelled(this, account, reason, bid.left))
        else:
            book.bid_queue.add(bid)
            self._live.keep(bid, party)

    def _amend(self, this: int, command: Amend, events: list[Event]) -> None:
        terms = command.terms
        party = self._first_time(this, terms, terms.account, terms.client_order_id, terms.not_after, events)
        if party is None:
            return
        if party.killed:
            _reject(terms, (Refusal.KILLED, (terms.account,)), events)
            return
        order = self._live.find(command.order_id)
        if order is None or order.account != terms.account:
            _reject(terms, (Refusal.UNKNOWN_ORDER, (_shown_order(command.order_id),)), events)
            return
        side_differs = isinstance(order, Ask) != isinstance(terms, PlaceAsk)
        if side_differs or terms.class_id != order.book.spec.class_id:
            named = ("side", "an ask stays an ask, and a bid a bid")
            _reject(terms, (Refusal.AMEND_INVALID, named if side_differs else ("class", "place another order")), events)
            return
        if order.book.halt is FULL:
            _reject(terms, (Refusal.HALTED, (terms.class_id,)), events)
            return
        if terms.quantity <= (order.quantity - order.left if isinstance(order, Bid) else 0):
            self._remove(order)
            events.append(Cancelled(order.id, order.account, CancelReason.AMENDED, order.left))
            return
        # What is the order's for life.
        terms = msgspec.structs.replace(
            terms, owner=order.owner, fee_bps=order.fee_bps, client_order_id=order.client_order_id
        )
        if isinstance(order, Bid):
            assert isinstance(terms, PlaceBid)
            refused = self._amend_bid(this, order, terms, events)
        else:
            assert isinstance(terms, PlaceAsk)
            refused = self._amend_ask(this, order, terms, events)
        if refused is not None:
            _reject(command.terms, refused, events)

    def _amend_ask(self, this: int, ask: Ask, terms: PlaceAsk, events: list[Event]) -> Refused | None:
        book = ask.book
        start = self._start(terms)
        if _reduces_ask(ask, terms, start):
            if terms.quantity < ask.lot:
                return Refusal.LOT_OUT_OF_RANGE, (ask.lot, terms.quantity)
            if terms.quantity % ask.lot:
                return Refusal.QUANTITY_OFF_LOT, (terms.quantity, ask.lot)
            reduce(ask, terms.quantity)
            if ask.chunk is not None and is_spent(ask):
                book.set_aside(ask)
                self._live.set_aside(ask)
            events.append(_amended(ask))
            return None
        refused = self._check_new_terms(book, terms) or self._check_ask(book, terms, start, ask)
        if refused is not None:
            return refused
        times = self._known.offered[start, terms.end, terms.min_duration]
        amended = self._new_ask(ask.id, this, book, terms, times, self._known.stated[terms.attributes])
        if sold_throughout(ask) and (ask.start, ask.end) != (amended.start, amended.end):
            cut(ask)
        if (calendar := ask.calendar) is not None:
            recall(amended, calendar.times, calendar.sold)
        amended.free -= sold_throughout(ask)  # which `measure` puts right where there is a calendar
        measure(amended)
        if terms.post_only and (refused := self._would_trade(amended)) is not None:
            return refused
        self._remove(ask)
        events.append(_amended(amended))
        self._meet_bids(amended, events)
        if amended.live:
            book.add(amended)
            self._live.keep_amended(amended)
        return None

    def _amend_bid(self, this: int, bid: Bid, terms: PlaceBid, events: list[Event]) -> Refused | None:
        book, filled = bid.book, bid.quantity - bid.left
        starts = self._starts(terms)
        if _reduces_bid(bid, terms, starts):
            if terms.min_fill > terms.quantity:
                return Refusal.MIN_FILL_OUT_OF_RANGE, (terms.min_fill, terms.quantity)
            bid.quantity, bid.left, bid.min_fill = terms.quantity, terms.quantity - filled, terms.min_fill
            assert bid.chunk is not None
            bid.chunk.widen(bid)
            events.append(_amended(bid))
            if book.halt is TRADES:
                self._meet_asks(bid, events)
                if not bid.left:
                    events.append(Filled(bid.id, bid.account))
            return None
        refused = self._check_new_terms(book, terms) or self._check_bid(book, terms, starts, bid)
        if refused is not None:
            return refused
        times, accepted = self._known.wanted[starts, terms.duration], self._known.accepted[terms.accepts]
        amended = self._new_bid(bid.id, this, book, terms, times, accepted)
        amended.left = amended.quantity - filled
        if terms.post_only and (refused := self._would_trade(amended)) is not None:
            return refused
        self._remove(bid)
        events.append(_amended(amended))
        self._meet_asks(amended, events)
        if not amended.left:
            events.append(Filled(amended.id, amended.account))
        elif amended.live:
            book.add(amended)
            self._live.keep_amended(amended)
        return None

    def _check_new_terms(self, book: Book, terms: Place) -> Refused | None:
        """What an amend that does more than reduce cannot be."""
        if book.halt is not TRADES:
            return Refusal.HALTED, (book.spec.class_id,)
        if terms.time_in_force is IOC or terms.time_in_force is FOK:
            return Refusal.AMEND_INVALID, ("time_in_force", "it rests, so it is gtc or gtd")
        if isinstance(terms, PlaceBid) and terms.market:
            return Refusal.AMEND_INVALID, ("market", "it rests, so it has a limit")
        return None

    def _extend(self, this: int, command: Extend, events: list[Event]) -> None:
        party = self._first_time(this, command, command.account, command.client_order_id, command.not_after, events)
        if party is None:
            return
        ask = self._live.find(command.ask_id)
        refused = self._check_extend(command, ask, party)
        if refused is not None or not isinstance(ask, Ask):
            _reject(command, refused, events)
            return
        book, account, quantity = ask.book, command.account, command.quantity
        start, duration = command.start, command.end - command.start
        class_id = book.spec.class_id
        events.append(
            Accepted(
                account,
                command.client_order_id,
                class_id,
                BID,
                quantity,
                command.price,
                command.fee_bps,
                start,
                duration,
            )
        )
        able = ask.owner != command.owner and ask.price <= command.price
        if not able or fit(ask, (start,), duration, quantity, quantity)[1] < quantity:
            events.append(Cancelled(this, account, CancelReason.FOK_UNFILLED, quantity))
            return
        terms = PlaceBid(
            class_id,
            account,
            command.owner,
            command.client_order_id,
            command.not_after,
            quantity,
            command.price,
            duration,
            (start,),
            Accepts(),
            quantity,
            fee_bps=command.fee_bps,
        )
        times, accepted = self._known.wanted[(start,), duration], self._known.accepted[terms.accepts]
        bid = self._new_bid(this, this, book, terms, times, accepted)
        walk = Walk(book, self.now, events)
        walk.fill(ask, bid, start, quantity)
        self._live.drop(walk.done)
        events += [Extension(0, command.fill), Filled(this, account)]

    def _check_extend(self, command: Extend, ask: Order | None, party: Party) -> Refused | None:
        if party.killed:
            return Refusal.KILLED, (command.account,)
        if (wrong := check_fill(command.fill)) is not None:
            return wrong
        if self._memory.came_back(command.fill, self.now):
            return Refusal.ALREADY_RETURNED, (format_fill_id(command.fill),)
        if not isinstance(ask, Ask):
            return Refusal.UNKNOWN_ORDER, (_shown_order(command.ask_id),)
        if ask.book.halt is not TRADES:
            return Refusal.HALTED, (ask.book.spec.class_id,)
        return check_extend(command, ask.book.spec, self.now)

    def _cancel(self, this: int, command: Cancel, events: list[Event]) -> None:
        account, order_id = command.account, command.order_id
        order = self._orders.get(order_id)
        if order is None:  # which is sold out, or gone
            order = self._live.find(order_id)
        if order is None or order.account != account:
            _refuse(account, (Refusal.UNKNOWN_ORDER, (_shown_order(order_id),)), events)
        else:
            self._cancel_order(order, events)

    def _cancel_named(self, this: int, command: CancelNamed, events: list[Event]) -> None:
        account, name = command.account, command.client_order_id
        named = (order for order in self._live.of(account) if order.client_order_id == name)
        order = max(named, key=attrgetter("place"), default=None)
        if order is None:
            _refuse(account, (Refusal.UNKNOWN_ORDER, (shown(name),)), events)
        else:
            self._cancel_order(order, events)

    def _cancel_order(self, order: Order, events: list[Event]) -> None:
        book = order.book
        if book.halt is FULL:
            _refuse(order.account, (Refusal.HALTED, (book.spec.class_id,)), events)
            return
        self._remove(order)
        left = order.quantity
        if type(order) is Bid:  # `isinstance` looks twice where it is not
            bid = order
            left = bid.left
        events.append(Cancelled(order.id, order.account, REQUESTED, left))

    def _cancel_all(self, this: int, command: CancelAll, events: list[Event]) -> None:
        account, class_id = command.account, command.class_id
        if not 0 <= account <= MAX_ACCOUNT:
            _refuse(0, (Refusal.UNKNOWN_ACCOUNT, (account,)), events)
            return
        if class_id and class_id not in self.books:
            _refuse(account, (Refusal.UNKNOWN_CLASS, (shown(class_id),)), events)
            return
        orders: Iterable[Order] = self._live.of(account) if account else self._live.all()
        ended = [
            order
            for order in orders
            if (not class_id or order.book.spec.class_id == class_id) and not (account and order.book.halt is FULL)
        ]
        events.append(AllCancelled(account, class_id, len(ended)))
        self._cancel_many(ended, CancelReason.REQUESTED, events)

    # Leases that change (from settlement).

    def _return(self, this: int, command: Return, events: list[Event]) -> None:
        found = self._lease_of(command)
        if not isinstance(found, Ask):
            _refuse(0, found, events)
            return
        ask, quantity, end = found, command.quantity, command.end
        start = max(command.start, ceil_grid(self.now))
        self._forget_lease(command)
        events.append(Returned(command.fill, ask.id, ask.account, quantity, start, end))
        take(ask, start, end, -quantity)
        book = ask.book
        if ask.chunk is not None:
            ask.chunk.widen(ask)
        elif not is_spent(ask):
            del book.spent[ask.id]
            book.add(ask)
            self._live.bring_back(ask)
        if book.halt is TRADES:
            self._meet_bids(ask, events)

    def _withdraw(self, this: int, command: Withdraw, events: list[Event]) -> None:
        found = self._lease_of(command)
        if not isinstance(found, Ask):
            _refuse(0, found, events)
            return
        # Less is offered and less is sold by the same amount: what is unsold stays as it is (RULES.md).
        self._forget_lease(command)
        start = max(command.start, ceil_grid(self.now))
        events.append(Withdrawn(command.fill, found.id, found.account, command.quantity, start, command.end))

    def _lease_of(self, command: Return | Withdraw) -> Ask | Refused:
        """The ask of a lease that ends before its time."""
        wrong = check_lease(command)
        if wrong is not None:
            return wrong
        if self._memory.came_back(command.fill, self.now):
            return Refusal.ALREADY_RETURNED, (format_fill_id(command.fill),)
        ask = self._live.find(command.ask_id)
        if not isinstance(ask, Ask):
            return Refusal.UNKNOWN_ORDER, (_shown_order(command.ask_id),)
        start = max(command.start, ceil_grid(self.now))
        if start >= command.end:
            return Refusal.RETURN_INVALID, ("end", "it is past")
        if least_sold(ask, start, command.end) < command.quantity:
            return Refusal.RETURN_INVALID, ("quantity", "so much was not sold of the ask over that window")
        return ask

    def _forget_lease(self, command: Return | Withdraw) -> None:
        """A second command for the same lease changes nothing, for as long as its window runs."""
        self._memory.return_lease(command.fill, command.end)

    # Classes.

    def _create_class(self, this: int, command: CreateClass, events: list[Event]) -> None:
        spec = command.spec
        refused = check_class(spec)
        if refused is None and spec.class_id in self.books:
            refused = Refusal.CLASS_EXISTS, (spec.class_id,)
        if refused is not None:
            _refuse(0, refused, events)
            return
        self.books[spec.class_id] = Book(spec)
        events.append(ClassChanged(spec))

    def _change_class(self, this: int, command: ChangeClass, events: list[Event]) -> None:
        spec = command.spec
        book = self._there(spec.class_id, events)
        if book is None:
            return
        refused = check_class(spec)
        for name in ("accelerator", "memory_gb", "form_factor"):
            if refused is None and getattr(spec, name) != getattr(book.spec, name):
                refused = Refusal.CLASS_FIXED, (spec.class_id, name)
        if refused is not None:
            _refuse(0, refused, events)
            return
        book.spec = spec
        events.append(ClassChanged(spec))

    def _retire_class(self, this: int, command: RetireClass, events: list[Event]) -> None:
        book = self._there(command.class_id, events)
        if book is not None:
            book.close(book.halt, retired=True)
            events.append(ClassRetired(command.class_id))
            self._cancel_many(self._by_id([*book.asks(), *book.bids()]), CancelReason.CLASS_RETIRED, events)

    def _set_reference(self, this: int, command: SetReference, events: list[Event]) -> None:
        book = self._there(command.class_id, events)
        if book is None:
            return
        spec = book.spec
        if not 1 <= command.price <= spec.max_price:
            args = (command.price, spec.max_price, spec.class_id, spec.tick)
            _refuse(0, (Refusal.PRICE_OUT_OF_RANGE, args), events)
            return
        book.reference = command.price
        events.append(ReferenceChanged(spec.class_id, command.price, *book.band()))

    def _halt(self, this: int, command: Halt, events: list[Event]) -> None:
        if command.class_id:
            book = self._there(command.class_id, events)
            if book is None:
                return
            books = [book]
        else:
            books = [book for _, book in sorted(self.books.items()) if not book.retired]
            if not books:
                _refuse(0, (Refusal.UNKNOWN_CLASS, ("",)), events)
                return
        fills, most = 0, len(events) + MAX_WALK
        for book in books:
            was = book.halt
            book.close(command.mode, retired=False)
            events.append(HaltChanged(book.spec.class_id, command.mode))
            if was is not TRADES and command.mode is TRADES:
                walk = Walk(book, self.now, events, first_index=fills, most=most, resuming=True)
                before = book.fills
                walk.meet_all_bids()
                fills += book.fills - before
                self._live.drop(walk.done)
                if walk.full:
                    book.close(was, retired=False)
                    events.append(HaltChanged(book.spec.class_id, was))

    def _there(self, class_id: str, events: list[Event]) -> Book | None:
        """The book of a class that can still be changed; else a refusal."""
        book = self.books.get(class_id)
        if book is None:
            _refuse(0, (Refusal.UNKNOWN_CLASS, (shown(class_id),)), events)
        elif book.retired:
            _refuse(0, (Refusal.CLASS_RETIRED, (class_id,)), events)
        else:
            return book
        return None

    # Accounts.

    def _kill(self, this: int, command: Kill, events: list[Event]) -> None:
        if (party := self._named_party(command.account, events)) is not None:
            party.killed = command.on
            party.bound = party.killed or party.limits is not None
            events.append(KillChanged(command.account, command.on))
            if command.on:
                self._cancel_many(self._live.of(command.account), CancelReason.KILLED, events)

    def _renew_dead_man(self, this: int, command: RenewDeadMan, events: list[Event]) -> None:
        account, until = command.account, command.until
        if (party := self._named_party(account, events)) is None:
            return
        if not 0 <= until <= MAX_TIME_MS:
            _refuse(account, (Refusal.TIME_OUT_OF_RANGE, ("until", until)), events)
        elif 0 < until <= self.now:
            _refuse(account, (Refusal.EXPIRY_PAST, (until, self.now)), events)
        else:
            party.dead_man = 0
            if until:
                self._live.set_dead_man(account, until)
            events.append(DeadManChanged(account, until))

    def _set_limits(self, this: int, command: SetLimits, events: list[Event]) -> None:
        if (party := self._named_party(command.account, events)) is None:
            return
        if (refused := check_limits(command)) is not None:
            _refuse(command.account, refused, events)
            return
        limits = Limits(command.account, command.open_orders, command.notional, command.quantity)
        party.limits = limits if limits != Limits(command.account) else None
        party.bound = party.killed or party.limits is not None
        events.append(LimitsChanged(command.account, command.open_orders, command.notional, command.quantity))

    def _named_party(self, account: int, events: list[Event]) -> Party | None:
        if 1 <= account <= MAX_ACCOUNT:
            return self._memory.party(account)
        _refuse(0, (Refusal.UNKNOWN_ACCOUNT, (account,)), events)
        return None

    def _set_rules(self, this: int, command: SetRules, events: list[Event]) -> None:
        if command.number > RULES:
            raise UnknownRulesError(
                f"from command {this} on rules {command.number} hold, and this engine knows rules up to {RULES}"
            )
        if command.number < self.rules:
            _refuse(0, (Refusal.RULES_INVALID, (command.number, self.rules)), events)
            return
        self.rules = command.number
        events.append(RulesChanged(command.number))

    def _tick(self, this: int, command: Tick, events: list[Event]) -> None:
        events.append(Ticked())

    def _refuse_unreadable(self, this: int, command: Unreadable, events: list[Event]) -> None:
        _refuse(0, (Refusal.UNREADABLE, (command.reason,)), events)

    # What these stand on.

    def _first_time(
        self,
        this: int,
        command: Place | Extend,
        account: int,
        client_order_id: str,
        not_after: int,
        events: list[Event],
    ) -> Party | None:
        """Whose it is, where this is neither late nor a repeat. From here on its client_order_id is answered, even by a
        refusal: another copy of the same bytes must not do later what the first did not.
        """
        party = self._parties.get(account)
        known = party is not None or is_account(account)
        if not (known and is_name(client_order_id) and self.now <= not_after <= MAX_TIME_MS):
            self._refuse_unnamed(command, events)
            return None
        if party is None:
            party = self._memory.party(account)
        first = self._names.first(party.answered, client_order_id, this, not_after, self.now)
        if first is this:
            return party
        events.append(Duplicate(account, client_order_id, first))
        return None

    def _refuse_unnamed(self, command: Place | Extend, events: list[Event]) -> None:
        """Whose it is, its name or its not_after is wrong: so that it will not be known as a repeat."""
        now, not_after = self.now, command.not_after
        if not is_account(command.account):
            refused: Refused = Refusal.UNKNOWN_ACCOUNT, (command.account,)
        elif not is_name(command.client_order_id):
            refused = Refusal.CLIENT_ORDER_ID_INVALID, ()
        elif not_after > MAX_TIME_MS:
            refused = Refusal.TIME_OUT_OF_RANGE, ("not_after", not_after)
        else:
            refused = Refusal.STALE, (now, not_after)
        _reject(command, refused, events)

    def _closed(self, command: Place, book: Book | None) -> Refused:
        """Why no book takes the order."""
        if book is None:
            return Refusal.UNKNOWN_CLASS, (shown(command.class_id),)
        return (Refusal.CLASS_RETIRED if book.retired else Refusal.HALTED), (command.class_id,)

    def _check_ask(self, book: Book, command: PlaceAsk, start: int, amended: Ask | None) -> Refused | None:
        spec = book.spec
        refused = check_ask(command, start, spec, self.now)
        if refused is None:
            return self._check_standing(book, command, command.quantity, command.end - start, amended)
        return refused

    def _check_bid(self, book: Book, command: PlaceBid, starts: tuple[int, ...], amended: Bid | None) -> Refused | None:
        spec = book.spec
        refused = check_bid(command, starts, spec, self.now)
        if refused is None and command.market and not book.reference:
            return Refusal.NO_REFERENCE, (spec.class_id,)
        if refused is None:
            left = command.quantity if amended is None else command.quantity - amended.quantity + amended.left
            return self._check_standing(book, command, left, command.duration, amended)
        return refused

    def _check_standing(
        self, book: Book, command: Place, left: int, duration: int, amended: Order | None
    ) -> Refused | None:
        """The class's band, and what the account may do. `amended` is the order whose new terms these are."""
        if book.spec.band_bps and book.reference:
            low, high = book.band()
            if not low <= command.price <= high:
                return Refusal.PRICE_OUTSIDE_BAND, (command.price, low, high, book.spec.class_id)
        party = self._parties.get(command.account)
        if party is None:
            return None
        if party.killed:
            return Refusal.KILLED, (command.account,)
        limits = party.limits
        if limits is None:
            return None
        if limits.quantity and command.quantity > limits.quantity:
            return Refusal.QUANTITY_ABOVE_LIMIT, (command.quantity, limits.quantity)
        if amended is None and limits.open_orders and party.live >= limits.open_orders:
            return Refusal.TOO_MANY_ORDERS, (party.live, limits.open_orders)
        if limits.notional:
            others = sum(_notional(order) for order in self._live.of(command.account) if order is not amended)
            total = others + cost(command.price, left, duration)
            if total > limits.notional:
                return Refusal.TOO_MUCH_NOTIONAL, (min(total, MAX_SHOWN), limits.notional)
        return None

    def _start(self, command: PlaceAsk) -> int:
        """An ask's start, "now" resolved."""
        return command.start or ceil_grid(self.now)

    def _starts(self, command: PlaceBid) -> tuple[int, ...]:
        """A bid's starts, "now" resolved."""
        starts = command.starts
        if 0 not in starts:
            return starts
        return starts_from(starts, self.now)

    def _new_ask(
        self,
        order_id: int,
        place: int,
        book: Book,
        command: PlaceAsk,
        times: tuple[int, int, int, int, int, bool],
        stated: tuple[Attributes, int, bool],
    ) -> Ask:
        """`times` and `stated` as `Known` gives them."""
        start, end, min_duration, length, leaves, _ = times
        if command.time_in_force is GTD and command.expire_at < leaves:
            leaves = command.expire_at
        attributes, signature, _ = stated
        quantity = command.quantity
        return Ask(
            order_id,
            place,
            command.account,
            command.owner,
            command.client_order_id,
            book,
            command.price,
            quantity,
            command.self_trade,
            command.fee_bps,
            leaves,
            None,
            True,
            start,
            end,
            attributes,
            min_duration,
            command.lot,
            command.display,
            signature,
            quantity,
            length,
        )

    def _new_bid(
        self,
        order_id: int,
        place: int,
        book: Book,
        command: PlaceBid,
        times: tuple[tuple[int, ...], int, int, Hours | None, bool],
        accepted: tuple[Accepts, int, bool],
    ) -> Bid:
        """`times` and `accepted` as `Known` gives them."""
        starts, duration, leaves, hours, _ = times
        if command.time_in_force is GTD and command.expire_at < leaves:
            leaves = command.expire_at
        accepts, refuses, _ = accepted
        quantity = command.quantity
        return Bid(
            order_id,
            place,
            command.account,
            command.owner,
            command.client_order_id,
            book,
            command.price,
            quantity,
            command.self_trade,
            command.fee_bps,
            leaves,
            None,
            True,
            quantity,
            duration,
            starts,
            accepts,
            command.min_fill,
            command.prefer,
            refuses,
            hours,
        )

    def _would_trade(self, order: Order) -> Refused | None:
        """Why a post_only order cannot be taken, where it would trade at once."""
        other = Walk(order.book, self.now, []).taken_by(order)
        return None if other is None else (Refusal.WOULD_TRADE, (format_order_id(other),))

    def _meet_bids(self, ask: Ask, events: list[Event]) -> None:
        """The ask trades with what it can."""
        walk = self._begun(ask.book, events)
        walk.meet_bids(ask)
        if walk.done:
            self._live.drop(walk.done)

    def _meet_asks(self, bid: Bid, events: list[Event], *, fok: bool = False) -> None:
        """The bid likewise."""
        walk = self._begun(bid.book, events)
        if fok:
            walk.fill_or_kill(bid)
        else:
            walk.meet_asks(bid)
        if walk.done:
            self._live.drop(walk.done)

    def _begun(self, book: Book, events: list[Event]) -> Walk:
        walk = self._walk
        if walk is None:
            walk = self._walk = Walk(book, self.now, events)
        else:
            walk.begin(book, self.now, events)
        return walk

    def _remove(self, order: Order) -> None:
        book = order.book
        if order.chunk is None:
            del self._live.spent[order.id]
        else:
            del self._orders[order.id]
        book.remove(order)
        party = self._parties[order.account]
        party.live -= 1

    def _remove_all(self, orders: list[Order]) -> None:
        of_books = defaultdict[Book, list[Order]](list)
        for order in orders:
            of_books[order.book].append(order)
        for book, those in of_books.items():
            book.remove_all(those)
        self._live.forget(orders)

    @staticmethod
    def _by_id(orders: Iterable[Order]) -> list[Order]:
        return sorted(orders, key=attrgetter("id"))

    def _cancel_many(self, orders: Iterable[Order], reason: CancelReason, events: list[Event]) -> None:
        orders = list(orders)
        self._remove_all(orders)
        self._untold.extend([Cancelled(order.id, order.account, reason, order.left) for order in orders])
        self._tell(events)

    def _tell(self, events: list[Event]) -> None:
        """Tells what has left, as far as there is room in this answer."""
        untold = self._untold
        events += [untold.popleft() for _ in range(min(len(untold), MAX_TOLD - len(events)))]

    def _leave_by_time(self) -> None:
        """Who has left by time leaves, by (time it left, id)."""
        now, live = self.now, self._live
        left: list[tuple[int, int, Cancelled | Expired]] = []
        for until, account in live.dead_men_before(now):
            ended = [order for order in live.of(account) if order.leaves > until]
            self._remove_all(ended)
            left += [
                (until, order.id, Cancelled(order.id, account, CancelReason.DEAD_MAN, order.left)) for order in ended
            ]
        leavers = live.leavers_before(now)
        if leavers:
            self._remove_all(leavers)
            left += [(leaver.leaves, leaver.id, Expired(leaver.id, leaver.account, leaver.left)) for leaver in leavers]
        self._untold.extend([told for _, _, told in sorted(left, key=_WHEN_LEFT)])


def _reduces_ask(ask: Ask, terms: PlaceAsk, start: int) -> bool:
    """Whether the terms take quantity away and change nothing else."""
    leaves = terms.end - terms.min_duration + 1
    if terms.time_in_force is GTD:
        leaves = min(leaves, terms.expire_at)
    return (
        terms.quantity <= ask.quantity
        and (terms.time_in_force is GTC or terms.time_in_force is GTD)
        and (terms.price, start, terms.end, terms.attributes, terms.min_duration, terms.lot)
        == (ask.price, ask.start, ask.end, ask.attributes, ask.min_duration, ask.lot)
        and (terms.self_trade, terms.display, leaves) == (ask.self_trade, ask.display, ask.leaves)
    )


def _reduces_bid(bid: Bid, terms: PlaceBid, starts: tuple[int, ...]) -> bool:
    """Likewise; a min_fill above the new quantity may be lowered to it."""
    leaves = max(starts, default=0) + 1
    if terms.time_in_force is GTD:
        leaves = min(leaves, terms.expire_at)
    return (
        terms.quantity <= bid.quantity
        and (terms.time_in_force is GTC or terms.time_in_force is GTD)
        and not terms.market
        and (terms.price, terms.duration, starts, terms.accepts, terms.prefer)
        == (bid.price, bid.duration, bid.starts, bid.accepts, bid.prefer)
        and (terms.self_trade, leaves) == (bid.self_trade, bid.leaves)
        and (terms.min_fill == bid.min_fill or terms.min_fill == terms.quantity < bid.min_fill)
    )


def _amended(order: Order) -> Amended:
    if isinstance(order, Ask):
        start, duration = order.start, order.end - order.start
    else:
        start, duration = order.starts[0], order.duration
    return Amended(
        order.id,
        order.account,
        ASK if isinstance(order, Ask) else BID,
        order.place,
        order.quantity,
        order.left,
        order.price,
        start,
        duration,
    )


def _accepted(order: Order, class_id: str) -> Accepted:
    return Accepted(
        order.account,
        order.client_order_id,
        class_id,
        ASK if isinstance(order, Ask) else BID,
        order.quantity,
        order.price,
        order.fee_bps,
        order.start if isinstance(order, Ask) else order.starts[0],
        order.end - order.start if isinstance(order, Ask) else order.duration,
    )


def _notional(order: Order) -> int:
    """µ$ that the order can still cost or bring in, without fees."""
    duration = order.end - order.start if isinstance(order, Ask) else order.duration
    return cost(order.price, order.left, duration)


def _reject(command: Place | Extend, refused: Refused | None, events: list[Event]) -> None:
    """Names only an account and a client_order_id that can be ones."""
    assert refused is not None
    account = command.account if 1 <= command.account <= MAX_ACCOUNT else 0
    client_order_id = command.client_order_id if is_name(command.client_order_id) else ""
    events.append(Rejected(account, client_order_id, *refused))


def _refuse(account: int, refused: Refused, events: list[Event]) -> None:
    """Of a command that is no order."""
    events.append(Rejected(account if 1 <= account <= MAX_ACCOUNT else 0, "", *refused))


def _shown_order(order_id: int) -> str | int:
    return format_order_id(order_id) if 0 <= order_id < 1 << _ID_BITS else order_id
