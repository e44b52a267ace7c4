"""The stream's connections: what a client says over its WebSocket, and what it is told."""

import asyncio
import contextlib
import time
from collections import Counter as Counts
from collections import deque
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlencode

import msgspec
import structlog
from litestar import WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.handlers import WebsocketRouteHandler
from msgspec import Raw, Struct
from prometheus_client import CollectorRegistry, Counter, Gauge

from gateways.api.addresses import FORWARDED, subscriber
from gateways.api.channels import Channel
from gateways.api.errors import ApiError, as_api_error, invalid, request_id
from gateways.api.keys import SIGNED_BY, Keys, shown
from gateways.api.signing import SIGNATURE, Signature, parsed, signature_in
from gateways.api.stream import Stream
from gateways.api.wire import WIRE, Wire, text_frame
from schemas.store import Scope, StoreError

MAX_SUBSCRIPTIONS = 200
"""Of one connection."""
MAX_REQUESTS = 32
"""Of one connection, under way at once."""
MAX_ANSWER_BYTES = 4_000_000
"""Of a request; what is larger is for HTTP, which sends it part by part."""
OPS_PER_S = 50
OPS_AT_ONCE = 200
MAX_WAITING_BYTES = 1_000_000
"""A client that has so much to read, beside what is on its way, is too slow for what it reads: the connection ends."""
CHECK_KEYS_S = 10.0
"""Between two looks at the keys of all connections: one that was revoked ends its own."""
CHECKED_AT_ONCE = 100
REST_S = 0.01

NOT_YOURS, TOO_SLOW, TOO_MUCH, BUSY, FAILED = 4401, 4408, 4429, 1013, 1011
"""Codes with which a connection ends (gateways/README.md)."""


class Bounds(Struct, frozen=True):
    """How many connections there may be at once."""

    all: int = 6_000
    each: int = 1_000
    """Of one account; or of one address, without a key."""


USUAL = Bounds()

ACCOUNT, ADDRESS = "account", "address"
Holder = tuple[str, int | str]
"""Whose a connection is: an account, or the address of who has said no key."""

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


class Connections:
    """This gateway's, within their bounds. `run` ends only by being cancelled, or with the error that ended it."""

    def __init__(self, stream: Stream, keys: Keys, registry: CollectorRegistry, bounds: Bounds = USUAL) -> None:
        self.stream = stream
        self.keys = keys
        self._bounds = bounds
        self._holders: dict[Connection, Holder | None] = {}
        self._held: Counts[Holder] = Counts()
        self._gauge = Gauge("stream_connections", "WebSocket connections", registry=registry)
        waiting = Gauge("stream_waiting_bytes", "What clients have not read, in frames they share", registry=registry)
        waiting.set_function(lambda: sum(connection.waiting_bytes for connection in self._holders))
        self._ended = Counter("stream_ended", "WebSocket connections that ended", ["code"], registry=registry)

    async def run(self) -> None:
        """Ends those whose keys are no more."""
        while True:
            await asyncio.sleep(CHECK_KEYS_S)
            for checked, connection in enumerate(list(self._holders), 1):
                await connection.check_key()
                if not checked % CHECKED_AT_ONCE:
                    await asyncio.sleep(REST_S)

    async def serve(self, socket: WebSocket[Any, Any, Any]) -> None:
        """One connection from its beginning to its end."""
        await socket.accept()
        if len(self._holders) >= self._bounds.all:
            self._ended.labels(BUSY).inc()
            await socket.close(code=BUSY)
            return
        connection = Connection(socket, self)
        self._holders[connection] = None
        self._gauge.inc()
        try:
            await connection.run()
        finally:
            self._let_go(self._holders.pop(connection))
            self._gauge.dec()
            self._ended.labels(connection.code).inc()

    def claim(self, connection: "Connection", holder: Holder) -> None:
        """The connection is that holder's from now on. Raises ApiError 429."""
        if self._held[holder] >= self._bounds.each:
            whose = "this account's" if holder[0] == ACCOUNT else "from this address"
            raise ApiError(429, "busy", f"{self._bounds.each} streams are open already {whose}: close one first")
        self._held[holder] += 1
        self._let_go(self._holders[connection])
        self._holders[connection] = holder

    def _let_go(self, holder: Holder | None) -> None:
        if holder is not None:
            self._held[holder] -= 1
            if not self._held[holder]:
                del self._held[holder]


