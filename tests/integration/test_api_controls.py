"""Commands that end or forbid many orders at once, over HTTP on the whole exchange."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from gateways.client import Exchange as Client
from gateways.log.embedded import EmbeddedLog
from schemas.commands import HaltMode
from schemas.units import HOUR_MS, parse_time
from settlement.service import SettlementService
from settlement.store import Store
from tests.integration.conftest import CLASS, Venue, admin_key, engines, ready_key, running, serving
from tests.integration.test_api import ASK, BID, Caller, caller, leave_intent

STANDING = BID | {"start": "now+1h"}
"""One for now leaves when the minute ends."""
ELSEWHERE = "H200-SXM-141GB"
BESIDE = "B200"
"""In another partition than CLASS, where there are two; and in the same."""


async def open_orders(trader: Caller) -> set[tuple[str, str]]:
    """(side, class) of each."""
    _, listed = await trader.send("GET", "/v1/orders?status=open")
    return {(order["side"], order["class"]) for order in listed["items"]}


async def refused(trader: Caller, method: str, path: str, body: Any = None) -> tuple[int, str, str]:
    status, found = await trader.send(method, path, body)
    return status, found["error"]["code"], found["error"]["field"]


async def test_an_order_is_cancelled_by_its_own_name(exchange: Venue) -> None:
    async with caller(exchange, "developer") as developer, caller(exchange, "other") as other:
        await developer.send("POST", "/v1/bids", STANDING | {"client_order_id": "mine"})
        path = "/v1/orders/by-client-id/mine"
        assert await refused(other, "DELETE", path) == (404, "unknown_order", "")
        for _ in range(2):
            status, ended = await developer.send("DELETE", path)
            assert (status, ended["status"], ended["reason"], ended["left"]) == (200, "cancelled", "requested", 8)
        assert (await developer.send("GET", "/v1/balance"))[1]["held"] == "0.00"


async def test_a_cancel_by_name_reaches_an_order_whose_answer_nobody_has(
    embedded_log: EmbeddedLog, store: Store
) -> None:
    async with running([SettlementService(embedded_log, store)]):
        key = await ready_key(embedded_log, store)
        async with serving(embedded_log, store, answer_timeout_s=0.2) as url, aiohttp.ClientSession() as http:
            developer = Caller(http, url, key)
            body = STANDING | {"client_order_id": "mine"}
            assert await refused(developer, "POST", "/v1/bids", body) == (504, "unknown", "")
            assert await refused(developer, "DELETE", "/v1/orders/by-client-id/mine") == (504, "unknown", "")
            async with running(engines(embedded_log)):
                status, ended = await developer.send("DELETE", "/v1/orders/by-client-id/mine")
                assert (status, ended["status"], ended["held"]) == (200, "cancelled", "0.00")
                await leave_intent(embedded_log, store, body | {"client_order_id": "never sent"}, HOUR_MS << 20)
                status, found = await developer.send("DELETE", "/v1/orders/by-client-id/never%20sent")
                assert (status, found["error"]["code"]) == (504, "unknown")
                assert "has not reached the book" in found["error"]["message"]


async def test_all_orders_are_cancelled_of_one_class_or_of_all_in_every_partition(tmp_path: Path, store: Store) -> None:
    log = await EmbeddedLog.open(tmp_path / "log", partitions=2)
    services = [*engines(log), SettlementService(log, store)]
    async with running(services), serving(log, store) as url, aiohttp.ClientSession() as http:
        key = await admin_key(store, log)
        async with Client(url, key) as admin:
            for class_id in (CLASS, BESIDE, ELSEWHERE):
                await admin.create_class(class_id, accelerator="GPU", memory_gb=80, form_factor="SXM")
            await admin.deposit((await admin.account()).account_id, "100000", reference="first")
        trader = Caller(http, url, key)

        async def trade() -> None:
            for class_id in (CLASS, BESIDE, ELSEWHERE):
                for path, body in (("/v1/bids", STANDING | {"price": "1"}), ("/v1/asks", ASK)):
                    assert (await trader.send("POST", path, body | {"class": class_id}))[0] == 201

        await trade()
        assert len(await open_orders(trader)) == 6
        homes = {listing.spec.class_id: listing.partition for listing in await store.classes()}
        assert homes[CLASS] == homes[BESIDE] != homes[ELSEWHERE]
        assert await trader.send("DELETE", f"/v1/orders?class={CLASS}") == (200, {"class": CLASS, "orders": 2})
        assert await open_orders(trader) == {
            (side, class_id) for side in ("bid", "ask") for class_id in (BESIDE, ELSEWHERE)
        }
        await trade()
        assert await trader.send("DELETE", "/v1/orders") == (200, {"class": None, "orders": 10})
        assert await trader.send("DELETE", "/v1/orders") == (200, {"class": None, "orders": 0})
        assert await open_orders(trader) == set()
        assert (await trader.send("GET", "/v1/balance"))[1]["cash"] == "100000.00"
        assert await refused(trader, "DELETE", "/v1/orders?class=none") == (404, "unknown_class", "class")
    await log.close()


async def test_a_key_for_one_side_does_not_cancel_the_other(exchange: Venue) -> None:
    async with caller(exchange, "both") as both, aiohttp.ClientSession() as http:
        _, key = await both.send("POST", "/v1/accounts/me/keys", {"scopes": ["read", "trade"]})
        buyer = Caller(http, exchange.url, key["key"])
        await buyer.send("POST", "/v1/bids", STANDING | {"price": "1"})
        await both.send("POST", "/v1/asks", ASK)
        assert await refused(buyer, "DELETE", "/v1/orders") == (403, "missing_scope", "")
        assert await open_orders(both) == {("bid", CLASS), ("ask", CLASS)}
        _, asks = await both.send("GET", "/v1/orders?side=ask")
        await both.send("DELETE", f"/v1/orders/{asks['items'][0]['order_id']}")
        assert await open_orders(both) == {("bid", CLASS)}
        assert (await buyer.send("DELETE", "/v1/orders"))[1]["orders"] == 1
        assert await open_orders(both) == set()


async def test_a_cancel_of_all_without_an_answer_is_unknown(embedded_log: EmbeddedLog, store: Store) -> None:
    async with (
        running([SettlementService(embedded_log, store)]),
        serving(embedded_log, store, answer_timeout_s=0.2) as url,
        aiohttp.ClientSession() as http,
    ):
        trader = Caller(http, url, await admin_key(store, embedded_log))
        status, found = await trader.send("DELETE", "/v1/orders")
        assert (status, found["error"]["code"]) == (504, "unknown")
        assert "send it again" in found["error"]["message"]
        async with running(engines(embedded_log)):
            assert (await asyncio.wait_for(trader.send("DELETE", "/v1/orders"), 10))[1]["orders"] == 0


async def test_a_dead_man_s_orders_are_cancelled_unless_he_renews(exchange: Venue) -> None:
    async with caller(exchange, "developer") as developer:
        await developer.send("POST", "/v1/bids", STANDING)
        await developer.send("POST", "/v1/asks", ASK | {"price": "9"})
        for _ in range(3):
            before = exchange.log.now()
            status, armed = await developer.send("PUT", "/v1/dead-man", {"seconds": 1})
            assert status == 200
            assert before + 1_000 <= parse_time(armed["until"]) <= exchange.log.now() + 1_000
            await asyncio.sleep(0.5)
        assert len(await open_orders(developer)) == 2
        assert await developer.send("DELETE", "/v1/dead-man") == (200, {"until": None})
        await asyncio.sleep(1.1)
        assert len(await open_orders(developer)) == 2
        await developer.send("PUT", "/v1/dead-man", {"seconds": 1})
        async with asyncio.timeout(10):
            while await open_orders(developer):  # noqa: ASYNC110 - the engine says it to nobody
                await asyncio.sleep(0.1)
        _, listed = await developer.send("GET", "/v1/orders")
        assert {order["reason"] for order in listed["items"]} == {"dead_man"}
        assert (await developer.send("GET", "/v1/balance"))[1]["held"] == "0.00"


async def test_a_dead_man_s_switch_wants_one_time_to_come(exchange: Venue) -> None:
    async with caller(exchange, "developer") as developer:
        for body, expected in (
            ({}, (400, "invalid", "")),
            ({"seconds": 1, "until": "now+1h"}, (400, "invalid", "")),
            ({"seconds": 0}, (400, "invalid", "seconds")),
            ({"seconds": 10**9}, (400, "invalid", "seconds")),
            ({"until": "soon"}, (400, "invalid", "until")),
            ({"until": "2020-01-01T00:00:00Z"}, (422, "expiry_past", "until")),
        ):
            assert await refused(developer, "PUT", "/v1/dead-man", body) == expected, body
        await developer.send("POST", "/v1/asks", ASK)
        _, key = await developer.send("POST", "/v1/accounts/me/keys", {"scopes": ["read", "trade"]})
        developer.headers["Authorization"] = f"Bearer {key['key']}"
        assert await refused(developer, "PUT", "/v1/dead-man", {"seconds": 60}) == (403, "missing_scope", "")


@contextlib.asynccontextmanager
async def with_admin(exchange: Venue, *names: str) -> AsyncIterator[list[Caller]]:
    """The exchange's own key, and those of new accounts."""
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        others = [await stack.enter_async_context(caller(exchange, name)) for name in names]
        yield [Caller(http, exchange.url, exchange.key), *others]


