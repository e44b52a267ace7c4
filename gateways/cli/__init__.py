"""`cx`, the command line. Who installed the client alone is told what it needs."""

import sys

USAGE = 2


def start() -> None:
    """The command `cx`."""
    try:
        from gateways.cli.main import run

        run()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in (
            "gateways",
            "schemas",
            "matching_engine",
            "settlement",
        ):
            raise
        print(
            f"cx: {error.name} is not installed. For the command line: pip install 'compute-exchange[cli]'; "
            "to run an exchange: pip install 'compute-exchange[server]'",
            file=sys.stderr,
        )
        sys.exit(USAGE)
