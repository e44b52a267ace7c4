"""What stands in the way of an order, as a caller reads it: counts, nearest misses, and one sentence."""

from gateways.api import resources
from schemas.attributes import Delivery, Interconnect, Region, Tier, name_of
from schemas.book import Excluded, Obstacle, Why
from schemas.commands import Side
from schemas.ids import format_order_id
from schemas.units import format_duration, format_time, format_usd

_STATED = {
    Obstacle.REGION: Region,
    Obstacle.DELIVERY: Delivery,
    Obstacle.INTERCONNECT: Interconnect,
    Obstacle.TIER: Tier,
}
_OF_ASKS = {
    Obstacle.OWN: "your own",
    Obstacle.REGION: "in another region (cheapest ${price} in {nearest})",
    Obstacle.DELIVERY: "delivered as less (cheapest ${price}, {nearest})",
    Obstacle.INTERCONNECT: "with a lesser interconnect (cheapest ${price}, {nearest})",
    Obstacle.CONFIDENTIAL: "not confidential (cheapest ${price})",
    Obstacle.TIER: "{nearest} (cheapest ${price})",
    Obstacle.SUPPLIER: "of suppliers that you do not accept (cheapest ${price})",
    Obstacle.DURATION: "let for longer only (from {nearest} on)",
    Obstacle.SIZE: "too small (the largest has {nearest} GPUs)",
    Obstacle.WINDOW: "free only from {nearest}",
    Obstacle.PRICE: "above your price (cheapest ${price})",
    Obstacle.SOLD_OUT: "sold out",
}
_OF_BIDS = {
    Obstacle.OWN: "your own",
    Obstacle.REGION: "for other regions (highest ${price})",
    Obstacle.DELIVERY: "for more than your delivery (highest ${price})",
    Obstacle.INTERCONNECT: "for a better interconnect (highest ${price})",
    Obstacle.CONFIDENTIAL: "for confidential capacity (highest ${price})",
    Obstacle.TIER: "for guaranteed capacity (highest ${price})",
    Obstacle.SUPPLIER: "that do not accept you as their supplier (highest ${price})",
    Obstacle.DURATION: "for less than your shortest lease (the longest for {nearest})",
    Obstacle.SIZE: "for more GPUs at once than you offer (the fewest {nearest})",
    Obstacle.WINDOW: "for times at which you have not so many free (the first {nearest})",
    Obstacle.PRICE: "below your price (highest ${price})",
}


def shown_obstacles(why: Why, side: Side) -> resources.Obstacles:
    """Of an order of that side."""
    excluded = [_shown(each, side) for each in why.excluded]
    return resources.Obstacles(
        looked=why.looked,
        complete=why.complete,
        halted=why.closed,
        suit=why.suit,
        excluded=excluded,
        text=_text(why, excluded, side),
    )


def _shown(each: Excluded, side: Side) -> resources.Excluded:
    return resources.Excluded(
        reason=each.obstacle,
        count=each.count,
        price=format_usd(each.price) if each.price else None,
        nearest=_nearest(each, side),
    )


def _nearest(each: Excluded, side: Side) -> str | None:
    match each.obstacle:
        case Obstacle.OWN:
            return format_order_id(each.nearest)
        case Obstacle.DURATION:
            return format_duration(each.nearest)
        case Obstacle.SIZE:
            return str(each.nearest)
        case Obstacle.WINDOW:
            return format_time(each.nearest) if each.nearest else None
    stated = _STATED.get(each.obstacle) if side is Side.BID else None
    return None if stated is None else name_of(stated(each.nearest))


def _text(why: Why, excluded: list[resources.Excluded], side: Side) -> str:
    """Like "412 asks: 300 above your price (cheapest $2.71), 96 in another region (cheapest $2.40 in eu-north)"."""
    other = "ask" if side is Side.BID else "bid"
    if not why.looked:
        return f"there are no {other}s" + (", and the class is halted" if why.closed else "")
    parts = [f"{each.count} {_words(each, side)}" for each in excluded]
    if why.suit:
        parts.insert(0, f"{why.suit} that suit")
    said = (
        f"{why.looked} {other}{'s' if why.looked > 1 else ''}"
        + ("" if why.complete else ", the best that there are")
        + ": "
        + ", ".join(parts)
    )
    return said + ("; the class is halted" if why.closed else "")


def _words(each: resources.Excluded, side: Side) -> str:
    if each.reason is Obstacle.WINDOW and each.nearest is None:
        return "not free for so long" if side is Side.BID else _OF_BIDS[Obstacle.WINDOW].partition(" (")[0]
    words = (_OF_ASKS if side is Side.BID else _OF_BIDS)[each.reason]
    return words.replace("${price}", f"${each.price}").replace("{nearest}", each.nearest or "")
