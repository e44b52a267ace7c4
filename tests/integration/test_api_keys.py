"""Keys that end, that are for some addresses alone, and that get a new secret while the old one is still good."""

import asyncio

import aiohttp
import msgspec
import pytest

from gateways.api.addresses import network
from gateways.client import Exchange as Client
from gateways.client import ExchangeError
from gateways.client.types import Key
from schemas.units import DAY_MS, HOUR_MS, format_time, parse_time
from tests.integration.conftest import Venue, serving
from tests.integration.test_cli import cx, cx_json

ELSEWHERE = ["10.0.0.0/8", "2001:db8::/32"]


async def code(url: str, key: Key | str | None, *, forwarded: str | None = None) -> str | int:
    """What the balance's door says to a key: 200, or an error's code."""
    secret = key.key if isinstance(key, Key) else key
    headers = {"Authorization": f"Bearer {secret}"} | ({"X-Forwarded-For": forwarded} if forwarded else {})
    async with aiohttp.ClientSession() as http, http.get(f"{url}/v1/balance", headers=headers) as answer:
        return 200 if answer.status == 200 else str((await answer.json())["error"]["code"])


def secret(key: Key) -> str:
    assert key.key is not None
    return key.key


async def test_a_key_is_taken_until_it_ends_and_not_after(exchange: Venue) -> None:
    async with exchange.trader("lab") as lab:
        end = exchange.log.now() + 600
        key = await lab.create_key(["read"], expires_at=format_time(end))
        assert key.expires_at == format_time(end)
        assert await code(exchange.url, key) == 200
        await asyncio.sleep(0.7)
        assert await code(exchange.url, key) == "key_ended", "though this gateway has looked it up a moment ago"
        async with Client(exchange.url, key.key) as late:
            with pytest.raises(ExchangeError, match=f"the key ended at {key.expires_at}: use a newer one") as refused:
                await late.balance()
            assert refused.value.status == 401
        for wrong in (format_time(exchange.log.now() - 1), "now+3661d", "now+999999999999999d", "soon"):
            with pytest.raises(ExchangeError) as refused:
                await lab.create_key(["read"], expires_at=wrong)
            assert (refused.value.status, refused.value.field) == (400, "expires_at")


async def test_a_key_is_taken_from_its_addresses_alone(exchange: Venue) -> None:
    async with exchange.trader("lab") as lab:
        here = await lab.create_key(["read"], addresses=["127.0.0.0/8", "10.0.0.0/8"])
        elsewhere = await lab.create_key(["read"], addresses=ELSEWHERE)
        assert elsewhere.addresses == ELSEWHERE
        assert [key.addresses for key in await lab.keys()][1:] == [["127.0.0.0/8", "10.0.0.0/8"], ELSEWHERE]
        assert await code(exchange.url, here) == 200
        assert await code(exchange.url, elsewhere) == "address_refused"
        assert await code(exchange.url, elsewhere, forwarded="10.1.2.3") == "address_refused", "anybody can say that"
        async with Client(exchange.url, elsewhere.key) as thief:
            with pytest.raises(ExchangeError, match=r"the key is not for use from 127\.0\.0\.1"):
                await thief.balance()
        for wrong in (["10.0.0.1/8"], ["example.com"], ["10.0.0.1"] * 33):
            with pytest.raises(ExchangeError) as refused:
                await lab.create_key(["read"], addresses=wrong)
            assert (refused.value.status, refused.value.field) == (400, "addresses")
        # An operator's proxy is believed on whom it had before it, and not on what that one said.
        async with serving(exchange.log, exchange.store, trusted_proxies=(network("127.0.0.0/8"),)) as url:
            assert await code(url, elsewhere, forwarded="10.1.2.3") == 200
            assert await code(url, elsewhere, forwarded="203.0.113.7, 2001:db8::7") == 200
            assert await code(url, elsewhere, forwarded="10.1.2.3, 203.0.113.7") == "address_refused"
            assert await code(url, elsewhere) == "address_refused"
            assert await code(url, here) == 200


