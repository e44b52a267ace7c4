"""What comes from outside ends in a value or in the error that its decoder names: noise, and true input gone wrong."""

import contextlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from gateways.api import cloud_events, resources, signing, ssh, statements
from gateways.api.customer_webhooks import parse_event_id
from gateways.api.errors import ApiError
from gateways.api.requests import must_have_no_zero
from gateways.api.webhook import secrets_in
from gateways.client import webhooks
from gateways.meter import exporter
from gateways.supply.catalogues import FORMATS, catalogue
from gateways.supply.inventory import ListError, read_json, read_yaml
from schemas import codec, ids, units
from schemas.commands import Cancel, Unreadable
from schemas.instructions import Deposit, UsageReport
from settlement import entries

DCGM = Path(__file__).parents[1] / "golden" / "dcgm" / "two_gpus.prom"
EVENT = (
    '{"specversion": "1.0", "id": "1", "source": "/meter", "type": "exchange.lease.usage.v1", "subject": "lse_7k2-0",'
    ' "time": "2026-11-24T03:00:00Z", "data": {"sequence": 1, "gpu_ms": 60000}}'
)
BID = '{"class": "X", "quantity": 8, "price": "2.60", "duration": "24h", "min_fill": 8, "start": "now"}'
CSV = "InstanceType,AcceleratorName,AcceleratorCount,Price,SpotPrice,Region\na,H100,8,20.5,9.5,us-east-1\n"
LISTINGS = {
    "lambda": '{"data": {"a": {"instance_type": {"specs": {"gpus": 8}, "price_cents_per_hour": 100},'
    ' "regions_with_capacity_available": [{"name": "us-east-1"}]}}}',
    "hyperbolic": '{"instances": [{"hardware": {"gpus": [{"model": "H100"}]}, "gpus_total": 8, "gpus_reserved": 0}]}',
}
SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHZb2vMTCLV5JCHZsRPqZkBDsbWGxgFM3s2p2sB0bR9m me@home"
INVALID = (ApiError, msgspec.DecodeError, UnicodeDecodeError)


class Decoder(Struct, frozen=True):
    """One that reads texts."""

    read: Callable[[str], Any]
    refuses: tuple[type[Exception], ...]
    true: str
    """What it reads."""


def event(text: str) -> resources.UsageReports:
    return cloud_events.reports({"content-type": cloud_events.STRUCTURED}, text.encode("utf-8", "surrogatepass"))


def signature(text: str) -> signing.Signature:
    key_id, timestamp, nonce, value = (text.split("\n", 3) + [""] * 4)[:4]
    return signing.parsed(key_id, timestamp, nonce, value)


def of_body(kind: Any) -> Callable[[str], Any]:
    decoder = msgspec.json.Decoder(kind)
    return lambda text: decoder.decode(text.encode("utf-8", "surrogatepass"))


TEXTS = {
    "order id": Decoder(ids.parse_order_id, (ValueError,), "ord_7k2"),
    "fill id": Decoder(ids.parse_fill_id, (ValueError,), "fil_7k2-0"),
    "lease id": Decoder(ids.parse_lease_id, (ValueError,), "lse_7k2-0"),
    "account id": Decoder(ids.parse_account_id, (ValueError,), "acc_2"),
    "event id": Decoder(parse_event_id, (ValueError,), "evt_17"),
    "dollars": Decoder(units.parse_usd, (ValueError,), "2.60"),
    "time": Decoder(units.parse_time, (ValueError,), "2026-11-24T03:00:00.5+01:00"),
    "month": Decoder(units.parse_month, (ValueError,), "2026-11"),
    "duration": Decoder(units.parse_duration, (ValueError,), "1d2h30m"),
    "line": Decoder(statements.parse_line, (ValueError,), "lse_7k2-0.1"),
    "entries": Decoder(lambda text: entries.parse(text, 2), (ValueError,), "12.0.5.-7"),
    "webhook secret": Decoder(webhooks.decoded, (ValueError,), "whsec_" + "QUFB" * 11),
    "webhook secrets": Decoder(secrets_in, (ValueError,), f"whsec_{'QUFB' * 11} whsec_{'QUJC' * 11}"),
    "SSH key": Decoder(ssh.public_key, (ValueError,), SSH),
    "signing key": Decoder(signing.public_key, (ValueError,), SSH),
    "signature": Decoder(signature, (ApiError,), f"7\n1795575600000\n{'n' * 16}\n{'QUFB' * 21}QQ=="),
    "CloudEvent": Decoder(event, INVALID, EVENT),
    "bid": Decoder(of_body(resources.NewBid), INVALID, BID),
    "exporter": Decoder(exporter.shown, (exporter.ExporterError,), DCGM.read_text()),
    "JSON list": Decoder(read_json, (ListError,), '[{"gpu": "H100", "price": 2.5}]'),
    "YAML list": Decoder(read_yaml, (ListError,), "- gpu: H100\n  price: 2.50\n"),
    **{
        f"catalogue {form}": Decoder(
            partial(catalogue, form=form),
            (ListError,),
            CSV if "skypilot" in form else LISTINGS.get(form, f"[{BID}]"),
        )
        for form in FORMATS
    },
}
BYTES: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "command": (codec.decode_command, codec.encode(Cancel(7, 1000))),
    "instruction": (codec.decode_instruction, codec.encode(Deposit(7, 2_600_000, "pay_1"))),
    "usage": (codec.decode_usage, codec.encode(UsageReport((1000, 0), 7, 1, 60_000))),
}


