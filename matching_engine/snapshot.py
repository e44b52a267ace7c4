"""Snapshots: an engine's state in a file, so that a start need not fold the log from its beginning.

A file is named by its position and holds a magic word, its format, which log it is of, the state's digest (which is the
engine's state hash) and the state. It is written aside and renamed: a file that is there is whole, and one that is not
what its digest says, or is of another log, is passed over. A snapshot may be used only up to the last answer in the log
(kafka.md: six rules, 3).
"""

import hashlib
import os
from pathlib import Path

import msgspec

from matching_engine.columns import StateColumns, decoded, encoded
from matching_engine.state import State

MAGIC = b"cx-snapshot\n"
FORMAT = 4
"""1 did not say of which log it is; 2 and 3 held a row for each order."""
KEPT = 3
"""Of one log's partition, the newest so many."""
_DIGEST_BYTES = 32
_HEAD = MAGIC + bytes([FORMAT])
_LOG_END = len(_HEAD) + _DIGEST_BYTES
_DIGEST_END = _LOG_END + _DIGEST_BYTES


class SnapshotError(Exception):
    """The file is no snapshot that this engine can read: the message says why."""


def write(folder: Path, log: bytes, partition: int, state: State) -> Path:
    """Writes the state, on disk when this returns. `log` is the digest that names its log.

    Of this log's partition only the newest few are kept, those of other logs are left alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    payload = encoded(state)
    path = folder / f"{partition:05}-{state.position:020}.snapshot"
    draft = path.with_suffix(".new")
    with draft.open("wb") as file:
        file.write(_HEAD + log + digest(payload) + payload)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    for old in [each for each in _paths(folder, partition) if _starts(each, _HEAD + log)][KEPT:]:
        old.unlink()
    return path


def read(path: Path, log: bytes) -> StateColumns:
    """Raises SnapshotError, and OSError where the file cannot be read."""
    content = path.read_bytes()
    if not content.startswith(MAGIC):
        raise SnapshotError(f"{path} is no snapshot")
    if not content.startswith(_HEAD):
        found = content[len(MAGIC) : len(_HEAD)].hex()
        raise SnapshotError(f"{path} has format {found}, and this engine reads {FORMAT:02x} alone")
    if content[len(_HEAD) : _LOG_END] != log:
        raise SnapshotError(f"{path} is of another log")
    payload = content[_DIGEST_END:]
    if digest(payload) != content[_LOG_END:_DIGEST_END]:
        raise SnapshotError(f"{path} is damaged: its digest is another")
    try:
        return decoded(payload)
    except msgspec.MsgspecError as error:
        raise SnapshotError(f"{path} is of another version: {error}") from error


def newest(folder: Path, log: bytes, partition: int, not_beyond: int) -> tuple[StateColumns | None, list[str]]:
    """The newest snapshot at or before that position, None where there is none; and why newer ones were passed over."""
    passed_over: list[str] = []
    for path in _paths(folder, partition):
        if int(path.stem.split("-")[1]) <= not_beyond:
            try:
                return read(path, log), passed_over
            except (SnapshotError, OSError) as error:
                passed_over.append(str(error))
    return None, passed_over


def digest(payload: bytes) -> bytes:
    """BLAKE2b-256: of a state's canonical bytes it is the state hash."""
    return hashlib.blake2b(payload, digest_size=_DIGEST_BYTES).digest()


def _paths(folder: Path, partition: int) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob(f"{partition:05}-*.snapshot"), reverse=True)


def _starts(path: Path, head: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(head)) == head
