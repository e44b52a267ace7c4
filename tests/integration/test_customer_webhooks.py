"""Webhooks: what happens to an account is told to its own server, a real one here, which is down, wrong or slow."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from gateways.api.vault import Vault, new_vault_secret
from gateways.client import Exchange, ExchangeError, verify
from gateways.client.types import Delivery, Webhook
from gateways.log.embedded import EmbeddedLog
from gateways.webhooks.deliverer import Deliverer, Pace
from gateways.webhooks.names import Names
from gateways.webhooks.target import Targets
from schemas import codec
from schemas.events import ClassChanged, Execution, Filled, Ticked
from schemas.instructions import Deliver, Deposit
from schemas.store import Account
from schemas.topics import EXECUTIONS, INSTRUCTIONS
from schemas.units import HOUR_MS, MICRO, MINUTE_MS
from schemas.webhooks import EventKind
from settlement.audit import audit
from settlement.service import SettlementService
from settlement.store import Store
from tests.exchange_process import ExchangeProcess
from tests.integration.conftest import CLASS, Venue, admin_key, engines, running, serving
from tests.integration.test_cli import cx, cx_json
from tests.integration.test_settlement_faults import FAILING, SERIALIZATION_FAILURE
from tests.postgres import TEMPLATE, _fresh
from tests.settling import NOON, SOON_S, SPEC, ScriptedLog, accepted, ask_of, bid_of, fill_of

ALL = [kind.value for kind in EventKind]
QUICK = Pace(first_pause_ms=20, factor=2, max_pause_ms=80, max_attempts=4, max_rest_ms=80, timeout_s=1.0, poll_s=0.02)


class Receiver:
    """A customer's server."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.ids: list[str] = []
        """Of all that came, in order."""
        self.events: dict[str, Any] = {}
        """Those that were taken, by id."""
        self.secret = ""
        self.answers: list[int] = []
        """Statuses of the next answers; then 200."""
        self.delay_s = 0.0
        self.at_once = 0
        self.most_at_once = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def __aenter__(self) -> "Receiver":
        app = web.Application()
        app.router.add_post("/hook", self._hear)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _hear(self, request: web.Request) -> web.Response:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            body = await request.read()
            event_id = verify(self.secret, request.headers, body)
            self.ids.append(event_id)
            await asyncio.sleep(self.delay_s)
            status = self.answers.pop(0) if self.answers else 200
            if status == 200:
                self.events[event_id] = json.loads(body)
            return web.Response(status=status, headers={"Location": self.url} if status == 307 else None)
        finally:
            self.at_once -= 1

    def kinds(self, *, lease_id: str | None = None) -> list[str]:
        """Of what was taken, in the order in which it happened."""
        events = [self.events[event_id] for event_id in sorted(self.events, key=lambda text: int(text[4:]))]
        return [each["type"] for each in events if lease_id is None or each["data"].get("lease_id") == lease_id]


async def until(condition: Callable[[], bool], timeout_s: float = SOON_S) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


class Telling:
    """An exchange, and a deliverer that can be started and stopped."""

    def __init__(self, venue: Venue, vault: Vault) -> None:
        self.venue = venue
        self.vault = vault

    def deliverer(self, *, pace: Pace = QUICK, private: bool = True, names: Names | None = None) -> Deliverer:
        store, registry = self.venue.store.webhooks, CollectorRegistry()
        return Deliverer(store, self.vault, registry, targets=Targets(private), pace=pace, names=names)

    async def tell(self, cx: Exchange, receiver: Receiver, kinds: Sequence[str] = ALL) -> Webhook:
        webhook = await cx.add_webhook(receiver.url, kinds)
        assert webhook.secret is not None
        receiver.secret = webhook.secret
        return webhook


@pytest.fixture
async def telling(embedded_log: EmbeddedLog, store: Store) -> AsyncIterator[Telling]:
    services = [*engines(embedded_log), SettlementService(embedded_log, store)]
    vault = Vault([new_vault_secret()])
    async with running(services), serving(embedded_log, store, vault=vault, private_webhooks=True) as url:
        key = await admin_key(store, embedded_log)
        async with Exchange(url, key) as admin:
            await admin.create_class(CLASS, accelerator="H100", memory_gb=80, form_factor="SXM")
            yield Telling(Venue(url, key, admin, embedded_log, store), vault)
    assert (await audit(store, embedded_log)).findings == []


