"""Connections of the stream over real sockets: who does not read, who reads on, who says what nobody understands."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from litestar import Litestar
from prometheus_client import CollectorRegistry

from gateways.api import socket as socket_module
from gateways.api import wire as wire_module
from gateways.api.channels import Body, Channel, Fills
from gateways.api.errors import ApiError, invalid
from gateways.api.server import serve
from gateways.api.socket import TOO_SLOW, Bounds, Connection, Connections, stream_routes
from gateways.api.stream import Stream
from gateways.api.wire import Wire
from gateways.log.embedded import EmbeddedLog
from gateways.market_data.tape import Tape
from tests.unit.test_channels import heard
from tests.unit.test_tape import NOON, fill

WAIT_S = 10.0
WIDE = "x" * 5_000


async def eventually(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            if holds():
                return
            await asyncio.sleep(0.001)


class Wide(Channel):
    """Counts, at length; its whole is what it has counted."""

    async def whole(self) -> tuple[int, Body]:
        return self.number, {"count": self.number}

    def count(self) -> None:
        self.change({"count": self.number + 1, "wide": WIDE})


class OneChannel:
    """A stream of one channel, for everybody."""

    def __init__(self, channel: Channel) -> None:
        self.it = channel

    async def channel(self, fields: object, account: object) -> Channel:
        return self.it

    async def join(self, channel: Channel, subscriber: Any, after: int | None) -> None:
        channel.readers.add(subscriber)
        await channel.join(subscriber, after)

    def leave(self, channel: Channel, subscriber: Any) -> None:
        channel.pause(subscriber)
        channel.readers.discard(subscriber)


class Nobody:
    """Keys of an exchange where nobody has one."""

    def address(self, scope: object) -> None:
        return None


class Door:
    """Where a channel is served."""

    def __init__(self, url: str, registry: CollectorRegistry) -> None:
        self.url = url
        self._registry = registry

    @property
    def waiting_bytes(self) -> float:
        return self._registry.get_sample_value("stream_waiting_bytes") or 0.0

    async def ended(self, code: int) -> None:
        """Returns once a connection has ended with it."""
        await eventually(lambda: self._registry.get_sample_value("stream_ended_total", {"code": str(code)}))


@contextlib.asynccontextmanager
async def door(channel: Channel) -> AsyncIterator[Door]:
    stream: Any = OneChannel(channel)
    keys: Any = Nobody()
    registry = CollectorRegistry()
    connections = Connections(stream, keys, registry, Bounds())
    async with serve(Litestar(stream_routes(connections), openapi_config=None)) as server:
        yield Door(f"{server.url}/v1/stream", registry)


def small_socket(address: Any) -> socket.socket:
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
    return made


@contextlib.asynccontextmanager
async def reader(door: Door, **place: Any) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A client that has subscribed, and reads only what it is asked to; its system keeps little for it."""
    connector = aiohttp.TCPConnector(socket_factory=small_socket)
    async with aiohttp.ClientSession(connector=connector) as http, http.ws_connect(door.url) as client:
        await client.send_json({"op": "subscribe", **place})
        yield client


async def told(client: aiohttp.ClientWebSocketResponse, last: int) -> list[dict[str, Any]]:
    """Its messages, to the number `last` or the end of the connection."""
    messages: list[dict[str, Any]] = []
    async with asyncio.timeout(WAIT_S):
        async for received in client:
            if (message := json.loads(received.data))["type"] in ("whole", "change"):
                messages.append(message)
                if message["number"] == last:
                    break
    return messages


async def joined(channel: Channel) -> None:
    await eventually(lambda: channel.subscribers)


async def test_who_does_not_read_gets_the_whole_of_what_conflates_once_he_does() -> None:
    channel = Wide({"channel": "depth"})
    async with door(channel) as at, reader(at) as slow, reader(at) as quick:
        await joined(channel)
        read: list[dict[str, Any]] = []
        for _ in range(40):
            for _ in range(25):
                channel.count()
            read += await told(quick, channel.number)
        assert [message["number"] for message in read if message["type"] == "change"][-25:] == list(range(976, 1001))
        assert len(channel.subscribers) == 1
        assert at.waiting_bytes == 0
        late = [(message["type"], message["number"]) for message in await told(slow, 1_000)]
        assert late == [("whole", 0), *(("change", number) for number in range(1, len(late) - 1)), ("whole", 1_000)]
        await joined(channel)
        channel.count()
        assert [message["type"] for message in await told(slow, 1_001)] == ["change"]
    await eventually(lambda: not channel.readers)
    assert not channel.subscribers


async def test_who_does_not_read_fills_is_told_to_go_and_reads_on_without_a_gap(
    embedded_log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_module, "MAX_WAITING_BYTES", 50_000)
    tape = Tape(embedded_log)
    channel = Fills({"channel": "fills", "class": "A"}, tape, "A")
    tape.listeners.append(channel.take)
    most = 0.0
    async with door(channel) as at:
        async with reader(at) as slow:
            await joined(channel)
            while channel.subscribers:
                tape.add(fill(channel.number + 1, 1_000_000, NOON))
                most = max(most, at.waiting_bytes)
                if not channel.number % 100:
                    await asyncio.sleep(0)
            assert 50_000 <= most < 51_000
            await at.ended(TOO_SLOW)
            assert at.waiting_bytes == 0
            seen = await told(slow, -1)
            assert slow.close_code == TOO_SLOW
        last = seen[-1]["number"]
        assert 0 < last < channel.number
        async with reader(at, after=last) as back:
            seen += await told(back, channel.number)
            tape.add(fill(channel.number + 1, 1_000_000, NOON))
            seen += await told(back, channel.number)
    assert [message["number"] for message in seen] == list(range(channel.number + 1))
    assert [message["fill"]["number"] for message in seen[1:]] == list(range(1, channel.number + 1))


