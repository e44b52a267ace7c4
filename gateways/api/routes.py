"""Every route of the API. Each says which scope its key needs; those without a door are public."""

import asyncio
import time
from typing import Annotated

from litestar import MediaType, Response, delete, get, patch, post, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from gateways.api import resources, terms
from gateways.api.controls import Controls
from gateways.api.direct import REPLAYED, direct
from gateways.api.document import described
from gateways.api.errors import ANYWHERE, ApiError, documented, refused
from gateways.api.fills import FillsFeed
from gateways.api.instructions import Clerk
from gateways.api.keys import Keys, made_key, new_secret, of_secret
from gateways.api.market import Classes
from gateways.api.orders import Desk
from gateways.api.replies import Replies, settled
from gateways.api.requests import ApiRequest
from gateways.api.turns import listed, turn_of
from schemas.book import BookLevel, Offers
from schemas.commands import Side
from schemas.fills import PublicFill
from schemas.ids import (
    format_account_id,
    format_order_id,
    offset_of,
    parse_account_id,
    parse_order_id,
)
from schemas.log import Log
from schemas.refusals import Refusal
from schemas.store import ApiKey, Order, OrderStatus, Scope, Store, Totals
from schemas.tape import INTERVALS, Tape
from schemas.units import (
    GRID_MS,
    MAX_FEE_BPS,
    MAX_TIME_MS,
    MAX_WINDOW_MS,
    format_duration,
    format_time,
    format_usd,
    parse_duration,
    parse_time,
    parse_usd,
)

MAX_WAIT_S = 30.0
TOTALS_EVERY_S = 1.0
TOTALS_SHARE = 10
"""Adding up the whole ledger takes at most one part in so many of the time, however long it has become."""

Limit = Annotated[int, QueryParameter(ge=1, le=500)]
Wait = Annotated[float, QueryParameter(ge=0, le=MAX_WAIT_S)]
ClassFilter = Annotated[str | None, QueryParameter(name="class")]

_ORDER_SIDES = {"bid": Side.BID, "ask": Side.ASK}
_STATUSES = {status.value: status for status in OrderStatus if status is not OrderStatus.SENT}


def account_routes(log: Log, store: Store, keys: Keys, clerk: Clerk, replies: list[Replies]) -> list[HTTPRouteHandler]:
    """Parties, their keys and their money."""

    @post("/v1/accounts", **keys.door(Scope.ADMIN, 404, 409, 422))
    async def create_account(request: ApiRequest, data: JSONBody[resources.NewAccount]) -> resources.CreatedAccount:
        """Open an account; with scopes it gets a first key, whose secret is shown this once."""
        name = terms.plain_text("name", data.name)
        for fee in (data.buyer_fee_bps, data.seller_fee_bps):
            if not 0 <= fee <= MAX_FEE_BPS:
                raise refused(Refusal.FEE_OUT_OF_RANGE, (fee, MAX_FEE_BPS))
        owner = None if data.owner is None else terms.parsed("owner", parse_account_id, data.owner)
        if owner is not None and await store.account(owner) is None:
            raise refused(Refusal.UNKNOWN_ACCOUNT, (owner,))
        try:
            account = await store.create_account(
                name,
                buyer_fee_bps=data.buyer_fee_bps,
                seller_fee_bps=data.seller_fee_bps,
                owner=owner,
                now=log.now(),
            )
        except ValueError:
            raise ApiError(409, "account_exists", f"there is an account {name} already", "name") from None
        secret = None
        if data.scopes:
            secret = new_secret()
            scopes = frozenset(data.scopes)
            await made_key(store, account.id, of_secret(secret), label="first", scopes=scopes, now=log.now())
        return terms.created_account(account, secret)

    @get("/v1/accounts", **keys.door(Scope.ADMIN))
    async def list_accounts(
        after: FromQuery[str | None] = None, limit: Limit = 100
    ) -> resources.Page[resources.Account]:
        """All accounts, by id."""
        first = 0 if after is None else terms.parsed("after", parse_account_id, after)
        found = await store.accounts(after=first, limit=limit)
        return resources.Page(
            [terms.shown_account(account, log.now()) for account in found],
            format_account_id(found[-1].id) if len(found) == limit else None,
        )

    @get("/v1/accounts/me", **keys.door(Scope.READ))
    async def own_account(request: ApiRequest) -> resources.Account:
        """The account of this key."""
        return terms.shown_account(request.user.account, log.now())

    @post("/v1/deposits", **keys.door(Scope.ADMIN, 404, 409, 422, 504))
    async def deposit(data: JSONBody[resources.NewDeposit]) -> resources.Deposit:
        """Book money that came in from outside; the same reference again changes nothing."""
        account = terms.parsed("account_id", parse_account_id, data.account_id)
        amount = terms.parsed("amount", parse_usd, data.amount)
        await clerk.deposit(account, amount, terms.plain_text("reference", data.reference))
        return resources.Deposit(account_id=data.account_id, amount=format_usd(amount), reference=data.reference)

    @get("/v1/balance", **keys.door(Scope.READ))
    async def balance(request: ApiRequest) -> resources.Balance:
        """The account's money."""
        await settled(store, replies)
        account = request.user.account.id
        return terms.shown_balance(account, await store.balance(account))

    return [
        create_account,
        list_accounts,
        own_account,
        deposit,
        balance,
    ]


