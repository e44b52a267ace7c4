"""What an order, an account or a class must be to be taken: complete, so that nothing behind it can fail.

Each check gives None, or the refusal's code and its arguments as its wording in `schemas/refusals.py` wants them.
"""

from collections.abc import Sequence

from schemas.attributes import Accepts, Attributes, ClassSpec, Region, SlaStep
from schemas.commands import Extend, PlaceAsk, PlaceBid, Return, SetLimits, TimeInForce, Withdraw
from schemas.ids import FillId
from schemas.refusals import Args, Refusal
from schemas.units import (
    BPS,
    DAY_MS,
    GRID_MS,
    MAX_FEE_BPS,
    MAX_PRICE,
    MAX_QUANTITY,
    MAX_STARTS,
    MAX_TIME_MS,
    MAX_WINDOW_MS,
    MINUTE_MS,
    ceil_grid,
)

Refused = tuple[Refusal, Args]

MAX_ACCOUNT = (1 << 63) - 1
MAX_TEXT = 64
"""Characters of a client_order_id, a class's id, and what names its accelerator and form factor."""
MAX_SUPPLIERS = 64
"""Accounts in a set of suppliers that a bid accepts or denies."""
MAX_NOTICE_MINUTES = 7 * 24 * 60
MAX_MEMORY_GB = 1 << 20
MAX_SLA_STEPS = 8
MAX_OPEN_ORDERS = 10_000
"""That a limit can name."""
MAX_NOTIONAL = 1 << 62
MAX_INDEX = (1 << 31) - 1
"""Of a fill among its command's."""
_ALL_REGIONS = sum(1 << region for region in Region if region is not Region.UNSPECIFIED)

GTC, GTD, IOC, FOK = TimeInForce


def shown(text: str) -> str:
    """Any text as arguments of a refusal may carry it: short, and printable ASCII."""
    return ascii(text[:MAX_TEXT])[1:-1]


def is_account(number: int) -> bool:
    """Whether there can be such an account."""
    return 1 <= number <= MAX_ACCOUNT


def is_name(text: str) -> bool:
    """Whether it is 1 to 64 printable ASCII characters: what every database, topic and terminal can carry."""
    return 0 < len(text) <= MAX_TEXT and text.isascii() and text.isprintable()


def check_ask(ask: PlaceAsk, start: int, spec: ClassSpec, now: int) -> Refused | None:
    """`start` is the ask's with 0 resolved."""
    refused = _check_terms(ask, spec, now)
    if refused is not None:
        return refused
    quantity, end, lot, min_duration = ask.quantity, ask.end, ask.lot, ask.min_duration
    if not 1 <= lot <= quantity:
        return Refusal.LOT_OUT_OF_RANGE, (lot, quantity)
    if quantity % lot:
        return Refusal.QUANTITY_OFF_LOT, (quantity, lot)
    refused = check_offered(start, end, min_duration)
    if refused is not None:
        return refused
    if end <= now:
        return Refusal.WINDOW_PAST, ("end", end, now)
    if end - min_duration < now:
        return Refusal.WINDOW_EMPTY, (ceil_grid(now), end, min_duration)
    if ask.time_in_force is FOK:
        return Refusal.FOK_ASK, ()
    if not 0 <= ask.display <= quantity:
        return Refusal.DISPLAY_OUT_OF_RANGE, (ask.display, quantity)
    return check_stated(ask.attributes)


def check_bid(bid: PlaceBid, starts: tuple[int, ...], spec: ClassSpec, now: int) -> Refused | None:
    """`starts` are the bid's with 0 resolved; the command's own tell whether each was given once."""
    refused = _check_terms(bid, spec, now)
    if refused is not None:
        return refused
    if not 1 <= bid.min_fill <= bid.quantity:
        return Refusal.MIN_FILL_OUT_OF_RANGE, (bid.min_fill, bid.quantity)
    count = len(bid.starts)
    if starts is not bid.starts and not (1 <= count <= MAX_STARTS and len(set(bid.starts)) == count):
        return check_wanted(bid.starts, bid.duration)
    refused = check_wanted(starts, bid.duration)
    if refused is not None:
        return refused
    if max(starts) < now:
        return Refusal.WINDOW_PAST, ("starts", max(starts), now)
    if bid.market and bid.time_in_force is not IOC and bid.time_in_force is not FOK:
        return Refusal.MARKET_RESTS, ()
    return check_accepted(bid.accepts)


