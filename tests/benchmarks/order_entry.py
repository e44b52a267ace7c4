"""Orders entered by one client over one connection: 50 a request against one a request, in one exchange."""

import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from tests.benchmarks.harness import Result, in_turn
from tests.benchmarks.order_to_fill import posting
from tests.exchange_process import WITHOUT_RATES, ExchangeProcess, ready_market

BATCH = 50
ORDERS = 500
ROUNDS = 5


async def order_entry_batch50() -> Result:
    """Bids a second that are taken, held for, appended and answered."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            ExchangeProcess.running(Path(folder) / "exchange", arguments=WITHOUT_RATES) as exchange,
            ready_market(exchange) as market,
        ):
            bid = {"class": "L40S-48GB", "quantity": 1, "price": "0.60", "duration": "1h", "min_fill": 1}
            batch = {"orders": [{"side": "bid", **bid}] * BATCH}
            async with (
                posting(exchange.url, "/v1/orders/batch", batch, market.buyer_key) as post_batch,
                posting(exchange.url, "/v1/bids", bid, market.buyer_key) as post_one,
            ):
                value, baseline, ratio = await in_turn(
                    lambda: _rate(post_batch, BATCH), lambda: _rate(post_one, 1), ROUNDS
                )
    note = (
        f"one client, one connection, {ORDERS} bids that rest, median of {ROUNDS} rounds, not pinned; "
        f"baseline: the same bids one a request"
    )
    return Result("order_entry_batch50", value, "orders/s", baseline, ratio, ">= 8", note)


async def _rate(post: Callable[[], Awaitable[tuple[int, bytes]]], size: int) -> float:
    """Orders a second."""
    began = time.perf_counter()
    for _ in range(ORDERS // size):
        status, body = await post()
        answer: Any = msgspec.json.decode(body)
        statuses = [each["status"] for each in answer["answers"]] if size > 1 else [status]
        if statuses != [201] * size:
            raise RuntimeError(f"{status}: {body[:500]!r}")
    return ORDERS / (time.perf_counter() - began)
