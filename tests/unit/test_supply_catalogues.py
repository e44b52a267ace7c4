"""Listings of the ecosystem, by their documented shape: small samples written by hand."""

import json
from typing import Any

import pytest

from gateways.cli.facts.classes import standard_classes
from gateways.supply.catalogues import FORMATS, catalogue
from gateways.supply.inventory import Columns, Inventory, ListError, inventory, mapped
from gateways.supply.naming import Settled
from schemas.attributes import Delivery, Tier, name_of
from schemas.units import format_usd

TICKS = {spec.class_id: spec.tick for spec in standard_classes()}

SKYPILOT = """\
InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,SpotPrice,Region,GpuInfo,AvailabilityZone
gpu_8x_h100_sxm5,H100,8.0,208.0,1800.0,23.92,,us-east-1,"{'Gpus': [{'Name': 'H100', 'Count': 8.0}]}",
gpu_1x_a100,A100,1.0,30.0,200.0,1.29,,us-east-1,,
gpu_1x_a100_sxm4_80gb,A100-80GB-SXM,1.0,30.0,200.0,1.79,0.9,us-west-2,,us-west-2-a
gpu_1x_a100_sxm4_80gb,A100-80GB-SXM,1.0,30.0,200.0,1.79,0.9,us-west-2,,us-west-2-a
general_4x,,,4.0,16.0,0.20,,us-east-1,,
n1-L40Sx4,L40S,4,48,192,3.4,1.7,mars,,
"""

RUNPOD: Any = {
    "data": {
        "gpuTypes": [
            {
                "id": "NVIDIA H100 80GB HBM3",
                "displayName": "H100 SXM",
                "memoryInGb": 80,
                "secureCloud": True,
                "communityCloud": True,
                "securePrice": 2.69,
                "communityPrice": 2.39,
                "secureSpotPrice": 1.75,
                "communitySpotPrice": None,
                "maxGpuCount": 8,
                "maxGpuCountCommunityCloud": 4,
            },
            {
                "id": "NVIDIA B300 SXM6 AC MIG 1g.34gb",
                "displayName": "B300 MIG",
                "memoryInGb": 34,
                "secureCloud": True,
                "communityCloud": False,
                "securePrice": 0.99,
                "communityPrice": 0.89,
            },
            {"id": "unknown", "memoryInGb": 0, "securePrice": 0, "communityPrice": 0},
            {"id": "NVIDIA A40", "memoryInGb": 48, "secureCloud": True, "securePrice": 0.4},
        ]
    }
}

VAST: Any = {
    "offers": [
        {
            "id": 101,
            "machine_id": 7,
            "gpu_name": "A100 SXM4",
            "num_gpus": 4,
            "gpu_ram": 81920,
            "dph_total": 4.280000000000001,
            "min_bid": 2.0,
            "geolocation": "Sweden, SE",
            "rentable": True,
            "rented": False,
        },
        {
            "id": 102,
            "machine_id": 7,
            "gpu_name": "A100 SXM4",
            "num_gpus": 8,
            "gpu_ram": 81920,
            "dph_total": 8.56,
            "min_bid": 4.0,
            "geolocation": "Sweden, SE",
            "rentable": True,
            "rented": False,
        },
        {
            "id": 103,
            "machine_id": 8,
            "gpu_name": "RTX 4090",
            "num_gpus": 2,
            "gpu_ram": 24564,
            "dph_total": 0.71,
            "min_bid": 0.4,
            "geolocation": "California, US",
            "rentable": True,
        },
        {
            "id": 104,
            "machine_id": 9,
            "gpu_name": "RTX 4090",
            "num_gpus": 1,
            "gpu_ram": 24564,
            "dph_total": 0.3,
            "rented": True,
        },
        {
            "id": 105,
            "machine_id": 10,
            "gpu_name": "H100 PCIE",
            "num_gpus": 1,
            "gpu_ram": 40960,
            "dph_total": 1,
            "geolocation": "",
        },
    ]
}

LAMBDA: Any = {
    "data": {
        "gpu_8x_h100_sxm5": {
            "instance_type": {
                "name": "gpu_8x_h100_sxm5",
                "description": "8x H100 (80 GB SXM5)",
                "gpu_description": "H100 (80 GB SXM5)",
                "price_cents_per_hour": 2392,
                "specs": {"vcpus": 208, "memory_gib": 1800, "storage_gib": 22528, "gpus": 8},
            },
            "regions_with_capacity_available": [
                {"name": "us-east-1", "description": "Virginia, USA"},
                {"name": "us-south-1", "description": "Texas, USA"},
            ],
        },
        "gpu_1x_gh200": {
            "instance_type": {
                "name": "gpu_1x_gh200",
                "gpu_description": "GH200 (96 GB)",
                "price_cents_per_hour": 149,
                "specs": {"vcpus": 64, "memory_gib": 432, "storage_gib": 4096, "gpus": 1},
            },
            "regions_with_capacity_available": [{"name": "us-east-3", "description": "Washington DC, USA"}],
        },
        "gpu_1x_a10": {
            "instance_type": {"name": "gpu_1x_a10", "price_cents_per_hour": 75, "specs": {"gpus": 1}},
            "regions_with_capacity_available": [],
        },
        "cpu_4x_general": {
            "instance_type": {"name": "cpu_4x_general", "price_cents_per_hour": 20, "specs": {"gpus": 0}},
            "regions_with_capacity_available": [{"name": "us-east-1"}],
        },
    }
}

