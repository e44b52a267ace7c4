"""The list and the book brought together: what the exchange has is read, and a plan is carried out.

Nothing is half done: each row is taken or refused for itself, all of it is safe to send again, and a plan is made anew
from what the exchange says. So after an error, a crash or a lost answer the next run does what is left. An ask's name
is its row's with the number of its life, so a row whose answer was lost finds the ask that it placed, and never places
another beside it.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from msgspec import Struct

from gateways.client import Exchange, ExchangeError
from gateways.client.types import Ask, Order
from gateways.supply.plan import Change, Market, Plan, Post, Withdrawal, client_order_id, named
from schemas.units import parse_time, parse_usd

AT_ONCE = 8
"""Requests under way at the same time."""
MANY = 100
"""Orders placed or cancelled in one request."""
MAX_ASKS = MAX_LEASES = 50_000
RUNNING = "pending_delivery,delivered,active,degraded,reclaiming"
LIST_NAME = re.compile(r"[A-Za-z0-9._-]{1,24}", re.ASCII)
_LIVES = ("open", "sent")

_NO_USE_TO_GO_ON = {None, 401, 403}
"""Statuses that every further step would meet, too."""

Step = Withdrawal | Change | Post
Progress = Callable[[int, int], None]
Item = TypeVar("Item")
Result = TypeVar("Result")


def _silent(done: int, total: int) -> None:
    """For who does not look."""


class Done(Struct, frozen=True):
    """What became of one step: `refused` says why it was not taken, and is empty where it was."""

    step: Step
    refused: str = ""


class Outcome(Struct, frozen=True):
    """What became of a plan."""

    done: Sequence[Done]
    unsent: Sequence[Step] = ()
    """What was not tried, after what `stopped` says."""
    stopped: str = ""

    @property
    def went_well(self) -> bool:
        return not self.stopped and not any(done.refused for done in self.done)


async def ticks(exchange: Exchange) -> dict[str, int]:
    """Of each class that takes orders, its tick in µ$."""
    return {found.class_id: parse_usd(found.tick) for found in await exchange.classes() if not found.retired}


async def market(exchange: Exchange, list_name: str) -> Market:
    """What the exchange has of the list."""
    now = parse_time((await exchange.status()).time)
    orders = await exchange.orders(status="open", side="ask", limit=MAX_ASKS)
    asks = [order for order in orders if isinstance(order, Ask) and named(list_name, order.client_order_id)]
    running: Counter[str] = Counter()
    for lease in await exchange.leases(role="supplier", state=RUNNING, limit=MAX_LEASES):
        if lease.role == "supplier":  # of what one sold to oneself one is shown as the buyer
            running[lease.order_id] += lease.quantity
    gone = sorted(running.keys() - {order.order_id for order in orders})
    leased: Counter[str] = Counter()
    for order in await _each(gone, exchange.order):
        if (row := named(list_name, order.client_order_id)) is not None:
            leased[row.key] += running[order.order_id or ""]
    return Market(now=now, asks=asks, leased=leased, leased_live=running)


async def carry_out(exchange: Exchange, plan: Plan, list_name: str, on_done: Progress = _silent) -> Outcome:
    """Sends a plan, what takes off the market first; what replaces an ask is left to the plan after this one.

    `on_done` is told how many of all steps are done.
    """
    steps: list[Step] = [*plan.withdrawals, *plan.changes, *(post for post in plan.posts if not post.replaces)]
    done: list[Done] = []
    for kind in (Withdrawal, Change, Post):
        of_kind = [step for step in steps if isinstance(step, kind)]
        size = AT_ONCE if kind is Change else MANY
        for first in range(0, len(of_kind), size):
            batch = of_kind[first : first + size]
            errors = await _sent(exchange, batch, list_name)
            done += [Done(step, str(error) if error else "") for step, error in zip(batch, errors, strict=True)]
            on_done(len(done), len(steps))
            stopped = next((error for error in errors if error and error.status in _NO_USE_TO_GO_ON), None)
            if stopped is not None:
                tried = {id(each.step) for each in done}
                return Outcome(done, [step for step in steps if id(step) not in tried], str(stopped))
    return Outcome(done)


async def _sent(exchange: Exchange, steps: Sequence[Step], list_name: str) -> list[ExchangeError | None]:
    """Steps of one kind; of each why it was not taken, if it was not."""
    try:
        withdrawn = [step.ask.order_id or "" for step in steps if isinstance(step, Withdrawal)]
        posts = [step for step in steps if isinstance(step, Post)]
        numbers = await _each(posts, lambda post: _next_life(exchange, list_name, post.offer.key))
        asks = [
            {**post.terms, "side": "ask", "client_order_id": client_order_id(list_name, post.offer.key, number)}
            for post, number in zip(posts, numbers, strict=True)
        ]
        outcomes = [
            *await exchange.cancel_many(withdrawn),
            *await _each([step for step in steps if isinstance(step, Change)], partial(_amend, exchange)),
            *await exchange.place_many(asks),
        ]
    except ExchangeError as error:
        return [error] * len(steps)
    return [outcome if isinstance(outcome, ExchangeError) else None for outcome in outcomes]


async def _amend(exchange: Exchange, change: Change) -> Order | ExchangeError:
    try:
        return await exchange.amend(change.ask.order_id or "", **change.terms)
    except ExchangeError as error:
        return error


async def _next_life(exchange: Exchange, list_name: str, key: str) -> int:
    """The number of the row's next ask: lives are numbered from 1 without gaps, so the last is found by halving.

    An ask that lives already, or whose answer is not known, keeps its number: placing it again places nothing.
    """
    used, free = 0, 1
    while await _life(exchange, list_name, key, free) is not None:
        used, free = free, free * 2
    while free - used > 1:
        middle = (used + free) // 2
        if await _life(exchange, list_name, key, middle) is None:
            free = middle
        else:
            used = middle
    return used if used and await _life(exchange, list_name, key, used) in _LIVES else free


async def _life(exchange: Exchange, list_name: str, key: str, number: int) -> str | None:
    """The status of the row's ask with that number; None where there was none."""
    try:
        return (await exchange.order_named(client_order_id(list_name, key, number))).status
    except ExchangeError as error:
        if error.status == 404:
            return None
        raise


async def _each(items: Sequence[Item], call: Callable[[Item], Awaitable[Result]]) -> list[Result]:
    """What each call gives, in order, a few at a time."""
    found: list[Result] = []
    for first in range(0, len(items), AT_ONCE):
        found += await asyncio.gather(*(call(item) for item in items[first : first + AT_ONCE]))
    return found
