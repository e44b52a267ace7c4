"""Settlement's pure rules: what a transaction is, and what use costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import units
from settlement.ledger import Transaction, transaction
from settlement.metering import allocated_gpu_ms, bill, first_use

prices = st.integers(1, units.MAX_PRICE)
fees = st.integers(0, units.MAX_FEE_BPS)
uses = st.integers(0, units.MAX_QUANTITY * units.MAX_WINDOW_MS)
moments = st.integers(0, 10**13)


def test_a_transaction_that_does_not_sum_to_zero_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="not balanced"):
        Transaction("x", 0, {9: 5, 10: -4})
    with pytest.raises(ValueError, match="not balanced"):
        Transaction("x", 0, {9: 0})
    assert transaction("x", 0, {9: 0, 10: 0}) is None
    assert transaction("x", 0, {9: 5, 10: -5, 11: 0}) == Transaction("x", 0, {9: 5, 10: -5})


@given(prices, st.lists(uses, min_size=1, max_size=6), fees, fees)
def test_any_split_of_use_into_reports_is_charged_the_same(
    price: int, reports: list[int], buys: int, sells: int
) -> None:
    charged = earned = revenue = 0
    before = bill(price, 0, buys, sells)
    for gpu_ms in sorted(reports):
        now = bill(price, gpu_ms, buys, sells)
        charged += now.charged - before.charged
        earned += now.earned - before.earned
        revenue += now.revenue - before.revenue
        before = now
    whole = bill(price, max(reports), buys, sells)
    assert (charged, earned, revenue) == (whole.charged, whole.earned, whole.revenue)
    assert charged == earned + revenue


@given(prices, st.integers(1, 64), st.integers(1, 10**6), fees, fees)
def test_a_lease_used_whole_costs_its_escrow_and_never_more(
    price: int, quantity: int, minutes: int, buys: int, sells: int
) -> None:
    duration = minutes * units.MINUTE_MS
    whole = bill(price, quantity * duration, buys, sells)
    assert whole.charged == units.escrow(price, quantity, duration, buys)
    assert bill(price, quantity * duration - 1, buys, sells).charged <= whole.charged


@given(st.integers(1, 64), moments, moments, moments)
def test_first_use_is_the_latest_moment_that_explains_the_use(quantity: int, start: int, end: int, now: int) -> None:
    most = allocated_gpu_ms(quantity, start, end, now)
    assert most >= 0
    if most:
        assert first_use(quantity, most, end, now) == start
        assert allocated_gpu_ms(quantity, first_use(quantity, most - 1, end, now), end, now) >= most - 1
