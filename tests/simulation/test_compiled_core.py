"""The compiled core is the same engine: the same answers, the same states, the same tests."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from matching_engine.core.build import changed
from tests.simulation.determinism import digest

ROOT = Path(__file__).parents[2]
PROVEN_BY = (
    "tests/golden",
    *(
        f"tests/unit/test_{name}.py"
        for name in (
            "book",
            "calendar",
            "checks",
            "columns",
            "engine",
            "engine_edges",
            "engine_service",
            "ids",
            "names",
            "snapshot",
            "why",
        )
    ),
    *(f"tests/simulation/test_{name}.py" for name in ("engine_against_model", "preview", "snapshots", "why")),
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree that has a compiled core."""
    if shutil.which(sysconfig.get_config_var("CC").split()[0]) is None:
        assert "CI" not in os.environ, "there is no C compiler here: install gcc"
        pytest.skip("there is no C compiler here")
    copy = tmp_path_factory.mktemp("compiled")
    for part in ("schemas", "matching_engine", "gateways", "settlement", "tests"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    built = run(copy, "-m", "matching_engine.core.build")
    assert built.returncode == 0, built.stdout
    return copy


def run(copy: Path, *arguments: str, core: str = "", seed: str = "random") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**environment, "CX_CORE": core, "PYTHONHASHSEED": seed},
        cwd=copy,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.long
def test_it_gives_the_same_answers_and_state_from_the_start_and_from_snapshots(copy: Path) -> None:
    for seed, cuts in (("0", "0"), ("4242", "0"), ("0", "300")):
        printed = run(copy, "-m", "tests.simulation.determinism", cuts, core="compiled", seed=seed)
        assert printed.stdout.strip() == digest(0)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_it_passes_the_tests_of_the_engine(copy: Path) -> None:
    proven = run(copy, "-m", "pytest", "--timeout=300", *PROVEN_BY, core="compiled")
    assert proven.returncode == 0, proven.stdout[-5000:]


@pytest.mark.long
def test_it_runs_where_it_is_there_unless_switched_off_and_not_once_a_source_has_changed(copy: Path) -> None:
    which = ("-c", "import matching_engine.book as book, matching_engine as of; print(of.CORE, book.__file__[-3:])")
    assert [run(copy, *which, core=core).stdout for core in ("", "compiled", "pure")] == [
        "compiled .so\n",
        "compiled .so\n",
        "pure .py\n",
    ]
    source = copy / "schemas" / "events.py"
    before = source.read_text()
    source.write_text(before.replace("The fill before this one", "The one before this"))
    try:
        assert run(copy, *which).stdout == "pure .py\n"
        assert "run make core" in run(copy, *which, core="compiled").stdout
    finally:
        source.write_text(before)
    assert "CX_CORE is 'fast'" in run(copy, *which, core="fast").stdout


def test_a_source_is_compiled_as_it_is_but_for_what_cython_cannot_read() -> None:
    source = """from abc import ABC
from typing import Generic
from matching_engine.asks import measure, take

class Chunk(ABC, Generic[AnyOrder]):
    __slots__ = (
        "keys",
    )

    def asks(self, bid):
        for ask in self.orders:
            if ask.free < bid.left and ask.free and run & at:
                before = ask.free
                ask.free -= 1
                if 0 in bid.starts:
                    yield Fill(take(ask), before, ask.id)

class AskChunk(Chunk[Ask]):
    pass
"""
    types = """from matching_engine.asks cimport measure
# locals Chunk.asks: ask=CAsk
# ints Chunk.asks: ask.free
# made: Fill
# lent Chunk.asks: ask.id
# meets Chunk.asks: run & at
# as Chunk.asks: 0 in bid.starts => cx_has_0(bid.starts)
"""
    free = "cx_read(cython.cast(cython.p_void, ask.free))"
    assert changed(source, types).split("\n") == [
        "import cython; from abc import ABC",
        "from typing import Generic",
        "from matching_engine.asks import take",
        "",
        "class Chunk:",
        "",
        "",
        "",
        "    @cython.locals(ask=CAsk)",
        "    def asks(self, bid):",
        "        for ask in self.orders:",
        f"            if {free} < bid.left and {free} and cx_meet(run, at):",
        "                before = ask.free",
        "                ask.free -= 1",
        "                if cx_has_0(bid.starts):",
        "                    yield cx_new_Fill_2(take(ask), before, cython.cast(cython.p_void, ask.id))",
        "",
        "class AskChunk(Chunk):",
        "    pass",
        "",
    ]
    with pytest.raises(ValueError, match=r"asks does not read ask\.price"):
        changed(source, "# ints Chunk.asks: ask.price")
