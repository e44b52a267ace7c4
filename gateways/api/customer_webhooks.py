"""Routes of webhooks: where an account wants to be told what, what was sent there, and to send it again."""

import base64
import re
import secrets
from typing import Annotated

from litestar import delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta

from gateways.api import resources, terms
from gateways.api.errors import ApiError, invalid
from gateways.api.keys import Keys, must_be_unbound, shown
from gateways.api.requests import ApiRequest
from gateways.api.routes import Limit
from gateways.api.vault import Vault
from gateways.client.webhooks import PREFIX
from gateways.webhooks.deliverer import seal_of
from gateways.webhooks.target import MAX_URL, Targets
from schemas.log import Log
from schemas.store import ApiKey, Scope, Store
from schemas.units import format_time
from schemas.webhooks import Delivery, DeliveryState, EventKind, Webhook

MAX_WEBHOOKS = 10
"""Of an account."""
SECRET_BYTES = 32
_EVENT = re.compile(resources.EVENT_ID)
_STATES = {state.value: state for state in DeliveryState}


class NewWebhook(resources.Request):
    """Where you want to be told what."""

    url: Annotated[str, Meta(max_length=MAX_URL, examples=["https://example.com/exchange"])]
    """https, at a public address, without redirects."""
    kinds: Annotated[list[EventKind], Meta(min_length=1, max_length=100, examples=[["lease.sold", "lease.closed"]])]


class ShownWebhook(resources.Answer):
    """Where the account is told what."""

    webhook_id: int
    url: str
    kinds: list[EventKind]
    created_at: resources.Time
    secret: str | None = None
    """What signs the events: in the answer that made it alone."""


class ShownDelivery(resources.Answer):
    """An event on its way to a webhook, or there. Attempts and their times are by the exchange's wall clock."""

    event_id: str
    """The header `webhook-id`: the same at every attempt and replay."""
    webhook_id: int
    kind: EventKind
    happened_at: resources.Time
    state: DeliveryState
    attempts: int
    status: int | None
    """Of the last answer."""
    error: str
    """Why the last attempt failed."""
    next_attempt_at: resources.Time | None
    done_at: resources.Time | None
    body: str
    """What is sent, byte by byte."""


