"""The exchange from Python. It stands alone: aiohttp and msgspec, nothing else of this project.

async with Exchange(url, key) as cx:
    order = await cx.buy("H100-SXM-80GB", gpus=8, hours=24, max_price="2.60")
    async for fill in cx.fills(order):
        print(fill.quantity, fill.price, fill.lease_id)
"""

from gateways.client.exchange import Exchange, ExchangeError

__all__ = ["Exchange", "ExchangeError"]
