"""Random streams of commands that make small, busy books. One seed, one stream."""

import random
from collections.abc import Iterator

from schemas.attributes import Accepts, Attributes, ClassSpec, Delivery, Interconnect, Region, Tier, region_mask
from schemas.commands import (
    Cancel,
    Command,
    CreateClass,
    PlaceAsk,
    PlaceBid,
    Prefer,
    SelfTrade,
    Tick,
    TimeInForce,
)
from schemas.units import HOUR_MS, MINUTE_MS

T0 = 1_795_489_200_000
CLASSES = ("H100-SXM-80GB", "A100-SXM-80GB")
PROFILES = ("plain", "windows", "clusters", "attributes", "self_trade", "mixed")


def stream(profile: str, seed: int, count: int) -> Iterator[tuple[int, int, Command]]:
    """(offset, log time in ms, command), `count` times; times now and then go back, as a log's may."""
    rng = random.Random(f"{profile} {seed}")
    now = T0
    sent: list[PlaceAsk | PlaceBid] = []
    for offset in range(count):
        now = _hour(now, 1) if rng.random() < 0.02 else now + rng.choice((0, 1, 30_000, 5 * MINUTE_MS))
        time = now - rng.randrange(2000) if rng.random() < 0.02 else now
        yield offset, time, _command(rng, profile, offset, now, sent)


def _command(rng: random.Random, profile: str, offset: int, now: int, sent: list[PlaceAsk | PlaceBid]) -> Command:
    if offset < len(CLASSES):
        return CreateClass(ClassSpec(CLASSES[offset], "NVIDIA", 80, "SXM", max_quantity=64))
    dice = rng.random()
    if dice < 0.03:
        return Tick()
    if dice < 0.035:
        return CreateClass(ClassSpec(rng.choice(CLASSES), "NVIDIA", 80, "SXM"))
    if dice < 0.06 and sent:
        return rng.choice(sent[-20:])
    if dice < 0.26:
        order_id = rng.randrange(max(0, offset - 40), offset + 1)
        return Cancel(_account(order_id) if rng.random() < 0.9 else 1, order_id)
    order = _ask(rng, profile, offset, now) if rng.random() < 0.5 else _bid(rng, profile, offset, now)
    sent.append(order)
    return order


def _ask(rng: random.Random, profile: str, offset: int, now: int) -> PlaceAsk:
    account = _account(offset)
    owner = _owner(profile, account)
    windows, clusters, odd = profile in ("windows", "mixed"), profile in ("clusters", "mixed"), rng.random() < 0.03
    lot = rng.choice((1, 1, 2, 3)) if clusters else 1
    start = rng.choice((0, _hour(now, rng.randint(-2, 6)))) if windows else _hour(now, 2)
    end = (start or _hour(now, 0)) + (rng.choice((2, 4, 12)) * HOUR_MS if windows else HOUR_MS)
    time_in_force, expire_at = _force(rng, now, fok=odd)
    return PlaceAsk(
        rng.choice(CLASSES),
        account,
        owner,
        f"o{rng.randrange(offset * 3 + 1)}",
        now + rng.choice((0, 20_000, HOUR_MS)) - (1 if odd else 0),
        rng.randint(0, 9) if odd else lot * rng.randint(1, 6),
        _price(rng, odd),
        start + (1 if odd and rng.random() < 0.3 else 0),
        end,
        _attributes(rng) if profile in ("attributes", "mixed") else Attributes(Region.US_EAST),
        rng.choice((30, 60, 60, 120)) * MINUTE_MS if windows else HOUR_MS,
        lot,
        time_in_force,
        expire_at,
        rng.random() < 0.1,
        _self_trade(rng, profile),
        rng.choice((0, 100)),
    )


def _bid(rng: random.Random, profile: str, offset: int, now: int) -> PlaceBid:
    account = _account(offset)
    owner = _owner(profile, account)
    windows, clusters, odd = profile in ("windows", "mixed"), profile in ("clusters", "mixed"), rng.random() < 0.03
    quantity = rng.randint(0, 9) if odd else rng.randint(1, 10)
    if windows:
        starts = tuple(
            0 if hour == 0 and rng.random() < 0.5 else _hour(now, hour)
            for hour in rng.sample(range(6), rng.randint(1, 5))
        )
        duration = rng.choice((60, 60, 90, 120, 180)) * MINUTE_MS
    else:
        starts, duration = (_hour(now, 2),), HOUR_MS
    time_in_force, expire_at = _force(rng, now, fok=True)
    return PlaceBid(
        rng.choice(CLASSES),
        account,
        owner,
        f"o{rng.randrange(offset * 3 + 1)}",
        now + rng.choice((0, 20_000, HOUR_MS)) - (1 if odd else 0),
        quantity,
        _price(rng, odd),
        duration,
        starts,
        _accepts(rng) if profile in ("attributes", "mixed") else Accepts(),
        rng.choice((1, max(1, quantity // 2), quantity)) if clusters else 1,
        rng.choice(list(Prefer)),
        time_in_force,
        expire_at,
        rng.random() < 0.1,
        _self_trade(rng, profile),
        rng.choice((0, 200)),
        rng.random() < 0.05,
    )


def _hour(now: int, hours: int) -> int:
    return (now // HOUR_MS + hours) * HOUR_MS


def _account(offset: int) -> int:
    """1 to 6: whose order is at this offset, in no order that one could see."""
    return 1 + offset * 7919 % 101 % 6


def _owner(profile: str, account: int) -> int:
    """Two owners where self-trade is the matter, else one for each account."""
    return 1 + account % 2 if profile in ("self_trade", "mixed") else account


def _price(rng: random.Random, odd: bool) -> int:
    return rng.choice((0, 250_050, 10**11)) if odd and rng.random() < 0.5 else rng.randint(2495, 2505) * 1000


def _force(rng: random.Random, now: int, fok: bool) -> tuple[TimeInForce, int]:
    time_in_force = rng.choice(list(TimeInForce)) if rng.random() < 0.4 else TimeInForce.GTC
    if time_in_force is TimeInForce.FOK and not fok:
        time_in_force = TimeInForce.GTC
    gtd = time_in_force is TimeInForce.GTD
    return time_in_force, now + rng.choice((0, 1, 40_000, HOUR_MS)) if gtd != (rng.random() < 0.01) else 0


def _self_trade(rng: random.Random, profile: str) -> SelfTrade:
    return rng.choice(list(SelfTrade)) if profile in ("self_trade", "mixed") else SelfTrade.CANCEL_NEWEST


def _attributes(rng: random.Random) -> Attributes:
    return Attributes(
        rng.choice((Region.UNSPECIFIED, Region.US_EAST, Region.EU_WEST)),
        rng.choice(list(Delivery)),
        rng.choice(list(Interconnect)),
        rng.random() < 0.3,
        rng.choice(list(Tier)),
    )


def _accepts(rng: random.Random) -> Accepts:
    return Accepts(
        rng.choice((0, region_mask([Region.US_EAST]), region_mask([Region.US_EAST, Region.EU_WEST]))),
        rng.choice((Delivery.CONTAINER, Delivery.CONTAINER, Delivery.BARE_METAL)),
        rng.choice((Interconnect.NONE, Interconnect.NONE, Interconnect.INFINIBAND)),
        rng.random() < 0.1,
        rng.random() < 0.6,
        rng.choice(((), (), (1, 2, 3))),
        rng.choice(((), (), (5, 2))),
    )
