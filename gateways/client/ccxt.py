"""For who has bots written for ccxt (https://docs.ccxt.com): its names and its structures, over this exchange.

async with Ccxt(url, key) as market:
    order = await market.create_order("H100-SXM-80GB/USD", "limit", "buy", 8, "2.60", {"duration": "24h"})
    await market.cancel_order(order["id"])

What is other than there, as GPU time is other than coins:

- No float holds money: a price may be given as Decimal, str or int, and comes as Decimal; amounts are GPUs, so int. A
  float is refused.
- A price is dollars per GPU-hour, so `cost` (and with it `quoteVolume`) is the price times GPUs times hours.
- What trades is a window: `params` has `duration` for who buys, `end` for who sells (`now+30d`), and may have `start`,
  `starts`, `region` (one, or several with commas) and every further field of POST /v1/bids and /v1/asks by its name
  there. Books are of the window that `params` says as `start` and `duration`; without it, of an hour from now on.
- There are no market orders: `limit` with `timeInForce` IOC takes what is there, up to a price.
- `watch_*` are iterators, where ccxt has calls that are made again and again.
- `info` has this exchange's own answer, with all that ccxt has no name for.

All of Exchange is there, too: leases, usage, what stands in an order's way. Without `await`: gateways.client.sync.Ccxt.
"""

from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, TypedDict

import msgspec

from gateways.client.exchange import Exchange, ExchangeError
from gateways.client.types import Accepts, Balance, Bid, Book, BookLevel, Candle, Class, Depth, Fill, Order, OrderFill
from gateways.client.types import Ticker as OwnTicker

QUOTE = "USD"
Number = Decimal | str | int
Params = Mapping[str, Any]
Side = Literal["buy", "sell"]
Info = dict[str, Any]
NOTHING: Params = {}
BEST = 1
LISTED = 100
_STATUS = {"sent": "open", "filled": "closed", "cancelled": "canceled", "lost": "canceled"}
_IN_FORCE = {"GTC": "gtc", "GTD": "gtd", "IOC": "ioc", "FOK": "fok"}
_INTERVALS = {"1m", "15m", "1h", "1d"}
_HOUR_S = 3600

OHLCV = tuple[int, Decimal, Decimal, Decimal, Decimal, Decimal]
"""Milliseconds, open, high, low, close, GPU-hours."""


class Fee(TypedDict):
    currency: str
    cost: Decimal | None
    rate: Decimal


class Trade(TypedDict):
    id: str
    order: str | None
    timestamp: int | None
    datetime: str | None
    symbol: str
    type: str | None
    side: str | None
    takerOrMaker: str | None
    price: Decimal
    amount: int
    cost: Decimal
    fee: Fee | None
    info: Info


class OrderBook(TypedDict):
    symbol: str
    bids: list[tuple[Decimal, int]]
    asks: list[tuple[Decimal, int]]
    timestamp: int
    datetime: str
    nonce: int | None
    info: Info


class Ticker(TypedDict):
    symbol: str
    timestamp: int | None
    datetime: str | None
    bid: Decimal | None
    bidVolume: int | None
    ask: Decimal | None
    askVolume: int | None
    last: Decimal | None
    close: Decimal | None
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    vwap: Decimal | None
    change: Decimal | None
    percentage: Decimal | None
    baseVolume: Decimal | None
    quoteVolume: Decimal | None
    info: Info


class UnifiedOrder(TypedDict):
    """ccxt's order structure."""

    id: str | None
    clientOrderId: str
    timestamp: int
    datetime: str
    lastTradeTimestamp: int | None
    status: str
    symbol: str
    type: str
    timeInForce: str
    postOnly: bool
    side: str
    price: Decimal
    average: Decimal | None
    amount: int
    filled: int
    remaining: int
    cost: Decimal | None
    fee: Fee
    trades: list[Trade]
    info: Info


class Market(TypedDict):
    id: str
    symbol: str
    base: str
    quote: str
    baseId: str
    quoteId: str
    active: bool
    type: str
    spot: bool
    contract: bool
    precision: dict[str, Number]
    limits: dict[str, dict[str, Number | None]]
    info: Info


