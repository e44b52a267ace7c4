"""What sellers published as their prices."""

from msgspec import Struct

from gateways.cli.facts import rows
from schemas.attributes import REGIONS, TIERS, Region, Tier
from schemas.units import parse_usd


class ListPrice(Struct, frozen=True):
    """One line of a seller's price list."""

    seller: str
    raw_name: str
    """The seller's own name for what it offers."""
    class_id: str
    region: Region
    tier: Tier
    instance_size: int
    """GPUs in one instance."""
    price: int
    """µ$ per GPU-hour."""
    source: str
    date: str


def list_prices() -> list[ListPrice]:
    """All lines, by seller."""
    return [
        ListPrice(
            row["seller"],
            row["raw_name"],
            row["class"],
            REGIONS[row["region"]],
            TIERS[row["tier"]],
            int(row["instance_size"]),
            parse_usd(row["price"]),
            row["source"],
            row["date"],
        )
        for row in rows("gpu_list_prices.csv")
    ]
