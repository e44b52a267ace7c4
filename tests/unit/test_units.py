"""Money, time and ids: exact, and back again."""

import doctest
from fractions import Fraction
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ids, refusals, units

amounts = st.integers(-(10**18 - 1), 10**18 - 1)
prices = st.integers(1, units.MAX_PRICE)
quantities = st.integers(1, units.MAX_QUANTITY)
durations = st.integers(1, units.MAX_WINDOW_MS // units.GRID_MS).map(lambda n: n * units.GRID_MS)
fees = st.integers(0, units.MAX_FEE_BPS)
positions = st.builds(ids.position, st.integers(0, ids.MAX_PARTITION), st.integers(0, 2**48 - 1))


@pytest.mark.parametrize("module", [units, ids, refusals])
def test_the_examples_in_docstrings_are_true(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.failed == 0
    assert result.attempted > 0


@given(amounts)
def test_dollars_survive_the_way_out_and_back(amount: int) -> None:
    assert units.parse_usd(units.format_usd(amount)) == amount


@pytest.mark.parametrize("text", ["", "2,60", "1e3", "2.6000001", ".5", "5.", "$2", "+2", " 2", "٢", "nan", "9" * 14])
def test_what_is_no_amount_is_refused_with_advice(text: str) -> None:
    with pytest.raises(ValueError, match="write it like"):
        units.parse_usd(text)


@given(st.integers(0, 253_402_300_799_999))
def test_time_survives_the_way_out_and_back(time_ms: int) -> None:
    assert units.parse_time(units.format_time(time_ms)) == time_ms


def test_time_is_read_with_any_offset_but_never_without_one() -> None:
    assert units.parse_time("2026-11-24T04:00:00+01:00") == units.parse_time("2026-11-24T03:00:00Z")
    for text in ("2026-11-24T03:00:00", "2026-11-24", "now", "", "2026-11-24 03:00:00"):
        with pytest.raises(ValueError, match="RFC 3339"):
            units.parse_time(text)


@given(st.integers(1, 10**6))
def test_durations_survive_the_way_out_and_back(minutes: int) -> None:
    duration = minutes * units.MINUTE_MS
    assert units.parse_duration(units.format_duration(duration)) == duration


@given(prices, quantities, durations, fees)
def test_the_largest_order_fits_a_signed_64_bit_column(price: int, quantity: int, duration: int, fee_bps: int) -> None:
    worst = units.hold(units.MAX_PRICE, units.MAX_QUANTITY, units.MAX_WINDOW_MS, units.MAX_FEE_BPS)
    assert units.hold(price, quantity, duration, fee_bps) <= worst < 2**63


@given(prices, prices, quantities, quantities, durations, fees)
def test_what_a_fill_takes_never_exceeds_what_was_held_for_it(
    one: int, other: int, filled: int, left: int, duration: int, fee_bps: int
) -> None:
    price, limit = sorted((one, other))
    before = units.hold(limit, filled + left, duration, fee_bps)
    assert units.escrow(price, filled, duration, fee_bps) + units.hold(limit, left, duration, fee_bps) <= before


@given(prices, quantities, durations, fees)
def test_cost_and_fee_are_floors_and_the_hold_is_a_ceiling(price: int, quantity: int, duration: int, bps: int) -> None:
    exact = Fraction(price * quantity * duration, units.HOUR_MS)
    assert 0 <= exact - units.cost(price, quantity, duration) < 1
    assert 0 <= exact * bps / units.BPS - units.fee(price, quantity, duration, bps) < 1
    assert 0 <= units.hold(price, quantity, duration, bps) - exact * (1 + Fraction(bps, units.BPS)) < 1


@given(positions, st.integers(0, 10**6))
def test_ids_survive_the_way_out_and_back(place: int, index: int) -> None:
    assert place < 2**63
    assert ids.position(ids.partition_of(place), ids.offset_of(place)) == place
    assert ids.parse_order_id(ids.format_order_id(place)) == place
    assert ids.parse_fill_id(ids.format_fill_id((place, index))) == (place, index)
    assert ids.parse_lease_id(ids.format_lease_id((place, index))) == (place, index)


def test_a_number_below_nothing_is_no_id() -> None:
    with pytest.raises(ValueError, match="-1 is no id"):
        ids.format_lease_id((-1, 0))


@pytest.mark.parametrize("text", ["", "ord_", "ord_01", "ord_l", "lse_1-0", "ord_1-0", "ord_" + "z" * 13, "1", "ORD_1"])
def test_what_is_no_order_id_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="it looks like ord_7k2"):
        ids.parse_order_id(text)


def test_every_refusal_has_a_wording_and_only_those() -> None:
    assert set(refusals.WORDINGS) == set(refusals.Refusal)