class Ccxt(Exchange):
    """An Exchange with ccxt's names beside its own."""

    async def fetch_markets(self, params: Params = NOTHING) -> list[Market]:
        """All classes."""
        return [_market(each) for each in await self.classes()]

    async def load_markets(self, reload: bool = False, params: Params = NOTHING) -> dict[str, Market]:
        """Likewise, by symbol. Nothing is kept, so `reload` changes nothing."""
        return {each["symbol"]: each for each in await self.fetch_markets()}

    async def fetch_ticker(self, symbol: str, params: Params = NOTHING) -> Ticker:
        """The last price, the last 24 hours, and the best prices of the window that `params` says."""
        class_id = class_of(symbol)
        book = await self.book(class_id, levels=BEST, **_window(params))
        own = next((each for each in await self.tickers() if each.class_id == class_id), None)
        return _ticker(class_id, own, book.bids, book.asks)

    async def fetch_tickers(self, symbols: Sequence[str] | None = None, params: Params = NOTHING) -> dict[str, Ticker]:
        """Likewise of several or of all, without best prices: those are of a window."""
        wanted = None if symbols is None else {class_of(symbol) for symbol in symbols}
        found = [each for each in await self.tickers() if wanted is None or each.class_id in wanted]
        return {symbol_of(each.class_id): _ticker(each.class_id, each, [], []) for each in found}

    async def fetch_order_book(self, symbol: str, limit: int = 10, params: Params = NOTHING) -> OrderBook:
        """The book of the window that `params` says (`start`, `duration`), `limit` prices a side."""
        return _book(await self.book(class_of(symbol), levels=limit, **_window(params)))

    async def fetch_ohlcv(
        self,
        symbol: str,
        timeframe: str = "1h",
        since: int | None = None,
        limit: int = LISTED,
        params: Params = NOTHING,
    ) -> list[OHLCV]:
        """Candles of 1m, 15m, 1h or 1d, oldest first: the newest `limit`, and of these those from `since` (ms) on."""
        if timeframe not in _INTERVALS:
            raise ExchangeError("invalid", f"timeframe {timeframe!r} is none of {', '.join(sorted(_INTERVALS))}")
        found = await self.candles(class_of(symbol), timeframe, limit=limit)
        return [each for each in map(_ohlcv, found) if since is None or each[0] >= since]

    async def fetch_trades(
        self, symbol: str, since: int | None = None, limit: int = LISTED, params: Params = NOTHING
    ) -> list[Trade]:
        """The newest public fills, oldest first."""
        newest: deque[Fill] = deque(maxlen=limit)
        async for fill in self.fills(class_id=class_of(symbol), after="start", follow=False):
            if since is None or _ms(fill.time) >= since:
                newest.append(fill)
        return [_public_trade(fill) for fill in newest]

    async def fetch_balance(self, params: Params = NOTHING) -> dict[str, Any]:
        """Cash is `free`; what bids hold and what leases have in escrow is `used`."""
        return _balance(await self.balance())

    async def create_order(
        self,
        symbol: str,
        type: str,
        side: Side,
        amount: int,
        price: Number | None = None,
        params: Params = NOTHING,
    ) -> UnifiedOrder:
        """Places a limit order: there are no others, so it has a price.

        `params`: `duration` to buy, `end` to sell, and further terms; without `min_fill` a purchase is all from one
        place. `clientOrderId`, `timeInForce`, `postOnly` are ccxt's.
        """
        terms = _terms(side, type, amount, price, params)
        if side == "buy":
            return _order(await self.bid(class_of(symbol), amount, **terms))
        return _order(await self.ask(class_of(symbol), amount, **terms))

    async def edit_order(
        self,
        id: str,
        symbol: str,
        type: str,
        side: Side,
        amount: int | None = None,
        price: Number | None = None,
        params: Params = NOTHING,
    ) -> UnifiedOrder:
        """New terms for an open order, which keeps its id; fewer GPUs alone keep its place."""
        terms = {"quantity": amount, "price": None if price is None else _said(price), **_own_names(params)}
        return _order(await self.amend(id, **{name: term for name, term in terms.items() if term is not None}))

    async def cancel_order(self, id: str, symbol: str | None = None, params: Params = NOTHING) -> UnifiedOrder:
        """Ends what is unsold of an order."""
        return _order(await self.cancel(id))

    async def cancel_all_orders(self, symbol: str | None = None, params: Params = NOTHING) -> list[UnifiedOrder]:
        """Ends what is unsold of all open orders, of one symbol or of all: those that were open before."""
        before = await self.orders(status="open", class_id=_class_or_all(symbol), limit=10_000)
        await self.cancel_all(_class_or_all(symbol))
        found = await self.cancel_many([each.order_id or "" for each in before])
        return [_order(each) for each in found if not isinstance(each, ExchangeError)]

    async def fetch_order(self, id: str, symbol: str | None = None, params: Params = NOTHING) -> UnifiedOrder:
        """An own order, with its trades."""
        return _order(await self.order(id))

    async def fetch_orders(
        self, symbol: str | None = None, since: int | None = None, limit: int = LISTED, params: Params = NOTHING
    ) -> list[UnifiedOrder]:
        """Own orders, oldest first, without their trades."""
        return await self._orders_of(None, symbol, since, limit)

    async def fetch_open_orders(
        self, symbol: str | None = None, since: int | None = None, limit: int = LISTED, params: Params = NOTHING
    ) -> list[UnifiedOrder]:
        """Those of them that stand."""
        return await self._orders_of("open", symbol, since, limit)

    async def fetch_closed_orders(
        self, symbol: str | None = None, since: int | None = None, limit: int = LISTED, params: Params = NOTHING
    ) -> list[UnifiedOrder]:
        """Those of them that are filled."""
        return await self._orders_of("filled", symbol, since, limit)

    async def fetch_my_trades(
        self, symbol: str | None = None, since: int | None = None, limit: int = LISTED, params: Params = NOTHING
    ) -> list[Trade]:
        """What own orders traded, oldest first: the newest `limit`, by the leases that they became. `role` in `params`:
        buyer, as usual, or supplier."""
        role = params.get("role", "buyer")
        found = await self.leases(role=role, class_id=_class_or_all(symbol), limit=limit)
        return [
            _trade(
                *(each.lease_id.replace("lse_", "fil_"), each.class_id, each.price, each.quantity),
                *(each.start, each.end),
                time=each.created_at,
                order_id=each.order_id,
                side="buy" if role == "buyer" else "sell",
                taker_or_maker=None,
                info=each,
            )
            for each in reversed(found)
            if since is None or _ms(each.created_at) >= since
        ]

    async def watch_order_book(self, symbol: str, params: Params = NOTHING) -> AsyncIterator[OrderBook]:
        """The book after every change, for windows of `window` (1h, 24h, 7d, 30d) in `params`."""
        async for depth in self.depth(class_of(symbol), params.get("window", "24h")):
            yield _book(depth)

    async def watch_trades(self, symbol: str, params: Params = NOTHING) -> AsyncIterator[Trade]:
        """Public fills, as they happen."""
        async for fill in self.fills(class_id=class_of(symbol)):
            yield _public_trade(fill)

    async def watch_ticker(self, symbol: str, params: Params = NOTHING) -> AsyncIterator[Ticker]:
        """The last price and the last 24 hours, after every change."""
        async for message in self.watch("ticker", class_of(symbol)):
            own = msgspec.convert(message.body, OwnTicker)
            yield _ticker(own.class_id, own, [], [])

    async def watch_ohlcv(
        self, symbol: str, timeframe: str = "1h", params: Params = NOTHING
    ) -> AsyncIterator[list[OHLCV]]:
        """The candles that are new or other, after every change."""
        async for message in self.watch("candles", class_of(symbol), interval=timeframe):
            yield [_ohlcv(each) for each in msgspec.convert(message.body["candles"], list[Candle])]

    async def watch_orders(self, params: Params = NOTHING) -> AsyncIterator[UnifiedOrder]:
        """Own orders: those that are open, then each that something becomes of."""
        async for message in self.watch("orders"):
            if message.type == "whole":
                for order in msgspec.convert(message.body["orders"], list[Order]):
                    yield _order(order)
            elif order_id := message.body.get("order_id"):
                yield await self.fetch_order(order_id)

    async def _orders_of(
        self, status: str | None, symbol: str | None, since: int | None, limit: int
    ) -> list[UnifiedOrder]:
        found = await self.orders(status=status, class_id=_class_or_all(symbol), limit=limit)
        return [_order(each) for each in reversed(found) if since is None or _ms(each.created_at) >= since]


