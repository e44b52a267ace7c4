"""`cx` for what happens to a lease after its sale: it degrades, goes on, or ends."""

from typing import Annotated

from cyclopts import Parameter

from gateways.cli.access import HERE, USAGE, Access, fail, run
from gateways.cli.show import show_one
from gateways.client import Exchange

ForOption = Annotated[str, Parameter(name="--for")]
MaxOption = Annotated[str, Parameter(name="--max")]


def lease(lease_id: str, /, *, access: Access = HERE) -> None:
    """Show a lease: its terms, how it stands, and why it closed."""

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.lease(lease_id), access)

    run(call, access)


def end(lease_id: str, /, *, access: Access = HERE) -> None:
    """As its buyer, end a lease now: its rest is for sale again, and what the class refunds of it is yours again."""

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.end(lease_id), access)

    run(call, access)


def degrade(lease_id: str, gpus: int, note: str, /, *, access: Access = HERE) -> None:
    """As its supplier, say that some GPUs of a lease do not work.

    Parameters
    ----------
    gpus
        how many
    note
        what is wrong, for the buyer
    """

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.degrade(lease_id, gpus, note), access)

    run(call, access)


def restore(lease_id: str, /, *, access: Access = HERE) -> None:
    """As its supplier, say that all of a degraded lease works again."""

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.restore(lease_id), access)

    run(call, access)


def reclaim(lease_id: str, /, *, access: Access = HERE) -> None:
    """As its supplier, take an interruptible lease back: it ends when the notice of its ask is over."""

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.reclaim(lease_id), access)

    run(call, access)


def extend(lease_id: str, /, *, for_: ForOption, max_: MaxOption, id: str | None = None, access: Access = HERE) -> None:
    """As its buyer, make a lease longer on the same machines, if they are free: all of them, or nothing changes.

    Parameters
    ----------
    for_
        how much longer, like 24h
    max_
        dollars per GPU-hour at the most; it costs what the ask says
    id
        your own name for the order: with it, sending it again is safe
    """

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.extend(lease_id, duration=for_, max_price=max_, client_order_id=id), access)

    run(call, access)


def renew(
    lease_id: str,
    /,
    *,
    for_: ForOption | None = None,
    max_: MaxOption | None = None,
    off: bool = False,
    access: Access = HERE,
) -> None:
    """As its buyer, have a lease extended an hour before it ends, again and again, or with --off no longer.

    Parameters
    ----------
    for_
        how much longer each time, like 24h
    max_
        dollars per GPU-hour at the most
    """
    if off != (for_ is None) or off != (max_ is None):
        fail("say --for and --max, or --off", USAGE)

    async def call(exchange: Exchange) -> None:
        if for_ is None or max_ is None:
            show_one(await exchange.stop_renewal(lease_id), access)
        else:
            show_one(await exchange.renew(lease_id, duration=for_, max_price=max_), access)

    run(call, access)
