"""`cx` as people and scripts call it: a process of its own against a running exchange."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from gateways.log.broker import Broker
from tests.exchange_process import ExchangeProcess
from tests.integration.conftest import CLASS, Venue

REFUSED, USAGE, UNREACHABLE = 1, 2, 3


async def cx(*words: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CX_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateways.cli.main",
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**clean, **(env or {})},
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def cx_json(*words: str, env: dict[str, str]) -> Any:
    code, out, err = await cx(*words, "--json", env=env)
    assert code == 0, err
    return json.loads(out)


async def test_from_selling_to_renting_by_hand(exchange: Venue, tmp_path: Path) -> None:
    config = tmp_path / "cx.json"
    config.write_text(json.dumps({"url": exchange.url, "key": exchange.key}))
    admin = {"CX_CONFIG": str(config)}
    cloud = await cx_json("accounts", "create", "cloud", "--scopes", "read,supply,meter", env=admin)
    developer = await cx_json("accounts", "create", "developer", "--scopes", "read,trade", env=admin)
    assert (await cx("deposit", developer["account_id"], "2000", "--reference", "wire-1", env=admin))[0] == 0
    seller = {"CX_URL": exchange.url, "CX_KEY": cloud["key"]}
    buyer = {"CX_URL": exchange.url, "CX_KEY": developer["key"]}

    sell = (
        "sell",
        CLASS,
        "64",
        "--price",
        "2.50",
        "--for",
        "30d",
        "--region",
        "us-east",
        "--interconnect",
        "infiniband",
    )
    assert (await cx_json(*sell, env=seller))["status"] == "open"
    buy = (
        "buy",
        CLASS,
        "8",
        "--for",
        "24h",
        "--max",
        "2.60",
        "--region",
        "us-east,us-west",
        "--interconnect",
        "infiniband",
    )
    order = await cx_json(*buy, env=buyer)
    assert (order["status"], order["min_fill"], len(order["starts"]), order["prefer"]) == ("filled", 8, 24, "start")

    (lease,) = await cx_json("leases", "--as", "supplier", env=seller)
    await cx_json("deliver", lease["lease_id"], "ssh gpu@host", env=seller)
    assert (await cx_json("accept", lease["lease_id"], env=buyer))["connection"] == "ssh gpu@host"
    assert await cx_json("usage", lease["lease_id"], env=buyer) == []
    code, out, _ = await cx("book", CLASS, env=buyer)
    assert code == 0
    assert "2.50" in out
    assert "56" in out
    _, out, _ = await cx("fills", "--json", env=buyer)
    assert [json.loads(line)["number"] for line in out.splitlines()] == [1]
    assert (await cx_json("balance", env=buyer))["escrow"] == "480.00"

    standing = await cx_json("buy", CLASS, "8", "--for", "1h", "--max", "1.00", env=buyer)
    assert (await cx_json("cancel", standing["order_id"], env=buyer))["status"] == "cancelled"
    assert [each["status"] for each in await cx_json("orders", env=buyer)] == ["cancelled", "filled"]


async def test_a_refusal_is_one_sentence_and_an_exit_code(exchange: Venue) -> None:
    env = {"CX_URL": exchange.url, "CX_KEY": exchange.key}
    for words, code, part in (
        (("buy", CLASS, "8", "--for", "24h", "--max", "2.60005"), REFUSED, "not a multiple of the tick"),
        (("buy", "H200", "8", "--for", "24h", "--max", "2.60"), REFUSED, "there is no class H200"),
        (("buy", CLASS, "8", "--for", "24h", "--max", "2.60"), REFUSED, "deposit 499.20 more"),
        (("balance", "--key", "cx_wrong"), REFUSED, "unknown or revoked"),
        (("balance", "--url", "http://127.0.0.1:9"), UNREACHABLE, "cannot be reached"),
        (("sell", CLASS, "8", "--price", "2.60"), USAGE, "say how long"),
        (("buy", CLASS, "eight", "--for", "24h", "--max", "2.60"), USAGE, "eight"),
        (("buy", CLASS), USAGE, ""),
        (("no-such-command",), USAGE, ""),
    ):
        status, out, err = await cx(*words, env=env)
        assert (status, out) == (code, ""), (words, out, err)
        assert part in err, words
        assert "Traceback" not in err


async def test_help_asks_nobody() -> None:
    env = {"CX_URL": "http://127.0.0.1:9", "CX_CONFIG": "/nowhere"}
    for words in (("--help",), ("buy", "--help"), ("keys", "--help")):
        code, out, err = await cx(*words, env=env)
        assert (code, err) == (0, "")
        assert "Usage" in out


async def test_an_exchange_on_kafka_keeps_snapshots_in_its_folder(tmp_path: Path, broker: Broker) -> None:
    folder, log = tmp_path / "exchange", f"kafka://{broker.address}"
    snapshots = folder / "log" / "snapshots"
    async with ExchangeProcess.running(folder, log=log):
        pass
    code, output, _ = await cx("snapshot", "--log", log, "--snapshots", str(snapshots))
    assert (code, output.split(":")[0].split(" at ")[0]) == (0, "partition 0")
    (made,) = snapshots.iterdir()
    async with ExchangeProcess.running(folder, log=log):
        assert "passed over" not in (folder / "output").read_text()
    made.write_bytes(b"")
    async with ExchangeProcess.running(folder, log=log):
        assert f"{made} is no snapshot" in (folder / "output").read_text()
