"""Usage reports beside the bill they make: up to when each counts, and those that were refused. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from schemas.ids import MAX_ACCOUNT, LeaseId
from schemas.instructions import UsageReport
from settlement import leases
from settlement.leases import LeaseRow, Refused

MAX_INT = (1 << 63) - 1


class UsageRow(NamedTuple):
    """A usage report as the table `usage` has it."""

    position: int
    fill_index: int
    sequence: int
    gpu_ms: int
    final: bool
    reported_at: int
    measured_at: int


class RefusedUsageRow(NamedTuple):
    """A usage report that had no effect, as the table `refused_usage` has it."""

    account: int
    refused_at: int
    partition: int
    record_offset: int
    position: int
    fill_index: int
    sequence: int
    gpu_ms: int
    final: bool
    measured_at: int
    code: str
    args: str


def neighbours(known: Mapping[int, UsageRow], sequence: int) -> tuple[UsageRow | None, UsageRow | None]:
    """Of a lease's reports, by sequence: the last before `sequence`, and the first after it."""
    before = after = None
    for number, row in known.items():
        if number < sequence:
            if before is None or before.sequence < number:
                before = row
        elif number > sequence and (after is None or after.sequence > number):
            after = row
    return before, after


def accepted_row(
    lease: LeaseRow, report: UsageReport, before: UsageRow | None, after: UsageRow | None, now: int
) -> UsageRow:
    """The report's row. It counts up to when it was measured, within the lease's time and between its neighbours:
    figures and moments then rise together, and the last of a moment is the figure then.
    """
    moment = max(lease.start, min(leases.measured_at(report, now), lease.until))
    if after is not None:
        moment = min(moment, after.measured_at)
    if before is not None:
        moment = max(moment, before.measured_at)
    return UsageRow(*lease.id, report.sequence, report.gpu_ms, report.final, now, moment)


def refused_row(report: UsageReport, partition: int, offset: int, refused: Refused, now: int) -> RefusedUsageRow | None:
    """None where its numbers are none that any account, lease or report has: no gateway writes such."""
    figures = (*report.lease, report.sequence, report.gpu_ms)
    if not (1 <= report.account <= MAX_ACCOUNT and _is_lease(report.lease) and all(abs(n) <= MAX_INT for n in figures)):
        return None
    code, args = refused
    measured_at = max(0, min(report.measured_at, MAX_INT))
    shown = msgspec.json.encode(args).decode()
    return RefusedUsageRow(
        report.account, now, partition, offset, *figures, report.final, measured_at, code.value, shown
    )


def _is_lease(lease: LeaseId) -> bool:
    return 0 <= lease[0] <= MAX_INT and 0 <= lease[1] < 1 << 31
