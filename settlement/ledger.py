"""Double entry: which ledger accounts there are, and what a transaction is.

A ledger account's id is computed, so that nobody has to look one up: `8 * account + code`, or minus the lease's number.
Amounts are µ$; an entry above 0 adds to the ledger account. Money from outside comes from `OUTSIDE`, whose balance is
therefore minus all that the exchange holds for others; that of `GRANTS` is minus the credits that it gave away.
"""

from msgspec import Struct

from schemas.units import month_of

GRANTS = 4
OUTSIDE = 6
REVENUE = 7

Entries = dict[int, int]
"""Ledger account -> µ$."""


def cash(account: int) -> int:
    """What an account may use freely."""
    return 8 * account + 1


def hold(account: int) -> int:
    """What its open bids may still cost."""
    return 8 * account + 2


def payable(account: int) -> int:
    """What it earned as a supplier."""
    return 8 * account + 3


def outgoing(account: int) -> int:
    """What it withdrew and is not out yet."""
    return 8 * account + 4


def lent(account: int) -> int:
    """Below 0: what of its cash is lent, its credit limit."""
    return 8 * account + 5


def daily_credits(account: int) -> int:
    """What is left of its credits of the day."""
    return 8 * account + 6


def escrow(lease_number: int) -> int:
    """What a lease may still cost. Leases are numbered from 1 in the order in which they were settled."""
    return -lease_number


def owner(ledger_account: int) -> int:
    """Whose cash, hold or payable it is; 0 for any other."""
    return max(0, ledger_account) // 8


def is_payable(ledger_account: int) -> bool:
    """Whether it is a supplier's."""
    return ledger_account > 0 and ledger_account % 8 == 3


class Transaction(Struct, frozen=True):
    """Entries that sum to 0, written once under a reference of their own.

    Raises ValueError where they do not: no rule may ever make or lose money.
    """

    reference: str
    time: int
    """ms, of the log."""
    entries: Entries
    month: int | None = None
    """In which month's invoices it is, where that is not the month of its time."""

    def __post_init__(self) -> None:
        if sum(self.entries.values()) or not all(self.entries.values()):
            raise ValueError(f"the entries of {self.reference} are not balanced, or 0: {self.entries}")


def transaction(reference: str, time: int, entries: Entries, month: int | None = None) -> Transaction | None:
    """A transaction of the entries that are not 0; None where nothing moves."""
    moving = {account: amount for account, amount in entries.items() if amount}
    if month is not None and month == month_of(time):
        month = None
    return Transaction(reference, time, moving, month) if moving else None
