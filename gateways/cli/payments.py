"""`cx` for an account's money: what came in, what goes out, and every entry between."""

from collections.abc import Sequence
from typing import Annotated, Literal

from cyclopts import Parameter

from gateways.cli.access import HERE, Access, run
from gateways.cli.show import show, show_one
from gateways.client import Exchange
from gateways.client.types import Fee, Withdrawal


def withdraw(
    amount: str,
    /,
    *,
    to: str,
    reference: str,
    source: Annotated[Literal["cash", "receivable"], Parameter(name="--from")] = "cash",
    access: Access = HERE,
) -> None:
    """Ask for money to be paid out. Needs a key with the scope withdraw.

    Parameters
    ----------
    amount
        dollars, like 250 or 99.50
    to
        where to, as agreed with the exchange
    reference
        your own name for it: with it, sending it again is safe
    source
        cash, or receivable: what you earned as a supplier
    """

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.withdraw(amount, to, reference=reference, source=source), access)

    run(call, access)


def withdrawals(*, state: str | None = None, limit: int = 50, access: Access = HERE) -> None:
    """List your withdrawals, newest first.

    Parameters
    ----------
    state
        requested, sent, settled, failed
    """

    async def call(exchange: Exchange) -> None:
        show_withdrawals(await exchange.withdrawals(state=state, limit=limit), access)

    run(call, access)


def deposits(*, limit: int = 50, access: Access = HERE) -> None:
    """List your deposits, newest first."""

    async def call(exchange: Exchange) -> None:
        found = await exchange.deposits(limit=limit)
        show(found, ("made", "reference", "$"), ((d.made_at or "", d.reference, d.amount) for d in found), access)

    run(call, access)


def entries(*, lease: str | None = None, limit: int = 50, access: Access = HERE) -> None:
    """List what every transaction did to your money, newest first.

    Parameters
    ----------
    lease
        instead, what the escrow of this lease paid, charge by charge
    """

    async def call(exchange: Exchange) -> None:
        found = await exchange.entries(lease_id=lease, limit=limit)
        rows = ((e.time, e.reference, e.ledger_account, e.amount, e.balance) for e in found)
        show(found, ("time", "reference", "of", "$", "then $"), rows, access)

    run(call, access)


def show_withdrawals(found: Sequence[Withdrawal], access: Access) -> None:
    rows = (
        (w.requested_at, w.account_id, w.reference, w.amount, w.source, w.destination, _state(w), w.provider_reference)
        for w in found
    )
    columns = ("requested", "account", "reference", "$", "from", "to", "state", "provider's")
    show(found, columns, rows, access)


def _state(found: Withdrawal) -> str:
    return f"{found.state} ({found.reason})" if found.reason else found.state


def fees(*, limit: int = 100, access: Access = HERE) -> None:
    """List what each tier of accounts pays, and from when on."""

    async def call(exchange: Exchange) -> None:
        show_fees(await exchange.fees(limit=limit), access)

    run(call, access)


def show_fees(found: Sequence[Fee], access: Access) -> None:
    rows = ((fee.tier, fee.since, str(fee.buyer_fee_bps), str(fee.seller_fee_bps)) for fee in found)
    show(found, ("tier", "from", "buyer's bps", "seller's bps"), rows, access)
