"""Metered use on a supplier's node: what dcgm-exporter shows, on disk first, then to the exchange."""
