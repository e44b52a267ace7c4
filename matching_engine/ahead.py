"""What comes next, as the processor's caches should have it: the compiled core brings it there (`core/ahead.pxd`), and
waits for many things at once, not for one after the other. Here nothing is done, as nothing depends on it.
"""

from collections.abc import Sequence
from typing import Any

from matching_engine.ids import ById
from schemas.commands import Command, Unreadable

AT_ONCE = 64
"""Commands. What 32 name is brought as well; what more name leaves the nearest cache again."""

MANY = 20_000
"""Live orders from which on caches do not hold all that commands name: with fewer it is not worth the look."""


def foresee(orders: ById, books: dict[str, Any], following: int, commands: Sequence[Command | Unreadable]) -> None:
    """What the first AT_ONCE of these commands name, of an engine's orders and books; they probably stand in the log
    from the position `following` on.
    """
