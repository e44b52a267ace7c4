"""Who may pass which door, taken from the table of routes itself; what the API says of itself; its bounds."""

import asyncio
import re
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import pytest
import uvicorn
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from prometheus_client import CollectorRegistry
from yarl import URL

from gateways.api.app import MAX_BODY_BYTES, MAX_IN_FLIGHT, Exchange, create_app
from gateways.api.http import MAX_DIRECT_BYTES
from gateways.api.server import serve
from gateways.api.vault import Vault, new_vault_secret
from gateways.market_data.replica import Replica
from gateways.market_data.tape import Tape
from matching_engine import checks
from schemas.store import Scope, StoreError
from tests.integration.conftest import CLASS, Venue, running

PUBLIC = {
    "/",
    "/docs",
    "/metrics",
    "/v1/book/{class_id}",
    "/v1/candles/{class_id}",
    "/v1/classes",
    "/v1/fees",
    "/v1/fills",
    "/v1/health",
    "/v1/offers/{class_id}",
    "/v1/openapi.json",
    "/v1/status",
    "/v1/suppliers",
    "/v1/suppliers/{account_id}/record",
    "/v1/tickers",
    "/web/{name}",
}
UNLISTED = {"/", "/docs", "/metrics", "/v1/openapi.json", "/web/{name}"}


def app_of(exchange: Venue) -> Litestar:
    books = Replica(exchange.log)
    registry = CollectorRegistry()
    log, tape = exchange.log, Tape(exchange.log)
    return create_app(
        Exchange(
            log=log,
            store=exchange.store,
            books=books,
            standings=books,
            tape=tape,
            vault=Vault([new_vault_secret()]),
            checks=checks,
            registry=registry,
        )
    )


def routes(app: Litestar) -> list[tuple[str, str, HTTPRouteHandler]]:
    """(method, path, handler) of each route, as callers write it."""
    return [
        (method, re.sub(r":\w+}", "}", route.path), handler)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in sorted(handler.http_methods - {"OPTIONS"})
    ]


def example(path: str) -> str:
    for name, value in (
        ("account_id", "acc_1"),
        ("class_id", "X"),
        ("key_id", "1"),
        ("order_id", "ord_1"),
        ("client_order_id", "x"),
        ("lease_id", "lse_1-0"),
        ("month", "2026-11"),
        ("name", "laptop"),
        ("webhook_id", "1"),
        ("event_id", "evt_1"),
    ):
        path = path.replace(f"{{{name}}}", value)
    return path


async def test_every_route_wants_the_key_and_the_scope_that_it_says(exchange: Venue) -> None:
    keys = {
        scope: await exchange.key_of(f"all but {scope}", *(each for each in Scope if each is not scope))
        for scope in Scope
    }
    guarded = 0
    async with aiohttp.ClientSession(exchange.url) as http:
        for method, path, handler in routes(app_of(exchange)):
            scope = handler.opt.get("scope")
            if scope is None:
                assert path in PUBLIC, f"{method} {path} has no door: say so here if it is public"
                assert method in ("GET", "HEAD")
                continue
            guarded += 1
            for authorization, status, code in (
                ("", 401, "unauthorized"),
                ("Basic cm9vdDpyb290", 401, "unauthorized"),
                (f"Bearer cx_{'0' * 64}", 401, "unauthorized"),
                (f"Bearer {keys[scope]}", 403, "missing_scope"),
            ):
                headers = {"Authorization": authorization} if authorization else {}
                async with http.request(method, example(path), json={}, headers=headers) as answer:
                    error = (await answer.json())["error"]
                    assert (answer.status, error["code"]) == (status, code), f"{method} {path}"
                    assert status == 401 or scope in error["message"]
    assert guarded >= 20


NOBODYS = {"class_id", "month", "name", "pool", "team", "tier", "user_name"}
"""Parameters of paths that name nothing of one account alone, or that each account has of its own: a month, a team."""


