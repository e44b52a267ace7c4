"""A payment provider's events: signed, of now, and counted once."""

import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateways.api.errors import ApiError
from gateways.api.webhook import check, secrets_in
from gateways.cli.processes import PAYMENTS_SECRET, Settings
from gateways.cli.processes import exchange as whole_exchange
from gateways.client import Exchange
from gateways.client.webhooks import WINDOW_S, signature
from gateways.log.embedded import EmbeddedLog
from schemas.topics import INSTRUCTIONS
from settlement.audit import audit
from settlement.service import SettlementService
from settlement.store import Store
from tests.integration.conftest import Venue, admin_key, engines, running, serving
from tests.integration.test_payments import IBAN, money_of

SHOWN = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
(SECRET,) = secrets_in(SHOWN)
NOW = 1_795_521_600


# The signature.


def test_the_signature_is_that_of_the_standard() -> None:
    body = b'{"test": 2432232314}'
    found = signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "the example of the specification's libraries"


def headers(body: bytes, *, sent_at: int = NOW, event_id: str = "evt_1", secret: bytes = SECRET) -> dict[str, str]:
    signed = signature(secret, event_id, str(sent_at), body)
    return {"webhook-id": event_id, "webhook-timestamp": str(sent_at), "webhook-signature": signed}


GOOD = headers(b"body")


@pytest.mark.parametrize("sent_at", [NOW - WINDOW_S, NOW, NOW + WINDOW_S])
def test_what_is_signed_and_of_now_passes(sent_at: int) -> None:
    given = headers(b"body", sent_at=sent_at)
    check((SECRET,), given, b"body", NOW)
    check((b"the next secret of the two", SECRET), given, b"body", NOW)
    check((SECRET,), {**given, "webhook-signature": f"v1a,AAAA v1,AAAA {given['webhook-signature']}"}, b"body", NOW)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, "bad_signature"),
        ({**GOOD, "webhook-signature": ""}, "bad_signature"),
        ({**GOOD, "webhook-signature": "v1,"}, "bad_signature"),
        ({**GOOD, "webhook-signature": "ä"}, "bad_signature"),
        ({**GOOD, "webhook-signature": GOOD["webhook-signature"].removeprefix("v1,")}, "bad_signature"),
        (headers(b"bodY"), "bad_signature"),
        (headers(b"body", secret=b"another secret of 32 bytes......"), "bad_signature"),
        ({**GOOD, "webhook-id": "evt_2"}, "bad_signature"),
        ({**GOOD, "webhook-timestamp": str(NOW + 1)}, "bad_signature"),
        (headers(b"body", event_id=""), "bad_signature"),
        (headers(b"body", event_id="x" * 129), "bad_signature"),
        (headers(b"body") | {"webhook-timestamp": "soon"}, "bad_signature"),
        (headers(b"body", sent_at=-1), "bad_signature"),
        (headers(b"body", sent_at=10**12), "bad_signature"),
        (headers(b"body", sent_at=NOW - WINDOW_S - 1), "event_stale"),
        (headers(b"body", sent_at=NOW + WINDOW_S + 1), "event_stale"),
    ],
)
def test_what_is_not_signed_or_long_ago_does_not(given: dict[str, str], code: str) -> None:
    with pytest.raises(ApiError) as refused:
        check((SECRET,), given, b"body", NOW)
    assert (refused.value.status, refused.value.code) == (401, code)


def test_secrets_are_as_the_provider_shows_them() -> None:
    assert secrets_in("") == ()
    assert secrets_in(f"{SHOWN} {SHOWN.removeprefix('whsec_')}") == (SECRET, SECRET)
    for wrong in ("whsec_short", "whsec_MfKQ9r8G", "whsec_not base64"):
        with pytest.raises(ValueError, match="secret") as refused:
            secrets_in(wrong)
        assert "MfKQ" not in str(refused.value), "which is not for logs"


# Through the real exchange.


class Provider:
    """Tells the exchange of payments."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http

    async def tell(self, kind: str, data: Any, *, event_id: str = "evt_1", **changes: str) -> tuple[int, Any]:
        body = json.dumps({"type": kind, "timestamp": "2026-11-26T16:00:00Z", "data": data}).encode()
        return await self.send(body, headers(body, sent_at=int(time.time()), event_id=event_id) | changes)

    async def send(self, body: bytes, given: dict[str, str]) -> tuple[int, Any]:
        async with self._http.post("/v1/payments/webhook", data=body, headers=given) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def venue(embedded_log: EmbeddedLog, store: Store) -> AsyncIterator[Venue]:
    """As the fixture `exchange`, with a payment provider."""
    services = [*engines(embedded_log), SettlementService(embedded_log, store)]
    async with running(services), serving(embedded_log, store, payment_secrets=(SECRET,)) as url:
        key = await admin_key(store, embedded_log)
        async with Exchange(url, key) as admin:
            yield Venue(url, key, admin, embedded_log, store)
    assert (await audit(store, embedded_log)).findings == []


@contextlib.asynccontextmanager
async def parties(venue: Venue) -> AsyncIterator[tuple[Provider, Exchange, str]]:
    """A provider, a developer without money, and the developer's id."""
    key = await venue.key_of("developer", "read", "withdraw")
    async with aiohttp.ClientSession(venue.url) as http, Exchange(venue.url, key) as cx:
        yield Provider(http), cx, (await cx.account()).account_id