def symbol_of(class_id: str) -> str:
    """H100-SXM-80GB -> H100-SXM-80GB/USD"""
    return f"{class_id}/{QUOTE}"


def class_of(symbol: str) -> str:
    """The other way round; a class by its own name is taken, too."""
    return symbol.removesuffix(f"/{QUOTE}")


def _class_or_all(symbol: str | None) -> str | None:
    return None if symbol is None else class_of(symbol)


def _window(params: Params) -> dict[str, str]:
    return {name: params[name] for name in ("start", "duration") if name in params}


def _said(price: Number) -> str:
    if isinstance(price, float):
        raise ExchangeError("invalid", f"price {price!r} is a float: say it as Decimal or text", field="price")
    return format(price, "f") if isinstance(price, Decimal) else str(price)


def _own_names(params: Params) -> dict[str, Any]:
    """ccxt's names, and `region`, as the API has them; all others as they are."""
    terms = dict(params)
    if (name := terms.pop("clientOrderId", None)) is not None:
        terms["client_order_id"] = name
    if terms.pop("postOnly", False):
        terms["post_only"] = True
    in_force = terms.pop("timeInForce", None)
    if in_force == "PO":
        terms["post_only"] = True
    elif in_force is not None:
        terms["time_in_force"] = _IN_FORCE.get(in_force, in_force)
    return terms


