"""A price list against the real exchange: what stands is what the list says, however often and however rudely."""

import asyncio
import contextlib
import csv
import io
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from gateways.client import Exchange, ExchangeError
from gateways.client.types import Ask, Offer
from gateways.supply.catalogues import catalogue
from gateways.supply.inventory import Inventory, Line, inventory
from gateways.supply.naming import Settled
from gateways.supply.plan import Plan, plan
from gateways.supply.sync import Outcome, carry_out, market, ticks
from schemas.ids import parse_order_id
from schemas.units import DAY_MS, format_usd
from tests.exchange_process import ExchangeProcess
from tests.integration.conftest import CLASS, Venue
from tests.integration.test_cli import REFUSED, UNREACHABLE, USAGE, cx, cx_json

LIST = "inventory"
OTHER = "L40S-48GB"
HEADER = "GPU Model,Site,Count,USD/h"
MAPPING = "columns: {GPU Model: gpu, Site: region, Count: gpus}\n"
Row = dict[str, str]
ROW: Row = {"id": "a", "gpu": CLASS, "gpus": "64", "price": "2.35"}


@pytest.fixture
async def supplier(exchange: Venue) -> AsyncIterator[Exchange]:
    """A supplier's client of an exchange with two classes."""
    await exchange.admin.create_class(OTHER, accelerator="L40S", memory_gb=48, form_factor="PCIe")
    async with exchange.trader("cloud") as cloud:
        yield cloud


async def planned(cloud: Exchange, rows: Sequence[Row], days: int = 30) -> tuple[Inventory, Plan]:
    found = inventory([Line(f"line {n}", row) for n, row in enumerate(rows, 2)], await ticks(cloud), Settled())
    assert (found.wrong, found.quarantined) == ([], [])
    return found, plan(found, await market(cloud, LIST), days * DAY_MS)


async def synced(cloud: Exchange, rows: Sequence[Row], days: int = 30) -> Outcome:
    """As `cx supply sync --apply` does it: a second plan for what replaces something."""
    _, first = await planned(cloud, rows, days)
    outcome = await carry_out(cloud, first, LIST)
    if any(post.replaces for post in first.posts):
        _, second = await planned(cloud, rows, days)
        outcome = await carry_out(cloud, second, LIST)
    return outcome


async def stands(cloud: Exchange) -> list[tuple[object, ...]]:
    """What is open, of all lists."""
    orders = await cloud.orders(status="open", side="ask", limit=1000)
    return sorted((a.class_id, a.quantity, a.price, a.region, a.lot) for a in orders if isinstance(a, Ask))


async def until_it_stands(cloud: Exchange, wanted: Sequence[tuple[object, ...]]) -> None:
    for _ in range(400):
        if await stands(cloud) == [*wanted]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{await stands(cloud)} and not {wanted}")


async def until_for_sale(client: Exchange, start: str) -> int:
    """GPUs for sale for an hour from then, once the replica knows of any."""
    for _ in range(400):
        if asks := (await client.book(CLASS, start=start, duration="1h")).asks:
            return asks[0].quantity
        await asyncio.sleep(0.02)
    raise AssertionError("nothing is for sale then")


async def folded(client: Exchange, order_id: int) -> list[Offer]:
    """What is for sale over 12 hours from in an hour, once the replica knows of an order."""
    for _ in range(400):
        found = await client.offers(CLASS, start="now+1h", duration="12h")
        if found.position is not None and parse_order_id(found.position) >= order_id:
            return found.offers
        await asyncio.sleep(0.02)
    raise AssertionError(f"the replica is at {found.position}")


def lists(seed: int) -> list[Row]:
    """Up to 12 rows, some of them as they were in the list before."""
    dice = random.Random(seed)
    return [
        {
            "id": str(number),
            "gpu": dice.choice([CLASS, OTHER]),
            "gpus": str(8 * dice.randint(1, 8)),
            "price": dice.choice(["2.35", "2.40", "0.85"]),
            "region": dice.choice(["", "us-east", "eu-north"]),
            "lot": dice.choice(["1", "8"]),
        }
        for number in dice.sample(range(16), dice.randint(0, 12))
    ]


async def test_the_book_is_the_list_and_a_second_time_there_is_nothing_to_do(supplier: Exchange) -> None:
    by_hand = await supplier.sell(OTHER, gpus=3, price="9.99", hours=48)
    for seed in range(8):
        rows = lists(seed)
        assert (await synced(supplier, rows)).went_well
        found, again = await planned(supplier, rows)
        assert again.is_empty
        wanted = [(o.class_id, o.quantity, format_usd(o.price), str(r["region"] or "unspecified"), o.lot)
                  for o, r in zip(found.offers, rows, strict=True)]  # fmt: skip
        assert await stands(supplier) == sorted([*wanted, (OTHER, 3, "9.99", "unspecified", 1)])
    assert (await supplier.order(by_hand.order_id or "")).status == "open", "what the list did not place is not its own"


