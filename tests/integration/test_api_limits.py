"""A key that asks too often is told to wait, and no other is."""

import aiohttp

from gateways.api.limits import Rate, Rates
from gateways.client import Exchange as Client
from tests.integration.conftest import Venue, serving


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