async def test_nobody_reaches_what_is_another_accounts(exchange: Venue) -> None:
    async with exchange.trader("owner") as owner, exchange.trader("cloud") as cloud:
        await exchange.admin.create_class("X", accelerator="NVIDIA X", memory_gb=80, form_factor="SXM")
        await cloud.sell("X", gpus=8, price="2.00", hours=48)
        bought = await owner.buy("X", gpus=4, hours=24, max_price="2.00", client_order_id="first")
        standing = await owner.buy("X", gpus=4, hours=24, max_price="1.00", client_order_id="second")
        webhook = await owner.add_webhook("https://example.com/", ["order.cancelled"])
        mine = (await owner.account()).account_id
        assert bought.fills
        lease = (await owner.lease(bought.fills[0].lease_id)).lease_id
        before = await owner.orders(), await owner.leases(), await owner.webhooks(), await owner.balance()
        stranger = await exchange.key_of("stranger", *(each for each in Scope if each is not Scope.ADMIN), money="1000")
        owned = {
            "account_id": mine,
            "client_order_id": "second",
            "event_id": "evt_1",
            "key_id": "2",
            "lease_id": lease,
            "order_id": standing.order_id,
            "reference": "none",
            "webhook_id": str(webhook.webhook_id),
        }
        document = await openapi(exchange)
        tried = 0
        async with aiohttp.ClientSession(exchange.url, headers={"Authorization": f"Bearer {stranger}"}) as http:
            for method, path, handler in routes(app_of(exchange)):
                named = set(re.findall(r"{(\w+)}", path))
                assert named <= NOBODYS | owned.keys(), f"{method} {path}: say here whose that is"
                if handler.opt.get("scope") in (None, Scope.ADMIN):
                    continue
                operation = document["paths"][path][method.lower()]
                asked = {each["name"] for each in operation["parameters"] if "name" in each} - named
                if named & owned.keys():
                    url = path.format(**{name: owned.get(name, "x") for name in named})
                    body = example_body(operation, document)
                    async with http.request(method, url, json=body) as answer:
                        error = (await answer.json())["error"]
                    assert answer.status in (403, 404), f"{method} {path}: {answer.status} {error}"
                    assert error["code"] not in ("missing_scope", "invalid") or "account" in path, f"{method} {path}"
                    tried += 1
                for name in asked & {"lease_id", "order_id"}:
                    params = {name: owned[name] or ""} | ({"by": "hour"} if "by" in asked else {})
                    async with http.get(path, params=params) as answer:
                        content = await answer.json()
                    empty = answer.status == 200 and not content["items"]
                    assert empty or answer.status == 404, f"{method} {path}?{name}: {content}"
                    tried += 1
        assert tried >= 25
        assert before == (await owner.orders(), await owner.leases(), await owner.webhooks(), await owner.balance())


async def openapi(exchange: Venue) -> Any:
    async with aiohttp.ClientSession(exchange.url) as http, http.get("/v1/openapi.json") as answer:
        return await answer.json()


def example_body(operation: Any, document: Any) -> Any:
    """One that the route's description gives: its required fields."""
    body = operation.get("requestBody")
    return None if body is None else example_value(body["content"]["application/json"]["schema"], document)


def example_value(shape: Any, document: Any) -> Any:
    if "$ref" in shape:
        return example_value(document["components"]["schemas"][shape["$ref"].rpartition("/")[2]], document)
    if "examples" in shape:
        return shape["examples"][0]
    if "anyOf" in shape:
        return example_value(shape["anyOf"][0], document)
    if "enum" in shape:
        return shape["enum"][0]
    if shape["type"] == "object":
        return {name: example_value(shape["properties"][name], document) for name in shape.get("required", [])}
    if shape["type"] == "array":
        return [example_value(shape["items"], document)]
    return {"string": "x", "integer": 1, "boolean": True}[shape["type"]]


