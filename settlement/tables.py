"""Reads the rows that a batch needs into `Books`, and writes what the batch changed, set by set."""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from schemas.attributes import ClassSpec
from schemas.events import Execution
from schemas.refusals import Refusal
from schemas.units import DAY_MS
from settlement import ledger
from settlement.books import AmendRow, Books, OrderRow, Wanted
from settlement.corrections import Corrected
from settlement.daily_credits import DailyCreditRow
from settlement.database import LOCK_LEASE_READERS, Connection, Queries
from settlement.leases import LeaseRow
from settlement.machines import GpuRow
from settlement.payments import CreditRow, WithdrawalRow
from settlement.spend import SpenderKey
from settlement.usage import UsageRow

MAX_LEASE_STEPS = 1_000
"""Kept of an account, the newest, for readers who were away."""

_pack = msgspec.msgpack.Encoder().encode
_columns = msgspec.structs.astuple


class PositionRow(Struct, frozen=True):
    """How far a partition of a topic was applied, as the table `positions` has it."""

    topic: str
    partition: int
    next_offset: int
    position: int
    time: int


class JournalRow(Struct, frozen=True):
    """A run of records as they were applied, as the table `journal` has it."""

    seq: int
    topic: str
    partition: int
    first_offset: int
    last_offset: int


class RefusalRow(Struct, frozen=True):
    """A record that had no effect, as the table `refusals` has it."""

    topic: str
    partition: int
    record_offset: int
    code: Refusal
    args: str


class Step(Struct, frozen=True):
    """From where to where a batch moved one partition of a topic."""

    was: int
    now: PositionRow


async def load(connection: Connection, sql: Queries, books: Books, wanted: Wanted, max_due: int) -> dict[int, int]:
    """Fills `books` with the rows that are wanted, and with the deadlines that pass, at most `max_due` of a kind.

    Returns, for each partition that has more of those, the time up to which they are all here.
    """
    books.horizon(wanted.times)
    for account, has_webhooks, reads_leases in await connection.fetch(sql.watched, LOCK_LEASE_READERS):
        books.events.watch(account, has_webhooks=has_webhooks, reads_leases=reads_leases)
    if wanted.orders or wanted.order_ids:
        accounts, client_order_ids = zip(*wanted.orders, strict=True) if wanted.orders else ((), ())
        rows = await connection.fetch(sql.orders_named, accounts, client_order_ids, list(wanted.order_ids))
        books.add_orders(OrderRow(*row) for row in rows)
    if wanted.amends or wanted.amended:
        accounts, names = zip(*wanted.amends, strict=True) if wanted.amends else ((), ())
        rows = await connection.fetch(sql.amends_named, accounts, names, list(wanted.amended))
        books.add_amends(AmendRow(*row) for row in rows)
    if wanted.leases:
        rows = await connection.fetch(sql.leases_named, *zip(*wanted.leases, strict=True))
        books.add_leases(LeaseRow(*row) for row in rows)
    if wanted.reports:
        for row in await connection.fetch(sql.neighbours, *zip(*wanted.reports, strict=True)):
            books.add_usage(UsageRow(*row))
    if wanted.gpus or wanted.extended:
        sellers, gpus = zip(*wanted.gpus, strict=True) if wanted.gpus else ((), ())
        positions, indexes = zip(*wanted.extended, strict=True) if wanted.extended else ((), ())
        rows = await connection.fetch(sql.gpus_bound, sellers, gpus, positions, indexes, wanted.gpus_since)
        books.machines.add(GpuRow(*row) for row in rows)
    if wanted.references:
        for reference, account, amount in await connection.fetch(sql.deposits_made, list(wanted.references)):
            books.deposits[reference] = (account, amount)
    if wanted.withdrawals:
        rows = await connection.fetch(sql.withdrawals_named, *zip(*wanted.withdrawals, strict=True))
        books.withdrawals.update(((row[0], row[1]), WithdrawalRow(*row)) for row in rows)
    if wanted.withdrawers:
        rows = await connection.fetch(sql.credits_of, list(wanted.withdrawers))
        books.credits.update((row[0], CreditRow(*row)) for row in rows)
    books.withdrawers = wanted.withdrawers
    if wanted.corrected:
        books.corrected = dict.fromkeys(wanted.corrected, Corrected())
        for position, index, *so_far in await connection.fetch(sql.corrected, *zip(*wanted.corrected, strict=True)):
            books.corrected[position, index] = Corrected(*so_far)
    if parties := wanted.depositors | wanted.withdrawers | wanted.granted:
        books.known_accounts.update(row["id"] for row in await connection.fetch(sql.accounts_known, list(parties)))
    complete_to = {}
    for partition, time in wanted.times.items():
        intents = [OrderRow(*row) for row in await connection.fetch(sql.intents_due, partition, time, max_due)]
        amends = [AmendRow(*row) for row in await connection.fetch(sql.amends_due, partition, time, max_due)]
        leases = [LeaseRow(*row) for row in await connection.fetch(sql.leases_due, partition, time, max_due)]
        books.add_orders(intents)
        books.add_amends(amends)
        books.add_leases(leases)
        ends = [intents[-1].not_after] if len(intents) == max_due else []
        ends += [amends[-1].not_after] if len(amends) == max_due else []
        ends += [leases[-1].deadline or 0] if len(leases) == max_due else []
        ends += await _load_credits_due(connection, sql, books, time, max_due) if not partition else []
        if ends:
            complete_to[partition] = min(ends)
    if payers := wanted.payers | {lease.buyer for lease in books.leases.values()}:
        books.add_daily_credits(
            DailyCreditRow(*row) for row in await connection.fetch(sql.daily_credits_of, list(payers))
        )
    return complete_to


