"""What teams, users and pools spend: how a batch moves their counters. Pure.

A spender's `committed` is what its orders, amends and leases can still cost, and `spend` what was charged for its
leases, by the UTC day of the log time of the charge. Orders meet the caps where they enter: `find_cap` in `sql/`.
"""

from collections import defaultdict
from typing import Protocol

from schemas.units import DAY_MS

SpenderKey = tuple[int, str, str]
"""(account, `team`, `user` or `pool`, name)."""
SpendKey = tuple[int, str, str, int]
"""(account, `team`, `user`, `pool` or `class`, name, days since the epoch)."""


class Labelled(Protocol):
    """An order, an amend or a lease, with who ordered it: '' where its key was nobody's."""

    team: str
    user: str
    pool: str

    @property
    def payer(self) -> int: ...

    @property
    def committed(self) -> int:
        """µ$ that it can still cost, as held, reserved or in escrow."""
        ...


class Spend:
    """What a batch changes."""

    def __init__(self) -> None:
        self.charged: defaultdict[SpendKey, int] = defaultdict(int)
        """µ$."""
        self._watched: list[tuple[Labelled, int]] = []

    def watch(self, row: Labelled) -> None:
        """A row that the batch may change, as it was before."""
        if _is_labelled(row):
            self._watched.append((row, row.committed))

    def watch_new(self, row: Labelled) -> None:
        """A row that the batch makes."""
        if _is_labelled(row):
            self._watched.append((row, 0))

    def charge(self, row: Labelled, class_id: str, amount: int, at: int) -> None:
        """So many µ$ are charged for the lease, at `at` ms."""
        payer, day = row.payer, at // DAY_MS
        self.charged[payer, "class", class_id, day] += amount
        for kind, name in _labels(row) if _is_labelled(row) else ():
            self.charged[payer, kind, name, day] += amount

    def moved(self) -> dict[SpenderKey, int]:
        """By how many µ$ what each spender has committed is other than before the batch."""
        moved: defaultdict[SpenderKey, int] = defaultdict(int)
        for row, before in self._watched:
            for kind, name in _labels(row):
                moved[row.payer, kind, name] += row.committed - before
        return {spender: amount for spender, amount in moved.items() if amount}


def _is_labelled(row: Labelled) -> bool:
    return bool(row.team or row.user or row.pool)


def _labels(row: Labelled) -> list[tuple[str, str]]:
    labels = ("team", row.team), ("user", row.user), ("pool", row.pool)
    return [(kind, name) for kind, name in labels if name]
