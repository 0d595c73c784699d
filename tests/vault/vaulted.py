"""How the tests ask Vault on the lab host, and where its operator's keys are."""

from __future__ import annotations

import json
import pathlib
import typing as t

from ansible.parsing.vault import VaultLib, VaultSecret
from lab import Lab, Run

MANIFEST = "/etc/vedfolnir/secrets/manifest.json"

ask, values = Lab.ask_vault, Lab.values


def deploy(lab: Lab, *arguments: str) -> Run:
    """Run site.yml."""
    return lab.playbook("site.yml", *arguments)


def consumers(lab: Lab) -> dict[str, t.Any]:
    """Return the consumers with their files' templates."""
    content = json.loads(lab.run(f"cat {MANIFEST}"))
    return dict(content["files"])


def letter(lab: Lab) -> bytes:
    """Return the newest letter with keys that the lab's operator has, decrypted as operators do."""
    (operator,) = lab.variables["vault_operators"]
    directory = pathlib.Path(lab.variables["lab_keys"]) / lab.name
    encrypted = max(directory.glob(f"*/{operator['name']}.vault"))
    vault = VaultLib([("default", VaultSecret(operator["passphrase"].encode()))])
    return bytes(vault.decrypt(encrypted.read_bytes()))
