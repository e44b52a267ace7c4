"""What settlement does when the database is in its way, away, full or not to be written: the same again, or a clear
error and nothing of the batch; and what many at once may do to one balance and one lease."""

import asyncio
import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

import asyncpg
import pytest
from msgspec.structs import asdict, replace

from schemas import topics, units
from schemas.attributes import Attributes, Tier
from schemas.codec import encode
from schemas.events import Event, Filled
from schemas.ids import LeaseId
from schemas.instructions import (
    Accept,
    Correct,
    CreditLimit,
    DailyCredits,
    Degrade,
    Deliver,
    Deposit,
    End,
    Instruction,
    Reclaim,
    Renew,
    Restore,
    Source,
    UsageReport,
    Withdrawal,
    WithdrawalNews,
    WithdrawalState,
)
from schemas.refusals import Refusal
from schemas.store import Account, CloseReason, LeaseState, PlaceStatus, StoreError
from schemas.units import HOUR_MS, MICRO
from settlement import ledger
from settlement.audit import audit
from settlement.service import MAX_ATTEMPTS, SettlementService
from settlement.store import Store
from tests.settling import SOON_S, Market, ScriptedLog, accepted, ask_of, bid_of, fill_of, settling

PRICE, FEE_BPS = 2_499_997, 133
LIMIT = 2_611_113

FAILING = """
CREATE SEQUENCE tries;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('tries') <= {times} THEN RAISE EXCEPTION 'as if {code}' USING ERRCODE = '{code}'; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER failing AFTER INSERT ON journal FOR EACH STATEMENT EXECUTE FUNCTION fail();
"""
"""The first `times` transactions of settlement fail when all but their positions is written."""
WORKING = "DROP TRIGGER failing ON journal"
WAITING = """
SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database()
"""
SERIALIZATION_FAILURE, DEADLOCK_DETECTED, DISK_FULL = "40001", "40P01", "53100"


@pytest.fixture
async def log() -> ScriptedLog:
    return ScriptedLog()


@pytest.fixture
async def market(log: ScriptedLog, store: Store) -> AsyncIterator[Market]:
    """With an open class, and settlement not at work."""
    market = Market(log, store)
    async with settling(log, store):
        await market.open()
    yield market
    async with settling(log, store):
        pass
    found = await audit(store, log)
    assert (found.findings, found.imbalance_microusd) == ([], 0)


