"""The exchange from Python, as a supplier and a developer use it."""

import asyncio

import pytest

from gateways.client import Exchange, ExchangeError
from gateways.client.types import UsageReport
from schemas.topics import USAGE
from schemas.units import parse_time, parse_usd
from tests.integration.conftest import CLASS, Venue


async def test_the_example_of_the_readme(exchange: Venue) -> None:
    key = await exchange.key_of("developer", "read", "trade", money="1000")
    async with exchange.trader("cloud") as cloud, Exchange(exchange.url, key) as cx:
        await cloud.sell(CLASS, gpus=64, price="2.50", hours=720)
        order = await cx.buy(CLASS, gpus=8, hours=24, max_price="2.60")
        fills = [fill async for fill in cx.fills(order)]
    assert [(fill.quantity, fill.price) for fill in fills] == [(8, "2.50")]
    assert order.status == "filled"


async def test_a_standing_bid_sees_its_fills_as_they_come(exchange: Venue) -> None:
    async with exchange.trader("cloud") as cloud, exchange.trader("developer") as cx:
        order = await cx.buy(CLASS, gpus=4, hours=2, max_price="2.00", split=1, starts=["now+1h"])
        assert (order.status, order.held) == ("open", "16.00")
        watching = asyncio.ensure_future(anext(cx.fills(order)))
        await asyncio.sleep(0.2)
        await cloud.sell(CLASS, gpus=1, price="1.99", hours=48)
        assert (await asyncio.wait_for(watching, 5)).price == "2.00"
        cancelled = await cx.cancel(order.order_id or "")
        assert (cancelled.status, cancelled.filled, cancelled.left, cancelled.held) == ("cancelled", 1, 3, "0.00")
        assert (await cx.balance()).held == "0.00"


async def test_a_resting_bid_that_an_ask_fills_is_filled(exchange: Venue) -> None:
    async with exchange.trader("cloud") as cloud, exchange.trader("developer") as cx:
        order = await cx.buy(CLASS, gpus=4, hours=2, max_price="2.00")
        await cloud.sell(CLASS, gpus=4, price="1.99", hours=48)
        assert [fill.quantity async for fill in cx.fills(order)] == [4]
        assert (await cx.order(order.order_id or "")).status == "filled"


async def test_from_a_sale_to_metered_use(exchange: Venue) -> None:
    async with exchange.trader("cloud") as cloud, exchange.trader("developer") as cx:
        await cloud.sell(CLASS, gpus=8, price="2.50", hours=48)
        order = await cx.buy(CLASS, gpus=8, hours=1, max_price="2.50", now_only=True)
        (lease,) = await cloud.leases(role="supplier", state="pending_delivery")
        assert (lease.order_id, lease.escrow, lease.earned) == (order_of(lease.order_id), None, "0.00")
        await cloud.deliver(lease.lease_id, "ssh gpu@host")
        assert (await cloud.deliver(lease.lease_id, "ssh gpu@host")).state == "delivered"
        with pytest.raises(ExchangeError) as refused:
            await cloud.deliver(lease.lease_id, "ssh gpu@elsewhere")
        assert (refused.value.status, refused.value.code) == (409, "lease_state")
        (bought,) = await cx.leases(order_id=order.order_id)
        assert (bought.connection, bought.escrow) == ("ssh gpu@host", "20.00")
        accepted = await cx.accept(lease.lease_id)
        assert (accepted.state, (await cx.accept(lease.lease_id)).state) == ("active", "active")
        answers = await cloud.report_usage(
            [
                UsageReport(lease_id=lease.lease_id, sequence=1, gpu_ms=0),
                UsageReport(lease_id=lease.lease_id, sequence=2, gpu_ms=10**15),
                UsageReport(lease_id="lse_zzzz-0", sequence=1, gpu_ms=0),
            ]
        )
        assert [(answer.status, answer.error and answer.error.code) for answer in answers] == [
            ("accepted", None),
            ("refused", "usage_above_allocated"),
            ("refused", "unknown_lease"),
        ]
        assert await exchange.log.end(USAGE, 0) == 2, "what names another's lease is not written"
        assert [usage.sequence for usage in await cloud.usage(lease.lease_id)] == [1]
        assert parse_time(bought.end) - parse_time(bought.start) == 3_600_000


def order_of(order_id: str) -> str:
    assert order_id.startswith("ord_")
    return order_id


async def test_the_public_stream_shows_every_trade_once(exchange: Venue) -> None:
    async with exchange.trader("cloud") as cloud, exchange.trader("developer") as cx:
        await cloud.sell(CLASS, gpus=8, price="2.50", hours=48)
        for _ in range(3):
            await cx.buy(CLASS, gpus=1, hours=1, max_price="2.60", now_only=True)
        async with Exchange(exchange.url) as anyone:
            numbers = []
            async for fill in anyone.fills(after="start"):
                numbers.append(fill.number)
                if len(numbers) == 3:
                    break
            book = await anyone.book(CLASS)
            assert (await cx.balance()).escrow == "7.50", (
                "a caller's own figures wait for settlement, the public ones don't"
            )
            status = await anyone.status()
    assert numbers == [1, 2, 3]
    assert [(level.price, level.quantity, level.orders) for level in book.asks] == [("2.50", 5, 1)]
    assert (status.fills, status.imbalance_microusd, parse_usd(status.escrow)) == (3, 0, 7_500_000)


async def test_an_exchange_that_is_away_is_unreachable() -> None:
    async with Exchange("http://127.0.0.1:9") as cx:
        with pytest.raises(ExchangeError) as away:
            await cx.status()
    assert (away.value.code, away.value.status) == ("unreachable", None)
