"""What the parties of a market send, at random and often wrong: one seed, one stream. `KINDS` says all they do.

A kind is a function that draws something to say, or None where there is nothing to say it of. Whoever runs the stream
tells it each answer of the engine (`note`) and moves `now`; it never sees what settlement made of it, as then it could
not be the same with every size of batch.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from schemas.attributes import Accepts, Attributes, ClassSpec, SlaStep, Tier
from schemas.commands import (
    Amend,
    Cancel,
    CancelAll,
    ChangeClass,
    Command,
    Extend,
    Halt,
    HaltMode,
    Kill,
    PlaceAsk,
    PlaceBid,
    RenewDeadMan,
    SelfTrade,
    SetReference,
    Tick,
    TimeInForce,
)
from schemas.events import Accepted, Amended, Cancelled, Execution, Expired, Fill, Filled
from schemas.ids import LeaseId
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
    WithdrawalState,
)
from schemas.store import NOBODY, Account, Spender
from schemas.units import HOUR_MS, MICRO, MINUTE_MS, ceil_grid, starts_from

T0 = 1_795_521_600_000
CLASSES = (
    ClassSpec("H100-SXM-80GB", "NVIDIA H100", 80, "SXM", grace_ms=HOUR_MS, refund_bps=7_501),
    ClassSpec(
        "A100-SXM-80GB",
        "NVIDIA A100",
        80,
        "SXM",
        grace_ms=5 * HOUR_MS,
        acceptance_ms=3 * MINUTE_MS,
        sla=(SlaStep(9_900, 1_500), SlaStep(8_000, 10_000)),
        reclaim_credit_bps=3_333,
    ),
)
"""One in each partition: its place here is its partition's number."""
NAMES = ("ample", "busy", "usual", "small", "poor", "cloud", "metal", "both")
BUYERS = ("ample", "busy", "usual", "small", "poor", "both")
SUPPLIERS = ("cloud", "metal", "both")
SPENDERS = (NOBODY, NOBODY, Spender(team="ml"), Spender(team="ml", user="ada"), Spender(pool="ci"))
RECENT = 240
"""Leases that people mostly speak of."""

Said = Command | Instruction | UsageReport | bytes


class Dealt(Struct):
    """A lease as its parties remember it."""

    id: LeaseId
    ask_id: int
    buyer: int
    seller: int
    quantity: int
    price: int
    start: int
    end: int
    delivered_at: int | None = None
    reports: list[UsageReport] = []


