"""Which status a refusal has over HTTP: the table that callers read says so."""

import re
from pathlib import Path

import gateways
from gateways.api.errors import refused
from schemas.refusals import Args, Refusal

ARGS: Args = (1, 1, 1, 1, 1)


def test_each_refusal_has_the_status_that_the_table_says_and_else_422() -> None:
    table = (Path(gateways.__file__).parent / "README.md").read_text()
    said = {
        code: [int(status) for status in statuses.split(",")]
        for statuses, codes in re.findall(r"^\| ([0-9, ]+) \| (.*) \|$", table, re.MULTILINE)
        for code in re.findall(r"`([a-z_]+)`", codes)
    }
    for refusal in Refusal:
        assert refused(refusal, ARGS).status in said.get(refusal.value, [422]), refusal


def test_refusals_of_the_new_kinds() -> None:
    for refusal, status in (
        (Refusal.HALTED, 409),
        (Refusal.ALREADY_RETURNED, 409),
        (Refusal.KILLED, 403),
        (Refusal.CLASS_RETIRED, 404),
        (Refusal.TOO_MANY_ORDERS, 422),
        (Refusal.PRICE_OUTSIDE_BAND, 422),
        (Refusal.AMEND_INVALID, 422),
    ):
        assert refused(refusal, ARGS).status == status
