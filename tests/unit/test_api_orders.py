"""When two requests are the same order; what an amend makes of an order's terms, and of its hold."""

from random import Random

import msgspec
import pytest

from gateways.api.orders import further_hold, meaning
from gateways.api.resources import NewAsk, NewBid, NewTerms
from gateways.api.terms import amended_command, bid_command
from schemas.attributes import Accepts
from schemas.codec import encode
from schemas.commands import PlaceBid, Side
from schemas.store import Account, Order, OrderStatus
from schemas.units import HOUR_MS, MINUTE_MS, hold

ASK = NewAsk("H100-SXM-80GB", 64, "2.50", "now+720h", client_order_id="a-1")
AMEND = NewTerms(price="2.70", amend_id="dearer")
BID = NewBid("H100-SXM-80GB", 8, "2.60", "24h", 8, client_order_id="b-1")


@pytest.mark.parametrize(
    ("order", "digest"),
    [
        (ASK, "7fb19d06048af7ba065d1d265cef0c24115756a0676a405cbdc0c3107e6c5bdb"),
        (BID, "f422245857747d616d8b95e3aab9ea0e32816db13857ea8044849183b6a77744"),
        (AMEND, "a3a22c5b06eb68da404580ffffc66388f9a704f4a8ad3e9f52c625e5406e8fd5"),
    ],
)
def test_an_order_sent_before_there_were_further_fields_is_the_same_order_still(
    order: NewAsk | NewBid | NewTerms, digest: str
) -> None:
    assert meaning(order).hex() == digest


def test_a_field_that_came_later_tells_orders_apart_where_it_says_something() -> None:
    assert meaning(msgspec.structs.replace(ASK, display=8)) != meaning(ASK)
    assert meaning(msgspec.structs.replace(ASK, display=8)) != meaning(msgspec.structs.replace(ASK, display=9))
    assert meaning(msgspec.structs.replace(AMEND, display=0)) != meaning(AMEND)


def bid(quantity: int, price: int, minutes: int, fee_bps: int) -> PlaceBid:
    """Of which only what it costs matters."""
    duration, accepts = minutes * MINUTE_MS, Accepts()
    return PlaceBid("H100-SXM-80GB", 1, 1, "b-1", 0, quantity, price, duration, (0,), accepts, 1, fee_bps=fee_bps)


def test_an_amend_holds_enough_whatever_fills_before_it_and_at_most_a_micro_dollar_too_much() -> None:
    random = Random(7)
    cases = [(bid(4, 75, 1, 133), bid(5, 90, 1, 133), 4)]  # where a µ$ more is needed, as all holds are rounded up
    for _ in range(2_000):
        fee_bps = random.choice((0, 133))
        old, new = (
            bid(
                random.randint(1, 12), random.choice((75, 90, random.randint(1, 10**7))), random.randint(1, 90), fee_bps
            )
            for _ in range(2)
        )
        cases.append((old, new, random.randint(1, old.quantity)))
    for old, new, left in cases:

        def held(bid: PlaceBid, left: int) -> int:
            return hold(bid.price, max(0, left), bid.duration, bid.fee_bps)

        filled, now_held = old.quantity - left, held(old, left)
        state = OrderStatus.OPEN, filled, left, now_held, "", None, (), 0
        further = further_hold(Order(None, 1, "b-1", Side.BID, old.class_id, 0, encode(old), b"", *state), new)
        needs = [held(new, new.quantity - filled - more) - held(old, left - more) for more in range(left)]
        assert max(0, *needs) <= further <= max(0, *needs, held(new, new.quantity - old.quantity)) + 1


def test_new_terms_are_the_order_s_own_but_for_what_the_amend_states() -> None:
    now = 1_795_521_600_000
    account = Account(7, "developer", 7, 133, 0, 0)
    old = bid_command(msgspec.structs.replace(BID, starts=["now", "now+1h"]), account, "b-1", now, 1)
    order = Order(
        5, 7, "b-1", Side.BID, old.class_id, 0, encode(old), b"", OrderStatus.OPEN, 2, 6, 0, "", None, (), now
    )
    since = msgspec.structs.replace(account, owner=1, buyer_fee_bps=0)
    terms = amended_command(NewTerms(quantity=4, price="2.70"), order, since, "amend", now + HOUR_MS, 1)
    assert terms == msgspec.structs.replace(
        old,
        client_order_id="amend",
        not_after=now + HOUR_MS + MINUTE_MS,
        quantity=4,
        min_fill=4,
        price=2_700_000,
        starts=(now, now + HOUR_MS),
    )
