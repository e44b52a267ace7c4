"""Teams, users and pools over HTTP, in Python and on the command line: whose key it is, what it may spend, and does."""

import re
from typing import Any

import asyncpg
import pytest

from gateways.api.keys import MAX_SPENDERS
from gateways.client import Exchange as Client
from gateways.client import ExchangeError
from schemas.ids import parse_account_id
from schemas.units import format_time
from settlement.audit import audit
from tests.integration.conftest import CLASS, Venue
from tests.integration.test_cli import cx, cx_json

TERMS: dict[str, Any] = {"duration": "1h", "min_fill": 1}


async def key_for(cx: Client, **spender: str) -> str:
    key = (await cx.create_key(["read", "trade"], **spender)).key
    assert key is not None
    return key


async def test_an_order_over_a_cap_is_refused_with_the_figures_and_one_within_is_taken(exchange: Venue) -> None:
    async with (
        exchange.trader("lab", money="1000") as lab,
        Client(exchange.url, await key_for(lab, team="ml", user="ann@lab.example")) as ann,
    ):
        await lab.set_caps("team", "ml", day="10.00")
        order = await ann.bid(CLASS, 3, "2.00", **TERMS)
        assert (order.status, order.team, order.user, order.pool) == ("open", "ml", "ann@lab.example", None)
        assert order.order_id is not None
        with pytest.raises(ExchangeError) as refused:
            await ann.bid(CLASS, 1, "4.01", client_order_id="over", **TERMS)
        today = format_time(exchange.log.now())[:10]
        assert (refused.value.status, refused.value.code, refused.value.message) == (
            422,
            "over_cap",
            f"the order can cost 4.01, and of its cap of 10.00 for {today} the team ml has spent 0.00 and committed "
            "6.00: order for 4.00 at most, or have the cap raised",
        )
        with pytest.raises(ExchangeError, match="no order over"):
            await ann.order_named("over")
        with pytest.raises(ExchangeError) as refused:
            await ann.amend(order.order_id, price="3.50")
        assert refused.value.code == "over_cap"
        assert "the amend can cost further 4.50" in refused.value.message
        assert (await ann.bid(CLASS, 1, "4.00", **TERMS)).status == "open"
        assert (await lab.bid(CLASS, 1, "4.01", **TERMS)).team is None, "the account's own key is under no cap"
        caps = await ann.caps("team", "ml")
        assert (caps.kind, caps.name, caps.day, caps.month) == ("team", "ml", "10.00", None)
        assert (caps.spent_today, caps.spent_this_month, caps.committed) == ("0.00", "0.00", "10.00")
        assert (await ann.caps("user", "ann@lab.example")).committed == "10.00"
        await ann.cancel(order.order_id)
        assert (await ann.caps("team", "ml")).committed == "4.00"


async def test_spend_is_listed_by_team_user_and_class(exchange: Venue) -> None:
    async with exchange.trader("cloud", money="") as cloud, exchange.trader("lab", money="1000") as lab:
        await cloud.sell(CLASS, gpus=16, price="2.50", hours=720)
        keys = [await key_for(lab, team="ml", user="ann"), await key_for(lab, team="web", user="ann")]
        for key in keys:
            async with Client(exchange.url, key) as cx:
                order = await cx.buy(CLASS, gpus=4, hours=2, max_price="2.50")
                (lease,) = await cx.leases(order_id=order.order_id)
                assert lease.user == "ann"
        (sold, *_) = await cloud.leases(role="supplier")
        assert (sold.team, sold.user) == (None, None), "who orders within an account is the account's own matter"
        assert [(each.name, each.charged, each.committed) for each in await lab.spend("team")] == [
            ("ml", "0.00", "20.00"),
            ("web", "0.00", "20.00"),
        ]
        assert [(each.name, each.committed) for each in await lab.spend("user")] == [("ann", "40.00")]
        assert await lab.spend("class", start="2026-01-01", until="2026-02-01") == []
        for wrong in ({"start": "2026-1-1"}, {"start": "2026-02-30"}, {"start": "2026-01-02", "until": "2026-01-02"}):
            with pytest.raises(ExchangeError) as refused:
                await lab.spend("team", **wrong)
            assert refused.value.status == 400
        with pytest.raises(ExchangeError, match="none of team, user, pool, class"):
            await lab.spend("moon")