def _terms(side: Side, type: str, amount: int, price: Number | None, params: Params) -> dict[str, Any]:
    terms = _own_names(params)
    if type != "limit" or price is None:
        raise ExchangeError("invalid", "an order is a limit order, with a price; timeInForce IOC makes it now or never")
    terms["price"] = _said(price)
    missing = "duration" if side == "buy" else "end"
    if missing not in terms:
        raise ExchangeError("invalid", f"say {missing} in params: what trades is a window", field=missing)
    if side == "buy":
        terms = {"min_fill": amount, **terms}
        if (region := terms.pop("region", None)) is not None:
            terms["accepts"] = Accepts(regions=region.split(","))
    return terms


def _market(found: Class) -> Market:
    return Market(
        id=found.class_id,
        symbol=symbol_of(found.class_id),
        base=found.class_id,
        quote=QUOTE,
        baseId=found.class_id,
        quoteId=QUOTE,
        active=not found.retired and found.halt == "none",
        type="spot",
        spot=True,
        contract=False,
        precision={"amount": 1, "price": Decimal(found.tick)},
        limits={
            "amount": {"min": 1, "max": found.max_quantity},
            "price": {"min": Decimal(found.tick), "max": Decimal(found.max_price)},
        },
        info=msgspec.to_builtins(found),
    )


def _ticker(class_id: str, own: OwnTicker | None, bids: Sequence[BookLevel], asks: Sequence[BookLevel]) -> Ticker:
    day = own.day if own is not None else None
    last = Decimal(own.last) if own is not None and own.last is not None else None
    begun = Decimal(day.open) if day is not None else None
    hours, value = (Decimal(day.gpu_hours), Decimal(day.value)) if day is not None else (None, None)
    change = last - begun if last is not None and begun is not None else None
    return Ticker(
        symbol=symbol_of(class_id),
        timestamp=_ms(own.time) if own is not None and own.time is not None else None,
        datetime=own.time if own is not None else None,
        bid=Decimal(bids[0].price) if bids else None,
        bidVolume=bids[0].quantity if bids else None,
        ask=Decimal(asks[0].price) if asks else None,
        askVolume=asks[0].quantity if asks else None,
        last=last,
        close=last,
        open=begun,
        high=Decimal(day.high) if day is not None else None,
        low=Decimal(day.low) if day is not None else None,
        vwap=value / hours if value is not None and hours else None,
        change=change,
        percentage=100 * change / begun if change is not None and begun else None,
        baseVolume=hours,
        quoteVolume=value,
        info=msgspec.to_builtins(own) if own is not None else {},
    )


