"""The exchange's core, in pure Python or compiled: from the same source, with the same answers (README.md)."""

import hashlib
import os
import sys
from pathlib import Path

import msgspec

_ROOT = Path(__file__).parents[1]


def compiled_core() -> Path:
    """Where `make core` puts what it compiles of these very sources, for this Python and msgspec: what was compiled of
    others is not found.
    """
    structs = (f"schemas/{name}.py" for name in ("attributes", "commands", "events"))
    parts = ("matching_engine/*.py", "matching_engine/core/*", *structs)
    sources = sorted(path for part in parts for path in _ROOT.glob(part) if path.is_file())
    made_of = hashlib.blake2b(f"{sys.implementation.cache_tag} msgspec-{msgspec.__version__}".encode(), digest_size=8)
    for source in sources:
        made_of.update(source.read_bytes())
    return _ROOT / "build" / "core" / made_of.hexdigest() / "matching_engine"


def _chosen_core() -> str:
    """As the environment's CX_CORE says, `pure` or `compiled`; where it says nothing, compiled if that is there."""
    wanted = os.environ.get("CX_CORE", "")
    if wanted not in ("", "pure", "compiled"):
        raise ImportError(f"CX_CORE is {wanted!r}: it can be pure or compiled")
    if wanted == "pure":
        return "pure"
    folder = compiled_core()
    if folder.is_dir():
        __path__.insert(0, str(folder))
        return "compiled"
    if wanted:
        raise ImportError("CX_CORE is compiled, and there is no compiled core of these sources: run make core")
    return "pure"


CORE = _chosen_core()
"""Which core runs in this process: pure or compiled."""
