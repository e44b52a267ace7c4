"""The broker of one's own: it says what it lacks, and leaves nothing behind."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from gateways.log import broker as module
from gateways.log.broker import Broker, BrokerError

START = """
import sys, time
from pathlib import Path
from gateways.log.broker import Broker
broker = Broker(Path(sys.argv[1]))
broker.start()
print(broker.pid, flush=True)
time.sleep(600)
"""


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerError, match=r"java is not installed.*apt-get install openjdk-17-jre-headless"):
        Broker(tmp_path).start()
    for command in ("java", "mvn"):
        (tmp_path / command).touch(mode=0o755)
    monkeypatch.setattr(module, "POM", tmp_path / "pom.xml")
    with pytest.raises(BrokerError, match=r"pom\.xml is missing: a broker of one's own needs the source tree"):
        Broker(tmp_path).start()


def test_what_keeps_it_from_starting_is_told_in_kafkas_own_words(broker: Broker, tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"(?s)Kafka did not start:.*in use"):
        Broker(tmp_path / "second", port=broker.port).start()


if sys.platform == "linux":

    @pytest.mark.usefixtures("broker")  # which says so where there is no Java
    async def test_it_ends_with_its_parent_even_by_kill_9(tmp_path: Path) -> None:
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", START, str(tmp_path / "second"), stdout=asyncio.subprocess.PIPE
        )
        assert parent.stdout is not None
        pid = int(await parent.stdout.readline())
        assert runs(pid)
        parent.kill()
        await parent.wait()

        for _ in range(100):
            if not runs(pid):
                break
            await asyncio.sleep(0.05)
        assert not runs(pid)


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