async def test_the_stream_asks_from_where_a_key_is_used_too(exchange: Venue) -> None:
    async with exchange.trader("lab") as lab:
        elsewhere = await lab.create_key(["read"], addresses=ELSEWHERE)
    behind = {"X-Forwarded-For": "10.1.2.3"}
    sign_in = {"op": "auth", "id": 1, "key": elsewhere.key}
    ask = {"op": "request", "id": 2, "path": "/v1/balance"}
    async with aiohttp.ClientSession() as http:
        async with http.ws_connect(f"{exchange.url}/v1/stream", headers=behind) as socket:
            await socket.send_json(sign_in)
            assert (await socket.receive_json())["error"]["code"] == "address_refused"
        async with (
            serving(exchange.log, exchange.store, trusted_proxies=(network("127.0.0.0/8"),)) as url,
            http.ws_connect(f"{url}/v1/stream", headers=behind) as socket,
        ):
            await socket.send_json(sign_in)
            assert (await socket.receive_json())["type"] == "ok"
            await socket.send_json(ask)
            assert (await socket.receive_json())["status"] == 200


async def test_a_rotated_key_is_good_until_the_overlap_ends_and_the_new_one_is_like_it(exchange: Venue) -> None:
    async with exchange.trader("lab") as lab:
        until = exchange.log.now() + 90 * DAY_MS
        terms = {"team": "ml", "user": "ann"}
        old = await lab.create_key(
            ["read", "trade"], label="bot", expires_at=format_time(until), addresses=["127.0.0.1"], **terms
        )
        new = await lab.rotate_key(old.key_id, overlap="2h")
        assert new.key_id != old.key_id
        assert new.key not in (None, old.key)
        assert (new.scopes, new.label, new.team, new.user, new.addresses) == (
            ["read", "trade"],
            "bot",
            "ml",
            "ann",
            ["127.0.0.1/32"],
        )
        (kept,) = [key for key in await lab.keys() if key.key_id == new.key_id]
        assert msgspec.structs.replace(kept, key=new.key) == new
        assert new.expires_at == old.expires_at, "a new secret is no longer life"
        assert (await code(exchange.url, old), await code(exchange.url, new)) == (200, 200)
        ends = await ends_of(lab, old)
        assert 0 < ends - exchange.log.now() <= 2 * HOUR_MS
        again = await lab.rotate_key(old.key_id, overlap="24h", expires_at="now+30d")
        assert await ends_of(lab, old) == ends, "what is said once is not put off"
        assert again.expires_at is not None
        assert parse_time(again.expires_at) < until
        await lab.rotate_key(old.key_id, overlap="0m")
        assert await code(exchange.url, old) == "key_ended"
        assert await code(exchange.url, new) == 200
        for key_id, status, name in ((old.key_id, 409, "key_ended"), (1, 404, "not_found")):
            with pytest.raises(ExchangeError) as refused:
                await lab.rotate_key(key_id)
            assert (refused.value.status, refused.value.code) == (status, name)
        await lab.revoke_key(new.key_id)
        with pytest.raises(ExchangeError, match="has ended: make a new one"):
            await lab.rotate_key(new.key_id)
        with pytest.raises(ExchangeError, match="an overlap is 30d at most"):
            await lab.rotate_key(again.key_id, overlap="31d")


async def ends_of(lab: Client, key: Key) -> int:
    (end,) = [each.expires_at for each in await lab.keys() if each.key_id == key.key_id]
    assert end is not None
    return parse_time(end)


