"""`cx admin`: what the exchange's own people do to it while it runs. Each can be said again without harm."""

from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter

from gateways.cli.access import HERE, USAGE, Access, fail, run
from gateways.cli.invoices import show_corrections
from gateways.cli.payments import show_fees, show_withdrawals
from gateways.cli.show import show, show_one
from gateways.client import Exchange

FromOption = Annotated[str, Parameter(name="--from")]

app = cyclopts.App(name="admin", help="Halts, limits and classes: for the exchange's own people.")


@app.command
def correct(lease_id: str, gpu_ms: int, reason: str, /, *, access: Access = HERE) -> None:
    """Say what a closed lease used: a credit note, or a debit note that its buyer's cash must cover.

    Parameters
    ----------
    gpu_ms
        what it used in all: GPUs x milliseconds
    reason
        for both sides
    """

    async def call(exchange: Exchange) -> None:
        show_corrections(await exchange.correct_any(lease_id, gpu_ms, reason), access)

    run(call, access)


@app.command
def halt(class_: str | None = None, /, *, all: bool = False, cancels: bool = False, access: Access = HERE) -> None:
    """Halt a class, or --all: nothing trades, and no order is taken, amended or cancelled.

    Parameters
    ----------
    class_
        like H100-SXM-80GB
    all
        every class
    cancels
        go on taking cancels, and amends to fewer GPUs
    """
    _halt("no_new" if cancels else "full", class_, all, access)


@app.command
def resume(class_: str | None = None, /, *, all: bool = False, access: Access = HERE) -> None:
    """Let a class, or --all, trade again. One that stays halted has much to match: resume it again.

    Parameters
    ----------
    class_
        like H100-SXM-80GB
    all
        every class
    """
    _halt("none", class_, all, access)


def _halt(mode: str, class_id: str | None, all: bool, access: Access) -> None:
    if (class_id is None) != all:
        fail("say which: a class, or --all", USAGE)

    async def call(exchange: Exchange) -> None:
        found = await exchange.halt(mode, class_id)
        show(found, ("class", "halt"), ((each.class_id, each.mode) for each in found), access)

    run(call, access)


@app.command
def kill(account_id: str, /, *, access: Access = HERE) -> None:
    """Cancel all open orders of an account, and refuse what it sends until `cx admin revive`. Leases stay."""
    _kill(account_id, True, access)


@app.command
def revive(account_id: str, /, *, access: Access = HERE) -> None:
    """Switch an account's kill switch off. Nothing comes back."""
    _kill(account_id, False, access)


def _kill(account_id: str, on: bool, access: Access) -> None:
    async def call(exchange: Exchange) -> None:
        show_one(await exchange.kill(account_id, on=on), access)

    run(call, access)


@app.command
def standing(account_id: str, /, *, access: Access = HERE) -> None:
    """Show whether an account's kill switch is on, what limits it has, and when its dead man's switch acts."""

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.standing(account_id), access)

    run(call, access)


@app.command
def cancel(class_: str | None = None, /, *, all: bool = False, access: Access = HERE) -> None:
    """Cancel the open orders of every account in a class, or --all, whatever is halted. Leases stay.

    Parameters
    ----------
    class_
        like H100-SXM-80GB
    all
        in every class
    """
    if (class_ is None) != all:
        fail("say which: a class, or --all", USAGE)

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.cancel_everybody(class_), access)

    run(call, access)


@app.command
def limits(
    account_id: str,
    /,
    *,
    orders: int = 0,
    notional: str = "0",
    gpus: int = 0,
    access: Access = HERE,
) -> None:
    """Limit what an account may have, for orders to come. All limits are set at once; 0 is none.

    Parameters
    ----------
    orders
        open orders
    notional
        dollars that its open orders can cost or bring in; needs --orders, too
    gpus
        in one order
    """

    async def call(exchange: Exchange) -> None:
        found = await exchange.set_limits(account_id, open_orders=orders, notional=notional, quantity=gpus)
        show_one(found, access)

    run(call, access)


@app.command
def daily_credits(account_id: str, daily: str, /, *, access: Access = HERE) -> None:
    """Grant an account dollars of credits each UTC day from now on, spent before its cash; 0: no more."""

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.grant_daily(account_id, daily), access)

    run(call, access)


@app.command
def reference(class_: str, price: str, /, *, access: Access = HERE) -> None:
    """Set the price around which a class's band lies. Orders that stand stay."""

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.set_reference(class_, price), access)

    run(call, access)


