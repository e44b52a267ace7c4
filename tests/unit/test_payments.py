"""Withdrawals in settlement's fold, without a database: what may be asked, what can become of it, in any order."""

import itertools
import random

import msgspec
import pytest

from schemas.instructions import CreditLimit, Deposit, Source, Withdrawal, WithdrawalNews, WithdrawalState
from schemas.refusals import Refusal, sentence
from settlement import ledger
from settlement.books import Books, Wanted

ACCOUNT = 5
ASKED = Withdrawal(ACCOUNT, "rent-11", Source.CASH, 40, "DE02 1203")
SENT = WithdrawalNews(ACCOUNT, "rent-11", WithdrawalState.SENT, "po_7", "")
SETTLED = WithdrawalNews(ACCOUNT, "rent-11", WithdrawalState.SETTLED, "po_7", "")
FAILED = WithdrawalNews(ACCOUNT, "rent-11", WithdrawalState.FAILED, "po_7", "account closed")


def books(cash: int = 100, receivable: int = 30) -> Books:
    made = Books({}, 0)
    made.known_accounts = {ACCOUNT}
    made.cash, made.receivables = {ACCOUNT: cash}, {ACCOUNT: receivable}
    return made


def moved(made: Books) -> dict[int, int]:
    """What all transactions did to each ledger account."""
    total: dict[int, int] = {}
    for transaction in made.transactions:
        for account, amount in transaction.entries.items():
            total[account] = total.get(account, 0) + amount
    return {account: amount for account, amount in total.items() if amount}


def test_what_is_requested_cannot_be_spent_again_and_settled_is_out() -> None:
    made = books()
    assert made.instruction(ASKED, 1) is None
    assert moved(made) == {ledger.cash(ACCOUNT): -40, ledger.outgoing(ACCOUNT): 40}
    assert made.cash == {ACCOUNT: 60}
    assert made.instruction(SENT, 2) is None
    assert made.instruction(SETTLED, 3) is None
    assert moved(made) == {ledger.cash(ACCOUNT): -40, ledger.OUTSIDE: 40}
    row = made.changed_withdrawals[ACCOUNT, "rent-11"]
    assert (row.state, row.provider_reference, row.sent_at, row.ended_at) == ("settled", "po_7", 2, 3)


def test_what_failed_is_back_where_it_came_from() -> None:
    made = books()
    payout = msgspec.structs.replace(ASKED, source=Source.RECEIVABLE, amount=30)
    assert made.instruction(payout, 1) is None
    assert made.receivables == {ACCOUNT: 0}
    assert made.instruction(FAILED, 2) is None
    assert (moved(made), made.receivables) == ({}, {ACCOUNT: 30})
    row = made.withdrawals[ACCOUNT, "rent-11"]
    assert (row.state, row.reason, row.sent_at) == ("failed", "account closed", None)


@pytest.mark.parametrize(
    ("asked", "refusal", "part"),
    [
        (ASKED, None, ""),
        (msgspec.structs.replace(ASKED, amount=41), Refusal.REFERENCE_REUSED, "rent-11"),
        (msgspec.structs.replace(ASKED, destination="elsewhere"), Refusal.REFERENCE_REUSED, "rent-11"),
        (msgspec.structs.replace(ASKED, source=Source.RECEIVABLE), Refusal.REFERENCE_REUSED, "rent-11"),
        (msgspec.structs.replace(ASKED, reference="b", amount=61), Refusal.INSUFFICIENT_FUNDS, "0.000061, but"),
        (
            msgspec.structs.replace(ASKED, reference="b", source=Source.RECEIVABLE),
            Refusal.INSUFFICIENT_FUNDS,
            "0.00003",
        ),
        (msgspec.structs.replace(ASKED, reference="b", amount=0), Refusal.AMOUNT_OUT_OF_RANGE, "above 0"),
        (msgspec.structs.replace(ASKED, reference="b", amount=10**15 + 1), Refusal.AMOUNT_OUT_OF_RANGE, "at most"),
        (msgspec.structs.replace(ASKED, reference="a b"), Refusal.UNREADABLE, "reference"),
        (msgspec.structs.replace(ASKED, reference="b\n"), Refusal.UNREADABLE, "reference"),
        (msgspec.structs.replace(ASKED, destination=""), Refusal.UNREADABLE, "destination"),
        (msgspec.structs.replace(ASKED, destination="x" * 257), Refusal.UNREADABLE, "destination"),
        (msgspec.structs.replace(ASKED, account=6), Refusal.UNKNOWN_ACCOUNT, "6"),
        (msgspec.structs.replace(ASKED, account=0), Refusal.UNKNOWN_ACCOUNT, "0"),
        (msgspec.structs.replace(ASKED, account=1 << 70), Refusal.UNKNOWN_ACCOUNT, "no account"),
    ],
)
def test_a_second_request_is_the_first_one_or_is_refused(asked: Withdrawal, refusal: Refusal | None, part: str) -> None:
    made = books()
    assert made.instruction(ASKED, 1) is None
    before = moved(made)
    refused = made.instruction(asked, 2)
    assert (refused and refused[0], moved(made)) == (refusal, before)
    assert refused is None or part in sentence(*refused)


