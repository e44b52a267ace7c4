"""What settlement and the auditor tell Prometheus."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class SettlementMetrics:
    """The figures. Labels of `settlement_lag`: topic and partition."""

    def __init__(self, registry: CollectorRegistry) -> None:
        by = ["topic", "partition"]
        self._lag = Gauge("settlement_lag", "Records in the log that are not applied yet", by, registry=registry)
        self._payout = Gauge(
            "settlement_oldest_payout_seconds",
            "How long the oldest requested withdrawal waits to be sent, 0 where none does",
            registry=registry,
        )

    def behind(self, topic: str, partition: int, records: int) -> None:
        """So many are not applied."""
        self._lag.labels(topic, partition).set(records)

    def payout_waits(self, ms: int) -> None:
        """The oldest one, since it was requested."""
        self._payout.set(ms // 1000)


class AuditMetrics:
    """The figures. Label of `audit_findings`: the rule that is broken."""

    def __init__(self, registry: CollectorRegistry, rules: Iterable[str]) -> None:
        self._findings = Gauge("audit_findings", "What is not as it must be", ["rule"], registry=registry)
        self._rules = tuple(rules)
        self._imbalance = Gauge("audit_imbalance_microusd", "How far the ledger is off, 0 always", registry=registry)
        self._transaction = Gauge("audit_transaction", "The last transaction counted", registry=registry)
        self._lag = Gauge("audit_lag", "Transactions that are not counted yet", registry=registry)
        self._sweep = Gauge("audit_sweep", "The how manyth look at everything is under way", registry=registry)
        self._rounds = Counter("audit_rounds", "Rounds done: an auditor that lives adds to them", registry=registry)
        self._seconds = Histogram("audit_round_seconds", "Time of a round", registry=registry)
        self.found({}, 0)

    def round(self, transaction: int, behind: int, sweep: int, seconds: float) -> None:
        """One is done."""
        self._transaction.set(transaction)
        self._lag.set(behind)
        self._sweep.set(sweep)
        self._rounds.inc()
        self._seconds.observe(seconds)

    def found(self, findings: Mapping[str, int], imbalance: int) -> None:
        """How many there are of each rule, and µ$."""
        for rule in self._rules:
            self._findings.labels(rule).set(findings.get(rule, 0))
        self._imbalance.set(imbalance)
