"""The exchange from Python without `await`: the same names, and the same answers.

with Exchange(url, key) as cx:
    order = cx.buy("H100-SXM-80GB", gpus=8, hours=24, max_price="2.60")
    for fill in cx.fills(order):
        print(fill.quantity, "GPUs at", fill.price)

Each method is that of `gateways.client.exchange.Exchange`, run on an event loop in a thread of its own.
"""

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, overload

from gateways.client import ccxt, exchange
from gateways.client.exchange import ExchangeError, Signs
from gateways.client.types import Fill, Order, OrderFill

Args = ParamSpec("Args")
Result = TypeVar("Result")


def _call(
    method: Callable[Concatenate[Any, Args], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate["Exchange", Args], Result]:
    @functools.wraps(method)
    def call(self: "Exchange", /, *args: Args.args, **named: Args.kwargs) -> Result:
        return self._wait(method(self._exchange, *args, **named))

    return call


def _stream(
    method: Callable[Concatenate[Any, Args], AsyncIterator[Result]],
) -> Callable[Concatenate["Exchange", Args], Iterator[Result]]:
    @functools.wraps(method)
    def stream(self: "Exchange", /, *args: Args.args, **named: Args.kwargs) -> Iterator[Result]:
        return self._iterate(method(self._exchange, *args, **named))

    return stream


class Exchange:
    """An exchange at `url`, for the holder of `key`, or of what `signer` signs with; without either, what is public.

    Several threads may use one at the same time; an iterator is for one of them. What waits when it is closed raises
    ExchangeError `closed`.
    """

    _kind: type[exchange.Exchange] = exchange.Exchange

    def __init__(self, url: str, key: str | None = None, *, signer: Signs | None = None) -> None:
        self._exchange = self._kind(url, key, signer=signer)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._opening = threading.Lock()
        """Held while something is given to the loop: nothing is after it has been told to stop."""

    def __enter__(self) -> Self:
        with self._opening:
            assert self._loop is None, "it is open already"
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="exchange client", daemon=True)
            self._thread.start()
        self._wait(self._exchange.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._opening:
            loop, self._loop = self._loop, None
        assert loop is not None
        assert self._thread is not None
        asyncio.run_coroutine_threadsafe(self._close(loop), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()

    async def _close(self, loop: asyncio.AbstractEventLoop) -> None:
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await loop.shutdown_asyncgens()
        await self._exchange.__aexit__(None, None, None)

    # Trading

    buy = _call(exchange.Exchange.buy)
    sell = _call(exchange.Exchange.sell)
    bid = _call(exchange.Exchange.bid)
    ask = _call(exchange.Exchange.ask)
    preview_bid = _call(exchange.Exchange.preview_bid)
    preview_ask = _call(exchange.Exchange.preview_ask)
    place_many = _call(exchange.Exchange.place_many)
    amend = _call(exchange.Exchange.amend)
    cancel = _call(exchange.Exchange.cancel)
    cancel_named = _call(exchange.Exchange.cancel_named)
    cancel_many = _call(exchange.Exchange.cancel_many)
    cancel_all = _call(exchange.Exchange.cancel_all)
    arm_dead_man = _call(exchange.Exchange.arm_dead_man)
    disarm_dead_man = _call(exchange.Exchange.disarm_dead_man)
    order = _call(exchange.Exchange.order)
    why = _call(exchange.Exchange.why)
    order_named = _call(exchange.Exchange.order_named)
    orders = _call(exchange.Exchange.orders)

    # Leases

    leases = _call(exchange.Exchange.leases)
    lease = _call(exchange.Exchange.lease)
    deliver = _call(exchange.Exchange.deliver)
    extend = _call(exchange.Exchange.extend)
    renew = _call(exchange.Exchange.renew)
    stop_renewal = _call(exchange.Exchange.stop_renewal)
    add_webhook = _call(exchange.Exchange.add_webhook)
    webhooks = _call(exchange.Exchange.webhooks)
    remove_webhook = _call(exchange.Exchange.remove_webhook)
    deliveries = _call(exchange.Exchange.deliveries)
    replay_delivery = _call(exchange.Exchange.replay_delivery)
    add_ssh_key = _call(exchange.Exchange.add_ssh_key)
    ssh_keys = _call(exchange.Exchange.ssh_keys)
    remove_ssh_key = _call(exchange.Exchange.remove_ssh_key)
    accept = _call(exchange.Exchange.accept)
    degrade = _call(exchange.Exchange.degrade)
    restore = _call(exchange.Exchange.restore)
    reclaim = _call(exchange.Exchange.reclaim)
    end = _call(exchange.Exchange.end)
    report_usage = _call(exchange.Exchange.report_usage)
    usage = _call(exchange.Exchange.usage)
    usage_by_lease = _call(exchange.Exchange.usage_by_lease)
    usage_by_hour = _call(exchange.Exchange.usage_by_hour)
    refused_usage = _call(exchange.Exchange.refused_usage)

    # Money, accounts and keys

    balance = _call(exchange.Exchange.balance)
    account = _call(exchange.Exchange.account)
    accounts = _call(exchange.Exchange.accounts)
    create_account = _call(exchange.Exchange.create_account)
    fees = _call(exchange.Exchange.fees)
    set_fee = _call(exchange.Exchange.set_fee)
    set_tier = _call(exchange.Exchange.set_tier)
    create_key = _call(exchange.Exchange.create_key)
    keys = _call(exchange.Exchange.keys)
    rotate_key = _call(exchange.Exchange.rotate_key)
    revoke_key = _call(exchange.Exchange.revoke_key)
    caps = _call(exchange.Exchange.caps)
    set_caps = _call(exchange.Exchange.set_caps)
    daily_credits = _call(exchange.Exchange.daily_credits)
    grant_daily = _call(exchange.Exchange.grant_daily)
    spend = _call(exchange.Exchange.spend)
    deposit = _call(exchange.Exchange.deposit)
    deposits = _call(exchange.Exchange.deposits)
    withdraw = _call(exchange.Exchange.withdraw)
    withdrawal = _call(exchange.Exchange.withdrawal)
    withdrawals = _call(exchange.Exchange.withdrawals)
    outgoing = _call(exchange.Exchange.outgoing)
    set_withdrawal = _call(exchange.Exchange.set_withdrawal)
    set_credit = _call(exchange.Exchange.set_credit)
    entries = _call(exchange.Exchange.entries)
    invoices = _call(exchange.Exchange.invoices)
    invoice = _call(exchange.Exchange.invoice)
    invoice_file = _call(exchange.Exchange.invoice_file)
    correct = _call(exchange.Exchange.correct)
    correct_any = _call(exchange.Exchange.correct_any)
    corrections = _call(exchange.Exchange.corrections)
    focus = _stream(exchange.Exchange.focus)
    focus_csv = _call(exchange.Exchange.focus_csv)

    # The market

    classes = _call(exchange.Exchange.classes)
    create_class = _call(exchange.Exchange.create_class)
    change_class = _call(exchange.Exchange.change_class)
    retire_class = _call(exchange.Exchange.retire_class)
    set_reference = _call(exchange.Exchange.set_reference)
    halt = _call(exchange.Exchange.halt)
    kill = _call(exchange.Exchange.kill)
    set_limits = _call(exchange.Exchange.set_limits)
    cancel_everybody = _call(exchange.Exchange.cancel_everybody)
    standing = _call(exchange.Exchange.standing)
    book = _call(exchange.Exchange.book)
    offers = _call(exchange.Exchange.offers)
    candles = _call(exchange.Exchange.candles)
    tickers = _call(exchange.Exchange.tickers)
    watch = _stream(exchange.Exchange.watch)
    depth = _stream(exchange.Exchange.depth)
    lease_changes = _stream(exchange.Exchange.lease_changes)
    status = _call(exchange.Exchange.status)
    openapi = _call(exchange.Exchange.openapi)
    suppliers = _call(exchange.Exchange.suppliers)
    supplier_record = _call(exchange.Exchange.supplier_record)
    audit = _call(exchange.Exchange.audit)

    @overload
    def fills(self, order: Order) -> Iterator[OrderFill]: ...

    @overload
    def fills(
        self, order: None = None, *, class_id: str | None = None, after: str = "end", follow: bool = True
    ) -> Iterator[Fill]: ...

    @functools.wraps(exchange.Exchange.fills)
    def fills(
        self, order: Order | None = None, *, class_id: str | None = None, after: str = "end", follow: bool = True
    ) -> Iterator[OrderFill] | Iterator[Fill]:
        if order is not None:
            return self._iterate(self._exchange.fills(order))
        return self._iterate(self._exchange.fills(class_id=class_id, after=after, follow=follow))

    # How it is done

    def _wait(self, coming: Coroutine[Any, Any, Result]) -> Result:
        """What it gives, or raises; the caller's thread waits."""
        future = self._begun(coming)
        try:
            return future.result()
        except CancelledError:
            raise ExchangeError("closed", "it was closed while this was under way") from None
        except BaseException:
            future.cancel()  # Ctrl-C, which the caller sees, while the other thread goes on
            raise

    def _begun(self, coming: Coroutine[Any, Any, Result]) -> Future[Result]:
        with self._opening:
            if self._loop is None:
                coming.close()
                raise ExchangeError("closed", "it is not open: use it as `with Exchange(…) as cx`")
            return asyncio.run_coroutine_threadsafe(coming, self._loop)

    def _iterate(self, stream: AsyncIterator[Result]) -> Iterator[Result]:
        try:
            while (found := self._wait(_next(stream))) is not None:
                yield found
        finally:
            # Who stops reading early may be the garbage collector, in whatever thread: nobody waits for it.
            with contextlib.suppress(ExchangeError):
                self._begun(_ended(stream))


class Ccxt(Exchange):
    """An Exchange with ccxt's names beside its own: see `gateways.client.ccxt`."""

    _kind = ccxt.Ccxt

    fetch_markets = _call(ccxt.Ccxt.fetch_markets)
    load_markets = _call(ccxt.Ccxt.load_markets)
    fetch_ticker = _call(ccxt.Ccxt.fetch_ticker)
    fetch_tickers = _call(ccxt.Ccxt.fetch_tickers)
    fetch_order_book = _call(ccxt.Ccxt.fetch_order_book)
    fetch_ohlcv = _call(ccxt.Ccxt.fetch_ohlcv)
    fetch_trades = _call(ccxt.Ccxt.fetch_trades)
    fetch_balance = _call(ccxt.Ccxt.fetch_balance)
    create_order = _call(ccxt.Ccxt.create_order)
    edit_order = _call(ccxt.Ccxt.edit_order)
    cancel_order = _call(ccxt.Ccxt.cancel_order)
    cancel_all_orders = _call(ccxt.Ccxt.cancel_all_orders)
    fetch_order = _call(ccxt.Ccxt.fetch_order)
    fetch_orders = _call(ccxt.Ccxt.fetch_orders)
    fetch_open_orders = _call(ccxt.Ccxt.fetch_open_orders)
    fetch_closed_orders = _call(ccxt.Ccxt.fetch_closed_orders)
    fetch_my_trades = _call(ccxt.Ccxt.fetch_my_trades)
    watch_order_book = _stream(ccxt.Ccxt.watch_order_book)
    watch_trades = _stream(ccxt.Ccxt.watch_trades)
    watch_ticker = _stream(ccxt.Ccxt.watch_ticker)
    watch_ohlcv = _stream(ccxt.Ccxt.watch_ohlcv)
    watch_orders = _stream(ccxt.Ccxt.watch_orders)


async def _next(stream: AsyncIterator[Result]) -> Result | None:
    return await anext(stream, None)


async def _ended(stream: AsyncIterator[Any]) -> None:
    if isinstance(stream, AsyncGenerator):
        await stream.aclose()
