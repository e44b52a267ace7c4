"""`cx` as people and scripts call it: a process of its own against a running exchange."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateways.client import Exchange as Client
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
    config = tmp_path / "cx.toml"
    config.write_text(f'url = "{exchange.url}"\nkey = "{exchange.key}"\n')
    config.chmod(0o600)
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
    mine = await cx_json("buy", CLASS, "8", "--for", "1h", "--max", "1.00", "--id", "mine", env=buyer)
    changes = "--gpus", "4", "--price", "1.10", "--for", "2h", "--start", "now+1h", "--start", "now+2h", "--split", "2"
    changed = await cx_json("amend", mine["order_id"], *changes, env=buyer)
    assert (changed["quantity"], changed["price"], changed["duration"]) == (4, "1.10", "2h")
    assert (len(changed["starts"]), changed["min_fill"], changed["held"]) == (2, 2, "8.80")
    assert (await cx_json("cancel", "--id", "mine", env=buyer))["status"] == "cancelled"
    await cx_json("buy", CLASS, "8", "--for", "1h", "--max", "1.00", env=buyer)
    assert (await cx_json("dead-man", "3600", env=buyer))["until"] is not None
    assert await cx_json("dead-man", "--off", env=buyer) == {"until": None}
    assert await cx_json("cancel", "--all", "--class", CLASS, env=buyer) == {"class": CLASS, "orders": 1}


async def test_the_exchange_s_own_people_halt_limit_and_close(exchange: Venue) -> None:
    admin = {"CX_URL": exchange.url, "CX_KEY": exchange.key}
    account = (await cx_json("accounts", "create", "developer", env=admin))["account_id"]
    branch = await cx_json("accounts", "create", "branch", "--owner", account, env=admin)
    assert (branch["owner"], branch["account_id"] != account) == (account, True)
    assert await cx_json("admin", "halt", CLASS, "--cancels", env=admin) == [{"class": CLASS, "mode": "no_new"}]
    _, out, _ = await cx("classes", env=admin)
    assert "halted (no_new)" in out
    assert await cx_json("admin", "halt", "--all", env=admin) == [{"class": CLASS, "mode": "full"}]
    assert await cx_json("admin", "resume", CLASS, env=admin) == [{"class": CLASS, "mode": "none"}]
    assert (await cx_json("admin", "kill", account, env=admin))["on"] is True
    assert (await cx_json("admin", "revive", account, env=admin))["on"] is False
    limits = await cx_json("admin", "limits", account, "--orders", "5", "--notional", "100", "--gpus", "8", env=admin)
    assert limits == {"account_id": account, "open_orders": 5, "notional": "100.00", "quantity": 8}
    assert (await cx_json("admin", "change-class", CLASS, "--band-bps", "1000", env=admin))["band_bps"] == 1000
    assert (await cx_json("admin", "reference", CLASS, "2.00", env=admin))["high"] == "2.20"
    assert (await cx_json("admin", "retire", CLASS, env=admin))["retired"] is True
    _, out, _ = await cx("classes", env=admin)
    assert "retired" in out
    for words in (("halt",), ("resume", CLASS, "--all"), ("change-class", CLASS)):
        code, _, err = await cx("admin", *words, env=admin)
        assert (code, "say w" in err) == (USAGE, True), words


async def test_a_refusal_is_one_sentence_and_an_exit_code(exchange: Venue) -> None:
    env = {"CX_URL": exchange.url, "CX_KEY": exchange.key}
    for words, code, part in (
        (("buy", CLASS, "8", "--for", "24h", "--max", "2.60005"), REFUSED, "not a multiple of the tick"),
        (("buy", "H200", "8", "--for", "24h", "--max", "2.60"), REFUSED, "there is no class H200"),
        (("buy", CLASS, "8", "--for", "24h", "--max", "2.60"), REFUSED, "deposit 499.20 more"),
        (("balance", "--key", "cx_wrong"), REFUSED, "unknown or revoked"),
        (("balance", "--url", "http://127.0.0.1:9"), UNREACHABLE, "cannot be reached"),
        (("sell", CLASS, "8", "--price", "2.60"), USAGE, "say how long"),
        (("dead-man", "5", "--off"), USAGE, "say when"),
        (("amend", "ord_1"), USAGE, "say what is to change"),
        (("amend", "ord_1", "--gpus", "4"), REFUSED, "there is no order ord_1"),
        (("cancel", "ord_1", "--all"), USAGE, "say which"),
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


@pytest.mark.long
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


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def process(output: Path, *words: str) -> AsyncIterator[None]:
    """`cx` with these words, until the body is left; then it ends well, at Ctrl-C."""
    with output.open("ab") as file:
        started = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateways.cli.main", *words, stdout=file, stderr=file
        )
    try:
        yield
        assert started.returncode is None, f"it ended: see {output}"
        started.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(started.wait(), 20) == 0, f"it did not end well: see {output}"
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def eventually(url: str, wanted: str) -> None:
    """Returns once a GET there is answered with that in its text."""
    async with aiohttp.ClientSession() as http, asyncio.timeout(60):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(url) as answer:
                    if wanted in await answer.text():
                        return
            await asyncio.sleep(0.1)


@pytest.mark.long
async def test_each_process_of_an_exchange_runs_alone_on_kafka(tmp_path: Path, broker: Broker, dsn: str) -> None:
    """As the README says: an engine and its standby, settlement, market data and two gateways, on one log."""
    log, database = ("--log", f"kafka://{broker.address}"), ("--dsn", dsn)
    metrics, fills, *ports = (free_port() for _ in range(4))
    secrets = tmp_path / "secrets"
    secrets.write_text((await cx("new-secret"))[1])
    one, other = (f"http://127.0.0.1:{port}" for port in ports)
    async with contextlib.AsyncExitStack() as stack:
        for number, words in enumerate(
            (
                ("engine", *log, "--metrics-port", str(metrics)),
                ("engine", *log),
                ("settlement", *log, *database),
                ("marketdata", *log, "--metrics-port", str(fills)),
                *(("gateway", *log, *database, "--secrets", str(secrets), "--port", str(port)) for port in ports),
            )
        ):
            await stack.enter_async_context(process(tmp_path / f"output-{number}", *words))
        code, key, err = await cx("admin-key", *database)
        assert code == 0, err
        answered = 'engine_answer_seconds_count{partition="0",stage="logged"}'
        await eventually(f"http://127.0.0.1:{metrics}/metrics", answered)
        for url in (one, other):
            await eventually(f"{url}/v1/health", "ok")
        async with Client(one, key.strip()) as admin:
            await admin.create_class(CLASS, accelerator="H100", memory_gb=80, form_factor="SXM")
            buyer = await admin.create_account("buyer", scopes=["read", "trade"])
            await admin.deposit(buyer.account_id, "100", reference="first")
            await admin.sell(CLASS, gpus=8, price="2.50", hours=2)
        await eventually(f"{other}/v1/classes", CLASS)  # which it has from settlement
        async with Client(other, buyer.key) as client:
            assert (await client.buy(CLASS, gpus=8, hours=1, max_price="2.60")).status == "filled"
            (lease,) = await client.leases()
            assert (lease.quantity, lease.price) == (8, "2.50")
        await eventually(f"{other}/v1/fills?after=start", '"quantity":8')
        await eventually(f"http://127.0.0.1:{fills}/metrics", 'fills_published_total{partition="0"} 1.0')
        await eventually(f"http://127.0.0.1:{fills}/metrics", 'fills_lag{partition="0"} 0.0')


async def test_the_months_of_an_account_by_hand(exchange: Venue) -> None:
    env = {"CX_URL": exchange.url, "CX_KEY": exchange.key}
    (month,) = await cx_json("invoice", env=env)
    assert (month["number"], month["status"], month["total"]) == (1, "preliminary", "0.00")
    shown = await cx_json("statement", month["month"], env=env)
    assert (shown["role"], shown["invoice_id"], shown["lines"]) == ("supplier", "stm_1-1", [])
    code, out, err = await cx("invoice", month["month"], "--csv", env=env)
    assert (code, err) == (0, "")
    assert out.startswith("invoice_id,month,status,line,kind,lease_id,class,")
    code, out, err = await cx("invoice", month["month"], "--html", env=env)
    assert (code, err) == (0, "")
    assert "<title>Invoice inv_1-1</title>" in out
    assert (await cx("invoice", "--html", env=env))[0] == USAGE, "of which month?"
    assert (await cx("invoice", "2026-13", env=env))[0] == REFUSED


async def test_an_export_for_cost_tools_by_hand(exchange: Venue, tmp_path: Path) -> None:
    env = {"CX_URL": exchange.url, "CX_KEY": exchange.key}
    (month,) = await cx_json("invoice", env=env)
    code, out, err = await cx("focus", "--month", month["month"], "--csv", env=env)
    assert (code, err) == (0, "")
    assert out.startswith("BilledCost,BillingAccountId,")
    file = tmp_path / "focus.parquet"
    code, out, err = await cx("focus", "--month", month["month"], "--parquet", str(file), env=env)
    assert (code, out) == (0, ""), err
    assert file.read_bytes().startswith(b"PAR1")
    assert await cx_json("focus", "--month", month["month"], env=env) == []
    code, _, err = await cx("focus", "--month", month["month"], "--parquet", str(tmp_path / "none" / "x"), env=env)
    assert (code, "cannot be written" in err) == (USAGE, True)


async def test_corrections_by_hand(exchange: Venue) -> None:
    async with exchange.trader("cloud", money="") as cloud, exchange.trader("developer") as developer:
        await exchange.admin.change_class(CLASS, refund_bps=5_000)
        await cloud.sell(CLASS, gpus=8, price="2.50", hours=48)
        order = await developer.buy(CLASS, gpus=8, hours=2, max_price="2.50", now_only=True)
        (lease,) = await developer.leases(order_id=order.order_id)
        await cloud.deliver(lease.lease_id, "ssh there")
        env = {"CX_URL": exchange.url, "CX_KEY": exchange.key}
        code, _, err = await cx("admin", "correct", lease.lease_id, "0", "was down", env=env)
        assert (code, "this needs it to be closed" in err) == (REFUSED, True)
        code, _, err = await cx("correct", lease.lease_id, "0", "was down", env=env)
        assert (code, "there is no lease" in err) == (REFUSED, True)
        key = await exchange.key_of("third", "read")
        assert (await cx("corrections", lease.lease_id, env={**env, "CX_KEY": key}))[0] == REFUSED


async def test_a_class_and_one_s_own_orders_are_watched(exchange: Venue) -> None:
    """Where there is no terminal, line by line."""
    async with exchange.trader("cloud") as cloud, exchange.trader("developer") as developer:
        await developer.buy(CLASS, gpus=8, hours=2, max_price="2.50")
        env = {"CX_URL": exchange.url, "CX_KEY": exchange.key}
        async with watched("watch", CLASS, env=env) as lines, watched("watch", CLASS, "--json", env=env) as messages:
            await told(lines, "bid 8 x 2.50, no ask $/GPU-h for 24h")
            await told(messages, '"channel":"depth"')
            await cloud.sell(CLASS, gpus=4, price="2.40", hours=48, lot=1)
            await developer.buy(CLASS, gpus=4, hours=2, max_price="2.60")
            await told(lines, "#1 4 GPUs at 2.40 $/GPU-h")
            await told(messages, '"fill_id":"fil_')
        async with watched("watch", "--orders", env=env) as lines:
            order = await exchange.admin.sell(CLASS, gpus=1, price="9.00", hours=48)
            await told(lines, str(order.order_id))
            await exchange.admin.cancel_all()
            await told(lines, f"event cancelled, order_id {order.order_id}")
    code, _, err = await cx("watch", "H200", env=env)
    assert (code, "there is no class H200" in err) == (REFUSED, True)
    assert (await cx("watch", env=env))[0] == USAGE


async def test_what_becomes_of_one_s_leases_is_followed(exchange: Venue) -> None:
    keys = [await exchange.key_of(name, "read", "trade", "supply", money="1000") for name in ("cloud", "developer")]
    seller, buyer = ({"CX_URL": exchange.url, "CX_KEY": key} for key in keys)
    async with Client(exchange.url, keys[0]) as cloud, Client(exchange.url, keys[1]) as developer:
        await cloud.sell(CLASS, gpus=4, price="2.40", hours=48)
        await developer.buy(CLASS, gpus=4, hours=2, max_price="2.60")
        (lease,) = await developer.leases()
        async with (
            watched("leases", "--follow", "--as", "supplier", env=seller) as lines,
            watched("leases", "--follow", "--state", "ended", "--csv", env=buyer) as rows,
        ):
            await told(lines, f"pending_delivery    4 x {CLASS} at 2.40 $/GPU-h")
            await told(rows, "event,time,role,lease_id,")
            await cloud.deliver(lease.lease_id, "ssh there")
            await told(lines, f"{lease.lease_id}    delivered ")
            await developer.end(lease.lease_id)
            await told(lines, ", ended_early")
            assert (await rows.readline()).startswith(b"ended,"), "what is in no wanted state is passed over"


@contextlib.asynccontextmanager
async def watched(*words: str, env: dict[str, str]) -> AsyncIterator[asyncio.StreamReader]:
    """The lines of `cx`, which goes on until Ctrl-C."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateways.cli.main", *words),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **env},
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 10) == 0


async def told(lines: asyncio.StreamReader, wanted: str) -> None:
    async with asyncio.timeout(20):
        while wanted not in (line := (await lines.readline()).decode()):
            assert line, f"it ended without {wanted}"
