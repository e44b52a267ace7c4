"""Sellers' names: what they tell, and above all what they do not."""

import pytest

from gateways.cli.facts.classes import standard_classes
from gateways.cli.facts.prices import list_prices
from gateways.supply.facts import rows
from gateways.supply.naming import Settled, Unclear, class_of, plain, read_settled, region_of, stated_count
from schemas.attributes import REGIONS, Region

CLASSES = [spec.class_id for spec in standard_classes()]
ANYONE = "acme"


def named(raw: str, seller: str = ANYONE, *, memory_mib: int = 0) -> str | Unclear:
    return class_of(seller, raw, Settled(), CLASSES, memory_mib)


@pytest.mark.parametrize(
    ("class_id", "spellings"),
    [
        (
            "H100-SXM-80GB",
            "H100-SXM-80GB|h100-sxm-80gb|NVIDIA H100 80GB HBM3|NVIDIA-H100-80GB-HBM3|H100 SXM5 80 GB|H100 (80 GB SXM5)"
            "|H100-SXM|H100_SXM5_80GB|nvidia h100 sxm|NVIDIA H100 80GB HGX|1x H100 SXM5 80GB|8x H100 SXM"
            "|H100 SXM x8|8 × H100 SXM5|h100-80gb.sxm.8x|gpu_8x_h100_sxm5|gpu_8x_h100_sxm_80gb"
            "|NVIDIA HGX H100|hgx-h100",
        ),
        ("H100-PCIe-80GB", "NVIDIA H100 PCIe|H100 PCIE|H100_PCIE_80GB|gpu_1x_h100_pcie|H100 (80 GB PCIe)"),
        ("H100-NVL-94GB", "NVIDIA H100 NVL|H100 NVL|H100NVL|NVIDIA H100-NVL-94GB"),
        ("H200-SXM-141GB", "H200-SXM|NVIDIA H200 141GB HGX|1x H200 SXM5 141GB"),
        ("H200-NVL-141GB", "H200 NVL|H200NVL|NVIDIA H200-NVL-141GB"),
        ("B200-SXM-180GB", "NVIDIA B200|B200 (180 GB SXM6)|gpu_8x_b200_sxm6_180gb"),
        ("B300-SXM-288GB", "NVIDIA B300 SXM6 AC|B300 PC|1x B300 SXM6 268GB|B300 SXM 270GB|NVIDIA HGX B300|B300"),
        ("GB200-NVL-186GB", "NVIDIA GB200|GB200-NVL-186GB"),
        ("GH200-96GB", "GH200 (96 GB)|NVIDIA GH200 Grace Hopper Superchip 96GB"),
        ("GH200-144GB", "NVIDIA GH200 Grace Hopper Superchip 144GB"),
        ("A100-SXM-80GB", "NVIDIA A100-SXM4-80GB|A100-80GB-SXM|A100_SXM4_80GB|NVIDIA A100 80GB SXM|A100-80Gx8 SXM"),
        ("A100-SXM-40GB", "NVIDIA A100-SXM4-40GB|A100 (40 GB SXM4)|gpu_8x_a100_sxm_40gb"),
        ("A100-PCIe-80GB", "NVIDIA A100 80GB PCIe|A100_PCIE_80GB"),
        ("A100-PCIe-40GB", "A100-PCIe-40GB|gpu_1x_a100_pcie_40gb"),
        ("L40S-48GB", "NVIDIA L40S|L40S|L40s 48GB|nvidia-l40s|1x L40S 48GB"),
        ("MI300X-192GB", "AMD Instinct MI300X OAM|AMD MI300X 192GB|MI300X|AMD Instinct MI300X 192GB HBM3"),
        ("MI325X-256GB", "AMD Instinct MI325X 256GB HBM3e|AMD Instinct MI325X 256GB HBM3E"),
        ("RTX6000-24GB", "RTX6000|QRTX6000|Q RTX 6000|Quadro RTX 6000"),
        ("RTX6000Ada-48GB", "RTX6000-Ada|RTX 6000 Ada Generation|1x RTX6000 Ada 48GB"),
        ("RTXA6000-48GB", "A6000|RTX A6000|RTX_A6000_48GB|gpu_1x_a6000"),
        ("RTXPRO6000-96GB", "NVIDIA RTX PRO 6000 Blackwell Server Edition|RTXPRO6000S|RTX PRO 6000 S"),
        ("RTXPRO6000WS-96GB", "RTX PRO 6000 Blackwell Workstation Edition|RTX PRO 6000 WS|RTXPRO6000-WK"),
        ("RTX4090-24GB", "NVIDIA GeForce RTX 4090|RTX_4090|rtx4090-24gb|RTX-4090"),
        ("T4-16GB", "Tesla T4|TeslaT4|T4_16GB"),
    ],
)
def test_spellings_of_one_thing(class_id: str, spellings: str) -> None:
    assert {raw: named(raw) for raw in spellings.split("|")} == dict.fromkeys(spellings.split("|"), class_id)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("H100", "open"),
        ("NVIDIA H100", "open"),
        ("H100 80GB", "open"),
        ("H100 94GB", "form factor open"),
        ("H100 NVLink", "no model"),
        ("A100", "open"),
        ("A100 PCIE", "open"),
        ("A100-SXM4", "A100-SXM-40GB or A100-SXM-80GB"),
        ("A100 80GB", "A100-SXM-80GB or A100-PCIe-80GB"),
        ("H200", "H200-SXM-141GB or H200-NVL-141GB"),
        ("GH200", "GH200-96GB or GH200-144GB"),
        ("RTX PRO 6000", "RTXPRO6000-96GB or RTXPRO6000WS-96GB"),
        ("L40", "no standard class"),
        ("V100 SXM2 16GB", "no standard class"),
        ("L40S 80GB", "no L40S is made like that"),
        ("H100 SXM 94GB", "no H100 is made like that"),
        ("H100 PCIe SXM5", "two things"),
        ("H100 SXM 40GB 80GB", "two things"),
        ("NVIDIA B300 SXM6 AC MIG 1g.34gb", "a slice"),
        ("A100 SXM4 80GB MIG 3g.40gb", "a slice"),
        ("H100 SXM5 MIG", "a slice"),
        ("Nvidia B200 (1 gpu slice)", "a slice"),
        ("MI300", "no model"),
        ("H100 SXM5 80GB with InfiniBand", "no model"),
        ("p5.48xlarge", "no model"),
        ("", "no model"),
        ("8x", "no model"),
        ("café H100", "no model"),
    ],
)
def test_what_a_name_leaves_open_is_not_guessed(raw: str, why: str) -> None:
    found = named(raw)
    assert isinstance(found, Unclear)
    assert why in found.reason


