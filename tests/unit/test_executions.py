"""A reader of executions applies each answer once and stops at a gap."""

import pytest

from schemas.events import Execution
from schemas.executions import Follower, GapError


def answer(position: int, prev: int) -> Execution:
    return Execution(position, prev, 0, ())


def test_each_answer_is_applied_once_in_order() -> None:
    follower = Follower()
    stream = [answer(3, -1), answer(5, 3), answer(3, -1), answer(5, 3), answer(6, 5)]
    assert [follower.accept(execution) for execution in stream] == [True, True, False, False, True]
    assert follower.position == 6


def test_a_missing_answer_stops_the_reader_where_it_was() -> None:
    follower = Follower(position=3)
    with pytest.raises(GapError, match="execution 8 follows 5, but the last one applied is 3"):
        follower.accept(answer(8, 5))
    assert follower.position == 3
