"""The exchange from Python.

async with Exchange(url, key) as cx:
    order = await cx.buy("H100-SXM-80GB", gpus=8, hours=24, max_price="2.60")
    async for fill in cx.fills(order):
        print(fill.quantity, "GPUs at", fill.price)
"""

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, overload
from urllib.parse import quote

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from gateways.client import stream
from gateways.client.stream import Message
from gateways.client.types import (
    Account,
    AllCancelled,
    Ask,
    AuditStatus,
    Balance,
    Bid,
    Book,
    Candle,
    Caps,
    Class,
    ClassHalt,
    Correction,
    DailyCredits,
    DeadMan,
    Delivery,
    Deposit,
    Depth,
    Entry,
    Fee,
    Fill,
    HourUse,
    Invoice,
    InvoiceLine,
    InvoiceMonth,
    Key,
    Kill,
    Lease,
    LeaseChange,
    LeaseUse,
    Limits,
    Offers,
    Order,
    OrderFill,
    Preview,
    Reference,
    Refusal,
    RefusedUsage,
    Spend,
    SshKey,
    Standing,
    Status,
    SupplierRecord,
    Ticker,
    Usage,
    UsageAnswer,
    UsageReport,
    Webhook,
    Why,
    Withdrawal,
)

Terms = Any
"""Further fields of a request's body, by their names in the API."""
FocusRow = dict[str, str | None]
"""By the names of FOCUS; numbers are decimal strings."""
Result = TypeVar("Result")

MAX_ATTEMPTS = 6
FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 5.0
TIMEOUT_S = 60.0
LONG_POLL_S = 20
PAGE = 500
HOURS_TO_WAIT = 23
"""A purchase that cannot start now may start at one of the next so many hours."""
MAX_USAGE = 10_000
MAX_SPENDERS = 10_000
MAX_LINES = 10_000
_TRY_AGAIN = {429, 502, 503, 504}
_NOTHING_DONE = {429}
_orders: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)


