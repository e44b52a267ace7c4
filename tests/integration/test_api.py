"""The HTTP API on the whole exchange: what it refuses, what it does once, and what it says when it does not know."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import aiohttp
import asyncpg
import msgspec
import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from prometheus_client import CollectorRegistry

from gateways.api import routes
from gateways.api.orders import meaning
from gateways.api.resources import NewBid
from gateways.api.terms import bid_command
from gateways.api.vault import Vault, new_vault_secret
from gateways.cli import processes
from gateways.client import Exchange as Client
from gateways.log.embedded import EmbeddedLog
from matching_engine import service
from matching_engine.metrics import EngineMetrics
from matching_engine.service import EngineService
from schemas import topics
from schemas.codec import encode
from schemas.commands import Amend, Command, Halt, HaltMode, Kill, RetireClass
from schemas.ids import parse_account_id, parse_order_id, position
from schemas.store import Intent, PlaceStatus
from schemas.units import HOUR_MS, ceil_grid, format_time
from settlement.service import SettlementService
from settlement.store import Store
from tests.integration.conftest import CLASS, Venue, admin_key, engines, ready_key, running, serving

BID: dict[str, Any] = {"class": CLASS, "quantity": 8, "price": "2.60", "duration": "24h", "min_fill": 8}
ASK: dict[str, Any] = {"class": CLASS, "quantity": 64, "price": "2.50", "end": "now+720h"}

Answer = tuple[int, Any]


class Caller:
    """One key on the bare API."""

    def __init__(self, http: aiohttp.ClientSession, url: str, key: str) -> None:
        self._http = http
        self._url = url
        self.headers = {"Authorization": f"Bearer {key}"}
        self.answer_headers: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        async with self._http.request(
            method, self._url + path, json=body, headers={**self.headers, **headers}
        ) as answer:
            self.answer_headers = answer.headers
            return answer.status, await answer.json() if answer.content_length else None


@contextlib.asynccontextmanager
async def caller(exchange: Venue, name: str, *scopes: str, money: str = "1000000") -> AsyncIterator[Caller]:
    key = await exchange.key_of(name, *(scopes or ("read", "trade", "supply", "meter")), money=money)
    async with aiohttp.ClientSession() as http:
        yield Caller(http, exchange.url, key)


BAD_BIDS: list[tuple[str, dict[str, Any], int, str, str]] = [
    ("a wrong type", {"quantity": "8"}, 400, "invalid", "quantity"),
    ("a float as money", {"price": 2.6}, 400, "invalid", "price"),
    ("no number of dollars", {"price": "2,60"}, 400, "invalid", "price"),
    ("a field that nobody knows", {"quantitty": 8}, 400, "invalid", "quantitty"),
    ("a required field is missing", {"min_fill": None}, 400, "invalid", "min_fill"),
    ("an unknown class", {"class": "H200-SXM-141GB"}, 404, "unknown_class", "class"),
    ("a price off the tick", {"price": "2.60005"}, 422, "price_off_tick", "price"),
    ("a price of nothing", {"price": "0"}, 422, "price_out_of_range", "price"),
    ("a window off the grid", {"start": "2099-01-01T00:00:30Z"}, 422, "window_off_grid", "starts"),
    ("a window in the past", {"start": "2020-01-01T00:00:00Z"}, 422, "window_past", "starts"),
    ("no time", {"start": "tomorrow"}, 400, "invalid", "starts"),
    ("quantity 0", {"quantity": 0}, 422, "quantity_out_of_range", "quantity"),
    ("quantity 10^12", {"quantity": 10**12}, 422, "quantity_out_of_range", "quantity"),
    ("quantity 10^30", {"quantity": 10**30}, 400, "invalid", "quantity"),
    ("a duration of nothing", {"duration": "0m"}, 422, "duration_out_of_range", "duration"),
    ("min_fill above the quantity", {"min_fill": 9}, 422, "min_fill_out_of_range", "min_fill"),
    ("an unknown field inside", {"accepts": {"region": "us-east"}}, 400, "invalid", "accepts.region"),
    ("an unknown region", {"accepts": {"regions": ["atlantis"]}}, 400, "invalid", "accepts.regions"),
    ("a bad client_order_id", {"client_order_id": "ä"}, 400, "invalid", "client_order_id"),
    ("a name that no path could have", {"client_order_id": "a/b"}, 400, "invalid", "client_order_id"),
    ("a name that is lost in a path", {"client_order_id": ".."}, 400, "invalid", "client_order_id"),
    ("a not_after far away", {"not_after": "now+900h"}, 400, "invalid", "not_after"),
    ("a not_after that is past", {"not_after": "2020-01-01T00:00:00Z"}, 422, "stale", "not_after"),
    ("no funds", {"price": "9999", "quantity": 64, "min_fill": 64}, 402, "insufficient_funds", ""),
]


async def test_bad_input_is_refused_with_code_sentence_and_field_and_nothing_is_written(exchange: Venue) -> None:
    async with caller(exchange, "developer", money="1000") as developer:
        before = await written(exchange)
        for what, change, status, code, field in BAD_BIDS:
            body = {name: value for name, value in {**BID, **change}.items() if value is not None}
            answer, found = await developer.send("POST", "/v1/bids", body, **{"X-Request-Id": "mine"})
            error = found["error"]
            assert (answer, error["code"], error["field"]) == (status, code, field), what
            assert len(error["message"]) > 10, what
            assert error["request_id"] == developer.answer_headers["X-Request-Id"] == "mine"
        for bad in (b"", b"{", b"[]", b"\xff\xfe", b'"' + b"x" * 1_010_000 + b'"'):
            async with (
                aiohttp.ClientSession() as http,
                http.post(f"{exchange.url}/v1/bids", data=bad, headers=developer.headers) as refused,
            ):
                large = len(bad) > 1_000_000
                assert refused.status == (413 if large else 400), bad[:10]
                assert (await refused.json())["error"]["code"] == ("too_large" if large else "invalid")
                assert len(refused.headers.getall("X-Request-Id")) == 1
                assert len(refused.headers.getall("RateLimit-Remaining")) == 1
        assert await written(exchange) == before


async def written(exchange: Venue) -> dict[str, object]:
    """All that an order could leave behind: records of the log (ticks aside), rows, money."""
    last = position(0, await exchange.log.end(topics.COMMANDS, 0) - 1)
    assert await exchange.store.wait_applied(0, last, 5.0)
    fills = await exchange.log.reader(topics.FILLS, 0, 0)
    for _ in range((await exchange.store.totals()).fills):  # published beside settlement, which may be ahead
        assert await fills.poll(1, timeout_s=5.0)
    await fills.close()
    commands = 0
    reader = await exchange.log.reader(topics.COMMANDS, 0, 0)
    while records := await reader.poll(timeout_s=0):
        commands += sum(len(record.value) > 10 for record in records)
    async with exchange.store.snapshot() as connection:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        rows = {
            name: await connection.fetchval(f'SELECT count(*) FROM "{name}"')
            for (name,) in tables
            if name not in ("journal", "positions", "read_positions")
        }
    ends = {topic: await exchange.log.end(topic, 0) for topic in (topics.INSTRUCTIONS, topics.USAGE, topics.FILLS)}
    return {"commands": commands, **rows, **ends}


async def test_a_wrong_key_and_another_s_order_are_told_apart_from_nothing(exchange: Venue) -> None:
    async with caller(exchange, "one") as one, caller(exchange, "two") as two, aiohttp.ClientSession() as http:
        _, order = await one.send("POST", "/v1/bids", BID)
        _, ask = await one.send("POST", "/v1/asks", ASK | {"price": "1.00", "self_trade": "skip"})
        assert (order["status"], ask["status"]) == ("open", "open")
        _, fill = await two.send("POST", "/v1/bids", BID)
        before = await written(exchange)
        for path in (order["order_id"], ask["order_id"], "ord_zzzz", "ord_7zzzzzzzzzzzz"):
            for method in ("GET", "DELETE"):
                status, found = await two.send(method, f"/v1/orders/{path}")
                assert (status, found["error"]["code"]) == (404, "unknown_order")
        assert (await two.send("GET", f"/v1/orders/by-client-id/{order['client_order_id']}"))[0] == 404
        assert (await two.send("GET", "/v1/orders/nonsense"))[0] == 400
        lease = fill["fills"][0]["lease_id"]
        status, found = await two.send("POST", f"/v1/leases/{lease}/delivery", {"connection": "x"})
        assert (status, found["error"]["code"]) == (404, "unknown_lease")
        stranger = Caller(http, exchange.url, "cx_" + "0" * 64)
        status, found = await stranger.send("POST", "/v1/bids", BID)
        assert (status, found["error"]["code"]) == (401, "unauthorized")
        assert await written(exchange) == before


async def test_two_hundred_equal_orders_at_once_are_one(exchange: Venue) -> None:
    async with caller(exchange, "developer") as developer:
        body = BID | {"client_order_id": "mine"}
        answers = await asyncio.gather(*(developer.send("POST", "/v1/bids", body) for _ in range(200)))
        assert sorted({status for status, _ in answers}) == [200, 201]
        assert len([status for status, _ in answers if status == 201]) == 1
        assert len({order["order_id"] for _, order in answers}) == 1
        _, listed = await developer.send("GET", "/v1/orders")
        assert [order["order_id"] for order in listed["items"]] == [answers[0][1]["order_id"]]
        _, balance = await developer.send("GET", "/v1/balance")
        assert balance["held"] == "499.20"


async def test_a_repeat_gets_the_first_order_and_another_body_a_conflict(exchange: Venue) -> None:
    async with caller(exchange, "developer") as developer:
        body = BID | {"client_order_id": "mine", "start": "now+1h"}
        _, first = await developer.send("POST", "/v1/bids", body)
        status, again = await developer.send("POST", "/v1/bids", body)
        assert (status, again["order_id"], again["status"]) == (200, first["order_id"], "open")
        assert developer.answer_headers["Idempotent-Replayed"] == "true"
        before = await written(exchange)
        status, found = await developer.send("POST", "/v1/bids", body | {"price": "2.61"})
        assert (status, found["error"]["code"]) == (409, "client_order_id_reused")
        # Refused for its own sake, it is still another order under a name that is taken.
        status, found = await developer.send("POST", "/v1/bids", body | {"quantity": 0})
        assert (status, found["error"]["code"]) == (409, "client_order_id_reused")
        assert await written(exchange) == before


async def test_a_repeat_of_what_the_engine_refused_is_refused_alike(exchange: Venue) -> None:
    async with caller(exchange, "cloud") as cloud, caller(exchange, "developer") as developer:
        await cloud.send("POST", "/v1/asks", ASK)
        body = BID | {"client_order_id": "mine", "post_only": True}
        for _ in range(2):
            status, found = await developer.send("POST", "/v1/bids", body)
            assert (status, found["error"]["code"], found["error"]["field"]) == (422, "would_trade", "post_only")
            _, balance = await developer.send("GET", "/v1/balance")
            assert balance["held"] == "0.00"


async def test_the_answer_echoes_every_term_and_what_it_traded(exchange: Venue) -> None:
    async with caller(exchange, "cloud") as cloud, caller(exchange, "developer") as developer:
        _, ask = await cloud.send("POST", "/v1/asks", ASK | {"region": "us-east", "interconnect": "infiniband"})
        accepts = {"regions": ["us-west", "us-east"], "interconnect": "nvlink"}
        status, bid = await developer.send("POST", "/v1/bids", BID | {"accepts": accepts, "client_order_id": "mine"})
        _, shown = await developer.send("GET", f"/v1/orders/{bid['order_id']}")
        _, named = await developer.send("GET", "/v1/orders/by-client-id/mine")
    assert (status, bid["side"], bid["status"], bid["left"], bid["held"]) == (201, "bid", "filled", 0, "0.00")
    assert bid["accepts"]["regions"] == ["us-east", "us-west"]
    assert (bid["starts"][0], bid["duration"]) == (bid["fills"][0]["start"], "1d")
    assert [(fill["price"], fill["quantity"]) for fill in bid["fills"]] == [("2.50", 8)]
    assert shown == named == bid
    assert (ask["region"], ask["interconnect"], ask["tier"], ask["min_duration"]) == (
        "us-east",
        "infiniband",
        "guaranteed",
        "1h",
    )


async def test_without_an_answer_it_says_unknown_and_the_retry_gets_the_order(
    embedded_log: EmbeddedLog, store: Store
) -> None:
    async with running([SettlementService(embedded_log, store)]):
        key = await ready_key(embedded_log, store)
        async with serving(embedded_log, store, answer_timeout_s=0.2) as url, aiohttp.ClientSession() as http:
            developer = Caller(http, url, key)
            body = BID | {"client_order_id": "mine"}
            for _ in range(2):
                status, found = await developer.send("POST", "/v1/bids", body)
                assert (status, found["error"]["code"]) == (504, "unknown")
                assert "client_order_id mine" in found["error"]["message"]
            _, order = await developer.send("GET", "/v1/orders/by-client-id/mine")
            assert (order["status"], order["order_id"], order["held"]) == ("sent", None, "499.20")
            async with running(engines(embedded_log)):
                status, order = await developer.send("POST", "/v1/bids", body)
                assert (status, order["status"]) == (200, "open")
                _, listed = await developer.send("GET", "/v1/orders")
                assert [each["order_id"] for each in listed["items"]] == [order["order_id"]]


async def test_a_gateway_killed_before_the_append_loses_nothing(tmp_path: Path, store: Store) -> None:
    """An intent is all it left. The order sent again in time is placed; else its hold comes back."""
    log = await EmbeddedLog.open(tmp_path / "log", speed=3600)
    services = [*engines(log), SettlementService(log, store)]
    async with running(services), serving(log, store) as url, aiohttp.ClientSession() as http:
        key = await admin_key(store, log)
        async with Client(url, key) as admin:
            await admin.create_class(CLASS, accelerator="H100", memory_gb=80, form_factor="SXM")
            await admin.deposit((await admin.account()).account_id, "1000", reference="first")
        developer = Caller(http, url, key)

        in_time = BID | {"client_order_id": "in time", "start": "now+48h"}
        await leave_intent(log, store, in_time, log.now() + 24 * HOUR_MS)
        status, order = await developer.send("POST", "/v1/bids", in_time)
        assert (status, order["status"], order["held"]) == (200, "open", "499.20")
        await developer.send("DELETE", f"/v1/orders/{order['order_id']}")

        late = BID | {"client_order_id": "late", "start": "now+48h"}
        await leave_intent(log, store, late, log.now())
        async with asyncio.timeout(10):
            while await status_of(developer, "late") != "lost":  # noqa: ASYNC110 - settlement says it to nobody
                await asyncio.sleep(0.1)
        status, found = await developer.send("POST", "/v1/bids", late)
        assert (status, found["error"]["code"]) == (409, "order_lost")
        assert (await developer.send("GET", "/v1/balance"))[1]["cash"] == "1000.00"
    await log.close()


class ClockBehind:
    """The log as a gateway with a late clock has it."""

    def __init__(self, log: EmbeddedLog) -> None:
        self._log = log
        self._now = log.now()

    def now(self) -> int:
        return self._now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


async def test_a_copy_that_comes_late_never_denies_the_first(tmp_path: Path, store: Store) -> None:
    """Settlement is behind, so the order looks as if it were on its way; its copy is stale; the first one stands."""
    log = await EmbeddedLog.open(tmp_path / "log", speed=3600)
    async with running(engines(log)):
        async with running([SettlementService(log, store)]), serving(log, store) as url:
            key = await admin_key(store, log)
            async with Client(url, key) as admin:
                await admin.create_class(CLASS, accelerator="H100", memory_gb=80, form_factor="SXM")
                await admin.deposit((await admin.account()).account_id, "1000", reference="first")
        behind = cast(EmbeddedLog, ClockBehind(log))
        async with serving(behind, store, answer_timeout_s=0.5) as url, aiohttp.ClientSession() as http:
            developer = Caller(http, url, key)
            body = BID | {"client_order_id": "mine", "start": format_time(ceil_grid(log.now()) + 48 * HOUR_MS)}
            body["not_after"] = format_time(ceil_grid(log.now()) + 2 * HOUR_MS)
            status, first = await developer.send("POST", "/v1/bids", body)
            assert (status, first["status"]) == (201, "open")
            await asyncio.sleep(2.5)  # hours of the log
            status, found = await developer.send("POST", "/v1/bids", body)
            assert (status, found["error"]["code"]) == (504, "unknown")
            async with running([SettlementService(log, store)]):
                status, again = await developer.send("POST", "/v1/bids", body)
                assert (status, again["order_id"], again["status"]) == (200, first["order_id"], "open")
    await log.close()


async def status_of(caller: Caller, client_order_id: str) -> str:
    _, order = await caller.send("GET", f"/v1/orders/by-client-id/{client_order_id}")
    status: str = order["status"]
    return status


async def leave_intent(log: EmbeddedLog, store: Store, body: dict[str, Any], not_after: int) -> None:
    """What a gateway writes first."""
    wanted = msgspec.convert(body, NewBid)
    (account,) = await store.accounts(after=0, limit=1)
    command = bid_command(wanted, account, body["client_order_id"], log.now(), log.speed)
    command = msgspec.structs.replace(command, not_after=not_after)
    intent = Intent(
        command=command,
        class_id=CLASS,
        partition=0,
        digest=meaning(wanted),
        hold=499_200_000,
    )
    assert (await store.place(intent, now=log.now())).status is PlaceStatus.NEW


async def append(exchange: Venue, command: Command) -> None:
    """Sent past the gateways; returns once it is settled."""
    (offset,) = await exchange.log.append(topics.COMMANDS, 0, [encode(command)])
    assert await exchange.store.wait_applied(0, position(0, offset), 5.0)


async def test_bids_and_asks_are_lists_of_ones_own_orders_page_by_page(exchange: Venue) -> None:
    async with caller(exchange, "one") as one, caller(exchange, "two") as two:
        first, second = [(await one.send("POST", "/v1/bids", BID | {"price": "0.02"}))[1]["order_id"] for _ in range(2)]
        _, ask = await one.send("POST", "/v1/asks", ASK)
        await two.send("POST", "/v1/bids", BID | {"price": "0.02"})
        _, page = await one.send("GET", "/v1/bids?limit=1&status=open")
        assert [each["order_id"] for each in page["items"]] == [second]
        _, page = await one.send("GET", f"/v1/bids?after={page['next']}&class={CLASS}")
        assert ([each["order_id"] for each in page["items"]], page["next"]) == ([first], None)
        _, page = await one.send("GET", "/v1/asks")
        assert [each["order_id"] for each in page["items"]] == [ask["order_id"]]
        assert (await two.send("GET", "/v1/asks"))[1]["items"] == []


async def test_a_class_shows_its_band_and_an_ask_what_it_displays(exchange: Venue) -> None:
    async with caller(exchange, "cloud") as cloud, aiohttp.ClientSession() as http:
        admin = Caller(http, exchange.url, exchange.key)
        new = {"class": "H200-SXM-141GB", "accelerator": "H200", "memory_gb": 141, "form_factor": "SXM"}
        assert (await admin.send("POST", "/v1/classes", new | {"band_bps": 3000}))[0] == 201
        status, found = await admin.send("POST", "/v1/classes", new | {"class": "B200", "band_bps": 10_000})
        assert (status, found["error"]["code"]) == (422, "class_invalid")
        status, found = await admin.send("POST", "/v1/classes", new | {"class": "B200/NVL"})
        assert (status, found["error"]["field"]) == (400, "class"), "no path could name it"
        _, classes = await admin.send("GET", "/v1/classes")
        assert {each["class"]: each["band_bps"] for each in classes["items"]} == {CLASS: 0, "H200-SXM-141GB": 3000}

        _, ask = await cloud.send("POST", "/v1/asks", ASK | {"display": 16, "client_order_id": "mine"})
        _, again = await cloud.send("GET", f"/v1/orders/{ask['order_id']}")
        assert ask["display"] == again["display"] == 16
        status, found = await cloud.send("POST", "/v1/asks", ASK | {"client_order_id": "mine"})
        assert (status, found["error"]["code"]) == (409, "client_order_id_reused")
        assert (await cloud.send("POST", "/v1/asks", ASK))[1]["display"] == 0
        status, found = await cloud.send("POST", "/v1/asks", ASK | {"display": 65})
        assert (status, found["error"]["code"]) == (422, "display_out_of_range")
        shown = {"price": "2.50", "quantity": 16 + 64, "orders": 2}
        async with asyncio.timeout(5):
            while (await cloud.send("GET", f"/v1/book/{CLASS}?start=now%2B1h"))[1]["asks"] != [shown]:  # noqa: ASYNC110 - books come by asking
                await asyncio.sleep(0.01)


async def test_a_halt_a_retired_class_and_a_kill_switch_refuse_with_their_own_status(exchange: Venue) -> None:
    async with caller(exchange, "developer") as developer:
        _, me = await developer.send("GET", "/v1/accounts/me")
        account = parse_account_id(me["account_id"])
        _, bid = await developer.send("POST", "/v1/bids", BID)
        path = f"/v1/orders/{bid['order_id']}"

        async def refused(method: str, path: str, body: Any = None) -> tuple[int, str]:
            status, found = await developer.send(method, path, body)
            return status, found["error"]["code"]

        await append(exchange, Halt(CLASS, HaltMode.FULL))
        assert await refused("POST", "/v1/bids", BID) == (409, "halted")
        assert await refused("DELETE", path) == (409, "halted")
        assert (await developer.send("GET", path))[1]["status"] == "open"
        await append(exchange, Halt(CLASS, HaltMode.NONE))
        await append(exchange, Kill(account, True))
        assert await refused("POST", "/v1/bids", BID) == (403, "killed")
        _, killed = await developer.send("GET", path)
        assert (killed["status"], killed["reason"], killed["left"]) == ("cancelled", "killed", 8)
        await append(exchange, Kill(account, False))
        await append(exchange, RetireClass(CLASS))
        assert await refused("POST", "/v1/bids", BID) == (404, "class_retired")
        assert (await developer.send("GET", "/v1/balance"))[1]["cash"] == "1000000.00"


async def test_who_follows_a_bid_is_woken_when_it_is_amended_and_a_cancel_counts_by_its_new_terms(
    exchange: Venue,
) -> None:
    async with caller(exchange, "developer") as developer:
        (account,) = [each for each in await exchange.store.accounts(after=0, limit=10) if each.name == "developer"]
        _, bid = await developer.send("POST", "/v1/bids", BID | {"start": "now+1h"})
        path = f"/v1/orders/{bid['order_id']}"
        wanted = msgspec.convert(BID | {"quantity": 12, "start": "now+1h"}, NewBid)
        terms = bid_command(wanted, account, "amend", exchange.log.now(), 1)
        following = asyncio.create_task(developer.send("GET", f"{path}?filled=0&wait_s=30"))
        await asyncio.sleep(0.2)
        await append(exchange, Amend(parse_order_id(bid["order_id"]), terms))
        _, changed = await asyncio.wait_for(following, 5)
        assert (changed["status"], changed["left"], changed["held"]) == ("open", 12, "748.80")
        _, ended = await developer.send("DELETE", path)
        assert (ended["status"], ended["filled"], ended["left"]) == ("cancelled", 0, 12)


async def test_keys_are_given_and_taken_within_their_holder_s_rights(exchange: Venue) -> None:
    async with caller(exchange, "developer", "read", "trade") as developer, aiohttp.ClientSession() as http:
        status, key = await developer.send("POST", "/v1/accounts/me/keys", {"scopes": ["read"], "label": "ci"})
        assert (status, key["key"][:10], key["scopes"]) == (201, key["prefix"], ["read"])
        reader = Caller(http, exchange.url, key["key"])
        assert (await reader.send("GET", "/v1/balance"))[0] == 200
        status, found = await reader.send("POST", "/v1/bids", BID)
        assert (status, found["error"]["code"]) == (403, "missing_scope")
        assert "trade" in found["error"]["message"]
        for scopes in (["trade"], ["admin"]):
            assert (await reader.send("POST", "/v1/accounts/me/keys", {"scopes": scopes}))[0] == 403
        _, listed = await reader.send("GET", "/v1/accounts/me/keys")
        assert "key" not in listed["items"][0]
        (stronger,) = [each["key_id"] for each in listed["items"] if each["label"] == "first"]
        assert (await reader.send("DELETE", f"/v1/accounts/me/keys/{stronger}"))[0] == 403
        assert (await reader.send("GET", "/v1/accounts/acc_1/keys"))[0] == 404
        assert (await developer.send("DELETE", f"/v1/accounts/me/keys/{key['key_id']}"))[0] == 204
        assert (await reader.send("GET", "/v1/balance"))[0] == 401


async def test_a_deposit_counts_once_by_its_reference(exchange: Venue) -> None:
    async with caller(exchange, "developer", money="") as developer, aiohttp.ClientSession() as http:
        _, me = await developer.send("GET", "/v1/accounts/me")
        admin = Caller(http, exchange.url, exchange.key)
        body = {"account_id": me["account_id"], "amount": "12.5", "reference": "wire-1"}
        for _ in range(2):
            assert (await admin.send("POST", "/v1/deposits", body))[0] == 201
        for change, status, code in (
            ({"amount": "13"}, 409, "reference_reused"),
            ({"amount": "0", "reference": "wire-2"}, 422, "amount_out_of_range"),
            ({"account_id": "acc_zzz"}, 404, "unknown_account"),
        ):
            answer, found = await admin.send("POST", "/v1/deposits", body | change)
            assert (answer, found["error"]["code"]) == (status, code)
        assert (await developer.send("GET", "/v1/balance"))[1]["cash"] == "12.50"


async def test_lists_come_in_parts_without_gaps_or_repeats(exchange: Venue) -> None:
    async with caller(exchange, "cloud") as cloud:
        placed = [(await cloud.send("POST", "/v1/asks", ASK))[1]["order_id"] for _ in range(5)]
        seen: list[str] = []
        query = "limit=2"
        for _ in range(3):
            _, page = await cloud.send("GET", f"/v1/orders?{query}")
            seen += [order["order_id"] for order in page["items"]]
            query = f"limit=2&after={page['next']}"
        assert page["next"] is None
        assert seen == placed[::-1]
        _, none = await cloud.send("GET", "/v1/orders?status=filled")
        assert none == {"items": [], "next": None}
        for query in ("limit=0", "limit=501", "limit=x", "status=nonsense", "after=nonsense"):
            status, found = await cloud.send("GET", f"/v1/orders?{query}")
            assert (status, found["error"]["code"], found["error"]["field"]) == (400, "invalid", query.split("=")[0])


async def test_an_order_is_answered_before_the_engine_of_this_process_has_appended(
    embedded_log: EmbeddedLog, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = CollectorRegistry()
    engine = EngineService(embedded_log, 0, metrics=EngineMetrics(registry), idle_tick_s=60)
    async with (
        running([engine, SettlementService(embedded_log, store)]),
        processes.serving(embedded_log, store, Vault([new_vault_secret()]), "127.0.0.1", 0, registry, [engine]) as url,
        Client(url, await admin_key(store, embedded_log)) as admin,
    ):
        await admin.create_class(CLASS, accelerator="H100", memory_gb=80, form_factor="SXM")
        seller = await admin.create_account("seller", scopes=("read", "supply"))
        assert seller.key is not None
        async with Client(url, seller.key) as supplier:
            assert await store.wait_applied(0, engine.engine.position, 10)
            monkeypatch.setattr(service, "LINGER_S", 60)
            end = await embedded_log.end(topics.EXECUTIONS, 0)
            ask = await supplier.ask(CLASS, 64, "2.50", end="now+720h")
            assert ask.status == "open"
            assert await embedded_log.end(topics.EXECUTIONS, 0) == end


async def test_who_asks_how_it_is_while_the_ledger_is_added_up_gets_the_last_figures(
    exchange: Venue, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "TOTALS_EVERY_S", 0)
    monkeypatch.setattr(routes, "TOTALS_SHARE", 0)
    connection = await asyncpg.connect(dsn)
    async with Client(exchange.url) as anyone:
        await anyone.status()
        async with connection.transaction():
            await connection.execute("LOCK TABLE entries IN ACCESS EXCLUSIVE MODE")
            adding_up = asyncio.ensure_future(anyone.status())
            await asyncio.sleep(0.2)
            assert (await asyncio.wait_for(anyone.status(), 5)).imbalance_microusd == 0
            assert not adding_up.done()
        assert (await adding_up).imbalance_microusd == 0
    await connection.close()
