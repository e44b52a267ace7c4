"""Settlement in a process of its own, to be killed: `python -m tests.simulation.settler FILE DSN PARTITIONS MAX_POLL`.

Applies all that the recorded log in FILE holds, and ends: with 0 when that is done, with 1 and the reason in words
where the database is away.
"""

import asyncio
import sys
from pathlib import Path

from schemas.store import StoreError
from settlement.store import Store
from tests.simulation.recorded_log import RecordedLog
from tests.simulation.settled import settled


async def main(file: str, dsn: str, partitions: str, max_poll: str) -> None:
    log = RecordedLog(0, int(partitions), Path(file))
    store = await Store.connect(dsn)
    try:
        await settled(store, log, int(max_poll))
    finally:
        await store.close()


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except StoreError as error:
        sys.exit(str(error))
    except BaseExceptionGroup as errors:
        if errors.subgroup(StoreError) is None:
            raise
        sys.exit(str(errors.exceptions[0]))
