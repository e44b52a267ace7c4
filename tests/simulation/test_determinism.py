"""Equal commands, equal bytes: under each hash seed, on each Python, from the start and from snapshots."""

import glob
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.determinism import digest

ROOT = Path(__file__).parents[2]
SEEDS = ("0", "1", "4242")
PYTHONS = ("3.11", "3.12", "3.13")
CUTS = 1_000


def printed(python: str, seed: str, cuts: int) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [python, "-m", "tests.simulation.determinism", str(cuts)],
        env={**environment, "PYTHONHASHSEED": seed},
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def found(version: str) -> str | None:
    """A Python of that version on this machine."""
    pyenv = os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))
    named = shutil.which(f"python{version}")
    for python in [*([named] if named else []), *sorted(glob.glob(f"{pyenv}/versions/{version}.*/bin/python3"))]:
        asked = subprocess.run([python, "--version"], capture_output=True, text=True, check=False)
        if asked.returncode == 0 and asked.stdout.startswith(f"Python {version}."):
            return python
    return None


def test_every_hash_seed_gives_the_same_answers_and_state() -> None:
    assert {printed(sys.executable, seed, 0) for seed in SEEDS} == {digest(0)}


@pytest.mark.long
@pytest.mark.parametrize("version", PYTHONS)
def test_every_python_gives_the_same_from_the_start_and_from_a_thousand_snapshots(version: str, tmp_path: Path) -> None:
    python = found(version)
    if python is None:
        assert "CI" not in os.environ, f"there is no Python {version} here: install it"
        pytest.skip(f"there is no Python {version} here")
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True)
    own = str(tmp_path / "venv" / "bin" / "python")
    pin = re.search(r"^msgspec==.*?(?=^\S)", (ROOT / "requirements.txt").read_text(), re.MULTILINE | re.DOTALL)
    assert pin is not None
    (tmp_path / "requirements.txt").write_text(re.sub(r"^ +#.*\n", "", pin[0], flags=re.MULTILINE))
    subprocess.run(
        [own, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", tmp_path / "requirements.txt"], check=True
    )
    assert {printed(own, seed, cuts) for seed in SEEDS for cuts in (0, CUTS)} == {digest(0)}