async def _load_credits_due(
    connection: Connection, sql: Queries, books: Books, time: int, max_due: int
) -> Sequence[int]:
    """Those whose day ends by then; the last one's end where there may be more. Partition 0 has the days' ends."""
    due = [DailyCreditRow(*row) for row in await connection.fetch(sql.daily_credits_due, time // DAY_MS, max_due)]
    books.add_daily_credits(due)
    return [(due[-1].day + 1) * DAY_MS - 1] if len(due) == max_due else []


async def load_cash(connection: Connection, sql: Queries, books: Books, executions: Iterable[Execution]) -> None:
    """Reads what was earned by who withdraws and by those whose leases are corrected; locks and reads their cash, and
    that of those whose bids came past the gateways: cash before orders, as `place` does."""
    parties = books.withdrawers | books.parties_of_corrected(executions)
    if parties:
        books.receivables = dict.fromkeys(parties, 0)
        payables = [ledger.payable(account) for account in parties]
        books.receivables.update(await connection.fetch(sql.balances_of, payables))
    if short := books.short_of_hold(executions) | parties:
        books.cash = dict.fromkeys(short, 0)
        books.cash.update(await connection.fetch(sql.cash_of, [ledger.cash(account) for account in short]))


async def save(connection: Connection, sql: Queries, books: Books) -> None:
    """Writes what changed in `books`."""
    if books.changed_classes:
        rows = [(name, partition, _pack(books.classes[name])) for name, partition in books.changed_classes.items()]
        await connection.execute(sql.save_classes, *zip(*rows, strict=True))
    if books.class_states:
        states = [(name, *_columns(state)) for name, state in books.class_states.items()]
        await connection.execute(sql.save_class_states, *zip(*states, strict=True))
    if books.new_orders:
        await connection.execute(sql.add_orders, [_columns(order) for order in books.new_orders.values()])
    if books.changed_orders:
        await connection.execute(sql.save_orders, [_columns(order) for order in books.changed_orders.values()])
    if books.new_leases:
        await connection.copy_records_to_table("leases", records=map(_columns, books.new_leases.values()))
    if books.metered_leases:
        metered = [
            (*lease.id, lease.last_sequence, lease.used_gpu_ms, lease.charged, lease.earned)
            for lease in books.metered_leases.values()
        ]
        await connection.execute(sql.save_metered, *zip(*metered, strict=True))
    if books.changed_leases:
        await connection.execute(sql.save_leases, [_columns(lease) for lease in books.changed_leases.values()])
    if freed := books.machines.freed:
        await connection.execute(sql.free_gpus, *zip(*((*lease, until) for lease, until in freed.items()), strict=True))
    if bound := [row for row in books.machines.added.values() if row.since < row.until]:
        await connection.execute(sql.bind_gpus, *zip(*bound, strict=True))
    if books.outbox:
        await connection.execute(sql.save_outbox, books.outbox)
    if books.charges:
        await connection.execute(sql.save_charges, list(books.charges.values()))
    if books.new_corrections:
        await connection.execute(sql.save_corrections, books.new_corrections)
    if books.new_usage:
        await connection.copy_records_to_table("usage", records=books.new_usage)
    if books.changed_daily_credits:
        await connection.execute(
            sql.save_daily_credits, [_columns(row) for row in books.changed_daily_credits.values()]
        )
    if spent := books.spend.charged:
        charges = [(*key, charged) for key, charged in spent.items()]
        await connection.execute(sql.save_spend, *zip(*charges, strict=True))
    if moved := books.spend.moved():
        await _save_committed(connection, sql, books, moved)
    if books.new_deposits:
        await connection.execute(sql.save_deposits, books.new_deposits)
    if books.changed_withdrawals:
        await connection.execute(sql.save_withdrawals, [_columns(row) for row in books.changed_withdrawals.values()])
    if books.new_credits:
        await connection.execute(sql.save_credits, books.new_credits)
    if books.new_leases or books.transactions or books.released:
        await _save_money(connection, sql, books)
    if told := books.events.for_webhooks():
        await connection.execute(sql.save_webhook_events, *zip(*told, strict=True))
    if steps := books.events.for_lease_readers():
        columns = zip(*((step.account, step.body) for step in steps), strict=True)
        await connection.execute(sql.save_lease_steps, *columns, MAX_LEASE_STEPS)
    if books.changed_amends:  # last: a gateway waits for these rows while it has its account's cash locked
        await connection.execute(sql.save_amends, [_columns(amend) for amend in books.changed_amends.values()])


async def _save_money(connection: Connection, sql: Queries, books: Books) -> None:
    if leases := list(books.new_leases.values()):
        opened = [(ledger.escrow(lease.number), "escrow", lease.buyer) for lease in leases]
        opened += {(ledger.payable(lease.seller), "payable", lease.seller) for lease in leases}
        await connection.execute(sql.open_ledger_accounts, *zip(*opened, strict=True))
    if withdrawing := {account for account, _ in books.changed_withdrawals}:
        opened = [(ledger.outgoing(account), "outgoing", account) for account in withdrawing]
        await connection.execute(sql.open_ledger_accounts, *zip(*opened, strict=True))
    if books.new_credits:
        opened = [(ledger.lent(row.account), "lent", row.account) for row in books.new_credits]
        await connection.execute(sql.open_ledger_accounts, *zip(*opened, strict=True))
    if books.changed_daily_credits:
        opened = [(ledger.daily_credits(account), "daily_credits", account) for account in books.changed_daily_credits]
        await connection.execute(sql.open_ledger_accounts, *zip(*opened, strict=True))
    made = books.transactions
    rows: list[tuple[int, int, int]] = []
    if made:  # by COPY, which is half the work of an INSERT; the trigger is the same
        last = await connection.fetchval(sql.transaction_ids, len(made))
        numbered = list(enumerate(made, last - len(made) + 1))
        heads = [(id, one.reference, one.time, one.month) for id, one in numbered]
        await connection.copy_records_to_table("transactions", records=heads)
        rows = [(id, account, amount) for id, one in numbered for account, amount in one.entries.items()]
    if books.released:  # from here on gateways wait for the cash that is moved: as late as can be
        accounts = [ledger.cash(account) for account in books.released]
        moved = list({account for _, account, _ in rows})
        await connection.execute(sql.release, accounts, list(books.released.values()), moved)
    if rows:
        await connection.copy_records_to_table("entries", records=rows)


async def _save_committed(connection: Connection, sql: Queries, books: Books, moved: dict[SpenderKey, int]) -> None:
    """Locks cash first, all that the batch needs and in the order in which everybody locks it: it guards spenders."""
    accounts = {ledger.cash(account) for account, _, _ in moved} | {ledger.cash(account) for account in books.released}
    accounts.update(*(one.entries for one in books.transactions))
    await connection.execute(sql.lock_ledger, sorted(accounts))
    rows = [(*spender, amount) for spender, amount in sorted(moved.items())]
    await connection.execute(sql.save_committed, *zip(*rows, strict=True))


async def advance(
    connection: Connection,
    sql: Queries,
    steps: Sequence[Step],
    journal: Sequence[JournalRow],
    refusals: Sequence[RefusalRow],
) -> None:
    """Writes how far the log is applied, in which order, and what was refused; wakes who waits for it.

    Raises RuntimeError where somebody else has moved on: then this transaction must not be.
    """
    if refusals:
        await connection.execute(sql.save_refusals, [_columns(row) for row in refusals])
    if journal:
        await connection.execute(sql.save_journal, [_columns(row) for row in journal])
    moved = await connection.fetch(sql.advance, [_columns(step.now) for step in steps], [step.was for step in steps])
    if len(moved) != len(steps):
        raise RuntimeError("another settlement writes to this database: stop it first")


async def classes(connection: Connection, sql: Queries) -> dict[str, ClassSpec]:
    """The terms of all classes."""
    decode = msgspec.msgpack.Decoder(ClassSpec).decode
    return {row["class_id"]: decode(row["spec"]) for row in await connection.fetch(sql.classes)}
