"""The facts that ship hold together: a market can be made of them as they are."""

from collections import Counter
from importlib.resources import files

from gateways.cli.facts.arrivals import BIN_S, arrivals
from gateways.cli.facts.classes import standard_classes
from gateways.cli.facts.prices import list_prices
from matching_engine.checks import check_class
from schemas.attributes import Region, Tier


def test_enough_sellers_classes_and_prices_and_every_class_is_a_standard_one() -> None:
    prices = list_prices()
    classes = {spec.class_id: spec for spec in standard_classes()}
    assert len(prices) >= 140
    assert len({line.seller for line in prices}) >= 10
    assert len({line.class_id for line in prices}) >= 10
    for line in prices:
        assert line.price > 0
        assert line.price % classes[line.class_id].tick == 0, line
        assert line.instance_size in {1, 2, 4, 8, 16}
        assert "MIG" not in line.raw_name
        assert line.source
        assert line.date
    assert {line.tier for line in prices} == set(Tier)
    assert Region.UNSPECIFIED in {line.region for line in prices}


def test_every_standard_class_can_be_opened_and_is_there_once() -> None:
    specs = standard_classes()
    assert [spec.class_id for spec in specs if check_class(spec) is not None] == []
    assert max(Counter(spec.class_id for spec in specs).values()) == 1
    for spec in specs:
        assert spec.class_id.endswith((f"-{spec.memory_gb}GB", f".{spec.memory_gb}gb"))


def test_names_that_mean_different_things_at_different_sellers() -> None:
    named = {(line.seller, line.raw_name): line.class_id for line in list_prices()}
    assert named["Hyperstack", "NVIDIA H100"] == "H100-PCIe-80GB"
    assert named["RunPod Secure Cloud", "NVIDIA H100 80GB HBM3"] == "H100-SXM-80GB"
    assert named["RunPod Secure Cloud", "NVIDIA H100 NVL"] == "H100-NVL-94GB"
    assert named["Lambda", "gpu_1x_a100_sxm_40gb"] == "A100-SXM-40GB"
    assert named["Lambda", "gpu_4x_a100_pcie_40gb"] == "A100-PCIe-40GB"
    assert named["Google Cloud", "a2-highgpu-8g"] == "A100-SXM-40GB"
    assert named["Google Cloud", "a2-ultragpu-8g"] == "A100-SXM-80GB"
    assert not any("A100-40GB" in name or name.startswith("H100 (") for _, name in named)


def test_the_arrivals_are_the_whole_trace_with_its_attribution() -> None:
    counts = arrivals()
    assert len(counts) * BIN_S == 3500
    assert sum(counts) == 19_364
    assert "CC-BY 4.0" in (files("gateways.cli.facts") / "README.md").read_text()
