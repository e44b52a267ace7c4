"""The engine on standard input, for conformance suites that are not ours."""

import io
import json
import re
import subprocess
import sys
from typing import Any

import pytest

from matching_engine.__main__ import drive, main
from matching_engine.engine import Engine

LINES = b"""
["class", ["H100", "NVIDIA H100", 80, "SXM"]]
{"offset": 5, "time": 1795478400000, "command": ["ask", "H100", 1, 1, "a", 1795482000000, 8, 2500000, 1795478400000, \
1795564800000, [1, 1, 0, false, 0, 0]]}
["bid", "H100", 2, 2, "b", 1795482000000, 4, 2600000, 3600000, [0], [0, 0, 0, false, false, [], []], 1]
["bid"]
not json
"""


def test_a_line_is_a_command_and_its_answer_a_line() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "matching_engine", "--state"], input=LINES, capture_output=True, check=True
    )
    *answers, end = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [answer[:3] for answer in answers] == [
        [0, -1, 0],
        [5, 0, 1795478400000],
        [6, 5, 1795478400000],
        [7, 6, 1795478400000],
        [8, 7, 1795478400000],
    ]
    assert [[event[0] for event in answer[3]] for answer in answers] == [
        ["class_changed"],
        ["accepted"],
        ["accepted", "fill", "filled"],
        ["rejected"],
        ["rejected"],
    ]
    assert answers[2][3][1][8:10] == [2500000, 4]
    assert answers[4][3][0][3:] == ["unreadable", ["it is not JSON"]]
    (ask,) = end["state"][3][0][5]
    assert ask[16] == [[0, 1795482000000], [4, 0]]
    assert len(end["hash"]) == 64


def driven(*lines: bytes) -> list[Any]:
    """The answers."""
    output = io.BytesIO()
    drive(Engine(0), lines, output)
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_offsets_count_on_and_time_stays_unless_a_line_says_otherwise() -> None:
    answers = driven(
        b"\n",
        b'["tick"]\n',
        b'  {"offset": 7, "command": ["tick"]}',
        b' ["tick"]',
        b'{"time": 9, "command": ["tick"]}',
        b'["tick"]',
    )
    assert [answer[:3] for answer in answers] == [[0, -1, 0], [7, 0, 0], [8, 7, 0], [9, 8, 9], [10, 9, 9]]
    assert [answer[3] for answer in answers] == [[["ticked"]]] * 5


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'["no such"]', "it does not fit the schema"),
        (b'{"command": ["tick"], "when": 5}', "it does not fit the schema"),
        (b'["tick"', "it is not JSON"),
        (b'["tick\xff"]', "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
    ],
)
def test_a_line_that_is_no_command_is_answered_and_the_next_one_too(line: bytes, why: str) -> None:
    refused, ticked = driven(line, b'["tick"]')
    assert refused == [0, -1, 0, [["rejected", 0, "", "unreadable", [why]]], ""]
    assert ticked[0] == 1


def run(arguments: list[str], lines: bytes, monkeypatch: pytest.MonkeyPatch) -> bytes:
    output = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    monkeypatch.setattr(sys, "stdout", output)
    main(arguments)
    written = output.buffer
    assert isinstance(written, io.BytesIO)
    return written.getvalue()


def test_the_state_follows_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = run([], LINES, monkeypatch).splitlines()
    *with_state, end = run(["--state"], LINES, monkeypatch).splitlines()
    assert with_state == answers
    assert set(json.loads(end)) == {"hash", "state"}
    assert json.loads(end)["state"][2] == 8
    assert json.loads(end)["hash"] != json.loads(run(["--state"], b"", monkeypatch))["hash"]


def test_ids_are_of_the_partition_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    (answer,) = run(["--partition", "3"], b'["tick"]', monkeypatch).splitlines()
    assert json.loads(answer)[0] == 3 << 48
    with pytest.raises(SystemExit):
        run(["--partition", "three"], b"", monkeypatch)


def test_its_help_says_what_a_line_is_and_which_core_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    with pytest.raises(SystemExit):
        main(["--help"])
    said = output.getvalue()
    assert said.startswith("usage: python -m matching_engine [-h]")
    assert "\nA line is a command in the schemas' JSON form" in said
    assert re.search(r"--state +print books and calendars at the end\n", said)
    assert said.rstrip().endswith("(CX_CORE).")
