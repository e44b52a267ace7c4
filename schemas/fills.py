"""The public stream of fills: JSON on the topic `fills`, no accounts, numbered without gaps per class."""

from msgspec import Struct

from schemas.attributes import name_of
from schemas.events import Execution, Fill
from schemas.ids import format_fill_id
from schemas.units import format_time, format_usd


class PublicFill(Struct, frozen=True, rename={"class_id": "class"}):
    """One trade as anyone may see it. It may come twice with equal bytes: go by `number`."""

    number: int
    class_id: str
    fill_id: str
    time: str
    price: str
    """USD per GPU-hour."""
    quantity: int
    start: str
    end: str
    region: str
    interconnect: str
    confidential: bool
    tier: str
    delivery: str
    taker: str
    """Which side came second: bid or ask."""


def public_fills(execution: Execution) -> list[PublicFill]:
    """The public form of an execution's fills, in order: a pure function of that record alone."""
    return [
        PublicFill(
            number=fill.number,
            class_id=fill.class_id,
            fill_id=format_fill_id((execution.position, fill.index)),
            time=format_time(execution.time),
            price=format_usd(fill.price),
            quantity=fill.quantity,
            start=format_time(fill.start),
            end=format_time(fill.end),
            region=name_of(fill.attributes.region),
            interconnect=name_of(fill.attributes.interconnect),
            confidential=fill.attributes.confidential,
            tier=name_of(fill.attributes.tier),
            delivery=name_of(fill.attributes.delivery),
            taker=name_of(fill.taker),
        )
        for fill in execution.events
        if isinstance(fill, Fill)
    ]
