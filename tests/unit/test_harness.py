"""The engine on standard input, for conformance suites that are not ours."""

import json
import subprocess
import sys

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