@st.composite
def gone_wrong(draw: st.DrawFn, true: str) -> str:
    """A true text in which up to three pieces are others, are missing or come twice."""
    text = true
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        to = draw(st.integers(at, min(len(text), at + 8)))
        text = text[:at] + draw(st.one_of(st.just(text[at:to] * 2), st.text(max_size=6))) + text[to:]
    return text


OTHER = st.sampled_from([None, True, 5, -1, 1.5, "", "x", [], [1], {}, {"a": 1}])


@st.composite
def other_inside(draw: st.DrawFn, true: str) -> str:
    """True JSON in which one value is of another kind."""
    whole: list[Any] = [json.loads(true)]
    at: Any = whole
    while True:
        place = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if not (isinstance(at[place], dict | list) and at[place]) or draw(st.booleans()):
            break
        at = at[place]
    at[place] = draw(OTHER)
    return json.dumps(whole[0])


@pytest.mark.parametrize("name", TEXTS)
@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_text_is_read_or_refused_in_the_decoders_own_way(name: str, data: st.DataObject) -> None:
    decoder = TEXTS[name]
    decoder.read(decoder.true)
    is_json = decoder.true[0] in "[{"
    text = data.draw((other_inside if is_json and data.draw(st.booleans()) else gone_wrong)(decoder.true))
    with contextlib.suppress(*decoder.refuses):
        decoder.read(text)


@pytest.mark.parametrize("name", BYTES)
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_bytes_of_a_topic_are_read_or_said_to_be_unreadable(name: str, data: st.DataObject) -> None:
    read, true = BYTES[name]
    text = data.draw(gone_wrong(true.decode("latin-1")))
    value = data.draw(st.one_of(st.just(text.encode("latin-1", "replace")), st.binary(max_size=60)))
    found = read(value)
    assert isinstance(found, Unreadable | Struct)


PIECES = st.one_of(st.sampled_from(["\0", "\\", "\\u0000", "u0000", '"']), st.text(max_size=2))
WORDS = st.lists(PIECES, max_size=4).map("".join)
STRUCTURES = st.recursive(WORDS, lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner), max_leaves=4)


@settings(max_examples=300, deadline=None)
@given(STRUCTURES, st.booleans())
def test_a_body_is_refused_where_any_text_in_it_has_a_zero_byte_and_only_there(said: Any, is_ascii: bool) -> None:
    body = json.dumps(said, ensure_ascii=is_ascii).encode()
    try:
        must_have_no_zero(body)
    except ApiError:
        assert has_zero(said)
    else:
        assert not has_zero(said)


def has_zero(said: Any) -> bool:
    if isinstance(said, dict):
        return any(map(has_zero, (*said, *said.values())))
    return "\0" in said if isinstance(said, str) else any(map(has_zero, said))


@given(st.text(st.characters(categories=["Cs"]), min_size=1, max_size=1), WORDS, WORDS)
def test_half_of_a_surrogate_pair_is_no_json(half: str, before: str, after: str) -> None:
    with pytest.raises(INVALID):
        msgspec.json.decode(json.dumps(f"{before}{half}{after}").encode())