async def end_orders(cx: Exchange, count: int, name: str = "order") -> list[str]:
    """Bids that nobody serves: each gives one event, `order.cancelled`."""
    names = [f"{name}-{number}" for number in range(count)]
    for client_order_id in names:
        await cx.bid(CLASS, 1, "0.01", duration="1h", min_fill=1, time_in_force="ioc", client_order_id=client_order_id)
    return names


def told_of(receiver: Receiver) -> list[str]:
    return sorted(event["data"]["client_order_id"] for event in receiver.events.values())


# What is told.


async def test_both_sides_are_told_of_a_lease_from_its_sale_to_its_end(telling: Telling) -> None:
    venue = telling.venue
    async with (
        venue.trader("cloud", money="") as cloud,
        venue.trader("developer", money="1000") as cx,
        Receiver() as supplier,
        Receiver() as buyer,
        running([telling.deliverer()]),
    ):
        await telling.tell(cloud, supplier)
        await telling.tell(cx, buyer)
        await cloud.sell(CLASS, gpus=8, price="2.50", hours=720)
        order = await cx.buy(CLASS, gpus=8, hours=24, max_price="2.60", now_only=True)
        (lease,) = await cx.leases(order_id=order.order_id)
        await cloud.deliver(lease.lease_id, "ssh gpu@host")
        await cx.accept(lease.lease_id)
        await cloud.degrade(lease.lease_id, 1, "a GPU fell off the bus")
        await cloud.restore(lease.lease_id)
        await cx.end(lease.lease_id)
        of_lease = ["delivered", "active", "degraded", "active", "ended"]
        wanted = [f"lease.{state}" for state in of_lease]
        await until(lambda: len(supplier.events) == 7 and len(buyer.events) == 8)
        assert supplier.kinds() == ["fill.made", "lease.sold", *wanted]
        assert buyer.kinds() == ["fill.made", "lease.bought", "order.filled", *wanted]
        (sold,) = [each for each in supplier.events.values() if each["type"] == "lease.sold"]
        assert sold["data"] == {
            "account_id": (await cloud.account()).account_id,
            "role": "supplier",
            "lease_id": lease.lease_id,
            "order_id": (await cloud.leases(role="supplier"))[0].order_id,
            "class": CLASS,
            "quantity": 8,
            "price": "2.50",
            "start": lease.start,
            "end": lease.end,
            "state": "pending_delivery",
            "close_reason": "",
        }
        assert sold["timestamp"] == lease.created_at
        assert "ssh gpu@host" not in json.dumps([*supplier.events.values(), *buyer.events.values()])


async def test_only_the_kinds_that_were_chosen_and_one_event_for_all_webhooks_of_an_account(telling: Telling) -> None:
    async with (
        telling.venue.trader("a") as cx,
        telling.venue.trader("b") as other,
        Receiver() as some,
        Receiver() as none,
        Receiver() as twin,
        running([telling.deliverer()]),
    ):
        await telling.tell(cx, some, ["order.cancelled", "lease.sold"])
        await telling.tell(cx, none, ["lease.sold"])
        await telling.tell(cx, twin, ["order.cancelled"])
        names = await end_orders(cx, 3)
        await end_orders(other, 3, "others")
        await until(lambda: len(some.events) == len(twin.events) == 3)
        assert told_of(some) == names
        assert (some.events, none.events) == (twin.events, {})


async def test_a_withdrawal_s_way(telling: Telling) -> None:
    key = await telling.venue.key_of("saver", "read", "trade", "withdraw", money="100")
    async with Exchange(telling.venue.url, key) as cx, Receiver() as receiver, running([telling.deliverer()]):
        await telling.tell(cx, receiver)
        account = (await cx.account()).account_id
        for reference, states in (("out", ["sent", "sent", "settled"]), ("back", ["failed"])):
            await cx.withdraw("40", "DE02 1203 0000", reference=reference)
            for state in states:
                await telling.venue.admin.set_withdrawal(account, reference, state)
        await until(lambda: len(receiver.events) == 5)
        told = [(each["data"]["reference"], each["type"]) for each in receiver.events.values()]
        assert sorted(told) == [
            ("back", "withdrawal.failed"),
            ("back", "withdrawal.requested"),
            ("out", "withdrawal.requested"),
            ("out", "withdrawal.sent"),
            ("out", "withdrawal.settled"),
        ]


