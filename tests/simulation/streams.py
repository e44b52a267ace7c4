"""Random streams of commands that make small, busy books. One seed, one stream.

Who runs a stream tells it each answer (`note`), so that it can amend orders that live and return leases that were
made. The same seed and the same answers give the same stream.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from schemas.attributes import Accepts, Attributes, ClassSpec, Delivery, Interconnect, Region, Tier, region_mask
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
    Tick,
    TimeInForce,
    Withdraw,
)
from schemas.events import (
    Accepted,
    Amended,
    Cancelled,
    ClassChanged,
    ClassRetired,
    Execution,
    Expired,
    Fill,
    Filled,
    HaltChanged,
    KillChanged,
    Returned,
    Withdrawn,
)
from schemas.ids import FillId
from schemas.units import HOUR_MS, MAX_PRICE, MINUTE_MS, ceil_grid

T0 = 1_795_489_200_000
CLASSES = ("H100-SXM-80GB", "A100-SXM-80GB")
PROFILES = (
    "plain", "windows", "clusters", "attributes", "self_trade", "amends", "halts", "returns", "mixed",
)  # fmt: skip
ACCOUNTS = range(1, 7)
SOUGHT = 16
"""Live orders: above this a stream cancels more, so that what must hold can be looked at by brute force."""

ALWAYS = {"order": 600, "cancel": 80, "tick": 25, "repeat": 25, "create": 5, "reference": 5}
AMENDS = {"amend": 300, "cancel_named": 30, "cancel_all": 5}
HALTS = {
    "halt": 30, "kill": 10, "dead_man": 25, "limits": 15, "reference": 30, "change": 20, "retire": 2, "rules": 5,
    "cancel_named": 10, "cancel_all": 15,
}  # fmt: skip
RETURNS = {"return": 150, "withdraw": 40, "extend": 80}
WEIGHTS = {
    **{profile: ALWAYS for profile in PROFILES},
    "amends": ALWAYS | AMENDS,
    "halts": ALWAYS | HALTS | {"amend": 40, "return": 20, "extend": 20},
    "returns": ALWAYS | RETURNS,
    "mixed": ALWAYS | {kind: weight // 2 for kind, weight in (HALTS | AMENDS | RETURNS).items()},
}


@dataclass
class Sold:
    """A fill that the stream was told of, and where its lease ends by now."""

    id: FillId
    ask_id: int
    buyer: int
    quantity: int
    price: int
    start: int
    end: int


class Stream:
    """(offset, log time in ms, command), `count` times; times now and then go back, as a log's may."""

    def __init__(self, profile: str, seed: int, count: int) -> None:
        self.profile = profile
        self._rng = random.Random(f"{profile} {seed}")
        self._count = count
        self._offset = -1
        self._now = T0
        self._command: Command = Tick()
        self._sent: list[PlaceAsk | PlaceBid | Amend | Extend] = []
        self._live: dict[int, PlaceAsk | PlaceBid] = {}
        """Order id -> its terms, 'now' resolved."""
        self._sold: list[Sold] = []
        self._classes = list(CLASSES)
        self._missing = list(CLASSES)
        self._specs: dict[str, ClassSpec] = {}
        self._retired: list[str] = []
        self._halted: set[str] = set()
        self._killed: set[int] = set()

    def __iter__(self) -> Iterator[tuple[int, int, Command]]:
        rng = self._rng
        for offset in range(self._count):
            self._offset = offset
            step = rng.choice((0, 1, 30_000, 2 * MINUTE_MS))
            self._now = _hour(self._now, 1) if rng.random() < 0.02 else self._now + step
            time = self._now - rng.randrange(2000) if rng.random() < 0.02 else self._now
            self._command = self._next()
            if isinstance(self._command, PlaceAsk | PlaceBid | Amend | Extend):
                self._sent.append(self._command)
            yield offset, time, self._command

    def note(self, execution: Execution) -> None:
        """Learns from the answer to the command just given what lives, what was sold, and what is halted."""
        command = self._command
        for event in execution.events:
            match event:
                case Accepted() if isinstance(command, PlaceAsk | PlaceBid):
                    self._live[execution.position] = _resolved(command, execution.time)
                case Amended(order_id) if isinstance(command, Amend) and order_id in self._live:
                    was = self._live[order_id]
                    terms = replace(_resolved(command.terms, execution.time), client_order_id=was.client_order_id)
                    self._live[order_id] = terms
                case Fill() as fill:
                    lease = (execution.position, fill.index)
                    sold = Sold(lease, fill.ask_id, fill.buyer, fill.quantity, fill.price, fill.start, fill.end)
                    self._sold = [*self._sold[-30:], sold]
                    if not fill.bid_left:
                        self._live.pop(fill.bid_id, None)
                case Returned(fill_id) | Withdrawn(fill_id) if execution.position % 3:
                    self._sold = [sold for sold in self._sold if sold.id != fill_id]
                case Cancelled(order_id) | Expired(order_id) | Filled(order_id):
                    self._live.pop(order_id, None)
                case HaltChanged(class_id, mode):
                    self._halted.discard(class_id)
                    if mode is not HaltMode.NONE:
                        self._halted.add(class_id)
                case KillChanged(account, on):
                    self._killed.discard(account)
                    if on:
                        self._killed.add(account)
                case ClassChanged(spec):
                    self._specs[spec.class_id] = spec
                case ClassRetired(class_id):
                    self._retired.append(class_id)
                    self._halted.discard(class_id)
                    self._classes.remove(class_id)
                    self._missing.append(f"{class_id[:4]}-{self._offset}")
                case _:
                    pass

    def _next(self) -> Command:
        rng = self._rng
        if self._missing:
            self._classes = sorted({*self._classes, self._missing[0]})
            return CreateClass(self._spec(self._missing.pop(0)))
        if self._halted and rng.random() < 0.06:
            return Halt("" if rng.random() < 0.3 else rng.choice(sorted(self._halted)), HaltMode.NONE)
        if self._halted and rng.random() < 0.3:
            return self._while_halted()
        if self._killed and rng.random() < 0.1:
            return Kill(rng.choice(sorted(self._killed)), False)
        if len(self._live) > SOUGHT and rng.random() < 0.3:
            return self._cancel()
        weights = WEIGHTS[self.profile]
        match rng.choices(list(weights), list(weights.values()))[0]:
            case "order":
                return self._place()
            case "cancel":
                return self._cancel()
            case "repeat" if self._sent:
                return rng.choice(self._sent[-20:])
            case "create":
                return CreateClass(ClassSpec(rng.choice([*self._classes, *self._retired[-1:]]), "NVIDIA", 80, "SXM"))
            case "amend":
                return self._amend()
            case "cancel_named":
                return self._cancel_named()
            case "cancel_all":
                return CancelAll(rng.choice((0, *ACCOUNTS, *ACCOUNTS, -1)), rng.choice(("", self._class(), "none")))
            case "return":
                return self._give_back(Return)
            case "withdraw":
                return self._give_back(Withdraw)
            case "extend":
                return self._extend()
            case "halt":
                return Halt(self._class() if rng.random() < 0.8 else "", rng.choice(list(HaltMode)))
            case "kill":
                return Kill(self._party(), rng.random() < 0.7)
            case "dead_man":
                later = rng.choice((0, 1, 40_000, 5 * MINUTE_MS, 5 * MINUTE_MS, 20 * MINUTE_MS, HOUR_MS))
                odd = rng.random()
                return RenewDeadMan(self._party(), -1 if odd < 0.03 else 0 if odd < 0.2 else self._now + later)
            case "limits":
                return self._limits()
            case "reference":
                odd = rng.random() < 0.05
                price = rng.choice((0, -5, MAX_PRICE, MAX_PRICE + 1)) if odd else rng.randint(24_970, 25_030) * 100
                return SetReference(self._class(), price + (rng.randrange(100) if rng.random() < 0.2 else 0))
            case "change":
                return self._change()
            case "retire":
                return RetireClass(self._class())
            case "rules":
                return SetRules(rng.choice((1, 1, 1, 0, -3)))
            case _:
                return Tick()

    def _while_halted(self) -> Command:
        """Capacity comes back that nobody gets yet, so that bids vie for it when the class trades again."""
        leases = [sold for sold in self._running() if self._live[sold.ask_id].class_id in self._halted]
        if not leases or self._rng.random() < 0.3:
            return self._amend()
        sold = self._rng.choice(leases)
        return Return(sold.id, sold.ask_id, sold.quantity, sold.start, sold.end)

    # Orders

    def _place(self) -> PlaceAsk | PlaceBid:
        account = _account(self._offset)
        asks = 0.3 if self.profile == "halts" else 0.45 if self.profile in ("returns", "mixed") else 0.5
        order = self._ask(account) if self._rng.random() < asks else self._bid(account)
        if self._rng.random() < 0.005:
            return replace(order, account=self._rng.choice((0, -1, 2**63)))
        if self._rng.random() < 0.01:
            return replace(order, owner=0, fee_bps=1001, client_order_id=self._rng.choice(("", "é", "x" * 65, "x")))
        if self._rng.random() < 0.01:
            return self._choosing_what_is_not(order)
        return order

    def _choosing_what_is_not(self, order: PlaceAsk | PlaceBid) -> PlaceAsk | PlaceBid:
        rng = self._rng
        if isinstance(order, PlaceAsk):
            return replace(order, attributes=Attributes(notice_minutes=rng.choice((-1, 0, 10_080, 10_081))))
        return replace(order, accepts=Accepts(rng.choice((1, 1 << 20, -1)), only_suppliers=rng.choice(((), (0,)))))

    def _ask(self, account: int) -> PlaceAsk:
        rng, now, profile = self._rng, self._now, self.profile
        windows = profile in ("windows", "amends", "returns", "mixed")
        clusters, odd = profile in ("clusters", "amends", "mixed"), rng.random() < 0.03
        lot = rng.choice((1, 1, 2, 3)) if clusters else 1
        start = rng.choice((0, _hour(now, rng.randint(-2, 6)))) if windows else _hour(now, 2)
        end = (start or _hour(now, 0)) + (rng.choice((2, 4, 12)) * HOUR_MS if windows else HOUR_MS)
        time_in_force, expire_at = self._force(fok=odd)
        quantity = rng.randint(0, 9) if odd else lot * rng.randint(1, 6)
        return PlaceAsk(
            self._class(),
            account,
            _owner(profile, account),
            self._name(),
            self._not_after(odd),
            quantity,
            self._price(odd),
            start + (1 if odd and rng.random() < 0.3 else 0),
            end,
            _attributes(rng) if self._choosy() else Attributes(Region.US_EAST),
            rng.choice((30, 60, 60, 120)) * MINUTE_MS if windows else HOUR_MS,
            lot,
            time_in_force,
            expire_at,
            rng.random() < 0.1,
            self._self_trade(),
            rng.choice((0, 100)),
            rng.choice((-1, 0, 1, quantity, quantity + 1)) if odd else rng.choice((0, 0, 1)),
        )

    def _bid(self, account: int) -> PlaceBid:
        rng, now, profile = self._rng, self._now, self.profile
        windows = profile in ("windows", "amends", "returns", "mixed")
        clusters, odd = profile in ("clusters", "amends", "mixed"), rng.random() < 0.03
        quantity = rng.randint(0, 9) if odd else rng.randint(1, 10)
        starts: tuple[int, ...] = (_hour(now, 2),)
        duration = HOUR_MS
        if windows:
            hours = rng.sample(range(6), rng.randint(1, 5))
            starts = tuple(0 if hour == 0 and rng.random() < 0.5 else _hour(now, hour) for hour in hours)
            duration = rng.choice((60, 60, 90, 120, 180)) * MINUTE_MS
        if odd and rng.random() < 0.1:
            starts = rng.choice(((), (*starts, starts[0]), (starts[0] + 1,), (T0 - HOUR_MS,)))
        time_in_force, expire_at = self._force(fok=True)
        return PlaceBid(
            self._class(),
            account,
            _owner(profile, account),
            self._name(),
            self._not_after(odd),
            quantity,
            self._price(odd),
            duration,
            starts,
            _accepts(rng) if self._choosy() else Accepts(),
            rng.choice((1, max(1, quantity // 2), quantity)) if clusters else 1,
            rng.choice(list(Prefer)),
            time_in_force,
            expire_at,
            rng.random() < 0.1,
            self._self_trade(),
            rng.choice((0, 200)),
            rng.random() < 0.05,
        )

    def _amend(self) -> Amend:
        """Most often less, or another price; sometimes all anew; sometimes what cannot be."""
        rng = self._rng
        if not self._live:
            return Amend(self._any_id(), self._place())
        order_id = rng.choice(list(self._live))
        order = replace(self._live[order_id], client_order_id=self._name(), not_after=self._not_after(odd=False))
        dice = rng.random()
        if dice < 0.4:
            return Amend(order_id, self._less(order))
        if dice < 0.6:
            return Amend(order_id, replace(order, price=self._price(odd=False), post_only=rng.random() < 0.1))
        if dice < 0.7:
            lot = order.lot if isinstance(order, PlaceAsk) else 1
            return Amend(order_id, replace(order, quantity=order.quantity + lot * rng.randint(0, 4)))
        if dice < 0.9:
            anew = self._ask(order.account) if isinstance(order, PlaceAsk) else self._bid(order.account)
            return Amend(order_id, replace(anew, class_id=order.class_id))
        return self._odd_amend(order_id, order)

    def _less(self, order: PlaceAsk | PlaceBid) -> PlaceAsk | PlaceBid:
        rng = self._rng
        if rng.random() < 0.15:
            stands_until = self._now + rng.choice((40_000, HOUR_MS, 100 * HOUR_MS))
            order = replace(order, time_in_force=TimeInForce.GTD, expire_at=stands_until)
        if isinstance(order, PlaceAsk):
            step = order.lot if rng.random() < 0.9 else 1
            return replace(order, quantity=order.quantity - step * rng.randint(0, 3))
        quantity = rng.randint(order.quantity // 3, order.quantity)
        if rng.random() < 0.9 and order.min_fill > quantity:
            order = replace(order, min_fill=quantity)
        return replace(order, quantity=quantity)

    def _odd_amend(self, order_id: int, order: PlaceAsk | PlaceBid) -> Amend:
        rng = self._rng
        match rng.randrange(8):
            case 0:
                return Amend(self._any_id(), order)
            case 1:
                return Amend(order_id, replace(order, account=rng.choice((0, *ACCOUNTS))))
            case 2:
                return Amend(order_id, replace(order, class_id=rng.choice((self._class(), "none"))))
            case 3:
                return Amend(order_id, replace(order, quantity=rng.choice((0, -1, 65, 10**9))))
            case 4:
                return Amend(order_id, replace(order, time_in_force=rng.choice((TimeInForce.IOC, TimeInForce.FOK))))
            case 5:
                return Amend(order_id, replace(order, client_order_id="", not_after=self._now))
            case 6 if isinstance(order, PlaceBid):
                return Amend(order_id, replace(order, market=True))
            case _:
                other = self._bid(order.account) if isinstance(order, PlaceAsk) else self._ask(order.account)
                return Amend(order_id, replace(other, class_id=order.class_id))

    def _cancel(self) -> Cancel:
        rng = self._rng
        if self._live and rng.random() < 0.8:
            order_id = rng.choice(list(self._live))
            return Cancel(self._live[order_id].account if rng.random() < 0.95 else 1, order_id)
        order_id = self._any_id()
        return Cancel(_account(order_id) if rng.random() < 0.9 else 1, order_id)

    def _cancel_named(self) -> CancelNamed:
        rng = self._rng
        if not self._live or rng.random() < 0.2:
            return CancelNamed(self._party(), self._name())
        again = [order for order in self._live.values() if order.client_order_id == "again"]
        order = rng.choice(again if again and rng.random() < 0.5 else list(self._live.values()))
        return CancelNamed(order.account, order.client_order_id)

    # Leases

    def _give_back(self, kind: type[Return | Withdraw]) -> Return | Withdraw:
        """Most often all of a lease from some hour on, as settlement sends it; sometimes what cannot be."""
        rng = self._rng
        if not self._sold or rng.random() < 0.03:
            return kind((self._any_id(), 0), self._any_id(), 1, _hour(self._now, 1), _hour(self._now, 3))
        sold = self._lease()
        start = sold.start if rng.random() < 0.6 else rng.randrange(sold.start, sold.end, MINUTE_MS)
        right = kind(sold.id, sold.ask_id, sold.quantity, start, sold.end)
        if rng.random() < 0.8:
            return right
        return rng.choice(
            (
                kind(sold.id, sold.ask_id, rng.randint(0, sold.quantity), start, sold.end),
                kind(sold.id, sold.ask_id, sold.quantity + rng.choice((1, 10, 70_000)), start, sold.end),
                kind(sold.id, self._any_id(), sold.quantity, start, sold.end),
                kind(sold.id, sold.ask_id, sold.quantity, start + 1, sold.end),
                kind(sold.id, sold.ask_id, sold.quantity, start, sold.end + rng.choice((1, HOUR_MS, 2**60))),
                kind(sold.id, sold.ask_id, sold.quantity, sold.end, start),
                kind((sold.id[0], rng.choice((-1, 1, 2**31))), sold.ask_id, sold.quantity, start, sold.end),
                kind((-1, 0), sold.ask_id, sold.quantity, start, sold.end),
                kind(sold.id, sold.ask_id, sold.quantity, -MINUTE_MS, sold.end),
            )
        )

    def _extend(self) -> Extend:
        rng = self._rng
        minutes = rng.choice((15, 30, 60, 60, 120))
        asked = Sold((self._any_id(), 0), self._any_id(), 1, 2, 2_500_000, self._now, _hour(self._now, 1))
        sold = self._lease() if self._sold and rng.random() < 0.97 else asked
        price = sold.price + rng.choice((0, 0, 10_000, -10_000, 50))
        right = Extend(
            sold.id, sold.ask_id, sold.buyer, _owner(self.profile, sold.buyer), self._name(),
            self._not_after(odd=rng.random() < 0.02), sold.quantity, sold.end, sold.end + minutes * MINUTE_MS, price,
            rng.choice((0, 200)),
        )  # fmt: skip
        if rng.random() < 0.8:
            return right
        if sold.ask_id in self._live and rng.random() < 0.3:
            return replace(right, owner=_owner(self.profile, self._live[sold.ask_id].account))
        return rng.choice(
            (
                replace(right, fill=(-1, 0)),
                replace(right, ask_id=self._any_id()),
                replace(right, account=rng.choice((0, 1, -1)), owner=rng.choice((0, 1, 2, 2**63))),
                replace(right, quantity=rng.choice((0, 1, 3, 65, -1))),
                replace(right, price=rng.choice((0, -1, MAX_PRICE, MAX_PRICE + 1))),
                replace(right, fee_bps=rng.choice((-1, 1001))),
                replace(right, start=right.start - rng.choice((1, HOUR_MS, 10 * HOUR_MS))),
                replace(right, end=rng.choice((right.start, right.start - HOUR_MS, right.end + 1, 2**60))),
                replace(right, client_order_id=""),
            )
        )

    def _lease(self) -> Sold:
        """Nearly always one that runs, or will, and whose ask lives."""
        running = self._running()
        return self._rng.choice(running if running and self._rng.random() < 0.85 else self._sold)

    def _running(self) -> list[Sold]:
        return [sold for sold in self._sold if sold.end > self._now + MINUTE_MS and sold.ask_id in self._live]

    # Admin

    def _limits(self) -> SetLimits:
        rng = self._rng
        if rng.random() < 0.1:
            return rng.choice(
                (SetLimits(1, -1), SetLimits(1, 10_001), SetLimits(1, 0, 5), SetLimits(1, 1, 2**62 + 1),
                 SetLimits(1, 1, -1), SetLimits(1, 0, 0, 65_537), SetLimits(1, 0, 0, -1))
            )  # fmt: skip
        if rng.random() < 0.4:
            return SetLimits(self._party())
        most, dollars = rng.randint(1, 8), rng.choice((0, 0, 20, 100, 500))
        return SetLimits(self._party(), most, dollars * 10**6, rng.choice((0, 0, 0, 6)))

    def _change(self) -> ChangeClass:
        rng = self._rng
        spec = self._specs.get(class_id := self._class()) or self._spec(class_id)
        if rng.random() < 0.15:
            odd = {"accelerator": "AMD", "memory_gb": 81, "form_factor": "PCIe", "band_bps": 10_000, "tick": 0}
            name = rng.choice(list(odd))
            return ChangeClass(replace(spec, **{name: odd[name]}))
        anew = self._spec(class_id)
        return ChangeClass(replace(anew, tick=rng.choice((100, 100, 1000)), max_quantity=rng.choice((64, 64, 64, 6))))

    def _spec(self, class_id: str) -> ClassSpec:
        bands = (0, 0, 10, 40, 9_999) if self.profile in ("halts", "mixed") else (0,)
        return ClassSpec(class_id, "NVIDIA", 80, "SXM", max_quantity=64, band_bps=self._rng.choice(bands))

    # What orders are made of

    def _class(self) -> str:
        """Nearly always one that trades."""
        if self._rng.random() < 0.01:
            return self._rng.choice(("none", *self._retired[-3:]))
        return self._rng.choice(self._classes)

    def _party(self) -> int:
        return self._rng.choice(ACCOUNTS) if self._rng.random() < 0.97 else self._rng.choice((0, -1, 2**63))

    def _any_id(self) -> int:
        """Of an order that may live, or never was."""
        return self._rng.randrange(max(0, self._offset - 40), self._offset + 1)

    def _name(self) -> str:
        return f"o{self._rng.randrange(self._offset * 3 + 1)}" if self._rng.random() < 0.8 else "again"

    def _not_after(self, odd: bool) -> int:
        return self._now + self._rng.choice((0, 20_000, HOUR_MS)) - (1 if odd else 0)

    def _price(self, odd: bool) -> int:
        if odd and self._rng.random() < 0.5:
            return self._rng.choice((0, 250_050, 10**11))
        return self._rng.randint(2495, 2505) * 1000

    def _force(self, fok: bool) -> tuple[TimeInForce, int]:
        rng = self._rng
        time_in_force = rng.choice(list(TimeInForce)) if rng.random() < 0.4 else TimeInForce.GTC
        if time_in_force is TimeInForce.FOK and not fok:
            time_in_force = TimeInForce.GTC
        gtd = time_in_force is TimeInForce.GTD
        later = rng.choice((0, 1, 40_000, HOUR_MS))
        return time_in_force, self._now + later if gtd != (rng.random() < 0.01) else 0

    def _choosy(self) -> bool:
        """Whether attributes matter to this order."""
        return self.profile == "attributes" or (self.profile == "mixed" and self._rng.random() < 0.2)

    def _self_trade(self) -> SelfTrade:
        matters = self.profile in ("self_trade", "mixed")
        return self._rng.choice(list(SelfTrade)) if matters else SelfTrade.CANCEL_NEWEST


def stream(profile: str, seed: int, count: int) -> Stream:
    """A stream that nobody need tell anything: then it guesses, and amends and returns little that there is."""
    return Stream(profile, seed, count)


def _resolved(order: PlaceAsk | PlaceBid, now: int) -> PlaceAsk | PlaceBid:
    """The order with 'now' as the engine understood it."""
    if isinstance(order, PlaceAsk):
        return replace(order, start=order.start or ceil_grid(now))
    return replace(order, starts=tuple(dict.fromkeys(start or ceil_grid(now) for start in order.starts)))


def _hour(now: int, hours: int) -> int:
    return (now // HOUR_MS + hours) * HOUR_MS


def _account(offset: int) -> int:
    """1 to 6: whose order is at this offset, in no order that one could see."""
    return 1 + offset * 7919 % 101 % 6


def _owner(profile: str, account: int) -> int:
    """Few owners where self-trade is the matter, else one for each account."""
    return 1 + account % {"self_trade": 2, "mixed": 4}.get(profile, 6)


def _attributes(rng: random.Random) -> Attributes:
    return Attributes(
        rng.choice((Region.UNSPECIFIED, Region.US_EAST, Region.EU_WEST)),
        rng.choice(list(Delivery)),
        rng.choice(list(Interconnect)),
        rng.random() < 0.3,
        rng.choice(list(Tier)),
    )


def _accepts(rng: random.Random) -> Accepts:
    return Accepts(
        rng.choice((0, region_mask([Region.US_EAST]), region_mask([Region.US_EAST, Region.EU_WEST]))),
        rng.choice((Delivery.CONTAINER, Delivery.CONTAINER, Delivery.BARE_METAL)),
        rng.choice((Interconnect.NONE, Interconnect.NONE, Interconnect.INFINIBAND)),
        rng.random() < 0.1,
        rng.random() < 0.6,
        rng.choice(((), (), (1, 2, 3))),
        rng.choice(((), (), (5, 2))),
    )