async def class_of(trader: Caller, class_id: str = CLASS) -> Any:
    _, listed = await trader.send("GET", "/v1/classes")
    return next(each for each in listed["items"] if each["class"] == class_id)


async def id_of(trader: Caller) -> str:
    _, me = await trader.send("GET", "/v1/accounts/me")
    account_id: str = me["account_id"]
    return account_id


async def test_a_halted_class_says_so_and_trades_again_when_it_is_resumed(exchange: Venue) -> None:
    async with with_admin(exchange, "cloud", "developer") as (admin, cloud, developer):
        await cloud.send("POST", "/v1/asks", ASK)
        _, bid = await developer.send("POST", "/v1/bids", STANDING | {"price": "1"})
        halted = {"classes": [{"class": CLASS, "mode": "full"}]}
        assert await admin.send("PUT", "/v1/halt", {"mode": "full", "class": CLASS}) == (200, halted)
        assert (await class_of(developer))["halt"] == "full"
        assert await refused(developer, "POST", "/v1/bids", BID) == (409, "halted", "class")
        path = f"/v1/orders/{bid['order_id']}"
        assert await refused(developer, "DELETE", path) == (409, "halted", "class")
        assert (await developer.send("DELETE", "/v1/orders"))[1]["orders"] == 0
        await admin.send("PUT", "/v1/halt", {"mode": "no_new", "class": CLASS})
        assert (await developer.send("DELETE", path))[1]["status"] == "cancelled"
        assert await refused(developer, "POST", "/v1/bids", BID) == (409, "halted", "class")
        resumed = {"classes": [{"class": CLASS, "mode": "none"}]}
        assert await admin.send("PUT", "/v1/halt", {"mode": "none", "class": CLASS}) == (200, resumed)
        assert (await class_of(developer))["halt"] == "none"
        assert (await developer.send("POST", "/v1/bids", BID))[1]["status"] == "filled"
        assert await refused(admin, "PUT", "/v1/halt", {"mode": "some"}) == (400, "invalid", "mode")
        assert await refused(admin, "PUT", "/v1/halt", {"mode": "full", "class": "no"}) == (
            404,
            "unknown_class",
            "class",
        )