async def test_a_batch_that_fails_tells_of_nothing_and_the_next_try_tells_once(dsn: str, store: Store) -> None:
    database = await asyncpg.connect(dsn)
    await database.execute(FAILING.format(times=3, code=SERIALIZATION_FAILURE))
    found = await told(await a_lease_s_whole_life(), store, max_poll=2_000)
    assert await database.fetchval("SELECT last_value FROM tries") > 3
    assert len(found) == len(set(found)) == 11
    await database.close()


async def test_batches_of_any_size_tell_the_same(store: Store, postgres_server: str) -> None:
    """Each state of a lease that was sold, delivered, accepted by silence and closed is told, in one batch, too."""
    log = await a_lease_s_whole_life()
    one_by_one = await told(log, store, max_poll=1)
    async with _fresh(postgres_server, TEMPLATE) as dsn:
        other = await Store.connect(dsn)
        at_once = await told(log, other, max_poll=2_000)
        await other.close()
    assert at_once == one_by_one
    assert [(kind, at) for kind, account, at, _ in at_once if account == 1] == [
        ("fill.made", NOON),
        ("lease.bought", NOON),
        ("order.filled", NOON),
        ("lease.delivered", NOON + MINUTE_MS),
        ("lease.active", NOON + MINUTE_MS + SPEC.acceptance_ms),
        ("lease.closed", NOON + 2 * HOUR_MS + SPEC.grace_ms),
    ]


async def a_lease_s_whole_life() -> ScriptedLog:
    """Of account 1, from account 2."""
    log = ScriptedLog()
    buyer, seller = (Account(number, "", number, 0, 0, 0) for number in (1, 2))
    bid, ask = bid_of(buyer, MICRO, 3, 2, NOON), ask_of(seller, MICRO, 3, NOON)
    fill = fill_of(2, 1, buyer, seller, price=MICRO, quantity=3, start=NOON, hours=2)
    steps: list[tuple[int, str, Any]] = [
        (NOON - 1, INSTRUCTIONS, Deposit(1, 100 * MICRO, "first")),
        (NOON, EXECUTIONS, (ClassChanged(SPEC),)),
        (NOON, EXECUTIONS, (accepted(ask),)),
        (NOON, EXECUTIONS, (accepted(bid), fill, Filled(2, 1))),
        (NOON + MINUTE_MS, INSTRUCTIONS, Deliver((2, 0), 2, "there")),
        (NOON + HOUR_MS, EXECUTIONS, (Ticked(),)),
        (NOON + 500 * HOUR_MS, EXECUTIONS, (Ticked(),)),
    ]
    for log.time, topic, said in steps:
        place = len(log.records[EXECUTIONS])
        value = Execution(place, place - 1, log.time, said) if topic == EXECUTIONS else said
        await log.append(topic, 0, [codec.encode(value)])
    return log


async def told(log: ScriptedLog, store: Store, *, max_poll: int) -> list[tuple[Any, ...]]:
    """(kind, account, time, body) of all events, settled in batches of that size."""
    for name in ("buyer", "seller"):
        account = await store.create_account(name, buyer_fee_bps=0, seller_fee_bps=0, owner=None, now=0)
        made = await store.webhooks.add(account.id, url="", kinds=list(EventKind), secret="", now=0, most=1)
        assert made is not None
    async with running([SettlementService(log, store, max_poll=max_poll)]):
        assert await store.wait_applied(0, len(log.records[EXECUTIONS]) - 1, SOON_S)
    rows = await store._rows(
        "SELECT kind, account, at, body FROM webhook_deliveries JOIN webhooks ON id = webhook ORDER BY event"
    )
    return [tuple(row) for row in rows]


# Receivers that are down, wrong, slow.


async def test_a_receiver_that_is_down_is_told_all_of_it_once_it_is_back(telling: Telling) -> None:
    async with Receiver() as receiver:
        pass
    pace = QUICK._replace(max_attempts=1000)
    async with telling.venue.trader("a") as cx, running([telling.deliverer(pace=pace)]):
        webhook = await telling.tell(cx, receiver)
        names = await end_orders(cx, 10)
        await until_all(cx, webhook, "waiting", 10)
        await asyncio.sleep(0.2)
        tried = [each for each in await cx.deliveries(webhook.webhook_id, state="waiting") if each.attempts]
        assert {(each.status, "Cannot connect" in each.error) for each in tried} == {(None, True)}
        async with receiver:
            await until(lambda: len(receiver.events) == 10)
            assert told_of(receiver) == names
            assert len(receiver.ids) == 10, "each once, as each was taken at once"
            await until_all(cx, webhook, "delivered", 10)