HYPERBOLIC: Any = {
    "instances": [
        {
            "id": "node-1",
            "status": "node_ready",
            "hardware": {"gpus": [{"hardware_type": "gpu", "model": "NVIDIA-H100-80GB-HBM3", "ram": 81559}] * 8},
            "location": {"region": "us-central-1"},
            "gpus_total": 8,
            "gpus_reserved": 3,
            "pricing": {"price": {"amount": 149, "period": "hourly", "agent": "platform"}},
            "reserved": False,
            "cluster_name": "blue-fox",
        },
        {
            "id": "node-2",
            "hardware": {"gpus": [{"model": "NVIDIA-GeForce-RTX-4090"}]},
            "location": {"region": "region-1"},
            "gpus_total": 1,
            "gpus_reserved": 0,
            "pricing": {"price": {"amount": 32.5, "period": "hourly"}},
            "cluster_name": "red-owl",
        },
        {
            "id": "node-3",
            "hardware": {"gpus": [{"model": "NVIDIA-H100-80GB-HBM3"}]},
            "gpus_total": 8,
            "gpus_reserved": 8,
            "pricing": {"price": {"amount": 149}},
        },
    ]
}


def read(text: str | object, form: str, **same: str) -> Inventory:
    lines, unused = mapped(catalogue(text if isinstance(text, str) else json.dumps(text), form), Columns({}, same))
    found = inventory(lines, TICKS, Settled(), unused)
    assert (found.wrong, unused) == ([], [])
    return found


def offered(found: Inventory) -> list[tuple[str, int, int, str, str]]:
    """(class, GPUs, lot, dollars per GPU-hour, region)"""
    return [(o.class_id, o.quantity, o.lot, format_usd(o.price), name_of(o.region)) for o in found.offers]


def test_skypilot_s_catalogue_by_instance_type_else_by_accelerator() -> None:
    found = read(SKYPILOT, "skypilot", seller="Lambda")
    assert offered(found) == [
        ("H100-SXM-80GB", 8, 8, "2.99", "us-east"),
        ("A100-SXM-80GB", 1, 1, "1.79", "us-west"),
        ("A100-SXM-80GB", 1, 1, "1.79", "us-west"),
    ]
    assert [(each.where, each.name) for each in found.quarantined] == [
        ("line 3", "gpu_1x_a100"),
        ("line 7", "n1-L40Sx4"),
    ]
    assert len({offer.key for offer in found.offers}) == 3, "equal rows are told apart"


def test_spot_prices_are_another_list_of_the_same_machines() -> None:
    found = read(SKYPILOT, "skypilot:spot", region="us-east")
    assert offered(found) == [
        ("A100-SXM-80GB", 1, 1, "0.90", "us-east"),
        ("A100-SXM-80GB", 1, 1, "0.90", "us-east"),
        ("L40S-48GB", 4, 4, "0.425", "us-east"),
    ]
    assert {offer.tier for offer in found.offers} == {Tier.INTERRUPTIBLE}
    assert {offer.tier for offer in read(SKYPILOT, "skypilot").offers} == {Tier.GUARANTEED}


def test_runpod_s_clouds_are_two_sellers_and_a_slice_is_not_the_whole() -> None:
    found = read(RUNPOD, "runpod")
    assert offered(found) == [
        ("H100-SXM-80GB", 8, 1, "2.69", "unspecified"),
        ("H100-SXM-80GB", 4, 1, "2.39", "unspecified"),
        ("B300-MIG-1g.34gb", 1, 1, "0.99", "unspecified"),
    ]
    assert [each.name for each in found.quarantined] == ["NVIDIA A40"]
    assert {offer.delivery for offer in found.offers} == {Delivery.CONTAINER}
    assert offered(read(RUNPOD, "runpod:spot")) == [("H100-SXM-80GB", 8, 1, "1.75", "unspecified")]


def test_vast_s_machines_once_each_told_by_the_memory_that_was_measured() -> None:
    found = read(VAST, "vast")
    assert offered(found) == [
        ("A100-SXM-80GB", 8, 1, "1.07", "eu-north"),
        ("RTX4090-24GB", 2, 1, "0.355", "us-west"),
    ]
    assert [each.name for each in found.quarantined] == ["H100 PCIE"], "40 GB is no H100"
    assert [price for *_, price, _ in offered(read({"offers": VAST["offers"][:3]}, "vast:spot"))] == ["0.50", "0.20"]


def test_a_price_with_the_noise_of_a_float_is_rounded_up_to_the_tick() -> None:
    assert offered(read({"offers": VAST["offers"][:1]}, "vast"))[0][3] == "1.0701"


def test_lambda_s_types_in_each_region_that_has_some_now() -> None:
    assert offered(read(LAMBDA, "lambda")) == [
        ("H100-SXM-80GB", 8, 8, "2.99", "us-east"),
        ("H100-SXM-80GB", 8, 8, "2.99", "us-central"),
        ("GH200-96GB", 1, 1, "1.49", "us-east"),
    ]


def test_hyperbolic_s_machines_as_far_as_they_are_free() -> None:
    found = read(HYPERBOLIC, "hyperbolic")
    assert offered(found) == [("H100-SXM-80GB", 5, 1, "1.49", "us-central")]
    assert [each.settle for each in found.quarantined] == ["cx supply region region-1 REGION --seller Hyperbolic"]
    assert offered(read(HYPERBOLIC, "hyperbolic", region=""))[1] == ("RTX4090-24GB", 1, 1, "0.325", "unspecified")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "text", ["{}", "[1]", "null", '{"data": 1}', '{"data": {"a": {}}}', '{"instances": [{}]}', "a,b\n1,2\n", "{"]
)
def test_what_is_something_else_is_said(form: str, text: str) -> None:
    with pytest.raises(ListError):
        catalogue(text, form)
