"""A lease's way, by every step from every state, and in whatever order its records come."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec
from schemas.attributes import Attributes, ClassSpec, Tier
from schemas.commands import Return, Side, Withdraw
from schemas.events import Accepted, Execution, Fill, Ticked
from schemas.instructions import Accept, Degrade, Deliver, End, Instruction, Reclaim, Restore, UsageReport
from schemas.refusals import Refusal
from schemas.store import CloseReason, LeaseState, Renewal
from schemas.units import BPS, HOUR_MS, MINUTE_MS
from settlement import leases
from settlement.books import Books
from settlement.leases import LeaseRow, Refused, Step
from settlement.metering import bill

SPEC = ClassSpec("H100-SXM-80GB", "NVIDIA H100", 80, "SXM")
INTERRUPTIBLE = Attributes(tier=Tier.INTERRUPTIBLE, notice_minutes=10)
START = 100 * HOUR_MS
BUYER, SELLER, QUANTITY, HOURS, PRICE, FEE_BPS = 2, 3, 3, 2, 2_499_997, 133
BID, ASK = 8, 7
LEASE = BID, 0
RENEWAL = Renewal(HOUR_MS, PRICE, BUYER, FEE_BPS)

# What each step makes of each state: `-` is refused.
TABLE = """
                  deliver    accept  meter       degrade   restore  reclaim     end     void    close   renew
