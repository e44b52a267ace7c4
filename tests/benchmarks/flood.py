"""`python -m tests.benchmarks.flood URL KEY KIND` asks an exchange as much as it can, in one kind of request.

Bare sockets and requests that are encoded once, so that it costs the exchange far more than itself. Whatever the
answer is, the next request follows at once: it never waits as it is told to. It runs when nothing else would: a flood
comes from elsewhere. Prints a line when it has begun; at its end, by SIGTERM, how many answers of each status it had.
"""

import asyncio
import json
import os
import re
import signal
import sys
from collections import Counter
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import uvloop

BID = {"class": "H100-SXM-80GB", "quantity": 1, "price": "0.60", "duration": "1h", "min_fill": 1}
REFUSED = BID | {"price": "0.60005"}
MANY = {"orders": [{"side": "bid", **BID}] * 500}


class Kind(NamedTuple):
    """So many connections that ask for one thing."""

    connections: int
    path: str
    body: dict[str, Any] | None


KINDS = {
    "singles": Kind(64, "/v1/bids", BID),
    "refused": Kind(64, "/v1/bids", REFUSED),
    "batches": Kind(8, "/v1/orders/batch", MANY),
    "refused batches": Kind(8, "/v1/orders/batch", {"orders": [{"side": "bid", **REFUSED}] * 500}),
    "lists": Kind(64, "/v1/orders?limit=500", None),
    "previews": Kind(64, "/v1/bids/preview", BID | {"price": "3.00"}),
    "many connections": Kind(500, "/v1/accounts/me", None),
}


class Asker(asyncio.Protocol):
    """One connection: the same request, again and again."""

    def __init__(self, request: bytes, answers: "Counter[str]") -> None:
        self._request = request
        self._answers = answers
        self._got = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of no such class
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head = self._got.find(b"\r\n\r\n")
        if head < 0:
            return
        length = re.search(rb"content-length: (\d+)", self._got[:head].lower())
        assert length is not None, self._got[:head]
        if len(self._got) < head + 4 + int(length[1]):
            return
        self._answers[self._got[9:12].decode()] += 1
        self._got = b""
        self._transport.write(self._request)


async def flood(url: str, key: str, kind: Kind) -> None:
    """Until SIGTERM."""
    address = urlsplit(url)
    body = b"" if kind.body is None else json.dumps(kind.body).encode()
    head = f"{'GET' if kind.body is None else 'POST'} {kind.path} HTTP/1.1\r\nHost: {address.netloc}\r\n"
    head += f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    answers: Counter[str] = Counter()
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    for _ in range(kind.connections):
        await loop.create_connection(
            lambda: Asker(head.encode() + body, answers), str(address.hostname), address.port or 0
        )
    print("flooding", flush=True)
    await ended.wait()
    print(json.dumps(answers), flush=True)


if __name__ == "__main__":
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    uvloop.run(flood(sys.argv[1], sys.argv[2], KINDS[sys.argv[3]]))
