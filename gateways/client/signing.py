"""Requests signed with a private key that stays where it is, in place of a secret that is sent with each."""

import base64
import hashlib
import os
import secrets
import time
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key


class Signer:
    """Signs for the key `key_id` of the exchange, which has the public key that belongs to this private one."""

    def __init__(self, key_id: int, private_key: Ed25519PrivateKey) -> None:
        self._key_id = key_id
        self._private_key = private_key

    @classmethod
    def of_file(cls, key_id: int, path: str | os.PathLike[str]) -> Self:
        """With a file as `ssh-keygen -t ed25519` makes it, or in PEM (PKCS 8), without a passphrase. Raises OSError,
        or ValueError where it is something else."""
        text = Path(path).expanduser().read_bytes()
        load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in text else load_pem_private_key
        try:
            found = load(text, password=None)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is no private key that can be read without a passphrase: {error}") from None
        if not isinstance(found, Ed25519PrivateKey):
            raise ValueError(f"{path} is no Ed25519 key: make one with ssh-keygen -t ed25519")
        return cls(key_id, found)

    def headers(self, method: str, target: str, body: bytes) -> dict[str, str]:
        """Of a request to a path with its query, now: good for half a minute, and for once."""
        timestamp, nonce = str(time.time_ns() // 1_000_000), secrets.token_hex(16)
        hashed = hashlib.sha256(body).hexdigest()
        said = ("cx-ed25519-v1", str(self._key_id), timestamp, nonce, method, target, hashed)
        value = self._private_key.sign("\n".join(said).encode())
        return {
            "CX-Key": str(self._key_id),
            "CX-Timestamp": timestamp,
            "CX-Nonce": nonce,
            "CX-Signature": base64.b64encode(value).decode(),
        }
