"""A process that appends until it is killed: `python -m tests.contract.writer embedded FOLDER | kafka ADDRESS PREFIX`.

Several tasks append numbered records, now one, now a few at once. Each record is printed with its offset, once it is
acknowledged, so that whoever killed this process knows what must be in the log.
"""

import asyncio
import itertools
import sys
from pathlib import Path

from gateways.log.embedded import EmbeddedLog
from gateways.log.kafka import KafkaLog
from schemas.log import Log
from schemas.topics import COMMANDS

APPENDERS = 8


async def open_named(words: list[str]) -> Log:
    """The log that the command line names."""
    if words[0] == "embedded":
        return await EmbeddedLog.open(Path(words[1]))
    return await KafkaLog.connect(words[1], prefix=words[2])


async def append_numbers(log: Log, appender: int) -> None:
    """Appends `APPENDER:0`, `APPENDER:1`, … for ever."""
    number = 0
    for size in itertools.cycle((1, 1, 5)):
        values = [b"%d:%d" % (appender, number + more) for more in range(size)]
        number += size
        for offset, value in zip(await log.append(COMMANDS, 0, values), values, strict=True):
            print(offset, value.decode(), flush=True)


async def main(words: list[str]) -> None:
    """Runs until it is killed."""
    log = await open_named(words)
    async with asyncio.TaskGroup() as appenders:
        for appender in range(APPENDERS):
            appenders.create_task(append_numbers(log, appender))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