@app.command(name="change-class")
def change_class(
    class_: str,
    /,
    *,
    tick: str | None = None,
    max_price: str | None = None,
    max_quantity: int | None = None,
    delivery_due: str | None = None,
    acceptance: str | None = None,
    grace: str | None = None,
    band_bps: int | None = None,
    refund_bps: int | None = None,
    sla: str | None = None,
    reclaim_credit_bps: int | None = None,
    access: Access = HERE,
) -> None:
    """Give a class new terms, for orders to come. What is not said stays.

    Parameters
    ----------
    delivery_due
        a lease that is not delivered for so long is void, like 15m
    acceptance
        silence for so long after delivery is acceptance, like 10m
    grace
        late usage counts for so long, like 72h
    band_bps
        how far from the reference price an order's may be, in basis points; 0 is no band
    refund_bps
        what goes back of the unused rest of a lease that its buyer ends early, in basis points; 10000 is all
    sla
        what goes back of a lease's cost by its uptime, in basis points: 9990:1000,9900:2500 is a tenth below 99.9%, and
        a quarter below 99%; none is nothing
    reclaim_credit_bps
        what goes back, of what the rest of a lease that its supplier reclaims would have cost, in basis points
    """
    terms: dict[str, Any] = {
        "tick": tick,
        "max_price": max_price,
        "max_quantity": max_quantity,
        "delivery_due": delivery_due,
        "acceptance": acceptance,
        "grace": grace,
        "band_bps": band_bps,
        "refund_bps": refund_bps,
        "sla": None if sla is None else _sla(sla),
        "reclaim_credit_bps": reclaim_credit_bps,
    }
    stated = {name: term for name, term in terms.items() if term is not None}
    if not stated:
        fail("say what is to change: see cx admin change-class --help", USAGE)

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.change_class(class_, **stated), access)

    run(call, access)


def _sla(text: str) -> list[dict[str, int]]:
    steps = [step.split(":") for step in text.split(",")] if text != "none" else []
    if any(len(step) != 2 or not all(part.isdecimal() for part in step) for step in steps):
        fail(f"{text} is no sla: write it like 9990:1000,9900:2500, or none", USAGE)
    return [{"below_bps": int(below), "credit_bps": int(credit)} for below, credit in steps]


@app.command
def retire(class_: str, /, *, access: Access = HERE) -> None:
    """Close a class's book for ever: its orders are cancelled, its leases stay, its name is not used again."""

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.retire_class(class_), access)

    run(call, access)


@app.command
def outgoing(*, limit: int = 50, access: Access = HERE) -> None:
    """List what is on its way out, of all accounts, the oldest first."""

    async def call(exchange: Exchange) -> None:
        show_withdrawals(await exchange.outgoing(limit=limit), access)

    run(call, access)


@app.command
def paid(
    account_id: str,
    reference: str,
    state: Literal["sent", "settled", "failed"],
    /,
    *,
    provider_reference: str = "",
    reason: str = "",
    access: Access = HERE,
) -> None:
    """Say what became of a withdrawal: sent to the provider, settled, or failed, and then its money is back.

    Parameters
    ----------
    reference
        the account's own, as `cx admin outgoing` shows it
    provider_reference
        the payment's, at the provider
    reason
        why it failed, for the account
    """

    async def call(exchange: Exchange) -> None:
        said = {"provider_reference": provider_reference, "reason": reason}
        show_one(await exchange.set_withdrawal(account_id, reference, state, **said), access)

    run(call, access)


@app.command
def fee(tier: str, /, *, buyer_bps: int, seller_bps: int, from_: FromOption, access: Access = HERE) -> None:
    """Set what accounts of a tier pay, for orders placed from then on. What is in force already stays as it was.

    Parameters
    ----------
    buyer_bps
        basis points of the cost, on top of it
    seller_bps
        basis points of the cost, out of what the supplier earns
    from_
        a moment (RFC 3339, or like now+24h), a minute ahead at least
    """

    async def call(exchange: Exchange) -> None:
        made = await exchange.set_fee(tier, buyer_fee_bps=buyer_bps, seller_fee_bps=seller_bps, since=from_)
        show_fees([made], access)

    run(call, access)


@app.command
def tier(account_id: str, tier: str | None = None, /, *, access: Access = HERE) -> None:
    """Set which tier's fees an account pays, for orders to come. Without a tier: those of the account itself."""

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.set_tier(account_id, tier), access)

    run(call, access)


@app.command
def credit(account_id: str, credit: str, /, *, access: Access = HERE) -> None:
    """Set how far an account's cash may go below 0, for orders to come; 0 is not at all.

    Parameters
    ----------
    credit
        dollars, like 5000; no less than the account uses now
    """

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.set_credit(account_id, credit), access)

    run(call, access)
