"""Tells customers' servers what settlement wrote down for them: at least once each, signed, again where it failed.

One deliverer of a database is at work, by a lock. What was sent and not written down before a crash is sent again with
the same id. A receiver has a few requests under way at once and no more, and rests when it fails: so one that is slow
or dead takes nothing from the others.
"""

import asyncio
import time
from collections import Counter as Count
from typing import NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver
from prometheus_client import CollectorRegistry, Counter

from gateways.api.vault import Vault, VaultError
from gateways.client.webhooks import decoded, signature
from gateways.webhooks.names import Names
from gateways.webhooks.target import PUBLIC_ALONE, Targets
from schemas.ids import format_account_id
from schemas.webhooks import Attempt, Deliveries, DeliveryState, DueDelivery, Webhooks

MAX_EACH = 4
"""Requests to one webhook at once."""
MAX_UNDER_WAY = 800
"""Requests at once, of all."""
MAX_ERROR = 200
NAME_TTL_S = 10
"""Requests to one name share its look-up for so long."""
KEEP_DAYS = 30
TIDY_S = 60.0
MAX_TIDIED = 1_000
HOUR_MS = 3_600_000

Key = tuple[int, int]
"""(webhook, event)."""


class Pace(NamedTuple):
    """When a failed delivery is tried again. As it stands: after 5 s, 20 s, 80 s, … 4 h: twelve times in 22 hours."""

    first_pause_ms: int = 5_000
    factor: int = 4
    max_pause_ms: int = 4 * HOUR_MS
    max_attempts: int = 12
    """Then it is dead."""
    max_rest_ms: int = 60_000
    """Of a receiver that fails, whatever is due for it."""
    timeout_s: float = 10.0
    """Of one attempt, name and connection included."""
    poll_s: float = 1.0

    def pause_ms(self, attempts: int) -> int:
        """After so many."""
        return int(min(self.max_pause_ms, self.first_pause_ms * self.factor ** (attempts - 1)))


USUAL = Pace()


class Deliverer:
    """A service like the others."""

    def __init__(
        self,
        webhooks: Webhooks,
        vault: Vault,
        registry: CollectorRegistry,
        *,
        targets: Targets = PUBLIC_ALONE,
        pace: Pace = USUAL,
        names: AbstractResolver | None = None,
    ) -> None:
        self.ready = asyncio.Event()
        self._webhooks = webhooks
        self._vault = vault
        self._targets = targets
        self._pace = pace
        self._names = names or Names()
        self._under_way: dict[Key, asyncio.Task[Attempt]] = {}
        self._rests: dict[int, tuple[int, float]] = {}
        """Webhook -> (failures in a row, until when it rests by the loop's clock)."""
        self._attempts = Counter("webhook_attempts", "Attempts to tell a webhook", ["outcome"], registry=registry)

    async def run(self) -> None:
        """Delivers until cancelled. Raises StoreError where the database is away; starting again is the recovery."""
        self.ready.set()  # nobody waits for it, and it may stand by for long
        async with self._webhooks.delivering() as deliveries, self._client() as http:
            try:
                await self._deliver(deliveries, http)
            finally:
                for task in self._under_way.values():
                    task.cancel()
                await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    def _client(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                socket_factory=self._targets.open_socket,  # whatever a cached name says
                resolver=self._names,
                ttl_dns_cache=NAME_TTL_S,
                limit=0,  # MAX_UNDER_WAY and MAX_EACH are the limits
            ),
            timeout=aiohttp.ClientTimeout(total=self._pace.timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def _deliver(self, deliveries: Deliveries, http: aiohttp.ClientSession) -> None:
        tidied = 0.0
        while True:
            await self._write_down(deliveries)
            await self._start(deliveries, http)
            if time.monotonic() - tidied > TIDY_S:
                await deliveries.tidy(keep_days=KEEP_DAYS, limit=MAX_TIDIED)
                tidied = time.monotonic()
            await deliveries.wait(self._pace.poll_s)

    async def _write_down(self, deliveries: Deliveries) -> None:
        done = {key: task.result() for key, task in self._under_way.items() if task.done()}
        if not done:
            return
        await deliveries.save(list(done.values()))
        for key, attempt in done.items():
            del self._under_way[key]
            self._rest(attempt)
            failed = "dead" if attempt.state is DeliveryState.DEAD else "failed"
            self._attempts.labels("delivered" if attempt.state is DeliveryState.DELIVERED else failed).inc()

    def _rest(self, attempt: Attempt) -> None:
        if attempt.state is DeliveryState.DELIVERED:
            self._rests.pop(attempt.webhook, None)
            return
        failures, until = self._rests.get(attempt.webhook, (0, 0.0))
        now = asyncio.get_running_loop().time()
        if until <= now:  # else it failed beside the one for which it rests
            rest_ms = min(self._pace.max_rest_ms, self._pace.first_pause_ms << min(failures, 16))
            self._rests[attempt.webhook] = failures + 1, now + rest_ms / 1000

    async def _start(self, deliveries: Deliveries, http: aiohttp.ClientSession) -> None:
        now = asyncio.get_running_loop().time()
        each = Count(webhook for webhook, _ in self._under_way)
        busy = {webhook for webhook, count in each.items() if count >= MAX_EACH}
        busy |= {webhook for webhook, (_, until) in self._rests.items() if until > now}
        if len(self._under_way) >= MAX_UNDER_WAY:
            return
        for due in await deliveries.due(busy=sorted(busy), each=MAX_EACH, limit=MAX_UNDER_WAY):
            key = due.webhook, due.event
            if key in self._under_way or each[due.webhook] >= MAX_EACH or len(self._under_way) >= MAX_UNDER_WAY:
                continue
            each[due.webhook] += 1
            self._under_way[key] = task = asyncio.create_task(self._attempt(http, due))
            task.add_done_callback(deliveries.wake)

    async def _attempt(self, http: aiohttp.ClientSession, due: DueDelivery) -> Attempt:
        status, error = None, ""
        try:
            status = await self._post(http, due)
        except TimeoutError:
            error = f"no answer within {self._pace.timeout_s:g} s"
        except (aiohttp.ClientError, OSError, ValueError, VaultError) as problem:
            error = str(problem) or type(problem).__name__
        else:
            if 200 <= status < 300:
                return Attempt(due.webhook, due.event, DeliveryState.DELIVERED, 0, status, "")
            error = f"answered {status}" + (", and redirects are not followed" if 300 <= status < 400 else "")
        attempts = due.attempts + 1
        state = DeliveryState.DEAD if attempts >= self._pace.max_attempts else DeliveryState.WAITING
        pause_ms = self._pace.pause_ms(attempts)
        return Attempt(due.webhook, due.event, state, pause_ms, status, error.replace("\0", "")[:MAX_ERROR])

    async def _post(self, http: aiohttp.ClientSession, due: DueDelivery) -> int:
        """The status of the answer, whose body is not read."""
        secret = decoded(self._vault.open(due.secret, seal_of(due.account)))
        event_id, timestamp, body = f"evt_{due.event}", str(int(time.time())), due.body.encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "compute-exchange",
            "webhook-id": event_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": signature(secret, event_id, timestamp, body),
        }
        async with http.post(due.url, data=body, headers=headers, allow_redirects=False) as answer:
            return answer.status


def seal_of(account: int) -> str:
    """For whom the secrets of an account's webhooks are sealed (`Vault`)."""
    return f"webhooks of {format_account_id(account)}"
