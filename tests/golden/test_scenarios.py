"""Runs the scenarios in `scenarios/*.txt` and the worked examples of `matching_engine/RULES.md`.

A scenario is what traders send, and line by line what the market answers:

    ## the cheapest ask first          a scenario begins: one class H100, an empty book, the time 0h
    a1: ask 8 @ 2.50 0h..24h           an order: 8 GPUs at $2.50 a GPU-hour, available from 0h to 24h
    b1: bid 4 @ 2.60 2h at 1h,3h       4 GPUs for 2 hours, from 1h or else from 3h; `now` is a start too
    > fill a1 to b1: 4 @ 2.50, 1h..3h, taker bid, left 0
    > filled b1                        all events of the command above, but that an order was accepted
    = unsold a1: 0h..24h: 4            what must be so then
    @ 2h tick                          `@ TIME` before a command: the log's time, for this and what follows

Options stand behind an order: by=ACCOUNT owner=OWNER until=TIME tif=ioc min_fill=4 lot=2 min=30m prefer=start post_only
self=skip market not_after=TIME fee=BPS; of an ask: region=… delivery=… interconnect=… confidential tier=…; of a bid:
regions=…,… delivery=… interconnect=… confidential interruptible only=ACCOUNT,… not=ACCOUNT,…; id=NAME sends that
client_order_id. `repeat NAME` sends an order's bytes again, `cancel NAME by=ACCOUNT` cancels. Each order has an account
and owner of its own where it says none.
"""

import re
from pathlib import Path

import pytest

from matching_engine.engine import Engine
from schemas import attributes
from schemas.attributes import Accepts, Attributes, ClassSpec, region_mask
from schemas.codec import decode_command, encode
from schemas.commands import Cancel, Command, CreateClass, PlaceAsk, PlaceBid, Prefer, SelfTrade, Tick, TimeInForce
from schemas.events import Accepted, Cancelled, ClassChanged, Duplicate, Event, Expired, Fill, Filled, Rejected, Ticked
from schemas.refusals import sentence
from schemas.units import HOUR_MS, format_usd, parse_duration, parse_usd
from tests.simulation.model import Model

T0 = 1_795_478_400_000
"""0h: midnight of 24 November 2026, UTC."""
CLASS = "H100"
FOLDER = Path(__file__).parent / "scenarios"
RULES = Path(__file__).parents[2] / "matching_engine" / "RULES.md"


def scenarios() -> dict[str, list[str]]:
    """By file and title, the scenario's lines."""
    found: dict[str, list[str]] = {}
    for file in sorted(FOLDER.glob("*.txt")):
        for text in file.read_text().split("\n## ")[1:]:
            title, *lines = text.splitlines()
            name = f"{file.stem}: {title}"
            assert name not in found, f"{name} stands twice"
            found[name] = [line for line in lines if line and not line.startswith("#")]
    for heading, block in re.findall(
        r"\n## ([^\n]+)(?:(?!\n## ).)*?\n```market\n(.*?)```", RULES.read_text(), re.DOTALL
    ):
        found[f"RULES.md: {heading}"] = block.splitlines()
    return found


@pytest.mark.parametrize("name", scenarios())
def test_scenario(name: str) -> None:
    lines = scenarios()[name]
    assert played(lines) == lines


def played(lines: list[str]) -> list[str]:
    """The scenario's commands, each followed by what the market in fact answers, and its checks as they come out."""
    market, output = Market(), []
    for line in lines:
        if line.startswith("="):
            output.append(market.check(line))
        elif not line.startswith(">"):
            output += [line, *market.send(line)]
    return output


