"""What is sealed can be read by whom it is for, with the secret that sealed it, and else by nobody."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.api.vault import Vault, VaultError, new_vault_secret

TEXT = "ssh gpu@10.0.0.7 -p 2222 # ünïcode"


@given(st.text(), st.text())
def test_what_is_sealed_opens_for_its_reader(text: str, reader: str) -> None:
    vault = Vault([SECRET])
    sealed = vault.seal(text, reader)
    assert vault.open(sealed, reader) == text
    assert sealed.isascii()
    assert len(text) < 8 or text not in sealed
    assert sealed != vault.seal(text, reader), "nobody can tell that two deliveries are alike"


SECRET = new_vault_secret()


def test_another_reader_another_secret_or_a_changed_letter_opens_nothing() -> None:
    vault = Vault([SECRET])
    sealed = vault.seal(TEXT, "acc_3")
    with pytest.raises(VaultError, match="not sealed for acc_4"):
        vault.open(sealed, "acc_4")
    with pytest.raises(VaultError, match="not here: add it"):
        Vault([new_vault_secret()]).open(sealed, "acc_3")
    for place in range(len("sealed-1 01234567 "), len(sealed)):
        changed = sealed[:place] + ("A" if sealed[place] != "A" else "B") + sealed[place + 1 :]
        with pytest.raises(VaultError):
            vault.open(changed, "acc_3")


def test_a_new_secret_in_front_seals_and_the_old_one_goes_on_opening(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    old = Vault.in_folder(file).seal(TEXT, "acc_3")
    assert file.stat().st_mode & 0o777 == 0o600
    assert Vault.in_folder(file).open(old, "acc_3") == TEXT, "the file stays"
    first = file.read_text()
    file.write_text(new_vault_secret() + "\n" + first)
    both = Vault.of_file(file)
    new = both.seal(TEXT, "acc_3")
    assert (both.open(old, "acc_3"), both.open(new, "acc_3")) == (TEXT, TEXT)
    file.write_text(first)
    with pytest.raises(VaultError, match="is not here"):
        Vault.of_file(file).open(new, "acc_3")


def test_text_from_before_there_were_secrets_is_read_as_it_is() -> None:
    assert Vault([SECRET]).open("ssh gpu@host", "acc_3") == "ssh gpu@host"


@pytest.mark.parametrize("written", ["", "short", SECRET[:-4], f"{SECRET} {SECRET[1:]}", "ü" * 44])
def test_a_file_that_holds_no_secrets_is_refused_by_its_name(tmp_path: Path, written: str) -> None:
    file = tmp_path / "secrets"
    file.write_text(written)
    with pytest.raises(VaultError, match=f"^{file}: "):
        Vault.of_file(file)
