"""SSH public keys, as `authorized_keys` files have them (OpenSSH; RFC 4253, section 6.6)."""

import base64
import hashlib

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

KINDS = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)


def public_key(line: str) -> str:
    """A line of a .pub file -> its type and its key, without the comment. Raises ValueError for anything else: a
    private key, options in front, several lines."""
    words = line.split()
    if len(words) < 2 or words[0] not in KINDS or "\n" in line.strip():
        raise ValueError("an SSH public key is one line, as in ~/.ssh/id_ed25519.pub: its type, and its key in base64")
    plain = " ".join(words[:2])
    try:
        load_ssh_public_key(plain.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"this is no SSH public key: {error}") from None
    return plain


def fingerprint(plain: str) -> str:
    """As `ssh-keygen -l` shows it.

    >>> fingerprint("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5TGh1n3lM2pk1wYzVjTjLxj4bnlgrVdHeHzUqBT0f/")[:7]
    'SHA256:'
    """
    digest = hashlib.sha256(base64.b64decode(plain.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"
