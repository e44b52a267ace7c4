"""When two requests are the same order."""

import msgspec
import pytest

from gateways.api.orders import meaning
from gateways.api.resources import NewAsk, NewBid

ASK = NewAsk("H100-SXM-80GB", 64, "2.50", "now+720h", client_order_id="a-1")
BID = NewBid("H100-SXM-80GB", 8, "2.60", "24h", 8, client_order_id="b-1")


@pytest.mark.parametrize(
    ("order", "digest"),
    [
        (ASK, "7fb19d06048af7ba065d1d265cef0c24115756a0676a405cbdc0c3107e6c5bdb"),
        (BID, "f422245857747d616d8b95e3aab9ea0e32816db13857ea8044849183b6a77744"),
    ],
)
def test_an_order_sent_before_there_were_further_fields_is_the_same_order_still(
    order: NewAsk | NewBid, digest: str
) -> None:
    assert meaning(order).hex() == digest


def test_a_field_that_came_later_tells_orders_apart_where_it_says_something() -> None:
    assert meaning(msgspec.structs.replace(ASK, display=8)) != meaning(ASK)
    assert meaning(msgspec.structs.replace(ASK, display=8)) != meaning(msgspec.structs.replace(ASK, display=9))
