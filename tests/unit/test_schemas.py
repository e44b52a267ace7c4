"""The bytes of every message are fixed, and a change that breaks old readers is named."""

import copy
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

import gateways
import matching_engine
import schemas
import settlement
from schemas import codec
from schemas.__main__ import PUBLISHED, breaks, published, render
from schemas.attributes import (
    Accepts,
    Attributes,
    ClassSpec,
    Delivery,
    Interconnect,
    Region,
    SlaStep,
    Tier,
    region_mask,
)
from schemas.commands import (
    Amend,
    Cancel,
    CancelAll,
    CancelNamed,
    ChangeClass,
    Command,
    CreateClass,
    Extend,
    Halt,
    HaltMode,
    Kill,
    PlaceAsk,
    PlaceBid,
    Prefer,
    RenewDeadMan,
    RetireClass,
    Return,
    SelfTrade,
    SetLimits,
    SetReference,
    SetRules,
    Side,
    Tick,
    TimeInForce,
    Unreadable,
    Withdraw,
)
from schemas.events import (
    Accepted,
    AllCancelled,
    Amended,
    Cancelled,
    CancelReason,
    ClassChanged,
    ClassRetired,
    DeadManChanged,
    Duplicate,
    Event,
    Execution,
    Expired,
    Extension,
    Fill,
    Filled,
    HaltChanged,
    KillChanged,
    LimitsChanged,
    ReferenceChanged,
    Rejected,
    Returned,
    RulesChanged,
    Ticked,
    Withdrawn,
)
from schemas.fills import PublicFill, public_fills
from schemas.instructions import (
    Accept,
    Correct,
    CreditLimit,
    DailyCredits,
    Degrade,
    Deliver,
    Deposit,
    End,
    Instruction,
    Reclaim,
    Renew,
    Restore,
    Source,
    UsageReport,
    Withdrawal,
    WithdrawalNews,
    WithdrawalState,
)
from schemas.refusals import Refusal

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "messages.txt"
T = 1_795_489_200_000
HOUR = 3_600_000

ATTRIBUTES = Attributes(Region.EU_WEST, Delivery.BARE_METAL, Interconnect.INFINIBAND, True, Tier.INTERRUPTIBLE, 30)
ACCEPTS = Accepts(
    region_mask([Region.US_EAST, Region.EU_WEST]), Delivery.VM, Interconnect.NVLINK, True, True, (3,), (4, 5)
)
SPEC = ClassSpec("H100-SXM-80GB", "NVIDIA H100", 80, "SXM", 100, 10**9, 4096, 900_000, 600_000, 72 * HOUR)
BANDED = msgspec.structs.replace(SPEC, band_bps=3000)
REFUNDING = msgspec.structs.replace(BANDED, refund_bps=7500)
PROMISING = msgspec.structs.replace(
    REFUNDING, sla=(SlaStep(9_990, 1_000), SlaStep(9_900, 2_500)), reclaim_credit_bps=5_000
)
FILL = Fill(0, 7, "H100-SXM-80GB", 41, 40, 2, 3, 2_499_900, 8, T, T + HOUR, Side.BID, 4, 100, 200, ATTRIBUTES)

ASK = PlaceAsk(
    "H100-SXM-80GB", 3, 3, "a-1", T, 16, 2_499_900, T, T + 48 * HOUR, ATTRIBUTES,
    2 * HOUR, 8, TimeInForce.GTD, T + HOUR, True, SelfTrade.CANCEL_OLDEST, 200,
)  # fmt: skip
BID = PlaceBid(
    "H100-SXM-80GB", 2, 2, "b-1", T, 12, 2_600_000, HOUR, (0, T), ACCEPTS, 4,
    Prefer.START, TimeInForce.IOC, 0, False, SelfTrade.SKIP, 100, True,
)  # fmt: skip
DISPLAYED = msgspec.structs.replace(ASK, display=4)

