"""Metered use: each wrong report with its reason for who sent it."""

import aiohttp
import msgspec
import pytest

from gateways.api.cloud_events import STRUCTURED
from gateways.client import Exchange, ExchangeError
from gateways.client.types import Lease, UsageReport
from schemas import topics
from schemas.codec import encode
from schemas.instructions import Accept, Deliver
from schemas.instructions import UsageReport as Logged
from schemas.refusals import Refusal
from schemas.store import Account
from schemas.units import HOUR_MS, MICRO
from settlement.store import Store
from tests.integration.conftest import CLASS, Venue
from tests.integration.test_cli import cx, cx_json
from tests.settling import SOON_S, Market, ScriptedLog, settling

PRICE, QUANTITY = 2_499_997, 3
encode_json = msgspec.json.encode


@pytest.fixture
async def seller(market: Market) -> Account:
    return await market.account("seller")


async def running(market: Market, seller: Account) -> tuple[int, int]:
    buyer = await market.account("buyer", money=100 * MICRO)
    lease = await market.sell(buyer, seller, price=PRICE, limit=PRICE, quantity=QUANTITY)
    assert (await market.instruct(Deliver(lease, seller.id, "ssh there"))).refusal is None
    assert (await market.instruct(Accept(lease, buyer.id))).refusal is None
    return lease


async def test_whatever_is_wrong_with_a_report_its_supplier_reads_why(market: Market, seller: Account) -> None:
    lease = await running(market, seller)
    found = await market.store.lease(lease)
    assert found is not None
    market.log.time = found.start + HOUR_MS

    def report(sequence: int, gpu_ms: int, *, final: bool = False, measured_at: int = 0) -> Logged:
        return Logged(lease, seller.id, sequence, gpu_ms, final, measured_at)

    for taken in (report(5, 5_000), report(5, 5_000), report(3, 3_000)):  # again, and with a gap
        assert (await market.report(taken)).refusal is None
    late = found.end + 72 * HOUR_MS + 1
    wrong = [
        (found.start + HOUR_MS, report(5, 5_001), Refusal.USAGE_CONFLICT),
        (found.start + HOUR_MS, report(6, 4_999), Refusal.USAGE_BACKWARDS),
        (found.start + HOUR_MS, report(4, -1), Refusal.USAGE_BACKWARDS),
        (found.start + HOUR_MS, report(6, QUANTITY * HOUR_MS + 1), Refusal.USAGE_ABOVE_ALLOCATED),
        (found.start + HOUR_MS, report(6, 6_000, measured_at=found.start), Refusal.USAGE_ABOVE_ALLOCATED),
        (found.start + HOUR_MS, report(6, 6_000, final=True), Refusal.USAGE_NOT_YET_FINAL),
        (found.start + HOUR_MS, report(0, 0), Refusal.SEQUENCE_OUT_OF_RANGE),
        (found.start + HOUR_MS, Logged((lease[0], 7), seller.id, 1, 1), Refusal.UNKNOWN_LEASE),
        (found.end, report(4, 4_000, final=True), Refusal.USAGE_NOT_LAST),
        (late, report(6, 6_000), Refusal.LEASE_STATE),
    ]
    for at, said, why in wrong:
        market.log.time = at
        assert (await market.report(said)).refusal is why
    listed = await market.store.refused_usage(seller.id, lease=None, before=None, limit=99)
    shown = [(each.refused_at, each.lease, each.sequence, each.gpu_ms, each.final, each.code) for each in listed]
    assert shown == [(at, said.lease, said.sequence, said.gpu_ms, said.final, why) for at, said, why in reversed(wrong)]
    of_lease = await market.store.refused_usage(seller.id, lease=(lease[0], 7), before=None, limit=99)
    assert [each.code for each in of_lease] == [Refusal.UNKNOWN_LEASE]


