"""What all commands of `cx` have in common: which exchange and who asks, how it is called, how a command ends."""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

from cyclopts import Parameter

from gateways.cli import config
from gateways.cli.config import ConfigError, Setting
from gateways.client import Exchange, ExchangeError

REFUSED, USAGE, UNREACHABLE = 1, 2, 3
"""Exit codes, beside 0."""


@Parameter(name="*")
@dataclass(frozen=True)
class Access:
    """Which exchange, who asks, and how it is shown.

    Parameters
    ----------
    url
        of the exchange; see `cx config`
    key
        API key; see `cx config`
    profile
        of the configuration file
    json
        print JSON instead of a table
    csv
        print CSV instead of a table
    local
        show times in this machine's zone, not in UTC; JSON and CSV are always in UTC
    """

    url: str | None = None
    key: str | None = None
    profile: str | None = None
    json: bool = False
    csv: bool = False
    local: bool = False

    def __post_init__(self) -> None:
        if self.json and self.csv:
            fail("say --json or --csv, not both", USAGE)

    @cached_property
    def settings(self) -> dict[str, Setting]:
        """Ends the command where the configuration is wrong."""
        said = {"url": self.url, "key": self.key, "times": "local" if self.local else None}
        try:
            return config.settings(said, self.profile)
        except ConfigError as error:
            fail(str(error), USAGE)

    @property
    def for_programs(self) -> bool:
        return self.json or self.csv


HERE = Access()


def run(call: Callable[[Exchange], Awaitable[None]], access: Access) -> None:
    """Calls with an open client; ends the command with what went wrong."""
    opened = connection(access)

    async def calling() -> None:
        async with opened as exchange:
            await call(exchange)

    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(calling())
    except ExchangeError as error:
        fail(str(error), UNREACHABLE if error.code == "unreachable" else REFUSED)


def connection(access: Access) -> Exchange:
    """Who signs sends no key, unless one is said."""
    found = access.settings
    url, file, key_id = (found[name].value or "" for name in ("url", "signing_key", "signing_key_id"))
    if access.key is not None or not file:
        return Exchange(url, found["key"].value)
    from gateways.client.signing import Signer  # for who signs alone: it takes its time to load

    if not key_id.isdecimal():
        fail("CX_SIGNING_KEY_ID must be the key_id of the public key of CX_SIGNING_KEY: see cx keys list", USAGE)
    try:
        return Exchange(url, signer=Signer.of_file(int(key_id), file))
    except (OSError, ValueError) as error:
        fail(f"CX_SIGNING_KEY: {error}", USAGE)


def fail(message: str, code: int) -> NoReturn:
    print(f"cx: {message}", file=sys.stderr)
    sys.exit(code)
