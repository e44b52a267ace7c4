"""What of an ask is sold, and what it can still do."""

from bisect import bisect_right

from matching_engine.calendar import Calendar, whole_ring
from matching_engine.orders import Ask, Bid


def sold_throughout(ask: Ask) -> int:
    """GPUs sold over the whole availability, as long as `calendar` is None."""
    return ask.quantity - ask.free


def for_sale(ask: Ask, start: int, end: int) -> int:
    """The least GPUs for sale at any moment of `[start, end)`; 0 where that leaves the availability."""
    if start < ask.start or end > ask.end:
        return 0
    return max(0, ask.free if ask.calendar is None else ask.quantity - ask.calendar.most(start, end))


def take(ask: Ask, start: int, end: int, quantity: int) -> None:
    """Sells `quantity` GPUs over `[start, end)`; below 0, they come back."""
    if ask.calendar is None:
        if start == ask.start and end == ask.end:
            ask.free -= quantity
            return
        cut(ask)
    calendar = ask.calendar
    assert calendar is not None
    calendar.add(start, end, quantity)
    if quantity < 0:
        measure(ask)
        return
    calendar.stale = True
    if (chunk := ask.chunk) is not None:
        chunk.stale += 1
        chunk.cut = True


def cut(ask: Ask) -> None:
    """From now on it has a calendar."""
    if ask.calendar is None:
        times, sold = sold_from(ask, 0)
        recall(ask, times, sold)


def recall(ask: Ask, times: list[int], sold: list[int]) -> None:
    """From now on so many GPUs are sold from each of `times` on, which its calendar changes in place."""
    ask.calendar = Calendar(times, sold, ask.start, ask.end, ask.quantity - ask.lot)


def reduce(ask: Ask, quantity: int) -> None:
    """From now on so many GPUs are offered."""
    ask.free += quantity - ask.quantity
    ask.quantity = quantity
    if (calendar := ask.calendar) is not None:
        recall(ask, calendar.times, calendar.sold)
    measure(ask)


def measure(ask: Ask) -> None:
    """Makes its own bounds exact."""
    calendar = ask.calendar
    if calendar is None:
        ask.longest = ask.end - ask.start
        return
    calendar.stale = False
    ask.free = ask.quantity - calendar.least(ask.start, ask.end)
    ask.longest = calendar.longest(ask.start, ask.end, ask.quantity - ask.lot)


def ring_of(ask: Ask, double: int, origin: int) -> int:
    """The hours from which on a lot may be unsold for `1 << double` hours, in a ring that begins at `origin`."""
    calendar = ask.calendar
    return whole_ring(ask.start, ask.end, double, origin) if calendar is None else calendar.ring(double, origin)


def least_sold(ask: Ask, start: int, end: int) -> int:
    """The fewest GPUs sold at any moment of `[start, end)`."""
    if ask.calendar is not None:
        return ask.calendar.least(start, end)
    return sold_throughout(ask) if ask.start <= start and end <= ask.end else 0


def sold_from(ask: Ask, now: int) -> tuple[list[int], list[int]]:
    """Times and GPUs sold from each on, as a calendar has them, of what has not passed yet."""
    calendar = ask.calendar
    if calendar is None:
        if not sold_throughout(ask) or ask.end <= now:
            return [0], [0]
        if ask.start <= now:
            return [0, ask.end], [sold_throughout(ask), 0]
        return [0, ask.start, ask.end], [0, sold_throughout(ask), 0]
    past = bisect_right(calendar.times, now) - 1
    return [0, *calendar.times[past + 1 :]], calendar.sold[past:]


def is_spent(ask: Ask) -> bool:
    """Whether it can serve nobody, as far as its bounds tell."""
    return ask.free < ask.lot or ask.longest < ask.min_duration


def needed(bid: Bid) -> int:
    """The least GPUs that a bid takes from one ask now."""
    return bid.min_fill if bid.min_fill < bid.left else bid.left
