"""Which log: one setting decides."""

from pathlib import Path

from gateways.log.embedded import EmbeddedLog
from gateways.log.kafka import KafkaLog
from schemas.log import Log

KAFKA = "kafka://"


async def open_log(
    url: str | None, *, folder: Path, partitions: int = 1, speed: int = 1, read_only: bool = False
) -> Log:
    """`embedded` or None -> the one in `folder`; `kafka://HOST:PORT[,HOST:PORT]` -> that cluster's.

    `read_only` creates nothing. Raises LogError where it cannot be used, and ValueError for any other `url`.
    """
    if url is None or url == "embedded":
        return await EmbeddedLog.open(folder, partitions=partitions, speed=speed, read_only=read_only)
    if url.startswith(KAFKA):
        if speed != 1:
            raise ValueError(f"speed {speed} needs the embedded log: Kafka's clock is the wall's")
        return await KafkaLog.connect(url.removeprefix(KAFKA), partitions=partitions, create_topics=not read_only)
    raise ValueError(f"{url!r} names no log: write embedded, or kafka://HOST:PORT[,HOST:PORT]")
