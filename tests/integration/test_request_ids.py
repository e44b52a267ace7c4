"""A request's id goes with what it asks of the engine, and stands in the answer on the log."""

from gateways.api.errors import REQUEST_ID
from schemas.codec import decode_execution
from schemas.events import Duplicate, Ticked
from schemas.topics import EXECUTIONS
from tests.integration.conftest import CLASS, Venue
from tests.integration.test_api import caller
from tests.integration.test_batches import ASK, BID
from tests.integration.test_stream import wire

FAR = {"quantity": 8, "price": "1.00", "min_fill": 8}


async def answered(exchange: Venue, start: int) -> list[str]:
    """Whose requests the engine has answered since; ticks aside, and orders that were sent again."""
    reader = await exchange.log.reader(EXECUTIONS, 0, start)
    records = await reader.poll()
    await reader.close()
    executions = [decode_execution(record.value) for record in records]
    return [each.request_id for each in executions if not isinstance(each.events[-1], Ticked | Duplicate)]


async def test_the_engines_answers_say_whose_requests_they_answer(exchange: Venue) -> None:
    bid = {name: value for name, value in {**BID, **FAR}.items() if name != "side"}
    start = await exchange.log.end(EXECUTIONS, 0)
    async with caller(exchange, "trader") as trader:
        named = {**bid, "client_order_id": "named"}
        _, first = await trader.send("POST", "/v1/bids", named, **{REQUEST_ID: "first"})
        _, again = await trader.send("POST", "/v1/bids", named, **{REQUEST_ID: "again"})
        assert first == again
        order = f"/v1/orders/{first['order_id']}"
        assert (await trader.send("PATCH", order, {"price": "1.10"}, **{REQUEST_ID: "amend"}))[0] == 200
        assert (await trader.send("DELETE", order, **{REQUEST_ID: "cancel"}))[0] == 200
        orders = {"orders": [{**BID, **FAR}, ASK]}
        assert (await trader.send("POST", "/v1/orders/batch", orders, **{REQUEST_ID: "both"}))[0] == 200
        assert (await trader.send("DELETE", f"/v1/orders?class={CLASS}", **{REQUEST_ID: "all"}))[0] == 200
        assert (await trader.send("POST", "/v1/bids", bid, **{REQUEST_ID: "x" * 65}))[0] == 201
        made = trader.answer_headers[REQUEST_ID]
        async with wire(exchange.url) as client:
            await client.say(op="auth", id=1, key=trader.headers["Authorization"].removeprefix("Bearer "))
            await client.hear()
            await client.say(op="request", id="streamed", method="POST", path="/v1/bids", body=bid)
            assert (await client.hear())["status"] == 201
    assert await answered(exchange, start) == ["first", "amend", "cancel", "both", "both", "all", made, "streamed"]
    assert len(made) == 32