async def test_a_report_with_numbers_that_nothing_has_does_not_stop_settlement(market: Market, seller: Account) -> None:
    for odd in (
        Logged((1 << 63, 0), seller.id, 1, 1),
        Logged((-1, 0), seller.id, 1, 1),
        Logged((1, 1 << 40), seller.id, 1, 1),
        Logged((1, 0), 1 << 60, 1, 1),
        Logged((1, 0), seller.id, 1 << 63, 1),
        Logged((1, 0), seller.id, 1, (1 << 64) - 1),
    ):
        assert (await market.report(odd)).refusal is not None
    assert await market.store.refused_usage(seller.id, lease=None, before=None, limit=99) == []
    late = Logged((1, 0), seller.id, 1, 1, measured_at=(1 << 64) - 1)
    assert (await market.report(late)).refusal is Refusal.UNKNOWN_LEASE
    assert len(await market.store.refused_usage(seller.id, lease=None, before=None, limit=99)) == 1


async def test_a_restart_lists_a_refused_report_once(store: Store) -> None:
    log = ScriptedLog()
    for _ in range(2):
        async with settling(log, store):
            market = Market(log, store)
            if not log.records[topics.USAGE]:
                await market.open()
                seller = await market.account("seller")
                (offset,) = await log.append(topics.USAGE, 0, [encode(Logged((1, 0), seller.id, 1, 1))])
                assert await store.outcome(topics.USAGE, 0, offset, SOON_S) is not None
    assert len(await store.refused_usage(seller.id, lease=None, before=None, limit=9)) == 1


async def rented(cloud: Exchange, developer: Exchange) -> Lease:
    await cloud.sell(CLASS, gpus=8, price="2.50", hours=48)
    await developer.buy(CLASS, gpus=2, hours=1, max_price="2.60", now_only=True)
    lease, *_ = await cloud.leases(role="supplier")
    await cloud.deliver(lease.lease_id, "ssh gpu@host")
    await developer.accept(lease.lease_id)
    return lease


async def test_refused_reports_come_in_parts_and_to_their_supplier_alone(exchange: Venue) -> None:
    async with exchange.trader("cloud") as cloud, exchange.trader("developer") as developer:
        lease, other = await rented(cloud, developer), await rented(cloud, developer)
        reports = [UsageReport(lease_id=lease.lease_id, sequence=n, gpu_ms=10**9 + n) for n in range(1, 8)]
        reports.append(UsageReport(lease_id=other.lease_id, sequence=1, gpu_ms=10**9))
        assert {answer.status for answer in await cloud.report_usage(reports)} == {"refused"}
        found = await cloud.refused_usage(lease.lease_id)
        assert [each.sequence for each in found] == [7, 6, 5, 4, 3, 2, 1]
        assert found[0].error.message.startswith("usage 7 reports 1000000007 gpu_ms, but the lease allocated at most")
        assert (found[0].error.code, found[0].error.field) == ("usage_above_allocated", "gpu_ms")
        assert len(await cloud.refused_usage()) == 8
        assert await developer.refused_usage() == []
        with pytest.raises(ExchangeError) as not_its_own:
            await developer.refused_usage(lease.lease_id)
        assert (not_its_own.value.status, not_its_own.value.code) == (404, "unknown_lease")
    key = await exchange.key_of("meter", "meter")
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as http,
        http.get(f"{exchange.url}/v1/usage/refused") as answer,
    ):
        assert answer.status == 403


async def test_the_parts_of_the_list_have_no_gaps_and_a_wrong_cursor_is_said_to_be_one(exchange: Venue) -> None:
    key = await exchange.key_of("cloud", "read", "supply", "meter", "trade", money="1000")
    headers = {"Authorization": f"Bearer {key}"}
    async with Exchange(exchange.url, key) as cloud, aiohttp.ClientSession(headers=headers) as http:
        lease = await rented_from_itself(exchange, cloud)
        reports = [UsageReport(lease_id=lease.lease_id, sequence=n, gpu_ms=10**9) for n in range(1, 6)]
        await cloud.report_usage(reports)
        seen, after = [], None
        while True:
            query = {"limit": "2"} | ({"after": after} if after else {})
            async with http.get(f"{exchange.url}/v1/usage/refused", params=query) as answer:
                part = await answer.json()
            seen += [each["sequence"] for each in part["items"]]
            after = part["next"]
            if after is None:
                break
        assert seen == [5, 4, 3, 2, 1]
        for wrong in ("x", "1.2", "1.2.3.4", "1.2.-3", "1.99999999999.3", "١.2.3"):
            async with http.get(f"{exchange.url}/v1/usage/refused", params={"after": wrong}) as answer:
                assert (answer.status, (await answer.json())["error"]["field"]) == (400, "after"), wrong