async def test_openapi_lists_every_route_with_its_errors_and_scopes(exchange: Venue) -> None:
    document = await openapi(exchange)
    assert document["openapi"].startswith("3.1")
    listed = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    order = "get", "post", "put", "patch", "delete"
    for path, methods in document["paths"].items():
        assert [*methods] == sorted(methods, key=order.index), f"{path}: it is to be the same whenever it is made"
    app = app_of(exchange)
    assert listed == {(method, path) for method, path, _ in routes(app) if path not in UNLISTED and method != "HEAD"}
    for method, path, handler in routes(app):
        if (method, path) in listed:
            operation = document["paths"][path][method.lower()]
            assert operation["description"], f"{method} {path} does not say what it is for"
            for status in ("400", "429", "503"):
                assert operation["responses"][status] == {"$ref": f"#/components/responses/{status}"}
                shape = document["components"]["responses"][status]["content"]["application/json"]["schema"]
                assert shape == {"$ref": "#/components/schemas/ErrorAnswer"}, f"{method} {path} {status}"
            scope = handler.opt.get("scope")
            assert operation.get("security") == (None if scope is None else [{"key": [scope]}])
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', str(document).replace("'", '"')))
    assert references <= set(document["components"]["schemas"])
    bid = document["components"]["schemas"]["NewBid"]
    assert {"class", "quantity", "price", "duration", "min_fill"} == set(bid["required"])


def new_api(exchange: Venue, max_in_flight: int = MAX_IN_FLIGHT) -> Exchange:
    """A further API of the same exchange."""
    return Exchange(
        log=exchange.log,
        store=exchange.store,
        books=Replica(exchange.log),
        standings=Replica(exchange.log),
        tape=Tape(exchange.log),
        vault=Vault([new_vault_secret()]),
        checks=checks,
        registry=CollectorRegistry(),
        max_in_flight=max_in_flight,
    )


async def test_more_requests_than_the_bound_are_told_to_come_back(exchange: Venue) -> None:
    app = new_api(exchange, max_in_flight=4)
    async with running([app]), serve(create_app(app)) as server, aiohttp.ClientSession(server.url) as http:

        async def wait_for_fills() -> int:
            async with http.get("/v1/fills?wait_s=1") as answer:
                return answer.status

        waiting = [asyncio.create_task(wait_for_fills()) for _ in range(2)]
        await asyncio.sleep(0.3)
        async with http.get("/v1/health") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
            assert (await answer.json())["error"]["code"] == "busy"
        assert await asyncio.gather(*waiting) == [200, 200]
        async with http.get("/v1/health") as answer:
            assert answer.status == 200


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/orders/by-client-id/a/b"])
async def test_what_is_not_there_is_a_404_in_the_same_form(exchange: Venue, path: str) -> None:
    async with aiohttp.ClientSession(exchange.url) as http, http.get(path) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (404, "not_found")
        assert error["request_id"] == answer.headers["X-Request-Id"]


async def test_a_parameter_that_is_not_there_or_twice_is_named_and_nothing_is_done(exchange: Venue) -> None:
    await exchange.admin.sell(CLASS, gpus=1, price="9.99", hours=24)
    wrong = (("clas=X", "clas"), ("class=X&class=Y", "class"), ("%00=1", "\\x00"), ("class=X%00", "class"))
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {exchange.key}"}) as http:
        for query, field in wrong:
            async with http.delete(URL(f"{exchange.url}/v1/orders?{query}", encoded=True)) as answer:
                error = (await answer.json())["error"]
                assert (answer.status, error["code"], error["field"]) == (400, "invalid", field), query
        async with http.post(f"{exchange.url}/v1/bids?dry_run=true", json={}) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (400, "invalid")
    assert len(await exchange.admin.orders(status="open")) == 1


async def test_no_class_has_a_zero_byte_in_its_name_and_no_text_in_the_database(exchange: Venue) -> None:
    async with aiohttp.ClientSession(exchange.url, headers={"Authorization": f"Bearer {exchange.key}"}) as http:
        for path in ("/v1/orders", "/v1/leases", "/v1/fills"):
            async with http.get(path, params={"class": "\0"}) as answer:
                assert answer.status == 400, path


