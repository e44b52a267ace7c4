"""New terms for standing orders, over HTTP on the whole exchange: their money, their place, their repeats."""

import asyncio
from typing import Any

import aiohttp

from gateways.client import Exchange as Client
from gateways.log.embedded import EmbeddedLog
from schemas.commands import Halt, HaltMode
from schemas.units import format_usd, parse_usd
from settlement.audit import audit
from settlement.service import SettlementService
from settlement.store import Store
from tests.integration.conftest import CLASS, Venue, admin_key, engines, running, serving
from tests.integration.test_api import ASK, BID, Answer, Caller, append, caller, written

LATER = BID | {"start": "now+1h"}


async def placed(trader: Caller, body: dict[str, Any]) -> str:
    """The path of a new order."""
    status, order = await trader.send("POST", "/v1/asks" if "end" in body else "/v1/bids", body)
    assert (status, order["status"]) == (201, "open")
    return f"/v1/orders/{order['order_id']}"


async def money(trader: Caller) -> tuple[str, str]:
    """(cash, held)."""
    _, balance = await trader.send("GET", "/v1/balance")
    return balance["cash"], balance["held"]


async def shown(trader: Caller, path: str) -> Any:
    """An order, with all that has happened so far."""
    await money(trader)  # which waits for settlement
    _, order = await trader.send("GET", path)
    return order


def error(answer: Answer) -> tuple[int, str, str]:
    status, found = answer
    return status, found["error"]["code"], found["error"]["field"]


async def assert_audited(exchange: Venue) -> None:
    """The money adds up, and the holds are what open orders can still cost."""
    assert (await audit(exchange.store, exchange.log)).findings == []


async def test_the_new_terms_are_what_the_order_shows_and_what_it_holds(exchange: Venue) -> None:
    async with caller(exchange, "developer", money="1000") as developer:
        path = await placed(developer, LATER | {"client_order_id": "mine"})
        first = await shown(developer, path)
        assert await money(developer) == ("500.80", "499.20")
        for change, held in (
            ({"price": "2.70"}, "518.40"),
            ({"quantity": 10}, "648.00"),
            ({"duration": "12h", "starts": ["now+2h", "now+3h"], "prefer": "start"}, "324.00"),
            ({"price": "1.00", "quantity": 4}, "48.00"),
            (
                {"accepts": {"regions": ["us-east"]}, "time_in_force": "gtd", "expire_at": "2099-01-01T00:00:00Z"},
                "48.00",
            ),
            ({"time_in_force": "gtc", "self_trade": "skip"}, "48.00"),
        ):
            status, order = await developer.send("PATCH", path, change)
            assert (status, order["status"], order["held"]) == (200, "open", held), (change, order)
            assert await money(developer) == (format_usd(parse_usd("1000") - parse_usd(held)), held)
            assert (await shown(developer, path)) == order
            await assert_audited(exchange)
        assert (order["price"], order["quantity"], order["left"], order["min_fill"]) == ("1.00", 4, 4, 4)
        assert (order["duration"], len(order["starts"]), order["prefer"]) == ("12h", 2, "start")
        assert (order["accepts"]["regions"], order["expire_at"], order["self_trade"]) == (["us-east"], None, "skip")
        for name in ("order_id", "client_order_id", "not_after", "created_at", "fee_bps"):
            assert order[name] == first[name]
        _, listed = await developer.send("GET", "/v1/orders")
        assert [(each["price"], each["quantity"]) for each in listed["items"]] == [("1.00", 4)]
        status, again = await developer.send("POST", "/v1/bids", LATER | {"client_order_id": "mine"})
        assert (status, again["price"]) == (200, "1.00"), "the order that was placed under this name, as it is now"


async def test_an_ask_is_amended_and_trades_on_its_new_terms(exchange: Venue) -> None:
    async with caller(exchange, "cloud") as cloud, caller(exchange, "developer") as developer:
        path = await placed(cloud, ASK)
        bid = await placed(developer, BID | {"price": "2.40"})
        status, ask = await cloud.send("PATCH", path, {"price": "2.30", "quantity": 16, "lot": 8, "region": "us-east"})
        assert (status, ask["price"], ask["quantity"], ask["filled"], ask["region"]) == (200, "2.30", 16, 8, "us-east")
        assert [fill["price"] for fill in ask["fills"]] == ["2.40"]
        assert (await shown(developer, bid))["status"] == "filled"
        assert (await cloud.send("PATCH", path, {"start": "now"}))[1]["start"] >= ask["start"]
        assert error(await cloud.send("PATCH", path, {"min_fill": 8})) == (400, "invalid", "min_fill")
        assert error(await developer.send("PATCH", path, {"price": "2.31"})) == (404, "unknown_order", "order_id")
        await assert_audited(exchange)


