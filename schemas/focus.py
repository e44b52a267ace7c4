"""What the export for cost tools has: columns of FOCUS 1.2, two of 1.3's names, and four of our own (`x_`).

FOCUS is the FinOps Open Cost and Usage Specification (focus.finops.org, CC-BY 4.0).
"""

from enum import StrEnum

from msgspec import Struct

Row = dict[str, str | None]
"""By the names of the columns, in their order; numbers are decimal strings, never floats."""


class Kind(StrEnum):
    """Data types of FOCUS."""

    STRING = "String"
    DECIMAL = "Decimal"
    TIME = "Date/Time"
    JSON = "JSON"


class Column(Struct, frozen=True):
    """A column of the export; `values` are all that it may have, where the specification lists them."""

    name: str
    kind: Kind = Kind.STRING
    nullable: bool = False
    values: tuple[str, ...] = ()


DECIMAL_PLACES = 12
"""Of GPU-hours: times any price they come to the cost, but for less than a micro-dollar."""

COLUMNS = (
    Column("BilledCost", Kind.DECIMAL),
    Column("BillingAccountId"),
    Column("BillingAccountName", nullable=True),
    Column("BillingCurrency"),
    Column("BillingPeriodEnd", Kind.TIME),
    Column("BillingPeriodStart", Kind.TIME),
    Column("ChargeCategory", values=("Usage", "Purchase", "Tax", "Credit", "Adjustment")),
    Column("ChargeClass", nullable=True, values=("Correction",)),
    Column("ChargeDescription", nullable=True),
    Column("ChargeFrequency", values=("One-Time", "Recurring", "Usage-Based")),
    Column("ChargePeriodEnd", Kind.TIME),
    Column("ChargePeriodStart", Kind.TIME),
    Column("ConsumedQuantity", Kind.DECIMAL, nullable=True),
    Column("ConsumedUnit", nullable=True),
    Column("ContractedCost", Kind.DECIMAL),
    Column("ContractedUnitPrice", Kind.DECIMAL, nullable=True),
    Column("EffectiveCost", Kind.DECIMAL),
    Column("HostProviderName"),
    Column("InvoiceId", nullable=True),
    Column("InvoiceIssuerName"),
    Column("ListCost", Kind.DECIMAL),
    Column("ListUnitPrice", Kind.DECIMAL, nullable=True),
    Column("PricingCategory", nullable=True, values=("Standard", "Dynamic", "Committed", "Other")),
    Column("PricingQuantity", Kind.DECIMAL, nullable=True),
    Column("PricingUnit", nullable=True),
    Column("ProviderName"),
    Column("PublisherName"),
    Column("RegionId", nullable=True),
    Column("RegionName", nullable=True),
    Column("ResourceId", nullable=True),
    Column("ResourceName", nullable=True),
    Column("ResourceType", nullable=True),
    Column("ServiceCategory", values=("Compute", "Other")),
    Column("ServiceName"),
    Column("ServiceProviderName"),
    Column("ServiceSubcategory", values=("Containers", "Virtual Machines", "Other (Compute)", "Other (Other)")),
    Column("SkuId", nullable=True),
    Column("SkuMeter", nullable=True),
    Column("SkuPriceDetails", Kind.JSON, nullable=True),
    Column("SkuPriceId", nullable=True),
    Column("SubAccountId", nullable=True),
    Column("SubAccountName", nullable=True),
    Column("SubAccountType", nullable=True),
    Column("x_Corrects", nullable=True),
    Column("x_InvoiceStatus", values=("preliminary", "final")),
    Column("x_Line"),
    Column("x_User", nullable=True),
)
NAMES = tuple(column.name for column in COLUMNS)
