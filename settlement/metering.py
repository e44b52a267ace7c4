"""What metered use costs (rulebook: Usage). Pure functions of a lease's terms and cumulative GPU-milliseconds."""

from typing import NamedTuple

from schemas.units import BPS, HOUR_MS


class Bill(NamedTuple):
    """What a lease owes for its cumulative use, in µ$, each floored once: any split into reports adds up to this."""

    cost: int
    buyer_fee: int
    seller_fee: int

    @property
    def charged(self) -> int:
        """To the buyer."""
        return self.cost + self.buyer_fee

    @property
    def earned(self) -> int:
        """By the supplier."""
        return self.cost - self.seller_fee

    @property
    def revenue(self) -> int:
        """Of the exchange."""
        return self.buyer_fee + self.seller_fee


def bill(price: int, gpu_ms: int, buyer_fee_bps: int, seller_fee_bps: int) -> Bill:
    """The bill for `gpu_ms` at `price` µ$ per GPU-hour.

    >>> bill(2_500_000, 3_600_000, 100, 200)
    Bill(cost=2500000, buyer_fee=25000, seller_fee=50000)
    """
    # As `units.cost` and `units.fee`, written out: twice a report, it is a tenth of the fold.
    rate = price * gpu_ms
    return Bill(rate // HOUR_MS, rate * buyer_fee_bps // (HOUR_MS * BPS), rate * seller_fee_bps // (HOUR_MS * BPS))


def allocated_gpu_ms(quantity: int, billed_from: int, end: int, now: int) -> int:
    """The most that a lease can have used by `now`: quantity × time of the window since `billed_from`, ms."""
    return quantity * max(0, min(now, end) - billed_from)


def first_use(quantity: int, gpu_ms: int, end: int, now: int) -> int:
    """The latest moment, ms, at which use that amounts to `gpu_ms` by `now` can have begun: on all GPUs at once."""
    return min(now, end) - -(-gpu_ms // quantity)


def uptime_bps(allocated_gpu_ms: int, used_gpu_ms: int, degraded_gpu_ms: int) -> int | None:
    """Of what was to be billed, in basis points, floored, what was metered and not degraded; None where nothing was.

    Where both are missing only the larger counts: a supplier that does not meter what it said is broken has told once.

    >>> uptime_bps(1000, 990, 5), uptime_bps(1000, 990, 20), uptime_bps(0, 0, 0)
    (9900, 9800, None)
    """
    if not allocated_gpu_ms:
        return None
    down = min(allocated_gpu_ms, max(allocated_gpu_ms - used_gpu_ms, degraded_gpu_ms))
    return (allocated_gpu_ms - down) * BPS // allocated_gpu_ms


def forfeited_gpu_ms(unused_gpu_ms: int, refund_bps: int) -> int:
    """Of the unused rest of a lease that its buyer ends early, what is billed all the same, floored.

    >>> forfeited_gpu_ms(3_600_001, 7_500)
    900000
    """
    return unused_gpu_ms * (BPS - refund_bps) // BPS
