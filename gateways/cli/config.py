"""Where `cx` finds which exchange, and who asks: options, the environment, a file with profiles. No network."""

import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

DEFAULT_URL = "http://127.0.0.1:8080"
SETTINGS = ("url", "key", "signing_key", "signing_key_id", "times")
SECRETS = {"key"}
DEFAULTS = {"url": DEFAULT_URL, "times": "utc"}
TIMES = ("utc", "local")
_SHOWN = 10
"""Of a secret, so many of its characters are shown."""


class ConfigError(Exception):
    """The file, or the environment, is not as it must be."""


class Setting(Struct, frozen=True):
    """A value and where it comes from; `value` None is none."""

    name: str
    value: str | None
    source: str

    def hidden(self) -> "Setting":
        """As it may be shown."""
        if self.name not in SECRETS or not self.value:
            return self
        return Setting(self.name, f"{self.value[:_SHOWN]}…", self.source)


def path(environment: Mapping[str, str]) -> Path:
    """Of the file: what CX_CONFIG names, else cx/config.toml where configuration is (XDG Base Directory)."""
    if named := environment.get("CX_CONFIG"):
        return Path(named).expanduser()
    return Path(environment.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "cx" / "config.toml"


def settings(
    said: Mapping[str, str | None], profile: str | None, environment: Mapping[str, str] = os.environ
) -> dict[str, Setting]:
    """Each setting: as said, else of the profile where one is said, else of the environment, else of the profile that
    CX_PROFILE or the file names, else of the file's top. Raises ConfigError."""
    file = path(environment)
    table = _read(file, must_exist=bool(environment.get("CX_CONFIG")))
    options = _named(said, "option")
    variables = {f"CX_{name.upper()}": name for name in SETTINGS}
    of_environment = {
        name: Setting(name, environment[each], each) for each, name in variables.items() if environment.get(each)
    }
    of_profile = _of_profile(file, table, profile or environment.get("CX_PROFILE") or table.get("profile"))
    before = of_profile if profile is not None else {}
    layers = (options, before, of_environment, of_profile, _named(table, str(file)), _named(DEFAULTS, "default"))
    found = {name: next((each[name] for each in layers if name in each), Setting(name, None, "")) for name in SETTINGS}
    if found["times"].value not in TIMES:
        raise ConfigError(f"times is {found['times'].value!r} ({found['times'].source}): it must be utc or local")
    return found


def _named(values: Mapping[str, Any], source: str) -> dict[str, Setting]:
    return {name: Setting(name, values[name], source) for name in SETTINGS if values.get(name) is not None}


def _of_profile(file: Path, table: Mapping[str, Any], name: str | None) -> dict[str, Setting]:
    if name is None:
        return {}
    profiles = table.get("profiles", {})
    if name not in profiles:
        raise ConfigError(f"{file} has no profile {name}: it has {', '.join(profiles) or 'none'}")
    return _named(profiles[name], f"profile {name} in {file}")


def _read(file: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        text = file.read_text()
        mode = file.stat().st_mode
        table = tomllib.loads(text)
    except FileNotFoundError:
        if must_exist:
            raise ConfigError(f"CX_CONFIG names {file}, which is not there") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None
    _check(file, table, top=True)
    profiles = table.get("profiles", {}).values()
    for each in profiles:
        _check(file, each, top=False)
    if mode & (stat.S_IRWXG | stat.S_IRWXO) and any(name in each for each in (table, *profiles) for name in SECRETS):
        raise ConfigError(f"{file} has a key, and others may read it: chmod 600 {file}")
    return table


def _check(file: Path, table: object, *, top: bool) -> None:
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: a profile is a table: [profiles.NAME]")
    for name, value in table.items():
        if name in SETTINGS or (top and name == "profile"):
            if not isinstance(value, str):
                raise ConfigError(f"{file}: {name} must be text, in quotes")
        elif not (top and name == "profiles" and isinstance(value, dict)):
            raise ConfigError(f"{file}: there is no setting {name}: it is one of {', '.join(SETTINGS)}")
