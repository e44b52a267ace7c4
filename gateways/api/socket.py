"""The stream's connections: what a client says over its WebSocket, and what it is told."""

import asyncio
import time
from collections import deque
from typing import Any
from urllib.parse import urlencode

import msgspec
import structlog
from litestar import WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.handlers import WebsocketRouteHandler
from msgspec import Raw, Struct
from prometheus_client import CollectorRegistry, Counter, Gauge

from gateways.api.addresses import FORWARDED
from gateways.api.channels import Channel
from gateways.api.errors import ApiError, as_api_error, invalid, request_id
from gateways.api.keys import SIGNED_BY, Keys, shown
from gateways.api.signing import SIGNATURE, Signature, parsed, signature_in
from gateways.api.stream import Stream
from schemas.store import Scope

MAX_CONNECTIONS = 6_000
MAX_SUBSCRIPTIONS = 200
"""Of one connection."""
MAX_REQUESTS = 32
"""Of one connection, under way at once."""
OPS_PER_S = 50
OPS_AT_ONCE = 200
CONFLATE_AT = 64
"""Messages that wait to be sent: from here on changes that may be conflated do not queue; the whole follows."""
MAX_WAITING = 5_000
"""A client that has so many to read is too slow for what it reads: the connection ends."""
CHECK_KEY_S = 15.0
"""A key that was revoked ends the connection within so long, and so does a wait for nothing in particular."""

NOT_YOURS, TOO_SLOW, TOO_MUCH, BUSY = 4401, 4408, 4429, 1013
"""Codes with which a connection ends (gateways/README.md)."""

_json = msgspec.json.Encoder()


class Op(Struct, forbid_unknown_fields=True, rename={"class_id": "class"}):
    """What a client says. `id` is its own, and is in the answer."""

    op: str
    id: int | str | None = None
    key: str | None = None
    """Of auth; or else the four below, over GET of the stream's own path (gateways/api/signing.py)."""
    key_id: int | None = None
    timestamp: int | None = None
    nonce: str | None = None
    signature: str | None = None
    channel: str | None = None
    """Of subscribe and unsubscribe, as the three below."""
    class_id: str | None = None
    window: str | None = None
    interval: str | None = None
    after: int | None = None
    """Of subscribe: the number of the last change that the client knows, and the run that it is of."""
    stream: str | None = None
    method: str = "GET"
    """Of request, as the three below: any request of the API, with the key that was said."""
    path: str | None = None
    query: dict[str, str | int] = {}
    body: Raw = Raw(b"")

    def fields(self) -> dict[str, str]:
        """What it says of a channel."""
        said = {"channel": self.channel, "class": self.class_id, "window": self.window, "interval": self.interval}
        return {name: value for name, value in said.items() if value is not None}


_ops = msgspec.json.Decoder(Op)


