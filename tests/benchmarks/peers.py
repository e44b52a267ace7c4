"""Matching engines from PyPI on the stream of `engine_plain`: plain price-time books, which is all they know.

Imported only where they run: pyorderbook sets up logging for the whole process on import.
"""

import time
from collections.abc import Sequence

import lightmatchingengine.lightmatchingengine as light
import pyorderbook

from gateways.cli.processes import spare_garbage_collection
from tests.benchmarks.bare_book import BID, CANCEL, BareCommand
from tests.benchmarks.engine_streams import CLASS


async def lightmatchingengine_rate(commands: Sequence[BareCommand]) -> float:
    """Commands a second. It numbers orders itself, from 1; its cancels look through one price from the oldest on."""
    numbers: dict[int, int] = {}
    calls: list[tuple[int, int, int]] = []
    for what, order_id, price, quantity in commands:
        if what == CANCEL:
            calls.append((0, numbers[order_id], 0))
        else:
            numbers[order_id] = len(numbers) + 1
            calls.append((light.Side.BUY if what == BID else light.Side.SELL, price, quantity))
    engine = light.LightMatchingEngine()
    add, cancel = engine.add_order, engine.cancel_order
    spare_garbage_collection()
    began = time.perf_counter()
    for side, price, quantity in calls:
        if side:
            add(CLASS, price, quantity, side)
        else:
            cancel(price, CLASS)
    return len(calls) / (time.perf_counter() - began)


async def pyorderbook_rate(commands: Sequence[BareCommand]) -> float:
    """Commands a second. Its orders are made before, with their UUIDs and Decimals, and are told by no clock."""
    orders: dict[int, pyorderbook.Order] = {}
    calls: list[tuple[bool, pyorderbook.Order]] = []
    for what, order_id, price, quantity in commands:
        if what == CANCEL:
            calls.append((False, orders[order_id]))
        else:
            side = pyorderbook.Side.BID if what == BID else pyorderbook.Side.ASK
            orders[order_id] = pyorderbook.Order(side, CLASS, price, quantity)
            calls.append((True, orders[order_id]))
    book = pyorderbook.Book()
    match, cancel = book.match, book.cancel
    spare_garbage_collection()
    began = time.perf_counter()
    for placed, order in calls:
        if placed:
            match(order)
        else:
            cancel(order)
    return len(calls) / (time.perf_counter() - began)
