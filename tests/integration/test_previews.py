"""What a bid would do is what it then does, in fills and in money; nothing is placed by asking."""

import asyncio
import os
import pty
import sys
from typing import Any

import msgspec

from gateways.cli.preview import lines
from tests.integration.conftest import CLASS, Venue
from tests.integration.test_api import caller
from tests.integration.test_cli import REFUSED, cx

BID: dict[str, Any] = {"class": CLASS, "quantity": 12, "price": "2.60", "duration": "24h", "min_fill": 2}


async def test_the_body_of_a_preview_can_be_posted_and_does_what_it_said(exchange: Venue) -> None:
    async with exchange.trader("cloud") as cloud, caller(exchange, "developer", money="1000") as developer:
        await cloud.ask(CLASS, 4, "2.40", end="now+720h", region="us-east")
        await cloud.ask(CLASS, 2, "2.50", end="now+720h", interconnect="infiniband")
        await cloud.ask(CLASS, 50, "2.70", end="now+720h")
        body = {**BID, "starts": ["now+1h", "now+2h"]}
        status, seen = await developer.send("POST", "/v1/bids/preview", body)
        assert status == 200
        assert (await developer.send("GET", "/v1/orders"))[1]["items"] == [], "nothing is placed"
        _, order = await developer.send("POST", "/v1/bids", body)
        _, balance = await developer.send("GET", "/v1/balance")
    fills = [{name: fill[name] for name in ("price", "quantity", "start", "end")} for fill in order["fills"]]
    assert [{name: fill[name] for name in ("price", "quantity", "start", "end")} for fill in seen["fills"]] == fills
    assert [(fill["region"], fill["interconnect"]) for fill in seen["fills"]] == [
        ("us-east", "none"),
        ("unspecified", "infiniband"),
    ]
    for name in ("class", "filled", "left", "status", "held"):
        assert seen[name] == order[name], name
    assert (seen["filled"], seen["left"], seen["status"], seen["until"]) == (6, 6, "open", order["starts"][-1])
    assert (seen["cost"], seen["fee"], seen["held"]) == ("350.40", "0.00", "374.40")
    assert (seen["most"], seen["needed"], seen["short"]) == ("724.80", "748.80", "0.00")
    assert (seen["why"]["suit"], seen["why"]["text"]) == (2, "3 asks: 2 that suit, 1 above your price (cheapest $2.70)")
    assert (balance["escrow"], balance["held"]) == (seen["cost"], seen["held"])


async def test_a_fee_and_missing_money_are_said_before(exchange: Venue) -> None:
    account = await exchange.admin.create_account("developer", scopes=["read", "trade"], buyer_fee_bps=200)
    await exchange.admin.deposit(account.account_id, "500", reference="first")
    async with exchange.trader("cloud") as cloud, caller(exchange, "other") as developer:
        await cloud.sell(CLASS, gpus=12, price="2.50", hours=48)
        developer.headers["Authorization"] = f"Bearer {account.key}"
        _, seen = await developer.send("POST", "/v1/bids/preview", BID)
        assert (seen["cost"], seen["fee"], seen["most"]) == ("720.00", "14.40", "734.40")
        assert (seen["needed"], seen["short"]) == ("763.776", "263.776")
        status, body = await developer.send("POST", "/v1/bids", BID)
        assert (status, "263.776" in body["error"]["message"]) == (402, True)


async def test_what_would_be_refused_is_refused_in_the_same_words(exchange: Venue) -> None:
    async with exchange.trader("cloud") as cloud, caller(exchange, "developer", "trade") as developer:
        await cloud.sell(CLASS, gpus=12, price="2.50", hours=48)
        for change in (
            {"post_only": True},
            {"price": "2.60005"},
            {"class": "nothing"},
            {"ssh_key": "laptop"},
            {"client_order_id": ""},
            {"start": "2020-01-01T00:00:00Z"},
        ):
            seen = await developer.send("POST", "/v1/bids/preview", {**BID, **change})
            done = await developer.send("POST", "/v1/bids", {**BID, **change})
            assert seen[0] == done[0] >= 400, change
            assert [seen[1]["error"][name] for name in ("code", "field")] == [
                done[1]["error"][name] for name in ("code", "field")
            ]
        status, answer = await developer.send("POST", "/v1/asks/preview", {"class": CLASS})
        assert (status, answer["error"]["code"]) == (403, "missing_scope")


async def test_an_ask_sees_the_bids_that_it_would_serve_and_its_own_that_it_would_end(exchange: Venue) -> None:
    async with exchange.trader("developer") as developer, exchange.trader("cloud") as cloud:
        await developer.buy(CLASS, gpus=4, hours=24, max_price="2.60", starts=["now+1h"])
        mine = await cloud.buy(CLASS, gpus=4, hours=24, max_price="2.55", starts=["now+1h"])
        seen = await cloud.preview_ask(CLASS, 8, "2.50", end="now+48h", self_trade="cancel_oldest")
        assert [(fill.price, fill.quantity) for fill in seen.fills] == [("2.60", 4)]
        assert (seen.cancels, seen.status, seen.left, seen.cost, seen.most) == (
            [mine.order_id],
            "open",
            8,
            "249.60",
            "0.00",
        )
        assert lines(seen)[1] == f"8 GPUs wait until {seen.until}, $0.00 held"
        assert (await cloud.order(mine.order_id or "")).status == "open"


