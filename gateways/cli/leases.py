"""`cx` for leases, from their sale on: they are handed over, degrade, go on, or end."""

from collections.abc import Container, Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter
from cyclopts.types import ExistingFile

from gateways.cli.access import HERE, USAGE, Access, fail, run
from gateways.cli.show import print_json, print_row, show, show_one, show_order, timed
from gateways.client import Exchange
from gateways.client.types import Lease, LeaseChange

ForOption = Annotated[str, Parameter(name="--for")]
MaxOption = Annotated[str, Parameter(name="--max")]


def leases(
    *,
    as_: Annotated[Literal["buyer", "supplier"], Parameter(name="--as")] = "buyer",
    state: str | None = None,
    class_: Annotated[str | None, Parameter(name="--class")] = None,
    follow: bool = False,
    limit: int = 50,
    access: Access = HERE,
) -> None:
    """List your leases, newest first.

    Parameters
    ----------
    as_
        buyer or supplier
    state
        pending_delivery, delivered, active, degraded, reclaiming, ended, closed; several with commas
    follow
        print what becomes of them, a line each, until Ctrl-C: first those that are not closed, as they are. With --json
        one JSON object a line
    """

    async def call(exchange: Exchange) -> None:
        if follow:
            wanted = {"role": {as_}} | ({"state": {*state.split(",")}} if state else {})
            await _follow(exchange, wanted | ({"class_id": {class_}} if class_ else {}), access)
            return
        found = await exchange.leases(role=as_, state=state, class_id=class_, limit=limit)
        money = "charged $" if as_ == "buyer" else "earned $"
        columns = ("lease", "class", "GPUs", "$/GPU-h", "from", "until", "state", money, "connection")
        show(found, columns, (_row(each) for each in found), access)

    run(call, access)


def lease(lease_id: str, /, *, access: Access = HERE) -> None:
    """Show a lease: its terms, how it stands, and why it closed."""

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.lease(lease_id), access)

    run(call, access)


def deliver(
    lease_id: str,
    connection: str,
    /,
    *,
    gpu: list[str] | None = None,
    proof: ExistingFile | None = None,
    access: Access = HERE,
) -> None:
    """As its supplier, hand a lease's machines over: how to reach them, for the buyer alone.

    Parameters
    ----------
    gpu
        the name of a GPU, like its UUID: say all of the lease's, or none; no GPU is in two leases at one time
    proof
        file of what shows that they can be reached, for both sides
    """
    shown = proof.read_text() if proof is not None else ""

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.deliver(lease_id, connection, gpus=gpu or (), proof=shown), access)

    run(call, access)


def accept(lease_id: str, /, *, access: Access = HERE) -> None:
    """As its buyer, accept a delivery: billing starts, though never before the lease does."""

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.accept(lease_id), access)

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
        your own name for the order, without a slash: with it, sending it again is safe
    """

    async def call(exchange: Exchange) -> None:
        show_order(await exchange.extend(lease_id, duration=for_, max_price=max_, client_order_id=id), access)

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


def _row(lease: Lease) -> Sequence[str]:
    state = f"{lease.state} ({lease.close_reason})" if lease.close_reason else lease.state
    money = lease.charged if lease.charged is not None else lease.earned
    window = lease.start, lease.ends_at or lease.end
    return (
        lease.lease_id,
        lease.class_id,
        str(lease.quantity),
        lease.price,
        *window,
        state,
        money or "",
        lease.connection or "",
    )


async def _follow(exchange: Exchange, wanted: Mapping[str, Container[str]], access: Access) -> None:
    """Of each change that has one of the `wanted` values in each field, a line."""
    if access.csv:
        print_row(field.encode_name for field in msgspec.structs.fields(LeaseChange))
    async for change in exchange.lease_changes():
        if all(getattr(change, name) in values for name, values in wanted.items()):
            _tell(change, access)


def _tell(change: LeaseChange, access: Access) -> None:
    if access.json:
        print_json(change)
    elif access.csv:
        print_row(msgspec.to_builtins(change).values())
    else:
        what = f"{change.lease_id:<10} {change.event or change.state:<16} {change.quantity:>4} x {change.class_id}"
        window = f"{change.start} to {change.end}"
        why = f", {change.close_reason}" if change.close_reason else ""
        print(timed(f"{change.time:<24}  {what} at {change.price} $/GPU-h  {window}{why}", access), flush=True)
