"""How to reach a buyer's machines, at rest: what the log, the database and their copies have of it is sealed, and
gateways alone can open it.

AES-256-GCM (NIST SP 800-38D) with a nonce drawn for each; what is sealed for one account cannot be opened as another's.
"""

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SECRET_BYTES = 32
NONCE_BYTES = 12
_MARK = "sealed-1"
"""In front of what is sealed: this form, and not text from before there was one."""


class VaultError(Exception):
    """A secret is none, or the one that sealed a text is not here: the message says what to do."""


class Vault:
    """Seals with the first of its secrets, and opens with any: so a new one is put in front, and old ones stay."""

    def __init__(self, keys: Sequence[str]) -> None:
        """`keys` as `new_vault_secret` makes them. Raises VaultError."""
        self._ciphers = {_name(raw): AESGCM(raw) for raw in map(_raw, keys)}
        if not self._ciphers:
            raise VaultError("there is no secret: make one with `cx new-secret`")

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """One secret on each line; the newest is the first. Raises VaultError, OSError."""
        try:
            return cls(path.read_text(encoding="ascii").split())
        except (VaultError, UnicodeDecodeError) as error:
            raise VaultError(f"{path}: {error}") from None

    @classmethod
    def in_folder(cls, path: Path) -> Self:
        """Of that file, which is made, for this user alone, where it is not there. Raises VaultError, OSError."""
        if not path.exists():
            draft = path.with_name(path.name + ".new")
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(new_vault_secret() + "\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        return cls.of_file(path)

    def seal(self, text: str, reader: str) -> str:
        """For that account alone."""
        name, cipher = next(iter(self._ciphers.items()))
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + cipher.encrypt(nonce, text.encode(), reader.encode())
        return f"{_MARK} {name} {base64.b64encode(sealed).decode()}"

    def open(self, text: str, reader: str) -> str:
        """What was sealed for the account; text that was never sealed is given back. Raises VaultError."""
        mark, _, rest = text.partition(" ")
        if mark != _MARK:
            return text
        name, _, encoded = rest.partition(" ")
        cipher = self._ciphers.get(name)
        if cipher is None:
            raise VaultError(f"the secret {name}, which sealed this, is not here: add it to the file of secrets")
        try:
            sealed = base64.b64decode(encoded, validate=True)
            if base64.b64encode(sealed).decode() != encoded:  # of the last letter not every bit counts
                raise ValueError(encoded)
            return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], reader.encode()).decode()
        except (InvalidTag, binascii.Error, ValueError):
            raise VaultError(f"this was not sealed for {reader}, or was changed: have it delivered again") from None


def new_vault_secret() -> str:
    """For a file of secrets."""
    return base64.urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def _raw(secret: str) -> bytes:
    try:
        raw = base64.b64decode(secret, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != SECRET_BYTES:
        raise VaultError(f"a secret is {SECRET_BYTES} bytes in base64, as `cx new-secret` makes it")
    return raw


def _name(raw: bytes) -> str:
    """Tells secrets apart, and nothing of them."""
    return hashlib.sha256(b"name of a secret" + raw).hexdigest()[:8]
