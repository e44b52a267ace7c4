"""`cx` for what happens to a lease after its sale: it degrades, goes on, or ends."""

from gateways.cli.commands import HERE, Access, run, show_one
from gateways.client import Exchange


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
