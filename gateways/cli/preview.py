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
        f"${seen.needed} is held as it comes; what it does not cost is free again",
        *([f"${seen.short} more has to be free for that"] if seen.short != "0.00" else []),
    ]


def _fills(fills: Sequence[PreviewFill]) -> list[str]:
    shown = [f"{_now(fill.quantity)} at ${fill.price} in {fill.region}, {fill.start} to {fill.end}" for fill in fills]
    more = sum(fill.quantity for fill in fills[MAX_LINES:])
    return shown[:MAX_LINES] + ([f"and {more} GPUs in {len(fills) - MAX_LINES} more fills"] if more else [])


def _now(gpus: int) -> str:
    return "1 GPU fills now" if gpus == 1 else f"{gpus} GPUs fill now"
