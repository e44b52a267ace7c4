"""Money that comes in from outside and goes out again: what may be asked, and how a withdrawal goes on.

Pure: rows in, refusals and entries out; `books.py` applies them.
"""

import re
from typing import NamedTuple

from msgspec import Struct

from schemas import units
from schemas.ids import MAX_ACCOUNT
from schemas.instructions import (
    WITHDRAWAL_REFERENCE,
    CreditLimit,
    Deposit,
    Source,
    Withdrawal,
    WithdrawalNews,
    WithdrawalState,
)
from schemas.refusals import Args, Refusal
from settlement import ledger
from settlement.ledger import Entries

MAX_AMOUNT = 10**9 * units.MICRO
"""µ$ in one payment: sums of them stay far below what a balance can hold."""
MAX_REFERENCE = 128
MAX_WORDS = 256
"""Characters of a destination, of a provider's reference, of a reason."""

Refused = tuple[Refusal, Args]
WithdrawalKey = tuple[int, str]
"""(account, reference)."""

_REFERENCE = re.compile(WITHDRAWAL_REFERENCE, re.ASCII)


class DepositRow(NamedTuple):
    """A deposit as the table `deposits` has it."""

    reference: str
    account: int
    amount: int
    made_at: int


class WithdrawalRow(Struct):
    """A withdrawal as the table `withdrawals` has it, column by column. Times in ms, money in µ$."""

    account: int
    reference: str
    source: str
    amount: int
    destination: str
    state: str
    provider_reference: str
    reason: str
    requested_at: int
    sent_at: int | None = None
    ended_at: int | None = None

    @property
    def key(self) -> WithdrawalKey:
        return self.account, self.reference


class CreditRow(NamedTuple):
    """A credit limit as the table `credit_limits` has it."""

    account: int
    number: int
    """1, 2, 3, … of the account's."""
    credit: int
    set_at: int


def wrong_deposit(deposit: Deposit) -> Refused | None:
    if not (1 <= len(deposit.reference) <= MAX_REFERENCE and deposit.reference.isprintable()):
        return Refusal.UNREADABLE, (f"its reference must have 1 to {MAX_REFERENCE} printable characters",)
    return _wrong(deposit.account, deposit.amount)


def is_possible(account: int, reference: str) -> bool:
    """Whether a withdrawal may be so named."""
    return 1 <= account <= MAX_ACCOUNT and _REFERENCE.fullmatch(reference) is not None


def wrong_withdrawal(asked: Withdrawal) -> Refused | None:
    if not _REFERENCE.fullmatch(asked.reference):
        return Refusal.UNREADABLE, ("its reference must be 1 to 64 of A-Z, a-z, 0-9, . _ : -",)
    if not (asked.destination and _are_words(asked.destination)):
        return Refusal.UNREADABLE, (f"its destination must have 1 to {MAX_WORDS} printable characters",)
    return _wrong(asked.account, asked.amount)


def wrong_credit(said: CreditLimit) -> Refused | None:
    if not 0 <= said.credit <= MAX_AMOUNT:
        return Refusal.LIMITS_INVALID, ("credit", units.format_usd(said.credit), f"0 to {units.format_usd(MAX_AMOUNT)}")
    if not 1 <= said.account <= MAX_ACCOUNT:
        return Refusal.UNKNOWN_ACCOUNT, (said.account,)
    return None


def requested(asked: Withdrawal, now: int) -> WithdrawalRow:
    """A new withdrawal."""
    return WithdrawalRow(
        account=asked.account,
        reference=asked.reference,
        source=asked.source,
        amount=asked.amount,
        destination=asked.destination,
        state=WithdrawalState.REQUESTED,
        provider_reference="",
        reason="",
        requested_at=now,
    )


def is_same(row: WithdrawalRow, asked: Withdrawal) -> bool:
    """Whether the withdrawal that has the reference is the one that is asked for."""
    return (row.source, row.amount, row.destination) == (asked.source, asked.amount, asked.destination)


def hear(row: WithdrawalRow, news: WithdrawalNews, now: int) -> Refused | None:
    """What became of it. News may come twice and late: of one that has ended, that it was sent is no news."""
    if news.state is WithdrawalState.REQUESTED or not _are_words(news.provider_reference + news.reason):
        return Refusal.UNREADABLE, ("it says nothing that can become of a withdrawal",)
    same = (row.state, row.provider_reference, row.reason) == (news.state, news.provider_reference, news.reason)
    if row.ended_at is not None:
        is_old = same or news.state is WithdrawalState.SENT
        return None if is_old else (Refusal.WITHDRAWAL_STATE, (row.reference, row.state))
    row.state, row.reason = news.state, news.reason
    row.provider_reference = news.provider_reference or row.provider_reference
    if news.state is WithdrawalState.SENT:
        row.sent_at = row.sent_at or now
    else:
        row.ended_at = now
    return None


def request_entries(row: WithdrawalRow) -> Entries:
    """Once requested, it cannot be spent again."""
    return {_source(row): -row.amount, ledger.outgoing(row.account): row.amount}


def end_entries(row: WithdrawalRow) -> Entries:
    """It is out, or back."""
    to = ledger.OUTSIDE if row.state == WithdrawalState.SETTLED else _source(row)
    return {ledger.outgoing(row.account): -row.amount, to: row.amount}


def _source(row: WithdrawalRow) -> int:
    return ledger.cash(row.account) if row.source == Source.CASH else ledger.payable(row.account)


def _wrong(account: int, amount: int) -> Refused | None:
    if not 1 <= amount <= MAX_AMOUNT:
        return Refusal.AMOUNT_OUT_OF_RANGE, (amount, MAX_AMOUNT)
    if not 1 <= account <= MAX_ACCOUNT:
        return Refusal.UNKNOWN_ACCOUNT, (account,)
    return None


def _are_words(text: str) -> bool:
    return len(text) <= MAX_WORDS and text.isprintable()