async def test_less_quantity_alone_keeps_the_place_and_other_terms_lose_it(exchange: Venue) -> None:
    async with caller(exchange, "one") as one, caller(exchange, "two") as two, caller(exchange, "cloud") as cloud:
        first, second = await placed(one, LATER), await placed(two, LATER)
        assert (await one.send("PATCH", first, {"quantity": 4}))[0] == 200
        await cloud.send("POST", "/v1/asks", ASK | {"quantity": 4})
        assert (await shown(one, first))["status"] == "filled"
        third = await placed(one, LATER)
        await two.send("PATCH", second, {"price": "2.61"})
        await two.send("PATCH", second, {"price": "2.60"})
        await cloud.send("POST", "/v1/asks", ASK | {"quantity": 8})
        assert (await shown(one, third))["status"] == "filled"
        assert (await shown(two, second))["status"] == "open"
        await assert_audited(exchange)


async def test_no_more_than_what_is_filled_ends_the_order(exchange: Venue) -> None:
    async with caller(exchange, "developer", money="1000") as developer, caller(exchange, "cloud") as cloud:
        path = await placed(developer, LATER | {"min_fill": 1})
        await cloud.send("POST", "/v1/asks", ASK | {"quantity": 2})
        status, order = await developer.send("PATCH", path, {"quantity": 2, "price": "99"})
        assert (status, order["status"], order["reason"], order["filled"]) == (200, "cancelled", "amended", 2)
        assert await money(developer) == ("875.20", "0.00")
        assert error(await developer.send("PATCH", path, {"quantity": 8})) == (404, "unknown_order", "order_id")
        await assert_audited(exchange)


async def test_an_amend_without_the_money_for_it_changes_nothing(exchange: Venue) -> None:
    async with caller(exchange, "developer", money="500") as developer:
        path = await placed(developer, LATER)
        before = await written(exchange)
        status, found = await developer.send("PATCH", path, {"price": "2.61"})
        assert (status, found["error"]["code"]) == (402, "insufficient_funds")
        assert "needs 1.92 further held, but 0.80 is free: deposit 1.12 more" in found["error"]["message"]
        assert await written(exchange) == before
        assert await money(developer) == ("0.80", "499.20")
        assert (await developer.send("PATCH", path, {"quantity": 7}))[1]["held"] == "436.80"


async def test_two_hundred_equal_amends_at_once_are_one(exchange: Venue) -> None:
    async with caller(exchange, "developer", money="1000") as developer:
        path = await placed(developer, LATER)
        body = {"price": "2.70", "amend_id": "dearer"}
        answers = await asyncio.gather(*(developer.send("PATCH", path, body) for _ in range(200)))
        assert {(status, order["held"]) for status, order in answers} == {(200, "518.40")}
        assert await money(developer) == ("481.60", "518.40")
        less = {"quantity": 7, "amend_id": "less"}
        answers = await asyncio.gather(*(developer.send("PATCH", path, less) for _ in range(50)))
        assert {(status, order["quantity"]) for status, order in answers} == {(200, 7)}
        status, order = await developer.send("PATCH", path, body)
        assert (status, order["price"], developer.answer_headers["Idempotent-Replayed"]) == (200, "2.70", "true")
        assert error(await developer.send("PATCH", path, body | {"price": "2.71"})) == (
            409,
            "amend_id_reused",
            "amend_id",
        )
        other = await placed(developer, LATER | {"price": "0.10", "client_order_id": "dearer"})
        assert (await developer.send("PATCH", other, {"price": "0.20", "amend_id": "dearer"}))[1]["price"] == "0.20"
        await assert_audited(exchange)


async def test_different_amends_at_once_never_mix(exchange: Venue) -> None:
    async with caller(exchange, "developer") as developer:
        path = await placed(developer, LATER)
        answers = await asyncio.gather(
            *(developer.send("PATCH", path, {"quantity": 8 + n, "price": f"3.{n:02}"}) for n in range(1, 9))
        )
        done = [order for status, order in answers if status == 200]
        assert len(done) >= 1
        assert all(error(answer) == (409, "amend_under_way", "order_id") for answer in answers if answer[0] != 200)
        order = await shown(developer, path)
        assert order["price"] == f"3.{order['quantity'] - 8:02}"
        assert order in done
        await assert_audited(exchange)


