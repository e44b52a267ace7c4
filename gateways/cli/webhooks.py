"""`cx webhooks`: your own server is told what happens to your orders, leases and withdrawals."""

from typing import Literal

import cyclopts

from gateways.cli.access import HERE, Access, run
from gateways.cli.show import show, show_one
from gateways.client import Exchange
from gateways.client.types import Delivery

app = cyclopts.App(name="webhooks", help="Have your own server told what happens.")


@app.command
def add(url: str, /, *kinds: str, access: Access = HERE) -> None:
    """Have a server told from now on; what signs the events is shown once.

    Parameters
    ----------
    url
        https, at a public address
    kinds
        of events, like lease.sold lease.closed order.filled fill.made withdrawal.settled
    """

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.add_webhook(url, kinds), access)

    run(call, access)


@app.command(name="list")
def list_webhooks(*, access: Access = HERE) -> None:
    """List your webhooks."""

    async def call(exchange: Exchange) -> None:
        found = await exchange.webhooks()
        rows = ((str(each.webhook_id), each.url, " ".join(each.kinds), each.created_at) for each in found)
        show(found, ("webhook", "url", "kinds", "created"), rows, access)

    run(call, access)


@app.command
def remove(webhook_id: int, /, *, access: Access = HERE) -> None:
    """It is told nothing more, not even what waits."""

    async def call(exchange: Exchange) -> None:
        await exchange.remove_webhook(webhook_id)

    run(call, access)


@app.command
def deliveries(
    webhook_id: int,
    /,
    *,
    state: Literal["waiting", "delivered", "dead"] | None = None,
    limit: int = 50,
    access: Access = HERE,
) -> None:
    """List what a webhook was told, or is to be, newest first.

    Parameters
    ----------
    state
        waiting, delivered, dead
    """

    async def call(exchange: Exchange) -> None:
        found = await exchange.deliveries(webhook_id, state=state, limit=limit)
        columns = ("event", "kind", "happened", "state", "attempts", "next attempt", "last error")
        show(found, columns, map(_row, found), access)

    run(call, access)


@app.command
def replay(webhook_id: int, event_id: str, /, *, access: Access = HERE) -> None:
    """Send an event again, under the same id.

    Parameters
    ----------
    webhook_id
        see `cx webhooks list`
    event_id
        see `cx webhooks deliveries`
    """

    async def call(exchange: Exchange) -> None:
        delivery = await exchange.replay_delivery(webhook_id, event_id)
        show(
            [delivery],
            ("event", "kind", "happened", "state", "attempts", "next attempt", "last error"),
            [_row(delivery)],
            access,
        )

    run(call, access)


def _row(delivery: Delivery) -> tuple[str, ...]:
    return (
        delivery.event_id,
        delivery.kind,
        delivery.happened_at,
        delivery.state,
        str(delivery.attempts),
        delivery.next_attempt_at or "",
        delivery.error,
    )
