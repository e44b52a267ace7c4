"""What goes back to a buyer where a lease was not what its class promised (rulebook: Usage). Pure."""

from collections.abc import Iterable

import msgspec

from schemas.attributes import SlaStep
from schemas.units import BPS, cost
from settlement.leases import LeaseRow

_steps = msgspec.json.Decoder(tuple[SlaStep, ...]).decode


def credit_due(lease: LeaseRow) -> int:
    """µ$, of a lease that is closed: a share of its cost by its uptime, and of what the rest that its supplier took
    back would have cost. At most what its supplier earned with it."""
    of_uptime = lease.owed.cost * credit_bps(_steps(lease.sla), lease.uptime_bps) // BPS
    of_rest = cost(lease.price, 1, lease.lost_gpu_ms) * lease.reclaim_credit_bps // BPS
    return min(lease.earned, of_uptime + of_rest)


def credit_bps(steps: Iterable[SlaStep], uptime_bps: int | None) -> int:
    """The credit of the last step that the uptime is below; none where nothing was to be billed.

    >>> steps = (SlaStep(9_990, 1_000), SlaStep(9_900, 2_500))
    >>> [credit_bps(steps, uptime) for uptime in (9_990, 9_989, 9_900, 9_899, None)]
    [0, 1000, 1000, 2500, 0]
    """
    if uptime_bps is None:
        return 0
    return max((step.credit_bps for step in steps if uptime_bps < step.below_bps), default=0)