async def test_a_bound_key_neither_moves_caps_nor_makes_or_ends_other_keys(exchange: Venue) -> None:
    async with (
        exchange.trader("lab") as lab,
        Client(exchange.url, await key_for(lab, team="ml", user="ann")) as ann,
        exchange.trader("other") as other,
    ):
        await lab.set_caps("team", "ml", month="10")
        with pytest.raises(ExchangeError) as refused:
            await ann.set_caps("team", "ml")
        assert (refused.value.status, refused.value.code) == (403, "bound_key")
        for spender in ({}, {"team": "ml"}, {"team": "ml", "user": "bob"}, {"pool": "ml"}):
            with pytest.raises(ExchangeError) as refused:
                await ann.create_key(["read", "trade"], **spender)
            assert (refused.value.status, refused.value.code) == (403, "missing_scope")
        own = await ann.create_key(["read"], team="ml", user="ann")
        assert (own.team, own.user) == ("ml", "ann")
        await ann.revoke_key(own.key_id)
        account = next(key for key in await ann.keys() if key.team is None)
        with pytest.raises(ExchangeError, match="may do more than yours"):
            await ann.revoke_key(account.key_id)
        for kind, name in (("team", "ml"), ("user", "ann")):
            with pytest.raises(ExchangeError) as refused:
                await other.caps(kind, name)
            assert refused.value.status == 404
        assert await other.spend("team") == []


async def test_names_and_caps_that_cannot_be_are_refused_where_they_are_said(exchange: Venue) -> None:
    async with exchange.trader("lab") as lab:
        for spender, field in (
            ({"team": ""}, "team"),
            ({"user": "a b"}, "user"),
            ({"pool": "x" * 65}, "pool"),
            ({"pool": "agents", "team": "ml"}, "pool"),
        ):
            with pytest.raises(ExchangeError) as refused:
                await lab.create_key(["read"], **spender)
            assert (refused.value.status, refused.value.field) == (400, field)
        for caps, field, status in (
            ({"day": "-1"}, "day", 422),
            ({"month": "1e3"}, "month", 400),
            ({"day": "1000000000.01"}, "day", 422),
        ):
            with pytest.raises(ExchangeError) as refused:
                await lab.set_caps("team", "ml", **caps)
            assert (refused.value.status, refused.value.field) == (status, field)
        with pytest.raises(ExchangeError) as refused:
            await lab.caps("pool", "nobody")
        assert (refused.value.status, refused.value.field) == (404, "pool")


async def test_a_pool_of_machine_users_from_the_command_line(exchange: Venue) -> None:
    key = await exchange.key_of("lab", "read", "trade", money="1000")
    lab = {"CX_URL": exchange.url, "CX_KEY": key}
    made = await cx_json("keys", "create", "--scopes", "read,trade", "--pool", "agents", env=lab)
    agents = {"CX_URL": exchange.url, "CX_KEY": made["key"]}
    assert (await cx_json("caps", "set", "pool", "agents", "--day", "5", env=lab))["day"] == "5.00"
    buy = ("buy", CLASS, "2", "--for", "1h", "--max", "2.00", "--start", "now+6h")
    assert (await cx_json(*buy, env=agents))["pool"] == "agents"
    code, _, err = await cx(*buy, env=agents)
    assert (code, "of its cap of 5.00" in err, "the pool agents" in err) == (1, True, True), err
    code, out, err = await cx("spend", "--by", "pool", env=lab)
    assert (code, re.findall(r"\S+", out)) == (0, ["pool", "charged", "$", "committed", "$", "agents", "0.00", "4.00"])
    assert (await cx_json("caps", "show", "pool", "agents", env=agents))["committed"] == "4.00"
    assert "agents" in (await cx("keys", "list", env=lab))[1]
    assert (await audit(exchange.store, exchange.log)).findings == []


async def test_an_account_has_so_many_teams_users_and_pools_and_goes_on_with_those_it_has(
    exchange: Venue, dsn: str
) -> None:
    async with exchange.trader("lab") as lab:
        account = parse_account_id((await lab.account()).account_id)
        await lab.set_caps("team", "ml", day="1")
        connection = await asyncpg.connect(dsn)
        await connection.execute(FULL, account, MAX_SPENDERS - 1)
        await connection.close()
        for call in (lab.set_caps("team", "new", day="1"), lab.create_key(["read"], team="new")):
            with pytest.raises(ExchangeError) as refused:
                await call
            assert (refused.value.status, refused.value.code, refused.value.field) == (409, "too_many_spenders", "team")
        assert (await lab.set_caps("team", "ml", day="2")).day == "2.00"
        assert (await lab.create_key(["read"], team="ml", user="new")).team == "ml"
        assert (await lab.set_caps("pool", "new", day="2")).day == "2.00"


FULL = """
INSERT INTO spenders (account, kind, name) SELECT $1, 'team', 'team-' || n FROM generate_series(1, $2::bigint) AS n
"""