@pytest.fixture
async def admin(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A session beside settlement's."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def account(market: Market, name: str, *, money: int = 0, fee_bps: int = FEE_BPS) -> Account:
    async with settling(market.log, market.store):
        return await market.account(name, fee_bps=fee_bps, money=money)


async def written(market: Market, *instructions: Instruction) -> int:
    """Into the log, whether somebody settles or not; the offset of the last."""
    offsets = await market.log.append(topics.INSTRUCTIONS, 0, list(map(encode, instructions)))
    return offsets[-1]


async def settled(market: Market, offset: int) -> None:
    assert await market.store.outcome(topics.INSTRUCTIONS, 0, offset, SOON_S) is not None


async def ended(service: SettlementService) -> StoreError:
    """Why it ended."""
    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(service.run(), SOON_S)
    (error,) = raised.value.exceptions
    assert isinstance(error, StoreError), error
    return error


async def somebody_waits(admin: asyncpg.Connection) -> None:
    async with asyncio.timeout(SOON_S):
        while not await admin.fetchval(WAITING):  # noqa: ASYNC110 - it says so to nobody
            await asyncio.sleep(0.01)


async def cash(market: Market, owner: Account) -> int:
    return (await market.store.balance(owner.id)).cash


@pytest.mark.parametrize("code", [SERIALIZATION_FAILURE, DEADLOCK_DETECTED])
async def test_a_batch_that_lost_against_another_is_tried_again(
    market: Market, admin: asyncpg.Connection, code: str
) -> None:
    owner = await account(market, "owner")
    await admin.execute(FAILING.format(times=MAX_ATTEMPTS - 1, code=code))
    offset = await written(market, Deposit(owner.id, 7, "one"), Deposit(owner.id, 8, "two"))
    async with settling(market.log, market.store):
        await settled(market, offset)
    assert await cash(market, owner) == 15


@pytest.mark.parametrize("code", [SERIALIZATION_FAILURE, DISK_FULL])
async def test_what_never_goes_well_is_an_error_in_words_and_nothing_of_the_batch_is_there(
    market: Market, admin: asyncpg.Connection, code: str
) -> None:
    owner = await account(market, "owner")
    await admin.execute(FAILING.format(times=MAX_ATTEMPTS, code=code))
    offset = await written(market, Deposit(owner.id, 7, "one"), Deposit(owner.id, 8, "two"))
    said = await ended(SettlementService(market.log, market.store))
    assert str(said) == f"the database cannot be used now: as if {code}"
    assert await cash(market, owner) == 0
    await admin.execute(WORKING)
    async with settling(market.log, market.store):
        await settled(market, offset)
    assert await cash(market, owner) == 15


async def test_a_circle_of_waiting_is_broken_and_the_batch_is_tried_again(
    market: Market, admin: asyncpg.Connection
) -> None:
    one = await account(market, "one", money=100 * MICRO)
    two = await account(market, "two", money=100 * MICRO)
    bids = [bid_of(owner, LIMIT, 1, 1, market.log.time) for owner in (one, two)]
    for bid in bids:
        assert (await market.intend(bid)).status is PlaceStatus.NEW
    await admin.execute("SET deadlock_timeout = '1h'")  # so that settlement's own session sees the circle first
    async with settling(market.log, market.store):
        async with admin.transaction():
            await admin.execute(LOCK, ledger.cash(two.id))
            answering = asyncio.create_task(market.execute_all(*([accepted(bid)] for bid in bids)))
            await somebody_waits(admin)
            await admin.execute(LOCK, ledger.cash(one.id))
        await answering
    each = units.hold(LIMIT, 1, HOUR_MS, FEE_BPS)
    assert [(await market.store.balance(owner.id)).held for owner in (one, two)] == [each, each]


LOSE_ALL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
LOCK = "SELECT FROM ledger_accounts WHERE id = $1 FOR NO KEY UPDATE"


async def test_a_connection_lost_in_mid_batch_is_an_error_in_words_and_leaves_nothing_half(
    market: Market, admin: asyncpg.Connection
) -> None:
    owner = await account(market, "owner")
    offset = await written(market, Deposit(owner.id, 7, "one"), Deposit(owner.id, 8, "two"))
    async with admin.transaction():
        await admin.execute("LOCK TABLE journal IN EXCLUSIVE MODE")
        ending = asyncio.create_task(ended(SettlementService(market.log, market.store)))
        await somebody_waits(admin)
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
        )
        assert "the database cannot be used now" in str(await ending)
    assert await cash(market, owner) == 0
    async with settling(market.log, market.store):
        await settled(market, offset)
    assert await cash(market, owner) == 15


async def test_a_store_whose_connections_were_lost_still_closes(dsn: str, admin: asyncpg.Connection) -> None:
    for wait_s in (0, 0.01, 0.05):
        store = await Store.connect(dsn)
        await store.totals()
        await admin.execute(LOSE_ALL)
        await asyncio.sleep(wait_s)
        await asyncio.wait_for(store.close(), SOON_S)


async def test_a_full_disk_stops_settlement_with_the_reason_and_room_lets_it_go_on(
    market: Market, admin: asyncpg.Connection, dsn: str
) -> None:
    owner = await account(market, "owner")
    deposits = [Deposit(owner.id, 1, f"number {number}") for number in range(4_000)]
    with small_disk(dsn) as disk:
        if disk is None:  # no right to mount one: then the database says so by itself
            await admin.execute(FAILING.format(times=1, code=DISK_FULL))
        else:
            await admin.execute(f"CREATE TABLESPACE {disk.name} LOCATION '{disk}'")
            await admin.execute(f"ALTER TABLE entries SET TABLESPACE {disk.name}")
            (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - 32_768))
        try:
            offset = await written(market, *deposits)
            said = str(await ended(SettlementService(market.log, market.store)))
            assert "No space left on device" in said or "as if 53100" in said
            assert (await audit(market.store, market.log)).findings == []
            if disk is not None:
                (disk / "filler").unlink()
            async with settling(market.log, market.store):
                await settled(market, offset)
            assert await cash(market, owner) == len(deposits)
        finally:
            if disk is not None:
                await admin.execute("ALTER TABLE entries SET TABLESPACE pg_default")
                await admin.execute(f"DROP TABLESPACE {disk.name}")


@contextlib.contextmanager
def small_disk(dsn: str) -> Iterator[Path | None]:
    """A file system of 2 MB for the server, where this process may mount one."""
    disk = Path(tempfile.mkdtemp(prefix="cx_disk_"))
    words = ["mount", "-t", "tmpfs", "-o", "size=2m,uid=nobody,mode=0700", "tmpfs", str(disk)]
    is_embedded = "CX_TEST_POSTGRES" not in os.environ and bool(urlsplit(dsn).query)
    mounted = is_embedded and os.geteuid() == 0 and subprocess.run(words, check=False).returncode == 0
    try:
        yield disk if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(disk)], check=True)
        disk.rmdir()