async def test_figures_for_prometheus(exchange: Venue) -> None:
    async with aiohttp.ClientSession(exchange.url) as http:
        await (await http.get("/v1/health")).read()
        async with http.get("/metrics") as answer:
            text = await answer.text()
    assert 'api_answers_total{method="GET",route="/v1/health",status="200"} 1.0' in text


async def test_an_order_is_not_placed_again_by_what_its_connection_becomes(exchange: Venue) -> None:
    headers = {"Authorization": f"Bearer {await exchange.key_of('reader', 'read', 'trade', money='1000')}"}
    one = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(exchange.url, headers=headers, connector=one) as http:
        body = {"class": CLASS, "quantity": 1, "price": "0.01", "duration": "1h", "min_fill": 1}
        async with http.post("/v1/bids", json=body) as answer:
            assert answer.status == 201
        async with http.ws_connect("/v1/stream") as stream:
            await stream.send_json({"op": "request", "id": 1, "method": "POST", "path": "/v1/bids", "body": body})
            assert (await stream.receive_json())["type"] == "ok"  # the key of the upgrade
            assert (await stream.receive_json())["status"] == 201
        async with http.get("/v1/bids") as answer:
            assert len((await answer.json())["items"]) == 2


@pytest.mark.parametrize(("length", "begun"), [(9, False), (MAX_DIRECT_BYTES + 1, True)])
async def test_who_hangs_up_in_the_midst_of_a_request_is_no_failure_of_the_exchange(
    exchange: Venue, capfd: pytest.CaptureFixture[str], length: int, *, begun: bool
) -> None:
    key = await exchange.key_of("hasty", "read", "trade")
    address = urlsplit(exchange.url)
    _, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"POST /v1/bids HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: {length}\r\n\r\n"
    writer.write(head.encode() + b"{")
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.close()
    async with aiohttp.ClientSession(exchange.url) as http:
        await asyncio.sleep(0.1)
        async with http.get("/metrics") as answer:
            refused = 'api_answers_total{method="POST",route="/v1/bids",status="400"} 1.0' in await answer.text()
    assert refused == begun, "a short one begins when it is whole"
    assert "a request failed" not in "".join(capfd.readouterr())


async def test_an_order_is_taken_in_every_form_that_http_has(exchange: Venue) -> None:
    key = await exchange.key_of("plain", "read", "trade")
    order = {"class": "A", "quantity": 1, "price": "1.00", "duration": "1h", "min_fill": 1}
    bid, dear = msgspec.json.encode(order), msgspec.json.encode(order | {"class": CLASS})
    head = f"POST /v1/bids HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n".encode()
    whole = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(bid), bid)
    slow = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(dear), dear)
    pieces = b"%bTransfer-Encoding: chunked\r\n\r\n927c0\r\n%b\r\n" % (head, b" " * 600_000)
    pieces += b"%x\r\n%b\r\n0\r\n\r\n" % (len(bid), bid)
    health = b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n"
    empty = head + b"Content-Length: 0\r\n\r\n"
    last = b"%bConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (head, len(bid), bid)
    address = urlsplit(exchange.url)
    answers = []
    old = whole.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Host: x", b"Connection: keep-alive")
    for requests in (slow + whole + health + empty + last, pieces + last, old):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(requests[:-20])
        await asyncio.sleep(0.05)
        writer.write(requests[-20:])
        answers += (await asyncio.wait_for(reader.read(), 20)).split(b"HTTP/1.1 ")[1:]
        writer.close()
    assert [answer[:3] for answer in answers] == [b"402", b"404", b"200", b"400", b"404", b"404", b"404", b"404"]
    assert [b"connection: close" in answer for answer in answers] == [*[False] * 4, True, False, True, True]
    assert all(answer.count(b"date: ") == 1 for answer in answers)
    assert answers[0].count(b"ratelimit-remaining: ") == answers[0].count(b"x-request-id: ") == 1


