"""Requests of those who send no secret: signed, each good once, for half a minute; over HTTP, the stream and `cx`."""

import asyncio
import base64
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from msgspec import Struct

from gateways.api.addresses import network
from gateways.api.signing import Signature
from gateways.client import Exchange as Client
from gateways.client import ExchangeError
from gateways.client.signing import Signer
from schemas.units import DAY_MS, format_time
from settlement.store import Store
from tests.integration.conftest import CLASS, Venue, serving
from tests.integration.test_cli import cx, cx_json


class Holder(Struct):
    """Of a private key, whose public one an account has."""

    private: Ed25519PrivateKey
    key_id: int

    @property
    def signer(self) -> Signer:
        return Signer(self.key_id, self.private)


def public_line(private: Ed25519PrivateKey) -> str:
    return private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


async def holder(owner: Client, *scopes: str, **terms: Any) -> Holder:
    private = Ed25519PrivateKey.generate()
    key = await owner.create_key(scopes or ("read", "trade"), public_key=public_line(private), **terms)
    assert (key.key, key.public_key) == (None, public_line(private))
    return Holder(private, key.key_id)


async def said(
    url: str, headers: Mapping[str, str], *, method: str = "GET", target: str = "/v1/balance", body: bytes = b""
) -> str | int:
    """What a door says: the status, or an error's code."""
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, url + target, data=body or None, headers=headers) as answer,
    ):
        return answer.status if answer.status < 400 else str((await answer.json())["error"]["code"])


def signed_at(bot: Holder, timestamp: int) -> dict[str, str]:
    """A request for the balance, signed with that time."""
    nonce = secrets.token_hex(16)
    value = bot.private.sign(Signature(bot.key_id, timestamp, nonce, b"").message("GET", "/v1/balance", b""))
    named = {"CX-Key": str(bot.key_id), "CX-Timestamp": str(timestamp), "CX-Nonce": nonce}
    return named | {"CX-Signature": base64.b64encode(value).decode()}


async def test_who_signs_trades_reads_and_follows_without_a_secret(exchange: Venue) -> None:
    async with exchange.trader("lab") as lab:
        bot = await holder(lab, team="ml")
    async with Client(exchange.url, signer=bot.signer) as cx:
        order = await cx.bid(CLASS, 2, "2.00", duration="1h", min_fill=1)
        assert (order.status, order.team) == ("open", "ml")
        assert order.order_id is not None
        assert (await cx.orders(status="open", class_id=CLASS))[0].order_id == order.order_id
        async for message in cx.watch("orders"):
            assert [each["order_id"] for each in message.body["orders"]] == [order.order_id]
            break
        assert (await cx.cancel(order.order_id)).status == "cancelled"
        with pytest.raises(ExchangeError, match="this needs a key with the scope supply: yours has read, trade"):
            await cx.sell(CLASS, 1, "1.00", hours=1)


async def test_a_signature_is_good_for_its_own_request_and_once(exchange: Venue) -> None:
    async with exchange.trader("lab") as lab:
        bot, other = await holder(lab), await holder(lab)
    headers = bot.signer.headers("GET", "/v1/balance", b"")
    assert await said(exchange.url, headers) == 200
    assert await said(exchange.url, headers) == "nonce_used"
    target, body = "/v1/dead-man", b'{"seconds": 600}'
    signed = bot.signer.headers("PUT", target, body)
    for method, elsewhere, other_body in (
        ("PUT", target, b'{"seconds": 601}'),
        ("PUT", target + "?x=1", body),
        ("DELETE", target, body),
    ):
        assert await said(exchange.url, signed, method=method, target=elsewhere, body=other_body) == "bad_signature"
    for name, value in (
        ("CX-Key", str(other.key_id)),
        ("CX-Key", "999999"),
        ("CX-Nonce", "f" * 32),
        ("CX-Timestamp", str(int(signed["CX-Timestamp"]) + 1)),
        ("CX-Signature", "A" * 86 + "=="),
    ):
        changes = signed | {name: value}
        assert await said(exchange.url, changes, method="PUT", target=target, body=body) == "bad_signature"
    assert await said(exchange.url, signed, method="PUT", target=target, body=body) == 200, (
        "what failed used nothing up"
    )
    assert await said(exchange.url, signed, method="PUT", target=target, body=body) == "nonce_used"
    for name in signed:
        less = {each: value for each, value in signed.items() if each != name}
        assert await said(exchange.url, less) == ("unauthorized" if name == "CX-Signature" else "invalid")
    # A public key is no secret, in any form; and an account's secret is no signing key.
    raw = bot.private.public_key().public_bytes_raw()
    for secret in (raw.hex(), public_line(bot.private).split()[1], str(bot.key_id), raw.decode("latin-1")):
        if secret.isprintable():
            assert await said(exchange.url, {"Authorization": f"Bearer {secret}"}) == "unauthorized"
    admin = Signer(1, bot.private).headers("GET", "/v1/balance", b"")
    assert await said(exchange.url, admin) == "bad_signature"