def test_what_no_withdrawal_can_be_called_is_not_looked_for() -> None:
    wanted = Wanted()
    for account, reference in ((0, "a"), (1 << 63, "a"), (5, "\x00"), (5, "")):
        wanted.add_instruction(msgspec.structs.replace(SENT, account=account, reference=reference), 0)
        wanted.add_instruction(msgspec.structs.replace(ASKED, account=account, reference=reference), 0)
    assert (wanted.withdrawals, wanted.withdrawers) == (set(), set())


def test_news_in_any_order_and_repeated_end_a_withdrawal_once() -> None:
    for order in itertools.permutations((SENT, SETTLED, FAILED)):
        made = books()
        made.instruction(ASKED, 1)
        answers = {(news.state, made.instruction(news, 2) is None) for news in (*order, *order)}
        first = next(news for news in order if news is not SENT)
        other = SETTLED if first is FAILED else FAILED
        refusals = [refused for news in order if (refused := made.instruction(news, 3)) is not None]
        assert all("for good" in sentence(*refused) for refused in refusals)
        assert answers == {("sent", True), (first.state, True), (other.state, False)}
        back = {} if first is FAILED else {ledger.cash(ACCOUNT): -40, ledger.OUTSIDE: 40}
        assert (made.withdrawals[ACCOUNT, "rent-11"].state, moved(made)) == (first.state, back)


def test_sent_again_keeps_the_first_time_and_news_without_a_reference_the_provider_s_last() -> None:
    made = books()
    assert made.instruction(ASKED, 1) is None
    assert made.instruction(SENT, 2) is None
    assert made.instruction(msgspec.structs.replace(SENT, provider_reference="po_8"), 3) is None
    assert made.instruction(msgspec.structs.replace(SETTLED, provider_reference=""), 4) is None
    row = made.withdrawals[ACCOUNT, "rent-11"]
    assert (row.sent_at, row.ended_at, row.provider_reference) == (2, 4, "po_8")


@pytest.mark.parametrize(
    ("news", "refusal"),
    [
        (msgspec.structs.replace(SETTLED, reference="another"), Refusal.UNKNOWN_WITHDRAWAL),
        (msgspec.structs.replace(SETTLED, account=6), Refusal.UNKNOWN_WITHDRAWAL),
        (msgspec.structs.replace(SETTLED, state=WithdrawalState.REQUESTED), Refusal.UNREADABLE),
        (msgspec.structs.replace(SETTLED, reason="bell\x07"), Refusal.UNREADABLE),
        (msgspec.structs.replace(SETTLED, provider_reference="x" * 257), Refusal.UNREADABLE),
    ],
)
def test_news_that_cannot_be_changes_nothing(news: WithdrawalNews, refusal: Refusal) -> None:
    made = books()
    made.instruction(ASKED, 1)
    before = moved(made)
    refused = made.instruction(news, 2)
    assert refused is not None
    assert (refused[0], moved(made)) == (refusal, before)