class Connection:
    """One client. Reads what it says, and is told by channels, until either end has enough."""

    def __init__(self, socket: WebSocket[Any, Any, Any], connections: Connections) -> None:
        self._socket = socket
        scope: Any = socket.scope
        self._wire: Wire = scope["extensions"][WIRE]
        self._connections = connections
        self._stream = connections.stream
        self._keys = connections.keys
        self._authorization = socket.headers.get("authorization")
        self._signed_by: int | None = None
        self._account: int | None = None
        self._channels: dict[Channel, None] = {}
        self._waiting: deque[bytes] = deque()
        self.waiting_bytes = 0
        """Beside what the transport has."""
        self._behind: dict[Channel, None] = {}
        """Those that conflate and were told more than there was room for: their whole has to follow."""
        self._catches_up = False
        self._joining = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._requests = 0
        self._ops_left = float(OPS_AT_ONCE)
        self._ops_at = time.monotonic()
        self._close_code = 0
        self._reading = asyncio.current_task()
        self._wire.on_room = self._use_room

    async def run(self) -> None:
        """Raises what nobody expected; returns when the connection is over."""
        try:
            await self._read()
        except WebSocketDisconnect:
            return
        except asyncio.CancelledError:
            if not self._close_code or self._reading is None or self._reading.uncancel():
                raise
        finally:
            self._wire.on_room = None
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            for channel in self._channels:
                self._stream.leave(channel, self)
        self._wire.abort_soon()
        with contextlib.suppress(OSError):  # it is gone already
            await self._socket.close(code=self.code)

    @property
    def code(self) -> int:
        """With which it ended, 1000 where the client ended it."""
        return self._close_code or 1000

    def tell(self, channel: Channel, message: bytes) -> None:
        """Writes the message; where there is no room it waits, or the channel's whole is to follow."""
        if self._wire.has_room:
            self._wire.write(message)
        elif channel.conflates:
            channel.pause(self)
            self._behind[channel] = None
        elif self.waiting_bytes < MAX_WAITING_BYTES:
            self._waiting.append(message)
            self.waiting_bytes += len(message)
        else:
            self._close(TOO_SLOW)

    async def send(self, message: bytes) -> None:
        """Writes it once there is room."""
        await self._wire.room()
        self._wire.write(message)

    async def check_key(self) -> None:
        """Ends the connection where its key is no more; where that cannot be told, it goes on."""
        if self._account is not None:
            with contextlib.suppress(StoreError):
                try:
                    if self._signed_by is None:
                        await self._keys.holder(self._authorization, self._socket.scope)
                    else:
                        await self._keys.signed_by(self._signed_by, self._socket.scope)
                except ApiError:
                    self._close(NOT_YOURS)

    def _close(self, code: int) -> None:
        """Ends the connection, whatever it waits for; what waits to be sent is not."""
        if not self._close_code:
            self._close_code = code
            if self._reading is not None and self._reading is not asyncio.current_task():
                self._reading.cancel()

    def _use_room(self) -> None:
        while self._waiting and self._wire.has_room:
            message = self._waiting.popleft()
            self.waiting_bytes -= len(message)
            self._wire.write(message)
        if self._behind and self._wire.has_room and not self._catches_up:
            self._catches_up = True
            self._start(self._catch_up())

    async def _catch_up(self) -> None:
        try:
            while self._behind:
                channel = next(iter(self._behind))
                del self._behind[channel]
                await self._join(channel, None)
        except Exception as error:
            structlog.get_logger().error("a channel's whole could not be made", exc_info=error)
            self._close(FAILED)
        finally:
            self._catches_up = False

    async def _join(self, channel: Channel, after: int | None) -> None:
        """One channel at a time, as far as the client still wants it."""
        async with self._joining:
            if channel in self._channels:
                await self._stream.join(channel, self, after)
            if channel not in self._channels:
                self._stream.leave(channel, self)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self) -> None:
        if self._authorization is not None or SIGNATURE in self._socket.headers:
            await self._take('{"op": "auth"}')
        if self._account is None and not self._close_code:
            try:
                self._connections.claim(self, (ADDRESS, subscriber(self._keys.address(self._socket.scope))))
            except ApiError:
                self._close(BUSY)
        while not self._close_code:
            text = await self._socket.receive_data(mode="text")
            now = time.monotonic()
            self._ops_left = min(OPS_AT_ONCE, self._ops_left + (now - self._ops_at) * OPS_PER_S) - 1
            self._ops_at = now
            if self._ops_left < 0:
                self._close(TOO_MUCH)
            else:
                await self._take(text)

    async def _take(self, text: str) -> None:
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
            await self._answer("error", op, error=told)

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
                self._forget(channel)
                await self._answer("unsubscribed", op)
            case "request":
                if self._requests >= MAX_REQUESTS:
                    raise ApiError(
                        429, "busy", f"{MAX_REQUESTS} requests of this connection are under way: wait for one"
                    )
                self._requests += 1
                self._start(self._request(op))
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
        if self._account is None:
            try:
                self._connections.claim(self, (ACCOUNT, holder.account.id))
            except ApiError:
                self._close(BUSY)
                raise
        self._account = holder.account.id
        self._authorization, self._signed_by = (authorization, None) if signature is None else (None, holder.id)
        await self._answer("ok", op)

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
        place = await channel.place(op.after, op.stream or "")
        self._channels[channel] = None
        await self._answer("subscribed", op)
        try:
            await self._join(channel, place)
        except BaseException:
            self._forget(channel)
            raise

    def _forget(self, channel: Channel) -> None:
        self._channels.pop(channel, None)
        self._behind.pop(channel, None)
        self._stream.leave(channel, self)

    async def _request(self, op: Op) -> None:
        """Passes the request on to the API's own routes, as if it had come over HTTP."""
        try:
            if op.path is not None and op.path.startswith("/v1/"):
                status, body = await self._asked(op, op.path)
            else:
                status, body = 400, {"error": {"code": "invalid", "message": "say a path: /v1/…"}}
            await self._answer("response", op, status=status, body=body)
        finally:
            self._requests -= 1

    async def _asked(self, op: Op, path: str) -> tuple[int, Any]:
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
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": urlencode(op.query).encode(),
            "headers": headers,
            "client": around["client"],
            "server": around["server"],
            "state": {} if self._signed_by is None else {SIGNED_BY: self._signed_by},
        }
        app: Any = self._socket.app
        answer = _Answer(bytes(op.body))
        try:
            await app(scope, answer.receive, answer.send)
        except Exception:
            if not answer.is_too_large:
                raise
        return answer.status, answer.body

    async def _answer(self, kind: str, op: Op, **further: Any) -> None:
        await self.send(text_frame(_json.encode({"type": kind, "id": op.id, **further})))