def check_offered(start: int, end: int, min_duration: int) -> Refused | None:
    """The times of an ask, whenever it comes."""
    if not GRID_MS <= min_duration <= MAX_WINDOW_MS or min_duration % GRID_MS:
        return Refusal.MIN_DURATION_OUT_OF_RANGE, (min_duration, MAX_WINDOW_MS)
    if not 0 <= start <= MAX_TIME_MS:
        return Refusal.TIME_OUT_OF_RANGE, ("start", start)
    if not 0 <= end <= MAX_TIME_MS:
        return Refusal.TIME_OUT_OF_RANGE, ("end", end)
    if start % GRID_MS:
        return Refusal.WINDOW_OFF_GRID, ("start", start)
    if end % GRID_MS:
        return Refusal.WINDOW_OFF_GRID, ("end", end)
    if end - start < min_duration:
        return Refusal.WINDOW_EMPTY, (start, end, min_duration)
    if end - start > MAX_WINDOW_MS:
        return Refusal.DURATION_OUT_OF_RANGE, (end - start, MAX_WINDOW_MS)
    return None


def check_stated(attributes: Attributes) -> Refused | None:
    """The attributes of an ask."""
    if not 0 <= attributes.notice_minutes <= MAX_NOTICE_MINUTES:
        return Refusal.ATTRIBUTES_INVALID, ("notice_minutes", f"0 to {MAX_NOTICE_MINUTES}")
    return None


def check_wanted(starts: tuple[int, ...], duration: int) -> Refused | None:
    """The times of a bid, whenever it comes."""
    if not GRID_MS <= duration <= MAX_WINDOW_MS or duration % GRID_MS:
        return Refusal.DURATION_OUT_OF_RANGE, (duration, MAX_WINDOW_MS)
    count = len(starts)
    if not 1 <= count <= MAX_STARTS or len(set(starts)) != count:
        return Refusal.START_COUNT_OUT_OF_RANGE, (count, MAX_STARTS)
    latest = MAX_TIME_MS - MAX_WINDOW_MS
    for start in starts:
        if not 0 <= start <= latest:
            return Refusal.TIME_OUT_OF_RANGE, ("starts", start)
        if start % GRID_MS:
            return Refusal.WINDOW_OFF_GRID, ("starts", start)
    return None


def well_timed(starts: tuple[int, ...], duration: int) -> bool:
    """Whether `check_wanted` has nothing against them."""
    return check_wanted(starts, duration) is None


def check_accepted(accepts: Accepts) -> Refused | None:
    """What a bid accepts."""
    if accepts.regions & ~_ALL_REGIONS:
        return Refusal.ACCEPTS_INVALID, ("regions", "name regions of the closed list")
    for name, suppliers in (("only_suppliers", accepts.only_suppliers), ("not_suppliers", accepts.not_suppliers)):
        if len(suppliers) > MAX_SUPPLIERS:
            return Refusal.ACCEPTS_INVALID, (name, f"at most {MAX_SUPPLIERS} accounts")
        for supplier in suppliers:
            if not 1 <= supplier <= MAX_ACCOUNT:
                return Refusal.ACCEPTS_INVALID, (name, f"there is no account {supplier}")
    return None


def check_class(spec: ClassSpec) -> Refused | None:
    """A class that is not there yet."""
    for name, text in (
        ("class_id", spec.class_id),
        ("accelerator", spec.accelerator),
        ("form_factor", spec.form_factor),
    ):
        if not is_name(text):
            return Refusal.CLASS_INVALID, (name, shown(text), f"1 to {MAX_TEXT} printable ASCII characters")
    for name, value, least, most in (
        ("memory_gb", spec.memory_gb, 0, MAX_MEMORY_GB),
        ("max_price", spec.max_price, 1, MAX_PRICE),
        ("tick", spec.tick, 1, spec.max_price),
        ("max_quantity", spec.max_quantity, 1, MAX_QUANTITY),
        ("delivery_due_ms", spec.delivery_due_ms, MINUTE_MS, DAY_MS),
        ("acceptance_ms", spec.acceptance_ms, 0, DAY_MS),
        ("grace_ms", spec.grace_ms, 0, MAX_WINDOW_MS),
        ("band_bps", spec.band_bps, 0, BPS - 1),
        ("refund_bps", spec.refund_bps, 0, BPS),
        ("reclaim_credit_bps", spec.reclaim_credit_bps, 0, BPS),
    ):
        if not least <= value <= most:
            return Refusal.CLASS_INVALID, (name, value, f"{least} to {most}")
    return _check_sla(spec.sla)


def _check_sla(steps: Sequence[SlaStep]) -> Refused | None:
    below, credit = BPS + 1, 0
    for step in steps:
        if not (1 <= step.below_bps < below and credit < step.credit_bps <= BPS):
            what = f"{step.below_bps}:{step.credit_bps}", f"below {below}, and to credit {credit + 1} to {BPS}"
            return Refusal.CLASS_INVALID, ("sla step", *what)
        below, credit = step.below_bps, step.credit_bps
    if len(steps) > MAX_SLA_STEPS:
        return Refusal.CLASS_INVALID, ("number of sla steps", len(steps), f"at most {MAX_SLA_STEPS}")
    return None