async def until_all(cx: Exchange, webhook: Webhook, state: str, count: int) -> list[Delivery]:
    async with asyncio.timeout(SOON_S):
        while True:
            found = await cx.deliveries(webhook.webhook_id, state=state)
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)


async def test_wrong_answers_are_tried_again_and_then_given_up_until_somebody_replays(telling: Telling) -> None:
    async with telling.venue.trader("a") as cx, Receiver() as receiver, running([telling.deliverer()]):
        webhook = await telling.tell(cx, receiver)
        receiver.answers = [500, 404, 307, 200]
        await end_orders(cx, 1)
        (taken,) = await until_all(cx, webhook, "delivered", 1)
        assert (taken.attempts, taken.status, taken.error) == (4, 200, "")
        assert receiver.ids == [taken.event_id] * 4, "a redirect is not followed, and the id stays"

        receiver.answers = [503] * QUICK.max_attempts
        await end_orders(cx, 1, "second")
        (dead,) = await until_all(cx, webhook, "dead", 1)
        assert (dead.attempts, dead.status, dead.error) == (QUICK.max_attempts, 503, "answered 503")
        came = len(receiver.ids)
        await asyncio.sleep(0.3)
        assert len(receiver.ids) == came, "what is dead is not sent"

        again = await cx.replay_delivery(webhook.webhook_id, dead.event_id)
        assert (again.state, again.attempts) == ("waiting", 0)
        await until_all(cx, webhook, "delivered", 2)
        assert receiver.ids[came:] == [dead.event_id]
        await cx.replay_delivery(webhook.webhook_id, taken.event_id)
        await until(lambda: receiver.ids[came + 1 :] == [taken.event_id], 5)


async def test_what_is_no_http_at_all(telling: Telling) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        with contextlib.suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1_000_000)
            await writer.drain()
            writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    receiver = Receiver(server.sockets[0].getsockname()[1])
    async with server, telling.venue.trader("a") as cx, running([telling.deliverer()]):
        webhook = await telling.tell(cx, receiver)
        await end_orders(cx, 1)
        (dead,) = await until_all(cx, webhook, "dead", 1)
        assert (dead.status, len(dead.error) <= 200) == (None, True)


async def test_a_slow_receiver_delays_no_other(telling: Telling) -> None:
    pace = QUICK._replace(timeout_s=30.0)
    async with (
        telling.venue.trader("a") as cx,
        Receiver() as slow,
        Receiver() as good,
        running([telling.deliverer(pace=pace)]),
    ):
        slow.delay_s = 20.0
        await telling.tell(cx, slow)
        await telling.tell(cx, good)
        names = await end_orders(cx, 20)
        began = time.monotonic()
        await until(lambda: len(good.events) == 20, 3)
        assert time.monotonic() - began < 3
        assert told_of(good) == sorted(names)
        assert (slow.events, slow.most_at_once) == ({}, 4)


async def test_names_whose_servers_are_silent_delay_no_other(telling: Telling) -> None:
    silent = threading.Event()

    def look_up(host: str, *further: Any) -> list[Any]:
        if host.startswith("silent-"):
            silent.wait(10)
        return socket.getaddrinfo(host, *further)

    async with (
        telling.venue.trader("a") as cx,
        Receiver() as good,
        running([telling.deliverer(pace=QUICK._replace(timeout_s=30.0), names=Names(look_up))]),
    ):
        for number in range(9):
            await cx.add_webhook(f"http://silent-{number}.test/", ALL)
        webhook = await cx.add_webhook(good.url.replace("127.0.0.1", "localhost"), ALL)
        good.secret = webhook.secret or ""
        names = await end_orders(cx, 5)
        try:
            await until(lambda: len(good.events) == 5, 3)
        finally:
            silent.set()
        assert told_of(good) == names


