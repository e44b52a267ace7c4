"""What is for sale as a catalogue of SkyPilot's, its vms.csv: so tools that read those can pick from this market."""

import asyncio
import csv
import io
from collections.abc import Callable, Mapping, Sequence

from gateways.client import Exchange
from gateways.client.types import Class, Offer
from gateways.supply.facts import rows
from schemas.units import format_usd, parse_usd

COLUMNS = (
    *("InstanceType", "AcceleratorName", "AcceleratorCount", "vCPUs", "MemoryGiB", "GpuInfo"),
    *("Price", "SpotPrice", "Region", "AvailabilityZone"),
)
SIZES = (1, 2, 4, 8, 16)
"""GPUs of an instance, all from one place."""
MOST_OFFERS = 500
AT_ONCE = 8
MIB_PER_GB = 1024


async def on_sale(
    exchange: Exchange, duration: str, on_read: Callable[[int, int], None] = lambda done, total: None
) -> tuple[list[Class], dict[str, list[Offer]]]:
    """The classes, and of each what is for sale from now on for so long. `on_read` is told how many of all are read."""
    classes = [found for found in await exchange.classes() if not found.retired and found.halt == "none"]
    offers: dict[str, list[Offer]] = {}
    for first in range(0, len(classes), AT_ONCE):
        some = classes[first : first + AT_ONCE]
        found = await asyncio.gather(
            *(exchange.offers(each.class_id, duration=duration, limit=MOST_OFFERS) for each in some)
        )
        offers |= {each.class_id: each.offers for each in found}
        on_read(len(offers), len(classes))
    return classes, offers


def skypilot(classes: Sequence[Class], offers: Mapping[str, Sequence[Offer]]) -> str:
    """A line for each class, region and size that is for sale, at the cheapest price an hour for the whole instance.

    `Price` is of what is guaranteed, `SpotPrice` of what is interruptible. What a class does not say stays empty.
    """
    names = {row["class_id"]: row["accelerator"] for row in rows("skypilot_names.csv")}
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for found in classes:
        of_class = offers.get(found.class_id, ())
        for region in sorted({offer.region for offer in of_class}):
            for size in SIZES:
                fitting = [o for o in of_class if o.region == region and o.most >= size and size % o.lot == 0]
                if fitting:
                    name = names.get(found.class_id, found.class_id)
                    writer.writerow(
                        {
                            "InstanceType": f"{size}x-{found.class_id}",
                            "AcceleratorName": name,
                            "AcceleratorCount": size,
                            "GpuInfo": _gpu_info(found, name, size),
                            "Price": _cheapest(fitting, "guaranteed", size),
                            "SpotPrice": _cheapest(fitting, "interruptible", size),
                            "Region": region,
                        }
                    )
    return text.getvalue()


def _cheapest(offers: Sequence[Offer], tier: str, size: int) -> str:
    return format_usd(size * min(prices)) if (prices := [parse_usd(o.price) for o in offers if o.tier == tier]) else ""


def _gpu_info(found: Class, name: str, size: int) -> str:
    """As SkyPilot's catalogues have it: JSON with single quotes, for people to read."""
    mib = found.memory_gb * MIB_PER_GB
    gpu = f"{{'Name': '{name}', 'Count': {size}, 'MemoryInfo': {{'SizeInMiB': {mib}}}}}"
    return f"{{'Gpus': [{gpu}], 'TotalGpuMemoryInMiB': {mib * size}}}"
