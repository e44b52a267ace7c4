"""Hours as bits of ints: of all that walks do most often, the compiled core does this in C (`core/search.pxd`)."""

from collections.abc import Sequence

from schemas.units import HOUR_MS

MOST_HOURS = 366 * 24
"""From the first start of a bid to its last; else the bits would be too many."""

Hours = tuple[int, int, int, int]
"""Windows in whole hours since the epoch: the first's start; a bit for each start from there on; and how long each is:
at least `1 << double` hours, and as many from `gap` hours later on, so that two looks tell whether all is there."""

RING = 4096
"""Hours, above 5 months: in a ring an hour has the bit of its number modulo this, so that rings of all asks compare."""
ALL = (1 << RING) - 1


def shows(ring: int, at: int, gap: int) -> bool:
    """Whether a ring of runs has one of the windows that begin at these bits, from its start on to its end."""
    then = ring & at
    if gap and then:
        then <<= gap
        then = ring & (then | then >> RING)
    return then != 0


def opens(run: int, starts: int, later: int, gap: int) -> bool:
    """Likewise of a run that is no ring, and of starts whose bits are so much later in it, or earlier."""
    then = run & (starts << later if later >= 0 else starts >> -later)
    return then != 0 and (not gap or then << gap & run != 0)


def span(first: int, after: int) -> int:
    """The bits from `first` to before `after`, which is not less."""
    return (1 << after) - (1 << first)


def twice(run: int, later: int) -> int:
    """The bits of a run from which on it has the bit that is so much later, too."""
    return run & run >> later


def hours_of(starts: Sequence[int], duration: int) -> Hours | None:
    """Of windows that begin at `starts`, of which there are some; None where those lie too far apart for it."""
    hour = HOUR_MS
    length = -(-duration // hour)
    double = length.bit_length() - 1
    gap = length - (1 << double)
    first = starts[0] // hour
    if len(starts) == 1:
        return first, 1, double, gap
    first = min(starts) // hour
    if max(starts) // hour - first >= MOST_HOURS:
        return None
    bits = 0
    for start in starts:
        bits |= 1 << start // hour - first
    return first, bits, double, gap
