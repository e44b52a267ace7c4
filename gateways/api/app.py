"""The HTTP API of an exchange: its parts, and the Litestar application over them."""

import asyncio
from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from gateways.api.audit import audit_routes
from gateways.api.batches import batch_routes
from gateways.api.controls import Controls
from gateways.api.corrections import correction_routes
from gateways.api.customer_webhooks import customer_webhook_routes
from gateways.api.direct import Application
from gateways.api.doors import Doors
from gateways.api.errors import answer
from gateways.api.fees import fee_routes
from gateways.api.fills import FillsFeed
from gateways.api.instructions import Clerk
from gateways.api.invoices import invoice_routes
from gateways.api.key_routes import key_routes
from gateways.api.keys import Keys
from gateways.api.leases import lease_routes, ssh_routes
from gateways.api.limits import USUAL, Rates
from gateways.api.market import Checks, Classes
from gateways.api.orders import Desk
from gateways.api.parameters import hold_to_their_forms
from gateways.api.payments import payment_routes
from gateways.api.previews import preview_routes
from gateways.api.replies import Replies
from gateways.api.requests import ApiRequest
from gateways.api.routes import (
    account_routes,
    control_routes,
    market_routes,
    order_routes,
    tape_routes,
)
from gateways.api.socket import USUAL as USUAL_STREAMS
from gateways.api.socket import Bounds, Connections, stream_routes
from gateways.api.spending import spending_routes
from gateways.api.stream import Stream
from gateways.api.suppliers import supplier_routes
from gateways.api.turns import Turns
from gateways.api.usage import usage_routes
from gateways.api.vault import Vault
from gateways.api.webhook import webhook_routes
from gateways.web.routes import page_routes
from schemas.book import Previews, Standings
from schemas.log import Log
from schemas.store import Network, Store
from schemas.tape import Tape
from schemas.topics import COMMANDS

MAX_BODY_BYTES = 1_000_000
MAX_IN_FLIGHT = 2_000
ANSWER_TIMEOUT_S = 5.0


class Exchange:
    """What the API's routes stand on: a service like the others, to be `ready` before the first request is taken."""

    def __init__(
        self,
        *,
        log: Log,
        store: Store,
        books: Previews,
        standings: Standings,
        tape: Tape,
        vault: Vault,
        checks: Checks,
        registry: CollectorRegistry,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        max_in_flight: int = MAX_IN_FLIGHT,
        access_log: bool = False,
        payment_secrets: tuple[bytes, ...] = (),
        trusted_proxies: Sequence[Network] = (),
        rates: Rates = USUAL,
        private_webhooks: bool = False,
        streams: Bounds = USUAL_STREAMS,
    ) -> None:
        self.ready = asyncio.Event()
        self.payment_secrets = payment_secrets
        self.answer_timeout_s = answer_timeout_s
        self.private_webhooks = private_webhooks
        self.vault = vault
        self.log = log
        self.store = store
        self.books = books
        self.tape = tape
        self.registry = registry
        self.keys = Keys(store, log.now, trusted_proxies, rates)
        self.doors = Doors(registry, Turns(max_in_flight), self.keys.party, access_log=access_log)
        self.replies = [Replies(log, partition) for partition in range(log.partitions(COMMANDS))]
        self.feed = FillsFeed(log)
        self.classes = Classes(log, store, self.replies, checks, answer_timeout_s)
        self.desk = Desk(log, store, self.replies, self.classes, checks, answer_timeout_s)
        self.controls = Controls(log, store, standings, self.replies, self.classes, answer_timeout_s)
        self.clerk = Clerk(log, store, vault, answer_timeout_s)
        self.stream = Stream(
            store=store, books=books, tape=tape, classes=self.classes, replies=self.replies, now=log.now
        )
        self.connections = Connections(self.stream, self.keys, registry, streams)

    async def run(self) -> None:
        """Follows the log until cancelled; raises where the log is damaged or gone (crash-only)."""
        followers: list[Replies | FillsFeed] = [*self.replies, self.feed]
        for follower in followers:
            await follower.start()
        async with asyncio.TaskGroup() as group:
            for follower in followers:
                group.create_task(follower.run())
            group.create_task(self.stream.run())
            group.create_task(self.connections.run())
            self.ready.set()


def create_app(exchange: Exchange) -> Application:
    """The application; serve it once the exchange is `ready`."""
    log, store, keys, replies = exchange.log, exchange.store, exchange.keys, exchange.replies
    return Application(
        [
            *account_routes(log, store, keys, exchange.clerk, replies),
            *key_routes(log, store, keys),
            *market_routes(
                log, store, keys, exchange.classes, exchange.books, exchange.feed, replies, exchange.registry
            ),
            *order_routes(store, keys, exchange.desk, exchange.controls, replies),
            *batch_routes(keys, exchange.desk),
            *preview_routes(store, keys, exchange.desk, exchange.books, exchange.answer_timeout_s),
            *control_routes(keys, exchange.controls),
            *usage_routes(store, keys, exchange.clerk, replies),
            *payment_routes(store, keys, exchange.clerk, replies),
            *webhook_routes(exchange.clerk, exchange.payment_secrets),
            *customer_webhook_routes(store, keys, exchange.vault, log, private=exchange.private_webhooks),
            *spending_routes(log, store, keys, exchange.clerk, replies),
            *invoice_routes(store, keys, replies),
            *correction_routes(store, keys, exchange.clerk, replies),
            *audit_routes(store, keys),
            *fee_routes(log, store, keys),
            *supplier_routes(log, store),
            *lease_routes(store, keys, exchange.desk, exchange.clerk, replies),
            *ssh_routes(store, keys, log),
            *tape_routes(exchange.classes, exchange.tape, log),
            *stream_routes(exchange.connections),
            *page_routes(),
        ],
        keys,
        exchange.doors,
        request_class=ApiRequest,
        request_max_body_size=MAX_BODY_BYTES,
        middleware=[exchange.doors.middleware],
        before_request=hold_to_their_forms,
        exception_handlers={Exception: answer},
        logging_config=None,
        openapi_config=None,  # document.py says it
    )
