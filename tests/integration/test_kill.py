"""kill -9 of the whole exchange in the middle of a play, again and again: nothing is lost, nothing done twice."""

import asyncio
import random
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from gateways.client import Exchange, ExchangeError
from gateways.client.types import Bid
from gateways.log.broker import Broker
from schemas.units import parse_usd
from tests.exchange_process import ExchangeProcess

KILLS = 10
CLASS = "KILL-9"
DEPOSIT = "100000.00"


class Probe:
    """A buyer that keeps what the exchange acknowledged, and afterwards holds it to its word."""

    def __init__(self) -> None:
        self.key = ""
        self.acknowledged: dict[str, Bid] = {}
        self.unknown: set[str] = set()
        """Sent, and the exchange was killed before it answered."""

    async def enter(self, url: str, admin: Exchange) -> None:
        """Opens the market on which it buys."""
        await admin.create_class(CLASS, accelerator="none", memory_gb=1, form_factor="SXM")
        supplier = await admin.create_account("kill-supplier", scopes=["read", "supply"])
        buyer = await admin.create_account("kill-buyer", scopes=["read", "trade"])
        await admin.deposit(buyer.account_id, DEPOSIT, reference="kill")
        assert supplier.key is not None
        assert buyer.key is not None
        self.key = buyer.key
        async with Exchange(url, supplier.key) as supply:
            await supply.sell(CLASS, gpus=50_000, price="0.01", hours=24 * 360)

    async def buy(self, exchange: Exchange, name: str) -> None:
        """One GPU for an hour, which is there: the answer must have its fill."""
        order = await exchange.bid(
            CLASS, 1, "0.01", duration="1h", min_fill=1, time_in_force="ioc", client_order_id=name
        )
        assert order.status == "filled"
        self.acknowledged[name] = order
        self.unknown.discard(name)

    async def buy_until_killed(self, url: str, life: int) -> None:
        async with Exchange(url, self.key) as exchange:
            number = 0
            while True:
                name = f"life-{life}-{number}"
                self.unknown.add(name)
                try:
                    await self.buy(exchange, name)
                except (ExchangeError, asyncio.CancelledError):
                    return
                number += 1

    async def check(self, url: str) -> None:
        """After a restart: every acknowledged order is there as it was; what was unknown is had once."""
        async with Exchange(url, self.key) as exchange:
            for name in sorted(self.unknown):
                await self.buy(exchange, name)
            orders = await exchange.orders(limit=100_000)
            assert {order.client_order_id: order.order_id for order in orders} == {
                name: order.order_id for name, order in self.acknowledged.items()
            }
            assert {(order.status, order.filled) for order in orders} == {("filled", 1)}
            leases = await exchange.leases(limit=100_000)
            acknowledged = [fill for order in self.acknowledged.values() for fill in order.fills or []]
            assert sorted(lease.lease_id for lease in leases) == sorted(fill.lease_id for fill in acknowledged)
            balance = await exchange.balance()
            money = sum(parse_usd(amount) for amount in (balance.cash, balance.held, balance.escrow))
            assert money == parse_usd(DEPOSIT), "no lease was delivered, so none can have cost anything"
            numbers: dict[str, list[int]] = defaultdict(list)
            async for fill in exchange.fills(after="start", follow=False):
                numbers[fill.class_id].append(fill.number)
            for class_id, found in numbers.items():
                assert found == list(range(1, len(found) + 1)), f"the fills of {class_id} have a gap"
            assert len(numbers[CLASS]) == len(acknowledged)


async def audited(folder: Path, log: str) -> tuple[int, str]:
    """Exit code and output of `cx audit` on the stopped exchange."""
    words = ("-m", "gateways.cli.main", "audit", "--data", str(folder), "--log", log)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def killed_again_and_again(folder: Path, log: str, seed: int = 9) -> None:
    draw = random.Random(seed)
    probe = Probe()
    process = ExchangeProcess(folder, command="play", log=log, arguments=("--resume", "--seed", str(seed)))
    await process.start()
    try:
        async with Exchange(process.url, process.key) as admin:
            await probe.enter(process.url, admin)
        for life in range(KILLS):
            buying = asyncio.create_task(probe.buy_until_killed(process.url, life))
            await asyncio.sleep(draw.uniform(0.5, 2.5))
            await process.kill()
            buying.cancel()
            await buying
            code, output = await audited(folder, log)
            assert code == 0, output
            await process.start()
            await probe.check(process.url)
        assert len(probe.acknowledged) > 10 * KILLS, "the kills came in the middle of trading"
        assert await process.stop() == 0
    finally:
        await process.kill()
    code, output = await audited(folder, log)
    assert code == 0, output


@pytest.mark.long
async def test_on_the_embedded_log_nothing_is_lost_or_done_twice(tmp_path: Path) -> None:
    await killed_again_and_again(tmp_path / "exchange", "embedded")


@pytest.mark.long
async def test_on_kafka_nothing_is_lost_or_done_twice(tmp_path: Path, broker: Broker) -> None:
    await killed_again_and_again(tmp_path / "exchange", f"kafka://{broker.address}")
