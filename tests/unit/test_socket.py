"""A connection of the stream to a client that reads slowly: what waits for it is bounded."""

import asyncio
import json
from typing import Any

import pytest

from gateways.api import socket as socket_module
from gateways.api.channels import Body, Channel
from gateways.api.socket import TOO_SLOW, Connection


class Counter(Channel):
    """Counts; its whole is what it has counted."""

    async def whole(self) -> Body:
        return {"count": self.number}

    def count(self, times: int) -> None:
        for _ in range(times):
            self.change({"count": self.number + 1})


class Stream:
    """Has one channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def channel(self, fields: object, account: object) -> Channel:
        return self._channel

    async def join(self, channel: Channel, subscriber: Any, after: int | None) -> None:
        await channel.join(subscriber, after)

    def leave(self, channel: Channel, subscriber: Any) -> None:
        channel.leave(subscriber)


class Client:
    """The far end: says one thing, and takes what it is sent only while it reads."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.reads = asyncio.Event()
        self.taken: list[dict[str, Any]] = []
        self.code: int | None = None
        self._said = ['{"op": "subscribe", "channel": "ticker"}']

    async def receive_data(self, mode: str) -> str:
        if not self._said:
            await asyncio.Event().wait()
        return self._said.pop()

    async def send_data(self, text: str) -> None:
        await self.reads.wait()
        self.taken.append(json.loads(text))

    async def close(self, code: int) -> None:
        self.code = code


async def all_have_run() -> None:
    """Lets every task run until it waits for something from outside."""
    for _ in range(2_000):
        await asyncio.sleep(0)


async def start(channel: Channel, client: Client) -> "asyncio.Task[None]":
    connection: Any = Connection
    running: asyncio.Task[None] = asyncio.create_task(connection(client, Stream(channel), None).run())
    await all_have_run()
    return running


async def test_a_slow_reader_of_what_can_be_conflated_gets_the_whole_once_it_reads() -> None:
    channel, client = Counter({"channel": "ticker"}), Client()
    running = await start(channel, client)
    channel.count(1_000)
    assert not channel.subscribers
    client.reads.set()
    await all_have_run()
    channel.count(1)
    await all_have_run()
    numbers = [message["number"] for message in client.taken[1:]]
    assert numbers == [*range(numbers[-3] + 1), 1_000, 1_001]
    assert len(numbers) <= socket_module.CONFLATE_AT + 3
    assert client.taken[-2]["type"] == "whole"
    running.cancel()
    await asyncio.wait([running])
    assert not channel.subscribers


async def test_a_reader_too_slow_for_what_must_not_be_conflated_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_module, "MAX_WAITING", 100)
    channel, client = Counter({"channel": "fills"}), Client()
    channel.conflates = False
    running = await start(channel, client)
    channel.count(90)
    await all_have_run()
    assert not running.done()
    channel.count(100)
    client.reads.set()
    async with asyncio.timeout(5):
        await running
    assert client.code == TOO_SLOW
    assert len(client.taken) == 1
    assert not channel.subscribers