MESSAGES: dict[str, Command | Instruction | UsageReport | Execution] = {
    "PlaceAsk": ASK,
    "PlaceAsk@2": DISPLAYED,
    "PlaceBid": BID,
    "Cancel": Cancel(2, 41),
    "CancelNamed": CancelNamed(2, "b-1"),
    "CancelAll": CancelAll(2, "H100-SXM-80GB"),
    "Amend": Amend(41, BID),
    "Return": Return((41, 1), 40, 8, T, T + HOUR),
    "Withdraw": Withdraw((41, 1), 40, 8, T, T + HOUR),
    "Extend": Extend((41, 1), 40, 2, 5, "b-2", T, 8, T + HOUR, T + 2 * HOUR, 2_600_000, 100),
    "CreateClass": CreateClass(SPEC),
    "CreateClass@2": CreateClass(BANDED),
    "CreateClass@3": CreateClass(REFUNDING),
    "CreateClass@4": CreateClass(PROMISING),
    "ChangeClass": ChangeClass(BANDED),
    "ChangeClass@2": ChangeClass(REFUNDING),
    "ChangeClass@3": ChangeClass(PROMISING),
    "RetireClass": RetireClass("H100-SXM-80GB"),
    "SetReference": SetReference("H100-SXM-80GB", 2_500_000),
    "Halt": Halt("H100-SXM-80GB", HaltMode.FULL),
    "Kill": Kill(2, True),
    "RenewDeadMan": RenewDeadMan(2, T + HOUR),
    "SetLimits": SetLimits(2, 100, 10**12, 64),
    "SetRules": SetRules(2),
    "Tick": Tick(),
    "Deposit": Deposit(2, 1_000_000, "wire-1"),
    "Deliver": Deliver((41, 0), 3, "ssh root@192.0.2.1"),
    "Deliver@2": Deliver((41, 0), 3, "ssh root@192.0.2.1", ("GPU-1", "GPU-2"), "both were seen"),
    "Renew": Renew((41, 0), 2, 24 * HOUR, 2_600_000, 2, 100),
    "Accept": Accept((41, 0), 2),
    "Degrade": Degrade((41, 0), 3, 2, "link down"),
    "Restore": Restore((41, 0), 3),
    "Reclaim": Reclaim((41, 0), 3),
    "End": End((41, 0), 2),
    "CreditLimit": CreditLimit(2, 5_000_000_000),
    "Withdrawal": Withdrawal(2, "rent-11", Source.RECEIVABLE, 5_000_000, "DE02 1203"),
    "DailyCredits": DailyCredits(2, 50_000_000),
    "WithdrawalNews": WithdrawalNews(2, "rent-11", WithdrawalState.FAILED, "po_7", "account closed"),
    "Correct": Correct((41, 0), 3, 7 * HOUR, "metered twice"),
    "UsageReport": UsageReport((41, 0), 3, 1, 8 * HOUR, True),
    "UsageReport@2": UsageReport((41, 0), 3, 1, 8 * HOUR, True, T),
    "Accepted": Execution(41, 40, T, (Accepted(2, "b-1", "H100-SXM-80GB", Side.BID, 12, 2_600_000, 100, T, HOUR),)),
    "Rejected": Execution(42, 41, T, (Rejected(2, "b-2", Refusal.PRICE_OFF_TICK, (2_499_950, 100, "H100-SXM-80GB")),)),
    "Duplicate": Execution(43, 42, T, (Duplicate(2, "b-1", 41),)),
    "Fill": Execution(41, -1, T, (FILL,)),
    "Filled": Execution(44, 43, T, (Filled(41, 2),)),
    "Cancelled": Execution(45, 44, T, (Cancelled(41, 2, CancelReason.REQUESTED, 4),)),
    "Expired": Execution(46, 45, T, (Expired(41, 2, 4),)),
    "Amended": Execution(46, 45, T, (Amended(41, 2, Side.BID, 46, 16, 8, 2_600_000, T, HOUR),)),
    "Extension": Execution(41, -1, T, (Extension(0, (7, 1)),)),
    "Returned": Execution(46, 45, T, (Returned((41, 1), 40, 3, 8, T, T + HOUR),)),
    "Withdrawn": Execution(46, 45, T, (Withdrawn((41, 1), 40, 3, 8, T, T + HOUR),)),
    "AllCancelled": Execution(46, 45, T, (AllCancelled(2, "H100-SXM-80GB", 3),)),
    "ClassChanged": Execution(47, 46, T, (ClassChanged(SPEC),)),
    "ClassChanged@2": Execution(47, 46, T, (ClassChanged(BANDED),)),
    "ClassChanged@3": Execution(47, 46, T, (ClassChanged(REFUNDING),)),
    "ClassChanged@4": Execution(47, 46, T, (ClassChanged(PROMISING),)),
    "ClassRetired": Execution(47, 46, T, (ClassRetired("H100-SXM-80GB"),)),
    "ReferenceChanged": Execution(
        47, 46, T, (ReferenceChanged("H100-SXM-80GB", 2_500_000, 1_750_000, 3_250_000),)
    ),
    "HaltChanged": Execution(47, 46, T, (HaltChanged("H100-SXM-80GB", HaltMode.NO_NEW),)),
    "KillChanged": Execution(47, 46, T, (KillChanged(2, True),)),
    "DeadManChanged": Execution(47, 46, T, (DeadManChanged(2, T + HOUR),)),
    "LimitsChanged": Execution(47, 46, T, (LimitsChanged(2, 100, 10**12, 64),)),
    "RulesChanged": Execution(47, 46, T, (RulesChanged(2),)),
    "Ticked": Execution(1 << 48 | 48, 47, T, (Ticked(),)),
}  # fmt: skip


