"""Deposits, deliveries, acceptances and metered use: to the log, then settlement's own word on them."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

import structlog

from gateways.api import resources
from gateways.api.errors import ApiError, refused, unknown
from gateways.api.terms import parsed, usage_problem
from gateways.api.vault import Vault, VaultError
from schemas.codec import encode
from schemas.ids import LeaseId, format_account_id, format_lease_id, parse_lease_id, partition_of
from schemas.instructions import (
    Accept,
    Correct,
    CreditLimit,
    DailyCredits,
    Degrade,
    Deliver,
    Deposit,
    End,
    Instruction,
    Reclaim,
    Renew,
    Restore,
    UsageReport,
    Withdrawal,
    WithdrawalNews,
)
from schemas.log import Log
from schemas.refusals import Refusal
from schemas.store import Account, CloseReason, Lease, LeaseState, Outcome, Renewal, Store
from schemas.topics import INSTRUCTIONS, USAGE
from schemas.units import parse_time

DEPOSITS_PARTITION = 0
"""Of what concerns no lease. Withdrawals are there too, so that they come after the deposits that they need."""
MAX_KNOWN_SUPPLIERS = 10_000
MAX_GPU_MS = (1 << 63) - 1


class Clerk:
    """Appends what settlement folds and waits for what it made of it."""

    def __init__(self, log: Log, store: Store, vault: Vault, timeout_s: float) -> None:
        self._log = log
        self._vault = vault
        self._store = store
        self._timeout_s = timeout_s
        self._suppliers: OrderedDict[LeaseId, int] = OrderedDict()
        """Who supplies a lease: that never changes."""

    async def deposit(self, account: int, amount: int, reference: str) -> None:
        """Raises ApiError. The same reference again changes nothing."""
        if await self._store.account(account) is None:
            raise refused(Refusal.UNKNOWN_ACCOUNT, (account,))
        await self._instruct(
            DEPOSITS_PARTITION,
            Deposit(account=account, amount=amount, reference=reference),
            "send it again with the same reference",
        )

    async def grant_daily(self, account: int, daily: int) -> None:
        """Raises ApiError. The same again changes nothing."""
        await self._instruct(DEPOSITS_PARTITION, DailyCredits(account, daily), "send it again")

    async def withdraw(self, asked: Withdrawal) -> None:
        """Raises ApiError. The same reference again changes nothing."""
        await self._instruct(DEPOSITS_PARTITION, asked, "send it again with the same reference")

    async def limit_credit(self, account: int, credit: int) -> None:
        """Raises ApiError. The same again changes nothing."""
        await self._instruct(DEPOSITS_PARTITION, CreditLimit(account, credit), "say it again")

    async def hear(self, news: WithdrawalNews) -> None:
        """What became of a withdrawal. Raises ApiError. The same again changes nothing."""
        await self._instruct(DEPOSITS_PARTITION, news, "say it again")

    async def deliver(self, lease: Lease, body: resources.NewDelivery) -> None:
        """Raises ApiError. The same delivery again changes nothing."""
        said = body.connection, tuple(sorted(body.gpus)), body.proof
        if lease.delivered_at is None or (self.connection(lease), lease.gpus, lease.proof) != said:
            sealed = self._vault.seal(body.connection, format_account_id(lease.buyer))
            await self._tell(lease, Deliver(lease.id, lease.seller, sealed, tuple(body.gpus), body.proof))

    def connection(self, lease: Lease) -> str | None:
        """As its buyer reads it; None where this gateway cannot open it."""
        try:
            return self._vault.open(lease.connection, format_account_id(lease.buyer))
        except VaultError as error:
            structlog.get_logger().error("sealed", lease=format_lease_id(lease.id), why=str(error))
            return None

    async def renew(self, account: Account, lease: Lease, duration: int, price: int) -> None:
        """Raises ApiError. A duration of 0 switches it off; the same again changes nothing."""
        wanted = Renewal(duration, price, account.owner, account.buyer_fee_bps) if duration else None
        if lease.renewal != wanted:
            await self._tell(lease, Renew(lease.id, account.id, duration, price, account.owner, account.buyer_fee_bps))

    async def accept(self, account: int, lease: Lease) -> None:
        """Raises ApiError. Once more changes nothing."""
        if lease.state is not LeaseState.ACTIVE:
            await self._tell(lease, Accept(lease.id, account))

    async def degrade(self, lease: Lease, gpus: int, note: str) -> None:
        """Raises ApiError. The same said again changes nothing."""
        said = [(last.gpus, last.note) for last in lease.degradations[-1:] if last.until is None]
        if said != [(gpus, note)]:
            await self._tell(lease, Degrade(lease.id, lease.seller, gpus, note))

    async def restore(self, lease: Lease) -> None:
        """Raises ApiError. A lease that works stays as it is."""
        if lease.state is not LeaseState.ACTIVE:
            await self._tell(lease, Restore(lease.id, lease.seller))

    async def reclaim(self, lease: Lease) -> None:
        """Raises ApiError. Once more changes nothing."""
        if lease.close_reason is not CloseReason.RECLAIMED:
            await self._tell(lease, Reclaim(lease.id, lease.seller))

    async def end(self, lease: Lease) -> None:
        """Raises ApiError. Once more changes nothing."""
        if lease.state is not LeaseState.ENDED and lease.close_reason is not CloseReason.ENDED_EARLY:
            await self._tell(lease, End(lease.id, lease.buyer))

    async def correct(self, account: int, lease: Lease, gpu_ms: int, reason: str) -> None:
        """As the supplier `account`, or as the exchange, 0. Raises ApiError. Once more changes nothing."""
        await self._tell(lease, Correct(lease.id, account, gpu_ms, reason))

    async def report(self, account: int, reports: Sequence[resources.UsageReport]) -> list[resources.UsageAnswer]:
        """Each report answered for itself, in order. Raises ApiError where one names no lease at all."""
        leases = [parsed(f"reports.{i}.lease_id", parse_lease_id, each.lease_id) for i, each in enumerate(reports)]
        measured = [_measured_at(f"reports.{i}.measured_at", each.measured_at) for i, each in enumerate(reports)]
        suppliers = dict(zip(set(leases), await asyncio.gather(*map(self._supplier, set(leases))), strict=True))
        outcomes: list[Outcome | None] = [
            None if suppliers[lease] == account else Outcome(Refusal.UNKNOWN_LEASE, (format_lease_id(lease),))
            for lease in leases
        ]
        by_partition: dict[int, list[int]] = {}
        for place, (report, lease) in enumerate(zip(reports, leases, strict=True)):
            if not (0 < report.sequence <= MAX_GPU_MS and 0 <= report.gpu_ms <= MAX_GPU_MS):
                raise ApiError(400, "invalid", "sequence starts at 1, and gpu_ms at 0", f"reports.{place}")
            if outcomes[place] is None:
                by_partition.setdefault(partition_of(lease[0]), []).append(place)

        async def send(partition: int, places: list[int]) -> None:
            values = [
                encode(
                    UsageReport(
                        lease=leases[place],
                        account=account,
                        sequence=reports[place].sequence,
                        gpu_ms=reports[place].gpu_ms,
                        final=reports[place].final,
                        measured_at=measured[place],
                    )
                )
                for place in places
            ]
            offsets = await self._log.append(USAGE, partition, values)
            # Settlement reads in order: once it has answered the last, it has answered all.
            for place, offset in sorted(zip(places, offsets, strict=True), key=lambda pair: -pair[1]):
                outcomes[place] = await self._store.outcome(USAGE, partition, offset, self._timeout_s)
                if outcomes[place] is None:
                    break

        await asyncio.gather(*(send(partition, places) for partition, places in by_partition.items()))
        return [_usage_answer(report, outcome) for report, outcome in zip(reports, outcomes, strict=True)]

    async def _tell(self, lease: Lease, instruction: Instruction) -> None:
        await self._instruct(partition_of(lease.id[0]), instruction, "look at the lease, or send it again")

    async def _instruct(self, partition: int, instruction: Instruction, advice: str) -> None:
        (offset,) = await self._log.append(INSTRUCTIONS, partition, [encode(instruction)])
        outcome = await self._store.outcome(INSTRUCTIONS, partition, offset, self._timeout_s)
        if outcome is None:
            raise unknown(advice)
        if outcome.refusal is not None:
            raise refused(outcome.refusal, outcome.args)

    async def _supplier(self, lease_id: LeaseId) -> int | None:
        if lease_id not in self._suppliers:
            lease = await self._store.lease(lease_id)
            if lease is None:
                return None
            self._suppliers[lease_id] = lease.seller
            if len(self._suppliers) > MAX_KNOWN_SUPPLIERS:
                self._suppliers.popitem(last=False)
        return self._suppliers.get(lease_id)


def _measured_at(name: str, text: str | None) -> int:
    """ms; 0 where the report does not say."""
    return 0 if text is None else max(1, parsed(name, parse_time, text))


def _usage_answer(report: resources.UsageReport, outcome: Outcome | None) -> resources.UsageAnswer:
    error, status = None, "unknown"
    if outcome is not None:
        status = "accepted"
        if outcome.refusal is not None:
            status = "refused"
            error = usage_problem(outcome.refusal, outcome.args)
    return resources.UsageAnswer(lease_id=report.lease_id, sequence=report.sequence, status=status, error=error)