async def test_who_never_reads_again_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_module, "MAX_WAITING_BYTES", 50_000)
    monkeypatch.setattr(wire_module, "CLOSE_S", 0.05)
    lost: list[Wire] = []
    connection_lost = Wire.connection_lost

    def noted(wire: Wire, error: Exception | None) -> None:
        lost.append(wire)
        connection_lost(wire, error)

    monkeypatch.setattr(Wire, "connection_lost", noted)
    channel = Wide({"channel": "orders"})
    channel.conflates = False
    async with door(channel) as at, reader(at):
        await joined(channel)
        while channel.subscribers:
            channel.count()
            await asyncio.sleep(0)
        await at.ended(TOO_SLOW)
        await eventually(lambda: lost)


async def test_what_is_missed_is_told_as_fast_as_it_is_read(embedded_log: EmbeddedLog) -> None:
    tape = Tape(embedded_log)
    for number in range(1, 3_001):
        tape.add(fill(number, 1_000_000, NOON))
    channel = Fills({"channel": "fills", "class": "A"}, tape, "A")
    async with door(channel) as at, reader(at, after=0) as slow:
        for _ in range(50):
            await asyncio.sleep(0.002)
            assert at.waiting_bytes == 0
        assert not channel.subscribers
        assert [message["number"] for message in await told(slow, 3_000)] == list(range(1, 3_001))
        await joined(channel)


class FarWire:
    """The far end of a connection that nobody has to wait for."""

    has_room = True
    on_room = None

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []

    async def room(self) -> None:
        pass

    def write(self, frame: bytes) -> None:
        self.taken.append(heard(frame))


class Socket:
    """Of an app that answers each request with a line of text."""

    def __init__(self) -> None:
        self.wire = FarWire()
        self.headers: dict[str, str] = {}
        self.scope: dict[str, Any] = {
            "type": "websocket", "asgi": {}, "headers": [], "client": None, "server": None, "state": {}, "path": "/",
            "extensions": {"wire": self.wire},
        }  # fmt: skip

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/csv")]})
        await send({"type": "http.response.body", "body": b"a,b"})


class Classes:
    """None."""

    async def listing(self, class_id: str) -> None:
        raise invalid("class", "there is none")


words = st.sampled_from(
    ["op", "id", "auth", "subscribe", "unsubscribe", "request", "channel", "class", "window", "interval", "after",
     "stream", "key", "key_id", "timestamp", "nonce", "signature", "method", "path", "query", "body", "depth", "fills",
     "orders", "heartbeats", "ticker", "/v1/", "24h"]
)  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
ops = st.fixed_dictionaries(
    {"op": st.sampled_from(["auth", "subscribe", "unsubscribe", "request", "dance"])},
    optional={
        "id": values,
        "channel": words | values,
        "class": values,
        "window": words,
        "interval": words,
        "after": st.integers() | values,
        "stream": values,
        "key": values,
        "key_id": values,
        "timestamp": values,
        "nonce": values,
        "signature": values,
        "method": values,
        "path": values | st.text(max_size=5).map("/v1/".__add__),
        "query": values | st.dictionaries(st.text(max_size=3), st.text(max_size=3) | st.integers(), max_size=2),
        "body": values,
    },
)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30) | values.map(json.dumps) | ops.map(json.dumps))
@example('{"op": "request", "path": "/v1/x", "id": ' + "[" * 100_000)
@example('{"op": "request", "path": "/v1/x", "body": ' + "[" * 100_000 + "]" * 100_000 + "}")
@example('{"op": "dance", "id": 123456789012345678901234567890}')
@example('{"op": "dance", "id": "\\ud800"}')
@example('{"op": "request", "path": "/v1/\\ud800"}')
def test_whatever_a_client_says_it_is_answered_and_the_connection_goes_on(said: str) -> None:
    asyncio.run(say(said))


async def say(said: str) -> None:
    keys: Any = FewKeys()
    classes: Any = Classes()
    nothing: Any = None
    tape: Any = Listeners()
    stream = Stream(store=nothing, books=nothing, tape=tape, classes=classes, replies=[], now=lambda: 0)
    connections = Connections(stream, keys, CollectorRegistry(), Bounds())
    far_end: Any = Socket()
    connection = Connection(far_end, connections)
    connections._holders[connection] = None
    await connection._take(said)
    await eventually(lambda: not connection._tasks)
    assert far_end.wire.taken
    assert connection.code == 1000
    first = far_end.wire.taken[0]
    assert first["type"] in ("error", "subscribed", "response")
    if first["type"] == "error":
        assert first["error"]["code"] not in ("internal", "unavailable"), first


class Listeners:
    def __init__(self) -> None:
        self.listeners: list[Any] = []


class FewKeys:
    """None."""

    async def holder(self, authorization: str | None, scope: object) -> None:
        assert authorization is None or authorization.startswith("Bearer ")
        raise ApiError(401, "unauthorized", "the key is unknown")

    async def signer(self, signature: object, method: str, scope: object, body: object) -> None:
        raise ApiError(401, "bad_signature", "the signature is of nobody's")