async def test_a_sync_that_was_cut_off_anywhere_is_healed_by_the_next(supplier: Exchange) -> None:
    for seed in range(6):
        rows = lists(100 + seed)
        _, first = await planned(supplier, rows)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01 * seed):
                await carry_out(supplier, first, LIST)
        assert (await synced(supplier, rows)).went_well
        _, again = await planned(supplier, rows)
        assert again.is_empty
        assert len(await stands(supplier)) == len(rows), "nothing stands twice"


async def test_two_at_once_place_each_row_once(supplier: Exchange) -> None:
    rows = [ROW | {"id": str(number)} for number in range(12)]
    _, first = await planned(supplier, rows)
    outcomes = await asyncio.gather(carry_out(supplier, first, LIST), carry_out(supplier, first, LIST))
    assert all(outcome.went_well for outcome in outcomes)
    assert len(await stands(supplier)) == 12


async def test_a_row_that_comes_and_goes_has_an_ask_each_time(supplier: Exchange) -> None:
    for _ in range(5):
        assert (await synced(supplier, [ROW])).went_well
        assert (await synced(supplier, [])).went_well
    orders = await supplier.orders(side="ask", limit=100)
    assert sorted(order.client_order_id.rpartition(":")[2] for order in orders) == ["1", "2", "3", "4", "5"]


async def test_what_is_leased_is_not_offered_again_by_a_row_that_comes_back(
    exchange: Venue, supplier: Exchange
) -> None:
    async with exchange.trader("developer") as developer:
        await synced(supplier, [ROW])
        await developer.buy(CLASS, gpus=8, hours=24, max_price="2.35", now_only=True)
        await synced(supplier, [])
        await synced(supplier, [ROW])
        assert [quantity for _, quantity, *_ in await stands(supplier)] == [56]
        _, again = await planned(supplier, [ROW])
        assert again.is_empty
        (lease,) = await developer.leases()
        await supplier.deliver(lease.lease_id, "ssh gpu@host")
        await developer.accept(lease.lease_id)
        await developer.end(lease.lease_id)
        await synced(supplier, [ROW])
        assert [quantity for _, quantity, *_ in await stands(supplier)] == [64]


async def test_a_row_that_becomes_another_class_is_sold_as_that_but_for_what_is_leased(
    exchange: Venue, supplier: Exchange
) -> None:
    async with exchange.trader("developer") as developer:
        await synced(supplier, [ROW])
        await developer.buy(CLASS, gpus=8, hours=24, max_price="2.35", now_only=True)
        assert (await synced(supplier, [ROW | {"gpu": OTHER}])).went_well
        assert await stands(supplier) == [(OTHER, 56, "2.35", "unspecified", 1)]


async def test_an_offer_that_is_put_off_goes_on_knowing_what_is_leased(exchange: Venue, supplier: Exchange) -> None:
    async with exchange.trader("developer") as developer:
        await synced(supplier, [ROW])
        await developer.buy(CLASS, gpus=8, hours=24, max_price="2.35", now_only=True)
        assert (await synced(supplier, [ROW], days=90)).went_well
        assert await until_for_sale(supplier, "now+1000h") == 64, "later than the 30 days that it was on offer for"
        assert await until_for_sale(supplier, "now+2h") == 56
        _, again = await planned(supplier, [ROW], days=90)
        assert again.is_empty


async def test_a_row_that_the_exchange_refuses_does_not_keep_the_others_back(
    exchange: Venue, supplier: Exchange
) -> None:
    await exchange.admin.change_class(OTHER, max_price="1.00")
    outcome = await synced(supplier, [ROW, ROW | {"id": "b", "gpu": OTHER}, ROW | {"id": "c"}])
    assert [bool(done.refused) for done in outcome.done] == [False, True, False]
    assert "1.00" in outcome.done[1].refused
    assert len(await stands(supplier)) == 2


async def test_a_key_that_may_not_sell_stops_it_at_once(exchange: Venue) -> None:
    async with Exchange(exchange.url, await exchange.key_of("reader", "read")) as reader:
        rows = [ROW | {"id": str(number)} for number in range(120)]
        outcome = await synced(reader, rows)
    assert "supply" in outcome.stopped
    assert (len(outcome.done), len(outcome.unsent)) == (100, 20)
    assert not outcome.went_well


