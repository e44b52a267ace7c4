"""What the publishers of fills of one process tell Prometheus, by partition."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class FillsMetrics:
    """The figures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        by = ["partition"]
        self.published = Counter("fills_published", "Fills made public", by, registry=registry)
        self.lag = Gauge("fills_lag", "Answers in the log whose fills are not public yet", by, registry=registry)
