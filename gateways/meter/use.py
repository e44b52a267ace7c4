"""What a lease has used, from who saw how many of its GPUs and when. Pure; times in ms of the exchange's clock."""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct

from gateways.client.types import Lease
from schemas.units import parse_time


class Run(NamedTuple):
    """So many GPUs were there at every look from `since` to `until`."""

    since: int
    until: int
    gpus: int


class Terms(Struct, frozen=True):
    """What of a lease says which use counts."""

    quantity: int
    billed_from: int | None
    """None until its buyer has accepted it: GPUs that are merely there are not used by anybody."""
    until: int
    closed: bool


class Clock(Struct, frozen=True):
    """What the exchange's clock showed, never more, when the node's own was at `wall_ms`."""

    exchange_ms: int
    wall_ms: int
    speed: int
    """1, except in a demo."""

    def at(self, wall_ms: int) -> int:
        """The exchange's time then."""
        return self.exchange_ms + (wall_ms - self.wall_ms) * self.speed


def terms_of(lease: Lease) -> Terms:
    """As the exchange shows them."""
    accepted = None if lease.accepted_at is None else parse_time(lease.accepted_at)
    return Terms(
        quantity=lease.quantity,
        billed_from=None if accepted is None else max(parse_time(lease.start), accepted),
        until=parse_time(lease.ends_at or lease.end),
        closed=lease.state == "closed",
    )


def used_gpu_ms(runs: Iterable[Run], since: int, until: int) -> int:
    """Of the runs, what lies in `[since, until)`.

    >>> used_gpu_ms([Run(0, 1000, 2), Run(5000, 6000, 1)], 500, 5200)
    1200
    """
    return sum(run.gpus * max(0, min(run.until, until) - max(run.since, since)) for run in runs)
