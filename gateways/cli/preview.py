"""What an order would do, in the words of `cx buy`."""

from collections.abc import Sequence

from gateways.client.types import Preview, PreviewFill

MAX_LINES = 10
"""Fills shown one by one."""


def lines(seen: Preview) -> list[str]:
    """For people."""
    return [
        *(_fills(seen.fills) or [f"nothing fills now: {seen.why.text}"]),
        *([f"{seen.left} GPUs wait until {seen.until}, ${seen.held} held"] if seen.status == "open" else []),
        *([f"the rest of {seen.left} GPUs does not wait: {seen.reason}"] if seen.status == "cancelled" else []),
        *(f"your own {order_id} would be cancelled: it stands on the other side" for order_id in seen.cancels),
        f"costs ${seen.most} at the most"
        + (f", ${seen.fee} of it fee on what fills now" if seen.fee != "0.00" else ""),
        *([f"${seen.short} more has to be free: it needs ${seen.needed}"] if seen.short != "0.00" else []),
    ]


def _fills(fills: Sequence[PreviewFill]) -> list[str]:
    shown = [
        f"{fill.quantity} GPUs fill now at ${fill.price} in {fill.region}, {fill.start} to {fill.end}"
        for fill in fills[:MAX_LINES]
    ]
    more = fills[MAX_LINES:]
    return [*shown, *([f"and {sum(fill.quantity for fill in more)} GPUs in {len(more)} more fills"] if more else [])]
