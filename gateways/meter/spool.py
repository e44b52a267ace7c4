"""What the meter has seen and has to say, on disk before it says it: SQLite in one folder, held by one process.

A report is written once, with its number, and sent as it was written until the exchange has answered it. So a number
never has two contents, whatever ends the meter and whenever.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from gateways.meter.use import Clock, Run, Terms

FORMAT = 1
MAX_REPORTS = 100_000
"""That wait for the exchange: at one a minute 69 days of one lease."""
MAX_RUNS = 100_000

_SCHEMA = f"""
PRAGMA user_version = {FORMAT};
CREATE TABLE clock (exchange_ms INTEGER NOT NULL, wall_ms INTEGER NOT NULL, speed INTEGER NOT NULL);
CREATE TABLE leases (
    lease_id TEXT PRIMARY KEY,
    terms TEXT NOT NULL,
    last_sequence INTEGER NOT NULL,
    cut_gpu_ms INTEGER NOT NULL,
    taken_gpu_ms INTEGER NOT NULL,
    taken_until INTEGER NOT NULL,
    seen TEXT NOT NULL,
    seen_at INTEGER NOT NULL
);
CREATE TABLE runs (
    lease_id TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL, gpus INTEGER NOT NULL,
    PRIMARY KEY (lease_id, since)
) WITHOUT ROWID;
CREATE TABLE reports (
    lease_id TEXT NOT NULL, sequence INTEGER NOT NULL, gpu_ms INTEGER NOT NULL, measured_at INTEGER NOT NULL,
    final INTEGER NOT NULL,
    PRIMARY KEY (lease_id, sequence)
) WITHOUT ROWID;
"""


_terms: msgspec.json.Decoder[Terms | None] = msgspec.json.Decoder(Terms | None)
_names = msgspec.json.Decoder(frozenset[str])


class SpoolError(Exception):
    """The spool cannot be used, or is full."""


class LeaseRow(Struct):
    """What is known of a lease."""

    lease_id: str
    terms: Terms | None = None
    """None until the exchange has shown it."""
    last_sequence: int = 0
    """Of the last report written."""
    cut_gpu_ms: int = 0
    """What that says."""
    taken_gpu_ms: int = 0
    """What the last report says that the exchange took."""
    taken_until: int = 0
    """Up to when."""
    seen: frozenset[str] = frozenset()
    """The GPUs that the last look showed."""
    seen_at: int = 0


class Report(NamedTuple):
    """What a lease had used by `measured_at`, in all."""

    lease_id: str
    sequence: int
    gpu_ms: int
    measured_at: int
    final: bool


class Spool:
    """All calls belong to one thread. Raises SpoolError."""

    def __init__(self, folder: Path, *, max_reports: int = MAX_REPORTS, max_runs: int = MAX_RUNS) -> None:
        self.path = folder / "spool.db"
        self._max_reports = max_reports
        self._max_runs = max_runs
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, isolation_level=None, timeout=0)
        except (OSError, sqlite3.Error) as error:
            raise SpoolError(f"the spool {self.path} cannot be opened: {error}") from error
        try:
            with self._as_spool_error():
                self._open()
        except BaseException:
            self._db.close()
            raise

    def _open(self) -> None:
        self._db.executescript("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
        with self.transaction():
            (found,) = self._db.execute("PRAGMA user_version").fetchone()
            if found not in (0, FORMAT):
                raise SpoolError(f"{self.path} has format {found}, and this meter writes {FORMAT}: run the newer one")
        if not found:
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")

    def close(self) -> None:
        """Lets go of it."""
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """On disk when left, all or nothing."""
        with self._as_spool_error():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    @property
    def clock(self) -> Clock | None:
        """None until the exchange has shown it once."""
        row = self._db.execute("SELECT exchange_ms, wall_ms, speed FROM clock").fetchone()
        return None if row is None else Clock(*row)

    def set_clock(self, clock: Clock) -> None:
        self._db.execute("DELETE FROM clock")
        self._db.execute("INSERT INTO clock VALUES (?, ?, ?)", (clock.exchange_ms, clock.wall_ms, clock.speed))

    def lease(self, lease_id: str) -> LeaseRow:
        """A new one where there is none yet."""
        row = self._db.execute("SELECT * FROM leases WHERE lease_id = ?", (lease_id,)).fetchone()
        if row is None:
            return LeaseRow(lease_id)
        lease_id, terms, sequence, cut, taken, taken_until, seen, seen_at = row
        known, names = _terms.decode(terms), _names.decode(seen)
        return LeaseRow(lease_id, known, sequence, cut, taken, taken_until, names, seen_at)

    def save(self, lease: LeaseRow) -> None:
        lease_id, terms, *figures, seen, seen_at = msgspec.structs.astuple(lease)
        known, names = msgspec.json.encode(terms).decode(), msgspec.json.encode(sorted(seen)).decode()
        self._db.execute(
            "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (lease_id, known, *figures, names, seen_at)
        )

    def runs(self, lease_id: str) -> list[Run]:
        """Those that no taken report covers, in order."""
        found = self._db.execute("SELECT since, until, gpus FROM runs WHERE lease_id = ? ORDER BY since", (lease_id,))
        return [Run(*row) for row in found]

    def add_run(self, lease_id: str, run: Run) -> None:
        """Goes on with the run before where it can. Raises SpoolError when full."""
        grown = self._db.execute(
            "UPDATE runs SET until = ? WHERE lease_id = ? AND until = ? AND gpus = ?",
            (run.until, lease_id, run.since, run.gpus),
        )
        if grown.rowcount:
            return
        if self._count("runs") >= self._max_runs:
            raise SpoolError(
                f"the spool {self.path} is full: it has {self._max_runs} stretches of use that the exchange has not "
                "taken. Use from now on is not metered until the exchange takes them: see why it does not"
            )
        self._db.execute("INSERT INTO runs VALUES (?, ?, ?, ?)", (lease_id, *run))

    def add_report(self, report: Report) -> None:
        """Raises SpoolError when full: then the next report there is room for says what this would have said."""
        if self._count("reports") >= self._max_reports:
            raise SpoolError(
                f"the spool {self.path} is full: {self._max_reports} reports wait for the exchange. Use is still "
                "recorded, and a report will have it once the exchange takes these: see why it does not"
            )
        self._db.execute("INSERT INTO reports VALUES (?, ?, ?, ?, ?)", report)

    def waiting(self, limit: int, lease_id: str | None = None) -> list[Report]:
        """Reports that the exchange has not answered, each lease's in order."""
        found = self._db.execute(
            "SELECT * FROM reports WHERE ?1 IS NULL OR lease_id = ?1 ORDER BY lease_id, sequence LIMIT ?2",
            (lease_id, limit),
        )
        return [Report(lease, sequence, gpu_ms, at, bool(final)) for lease, sequence, gpu_ms, at, final in found]

    def answered(self, report: Report, *, taken: bool) -> None:
        """The report is done with; where it was taken, what it covers is too."""
        self._db.execute("DELETE FROM reports WHERE lease_id = ? AND sequence = ?", report[:2])
        if taken:
            lease = self.lease(report.lease_id)
            lease.taken_gpu_ms, lease.taken_until = report.gpu_ms, report.measured_at
            if report.final and lease.terms is not None:
                lease.terms = msgspec.structs.replace(lease.terms, closed=True)
            self.save(lease)
            self._db.execute(
                "DELETE FROM runs WHERE lease_id = ? AND until <= ?", (report.lease_id, report.measured_at)
            )

    def _count(self, table: str) -> int:
        (count,) = self._db.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(count)

    @contextlib.contextmanager
    def _as_spool_error(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            advice = "another meter has it: give this one a --spool of its own" if "locked" in str(error) else error
            raise SpoolError(f"the spool {self.path} cannot be used: {advice}") from error
        except sqlite3.Error as error:
            raise SpoolError(f"the spool {self.path} cannot be used: {error}") from error