def test_the_same_name_means_different_things_at_different_sellers() -> None:
    assert named("NVIDIA H100", "Hyperstack") == "H100-PCIe-80GB"
    assert named("NVIDIA H100 NVLink", "Hyperstack") == "H100-PCIe-80GB"
    assert named("H100_NVLINK_80GB", "FluidStack") == "H100-SXM-80GB"
    assert named("nvidia-a100", "CoreWeave") == "A100-SXM-80GB"
    assert named("NVIDIA A100", "hyperstack") == "A100-PCIe-80GB"
    assert named("NVIDIA H200", "RunPod Secure Cloud") == "H200-SXM-141GB"
    assert isinstance(named("H200", "Vast.ai"), Unclear)
    assert named("GH200", "Lambda Labs") == "GH200-96GB"
    assert named("a2-highgpu-8g", "Google Cloud") == "A100-SXM-40GB"
    assert named("a2-ultragpu-8g", "GCP") == "A100-SXM-80GB"
    assert named("NVIDIA B300 SXM6 AC MIG 1g.34gb", "RunPod") == "B300-MIG-1g.34gb", "and never a whole B300"


def test_memory_that_was_measured_beside_the_name_counts() -> None:
    assert named("A100 SXM4", "vast", memory_mib=81_920) == "A100-SXM-80GB"
    assert named("A100 SXM4", "vast", memory_mib=40_536) == "A100-SXM-40GB"
    assert named("H100 SXM", "vast", memory_mib=81_559) == "H100-SXM-80GB"
    assert named("L40S", "vast", memory_mib=46_068) == "L40S-48GB"
    assert named("B200", "vast", memory_mib=183_359) == "B200-SXM-180GB"
    assert isinstance(named("A100", "vast", memory_mib=81_920), Unclear)
    assert isinstance(named("H100 SXM", "vast", memory_mib=40_960), Unclear)


