"""Which month a charge belongs to, and when a month is final."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas import units
from schemas.units import DAY_MS, HOUR_MS, month_of, month_start, parse_time
from settlement import invoices
from settlement.invoices import LATE_MS, Billed, Charge, is_final, month_of_charge
from settlement.leases import LeaseRow
from settlement.metering import bill

NOVEMBER, DECEMBER = month_of(parse_time("2026-11-30T23:59:59.999Z")), month_of(parse_time("2026-12-01T00:00:00Z"))
END_OF_NOVEMBER = month_start(DECEMBER)


def lease_of(price: int, buyer_fee_bps: int, seller_fee_bps: int) -> LeaseRow:
    return LeaseRow(
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
        quantity=8,
        start=END_OF_NOVEMBER - HOUR_MS,
        end=END_OF_NOVEMBER + HOUR_MS,
        buyer_fee_bps=buyer_fee_bps,
        seller_fee_bps=seller_fee_bps,
        attributes=b"",
        acceptance_ms=0,
        grace_ms=0,
        deliver_by=0,
        created_at=0,
    )


def test_months_are_of_utc_and_follow_each_other() -> None:
    assert (NOVEMBER + 1, units.format_month(DECEMBER)) == (DECEMBER, "2026-12")
    assert month_of(END_OF_NOVEMBER - 1) == NOVEMBER


@given(st.integers(0, 12 * 8000))
def test_a_month_is_read_as_it_is_written_and_begins_where_the_one_before_ends(month: int) -> None:
    assert units.parse_month(units.format_month(month)) == month
    assert (month_of(month_start(month)), month_of(month_start(month + 1) - 1)) == (month, month)


def test_a_late_report_belongs_to_the_month_in_which_the_use_ended() -> None:
    late = END_OF_NOVEMBER + 2 * DAY_MS
    assert month_of_charge(late, until=END_OF_NOVEMBER) == NOVEMBER
    assert month_of_charge(late, until=END_OF_NOVEMBER + 1) == DECEMBER
    assert month_of_charge(END_OF_NOVEMBER - 1, until=END_OF_NOVEMBER + DAY_MS) == NOVEMBER


def test_a_month_is_final_a_day_after_its_end_once_no_lease_that_ended_in_it_is_open() -> None:
    settled = END_OF_NOVEMBER + LATE_MS
    assert not is_final(NOVEMBER, settled, None)
    assert is_final(NOVEMBER, settled + 1, None)
    assert is_final(NOVEMBER, settled + 1, END_OF_NOVEMBER + 1)
    assert not is_final(NOVEMBER, settled + 10**10, END_OF_NOVEMBER)


@given(st.integers(0, 10**11), st.integers(-LATE_MS, 10**11), st.integers(1, 10**11))
def test_a_final_month_gets_no_charge_any_more(settled: int, late: int, until: int) -> None:
    """Whatever comes: a record counts as of a day before the executions at the earliest."""
    clock, at = END_OF_NOVEMBER + settled, END_OF_NOVEMBER + settled + late
    ends = END_OF_NOVEMBER - 10**10 + until
    assert not (is_final(month_of_charge(at, ends), clock, ends))


@given(
    st.integers(1, units.MAX_PRICE),
    st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**9), st.integers(0, 3)), min_size=1, max_size=8),
    st.integers(0, units.MAX_FEE_BPS),
    st.integers(0, units.MAX_FEE_BPS),
)
def test_the_months_of_a_lease_add_up_to_its_bill_to_the_micro_dollar(
    price: int, steps: list[tuple[int, int, int]], buys: int, sells: int
) -> None:
    lease, before = lease_of(price, buys, sells), Billed()
    months: dict[int, Charge] = {}
    for used, forfeited, month in steps:
        lease = msgspec.structs.replace(
            lease, used_gpu_ms=lease.used_gpu_ms + used, forfeited_gpu_ms=lease.forfeited_gpu_ms + forfeited
        )
        months[month] = invoices.together(months.get(month), invoices.charge(lease, before, lease.owed, month))
        before = invoices.billed(lease)
    whole = bill(price, lease.used_gpu_ms + lease.forfeited_gpu_ms, buys, sells)
    assert sum(each.cost + each.buyer_fee for each in months.values()) == whole.charged
    assert sum(each.cost - each.seller_fee for each in months.values()) == whole.earned
    assert sum(each.used_gpu_ms for each in months.values()) == lease.used_gpu_ms
    assert {month: (each.month, each.buyer, each.seller) for month, each in months.items()} == {
        month: (month, 2, 1) for month in months
    }
