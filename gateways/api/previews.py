"""Routes of what an order would do, asked before it is placed: the replica's word, and what it means in money."""

from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody

from gateways.api import resources
from gateways.api.errors import refused, unknown
from gateways.api.keys import Keys
from gateways.api.orders import Desk, NewOrder
from gateways.api.reasons import shown_obstacles
from gateways.api.requests import ApiRequest
from gateways.api.terms import MAX_SHOWN_FILLS, parsed, shown_attributes
from schemas.book import Preview, Previews
from schemas.commands import PlaceAsk, PlaceBid, Side
from schemas.events import Fill
from schemas.ids import format_order_id, parse_order_id
from schemas.store import ApiKey, OrderStatus, Scope, Store
from schemas.units import cost, fee, format_time, format_usd, hold


def preview_routes(store: Store, keys: Keys, desk: Desk, books: Previews, timeout_s: float) -> list[HTTPRouteHandler]:
    """What an order would do."""

    @post("/v1/bids/preview", status_code=200, **keys.door(Scope.TRADE, 404, 409, 422, 504, preview=True))
    async def preview_bid(request: ApiRequest, data: JSONBody[resources.NewBid]) -> resources.Preview:
        """What this bid would fill now, at which prices, what it would hold and cost at most, and until when what is
        left would stand. Nothing is placed: post the same body to /v1/bids for that.
        """
        return await preview(request.user, data)

    @post("/v1/asks/preview", status_code=200, **keys.door(Scope.SUPPLY, 404, 409, 422, 504, preview=True))
    async def preview_ask(request: ApiRequest, data: JSONBody[resources.NewAsk]) -> resources.Preview:
        """What this ask would sell now, at which prices. Nothing is placed: post the same body to /v1/asks for that."""
        return await preview(request.user, data)

    async def preview(key: ApiKey, body: NewOrder) -> resources.Preview:
        command, position = await desk.understood(key, body)
        try:
            seen = await books.preview(command, position, timeout_s)
        except TimeoutError:
            raise unknown("ask again") from None
        if seen.refusal is not None:
            raise refused(*seen.refusal)
        balance = await store.balance(key.account.id)
        return _shown(command, seen, balance.cash + balance.credit)

    @get("/v1/orders/{order_id:str}/why", **keys.door(Scope.READ, 404, 504, preview=True))
    async def why(request: ApiRequest, order_id: FromPath[str]) -> resources.Why:
        """What stands in the way of an order: how many of the other side cannot trade with it, by reason, and the
        nearest miss of each. Those that count by their price would trade at once for another one.
        """
        this = parsed("order_id", parse_order_id, order_id)
        order = await desk.show(request.user.account, this)
        try:
            found = await books.why(this, desk.answered(this), timeout_s)
        except TimeoutError:
            raise unknown("ask again") from None
        side = Side.BID if isinstance(order, resources.Bid) else Side.ASK
        return resources.Why(
            order_id=order_id,
            status=order.status,
            position=format_order_id(found.position),
            time=format_time(found.time),
            why=None if found.why is None else shown_obstacles(found.why, side),
        )

    return [preview_bid, preview_ask, why]


def _shown(command: PlaceBid | PlaceAsk, seen: Preview, free: int) -> resources.Preview:
    """`free`: the account's µ$ that orders can use."""
    is_bid = isinstance(command, PlaceBid)
    assert seen.why is not None, "an order that is not refused has others before it, or none"
    rests = seen.reason is None and seen.left > 0
    needed = _held(command, command.quantity)
    held = _held(command, seen.left) if rests else 0
    value = sum(cost(fill.price, fill.quantity, fill.end - fill.start) for fill in seen.fills)
    fees = sum(fee(fill.price, fill.quantity, fill.end - fill.start, command.fee_bps) for fill in seen.fills)
    return resources.Preview(
        class_id=command.class_id,
        position=None if seen.position < 0 else format_order_id(seen.position),
        time=format_time(seen.time),
        fills=[_shown_fill(fill) for fill in seen.fills[:MAX_SHOWN_FILLS]],
        filled=sum(fill.quantity for fill in seen.fills),
        left=seen.left,
        status=OrderStatus.OPEN if rests else OrderStatus.CANCELLED if seen.reason else OrderStatus.FILLED,
        reason=seen.reason.value if seen.reason else "",
        until=format_time(seen.until) if rests else None,
        cancels=[format_order_id(order_id) for order_id in seen.cancels],
        cost=format_usd(value),
        fee=format_usd(fees),
        held=format_usd(held),
        most=format_usd(value + fees + held if is_bid else 0),
        needed=format_usd(needed),
        short=format_usd(max(0, needed - free)),
        why=shown_obstacles(seen.why, Side.BID if is_bid else Side.ASK),
    )


def _held(command: PlaceBid | PlaceAsk, left: int) -> int:
    if isinstance(command, PlaceAsk):
        return 0
    return hold(command.price, left, command.duration, command.fee_bps)


def _shown_fill(fill: Fill) -> resources.PreviewFill:
    return resources.PreviewFill(
        price=format_usd(fill.price),
        quantity=fill.quantity,
        start=format_time(fill.start),
        end=format_time(fill.end),
        **shown_attributes(fill.attributes),
    )
