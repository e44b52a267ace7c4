"""The tail of executions that requests wait on."""

import asyncio

import pytest

from gateways.api.replies import MAX_RECENT, Replies
from gateways.log.embedded import EmbeddedLog
from schemas.codec import encode
from schemas.commands import Side
from schemas.events import Amended, Cancelled, CancelReason, Event, Execution, Expired, Ticked
from schemas.executions import GapError
from schemas.topics import EXECUTIONS


def tick(position: int, prev: int) -> bytes:
    return encode(Execution(position, prev, 0, (Ticked(),)))


async def following(log: EmbeddedLog) -> tuple[Replies, asyncio.Task[None]]:
    replies = Replies(log, 0)
    await replies.start()
    return replies, asyncio.create_task(replies.run())


async def test_an_answer_reaches_who_waits_and_who_comes_a_little_late(embedded_log: EmbeddedLog) -> None:
    replies, task = await following(embedded_log)
    waiting = [asyncio.create_task(replies.answer(0, 5.0)) for _ in range(3)]
    await asyncio.sleep(0)
    await embedded_log.append(EXECUTIONS, 0, [tick(0, -1)])
    assert {(await each).position for each in waiting} == {0}
    assert (await replies.answer(0, 0.0)).position == 0
    with pytest.raises(TimeoutError):
        await replies.answer(1, 0.01)
    task.cancel()


async def test_it_begins_at_the_end_whatever_late_duplicates_stand_there(embedded_log: EmbeddedLog) -> None:
    answers = [tick(position, position - 1) for position in range(5)]
    await embedded_log.append(EXECUTIONS, 0, [*answers, answers[2]])
    replies, task = await following(embedded_log)
    assert replies.position == 4
    await embedded_log.append(EXECUTIONS, 0, [answers[3], tick(5, 4)])
    assert (await replies.answer(5, 5.0)).position == 5
    assert replies.known(3) is None
    task.cancel()


@pytest.mark.parametrize(
    "event",
    [
        Amended(7, 2, Side.BID, 0, 8, 8, 2_500_000, 0, 3_600_000),
        Cancelled(7, 2, CancelReason.DEAD_MAN, 8),
        Expired(7, 2, 8),
    ],
)
async def test_who_follows_an_order_learns_of_what_became_of_it_and_not_of_others(
    embedded_log: EmbeddedLog, event: Event
) -> None:
    replies, task = await following(embedded_log)
    followed, other = replies.changes(7), replies.changes(8)
    await embedded_log.append(EXECUTIONS, 0, [encode(Execution(9, -1, 0, (event,)))])
    assert await asyncio.wait_for(followed, 5) == 9
    assert not other.done()
    other.cancel()
    task.cancel()


async def test_an_engine_of_this_process_is_heard_before_its_answer_is_in_the_log(embedded_log: EmbeddedLog) -> None:
    replies, task = await following(embedded_log)
    first, second, late = (Execution(number, number - 1, 0, (Ticked(),)) for number in range(3))
    replies.hear(second)  # not the next: it waits for the log
    assert replies.position == -1
    replies.hear(first)
    assert await replies.answer(0, 0.0) is first
    await embedded_log.append(EXECUTIONS, 0, [tick(0, -1), tick(1, 0)])
    assert await replies.answer(1, 5.0) == second
    replies.hear(first)  # known already
    replies.hear(late)
    assert replies.position == 2
    assert not task.done()
    task.cancel()


async def test_a_gap_ends_it(embedded_log: EmbeddedLog) -> None:
    _, task = await following(embedded_log)
    await embedded_log.append(EXECUTIONS, 0, [tick(0, -1), tick(2, 1)])
    with pytest.raises(GapError):
        await asyncio.wait_for(task, 5)


async def test_it_keeps_a_bounded_number(embedded_log: EmbeddedLog) -> None:
    replies, task = await following(embedded_log)
    last = MAX_RECENT + 10
    await embedded_log.append(EXECUTIONS, 0, [tick(position, position - 1) for position in range(last + 1)])
    await replies.answer(last, 5.0)
    assert replies.known(10) is None
    assert replies.known(11) is not None
    task.cancel()