async def test_what_the_engine_refuses_gives_the_hold_back(exchange: Venue) -> None:
    async with caller(exchange, "developer", money="1000") as developer, caller(exchange, "cloud") as cloud:
        await cloud.send("POST", "/v1/asks", ASK | {"price": "3.00"})
        path = await placed(developer, LATER)
        before = await shown(developer, path)
        body = {"price": "3.00", "post_only": True, "amend_id": "passive"}
        for _ in range(2):
            assert error(await developer.send("PATCH", path, body)) == (422, "would_trade", "post_only")
            assert await money(developer) == ("500.80", "499.20")
        assert error(await developer.send("PATCH", path, {"time_in_force": "ioc"})) == (
            422,
            "amend_invalid",
            "time_in_force",
        )
        await append(exchange, Halt(CLASS, HaltMode.NO_NEW))
        assert error(await developer.send("PATCH", path, {"price": "2.80"})) == (409, "halted", "class")
        assert (await shown(developer, path)) == before
        assert (await developer.send("PATCH", path, {"quantity": 4}))[1]["held"] == "249.60"
        await assert_audited(exchange)


async def test_bad_terms_are_refused_with_code_and_field_and_nothing_is_written(exchange: Venue) -> None:
    async with caller(exchange, "developer", money="1000") as developer:
        path = await placed(developer, LATER)
        before = await written(exchange)
        for change, expected in (
            ({"price": "2.60005"}, (422, "price_off_tick", "price")),
            ({"price": 2.6}, (400, "invalid", "price")),
            ({"quantity": -1}, (400, "invalid", "quantity")),
            ({"quantity": 10**12}, (422, "quantity_out_of_range", "quantity")),
            ({"min_fill": 9}, (422, "min_fill_out_of_range", "min_fill")),
            ({"start": "2020-01-01T00:00:00Z"}, (422, "window_past", "starts")),
            ({"start": "now", "starts": ["now"]}, (400, "invalid", "starts")),
            ({"end": "now+2h"}, (400, "invalid", "end")),
            ({"class": "B200"}, (400, "invalid", "class")),
            ({"expire_at": "2099-01-01T00:00:00Z"}, (422, "expiry_not_allowed", "expire_at")),
            ({"price": "2.70", "not_after": "2020-01-01T00:00:00Z"}, (422, "stale", "not_after")),
            ({"price": "2.70", "amend_id": ""}, (400, "invalid", "amend_id")),
            ({"accepts": {"regions": ["atlantis"]}}, (400, "invalid", "accepts.regions")),
        ):
            assert error(await developer.send("PATCH", path, change)) == expected, change
        assert error(await developer.send("PATCH", "/v1/orders/ord_zzzz", {})) == (404, "unknown_order", "order_id")
        assert await written(exchange) == before


async def test_a_key_amends_on_its_own_side_alone(exchange: Venue) -> None:
    async with caller(exchange, "both") as both, aiohttp.ClientSession() as http:
        path = await placed(both, ASK)
        _, key = await both.send("POST", "/v1/accounts/me/keys", {"scopes": ["read", "trade"]})
        buyer = Caller(http, exchange.url, key["key"])
        assert error(await buyer.send("PATCH", path, {"price": "3.00"})) == (403, "missing_scope", "")


async def test_without_an_answer_it_is_unknown_and_the_same_amend_again_is_done_once(
    embedded_log: EmbeddedLog, store: Store
) -> None:
    async with running([SettlementService(embedded_log, store)]):
        async with running(engines(embedded_log)), serving(embedded_log, store) as url, aiohttp.ClientSession() as http:
            key = await admin_key(store, embedded_log)
            async with Client(url, key) as admin:
                await admin.create_class(CLASS, accelerator="H100", memory_gb=80, form_factor="SXM")
                await admin.deposit((await admin.account()).account_id, "1000", reference="first")
            path = await placed(Caller(http, url, key), LATER)
        async with serving(embedded_log, store, answer_timeout_s=0.2) as url, aiohttp.ClientSession() as http:
            developer = Caller(http, url, key)
            body = {"price": "2.70", "amend_id": "dearer"}
            for _ in range(2):
                assert error(await developer.send("PATCH", path, body)) == (504, "unknown", "")
                assert await money(developer) == ("481.60", "518.40")
                assert (await audit(store, embedded_log)).findings == []
            assert (await shown(developer, path))["price"] == "2.60"
            assert error(await developer.send("PATCH", path, {"price": "2.80"})) == (409, "amend_under_way", "order_id")
            async with running(engines(embedded_log)), serving(embedded_log, store) as url:
                developer = Caller(http, url, key)
                status, order = await developer.send("PATCH", path, body)
                assert (status, order["price"], order["held"]) == (200, "2.70", "518.40")
                assert await money(developer) == ("481.60", "518.40")
                assert (await audit(store, embedded_log)).findings == []
