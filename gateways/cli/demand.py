"""What the players of the play offer and want: real list prices, a real arrival profile, the rest from a seed.

Pure: who sends it is in `play.py`. One seed gives one sequence of offers and of wishes, whatever the exchange answers.
"""

import random
from itertools import accumulate

from msgspec import Struct

from gateways.cli.facts.arrivals import arrivals
from gateways.cli.facts.prices import ListPrice
from schemas.attributes import Attributes, ClassSpec, Delivery, Interconnect, Region, Tier
from schemas.commands import Prefer, TimeInForce
from schemas.units import DAY_MS, GRID_MS, HOUR_MS, MINUTE_MS

DEVELOPERS = 24
ORDERS_PER_S = 30
"""Bids in a wall second, on average over the profile."""
BIN_PLAYS_S = 1.0
"""So long in wall seconds does a bin of ten of the arrival trace's seconds play."""
HORIZON_MS = 14 * DAY_MS
"""How far ahead suppliers offer."""
STEPS = 24
"""Moments, a unit apart, that a bid which rests accepts (what `cx buy` sends)."""
_QUANTITIES = (1, 2, 3, 4, 6, 8, 12, 16)
_OFTEN = (30, 16, 4, 18, 4, 22, 2, 8)


class Pace(Struct, frozen=True):
    """How long things last: a unit is an hour where the exchange's clock runs fast, a minute where it does not."""

    unit_ms: int
    durations: tuple[int, ...]
    """Units for which developers rent."""
    meter_every_s: float
    """Wall seconds between two reports of a lease's use."""


def pace(speed: int) -> Pace:
    """About a unit in a wall second, as far as the grid and an hour allow."""
    unit_ms = min(HOUR_MS, max(MINUTE_MS, speed * 1000 // GRID_MS * GRID_MS))
    durations = (1, 2, 3, 4, 5) if unit_ms == MINUTE_MS else (1, 2, 3, 4, 6, 8, 12, 24)
    return Pace(unit_ms, durations, meter_every_s=min(20.0, max(2.0, 2 * unit_ms / 1000 / speed)))


def terms(spec: ClassSpec, unit_ms: int) -> ClassSpec:
    """The class with times that suit a market in which a unit is what an hour is elsewhere."""
    return ClassSpec(
        spec.class_id,
        spec.accelerator,
        spec.memory_gb,
        spec.form_factor,
        delivery_due_ms=12 * unit_ms,
        acceptance_ms=4 * unit_ms,
        grace_ms=12 * unit_ms,
    )


class Offer(Struct, frozen=True):
    """Capacity that a supplier keeps on sale, at the price on its list. Quantity and fabric are simulated."""

    row: int
    """Of the price list."""
    line: ListPrice
    quantity: int
    attributes: Attributes


def offers(prices: list[ListPrice], classes: dict[str, ClassSpec], seed: int) -> list[Offer]:
    """One for each line of the price lists."""
    draw = random.Random(f"offers {seed}")
    return [
        Offer(row, line, line.instance_size * draw.randint(2, 10), _attributes(line, classes[line.class_id]))
        for row, line in enumerate(prices)
    ]


def _attributes(line: ListPrice, spec: ClassSpec) -> Attributes:
    delivery = Delivery.VM
    if line.raw_name.startswith("BM."):
        delivery = Delivery.BARE_METAL
    elif line.seller.startswith(("RunPod", "Vast")):
        delivery = Delivery.CONTAINER
    linked = spec.form_factor in {"SXM", "OAM"} and line.instance_size > 1
    interruptible = line.tier is Tier.INTERRUPTIBLE
    return Attributes(
        region=line.region,
        delivery=delivery,
        interconnect=Interconnect.NVLINK if linked else Interconnect.NONE,
        tier=line.tier,
        notice_minutes=2 if interruptible else 0,
    )


class Wish(Struct, frozen=True):
    """What a developer wants. Times ms, price µ$ per GPU-hour."""

    developer: int
    class_id: str
    quantity: int
    price: int
    duration_ms: int
    first_step: int
    """Units from now to the first moment that would do; 0 is now."""
    steps: int
    """Moments that would do, a unit apart."""
    min_fill: int
    regions: tuple[Region, ...]
    interconnect: Interconnect
    interruptible: bool
    time_in_force: TimeInForce
    prefer: Prefer
    cancels: bool
    """Whether the developer then thinks better of an older order."""


class Demand:
    """The endless sequence of wishes, and when they come."""

    def __init__(self, supply: list[Offer], ticks: dict[str, int], pace: Pace, seed: int) -> None:
        self._draw = random.Random(f"demand {seed}")
        self._lines = [offer.line for offer in supply]
        self._gpus = list(accumulate(offer.quantity for offer in supply))
        self._of_class: dict[str, list[ListPrice]] = {}
        for line in self._lines:
            self._of_class.setdefault(line.class_id, []).append(line)
        self._ticks = ticks
        self._pace = pace
        profile = arrivals()
        first = self._draw.randrange(len(profile))
        self._profile = profile[first:] + profile[:first]
        self._scale = ORDERS_PER_S * len(self._profile) / sum(self._profile)

    def gap_s(self, elapsed_s: float) -> float:
        """Wall seconds to the next wish, when the play has run for `elapsed_s`."""
        count = self._profile[int(elapsed_s / BIN_PLAYS_S) % len(self._profile)]
        return self._draw.expovariate(count * self._scale)

    def wish(self) -> Wish:
        """The next one: the class drawn by how much is on sale, the limit near the better of two of its prices."""
        draw = self._draw
        line = draw.choices(self._lines, cum_weights=self._gpus)[0]
        price = min(line.price, draw.choice(self._of_class[line.class_id]).price)
        tick = self._ticks[line.class_id]
        quantity = draw.choices(_QUANTITIES, _OFTEN)[0]
        rests = draw.random() < 0.4
        ahead = draw.choice((0, 0, 0, 1, 3, 6))
        return Wish(
            developer=draw.randrange(DEVELOPERS),
            class_id=line.class_id,
            quantity=quantity,
            price=max(tick, price * draw.randint(700, 1300) // 1000 // tick * tick),
            duration_ms=draw.choice(self._pace.durations) * self._pace.unit_ms,
            first_step=ahead,
            steps=STEPS if rests else 1,
            min_fill=quantity if draw.random() < 0.4 else 1,
            regions=(line.region,) if line.region and draw.random() < 0.3 else (),
            interconnect=Interconnect.NVLINK if quantity > 1 and draw.random() < 0.15 else Interconnect.NONE,
            interruptible=draw.random() < 0.5,
            time_in_force=TimeInForce.GTC if rests else draw.choice((TimeInForce.IOC,) * 5 + (TimeInForce.FOK,)),
            prefer=draw.choice(tuple(Prefer)),
            cancels=draw.random() < 0.08,
        )
