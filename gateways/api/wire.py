"""A WebSocket of uvicorn's that takes frames as they go over the network, made once for all who read the same."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.protocol import State

WIRE = "wire"
"""Under which a connection's Wire is in the `extensions` of its ASGI scope."""
SEND_BUFFER_BYTES = 128 * 1024
"""Of the system, for what a client has not read: what it picks itself can grow to megabytes for each."""
CLOSE_S = 10.0
"""How long a client that is told to go may take to read what is on its way to it."""

_TEXT = b"\x81"
"""A whole message of text: RFC 6455, 5.2."""


def text_frame(payload: bytes) -> bytes:
    """The message as a server sends it, which masks nothing.

    >>> text_frame(b"{}")
    b'\\x81\\x02{}'
    """
    size = len(payload)
    if size < 126:
        return b"%b%c%b" % (_TEXT, size, payload)
    if size < 1 << 16:
        return b"%b\x7e%b%b" % (_TEXT, size.to_bytes(2), payload)
    return b"%b\x7f%b%b" % (_TEXT, size.to_bytes(8), payload)


class Wire(WebSocketsSansIOProtocol):
    """One connection. A frame is written at once and without a task: uvloop sends together what one turn of the loop
    has written to it. What does not fit is its writer's affair, who is told when there is room again."""

    has_room = True
    """Whether what waits to be sent is less than the transport's high-water mark."""
    on_room: Callable[[], None] | None = None
    _abort: asyncio.TimerHandle | None = None

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            scope: Any = self.scope
            scope["extensions"][WIRE] = self
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def write(self, frame: bytes) -> None:
        """Nothing, once the connection is closing."""
        if self.conn.state is State.OPEN and not self.transport.is_closing():
            self.transport.write(frame)

    async def room(self) -> None:
        """Returns once there is some, or nobody to need it."""
        while not self.has_room:
            await self.writable.wait()

    def abort_soon(self) -> None:
        """Ends the connection within CLOSE_S, whether or not its client reads what is left."""
        if self._abort is None:
            self._abort = self.loop.call_later(CLOSE_S, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.has_room = False

    def resume_writing(self) -> None:
        super().resume_writing()
        self.has_room = True
        if self.on_room is not None:
            self.on_room()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._abort is not None:
            self._abort.cancel()
        self.has_room = True
        super().connection_lost(exc)
