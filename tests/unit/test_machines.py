"""No GPU is bound to two leases at one time, whatever is bound, freed and bound again."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from schemas.refusals import Refusal
from settlement.machines import GpuRow, Machines, wrong_names

SELLER, OTHER = 3, 4


def test_a_gpu_that_is_bound_is_refused_with_who_has_it_until_when() -> None:
    machines = Machines()
    machines.bind((8, 0), SELLER, ["GPU-1", "GPU-2"], 100, 200)
    assert machines.clash(SELLER, ["GPU-3", "GPU-2"], 199, 300) == (Refusal.GPU_IN_USE, ("GPU-2", "lse_8-0", 200))
    assert machines.clash(SELLER, ["GPU-2"], 200, 300) is None, "a window ends before the next begins"
    assert machines.clash(OTHER, ["GPU-2"], 100, 200) is None, "another supplier's name for another GPU"


def test_of_several_leases_that_have_a_gpu_the_first_is_named_in_whatever_order_they_were_read() -> None:
    rows = [GpuRow(place, 0, SELLER, "GPU-1", 10 * place, 10 * place + 10) for place in (9, 8, 11)]
    machines = Machines()
    machines.add(rows)
    assert machines.clash(SELLER, ["GPU-1"], 0, 200) == (Refusal.GPU_IN_USE, ("GPU-1", "lse_8-0", 90))


def test_what_a_lease_leaves_early_can_be_bound_anew() -> None:
    machines = Machines()
    machines.add([GpuRow(8, 0, SELLER, "GPU-1", 100, 200)])
    machines.free((8, 0), SELLER, 150)
    assert machines.freed == {(8, 0): 150}
    assert machines.clash(SELLER, ["GPU-1"], 150, 180) is None
    assert machines.clash(SELLER, ["GPU-1"], 149, 180) is not None
    machines.bind((9, 0), SELLER, ["GPU-1"], 150, 180)
    machines.free((9, 0), SELLER, 140)  # before it began
    assert machines.clash(SELLER, ["GPU-1"], 150, 180) is None
    assert [(row.since, row.until) for row in machines.added.values()] == [(150, 150)]


def test_what_was_left_is_not_had_for_longer_by_being_left_once_more() -> None:
    machines = Machines()
    machines.bind((8, 0), SELLER, ["GPU-1"], 100, 200)
    machines.free((8, 0), SELLER, 250)
    assert machines.clash(SELLER, ["GPU-1"], 200, 250) is None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20), st.integers(1, 8), st.booleans()), max_size=30))
def test_at_no_moment_has_a_gpu_two_leases(wishes: list[tuple[int, int, int, bool]]) -> None:
    machines = Machines()
    for number, (gpu, since, length, ends_early) in enumerate(wishes):
        lease, names, until = (number, 0), [f"GPU-{gpu}"], since + length
        if machines.clash(SELLER, names, since, until) is None:
            machines.bind(lease, SELLER, names, since, until)
            if ends_early:
                machines.free(lease, SELLER, since + length // 2)
    for moment in range(30):
        having = [row.gpu for row in machines.added.values() if row.since <= moment < row.until]
        assert len(having) == len(set(having))


@pytest.mark.parametrize(
    ("gpus", "right"),
    [
        ((), True),
        (("a", "b"), True),
        (("a",), False),
        (("a", "a"), False),
        (("a", "b", "c"), False),
        (("a", ""), False),
        (("a", "b" * 65), False),
        (("a", "\n"), False),
        (("a", "ü"), False),
    ],
)
def test_a_delivery_names_all_gpus_of_its_lease_or_none(gpus: tuple[str, ...], right: bool) -> None:
    assert (wrong_names(gpus, 2) is None) == right


def test_more_gpus_than_one_delivery_can_name() -> None:
    assert wrong_names([f"GPU-{number}" for number in range(1025)], 1025) is not None
    assert wrong_names([f"GPU-{number}" for number in range(1024)], 1024) is None
