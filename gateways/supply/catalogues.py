"""Listings in the formats of the ecosystem, each as lines of the same fields: prices as they are written.

A catalogue says what an instance costs, not how many there are: a row of SkyPilot's or RunPod's offers one instance.
On-demand and spot prices are of the same machines, so one is read at a time: `skypilot` or `skypilot:spot`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from gateways.supply.inventory import Line, ListError, lines_of, read_json, text_of

Item = dict[str, Any]
MIB_PER_GIB = 1024


def _skypilot(text: str, spot: bool) -> Iterator[Line]:
    """SkyPilot's vms.csv: its accelerators' names are shortened, so the instance type is asked first."""
    column = "SpotPrice" if spot else "Price"
    header = text.partition("\n")[0]
    wanted = ("InstanceType", "AcceleratorName", "AcceleratorCount", "Region", column)
    if missing := [name for name in wanted if name not in header.strip().split(",")]:
        raise ListError(f"it is none of SkyPilot's catalogues: there is no column {', '.join(missing)}")
    for line in lines_of(text, "csv"):
        if line.get("AcceleratorName") and line.get(column):
            place = (line.get("InstanceType"), line.get("Region"), line.get("AvailabilityZone"))
            said = {
                "id": " ".join(part for part in place if part),
                "gpu": line.get("InstanceType"),
                "accelerator": line.get("AcceleratorName"),
                "instance_gpus": line.get("AcceleratorCount"),
                "gpus": line.get("AcceleratorCount"),
                "instance_price": line.get(column),
                "region": line.get("Region"),
            }
            yield Line(line.where, said | _tier(spot))


def _runpod(text: str, spot: bool) -> Iterator[Line]:
    """RunPod's GraphQL: `{"data": {"gpuTypes": [{"id", "memoryInGb", "securePrice", …}]}}`, prices per GPU."""
    for where, item in _items(text, "RunPod's gpuTypes", "data", "gpuTypes"):
        memory = _scalar(item, "memoryInGb")
        for cloud, name in (("secure", "RunPod Secure Cloud"), ("community", "RunPod Community Cloud")):
            price = _scalar(item, f"{cloud}SpotPrice" if spot else f"{cloud}Price")
            if _is_positive(price) and item.get(f"{cloud}Cloud") is not False:
                most = _scalar(item, f"maxGpuCount{cloud.capitalize()}Cloud") or _scalar(item, "maxGpuCount")
                said = {
                    "seller": name,
                    "gpu": _scalar(item, "id"),
                    "memory_mib": str(int(memory) * MIB_PER_GIB) if memory.isdecimal() else "",
                    "gpus": most or "1",
                    "price": price,
                    "delivery": "container",
                }
                yield Line(where, said | _tier(spot))


def _vast(text: str, spot: bool) -> Iterator[Line]:
    """Vast.ai's bundles: `{"offers": [{"gpu_name", "num_gpus", "gpu_ram", "dph_total", "geolocation", …}]}`.

    A machine is listed in several sizes that overlap, so of each the largest alone is read. `dph_total` and `min_bid`
    are for all its GPUs; `gpu_ram` is one GPU's, in MiB.
    """
    largest: dict[str, tuple[int, Line]] = {}
    for where, item in _items(text, "Vast.ai's offers", "offers"):
        if item.get("rentable") is False or item.get("rented") is True:
            continue
        count, machine = _scalar(item, "num_gpus"), _scalar(item, "machine_id") or _scalar(item, "id")
        said = {
            "id": f"machine {machine}",
            "seller": "Vast.ai",
            "gpu": _scalar(item, "gpu_name"),
            "memory_mib": _scalar(item, "gpu_ram").partition(".")[0],
            "instance_gpus": count,
            "gpus": count,
            "instance_price": _scalar(item, "min_bid" if spot else "dph_total"),
            "region": _scalar(item, "geolocation"),
            "delivery": "container",
            "lot": "1",
        }
        size = int(count) if count.isdecimal() else 0
        if machine not in largest or size > largest[machine][0]:
            largest[machine] = size, Line(where, said | _tier(spot))
    yield from (line for _, line in largest.values())