async def test_who_does_not_answer_in_time_is_asked_again(telling: Telling) -> None:
    deliverer = telling.deliverer(pace=QUICK._replace(timeout_s=0.3, max_attempts=9))
    async with telling.venue.trader("a") as cx, Receiver() as receiver, running([deliverer]):
        receiver.delay_s = 5.0
        webhook = await telling.tell(cx, receiver)
        await end_orders(cx, 1)
        await until(lambda: len(receiver.ids) == 2)
        receiver.delay_s = 0.0
        (taken,) = await until_all(cx, webhook, "delivered", 1)
        assert set(receiver.ids) == {taken.event_id}
        assert taken.attempts >= 3


# One deliverer at a time, and one that is killed.


async def test_a_second_deliverer_stands_by_and_goes_on_with_what_the_first_left(telling: Telling) -> None:
    async with telling.venue.trader("a") as cx, Receiver() as receiver, contextlib.AsyncExitStack() as second:
        await telling.tell(cx, receiver)
        receiver.delay_s = 0.5
        async with running([telling.deliverer()]):
            names = await end_orders(cx, 1)
            await until(lambda: len(receiver.ids) == 1)
            await second.enter_async_context(running([telling.deliverer()]))  # by now the first one is at work
            await asyncio.sleep(0.2)
            assert len(receiver.ids) == 1, "the other does not send it, too"
        receiver.delay_s = 0.0
        await until(lambda: len(receiver.ids) == 2)
        assert (len(set(receiver.ids)), told_of(receiver)) == (1, names)