def market_routes(
    log: Log,
    store: Store,
    keys: Keys,
    classes: Classes,
    books: Offers,
    feed: FillsFeed,
    replies: list[Replies],
    registry: CollectorRegistry,
) -> list[HTTPRouteHandler]:
    """What anyone may see of the market, and how the exchange is."""
    totals: Totals | None = None
    totals_until = 0.0
    adding_up = asyncio.Lock()
    document: bytes | None = None

    @get("/v1/classes", responses=ANYWHERE)
    async def list_classes() -> resources.Page[resources.Class]:
        """All classes, by name."""
        return resources.Page([terms.shown_class(listing) for listing in await classes.all()], None)

    @post("/v1/classes", **keys.door(Scope.ADMIN, 409, 422, 504))
    async def create_class(data: JSONBody[resources.NewClass]) -> resources.Class:
        """Open a book for a new class."""
        spec = terms.class_spec(data)
        return terms.shown_class(await classes.create(spec))

    @get("/v1/book/{class_id:str}", **keys.walk(404, 422))
    async def book(
        class_id: FromPath[str],
        start: FromQuery[str] = "now",
        duration: FromQuery[str] = "1h",
        levels: Annotated[int, QueryParameter(ge=1, le=100)] = 10,
    ) -> resources.Book:
        """The book for one delivery window, best prices first."""
        view = await books.book(class_id, *_window(start, duration, log.now()), levels)
        if view is None:
            raise refused(Refusal.UNKNOWN_CLASS, (class_id,))
        return resources.Book(
            class_id=view.class_id,
            position=_shown_position(view.position),
            time=format_time(view.time),
            start=format_time(view.start),
            duration=format_duration(view.duration),
            asks=[_shown_level(level) for level in view.asks],
            bids=[_shown_level(level) for level in view.bids],
        )

    @get("/v1/offers/{class_id:str}", **keys.walk(404, 422))
    async def offers(
        class_id: FromPath[str],
        start: FromQuery[str] = "now",
        duration: FromQuery[str] = "1h",
        limit: Limit = 100,
    ) -> resources.Offers:
        """What is for sale over one delivery window, by where and how: the cheapest so many, with no accounts."""
        view = await books.offers(class_id, *_window(start, duration, log.now()), limit)
        if view is None:
            raise refused(Refusal.UNKNOWN_CLASS, (class_id,))
        return resources.Offers(
            class_id=view.class_id,
            position=_shown_position(view.position),
            time=format_time(view.time),
            start=format_time(view.start),
            duration=format_duration(view.duration),
            offers=[terms.shown_offer(offer) for offer in view.offers],
        )

    @get("/v1/fills", responses=ANYWHERE)
    async def fills(
        request: ApiRequest,
        after: FromQuery[str] = "end",
        class_id: ClassFilter = None,
        limit: Limit = 100,
        wait_s: Wait = 0.0,
    ) -> resources.Page[PublicFill]:
        """The public stream of fills after a cursor, `start` or `end`; `wait_s` waits for the next ones.

        `next` is never null: ask with it for what comes after. A fill may come twice: go by its number.
        """
        if wait_s:
            turn_of(request.scope).end()
        found, cursor = await feed.after(after, class_id=class_id, limit=limit, wait_s=wait_s)
        return resources.Page(found, cursor)

    @get("/v1/status", responses=ANYWHERE)
    async def status() -> resources.Status:
        """How the exchange is: its clock, its log, its figures."""
        nonlocal totals, totals_until
        if totals is None or not adding_up.locked():  # else the last figures do for who comes meanwhile
            async with adding_up:
                if totals is None or time.monotonic() > totals_until:
                    began = time.monotonic()
                    totals = await store.totals()
                    ended = time.monotonic()
                    totals_until = ended + max(TOTALS_EVERY_S, TOTALS_SHARE * (ended - began))
        figures = totals
        applied = [await store.applied(partition) for partition in range(len(replies))]
        positions = [reply.position for reply in replies]
        return resources.Status(
            time=format_time(log.now()),
            speed=log.speed,
            position=[_shown_position(position) for position in positions],
            settlement_lag=sum(
                max(0, _answers_up_to(position) - _answers_up_to(done))
                for position, done in zip(positions, applied, strict=True)
            ),
            orders=figures.orders,
            fills=figures.fills,
            leases_open=figures.leases_open,
            leases_closed=figures.leases_closed,
            gpu_hours=terms.hours(figures.used_gpu_ms),
            charged=format_usd(figures.charged),
            escrow=format_usd(figures.escrow),
            held=format_usd(figures.held),
            imbalance_microusd=figures.imbalance,
        )

    @get("/v1/health", responses=ANYWHERE)
    async def health() -> dict[str, str]:
        """Whether this gateway takes requests."""
        return {"status": "ok"}

    @get("/metrics", include_in_schema=False)
    async def metrics() -> Response[bytes]:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @get("/v1/openapi.json", include_in_schema=False)
    async def openapi(request: ApiRequest) -> Response[bytes]:
        nonlocal document
        document = document or described(request.app)
        return Response(document, media_type=MediaType.JSON)

    return [list_classes, create_class, book, offers, fills, status, health, metrics, openapi]