def check_limits(limits: SetLimits) -> Refused | None:
    """Of an account that can be one."""
    for name, value, most in (
        ("open_orders", limits.open_orders, MAX_OPEN_ORDERS),
        ("notional", limits.notional, MAX_NOTIONAL),
        ("quantity", limits.quantity, MAX_QUANTITY),
    ):
        if not 0 <= value <= most:
            return Refusal.LIMITS_INVALID, (name, value, f"0 to {most}")
    if limits.notional and not limits.open_orders:  # its orders are counted through at each new one
        return Refusal.LIMITS_INVALID, ("open_orders", 0, f"1 to {MAX_OPEN_ORDERS} where notional is limited")
    return None


def check_fill(fill: FillId) -> Refused | None:
    """Whether it can be the id of a fill."""
    if 0 <= fill[0] <= MAX_ACCOUNT and 0 <= fill[1] <= MAX_INDEX:
        return None
    return Refusal.RETURN_INVALID, ("fill_id", "there is no such fill")


def check_lease(lease: Return | Withdraw) -> Refused | None:
    """What a lease's GPUs and window can be."""
    if (wrong := check_fill(lease.fill)) is not None:
        return wrong
    if not 1 <= lease.quantity <= MAX_QUANTITY:
        return Refusal.RETURN_INVALID, ("quantity", f"1 to {MAX_QUANTITY} GPUs")
    for name, time in (("start", lease.start), ("end", lease.end)):
        if not 0 <= time <= MAX_TIME_MS or time % GRID_MS:
            return Refusal.RETURN_INVALID, (name, "it is no whole minute from 1970 to 9999")
    if lease.start >= lease.end:
        return Refusal.RETURN_INVALID, ("end", "it is not after start")
    return None


def check_extend(extend: Extend, spec: ClassSpec, now: int) -> Refused | None:
    """The terms on which a lease goes on; tick and band bind only prices that make a market."""
    if not 1 <= extend.price <= spec.max_price:
        return Refusal.PRICE_OUT_OF_RANGE, (extend.price, spec.max_price, spec.class_id, spec.tick)
    if not 1 <= extend.quantity <= spec.max_quantity:
        return Refusal.QUANTITY_OUT_OF_RANGE, (extend.quantity, spec.max_quantity, spec.class_id)
    if not 1 <= extend.owner <= MAX_ACCOUNT:
        return Refusal.UNKNOWN_ACCOUNT, (extend.owner,)
    if not 0 <= extend.fee_bps <= MAX_FEE_BPS:
        return Refusal.FEE_OUT_OF_RANGE, (extend.fee_bps, MAX_FEE_BPS)
    for name, time in (("start", extend.start), ("end", extend.end)):
        if not 0 <= time <= MAX_TIME_MS:
            return Refusal.TIME_OUT_OF_RANGE, (name, time)
        if time % GRID_MS:
            return Refusal.WINDOW_OFF_GRID, (name, time)
    if not 1 <= extend.end - extend.start <= MAX_WINDOW_MS:
        return Refusal.DURATION_OUT_OF_RANGE, (extend.end - extend.start, MAX_WINDOW_MS)
    if extend.start < now:
        return Refusal.WINDOW_PAST, ("start", extend.start, now)
    return None


def _check_terms(order: PlaceAsk | PlaceBid, spec: ClassSpec, now: int) -> Refused | None:
    """What asks and bids have in common."""
    price, quantity, time_in_force = order.price, order.quantity, order.time_in_force
    if not 1 <= price <= spec.max_price:
        return Refusal.PRICE_OUT_OF_RANGE, (price, spec.max_price, spec.class_id, spec.tick)
    if price % spec.tick:
        return Refusal.PRICE_OFF_TICK, (price, spec.tick, spec.class_id)
    if not 1 <= quantity <= spec.max_quantity:
        return Refusal.QUANTITY_OUT_OF_RANGE, (quantity, spec.max_quantity, spec.class_id)
    if not 1 <= order.owner <= MAX_ACCOUNT:
        return Refusal.UNKNOWN_ACCOUNT, (order.owner,)
    if not 0 <= order.fee_bps <= MAX_FEE_BPS:
        return Refusal.FEE_OUT_OF_RANGE, (order.fee_bps, MAX_FEE_BPS)
    if time_in_force is GTC:
        return (Refusal.EXPIRY_NOT_ALLOWED, ()) if order.expire_at else None
    if time_in_force is GTD:
        if order.expire_at == 0:
            return Refusal.EXPIRY_NOT_ALLOWED, ()
        if not 0 <= order.expire_at <= MAX_TIME_MS:
            return Refusal.TIME_OUT_OF_RANGE, ("expire_at", order.expire_at)
        if order.expire_at <= now:
            return Refusal.EXPIRY_PAST, (order.expire_at, now)
    elif order.expire_at:
        return Refusal.EXPIRY_NOT_ALLOWED, ()
    if order.post_only and time_in_force is not GTD:
        return Refusal.POST_ONLY_TAKES, ()
    return None
