"""A real Kafka broker for tests and benchmarks, wherever one is to be had."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from gateways.log.broker import Broker, BrokerError

DOCKER_TIMEOUT_S = 20


class NoBroker(Exception):
    """None is to be had: the message says why, and what would help."""


@contextlib.contextmanager
def running_broker(folder: Path) -> Iterator[str]:
    """HOST:PORT of the broker in `CX_TEST_KAFKA`, else of one of our own in `folder`, else of one in Docker."""
    if given := os.environ.get("CX_TEST_KAFKA"):
        yield given
        return
    broker = Broker(folder)
    try:
        broker.start()
    except BrokerError as error:
        with _in_docker(str(error)) as address:
            yield address
        return
    try:
        yield broker.address
    finally:
        broker.stop()


@contextlib.contextmanager
def _in_docker(why_not_our_own: str) -> Iterator[str]:
    try:
        subprocess.run(["docker", "info"], check=True, capture_output=True, timeout=DOCKER_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        advice = "Install Java and Maven, start Docker, or say CX_TEST_KAFKA=HOST:PORT"
        raise NoBroker(f"{why_not_our_own}; and no Docker answers. {advice}") from None
    # Imported here, as it takes a second and few need it.
    from testcontainers.community.kafka import KafkaContainer

    with KafkaContainer().with_kraft() as container:
        yield container.get_bootstrap_server()