def test_credit_is_lent_as_cash_that_cannot_go_out() -> None:
    made = books(cash=100)
    assert made.instruction(CreditLimit(ACCOUNT, 50), 1) is None
    assert made.instruction(CreditLimit(ACCOUNT, 50), 2) is None, "once more changes nothing"
    assert (moved(made), made.cash) == ({ledger.lent(ACCOUNT): -50, ledger.cash(ACCOUNT): 50}, {ACCOUNT: 150})
    refused = made.instruction(msgspec.structs.replace(ASKED, amount=101), 3)
    assert refused == (Refusal.INSUFFICIENT_FUNDS, ("rent-11", 101, 100, "cash"))
    made.cash[ACCOUNT] = 30  # 120 of the 150 went into holds: 20 are owed
    refused = made.instruction(ASKED, 4)
    assert refused == (Refusal.INSUFFICIENT_FUNDS, ("rent-11", 40, 0, "cash"))
    refused = made.instruction(CreditLimit(ACCOUNT, 19), 5)
    assert refused == (Refusal.CREDIT_IN_USE, (ACCOUNT, 19, 20))
    assert "owes or holds 0.00002 of it" in sentence(*refused)
    assert made.instruction(CreditLimit(ACCOUNT, 20), 6) is None
    assert made.cash == {ACCOUNT: 0}
    assert made.instruction(Deposit(ACCOUNT, 25, "d"), 7) is None
    assert made.instruction(CreditLimit(ACCOUNT, 0), 8) is None
    assert [(row.number, row.credit) for row in made.new_credits] == [(1, 50), (2, 20), (3, 0)]
    assert made.instruction(msgspec.structs.replace(ASKED, amount=5), 9) is None


@pytest.mark.parametrize(
    ("said", "refusal"),
    [
        (CreditLimit(ACCOUNT, -1), Refusal.LIMITS_INVALID),
        (CreditLimit(ACCOUNT, 10**15 + 1), Refusal.LIMITS_INVALID),
        (CreditLimit(6, 1), Refusal.UNKNOWN_ACCOUNT),
        (CreditLimit(0, 1), Refusal.UNKNOWN_ACCOUNT),
        (CreditLimit(1 << 63, 1), Refusal.UNKNOWN_ACCOUNT),
    ],
)
def test_a_credit_that_cannot_be_is_refused(said: CreditLimit, refusal: Refusal) -> None:
    made, wanted = books(), Wanted()
    wanted.add_instruction(said, 0)
    refused = made.instruction(said, 1)
    assert refused is not None
    assert (refused[0], made.transactions, wanted.withdrawers - {6}) == (refusal, [], set())
    assert sentence(*refused)


@pytest.mark.parametrize("seed", range(5))
def test_any_stream_of_payments_keeps_every_micro_dollar(seed: int) -> None:
    rng, made = random.Random(seed), books(cash=0, receivable=0)
    balances: dict[int, int] = {}
    for now in range(2_000):
        reference = f"r{rng.randrange(40)}"
        asked = Withdrawal(ACCOUNT, reference, rng.choice(list(Source)), rng.choice((1, 7, 50)), "there")
        state = rng.choice(list(WithdrawalState))
        news = WithdrawalNews(ACCOUNT, reference, state, rng.choice(("", "p")), "")
        deposit, credit = Deposit(ACCOUNT, 9, f"d{rng.randrange(400)}"), CreditLimit(ACCOUNT, rng.choice((0, 5, 90)))
        made.instruction(rng.choice((asked, news, deposit, credit)), now)
    for transaction in made.transactions:
        for account, amount in transaction.entries.items():
            balances[account] = balances.get(account, 0) + amount
            assert balances[account] >= 0 or account in (ledger.OUTSIDE, ledger.lent(ACCOUNT))
        assert balances.get(ledger.cash(ACCOUNT), 0) + balances.get(ledger.lent(ACCOUNT), 0) >= 0, "nobody spends here"
    under_way = sum(row.amount for row in made.withdrawals.values() if row.ended_at is None)
    out = sum(row.amount for row in made.withdrawals.values() if row.state == "settled")
    came = 9 * len(made.deposits)
    assert sum(balances.values()) == 0
    assert (balances[ledger.outgoing(ACCOUNT)], balances[ledger.OUTSIDE]) == (under_way, out - came)
    assert len({transaction.reference for transaction in made.transactions}) == len(made.transactions)
