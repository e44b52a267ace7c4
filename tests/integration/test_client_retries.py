"""An answer that was lost on the way: what may be sent again is, and has happened once."""

import contextlib
import inspect
import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, web

from gateways.client import Exchange, ExchangeError
from gateways.client.types import UsageReport
from tests.integration.conftest import CLASS, Venue
from tests.integration.test_cli_commands import SSH_KEY

ONCE = {"add_webhook", "create_account", "create_class", "create_key", "rotate_key"}
"""They make something anew each time: the client does not send them again by itself."""
AGAIN = {"replay_delivery"}
"""It is there to send an event again, under the same id."""
SAME = {"sell": "ask", "buy": "bid"}


class Lossy:
    """An exchange whose first answer to each request that changes something is lost, after it was carried out."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._known: set[tuple[str, str, bytes]] = set()
        self.lost = 0

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        kept = {name: request.headers[name] for name in ("Authorization", "Content-Type") if name in request.headers}
        async with (
            ClientSession() as http,
            http.request(request.method, self._url + request.path_qs, data=body, headers=kept) as answer,
        ):
            this = request.method, request.path_qs, body
            if request.method != "GET" and this not in self._known:
                self._known.add(this)
                self.lost += 1
                assert request.transport is not None
                request.transport.abort()
            return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, url: str) -> AsyncIterator[tuple[str, "Lossy"]]:
        lossy = cls(url)
        runner = web.ServerRunner(web.Server(lossy))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield site.name, lossy
        finally:
            await runner.cleanup()


def changing() -> set[str]:
    """The client's methods that change something."""
    methods = inspect.getmembers(Exchange, inspect.isfunction)
    written = re.compile(r'"(POST|PUT|PATCH|DELETE)"|self\._(many|remove)\(|self\.bid\(|self\.ask\(')
    return {name for name, method in methods if not name.startswith("_") and written.search(inspect.getsource(method))}