async def test_why_a_bid_waits_is_said_with_counts_and_nearest_misses(exchange: Venue) -> None:
    async with exchange.trader("cloud") as cloud, exchange.trader("developer") as developer:
        for gpus, price, terms in (
            (8, "2.71", {"region": "us-east"}),
            (8, "2.80", {"region": "us-east"}),
            (8, "2.40", {"region": "eu-north"}),
            (4, "2.40", {"region": "us-east"}),
            (8, "2.50", {"region": "us-east", "start": "2099-01-01T00:00:00Z"}),
            (8, "2.50", {"region": "us-east", "tier": "interruptible", "notice_minutes": 5}),
            (8, "2.50", {"region": "us-east", "min_duration": "48h"}),
        ):
            end = "2099-02-01T00:00:00Z" if "start" in terms else "now+720h"
            await cloud.ask(CLASS, gpus, price, end=end, **terms)
        await developer.sell(CLASS, gpus=8, price="9.00", hours=48)
        bid: dict[str, Any] = {"duration": "24h", "min_fill": 8, "accepts": {"regions": ["us-east"]}}
        seen = await developer.preview_bid(CLASS, 8, "2.60", **bid)
        order = await developer.bid(CLASS, 8, "2.60", **bid)
        found = await developer.why(order.order_id or "")
        assert found.why is not None
        assert found.why == seen.why
        assert found.why.text == (
            "8 asks: 2 above your price (cheapest $2.71), 1 in another region (cheapest $2.40 in eu-north), "
            "1 too small (the largest has 4 GPUs), 1 free only from 2099-01-01T00:00:00Z, "
            "1 interruptible (cheapest $2.50), 1 let for longer only (from 2d on), 1 your own"
        )
        assert [(each.reason, each.count, each.price, each.nearest) for each in found.why.excluded[:2]] == [
            ("price", 2, "2.71", None),
            ("region", 1, "2.40", "eu-north"),
        ]
        raised = await developer.amend(order.order_id or "", price="2.71")
        assert raised.status == "filled", "the nearest miss was one"
        assert (await developer.why(order.order_id or "")).why is None
        env = {"CX_URL": exchange.url, "CX_KEY": exchange.key}
        code, _, err = await cx("why", order.order_id or "", env=env)
        assert (code, "there is no order" in err) == (REFUSED, True), "another account's order is not there"


async def test_why_an_ask_waits_and_what_cx_says_of_it(exchange: Venue) -> None:
    key = await exchange.key_of("cloud", "read", "supply")
    env = {"CX_URL": exchange.url, "CX_KEY": key}
    async with exchange.trader("developer") as developer:
        code, ask, _ = await cx("sell", CLASS, "4", "--price", "2.50", "--for", "48h", "--json", env=env)
        order_id = msgspec.json.decode(ask)["order_id"]
        assert (await cx("why", order_id, env=env))[:2] == (0, "there are no bids\n")
        await developer.buy(CLASS, gpus=4, hours=24, max_price="2.40")
        await developer.buy(CLASS, gpus=8, hours=24, max_price="2.60")
        await developer.buy(CLASS, gpus=4, hours=24, max_price="2.60", accepts={"regions": ["us-east"]})
        code, out, _ = await cx("why", order_id, env=env)
        assert (code, out) == (
            0,
            "3 bids: 1 for more GPUs at once than you offer (the fewest 8), 1 for other regions (highest $2.60), "
            "1 below your price (highest $2.40)\n",
        )


BUY = ("buy", CLASS, "8", "--for", "24h", "--max", "2.60")


async def test_cx_buy_says_what_comes_and_asks_nobody_who_is_not_there(exchange: Venue) -> None:
    env = {"CX_URL": exchange.url, "CX_KEY": await exchange.key_of("developer", "read", "trade", money="1000")}
    async with exchange.trader("cloud") as cloud:
        await cloud.sell(CLASS, gpus=8, price="2.50", hours=48, region="us-east")
        code, out, err = await cx(*BUY, env=env)
    first, cost, held = err.splitlines()
    assert code == 0
    assert first.startswith("8 GPUs fill now at $2.50 in us-east, ")
    assert cost == "costs $480.00 at the most"
    assert held == "$499.20 is held as it comes; what it does not cost is free again"
    assert "filled" in out


async def test_cx_buy_asks_on_a_terminal_and_places_only_what_is_agreed_to(exchange: Venue) -> None:
    key = await exchange.key_of("developer", "read", "trade", money="10000")
    env = {**os.environ, "CX_URL": exchange.url, "CX_KEY": key, "TERM": "dumb"}

    async def answered(answer: str, *words: str) -> tuple[int, str]:
        """Exit code, and what the terminal shows."""
        near, far = pty.openpty()
        buying = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateways.cli.main", *BUY, *words, stdin=far, stdout=far, stderr=far, env=env
        )
        os.close(far)
        os.write(near, answer.encode())
        code = await asyncio.wait_for(buying.wait(), 30)
        shown = os.read(near, 100_000).decode()
        os.close(near)
        return code, shown

    code, shown = await answered("n\n")
    assert (code, "place it?" in shown, "not placed" in shown) == (REFUSED, True, True)
    code, shown = await answered("y\n")
    assert (code, "place it?" in shown, "order_id" in shown) == (0, True, True)
    code, shown = await answered("", "--yes")
    assert (code, "place it?" in shown, "order_id" in shown) == (0, False, True)
    async with caller(exchange, "stranger") as developer:
        developer.headers["Authorization"] = f"Bearer {key}"
        assert len((await developer.send("GET", "/v1/orders"))[1]["items"]) == 2
