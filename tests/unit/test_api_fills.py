"""The public fills by long poll: cursors, filters, and what is no longer in memory."""

import asyncio
from pathlib import Path

import pytest

from gateways.api import fills as api_fills
from gateways.api.errors import ApiError
from gateways.api.fills import FillsFeed
from gateways.log.embedded import EmbeddedLog
from schemas.codec import encode_fill
from schemas.fills import PublicFill
from schemas.topics import FILLS


def fill(number: int, class_id: str = "A") -> bytes:
    return encode_fill(
        PublicFill(
            number, class_id, "fil_0-0", "", "1", 1, "", "", "", "", confidential=False, tier="", delivery="", taker=""
        )
    )


async def numbers(
    feed: FillsFeed, cursor: str, *, class_id: str | None = None, limit: int = 100, wait_s: float = 0.0
) -> tuple[list[int], str]:
    found, after = await feed.after(cursor, class_id=class_id, limit=limit, wait_s=wait_s)
    return [each.number for each in found], after


async def following(log: EmbeddedLog) -> tuple[FillsFeed, asyncio.Task[None]]:
    feed = FillsFeed(log)
    await feed.start()
    return feed, asyncio.create_task(feed.run())


async def test_a_reader_that_goes_by_its_cursor_misses_nothing(tmp_path: Path) -> None:
    log = await EmbeddedLog.open(tmp_path, partitions=2)
    await log.append(FILLS, 0, [fill(1), fill(2)])
    await log.append(FILLS, 1, [fill(3), fill(4)])
    feed, task = await following(log)
    assert await numbers(feed, "end") == ([], "2.2")
    first, cursor = await numbers(feed, "start", limit=3)
    assert (first, cursor) == ([1, 2, 3], "2.1")
    waiting = asyncio.create_task(numbers(feed, "2.2", wait_s=5.0))
    await asyncio.sleep(0.05)
    await log.append(FILLS, 1, [fill(5)])
    assert await waiting == ([5], "2.3")
    assert await numbers(feed, cursor) == ([4, 5], "2.3")
    task.cancel()
    await asyncio.wait({task})
    await log.close()


async def test_a_filter_moves_the_cursor_past_what_it_leaves_out(embedded_log: EmbeddedLog) -> None:
    await embedded_log.append(FILLS, 0, [fill(each, "A" if each % 2 else "B") for each in range(1, 8)])
    feed, task = await following(embedded_log)
    assert await numbers(feed, "start", class_id="B", limit=2) == ([2], "2")
    assert await numbers(feed, "start", class_id="C") == ([], "7")
    assert await numbers(feed, "6", class_id="B", wait_s=0.05) == ([], "7")
    task.cancel()


async def test_only_the_newest_are_in_memory(embedded_log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_fills, "MAX_RECENT", 10)
    feed, task = await following(embedded_log)
    for number in range(1, 101):
        await embedded_log.append(FILLS, 0, [fill(number)])
    await asyncio.sleep(0.05)
    assert len(feed._tails[0].records) <= 20
    seen, cursor = list[int](), "0"
    while len(seen) < 100:
        some, cursor = await numbers(feed, cursor, limit=7)
        seen += some
    assert seen == list(range(1, 101))
    task.cancel()


@pytest.mark.parametrize("cursor", ["", "x", "1.1", "2", "-1", "1" * 400, "٣"])
async def test_what_is_no_cursor_is_refused(embedded_log: EmbeddedLog, cursor: str) -> None:
    await embedded_log.append(FILLS, 0, [fill(1)])
    feed, task = await following(embedded_log)
    with pytest.raises(ApiError, match="no cursor"):
        await numbers(feed, cursor)
    task.cancel()