async def test_what_is_for_sale_by_where_and_how(exchange: Venue, supplier: Exchange) -> None:
    rows = [
        ROW | {"region": "us-east", "lot": "8"},
        ROW | {"id": "b", "region": "us-east", "lot": "8", "gpus": "16"},
        ROW | {"id": "c", "region": "eu-north", "price": "2.10", "interconnect": "infiniband"},
        ROW | {"id": "d", "region": "eu-north", "price": "0.90", "tier": "interruptible", "gpus": "4"},
        ROW | {"id": "e", "region": "eu-north", "price": "0.80", "min_duration": "7d"},
    ]
    await synced(supplier, rows)
    async with exchange.trader("developer") as developer:
        accepts = {"regions": ["us-east"]}
        await developer.buy(CLASS, gpus=8, hours=24, max_price="2.35", now_only=True, accepts=accepts)
        await developer.buy(CLASS, gpus=4, hours=24, max_price="2.35", split=1, starts=["now+48h"])
        orders = await developer.orders()
    found = await folded(supplier, max(parse_order_id(order.order_id or "") for order in orders))
    shown = [(o.price, o.region, o.tier, o.interconnect, o.lot, o.quantity, o.most, o.asks) for o in found]
    assert shown == [
        ("0.90", "eu-north", "interruptible", "none", 1, 4, 4, 1),
        ("2.10", "eu-north", "guaranteed", "infiniband", 1, 64, 64, 1),
        ("2.35", "us-east", "guaranteed", "none", 8, 72, 56, 2),
    ]
    assert len((await supplier.offers(CLASS, start="now+1h", duration="12h", limit=2)).offers) == 2
    assert "0.80" in {offer.price for offer in (await supplier.offers(CLASS, duration="7d")).offers}
    async with Exchange(exchange.url) as anyone:
        with pytest.raises(ExchangeError, match="no class"):
            await anyone.offers("no-such-class")


async def test_the_book_as_a_catalogue_that_can_be_read_back(
    exchange: Venue, supplier: Exchange, tmp_path: Path
) -> None:
    await synced(
        supplier,
        [
            ROW | {"region": "us-east", "lot": "8", "gpus": "8"},
            ROW | {"id": "b", "region": "us-east", "price": "2.60", "gpus": "2"},
            ROW | {"id": "c", "region": "us-east", "price": "0.90", "gpus": "2", "tier": "interruptible"},
            ROW | {"id": "d", "gpu": OTHER, "price": "0.8501", "gpus": "1"},
        ],
    )
    env = {"CX_URL": exchange.url}
    assert (await cx("supply", "export", env=env))[0] == USAGE
    out = tmp_path / "vms.csv"
    (newest, *_) = await supplier.orders(limit=1)
    await folded(supplier, parse_order_id(newest.order_id or ""))
    assert (await cx("supply", "export", "--skypilot", "--out", str(out), env=env))[0] == 0
    assert (await cx("supply", "export", "--skypilot", env=env))[1] == out.read_text()
    table = list(csv.DictReader(out.read_text().splitlines()))
    assert [(r["InstanceType"], r["AcceleratorName"], r["Price"], r["SpotPrice"], r["Region"]) for r in table] == [
        ("1x-H100-SXM-80GB", "H100-SXM", "2.60", "0.90", "us-east"),
        ("2x-H100-SXM-80GB", "H100-SXM", "5.20", "1.80", "us-east"),
        ("8x-H100-SXM-80GB", "H100-SXM", "18.80", "", "us-east"),
        ("1x-L40S-48GB", "L40S", "0.8501", "", "unspecified"),
    ]
    assert "'SizeInMiB': 81920" in table[0]["GpuInfo"]
    for form, prices in (("skypilot", {"2.60", "2.35", "0.8501"}), ("skypilot:spot", {"0.90"})):
        found = inventory(catalogue(out.read_text(), form), await ticks(supplier), Settled())
        assert (found.wrong, found.quarantined) == ([], [])
        assert {format_usd(offer.price) for offer in found.offers} == prices


# As people and services call it


