"""The names that bots for ccxt know, over a running exchange."""

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any, TypeVar

import pytest

from gateways.client import ExchangeError, sync
from gateways.client.ccxt import Ccxt
from tests.integration.conftest import CLASS, Venue

SYMBOL = f"{CLASS}/USD"
DAY = {"duration": "24h"}
Found = TypeVar("Found")


def floats(found: object) -> list[float]:
    if isinstance(found, float):
        return [found]
    values: list[Any] = []
    if isinstance(found, dict):
        values = [*found.values()]
    elif isinstance(found, list | tuple):
        values = [*found]
    return [each for value in values for each in floats(value)]


async def first(stream: AsyncIterator[Found], wanted: Callable[[Found], bool]) -> Found:
    """Of what a stream tells, the first that is wanted: what is public follows the engine."""
    async for found in stream:
        if wanted(found):
            return found
    raise AssertionError("the stream ended")


async def test_a_bot_trades_by_the_names_of_ccxt(exchange: Venue) -> None:
    buyer = await exchange.key_of("developer", "read", "trade", money="10000")
    seller = await exchange.key_of("cloud", "read", "supply")
    async with Ccxt(exchange.url, seller) as cloud, Ccxt(exchange.url, buyer) as market:
        (listed,) = await market.fetch_markets()
        assert (listed["symbol"], listed["id"], listed["active"]) == (SYMBOL, CLASS, True)
        assert listed["precision"]["price"] == Decimal("0.0001")
        await cloud.create_order(SYMBOL, "limit", "sell", 16, "2.50", {"end": "now+30d", "region": "us-east"})
        book = await first(market.watch_order_book(SYMBOL), lambda book: bool(book["asks"]))
        assert (book["asks"], book["bids"]) == ([(Decimal("2.50"), 16)], [])

        filled = await market.create_order(
            SYMBOL, "limit", "buy", 8, Decimal("2.60"), {**DAY, "region": "us-east,us-west"}
        )
        assert (filled["status"], filled["filled"], filled["remaining"]) == ("closed", 8, 0)
        assert (filled["average"], filled["cost"]) == (Decimal("2.50"), Decimal(480)), "price x GPUs x hours"
        waiting = await market.create_order(SYMBOL, "limit", "buy", 4, "1.00", {**DAY, "clientOrderId": "mine"})
        assert (waiting["status"], waiting["clientOrderId"], waiting["timeInForce"]) == ("open", "mine", "GTC")
        edited = await market.edit_order(waiting["id"] or "", SYMBOL, "limit", "buy", 2, "1.10")
        assert (edited["id"], edited["amount"], edited["price"]) == (waiting["id"], 2, Decimal("1.10"))
        assert [each["id"] for each in await market.fetch_open_orders(SYMBOL)] == [waiting["id"]]
        assert [each["status"] for each in await market.fetch_orders()] == ["closed", "open"]
        assert [each["id"] for each in await market.cancel_all_orders(SYMBOL)] == [waiting["id"]]
        assert (await market.fetch_order(waiting["id"] or ""))["status"] == "canceled"
        again = await market.create_order(SYMBOL, "limit", "buy", 1, "1.00", DAY)
        assert (await market.cancel_order(again["id"] or ""))["status"] == "canceled"
        assert [each["id"] for each in await market.fetch_closed_orders()] == [filled["id"]]

        (mine,) = await market.fetch_my_trades(SYMBOL)
        (public,) = await market.fetch_trades(SYMBOL)
        assert (mine["id"], mine["order"], mine["side"], mine["cost"]) == (
            public["id"],
            filled["id"],
            "buy",
            Decimal(480),
        )
        assert (public["side"], public["takerOrMaker"], public["price"]) == ("buy", "taker", Decimal("2.50"))
        await first(market.watch_ticker(SYMBOL), lambda ticker: ticker["last"] is not None)
        ticker = await market.fetch_ticker(SYMBOL, DAY)
        assert (ticker["last"], ticker["ask"], ticker["askVolume"]) == (Decimal("2.50"), Decimal("2.50"), 8)
        assert (ticker["baseVolume"], ticker["quoteVolume"]) == (Decimal(192), Decimal(480))
        assert (await market.fetch_tickers([SYMBOL]))[SYMBOL]["last"] == Decimal("2.50")
        ((_, *prices, volume),) = await market.fetch_ohlcv(SYMBOL, "1h")
        assert (prices, volume) == ([Decimal("2.50")] * 4, Decimal(192))
        balance = await market.fetch_balance()
        assert (balance["USD"]["used"], balance["free"]["USD"]) == (Decimal(480), Decimal(9520))
        assert not floats([listed, book, filled, mine, public, ticker, prices, balance])


async def test_a_bot_watches_by_the_names_of_ccxt(exchange: Venue) -> None:
    buyer = await exchange.key_of("developer", "read", "trade", money="10000")
    async with exchange.trader("cloud") as cloud, Ccxt(exchange.url, buyer) as market, asyncio.timeout(20):
        books, orders, trades = market.watch_order_book(SYMBOL), market.watch_orders(), market.watch_trades(SYMBOL)
        candles, tickers = market.watch_ohlcv(SYMBOL), market.watch_ticker(SYMBOL)
        assert (await anext(books))["asks"] == []
        assert (await anext(tickers))["last"] is None
        assert await anext(candles) == []
        traded = asyncio.ensure_future(anext(trades))
        changed = asyncio.ensure_future(anext(orders))
        await cloud.sell(CLASS, gpus=8, price="2.50", hours=48)
        assert (await anext(books))["asks"] == [(Decimal("2.50"), 8)]
        order = await market.create_order(SYMBOL, "limit", "buy", 8, "2.50", DAY)
        assert (await changed)["id"] == order["id"]
        assert (await traded)["amount"] == 8
        assert (await first(tickers, lambda ticker: ticker["last"] is not None))["last"] == Decimal("2.50")
        assert len(await anext(candles)) == 1


async def test_what_would_be_guessed_is_refused(exchange: Venue) -> None:
    async with Ccxt(exchange.url, exchange.key) as market:
        inexact: Any = 2.6
        for words, part in (
            (("limit", "buy", 8, inexact, DAY), "2.6 is a float"),
            (("market", "buy", 8, None, DAY), "limit order"),
            (("limit", "buy", 8, "2.60", {}), "say duration in params"),
            (("limit", "sell", 8, "2.60", DAY), "say end in params"),
            (("limit", "buy", 8, "2.60", {**DAY, "leverage": 2}), "leverage"),
        ):
            with pytest.raises(ExchangeError, match=part):
                await market.create_order(SYMBOL, *words)
        with pytest.raises(ExchangeError, match="5m"):
            await market.fetch_ohlcv(SYMBOL, "5m")


async def test_a_bot_without_await(exchange: Venue) -> None:
    def trade() -> tuple[str, str]:
        with sync.Ccxt(exchange.url, exchange.key) as market:
            order = market.create_order(SYMBOL, "limit", "sell", 8, "2.50", {"end": "now+30d"})
            return order["status"], next(market.watch_order_book(SYMBOL))["symbol"]

    assert await asyncio.to_thread(trade) == ("open", SYMBOL)
