"""The fee schedule: shown before, stamped in the order by the exchange's clock, charged as shown."""

import asyncio

import asyncpg
import pytest

from gateways.api.fees import MAX_FEES
from gateways.client import Exchange, ExchangeError
from schemas.events import Accepted, Fill
from schemas.ids import parse_account_id
from schemas.store import Account, Fee
from schemas.units import HOUR_MS, MINUTE_MS, format_time
from settlement.audit import audit
from tests.integration.conftest import CLASS, Venue
from tests.integration.test_cli import cx, cx_json
from tests.integration.test_lifecycle import events
from tests.integration.test_payments import walked


def test_an_account_pays_what_is_in_force_at_that_moment() -> None:
    fees = tuple(Fee("gold", since, bps, bps + 1, 0) for since, bps in ((100, 50), (200, 40), (300, 30)))
    account = Account(7, "seven", 7, 1, 2, 0, "gold", fees)
    found = [
        (now, account.at(now).buyer_fee_bps, account.at(now).seller_fee_bps) for now in (99, 100, 199, 200, 300, 301)
    ]
    assert found == [(99, 1, 2), (100, 50, 51), (199, 50, 51), (200, 40, 41), (300, 30, 31), (301, 30, 31)]
    assert [len(account.at(now).fees) for now in (99, 100, 200, 300)] == [3, 2, 1, 0]
    assert account.at(150).at(250).buyer_fee_bps == 40
    assert Account(7, "seven", 7, 1, 2, 0).at(10**12).buyer_fee_bps == 1


async def began(exchange: Venue, tier: str, buyer: int, seller: int, *, ms_ago: int) -> None:
    """A fee that was set some time ago, or that is set for soon."""
    since = exchange.log.now() - ms_ago
    assert await exchange.store.set_fee(Fee(tier, since, buyer, seller, since - HOUR_MS), max_fees=MAX_FEES)


async def bid_fee(cx: Exchange) -> int:
    order = await cx.buy(CLASS, gpus=1, hours=1, max_price="1.00", now_only=True)
    await cx.cancel(order.order_id or "")
    return order.fee_bps


async def test_an_order_is_stamped_with_the_fee_of_its_moment_and_pays_it_for_life(exchange: Venue) -> None:
    await began(exchange, "gold", 200, 100, ms_ago=5_000)
    async with exchange.trader("cloud", money="") as cloud, exchange.trader("developer", money="1000") as cx:
        account, supplier = await cx.account(), await cloud.account()
        assert (account.tier, account.buyer_fee_bps, await bid_fee(cx)) == (None, 0, 0)
        for each in (account, supplier):
            assert (await exchange.admin.set_tier(each.account_id, "gold")).buyer_fee_bps == 200
        await began(exchange, "gold", 300, 0, ms_ago=-2_000)
        seen = await exchange.admin.set_tier(account.account_id, "gold")
        assert (seen.buyer_fee_bps, [fee.buyer_fee_bps for fee in seen.coming_fees]) == (200, [300]), "shown before"
        assert (await cx.account()).coming_fees == seen.coming_fees
        ask = await cloud.sell(CLASS, gpus=8, price="2.50", hours=48)
        bid = await cx.buy(CLASS, gpus=8, hours=2, max_price="2.50", now_only=True)
        assert (ask.fee_bps, bid.fee_bps) == (100, 200)
        await asyncio.sleep(2.1)
        assert ((await cx.account()).buyer_fee_bps, await bid_fee(cx)) == (300, 300)
        later = await cx.buy(CLASS, gpus=1, hours=2, max_price="1.00", starts=["now+2h"])
        assert later.held == "2.06"
        amended = await cx.amend(later.order_id or "", price="2.00")
        assert (amended.fee_bps, amended.held) == (300, "4.12")
        (fill,) = await events(exchange, Fill)
        assert (fill.buyer_fee_bps, fill.seller_fee_bps) == (200, 100), "the ask's is its own, of when it was placed"
        accepted = [event.fee_bps for event in await events(exchange, Accepted)]
        assert accepted == [0, 100, 200, 300, 300]
        (lease,) = await cx.leases(order_id=bid.order_id)
        assert lease.escrow == "40.80"
        await exchange.admin.set_tier(account.account_id, None)
        assert await bid_fee(cx) == 0
    assert (await audit(exchange.store, exchange.log)).findings == []