def _book(found: Book | Depth) -> OrderBook:
    return OrderBook(
        symbol=symbol_of(found.class_id),
        bids=[(Decimal(level.price), level.quantity) for level in found.bids],
        asks=[(Decimal(level.price), level.quantity) for level in found.asks],
        timestamp=_ms(found.time),
        datetime=found.time,
        nonce=None,
        info=msgspec.to_builtins(found),
    )


def _ohlcv(candle: Candle) -> OHLCV:
    prices = Decimal(candle.open), Decimal(candle.high), Decimal(candle.low), Decimal(candle.close)
    return _ms(candle.start), *prices, Decimal(candle.gpu_hours)


def _balance(found: Balance) -> dict[str, Any]:
    free, used = Decimal(found.cash), Decimal(found.held) + Decimal(found.escrow)
    return {
        "info": msgspec.to_builtins(found),
        QUOTE: {"free": free, "used": used, "total": free + used},
        "free": {QUOTE: free},
        "used": {QUOTE: used},
        "total": {QUOTE: free + used},
    }


def _public_trade(fill: Fill) -> Trade:
    side = "buy" if fill.taker == "bid" else "sell"
    return _trade(
        *(fill.fill_id, fill.class_id, fill.price, fill.quantity, fill.start, fill.end),
        time=fill.time,
        order_id=None,
        side=side,
        taker_or_maker="taker",
        info=fill,
    )


def _trade(
    fill_id: str,
    class_id: str,
    price: str,
    quantity: int,
    start: str,
    end: str,
    *,
    time: str | None,
    order_id: str | None,
    side: str,
    taker_or_maker: str | None,
    info: object,
) -> Trade:
    return Trade(
        id=fill_id,
        order=order_id,
        timestamp=None if time is None else _ms(time),
        datetime=time,
        symbol=symbol_of(class_id),
        type=None,
        side=side,
        takerOrMaker=taker_or_maker,
        price=Decimal(price),
        amount=quantity,
        cost=_cost(price, quantity, start, end),
        fee=None,
        info=msgspec.to_builtins(info),
    )


def _cost(price: str, quantity: int, start: str, end: str) -> Decimal:
    return Decimal(price) * quantity * Decimal(_ms(end) - _ms(start)) / Decimal(1000 * _HOUR_S)


def _order(found: Order) -> UnifiedOrder:
    side = "buy" if isinstance(found, Bid) else "sell"
    trades = [_own_trade(found, each, side) for each in found.fills or []]
    known = found.fills is not None
    gpus = sum(each["amount"] for each in trades)
    return UnifiedOrder(
        id=found.order_id,
        clientOrderId=found.client_order_id,
        timestamp=_ms(found.created_at),
        datetime=found.created_at,
        lastTradeTimestamp=None,
        status=_STATUS.get(found.status, found.status),
        symbol=symbol_of(found.class_id),
        type="limit",
        timeInForce="PO" if found.post_only else found.time_in_force.upper(),
        postOnly=found.post_only,
        side=side,
        price=Decimal(found.price),
        average=sum((each["price"] * each["amount"] for each in trades), Decimal(0)) / gpus if gpus else None,
        amount=found.quantity,
        filled=found.filled,
        remaining=found.left,
        cost=sum((each["cost"] for each in trades), Decimal(0)) if known else None,
        fee=Fee(currency=QUOTE, cost=None, rate=Decimal(found.fee_bps) / 10_000),
        trades=trades,
        info=msgspec.to_builtins(found),
    )


def _own_trade(order: Order, fill: OrderFill, side: str) -> Trade:
    return _trade(
        *(fill.fill_id, order.class_id, fill.price, fill.quantity, fill.start, fill.end),
        time=None,
        order_id=order.order_id,
        side=side,
        taker_or_maker=None,
        info=fill,
    )


def _ms(time: str) -> int:
    """RFC 3339 -> milliseconds, exactly."""
    since = datetime.fromisoformat(time) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000
