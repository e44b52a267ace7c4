"""The exchange from Python: `Exchange`, `ExchangeError`, what its answers hold in `types`, and for who is told by its
webhooks `verify`."""

from gateways.client.exchange import Exchange, ExchangeError
from gateways.client.webhooks import SignatureError, verify

__all__ = ["Exchange", "ExchangeError", "SignatureError", "verify"]
