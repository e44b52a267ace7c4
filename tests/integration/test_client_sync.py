"""The client without `await`, against a running exchange: its own threads are the test's."""

import asyncio
import inspect
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import assert_type

import pytest

from gateways.client import ExchangeError, ccxt, exchange, sync
from gateways.client.types import Bid, OrderFill
from tests.integration.conftest import CLASS, Venue


def public(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(method)
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_it_has_the_names_of_the_other_one_and_their_terms() -> None:
    for kind, twin in ((exchange.Exchange, sync.Exchange), (ccxt.Ccxt, sync.Ccxt)):
        there, here = public(kind), public(twin)
        assert here.keys() == there.keys()
        for name in there:
            assert here[name].parameters.keys() == there[name].parameters.keys(), name
            assert inspect.getdoc(getattr(twin, name)), name


async def test_the_example_of_the_readme(exchange: Venue) -> None:
    key = await exchange.key_of("developer", "read", "trade", money="1000")

    def rent() -> tuple[str, list[tuple[int, str]]]:
        with sync.Exchange(exchange.url, key) as cx:
            order = cx.buy(CLASS, gpus=8, hours=24, max_price="2.60")
            assert_type(order, Bid)
            assert_type(cx.fills(order), Iterator[OrderFill])
            return order.status, [(fill.quantity, fill.price) for fill in cx.fills(order)]

    async with exchange.trader("cloud") as cloud:
        await cloud.sell(CLASS, gpus=64, price="2.50", hours=720)
        threads = threading.active_count()
        assert await asyncio.to_thread(rent) == ("filled", [(8, "2.50")])
    assert threading.active_count() <= threads + 1, "to_thread keeps its own, the client none"


async def test_several_threads_use_one(exchange: Venue) -> None:
    key = await exchange.key_of("developer", "read", "trade", money="1000")

    def bid_at_once() -> set[str]:
        with sync.Exchange(exchange.url, key) as cx, ThreadPoolExecutor(8) as threads:
            named = [f"thread-{number}" for number in range(40)]
            placed = threads.map(
                lambda name: cx.buy(CLASS, gpus=1, hours=1, max_price="0.10", client_order_id=name), named
            )
            assert {order.client_order_id for order in placed} == set(named)
            return {order.status for order in cx.orders(limit=100)}

    assert await asyncio.to_thread(bid_at_once) == {"open"}


async def test_who_stops_reading_ends_the_stream_and_the_thread(exchange: Venue) -> None:
    def read_one() -> str:
        with sync.Exchange(exchange.url) as cx:
            book = next(cx.depth(CLASS))
            never_begun = cx.watch("ticker", CLASS)
        with pytest.raises(ExchangeError, match="not open"):
            next(never_begun)
        return book.class_id

    assert await asyncio.to_thread(read_one) == CLASS
    assert not [each for each in threading.enumerate() if each.name == "exchange client"]


async def test_what_waits_in_a_thread_ends_when_another_closes_it(exchange: Venue) -> None:
    def close_while_it_waits() -> str:
        reading = threading.Event()

        def read(cx: sync.Exchange) -> str:
            reading.set()
            try:
                for fill in cx.fills():
                    raise AssertionError(fill)
            except ExchangeError as error:
                return error.code
            return ""

        with ThreadPoolExecutor(1) as threads:
            with sync.Exchange(exchange.url) as cx:
                waiting = threads.submit(read, cx)
                reading.wait()
            return waiting.result()

    assert await asyncio.to_thread(close_while_it_waits) == "closed"


async def test_an_error_is_the_exchange_s(exchange: Venue) -> None:
    def ask() -> ExchangeError:
        with sync.Exchange(exchange.url, exchange.key) as cx:
            with pytest.raises(ExchangeError) as refused:
                cx.order("ord_1")
            return refused.value

    error = await asyncio.to_thread(ask)
    assert (error.code, error.status) == ("unknown_order", 404)
    with pytest.raises(ExchangeError, match="use it as `with"):
        sync.Exchange(exchange.url).status()