def asked(message: Any) -> Any:
    """It, with the id of a request; None where it says none."""
    if isinstance(message, Amend):
        return Amend(message.order_id, asked(message.terms))
    return msgspec.structs.replace(message, request_id="r-1") if hasattr(message, "request_id") else None


MESSAGES |= {
    f"{name}@{1 + sum(other.partition('@')[0] == name for other in MESSAGES)}": last
    for name, message in {name.partition("@")[0]: message for name, message in MESSAGES.items()}.items()
    if (last := asked(message)) is not None
}
"""The form since a command says whose request it is, and the answer too."""


def decode(name: str, value: bytes) -> object:
    message = MESSAGES[name]
    if isinstance(message, UsageReport):
        return codec.decode_usage(value)
    if isinstance(message, Execution):
        return codec.decode_execution(value)
    return codec.decode_instruction(value) if isinstance(message, Instruction) else codec.decode_command(value)


def golden() -> dict[str, bytes]:
    lines = (line.split() for line in GOLDEN.read_text().splitlines() if not line.startswith("#"))
    return {name: bytes.fromhex(digits) for name, digits in lines}


NEWEST = {name.partition("@")[0]: name for name in MESSAGES}
"""Of each message the line of its newest form: the one that is written today."""


def test_every_message_has_golden_bytes() -> None:
    tagged = {kind.__name__ for union in (Command, Event, Instruction) for kind in union.__args__}
    assert set(golden()) == set(MESSAGES)
    assert set(NEWEST) == tagged | {"UsageReport"}


@pytest.mark.parametrize("name", MESSAGES)
def test_bytes_that_were_once_written_stay_readable(name: str) -> None:
    assert decode(name, golden()[name]) == MESSAGES[name]


@pytest.mark.parametrize("name", NEWEST.values())
def test_the_bytes_of_a_message_never_change(name: str) -> None:
    assert codec.encode(MESSAGES[name]) == golden()[name]


@pytest.mark.parametrize("name", [name for name in NEWEST if name != NEWEST[name]])
def test_old_bytes_lack_the_newest_field_and_are_read_with_its_default(name: str) -> None:
    assert len(golden()[name]) < len(golden()[NEWEST[name]])
    assert decode(name, golden()[name]) == MESSAGES[name]
    assert (ASK.display, SPEC.band_bps, BANDED.refund_bps, REFUNDING.sla) == (0, 0, 10_000, ())


def test_the_public_fill_is_json_without_accounts() -> None:
    execution = Execution(41, -1, T, (Filled(41, 2), FILL))
    (fill,) = public_fills(execution)
    assert codec.encode_fill(fill) == (
        b'{"number":7,"class":"H100-SXM-80GB","fill_id":"fil_19-0","time":"2026-11-24T03:00:00Z","price":"2.4999",'
        b'"quantity":8,"start":"2026-11-24T03:00:00Z","end":"2026-11-24T04:00:00Z","region":"eu-west",'
        b'"interconnect":"infiniband","confidential":true,"tier":"interruptible","delivery":"bare_metal","taker":"bid"}'
    )
    assert codec.decode_fill(codec.encode_fill(fill)) == fill
    private = {"account", "buyer", "seller", "bid_id", "ask_id", "owner", "client_order_id"}
    assert private.isdisjoint(field.encode_name for field in msgspec.structs.fields(PublicFill))


@pytest.mark.parametrize(
    "value", [b"", b"\xc1", b"\x91\xa4what", b"\x95\xa3ask\x01", b"\x92\xa6cancel\xff", b"\x91" * 5000]
)
def test_bytes_that_are_no_message_are_unreadable_and_say_so(value: bytes) -> None:
    assert isinstance(codec.decode_command(value), Unreadable)
    assert isinstance(codec.decode_instruction(value), Unreadable)
    assert isinstance(codec.decode_usage(value), Unreadable)