async def test_what_is_sent_again_happens_once(exchange: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.client.exchange.FIRST_PAUSE_S", 0.001)
    known, called = changing(), set[str]()
    for name in known:
        monkeypatch.setattr(Exchange, name, noting(name, getattr(Exchange, name), called))
    developer_key = await exchange.key_of("developer", "read", "trade", "withdraw", money="10000")
    cloud_key = await exchange.key_of("cloud", "read", "supply", "meter")
    await exchange.admin.create_class("SPARE", accelerator="H100", memory_gb=80, form_factor="SXM")
    spare = await exchange.admin.create_key(["read"])
    hook = await exchange.admin.add_webhook("https://example.com/told", ["lease.sold"])
    called.clear()
    async with (
        Lossy.of(exchange.url) as (url, lossy),
        Exchange(url, exchange.key) as admin,
        Exchange(url, developer_key) as developer,
        Exchange(url, cloud_key) as cloud,
    ):
        account = (await developer.account()).account_id
        await as_admin(admin, account)
        await admin.revoke_key(spare.key_id)
        await admin.remove_webhook(hook.webhook_id)
        await as_developer(developer)
        await leased(admin, developer, cloud)
        assert called == known - ONCE - AGAIN, "each is tried here"
        assert lossy.lost >= len(called) - len(SAME)
        assert [each.amount for each in await developer.deposits()] == ["7.00", "10000.00"]
        assert [each.amount for each in await developer.withdrawals()] == ["5.00"]
        for call in (
            admin.create_account("once"),
            admin.create_key(["read"]),
            admin.rotate_key(1),
            admin.create_class("ONCE", accelerator="H100", memory_gb=80, form_factor="SXM"),
            admin.add_webhook("https://example.com/other", ["lease.sold"]),
        ):
            with pytest.raises(ExchangeError, match="cannot be reached"):
                await call
        assert [each.name for each in await admin.accounts()].count("once") == 1
        assert (await admin.status()).imbalance_microusd == 0


def noting(name: str, method: object, called: set[str]) -> object:
    def call(*args: object, **named: object) -> object:
        called.add(name)
        assert callable(method)
        return method(*args, **named)

    return call


async def as_admin(admin: Exchange, account: str) -> None:
    assert (await admin.change_class(CLASS, reclaim_credit_bps=100)).reclaim_credit_bps == 100
    assert (await admin.set_reference(CLASS, "2.50")).price == "2.50"
    fee = await admin.set_fee("gold", buyer_fee_bps=10, seller_fee_bps=5, since="2999-01-01T00:00:00Z")
    assert [each.tier for each in await admin.fees()] == [fee.tier]
    assert (await admin.set_tier(account, "gold")).tier == "gold"
    assert (await admin.set_credit(account, "100")).credit == "100.00"
    assert (await admin.set_limits(account, open_orders=50)).open_orders == 50
    assert (await admin.kill(account, on=True)).on
    assert not (await admin.kill(account, on=False)).on
    assert [each.mode for each in await admin.halt("full", CLASS)] == ["full"]
    assert [each.mode for each in await admin.halt("none", CLASS)] == ["none"]
    assert (await admin.retire_class("SPARE")).retired
    await admin.deposit(account, "7", reference="second")
    await admin.grant_daily(account, "1")


async def as_developer(developer: Exchange) -> None:
    terms = {"duration": "1h", "min_fill": 1}
    assert (await developer.preview_bid(CLASS, 1, "0.10", duration="1h", min_fill=1)).left == 1
    first = await developer.buy(CLASS, gpus=4, hours=1, max_price="0.10")
    amended = await developer.amend(first.order_id or "", quantity=3)
    assert (amended.order_id, amended.quantity) == (first.order_id, 3)
    assert (await developer.cancel(first.order_id or "")).status == "cancelled"
    await developer.bid(CLASS, 1, "0.10", duration="1h", min_fill=1, client_order_id="named")
    assert (await developer.cancel_named("named")).status == "cancelled"
    bids = [{"side": "bid", "class": CLASS, "quantity": 1, "price": "0.10", **terms} for _ in range(3)]
    placed = [each for each in await developer.place_many(bids) if not isinstance(each, ExchangeError)]
    await developer.cancel_many([placed[0].order_id or ""])
    await developer.cancel_all()
    assert [each.status for each in await developer.orders()] == ["cancelled"] * 5, "none was placed twice"
    assert (await developer.arm_dead_man(seconds=3600)).until is not None
    assert (await developer.disarm_dead_man()).until is None
    await developer.add_ssh_key("laptop", SSH_KEY)
    assert [each.name for each in await developer.ssh_keys()] == ["laptop"]
    await developer.remove_ssh_key("laptop")
    assert await developer.ssh_keys() == []
    assert (await developer.set_caps("team", "ml", day="500")).day == "500.00"
    withdrawn = await developer.withdraw("5", "IBAN", reference="w-1")
    assert withdrawn.state == "requested"


async def leased(admin: Exchange, developer: Exchange, cloud: Exchange) -> None:
    account = (await developer.account()).account_id
    assert (await admin.set_withdrawal(account, "w-1", "settled")).state == "settled"
    assert (await cloud.preview_ask(CLASS, 1, "2.50", end="now+48h")).left == 1
    await cloud.sell(CLASS, gpus=4, price="2.50", hours=48)
    await cloud.ask(CLASS, 2, "2.50", end="now+48h", tier="interruptible", notice_minutes=5)
    guaranteed = await developer.buy(CLASS, gpus=4, hours=2, max_price="2.50", now_only=True)
    interruptible = await developer.buy(
        CLASS, gpus=2, hours=2, max_price="2.50", now_only=True, accepts={"interruptible": True}
    )
    (one,), (other,) = guaranteed.fills or [], interruptible.fills or []
    for fill in (one, other):
        await cloud.deliver(fill.lease_id, "ssh there")
        assert (await developer.accept(fill.lease_id)).state == "active"
    assert (await developer.extend(one.lease_id, duration="1h", max_price="2.50")).status == "filled"
    (longer,) = [each for each in await developer.leases() if each.lease_id not in (one.lease_id, other.lease_id)]
    assert (await developer.renew(longer.lease_id, duration="1h", max_price="2.50")).renewal is not None
    assert (await developer.stop_renewal(longer.lease_id)).renewal is None
    assert len((await cloud.degrade(one.lease_id, 1, "fabric")).degradations or []) == 1, "it was degraded once"
    assert (await cloud.restore(one.lease_id)).state == "active"
    report = UsageReport(lease_id=one.lease_id, sequence=1, gpu_ms=0)
    assert [each.status for each in await cloud.report_usage([report])] == ["accepted"]
    assert (await cloud.reclaim(other.lease_id)).state == "reclaiming"
    assert (await developer.end(one.lease_id)).state in ("ended", "closed")
    for call in (cloud.correct(one.lease_id, 0, "was down"), admin.correct_any(one.lease_id, 0, "was down")):
        with pytest.raises(ExchangeError, match="this needs it to be closed"):
            await call
    await admin.cancel_everybody()
