"""The export for cost tools, column by column against the specification's facts."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.api import focus
from schemas import units
from schemas.attributes import Attributes, Delivery, Region
from schemas.commands import Side
from schemas.focus import COLUMNS, NAMES, Row
from schemas.invoices import Head, Invoice, Line, LineKind, Totals
from schemas.store import Account
from schemas.units import HOUR_MS, month_of, parse_time
from settlement.metering import bill
from tests.focus_rules import facts, problems

START = parse_time("2026-11-30T20:00:00Z")
NOVEMBER = month_of(START)
BUYER = Account(3, "inference-inc", 3, 133, 0, START)


def line_of(price: int, gpu_ms: int, fee_bps: int, **other: object) -> Line:
    cost, fee, _ = bill(price, gpu_ms, fee_bps, 0)
    line = Line(
        id=((7, 1), 0),
        kind=LineKind.LEASE,
        class_id="H100-SXM-80GB",
        supplier=2,
        supplier_name="acme-cloud",
        buyer=3,
        attributes=Attributes(region=Region.US_EAST, delivery=Delivery.VM),
        quantity=8,
        price=price,
        fee_bps=fee_bps,
        start=START,
        end=START + 6 * HOUR_MS + 1,
        gpu_ms=gpu_ms,
        forfeited_gpu_ms=gpu_ms // 3,
        cost=cost,
        fee=fee,
        amount=cost + fee,
    )
    return msgspec.structs.replace(line, **other)


def rows_of(*lines: Line, month: int = NOVEMBER) -> list[Row]:
    head = Head(BUYER.id, Side.BID, month, 1, False, Totals())
    return focus.rows(Invoice(head, list(lines)), BUYER)


def test_every_mandatory_column_is_there_and_each_is_as_the_specification_says() -> None:
    known = facts()
    assert {name for name, fact in known.items() if fact.level in ("Mandatory", "1.3")} <= set(NAMES)
    assert len(known) == 59
    for column in COLUMNS:
        if column.name.startswith("x_"):
            continue
        fact = known[column.name]
        assert (column.kind, column.nullable) == (fact.data_type, fact.nulls), column.name
        assert set(column.values) <= fact.values or not fact.values, column.name
    assert [column.name for column in COLUMNS if column.values and not column.name.startswith("x_")] == [
        "ChargeCategory",
        "ChargeClass",
        "ChargeFrequency",
        "PricingCategory",
        "ServiceCategory",
        "ServiceSubcategory",
    ]


@given(
    st.integers(1, units.MAX_PRICE),
    st.integers(0, units.MAX_QUANTITY * 31 * units.DAY_MS),
    st.integers(0, units.MAX_FEE_BPS),
    st.sampled_from(list(Region)),
    st.sampled_from(list(Delivery)),
    st.sampled_from(["", "research"]),
)
def test_every_row_is_valid_and_together_they_are_the_line_s_amount(
    price: int, gpu_ms: int, fee_bps: int, region: Region, delivery: Delivery, team: str
) -> None:
    line = line_of(price, gpu_ms, fee_bps, attributes=Attributes(region=region, delivery=delivery), team=team)
    rows = rows_of(line)
    for row in rows:
        assert problems(row) == []
        assert tuple(row) == NAMES
        for column in COLUMNS:
            assert row[column.name] is None or not column.values or row[column.name] in column.values, column.name
    billed = sum(Decimal(row["BilledCost"] or "") for row in rows)
    assert billed * units.MICRO == line.amount


def test_a_row_says_who_sold_where_it_runs_and_who_used_it() -> None:
    capacity, fee = rows_of(line_of(2_350_000, 8 * HOUR_MS, 133, team="research", user="ada"))
    assert {
        name: capacity[name]
        for name in (
            "HostProviderName",
            "ServiceProviderName",
            "RegionId",
            "SubAccountId",
            "SubAccountType",
            "x_User",
            "PricingQuantity",
            "ConsumedQuantity",
            "ListUnitPrice",
            "BilledCost",
            "ChargePeriodStart",
            "ChargePeriodEnd",
            "InvoiceId",
            "ServiceSubcategory",
        )
    } == {
        "HostProviderName": "acme-cloud",
        "ServiceProviderName": "Compute Exchange",
        "RegionId": "us-east",
        "SubAccountId": "research",
        "SubAccountType": "Team",
        "x_User": "ada",
        "PricingQuantity": "8",
        "ConsumedQuantity": "5.333333333333",
        "ListUnitPrice": "2.35",
        "BilledCost": "18.80",
        "ChargePeriodStart": "2026-11-30T20:00:00Z",
        "ChargePeriodEnd": "2026-12-01T00:00:00Z",
        "InvoiceId": "inv_3-1",
        "ServiceSubcategory": "Virtual Machines",
    }
    assert (fee["ServiceName"], fee["ListUnitPrice"], fee["BilledCost"]) == ("Exchange fee", "0.031255", "0.25004")


def test_what_is_billed_in_another_month_than_its_window_is_of_the_whole_month() -> None:
    (row, _) = rows_of(line_of(2_350_000, HOUR_MS, 1), month=NOVEMBER + 3)
    assert (row["ChargePeriodStart"], row["ChargePeriodEnd"]) == ("2027-02-01T00:00:00Z", "2027-03-01T00:00:00Z")


def test_a_credit_is_one_row_of_no_use_at_no_price() -> None:
    credit = {"kind": LineKind.CREDIT, "cost": -5_000_000, "fee": 0, "amount": -5_000_000}
    (row,) = rows_of(line_of(2_350_000, 0, 0, **credit))
    assert problems(row) == []
    assert (row["ChargeCategory"], row["ChargeFrequency"], row["BilledCost"]) == ("Credit", "One-Time", "-5.00")
    for name in ("ConsumedQuantity", "ConsumedUnit", "PricingQuantity", "PricingUnit", "ListUnitPrice", "SkuMeter"):
        assert row[name] is None, name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BilledCost", "1e3"),
        ("BilledCost", None),
        ("BillingPeriodStart", "2026-11-01"),
        ("ChargeCategory", "Fee"),
        ("ChargePeriodEnd", "2026-01-01T00:00:00Z"),
        ("ListCost", "19.80"),
        ("ServiceSubcategory", "GPU"),
        ("SkuPriceDetails", "[]"),
        ("Colour", "blue"),
    ],
)
def test_the_rules_notice_what_is_wrong(name: str, value: str | None) -> None:
    row, _ = rows_of(line_of(2_350_000, 8 * HOUR_MS, 133))
    assert problems(row) == []
    assert problems({**row, name: value}) != []
    assert problems({each: text for each, text in row.items() if each != "BilledCost"}) != []
