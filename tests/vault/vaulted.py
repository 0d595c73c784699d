"""How the tests move the lab host to Vault, and how they ask Vault on the host."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import tempfile
import typing as t

from lab import Lab, Run

STORE = "/etc/vedfolnir/secrets/store.json"
MANIFEST = "/etc/vedfolnir/secrets/manifest.json"
RUNTIME = "/run/vedfolnir/secrets"
KEYS = pathlib.Path(tempfile.gettempdir()) / "vedfolnir-test-keys"
"""Where the operators' keys go; not below the repository, where the role refuses them."""
VARIABLES: dict[str, t.Any] = {
    "stack_secrets_provider": "vault",
    "vault_operators": [{"name": "tester", "passphrase": "Lab-only-passphrase-0123"}],
    "vault_keys_directory": str(KEYS),
}

_PREAMBLE = """
import json, sys
from ansible_collections.vedfolnir.stack.plugins.module_utils import (
    vault_access, vault_deliver, vault_kv, vault_server)
settings = vault_deliver.read_settings("/etc/vedfolnir/secrets/vault.json")
"""
_DOCUMENTS = """
with vault_deliver.session(settings) as api:
    documents = vault_kv.read_documents(api, settings.mount)
print(json.dumps({name: document.value for name, document in documents.items()}))
"""


@dataclasses.dataclass(frozen=True)
class Move:
    """What was on the host before its move, and what the runs said."""

    store: dict[str, t.Any]
    files: str
    started: dict[str, str]
    predicted: Run
    after_check: str
    run: Run


def deploy(lab: Lab, *arguments: str) -> Run:
    """Run site.yml with Vault as the provider."""
    return lab.playbook("site.yml", *arguments, variables=VARIABLES)


def files(lab: Lab) -> str:
    """Return the consumers' files: content, owner, mode, inode and time of each."""
    stat = "xargs -0 stat --format '%n %U:%G %a %i %Y'"
    return lab.run(
        f"cd {RUNTIME} && find . -type f -print0 | sort -z | {stat} && "
        "find . -type f -print0 | sort -z | xargs -0 sha256sum"
    )


def move(lab: Lab) -> Move | None:
    """Move the host to Vault, unless it is there."""
    store = json.loads(lab.run(f"cat {STORE}"))
    if "__vault" in store:
        return None
    before, started = files(lab), lab.started()
    predicted = deploy(lab, "--check")
    after_check = lab.run(f"cat {STORE}; ls /srv/vedfolnir/compose.d /etc/vedfolnir")
    run = deploy(lab)
    return Move(store, before, started, predicted, after_check, run)


def ask(lab: Lab, script: str) -> t.Any:
    """Run a Python script on the host that prints JSON; ``settings`` says where Vault is."""
    program = "PYTHONPATH=/usr/local/lib/vedfolnir/python python3 -"
    return json.loads(lab.run(program, stdin=_PREAMBLE + script))


def values(lab: Lab) -> dict[str, t.Any]:
    """Return every value in Vault by name, in the form of the local store."""
    return dict(ask(lab, _DOCUMENTS))


def consumers(lab: Lab) -> dict[str, t.Any]:
    """Return the consumers with their files' templates."""
    content = json.loads(lab.run(f"cat {MANIFEST}"))
    return dict(content["files"])