async def test_a_signature_of_another_time_is_stale(exchange: Venue) -> None:
    bot = await holder(exchange.admin, "read")
    now = time.time_ns() // 1_000_000
    for off_ms in (-31_000, 31_000, -now, 365 * DAY_MS):
        assert await said(exchange.url, signed_at(bot, now + off_ms)) == "signature_stale"
    assert await said(exchange.url, signed_at(bot, now + 25_000)) == 200


async def test_a_gateway_that_starts_takes_nothing_from_before_it_could_remember(exchange: Venue) -> None:
    bot = await holder(exchange.admin, "read")
    headers = bot.signer.headers("GET", "/v1/balance", b"")
    assert await said(exchange.url, headers) == 200
    await asyncio.sleep(0.01)
    async with serving(exchange.log, exchange.store) as url:
        assert await said(url, headers) == "signature_stale"
        assert await said(url, bot.signer.headers("GET", "/v1/balance", b"")) == 200


async def test_what_changes_something_is_taken_once_by_all_gateways_together(exchange: Venue) -> None:
    async with serving(exchange.log, exchange.store) as url:
        bot = await holder(exchange.admin, "read", "trade")
        target, body = "/v1/dead-man", b'{"seconds": 600}'
        signed = bot.signer.headers("PUT", target, body)
        both = [said(each, signed, method="PUT", target=target, body=body) for each in (url, exchange.url)]
        assert sorted(map(str, await asyncio.gather(*both))) == ["200", "nonce_used"]
    async with serving(exchange.log, exchange.store) as url:
        ahead = signed_at(bot, time.time_ns() // 1_000_000 + 20_000)
        assert await said(exchange.url, ahead) == 200
        assert await said(url, ahead) == 200, "what changes nothing, each remembers for itself"


async def test_nonces_that_are_past_are_forgotten(store: Store) -> None:
    assert await store.use_nonce(1, "a", until=60, now=0)
    assert not await store.use_nonce(1, "a", until=70, now=10)
    assert await store.use_nonce(2, "a", until=70, now=10)
    assert await store.use_nonce(1, "b", until=121, now=61)
    assert await store.use_nonce(1, "a", until=122, now=62)
    assert not await store.use_nonce(2, "a", until=130, now=70)


async def test_a_signing_key_ends_is_revoked_and_has_its_addresses_like_any(exchange: Venue) -> None:
    async with exchange.trader("lab") as lab:
        ending = await holder(lab, expires_at=format_time(exchange.log.now() + 500))
        elsewhere, revoked = await holder(lab, addresses=["10.0.0.0/8"]), await holder(lab)
        assert await said(exchange.url, revoked.signer.headers("GET", "/v1/balance", b"")) == 200
        await lab.revoke_key(revoked.key_id)
    await asyncio.sleep(0.6)
    for bot, code in ((ending, "key_ended"), (elsewhere, "address_refused"), (revoked, "unauthorized")):
        assert await said(exchange.url, bot.signer.headers("GET", "/v1/balance", b"")) == code
    async with serving(exchange.log, exchange.store, trusted_proxies=(network("127.0.0.1"),)) as url:
        behind = elsewhere.signer.headers("GET", "/v1/balance", b"") | {"X-Forwarded-For": "10.1.2.3"}
        assert await said(url, behind) == 200


async def test_a_secret_makes_place_for_a_public_key_and_that_for_another_and_for_no_secret(exchange: Venue) -> None:
    async with exchange.trader("lab") as lab:
        old = await lab.create_key(["read"], label="bot")
        private = Ed25519PrivateKey.generate()
        made = await lab.rotate_key(old.key_id, overlap="0m", public_key=public_line(private))
        assert (made.key, made.label, made.public_key) == (None, "bot", public_line(private))
        assert await said(exchange.url, {"Authorization": f"Bearer {old.key}"}) == "key_ended"
        assert await said(exchange.url, Signer(made.key_id, private).headers("GET", "/v1/balance", b"")) == 200
        with pytest.raises(ExchangeError, match="has no secret: say the new public key") as refused:
            await lab.rotate_key(made.key_id)
        assert refused.value.field == "public_key"
        with pytest.raises(ExchangeError) as refused:
            await lab.create_key(["read"], public_key="ssh-rsa AAAA")
        assert (refused.value.status, refused.value.field) == (400, "public_key")


async def test_the_stream_is_signed_with_the_upgrade_or_by_a_message(exchange: Venue) -> None:
    async with exchange.trader("lab") as lab:
        bot = await holder(lab)
        headers = bot.signer.headers("GET", "/v1/stream", b"")
        names = {"CX-Nonce": "nonce", "CX-Signature": "signature"}
        ask = {"op": "request", "id": 2, "path": "/v1/balance"}
        async with aiohttp.ClientSession(exchange.url) as http:
            async with http.ws_connect("/v1/stream", headers=headers) as socket:
                assert (await socket.receive_json())["type"] == "ok"
                await socket.send_json(ask)
                assert (await socket.receive_json())["status"] == 200
            async with http.ws_connect("/v1/stream", headers=headers) as socket:
                assert (await socket.receive_json())["error"]["code"] == "nonce_used"
                await socket.send_json(ask)
                assert (await socket.receive_json())["status"] == 401
            async with http.ws_connect("/v1/stream") as socket:
                again = bot.signer.headers("GET", "/v1/stream", b"")
                auth: dict[str, Any] = {"op": "auth", "id": 1} | {name: again[said] for said, name in names.items()}
                auth |= {"key_id": bot.key_id, "timestamp": int(again["CX-Timestamp"])}
                await socket.send_json(auth | {"timestamp": auth["timestamp"] + 1})
                assert (await socket.receive_json())["error"]["code"] == "bad_signature"
                await socket.send_json(auth | {"timestamp": None})
                assert (await socket.receive_json())["error"]["field"] == "CX-Timestamp"
                await socket.send_json(auth)
                assert (await socket.receive_json())["type"] == "ok"
                await socket.send_json(auth)
                assert (await socket.receive_json())["error"]["code"] == "nonce_used"
                await socket.send_json(ask)
                assert (await socket.receive_json())["status"] == 200
                # What it asks is by the key as it is now.
                await lab.revoke_key(bot.key_id)
                await socket.send_json(ask)
                assert (await socket.receive_json())["status"] == 401


async def test_nobody_says_over_http_that_a_connection_was_signed_already(exchange: Venue) -> None:
    bot = await holder(exchange.admin, "read")
    for headers in ({"signed_by": str(bot.key_id)}, {"Signed-By": str(bot.key_id)}):
        assert await said(exchange.url, headers) == "unauthorized"


@pytest.mark.parametrize("form", [(Encoding.PEM, PrivateFormat.OpenSSH), (Encoding.PEM, PrivateFormat.PKCS8)])
async def test_from_the_command_line(exchange: Venue, tmp_path: Path, form: tuple[Encoding, PrivateFormat]) -> None:
    private, file = Ed25519PrivateKey.generate(), tmp_path / "cx_ed25519"
    file.write_bytes(private.private_bytes(*form, NoEncryption()))
    (tmp_path / "cx_ed25519.pub").write_text(f"{public_line(private)} me@laptop\n")
    env = {"CX_URL": exchange.url, "CX_KEY": await exchange.key_of("lab", "read", "trade", money="100")}
    words = ("--scopes", "read", "--public-key", str(tmp_path / "cx_ed25519.pub"))
    made = await cx_json("keys", "create", *words, env=env)
    signing = {"CX_URL": exchange.url, "CX_SIGNING_KEY": str(file), "CX_SIGNING_KEY_ID": str(made["key_id"])}
    assert (await cx_json("balance", env=signing))["cash"] == "100.00"
    (code, _, err) = await cx("balance", env=signing | {"CX_SIGNING_KEY_ID": ""})
    assert (code, "CX_SIGNING_KEY_ID must be the key_id" in err) == (2, True)