class Dealings:
    """Who is there, what they sent, and what they were told."""

    def __init__(self, seed: int, accounts: Sequence[Account]) -> None:
        self.rng = random.Random(seed)
        self.now = T0
        self.accounts = {account.name: account for account in accounts}
        self.orders: dict[int, PlaceAsk | PlaceBid] = {}
        """Live ones, by id, "now" resolved."""
        self.leases: list[Dealt] = []
        self.said: Counter[str] = Counter()
        self._deposits: list[Deposit] = []
        self._withdrawals: list[Withdrawal] = []
        self._commands: list[Command] = []
        self._numbers = 0

    def draw(self) -> Said:
        """The next that somebody says: a kind by its weight, another where that has nothing to say."""
        while True:
            (kind,) = self.rng.choices(list(KINDS), [weight for weight, _ in KINDS.values()])
            said = KINDS[kind][1](self)
            if said is not None:
                self.said[kind] += 1
                return said

    def note(self, command: Command, execution: Execution) -> None:
        """What the engine made of a command."""
        for event in execution.events:
            match event:
                case Accepted() if isinstance(command, PlaceAsk | PlaceBid):
                    self.orders[execution.position] = _resolved(command, execution.time)
                case Amended(order_id) if isinstance(command, Amend) and order_id in self.orders:
                    was = self.orders[order_id]
                    terms = replace(_resolved(command.terms, execution.time), client_order_id=was.client_order_id)
                    self.orders[order_id] = replace(terms, not_after=was.not_after)
                case Fill() as fill:
                    lease = (execution.position, fill.index)
                    terms_of = (fill.quantity, fill.price, fill.start, fill.end)
                    self.leases.append(Dealt(lease, fill.ask_id, fill.buyer, fill.seller, *terms_of))
                    if not fill.bid_left:
                        self.orders.pop(fill.bid_id, None)
                case Cancelled(order_id) | Expired(order_id) | Filled(order_id):
                    self.orders.pop(order_id, None)
                case _:
                    pass
        self._commands = [*self._commands[-40:], command]

    # Orders

    def order(self, at: int = 0) -> PlaceAsk | PlaceBid:
        """A new one, to be sent now, or about the time `at`."""
        return self._bid(at or self.now) if self.rng.random() < 0.7 else self._ask(at or self.now)

    def _bid(self, at: int) -> PlaceBid:
        rng, buyer = self.rng, self.accounts[self.rng.choice(BUYERS)]
        quantity, first = rng.randint(1, 6), ceil_grid(at) + rng.randint(2, 40) * MINUTE_MS
        starts = tuple(first + step * 20 * MINUTE_MS for step in range(rng.choice((1, 1, 3))))
        forces = (TimeInForce.GTC, TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK)
        return PlaceBid(
            self._class().class_id,
            buyer.id,
            buyer.owner,
            self._name("bid"),
            at + rng.choice((3, 30)) * MINUTE_MS,
            quantity,
            self._price(),
            rng.choice((30, 60, 61, 90, 150)) * MINUTE_MS,
            (0, *starts) if rng.random() < 0.3 else starts,
            Accepts(interruptible=rng.random() < 0.7),
            rng.randint(1, quantity),
            time_in_force=rng.choice(forces),
            self_trade=rng.choice(list(SelfTrade)),
            fee_bps=buyer.buyer_fee_bps,
        )

    def _ask(self, at: int) -> PlaceAsk:
        rng, supplier = self.rng, self.accounts[self.rng.choice(SUPPLIERS)]
        start = ceil_grid(at) + rng.choice((2, 2, 30)) * MINUTE_MS
        tier = Attributes(tier=Tier.INTERRUPTIBLE, notice_minutes=rng.choice((0, 5, 30)))
        return PlaceAsk(
            self._class().class_id,
            supplier.id,
            supplier.owner,
            self._name("ask"),
            at + rng.choice((3, 30)) * MINUTE_MS,
            rng.randint(2, 24),
            self._price(),
            start,
            start + rng.randint(2, 10) * HOUR_MS,
            tier if rng.random() < 0.5 else Attributes(),
            30 * MINUTE_MS,
            self_trade=rng.choice(list(SelfTrade)),
            fee_bps=supplier.seller_fee_bps,
        )

    def amend(self) -> Amend | None:
        """New terms for a live order."""
        if not self.orders:
            return None
        order_id = self.rng.choice(list(self.orders))
        was = self.orders[order_id]
        terms = replace(
            was,
            client_order_id=self._name("amend"),
            quantity=max(1, was.quantity + self.rng.randint(-3, 3)),
            price=self._price() if self.rng.random() < 0.5 else was.price,
            not_after=self.now + 20 * MINUTE_MS,
        )
        return Amend(order_id, terms)

    def cancel(self) -> Cancel | None:
        if not self.orders:
            return None
        order_id = self.rng.choice(list(self.orders))
        return Cancel(self.orders[order_id].account, order_id)

    def repeat(self) -> Command | None:
        """Bytes that came once already."""
        return self.rng.choice(self._commands) if self._commands else None

    def extend(self) -> Extend | None:
        """Of a lease, past the gateways."""
        lease = self.lease()
        if lease is None:
            return None
        buyer = next(account for account in self.accounts.values() if account.id == lease.buyer)
        return Extend(
            lease.id,
            lease.ask_id,
            lease.buyer,
            buyer.owner,
            self._name("extend"),
            self.now + HOUR_MS,
            lease.quantity,
            lease.end,
            lease.end + self.rng.choice((10, 60)) * MINUTE_MS,
            self._price() + 100_000,
            buyer.buyer_fee_bps,
        )

    def control(self) -> Command:
        """What concerns many orders at once, and time alone."""
        rng, spec = self.rng, self._class()
        account = self.rng.choice(list(self.accounts.values())).id
        return rng.choice(
            (
                Tick(),
                CancelAll(account),
                Kill(account, rng.random() < 0.3),
                RenewDeadMan(account, self.now + rng.randint(1, 10) * MINUTE_MS),
                Halt(spec.class_id, rng.choice((HaltMode.NONE, HaltMode.NONE, HaltMode.NO_NEW))),
                SetReference(spec.class_id, 2_500_000),
                ChangeClass(replace(spec, refund_bps=rng.choice((0, 5_000, 9_999, 10_000)))),
            )
        )

    def resume(self) -> Command:
        """Nobody is halted or killed for long."""
        halted = Halt(self._class().class_id, HaltMode.NONE)
        return self.rng.choice((halted, Kill(self.rng.choice(list(self.accounts.values())).id, False)))

    # Money

    def deposit(self) -> Deposit:
        rng = self.rng
        weights = {"ample": 6, "busy": 4, "usual": 3, "small": 2, "both": 2}
        (name,) = rng.choices(list(weights), list(weights.values()))
        deposit = Deposit(self.accounts[name].id, rng.randint(1, 600 * MICRO), self._name("deposit"))
        self._deposits.append(deposit)
        return deposit

    def wrong_deposit(self) -> Deposit | None:
        """Once more, with other contents, of no amount, for nobody."""
        if not self._deposits:
            return None
        was = self.rng.choice(self._deposits[-50:])
        wrong = (
            was,
            replace(was, amount=was.amount + 1),
            replace(was, account=was.account % 8 + 1),
            replace(was, reference=self._name("deposit"), amount=self.rng.choice((0, -1, 2**62))),
            replace(was, reference=self._name("deposit"), account=self.rng.choice((0, -5, 999, 2**60))),
            replace(was, reference=self.rng.choice(("", "x" * 129, "two\nlines"))),
        )
        return self.rng.choice(wrong)

    def withdrawal(self) -> Withdrawal:
        """Of what may be there; now and then asked for twice, or wrong."""
        rng = self.rng
        (name,), source = rng.choices(list(self.accounts)), rng.choice(list(Source))
        asked = Withdrawal(
            self.accounts[name].id, self._name("out").replace(" ", "-"), source, rng.randint(1, 90 * MICRO), "bank 7"
        )
        if self._withdrawals and rng.random() < 0.2:
            was = rng.choice(self._withdrawals[-50:])
            asked = rng.choice((was, replace(was, amount=was.amount + 1), replace(was, account=was.account % 8 + 1)))
        elif rng.random() < 0.1:
            asked = rng.choice(
                (
                    replace(asked, amount=rng.choice((0, -1, 10**13, 2**62))),
                    replace(asked, reference="no blanks please"),
                    replace(asked, destination=""),
                    replace(asked, account=rng.choice((0, 999))),
                )
            )
        self._withdrawals.append(asked)
        return asked

    def withdrawal_news(self) -> WithdrawalNews | None:
        """In any order, late, twice, and of withdrawals that were refused."""
        if not self._withdrawals:
            return None
        of = self.rng.choice(self._withdrawals[-50:])
        state = self.rng.choice(list(WithdrawalState))
        reason = "account closed" if state is WithdrawalState.FAILED else ""
        return WithdrawalNews(of.account, of.reference, state, f"po_{of.reference}", reason)

    def credit_limit(self) -> CreditLimit:
        """Given, taken away again while it is used, and for nobody."""
        (account,) = self.rng.choices([*(one.id for one in self.accounts.values()), 999])
        return CreditLimit(account, self.rng.choice((0, 0, 20 * MICRO, 100 * MICRO, -1, 2**62)))

    def daily_credits(self) -> DailyCredits:
        (account,) = self.rng.choices([*(one.id for one in self.accounts.values()), 999])
        return DailyCredits(account, self.rng.choice((0, 1, 5 * MICRO, 60 * MICRO, -1, 2**62)))

    # Leases

    def lease(self, least: int = 0) -> Dealt | None:
        """One of those that people speak of: mostly a young one; of those with so many reports at least."""
        recent = self.leases if self.rng.random() < 0.03 else self.leases[-RECENT:]
        found = [lease for lease in recent if len(lease.reports) >= least]
        return self.rng.choice(found) if found else None

    def deliver(self) -> Deliver | None:
        """In time mostly; now and then too early, too late, twice."""
        rng = self.rng
        due = [lease for lease in self.leases[-RECENT:] if lease.delivered_at is None and lease.start <= self.now]
        lease = due[0] if due and rng.random() < 0.85 else self.lease()
        if lease is None:
            return None
        if rng.random() < 0.12:  # forgotten: it will be void
            lease.delivered_at = lease.delivered_at or self.now
            return None
        lease.delivered_at = lease.delivered_at or self.now
        names = tuple(f"gpu-{rng.randrange(400)}" for _ in range(lease.quantity))
        wrong = rng.choice((names[:-1], (*names, ""), names + names))
        gpus = rng.choices(((), names, wrong), (6, 3, 1))[0]
        return Deliver(lease.id, lease.seller, "ssh there" if rng.random() < 0.97 else "nul \0", gpus, "it answers")

    def renew(self) -> Renew | None:
        lease = self.lease()
        if lease is None:
            return None
        buyer = next(account for account in self.accounts.values() if account.id == lease.buyer)
        duration = self.rng.choice((0, 30 * MINUTE_MS, 60 * MINUTE_MS, 7))
        who = lease.buyer if self.rng.random() < 0.95 else lease.seller
        return Renew(lease.id, who, duration, self._price() + 100_000, buyer.owner, buyer.buyer_fee_bps)

    def party(self) -> Instruction | None:
        """What a lease's parties say of it: what may be, and now and then what may not."""
        rng, lease = self.rng, self.lease()
        if lease is None:
            return None
        seller = lease.seller if rng.random() < 0.97 else lease.buyer
        buyer = lease.buyer if rng.random() < 0.97 else lease.seller
        about = lease.id if rng.random() < 0.98 else rng.choice(((lease.id[0], 99), (-1, 0), (2**63, 1)))
        end = lease.end
        said: Instruction = rng.choice(
            (
                Accept(about, buyer),
                Accept(about, buyer),
                Accept(about, buyer),
                Degrade(
                    about,
                    seller,
                    rng.choice((1, lease.quantity, lease.quantity, 0, 7)),
                    rng.choice(("XID 79", "hot", "")),
                ),
                Degrade(about, seller, 1, "ECC errors"),
                Restore(about, seller),
                Restore(about, seller),
                Reclaim(about, seller),
                End(about, buyer),
            )
        )
        if isinstance(said, End) and about == lease.id:
            lease.end = max(lease.start, min(end, self.now))
        return said

    # Use

    def use(self) -> UsageReport | None:
        """The next figure of a lease's meter, now and then with a gap before it."""
        ready = [lease for lease in self._metering() if lease.start < self.now]
        if not ready:
            return None
        lease = self.rng.choice(ready)
        return self._report(lease, self._last(lease) + self.rng.choice((1, 1, 1, 1, 2, 4)), self._metered(lease))

    def final(self) -> UsageReport | None:
        """The last figure, once a lease has ended."""
        over = [lease for lease in self._metering() if lease.end <= self.now]
        if not over:
            return None
        lease = self.rng.choice(over)
        return self._report(lease, self._last(lease) + 1, self._metered(lease), final=True)

    def wrong_use(self) -> UsageReport | None:
        """In every way in which a meter can be wrong."""
        rng, lease = self.rng, self.lease(least=1)
        if lease is None:
            return None
        last = max(lease.reports, key=lambda report: report.sequence)
        early = min(lease.reports, key=lambda report: report.sequence)
        after = replace(last, sequence=last.sequence + 1, final=False)
        most = lease.quantity * (lease.end - lease.start)
        wrong: UsageReport = rng.choice(
            (
                rng.choice(lease.reports),  # repeated
                replace(rng.choice(lease.reports), gpu_ms=early.gpu_ms + 1),  # the same number, another figure
                replace(rng.choice(lease.reports), final=True),
                replace(early, sequence=rng.randint(1, last.sequence), gpu_ms=rng.randint(0, last.gpu_ms)),  # late
                replace(early, sequence=rng.randint(1, last.sequence), gpu_ms=rng.randint(early.gpu_ms, last.gpu_ms)),
                replace(after, gpu_ms=last.gpu_ms - 1),  # backwards, or below nothing
                replace(after, gpu_ms=most + rng.choice((0, 1, most, 2**60))),  # above what is allocated
                replace(after, account=lease.buyer),  # another's
                replace(after, lease=rng.choice(self.leases).id),
                replace(after, lease=rng.choice(((lease.id[0], 77), (-1, 0), (2**63, 0)))),  # of no lease
                replace(after, sequence=rng.choice((0, -1, 2**31, 2**60))),
                replace(after, final=True),  # mostly too early
            )
        )
        return wrong

    def garbage(self) -> bytes:
        """What is no message at all, for settlement."""
        return self.rng.choice((b"", b"\xc1", b"\x92\xa4what\x01", msgspec.msgpack.encode({"a": 1})))

    def correct(self) -> Correct | None:
        """What a lease used, said anew: by its supplier, by the exchange, by who may not; of open leases too."""
        rng, lease = self.rng, self.lease(least=1)
        if lease is None:
            return None
        used = lease.reports[-1].gpu_ms
        gpu_ms = rng.choice((used, used - 1, used // 2, used + rng.randint(1, 10**6), 0, used * 2, -1))
        said_by = rng.choice((lease.seller, lease.seller, 0, 0, lease.buyer))
        return Correct(lease.id, said_by, gpu_ms, rng.choice(("metered twice", "it was down", "a gap", "")))

    def _metering(self) -> list[Dealt]:
        """Those whose supplier has not said its last word."""
        delivered = [lease for lease in self.leases[-RECENT:] if lease.delivered_at is not None]
        return [lease for lease in delivered if not (lease.reports and lease.reports[-1].final)]

    def _metered(self, lease: Dealt) -> int:
        """Most of what can have been used by now, mostly no less than what was said before."""
        began = max(lease.start, lease.delivered_at or 0)
        most = lease.quantity * max(0, min(self.now, lease.end) - began)
        before = max((report.gpu_ms for report in lease.reports), default=0)
        return max(before, most * self.rng.randint(60, 100) // 100)

    def _report(self, lease: Dealt, sequence: int, gpu_ms: int, *, final: bool = False) -> UsageReport:
        measured = self.now - self.rng.choice((0, MINUTE_MS, HOUR_MS)) if self.rng.random() < 0.3 else 0
        report = UsageReport(lease.id, lease.seller, sequence, gpu_ms, final, measured)
        lease.reports.append(report)
        return report

    def _last(self, lease: Dealt) -> int:
        return max((report.sequence for report in lease.reports), default=0)

    # What things are made of

    def _class(self) -> ClassSpec:
        return self.rng.choice(CLASSES)

    def _price(self) -> int:
        return self.rng.randint(23_000, 27_000) * 100

    def _name(self, kind: str) -> str:
        self._numbers += 1
        return f"{kind} {self._numbers}"


KINDS: dict[str, tuple[int, Callable[[Dealings], Said | None]]] = {
    "order past the gateways": (10, Dealings.order),
    "amend past the gateways": (8, Dealings.amend),
    "cancel": (20, Dealings.cancel),
    "repeat": (8, Dealings.repeat),
    "extend": (10, Dealings.extend),
    "control": (2, Dealings.control),
    "resume": (6, Dealings.resume),
    "deposit": (12, Dealings.deposit),
    "wrong deposit": (5, Dealings.wrong_deposit),
    "credit limit": (4, Dealings.credit_limit),
    "daily credits": (4, Dealings.daily_credits),
    "withdrawal": (8, Dealings.withdrawal),
    "withdrawal news": (12, Dealings.withdrawal_news),
    "deliver": (190, Dealings.deliver),
    "renew": (12, Dealings.renew),
    "party": (150, Dealings.party),
    "use": (260, Dealings.use),
    "final": (110, Dealings.final),
    "wrong use": (120, Dealings.wrong_use),
    "correct": (40, Dealings.correct),
    "garbage": (2, Dealings.garbage),
}
"""What is said beside the orders that come through gateways, by weight. A new instruction is a line here."""


def _resolved(order: PlaceAsk | PlaceBid, now: int) -> PlaceAsk | PlaceBid:
    """The order with "now" as the engine understood it."""
    if isinstance(order, PlaceAsk):
        return replace(order, start=order.start or ceil_grid(now))
    return replace(order, starts=starts_from(order.starts, now))
