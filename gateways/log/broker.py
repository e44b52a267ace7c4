"""A Kafka broker of one's own, for development and tests: a single KRaft node on loopback ports.

It runs Apache Kafka's own jars, which Maven fetches once by `deploy/kafka/pom.xml`. Not for production: one node, no
replicas, no authentication.
"""

import atexit
import base64
import contextlib
import ctypes
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Self

POM = Path(__file__).parents[2] / "deploy" / "kafka" / "pom.xml"
FETCH_TIMEOUT_S = 600
FORMAT_TIMEOUT_S = 60
READY_TIMEOUT_S = 60
STOP_TIMEOUT_S = 20
READY = b"Kafka Server started"

# A small heap and no optimizing compiler: 170 MB, and ready in about four seconds.
JAVA_FLAGS = ("-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.apache.logging.log4j.level=INFO")
SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
log.dirs={folder}/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# Back within five seconds after a kill -9.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
# Small.
num.network.threads=1
num.io.threads=2
background.threads=1
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=2097152
log.segment.bytes=16777216
"""


class BrokerError(Exception):
    """There is no broker to be had: the message says what is missing."""


class Broker:
    """One node. It keeps its data and its ports when started again, and ends with the process that started it."""

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        """Data and output go to `folder`; port 0 takes a free one."""
        self.port = port or _free_port()
        self._controller_port = _free_port()
        self._folder = folder.absolute()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """HOST:PORT, for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the running node."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns once it serves; raises BrokerError, with the end of its output, when it does not in a minute."""
        assert self._process is None, "it runs already"
        java = _java()
        self._folder.mkdir(parents=True, exist_ok=True)
        settings = self._folder / "server.properties"
        settings.write_text(SETTINGS.format(port=self.port, controller_port=self._controller_port, folder=self._folder))
        if not (self._folder / "data" / "meta.properties").exists():
            format = [*java, "kafka.tools.StorageTool", "format", "-t", _random_id(), "-c", str(settings)]
            _run(format, FORMAT_TIMEOUT_S)
        log = self._folder / "broker.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*java, "kafka.Kafka", str(settings)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
        atexit.register(self.kill)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while READY not in log.read_bytes():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise BrokerError(f"Kafka did not start:\n{_tail(log.read_bytes())}")
            time.sleep(0.05)

    def stop(self) -> None:
        """In good order; by force when that takes too long."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """kill -9."""
        atexit.unregister(self.kill)
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _java() -> list[str]:
    """The command in front of a class's name. Fetches the jars where they are missing or of another pom."""
    for command, package in (("java", "openjdk-17-jre-headless"), ("mvn", "maven")):
        if shutil.which(command) is None:
            raise BrokerError(f"{command} is not installed, and a broker needs it (Debian: apt-get install {package})")
    if not POM.exists():
        raise BrokerError(f"{POM} is missing: a broker of one's own needs the source tree")
    jars = POM.parent / "target"
    fetched = jars / "fetched"
    if not fetched.exists() or fetched.stat().st_mtime < POM.stat().st_mtime:
        shutil.rmtree(jars, ignore_errors=True)
        _run(["mvn", "-B", "-q", "-ntp", "-f", str(POM), "dependency:copy-dependencies"], FETCH_TIMEOUT_S)
        fetched.touch()
    return ["java", *JAVA_FLAGS, "-cp", f"{jars}/*"]


def _run(command: list[str], timeout_s: int) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout_s)
    except subprocess.CalledProcessError as error:
        raise BrokerError(f"{' '.join(command)} failed:\n{_tail(error.stdout + error.stderr)}") from error
    except subprocess.TimeoutExpired as error:
        raise BrokerError(f"{' '.join(command)} took longer than {timeout_s} s") from error


def _tail(output: bytes) -> str:
    return output[-2000:].decode(errors="replace")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _random_id() -> str:
    """A cluster's id. Not one that begins with a dash, which the tool would take for a flag."""
    identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
    return identity if identity[0] != "-" else _random_id()


def _end_with_parent() -> None:
    """Runs in the new process: Linux kills it when the thread that started it is gone, even by kill -9."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
