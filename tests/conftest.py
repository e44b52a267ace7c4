"""Fixtures for all folders of tests: both logs, and a real Kafka broker."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from gateways.log.broker import Broker, BrokerError
from gateways.log.embedded import EmbeddedLog
from gateways.log.kafka import KafkaLog
from tests.broker import NoBroker, running_broker

pytest_plugins = ["tests.postgres"]

NEEDS_BROKER = {"broker_address", "broker", "kafka_log"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that need a broker, so that `-m "not kafka"` leaves them out."""
    for item in items:
        if NEEDS_BROKER.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kafka)


@pytest.fixture
async def embedded_log(tmp_path: Path) -> AsyncIterator[EmbeddedLog]:
    """An empty log with one partition a topic."""
    log = await EmbeddedLog.open(tmp_path / "log")
    yield log
    await log.close()


@pytest.fixture
async def kafka_log(broker_address: str) -> AsyncIterator[KafkaLog]:
    """An empty log with one partition a topic, on topics of its own."""
    log = await KafkaLog.connect(broker_address, prefix=f"test-{uuid.uuid4().hex[:12]}.")
    yield log
    await log.close()


@pytest.fixture(scope="session")
def broker_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a broker that all tests share: no test stops it."""
    try:
        with running_broker(tmp_path_factory.mktemp("kafka")) as address:
            yield address
    except NoBroker as error:
        _without_broker(error)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A running broker of the test's own, which it may kill and start again."""
    try:
        with Broker(tmp_path / "kafka") as running:
            yield running
    except BrokerError as error:
        _without_broker(error)


def _without_broker(error: Exception) -> NoReturn:
    """Skips; fails in CI, where the Kafka leg must run."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"no Kafka broker: {error}")
    pytest.skip(f"no Kafka broker: {error}")
