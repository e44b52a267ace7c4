"""The alert rules that come with the exchange: they are read, and speak of figures that its processes have."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from gateways.api.app import Exchange
from gateways.api.vault import Vault, new_vault_secret
from gateways.log.embedded import EmbeddedLog
from gateways.market_data.metrics import FillsMetrics
from gateways.market_data.replica import Replica
from gateways.market_data.tape import Tape
from gateways.webhooks.deliverer import Deliverer
from matching_engine import checks
from matching_engine.metrics import EngineMetrics
from settlement.auditor import REPORTED
from settlement.metrics import AuditMetrics, SettlementMetrics
from settlement.store import Store

GROUPS = yaml.safe_load((Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
OF_PROMETHEUS = {"up"}
SUFFIXES = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}


def named(expression: str) -> set[str]:
    """The metrics of an expression."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\bby \([^)]*\)", "", expression)
    return set(re.findall(r"\b[a-z]\w*\b(?!\s*\()", bare)) - {"or", "and", "unless"}


@pytest.fixture
def figures(embedded_log: EmbeddedLog, store: Store) -> set[str]:
    """All that the processes have."""
    registry, vault, replica = CollectorRegistry(), Vault([new_vault_secret()]), Replica(embedded_log)
    EngineMetrics(registry)
    FillsMetrics(registry)
    SettlementMetrics(registry)
    AuditMetrics(registry, REPORTED)
    Deliverer(store.webhooks, vault, registry)
    Exchange(
        log=embedded_log,
        store=store,
        books=replica,
        standings=replica,
        tape=Tape(embedded_log),
        vault=vault,
        checks=checks,
        registry=registry,
    )
    return {family.name + suffix for family in registry.collect() for suffix in SUFFIXES[family.type]}


async def test_alerts_speak_of_figures_that_there_are(figures: set[str]) -> None:
    for rule in RULES:
        metrics = named(rule["expr"])
        assert metrics, rule["alert"]
        assert metrics <= figures | OF_PROMETHEUS, rule["alert"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert re.fullmatch(r"\d+m", rule["for"])
    assert set(rule["annotations"]) == {"summary", "runbook"}
    assert all(rule["annotations"].values())