async def test_all_classes_are_halted_also_where_a_partition_has_none(tmp_path: Path, store: Store) -> None:
    log = await EmbeddedLog.open(tmp_path / "log", partitions=3)
    services = [*engines(log), SettlementService(log, store)]
    async with running(services), serving(log, store) as url, aiohttp.ClientSession() as http:
        admin = Caller(http, url, await admin_key(store, log))
        halt = {"mode": "full"}
        assert await refused(admin, "PUT", "/v1/halt", halt) == (404, "unknown_class", "class")
        terms = {"accelerator": "GPU", "memory_gb": 80, "form_factor": "SXM"}
        for class_id in (CLASS, "L40S"):
            await admin.send("POST", "/v1/classes", terms | {"class": class_id})
        status, found = await admin.send("PUT", "/v1/halt", halt)
        assert (status, [each["class"] for each in found["classes"]]) == (200, [CLASS, "L40S"])
        assert {listing.halt for listing in await store.classes()} == {HaltMode.FULL}
        assert len({listing.partition for listing in await store.classes()}) == 2
    await log.close()


async def test_the_kill_switch_ends_an_account_s_orders_and_refuses_what_it_sends(exchange: Venue) -> None:
    async with with_admin(exchange, "developer", "other") as (admin, developer, other):
        for trader in (developer, other):
            await trader.send("POST", "/v1/bids", STANDING)
        account_id = await id_of(developer)
        path = f"/v1/accounts/{account_id}/kill"
        assert await admin.send("PUT", path, {"on": True}) == (200, {"account_id": account_id, "on": True})
        assert await open_orders(developer) == set()
        assert await open_orders(other) == {("bid", CLASS)}
        assert await refused(developer, "POST", "/v1/bids", BID) == (403, "killed", "account")
        assert (await developer.send("GET", "/v1/balance"))[1]["held"] == "0.00"
        assert (await developer.send("GET", "/v1/standing"))[1]["killed"] is True
        assert (await other.send("GET", "/v1/standing"))[1]["killed"] is False
        assert await admin.send("PUT", path, {"on": False}) == (200, {"account_id": account_id, "on": False})
        assert (await developer.send("POST", "/v1/bids", BID))[0] == 201
        assert await refused(admin, "PUT", "/v1/accounts/acc_zzz/kill", {"on": True}) == (
            404,
            "unknown_account",
            "account",
        )
        assert await refused(admin, "PUT", path, {}) == (400, "invalid", "on")


