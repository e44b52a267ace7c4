"""The wheel where nothing of a server is installed: what it says that it needs is there, and nothing else."""

import asyncio
import json
import re
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from tests.integration.conftest import CLASS, Venue

ROOT = Path(__file__).parents[2]
README_EXAMPLE = re.compile(r"```python\n(import asyncio\nfrom gateways\.client import Exchange\n.*?)```", re.DOTALL)


async def succeeds(*words: str | Path, timeout_s: float = 60) -> str:
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, cwd="/")
    out, _ = await asyncio.wait_for(process.communicate(), timeout_s)
    assert process.returncode == 0, words
    return out.decode()


def needed(name: str, found: dict[str, metadata.Distribution]) -> None:
    """A distribution, and those that it needs without any extra, by name."""
    distribution = metadata.distribution(name)
    if distribution.name in found:
        return
    found[distribution.name] = distribution
    for line in distribution.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            needed(requirement.name, found)


async def fresh(folder: Path) -> Path:
    """The Python of a new environment with the wheel and what it needs, as they are installed here."""
    wheels = folder / "wheels"
    build = sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"
    await succeeds(*build, "--wheel-dir", wheels, ROOT)
    (wheel,) = wheels.iterdir()
    await succeeds(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    install = sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"
    await succeeds(*install, "--disable-pip-version-check", wheel)
    (site,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    found: dict[str, metadata.Distribution] = {}
    needed("compute-exchange", found)
    del found["compute-exchange"]
    assert {"aiohttp", "msgspec"} <= found.keys()
    for distribution in found.values():
        for top in {file.parts[0] for file in distribution.files or () if ".." not in file.parts}:
            (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    return python


async def test_the_client_works_alone_and_the_command_says_what_it_lacks(exchange: Venue, tmp_path: Path) -> None:
    python = await fresh(tmp_path)
    key = await exchange.key_of("developer", "read", "trade", money="1000")
    found = README_EXAMPLE.search((ROOT / "README.md").read_text())
    assert found is not None
    example = re.sub(r'Exchange\(".*?", "cx_.*?"\)', f"Exchange({exchange.url!r}, {key!r})", found[1])
    assert key in example
    async with exchange.trader("cloud") as cloud:
        await cloud.sell(CLASS, gpus=8, price="2.50", hours=48)
    assert "8 GPUs at 2.50" in await succeeds(python, "-I", "-c", example)

    modules = "import json, sys; from gateways.client import ExchangeError, sync; print(json.dumps([*sys.modules]))"
    loaded = json.loads(await succeeds(python, "-I", "-c", modules))
    ours = {
        name for name in loaded if name.partition(".")[0] in ("gateways", "schemas", "matching_engine", "settlement")
    }
    assert all(name == "gateways" or name.startswith("gateways.client") for name in ours), ours

    typed = "from importlib.resources import files; print(files('gateways').joinpath('py.typed').is_file())"
    assert (await succeeds(python, "-I", "-c", typed)).strip() == "True", "checkers of types use ours (PEP 561)"

    process = await asyncio.create_subprocess_exec(python.parent / "cx", "--help", stderr=asyncio.subprocess.PIPE)
    _, err = await process.communicate()
    assert process.returncode == 2
    assert "pip install 'compute-exchange[cli]'" in err.decode()
    assert "Traceback" not in err.decode()
