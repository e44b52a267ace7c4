"""A quiet account's orders while another account floods the same gateway, against without."""

import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from gateways.client import Exchange as Client
from tests.benchmarks.flood import BID, KINDS, MANY
from tests.benchmarks.harness import Result, pinned_to_one_core
from tests.benchmarks.order_to_fill import posting
from tests.exchange_process import ExchangeProcess, ready_market

ORDERS = 400
PAUSE_S = 0.005
ROUNDS = 3
ANOTHER_CORE = max(os.sched_getaffinity(0))

Post = Callable[[], Awaitable[tuple[int, bytes]]]


async def noisy_neighbour() -> Result:
    """p99 of the quiet account's orders under the worst kind of flood. Each kind beside a rest, in turn, and in an
    exchange of its own: what one leaves in the book is no part of the next."""
    found = [await _under(kind) for kind in KINDS]
    ratio, value, baseline, kind = max(found)
    note = f"p99 of {ORDERS} bids that rest, one by one, median of {ROUNDS} rounds; the worst flood: {kind} ("
    note += ", ".join(f"{kind} {ratio:.2f}" for ratio, _, _, kind in found) + "); the exchange alone on one core, its "
    note += "Postgres and clients on another, where the flood has what is left; rates as usual"
    return Result("noisy_neighbour", value, "ms", baseline, ratio, "<= 2", note)


async def _under(kind: str) -> tuple[float, float, float, str]:
    with tempfile.TemporaryDirectory() as folder, pinned_to_one_core():
        async with ExchangeProcess.running(Path(folder) / "exchange") as exchange, ready_market(exchange) as market:
            exchange.pin(ANOTHER_CORE)
            noisy = await _noisy_key(exchange)
            async with posting(exchange.url, "/v1/orders/batch", MANY, noisy) as post:
                await post()  # what lists are full of
            async with posting(exchange.url, "/v1/bids", BID, market.buyer_key) as post:
                await _p99_ms(post)
                return await _measured(post, exchange.url, noisy, kind)


async def _noisy_key(exchange: ExchangeProcess) -> str:
    async with Client(exchange.url, exchange.key) as admin:
        noisy = await admin.create_account("noisy", scopes=["read", "trade"])
        await admin.deposit(noisy.account_id, "100000000", reference="noise")
    assert noisy.key is not None
    return noisy.key


async def _measured(post: Post, url: str, key: str, kind: str) -> tuple[float, float, float, str]:
    pairs = []
    for _ in range(ROUNDS):
        alone = await _p99_ms(post)
        async with _flooding(url, key, kind):
            pairs.append((await _p99_ms(post), alone))
        await _settled(url)
    value, baseline = (statistics.median(each) for each in zip(*pairs, strict=True))
    return statistics.median(noisy / alone for noisy, alone in pairs), value, baseline, kind


async def _settled(url: str) -> None:
    """All of the flood is done with: what is measured next is the quiet account alone."""
    async with Client(url) as anybody:
        for _ in range(100):
            await asyncio.sleep(0.2)
            if not (await anybody.status()).settlement_lag:
                return
    raise RuntimeError("settlement has not come to the end of the flood")


async def _p99_ms(post: Post) -> float:
    taken = []
    for _ in range(ORDERS):
        began = time.perf_counter()
        status, body = await post()
        taken.append((time.perf_counter() - began) * 1000)
        if status != 201:
            raise RuntimeError(f"{status}: {body!r}")
        await asyncio.sleep(PAUSE_S)
    return statistics.quantiles(taken, n=100)[-1]


@contextlib.asynccontextmanager
async def _flooding(url: str, key: str, kind: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.benchmarks.flood", url, key, kind),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        await process.stdout.readline()
        await asyncio.sleep(0.5)
        yield
    finally:
        process.terminate()
        await process.wait()
