"""The stream as clients have it: over a real WebSocket, with the whole exchange behind it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import asyncpg
import pytest

from gateways.api import channels
from gateways.api import socket as socket_module
from gateways.api import stream as stream_module
from gateways.api.server import MAX_MESSAGE_BYTES
from gateways.api.socket import Bounds
from gateways.client import Exchange, ExchangeError
from gateways.client.stream import Message
from schemas.ids import parse_account_id
from settlement import tables
from settlement.database import LOCK_LEASE_READERS
from tests.integration.conftest import CLASS, Venue, serving

WAIT_S = 10.0


class Wire:
    """A bare client: says JSON, hears JSON."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, **op: Any) -> None:
        await self.socket.send_json(op)

    async def hear(self, wanted: Callable[[dict[str, Any]], bool] = lambda message: True) -> dict[str, Any]:
        """The next message that is wanted."""
        async with asyncio.timeout(WAIT_S):
            while True:
                message: dict[str, Any] = json.loads(await self.socket.receive_str())
                if wanted(message):
                    return message

    async def end(self) -> int | None:
        """The code with which the exchange ends it."""
        async with asyncio.timeout(WAIT_S):
            while (await self.socket.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
        return self.socket.close_code


@contextlib.asynccontextmanager
async def wire(url: str, key: str = "") -> AsyncIterator[Wire]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{url}/v1/stream", headers=headers) as socket:
        yield Wire(socket)


async def sell(cloud: Exchange, price: str, quantity: int = 8, **terms: Any) -> str:
    ask = await cloud.ask(CLASS, quantity, price, end="now+90d", **terms)
    assert ask.order_id is not None
    return ask.order_id


async def until(messages: AsyncIterator[Any], wanted: Callable[[Any], bool]) -> Any:
    async with asyncio.timeout(WAIT_S):
        async for message in messages:
            if wanted(message):
                return message
    raise AssertionError("the stream ended")


async def test_depth_follows_the_book_of_each_window(exchange: Venue) -> None:
    async with exchange.trader("cloud") as cloud, exchange.trader("dev") as dev:
        await sell(cloud, "2.50")
        depth = dev.depth(CLASS, "7d")
        first = await until(depth, lambda book: bool(book.asks))
        assert [(level.price, level.quantity, level.orders) for level in first.asks] == [("2.50", 8, 1)]
        await cloud.ask(CLASS, 4, "2.10", end="now+2d")  # too short for the window
        await sell(cloud, "2.40", 2)
        await dev.bid(CLASS, 3, "1.50", duration="1h", min_fill=3, starts=["now+1h"])
        now = await until(depth, lambda book: bool(book.bids) and len(book.asks) == 2)
        assert [(level.price, level.quantity) for level in now.asks] == [("2.40", 2), ("2.50", 8)]
        assert [(level.price, level.quantity) for level in now.bids] == [("1.50", 3)]
        await cloud.cancel_all()
        assert (await until(depth, lambda book: not book.asks)).window == "7d"


async def test_fills_candles_and_tickers_tell_what_trades(exchange: Venue) -> None:
    async with exchange.trader("cloud") as cloud, exchange.trader("dev") as dev:
        fills, candles = dev.watch("fills", CLASS), dev.watch("candles", CLASS, interval="1d")
        ticker = dev.watch("ticker", CLASS)
        assert (await anext(fills)).body["fills"] == (await anext(candles)).body["candles"] == []
        assert (await anext(ticker)).body["last"] is None
        await sell(cloud, "2.50")
        for gpus in (2, 3):
            await dev.buy(CLASS, gpus=gpus, hours=10, max_price="2.60")
        for number, gpus in ((1, 2), (2, 3)):
            message = await asyncio.wait_for(anext(fills), WAIT_S)
            assert (message.type, message.number, message.body["fill"]["quantity"]) == ("change", number, gpus)
            assert message.body["fill"]["price"] == "2.50"
        told = await until(candles, lambda message: message.body["candles"][-1]["fills"] == 2)
        assert told.body["candles"][-1] | {"start": ""} == {
            "start": "", "open": "2.50", "high": "2.50", "low": "2.50", "close": "2.50",
            "fills": 2, "gpu_hours": "50.00", "value": "125.00",
        }  # fmt: skip
        quote = await until(ticker, lambda message: (message.body["day"] or {}).get("fills") == 2)
        assert (quote.body["last"], quote.body["day"]["gpu_hours"]) == ("2.50", "50.00")
        (asked,) = await dev.candles(CLASS, "1d")
        assert (asked.fills, asked.value) == (2, "125.00")
        assert {quoted.class_id: quoted.last for quoted in await dev.tickers()} == {CLASS: "2.50"}


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[aiohttp.ClientWebSocketResponse]:
    """All that the client opens, to be lost."""
    opened: list[aiohttp.ClientWebSocketResponse] = []
    connect = aiohttp.ClientSession.ws_connect

    def kept(*args: Any, **kwargs: Any) -> Any:
        class Opening:
            async def __aenter__(self) -> Any:
                self.connection = await connect(*args, **kwargs)
                opened.append(self.connection)
                return self.connection

            async def __aexit__(self, *error: object) -> None:
                await self.connection.close()

        return Opening()

    monkeypatch.setattr(aiohttp.ClientSession, "ws_connect", kept)
    return opened


async def test_a_lost_connection_goes_on_where_it_was(
    exchange: Venue, connections: list[aiohttp.ClientWebSocketResponse]
) -> None:
    async with exchange.trader("cloud") as cloud, exchange.trader("dev") as dev:
        await sell(cloud, "2.50", 64)
        fills, depth = dev.watch("fills", CLASS), dev.watch("depth", CLASS, window="1h")
        seen: list[Message] = [await anext(fills)]
        book: list[Message] = [await anext(depth)]
        for gpus in range(1, 5):
            await dev.buy(CLASS, gpus=gpus, hours=1, max_price="2.60", now_only=True)
            if gpus == 2:
                for connection in connections[:]:
                    await connection.close()
            seen.append(await asyncio.wait_for(anext(fills), WAIT_S))
            book.append(await asyncio.wait_for(anext(depth), WAIT_S))
    assert [(message.type, message.number) for message in seen[1:]] == [("change", number) for number in range(1, 5)]
    assert [message.type for message in book] == ["whole", *["change"] * 4]
    assert [message.number - book[0].number for message in book] == list(range(5))
    assert len(connections) == 4


async def test_an_account_hears_what_becomes_of_its_orders_and_nobody_else_does(exchange: Venue) -> None:
    async with exchange.trader("cloud") as cloud, exchange.trader("dev") as dev:
        standing = await dev.bid(CLASS, 2, "1.00", duration="1h", min_fill=1, starts=["now+1h"])
        mine, theirs = dev.watch("orders"), cloud.watch("orders")
        assert [order["order_id"] for order in (await anext(mine)).body["orders"]] == [standing.order_id]
        assert (await anext(theirs)).body["orders"] == []
        ask_id = await sell(cloud, "2.50", 4)
        order = await dev.buy(CLASS, gpus=4, hours=2, max_price="2.60")
        assert standing.order_id is not None
        await dev.cancel(standing.order_id)
        events = [(await asyncio.wait_for(anext(mine), WAIT_S)).body for _ in range(4)]
        assert [(event["event"], event["order_id"]) for event in events] == [
            ("accepted", order.order_id),
            ("fill", order.order_id),
            ("filled", order.order_id),
            ("cancelled", standing.order_id),
        ]
        sold = [(await asyncio.wait_for(anext(theirs), WAIT_S)).body for _ in range(2)]
        assert [(event["event"], event["order_id"]) for event in sold] == [("accepted", ask_id), ("fill", ask_id)]
        assert sold[1]["lease_id"] == events[1]["lease_id"]


SECRET = "ssh root@203.0.113.7"


async def told(client: Wire, count: int) -> list[dict[str, Any]]:
    """The next messages of a channel."""
    return [await client.hear(lambda message: message["type"] in ("whole", "change")) for _ in range(count)]


async def test_both_sides_of_a_lease_hear_what_becomes_of_it_and_nobody_else_does(exchange: Venue) -> None:
    keys = {name: await exchange.key_of(name, "read", "trade", "supply", money="1000") for name in ("cloud", "dev")}
    keys["other"] = await exchange.key_of("other", "read")
    async with contextlib.AsyncExitStack() as stack:
        wires = {name: await stack.enter_async_context(wire(exchange.url, key)) for name, key in keys.items()}
        cloud, dev = [await stack.enter_async_context(Exchange(exchange.url, keys[name])) for name in ("cloud", "dev")]
        for client in wires.values():
            await client.say(op="subscribe", channel="leases")
            (whole,) = await told(client, 1)
            assert (whole["type"], whole["number"], whole["leases"]) == ("whole", 0, [])
        ask = await cloud.ask(CLASS, 8, "2.50", end="now+90d")
        await dev.buy(CLASS, gpus=4, hours=24, max_price="2.60")
        (lease,) = await dev.leases()
        await cloud.deliver(lease.lease_id, SECRET)
        await dev.accept(lease.lease_id)
        await cloud.degrade(lease.lease_id, 1, "one fell off the bus")
        await cloud.restore(lease.lease_id)
        await dev.end(lease.lease_id)
        steps = ["delivered", "active", "degraded", "active", "ended"]
        heard = {name: await told(wires[name], 6) for name in ("cloud", "dev")}
        assert [change["event"] for change in heard["cloud"]] == ["sold", *steps]
        assert [change["event"] for change in heard["dev"]] == ["bought", *steps]
        for changes in heard.values():
            assert [change["number"] for change in changes] == list(range(1, 7))
            assert [change["state"] for change in changes] == ["pending_delivery", *steps]
            assert {change["lease_id"] for change in changes} == {lease.lease_id}
        assert {change["role"] for change in heard["cloud"]} == {"supplier"}
        assert {change["order_id"] for change in heard["cloud"]} == {ask.order_id}
        assert {change["order_id"] for change in heard["dev"]} == {lease.order_id}
        async with wire(exchange.url, keys["dev"]) as late:
            await late.say(op="subscribe", channel="leases")
            (whole,) = await told(late, 1)
        assert (whole["number"], [known["state"] for known in whole["leases"]]) == (6, ["ended"])
        assert [known["connection"] for known in whole["leases"]] == [None]
        assert SECRET not in json.dumps([heard, whole])
        await wires["other"].say(op="unsubscribe", channel="leases")
        assert (await wires["other"].hear())["type"] == "unsubscribed"


async def test_leases_go_on_at_another_gateway_and_after_a_restart_as_far_as_they_are_kept(
    exchange: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MAX_LEASE_STEPS", 4)
    key = await exchange.key_of("dev", "read", "trade", money="1000")

    async def reads(url: str, count: int, **place: Any) -> list[dict[str, Any]]:
        async with wire(url, key) as client:
            await client.say(op="subscribe", channel="leases", **place)
            return await told(client, count)

    async with exchange.trader("cloud") as cloud, Exchange(exchange.url, key) as dev:
        (first,) = await reads(exchange.url, 1)
        await sell(cloud, "2.50", 64)
        for gpus in range(1, 5):
            await dev.buy(CLASS, gpus=gpus, hours=1, max_price="2.60", now_only=True)
        assert len(await dev.leases()) == 4
        place = {"after": first["number"], "stream": first["stream"]}
        for _ in range(2):  # and once more: each is a gateway that has just started
            async with serving(exchange.log, exchange.store) as elsewhere:
                changes = await reads(elsewhere, 4, **place)
                assert [(change["number"], change["quantity"]) for change in changes] == [(n, n) for n in range(1, 5)]
        await dev.buy(CLASS, gpus=5, hours=1, max_price="2.60", now_only=True)
        assert len(await dev.leases()) == 5
        async with serving(exchange.log, exchange.store) as elsewhere:
            (whole,) = await reads(elsewhere, 1, **place)  # the first step is not kept
            assert (whole["type"], whole["number"], len(whole["leases"])) == ("whole", 5, 5)
            (last,) = await reads(elsewhere, 1, after=4, stream=first["stream"])
            assert (last["type"], last["number"], last["quantity"]) == ("change", 5, 5)
            (whole,) = await reads(elsewhere, 1, after=4, stream="another run")
            assert whole["type"] == "whole"


async def test_who_begins_to_read_leases_waits_for_the_batch_that_does_not_know_it(exchange: Venue, dsn: str) -> None:
    account = await exchange.admin.create_account("dev", scopes=["read"])
    number = parse_account_id(account.account_id)
    batch = await asyncpg.connect(dsn)
    async with batch.transaction():
        assert await batch.fetch("SELECT * FROM watched($1)", LOCK_LEASE_READERS) == []
        beginning = asyncio.create_task(exchange.store.reads_leases(number))
        done, _ = await asyncio.wait([beginning], timeout=0.3)
        assert not done
    run, last = await asyncio.wait_for(beginning, WAIT_S)
    assert last == 0
    assert await exchange.store.reads_leases(number) == (run, 0)
    await batch.close()


async def test_the_client_follows_its_leases_over_lost_connections(
    exchange: Venue, connections: list[aiohttp.ClientWebSocketResponse]
) -> None:
    async with exchange.trader("cloud") as cloud, exchange.trader("dev") as dev:
        await sell(cloud, "2.50")
        await dev.buy(CLASS, gpus=2, hours=24, max_price="2.60")
        (lease,) = await dev.leases()
        changes = dev.lease_changes()
        heard = [await asyncio.wait_for(anext(changes), WAIT_S)]
        await cloud.deliver(lease.lease_id, SECRET)
        heard.append(await asyncio.wait_for(anext(changes), WAIT_S))
        await connections[0].close()
        await dev.accept(lease.lease_id)
        await dev.end(lease.lease_id)
        heard += [await asyncio.wait_for(anext(changes), WAIT_S) for _ in range(2)]
    assert len(connections) == 2
    assert [(change.event, change.state) for change in heard] == [
        ("", "pending_delivery"), ("delivered", "delivered"), ("active", "active"), ("ended", "ended"),
    ]  # fmt: skip
    assert {(change.lease_id, change.role, change.class_id) for change in heard} == {(lease.lease_id, "buyer", CLASS)}


async def test_a_book_that_is_not_the_exchange_s_is_read_anew(
    exchange: Venue, connections: list[aiohttp.ClientWebSocketResponse], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with exchange.trader("cloud") as cloud, exchange.trader("dev") as dev:
        await sell(cloud, "2.50")
        depth = dev.depth(CLASS)
        await until(depth, lambda book: len(book.asks) == 1)
        checksum, wrong = channels.checksum, []

        def wrong_once(asks: Any, bids: Any) -> int:
            wrong.append(asks)
            return checksum(asks, bids) ^ (len(wrong) == 1)

        monkeypatch.setattr(channels, "checksum", wrong_once)
        await sell(cloud, "2.60")
        book = await until(depth, lambda book: len(book.asks) == 2)
        assert [level.price for level in book.asks] == ["2.50", "2.60"]
    assert len(connections) == 2


async def test_fills_and_books_go_on_after_the_gateway_has_started_anew(exchange: Venue) -> None:
    async with exchange.trader("cloud") as cloud, exchange.trader("dev") as dev:
        await sell(cloud, "2.50", 64)
        fills, book = {"number": 0, "stream": ""}, {"number": 7, "stream": "another run"}
        seen: list[int] = []
        for _ in range(2):
            for _ in range(3):
                await dev.buy(CLASS, gpus=1, hours=1, max_price="2.60", now_only=True)
            async with serving(exchange.log, exchange.store) as url, wire(url) as client:
                named = {"class": CLASS, "after": fills["number"], "stream": fills["stream"]}
                await client.say(op="subscribe", channel="fills", **named)
                messages = await told(client, 3)
                seen += [message["fill"]["number"] for message in messages]
                fills = messages[-1]
                named = {"class": CLASS, "after": book["number"], "stream": book["stream"]}
                await client.say(op="subscribe", channel="depth", **named)
                (book,) = await told(client, 1)
                assert book["type"] == "whole"  # the numbers of a run that is over say nothing
        assert seen == [1, 2, 3, 4, 5, 6]


async def test_an_order_can_be_placed_over_the_same_connection(exchange: Venue) -> None:
    key = await exchange.key_of("dev", "read", "trade", money="1000")
    async with wire(exchange.url) as client:
        body = {"class": CLASS, "quantity": 1, "price": "1.00", "duration": "1h", "starts": ["now+1h"], "min_fill": 1}
        await client.say(op="request", id="first", method="POST", path="/v1/bids", body=body)
        denied = await client.hear()
        assert (denied["type"], denied["id"], denied["status"]) == ("response", "first", 401)
        await client.say(op="auth", id=2, key=key)
        assert await client.hear() == {"type": "ok", "id": 2}
        await client.say(op="request", id="third", method="POST", path="/v1/bids", body=body)
        placed = await client.hear()
        assert (placed["id"], placed["status"], placed["body"]["status"]) == ("third", 201, "open")
        await client.say(op="request", id=4, path="/v1/orders", query={"status": "open"})
        listed = await client.hear()
        assert [order["order_id"] for order in listed["body"]["items"]] == [placed["body"]["order_id"]]
        await client.say(op="request", id=5, method="DELETE", path="/v1/accounts/me/keys/99999")
        assert (await client.hear())["body"]["error"]["code"] == "not_found"
        await client.say(op="request", id=6, path="/metrics")
        assert (await client.hear())["status"] == 400
        await client.say(op="request", id=7, path="/v1/invoices/2026-11/csv")
        table = await client.hear()
        assert table["status"] == 200
        assert table["body"].startswith("invoice_id,")


@pytest.mark.parametrize(
    ("said", "code", "field"),
    [
        ("{", "invalid", ""),
        ('{"op": "dance"}', "invalid", "op"),
        ('{"op": "subscribe", "channel": "gossip"}', "invalid", "channel"),
        ('{"op": "subscribe", "channel": "depth", "class": "NO-SUCH-GPU"}', "unknown_class", "class"),
        (f'{{"op": "subscribe", "channel": "depth", "class": "{CLASS}", "window": "9d"}}', "invalid", "window"),
        (f'{{"op": "subscribe", "channel": "candles", "class": "{CLASS}", "interval": "2m"}}', "invalid", "interval"),
        ('{"op": "subscribe", "channel": "heartbeats", "class": "A"}', "invalid", "class"),
        ('{"op": "subscribe", "channel": "orders"}', "unauthorized", ""),
        ('{"op": "subscribe", "channel": "leases"}', "unauthorized", ""),
        (f'{{"op": "subscribe", "channel": "fills", "class": "{CLASS}", "after": 7}}', "gone", "after"),
        (f'{{"op": "unsubscribe", "channel": "fills", "class": "{CLASS}"}}', "invalid", "channel"),
        ('{"op": "auth", "key": "cx_no"}', "unauthorized", ""),
        ('{"op": "auth", "key": "cx_ü"}', "unauthorized", ""),
        ('{"op": "subscribe", "channel": 5}', "invalid", "channel"),
        ('{"op": "subscribe", "chanel": "depth"}', "invalid", "chanel"),
    ],
)
async def test_what_is_not_understood_is_said_and_the_connection_goes_on(
    exchange: Venue, said: str, code: str, field: str
) -> None:
    async with wire(exchange.url) as client:
        await client.socket.send_str(said)
        told = await client.hear()
        assert (told["type"], told["error"]["code"], told["error"]["field"]) == ("error", code, field)
        assert told["error"]["message"]
        await client.say(op="subscribe", id=1, channel="heartbeats")
        assert await client.hear() == {"type": "subscribed", "id": 1}
        assert (await client.hear())["channel"] == "heartbeats"


async def test_a_message_has_a_megabyte_at_most(exchange: Venue) -> None:
    longest = json.dumps({"op": "unsubscribe", "id": 1, "channel": "ticker", "class": "A" * MAX_MESSAGE_BYTES})
    longest = longest.replace("A" * (len(longest) - MAX_MESSAGE_BYTES), "", 1)
    async with wire(exchange.url) as client:
        await client.socket.send_str(longest)
        assert (await client.hear())["type"] == "error", "it is read: there is no such class"
        await client.socket.send_str(longest + " ")
        assert await client.end() == 1009


async def test_a_channel_is_read_once_and_left_once(exchange: Venue) -> None:
    async with wire(exchange.url) as client:
        await client.say(op="subscribe", channel="depth", **{"class": CLASS})
        await client.say(op="subscribe", id=2, channel="depth", **{"class": CLASS, "window": "24h"})
        assert "already" in (await client.hear(lambda told: told["type"] == "error"))["error"]["message"]
        await client.say(op="unsubscribe", id=3, channel="depth", **{"class": CLASS})
        assert await client.hear() == {"type": "unsubscribed", "id": 3}
        async with exchange.trader("cloud") as cloud:
            await sell(cloud, "2.50")
        await client.say(op="subscribe", id=4, channel="depth", **{"class": CLASS})
        assert (await client.hear())["type"] == "subscribed"
        assert (await client.hear(lambda told: told["asks"] != []))["asks"] == [["2.50", 8, 1]]


@pytest.fixture
def keys_are_checked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_module, "CHECK_KEYS_S", 0.05)


async def test_a_revoked_key_ends_the_connection(keys_are_checked_often: None, exchange: Venue) -> None:
    account = await exchange.admin.create_account("dev", scopes=["read"])
    (known,) = await exchange.admin.keys(account_id=account.account_id)
    assert account.key is not None
    async with wire(exchange.url, account.key) as client:
        assert (await client.hear())["type"] == "ok"
        await asyncio.sleep(0.2)  # still there
        await exchange.admin.revoke_key(known.key_id, account_id=account.account_id)
        assert await client.end() == socket_module.NOT_YOURS
    with pytest.raises(ExchangeError, match="unknown or revoked"):
        async with Exchange(exchange.url, account.key) as cx:
            await anext(cx.watch("orders"))


async def test_a_key_that_may_not_read_says_nobody(exchange: Venue) -> None:
    key = await exchange.key_of("meter", "meter")
    async with wire(exchange.url) as client:
        await client.say(op="auth", key=key)
        assert (await client.hear())["error"]["code"] == "missing_scope"
        await client.say(op="subscribe", channel="orders")
        assert (await client.hear())["error"]["code"] == "unauthorized"


async def test_who_says_too_much_is_cut_off(exchange: Venue) -> None:
    async with wire(exchange.url) as client:
        for _ in range(socket_module.OPS_AT_ONCE + 50):
            await client.socket.send_str("{}")
        assert await client.end() == socket_module.TOO_MUCH


async def test_one_connection_too_many_is_told_to_come_later(exchange: Venue) -> None:
    async with serving(exchange.log, exchange.store, streams=Bounds(all=1)) as url:
        async with wire(url) as first:
            await first.say(op="subscribe", channel="heartbeats")
            await first.hear()
            async with wire(url) as second:
                assert await second.end() == socket_module.BUSY
        async with wire(url) as third:
            await third.say(op="subscribe", channel="heartbeats")
            assert (await third.hear())["type"] == "subscribed"


async def test_an_open_connection_is_no_request_under_way(exchange: Venue) -> None:
    async with wire(exchange.url) as first, wire(exchange.url) as second:
        for client in (first, second):
            await client.say(op="subscribe", channel="heartbeats")
            await client.hear()
        async with aiohttp.ClientSession() as http, http.get(f"{exchange.url}/metrics") as answer:
            figures = (await answer.text()).splitlines()
    assert "stream_connections 2.0" in figures
    assert "api_in_flight 1.0" in figures  # this very one


async def test_neither_an_account_nor_an_address_takes_all_connections(exchange: Venue) -> None:
    keys = [await exchange.key_of(name, "read") for name in ("dev", "cloud")]
    async with serving(exchange.log, exchange.store, streams=Bounds(all=10, each=2)) as url:
        async with wire(url, keys[0]) as first, wire(url) as second:
            await second.say(op="auth", key=keys[0])
            for client in (first, second):
                assert (await client.hear())["type"] == "ok"
            async with wire(url) as third:
                await third.say(op="auth", key=keys[0])
                assert "2 streams are open already this account's" in (await third.hear())["error"]["message"]
                assert await third.end() == socket_module.BUSY
            async with wire(url, keys[1]) as other, wire(url) as anybody, wire(url) as anybody_else:
                assert (await other.hear())["type"] == "ok"
                for client in (anybody, anybody_else):
                    await client.say(op="subscribe", channel="heartbeats")
                    assert (await client.hear())["type"] == "subscribed"
                async with wire(url) as one_more:
                    assert await one_more.end() == socket_module.BUSY
        async with wire(url, keys[0]) as again:
            assert (await again.hear())["type"] == "ok"


async def test_heartbeats_come_with_the_clock_and_the_place_in_the_log(
    exchange: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "HEARTBEAT_S", 0.02)
    async with exchange.trader("dev") as dev:
        beats = dev.watch("heartbeats")
        numbers = [(await asyncio.wait_for(anext(beats), WAIT_S)).number for _ in range(4)]
        assert numbers == list(range(numbers[0], numbers[0] + 4))