async def test_a_server_that_became_a_standby_is_read_and_says_in_words_that_it_is_not_written(
    market: Market, dsn: str, admin: asyncpg.Connection
) -> None:
    owner = await account(market, "owner", money=100 * MICRO)
    name = await admin.fetchval("SELECT current_database()")
    standby = await Store.connect(dsn)
    await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await admin.execute(LOSE_ALL)
    try:
        assert (await standby.balance(owner.id)).cash == 100 * MICRO
        with pytest.raises(StoreError, match="read-only transaction"):
            await Market(market.log, standby).intend(bid_of(owner, LIMIT, 1, 1, market.log.time))
        with pytest.raises(StoreError, match="read-only transaction"):
            await SettlementService(market.log, standby).run()
        with pytest.raises(StoreError, match="read-only transaction"):
            await Store.connect(dsn)
    finally:
        await standby.close()
        await admin.execute("SET default_transaction_read_only = off")
        await admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await admin.execute(LOSE_ALL)


async def test_of_a_thousand_orders_at_once_as_many_are_held_for_as_the_balance_covers(
    market: Market, dsn: str
) -> None:
    each = units.hold(LIMIT, 1, HOUR_MS, FEE_BPS)
    owner = await account(market, "owner", money=100 * each + each - 1)
    bids = [bid_of(owner, LIMIT, 1, 1, market.log.time, f"bid {number}") for number in range(1_000)]
    async with contextlib.AsyncExitStack() as stack:
        gateways = [market]
        for _ in range(3):
            store = await Store.connect(dsn)
            stack.push_async_callback(store.close)
            gateways.append(Market(market.log, store))
        answers = await asyncio.gather(*(gateways[place % 4].intend(bid) for place, bid in enumerate(bids)))
    statuses = [answer.status for answer in answers]
    assert (statuses.count(PlaceStatus.NEW), statuses.count(PlaceStatus.NO_FUNDS)) == (100, 900)
    held = [bid for bid, answer in zip(bids, answers, strict=True) if answer.status is PlaceStatus.NEW]
    async with settling(market.log, market.store):
        await market.execute_all(*([accepted(bid)] for bid in held))
    balance = await market.store.balance(owner.id)
    assert (balance.cash, balance.held) == (each - 1, 100 * each)


async def test_what_is_said_of_one_lease_at_once_comes_in_any_order_to_a_state_that_the_rules_allow(
    market: Market,
) -> None:
    buyer = await account(market, "buyer", money=10_000 * MICRO)
    seller = await account(market, "seller")
    orders = list(itertools.permutations(range(6)))[::3]
    async with settling(market.log, market.store):
        leases = await sold(market, buyer, seller, len(orders))
        start = market.log.time + HOUR_MS
        market.log.time = start
        last = await written(
            market,
            *(said for lease in leases for said in (Deliver(lease, seller.id, "ssh there"), Accept(lease, buyer.id))),
        )
        await settled(market, last)
    market.log.time += HOUR_MS
    for lease, order in zip(leases, orders, strict=True):
        said = (
            (topics.INSTRUCTIONS, End(lease, buyer.id)),
            (topics.INSTRUCTIONS, Reclaim(lease, seller.id)),
            (topics.INSTRUCTIONS, Degrade(lease, seller.id, 1, "XID 79")),
            (topics.USAGE, UsageReport(lease, seller.id, 1, HOUR_MS)),
            (topics.USAGE, UsageReport(lease, seller.id, 2, 2 * HOUR_MS)),
            (topics.USAGE, UsageReport(lease, seller.id, 3, 2 * HOUR_MS, final=True)),
        )
        for place in order:
            topic, message = said[place]
            market.log.time += 1
            await market.log.append(topic, 0, [encode(message)])
    async with settling(market.log, market.store):
        await settled(market, len(market.log.records[topics.INSTRUCTIONS]) - 1)
        usage = len(market.log.records[topics.USAGE])
        outcomes = [await market.store.outcome(topics.USAGE, 0, offset, SOON_S) for offset in range(usage)]
    codes = {outcome.refusal for outcome in outcomes if outcome is not None}
    assert codes == {None, Refusal.LEASE_STATE, Refusal.USAGE_NOT_YET_FINAL}
    for lease, order in zip(leases, orders, strict=True):
        end, reclaim, _, first, second, final = (order.index(place) for place in range(6))
        found = await market.store.lease(lease)
        assert found is not None
        closed = final > end
        counted = [2 * HOUR_MS] if closed and final < second else []
        counted += [HOUR_MS] if first < final or not closed else []
        counted += [2 * HOUR_MS] if second < final or not closed else []
        counted += [2 * HOUR_MS] if closed else []
        assert found.state is (LeaseState.CLOSED if closed else LeaseState.ENDED), order
        assert found.close_reason is (CloseReason.RECLAIMED if reclaim < end else CloseReason.ENDED_EARLY), order
        assert found.used_gpu_ms == max(counted), order
        assert found.charged == units.escrow(PRICE, 1, found.used_gpu_ms + found.forfeited_gpu_ms, FEE_BPS), order


