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
self=skip market not_after=TIME fee=BPS; of an ask: region=… delivery=… interconnect=… confidential tier=… notice=…
display=…; of a bid: regions=…,… delivery=… interconnect=… confidential interruptible only=ACCOUNT,… not=ACCOUNT,…;
class=NAME is another class than H100, id=NAME sends that client_order_id. Each order has an account and owner of its
own where it says none. What else can be sent, the last block by an admin or by settlement:

    amend b1: bid 3 @ 2.60 2h at 1h        all terms anew; the first amend of b1 is itself named b1+1, the second b1+2
    repeat b1                              the bytes of an order, an amend or an extension again
    cancel b1 · cancel named b1 by=3       by the order's account, or by=ACCOUNT
    cancel all by=3 class=H100             without `by` of everybody, without `class` in all classes
    e1: extend b1-0 of a1: 4 @ 2.60 3h..5h by=3    the lease of b1's fill 0 goes on
    deadman 3 at 5h · deadman 3 off

    return b1-0 to a1: 4 2h..3h · withdraw b1-0 from a1: 4 2h..3h
    class A100 max=9.00 tick=0.01 gpus=64 band=10% · change A100 band=5% · retire A100 · reference A100 2.50
    halt A100 no_new · halt all full · resume A100 · kill 3 · revive 3 · limits 3 open=2 notional=90.00 quantity=8
    rules 1 · tick