async def test_an_account_s_limits_refuse_what_goes_beyond_and_hold_nothing_for_it(exchange: Venue) -> None:
    async with with_admin(exchange, "developer") as (admin, developer):
        account_id = await id_of(developer)
        path = f"/v1/accounts/{account_id}/limits"
        limits = {"open_orders": 2, "notional": "600.00", "quantity": 8}
        assert await admin.send("PUT", path, limits) == (200, {"account_id": account_id, **limits})
        nine = BID | {"quantity": 9, "min_fill": 9}
        await both_refuse(developer, nine, "quantity_above_limit", "quantity", "split it")
        assert (await developer.send("POST", "/v1/bids", BID))[0] == 201
        await both_refuse(developer, BID, "too_much_notional", "", "998.40 dollars, and its limit is 600.00: cancel")
        assert (await developer.send("POST", "/v1/bids", BID | {"price": "0.10"}))[0] == 201
        cheap = BID | {"price": "0.10"}
        await both_refuse(developer, cheap, "too_many_orders", "", "2 open orders, and its limit is 2: cancel one")
        assert (await developer.send("GET", "/v1/balance"))[1]["held"] == "518.40"
        for body, expected in (
            ({"notional": "5"}, (422, "limits_invalid", "open_orders")),
            ({"open_orders": -1}, (422, "limits_invalid", "open_orders")),
            ({"notional": "9999999999999", "open_orders": 1}, (400, "invalid", "notional")),
            ({"notional": "much"}, (400, "invalid", "notional")),
        ):
            assert await refused(admin, "PUT", path, body) == expected, body
        assert (await admin.send("PUT", path, {}))[1]["notional"] == "0.00"
        assert (await developer.send("POST", "/v1/bids", nine))[0] == 201
        assert await refused(admin, "PUT", "/v1/accounts/acc_zzz/limits", {}) == (404, "unknown_account", "account")


async def both_refuse(developer: Caller, bid: dict[str, Any], code: str, field: str, words: str) -> None:
    """The preview as the order itself."""
    for url in ("/v1/bids", "/v1/bids/preview"):
        status, answer = await developer.send("POST", url, bid)
        error = answer["error"]
        assert (status, error["code"], error["field"]) == (422, code, field), url
        assert words in error["message"], url


async def test_what_holds_for_an_account_is_shown_as_it_was_just_set(exchange: Venue) -> None:
    async with with_admin(exchange, "developer") as (admin, developer):
        account_id = await id_of(developer)
        nothing = {
            "account_id": account_id,
            "killed": False,
            "open_orders": 0,
            "notional": "0.00",
            "quantity": 0,
            "dead_man_until": None,
        }
        path = f"/v1/accounts/{account_id}"
        assert await developer.send("GET", "/v1/standing") == (200, nothing)
        _, armed = await developer.send("PUT", "/v1/dead-man", {"seconds": 3600})
        assert await developer.send("GET", "/v1/standing") == (200, nothing | {"dead_man_until": armed["until"]})
        limits = {"open_orders": 2, "notional": "600.00", "quantity": 8}
        await admin.send("PUT", f"{path}/limits", limits)
        await admin.send("PUT", f"{path}/kill", {"on": True})
        all_of_it = nothing | limits | {"killed": True, "dead_man_until": armed["until"]}
        assert await admin.send("GET", f"{path}/standing") == (200, all_of_it)
        await developer.send("DELETE", "/v1/dead-man")
        assert (await developer.send("GET", "/v1/standing"))[1]["dead_man_until"] is None
        assert await refused(admin, "GET", "/v1/accounts/acc_zzz/standing") == (404, "unknown_account", "account")


