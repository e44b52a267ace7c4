"""A key that asks too often is told to wait, and no other is; what it is refused costs no other anything later."""

import asyncio
import gc
import re
from typing import Any

import aiohttp
import pytest

from gateways.api.limits import NS, Rate, Rates
from gateways.api.turns import LISTED_AT_ONCE
from gateways.client import Exchange as Client
from tests.benchmarks.order_to_fill import posting
from tests.integration.conftest import CLASS, Venue, serving

BID: dict[str, Any] = {"class": CLASS, "quantity": 1, "price": "0.60", "duration": "1h", "min_fill": 1}
_REFUSED = re.compile(r'^api_answers_total{.*status="4(?:01|29)"} .*$', re.MULTILINE)
REFUSED = BID | {"price": "0.60005"}


async def test_a_key_that_asks_too_often_waits_and_another_does_not(exchange: Venue) -> None:
    noisy, quiet = [await exchange.key_of(name, "read") for name in ("noisy", "quiet")]
    async with (
        serving(exchange.log, exchange.store, rates=Rates(key=Rate(per_s=1, burst=2))) as url,
        aiohttp.ClientSession(url) as http,
    ):
        seen = []
        for key in (noisy, noisy, noisy, quiet):
            async with http.get("/v1/accounts/me", headers={"Authorization": f"Bearer {key}"}) as answer:
                seen.append((answer.status, answer.headers["RateLimit-Remaining"], answer.headers["RateLimit-Limit"]))
                if answer.status == 429:
                    assert (await answer.json())["error"]["code"] == "rate_limited"
                    assert (answer.headers["Retry-After"], answer.headers["RateLimit-Reset"]) == ("1", "2")
        assert seen == [(200, "1", "2"), (200, "0", "2"), (429, "0", "2"), (200, "1", "2")]
        async with http.get("/v1/classes") as answer:
            assert "RateLimit-Limit" not in answer.headers
        async with Client(url, noisy) as patient:
            assert (await patient.account()).name == "noisy"


async def test_an_order_counts_as_one_request_whichever_way_it_comes_and_a_page_by_its_rows(exchange: Venue) -> None:
    key = await exchange.key_of("trader", "read", "trade", money="1000")
    cancels = {"orders": [{"client_order_id": f"{n}"} for n in range(40)]}
    async with (
        serving(exchange.log, exchange.store, rates=Rates(key=Rate(per_s=1, burst=200))) as url,
        aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {key}"}) as http,
    ):
        left = []
        for method, path, body in (
            ("POST", "/v1/bids", BID),
            ("POST", "/v1/orders/batch", {"orders": [{"side": "bid", **BID}] * 30}),
            ("POST", "/v1/orders/cancel", cancels),
            ("GET", "/v1/orders", None),
            ("GET", "/v1/orders?limit=25", None),
            ("GET", "/v1/orders?limit=500", None),
            ("GET", "/v1/orders?limit=1000", None),
            ("POST", "/v1/orders/batch", {"orders": [{"side": "bid", **BID}] * 200}),
            ("GET", "/v1/accounts/me", None),
        ):
            async with http.request(method, path, json=body) as answer:
                left.append((answer.status, int(answer.headers["RateLimit-Remaining"])))
        assert left == [
            *((201, 199), (200, 169), (200, 129), (200, 125), (200, 124), (200, 104), (400, 100)),
            *((200, 0), (429, 0)),
        ]


async def test_a_list_is_whole_however_many_parts_it_is_fetched_in(exchange: Venue) -> None:
    key = await exchange.key_of("trader", "read", "trade", money="1000")
    async with aiohttp.ClientSession(exchange.url, headers={"Authorization": f"Bearer {key}"}) as http:
        orders = {"orders": [{"side": "bid", **BID, "client_order_id": f"{n}"} for n in range(2 * LISTED_AT_ONCE + 7)]}
        await http.post("/v1/orders/batch", json=orders)
        placed = [each["client_order_id"] for each in reversed(orders["orders"])]
        for limit in (1, LISTED_AT_ONCE, LISTED_AT_ONCE + 1, 2 * LISTED_AT_ONCE + 7, 500):
            got, after = [], ""
            while True:
                async with http.get(f"/v1/orders?limit={limit}{after}") as answer:
                    page = await answer.json()
                got += [each["client_order_id"] for each in page["items"]]
                if page["next"] is None:
                    break
                assert len(page["items"]) == limit
                after = f"&after={page['next']}"
            assert got == placed


async def test_who_is_refused_at_the_door_is_held_back_and_no_other(
    exchange: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateways.api.turns.REFUSED_NS", 3_600 * NS)
    monkeypatch.setattr("gateways.api.turns.MAX_HELD_NS", 3_600 * NS)
    noisy, quiet = [await exchange.key_of(name, "read") for name in ("noisy", "quiet")]
    rates = Rates(key=Rate(per_s=1, burst=2))
    async with (
        serving(exchange.log, exchange.store, rates=rates) as url,
        aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as http,
    ):

        async def ask(key: str, *, places: bool = False) -> int:
            method, path = ("POST", "/v1/bids") if places else ("GET", "/v1/accounts/me")
            async with http.request(method, path, headers={"Authorization": f"Bearer {key}"}) as answer:
                return answer.status

        assert [await ask(noisy) for _ in range(2)] == [200, 200]
        refused = [
            asyncio.create_task(ask(key, places=places)) for key in (noisy, "nobody's") for places in (False, True) * 5
        ]
        counted = ""
        for _ in range(500):
            async with http.get("/metrics") as answer:
                counted = await answer.text()
            if sum(float(line.split()[1]) for line in _REFUSED.findall(counted)) == len(refused):
                break
        else:
            raise AssertionError(f"those that are held have not left: {counted}")
        assert [await ask(quiet) for _ in range(2)] == [200, 200]
        done, _ = await asyncio.wait(refused, timeout=0.1)
        assert not done
    assert {each.cancelled() or each.exception() is not None for each in refused} == {True}


async def test_books_want_no_key_and_have_a_rate_by_address_or_account(exchange: Venue) -> None:
    key = await exchange.key_of("reader", "read")
    with_key = {"Authorization": f"Bearer {key}"}
    async with (
        serving(exchange.log, exchange.store, rates=Rates(walk=Rate(per_s=1, burst=2))) as url,
        aiohttp.ClientSession(url) as http,
    ):
        seen = []
        for path, headers in (("book", {}), ("offers", {}), ("book", {}), ("offers", {}), ("offers", with_key)):
            if headers:
                await (await http.get("/v1/accounts/me", headers=headers)).read()
            async with http.get(f"/v1/{path}/{CLASS}", headers=headers) as answer:
                seen.append((answer.status, answer.headers["RateLimit-Remaining"]))
        assert seen == [(200, "1"), (200, "0"), (429, "0"), (429, "0"), (200, "1")]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/bids", BID, 201),
        ("/v1/bids", REFUSED, 422),
        ("/v1/bids", BID | {"price": 1}, 400),
        ("/v1/orders/batch", {"orders": [{"side": "bid", **BID}, {"side": "bid", **REFUSED}]}, 200),
        ("/v1/bids/preview", REFUSED, 422),
        ("/v1/nothing", BID, 404),
    ],
)
async def test_no_request_is_left_to_the_garbage_collector_which_stops_everybody(
    exchange: Venue, path: str, body: dict[str, Any], status: int
) -> None:
    key = await exchange.key_of("noisy", "read", "trade", money="1000")
    async with posting(exchange.url, path, body, key) as post:
        await post()
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                assert (await post())[0] == status
            assert gc.collect() < 20
        finally:
            gc.enable()