"""

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from matching_engine.asks import for_sale
from matching_engine.engine import Engine
from matching_engine.orders import Ask
from schemas import attributes, commands, events
from schemas.attributes import Accepts, Attributes, ClassSpec, region_mask
from schemas.codec import decode_command, encode
from schemas.commands import (
    Amend,
    CancelAll,
    Command,
    Extend,
    HaltMode,
    PlaceAsk,
    PlaceBid,
    Prefer,
    SelfTrade,
    Side,
    TimeInForce,
)
from schemas.events import Event
from schemas.ids import FillId
from schemas.refusals import sentence
from schemas.units import HOUR_MS, format_duration, format_usd, parse_duration, parse_usd
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
        self._specs: dict[str, ClassSpec] = {}
        self._sent: dict[str, Command] = {}
        self._accounts: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self.send(f"class {CLASS} accelerator=H100 max=10.00 gpus=1024")

    def send(self, line: str) -> list[str]:
        if moved := re.fullmatch(r"@ (\S+) (.*)", line):
            self._time, line = time(moved[1]), moved[2]
        return self._apply(self._command(line.replace(":", " ").split()))

    def check(self, line: str) -> str:
        match line.split():
            case ["=", "unsold", name, window, _]:
                ask = self._engine.order(self._id(name.rstrip(":")))
                unsold = for_sale(ask, *span(window.rstrip(":"))) if isinstance(ask, Ask) else "gone"
                return f"= unsold {name} {window} {unsold}"
            case ["=", "book:", *_]:
                book = self._engine.books[CLASS]
                orders = [*(ask.id for ask in book.asks()), *(bid.id for bid in book.bids())]
                return " ".join(["= book:", *(self._names[order] for order in orders)])
        raise ValueError(f"no such check: {line}")

    def _command(self, words: list[str]) -> Command:
        options = stated(words)
        match words:
            case [name, "ask" | "bid", *_]:
                order = self._order(name, words[1:], 100 + self._offset)
                self._accounts[name] = order.account
                return self._named(name, order)
            case ["amend", name, *terms]:
                change = f"{name}+{1 + sum(known.startswith(f'{name}+') for known in self._sent)}"
                order = self._order(change, terms, self._accounts.get(name, 0))
                return self._named(change, Amend(self._id(name), order))
            case [name, "extend", lease, "of", ask, quantity, "@", price, window, *_]:
                account, (start, end) = int(options["by"]), span(window)
                owner, client_order_id = int(options.get("owner", account)), options.get("id", name)
                extend = Extend(
                    self._fill(lease), self._id(ask), account, owner, client_order_id,
                    time(options.get("not_after", "100h")), int(quantity), start, end, parse_usd(price),
                )  # fmt: skip
                return self._named(name, extend)
            case ["repeat", name]:
                return self._sent[name]
            case ["cancel", "all", *_]:
                return CancelAll(int(options.get("by", 0)), options.get("class", ""))
            case ["cancel", "named", name, *_]:
                return commands.CancelNamed(int(options["by"]), name)
            case ["cancel", name, *_]:
                return commands.Cancel(int(options.get("by") or self._accounts[name]), self._id(name))
            case ["return", lease, "to", ask, quantity, window]:
                return commands.Return(self._fill(lease), self._id(ask), int(quantity), *span(window))
            case ["withdraw", lease, "from", ask, quantity, window]:
                return commands.Withdraw(self._fill(lease), self._id(ask), int(quantity), *span(window))
            case ["class", name, *_]:
                return commands.CreateClass(self._spec(name, options))
            case ["change", name, *_]:
                return commands.ChangeClass(self._spec(name, options))
            case ["retire", name]:
                return commands.RetireClass(name)
            case ["reference", name, price]:
                return commands.SetReference(name, parse_usd(price))
            case ["halt", name, mode]:
                return commands.Halt("" if name == "all" else name, HaltMode[mode.upper()])
            case ["resume", name]:
                return commands.Halt("" if name == "all" else name, HaltMode.NONE)
            case ["kill" | "revive" as word, account]:
                return commands.Kill(int(account), word == "kill")
            case ["deadman", account, "at", until]:
                return commands.RenewDeadMan(int(account), time(until))
            case ["deadman", account, "off"]:
                return commands.RenewDeadMan(int(account), 0)
            case ["limits", account, *_]:
                most, gpus = int(options.get("open", 0)), int(options.get("quantity", 0))
                return commands.SetLimits(int(account), most, parse_usd(options.get("notional", "0")), gpus)
            case ["rules", number]:
                return commands.SetRules(int(number))
            case ["tick"]:
                return commands.Tick()
        raise ValueError(f"no such command: {' '.join(words)}")

    def _named(self, name: str, command: Command) -> Command:
        self._names[self._offset] = name
        self._sent[name] = command
        return command

    def _apply(self, command: Command) -> list[str]:
        execution = self._engine.apply(self._offset, self._time, decode_command(encode(command)))
        by_model = self._model.apply(self._offset, self._time, command)
        assert [type(event) for event in execution.events] == [type(event) for event in by_model]
        for event, expected in zip(execution.events, by_model, strict=True):
            assert event == expected or isinstance(event, events.Rejected)
            if isinstance(event, events.ClassChanged):
                self._specs[event.spec.class_id] = event.spec
        self._offset += 1
        return [f"> {text}" for event in execution.events if (text := self._told(event))]

    def _told(self, event: Event) -> str:
        match event:
            case events.Accepted():
                return ""
            case events.Rejected(_, _, code, args):
                return f"refused, {code}: {sentence(code, args)}"
            case events.Duplicate(_, _, first):
                return f"duplicate of {self._names[first]}"
            case events.Fill() as fill:
                return (
                    f"fill {self._names[fill.ask_id]} to {self._names[fill.bid_id]}: {fill.quantity}"
                    f" @ {format_usd(fill.price)}, {window(fill.start, fill.end)}"
                    f", taker {fill.taker.name.lower()}, left {fill.bid_left}"
                )
            case events.Filled(order_id):
                return f"filled {self._names[order_id]}"
            case events.Cancelled(order_id, _, reason, left):
                return f"cancelled {self._names[order_id]}: {reason}, left {left}"
            case events.Expired(order_id, _, left):
                return f"expired {self._names[order_id]}: left {left}"
            case events.Amended(order_id, _, side, place, quantity, left, price, start, duration):
                during = f"{format_duration(duration)} at {moment(start)}"
                if side is Side.ASK:
                    during = window(start, start + duration)
                terms = f"{side.name.lower()} {quantity} @ {format_usd(price)} {during}"
                kept = "new place" if place == self._offset - 1 else "keeps its place"
                return f"amended {self._names[order_id]}: {terms}, left {left}, {kept}"
            case events.Extension(_, lease):
                return f"extension of {self._lease(lease)}"
            case events.Returned(lease, ask_id, _, quantity, start, end):
                return f"returned {self._lease(lease)} to {self._names[ask_id]}: {quantity}, {window(start, end)}"
            case events.Withdrawn(lease, ask_id, _, quantity, start, end):
                return f"withdrawn {self._lease(lease)} from {self._names[ask_id]}: {quantity}, {window(start, end)}"
            case events.AllCancelled(account, class_id, orders):
                where = f" in {class_id}" if class_id else ""
                return f"cancelled all of {account or 'everybody'}{where}: {orders}"
            case events.ClassChanged(spec):
                prices = f"up to {format_usd(spec.max_price)} by {format_usd(spec.tick)}"
                return f"class {spec.class_id}: {prices}, {spec.max_quantity} GPUs, band {percent(spec.band_bps)}"
            case events.ClassRetired(class_id):
                return f"retired {class_id}"
            case events.ReferenceChanged(class_id, price, low, high):
                return f"reference {class_id} {format_usd(price)}: {format_usd(low)} to {format_usd(high)}"
            case events.HaltChanged(class_id, mode):
                return f"halted {class_id}: {mode.name.lower()}" if mode else f"resumed {class_id}"
            case events.KillChanged(account, on):
                return f"{'killed' if on else 'revived'} {account}"
            case events.DeadManChanged(account, until):
                return f"deadman {account} at {moment(until)}" if until else f"deadman {account} off"
            case events.LimitsChanged(account, most, notional, gpus):
                return f"limits {account}: open {most}, notional {format_usd(notional)}, quantity {gpus}"
            case events.RulesChanged(number):
                return f"rules {number}"
            case events.Ticked():
                return "ticked"

    def _id(self, name: str) -> int:
        return next((order for order, known in self._names.items() if known == name), 10**6)

    def _fill(self, text: str) -> FillId:
        name, _, index = text.rpartition("-")
        return self._id(name), int(index)

    def _lease(self, lease: FillId) -> str:
        return f"{self._names[lease[0]]}-{lease[1]}"

    def _spec(self, name: str, options: dict[str, str]) -> ClassSpec:
        spec = self._specs.get(name, ClassSpec(name, name, 80, "SXM"))
        return replace(
            spec,
            accelerator=options.get("accelerator", spec.accelerator),
            memory_gb=int(options.get("memory", spec.memory_gb)),
            form_factor=options.get("form", spec.form_factor),
            tick=parse_usd(options["tick"]) if "tick" in options else spec.tick,
            max_price=parse_usd(options["max"]) if "max" in options else spec.max_price,
            max_quantity=int(options.get("gpus", spec.max_quantity)),
            band_bps=basis_points(options["band"]) if "band" in options else spec.band_bps,
        )

    def _order(self, name: str, words: list[str], account: int) -> PlaceAsk | PlaceBid:
        side, quantity, _, price, *words = words
        options = stated(words)
        account = int(options.get("by", account))
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
            start, end = span(words[0])
            offered = Attributes(
                attributes.REGIONS[options.get("region", "us-east")],
                delivery,
                interconnect,
                confidential,
                attributes.TIERS[options.get("tier", "guaranteed")],
                int(options.get("notice", 0)),
            )
            return PlaceAsk(
                class_id, account, owner, client_order_id, not_after, int(quantity), parse_usd(price),
                start, end, offered, parse_duration(options.get("min", "1h")), int(options.get("lot", 1)), force, until,
                post_only, self_trade, fee, int(options.get("display", 0)),
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
            parse_duration(duration), tuple(time(start) for start in starts.split(",")),
            accepts, int(options.get("min_fill", 1)), Prefer[options.get("prefer", "price").upper()], force, until,
            post_only, self_trade, fee, "market" in options,
        )  # fmt: skip


def stated(words: list[str]) -> dict[str, str]:
    return dict(word.partition("=")[::2] for word in words if "=" in word or word.isidentifier())


def accounts(text: str) -> tuple[int, ...]:
    return tuple(int(account) for account in text.split(",") if account)


def basis_points(text: str) -> int:
    """`2.5%` -> 250."""
    return parse_usd(text.removesuffix("%")) // 10_000


def percent(bps: int) -> str:
    return f"{bps / 100:g}%"


def time(text: str) -> int:
    """`1h30m` after 0h; `1h+1` is a millisecond later, `-1h` before 0h; `now` is 0."""
    if text == "now":
        return 0
    clock, _, ms = text.partition("+")
    sign = -1 if clock.startswith("-") else 1
    return T0 + sign * parse_duration(clock.lstrip("-")) + int(ms or 0)


def span(text: str) -> tuple[int, int]:
    start, end = text.split("..")
    return time(start), time(end)


def moment(time_ms: int) -> str:
    hours, rest = divmod(time_ms - T0, HOUR_MS)
    return f"{hours}h{rest // 60_000}m" if rest else f"{hours}h"


def window(start: int, end: int) -> str:
    return f"{moment(start)}..{moment(end)}"
