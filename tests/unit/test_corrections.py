"""What may be corrected of a closed lease, and what the note comes to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import units
from schemas.instructions import Correct
from schemas.refusals import Refusal
from schemas.units import HOUR_MS, MINUTE_MS, month_of, parse_time
from settlement import corrections
from settlement.corrections import MAX_CORRECTIONS, Corrected, Correction
from settlement.leases import CLOSED, ENDED, LeaseRow
from settlement.metering import bill

START = parse_time("2026-11-30T20:00:00Z")
QUANTITY, HOURS = 8, 3
MOST = QUANTITY * HOURS * HOUR_MS
LATER = START + 40 * units.DAY_MS


def closed(
    price: int = 2_499_997, buyer_fee_bps: int = 133, seller_fee_bps: int = 77, used: int = MOST, forfeited: int = 0
) -> LeaseRow:
    lease = LeaseRow(
        position=7,
        fill_index=1,
        number=1,
        partition=0,
        class_id="H100-SXM-80GB",
        bid_id=7,
        ask_id=3,
        buyer=2,
        seller=1,
        price=price,
        quantity=QUANTITY,
        start=START,
        end=START + HOURS * HOUR_MS,
        buyer_fee_bps=buyer_fee_bps,
        seller_fee_bps=seller_fee_bps,
        attributes=b"",
        acceptance_ms=0,
        grace_ms=0,
        deliver_by=0,
        created_at=0,
        state=CLOSED,
        delivered_at=START - MINUTE_MS,
        accepted_at=START - MINUTE_MS,
        used_gpu_ms=used,
        forfeited_gpu_ms=forfeited,
    )
    lease.charged, lease.earned = lease.owed.charged, lease.owed.earned
    return lease


def said(gpu_ms: int, *, by: int = 0, reason: str = "metered twice") -> Correct:
    return Correct((7, 1), by, gpu_ms, reason)


def refusal(lease: LeaseRow, correct: Correct, so_far: Corrected | None = None) -> Refusal | None:
    found = corrections.refused(lease, correct, so_far or Corrected())
    return None if found is None else found[0]


def test_only_a_closed_lease_that_was_delivered_is_corrected() -> None:
    lease = closed()
    assert refusal(lease, said(0)) is None
    lease.state = ENDED
    assert refusal(lease, said(0)) is Refusal.LEASE_STATE
    lease.state, lease.delivered_at = CLOSED, None
    assert refusal(lease, said(0)) is Refusal.LEASE_STATE


@pytest.mark.parametrize(
    ("correct", "expected"),
    [
        (said(MOST), None),
        (said(MOST + 1), Refusal.CORRECTION_OUT_OF_RANGE),
        (said(-1), Refusal.CORRECTION_OUT_OF_RANGE),
        (said(HOUR_MS, by=1), None),
        (said(HOUR_MS + 1, by=1), Refusal.CORRECTION_UPWARDS),
        (said(0, reason=""), Refusal.UNREADABLE),
        (said(0, reason="a\x1bb"), Refusal.UNREADABLE),
        (said(0, reason="x" * 501), Refusal.UNREADABLE),
    ],
)
def test_what_is_said_must_be_possible_and_a_supplier_only_takes_back(
    correct: Correct, expected: Refusal | None
) -> None:
    assert refusal(closed(used=2 * HOUR_MS), correct, Corrected(1, -HOUR_MS, 0)) is expected


def test_so_many_notes_are_kept_of_a_lease() -> None:
    assert refusal(closed(), said(0), Corrected(MAX_CORRECTIONS - 1)) is None
    assert refusal(closed(), said(0), Corrected(MAX_CORRECTIONS)) is Refusal.TOO_MANY_CORRECTIONS


@given(
    st.integers(1, units.MAX_PRICE),
    st.lists(st.integers(0, MOST), min_size=1, max_size=6),
    st.integers(0, MOST),
    st.integers(0, MOST),
    st.integers(0, units.MAX_FEE_BPS),
    st.integers(0, units.MAX_FEE_BPS),
)
def test_a_lease_and_its_notes_are_the_bill_of_the_last_word(
    price: int, words: list[int], used: int, forfeited: int, buys: int, sells: int
) -> None:
    lease, so_far, notes = closed(price, buys, sells, used, forfeited), Corrected(), list[Correction]()
    for gpu_ms in words:
        note = corrections.corrected(lease, said(gpu_ms), so_far, LATER)
        assert sum(note.entries.values()) == 0
        notes.append(note)
        so_far = Corrected(note.ordinal, so_far.gpu_ms + note.gpu_ms, None)
    whole = bill(price, words[-1] + forfeited, buys, sells)
    assert lease.charged + sum(note.charged for note in notes) == whole.charged
    assert lease.earned + sum(note.earned for note in notes) == whole.earned
    assert [note.ordinal for note in notes] == list(range(1, len(words) + 1))


def test_a_note_names_the_month_of_the_line_that_it_corrects() -> None:
    november = month_of(START)
    note = corrections.corrected(closed(), said(0), Corrected(charged_month=november), LATER)
    assert (note.corrects, note.month) == (november, month_of(LATER))
    assert corrections.corrected(closed(), said(0), Corrected(), LATER).corrects == november, "never charged"


def test_who_pays_must_have_it() -> None:
    debit = corrections.corrected(closed(used=0), said(MOST), Corrected(), LATER)
    assert corrections.uncovered(debit, debit.charged, 0) is None
    short = corrections.uncovered(debit, debit.charged - 1, 10**9)
    assert short == (
        Refusal.CORRECTION_UNCOVERED,
        ("lse_7-1", debit.charged, "buyer's cash", debit.charged - 1),
    )
    credit = corrections.corrected(closed(), said(0), Corrected(), LATER)
    assert corrections.uncovered(credit, 0, -credit.earned) is None
    short = corrections.uncovered(credit, 0, -credit.earned - 1)
    assert short is not None
    assert short[1] == ("lse_7-1", -credit.earned, "supplier's receivable", -credit.earned - 1)