async def test_an_order_s_body_is_bounded(exchange: Venue) -> None:
    key = await exchange.key_of("long", "read", "trade")
    async with aiohttp.ClientSession(exchange.url, headers={"Authorization": f"Bearer {key}"}) as http:
        for length, expected in ((MAX_DIRECT_BYTES, 400), (MAX_DIRECT_BYTES + 1, 400), (MAX_BODY_BYTES + 1, 413)):
            async with http.post("/v1/bids", data=b" " * length) as answer:
                error = (await answer.json())["error"]
                assert (answer.status, error["code"]) == (expected, "invalid" if expected == 400 else "too_large")
        for path in ("/v1/orders/batch", "/v1/orders/cancel"):
            async with http.post(path, data=b" " * (MAX_BODY_BYTES + 1)) as answer:
                assert (answer.status, (await answer.json())["error"]["code"]) == (413, "too_large")


async def test_an_order_that_waits_when_the_server_closes_is_told_so(
    exchange: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"Authorization": f"Bearer {await exchange.key_of('patient', 'read', 'trade', money='1000')}"}
    body = {"class": CLASS, "quantity": 1, "price": "0.01", "duration": "1h", "min_fill": 1}
    app = new_api(exchange)
    async with aiohttp.ClientSession(headers=headers) as http:
        async with running([app]), serve(create_app(app)) as server:
            async with http.post(f"{server.url}/v1/bids", json=body) as answer:
                assert answer.status == 201, "from now on the key and the class are known here"
            kept: asyncio.Queue[Callable[[Exception], None]] = asyncio.Queue()
            monkeypatch.setattr(exchange.store, "place_soon", lambda _intent, *, now, told: kept.put_nowait(told))
            waiting = asyncio.create_task(http.post(f"{server.url}/v1/bids", json=body))
            tell = await kept.get()
        async with await waiting as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (503, "closing")
            assert answer.headers["Connection"] == "close"
        tell(StoreError("late"))  # nobody hears it any more


BID = msgspec.json.encode({"class": CLASS, "quantity": 1, "price": "0.01", "duration": "1h", "min_fill": 1})


def post(key: str, body: bytes) -> bytes:
    """A request for an order."""
    head = f"POST /v1/bids HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def one_answer(reader: asyncio.StreamReader) -> bytes:
    """Its head."""
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]))
    return head


async def test_a_connection_that_nobody_uses_is_closed_and_no_other(
    exchange: Venue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(uvicorn, "Config", partial(uvicorn.Config, timeout_keep_alive=1))
    key = await exchange.key_of("idle", "read", "trade", money="1000")
    app, now = new_api(exchange), asyncio.get_running_loop().time
    async with running([app]), serve(create_app(app)) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        order = post(key, BID), b"201"
        waits = b"GET /v1/fills?wait_s=2 HTTP/1.1\r\nHost: x\r\n\r\n"  # for longer than a connection may be idle
        for request, status in (order, order, (waits, b"200"), order):
            await asyncio.sleep(0.6)
            writer.write(request)
            assert (await one_answer(reader)).startswith(b"HTTP/1.1 %b " % status)
        began = now()
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert 0.9 < now() - began < 2.5
        writer.close()
    assert not [record.message for record in caplog.records if record.levelname == "ERROR"]


async def test_what_comes_with_a_refused_order_is_not_cut_off_as_idle(
    exchange: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn, "Config", partial(uvicorn.Config, timeout_keep_alive=1))
    key, app = await exchange.key_of("hasty", "read", "trade", money="1000"), new_api(exchange)
    async with running([app]), serve(create_app(app)) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(post(key, BID))
        assert (await one_answer(reader)).startswith(b"HTTP/1.1 201 "), "from now on the key is known here"
        writer.write(post(key, b"{}") + b"GET /v1/fills?wait_s=2 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await one_answer(reader)).startswith(b"HTTP/1.1 400 ")
        assert (await one_answer(reader)).startswith(b"HTTP/1.1 200 ")
        writer.close()
