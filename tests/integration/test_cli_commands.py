"""What holds for every command of `cx`, generated from the commands that there are."""

import asyncio
import contextlib
import csv
import io
import json
import os
import pty
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import cyclopts
import pytest

from gateways.api.addresses import network
from gateways.api.limits import USUAL as USUAL_RATES
from gateways.api.limits import Rate, Rates
from gateways.api.socket import USUAL as USUAL_BOUNDS
from gateways.api.socket import Bounds
from gateways.cli.commands import starts_of
from gateways.cli.main import app
from gateways.cli.operate import Doors
from tests.integration.conftest import CLASS, Venue
from tests.integration.test_cli import cx, cx_json

LISTS = {
    ("accounts", "list"): (),
    ("admin", "outgoing"): (),
    ("asks",): (),
    ("book",): (CLASS,),
    ("classes",): (),
    ("config",): (),
    ("corrections",): ("LEASE",),
    ("deposits",): (),
    ("entries",): (),
    ("fees",): (),
    ("fills",): (),
    ("focus",): ("--month", "MONTH"),
    ("invoice",): (),
    ("keys", "list"): (),
    ("keys", "ssh", "list"): (),
    ("leases",): (),
    ("orders",): (),
    ("spend",): ("--by", "class"),
    ("statement",): (),
    ("suppliers",): (),
    ("supply", "fields"): (),
    ("usage",): (),
    ("webhooks", "deliveries"): ("WEBHOOK",),
    ("webhooks", "list"): (),
    ("withdrawals",): (),
}
"""What each needs to be said beside; LEASE, MONTH and WEBHOOK are of the exchange of the test."""
ONE_BY_ONE = {("fills",)}
"""Their JSON is an object a line."""
ONES = {
    *{("balance",), ("daily-credits",), ("lease",), ("order",), ("standing",), ("status",), ("why",)},
    *{("caps", "show"), ("admin", "standing")},
}
"""They show one thing."""
ACTS = {
    *{("accept",), ("amend",), ("buy",), ("cancel",), ("correct",), ("dead-man",), ("degrade",), ("deliver",)},
    *{("deposit",), ("end",), ("extend",), ("reclaim",), ("renew",), ("report",), ("restore",), ("sell",)},
    *{("withdraw",), ("accounts", "create"), ("caps", "set"), ("keys", "create"), ("keys", "revoke")},
    *{("keys", "rotate"), ("keys", "ssh", "add"), ("keys", "ssh", "remove"), ("supply", "name"), ("supply", "region")},
    *{("supply", "sync"), ("supply", "export"), ("webhooks", "add"), ("webhooks", "remove"), ("webhooks", "replay")},
    *{("completion",), ("meter",), ("openapi",), ("watch",)},
    *{("audit",), ("play",), ("replay",), ("up",), ("dev", "kafka")},
    *{("admin-key",), ("deliverer",), ("engine",), ("gateway",), ("marketdata",), ("new-secret",), ("settlement",)},
    ("snapshot",),
}
"""They do something, or go on and on."""

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAURfysy28eTzmiD7mAHsEvI3ceCqTFvaIbGs+cFE9nA"


