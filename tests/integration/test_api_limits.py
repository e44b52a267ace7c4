"""A key that asks too often is told to wait, and no other is; what it is refused costs no other anything later."""

import gc
from typing import Any

import aiohttp
import pytest

from gateways.api.limits import Rate, Rates
from gateways.client import Exchange as Client
from tests.benchmarks.order_to_fill import posting
from tests.integration.conftest import CLASS, Venue, serving

BID: dict[str, Any] = {"class": CLASS, "quantity": 1, "price": "0.60", "duration": "1h", "min_fill": 1}
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