class Connection:
    """One client. Reads what it says and sends what it is told, until either end has enough."""

    def __init__(self, socket: WebSocket[Any, Any, Any], stream: Stream, keys: Keys) -> None:
        self._socket = socket
        self._stream = stream
        self._keys = keys
        self._authorization = socket.headers.get("authorization")
        self._signed_by: int | None = None
        self._account: int | None = None
        self._channels: dict[Channel, None] = {}
        self._waiting: deque[str] = deque()
        self._news = asyncio.Event()
        self._behind: dict[Channel, None] = {}
        self._requests: set[asyncio.Task[None]] = set()
        self._ops_left = float(OPS_AT_ONCE)
        self._ops_at = time.monotonic()
        self._close_code = 0

    async def run(self) -> None:
        """Raises what nobody expected; returns when the connection is over."""
        sending = asyncio.create_task(self._send())
        reading = asyncio.create_task(self._read())
        try:
            done, _ = await asyncio.wait({sending, reading}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except WebSocketDisconnect:
            return
        finally:
            tasks = {sending, reading, *self._requests}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for channel in self._channels:
                self._stream.leave(channel, self)
        await self._socket.close(code=self.code)

    @property
    def code(self) -> int:
        """With which it ended, 1000 where the client ended it."""
        return self._close_code or 1000

    def tell(self, channel: Channel, message: str) -> None:
        """Queues the message, or takes note that the channel's whole has to follow."""
        if channel.conflates and len(self._waiting) >= CONFLATE_AT:
            channel.leave(self)
            self._behind[channel] = None
        else:
            self._queue(message)

    def _queue(self, message: str) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._close(TOO_SLOW)
            return
        self._waiting.append(message)
        self._news.set()

    def _close(self, code: int) -> None:
        self._close_code = self._close_code or code
        self._news.set()

    async def _send(self) -> None:
        while not self._close_code:
            self._news.clear()
            while self._waiting and self._close_code != TOO_SLOW:
                await self._socket.send_data(self._waiting.popleft())
            behind, self._behind = self._behind, {}
            for channel in behind:
                if channel in self._channels:
                    await self._stream.join(channel, self, None)
            if not self._waiting:
                await self._news.wait()

    async def _read(self) -> None:
        if self._authorization is not None or SIGNATURE in self._socket.headers:
            await self._take(b'{"op": "auth"}')
        while not self._close_code:
            try:
                async with asyncio.timeout(CHECK_KEY_S):
                    text = await self._socket.receive_data(mode="text")
            except TimeoutError:
                await self._check_key()
                continue
            now = time.monotonic()
            self._ops_left = min(OPS_AT_ONCE, self._ops_left + (now - self._ops_at) * OPS_PER_S) - 1
            self._ops_at = now
            if self._ops_left < 0:
                self._close(TOO_MUCH)
            else:
                await self._take(text.encode())

    async def _check_key(self) -> None:
        if self._account is not None:
            try:
                if self._signed_by is None:
                    await self._keys.holder(self._authorization, self._socket.scope)
                else:
                    await self._keys.signed_by(self._signed_by, self._socket.scope)
            except ApiError:
                self._close(NOT_YOURS)

    async def _take(self, text: bytes) -> None:
        op = Op("")
        try:
            op = _ops.decode(text)
            await self._do(op)
        except Exception as error:  # whatever it is, one operation fails and not the connection
            this = as_api_error(error)
            name = request_id(self._socket.scope)
            if this.status == 500:
                structlog.get_logger().error("an operation failed", request_id=name, op=op.op, exc_info=error)
            told = {"code": this.code, "message": this.message, "field": this.field, "request_id": name}
            self._answer("error", op, error=told)

    async def _do(self, op: Op) -> None:
        match op.op:
            case "auth":
                await self._identify(op)
            case "subscribe":
                await self._subscribe(op)
            case "unsubscribe":
                channel = await self._stream.channel(op.fields(), self._account)
                if channel not in self._channels:
                    raise invalid("channel", "you do not read it")
                del self._channels[channel]
                self._stream.leave(channel, self)
                self._answer("unsubscribed", op)
            case "request":
                if len(self._requests) >= MAX_REQUESTS:
                    raise ApiError(
                        429, "busy", f"{MAX_REQUESTS} requests of this connection are under way: wait for one"
                    )
                task = asyncio.create_task(self._request(op))
                self._requests.add(task)
                task.add_done_callback(self._requests.discard)
            case _:
                raise invalid("op", f"{op.op!r} is none of auth, subscribe, unsubscribe, request")

    async def _identify(self, op: Op) -> None:
        scope = self._socket.scope
        authorization = self._authorization if op.key is None else f"Bearer {op.key}"
        signature = self._signature(op)
        if signature is None:
            holder = await self._keys.holder(authorization, scope)
        else:
            holder = await self._keys.signer(signature, "GET", scope, _no_body)
        if self._account not in (None, holder.account.id):
            raise invalid("key", "this connection is another account's: open one for each")
        if Scope.READ not in holder.scopes:
            raise ApiError(403, "missing_scope", f"this needs a key with the scope read: yours has {shown(holder)}")
        self._account = holder.account.id
        self._authorization, self._signed_by = (authorization, None) if signature is None else (None, holder.id)
        self._answer("ok", op)

    def _signature(self, op: Op) -> Signature | None:
        """What it says itself, or else the upgrade did. Raises ApiError 400."""
        if op.key is not None:
            return None
        if op.signature is None:
            return signature_in(self._socket.headers)
        return parsed(str(op.key_id), str(op.timestamp), op.nonce or "", op.signature)

    async def _subscribe(self, op: Op) -> None:
        channel = await self._stream.channel(op.fields(), self._account)
        if channel in self._channels:
            raise invalid("channel", "you read it already")
        if len(self._channels) >= MAX_SUBSCRIPTIONS:
            raise ApiError(429, "busy", f"a connection reads at most {MAX_SUBSCRIPTIONS} channels: open another")
        place = channel.place(op.after, op.stream or "")
        self._answer("subscribed", op)
        self._channels[channel] = None
        await self._stream.join(channel, self, place)

    async def _request(self, op: Op) -> None:
        """Passes the request on to the API's own routes, as if it had come over HTTP."""
        if op.path is None or not op.path.startswith("/v1/"):
            self._answer(
                "response", op, status=400, body={"error": {"code": "invalid", "message": "say a path: /v1/…"}}
            )
            return
        headers = [(b"content-type", b"application/json")]
        headers += [(name, value) for name, value in self._socket.scope["headers"] if name == FORWARDED]
        if self._authorization is not None:
            headers.append((b"authorization", self._authorization.encode()))
        if isinstance(op.id, str):
            headers.append((b"x-request-id", op.id.encode()))
        around = self._socket.scope
        scope: Any = {
            "type": "http",
            "asgi": around["asgi"],
            "http_version": "1.1",
            "method": op.method.upper(),
            "scheme": "http",
            "path": op.path,
            "raw_path": op.path.encode(),
            "root_path": "",
            "query_string": urlencode(op.query).encode(),
            "headers": headers,
            "client": around["client"],
            "server": around["server"],
            "state": {} if self._signed_by is None else {SIGNED_BY: self._signed_by},
        }
        status, parts = 500, list[bytes]()
        given = [bytes(op.body)]

        async def receive() -> Any:
            if given:
                return {"type": "http.request", "body": given.pop(), "more_body": False}
            await asyncio.Event().wait()  # nobody hangs up but by ending this task
            raise AssertionError

        async def send(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                parts.append(message["body"])

        app: Any = self._socket.app
        await app(scope, receive, send)
        self._answer("response", op, status=status, body=Raw(b"".join(parts) or b"null"))

    def _answer(self, kind: str, op: Op, **further: Any) -> None:
        self._queue(_json.encode({"type": kind, "id": op.id, **further}).decode())


async def _no_body() -> bytes:
    return b""


def stream_routes(stream: Stream, keys: Keys, registry: CollectorRegistry) -> list[WebsocketRouteHandler]:
    """The one door of the stream."""
    open_now = Gauge("stream_connections", "WebSocket connections", registry=registry)
    ended = Counter("stream_ended", "WebSocket connections that ended", ["code"], registry=registry)
    connections = 0

    @websocket("/v1/stream")
    async def connect(socket: WebSocket[Any, Any, Any]) -> None:
        """Channels of the market and of an account, and requests, over one connection."""
        nonlocal connections
        await socket.accept()
        if connections >= MAX_CONNECTIONS:
            await socket.close(code=BUSY)
            return
        connections += 1
        open_now.inc()
        connection = Connection(socket, stream, keys)
        try:
            await connection.run()
        finally:
            connections -= 1
            open_now.dec()
            ended.labels(connection.code).inc()

    return [connect]