pending_delivery  delivered  -       -           -         -        closed      closed  closed  -       pending_delivery
delivered         -          active  delivered   -         -        reclaiming  ended   -       closed  delivered
active            -          -       active      degraded  -        reclaiming  ended   -       closed  active
degraded          -          -       degraded    degraded  active   reclaiming  ended   -       closed  degraded
reclaiming        -          -       reclaiming  -         -        -           ended   -       closed  -
ended             -          -       ended       -         -        -           -       -       closed  -
closed            -          -       -           -         -        -           -       -       -       -
"""

EVERY = [
    (state, step, target)
    for steps, *rows in [[line.split() for line in TABLE.split("\n") if line]]
    for state, *targets in rows
    for step, target in zip(steps, targets, strict=True)
]


def in_state(state: str, *, now: int = START + HOUR_MS) -> LeaseRow:
    """A lease that came to the state by steps that are allowed."""
    lease = leases.opened(
        fill_of(INTERRUPTIBLE),
        LEASE,
        number=1,
        partition=0,
        attributes=codec.encode(INTERRUPTIBLE),
        spec=SPEC,
        now=START - HOUR_MS,
    )
    ways: dict[str, list[Callable[[], object]]] = {
        "delivered": [lambda: leases.deliver(lease, "ssh there", START)],
        "active": [lambda: leases.accept(lease, START + MINUTE_MS)],
        "degraded": [lambda: leases.degrade(lease, 1, "GPU 2 fell off the bus", now)],
        "reclaiming": [lambda: leases.reclaim(lease, now)],
        "ended": [lambda: leases.end(lease, now)],
        "closed": [lambda: leases.close(lease, Step.CLOSE, CloseReason.COMPLETED, now)],
    }
    delivered, active = ways["delivered"], ways["delivered"] + ways["active"]
    before = {"pending_delivery": [], "delivered": delivered, "active": active}
    for step in before.get(state, active + ways.get(state, [])):
        assert step() is None
    assert lease.state == state
    return lease


def take(lease: LeaseRow, step: str, now: int) -> Refused | None:
    match step:
        case "deliver":
            return leases.deliver(lease, "ssh there", now)
        case "accept":
            return leases.accept(lease, now)
        case "meter":
            return leases.meter(lease, UsageReport(LEASE, SELLER, 1, 0), 0, None, now)
        case "degrade":
            return leases.degrade(lease, 2, "no fabric", now)
        case "restore":
            return leases.restore(lease, now)
        case "reclaim":
            return leases.reclaim(lease, now)
        case "end":
            return leases.end(lease, now)
        case "renew":
            return leases.renew(lease, RENEWAL, now)
    assert step in ("void", "close")
    if (refusal := leases.refused(lease, Step(step))) is None:
        leases.close(lease, Step(step), CloseReason.NOT_DELIVERED, now)
    return refusal


@pytest.mark.parametrize(("state", "step", "target"), EVERY, ids=lambda each: str(each))
def test_every_step_from_every_state_leads_where_the_table_says_or_is_refused(
    state: str, step: str, target: str
) -> None:
    now = START - 30 * MINUTE_MS if state == "pending_delivery" else START + HOUR_MS + MINUTE_MS
    lease = in_state(state)
    before = msgspec.structs.replace(lease)
    refusal = take(lease, step, now)
    if target == "-":
        assert refusal is not None
        assert (refusal[0], refusal[1][1]) == (Refusal.LEASE_STATE, state)
        assert lease == before, "a step that is refused changes nothing"
    else:
        assert refusal is None
        assert lease.state == target
        assert (lease.deadline is None) == (target == "closed"), "time alone brings every open lease on"


def test_the_table_names_every_state_and_every_step() -> None:
    assert {state for state, _, _ in EVERY} == {state.value for state in LeaseState}
    assert {step for _, step, _ in EVERY} == {step.value for step in Step}


def test_a_guaranteed_lease_cannot_be_reclaimed() -> None:
    lease = msgspec.structs.replace(in_state("active"), attributes=codec.encode(Attributes()))
    refusal = leases.reclaim(lease, START + HOUR_MS)
    assert refusal == (Refusal.LEASE_GUARANTEED, ("lse_8-0",))
    assert lease.state == LeaseState.ACTIVE


def test_a_reclaim_leaves_the_buyer_the_notice_and_bills_no_later_use() -> None:
    lease, now = in_state("active"), START + HOUR_MS + 1
    assert leases.reclaim(lease, now) is None
    ends_at = now + 10 * MINUTE_MS
    assert (lease.until, lease.close_reason) == (ends_at, CloseReason.RECLAIMED)
    late = ends_at + 5 * MINUTE_MS
    most = QUANTITY * (ends_at - START - MINUTE_MS)
    over = leases.meter(lease, UsageReport(LEASE, SELLER, 1, most + 1), 0, None, late)
    assert over is not None
    assert over[0] is Refusal.USAGE_ABOVE_ALLOCATED
    assert leases.meter(lease, UsageReport(LEASE, SELLER, 1, most, final=True), 0, None, late) is None


@pytest.mark.parametrize(
    ("state", "now"), [("pending_delivery", START - 9 * MINUTE_MS), ("active", START + 110 * MINUTE_MS)]
)
def test_a_reclaim_whose_notice_comes_too_late_is_refused(state: str, now: int) -> None:
    refusal = leases.reclaim(in_state(state), now)
    assert refusal is not None
    assert refusal[0] is Refusal.RECLAIM_TOO_LATE


@pytest.mark.parametrize(
    ("state", "now", "refund_bps", "forfeited"),
    [
        ("active", START + HOUR_MS, BPS, 0),
        ("active", START + HOUR_MS + 1, 7_500, QUANTITY * (HOUR_MS - 1) // 4),
        ("active", START + HOUR_MS, 0, QUANTITY * HOUR_MS),
        ("pending_delivery", START - HOUR_MS, 0, QUANTITY * HOURS * HOUR_MS),
        ("pending_delivery", START + 1, 0, 0),
        ("degraded", START + HOUR_MS + 1, 0, 0),
        ("reclaiming", START + HOUR_MS + 1, 0, 0),
    ],
)
def test_who_ends_early_pays_of_the_rest_what_the_class_does_not_refund(
    state: str, now: int, refund_bps: int, forfeited: int
) -> None:
    """And nothing of it where the supplier was late, or takes it back, or it does not work."""
    lease = msgspec.structs.replace(in_state(state), refund_bps=refund_bps)
    assert leases.end(lease, now) is None
    assert (lease.until, lease.forfeited_gpu_ms) == (now, forfeited)


def test_the_reason_of_who_came_first_stands() -> None:
    lease = in_state("reclaiming")
    assert leases.end(lease, START + HOUR_MS + 1) is None
    leases.close(lease, Step.CLOSE, CloseReason.COMPLETED, START + 2 * HOUR_MS)
    assert lease.close_reason == CloseReason.RECLAIMED


def test_each_degradation_is_kept_from_its_beginning_to_its_end() -> None:
    lease, now = in_state("degraded"), START + HOUR_MS
    assert leases.degrade(lease, 2, "two now", now + 5) is None
    assert leases.degrade(lease, 1, "one again", now + 5) is None
    assert leases.restore(lease, now + 9) is None
    assert leases.degrade(lease, 3, "all of it", now + 20) is None
    assert leases.reclaim(lease, now + 30) is None
    kept = [(each.since - now, each.until and each.until - now, each.gpus) for each in leases.degradations(lease)]
    assert kept == [(0, 5, 1), (5, 9, 1), (20, 30, 3)]


def test_a_degradation_ends_with_the_window_at_the_latest() -> None:
    lease, later = in_state("degraded"), START + HOURS * HOUR_MS + MINUTE_MS
    leases.close(lease, Step.CLOSE, CloseReason.COMPLETED, later)
    assert [each.until for each in leases.degradations(lease)] == [lease.end]


def test_what_degrades_is_of_the_lease_and_said_in_words_of_bounded_number() -> None:
    for gpus, note, code in (
        (0, "none", Refusal.GPUS_OUT_OF_RANGE),
        (QUANTITY + 1, "too many", Refusal.GPUS_OUT_OF_RANGE),
        (1, "", Refusal.UNREADABLE),
        (1, "a\nb", Refusal.UNREADABLE),
        (1, "x" * (leases.MAX_NOTE + 1), Refusal.UNREADABLE),
    ):
        refusal = leases.degrade(in_state("active"), gpus, note, START + HOUR_MS)
        assert refusal is not None
        assert refusal[0] is code
    lease = in_state("active")
    for number in range(leases.MAX_DEGRADATIONS):
        assert leases.degrade(lease, 1, str(number), START + HOUR_MS + number) is None
    refusal = leases.degrade(lease, 1, "one more", START + HOUR_MS + leases.MAX_DEGRADATIONS)
    assert refusal is not None
    assert refusal[0] is Refusal.TOO_MANY_DEGRADATIONS


def test_use_that_ends_before_its_buyer_s_word_still_accepts_what_was_used() -> None:
    lease = in_state("delivered")
    assert leases.end(lease, START + 9 * MINUTE_MS) is None
    used = QUANTITY * 4 * MINUTE_MS
    assert leases.meter(lease, UsageReport(LEASE, SELLER, 1, used), 0, None, START + HOUR_MS) is None
    assert (lease.state, lease.accepted_at) == (LeaseState.ENDED, START + 5 * MINUTE_MS)


@pytest.mark.parametrize(
    ("measured_at", "counts_to"),
    [
        (0, START + HOUR_MS),
        (START + 30 * MINUTE_MS, START + 30 * MINUTE_MS),
        (START + HOUR_MS + 1, START + HOUR_MS),
        (START - HOUR_MS, START + MINUTE_MS),
    ],
)
def test_use_is_judged_by_when_it_was_measured_and_a_clock_that_is_ahead_says_no_more_than_now(
    measured_at: int, counts_to: int
) -> None:
    lease, now = in_state("active"), START + HOUR_MS
    most = QUANTITY * (counts_to - START - MINUTE_MS)
    over = leases.meter(lease, UsageReport(LEASE, SELLER, 1, most + 1, measured_at=measured_at), 0, None, now)
    assert over is not None
    assert over[0] is Refusal.USAGE_ABOVE_ALLOCATED
    assert leases.meter(lease, UsageReport(LEASE, SELLER, 1, most, measured_at=measured_at), 0, None, now) is None


# In any order. Each topic has a clock of its own, and they disagree: what is sure is that each only goes forward.


def fill_of(attributes: Attributes) -> Fill:
    end = START + HOURS * HOUR_MS
    terms = PRICE, QUANTITY, START, end, Side.BID, 0, FEE_BPS, FEE_BPS
    return Fill(0, 1, SPEC.class_id, BID, ASK, BUYER, SELLER, *terms, attributes)


def sold(refund_bps: int, attributes: Attributes) -> Books:
    """Books with one lease, and all its deadlines within reach."""
    books = Books({SPEC.class_id: msgspec.structs.replace(SPEC, refund_bps=refund_bps)}, 0)
    books.horizon({0: 1 << 60})
    books.cash = {BUYER: 10**12}
    window = START, HOURS * HOUR_MS
    ask = Accepted(SELLER, "ask", SPEC.class_id, Side.ASK, QUANTITY, PRICE, FEE_BPS, *window)
    bid = Accepted(BUYER, "bid", SPEC.class_id, Side.BID, QUANTITY, PRICE, FEE_BPS, *window)
    books.execution(Execution(ASK, -1, START - HOUR_MS, (ask,)))
    books.execution(Execution(BID, ASK, START - HOUR_MS, (bid, fill_of(attributes))))
    return books


INSTRUCTIONS: dict[str, Instruction] = {
    "deliver": Deliver(LEASE, SELLER, "ssh there"),
    "accept": Accept(LEASE, BUYER),
    "degrade": Degrade(LEASE, SELLER, 1, "GPU 2 fell off the bus"),
    "restore": Restore(LEASE, SELLER),
    "reclaim": Reclaim(LEASE, SELLER),
    "end": End(LEASE, BUYER),
}
BEGINNINGS: list[list[str]] = [[], ["deliver"], ["deliver", "accept"], ["deliver", "accept", "degrade"]]
waits = st.sampled_from([0, 1, 1_000, MINUTE_MS, 7 * MINUTE_MS, 40 * MINUTE_MS, HOUR_MS, 73 * HOUR_MS])
records = st.one_of(
    st.tuples(st.sampled_from(list(INSTRUCTIONS)), waits),
    st.tuples(st.just("tick"), waits),
    st.tuples(
        st.just("use"), waits, st.integers(1, 5), st.sampled_from([0, 1, 999, BPS - 1, BPS, BPS + 1]), st.booleans()
    ),
)


@given(
    st.sampled_from([BPS, 7_777, 0]),
    st.sampled_from([INTERRUPTIBLE, Attributes()]),
    st.sampled_from(BEGINNINGS),
    st.lists(records, min_size=1, max_size=14),
)
def test_in_whatever_order_records_come_the_lease_is_as_the_rules_allow(
    refund_bps: int, attributes: Attributes, beginning: list[str], script: list[tuple[str, int, int, int, bool]]
) -> None:
    books = sold(refund_bps, attributes)
    lease = books.leases[LEASE]
    clocks = dict.fromkeys(("instruction", "use", "tick"), START - HOUR_MS)
    for name, wait, *report in [(name, 1_000) for name in beginning] + list(script):
        topic = name if name in clocks else "instruction"
        clocks[topic] = now = clocks[topic] + wait
        before = msgspec.structs.replace(lease)
        money = balances(books)
        if name == "tick":
            books.execution(Execution(BID + now, BID, now, (Ticked(),)))
        elif name == "use":
            sequence, share, final = report
            most = QUANTITY * max(0, min(now, lease.until) - lease.usable_from)
            books.use(UsageReport(LEASE, SELLER, int(sequence), most * share // BPS, bool(final)), now)
        elif books.instruction(INSTRUCTIONS[name], now) is not None:
            assert (lease, balances(books)) == (before, money), "what is refused changes nothing"
        check(books, lease, before)


def accepted(books: Books, *reports: UsageReport) -> None:
    for report in reports:
        assert books.use(report, START + HOUR_MS) is None


def test_a_last_report_has_the_highest_number() -> None:
    books = sold(BPS, INTERRUPTIBLE)
    for name in ("deliver", "accept", "end"):
        assert books.instruction(INSTRUCTIONS[name], START) is None
    accepted(books, UsageReport(LEASE, SELLER, 5, 0))
    refusal = books.use(UsageReport(LEASE, SELLER, 4, 0, final=True), START + HOUR_MS)
    assert refusal == (Refusal.USAGE_NOT_LAST, (4, 5))
    accepted(books, UsageReport(LEASE, SELLER, 6, 0, final=True))
    assert books.leases[LEASE].state == LeaseState.CLOSED
    accepted(books, UsageReport(LEASE, SELLER, 5, 0), UsageReport(LEASE, SELLER, 6, 0, final=True))


def test_figures_and_the_moments_up_to_which_they_count_rise_together() -> None:
    books = sold(BPS, INTERRUPTIBLE)
    for name in ("deliver", "accept"):
        assert books.instruction(INSTRUCTIONS[name], START) is None
    minutes = {3: 30, 1: 40, 2: 10, 5: 20, 4: 5, 6: 61}
    for number, minute in minutes.items():
        accepted(books, UsageReport(LEASE, SELLER, number, number, measured_at=START + minute * MINUTE_MS))
    moments = {row.sequence: (row.measured_at - START) // MINUTE_MS for row in books.new_usage}
    assert [moments[number] for number in range(1, 7)] == [30, 30, 30, 30, 30, 60]


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(-HOUR_MS, 3 * HOUR_MS)), max_size=12))
def test_in_whatever_order_reports_come_their_moments_rise_with_their_numbers(script: list[tuple[int, int]]) -> None:
    books = sold(BPS, INTERRUPTIBLE)
    for name in ("deliver", "accept"):
        assert books.instruction(INSTRUCTIONS[name], START) is None
    for number, moment in script:
        books.use(UsageReport(LEASE, SELLER, number, 0, measured_at=START + moment), START + 3 * HOUR_MS)
    rows = sorted(books.new_usage, key=lambda row: row.sequence)
    moments = [row.measured_at for row in rows]
    assert moments == sorted(moments)
    assert all(START <= moment <= START + HOURS * HOUR_MS for moment in moments)


def test_the_engine_hears_once_of_a_lease_that_is_reclaimed_and_then_ended() -> None:
    books = sold(BPS, INTERRUPTIBLE)
    for name in ("deliver", "accept", "reclaim", "end"):
        assert books.instruction(INSTRUCTIONS[name], START) is None
    assert [row.kind for row in books.outbox] == ["withdraw"]


def balances(books: Books) -> dict[int, int]:
    """What each ledger account has of the transactions so far."""
    found: dict[int, int] = {}
    for made in books.transactions:
        for account, amount in made.entries.items():
            found[account] = found.get(account, 0) + amount
    return {account: amount for account, amount in found.items() if amount}


def check(books: Books, lease: LeaseRow, before: LeaseRow) -> None:
    reached = {before.state}
    for _ in Step:  # one record may do several steps: a deadline, then what it says itself
        reached |= {to for steps in leases.TRANSITIONS.values() for since, to in steps.items() if since in reached}
    assert lease.state in reached
    assert before.state != LeaseState.CLOSED or lease == before, "closed is for good"
    assert (lease.state == LeaseState.CLOSED) == (lease.closed_at is not None) == (lease.deadline is None)
    assert lease.close_reason or lease.state not in ("reclaiming", "ended", "closed")
    owed = bill(PRICE, lease.used_gpu_ms + lease.forfeited_gpu_ms, FEE_BPS, FEE_BPS)
    assert (lease.charged, lease.earned) == (owed.charged, owed.earned)
    assert lease.used_gpu_ms <= QUANTITY * (max(START, min(lease.until, lease.end)) - START)
    assert lease.until <= lease.end
    money = balances(books)
    assert money.get(-lease.number, 0) == lease.in_escrow >= 0
    whole = bill(PRICE, QUANTITY * HOURS * HOUR_MS, FEE_BPS, FEE_BPS).charged
    spent = {account: amount for account, amount in money.items() if account != -lease.number}
    assert -spent.get(8 * BUYER + 1, 0) == lease.charged + lease.in_escrow <= whole
    told = [codec.decode_command(row.command) for row in books.outbox]
    assert all(isinstance(each, Return | Withdraw) for each in told)
    assert len(told) <= 1, "the engine hears once of a lease that does not run to its end"
    kept = leases.degradations(lease)
    ends = [START - HOUR_MS, *(each.until for each in kept[:-1])]
    assert all(each.since >= (end or 0) for each, end in zip(kept, ends, strict=False))
    assert [each.until for each in kept].count(None) == (lease.state == LeaseState.DEGRADED)