class _Answer:
    """An ASGI request's two ends, and what became of it."""

    def __init__(self, body: bytes) -> None:
        self.status = 500
        self.is_too_large = False
        self._given = [body]
        self._is_json = True
        self._parts = bytearray()
        self._complete = asyncio.Event()

    @property
    def body(self) -> Any:
        """JSON as it is, all else as a string."""
        if self.is_too_large:
            message = f"the answer has more than {MAX_ANSWER_BYTES} bytes: ask for it over HTTP"
            return {"error": {"code": "too_large", "message": message}}
        return Raw(bytes(self._parts or b"null")) if self._is_json else self._parts.decode()

    async def receive(self) -> Any:
        if self._given:
            return {"type": "http.request", "body": self._given.pop(), "more_body": False}
        await self._complete.wait()  # nobody hangs up before but by ending this task
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._is_json = any(name == b"content-type" and b"json" in value for name, value in message["headers"])
        elif message["type"] == "http.response.body":
            if len(self._parts) + len(message["body"]) > MAX_ANSWER_BYTES:
                self.status, self.is_too_large = 413, True
                raise ApiError(413, "too_large", "the answer is too large")
            self._parts += message["body"]
            if not message.get("more_body"):
                self._complete.set()


async def _no_body() -> bytes:
    return b""


def stream_routes(connections: Connections) -> list[WebsocketRouteHandler]:
    """The one door of the stream."""

    @websocket("/v1/stream")
    async def connect(socket: WebSocket[Any, Any, Any]) -> None:
        """Channels of the market and of an account, and requests, over one connection."""
        await connections.serve(socket)

    return [connect]
