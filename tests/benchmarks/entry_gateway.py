"""`python -m tests.benchmarks.entry_gateway DSN FOLDER` serves a gateway, with the engine that answers it beside it.

Settlement does not run: it is a process of its own where many orders come. Prints the address and the admin's key,
and serves until it is ended.
"""

import asyncio
import contextlib
import sys
from pathlib import Path

import uvloop
from prometheus_client import CollectorRegistry

from gateways.api.vault import Vault
from gateways.cli.processes import (
    connected,
    connected_store,
    new_admin_key,
    serving,
    spare_garbage_collection,
    supervised,
)
from matching_engine.metrics import EngineMetrics
from matching_engine.service import EngineService


async def serve(dsn: str, folder: Path) -> None:
    """Runs until the process ends."""
    async with contextlib.AsyncExitStack() as stack:
        log = await stack.enter_async_context(connected("embedded", folder=folder))
        store = await stack.enter_async_context(connected_store(dsn))
        registry = CollectorRegistry()
        engine = EngineService(log, 0, metrics=EngineMetrics(registry))
        await stack.enter_async_context(supervised([engine]))
        vault = Vault.in_folder(folder / "secrets")
        url = await stack.enter_async_context(serving(log, store, vault, "127.0.0.1", 0, registry, [engine]))
        key = await new_admin_key(store, log.now())
        spare_garbage_collection()
        print(url, key, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], Path(sys.argv[2])))
