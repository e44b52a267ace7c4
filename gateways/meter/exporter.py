"""Which GPUs dcgm-exporter shows: its Prometheus text, read for who is there and nothing else.

Metrics and labels are those of github.com/NVIDIA/dcgm-exporter (etc/default-counters.csv): every line of a GPU has
`gpu` and `UUID`; under MIG each instance has lines of its own, with `GPU_I_ID` and `GPU_I_PROFILE` beside them.
"""

import math
from collections.abc import Sequence

import aiohttp
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

PREFIX = "DCGM_FI_"
MAX_TEXT_BYTES = 16 << 20


class ExporterError(Exception):
    """The exporter cannot be reached, or says nothing that can be understood."""


class Source(Struct, frozen=True, forbid_unknown_fields=True):
    """GPUs of one exporter."""

    exporter: str
    """The address of its metrics."""
    gpus: list[str]
    """Each by its `gpu` label, as 0, or by its UUID."""


async def scrape(http: aiohttp.ClientSession, url: str) -> str:
    """The exporter's text. Raises ExporterError."""
    try:
        async with http.get(url) as response:
            if response.status != 200:
                raise ExporterError(f"{url} answers {response.status}")
            text = await response.content.read(MAX_TEXT_BYTES)
            if not response.content.at_eof():
                raise ExporterError(f"{url} says more than {MAX_TEXT_BYTES} bytes")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ExporterError(f"{url} cannot be reached: {str(error) or type(error).__name__}") from error
    return text.decode(errors="replace")


def shown(text: str) -> dict[str, set[str]]:
    """The GPUs in an exporter's text: UUIDs by `gpu` label. A GPU counts once, however many MIG instances it has.

    What is measured does not matter, only that something is: a value that is no number does not count. Raises
    ExporterError.
    """
    found: dict[str, set[str]] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                gpu, uuid = sample.labels.get("gpu"), sample.labels.get("UUID")
                if sample.name.startswith(PREFIX) and gpu and uuid and not math.isnan(sample.value):
                    found.setdefault(gpu, set()).add(uuid)
    except (ValueError, KeyError, IndexError) as error:
        raise ExporterError(f"this is not Prometheus text: {error}") from error
    return found


def present(shown: dict[str, set[str]], names: Sequence[str]) -> set[str]:
    """UUIDs of those of the named GPUs that are shown. Raises ExporterError where a name is that of several."""
    everyone = {uuid for uuids in shown.values() for uuid in uuids}
    found = set()
    for name in names:
        uuids = {name} & everyone or shown.get(name, set())
        if len(uuids) > 1:
            raise ExporterError(
                f"gpu {name} is {len(uuids)} GPUs here: name it by its UUID, {' or '.join(sorted(uuids))}"
            )
        found |= uuids
    return found
