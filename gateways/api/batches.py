"""Routes of many orders at once: each is read, placed or cancelled, and answered for itself."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, TypeVar

import msgspec
from litestar import post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody
from msgspec import Meta

from gateways.api import resources
from gateways.api.errors import ApiError, as_api_error, body_of, request_id
from gateways.api.keys import Keys
from gateways.api.orders import Begun, Desk, NewOrder
from gateways.api.requests import ApiRequest
from gateways.api.resources import MAX_BATCH
from gateways.api.routes import may_end_orders
from gateways.api.turns import turn_of
from schemas.store import ApiKey, Scope

PART = 100
"""Orders that are done at once."""
SMALL_PART = 10
"""Likewise, while other accounts want something too."""
UNDER_WAY = 25
"""Then so many are waited for before others begin: of a write and of a poll that has all 500, others wait for all."""

Value = TypeVar("Value")
Done = TypeVar("Done")
_Outcome = resources.Order | tuple[resources.Order, bool] | ApiError


class _Unread(resources.Request):
    """Orders that are still to be read."""

    orders: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=MAX_BATCH)]


_batch = msgspec.json.Decoder(_Unread)
_KINDS: dict[type, tuple[Scope, type[NewOrder]]] = {
    resources.BatchBid: (Scope.TRADE, resources.NewBid),
    resources.BatchAsk: (Scope.SUPPLY, resources.NewAsk),
}
_order = msgspec.json.Decoder(resources.BatchBid | resources.BatchAsk)


def batch_routes(keys: Keys, desk: Desk) -> list[HTTPRouteHandler]:
    """Many orders at once."""

    # Litestar needs `data` for its description of the body. Its orders are read one by one, in the handler: one
    # that is not in its form leaves the others as they are.
    door = keys.door(Scope.READ, 504)
    door["opt"]["read"] = lambda _headers, _body: resources.NewOrders([])

    @post("/v1/orders/batch", status_code=200, **door)
    async def place_orders(request: ApiRequest, data: JSONBody[resources.NewOrders]) -> resources.OrderAnswers:
        """Place up to 500 bids and asks. Each is answered for itself, in order, as POST /v1/bids or /v1/asks would.

        A bid needs the scope trade, an ask supply. The same client_order_id again gets the first order, whether that
        came alone or among others.
        """
        may_end_orders(request.user)

        async def begin(raws: Sequence[msgspec.Raw]) -> Sequence[Begun | ApiError]:
            return await desk.begin_many(request.user, [_read(raw, request.user) for raw in raws])

        async def answer(begun: Sequence[Begun | ApiError]) -> Sequence[resources.OrderAnswer]:
            return _answers(await desk.answer_many(begun), request)

        raws = _batch.decode(await request.body()).orders
        keys.count(request, len(raws))
        turn, answers = turn_of(request.scope), list[resources.OrderAnswer]()
        while len(answers) < len(raws):
            # So many are on their way before any is waited for: parts cost no more than turns.
            together = MAX_BATCH if turn.is_alone else UNDER_WAY
            begun = await _in_parts(raws[len(answers) : len(answers) + together], begin, request)
            answers += await _in_parts(begun, answer, request)
        return resources.OrderAnswers(answers)

    @post("/v1/orders/cancel", status_code=200, **keys.door(Scope.READ, 504))
    async def cancel_orders(request: ApiRequest, data: JSONBody[resources.OrderNames]) -> resources.OrderAnswers:
        """End what is unsold of up to 500 orders, by order_id or client_order_id.

        Each is answered for itself, in order, without its fills. A bid needs the scope trade, an ask supply. Safe to
        send again.
        """
        may_end_orders(request.user)
        keys.count(request, len(data.orders))

        async def cancel(names: Sequence[resources.OrderName]) -> Sequence[resources.OrderAnswer]:
            return _answers(await desk.cancel_many(request.user, names), request)

        return resources.OrderAnswers(await _in_parts(data.orders, cancel, request))

    return [place_orders, cancel_orders]


async def _in_parts(
    orders: Sequence[Value], do: Callable[[Sequence[Value]], Awaitable[Sequence[Done]]], request: ApiRequest
) -> list[Done]:
    """One part after the other, so that others have their turns between: a batch costs what its orders cost."""
    turn = turn_of(request.scope)
    done: list[Done] = []
    while len(done) < len(orders):
        size = PART if await turn.again() else SMALL_PART
        done += await do(orders[len(done) : len(done) + size])
    return done


def _read(raw: msgspec.Raw, key: ApiKey) -> NewOrder | ApiError:
    """One order, as it would be sent alone; or what is wrong with it."""
    try:
        order = _order.decode(raw)
    except msgspec.MsgspecError as error:
        return as_api_error(error)
    scope, kind = _KINDS[type(order)]
    if scope not in key.scopes:
        return ApiError(403, "missing_scope", f"for this order it needs a key with the scope {scope}")
    return msgspec.convert(order, kind, from_attributes=True)


def _answers(outcomes: Sequence[_Outcome], request: ApiRequest) -> list[resources.OrderAnswer]:
    return [_answer(outcome, request_id(request.scope)) for outcome in outcomes]


def _answer(outcome: _Outcome, request_name: str) -> resources.OrderAnswer:
    if isinstance(outcome, ApiError):
        return resources.OrderAnswer(outcome.status, False, None, body_of(outcome, request_name))
    if isinstance(outcome, tuple):
        order, replayed = outcome
        return resources.OrderAnswer(200 if replayed else 201, replayed, order, None)
    return resources.OrderAnswer(200, False, outcome, None)