def _lambda(text: str, spot: bool) -> Iterator[Line]:
    """Lambda's instance types: `{"data": {NAME: {"instance_type": {…}, "regions_with_capacity_available": […]}}}`.

    Cents an hour for the instance; a line for each region that has capacity now.
    """
    types = read_json(text)
    types = types.get("data") if isinstance(types, dict) else None
    if not isinstance(types, dict) or spot:
        raise ListError(
            "it has no spot prices" if spot else "it is not Lambda's instance types: there is no data in it"
        )
    for number, (name, item) in enumerate(types.items(), 1):
        kind = item.get("instance_type") if isinstance(item, dict) else None
        specs = kind.get("specs") if isinstance(kind, dict) else None
        if not isinstance(kind, dict) or not isinstance(specs, dict):
            raise ListError(f"item {number}: it is not one of Lambda's instance types")
        count = _scalar(specs, "gpus")
        regions = item.get("regions_with_capacity_available") or []
        if not isinstance(regions, list):
            raise ListError(f"item {number}: its regions_with_capacity_available is no list")
        for region in regions if _is_positive(count) else []:
            place = _scalar(region, "name") if isinstance(region, dict) else ""
            said = {
                "id": f"{name} {place}",
                "seller": "Lambda",
                "gpu": _scalar(kind, "gpu_description") or name,
                "accelerator": name,
                "instance_gpus": count,
                "gpus": count,
                "instance_price": _dollars(_scalar(kind, "price_cents_per_hour")),
                "region": place,
            }
            yield Line(f"item {number}", said)


def _hyperbolic(text: str, spot: bool) -> Iterator[Line]:
    """Hyperbolic's marketplace: `{"instances": [{"hardware": {"gpus": […]}, "pricing": {"price": {…}}, …}]}`.

    Cents an hour for a GPU; what is reserved is left out.
    """
    if spot:
        raise ListError("it has no spot prices")
    for where, item in _items(text, "Hyperbolic's marketplace", "instances"):
        gpus = item.get("hardware", {}).get("gpus") if isinstance(item.get("hardware"), dict) else None
        if not isinstance(gpus, list) or not gpus or not isinstance(gpus[0], dict):
            raise ListError(f"{where}: it is not one of Hyperbolic's instances: there is no hardware.gpus in it")
        total, reserved = _scalar(item, "gpus_total"), _scalar(item, "gpus_reserved") or "0"
        free = int(total) - int(reserved) if total.isdecimal() and reserved.isdecimal() else 0
        if free <= 0 or item.get("reserved") is True:
            continue
        price, place = _inner(item, "pricing", "price"), _inner(item, "location")
        if (period := _scalar(price, "period") or "hourly") != "hourly":
            raise ListError(f"{where}: its price is {period}, not hourly")
        yield Line(
            where,
            {
                "id": " ".join(filter(None, (_scalar(item, "cluster_name"), _scalar(item, "id")))),
                "seller": "Hyperbolic",
                "gpu": _scalar(gpus[0], "model"),
                "gpus": str(free),
                "price": _dollars(_scalar(price, "amount")),
                "region": _scalar(place, "region"),
                "delivery": "container",
            },
        )


_READERS: dict[str, Callable[[str, bool], Iterator[Line]]] = {
    "skypilot": _skypilot,
    "runpod": _runpod,
    "vast": _vast,
    "lambda": _lambda,
    "hyperbolic": _hyperbolic,
}
FORMATS = (*_READERS, "skypilot:spot", "runpod:spot", "vast:spot")


def catalogue(text: str, form: str) -> list[Line]:
    """The rows of a listing in one of `FORMATS`, by field; what it does not sell now is left out. Raises ListError."""
    name, _, spot = form.partition(":")
    lines = list(_READERS[name](text, bool(spot)))
    times: Counter[str] = Counter()
    return [_numbered(line, times) for line in lines]


def _numbered(line: Line, times: Counter[str]) -> Line:
    """With an id that no line before it has: catalogues list equal things again."""
    name = line.get("id")
    times[name] += 1
    return line if not name or times[name] == 1 else Line(line.where, {**line.said, "id": f"{name} #{times[name]}"})


def _items(text: str, what: str, *path: str) -> Iterator[tuple[str, Item]]:
    """The objects of the list at that path, or of a list that is all there is."""
    content = read_json(text)
    for name in path if not isinstance(content, list) else ():
        content = content.get(name) if isinstance(content, dict) else None
    if not isinstance(content, list):
        raise ListError(f"it is not {what}: there is no list {'.'.join(path)} in it")
    for number, item in enumerate(content, 1):
        if not isinstance(item, dict):
            raise ListError(f"item {number}: it is not one of {what}")
        yield f"item {number}", item


def _inner(item: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    for name in path:
        found = item.get(name)
        item = found if isinstance(found, dict) else {}
    return item


def _scalar(item: Mapping[str, Any], name: str) -> str:
    return text_of(item.get(name)).strip()


def _tier(spot: bool) -> dict[str, str]:
    return {"tier": "interruptible"} if spot else {}


def _is_positive(text: str) -> bool:
    try:
        return Decimal(text) > 0
    except InvalidOperation:
        return False


def _dollars(cents: str) -> str:
    """Cents as dollars, exactly; what is no number stays as it is, for the row's check to tell.

    >>> _dollars("2392")
    '23.92'
    """
    try:
        return str(Decimal(cents).scaleb(-2))
    except InvalidOperation:
        return cents