async def test_what_is_in_force_is_not_changed_and_what_comes_is_known_a_minute_before(exchange: Venue) -> None:
    await began(exchange, "gold", 200, 100, ms_ago=5_000)
    admin, now = exchange.admin, exchange.log.now()
    account = (await admin.account()).account_id
    terms = {"buyer_fee_bps": 1, "seller_fee_bps": 1}
    for call, status, code, field in (
        (admin.set_fee("gold", since=format_time(now - 5_000), **terms), 422, "fee_too_soon", "since"),
        (admin.set_fee("gold", since=format_time(now + MINUTE_MS - 1), **terms), 422, "fee_too_soon", "since"),
        (admin.set_fee("gold", since="soon", **terms), 400, "invalid", "since"),
        (admin.set_fee("Gold", since="now+1h", **terms), 400, "invalid", "tier"),
        (admin.set_fee("gold", since="now+1h", buyer_fee_bps=1001, seller_fee_bps=0), 400, "invalid", "buyer_fee_bps"),
        (admin.set_fee("gold", since="now+1h", buyer_fee_bps=0, seller_fee_bps=-1), 400, "invalid", "seller_fee_bps"),
        (admin.set_tier(account, "silver"), 404, "unknown_tier", "tier"),
        (admin.set_tier(account, "\x01"), 400, "invalid", "tier"),
        (admin.set_tier("acc_zz", "gold"), 404, "unknown_account", "account"),
    ):
        with pytest.raises(ExchangeError) as refused:
            await call
        assert (refused.value.status, refused.value.code, refused.value.field) == (status, code, field)
    first = await admin.set_fee("gold", since="now+1h", **terms)
    again = await admin.set_fee("gold", since=first.since, buyer_fee_bps=2, seller_fee_bps=0)
    assert (first.buyer_fee_bps, again.buyer_fee_bps) == (1, 2), "what is to come may be set anew"
    await admin.set_fee("silver", since="now+1h", **terms)
    async with Exchange(exchange.url) as anyone:
        fees = await anyone.fees()
        assert [(fee.tier, fee.buyer_fee_bps) for fee in fees] == [("gold", 200), ("gold", 2), ("silver", 1)]
        assert [fee["since"] for fee in await walked(exchange, "fees", anyone)] == [fee.since for fee in fees]
        for call in (anyone.set_tier(account, "gold"), anyone.set_fee("gold", since="now+1h", **terms)):
            with pytest.raises(ExchangeError) as refused:
                await call
            assert refused.value.status == 401
    assert not await exchange.store.set_fee(Fee("gold", now + HOUR_MS, 1, 1, now), max_fees=2)
    with pytest.raises(asyncpg.CheckViolationError):
        await exchange.store.set_fee(Fee("gold", now, 1, 1, now), max_fees=MAX_FEES)
    assert await exchange.store.set_tier(parse_account_id(account), "silver"), "whose fees are still to come"
    assert (await admin.account()).buyer_fee_bps == 0


async def test_fees_are_set_by_hand(exchange: Venue) -> None:
    admin = {"CX_URL": exchange.url, "CX_KEY": exchange.key}
    made = await cx_json("accounts", "create", "developer", env=admin)
    fee = "admin", "fee", "gold", "--buyer-bps", "150", "--seller-bps", "50", "--from", "now+24h"
    assert [each["buyer_fee_bps"] for each in await cx_json(*fee, env=admin)] == [150]
    account = await cx_json("admin", "tier", made["account_id"], "gold", env=admin)
    assert (account["tier"], account["buyer_fee_bps"], account["coming_fees"][0]["seller_fee_bps"]) == ("gold", 0, 50)
    assert (await cx_json("admin", "tier", made["account_id"], env=admin))["tier"] is None
    _, out, _ = await cx("fees", env=admin)
    assert out.splitlines()[1].split()[::2] == ["gold", "150"]