async def rented_from_itself(exchange: Venue, cloud: Exchange) -> Lease:
    async with exchange.trader("developer") as developer:
        return await rented(cloud, developer)


async def test_another_meter_feeds_the_exchange_by_cloud_events(exchange: Venue) -> None:
    key = await exchange.key_of("cloud", "read", "supply", "meter", "trade", money="1000")
    async with Exchange(exchange.url, key) as cloud:
        lease = await rented_from_itself(exchange, cloud)

        def event(sequence: int, gpu_ms: int, time: str) -> dict[str, object]:
            named = {"specversion": "1.0", "type": "exchange.lease.usage.v1", "id": str(sequence), "source": "/node-17"}
            return {**named, "subject": lease.lease_id, "time": time, "data": {"sequence": sequence, "gpu_ms": gpu_ms}}

        one, two = event(1, 0, "2020-01-01T00:00:00Z"), event(2, 10**9, lease.end)
        binary = {f"ce-{name}": str(value) for name, value in event(3, 0, lease.end).items() if name != "data"}
        answers = []
        headers = {"Authorization": f"Bearer {key}"}
        async with aiohttp.ClientSession(headers=headers) as http:
            for kind, body in (
                ({"Content-Type": "application/cloudevents+json; charset=utf-8"}, one),
                ({"Content-Type": "application/cloudevents-batch+json"}, [one, two]),
                ({"Content-Type": "application/json", **binary}, {"sequence": 3, "gpu_ms": 0}),
            ):
                async with http.post(f"{exchange.url}/v1/usage", data=encode_json(body), headers=kind) as answer:
                    assert answer.status == 200, await answer.text()
                    answers += (await answer.json())["answers"]
            async with http.post(
                f"{exchange.url}/v1/usage", data=encode_json({**one, "type": "x"}), headers={"Content-Type": STRUCTURED}
            ) as answer:
                assert (answer.status, (await answer.json())["error"]["field"]) == (400, "type")
        assert [(a["sequence"], a["status"], a["error"] and a["error"]["code"]) for a in answers] == [
            (1, "accepted", None),
            (1, "accepted", None),
            (2, "refused", "usage_above_allocated"),
            (3, "accepted", None),
        ]
        first, third = await cloud.usage(lease.lease_id)
        assert (first.sequence, first.measured_at) == (1, lease.start), "no use is before its lease"
        assert (third.sequence, third.measured_at) != (3, lease.end), "nor after it was said"


async def test_cx_shows_what_was_reported_in_vain(exchange: Venue) -> None:
    key = await exchange.key_of("cloud", "read", "supply", "meter", "trade", money="1000")
    env = {"CX_URL": exchange.url, "CX_KEY": key}
    async with Exchange(exchange.url, key) as cloud:
        lease = await rented_from_itself(exchange, cloud)
    code, _, err = await cx("report", lease.lease_id, "1", "99999999999", env=env)
    assert (code, "allocated at most" in err) == (1, True)
    assert (await cx("report", lease.lease_id, "1", "0", env=env))[0] == 0
    (refused,) = await cx_json("usage", "--refused", env=env)
    assert (refused["lease_id"], refused["error"]["code"]) == (lease.lease_id, "usage_above_allocated")
    _, out, _ = await cx("usage", lease.lease_id, "--refused", env=env)
    assert "allocated at most" in out
    (taken,) = await cx_json("usage", lease.lease_id, env=env)
    assert (taken["sequence"], taken["gpu_ms"]) == (1, 0)
    for words in ((lease.lease_id, "--by", "lease"), (lease.lease_id, "--from", "2026-01-01T00:00:00Z")):
        assert (await cx("usage", *words, env=env))[0] == 2
    (used,) = await cx_json("usage", "--as", "supplier", env=env)
    assert (used["lease_id"], used["gpu_ms"], used["amount"]) == (lease.lease_id, 0, "0.00")
    assert await cx_json("usage", env=env) == [], "it bought nothing"
    assert await cx_json("usage", lease.lease_id, "--by", "hour", "--as", "supplier", env=env) == []
    _, out, _ = await cx("usage", "--as", "supplier", env=env)
    assert "earned $" in out
