"""As many streams as the system lets a process have open files, and a sentence where that is too few."""

import subprocess
import sys

TRIED = """
import resource
from gateways.api.socket import USUAL, Bounds
from gateways.cli.processes import SPARE_FILES, within_files

def tried(streams, soft, hard):
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        print(within_files(streams).all, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    except OSError as error:
        print(error)

tried(Bounds(all=700), 300, 2_000)
tried(None, 300, 1_000)
tried(Bounds(all=700), 300, 1_000)
tried(None, 300, 500)
"""


def test_the_limit_of_open_files_is_raised_as_far_as_it_may_be() -> None:
    said = subprocess.run([sys.executable, "-c", TRIED], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [
        "700 1300",
        "400 1000",
        "700 streams want 1300 open files, and this process may have 1000: "
        "raise its limit (ulimit -Hn 1300), or say --streams 400",
        "6000 streams want 6600 open files, and this process may have 500: raise its limit (ulimit -Hn 6600)",
    ]