def test_an_old_record_without_the_newest_fields_is_read_with_their_defaults() -> None:
    whole = msgspec.msgpack.decode(codec.encode(MESSAGES["UsageReport@2"]))
    assert codec.decode_usage(msgspec.msgpack.encode(whole[:-2])) == UsageReport((41, 0), 3, 1, 8 * HOUR, False)


def test_an_old_reader_skips_fields_it_does_not_know() -> None:
    whole = msgspec.msgpack.decode(codec.encode(MESSAGES["Cancel"]))
    assert codec.decode_command(msgspec.msgpack.encode([*whole, "from the future"])) == MESSAGES["Cancel"]


@pytest.mark.parametrize("topic", published())
def test_published_schemas_are_those_of_the_code(topic: str) -> None:
    text = (PUBLISHED / f"{topic}.json").read_text()
    found = breaks(json.loads(text), published()[topic])
    assert not found, f"old readers of {topic} would break: give it a new version"
    assert text == render(published()[topic]), "run: python -m schemas, and commit what it writes"


def changed(topic: str, change: Any) -> list[str]:
    new = copy.deepcopy(published()[topic])
    change(new)
    return breaks(published()[topic], new)


def replace(table: Any, place: int, old: str, new: str) -> None:
    assert old in table["fields"][place]
    table["fields"][place] = table["fields"][place].replace(old, new)


def test_a_change_that_breaks_old_readers_is_named() -> None:
    assert changed("commands.v1", lambda s: s.pop("Cancel")) == ["Cancel is gone"]
    assert changed("commands.v1", lambda s: s["Cancel"].update(tag="c")) == ["Cancel had the tag 'cancel'"]
    assert changed("commands.v1", lambda s: s["Cancel"]["fields"].reverse()) == [
        "Cancel: field 0 was 'account: int'",
        "Cancel: field 2 was 'request_id: str, optional'",
    ]
    assert changed("commands.v1", lambda s: s["Cancel"]["fields"].append("why: str")) == [
        "Cancel: the new field 'why: str' must be optional"
    ]
    assert changed("commands.v1", lambda s: s["Prefer"]["values"].update(PRICE=5)) == ["Prefer.PRICE was 0"]
    terms = ["Amend: field 1 was 'terms: union[PlaceAsk, PlaceBid]'"]
    assert changed("commands.v1", lambda s: replace(s["Amend"], 1, "PlaceAsk, PlaceBid", "PlaceAsk, Cancel")) == terms
    assert changed("commands.v1", lambda s: replace(s["Amend"], 1, "union[PlaceAsk, PlaceBid]", "PlaceAsk")) == terms
    assert changed("commands.v1", lambda s: replace(s["Amend"], 1, ", PlaceBid", ", PlaceBid, int")) == terms
    assert changed("commands.v1", lambda s: replace(s["Return"], 0, "int, int", "int, str")) == [
        "Return: field 0 was 'fill: tuple[int, int]'"
    ]
    assert changed("executions.v1", lambda s: replace(s["Rejected"], 3, "int, str", "int, str, Accepted"))
    assert changed("fills.v1", lambda s: s["$defs"]["PublicFill"]["properties"].pop("price")) == [
        "PublicFill.price was {'type': 'string'}"
    ]


def test_a_change_that_old_readers_can_live_with_passes() -> None:
    assert changed("commands.v1", lambda s: s["Cancel"]["fields"].append("why: str, optional")) == []
    assert changed("commands.v1", lambda s: s.update(Merge={"tag": "merge", "fields": []})) == []
    assert changed("commands.v1", lambda s: replace(s["Amend"], 1, "[PlaceAsk", "[Cancel, PlaceAsk")) == []
    assert (
        changed("executions.v1", lambda s: replace(s["Execution"], 3, "Fill, Filled", "Extension, Filled, Fill")) == []
    )
    assert changed("fills.v1", lambda s: s["$defs"]["PublicFill"]["properties"].update(note={"type": "string"})) == []


@pytest.mark.parametrize("package", [schemas, matching_engine, settlement, gateways])
def test_each_package_is_imported_from_this_tree(package: Any) -> None:
    assert Path(package.__file__).resolve().is_relative_to(ROOT), f"another distribution shadows {package.__name__}"
