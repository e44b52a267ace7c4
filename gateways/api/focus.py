"""A buyer's month as rows of FOCUS: one for the capacity of each line, one for the exchange's fee on it."""

import msgspec

from gateways.api.statements import ISSUER, corrects, invoice_id, line_name, note_id
from schemas.attributes import Delivery, Region, name_of
from schemas.commands import Side
from schemas.focus import DECIMAL_PLACES, NAMES, Row
from schemas.ids import format_account_id, format_lease_id
from schemas.invoices import Invoice, Line, LineKind
from schemas.store import Account
from schemas.units import BPS, HOUR_MS, MICRO, SECOND_MS, format_time, format_usd, month_start

UNIT = "GPU-Hours"
_SUBCATEGORIES = {Delivery.CONTAINER: "Containers", Delivery.VM: "Virtual Machines"}


def rows(invoice: Invoice, account: Account) -> list[Row]:
    """Of the lines that are here; they sum to the lines' amounts."""
    head = invoice.head
    month: Row = {
        "BillingAccountId": format_account_id(account.id),
        "BillingAccountName": account.name,
        "BillingCurrency": "USD",
        "BillingPeriodStart": format_time(month_start(head.month)),
        "BillingPeriodEnd": format_time(month_start(head.month + 1)),
        "InvoiceId": invoice_id(head),
        "InvoiceIssuerName": ISSUER,
        "ProviderName": ISSUER,
        "ServiceProviderName": ISSUER,
        "x_InvoiceStatus": "final" if head.final else "preliminary",
    }
    found = []
    for line in invoice.lines:
        of_line = month | _line(line, head.month)
        rows_of_line = [_capacity(line), _fee(line)] if line.fee else [_capacity(line)]
        other = _CREDIT if line.kind is LineKind.CREDIT else {}
        found += [of_line | row | other | _reason(line) for row in rows_of_line]
    return [{name: row.get(name) for name in NAMES} for row in found]


def _line(line: Line, month: int) -> Row:
    """What the rows of a line have in common."""
    start, end = _period(line, month if line.note is None else line.note.corrects)
    is_correction = line.note is not None and line.note.corrects < month
    return {
        "ChargeCategory": "Usage",
        "ChargeClass": "Correction" if is_correction else None,
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": format_time(start),
        "ChargePeriodEnd": format_time(end),
        "ConsumedUnit": UNIT,
        "ConsumedQuantity": _hours(line.gpu_ms - line.forfeited_gpu_ms),
        "PricingQuantity": _hours(line.gpu_ms),
        "PricingUnit": UNIT,
        "ResourceId": format_lease_id(line.id[0]),
        "ResourceType": "GPU lease",
        "SkuMeter": UNIT,
        "SubAccountId": line.team or None,
        "SubAccountName": line.team or None,
        "SubAccountType": "Team" if line.team else None,
        "x_Corrects": corrects(line, Side.BID) or None,
        "x_Line": line_name(line.id),
        "x_User": line.user or None,
    }


_CREDIT: Row = {
    "ChargeCategory": "Credit",
    "ChargeDescription": "Credit, as the lease was not what its class promises",
    "ChargeFrequency": "One-Time",
    "ConsumedQuantity": None,
    "ConsumedUnit": None,
    "ContractedUnitPrice": None,
    "ListUnitPrice": None,
    "PricingCategory": None,
    "PricingQuantity": None,
    "PricingUnit": None,
    "SkuMeter": None,
}
"""What is other where it is not for use."""


def _capacity(line: Line) -> Row:
    sold = line.attributes
    supplier = line.supplier_name or format_account_id(line.supplier)
    region = None if sold.region is Region.UNSPECIFIED else name_of(sold.region)
    kinds = name_of(sold.region), name_of(sold.delivery), name_of(sold.interconnect), name_of(sold.tier)
    details = {
        "GpuCount": line.quantity,
        "InstanceType": line.class_id,
        "x_Interconnect": name_of(sold.interconnect),
        "x_Tier": name_of(sold.tier),
        "x_Confidential": sold.confidential,
    }
    sku = "/".join((line.class_id, *kinds))
    return _priced(line.cost, line.price * BPS) | {
        "ChargeDescription": f"{line.quantity} GPUs of {line.class_id} at {format_usd(line.price)} per GPU-hour",
        "HostProviderName": supplier,
        "PricingCategory": "Dynamic",
        "PublisherName": supplier,
        "RegionId": region,
        "RegionName": region,
        "ServiceCategory": "Compute",
        "ServiceName": "GPU capacity",
        "ServiceSubcategory": _SUBCATEGORIES.get(sold.delivery, "Other (Compute)"),
        "SkuId": sku,
        "SkuPriceDetails": msgspec.json.encode(details).decode(),
        "SkuPriceId": f"{sku}@{format_usd(line.price)}",
    }


def _fee(line: Line) -> Row:
    return _priced(line.fee, line.price * line.fee_bps) | {
        "ChargeDescription": f"Fee of {line.fee_bps} basis points on {format_lease_id(line.id[0])}",
        "ConsumedQuantity": None,
        "ConsumedUnit": None,
        "HostProviderName": ISSUER,
        "PricingCategory": "Standard",
        "PublisherName": ISSUER,
        "ServiceCategory": "Other",
        "ServiceName": "Exchange fee",
        "ServiceSubcategory": "Other (Other)",
        "SkuId": "exchange-fee",
        "SkuPriceId": f"exchange-fee@{line.fee_bps}bps of {format_usd(line.price)}",
    }


def _reason(line: Line) -> Row:
    """What is said of a correction, in place of what it is for."""
    if line.note is None:
        return {}
    return {"ChargeDescription": f"{note_id(line)} to {corrects(line, Side.BID)}: {line.note.reason}"}


def _priced(cost: int, unit_price: int) -> Row:
    """`unit_price` in µ$ × BPS per GPU-hour. Nothing is discounted or prepaid, so all costs are the same."""
    price = _decimal(unit_price, MICRO * BPS)
    costs = dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), format_usd(cost))
    return {**costs, "ContractedUnitPrice": price, "ListUnitPrice": price}


def _period(line: Line, month: int) -> tuple[int, int]:
    """The part of the lease's use that is in the month, in whole seconds; where nothing is, the month."""
    first, last = month_start(month), month_start(month + 1)
    start = max(first, line.start) // SECOND_MS * SECOND_MS
    end = -(-min(last, line.end) // SECOND_MS) * SECOND_MS
    return (start, end) if start < end else (first, last)


def _hours(gpu_ms: int) -> str:
    return _decimal(gpu_ms, HOUR_MS)


def _decimal(numerator: int, denominator: int) -> str:
    """A fraction as a decimal string, cut to DECIMAL_PLACES."""
    whole, rest = divmod(abs(numerator), denominator)
    places = f"{rest * 10**DECIMAL_PLACES // denominator:0{DECIMAL_PLACES}d}".rstrip("0")
    return f"{'-' if numerator < 0 else ''}{whole}{'.' if places else ''}{places}"