async def test_the_exchange_cancels_the_orders_of_everybody_whatever_is_halted(exchange: Venue) -> None:
    async with with_admin(exchange, "developer", "other") as (admin, developer, other):
        for trader in (developer, other):
            await trader.send("POST", "/v1/bids", STANDING)
        await admin.send("PUT", "/v1/halt", {"mode": "full", "class": CLASS})
        path = "/v1/orders/of-everybody"
        assert await refused(admin, "DELETE", f"{path}?class=H200") == (404, "unknown_class", "class")
        assert await admin.send("DELETE", f"{path}?class={CLASS}") == (200, {"class": CLASS, "orders": 2})
        assert await open_orders(developer) == await open_orders(other) == set()
        assert (await other.send("GET", "/v1/balance"))[1]["held"] == "0.00"
        await admin.send("PUT", "/v1/halt", {"mode": "none"})
        await other.send("POST", "/v1/bids", STANDING)
        assert await admin.send("DELETE", path) == (200, {"class": None, "orders": 1})


async def test_a_class_gets_new_terms_a_band_round_a_reference_and_an_end(exchange: Venue) -> None:
    async with with_admin(exchange, "developer") as (admin, developer):
        path = f"/v1/classes/{CLASS}"
        before = await class_of(developer)
        status, changed = await admin.send("PATCH", path, {"tick": "0.01", "band_bps": 1000})
        assert (status, changed) == (200, before | {"tick": "0.01", "band_bps": 1000})
        status, changed = await admin.send("PATCH", path, {"max_quantity": 100})
        assert (changed["tick"], changed["band_bps"], changed["max_quantity"]) == ("0.01", 1000, 100)
        assert await refused(developer, "POST", "/v1/bids", BID | {"price": "2.605"}) == (
            422,
            "price_off_tick",
            "price",
        )
        band = {"class": CLASS, "price": "2.00", "low": "1.80", "high": "2.20"}
        assert await admin.send("PUT", f"{path}/reference", {"price": "2.00"}) == (200, band)
        assert (await class_of(developer))["reference"] == "2.00"
        assert await refused(developer, "POST", "/v1/bids", BID) == (422, "price_outside_band", "price")
        _, bid = await developer.send("POST", "/v1/bids", BID | {"price": "2.20"})
        for method, where, body, expected in (
            ("PATCH", path, {"tick": "0"}, (422, "class_invalid", "class")),
            ("PATCH", path, {"tick": "small"}, (400, "invalid", "tick")),
            ("PATCH", path, {"memory_gb": 94}, (400, "invalid", "memory_gb")),
            ("PUT", f"{path}/reference", {"price": "0"}, (422, "price_out_of_range", "price")),
            ("PATCH", "/v1/classes/no", {"tick": "0.01"}, (404, "unknown_class", "class")),
            ("PUT", "/v1/classes/no/reference", {"price": "1"}, (404, "unknown_class", "class")),
            ("DELETE", "/v1/classes/no", None, (404, "unknown_class", "class")),
        ):
            assert await refused(admin, method, where, body) == expected, (method, where, body)
        status, retired = await admin.send("DELETE", path)
        assert (status, retired["class"], retired["retired"]) == (200, CLASS, True)
        assert (await class_of(developer))["retired"]
        assert await open_orders(developer) == set()
        _, ended = await developer.send("GET", f"/v1/orders/{bid['order_id']}")
        assert (ended["status"], ended["reason"]) == ("cancelled", "class_retired")
        assert await refused(developer, "POST", "/v1/bids", BID | {"price": "2.20"}) == (404, "class_retired", "class")
        assert await refused(admin, "DELETE", path) == (404, "class_retired", "class")
        new = {"class": CLASS, "accelerator": "H100", "memory_gb": 80, "form_factor": "SXM"}
        assert await refused(admin, "POST", "/v1/classes", new) == (409, "class_exists", "class")


async def test_who_has_cancelled_all_finds_each_order_cancelled(exchange: Venue) -> None:
    async with exchange.trader("quick") as quick:
        for turn in range(5):
            order = await quick.bid(CLASS, 1, "1.00", duration="1h", min_fill=1, client_order_id=f"turn {turn}")
            assert order.order_id is not None
            await quick.cancel_all()
            assert (await quick.order(order.order_id)).status == "cancelled"
            assert (await quick.order_named(f"turn {turn}")).status == "cancelled"