class ExchangeError(Exception):
    """The exchange refused, or could not be reached (then `status` is None and `code` is `unreachable`)."""

    def __init__(
        self, code: str, message: str, *, field: str = "", status: int | None = None, request_id: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.status = status
        self.request_id = request_id


class Signs(Protocol):
    """gateways.client.signing.Signer, or another who keeps the private key."""

    def headers(self, method: str, target: str, body: bytes) -> Mapping[str, str]:
        """Of a request to a path with its query: made anew for each, also where it is sent again."""
        ...


class Exchange:
    """An exchange at `url`, for the holder of `key`, or of what `signer` signs with; without either, what is public.

    Every method raises ExchangeError. What can safely be sent again is sent again, a few times, when the exchange is
    away for a moment or answers that it does not know: orders carry a client_order_id, so none is placed twice.
    """

    def __init__(self, url: str, key: str | None = None, *, signer: Signs | None = None) -> None:
        self._url = url.rstrip("/")
        self._signer = signer
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            headers=self._headers, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), middlewares=(_told,)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._http is not None
        await self._http.close()

    # Trading

    async def buy(
        self,
        /,
        class_id: str,
        gpus: int,
        hours: int,
        max_price: str,
        *,
        split: int | None = None,
        now_only: bool = False,
        **terms: Terms,
    ) -> Bid:
        """Rents GPUs for at most `max_price` dollars per GPU-hour: now, or else from one of the next 23 hours on.

        All come from one place, or with `split` at least so many at a time. `terms` are further fields of a bid, such
        as `accepts`, `starts` or `time_in_force`.
        """
        if "start" not in terms and "starts" not in terms and not now_only:
            terms = {"prefer": "start", **terms, "starts": ["now", *(f"now+{h}h" for h in range(1, HOURS_TO_WAIT + 1))]}
        return await self.bid(class_id, gpus, max_price, duration=f"{hours}h", min_fill=split or gpus, **terms)

    async def sell(self, /, class_id: str, gpus: int, price: str, hours: int, **terms: Terms) -> Ask:
        """Offers GPUs at one place from now on, for `price` dollars per GPU-hour or more."""
        return await self.ask(class_id, gpus, price, end=f"now+{hours}h", **terms)

    async def bid(
        self, /, class_id: str, quantity: int, price: str, *, duration: str, min_fill: int, **terms: Terms
    ) -> Bid:
        """Places a bid; the answer has what it traded at once. `terms`: further fields of POST /v1/bids."""
        body = _bid(class_id, quantity, price, duration, min_fill, terms)
        return await self._call("POST", "/v1/bids", Bid, body=body)

    async def ask(self, /, class_id: str, quantity: int, price: str, *, end: str, **terms: Terms) -> Ask:
        """Places an ask; the answer has what it traded at once. `terms`: further fields of POST /v1/asks."""
        body = _ask(class_id, quantity, price, end, terms)
        return await self._call("POST", "/v1/asks", Ask, body=body)

    async def preview_bid(
        self, /, class_id: str, quantity: int, price: str, *, duration: str, min_fill: int, **terms: Terms
    ) -> Preview:
        """What this bid would fill now, what it would hold and cost at most: nothing is placed."""
        body = _bid(class_id, quantity, price, duration, min_fill, terms)
        return await self._call("POST", "/v1/bids/preview", Preview, body=body)

    async def preview_ask(self, /, class_id: str, quantity: int, price: str, *, end: str, **terms: Terms) -> Preview:
        """What this ask would sell now: nothing is placed."""
        body = _ask(class_id, quantity, price, end, terms)
        return await self._call("POST", "/v1/asks/preview", Preview, body=body)

    async def place_many(self, orders: Sequence[Mapping[str, Terms]]) -> list[Order | ExchangeError]:
        """Places bids and asks, 500 a request: of each, in order, the order or why it was not placed.

        Each has `side`, bid or ask, and the fields of POST /v1/bids or /v1/asks by their names there.
        """
        bodies = [{"client_order_id": secrets.token_hex(16), **order} for order in orders]
        return await self._many("/v1/orders/batch", bodies)

    async def amend(self, /, order_id: str, **terms: Terms) -> Order:
        """Gives an open order new terms, by their names in PATCH /v1/orders; the others stay as they are.

        Less `quantity` alone keeps its place in the queue. The answer is the order as it stands then.
        """
        body = {"amend_id": secrets.token_hex(16), **terms}
        return _orders.decode(await self._call("PATCH", f"/v1/orders/{_part(order_id)}", msgspec.Raw, body=body))

    async def cancel(self, order_id: str) -> Order:
        """Ends what is unsold of an order. The answer is the order as it stands then."""
        return await self._order("DELETE", f"/v1/orders/{_part(order_id)}")

    async def cancel_named(self, client_order_id: str) -> Order:
        """Likewise of the order with this client_order_id."""
        return await self._order("DELETE", f"/v1/orders/by-client-id/{_part(client_order_id)}")

    async def cancel_many(
        self, order_ids: Sequence[str] = (), *, client_order_ids: Sequence[str] = ()
    ) -> list[Order | ExchangeError]:
        """Ends what is unsold of many orders, 500 a request: of each, in order, as it stands then (without its fills),
        or why it was not ended."""
        names = [{"order_id": each} for each in order_ids] + [{"client_order_id": each} for each in client_order_ids]
        return await self._many("/v1/orders/cancel", names)

    async def cancel_all(self, class_id: str | None = None) -> AllCancelled:
        """Ends what is unsold of all open orders, in one class or in all."""
        return await self._call("DELETE", "/v1/orders", AllCancelled, query={"class": class_id})

    async def arm_dead_man(self, *, seconds: int | None = None, until: str | None = None) -> DeadMan:
        """Cancels all open orders then, in all classes, unless it is armed anew before: say one of the two."""
        body = {"seconds": seconds} if until is None else {"until": until}
        return await self._call("PUT", "/v1/dead-man", DeadMan, body=body)

    async def disarm_dead_man(self) -> DeadMan:
        """Switches that off."""
        return await self._call("DELETE", "/v1/dead-man", DeadMan)

    async def order(self, order_id: str) -> Order:
        """An own order."""
        return await self._order("GET", f"/v1/orders/{_part(order_id)}")

    async def why(self, order_id: str) -> Why:
        """What stands in the way of an own order: counts by reason, and the nearest miss of each."""
        return await self._call("GET", f"/v1/orders/{_part(order_id)}/why", Why)

    async def order_named(self, client_order_id: str) -> Order:
        """The own order with this client_order_id."""
        return await self._order("GET", f"/v1/orders/by-client-id/{_part(client_order_id)}")

    async def orders(
        self,
        *,
        status: str | None = None,
        class_id: str | None = None,
        side: str | None = None,
        limit: int = 100,
    ) -> list[Order]:
        """Own orders, newest first."""
        return await self._list("/v1/orders", Order, limit, {"status": status, "class": class_id, "side": side})

    # Leases

    async def leases(
        self,
        *,
        role: str = "buyer",
        state: str | None = None,
        class_id: str | None = None,
        order_id: str | None = None,
        limit: int = 100,
    ) -> list[Lease]:
        """Own leases as `buyer` or `supplier`, newest first; `state` may name several, with commas."""
        query = {"role": role, "state": state, "class": class_id, "order_id": order_id}
        return await self._list("/v1/leases", Lease, limit, query)

    async def lease(self, lease_id: str) -> Lease:
        """An own lease."""
        return await self._call("GET", f"/v1/leases/{_part(lease_id)}", Lease)

    async def deliver(self, lease_id: str, connection: str, *, gpus: Sequence[str] = (), proof: str = "") -> Lease:
        """Hands the machines of a lease over: how its buyer reaches them, the names of all its GPUs, or of none, and
        what shows that they can be reached."""
        path = f"/v1/leases/{_part(lease_id)}/delivery"
        body = {"connection": connection, "gpus": list(gpus), "proof": proof}
        return await self._call("POST", path, Lease, body=body)

    async def extend(self, lease_id: str, *, duration: str, max_price: str, client_order_id: str | None = None) -> Bid:
        """As its buyer, makes a lease longer on the same machines: a fill-or-kill bid, filled or cancelled."""
        name = client_order_id or secrets.token_hex(16)
        body = {"duration": duration, "max_price": max_price, "client_order_id": name}
        path = f"/v1/leases/{_part(lease_id)}/extension"
        return await self._call("POST", path, Bid, body=body)

    async def renew(self, lease_id: str, *, duration: str, max_price: str) -> Lease:
        """As its buyer, has a lease extended so an hour before it ends, and what it becomes likewise."""
        body = {"duration": duration, "max_price": max_price}
        return await self._call("PUT", f"/v1/leases/{_part(lease_id)}/renewal", Lease, body=body)

    async def stop_renewal(self, lease_id: str) -> Lease:
        """Switches that off."""
        return await self._call("DELETE", f"/v1/leases/{_part(lease_id)}/renewal", Lease)

    async def add_webhook(self, url: str, kinds: Sequence[str]) -> Webhook:
        """Be told of these kinds of events at that URL. This answer alone has the secret (`gateways.client.verify`)."""
        body = {"url": url, "kinds": kinds}
        return await self._call("POST", "/v1/webhooks", Webhook, body=body, repeatable=False)

    async def webhooks(self, *, limit: int = 100) -> list[Webhook]:
        """The account's webhooks, oldest first."""
        return await self._list("/v1/webhooks", Webhook, limit, {})

    async def remove_webhook(self, webhook_id: int) -> None:
        """It is told nothing more."""
        await self._remove(f"/v1/webhooks/{webhook_id}")

    async def deliveries(self, webhook_id: int, *, state: str | None = None, limit: int = 100) -> list[Delivery]:
        """What the webhook was told, or is to be, newest first."""
        return await self._list(f"/v1/webhooks/{webhook_id}/deliveries", Delivery, limit, {"state": state})

    async def replay_delivery(self, webhook_id: int, event_id: str) -> Delivery:
        """Sends the event again, under the same id."""
        return await self._call("POST", f"/v1/webhooks/{webhook_id}/deliveries/{_part(event_id)}/replay", Delivery)

    async def add_ssh_key(self, name: str, public_key: str) -> SshKey:
        """Keeps a line of a .pub file under a name, for bids to name it (`ssh_key`)."""
        return await self._call("POST", "/v1/ssh-keys", SshKey, body={"name": name, "public_key": public_key})

    async def ssh_keys(self) -> list[SshKey]:
        """The account's SSH public keys, by name."""
        return (await self._call("GET", "/v1/ssh-keys", _Page[SshKey])).items

    async def remove_ssh_key(self, name: str) -> None:
        """Bids can name it no longer."""
        await self._remove(f"/v1/ssh-keys/{_part(name)}")

    async def accept(self, lease_id: str) -> Lease:
        """Accepts the delivery of a lease."""
        return await self._call("POST", f"/v1/leases/{_part(lease_id)}/acceptance", Lease)

    async def degrade(self, lease_id: str, gpus: int, note: str) -> Lease:
        """As its supplier: so many GPUs of a lease do not work, from now on."""
        body = {"gpus": gpus, "note": note}
        return await self._call("POST", f"/v1/leases/{_part(lease_id)}/degradation", Lease, body=body)

    async def restore(self, lease_id: str) -> Lease:
        """As its supplier: all of a degraded lease works again."""
        return await self._call("DELETE", f"/v1/leases/{_part(lease_id)}/degradation", Lease)

    async def reclaim(self, lease_id: str) -> Lease:
        """As its supplier, takes an interruptible lease back: it ends when the notice is over, at `ends_at`."""
        return await self._call("POST", f"/v1/leases/{_part(lease_id)}/reclaim", Lease)

    async def end(self, lease_id: str) -> Lease:
        """As its buyer, ends a lease now: its rest is for sale again, and what the class refunds of it is back."""
        return await self._call("POST", f"/v1/leases/{_part(lease_id)}/end", Lease)

    async def report_usage(self, reports: Sequence[UsageReport]) -> list[UsageAnswer]:
        """Says what leases have used so far, at most 500 at once; each report is answered for itself."""
        answer = await self._call("POST", "/v1/usage", _UsageAnswers, body={"reports": reports})
        return answer.answers

    async def usage(self, lease_id: str, *, after: int | None = None, limit: int = 100) -> list[Usage]:
        """The newest accepted reports of a lease, or those after a number; oldest first."""
        path = f"/v1/leases/{_part(lease_id)}/usage"
        if after is not None:
            return await self._list(path, Usage, limit, {}, after=str(after))
        return (await self._list(path, Usage, MAX_USAGE, {}))[-limit:]

    async def usage_by_lease(
        self, *, role: str = "buyer", since: str | None = None, until: str | None = None, limit: int = 100
    ) -> list[LeaseUse]:
        """What own leases used in a time range (RFC 3339), closed ones too: the newest first."""
        query = {"by": "lease", "role": role, "from": since, "until": until}
        return await self._list("/v1/usage", LeaseUse, limit, query)

    async def usage_by_hour(
        self,
        lease_id: str | None = None,
        *,
        role: str = "buyer",
        since: str | None = None,
        until: str | None = None,
        limit: int = 1000,
    ) -> list[HourUse]:
        """What own leases, or the one, used in each hour of a time range (RFC 3339) in which they did, in order."""
        query = {"by": "hour", "role": role, "from": since, "until": until, "lease_id": lease_id}
        return (await self._list("/v1/usage", HourUse, limit, query))[:limit]

    async def refused_usage(self, lease_id: str | None = None, *, limit: int = 100) -> list[RefusedUsage]:
        """Reports of one's own, of a lease or of any, that had no effect, and why: the newest first."""
        return await self._list("/v1/usage/refused", RefusedUsage, limit, {"lease_id": lease_id})

    # Money, accounts and keys

    async def balance(self) -> Balance:
        """The account's money."""
        return await self._call("GET", "/v1/balance", Balance)

    async def account(self) -> Account:
        """The account of the key."""
        return await self._call("GET", "/v1/accounts/me", Account)

    async def accounts(self, *, limit: int = 100) -> list[Account]:
        """All accounts; for an admin."""
        return await self._list("/v1/accounts", Account, limit, {})

    async def create_account(self, /, name: str, *, scopes: Sequence[str] = (), **terms: Terms) -> Account:
        """Opens an account; with `scopes` it has a first key, whose secret is in `key`. For an admin."""
        body = {"name": name, "scopes": scopes, **terms}
        return await self._call("POST", "/v1/accounts", Account, body=body, repeatable=False)

    async def fees(self, *, limit: int = 100) -> list[Fee]:
        """What accounts of each tier pay, and from when on."""
        return await self._list("/v1/fees", Fee, limit, {})

    async def set_fee(self, tier: str, *, buyer_fee_bps: int, seller_fee_bps: int, since: str) -> Fee:
        """What a tier pays from `since` on, a minute ahead at least. For an admin."""
        body = {"buyer_fee_bps": buyer_fee_bps, "seller_fee_bps": seller_fee_bps, "since": since}
        return await self._call("PUT", f"/v1/fees/{_part(tier)}", Fee, body=body)

    async def set_tier(self, account_id: str, tier: str | None) -> Account:
        """Which tier's fees an account pays from now on; None: its own. For an admin."""
        return await self._call("PUT", f"/v1/accounts/{_part(account_id)}/tier", Account, body={"tier": tier})

    async def create_key(
        self,
        /,
        scopes: Sequence[str],
        *,
        label: str = "",
        account_id: str = "me",
        expires_at: str | None = None,
        addresses: Sequence[str] = (),
        public_key: str | None = None,
        **spender: str | None,
    ) -> Key:
        """Makes a key with scopes that this key has itself; its secret is in `key`. With a `public_key`, a line as
        `ssh-keygen -t ed25519` writes it, there is none: its holder signs (gateways.client.signing).

        It ends at `expires_at`, a moment like now+90d, and is taken from `addresses` (CIDR) alone, where these are
        said. `spender` says who spends with it: `team`, `user` or both, or `pool`.
        """
        terms = {"expires_at": expires_at, "addresses": addresses, "public_key": public_key}
        body = {"scopes": scopes, "label": label, **terms, **spender}
        return await self._call("POST", f"/v1/accounts/{_part(account_id)}/keys", Key, body=body, repeatable=False)

    async def keys(self, *, account_id: str = "me", limit: int = 100) -> list[Key]:
        """The account's keys, the oldest first and without their secrets; those too that have ended."""
        return await self._list(f"/v1/accounts/{_part(account_id)}/keys", Key, limit, {})

    async def rotate_key(
        self,
        key_id: int,
        *,
        overlap: str = "24h",
        expires_at: str | None = None,
        public_key: str | None = None,
        account_id: str = "me",
    ) -> Key:
        """Makes a key like that one, but for its secret, which is in `key`, or its public key, and maybe its end. The
        old one ends with the overlap."""
        path = f"/v1/accounts/{_part(account_id)}/keys/{key_id}/rotation"
        body = {"overlap": overlap, "expires_at": expires_at, "public_key": public_key}
        return await self._call("POST", path, Key, body=body, repeatable=False)

    async def revoke_key(self, key_id: int, *, account_id: str = "me") -> None:
        """Revokes a key."""
        await self._call("DELETE", f"/v1/accounts/{_part(account_id)}/keys/{key_id}", type(None))

    async def caps(self, kind: str, name: str) -> Caps:
        """What a team, user or pool (the `kind`) may cost at most, and does."""
        return await self._call("GET", f"/v1/{_part(kind)}s/{_part(name)}/caps", Caps)

    async def set_caps(self, kind: str, name: str, *, day: str | None = None, month: str | None = None) -> Caps:
        """Caps, in dollars, what a team, user or pool may cost in a UTC day and month, for orders to come. Both are set
        at once; None is no cap."""
        body = {"day": day, "month": month}
        return await self._call("PUT", f"/v1/{_part(kind)}s/{_part(name)}/caps", Caps, body=body)

    async def daily_credits(self) -> DailyCredits:
        """The account's daily credits."""
        return await self._call("GET", "/v1/daily-credits", DailyCredits)

    async def grant_daily(self, account_id: str, daily: str) -> DailyCredits:
        """Grants an account so many dollars of credits each UTC day from now on; 0: no more. For an admin."""
        path = f"/v1/accounts/{_part(account_id)}/daily-credits"
        return await self._call("PUT", path, DailyCredits, body={"daily": daily})

    async def spend(self, by: str, *, start: str | None = None, until: str | None = None) -> list[Spend]:
        """What each team, user, pool or class (`by`) was charged on the UTC days from `start` to before `until`, like
        2026-11-26; this month so far where they are absent."""
        return await self._list("/v1/spend", Spend, MAX_SPENDERS, {"by": by, "from": start, "until": until})

    async def deposit(self, account_id: str, amount: str, *, reference: str) -> Deposit:
        """Books money that came in from outside; the same reference again changes nothing. For an admin."""
        body = {"account_id": account_id, "amount": amount, "reference": reference}
        return await self._call("POST", "/v1/deposits", Deposit, body=body)

    async def deposits(self, *, limit: int = 100) -> list[Deposit]:
        """The account's deposits, newest first."""
        return await self._list("/v1/deposits", Deposit, limit, {})

    async def withdraw(self, amount: str, destination: str, *, reference: str, source: str = "cash") -> Withdrawal:
        """Asks for money to be paid out of the `cash` or the `receivable`; the same reference again changes nothing."""
        body = {"amount": amount, "destination": destination, "reference": reference, "source": source}
        return await self._call("POST", "/v1/withdrawals", Withdrawal, body=body)

    async def withdrawal(self, reference: str) -> Withdrawal:
        """An own withdrawal."""
        return await self._call("GET", f"/v1/withdrawals/{_part(reference)}", Withdrawal)

    async def withdrawals(self, *, state: str | None = None, limit: int = 100) -> list[Withdrawal]:
        """Own withdrawals, newest first."""
        return await self._list("/v1/withdrawals", Withdrawal, limit, {"state": state})

    async def outgoing(self, *, limit: int = 100) -> list[Withdrawal]:
        """What is on its way out, of all accounts, the oldest first. For an admin."""
        return await self._list("/v1/outgoing", Withdrawal, limit, {})

    async def set_withdrawal(
        self, account_id: str, reference: str, state: str, *, provider_reference: str = "", reason: str = ""
    ) -> Withdrawal:
        """Says what became of a withdrawal: `sent`, `settled` or `failed`. For an admin."""
        path = f"/v1/accounts/{_part(account_id)}/withdrawals/{_part(reference)}"
        body = {"state": state, "provider_reference": provider_reference, "reason": reason}
        return await self._call("PUT", path, Withdrawal, body=body)

    async def set_credit(self, account_id: str, credit: str) -> Balance:
        """How far the account's cash may go below 0; its balance then. For an admin."""
        return await self._call("PUT", f"/v1/accounts/{_part(account_id)}/credit", Balance, body={"credit": credit})

    async def entries(self, *, lease_id: str | None = None, limit: int = 100) -> list[Entry]:
        """The account's own entries, newest first; with `lease_id` those of that lease's escrow."""
        return await self._list("/v1/entries", Entry, limit, {"lease_id": lease_id})

    async def invoices(self, *, role: str = "buyer", limit: int = 12, account: str | None = None) -> list[InvoiceMonth]:
        """The account's months, newest first: invoices or, as `supplier`, statements of what it sold.

        Of another `account`, like acc_3, here and below: for a key with the scope audit or admin."""
        return await self._list("/v1/invoices", InvoiceMonth, limit, {"role": role, "account_id": account})

    async def invoice(
        self, month: str, *, role: str = "buyer", limit: int = MAX_LINES, account: str | None = None
    ) -> Invoice:
        """A month like 2026-11 with its first `limit` lines."""
        path, after = f"/v1/invoices/{_part(month)}", None
        lines: list[InvoiceLine] = []
        while True:
            query = {"role": role, "after": after, "limit": min(PAGE, limit - len(lines)), "account_id": account}
            found = await self._call("GET", path, Invoice, query=query)
            lines += found.lines
            after = found.next
            if after is None or len(lines) >= limit:
                return msgspec.structs.replace(found, lines=lines)

    async def invoice_file(self, month: str, kind: str, *, role: str = "buyer", account: str | None = None) -> bytes:
        """A month with all its lines as `csv`, or to read and print as `html`."""
        return await self._bytes(
            "GET", f"/v1/invoices/{_part(month)}/{_part(kind)}", {"role": role, "account_id": account}
        )

    async def correct(self, lease_id: str, gpu_ms: int, reason: str) -> list[Correction]:
        """As its supplier, says that a closed lease used less, `gpu_ms` in all; the lease's notes, the oldest first."""
        path, body = f"/v1/leases/{_part(lease_id)}/corrections", {"gpu_ms": gpu_ms, "reason": reason}
        return (await self._call("POST", path, _Page[Correction], body=body)).items

    async def correct_any(self, lease_id: str, gpu_ms: int, reason: str) -> list[Correction]:
        """Likewise of any closed lease, upwards too where the buyer's cash covers it. For an admin."""
        body = {"lease_id": lease_id, "gpu_ms": gpu_ms, "reason": reason}
        return (await self._call("POST", "/v1/corrections", _Page[Correction], body=body)).items

    async def corrections(self, lease_id: str) -> list[Correction]:
        """The credit and debit notes of an own lease, the oldest first."""
        path = f"/v1/leases/{_part(lease_id)}/corrections"
        return (await self._call("GET", path, _Page[Correction])).items

    async def focus(self, month: str, *, account: str | None = None) -> AsyncIterator[list[FocusRow]]:
        """What the account bought in a month like 2026-11 as rows of FOCUS 1.2, some hundred at a time."""
        after: str | None = None
        while True:
            query = {"month": month, "after": after, "limit": PAGE, "account_id": account}
            page = await self._call("GET", "/v1/focus", _Page[FocusRow], query=query)
            yield page.items
            after = page.next
            if after is None:
                return

    async def focus_csv(self, month: str, *, account: str | None = None) -> bytes:
        """All of it as a CSV file."""
        return await self._bytes("GET", "/v1/focus/csv", {"month": month, "account_id": account})

    # The market

    async def classes(self) -> list[Class]:
        """All classes, by name."""
        return (await self._call("GET", "/v1/classes", _Page[Class])).items

    async def create_class(
        self, /, class_id: str, *, accelerator: str, memory_gb: int, form_factor: str, **terms: Terms
    ) -> Class:
        """Opens a book for a new class; `terms`: further fields of POST /v1/classes. For an admin."""
        body = {
            "class": class_id,
            "accelerator": accelerator,
            "memory_gb": memory_gb,
            "form_factor": form_factor,
            **terms,
        }
        return await self._call("POST", "/v1/classes", Class, body=body, repeatable=False)

    async def change_class(self, /, class_id: str, **terms: Terms) -> Class:
        """New terms for orders to come, by their names in PATCH /v1/classes; the others stay. For an admin."""
        return await self._call("PATCH", f"/v1/classes/{_part(class_id)}", Class, body=terms)

    async def retire_class(self, class_id: str) -> Class:
        """Closes a class's book for ever, if it is not closed yet: its orders are cancelled. For an admin."""
        try:
            return await self._call("DELETE", f"/v1/classes/{_part(class_id)}", Class)
        except ExchangeError as error:
            if error.code != "class_retired":  # it may have been this very call, whose answer was lost
                raise
            return next(each for each in await self.classes() if each.class_id == class_id)

    async def set_reference(self, class_id: str, price: str) -> Reference:
        """Sets the price around which a class's band lies. For an admin."""
        return await self._call("PUT", f"/v1/classes/{_part(class_id)}/reference", Reference, body={"price": price})

    async def halt(self, mode: str, class_id: str | None = None) -> list[ClassHalt]:
        """Halts (`full`, `no_new`) or resumes (`none`) a class, or all: how each is then. For an admin."""
        return (await self._call("PUT", "/v1/halt", _Halts, body={"mode": mode, "class": class_id})).classes

    async def kill(self, account_id: str, *, on: bool) -> Kill:
        """The kill switch: on ends all open orders of the account, and refuses what it sends. For an admin."""
        return await self._call("PUT", f"/v1/accounts/{_part(account_id)}/kill", Kill, body={"on": on})

    async def set_limits(
        self, account_id: str, *, open_orders: int = 0, notional: str = "0", quantity: int = 0
    ) -> Limits:
        """What the account may have at most; 0 is no limit. For an admin."""
        body = {"open_orders": open_orders, "notional": notional, "quantity": quantity}
        return await self._call("PUT", f"/v1/accounts/{_part(account_id)}/limits", Limits, body=body)

    async def cancel_everybody(self, class_id: str | None = None) -> AllCancelled:
        """Ends what is unsold of all open orders of every account, in one class or in all. For an admin."""
        return await self._call("DELETE", "/v1/orders/of-everybody", AllCancelled, query={"class": class_id})

    async def standing(self, account_id: str | None = None) -> Standing:
        """The account's kill switch, limits and dead man's switch; of another one for an admin."""
        path = "/v1/standing" if account_id is None else f"/v1/accounts/{_part(account_id)}/standing"
        return await self._call("GET", path, Standing)

    async def book(self, class_id: str, *, start: str = "now", duration: str = "1h", levels: int = 10) -> Book:
        """A class's book for one delivery window."""
        query = {"start": start, "duration": duration, "levels": levels}
        return await self._call("GET", f"/v1/book/{_part(class_id)}", Book, query=query)

    async def offers(self, class_id: str, *, start: str = "now", duration: str = "1h", limit: int = 100) -> Offers:
        """What of a class is for sale over one delivery window, by where and how: the cheapest `limit`."""
        query = {"start": start, "duration": duration, "limit": limit}
        return await self._call("GET", f"/v1/offers/{_part(class_id)}", Offers, query=query)

    async def candles(
        self, class_id: str, interval: str = "1h", *, before: str | None = None, limit: int = 200
    ) -> list[Candle]:
        """What traded in each interval, the newest `limit` of them, oldest first."""
        query = {"interval": interval, "before": before, "limit": limit}
        return (await self._call("GET", f"/v1/candles/{_part(class_id)}", _Page[Candle], query=query)).items

    async def tickers(self) -> list[Ticker]:
        """What each class last traded at, and its last 24 hours."""
        return (await self._call("GET", "/v1/tickers", _Page[Ticker])).items

    async def watch(
        self, /, channel: str, class_id: str | None = None, *, after: int | None = None, **fields: str
    ) -> AsyncGenerator[Message, None]:
        """A channel of the stream (gateways/README.md): the whole first, then every change, for as long as one likes.

        A lost connection is made anew, and the channel goes on where it was. `after` is the number of the last fill
        that is known already, of the channel `fills`.
        """
        named = {"channel": channel, "class": class_id, **fields}
        said = {name: value for name, value in named.items() if value is not None}
        assert self._http is not None, "use it as `async with Exchange(…) as cx`"
        try:
            url = URL(f"{self._url}/v1/stream")
            async for message in stream.watch(self._http, url, said, after, lambda: self._signed("GET", url, b"")):
                yield message
        except stream.StreamError as error:
            raise ExchangeError(error.code, error.message, field=error.field) from None

    async def depth(self, class_id: str, window: str = "24h") -> AsyncIterator[Depth]:
        """The class's book for windows of that length from now on (1h, 24h, 7d, 30d), after every change."""
        while True:
            book = stream.DepthBook()
            async with contextlib.aclosing(self.watch("depth", class_id, window=window)) as messages:
                async for message in messages:
                    depth = book.take(message)
                    if depth is None:
                        break  # its checksum is another: from the beginning
                    yield depth

    async def lease_changes(self) -> AsyncIterator[LeaseChange]:
        """What becomes of the account's leases, as buyer and as supplier: first those that are not closed as they are,
        then every change. After a lost connection it goes on where it was."""
        states = stream.LeaseStates()
        async with contextlib.aclosing(self.watch("leases")) as messages:
            async for message in messages:
                for change in states.take(message):
                    yield change

    async def status(self) -> Status:
        """How the exchange is."""
        return await self._call("GET", "/v1/status", Status)

    async def openapi(self) -> bytes:
        """What the API says of itself: OpenAPI 3.1 as JSON."""
        return await self._bytes("GET", "/v1/openapi.json")

    async def suppliers(
        self, *, since: str | None = None, until: str | None = None, limit: int = 100
    ) -> list[SupplierRecord]:
        """The records of who has sold, by account: of leases that closed in the time range, else the last 90 days."""
        return await self._list("/v1/suppliers", SupplierRecord, limit, {"since": since, "until": until})

    async def supplier_record(
        self, account_id: str, *, since: str | None = None, until: str | None = None
    ) -> SupplierRecord:
        """Likewise of one."""
        path = f"/v1/suppliers/{_part(account_id)}/record"
        return await self._call("GET", path, SupplierRecord, query={"since": since, "until": until})

    async def audit(self) -> AuditStatus:
        """Where the audit stands that goes on all the time, and what it found; for an admin."""
        return await self._call("GET", "/v1/audit", AuditStatus)

    @overload
    def fills(self, order: Order) -> AsyncIterator[OrderFill]: ...

    @overload
    def fills(
        self, order: None = None, *, class_id: str | None = None, after: str = "end", follow: bool = True
    ) -> AsyncIterator[Fill]: ...

    def fills(
        self, order: Order | None = None, *, class_id: str | None = None, after: str = "end", follow: bool = True
    ) -> AsyncIterator[OrderFill] | AsyncIterator[Fill]:
        """The fills of an own order, as they happen, until it has ended; or the public ones of the market.

        The public ones begin `after` a cursor, `start` or `end` and, unless `follow` is False, never end.
        """
        return self._fills_of(order) if order is not None else self._public_fills(class_id, after, follow)

    async def _fills_of(self, order: Order) -> AsyncIterator[OrderFill]:
        assert order.order_id is not None, "an order that was answered has an id"
        path, seen = f"/v1/orders/{_part(order.order_id)}", set[str]()
        if order.fills is None:
            order = await self.order(order.order_id)
        while True:
            for fill in order.fills or []:
                if fill.fill_id not in seen:
                    seen.add(fill.fill_id)
                    yield fill
            if order.status not in ("open", "sent"):
                return
            order = await self._waited(path, Order, {"filled": order.filled, "wait_s": LONG_POLL_S})

    async def _public_fills(self, class_id: str | None, after: str, follow: bool) -> AsyncIterator[Fill]:
        last: dict[str, int] = {}
        while True:
            query = {"class": class_id, "after": after, "limit": PAGE, "wait_s": LONG_POLL_S if follow else 0}
            read = self._waited if follow else self._read
            page = await read("/v1/fills", _Page[Fill], query)
            for fill in page.items:
                if fill.number > last.get(fill.class_id, 0):  # one may come twice
                    last[fill.class_id] = fill.number
                    yield fill
            if not page.items and not follow:
                return
            after = page.next or after

    async def _read(self, path: str, kind: Any, query: Mapping[str, Any]) -> Any:
        return await self._call("GET", path, kind, query=query)

    async def _waited(self, path: str, kind: Any, query: Mapping[str, Any]) -> Any:
        """Likewise for who waits for news anyway: an exchange that is away is asked until it is there again."""
        while True:
            try:
                return await self._read(path, kind, query)
            except ExchangeError as error:
                if error.status is not None and error.status not in _TRY_AGAIN:
                    raise
                await asyncio.sleep(_pause_s(MAX_ATTEMPTS))

    async def _many(self, path: str, items: Sequence[Mapping[str, Terms]]) -> list[Order | ExchangeError]:
        """An answer for each; those that the exchange could not answer yet are sent again."""
        found: dict[int, Order | ExchangeError] = {}
        for attempt in range(1, MAX_ATTEMPTS + 1):
            open_ones = [place for place in range(len(items)) if place not in found or _may_change(found[place])]
            if attempt > 1 and open_ones:
                await asyncio.sleep(_pause_s(attempt))
            for first in range(0, len(open_ones), PAGE):
                places = open_ones[first : first + PAGE]
                body = {"orders": [items[place] for place in places]}
                answers = (await self._call("POST", path, _OrderAnswers, body=body)).answers
                found |= {place: _outcome(answer) for place, answer in zip(places, answers, strict=True)}
        return [found[place] for place in range(len(items))]

    async def _remove(self, path: str) -> None:
        """Where the answer to the first attempt was lost, what is not there any more is what that removed."""
        await self._bytes("DELETE", path, gone_is_done=True)

    async def _order(self, method: str, path: str, query: Mapping[str, Any] | None = None) -> Order:
        return _orders.decode(await self._call(method, path, msgspec.Raw, query=query))

    async def _list(
        self, path: str, kind: Any, limit: int, query: Mapping[str, Any], *, after: str | None = None
    ) -> list[Any]:
        found: list[Any] = []
        while True:
            paging = {"limit": min(PAGE, limit - len(found)), "after": after}
            page = await self._call("GET", path, _Page[kind], query={**query, **paging})
            found += page.items
            after = page.next
            if after is None or len(found) >= limit:
                return found

    async def _call(
        self,
        method: str,
        path: str,
        kind: type[Result],
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        repeatable: bool = True,
    ) -> Result:
        """The answer as a `kind`; sent again where that is safe. Raises ExchangeError."""
        value = await self._bytes(method, path, query, body, repeatable=repeatable)
        return msgspec.json.decode(value or b"null", type=kind)

    async def _bytes(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        *,
        repeatable: bool = True,
        gone_is_done: bool = False,
    ) -> bytes:
        attempt, unknown = 0, False
        while True:
            attempt += 1
            pause_s = _pause_s(attempt)
            try:
                status, wait_s, value = await self._send(method, path, query, body)
            except (aiohttp.ClientError, TimeoutError) as error:
                not_sent = isinstance(error, aiohttp.ClientConnectorError)
                unknown = unknown or not not_sent
                if not (repeatable or not_sent) or attempt == MAX_ATTEMPTS:
                    raise ExchangeError("unreachable", f"{self._url} cannot be reached: {_reason(error)}") from error
            else:
                if status < 400:
                    return value
                if unknown and status == 404 and gone_is_done:
                    return b""
                if status not in (_TRY_AGAIN if repeatable else _NOTHING_DONE) or attempt == MAX_ATTEMPTS:
                    raise _error(status, value)
                pause_s = max(pause_s, min(MAX_PAUSE_S, wait_s))
            await asyncio.sleep(pause_s)

    async def _send(
        self, method: str, path: str, query: Mapping[str, Any] | None, body: Any
    ) -> tuple[int, float, bytes]:
        """Status, seconds to wait before another attempt, body."""
        assert self._http is not None, "use it as `async with Exchange(…) as cx`"
        asked = {name: str(value) for name, value in (query or {}).items() if value is not None}
        url = URL(self._url + path).extend_query(asked)
        data = b"" if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        headers |= self._signed(method, url, data)
        async with self._http.request(method, url, data=data or None, headers=headers) as response:
            wait = response.headers.get("Retry-After", "0")
            return response.status, float(wait) if wait.isdecimal() else 0.0, await response.read()

    def _signed(self, method: str, url: URL, body: bytes) -> Mapping[str, str]:
        return {} if self._signer is None else self._signer.headers(method, url.raw_path_qs, body)


