"""What a delivery says and who may read it, which GPUs a lease has, and how leases go on, through the real exchange."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from gateways.client import Exchange, ExchangeError
from gateways.client.types import Bid, Lease
from schemas import codec
from schemas.commands import Extend
from schemas.events import Accepted, Extension, Filled
from schemas.ids import format_lease_id
from schemas.instructions import Accept, Deliver, End, Renew
from schemas.refusals import Refusal
from schemas.store import LeaseState
from schemas.topics import COMMANDS, INSTRUCTIONS
from schemas.units import HOUR_MS, MICRO
from settlement.audit import audit
from settlement.store import Store
from tests.integration.conftest import CLASS, Venue
from tests.settling import SOON_S, Market, ScriptedLog, fill_of, settling

WAY_IN = "ssh gpu@10.11.12.13 -p 2222"
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5TGh1n3lM2pk1wYzVjTjLxj4bnlgrVdHeHzUqBT0f/"


@contextlib.asynccontextmanager
async def parties(exchange: Venue, gpus: int = 16, **terms: Any) -> AsyncIterator[tuple[Exchange, Exchange]]:
    """A supplier with GPUs for sale, and a developer; at the end the money adds up."""
    async with exchange.trader("cloud", money="") as cloud, exchange.trader("developer", money="2000") as cx:
        await cloud.sell(CLASS, gpus=gpus, price="2.50", hours=720, **terms)
        yield cloud, cx
        assert (await audit(exchange.store, exchange.log)).findings == []


async def bought(cx: Exchange, gpus: int = 2, duration: str = "24h", **terms: Any) -> Lease:
    order = await cx.bid(CLASS, gpus, "2.60", duration=duration, min_fill=gpus, **terms)
    (lease,) = await cx.leases(order_id=order.order_id)
    return lease


async def refused(call: Any) -> tuple[int | None, str, str]:
    with pytest.raises(ExchangeError) as error:
        await call
    return error.value.status, error.value.code, error.value.field


async def test_how_to_reach_the_machines_is_for_the_buyer_alone_and_sealed_at_rest(exchange: Venue, dsn: str) -> None:
    async with parties(exchange) as (cloud, cx):
        lease = await bought(cx)
        told = await cloud.deliver(lease.lease_id, WAY_IN, proof="nvidia-smi: 2 x H100")
        assert (told.state, told.connection, told.proof) == ("delivered", None, "nvidia-smi: 2 x H100")
        seen = await cx.lease(lease.lease_id)
        assert (seen.connection, seen.proof) == (WAY_IN, "nvidia-smi: 2 x H100")
        assert [each.connection for each in await cx.leases()] == [WAY_IN]
        assert [each.connection for each in await cloud.leases(role="supplier")] == [None]
        end = await exchange.log.end(INSTRUCTIONS, 0)
        await cloud.deliver(lease.lease_id, WAY_IN, proof="nvidia-smi: 2 x H100")
        assert await exchange.log.end(INSTRUCTIONS, 0) == end, "the same again is not even said"
        assert await refused(cloud.deliver(lease.lease_id, "elsewhere")) == (409, "lease_state", "lease_id")
    reader = await exchange.log.reader(INSTRUCTIONS, 0, 0)
    assert all(b"10.11.12.13" not in record.value for record in await reader.poll())
    await reader.close()
    connection = await asyncpg.connect(dsn)
    assert "10.11.12.13" not in str(await connection.fetch("SELECT * FROM leases"))
    await connection.close()


async def test_no_gpu_is_in_two_leases_at_one_time(exchange: Venue, dsn: str) -> None:
    async with parties(exchange) as (cloud, cx):
        one, other, later = await bought(cx), await bought(cx), await bought(cx, start="now+48h")
        assert (await cloud.deliver(one.lease_id, WAY_IN, gpus=["GPU-b", "GPU-a"])).gpus == ["GPU-a", "GPU-b"]
        assert (await cx.leases())[-1].gpus is None, "lists do without"
        clash = (409, "gpu_in_use", "gpus")
        assert await refused(cloud.deliver(other.lease_id, WAY_IN, gpus=["GPU-c", "GPU-b"])) == clash
        assert await refused(cloud.deliver(other.lease_id, WAY_IN, gpus=["GPU-c"])) == (
            422,
            "gpu_names_invalid",
            "gpus",
        )
        assert (await cx.lease(other.lease_id)).state == "pending_delivery"
        assert (await cloud.deliver(later.lease_id, WAY_IN, gpus=["GPU-a", "GPU-b"])).state == "delivered"
        await cx.end(one.lease_id)
        assert (await cloud.deliver(other.lease_id, WAY_IN, gpus=["GPU-c", "GPU-b"])).gpus == ["GPU-b", "GPU-c"]
    connection = await asyncpg.connect(dsn)
    with pytest.raises(asyncpg.ExclusionViolationError, match="one_lease_a_gpu"):
        await connection.execute("INSERT INTO lease_gpus SELECT 1, 1, seller, gpu, during FROM lease_gpus")
    await connection.close()


async def test_a_bid_names_an_ssh_key_and_the_supplier_sees_it_with_the_lease(exchange: Venue) -> None:
    async with parties(exchange) as (cloud, cx):
        assert await refused(bought(cx, ssh_key="laptop")) == (422, "unknown_ssh_key", "ssh_key")
        assert await refused(cx.add_ssh_key("laptop", "-----BEGIN OPENSSH PRIVATE KEY-----")) == (
            400,
            "invalid",
            "public_key",
        )
        added = await cx.add_ssh_key("laptop", f"{ED25519} me@laptop\n")
        assert (added.name, added.public_key) == ("laptop", ED25519)
        assert added.fingerprint.startswith("SHA256:")
        order = await cx.bid(
            CLASS, 2, "2.60", duration="1h", min_fill=2, ssh_key="laptop", client_order_id="with a key"
        )
        assert order.ssh_key == ED25519
        (lease,) = await cloud.leases(role="supplier")
        assert (await cloud.lease(lease.lease_id)).ssh_key == ED25519
        await cx.remove_ssh_key("laptop")
        assert await cx.ssh_keys() == []
        assert await refused(cx.remove_ssh_key("laptop")) == (404, "not_found", "name")
        again = await cx.bid(
            CLASS, 2, "2.60", duration="1h", min_fill=2, ssh_key="laptop", client_order_id="with a key"
        )
        assert again.order_id == order.order_id, "the order from before is known, though its key is gone"
        assert (await cloud.lease(lease.lease_id)).ssh_key == ED25519, "a lease keeps what it had"


async def test_a_lease_is_extended_on_the_same_machines_for_the_ask_s_price(exchange: Venue) -> None:
    async with parties(exchange, gpus=2) as (cloud, cx):
        lease = await bought(cx)
        await cloud.deliver(lease.lease_id, WAY_IN, gpus=["GPU-a", "GPU-b"], proof="seen")
        await cx.accept(lease.lease_id)
        order = await cx.extend(lease.lease_id, duration="12h", max_price="2.70", client_order_id="more")
        assert (order.status, order.filled, order.extends) == ("filled", 2, lease.lease_id)
        (extension,) = await cx.leases(order_id=order.order_id)
        extension = await cx.lease(extension.lease_id)
        assert (extension.state, extension.connection, extension.gpus, extension.proof) == (
            "active",
            WAY_IN,
            ["GPU-a", "GPU-b"],
            "seen",
        )
        assert (extension.start, extension.price, extension.escrow) == (lease.end, "2.50", "60.00")
        assert (await cx.lease(lease.lease_id)).extended_by == extension.lease_id
        assert (await cx.extend(lease.lease_id, duration="12h", max_price="2.70", client_order_id="more")) == order
        assert await refused(cx.extend(lease.lease_id, duration="12h", max_price="2.70")) == (
            409,
            "lease_extended",
            "lease_id",
        )
        last = extension.lease_id
        assert (await cx.extend(last, duration="12h", max_price="2.40")).status == "cancelled", "too dear"
        assert (await cx.lease(last)).extended_by is None
        assert await refused(cx.extend(last, duration="700h", max_price="2.50")) == (402, "insufficient_funds", "")
        assert await refused(cx.extend(last, duration="1s", max_price="2.50")) == (400, "invalid", "duration")
        assert await refused(cloud.extend(last, duration="1h", max_price="2.50")) == (404, "unknown_lease", "lease_id")
        await cx.end(last)
        assert await refused(cx.extend(last, duration="1h", max_price="2.50")) == (409, "lease_state", "lease_id")


async def test_what_is_not_delivered_yet_is_extended_and_delivered_by_itself(exchange: Venue) -> None:
    async with parties(exchange, gpus=2) as (cloud, cx):
        lease = await bought(cx)
        order = await cx.extend(lease.lease_id, duration="12h", max_price="2.50")
        (extension,) = await cx.leases(order_id=order.order_id)
        assert extension.state == "pending_delivery"
        assert (await cx.lease(lease.lease_id)).extended_by == extension.lease_id
        for each in (lease, extension):
            assert (await cloud.deliver(each.lease_id, WAY_IN, gpus=["GPU-a", "GPU-b"])).state == "delivered"


async def test_a_lease_is_renewed_before_its_end_until_that_is_switched_off(exchange: Venue) -> None:
    async with parties(exchange, gpus=2, min_duration="1m") as (cloud, cx):
        lease = await bought(cx, duration="30m")
        await cloud.deliver(lease.lease_id, WAY_IN)
        await cx.accept(lease.lease_id)
        assert await refused(cloud.renew(lease.lease_id, duration="30m", max_price="2.50")) == (
            404,
            "unknown_lease",
            "lease_id",
        )
        wanted = await cx.renew(lease.lease_id, duration="1h", max_price="2.60")
        assert wanted.renewal is not None
        assert (wanted.renewal.duration, wanted.renewal.max_price) == ("1h", "2.60")
        async with asyncio.timeout(SOON_S):
            while (found := await cx.lease(lease.lease_id)).extended_by is None:  # noqa: ASYNC110 - time alone does it
                await asyncio.sleep(0.05)
        renewed = await cx.lease(found.extended_by)
        assert (renewed.state, renewed.start, renewed.connection, renewed.price) == (
            "active",
            lease.end,
            WAY_IN,
            "2.50",
        )
        assert renewed.renewal is not None
        order = await cx.order(renewed.order_id)
        assert isinstance(order, Bid)
        assert (order.status, order.extends) == ("filled", lease.lease_id)
        assert order.client_order_id == f"renewal of {lease.lease_id}"
        assert (await cx.stop_renewal(renewed.lease_id)).renewal is None
        assert await refused(cx.renew(lease.lease_id, duration="1h", max_price="2.60")) == (
            409,
            "lease_state",
            "lease_id",
        )


# With records written by hand, where hours pass.


async def test_a_renewal_is_sent_an_hour_before_the_end_and_goes_on_with_the_lease_that_it_makes(store: Store) -> None:
    log, price = ScriptedLog(), 2_500_000
    async with settling(log, store):
        market = Market(log, store)
        buyer = await market.account("buyer", fee_bps=100, money=100 * MICRO)
        seller = await market.account("seller")
        await market.open()
        lease = await market.sell(buyer, seller, price=price, limit=price, quantity=2, hours=6)
        ask_id = lease[0] - 1
        for said in (
            Deliver(lease, seller.id, "there"),
            Accept(lease, buyer.id),
            Renew(lease, buyer.id, 2 * HOUR_MS, price, buyer.owner, buyer.buyer_fee_bps),
        ):
            assert (await market.instruct(said)).refusal is None
        start = (await kept(store, lease)).start
        log.time = start + 5 * HOUR_MS
        await market.execute()
        assert log.records[COMMANDS] == []
        log.time += 1
        await market.execute()
        end = start + 6 * HOUR_MS
        name = f"renewal of {format_lease_id(lease)}"
        terms = 2, end, end + 2 * HOUR_MS, price, buyer.buyer_fee_bps
        sent = Extend(lease, ask_id, buyer.id, buyer.owner, name, end, *terms)
        assert await command(log, 0) == sent
        place = market.next_place
        fill = fill_of(place, ask_id, buyer, seller, price=price, quantity=2, start=end, hours=2)
        took = Accepted(buyer.id, name, fill.class_id, fill.taker, 2, price, buyer.buyer_fee_bps, end, 2 * HOUR_MS)
        await market.execute(took, fill, Extension(0, lease), Filled(place, buyer.id))
        first, then = await kept(store, lease), await kept(store, (place, 0))
        assert (first.next, first.renewal is not None and first.renewal.sent) == ((place, 0), True)
        assert (then.state, then.connection, then.renewal is not None and then.renewal.sent) == (
            LeaseState.ACTIVE,
            "there",
            False,
        )
        order = await store.order(buyer.id, place)
        assert order is not None
        assert codec.decode_command(order.command) == sent
        log.time = end + HOUR_MS + 1
        await market.execute()
        assert (await command(log, 1)).fill == (place, 0)
    assert (await audit(store, log)).findings == []


async def test_an_extension_that_is_none_is_a_lease_like_any_other(store: Store) -> None:
    log, price = ScriptedLog(), 2_500_000
    async with settling(log, store):
        market = Market(log, store)
        buyer, seller = await market.account("buyer", money=1000 * MICRO), await market.account("seller")
        await market.open()
        lease = await market.sell(buyer, seller, price=price, limit=price, quantity=2, hours=6)
        await market.instruct(Deliver(lease, seller.id, "there", ("a", "b")))
        await market.instruct(Accept(lease, buyer.id))
        await market.instruct(End(lease, buyer.id))
        end = (await kept(store, lease)).end
        place = market.next_place
        fill = fill_of(place, lease[0] - 1, buyer, seller, price=price, quantity=2, start=end, hours=2)
        took = Accepted(buyer.id, "more", fill.class_id, fill.taker, 2, price, 0, end, 2 * HOUR_MS)
        await market.execute(took, fill, Extension(0, lease), Filled(place, buyer.id))
        then = await kept(store, (place, 0))
        assert (then.state, then.connection) == (LeaseState.PENDING_DELIVERY, "")
        assert (await kept(store, lease)).next is None
        late = await market.instruct(Renew(lease, buyer.id, HOUR_MS, price, buyer.owner, 0))
        assert late.refusal is Refusal.LEASE_STATE
        for duration, limit in ((1, price), (HOUR_MS, 0), (-HOUR_MS, price), (HOUR_MS, 1 << 62)):
            wrong = await market.instruct(Renew((place, 0), buyer.id, duration, limit, buyer.owner, 0))
            assert wrong.refusal is Refusal.RENEWAL_INVALID, (duration, limit)
    assert (await audit(store, log)).findings == []


async def kept(store: Store, lease: tuple[int, int]) -> Any:
    found = await store.lease(lease)
    assert found is not None
    return found


async def command(log: ScriptedLog, offset: int) -> Any:
    """What settlement has sent to the engine there, once it has."""
    reader = await log.reader(COMMANDS, 0, offset)
    (record,) = await reader.poll(1, SOON_S)
    return codec.decode_command(record.value)
