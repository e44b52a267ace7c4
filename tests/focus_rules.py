"""What FOCUS asks of a row, from the facts in `golden/focus_columns.csv`: written apart from what makes rows."""

import csv
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from msgspec import Struct

FACTS = Path(__file__).parent / "golden" / "focus_columns.csv"
MICRO_DOLLAR = Decimal("0.000001")
DECIMAL = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?", re.ASCII)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
SUBCATEGORIES = {
    "Compute": {
        "Containers",
        "End User Computing",
        "Quantum Compute",
        "Serverless Compute",
        "Virtual Machines",
        "Other (Compute)",
    },
    "Other": {"Other (Other)"},
}


class Fact(Struct, frozen=True):
    """What the specification says of a column."""

    level: str
    data_type: str
    nulls: bool
    values: frozenset[str]


def facts() -> dict[str, Fact]:
    """By the names of the columns."""
    lines = [line for line in FACTS.read_text().splitlines() if not line.startswith("#")]
    return {
        row["column"]: Fact(
            row["level"],
            row["data_type"],
            row["nulls"] == "True",
            frozenset(row["values"].split("|") if row["values"] else ()),
        )
        for row in csv.DictReader(lines)
    }


def problems(row: Mapping[str, str | None]) -> list[str]:
    """What is wrong with a row, column by column and between columns; nothing where it is as FOCUS wants it."""
    known = facts()
    found = [f"{name} is missing" for name, fact in known.items() if fact.level == "Mandatory" and name not in row]
    for name, value in row.items():
        fact = known.get(name)
        if fact is None:
            found += [] if name.startswith("x_") else [f"{name} is no column of FOCUS, and has no x_"]
        elif value is None:
            found += [] if fact.nulls else [f"{name} is null"]
        else:
            found += [f"{name}: {value!r} is no {fact.data_type}"] * (not _is(fact.data_type, value))
            found += [f"{name}: {value!r} is not allowed"] * (bool(fact.values) and value not in fact.values)
    return found or _between(row)


def _is(data_type: str, value: str) -> bool:
    match data_type:
        case "Decimal":
            return DECIMAL.fullmatch(value) is not None
        case "Date/Time":
            return TIME.fullmatch(value) is not None
        case "JSON":
            return isinstance(json.loads(value), dict)
    return value != ""


def _between(row: Mapping[str, str | None]) -> list[str]:
    """Rules over several columns."""
    text = {name: value or "" for name, value in row.items()}
    rules = {
        "the billing period ends after it begins": text["BillingPeriodStart"] < text["BillingPeriodEnd"],
        "the charge period ends after it begins": text["ChargePeriodStart"] < text["ChargePeriodEnd"],
        "the subcategory is one of its category": text["ServiceSubcategory"] in SUBCATEGORIES[text["ServiceCategory"]],
        "what is consumed has a unit": (row["ConsumedQuantity"] is None) == (row["ConsumedUnit"] is None),
        "a team is an account of a kind": (row["SubAccountId"] is None) == (row["SubAccountType"] is None),
        "the currency is of ISO 4217": text["BillingCurrency"] == "USD",
    }
    if row["ChargeCategory"] in ("Usage", "Purchase") and row["ChargeClass"] is None:
        for name in (
            "PricingQuantity",
            "PricingCategory",
            "ListUnitPrice",
            "ContractedUnitPrice",
            "SkuId",
            "SkuPriceId",
        ):
            rules[f"use has a {name}"] = row[name] is not None
        for cost, price in (("ListCost", "ListUnitPrice"), ("ContractedCost", "ContractedUnitPrice")):
            exact = Decimal(text[price] or 0) * Decimal(text["PricingQuantity"] or 0)
            rules[f"{cost} is {price} times quantity"] = abs(exact - Decimal(text[cost])) <= MICRO_DOLLAR
    return [rule for rule, holds in rules.items() if not holds]
