"""When people came to a real service: the profile by which the play's bids arrive."""

from gateways.cli.facts import rows

BIN_S = 10


def arrivals() -> list[int]:
    """Requests in each of the trace's consecutive bins of `BIN_S` seconds."""
    return [int(row["count"]) for row in rows("arrivals.csv")]
