"""What a class is, what an ask states within it, and what a bid accepts (rulebook: Classes and attributes)."""

from enum import IntEnum
from functools import lru_cache

from msgspec import Struct

from schemas.units import HOUR_MS, MAX_PRICE, MAX_QUANTITY, MINUTE_MS


class Region(IntEnum):
    """The closed list of regions. `UNSPECIFIED` suits only a bid that takes any."""

    UNSPECIFIED = 0
    US_EAST = 1
    US_CENTRAL = 2
    US_WEST = 3
    CA_EAST = 4
    SA_EAST = 5
    EU_WEST = 6
    EU_CENTRAL = 7
    EU_NORTH = 8
    EU_SOUTH = 9
    ME_CENTRAL = 10
    AF_SOUTH = 11
    AP_SOUTH = 12
    AP_SOUTHEAST = 13
    AP_NORTHEAST = 14
    AP_OCEANIA = 15


class Delivery(IntEnum):
    """How the capacity is handed over; a bid states the least it accepts."""

    CONTAINER = 0
    VM = 1
    BARE_METAL = 2


class Interconnect(IntEnum):
    """The fabric between the GPUs; a bid states the least it accepts."""

    NONE = 0
    NVLINK = 1
    INFINIBAND = 2


class Tier(IntEnum):
    """Whether the supplier may take the capacity back before the end, with notice."""

    GUARANTEED = 0
    INTERRUPTIBLE = 1


@lru_cache(None, typed=True)  # members of two enums are equal where their numbers are
def name_of(member: IntEnum) -> str:
    """The name used outside: `Region.US_EAST` -> `us-east`, `Delivery.BARE_METAL` -> `bare_metal`."""
    return member.name.lower().replace("_", "-") if isinstance(member, Region) else member.name.lower()


REGIONS = {name_of(region): region for region in Region}
DELIVERIES = {name_of(delivery): delivery for delivery in Delivery}
INTERCONNECTS = {name_of(interconnect): interconnect for interconnect in Interconnect}
TIERS = {name_of(tier): tier for tier in Tier}

ANY_REGION = 0
"""The mask of a bid that takes any region, `unspecified` included."""


def region_mask(regions: list[Region]) -> int:
    """The set of regions a bid accepts, one bit each; an empty list is any.

    Raises ValueError for `unspecified`, which no set can hold (rulebook: Classes and attributes).
    """
    if Region.UNSPECIFIED in regions:
        raise ValueError("a bid cannot ask for region unspecified: name regions, or leave the list empty for any")
    mask = 0
    for region in regions:
        mask |= 1 << region
    return mask


def regions_of(mask: int) -> list[Region]:
    """The regions in a mask, in the order of the closed list; empty for any."""
    return [region for region in Region if mask >> region & 1]


class Attributes(Struct, frozen=True, array_like=True, gc=False):
    """What an ask states about its capacity."""

    region: Region = Region.UNSPECIFIED
    delivery: Delivery = Delivery.VM
    interconnect: Interconnect = Interconnect.NONE
    confidential: bool = False
    tier: Tier = Tier.GUARANTEED
    notice_minutes: int = 0


class Accepts(Struct, frozen=True, array_like=True, gc=False):
    """What a bid accepts. The default suits every guaranteed ask."""

    regions: int = ANY_REGION
    delivery: Delivery = Delivery.CONTAINER
    interconnect: Interconnect = Interconnect.NONE
    confidential: bool = False
    interruptible: bool = False
    only_suppliers: tuple[int, ...] = ()
    not_suppliers: tuple[int, ...] = ()


class SlaStep(Struct, frozen=True, array_like=True, gc=False):
    """A lease whose uptime is below `below_bps` gets `credit_bps` of its cost back, in basis points."""

    below_bps: int
    credit_bps: int


class ClassSpec(Struct, frozen=True, array_like=True, gc=False):
    """The contract behind a class's name, and its terms. Durations in ms, prices in µ$ per GPU-hour."""

    class_id: str
    accelerator: str
    memory_gb: int
    form_factor: str
    tick: int = 100
    max_price: int = MAX_PRICE
    max_quantity: int = MAX_QUANTITY
    delivery_due_ms: int = 15 * MINUTE_MS
    """After the later of fill and start; then the lease is void."""
    acceptance_ms: int = 10 * MINUTE_MS
    """Silence of the buyer for so long after proof of delivery is acceptance."""
    grace_ms: int = 72 * HOUR_MS
    """Late usage counts for so long after the end of a lease."""
    band_bps: int = 0
    """How far from the reference price an order's may be, in basis points; 0 is no band."""
    refund_bps: int = 10_000
    """What goes back of the unused rest of a lease that its buyer ends early, in basis points; the supplier earns the
    remainder."""
    sla: tuple[SlaStep, ...] = ()
    """What goes back of a lease's cost by its uptime: each step is below the one before and credits more."""
    reclaim_credit_bps: int = 0
    """What goes back, of what the rest of a lease that its supplier reclaims would have cost, in basis points."""