async def _told(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """aiohttp sends some requests again by itself, unsaid and with the signature that was used: here it does not."""
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientError(_reason(error)) from error


def _bid(
    class_id: str, quantity: int, price: str, duration: str, min_fill: int, terms: Mapping[str, Terms]
) -> dict[str, Terms]:
    """The body of POST /v1/bids."""
    return {
        "class": class_id,
        "quantity": quantity,
        "price": price,
        "duration": duration,
        "min_fill": min_fill,
        "client_order_id": secrets.token_hex(16),
        **terms,
    }


def _ask(class_id: str, quantity: int, price: str, end: str, terms: Mapping[str, Terms]) -> dict[str, Terms]:
    """The body of POST /v1/asks."""
    return {
        "class": class_id,
        "quantity": quantity,
        "price": price,
        "end": end,
        "client_order_id": secrets.token_hex(16),
        **terms,
    }


class _Page(Struct, Generic[Result]):
    items: list[Result]
    next: str | None


class _Halts(Struct):
    classes: list[ClassHalt]


class _UsageAnswers(Struct):
    answers: list[UsageAnswer]


class _ErrorBody(Refusal):
    request_id: str


class _OrderAnswer(Struct):
    status: int
    order: Order | None
    error: _ErrorBody | None


class _OrderAnswers(Struct):
    answers: list[_OrderAnswer]


class _ErrorAnswer(Struct):
    error: _ErrorBody


def _error(status: int, value: bytes) -> ExchangeError:
    try:
        error = msgspec.json.decode(value, type=_ErrorAnswer).error
    except msgspec.MsgspecError:
        return ExchangeError("unexpected", f"an answer {status} that is not the exchange's", status=status)
    return _refusal(status, error)


def _refusal(status: int, error: _ErrorBody) -> ExchangeError:
    return ExchangeError(error.code, error.message, field=error.field, status=status, request_id=error.request_id)


def _outcome(answer: _OrderAnswer) -> Order | ExchangeError:
    if answer.order is not None:
        return answer.order
    assert answer.error is not None, "an answer has an order, or says why not"
    return _refusal(answer.status, answer.error)


def _may_change(outcome: Order | ExchangeError) -> bool:
    """Whether the same sent again may have another answer."""
    return isinstance(outcome, ExchangeError) and outcome.status in _TRY_AGAIN


def _pause_s(attempt: int) -> float:
    """Before what follows that attempt."""
    return min(MAX_PAUSE_S, FIRST_PAUSE_S * (1 << attempt)) * random.uniform(0.5, 1.0)


def _part(text: str) -> str:
    """As a part of a path."""
    return quote(text, safe="")


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