async def test_kill_9_of_the_deliverer_in_the_middle(telling: Telling, dsn: str, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.write_text(new_vault_secret())
    telling.vault = Vault.of_file(secrets)
    words = ["-m", "gateways.cli.main", "deliverer", "--dsn", dsn, "--secrets", str(secrets), "--private-webhooks"]

    async def started() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(sys.executable, *words)

    vault = telling.vault
    log, store = telling.venue.log, telling.venue.store
    async with (
        serving(log, store, vault=vault, private_webhooks=True) as url,
        Receiver() as receiver,
    ):
        key = await telling.venue.key_of("a", "read", "trade", money="100")
        async with Exchange(url, key) as cx:
            webhook = await telling.tell(cx, receiver)
            receiver.delay_s = 1.0
            process = await started()
            names = await end_orders(cx, 8)
            await until(lambda: len(receiver.ids) >= 2)
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
            before = len(receiver.ids)
            receiver.delay_s = 0.0
            process = await started()
            await until_all(cx, webhook, "delivered", 8)
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
            assert told_of(receiver) == names
            assert len(receiver.events) == 8
            assert set(receiver.ids[:before]) <= set(receiver.ids[before:]), "what had no answer was sent again"


@pytest.mark.long
async def test_kill_9_of_the_whole_exchange_loses_and_invents_nothing(tmp_path: Path) -> None:
    process = ExchangeProcess(tmp_path / "x", arguments=("--private-webhooks",))
    acknowledged: list[str] = []
    async with Receiver() as receiver:
        await process.start()
        async with Exchange(process.url, process.key) as admin:
            account = await admin.create_account("a", scopes=["read", "trade"])
            await admin.deposit(account.account_id, "1000", reference="first")
        key = account.key or ""
        async with Exchange(process.url, key) as cx:
            webhook = await cx.add_webhook(receiver.url, ["order.cancelled"])
        receiver.secret = webhook.secret or ""

        async def trade(url: str) -> None:
            async with Exchange(url, key) as cx:
                while True:
                    acknowledged.extend(await end_orders(cx, 1, f"order-{len(acknowledged)}"))

        trading = asyncio.create_task(trade(process.url))
        await until(lambda: len(receiver.events) > 20)
        await process.kill()
        trading.cancel()
        await asyncio.wait({trading})
        await process.start()
        try:
            async with Exchange(process.url, key) as cx:
                ended = [order.client_order_id for order in await cx.orders(limit=5000)]
                await until(lambda: len(receiver.events) >= len(ended))
        finally:
            await process.stop()
        assert set(acknowledged) <= set(told_of(receiver)), "nothing is lost"
        assert told_of(receiver) == sorted(ended), "nothing is invented, and nothing has two ids"


# Where it may not go.


async def test_a_name_of_a_private_address_is_refused_when_the_connection_is_made(telling: Telling) -> None:
    async with telling.venue.trader("a") as cx, Receiver() as receiver, running([telling.deliverer(private=False)]):
        webhook = await cx.add_webhook(receiver.url.replace("127.0.0.1", "localhost"), ALL)
        await end_orders(cx, 1)
        (dead,) = await until_all(cx, webhook, "dead", 1)
        assert ("is no public address" in dead.error, receiver.ids) == (True, [])


async def test_without_the_operator_s_word_https_and_public_addresses_alone(exchange: Venue) -> None:
    async with exchange.trader("a") as cx:
        for url in ("http://example.com/", "https://127.0.0.1/", "https://[::ffff:10.0.0.1]/", "no url"):
            with pytest.raises(ExchangeError) as refused:
                await cx.add_webhook(url, ["lease.sold"])
            assert (refused.value.status, refused.value.field) == (400, "url")
        webhook = await cx.add_webhook("https://example.com/hook", ["lease.sold"])
        assert webhook.secret is not None
        assert [each.secret for each in await cx.webhooks()] == [None], "shown once"
        assert webhook.secret not in str(await exchange.store._rows("SELECT secret FROM webhooks")), "and sealed"


async def test_who_may_have_webhooks_and_whose_they_are(exchange: Venue) -> None:
    async with exchange.trader("a") as cx, exchange.trader("b") as other:
        made = [await cx.add_webhook(f"https://example.com/{number}", ["lease.sold"]) for number in range(10)]
        with pytest.raises(ExchangeError) as refused:
            await cx.add_webhook("https://example.com/more", ["lease.sold"])
        assert (refused.value.status, refused.value.code) == (409, "too_many_webhooks")
        first = made[0].webhook_id
        for call in (
            other.remove_webhook(first),
            other.deliveries(first),
            other.replay_delivery(first, "evt_1"),
            cx.replay_delivery(first, "evt_1"),
            cx.remove_webhook((1 << 63) - 1),
        ):
            with pytest.raises(ExchangeError) as refused:
                await call
            assert (refused.value.status, refused.value.code) == (404, "not_found")
        for bad_kinds in ([], ["lease.gone"]):
            with pytest.raises(ExchangeError) as refused:
                await cx.add_webhook("https://example.com/", bad_kinds)
            assert refused.value.status == 400
        await cx.remove_webhook(first)
        assert await cx.webhooks() == [
            Webhook(each.webhook_id, each.url, each.kinds, each.created_at) for each in made[1:]
        ]
        async with Exchange(exchange.url, await exchange.key_of("reader", "read")) as reader:
            with pytest.raises(ExchangeError) as refused:
                await reader.add_webhook("https://example.com/", ["lease.sold"])
            assert (refused.value.status, refused.value.code) == (403, "missing_scope")


async def test_what_a_removed_webhook_was_to_be_told_is_forgotten(telling: Telling) -> None:
    async with telling.venue.trader("a") as cx, Receiver() as receiver:
        webhook = await telling.tell(cx, receiver)
        await end_orders(cx, 3)
        assert len(await until_all(cx, webhook, "waiting", 3)) == 3
        await cx.remove_webhook(webhook.webhook_id)
        async with running([telling.deliverer()]):
            async with asyncio.timeout(SOON_S):
                while True:
                    if not await telling.venue.store._rows("SELECT FROM webhook_deliveries"):
                        break
                    await asyncio.sleep(0.02)
        assert receiver.ids == []


async def test_from_the_command_line(telling: Telling) -> None:
    key = await telling.venue.key_of("a", "read", "trade", money="10")
    env = {"CX_URL": telling.venue.url, "CX_KEY": key}
    async with Exchange(telling.venue.url, key) as client, Receiver() as receiver:
        made = await cx_json("webhooks", "add", receiver.url, "order.cancelled", env=env)
        receiver.secret = made["secret"]
        await end_orders(client, 1)
        async with running([telling.deliverer()]):
            await until(lambda: len(receiver.events) == 1)
            webhook = str(made["webhook_id"])
            (listed,) = await cx_json("webhooks", "list", env=env)
            assert listed["kinds"] == ["order.cancelled"]
            (sent,) = await cx_json("webhooks", "deliveries", webhook, env=env)
            assert json.loads(sent["body"]) == receiver.events[sent["event_id"]]
            assert (await cx("webhooks", "replay", webhook, sent["event_id"], env=env))[0] == 0
            await until(lambda: len(receiver.ids) == 2)
            assert (await cx("webhooks", "remove", webhook, env=env))[0] == 0
            assert await cx_json("webhooks", "list", env=env) == []
