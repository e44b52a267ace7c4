"""What there is to do so that the book is equal to the list: the difference between the offers and one's own live asks.

Pure. Whether an ask is the list's own is told by its client_order_id, `supply:LIST:KEY:N`: the N-th ask of the row with
that key. Other asks of the account are left alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from gateways.client.types import Ask
from gateways.supply.inventory import Inventory, Offer, Quarantined
from schemas.attributes import name_of
from schemas.units import GRID_MS, format_duration, format_time, format_usd, parse_duration, parse_time, parse_usd

PREFIX = "supply"
RENEW_AT = 2
"""An offer without an end is put off again when less than the horizon divided by this is left of it."""


class Named(Struct, frozen=True):
    """Which ask of which row an ask is."""

    key: str
    number: int


class Market(Struct, frozen=True):
    """What the exchange has of a list."""

    now: int
    """ms, by the exchange's clock."""
    asks: Sequence[Ask]
    """The list's own that live."""
    leased: Mapping[str, int] = {}
    """Of a row's key, GPUs still leased from earlier asks of it that no longer live."""
    leased_live: Mapping[str, int] = {}
    """Of the id of an ask that lives, GPUs leased from it."""


class Post(Struct, frozen=True):
    """An ask to place."""

    offer: Offer
    quantity: int
    terms: dict[str, Any]
    """By their names in POST /v1/asks, but for the client_order_id."""
    replaces: bool = False
    """An ask of another class has to go first, and what is leased from it by then is not offered again."""


class Change(Struct, frozen=True):
    """An ask to amend: the new terms, by their names in PATCH /v1/orders."""

    offer: Offer
    ask: Ask
    terms: dict[str, Any]


class Withdrawal(Struct, frozen=True):
    """An ask to cancel."""

    ask: Ask
    reason: str


class Plan(Struct, frozen=True):
    """All of it. In order, as it is carried out: what is withdrawn, what changes, what is new."""

    withdrawals: Sequence[Withdrawal]
    changes: Sequence[Change]
    posts: Sequence[Post]
    unchanged: Sequence[Ask]
    held_back: Sequence[Quarantined]
    """Offers that are in order and yet cannot stand now."""
    live_gpus: int
    less_gpus: int
    """Of those, how many fewer will be on offer: rows that go, and rows that shrink."""

    @property
    def is_empty(self) -> bool:
        return not (self.withdrawals or self.changes or self.posts)


def plan(inventory: Inventory, market: Market, horizon_ms: int) -> Plan:
    """`horizon_ms`: for how long what has no end is offered, from now on."""
    live: dict[str, Ask] = {}
    withdrawals: list[Withdrawal] = []
    for ask in sorted(market.asks, key=_number):
        key = _named(ask).key
        if key in live:
            withdrawals.append(Withdrawal(ask, "there is an older ask of the same row"))
        else:
            live[key] = ask
    changes: list[Change] = []
    posts: list[Post] = []
    unchanged: list[Ask] = []
    held_back: list[Quarantined] = []
    let_be = {each.key for each in inventory.quarantined} | {each.key for each in inventory.wrong}
    kept = set(let_be)
    for offer in inventory.offers:
        kept.add(offer.key)
        mine = live.get(offer.key)
        quantity = (offer.quantity - market.leased.get(offer.key, 0)) // offer.lot * offer.lot
        reason = _cannot_stand(offer, quantity, market.now)
        if reason:
            held_back.append(Quarantined(offer.where, offer.key, offer.name, reason, ""))
            if mine is not None and (quantity <= 0 or parse_time(mine.end) != offer.end):
                withdrawals.append(Withdrawal(mine, reason))
            elif mine is not None:
                unchanged.append(mine)  # which ends by itself at that time
        elif mine is None:
            posts.append(Post(offer, quantity, _terms(offer, quantity, horizon_ms)))
        elif mine.class_id != offer.class_id:
            withdrawals.append(Withdrawal(mine, f"the row is {offer.class_id} now"))
            left = quantity - market.leased_live.get(mine.order_id or "", 0)
            posts.append(Post(offer, left, _terms(offer, left, horizon_ms), replaces=True))
        elif terms := _difference(offer, quantity, mine, market.now, horizon_ms):
            changes.append(Change(offer, mine, terms))
        else:
            unchanged.append(mine)
    withdrawals += [Withdrawal(ask, "the list has no such row") for key, ask in live.items() if key not in kept]
    after = {post.offer.key: post.quantity for post in posts}
    after |= {change.offer.key: change.terms.get("quantity", change.ask.quantity) for change in changes}
    after |= {_named(ask).key: ask.quantity for ask in unchanged}
    after |= {key: live[key].quantity for key in let_be & live.keys()}
    return Plan(
        withdrawals=withdrawals,
        changes=changes,
        posts=posts,
        unchanged=unchanged,
        held_back=held_back,
        live_gpus=sum(ask.quantity for ask in market.asks),
        less_gpus=sum(max(0, ask.quantity - after.get(key, 0)) for key, ask in live.items()),
    )