class Market:
    """One engine, the model beside it, and the names of orders."""

    def __init__(self) -> None:
        self._engine, self._model = Engine(0), Model()
        self._time, self._offset = T0, 0
        self._sent: dict[str, PlaceAsk | PlaceBid] = {}
        self._names: dict[int, str] = {}
        self._apply(CreateClass(ClassSpec(CLASS, "NVIDIA H100", 80, "SXM", max_price=10_000_000, max_quantity=1024)))

    def send(self, line: str) -> list[str]:
        if moved := re.fullmatch(r"@ (\S+) (.*)", line):
            self._time, line = time(moved[1]), moved[2]
        words = line.split()
        if words[0].endswith(":"):
            name = words[0][:-1]
            command = self._order(name, words[1:])
            self._names[self._offset] = name
            self._sent[name] = command
            return self._apply(command)
        match words:
            case ["tick"]:
                return self._apply(Tick())
            case ["repeat", name]:
                return self._apply(self._sent[name])
            case ["cancel", name, *rest]:
                account = int(rest[0].removeprefix("by=")) if rest else self._sent[name].account
                return self._apply(Cancel(account, self._id(name)))
            case ["class", name, price]:
                return self._apply(CreateClass(ClassSpec(name, "NVIDIA", 80, "SXM", max_price=parse_usd(price))))
        raise ValueError(f"no such command: {line}")

    def check(self, line: str) -> str:
        match line.split():
            case ["=", "unsold", name, window, _]:
                ask = self._engine.order(self._id(name.rstrip(":")))
                start, end = window.rstrip(":").split("..")
                unsold = ask.unsold(time(start), time(end)) if ask is not None and hasattr(ask, "unsold") else "gone"
                return f"= unsold {name} {window} {unsold}"
            case ["=", "book:", *_]:
                book = self._engine.books[CLASS]
                orders = [*(ask.id for ask in book.asks()), *(bid.id for bid in book.bids())]
                return " ".join(["= book:", *(self._names[order] for order in orders)])
        raise ValueError(f"no such check: {line}")

    def _apply(self, command: Command) -> list[str]:
        execution = self._engine.apply(self._offset, self._time, decode_command(encode(command)))
        by_model = self._model.apply(self._offset, self._time, command)
        assert [type(event) for event in execution.events] == [type(event) for event in by_model]
        for event, expected in zip(execution.events, by_model, strict=True):
            assert event == expected or isinstance(event, Rejected)
        self._offset += 1
        return [f"> {text}" for event in execution.events if (text := self._told(event))]

    def _told(self, event: Event) -> str:
        named = self._names.get
        match event:
            case Accepted() | ClassChanged():
                return ""
            case Fill():
                window = f"{moment(event.start)}..{moment(event.end)}"
                return (
                    f"fill {named(event.ask_id)} to {named(event.bid_id)}: {event.quantity} @ {format_usd(event.price)}"
                    f", {window}, taker {event.taker.name.lower()}, left {event.bid_left}"
                )
            case Filled():
                return f"filled {named(event.order_id)}"
            case Cancelled():
                return f"cancelled {named(event.order_id)}: {event.reason}, left {event.left}"
            case Expired():
                return f"expired {named(event.order_id)}: left {event.left}"
            case Duplicate():
                return f"duplicate of {named(event.first)}"
            case Rejected():
                return f"refused, {event.code}: {sentence(event.code, event.args)}"
            case Ticked():
                return "ticked"

    def _id(self, name: str) -> int:
        return next((order for order, known in self._names.items() if known == name), 10**6)

    def _order(self, name: str, words: list[str]) -> PlaceAsk | PlaceBid:
        side, quantity, _, price, *words = words
        options = dict(word.partition("=")[::2] for word in words if "=" in word or word.isidentifier())
        account = int(options.get("by", 100 + self._offset))
        owner = int(options.get("owner", account))
        client_order_id = options.get("id", name)
        not_after = time(options.get("not_after", "100h"))
        class_id = options.get("class", CLASS)
        force = TimeInForce[options.get("tif", "gtd" if "until" in options else "gtc").upper()]
        until = time(options["until"]) if "until" in options else 0
        self_trade = SelfTrade[options.get("self", "cancel_newest").upper()]
        fee, post_only, confidential = int(options.get("fee", 0)), "post_only" in options, "confidential" in options
        delivery = attributes.DELIVERIES[options.get("delivery", "vm" if side == "ask" else "container")]
        interconnect = attributes.INTERCONNECTS[options.get("interconnect", "none")]
        if side == "ask":
            start, end = words[0].split("..")
            stated = Attributes(
                attributes.REGIONS[options.get("region", "us-east")],
                delivery,
                interconnect,
                confidential,
                attributes.TIERS[options.get("tier", "guaranteed")],
            )
            return PlaceAsk(
                class_id, account, owner, client_order_id, not_after, int(quantity), parse_usd(price),
                0 if start == "now" else time(start), time(end), stated, parse_duration(options.get("min", "1h")),
                int(options.get("lot", 1)), force, until, post_only, self_trade, fee,
            )  # fmt: skip
        duration, _, starts = words[:3]
        regions = options.get("regions")
        accepts = Accepts(
            region_mask([attributes.REGIONS[region] for region in regions.split(",")]) if regions else 0,
            delivery,
            interconnect,
            confidential,
            "interruptible" in options,
            accounts(options.get("only", "")),
            accounts(options.get("not", "")),
        )
        return PlaceBid(
            class_id, account, owner, client_order_id, not_after, int(quantity), parse_usd(price),
            parse_duration(duration), tuple(0 if start == "now" else time(start) for start in starts.split(",")),
            accepts, int(options.get("min_fill", 1)), Prefer[options.get("prefer", "price").upper()], force, until,
            post_only, self_trade, fee, "market" in options,
        )  # fmt: skip


def accounts(text: str) -> tuple[int, ...]:
    return tuple(int(account) for account in text.split(",") if account)


def time(text: str) -> int:
    """`1h30m` after 0h; `1h+1` is a millisecond later, `-1h` before 0h."""
    clock, _, ms = text.partition("+")
    sign = -1 if clock.startswith("-") else 1
    return T0 + sign * parse_duration(clock.lstrip("-")) + int(ms or 0)


def moment(time_ms: int) -> str:
    hours, rest = divmod(time_ms - T0, HOUR_MS)
    return f"{hours}h{rest // 60_000}m" if rest else f"{hours}h"
