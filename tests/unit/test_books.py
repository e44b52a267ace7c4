"""What settlement's fold makes of records, without a database: the money of it is proved in tests/integration."""

from typing import Any, cast

import pytest
from msgspec import Struct

from schemas.attributes import ClassSpec
from schemas.commands import Side
from schemas.events import Accepted, Amended, Execution
from schemas.ids import LeaseId
from schemas.instructions import UsageReport
from schemas.refusals import Refusal
from settlement.books import Books, Wanted

H100 = ClassSpec("H100-SXM-80GB", "NVIDIA H100", 80, "SXM")
HOUR = 3_600_000


class FromTheFuture(Struct):
    """An event that this version does not know."""

    order_id: int = 0


def test_an_event_that_it_does_not_know_changes_nothing_and_wants_nothing() -> None:
    books, wanted = Books({H100.class_id: H100}, 0), Wanted()
    unknown = Execution(7, 6, 1_000, cast(Any, (FromTheFuture(),)))
    wanted.add_execution(unknown)
    books.execution(unknown)
    assert (wanted.orders, wanted.order_ids, wanted.leases) == (set(), set(), set())
    assert (books.transactions, books.changed_orders, books.new_orders) == ([], {}, {})


def test_an_amend_wants_the_row_of_its_order_and_the_cash_of_who_bids() -> None:
    bid, ask = (Amended(5, 2, side, 7, 8, 8, 2_500_000, 0, HOUR) for side in Side)
    execution = Execution(7, 6, 1_000, (bid,))
    wanted = Wanted()
    wanted.add_execution(execution)
    assert wanted.order_ids == {5}
    books = Books({}, 0)
    assert books.short_of_hold([execution]) == {2}
    assert books.short_of_hold([Execution(7, 6, 1_000, (ask,))]) == set()


def test_an_amend_of_an_ask_moves_no_money() -> None:
    books = Books({H100.class_id: H100}, 0)
    accepted = Accepted(3, "a-1", H100.class_id, Side.ASK, 16, 2_500_000, 0, 0, 48 * HOUR)
    books.execution(Execution(5, -1, 1_000, (accepted,)))
    books.execution(Execution(6, 5, 1_000, (Amended(5, 3, Side.ASK, 6, 8, 8, 2_600_000, 0, 24 * HOUR),)))
    row = books.answered[5]
    assert (row.remaining, row.price, row.duration, row.held, row.reason) == (8, 2_600_000, 24 * HOUR, 0, "")
    assert books.transactions == []


@pytest.mark.parametrize("lease", [(-1, 0), (1 << 63, 0), (5, 1 << 31), (5, -1)])
def test_what_names_no_possible_lease_is_refused_and_wants_no_row(lease: LeaseId) -> None:
    report, books, wanted = UsageReport(lease, 3, 1, 1_000), Books({}, 0), Wanted()
    wanted.add_usage(report)
    assert (wanted.leases, wanted.reports) == (set(), set())
    refused = books.use(report, 1_000)
    assert refused is not None
    assert refused[0] is Refusal.UNKNOWN_LEASE


def test_a_report_wants_its_lease_whatever_its_number_so_that_its_refusal_is_the_same_in_every_batch() -> None:
    wanted = Wanted()
    wanted.add_usage(UsageReport((5, 0), 3, 0, 1_000))
    assert (wanted.leases, wanted.reports) == ({(5, 0)}, set())
