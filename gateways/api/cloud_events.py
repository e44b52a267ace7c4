"""Usage reports as CloudEvents 1.0, so that other meters can feed the exchange: bodies and headers in, reports out.

Structured (`application/cloudevents+json`), several at once (`application/cloudevents-batch+json`), and binary (headers
`ce-…` beside a JSON body), as github.com/cloudevents/spec says (cloudevents/formats/json-format.md,
cloudevents/bindings/http-protocol-binding.md).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import unquote

import msgspec
from msgspec import Meta, Struct

from gateways.api.errors import as_api_error, invalid, unknown
from gateways.api.resources import UsageAnswer, UsageReport, UsageReports
from gateways.api.terms import parsed
from schemas.ids import parse_lease_id
from schemas.units import parse_time

TYPE = "exchange.lease.usage.v1"
STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
MAX_EVENTS = 500
MAX_INT = (1 << 63) - 1
MAX_ATTRIBUTE = 1024
"""Characters."""

_REQUIRED = ("specversion", "id", "source", "type")
_STRINGS = {*_REQUIRED, "subject", "time", "datacontenttype", "dataschema"}
_NAME = re.compile(r"[a-z0-9]+", re.ASCII)
_JSON = re.compile(r"application/([\w.+-]+\+)?json\s*(;.*)?", re.ASCII)
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


class UsageEventData(Struct, forbid_unknown_fields=True):
    """An event's data. Its subject is the lease's id, its time up to when the figure counts."""

    sequence: Annotated[int, Meta(ge=1, le=MAX_INT)]
    gpu_ms: Annotated[int, Meta(ge=0, le=MAX_INT)]
    final: bool = False


def reports(headers: Mapping[str, str], body: bytes) -> UsageReports:
    """The reports in a request, CloudEvents or plain. Raises ApiError 400 that names the attribute that is wrong, and
    msgspec's errors."""
    media_type = _media_type(headers)
    if media_type == STRUCTURED:
        return UsageReports([_structured(body, "")])
    if media_type == BATCH:
        return UsageReports(_batch(body))
    if media_type.startswith("application/cloudevents"):
        raise invalid("content-type", f"{media_type} is not read here: send {STRUCTURED} or {BATCH}")
    named = {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}
    if not named:
        return msgspec.json.decode(body, type=UsageReports)
    named["datacontenttype"] = media_type or "application/json"
    return UsageReports([_report(named, body, "ce-", "")])


def check_answered(headers: Mapping[str, str], answers: Sequence[UsageAnswer]) -> None:
    """Who sends events goes by the status alone: what was not answered has to come again. Raises ApiError 504."""
    are_events = _media_type(headers) in (STRUCTURED, BATCH) or any(name.startswith("ce-") for name in headers)
    if are_events and any(answer.status == "unknown" for answer in answers):
        raise unknown("send the same again")


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _batch(body: bytes) -> list[UsageReport]:
    events = msgspec.json.decode(body, type=list[msgspec.Raw])
    if not 1 <= len(events) <= MAX_EVENTS:
        raise invalid("", f"a batch has 1 to {MAX_EVENTS} events: this one has {len(events)}")
    return [_structured(event, f"{place}.") for place, event in enumerate(events)]


def _structured(body: bytes | msgspec.Raw, where: str) -> UsageReport:
    event = _object.decode(body)
    data = event.pop("data", None)
    if "data_base64" in event:
        raise invalid(f"{where}data_base64", "data_base64 is not read here: send data, as JSON")
    attributes = {name: _text(name, value, where) for name, value in event.items() if bytes(value) != b"null"}
    return _report(attributes, b"" if data is None else bytes(data), where, f"{where}data")


def _text(name: str, value: msgspec.Raw, where: str) -> str:
    """What an attribute says; those of extensions may be numbers and booleans, too."""
    found: Any = msgspec.json.decode(value)
    if isinstance(found, str) or (isinstance(found, int) and name not in _STRINGS):
        return str(found)
    raise invalid(f"{where}{name}", f"{where}{name} must be a string")


def _report(attributes: Mapping[str, str], data: bytes, prefix: str, body: str) -> UsageReport:
    """`prefix` is before attributes' names, and `body` the data's, where an error names them."""
    for name in _REQUIRED:
        if not attributes.get(name):
            raise invalid(f"{prefix}{name}", f"{prefix}{name} is missing: every event has {', '.join(_REQUIRED)}")
    for name, value in attributes.items():
        if not _NAME.fullmatch(name):
            raise invalid(f"{prefix}{name}", f"{prefix}{name} is no attribute's name: they are of a-z and 0-9")
        if len(value) > MAX_ATTRIBUTE or not value.isprintable():
            raise invalid(f"{prefix}{name}", f"{prefix}{name} has at most {MAX_ATTRIBUTE} printable characters")
    if attributes["specversion"] != "1.0":
        raise invalid(f"{prefix}specversion", f"{prefix}specversion {attributes['specversion']!r} is not 1.0")
    if attributes["type"] != TYPE:
        raise invalid(f"{prefix}type", f"{prefix}type {attributes['type']!r} is not {TYPE}")
    content_type = attributes.get("datacontenttype", "application/json")
    if not _JSON.fullmatch(content_type.lower()):
        field = "content-type" if prefix == "ce-" else f"{prefix}datacontenttype"
        raise invalid(field, f"{field} {content_type!r} is not read here: send application/json")
    if "time" in attributes:
        parsed(f"{prefix}time", parse_time, attributes["time"])
    return _with_data(attributes, data, prefix, body)


def _with_data(attributes: Mapping[str, str], data: bytes, prefix: str, body: str) -> UsageReport:
    if not data:
        raise invalid(body, "the event has no data: it has sequence and gpu_ms")
    try:
        said = msgspec.json.decode(data, type=UsageEventData)
    except msgspec.DecodeError as error:
        found = as_api_error(error)
        raise invalid(".".join(part for part in (body, found.field) if part), found.message) from error
    lease_id = attributes.get("subject")
    if not lease_id:
        raise invalid(f"{prefix}subject", f"{prefix}subject is missing: it is the lease's id")
    parsed(f"{prefix}subject", parse_lease_id, lease_id)
    return UsageReport(lease_id, said.sequence, said.gpu_ms, said.final, attributes.get("time"))
