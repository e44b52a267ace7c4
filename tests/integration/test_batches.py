"""Many orders in one request: each is answered for itself, and once, as if it had come alone."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg
import pytest

from gateways.api.batches import UNDER_WAY
from gateways.client import ExchangeError
from gateways.client.types import Ask, Bid
from schemas.codec import encode
from schemas.commands import Tick
from schemas.ids import parse_account_id, parse_order_id
from schemas.store import Intent, Placed
from schemas.topics import COMMANDS
from settlement import ledger
from tests.integration.conftest import CLASS, Venue
from tests.integration.test_api import caller
from tests.integration.test_stream import wire

BID: dict[str, Any] = {
    "side": "bid",
    "class": CLASS,
    "quantity": 8,
    "price": "2.60",
    "duration": "24h",
    "min_fill": 8,
}
ASK: dict[str, Any] = {"side": "ask", "class": CLASS, "quantity": 8, "price": "2.50", "end": "now+720h"}


async def appended(exchange: Venue) -> int:
    return await exchange.log.end(COMMANDS, 0)


async def test_each_order_is_answered_for_itself_in_order(exchange: Venue) -> None:
    orders: list[dict[str, Any]] = [
        {**ASK, "client_order_id": "a"},
        {**BID, "quantity": "8"},
        {**BID, "client_order_id": "b"},
        {**BID, "price": "2.60005"},
        {**BID, "price": "99", "quantity": 64, "min_fill": 64},
        {**BID, "side": "offer"},
        {name: value for name, value in BID.items() if name != "side"},
        {**BID, "class": "nothing"},
        {**BID, "ssh_key": "laptop"},
        {**BID, "price": "2.40", "client_order_id": "c"},
    ]
    async with caller(exchange, "trader", money="2000") as trader:
        before = await appended(exchange)
        status, body = await trader.send("POST", "/v1/orders/batch", {"orders": orders}, **{"X-Request-Id": "mine"})
        assert await appended(exchange) == before + 3
    found = [
        (each["status"], each["error"] and (each["error"]["code"], each["error"]["field"])) for each in body["answers"]
    ]
    assert (status, found) == (
        200,
        [
            (201, None),
            (400, ("invalid", "quantity")),
            (201, None),
            (422, ("price_off_tick", "price")),
            (402, ("insufficient_funds", "")),
            (400, ("invalid", "side")),
            (400, ("invalid", "side")),
            (404, ("unknown_class", "class")),
            (422, ("unknown_ssh_key", "ssh_key")),
            (201, None),
        ],
    )
    assert {each["error"]["request_id"] for each in body["answers"] if each["error"]} == {"mine"}
    ask, bid, last = (each["order"] for each in body["answers"] if each["order"])
    assert [(order["side"], order["client_order_id"], order["status"]) for order in (ask, bid, last)] == [
        ("ask", "a", "open"),
        ("bid", "b", "cancelled"),  # its own ask stood in its way
        ("bid", "c", "open"),
    ]
    assert bid["reason"] == "self_trade"


async def test_an_order_is_placed_once_whether_it_comes_alone_or_among_others(exchange: Venue) -> None:
    alone = {name: value for name, value in BID.items() if name != "side"} | {"client_order_id": "first"}
    named = [{**BID, "client_order_id": name} for name in ("first", "second", "second", "third")]
    other = {**BID, "client_order_id": "third", "quantity": 9}
    async with caller(exchange, "developer") as developer:
        _, first = await developer.send("POST", "/v1/bids", alone)
        answers = await asyncio.gather(
            *(developer.send("POST", "/v1/orders/batch", {"orders": [*named, other]}) for _ in range(3))
        )
        _, orders = await developer.send("GET", "/v1/orders")
        assert len(orders["items"]) == 3
        ids = {tuple(each["order"]["order_id"] for each in body["answers"][:4]) for _, body in answers}
        assert len(ids) == 1
        assert ids.pop()[0] == first["order_id"]
        assert all(body["answers"][4]["error"]["code"] == "client_order_id_reused" for _, body in answers)
        placed = [each["replayed"] for _, body in answers for each in body["answers"][:4]]
        assert placed.count(False) == 2
        status, again = await developer.send("POST", "/v1/bids", {**alone, "client_order_id": "second"})
        assert (status, again["order_id"]) == (200, answers[0][1]["answers"][1]["order"]["order_id"])


async def test_money_is_held_for_as_many_as_there_is_money_for(exchange: Venue) -> None:
    async with exchange.trader("developer", money="1500") as cx:  # $499.20 each
        outcomes = await cx.place_many([BID] * 4)
        assert [isinstance(outcome, Bid) for outcome in outcomes] == [True, True, True, False]
        assert isinstance(outcomes[3], ExchangeError)
        assert outcomes[3].code == "insufficient_funds"
        assert (await cx.balance()).held == "1497.60"


async def test_each_side_wants_its_own_scope(exchange: Venue) -> None:
    async with caller(exchange, "cloud", "read", "supply") as cloud:
        _, body = await cloud.send("POST", "/v1/orders/batch", {"orders": [BID, ASK]})
        assert [each["status"] for each in body["answers"]] == [403, 201]
    async with caller(exchange, "auditor", "read") as auditor:
        for path, orders in (("batch", [ASK]), ("cancel", [{"client_order_id": "a"}])):
            status, body = await auditor.send("POST", f"/v1/orders/{path}", {"orders": orders})
            assert (status, body["error"]["code"]) == (403, "missing_scope")


@pytest.mark.parametrize("many", [0, 501, None])
async def test_a_batch_is_of_1_to_500_orders(exchange: Venue, many: int | None) -> None:
    async with caller(exchange, "trader") as trader:
        before = await appended(exchange)
        for path, order in (("batch", ASK), ("cancel", {"client_order_id": "a"})):
            body = {"orders": None if many is None else [order] * many}
            status, answer = await trader.send("POST", f"/v1/orders/{path}", body)
            assert (status, answer["error"]["field"]) == (400, "orders")
        assert await appended(exchange) == before


async def test_many_are_cancelled_by_id_or_name_and_each_is_answered_for_itself(exchange: Venue) -> None:
    async with exchange.trader("cloud") as cloud, exchange.trader("other") as other, caller(exchange, "x") as stranger:
        theirs = await other.sell(CLASS, gpus=1, price="9.99", hours=24)
        placed = await cloud.place_many([{**ASK, "client_order_id": f"a-{n}"} for n in range(600)])
        assert all(isinstance(each, Ask) for each in placed)
        ids = [each.order_id or "" for each in placed if isinstance(each, Ask)]
        assert ids == sorted(set(ids), key=parse_order_id), "in order"
        outcomes = await cloud.cancel_many(
            [*ids[:3], ids[0], theirs.order_id or "", "ord_zzz", "nonsense"], client_order_ids=["a-3", "b-1"]
        )
        assert [
            each.status if isinstance(each, Ask) else (each.status, each.code)
            for each in outcomes
            if isinstance(each, Ask | ExchangeError)
        ] == [
            *["cancelled"] * 4,
            (404, "unknown_order"),
            (404, "unknown_order"),
            (400, "invalid"),
            "cancelled",
            (404, "unknown_order"),
        ]
        assert {order.status for order in await cloud.orders(limit=600)} == {"open", "cancelled"}
        assert len(await cloud.orders(status="open", limit=600)) == 596
        unclear = [{"order_id": ids[5], "client_order_id": "a-5"}, {}, {"client_order_id": "a/b"}]
        _, body = await stranger.send("POST", "/v1/orders/cancel", {"orders": unclear})
        assert [each["error"]["field"] for each in body["answers"]] == ["order_id", "order_id", "client_order_id"]


async def test_many_orders_go_over_the_stream_s_connection_too(exchange: Venue) -> None:
    async with wire(exchange.url, await exchange.key_of("cloud", "read", "supply")) as client:
        assert (await client.hear())["type"] == "ok", "the key was in the header"
        await client.say(op="request", id=1, method="POST", path="/v1/orders/batch", body={"orders": [ASK, {}, ASK]})
        placed = await client.hear()
        assert (placed["status"], [each["status"] for each in placed["body"]["answers"]]) == (200, [201, 400, 201])
        names = [{"order_id": each["order"]["order_id"]} for each in placed["body"]["answers"][::2]]
        await client.say(op="request", id=2, method="POST", path="/v1/orders/cancel", body={"orders": names})
        ended = await client.hear()
        assert [each["order"]["status"] for each in ended["body"]["answers"]] == ["cancelled"] * 2


async def test_who_sends_again_may_hear_of_it_before_who_sent_first(
    exchange: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    place_soon, append, late_s = exchange.store.place_soon, exchange.log.append, iter([0.2])

    def told_late(intent: Intent, *, now: int, told: Callable[[Placed | Exception], None]) -> None:
        delay_s = next(late_s, 0)

        def later(outcome: Placed | Exception) -> None:
            asyncio.get_running_loop().call_later(delay_s, lambda: told(outcome))

        place_soon(intent, now=now, told=later)

    async def slow(*words: Any, **named: Any) -> Any:
        await asyncio.sleep(0.3)
        return await append(*words, **named)

    monkeypatch.setattr(exchange.store, "place_soon", told_late)
    monkeypatch.setattr(exchange.log, "append", slow)
    order = {**BID, "price": "0.50", "client_order_id": "mine"}
    async with exchange.trader("hasty") as hasty:
        first = asyncio.create_task(hasty.place_many([order]))
        await asyncio.sleep(0.1)
        again = await hasty.bid(CLASS, 8, "0.50", duration="24h", min_fill=8, client_order_id="mine")
        (found,) = await first
        assert not isinstance(found, ExchangeError)
        assert found.order_id == again.order_id
        assert (await hasty.bid(CLASS, 8, "0.50", duration="1h", min_fill=8)).status == "open", "it goes on"


async def test_many_of_a_batch_are_on_their_way_before_any_is_waited_for_and_while_others_come_not_all(
    exchange: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, come, all_there = exchange.log.append, 0, asyncio.Event()
    waited: list[int] = []

    async def together(topic: str, partition: int, values: Sequence[bytes]) -> Sequence[int]:
        nonlocal come
        if topic != COMMANDS or encode(Tick()) in values:
            return await append(topic, partition, values)
        come += len(values)
        waited.append(come)
        if come >= UNDER_WAY:
            asyncio.get_running_loop().call_soon(all_there.set)  # those that wait go on in order
        await all_there.wait()
        return await append(topic, partition, values)

    async with caller(exchange, "cloud") as cloud:  # not alone: it was just opened by another, so parts are small
        monkeypatch.setattr(exchange.log, "append", together)
        async with asyncio.timeout(4):
            _, body = await cloud.send("POST", "/v1/orders/batch", {"orders": [ASK] * 3 * UNDER_WAY})
        assert [each["status"] for each in body["answers"]] == [201] * 3 * UNDER_WAY
        assert UNDER_WAY in waited, "all before any is waited for, and of the others none"
        ids = [each["order"]["order_id"] for each in body["answers"]]
        assert ids == sorted(set(ids), key=parse_order_id), "in order"


async def test_orders_of_an_account_whose_cash_is_locked_hold_up_no_other_account(exchange: Venue, dsn: str) -> None:
    async with caller(exchange, "noisy") as noisy, caller(exchange, "quiet") as quiet:
        _, account = await noisy.send("GET", "/v1/accounts/me")
        blocker = await asyncpg.connect(dsn)
        async with blocker.transaction():
            cash = ledger.cash(parse_account_id(account["account_id"]))
            await blocker.fetch("SELECT FROM ledger_accounts WHERE id = $1 FOR UPDATE", cash)
            body = {name: value for name, value in BID.items() if name != "side"}
            held_up = []
            for _ in range(8):
                held_up.append(asyncio.create_task(noisy.send("POST", "/v1/bids", body)))
                await asyncio.sleep(0.02)  # so that each is the only one that is new to the writers
            async with asyncio.timeout(5):
                assert (await quiet.send("POST", "/v1/bids", body))[0] == 201
            assert not any(task.done() for task in held_up)
        assert [status for status, _ in await asyncio.gather(*held_up)] == [201] * 8
        await blocker.close()
