"""`cx spend`, `cx caps` and `cx daily-credits`: what teams, users and pools of your account spend, and may."""

from typing import Annotated, Literal

import cyclopts
from cyclopts import Parameter

from gateways.cli.access import HERE, Access, run
from gateways.cli.show import show, show_one
from gateways.client import Exchange

Kind = Literal["team", "user", "pool"]

app = cyclopts.App(name="caps", help="What teams, users and pools of your account may spend.")


def spend(
    *,
    by: Literal["team", "user", "pool", "class"],
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    until: str | None = None,
    access: Access = HERE,
) -> None:
    """Show what each team, user, pool or class was charged: this month so far, or on other days (UTC).

    Parameters
    ----------
    by
        team, user, pool or class
    from_
        the first day, like 2026-11-01
    until
        the first day that does not count
    """

    async def call(exchange: Exchange) -> None:
        found = await exchange.spend(by, start=from_, until=until)
        rows = ((each.name or "none", each.charged, each.committed or "") for each in found)
        show(found, (by, "charged $", "committed $"), rows, access)

    run(call, access)


def daily_credits(*, access: Access = HERE) -> None:
    """Show your credits of the day: charges take from them first, and what is left lapses at 00:00 UTC."""

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.daily_credits(), access)

    run(call, access)


@app.command(name="show")
def show_caps(kind: Kind, name: str, /, *, access: Access = HERE) -> None:
    """Show what a team, user or pool may spend in a day and a month, and does."""

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.caps(kind, name), access)

    run(call, access)


@app.command(name="set")
def set_caps(
    kind: Kind, name: str, /, *, day: str | None = None, month: str | None = None, access: Access = HERE
) -> None:
    """Cap what a team, user or pool may spend, for orders to come. Both caps are set at once; one not said is none.

    Parameters
    ----------
    day
        dollars in a day (UTC): spent, and what its open orders and leases can still cost
    month
        likewise in a month
    """

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.set_caps(kind, name, day=day, month=month), access)

    run(call, access)