async def test_from_a_price_list_to_the_book_by_hand(tmp_path: Path) -> None:
    listing = tmp_path / "inventory.csv"
    listing.write_text(f"{HEADER}\nNVIDIA H100 80GB HBM3,us-east-2,64,2.35\nNVIDIA H100,hall 7,8,1.99\nL40S,,24,0.85\n")
    async with ExchangeProcess.running(tmp_path / "exchange") as running:
        admin = {"CX_URL": running.url, "CX_KEY": running.key}
        account = await cx_json("accounts", "create", "acme", "--scopes", "read,supply", env=admin)
        env = {"CX_URL": running.url, "CX_KEY": account["key"]}
        sync = ("supply", "sync", str(listing), "--map", "USD/h=price")
        code, out, err = await cx(*sync, env=env)
        assert (code, out) == (REFUSED, "")
        assert "no column says gpu, gpus: there is GPU Model, Site, Count, USD/h" in err
        (tmp_path / "inventory.mapping.yaml").write_text(MAPPING)

        code, out, _ = await cx(*sync, env=env)
        assert code == 0
        assert "2 would be posted" in out
        assert f"cx supply name 'NVIDIA H100' CLASS --names {tmp_path / 'supply-names.csv'}" in out
        assert await cx_json("orders", env=env) == [], "a dry run sends nothing"
        code, out, err = await cx(*sync, "--csv", env=env)
        assert [row["class"] for row in csv.DictReader(io.StringIO(out))] == ["H100-SXM-80GB", "L40S-48GB", ""]
        assert "2 would be posted" in err

        names = ("--names", str(tmp_path / "supply-names.csv"))
        assert (await cx("supply", "name", "NVIDIA H100", "H100-PCIe-80GB", *names))[0] == 0
        assert "cx supply region 'hall 7'" in (await cx(*sync, env=env))[1]
        assert (await cx("supply", "region", "hall 7", "mars", *names))[0] == USAGE
        assert (await cx("supply", "region", "hall 7", "eu-west", *names))[0] == 0
        done = await cx_json(*sync, "--apply", env=env)
        assert [(each["class"], each["gpus"], each["region"], each["status"]) for each in done["posted"]] == [
            ("H100-SXM-80GB", 64, "us-east", "done"),
            ("H100-PCIe-80GB", 8, "eu-west", "done"),
            ("L40S-48GB", 24, "unspecified", "done"),
        ]
        again = await cx_json(*sync, "--apply", env=env)
        assert (again["posted"], again["changed"], again["withdrawn"], again["unchanged"]) == ([], [], [], 3)

        listing.write_text(f"{HEADER}\nNVIDIA H100 80GB HBM3,us-east-2,64,2.349999\nL40S,,24,0.85\n")
        code, out, err = await cx(*sync, "--apply", env=env)
        assert code == REFUSED
        assert "price is '2.349999'" in out
        assert "nothing is sent" in err
        listing.write_text(f"{HEADER}\nL40S,,24,0.80\n")
        code, out, err = await cx(*sync, "--apply", env=env)
        assert code == REFUSED
        assert "72 of 96 GPUs off the market (75 %)" in err
        assert len(await cx_json("orders", "--status", "open", env=env)) == 3, "nothing was sent"
        code, out, _ = await cx(*sync, "--apply", "--max-withdraw", "75%", env=env)
        assert (code, out.splitlines()[-1]) == (
            0,
            "0 posted, 1 changed, 2 withdrawn, 0 unchanged, 0 quarantined, 0 wrong",
        )
        assert "price 0.85 -> 0.80" in out
    assert (await cx(*sync, env=env))[0] == UNREACHABLE
    assert (await cx(*sync, "--apply", "--dry-run", env=env))[0] == USAGE
    assert (await cx("supply", "sync", str(tmp_path / "no.csv"), env=env))[0] == REFUSED


async def test_as_a_service_it_follows_the_list_until_it_is_stopped(exchange: Venue, tmp_path: Path) -> None:
    listing = tmp_path / "inventory.json"
    listing.write_text(json.dumps([ROW]))
    key = await exchange.key_of("cloud", "read", "supply")
    env = {**os.environ, "CX_URL": exchange.url, "CX_KEY": key}
    words = ("supply", "sync", str(listing), "--apply", "--interval", "1s")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateways.cli.main", *words, env=env, stdout=asyncio.subprocess.PIPE
    )
    async with Exchange(exchange.url, key) as cloud:
        for content, wanted in (
            ([ROW], [(CLASS, 64, "2.35", "unspecified", 1)]),
            ([ROW | {"price": "2.30"}], [(CLASS, 64, "2.30", "unspecified", 1)]),
            (None, [(CLASS, 64, "2.30", "unspecified", 1)]),
            ([ROW | {"gpus": "63"}], [(CLASS, 63, "2.35", "unspecified", 1)]),
        ):
            listing.write_text("[" if content is None else json.dumps(content))
            await until_it_stands(cloud, wanted)
    process.send_signal(signal.SIGTERM)
    out, _ = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 0
    assert out.decode().count("1 changed") == 2
