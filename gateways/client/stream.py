"""The exchange's stream, read so that a lost connection costs nothing but time."""

import asyncio
import random
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import aiohttp
import msgspec
from msgspec import UNSET, Struct, UnsetType
from yarl import URL

from gateways.client.types import BookLevel, Depth, LeaseChange, Refusal

FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 10.0
QUIET_S = 30.0
"""The connection is asked for a sign of life when it was silent for so long."""
FATAL = {
    "invalid",
    "unauthorized",
    "bad_signature",
    "key_ended",
    "address_refused",
    "missing_scope",
    "unknown_class",
    "gone",
}
"""What the exchange answers to a subscription that will not be taken the next time either."""


class Message(Struct):
    """What the stream tells. `body` is the message as it came."""

    type: str
    """`whole`, the channel as it is; or `change`, what became of it since the message before."""
    number: int
    stream: str
    body: dict[str, Any]


class StreamError(Exception):
    """The exchange refused the subscription."""

    def __init__(self, error: Refusal) -> None:
        super().__init__(error.message)
        self.code = error.code
        self.message = error.message
        self.field = error.field


class _Frame(Struct):
    type: str
    number: int = 0
    stream: str = ""
    error: Refusal | UnsetType = UNSET


_frames = msgspec.json.Decoder(_Frame)


async def watch(
    http: aiohttp.ClientSession,
    url: URL,
    fields: Mapping[str, str],
    after: int | None,
    headers: Callable[[], Mapping[str, str]],
) -> AsyncIterator[Message]:
    """A channel's messages, one after the other, over as many connections as it takes. Raises StreamError."""
    known, run, pause_s = after, "", FIRST_PAUSE_S
    while True:
        try:
            async with http.ws_connect(url, heartbeat=QUIET_S, max_msg_size=0, headers=headers()) as socket:
                resumed = {} if known is None else {"after": known, "stream": run}
                await socket.send_json({"op": "subscribe", **fields, **resumed})
                async for received in socket:
                    if received.type is not aiohttp.WSMsgType.TEXT:
                        break
                    frame = _frames.decode(received.data)
                    if frame.error is not UNSET:
                        if frame.error.code in FATAL:
                            raise StreamError(frame.error)
                        break
                    if frame.type == "change" and known is not None and frame.number != known + 1:
                        break  # one is missing: from there on
                    if frame.type in ("whole", "change"):
                        pause_s, known, run = FIRST_PAUSE_S, frame.number, frame.stream
                        yield Message(frame.type, frame.number, frame.stream, msgspec.json.decode(received.data))
        except (aiohttp.ClientError, OSError, TimeoutError):
            pass  # it is away: again, later
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(MAX_PAUSE_S, 2 * pause_s)


class DepthBook:
    """A book kept by the messages of a depth channel."""

    def __init__(self) -> None:
        self._asks: dict[str, BookLevel] = {}
        self._bids: dict[str, BookLevel] = {}

    def take(self, message: Message) -> Depth | None:
        """The book after the message; None where it is not what the exchange has: subscribe anew."""
        body = message.body
        if message.type == "whole":
            self._asks, self._bids = {}, {}
        for side, levels in ((self._asks, body["asks"]), (self._bids, body["bids"])):
            for price, quantity, orders in levels:
                if quantity:
                    side[price] = BookLevel(price, quantity, orders)
                else:
                    side.pop(price, None)
        asks = sorted(self._asks.values(), key=_price)
        bids = sorted(self._bids.values(), key=_price, reverse=True)
        if checksum(asks, bids) != body["checksum"]:
            return None
        return Depth(body["class"], body["window"], body["position"], body["time"], body["start"], asks, bids)


class LeaseStates:
    """An account's leases, kept by the messages of the channel `leases`."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], LeaseChange] = {}
        """Those that are not closed, by lease and role."""

    def take(self, message: Message) -> list[LeaseChange]:
        """What is new: the change, or of a whole what differs from what was known."""
        if message.type == "change":
            return self._learn([msgspec.convert(message.body, LeaseChange)])
        now = [msgspec.convert({"event": "", "time": "", **lease}, LeaseChange) for lease in message.body["leases"]]
        open_now = {(lease.lease_id, lease.role) for lease in now}
        gone = [known for key, known in self._known.items() if key not in open_now]
        now += [msgspec.structs.replace(known, event="", time="", state="closed") for known in gone]
        return self._learn(now)

    def _learn(self, now: Sequence[LeaseChange]) -> list[LeaseChange]:
        new = []
        for lease in now:
            key = lease.lease_id, lease.role
            known = self._known.get(key)
            if lease.event or known is None or known.state != lease.state:
                new.append(lease)
            if lease.state == "closed":
                self._known.pop(key, None)
            else:
                self._known[key] = lease
        return new


def checksum(asks: Sequence[BookLevel], bids: Sequence[BookLevel]) -> int:
    """As the exchange makes it: CRC-32 of `price:quantity:orders` of each level, joined by `,`, the sides by `;`."""
    sides = (",".join(f"{level.price}:{level.quantity}:{level.orders}" for level in side) for side in (asks, bids))
    return zlib.crc32(";".join(sides).encode())


def _price(level: BookLevel) -> tuple[int, str]:
    """Decimal strings in order, without floats."""
    whole, _, part = level.price.partition(".")
    return int(whole), part.ljust(6, "0")
