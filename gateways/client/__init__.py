"""The exchange from Python: `Exchange`, `ExchangeError`, and what its answers hold in `types`."""

from gateways.client.exchange import Exchange, ExchangeError

__all__ = ["Exchange", "ExchangeError"]
