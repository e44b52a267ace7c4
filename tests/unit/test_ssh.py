"""What OpenSSH makes is kept, without its comment, and shown as OpenSSH shows it; nothing else is."""

import subprocess
from pathlib import Path

import pytest

from gateways.api.ssh import fingerprint, public_key

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5TGh1n3lM2pk1wYzVjTjLxj4bnlgrVdHeHzUqBT0f/"


@pytest.mark.parametrize("kind", [("ed25519",), ("rsa", "-b", "2048"), ("ecdsa", "-b", "384")], ids=str)
def test_a_key_that_openssh_makes(tmp_path: Path, kind: tuple[str, ...]) -> None:
    file = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-C", "me@host", "-t", *kind, "-f", str(file)], check=True)
    line = file.with_suffix(".pub").read_text()
    plain = public_key(line)
    assert plain == " ".join(line.split()[:2])
    shown = subprocess.run(["ssh-keygen", "-l", "-f", str(file)], check=True, capture_output=True, text=True).stdout
    assert fingerprint(plain) == shown.split()[1]
    with pytest.raises(ValueError, match="one line"):
        public_key(file.read_text())  # the private one


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ssh-ed25519 ?",
        ED25519.replace("ssh-ed25519", "ssh-rsa"),
        f'command="rm -rf /" {ED25519}',
        f"{ED25519}\n{ED25519}",
        ED25519[:-8],
    ],
)
def test_anything_else_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="SSH public key"):
        public_key(line)


def test_a_comment_is_not_kept() -> None:
    assert public_key(f"{ED25519} someone@somewhere\n") == ED25519
