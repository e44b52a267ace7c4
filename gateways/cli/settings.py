"""`cx config`: where the command line's own settings come from. No network."""

import msgspec

from gateways.cli.access import HERE, Access
from gateways.cli.show import show


def config(*, access: Access = HERE) -> None:
    """Show each setting and where it comes from.

    An option comes first, then what a profile says that was named with --profile, then the environment (CX_URL,
    CX_KEY, CX_SIGNING_KEY, CX_SIGNING_KEY_ID, CX_TIMES), then the profile that CX_PROFILE or the file names, then the
    top of the file. The file is the one that CX_CONFIG names, else ~/.config/cx/config.toml:

        url = "https://exchange.example"
        profile = "buyer"
        [profiles.buyer]
        key = "cx_..."
        [profiles.supplier]
        key = "cx_..."

    Exit codes of all commands: 0 done, 1 the exchange refused, 2 wrong usage, 3 the exchange cannot be reached.
    """
    found = [setting.hidden() for setting in access.settings.values()]
    rows = ((setting.name, setting.value or "", setting.source) for setting in found)
    show(msgspec.to_builtins(found), ("setting", "value", "from"), rows, access)