def customer_webhook_routes(
    store: Store, keys: Keys, vault: Vault, log: Log, *, private: bool
) -> list[HTTPRouteHandler]:
    """With `private`, receivers may have http and addresses that are not public."""
    targets = Targets(private)

    @post("/v1/webhooks", **keys.door(Scope.READ, 409))
    async def add_webhook(request: ApiRequest, data: JSONBody[NewWebhook]) -> ShownWebhook:
        """Be told of these kinds of events from now on, at this URL, signed with the secret in this answer alone.

        Needs a key that may trade or supply as well, and that is bound to no team, user or pool.
        """
        must_rule(request.user)
        if (problem := targets.problem(data.url)) is not None:
            raise invalid("url", problem)
        account = request.user.account.id
        secret = PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
        made = await store.webhooks.add(
            account,
            url=data.url,
            kinds=[kind for kind in EventKind if kind in data.kinds],
            secret=vault.seal(secret, seal_of(account)),
            now=log.now(),
            most=MAX_WEBHOOKS,
        )
        if made is None:
            raise ApiError(409, "too_many_webhooks", f"the account has {MAX_WEBHOOKS} webhooks: remove one", "url")
        return shown_webhook(made, secret)

    @get("/v1/webhooks", **keys.door(Scope.READ))
    async def list_webhooks(
        request: ApiRequest, after: FromQuery[int] = 0, limit: Limit = 100
    ) -> resources.Page[ShownWebhook]:
        """The account's webhooks, oldest first."""
        account = request.user.account.id
        found = await store.webhooks.of(account, after=after, limit=limit)
        return resources.Page(
            [shown_webhook(each) for each in found], str(found[-1].id) if len(found) == limit else None
        )

    @delete("/v1/webhooks/{webhook_id:str}", **keys.door(Scope.READ, 404))
    async def remove_webhook(request: ApiRequest, webhook_id: FromPath[int]) -> None:
        """It is told nothing more, not even what waits. Needs what adding one needs."""
        must_rule(request.user)
        if not await store.webhooks.remove(request.user.account.id, webhook_id):
            raise no_webhook(webhook_id)

    @get("/v1/webhooks/{webhook_id:str}/deliveries", **keys.door(Scope.READ, 404))
    async def list_deliveries(
        request: ApiRequest,
        webhook_id: FromPath[int],
        state_name: Annotated[str | None, QueryParameter(name="state")] = None,
        after: FromQuery[str | None] = None,
        limit: Limit = 100,
    ) -> resources.Page[ShownDelivery]:
        """What the webhook was told, or is to be, newest first: for 30 days. `state` is waiting, delivered or dead."""
        found = await store.webhooks.deliveries(
            request.user.account.id,
            webhook_id,
            state=None if state_name is None else terms.choice("state", _STATES, state_name),
            before=None if after is None else terms.parsed("after", parse_event_id, after),
            limit=limit,
        )
        if found is None:
            raise no_webhook(webhook_id)
        last = format_event_id(found[-1].event) if len(found) == limit else None
        return resources.Page([shown_delivery(each) for each in found], last)

    @post(
        "/v1/webhooks/{webhook_id:str}/deliveries/{event_id:str}/replay",
        status_code=200,
        **keys.door(Scope.READ, 404),
    )
    async def replay(request: ApiRequest, webhook_id: FromPath[int], event_id: FromPath[str]) -> ShownDelivery:
        """Send it again under the same id, with all attempts anew. Needs what adding one needs."""
        must_rule(request.user)
        event = terms.parsed("event_id", parse_event_id, event_id)
        found = await store.webhooks.replay(request.user.account.id, webhook_id, event)
        if found is None:
            raise ApiError(404, "not_found", f"your webhook {webhook_id} has no delivery {event_id}", "event_id")
        return shown_delivery(found)

    return [add_webhook, list_webhooks, remove_webhook, list_deliveries, replay]


def must_rule(key: ApiKey) -> None:
    """Raises ApiError 403: a key that only looks neither hears for ever, once it is revoked, nor silences."""
    if not key.scopes & {Scope.TRADE, Scope.SUPPLY}:
        raise ApiError(403, "missing_scope", f"this needs a key with the scope trade or supply: yours has {shown(key)}")
    must_be_unbound(key, "webhooks tell of the whole account, so they are made and removed")


def no_webhook(webhook: int) -> ApiError:
    return ApiError(404, "not_found", f"you have no webhook {webhook}: see the list of your webhooks", "webhook_id")


def format_event_id(event: int) -> str:
    return f"evt_{event}"


def parse_event_id(text: str) -> int:
    """Raises ValueError."""
    if not _EVENT.fullmatch(text):
        raise ValueError("an event's id is like evt_17")
    return int(text.removeprefix("evt_"))


def shown_webhook(webhook: Webhook, secret: str | None = None) -> ShownWebhook:
    return ShownWebhook(webhook.id, webhook.url, list(webhook.kinds), format_time(webhook.created_at), secret)


def shown_delivery(delivery: Delivery) -> ShownDelivery:
    return ShownDelivery(
        event_id=format_event_id(delivery.event),
        webhook_id=delivery.webhook,
        kind=delivery.kind,
        happened_at=format_time(delivery.at),
        state=delivery.state,
        attempts=delivery.attempts,
        status=delivery.status,
        error=delivery.error,
        next_attempt_at=format_time(delivery.due_at) if delivery.state is DeliveryState.WAITING else None,
        done_at=None if delivery.done_at is None else format_time(delivery.done_at),
        body=delivery.body,
    )