def tape_routes(classes: Classes, tape: Tape, log: Log) -> list[HTTPRouteHandler]:
    """What traded."""

    @get("/v1/candles/{class_id:str}", responses=ANYWHERE | documented(404))
    async def candles(
        class_id: FromPath[str],
        interval: FromQuery[str] = "1h",
        before: FromQuery[str | None] = None,
        limit: Limit = 200,
    ) -> resources.Page[resources.Candle]:
        """A class's newest candles, oldest first. `next` is the `before` of those before them."""
        await classes.listing(class_id)
        terms.choice("interval", INTERVALS, interval)
        end = MAX_TIME_MS if before is None else terms.parsed("before", parse_time, before)
        found = tape.candles(class_id, interval, before=end, limit=limit)
        return resources.Page(
            [terms.shown_candle(candle) for candle in found],
            format_time(found[0].start) if len(found) == limit else None,
        )

    @get("/v1/tickers", responses=ANYWHERE)
    async def tickers() -> resources.Page[resources.Ticker]:
        """What each class last traded at, and its last 24 hours."""
        now = log.now()
        names = [listing.spec.class_id for listing in await classes.all()]
        return resources.Page([terms.shown_ticker(name, tape.ticker(name, now)) for name in names], None)

    return [candles, tickers]


def order_routes(
    store: Store, keys: Keys, desk: Desk, controls: Controls, replies: list[Replies]
) -> list[HTTPRouteHandler]:
    """Asks and bids."""

    bid_door = keys.door(Scope.TRADE, 402, 404, 409, 422, 504)
    ask_door = keys.door(Scope.SUPPLY, 404, 409, 422, 504)

    @post("/v1/bids", **direct(resources.NewBid, desk.place, desk.place_soon, bid_door))
    async def place_bid(request: ApiRequest, data: JSONBody[resources.NewBid]) -> Response[resources.Order]:
        """Bid for GPUs over time. The answer has the order as understood and what it traded at once.

        The same client_order_id again gets the first order, with 200 and `Idempotent-Replayed: true`.
        """
        return placed(*await desk.place(request.user, data))

    @post("/v1/asks", **direct(resources.NewAsk, desk.place, desk.place_soon, ask_door))
    async def place_ask(request: ApiRequest, data: JSONBody[resources.NewAsk]) -> Response[resources.Order]:
        """Offer capacity. The answer has the order as understood and what it traded at once."""
        return placed(*await desk.place(request.user, data))

    @get("/v1/orders", **keys.door(Scope.READ))
    async def list_orders(
        request: ApiRequest,
        status: FromQuery[str | None] = None,
        class_id: ClassFilter = None,
        side: FromQuery[str | None] = None,
        after: FromQuery[str | None] = None,
        limit: Limit = 100,
    ) -> resources.Page[resources.Order]:
        """The account's orders, newest first; `side` is bid or ask."""
        named = None if side is None else terms.choice("side", _ORDER_SIDES, side)
        return await orders_of(request, named, status, class_id, after, limit)

    @get("/v1/bids", **keys.door(Scope.READ))
    async def list_bids(
        request: ApiRequest,
        status: FromQuery[str | None] = None,
        class_id: ClassFilter = None,
        after: FromQuery[str | None] = None,
        limit: Limit = 100,
    ) -> resources.Page[resources.Order]:
        """The account's bids, newest first."""
        return await orders_of(request, Side.BID, status, class_id, after, limit)

    @get("/v1/asks", **keys.door(Scope.READ))
    async def list_asks(
        request: ApiRequest,
        status: FromQuery[str | None] = None,
        class_id: ClassFilter = None,
        after: FromQuery[str | None] = None,
        limit: Limit = 100,
    ) -> resources.Page[resources.Order]:
        """The account's asks, newest first."""
        return await orders_of(request, Side.ASK, status, class_id, after, limit)

    async def orders_of(
        request: ApiRequest, side: Side | None, status: str | None, class_id: str | None, after: str | None, limit: int
    ) -> resources.Page[resources.Order]:
        wanted = None if status is None else terms.choice("status", _STATUSES, status)
        before = None if after is None else terms.parsed("after", parse_order_id, after)
        await settled(store, replies)

        async def older(before: int | None, count: int) -> list[Order]:
            account = request.user.account.id
            return await store.orders(account, status=wanted, class_id=class_id, before=before, limit=count, side=side)

        items, last = await listed(
            older, _order_id, lambda order: terms.shown_order(order, None), before, limit, turn_of(request.scope)
        )
        return resources.Page(items, None if last is None else format_order_id(last))

    @get("/v1/orders/{order_id:str}", **keys.door(Scope.READ, 404))
    async def show_order(
        request: ApiRequest,
        order_id: FromPath[str],
        filled: FromQuery[int | None] = None,
        wait_s: Wait = 0.0,
    ) -> resources.Order:
        """An order. With `filled` and `wait_s` it waits until it ends, is amended or has filled another number."""
        this = terms.parsed("order_id", parse_order_id, order_id)
        if filled is None:
            return await desk.show(request.user.account, this)
        turn_of(request.scope).end()
        return await desk.show_changed(request.user.account, this, filled, wait_s)

    @get("/v1/orders/by-client-id/{client_order_id:str}", **keys.door(Scope.READ, 404))
    async def show_named_order(request: ApiRequest, client_order_id: FromPath[str]) -> resources.Order:
        """The order that has this client_order_id: what to ask after an answer `unknown`."""
        return await desk.show_named(request.user.account, client_order_id)

    @patch("/v1/orders/{order_id:str}", **keys.door(Scope.READ, 402, 404, 409, 422, 504))
    async def amend_order(
        request: ApiRequest, order_id: FromPath[str], data: JSONBody[resources.NewTerms]
    ) -> Response[resources.Order]:
        """Give an open order new terms; what they leave out stays as it is. The answer is the order as it stands then.

        Less quantity alone keeps its place in the queue. A bid that can cost more needs the money free before it is
        amended. The same amend_id again changes nothing more, and gets `Idempotent-Replayed: true`.
        """
        may_end_orders(request.user)
        order, replayed = await desk.amend(request.user, terms.parsed("order_id", parse_order_id, order_id), data)
        headers = {"Idempotent-Replayed": "true"} if replayed else {}
        return Response(order, status_code=200, headers=headers, media_type=MediaType.JSON)

    @delete("/v1/orders/{order_id:str}", status_code=200, **keys.door(Scope.READ, 404, 409, 504))
    async def cancel_order(request: ApiRequest, order_id: FromPath[str]) -> resources.Order:
        """End what is unsold of an order; its leases stay. The answer is the order as it stands then."""
        may_end_orders(request.user)
        return await desk.cancel(request.user, terms.parsed("order_id", parse_order_id, order_id))

    @delete("/v1/orders/by-client-id/{client_order_id:str}", status_code=200, **keys.door(Scope.READ, 404, 409, 504))
    async def cancel_named_order(request: ApiRequest, client_order_id: FromPath[str]) -> resources.Order:
        """Likewise of the order that has this client_order_id, one too whose answer nobody has seen yet."""
        may_end_orders(request.user)
        return await desk.cancel_named(request.user, client_order_id)

    @delete("/v1/orders", status_code=200, **keys.door(Scope.READ, 404, 504))
    async def cancel_all_orders(request: ApiRequest, class_id: ClassFilter = None) -> resources.AllCancelled:
        """End what is unsold of all open orders of the account, in one class or in all. Safe to send again.

        It needs trade for the account's bids and supply for its asks.
        """
        may_end_orders(request.user)
        return await controls.cancel_all(request.user, class_id)

    @put("/v1/dead-man", **keys.door(Scope.READ, 422, 504))
    async def arm_dead_man(request: ApiRequest, data: JSONBody[resources.NewDeadMan]) -> resources.DeadMan:
        """Cancel all open orders of the account at that time, in all classes, unless this is sent again before.

        To renew at that very time is too late. Once it has acted it is off. It needs the scopes that a cancel of all
        would need now.
        """
        may_end_orders(request.user)
        return await controls.arm_dead_man(request.user, data)

    @delete("/v1/dead-man", status_code=200, **keys.door(Scope.READ, 504))
    async def disarm_dead_man(request: ApiRequest) -> resources.DeadMan:
        """Switch it off: the account's orders stand."""
        may_end_orders(request.user)
        return await controls.disarm_dead_man(request.user)

    @get("/v1/standing", **keys.door(Scope.READ, 504))
    async def own_standing(request: ApiRequest) -> resources.Standing:
        """Whether the account's kill switch is on, what limits it has, and when its dead man's switch acts."""
        return await controls.standing(request.user.account.id)

    return [
        arm_dead_man,
        disarm_dead_man,
        own_standing,
        place_bid,
        place_ask,
        list_orders,
        list_bids,
        list_asks,
        show_order,
        show_named_order,
        amend_order,
        cancel_order,
        cancel_named_order,
        cancel_all_orders,
    ]


