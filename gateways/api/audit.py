"""The route of the audit that goes on all the time: where it stands, and whether it found anything."""

from litestar import get
from litestar.handlers import HTTPRouteHandler

from gateways.api import resources
from gateways.api.keys import Keys
from schemas.store import AuditStatus, Scope, Store
from schemas.units import SECOND_MS

MAX_FINDINGS = 100


def audit_routes(store: Store, keys: Keys) -> list[HTTPRouteHandler]:
    """What an operator and an auditor ask."""

    @get("/v1/audit", **keys.door(Scope.ADMIN))
    async def audit_status() -> resources.AuditStatus:
        """Where the audit stands, and the oldest 100 of what it found. `alarm`: there is any, or it has stopped."""
        return _shown(await store.audit_status(limit=MAX_FINDINGS))

    return [audit_status]


def _shown(status: AuditStatus) -> resources.AuditStatus:
    return resources.AuditStatus(
        alarm=status.is_alarming,
        transaction=status.transaction,
        digest=status.digest.hex(),
        behind=status.behind,
        round_age_s=_seconds(status.round_age_ms),
        sweep=status.sweep,
        sweep_age_s=_seconds(status.sweep_age_ms),
        imbalance_microusd=status.imbalance,
        findings=[
            resources.AuditFinding(each.rule, each.what, each.found, each.expected, each.age_ms // SECOND_MS)
            for each in status.findings
        ],
    )


def _seconds(age_ms: int | None) -> int | None:
    return None if age_ms is None else age_ms // SECOND_MS
