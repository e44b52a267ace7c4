"""The exchange from Python: one method a resource, retries that cannot do anything twice, streams that resume."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import msgspec

from gateways.client.types import (
    Account,
    Ask,
    Balance,
    Bid,
    Book,
    Class,
    Fill,
    Key,
    Lease,
    Order,
    OrderFill,
    Page,
    Status,
    Usage,
    UsageAnswer,
    UsageReport,
)

TRIES = 6
FIRST_PAUSE_S = 0.1
"""Before the second try; then twice as long each time."""
TIMEOUT_S = 30.0
POLL_S = 20.0
"""How long a stream's request waits for news."""
PAGE = 500
REPEAT_STATUSES = {429, 502, 503, 504}

Answered = TypeVar("Answered")
Body = Mapping[str, object]
_ORDER: Any = Order  # a union is no type[...] to the type checker


class ExchangeError(Exception):
    """The exchange refused, or could not be reached: then `status` is None and `code` is `unreachable`.

    `code` is for programs, the message for people; `field` names what it is about, `request_id` is for support.
    """

    def __init__(
        self, message: str, *, code: str, status: int | None = None, field: str = "", request_id: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.field = field
        self.request_id = request_id


class Exchange:
    """An open exchange at `url`, for the holder of `key`. Use it as an async context manager.

    Every method raises ExchangeError. What is safe to send twice is sent again for a few seconds where the exchange
    does not answer; orders are safe because each gets a client_order_id.
    """

    def __init__(self, url: str, key: str = "") -> None:
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._url = url
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S + POLL_S)
        self._session = aiohttp.ClientSession(self._url, headers=self._headers, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    # The market

    async def status(self) -> Status:
        """How the exchange is: its clock and its figures."""
        return await self._get("/v1/status", Status)

    async def classes(self) -> list[Class]:
        """What can be traded."""
        return (await self._get("/v1/classes", Page[Class])).items

    async def book(self, class_id: str, *, start: str = "now", duration: str = "1h", levels: int = 10) -> Book:
        """The book of a class for one delivery window."""
        query = {"start": start, "duration": duration, "levels": levels}
        return await self._get(f"/v1/book/{class_id}", Book, query)

    async def market_fills(self, *, class_id: str | None = None, after: str = "end") -> AsyncIterator[Fill]:
        """The public stream of fills from a cursor, `start` or `end` on, for ever; resumes by itself."""
        while True:
            page = await self.fills_page(class_id=class_id, after=after, wait_s=POLL_S)
            for fill in page.items:
                yield fill
            assert page.next is not None
            after = page.next

    async def fills_page(
        self, *, class_id: str | None = None, after: str = "start", wait_s: float = 0.0, limit: int = PAGE
    ) -> Page[Fill]:
        """Public fills after a cursor; `next` is the cursor behind them, never None."""
        query = {"class": class_id, "after": after, "wait_s": wait_s, "limit": limit}
        return await self._get("/v1/fills", Page[Fill], query)

    # Orders

    async def buy(
        self,
        class_id: str,
        *,
        gpus: int,
        max_price: str,
        hours: int | None = None,
        duration: str | None = None,
        split: int | None = None,
        **terms: object,
    ) -> Bid:
        """A bid for `gpus` GPUs over `hours` (or a `duration` like 90m), all from one place or none.

        `split` lets them be `split` at a time. Other terms of the API's bid (starts, accepts, prefer, …) may follow.
        """
        body = {"duration": duration or f"{hours}h", "min_fill": split or gpus, **terms}
        return await self.bid(class_id, gpus, max_price, **body)

    async def sell(self, class_id: str, *, gpus: int, price: str, hours: int | None = None, **terms: object) -> Ask:
        """An ask of `gpus` GPUs, from now on for `hours`; or with `start` and `end` among the other terms."""
        return await self.ask(class_id, gpus, price, **({"end": f"now+{hours}h"} if hours else {}), **terms)

    async def bid(self, class_id: str, quantity: int, price: str, **terms: object) -> Bid:
        """A bid with the API's own terms: duration, min_fill, starts, accepts, prefer, time_in_force, …"""
        return await self._place("/v1/bids", Bid, class_id, quantity, price, terms)

    async def ask(self, class_id: str, quantity: int, price: str, **terms: object) -> Ask:
        """An ask with the API's own terms: start, end, region, interconnect, min_duration, lot, …"""
        return await self._place("/v1/asks", Ask, class_id, quantity, price, terms)

    async def cancel(self, order_id: str) -> Order:
        """Ends what is unsold of an order; its leases stay."""
        order: Order = await self._call("DELETE", f"/v1/orders/{order_id}", _ORDER)
        return order

    async def order(self, order_id: str) -> Order:
        """An own order."""
        return await self._order(order_id)

    async def order_by_client_id(self, client_order_id: str) -> Order:
        """The own order of that name: what to ask after an answer `unknown`."""
        return await self._order(f"by-client-id/{client_order_id}")

    async def orders(self, *, status: str | None = None, class_id: str | None = None) -> AsyncIterator[Order]:
        """Own orders, newest first."""
        async for order in self._items("/v1/orders", Page[Order], {"status": status, "class": class_id}):
            yield order

    async def fills(self, order: Order | str) -> AsyncIterator[OrderFill]:
        """The fills of an own order, those there are and those to come, until it ends."""
        order_id = order if isinstance(order, str) else order.order_id
        seen: set[str] = set()
        assert order_id is not None, "the log has not answered for this order: ask by its client_order_id"
        state = await self._order(order_id)
        while True:
            for fill in state.fills or ():
                if fill.fill_id not in seen:
                    seen.add(fill.fill_id)
                    yield fill
            if not state.stands:
                return
            state = await self._order(order_id, {"filled": state.filled, "wait_s": POLL_S})

    # Leases

    async def leases(
        self,
        *,
        role: str = "buyer",
        state: str | None = None,
        class_id: str | None = None,
        order_id: str | None = None,
    ) -> AsyncIterator[Lease]:
        """Own leases as `buyer` or `supplier`, newest first; `state` may name several, with commas."""
        query = {"role": role, "state": state, "class": class_id, "order_id": order_id}
        async for lease in self._items("/v1/leases", Page[Lease], query):
            yield lease

    async def lease(self, lease_id: str) -> Lease:
        """A lease that the account bought or supplies."""
        return await self._get(f"/v1/leases/{lease_id}", Lease)

    async def deliver(self, lease_id: str, connection: str) -> Lease:
        """The supplier hands the machines over: how to reach them, for the buyer alone."""
        body = {"connection": connection}
        return await self._call("POST", f"/v1/leases/{lease_id}/delivery", Lease, body, repeat=False)

    async def accept(self, lease_id: str) -> Lease:
        """The buyer accepts the delivery: billing starts, though never before the lease does."""
        return await self._call("POST", f"/v1/leases/{lease_id}/acceptance", Lease, repeat=False)

    async def report_usage(self, reports: Sequence[UsageReport]) -> list[UsageAnswer]:
        """Metered use, up to 500 reports; each is answered for itself, and may be sent again."""
        found: dict[str, list[UsageAnswer]]
        found = await self._call("POST", "/v1/usage", dict[str, list[UsageAnswer]], {"reports": reports})
        return found["answers"]

    async def usage(self, lease_id: str) -> AsyncIterator[Usage]:
        """The accepted reports of a lease, by sequence."""
        async for usage in self._items(f"/v1/leases/{lease_id}/usage", Page[Usage], {}):
            yield usage

    # Accounts

    async def account(self) -> Account:
        """The account of this key."""
        return await self._get("/v1/accounts/me", Account)

    async def balance(self) -> Balance:
        """The account's money."""
        return await self._get("/v1/balance", Balance)

    async def keys(self, account_id: str = "me") -> list[Key]:
        """The account's keys, without their secrets."""
        return (await self._get(f"/v1/accounts/{account_id}/keys", Page[Key])).items

    async def create_key(self, scopes: Sequence[str], *, label: str = "", account_id: str = "me") -> Key:
        """A new key, with its secret: shown this once."""
        body = {"scopes": scopes, "label": label}
        return await self._call("POST", f"/v1/accounts/{account_id}/keys", Key, body, repeat=False)

    async def revoke_key(self, key_id: int, *, account_id: str = "me") -> None:
        """The key stops working."""
        await self._call("DELETE", f"/v1/accounts/{account_id}/keys/{key_id}", type(None))

    # For the exchange's own people

    async def accounts(self) -> AsyncIterator[Account]:
        """All accounts, by id."""
        async for account in self._items("/v1/accounts", Page[Account], {}):
            yield account

    async def create_account(self, name: str, *, scopes: Sequence[str] = (), **terms: object) -> Account:
        """A new account; with scopes it has a first key. Terms: owner, buyer_fee_bps, seller_fee_bps."""
        body = {"name": name, "scopes": scopes, **terms}
        return await self._call("POST", "/v1/accounts", Account, body, repeat=False)

    async def deposit(self, account_id: str, amount: str, *, reference: str) -> None:
        """Books money that came in from outside; the same reference again changes nothing."""
        body = {"account_id": account_id, "amount": amount, "reference": reference}
        await self._call("POST", "/v1/deposits", dict[str, Any], body)

    async def create_class(
        self, class_id: str, *, accelerator: str, memory_gb: int, form_factor: str, **terms: object
    ) -> Class:
        """Opens a book. Terms: tick, max_price, max_quantity, delivery_due, acceptance, grace."""
        body = {"class": class_id, "accelerator": accelerator, "memory_gb": memory_gb, "form_factor": form_factor}
        return await self._call("POST", "/v1/classes", Class, {**body, **terms}, repeat=False)

    # How it is sent

    async def _place(
        self, path: str, kind: type[Answered], class_id: str, quantity: int, price: str, terms: Body
    ) -> Answered:
        body = {"client_order_id": uuid.uuid4().hex, **terms, "class": class_id, "quantity": quantity, "price": price}
        return await self._call("POST", path, kind, body)

    async def _order(self, path: str, query: Body | None = None) -> Order:
        order: Order = await self._call("GET", f"/v1/orders/{path}", _ORDER, query=query)
        return order

    async def _get(self, path: str, kind: type[Answered], query: Body | None = None) -> Answered:
        return await self._call("GET", path, kind, query=query)

    async def _items(self, path: str, kind: Any, query: Body) -> AsyncIterator[Any]:
        """All items of a list, part by part."""
        after: str | None = None
        while True:
            page: Page[Any] = await self._get(path, kind, {**query, "after": after, "limit": PAGE})
            for item in page.items:
                yield item
            if page.next is None:
                return
            after = page.next

    async def _call(
        self,
        method: str,
        path: str,
        kind: type[Answered],
        body: Body | None = None,
        *,
        query: Body | None = None,
        repeat: bool = True,
    ) -> Answered:
        """Sends the request, again where that is safe and may help; the answer as `kind`."""
        tries = TRIES if repeat else 1
        for this in range(1, tries + 1):
            try:
                answered: Answered = await self._send(method, path, kind, body, query)
                return answered
            except ExchangeError as error:
                if this == tries or not (error.status is None or error.status in REPEAT_STATUSES):
                    raise
            await asyncio.sleep(FIRST_PAUSE_S * 2 ** (this - 1))
        raise AssertionError("the last try returns or raises")

    async def _send(self, method: str, path: str, kind: Any, body: Body | None, query: Body | None) -> Any:
        assert self._session is not None, "use it as: async with Exchange(url, key) as exchange"
        content = None if body is None else msgspec.json.encode(body)
        known = {name: str(value) for name, value in (query or {}).items() if value is not None}
        headers = {"Content-Type": "application/json"} if content is not None else {}
        try:
            async with self._session.request(method, path, data=content, params=known, headers=headers) as answer:
                answered = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ExchangeError(f"no exchange answers at {self._url}: {error!r}", code="unreachable") from error
        if answer.status >= 400:
            raise _refusal(answer.status, answered)
        return msgspec.json.decode(answered or b"null", type=kind)


def _refusal(status: int, answered: bytes) -> ExchangeError:
    try:
        said = msgspec.json.decode(answered, type=dict[str, dict[str, str]])["error"]
    except (msgspec.MsgspecError, KeyError):
        said = {"code": "unreadable_answer", "message": f"the answer has status {status} and is not the exchange's"}
    return ExchangeError(
        said["message"],
        code=said["code"],
        status=status,
        field=said.get("field", ""),
        request_id=said.get("request_id", ""),
    )
