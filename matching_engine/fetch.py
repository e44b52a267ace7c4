"""Memory, as the compiled core has or reads it in other ways (`core/fetch.pxd`): what it does is the same."""

from collections.abc import Iterable
from typing import Any


def foresee_orders(orders: list[Any]) -> None:
    """Who stands in a chunk, which is gone through next: all of them are read at once."""


def numbers(given: Iterable[int] = ()) -> Any:
    """Numbers to search in; the compiled core has them side by side in memory, not as objects here and there."""
    return list(given)