def commands(of: cyclopts.App, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name in of:
        if not name.startswith("-"):
            if of[name].default_command is not None:
                yield (*words, name)
            yield from commands(of[name], (*words, name))


def called(*words: str) -> str:
    """What it prints. Raises what it ends with."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True, newline="")
    with contextlib.redirect_stdout(out):
        app(words, result_action="return_none")
    written = out.detach()
    assert isinstance(written, io.BytesIO)
    return written.getvalue().decode()


def test_every_command_is_known_here() -> None:
    known = {*LISTS, *ONES, *ACTS, *(words for words in commands(app) if words[:1] == ("admin",))}
    assert set(commands(app)) == known


def test_help_never_touches_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: object, **named: object) -> None:
        raise AssertionError("it opened a socket")

    for name in ("connect", "connect_ex", "bind", "sendto"):
        monkeypatch.setattr(socket.socket, name, forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    for words in ((), *commands(app)):
        assert "Usage: cx" in called(*words, "--help"), words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_every_command(shell: str) -> None:
    script = called("completion", shell)
    assert all(part in script for words in commands(app) for part in words)


def test_up_and_gateway_take_the_same_options_of_their_doors() -> None:
    said = "--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "::1", "--key-rate", "5", "--streams", "7", "--port", "0"
    for words in (("up",), ("gateway", "--log", "embedded", "--dsn", "postgresql://", "--secrets", "file")):
        _, bound, _ = app.parse_args([*words, *said], exit_on_error=False)
        doors = bound.arguments["doors"]
        assert (doors.trusted, doors.bounds) == ((network("10.0.0.0/8"), network("::1")), Bounds(7, USUAL_BOUNDS.each))
        assert doors.rates == Rates(key=Rate(5, USUAL_RATES.key.burst))
    assert Doors().bounds is None
    assert Doors().rates == USUAL_RATES


async def test_every_list_is_a_table_json_and_csv(exchange: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    await exchange.admin.sell(CLASS, gpus=8, price="2.50", hours=48)
    async with exchange.trader("developer") as developer:
        await developer.buy(CLASS, gpus=8, hours=2, max_price="2.50", now_only=True)
    (lease,) = await exchange.admin.leases(role="supplier")
    (month,) = await exchange.admin.invoices()
    await exchange.admin.add_ssh_key(
        "laptop", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAURfysy28eTzmiD7mAHsEvI3ceCqTFvaIbGs+cFE9nA"
    )
    webhook = await exchange.admin.add_webhook("https://example.com/told", ["lease.sold"])
    names = {"LEASE": lease.lease_id, "MONTH": month.month, "WEBHOOK": str(webhook.webhook_id)}
    monkeypatch.setenv("CX_CONFIG", "")
    for words, beside in LISTS.items():
        line = *words, *(names.get(word, word) for word in beside), "--url", exchange.url, "--key", exchange.key
        table, as_json, as_csv = [await asyncio.to_thread(called, *line, *form) for form in ([], ["--json"], ["--csv"])]
        lines = as_json.splitlines()
        found = [json.loads(each) for each in lines] if words in ONE_BY_ONE else json.loads(as_json)
        header, *rows = csv.reader(io.StringIO(as_csv))
        assert all(len(row) == len(header) for row in rows), words
        assert table.strip(), words
        if isinstance(found, list):
            assert len(rows) == len(found), words


async def test_one_thing_is_json_and_csv_too(exchange: Venue) -> None:
    line = "balance", "--url", exchange.url, "--key", exchange.key
    shown = await asyncio.to_thread(called, *line)
    assert "0.00 $" in shown
    names, values = csv.reader(io.StringIO(await asyncio.to_thread(called, *line, "--csv")))
    assert dict(zip(names, values, strict=True)) == json.loads(await asyncio.to_thread(called, *line, "--json"))


async def test_long_work_says_how_far_it_is_on_a_terminal_alone(
    exchange: Venue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "300")
    async with exchange.trader("developer") as developer:
        await exchange.admin.sell(CLASS, gpus=2, price="2.50", hours=48)
        for _ in range(2):
            await developer.buy(CLASS, gpus=1, hours=2, max_price="2.50", now_only=True)
        public = developer.fills(after="start")
        for _ in range(2):  # an order's answer comes before its fill is made public
            await anext(public)
    listing = tmp_path / "inventory.csv"
    listing.write_text(f"gpu,gpus,price\n{CLASS},8,2.60\n{CLASS} SXM,8,2.70\n")
    there = "--url", exchange.url, "--key", exchange.key
    for words, wanted in (
        (("fills", *there), "reading fills ━{40} 2/2 fills"),
        (("supply", "sync", str(listing), "--apply", *there), f"{listing} ━{{40}} 2/2 steps"),
        (("supply", "export", "--skypilot", *there), "reading what is for sale ━{40} 1/1 classes"),
    ):
        with terminal() as drawn:
            assert await asyncio.to_thread(called, *words)
        assert re.search(wanted, COLOURS.sub("", "".join(drawn))), words
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            await asyncio.to_thread(called, *words)
        assert err.getvalue() == "", words


COLOURS = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


@contextlib.contextmanager
def terminal() -> Iterator[list[str]]:
    """What is written to stderr is shown on a terminal: all of it, afterwards."""
    near, far = pty.openpty()
    drawn: list[str] = []

    def watch() -> None:
        with contextlib.suppress(OSError):  # nobody holds its other end any more
            while part := os.read(near, 4096):
                drawn.append(part.decode(errors="replace"))

    watching = threading.Thread(target=watch)
    watching.start()
    with open(far, "w") as err, contextlib.redirect_stderr(err):
        yield drawn
    watching.join()
    os.close(near)


async def test_times_are_shown_in_the_zone_of_who_looks(exchange: Venue) -> None:
    await exchange.admin.sell(CLASS, gpus=8, price="2.50", hours=48)
    env = {"CX_URL": exchange.url, "CX_KEY": exchange.key, "TZ": "Asia/Kolkata"}
    (order,) = await cx_json("orders", "--local", env=env)
    assert order["start"].endswith("Z")
    assert order["start"] in (await cx("orders", env=env))[1]
    assert " IST" in (await cx("orders", "--local", env=env))[1]
    assert " IST" in (await cx("orders", env=env | {"CX_TIMES": "local"}))[1]


@pytest.mark.parametrize(
    ("said", "starts"),
    [
        ("now..now+2h", ["now+0m", "now+60m", "now+120m"]),
        ("2026-11-28T08:00:00Z..2026-11-28T09:30:00Z", ["2026-11-28T08:00:00Z", "2026-11-28T09:00:00Z"]),
    ],
)
def test_moments_between_two_are_an_hour_apart(said: str, starts: list[str]) -> None:
    assert starts_of([said, "now+9h"]) == [*starts, "now+9h"]


def test_moments_between_two_are_no_more_than_a_bid_may_have() -> None:
    days = starts_of(["now..now+7d"])
    assert (len(days), days[0], days[1]) == (31, "now+0m", "now+326m")
    for said in ("now..2026-11-28T08:00:00Z", "now+2h..now+1h", "now..later", "..now"):
        assert f"--start {said}: " in wrong("buy", CLASS, "8", "--for", "1h", "--max", "1", "--start", said)


def wrong(*words: str) -> str:
    """The sentence with which it ends, as wrong usage."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        called(*words)
    assert ended.value.code == 2
    return err.getvalue()


def test_a_setting_comes_from_where_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CX_CONFIG", "CX_URL", "CX_KEY", "CX_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "cx" / "config.toml"

    def shown(*words: str) -> dict[str, tuple[str, str]]:
        return {row["name"]: (row["value"], row["source"]) for row in json.loads(called("config", *words, "--json"))}

    assert shown()["url"] == ("http://127.0.0.1:8080", "default")
    file.parent.mkdir()
    file.write_text(
        'url = "http://one"\nprofile = "buyer"\n[profiles.buyer]\nkey = "cx_buyer45678"\n'
        '[profiles.supplier]\nkey = "cx_supplier8"\nurl = "http://two"\n'
    )
    assert f"others may read it: chmod 600 {file}" in wrong("config")
    file.chmod(0o600)
    assert shown()["url"] == ("http://one", str(file))
    assert shown()["key"] == ("cx_buyer45…", f"profile buyer in {file}"), "not the whole of a secret"
    monkeypatch.setenv("CX_PROFILE", "supplier")
    assert shown()["url"] == ("http://two", f"profile supplier in {file}")
    monkeypatch.setenv("CX_KEY", "cx_environment")
    assert shown()["key"] == ("cx_environ…", "CX_KEY")
    assert shown("--profile", "buyer")["key"] == ("cx_buyer45…", f"profile buyer in {file}"), "it was said"
    assert shown("--key", "cx_option_12")["key"] == ("cx_option_…", "option")
    assert "has no profile nobody: it has buyer, supplier" in wrong("config", "--profile", "nobody")
    for text, part in (
        ("key = 1", "key must be text"),
        ("urls = 'x'", "there is no setting urls"),
        ("url = ", "cannot be read"),
        ("profiles = 'x'", "there is no setting profiles"),
        ("[profiles]\nx = 'y'", "a profile is a table"),
        ("times = 'mine'", "must be utc or local"),
    ):
        file.write_text(text)
        monkeypatch.delenv("CX_PROFILE", raising=False)
        assert part in wrong("balance"), text
    monkeypatch.setenv("CX_CONFIG", str(tmp_path / "none"))
    assert "which is not there" in wrong("balance")
    monkeypatch.delenv("CX_CONFIG")
    assert "not both" in wrong("balance", "--json", "--csv")