def control_routes(keys: Keys, controls: Controls) -> list[HTTPRouteHandler]:
    """What the exchange's own people do to it while it runs. Each is safe to send again."""

    @put("/v1/halt", **keys.door(Scope.ADMIN, 404, 504))
    async def halt(data: JSONBody[resources.NewHalt]) -> resources.Halts:
        """Halt a class or, where none is named, all; with mode none resume it. A class opened later is not halted."""
        return await controls.halt(terms.choice("mode", resources.HALT_MODES, data.mode), data.class_id)

    @put("/v1/accounts/{account_id:str}/kill", **keys.door(Scope.ADMIN, 404, 504))
    async def kill(account_id: FromPath[str], data: JSONBody[resources.NewKill]) -> resources.Kill:
        """The kill switch: on cancels all open orders of the account, and refuses what it sends until it is off."""
        return await controls.kill(terms.parsed("account_id", parse_account_id, account_id), on=data.on)

    @put("/v1/accounts/{account_id:str}/limits", **keys.door(Scope.ADMIN, 404, 422, 504))
    async def limit(account_id: FromPath[str], data: JSONBody[resources.NewLimits]) -> resources.Limits:
        """What the account may have at most, for orders to come."""
        return await controls.limit(terms.parsed("account_id", parse_account_id, account_id), data)

    @get("/v1/accounts/{account_id:str}/standing", **keys.door(Scope.ADMIN, 404, 504))
    async def standing(account_id: FromPath[str]) -> resources.Standing:
        """Whether the account's kill switch is on, what limits it has, and when its dead man's switch acts."""
        return await controls.standing(terms.parsed("account_id", parse_account_id, account_id))

    @delete("/v1/orders/of-everybody", status_code=200, **keys.door(Scope.ADMIN, 404, 504))
    async def cancel_everybody(class_id: ClassFilter = None) -> resources.AllCancelled:
        """End what is unsold of all open orders of every account, in one class or in all, whatever is halted."""
        return await controls.cancel_everybody(class_id)

    @put("/v1/classes/{class_id:str}/reference", **keys.door(Scope.ADMIN, 404, 422, 504))
    async def set_reference(class_id: FromPath[str], data: JSONBody[resources.NewReference]) -> resources.Reference:
        """The price around which the class's band lies from now on. Orders that stand stay."""
        return await controls.set_reference(class_id, terms.parsed("price", parse_usd, data.price))

    @patch("/v1/classes/{class_id:str}", **keys.door(Scope.ADMIN, 404, 422, 504))
    async def change_class(class_id: FromPath[str], data: JSONBody[resources.NewClassTerms]) -> resources.Class:
        """New terms for orders to come; what they leave out stays as it is, and so do the orders that stand."""
        return await controls.change_class(class_id, data)

    @delete("/v1/classes/{class_id:str}", status_code=200, **keys.door(Scope.ADMIN, 404, 504))
    async def retire_class(class_id: FromPath[str]) -> resources.Class:
        """Close the class's book for ever: its orders are cancelled, its leases stay, its name is not used again."""
        return await controls.retire_class(class_id)

    return [halt, kill, limit, standing, cancel_everybody, set_reference, change_class, retire_class]


