"""The meter: looks at the exporters, writes down what was there, and tells the exchange, in order and once each."""

import asyncio
import time
from collections.abc import Callable, Sequence

import aiohttp
from msgspec import Struct

from gateways.client import Exchange, ExchangeError
from gateways.client.types import UsageReport
from gateways.meter.exporter import ExporterError, Source, present, scrape, shown
from gateways.meter.spool import LeaseRow, Report, Spool, SpoolError
from gateways.meter.use import Clock, Run, Terms, terms_of, used_gpu_ms
from schemas.units import format_time, parse_time

MAX_MISSED = 3
"""Two looks further apart than so many intervals leave a gap between them, as when the meter was away."""
MAX_SCRAPE_S = 10.0
BATCH = 500
"""Reports in one request."""


class MeterError(Exception):
    """The meter is set up wrongly."""


class Metered(Struct, frozen=True, forbid_unknown_fields=True):
    """A lease and where its GPUs are."""

    lease_id: str
    sources: list[Source]


class Meter:
    """Measures some leases. `observe` and `send` may run at once; each may be called again after it failed."""

    def __init__(
        self,
        leases: Sequence[Metered],
        exchange: Exchange,
        spool: Spool,
        *,
        interval_ms: int,
        tell: Callable[[str], None],
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._leases = {lease.lease_id: lease for lease in leases}
        self._exchange = exchange
        self._spool = spool
        self._interval_ms = interval_ms
        self._tell = tell
        self._wall_ms = wall_ms
        self._said: dict[str, str] = {}

    @property
    def done(self) -> bool:
        """Whether all the leases are closed and all reports answered."""
        terms = [self._spool.lease(lease_id).terms for lease_id in self._leases]
        return all(each is not None and each.closed for each in terms) and not self._spool.waiting(1)

    async def run(self) -> None:
        """Observes once an interval, and sends beside that, until all is done. Raises MeterError."""
        if self._spool.clock is None:
            await self.send()

        async def send_on() -> None:
            while not self.done:
                await self.send()
                await asyncio.sleep(self._interval_ms / 1000)

        async def observe_on() -> None:
            while not self.done:
                await self.observe()
                await asyncio.sleep((self._interval_ms - self._wall_ms() % self._interval_ms) / 1000)

        tasks = {asyncio.create_task(send_on()), asyncio.create_task(observe_on())}
        try:
            finished, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    # Looking

    async def observe(self) -> None:
        """One look at the exporters: on disk when it returns, with the reports that follow from it."""
        clock = self._spool.clock
        if clock is None:
            self._say(
                "clock", "the exchange has not been reached yet: nothing can be metered before its clock is known"
            )
            return
        at = clock.at(self._wall_ms())
        seen = await self._look()
        try:
            with self._spool.transaction():
                for lease_id in self._leases:
                    self._note(self._spool.lease(lease_id), seen[lease_id], at, clock.speed)
            for lease_id in self._leases:  # each for itself: where there is no room for a report, what was seen stays
                with self._spool.transaction():
                    self._cut(self._spool.lease(lease_id))
            self._say("spool", "")
        except SpoolError as error:
            self._say("spool", str(error))

    async def _look(self) -> dict[str, frozenset[str]]:
        """The GPUs that are there, of each lease. What cannot be seen is not there."""
        urls = sorted({source.exporter for lease in self._leases.values() for source in lease.sources})
        timeout = aiohttp.ClientTimeout(total=min(MAX_SCRAPE_S, self._interval_ms / 1000))
        async with aiohttp.ClientSession(timeout=timeout) as http:
            texts = dict(zip(urls, await asyncio.gather(*(self._scraped(http, url) for url in urls)), strict=True))
        return {
            lease.lease_id: frozenset(
                f"{source.exporter} {uuid}"
                for source in lease.sources
                for uuid in self._present(source, texts[source.exporter])
            )
            for lease in self._leases.values()
        }

    async def _scraped(self, http: aiohttp.ClientSession, url: str) -> dict[str, set[str]]:
        try:
            found = shown(await scrape(http, url))
        except ExporterError as error:
            self._say(url, f"{error}: what it shows is not metered until it is back")
            return {}
        self._say(url, "")
        return found

    def _present(self, source: Source, found: dict[str, set[str]]) -> set[str]:
        try:
            return present(found, source.gpus)
        except ExporterError as error:
            self._say(f"names at {source.exporter}", f"{source.exporter}: {error}")
            return set()

    def _note(self, lease: LeaseRow, seen: frozenset[str], at: int, speed: int) -> None:
        """GPUs that both this look and the one before show were there between: a run."""
        if at <= lease.seen_at:
            return  # a clock went back: until it has caught up nothing is metered twice
        stayed = seen & lease.seen
        if lease.seen_at and at - lease.seen_at > MAX_MISSED * self._interval_ms * speed:
            stayed = frozenset()
        if stayed and not (lease.terms is not None and lease.terms.closed):
            self._spool.add_run(lease.lease_id, Run(lease.seen_at, at, len(stayed)))
        lease.seen, lease.seen_at = seen, at
        self._spool.save(lease)
        wanted = sum(len(source.gpus) for source in self._leases[lease.lease_id].sources)
        missing = f"{lease.lease_id}: {len(seen)} of its {wanted} GPUs are there" if len(seen) < wanted else ""
        self._say(lease.lease_id, missing)

    def _cut(self, lease: LeaseRow) -> None:
        """Writes the next report, where there is something new to say; once its end is past and all is answered, the
        last."""
        terms = lease.terms
        if terms is None or terms.closed or terms.billed_from is None:
            return
        waiting = bool(self._spool.waiting(1, lease.lease_id))
        since = max(terms.billed_from, lease.taken_until)
        gpu_ms = lease.taken_gpu_ms + used_gpu_ms(self._spool.runs(lease.lease_id), since, terms.until)
        final = lease.seen_at >= terms.until and not waiting
        if not final and gpu_ms <= lease.cut_gpu_ms:
            return
        lease.last_sequence += 1
        lease.cut_gpu_ms = gpu_ms
        measured_at = min(lease.seen_at, terms.until)
        self._spool.add_report(Report(lease.lease_id, lease.last_sequence, gpu_ms, measured_at, final))
        self._spool.save(lease)

    # Sending

    async def send(self) -> bool:
        """Learns how the leases stand, then sends what waits. False where the exchange could not be asked all."""
        try:
            known = await self._ask()
            while batch := self._spool.waiting(BATCH):
                if not await self._report(batch):
                    return False
        except ExchangeError as error:
            self._say("exchange", f"{error}: what is metered waits in {self._spool.path}")
            return False
        except SpoolError as error:
            self._say("spool", str(error))
            return False
        self._say("exchange", "")
        return known

    async def _ask(self) -> bool:
        """The exchange's clock, and how each lease stands. False where it does not show one."""
        status = await self._exchange.status()
        with self._spool.transaction():
            self._spool.set_clock(Clock(parse_time(status.time), self._wall_ms(), status.speed))
        refused = ""
        for metered in self._leases.values():
            known = self._spool.lease(metered.lease_id).terms
            if known is not None and known.closed:
                continue
            try:
                await self._ask_for(metered)
            except ExchangeError as error:
                if error.status is None or error.status >= 500:
                    raise
                refused = f"{metered.lease_id} is not metered: {error}"
        self._say("terms", refused)
        return not refused

    async def _ask_for(self, metered: Metered) -> None:
        found = await self._exchange.lease(metered.lease_id)
        terms, others = terms_of(found), None
        _check(metered, terms)
        if found.last_sequence and not self._spool.lease(metered.lease_id).last_sequence:
            (others,) = await self._exchange.usage(metered.lease_id, after=found.last_sequence - 1, limit=1)
        with self._spool.transaction():
            lease = self._spool.lease(metered.lease_id)
            lease.terms = terms
            lease.last_sequence = max(lease.last_sequence, found.last_sequence)
            if others is not None:  # this spool is new, and the lease was metered before
                lease.cut_gpu_ms = lease.taken_gpu_ms = others.gpu_ms
                lease.taken_until = parse_time(others.measured_at)
            self._spool.save(lease)

    async def _report(self, batch: list[Report]) -> bool:
        """Whether all of them were answered."""
        answers = await self._exchange.report_usage(
            [
                UsageReport(
                    lease_id=report.lease_id,
                    sequence=report.sequence,
                    gpu_ms=report.gpu_ms,
                    final=report.final,
                    measured_at=format_time(report.measured_at),
                )
                for report in batch
            ]
        )
        with self._spool.transaction():
            for report, answer in zip(batch, answers, strict=True):
                if answer.status == "unknown":
                    break  # and what comes after it is sent after it
                self._spool.answered(report, taken=answer.status == "accepted")
                if answer.error is not None:
                    self._tell(f"{report.lease_id}: report {report.sequence} is refused: {answer.error.message}")
                elif report.final:
                    self._tell(f"{report.lease_id}: metered to its end, {report.gpu_ms} GPU-milliseconds")
        return all(answer.status != "unknown" for answer in answers)

    def _say(self, about: str, what: str) -> None:
        """Once, until it is something else; '' where all is well."""
        before = self._said.get(about, "")
        self._said[about] = what
        if what and what != before:
            self._tell(what)
        if before and not what:
            self._tell(f"no longer: {before}")


def _check(metered: Metered, terms: Terms) -> None:
    named = sum(len(source.gpus) for source in metered.sources)
    if named > terms.quantity:
        raise MeterError(
            f"{metered.lease_id} has {terms.quantity} GPUs, and {named} are named: name those that are its"
        )
