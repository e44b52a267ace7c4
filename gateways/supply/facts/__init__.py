"""What sellers' names mean: tables that ship with the project, each with its sources in README.md."""

import csv
from collections.abc import Iterator
from importlib.resources import files


def rows(name: str) -> Iterator[dict[str, str]]:
    """The rows of one of the files beside this, by column."""
    yield from csv.DictReader(files(__name__).joinpath(name).read_text("utf-8").splitlines())
