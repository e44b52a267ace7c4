"""The broker that the Kafka benchmarks run on."""

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from gateways.log.broker import Broker


@contextlib.asynccontextmanager
async def running_broker() -> AsyncIterator[str]:
    """The address of the broker in CX_TEST_KAFKA, or of one started for this benchmark."""
    if address := os.environ.get("CX_TEST_KAFKA"):
        yield address
        return
    with tempfile.TemporaryDirectory() as folder, Broker(Path(folder)) as broker:
        yield broker.address
