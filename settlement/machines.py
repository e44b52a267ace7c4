"""Which GPUs each lease has, as its supplier names them at delivery: no GPU is bound to two leases at one time.

The rule is here; the database holds it too (`lease_gpus`), whatever this code does.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from schemas.ids import LeaseId, format_lease_id
from schemas.refusals import Args, Refusal

MAX_NAMED = 1024
"""GPUs that one delivery can name: a larger lease is delivered without names."""
MAX_NAME = 64
"""Characters of a GPU's name, like the UUID that its driver gives it."""

Gpu = tuple[int, str]
"""(its supplier, its name)."""


class GpuRow(NamedTuple):
    """A GPU bound to a lease over `[since, until)`, in ms, as the table `lease_gpus` has it."""

    position: int
    fill_index: int
    seller: int
    gpu: str
    since: int
    until: int


class Machines:
    """The GPUs that a batch names, and who has them when."""

    def __init__(self) -> None:
        self._bound: defaultdict[Gpu, dict[LeaseId, GpuRow]] = defaultdict(dict)
        self._of_lease: defaultdict[LeaseId, list[str]] = defaultdict(list)
        self.added: dict[tuple[LeaseId, str], GpuRow] = {}
        self.freed: dict[LeaseId, int] = {}
        """Leases that were bound before the batch and end before their GPUs were bound to: until when they are now."""

    def add(self, rows: Iterable[GpuRow]) -> None:
        """Rows as they are in the database."""
        for row in rows:
            self._keep(row)

    def of(self, lease: LeaseId) -> Sequence[str]:
        """The names of the lease's GPUs, in order; none where its supplier named none."""
        return sorted(self._of_lease.get(lease, ()))

    def clash(self, seller: int, gpus: Sequence[str], since: int, until: int) -> tuple[Refusal, Args] | None:
        """Whether a lease has one of these GPUs at some moment of `[since, until)`: of several the first by its id is
        named, whatever order the rows came in."""
        for gpu in gpus:
            for other in sorted(self._bound[seller, gpu].values()):
                if since < other.until and other.since < until:
                    named = format_lease_id((other.position, other.fill_index))
                    return Refusal.GPU_IN_USE, (gpu, named, other.until)
        return None

    def bind(self, lease: LeaseId, seller: int, gpus: Sequence[str], since: int, until: int) -> None:
        """The lease has these GPUs, which are free, over `[since, until)`."""
        for gpu in gpus:
            row = GpuRow(*lease, seller, gpu, since, until)
            self._keep(row)
            self.added[lease, gpu] = row

    def free(self, lease: LeaseId, seller: int, until: int) -> None:
        """The lease has its GPUs until then, and no longer."""
        for gpu in self._of_lease.get(lease, ()):
            row = self._bound[seller, gpu][lease]
            ended = row._replace(until=max(row.since, min(row.until, until)))
            self._bound[seller, gpu][lease] = ended
            if (lease, gpu) in self.added:
                self.added[lease, gpu] = ended
        self.freed[lease] = until

    def _keep(self, row: GpuRow) -> None:
        lease = row.position, row.fill_index
        self._bound[row.seller, row.gpu][lease] = row
        if row.gpu not in self._of_lease[lease]:
            self._of_lease[lease].append(row.gpu)


def is_name(gpu: str) -> bool:
    """Whether a GPU may be named so; no other name is asked for in the database, which cannot be asked for some."""
    return 0 < len(gpu) <= MAX_NAME and gpu.isascii() and gpu.isprintable()


def wrong_names(gpus: Sequence[str], quantity: int) -> tuple[Refusal, Args] | None:
    """A delivery names all of the lease's GPUs, each once, or none."""
    if not gpus:
        return None
    distinct = len(set(gpus))
    if len(gpus) > MAX_NAMED or distinct != len(gpus) or distinct != quantity or not all(map(is_name, gpus)):
        return Refusal.GPU_NAMES_INVALID, (len(gpus), distinct, quantity, MAX_NAMED, MAX_NAME)
    return None
