"""The whole API against its own description, by schemathesis: every check. tests/README.md says with which seed."""

import asyncio
import os
import re
import sys
import zlib
from pathlib import Path

import aiohttp
import pytest

from gateways.client import Exchange as Client
from schemas.store import Scope
from tests.exchange_process import WITHOUT_RATES, ExchangeProcess

CONFIG = Path(__file__).parents[1] / "schemathesis.toml"
SECONDS = int(os.environ.get("FUZZ_SECONDS", "300"))
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "30")
"""Of an operation, in each of the phases that draw."""
CLASS = "FUZZED-SXM-192GB"
MOST_UNTAKEN = 25
"""Routes of which no request needs to be taken: fuzzing seldom comes to a lease's later states, as it also halts
classes, kills accounts and retires what it can."""
ODD = {"OPTIONS", "HEAD", "TRACE", "QUERY"}
"""Methods that no route is described with."""
_ANSWERS = re.compile(r'api_answers_total{method="(\w+)",route="([^"]+)",status="(\d+)"}')


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 240)
async def test_every_answer_is_as_described(tmp_path: Path) -> None:
    # With rates, most of what it asks of previews were answered by 429, and tried nothing.
    async with ExchangeProcess.running(tmp_path / "exchange", arguments=WITHOUT_RATES) as exchange:
        known = await something_of_each(exchange)
        environment = {**os.environ, **known, "SCHEMATHESIS_HOOKS": "tests.api_hooks"}
        seed = os.environ.get("FUZZ_SEED") or await seed_of(exchange)
        report = tmp_path / "report"
        with report.open("wb") as file:
            fuzzer = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"),
                f"{exchange.url}/v1/openapi.json",
                *("--header", f"Authorization: Bearer {known.pop('CX_FUZZ_KEY')}", "--no-color"),
                *("--checks", "all", "--continue-on-failure", "--max-time", str(SECONDS), "--max-examples", EXAMPLES),
                *("--workers", "1", "--seed", seed, "--generation-database", "none"),
                stdout=file,
                stderr=file,
                env=environment,
                cwd=tmp_path,
            )
            code = await fuzzer.wait()
        assert code == 0, f"FUZZ_SEED={seed}\n{report.read_text()[-20_000:]}"
        async with aiohttp.ClientSession(exchange.url) as http, http.get("/metrics") as answer:
            answers = _ANSWERS.findall(await answer.text())
    asked = {(method, route) for method, route, _ in answers if route.startswith("/v1/") and method not in ODD}
    taken = {(method, route) for method, route, status in answers if status.startswith("2")}
    assert len(asked) > 90
    assert len(asked - taken) <= MOST_UNTAKEN, sorted(asked - taken)


async def seed_of(exchange: ExchangeProcess) -> str:
    """Of the description itself: it is another where the API is, and no build fails by chance for what is unlike it."""
    async with aiohttp.ClientSession(exchange.url) as http, http.get("/v1/openapi.json") as answer:
        return str(zlib.crc32(await answer.read()))


async def something_of_each(exchange: ExchangeProcess) -> dict[str, str]:
    """An account, a class, an order and a lease that the exchange's own account has, for the environment."""
    async with Client(exchange.url, exchange.key) as admin:
        await admin.create_class(CLASS, accelerator="NVIDIA B200", memory_gb=192, form_factor="SXM")
        await admin.deposit("acc_1", "100000", reference="first")
        other = await admin.create_account("other", scopes=["read", "trade", "supply"])
        await admin.deposit(other.account_id, "100000", reference="second")
        assert other.key is not None
        async with Client(exchange.url, other.key) as client:
            await client.sell(CLASS, gpus=64, price="2.50", hours=720)
            bought = await admin.buy(CLASS, gpus=8, hours=24, max_price="2.60")
            await admin.sell(CLASS, gpus=64, price="2.40", hours=720, tier="interruptible")
            sold = await client.buy(CLASS, gpus=8, hours=24, max_price="2.45", accepts={"interruptible": True})
        own = await admin.create_key([scope.value for scope in Scope], label="the fuzzer's")
        standing = await admin.buy(CLASS, gpus=8, hours=24, max_price="1.00", client_order_id="standing")
    assert bought.fills
    assert sold.fills
    assert standing.order_id is not None
    assert own.key is not None
    return {
        "CX_TEST_OWN_KEY": str(own.key_id),
        "CX_FUZZ_KEY": own.key,
        "CX_TEST_ACCOUNT_ID": other.account_id,
        "CX_TEST_CLASS_ID": CLASS,
        "CX_TEST_CLIENT_ORDER_ID": "standing",
        "CX_TEST_LEASE_ID": f"{bought.fills[0].lease_id},{sold.fills[0].lease_id}",
        "CX_TEST_ORDER_ID": standing.order_id,
    }