def test_a_class_that_the_exchange_does_not_list_is_said_and_not_replaced() -> None:
    found = class_of(ANYONE, "H100 SXM", Settled(), ["H100-PCIe-80GB"])
    assert found == Unclear("it is H100-SXM-80GB, which this exchange does not list")
    assert isinstance(class_of(ANYONE, "H100", Settled(), ["H100-PCIe-80GB"]), Unclear), "not the one that is listed"


def test_what_was_settled_comes_first_and_for_one_seller_alone_where_it_says_so() -> None:
    lines = [
        {"what": "class", "seller": "", "raw": "H100", "means": "H100-SXM-80GB"},
        {"what": "class", "seller": "Hyperstack", "raw": "NVIDIA-h100", "means": "H100-NVL-94GB"},
        {"what": "region", "seller": "", "raw": "dc-7", "means": "eu-north"},
    ]
    settled = read_settled(lines)
    assert class_of(ANYONE, "h100", settled, CLASSES) == "H100-SXM-80GB"
    assert class_of("hyperstack", "NVIDIA H100", settled, CLASSES) == "H100-NVL-94GB"
    assert isinstance(class_of(ANYONE, "NVIDIA H100", settled, CLASSES), Unclear)
    assert region_of(ANYONE, "DC 7", settled) is Region.EU_NORTH
    for wrong in (
        {"what": "colour", "means": "red"},
        {"what": "region", "raw": "x", "means": "mars"},
        {"what": "class"},
    ):
        with pytest.raises(ValueError, match="line 2"):
            read_settled([wrong])


@pytest.mark.parametrize(
    ("seller", "raw", "region"),
    [
        ("AWS", "us-east-2", "us-east"),
        ("aws", "ap-southeast-2", "ap-oceania"),
        ("AWS", "ap-southeast-1", "ap-southeast"),
        ("Google Cloud", "europe-west3", "eu-central"),
        ("Google Cloud", "us-central1", "us-central"),
        ("Azure", "southcentralus", "us-central"),
        ("Lambda", "us-south-1", "us-central"),
        (ANYONE, "us-west-2", "us-west"),
        (ANYONE, "EU_North", "eu-north"),
        (ANYONE, "", "unspecified"),
        (ANYONE, "Global", "unspecified"),
        ("Vast.ai", "California, US", "us-west"),
        ("Vast.ai", "Sweden, SE", "eu-north"),
        ("Vast.ai", "Texas, US", "us-central"),
    ],
)
def test_regions(seller: str, raw: str, region: str) -> None:
    assert region_of(seller, raw, Settled()) is REGIONS[region]


@pytest.mark.parametrize("raw", ["ap-southeast-2", "region-1", "Atlantis, XX", "Guam, US", "europe", "us"])
def test_a_region_that_nothing_tells(raw: str) -> None:
    assert isinstance(region_of(ANYONE, raw, Settled()), Unclear)


def test_counts_in_names() -> None:
    counts = {"8x H100": 8, "H100 x8": 8, "H100x8": 8, "gpu_4x_h100": 4, "h100.sxm.2x": 2, "A100-80Gx4": 4}
    assert {raw: stated_count(raw) for raw in counts} == counts
    none = ("H100", "MI300X", "RTX 4090", "RTX4090", "p5.48xlarge", "g6e.4xlarge", "GH200")
    assert [raw for raw in none if stated_count(raw) is not None] == []


def test_all_list_prices_that_ship_are_named_as_they_are() -> None:
    for line in list_prices():
        if line.seller != "Vast.ai":
            assert named(line.raw_name, line.seller) == line.class_id, line


def test_the_tables_hold_together() -> None:
    named_classes = {row["class_id"] for name in ("gpu_names.csv", "accelerators.csv") for row in rows(name)} - {""}
    assert named_classes <= set(CLASSES)
    sellers = {row["seller"] for row in rows("sellers.csv")} | {"*"}
    assert {row["seller"] for name in ("gpu_names.csv", "regions.csv") for row in rows(name)} <= sellers
    assert {row["region"] for row in rows("regions.csv")} <= set(REGIONS)
    assert {row["class_id"] for row in rows("skypilot_names.csv")} <= set(CLASSES)
    assert {named(f"8x-{class_id}") for class_id in CLASSES} == set(CLASSES)
    for name, column in (("gpu_names.csv", "raw_name"), ("regions.csv", "raw_region")):
        keys = [(row["seller"], plain(row[column])) for row in rows(name)]
        assert len(keys) == len(set(keys))