def too_much(plan: Plan, percent: int) -> str:
    """Why the plan takes too much off the market to be carried out unasked; empty where it does not."""
    if plan.less_gpus * 100 <= plan.live_gpus * percent:
        return ""
    share = -(-plan.less_gpus * 100 // plan.live_gpus)
    whole = len(plan.withdrawals)
    return (
        f"it would take {plan.less_gpus:,} of {plan.live_gpus:,} GPUs off the market ({share} %), "
        f"{whole} ask{'' if whole == 1 else 's'} in whole; at most {percent} % is allowed, so nothing is sent: "
        f"look whether the list is complete, and if it is, say --max-withdraw {share}%"
    )


def client_order_id(list_name: str, key: str, number: int) -> str:
    return f"{PREFIX}:{list_name}:{key}:{number}"


def named(list_name: str, client_order_id: str) -> Named | None:
    """Which ask of which row of this list it is; None of another's."""
    prefix, _, number = client_order_id.rpartition(":")
    of_list, _, key = prefix.rpartition(":")
    return Named(key, int(number)) if of_list == f"{PREFIX}:{list_name}" and number.isdecimal() else None


def _named(ask: Ask) -> Named:
    _, _, key, number = ask.client_order_id.split(":")
    return Named(key, int(number))


def _number(ask: Ask) -> int:
    return _named(ask).number


def _cannot_stand(offer: Offer, quantity: int, now: int) -> str:
    """Why this offer cannot be on sale now; empty where it can."""
    if offer.end is not None and offer.end - offer.min_duration < now:
        return f"its end {format_time(offer.end)} is over, or less than its shortest lease away"
    if quantity <= 0:
        return f"all {offer.quantity} GPUs are still leased from an earlier ask of this row"
    return ""


def _terms(offer: Offer, quantity: int, horizon_ms: int) -> dict[str, Any]:
    return {
        "class": offer.class_id,
        "quantity": quantity,
        "price": format_usd(offer.price),
        "start": "now" if offer.start is None else format_time(offer.start),
        "end": f"now+{format_duration(horizon_ms)}" if offer.end is None else format_time(offer.end),
        **_attributes(offer),
    }


def _attributes(offer: Offer) -> dict[str, Any]:
    return {
        "region": name_of(offer.region),
        "delivery": name_of(offer.delivery),
        "interconnect": name_of(offer.interconnect),
        "confidential": offer.confidential,
        "tier": name_of(offer.tier),
        "notice_minutes": offer.notice_minutes,
        "min_duration": format_duration(offer.min_duration),
        "lot": offer.lot,
    }


def _difference(offer: Offer, quantity: int, ask: Ask, now: int, horizon_ms: int) -> dict[str, Any]:
    """What of the ask is to be otherwise. Fewer GPUs alone keep its place in the queue."""
    wanted = _attributes(offer)
    stands = {name: getattr(ask, name) for name in wanted} | {
        "min_duration": format_duration(parse_duration(ask.min_duration))
    }
    terms = {name: value for name, value in wanted.items() if value != stands[name]}
    if quantity != ask.quantity:
        terms["quantity"] = quantity
    if offer.price != parse_usd(ask.price):
        terms["price"] = format_usd(offer.price)
    start, end = parse_time(ask.start), parse_time(ask.end)
    if offer.start is not None and offer.start != start:
        terms["start"] = format_time(offer.start)
    if offer.start is None and start > now + GRID_MS:
        terms["start"] = "now"
    if offer.end is not None and offer.end != end:
        terms["end"] = format_time(offer.end)
    if offer.end is None and not horizon_ms // RENEW_AT <= end - now <= horizon_ms + GRID_MS:
        terms["end"] = f"now+{format_duration(horizon_ms)}"
        if offer.start is None:
            terms["start"] = "now"  # else its window would come to be too long, with time
    return terms
