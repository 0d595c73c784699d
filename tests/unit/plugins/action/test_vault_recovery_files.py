"""What vault_recovery writes for ansible-vault; here, because a module's tests lack its reader."""

from __future__ import annotations

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_recovery as recovery


@pytest.mark.parametrize("text", ["short", "ä and more", "0123456789abcdef", ""])
def test_ansible_vault_reads_what_is_written_for_it(text: str) -> None:
    written = recovery.encrypt({"name": "a", "passphrase": "long enough"}, text)
    vault = VaultLib([("default", VaultSecret(b"long enough"))])
    assert vault.decrypt(written).decode() == text
    assert all(len(line) <= 80 for line in written.splitlines())