async def sold(market: Market, buyer: Account, seller: Account, count: int) -> list[LeaseId]:
    """Leases of two GPUs for four hours from the next hour on, which may be reclaimed."""
    start = market.log.time + HOUR_MS
    ask_id = await market.execute(accepted(ask_of(seller, PRICE, 2 * count, start)))
    answers: list[list[Event]] = []
    first = market.next_place
    for number in range(count):
        place, bid = first + number, bid_of(buyer, LIMIT, 2, 4, start, f"bid {number}")
        fill = fill_of(place, ask_id, buyer, seller, price=PRICE, quantity=2, start=start, hours=4)
        fill = replace(fill, attributes=Attributes(tier=Tier.INTERRUPTIBLE, notice_minutes=5))
        answers.append([accepted(bid), fill, Filled(place, buyer.id)])
    await market.execute_all(*answers)
    return [(first + number, 0) for number in range(count)]


HOSTILE = ("", "\0", "a\0b", "\x1b[2J", "\n", "\u202e", "\U0001f4a9", "'; --", "x" * 5_000)
NUMBERS = (-(1 << 63), -1, 0, 1 << 31, (1 << 63) - 1, (1 << 64) - 1)
LEASES = ((-1, 0), (0, -1), ((1 << 63) - 1, (1 << 31) - 1), ((1 << 64) - 1, 0), (0, 1 << 31))


async def test_no_record_in_the_log_stops_settlement_whatever_its_texts_and_numbers(market: Market) -> None:
    buyer, seller = await account(market, "buyer", money=1_000 * MICRO), await account(market, "seller")
    async with settling(market.log, market.store):
        lease = await market.sell(buyer, seller, price=PRICE, limit=LIMIT, quantity=1)
    said = [
        wrong
        for base in (
            Deposit(buyer.id, 1, "one"),
            Deliver(lease, seller.id, "sealed", ("gpu",), "proof"),
            Degrade(lease, seller.id, 1, "note"),
            Restore(lease, seller.id),
            Reclaim(lease, seller.id),
            Withdrawal(buyer.id, "out", Source.CASH, 1, "bank"),
            WithdrawalNews(buyer.id, "out", WithdrawalState.FAILED, "theirs", "why"),
            CreditLimit(buyer.id, 1),
            Renew(lease, buyer.id, HOUR_MS, PRICE, buyer.owner, 0),
            DailyCredits(buyer.id, 1),
            Correct(lease, seller.id, 1, "reason"),
            UsageReport(lease, seller.id, 1, 1, measured_at=1),
            Accept(lease, buyer.id),
            End(lease, buyer.id),
        )
        for wrong in (*hostile(base), base)
    ]
    assert {type(each) for each in said} == {*get_args(Instruction), UsageReport}
    for batch in (said, said[::-1]):
        reports = [encode(each) for each in batch if isinstance(each, UsageReport)]
        await market.log.append(topics.USAGE, 0, reports)
        offset = await written(market, *(each for each in batch if not isinstance(each, UsageReport)))
        async with settling(market.log, market.store):
            await settled(market, offset)
            assert await market.store.outcome(topics.USAGE, 0, len(reports) - 1, SOON_S) is not None


def hostile(base: Instruction | UsageReport) -> Iterator[Instruction | UsageReport]:
    """With one field each that no gateway would have written."""
    for field, was in asdict(base).items():
        values: Sequence[object]
        match was:
            case StrEnum():
                values = list(type(was))
            case str():
                values = HOSTILE
            case bool():
                values = (not was,)
            case int():
                values = NUMBERS
            case (str(), *_):
                values = [(text,) for text in HOSTILE] + [("gpu",) * 2_000]
            case _:
                values = LEASES
        yield from (replace(base, **{field: value}) for value in values)