def may_end_orders(key: ApiKey) -> None:
    """Raises ApiError 403 for a key that may end no order at all."""
    if not key.scopes & {Scope.TRADE, Scope.SUPPLY}:
        raise ApiError(403, "missing_scope", "this needs a key with the scope trade, or supply for asks")


def placed(order: resources.Order, replayed: bool) -> Response[resources.Order]:
    """The answer to an order that was placed, or was there before."""
    if replayed:
        return Response(order, status_code=200, headers={REPLAYED: "true"}, media_type=MediaType.JSON)
    return Response(order, status_code=201, media_type=MediaType.JSON)


def _order_id(order: Order) -> int:
    assert order.order_id is not None, "those alone are listed"
    return order.order_id


def _window(start: str, duration: str, now: int) -> tuple[int, int]:
    """(start, duration) of a delivery window, in ms; a start that is `now` is the book's to say: 0."""
    duration_ms = terms.parsed("duration", parse_duration, duration)
    if not GRID_MS <= duration_ms <= MAX_WINDOW_MS:
        raise refused(Refusal.DURATION_OUT_OF_RANGE, (duration_ms, MAX_WINDOW_MS))
    start_ms = 0 if start == "now" else terms.moment("start", start, now)
    if not 0 <= start_ms <= MAX_TIME_MS - MAX_WINDOW_MS:
        raise refused(Refusal.TIME_OUT_OF_RANGE, ("start", start_ms))
    if start_ms % GRID_MS:
        raise refused(Refusal.WINDOW_OFF_GRID, ("start", start_ms))
    return start_ms, duration_ms


def _shown_level(level: BookLevel) -> resources.BookLevel:
    return resources.BookLevel(price=format_usd(level.price), quantity=level.quantity, orders=level.orders)


def _shown_position(position: int) -> str | None:
    return None if position < 0 else format_order_id(position)


def _answers_up_to(position: int) -> int:
    return 0 if position < 0 else offset_of(position) + 1
