"""Usage reports as CloudEvents: each way in which they come, and each attribute that can be wrong."""

import json
from typing import Any

import pytest

from gateways.api.cloud_events import BATCH, STRUCTURED, check_answered, reports
from gateways.api.errors import ApiError
from gateways.api.resources import UsageAnswer, UsageReport

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "type": "exchange.lease.usage.v1",
    "source": "/node-17/meter",
    "id": "lse_12-0/7",
    "subject": "lse_12-0",
    "time": "2026-11-25T09:07:00Z",
    "data": {"sequence": 7, "gpu_ms": 28_800_000},
}
REPORT = UsageReport("lse_12-0", 7, 28_800_000, measured_at="2026-11-25T09:07:00Z")


def structured(event: object, kind: str = STRUCTURED) -> list[UsageReport]:
    return reports({"content-type": kind}, json.dumps(event).encode()).reports


def binary(attributes: dict[str, str], data: object, content_type: str = "application/json") -> list[UsageReport]:
    headers = {"content-type": content_type, **{f"ce-{name}": value for name, value in attributes.items()}}
    return reports(headers, json.dumps(data).encode()).reports


ATTRIBUTES = {name: value for name, value in EVENT.items() if name != "data"}


def test_an_event_is_a_report_however_it_comes() -> None:
    assert structured(EVENT) == [REPORT]
    assert structured(EVENT, "Application/CloudEvents+JSON; charset=UTF-8") == [REPORT]
    assert structured([EVENT, EVENT], BATCH) == [REPORT, REPORT]
    assert binary(ATTRIBUTES, EVENT["data"]) == [REPORT]
    assert binary(ATTRIBUTES, EVENT["data"], "") == [REPORT]
    assert binary({**ATTRIBUTES, "subject": "lse%5F12-0"}, EVENT["data"]) == [REPORT]


def test_a_body_without_attributes_is_reports_as_ever() -> None:
    body = b'{"reports": [{"lease_id": "lse_12-0", "sequence": 7, "gpu_ms": 1}]}'
    assert reports({"content-type": "application/json"}, body).reports == [UsageReport("lse_12-0", 7, 1)]


def test_what_an_event_may_have_beside_changes_nothing() -> None:
    beside = {"dataschema": "https://x/y", "datacontenttype": "application/json; charset=utf-8", "region": "us", "n": 5}
    assert structured({**EVENT, **beside, "traced": True, "gone": None}) == [REPORT]
    (without_time,) = structured({name: value for name, value in EVENT.items() if name != "time"})
    assert without_time.measured_at is None
    assert structured({**EVENT, "data": {**EVENT["data"], "final": True}})[0].final


WRONG = [
    ({"specversion": None}, "specversion", "specversion is missing"),
    ({"specversion": "0.3"}, "specversion", "specversion '0.3' is not 1.0"),
    ({"id": ""}, "id", "id is missing"),
    ({"id": 7}, "id", "id must be a string"),
    ({"source": None}, "source", "source is missing"),
    ({"source": "a\nb"}, "source", "printable"),
    ({"source": "a" * 1025}, "source", "at most 1024"),
    ({"type": "exchange.lease.usage.v2"}, "type", "is not exchange.lease.usage.v1"),
    ({"time": "yesterday"}, "time", "RFC 3339"),
    ({"subject": None}, "subject", "subject is missing: it is the lease's id"),
    ({"subject": "ord_1"}, "subject", "looks like lse_7k2-0"),
    ({"datacontenttype": "text/xml"}, "datacontenttype", "send application/json"),
    ({"datacontenttype": "application/jsonl"}, "datacontenttype", "send application/json"),
    ({"Region": "us"}, "Region", "no attribute's name"),
    ({"weight": 1.5}, "weight", "must be a string"),
    ({"data_base64": "e30="}, "data_base64", "send data, as JSON"),
    ({"data": None}, "data", "Expected `object`, got `null`"),
    ({"data": "{}"}, "data", "Expected `object`, got `str`"),
    ({"data": {"gpu_ms": 1}}, "data.sequence", "missing required field `sequence`"),
    ({"data": {"sequence": 0, "gpu_ms": 1}}, "data.sequence", "`int` >= 1"),
    ({"data": {"sequence": 1, "gpu_ms": "1"}}, "data.gpu_ms", "Expected `int`, got `str`"),
    ({"data": {"sequence": 1, "gpu_ms": -1}}, "data.gpu_ms", "`int` >= 0"),
    ({"data": {"sequence": 1, "gpu_ms": 1, "watts": 1}}, "data.watts", "unknown field `watts`"),
]


@pytest.mark.parametrize(("change", "field", "part"), WRONG)
def test_an_error_names_the_attribute_that_is_wrong(change: dict[str, Any], field: str, part: str) -> None:
    with pytest.raises(ApiError) as alone:
        structured({**EVENT, **change})
    assert (alone.value.status, alone.value.code, alone.value.field) == (400, "invalid", field)
    assert part in alone.value.message
    with pytest.raises(ApiError) as second:
        structured([EVENT, {**EVENT, **change}], BATCH)
    assert second.value.field == f"1.{field}"


@pytest.mark.parametrize(
    ("attributes", "content_type", "field"),
    [
        ({**ATTRIBUTES, "type": "x"}, "application/json", "ce-type"),
        ({**ATTRIBUTES, "id": ""}, "application/json", "ce-id"),
        ({**ATTRIBUTES, "time": "x"}, "application/json", "ce-time"),
        ({"specversion": "1.0"}, "application/json", "ce-id"),
        (ATTRIBUTES, "text/plain", "content-type"),
        (ATTRIBUTES, "application/cloudevents+avro", "content-type"),
    ],
)
def test_an_error_names_the_header_that_is_wrong(attributes: dict[str, str], content_type: str, field: str) -> None:
    with pytest.raises(ApiError) as wrong:
        binary(attributes, EVENT["data"], content_type)
    assert wrong.value.field == field


def test_without_data_and_in_too_large_a_batch_nothing_is_read() -> None:
    for event, kind, part in (
        ({name: value for name, value in EVENT.items() if name != "data"}, STRUCTURED, "no data"),
        ([], BATCH, "1 to 500 events"),
        ([EVENT] * 501, BATCH, "1 to 500 events"),
    ):
        with pytest.raises(ApiError, match=part):
            structured(event, kind)


def test_an_event_without_an_answer_is_to_come_again() -> None:
    unknown = UsageAnswer("lse_12-0", 7, "unknown", None)
    with pytest.raises(ApiError) as wrong:
        check_answered({"content-type": STRUCTURED}, [unknown])
    assert wrong.value.status == 504
    with pytest.raises(ApiError):
        check_answered({"ce-id": "1"}, [unknown])
    check_answered({"content-type": "application/json"}, [unknown])
    check_answered({"ce-id": "1"}, [UsageAnswer("lse_12-0", 7, "refused", None)])