async def test_no_key_gets_past_its_own_limits_by_making_or_rotating_another(exchange: Venue) -> None:
    async with exchange.trader("lab") as lab:
        whole = await lab.create_key(["read"])
        ending = await lab.create_key(["read"], expires_at="now+1h")
        bound = await lab.create_key(["read"], addresses=["127.0.0.0/8"])
        traders = await lab.create_key(["read", "trade"])
        team = await lab.create_key(["read"], team="ml")
    async with Client(exchange.url, secret(ending)) as cx:
        for wrong in (None, "now+2h"):
            with pytest.raises(ExchangeError, match="makes none that outlive it") as refused:
                await cx.create_key(["read"], expires_at=wrong)
            assert (refused.value.status, refused.value.field) == (403, "expires_at")
        with pytest.raises(ExchangeError, match="makes none that outlive it"):
            await cx.rotate_key(ending.key_id, expires_at="now+2h")
        with pytest.raises(ExchangeError, match="makes none that outlive it"):
            await cx.rotate_key(whole.key_id)
        assert (await cx.rotate_key(ending.key_id)).expires_at == ending.expires_at
        assert (await cx.create_key(["read"], expires_at="now+30m")).expires_at is not None
    async with Client(exchange.url, secret(bound)) as cx:
        for addresses in ((), ("126.0.0.0/7",), ("127.0.0.1", "10.0.0.1"), ("::/0",)):
            with pytest.raises(ExchangeError, match=r"beyond its own: 127\.0\.0\.0/8") as refused:
                await cx.create_key(["read"], addresses=addresses)
            assert (refused.value.status, refused.value.field) == (403, "addresses")
        with pytest.raises(ExchangeError, match="beyond its own"):
            await cx.rotate_key(whole.key_id)
        assert (await cx.create_key(["read"], addresses=["127.0.0.9"])).addresses == ["127.0.0.9/32"]
        with pytest.raises(ExchangeError) as refused:
            await cx.rotate_key(traders.key_id)
        assert (refused.value.status, refused.value.code) == (403, "missing_scope")
    async with Client(exchange.url, secret(team)) as cx:
        with pytest.raises(ExchangeError, match="may do more than yours"):
            await cx.rotate_key(whole.key_id)
        assert (await cx.rotate_key(team.key_id)).team == "ml"
    async with exchange.trader("other") as other:
        with pytest.raises(ExchangeError) as refused:
            await other.rotate_key(whole.key_id)
        assert refused.value.status == 404


async def test_an_answer_that_was_lost_costs_a_second_rotation_and_no_more(exchange: Venue) -> None:
    """By the old secret itself, within the overlap: its own end is that of the overlap, and not that of the new one."""
    async with exchange.trader("lab") as lab:
        old = await lab.create_key(["read"])
    async with Client(exchange.url, old.key) as cx:
        lost, new = await asyncio.gather(cx.rotate_key(old.key_id), cx.rotate_key(old.key_id))
        assert (lost.expires_at, new.expires_at) == (None, None)
        assert await code(exchange.url, new) == 200


async def test_from_the_command_line(exchange: Venue) -> None:
    env = {"CX_URL": exchange.url, "CX_KEY": await exchange.key_of("lab", "read", "trade")}
    words = ("--scopes", "read", "--expires", "90d", "--from", "127.0.0.0/8", "--from", "10.0.0.0/8")
    made = await cx_json("keys", "create", *words, env=env)
    assert made["addresses"] == ["127.0.0.0/8", "10.0.0.0/8"]
    assert 89 * DAY_MS < parse_time(made["expires_at"]) - exchange.log.now() <= 90 * DAY_MS + 60_000
    rotated = await cx_json("keys", "rotate", str(made["key_id"]), "--overlap", "1h", env=env)
    assert await code(exchange.url, rotated["key"]) == 200
    (_, listed, _) = await cx("keys", "list", env=env)
    assert "127.0.0.0/8 10.0.0.0/8" in listed
    assert listed.count(made["expires_at"]) == 1


async def test_an_account_has_so_many_keys_that_are_good_and_lists_them_page_by_page(
    exchange: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateways.api.key_routes.MAX_KEYS", 3)
    async with exchange.trader("lab") as lab:
        second, third = [await lab.create_key(["read"], label=label) for label in ("second", "third")]
        for make in (lab.create_key(["read"]), lab.create_key(["read"])):
            with pytest.raises(ExchangeError, match="3 keys that are good, and 3 are the most") as refused:
                await make
            assert (refused.value.status, refused.value.code) == (409, "too_many_keys")
        fourth = await lab.rotate_key(second.key_id, overlap="24h")
        await lab.revoke_key(third.key_id)
        await lab.revoke_key(second.key_id)
        fifth = await lab.create_key(["read"])
        known = [key.key_id for key in await lab.keys()]
        assert known[1:] == [second.key_id, third.key_id, fourth.key_id, fifth.key_id]
        assert [key.key_id for key in await lab.keys(limit=2)] == known[:2]
        headers = {"Authorization": f"Bearer {fifth.key}"}
        async with aiohttp.ClientSession(exchange.url, headers=headers) as http:
            async with http.get(f"/v1/accounts/me/keys?limit=2&after={known[2]}") as answer:
                page = await answer.json()
            async with http.get("/v1/accounts/me/keys?after=-1") as answer:
                assert (answer.status, (await answer.json())["error"]["field"]) == (400, "after")
        assert [key["key_id"] for key in page["items"]] == known[3:]
        assert page["next"] == str(known[4])