async def test_a_deposit_counts_once_however_often_it_is_told(venue: Venue) -> None:
    async with parties(venue) as (provider, cx, account):
        data = {"account_id": account, "amount": "250.00", "reference": "pay_1", "method": "sepa"}
        for event_id in ("evt_1", "evt_1", "evt_2"):
            told = await provider.tell("deposit.received", data, event_id=event_id)
            assert told == (200, {"event_id": event_id, "status": "done"})
        assert (await cx.balance()).cash == "250.00"
        status, answer = await provider.tell("deposit.received", data | {"amount": "251.00"})
        assert (status, answer["error"]["code"]) == (409, "reference_reused")
        await venue.admin.deposit(account, "250", reference="pay_1")
        other = await provider.tell("deposit.received", data | {"reference": "pay_2", "amount": "7"}, event_id="evt_1")
        assert other[0] == 200, "an event's id says nothing of the payment: this is another"
        found = {(each.reference, each.amount) for each in await cx.deposits()}
        assert found == {("pay_1", "250.00"), ("pay_2", "7.00")}


async def test_a_withdrawal_goes_on_as_the_provider_says_in_any_order(venue: Venue) -> None:
    async with parties(venue) as (provider, cx, account):
        await venue.admin.deposit(account, "100", reference="first")
        for reference in ("out", "back"):
            await cx.withdraw("40", IBAN, reference=reference)
        assert money_of(await cx.balance()) == ("20.00", "80.00")
        out = {"account_id": account, "reference": "out", "provider_reference": "po_1"}
        for kind in ("withdrawal.settled", "withdrawal.sent", "withdrawal.settled"):
            assert (await provider.tell(kind, out))[0] == 200
        back = {"account_id": account, "reference": "back", "provider_reference": "po_2", "reason": "account closed"}
        for kind in ("withdrawal.sent", "withdrawal.failed", "withdrawal.failed"):
            assert (await provider.tell(kind, back))[0] == 200
        found = [(each.reference, each.state, each.provider_reference, each.reason) for each in await cx.withdrawals()]
        assert found == [("back", "failed", "po_2", "account closed"), ("out", "settled", "po_1", "")]
        assert money_of(await cx.balance()) == ("60.00", "0.00")
        status, answer = await provider.tell("withdrawal.settled", back)
        assert (status, answer["error"]["code"]) == (409, "withdrawal_state")


async def test_what_is_not_the_provider_s_word_moves_nothing(venue: Venue) -> None:
    async with parties(venue) as (provider, cx, account):
        data = {"account_id": account, "amount": "250.00", "reference": "pay_1"}
        written = await venue.log.end(INSTRUCTIONS, 0)
        bad = {"webhook-signature": "v1,AAAA"}
        for told, status, code, field in (
            (provider.tell("deposit.received", data, **bad), 401, "bad_signature", ""),
            (provider.tell("no.such.event", data, **bad), 401, "bad_signature", ""),
            (provider.send(b"{", {}), 401, "bad_signature", ""),
            (provider.send(b"{", headers(b"{", sent_at=int(time.time()))), 400, "invalid", ""),
            (provider.send(b"{}", headers(b"{}", sent_at=int(time.time()))), 400, "invalid", "type"),
            (provider.send(b"{}", headers(b"{}", sent_at=int(time.time()) - WINDOW_S - 5)), 401, "event_stale", ""),
            (provider.tell("deposit.received", data | {"amount": 250}), 400, "invalid", "data.amount"),
            (provider.tell("deposit.received", data | {"amount": None}), 400, "invalid", "data.amount"),
            (provider.tell("deposit.received", data | {"amount": "2,50"}), 400, "invalid", "data.amount"),
            (provider.tell("deposit.received", data | {"account_id": "me"}), 400, "invalid", "data.account_id"),
            (provider.tell("deposit.received", data | {"reference": "a\nb"}), 400, "invalid", "data.reference"),
            (provider.tell("deposit.received", {}), 400, "invalid", "data.account_id"),
            (provider.tell("deposit.received", data | {"account_id": "acc_zz"}), 404, "unknown_account", "account"),
        ):
            answer, found = await told
            error = found["error"]
            assert (answer, error["code"], error["field"]) == (status, code, field)
        for unknown in ({}, {"anything": [1, 2]}):
            assert await provider.tell("customer.updated", unknown) == (200, {"event_id": "evt_1", "status": "ignored"})
        assert await venue.log.end(INSTRUCTIONS, 0) == written
        assert (await provider.tell("deposit.received", data | {"amount": "0"}))[0] == 422
        assert (await provider.tell("withdrawal.sent", {"account_id": account, "reference": "none"}))[0] == 404
        assert (await cx.balance()).cash == "0.00"


async def test_without_a_secret_there_is_no_such_route(exchange: Venue) -> None:
    async with aiohttp.ClientSession(exchange.url) as http:
        assert (await Provider(http).tell("deposit.received", {}))[0] == 404


async def test_the_secret_is_the_environment_s(tmp_path: Path, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(tmp_path, dsn=dsn, port=0, list_classes=False)
    monkeypatch.setenv(PAYMENTS_SECRET, SHOWN)
    async with whole_exchange(settings) as opened, aiohttp.ClientSession(opened.url) as http:
        assert (await Provider(http).tell("customer.updated", {}))[0] == 200
    monkeypatch.setenv(PAYMENTS_SECRET, "whsec_short")
    with pytest.raises(ValueError, match="a payment provider's secret"):
        async with whole_exchange(settings):
            pass
