#!/usr/bin/python
# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The module of this name: generate secrets, render their files."""

from __future__ import annotations

DOCUMENTATION = r"""
module: secrets
short_description: Generate the stack's secrets on the host, bring their files to the consumers
version_added: 0.1.0
description:
  - Values are generated on the host, never travel to the controller, and are documents in Vault.
  - Files are rendered to a directory per service on a tmpfs, by one agent of Vault for each
    service, which ends when it has done so. Every consumer has a policy and an AppRole.
  - A host of a release before Vault has its values in a file that only root reads. Vault takes them
    over as they are, the agents prove that they deliver, and only then the file is emptied.
  - A value that exists is never changed, except by O(given); one that the manifest no longer lists
    is kept.
author:
  - Vedfolnir stack contributors (@vedfolnir)
attributes:
  check_mode:
    description: Predicts what would be generated and rendered.
    support: full
  diff_mode:
    description: There is nothing to show without showing values.
    support: none
  idempotent:
    description: A second call changes nothing.
    support: full
  platform:
    description: Debian 12 and later.
    support: full
    platforms: debian
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
options:
  manifest:
    description:
      - The secrets. Each has C(name), C(kind) (password, hex, fernet, ca, trust, tls, given), and
        as the kind needs C(length) (characters), C(names) (of a certificate), C(issuer),
        C(optional).
    type: list
    elements: dict
    required: true
  files:
    description: Per service C(owner) (C(uid:gid)) and C(files), name to template, see the module's
      source.
    type: dict
    required: true
  given:
    description: Values that the operator brings along, by name.
    type: dict
    default: {}
  directory:
    description: Directory of what the host keeps, no values.
    type: path
    default: /etc/vedfolnir/secrets
  runtime_directory:
    description: Directory (on a tmpfs) of the consumers' files.
    type: path
    default: /run/vedfolnir/secrets
  vault:
    description: How Vault and its agents are reached.
    type: dict
    required: true
    suboptions:
      address:
        description: Vault's URL for this host.
        type: str
        required: true
      agent_address:
        description: Vault's URL for the agents.
        type: str
        required: true
      ca_file:
        description: Certificate of the authority that signed Vault's.
        type: path
        required: true
      credentials_file:
        description: JSON file with C(role_id) and C(secret_id) of the AppRole to log in with.
        type: path
        required: true
      mount:
        description: Mount of the key-value store, version 2.
        type: str
        default: vedfolnir
      bound_cidrs:
        description: Subnets that agents may log in from.
        type: list
        elements: str
        required: true
      project_src:
        description: Directory of the Compose project.
        type: path
        required: true
      project_name:
        description: Name of the Compose project.
        type: str
        required: true
      compose_files:
        description: Compose files that describe the agents, relative to O(vault.project_src).
        type: list
        elements: str
        required: true
      agents_directory:
        description: Directory on a tmpfs for what agents start with; empty when none runs.
        type: path
        default: /run/vedfolnir/agents
      settings_file:
        description: File that keeps these settings for the delivery at boot.
        type: path
        default: /etc/vedfolnir/secrets/vault.json
requirements:
  - cryptography (on the host)
  - hvac (on the host)
"""

EXAMPLES = r"""
- name: Make the secrets
  vedfolnir.stack.secrets:
    manifest:
      - name: redis_app
        kind: password
    files:
      redis:
        owner: "999:999"
        files:
          users.acl: "user app on #${redis_app|sha256} ~* +@all\n"
    vault:
      address: https://172.30.0.250:8200
      agent_address: https://vault:8200
      ca_file: /etc/vedfolnir/vault/ca.pem
      credentials_file: /etc/vedfolnir/vault/approle.json
      bound_cidrs: [172.30.0.0/24]
      project_src: /srv/vedfolnir
      project_name: vedfolnir
      compose_files: [compose.yml, compose.d/vault.yml, compose.d/agents.yml]
"""

RETURN = r"""
generated:
  description: Names of the secrets that were (or would be) made or replaced.
  returned: always
  type: list
  elements: str
moved:
  description: Names of the secrets that Vault took (or would take) over from the host's file.
  returned: always
  type: list
  elements: str
access:
  description: Policies and AppRoles in Vault that were (or would be) changed.
  returned: always
  type: list
  elements: str
changed_files:
  description: Files below the runtime directory that were (or would be) written or removed.
  returned: always
  type: list
  elements: str
revisions:
  description: Per service a salted digest of its files, C(pending) where it cannot be known before
    the real run.
  returned: always
  type: dict
"""

import contextlib
import json
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vedfolnir.stack.plugins.module_utils import secrets as provider
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_provider
from ansible_collections.vedfolnir.stack.plugins.module_utils.files import (
    FileError,
    write_atomic,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_server import VaultError

ARGUMENTS: dict[str, t.Any] = {
    "manifest": {"type": "list", "elements": "dict", "required": True, "no_log": False},
    "files": {"type": "dict", "required": True, "no_log": False},
    "given": {"type": "dict", "default": {}, "no_log": True},
    "directory": {"type": "path", "default": "/etc/vedfolnir/secrets"},
    "runtime_directory": {"type": "path", "default": "/run/vedfolnir/secrets"},
    "vault": {
        "type": "dict",
        "required": True,
        "options": {
            "address": {"type": "str", "required": True},
            "agent_address": {"type": "str", "required": True},
            "ca_file": {"type": "path", "required": True},
            "credentials_file": {"type": "path", "required": True, "no_log": False},
            "mount": {"type": "str", "default": "vedfolnir"},
            "bound_cidrs": {"type": "list", "elements": "str", "required": True},
            "project_src": {"type": "path", "required": True},
            "project_name": {"type": "str", "required": True},
            "compose_files": {"type": "list", "elements": "str", "required": True},
            "agents_directory": {"type": "path", "default": "/run/vedfolnir/agents"},
            "settings_file": {"type": "path", "default": "/etc/vedfolnir/secrets/vault.json"},
        },
    },
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    given = {name: "" if value is None else str(value) for name, value in params["given"].items()}
    try:
        result = _converge(params, given, check=module.check_mode)
    except (provider.SecretError, FileError, VaultError, OSError, ImportError) as exc:
        module.fail_json(msg=f"The secrets cannot be made: {exc}")
    result["generated"] = [name for name in result["generated"] if not name.startswith("__")]
    module.exit_json(**result)


def _converge(params: dict[str, t.Any], given: dict[str, str], check: bool) -> dict[str, t.Any]:
    options = params["vault"]
    store_path = os.path.join(params["directory"], "store.json")
    local = provider.read_store(store_path)
    settings = vault_provider.settings_of(options, params["runtime_directory"])
    if check and not os.path.exists(settings.credentials_file):
        return _before_vault(params, given, local)
    noted = _note(params, check)
    done = vault_provider.converge(
        settings,
        params["manifest"],
        params["files"],
        given,
        local,
        made_at=vault_provider.file_moment(store_path),
        cidrs=options["bound_cidrs"],
        check=check,
    )
    # Delivered and proven: only now the boot relies on Vault, and the host's own values go.
    noted += _keep({options["settings_file"]: settings.text()}, check)
    marker = json.dumps(vault_provider.marker(done.store), indent=2)
    noted += _keep({store_path: marker}, check)
    return {
        "changed": bool(done.generated or done.files or done.access or noted),
        "generated": done.generated,
        "moved": done.moved,
        "access": done.access,
        "changed_files": done.files,
        "revisions": _revisions(params["files"], done.store),
    }


def _before_vault(
    params: dict[str, t.Any], given: dict[str, str], local: dict[str, t.Any]
) -> dict[str, t.Any]:
    """Predict while Vault is yet to be made: what the host has moves, a fresh one has nothing."""
    files = params["files"]
    if local:
        store, generated = provider.converge_store(local, params["manifest"], given)
        contents = provider.rendered_files(files, store)
        changed_files = provider.differences(params["runtime_directory"], files, contents)
        revisions = _revisions(files, store)
    else:
        # cryptography may be missing; what is made here is thrown away, it serves to name what is
        # wrong with the manifest.
        with contextlib.suppress(ImportError):
            provider.converge_store({}, params["manifest"], given)
        generated = [
            item["name"]
            for item in params["manifest"]
            if item["kind"] != "given" or item["name"] in given
        ]
        changed_files = [
            f"{service}/{name}" for service in files for name in files[service]["files"]
        ]
        revisions = {}
    return {
        "changed": True,
        "generated": generated,
        "moved": sorted(set(local) - set(generated)),
        "access": [],
        "changed_files": changed_files,
        "revisions": revisions,
    }


def _revisions(files: dict[str, t.Any], store: dict[str, t.Any]) -> dict[str, str]:
    contents = provider.rendered_files(files, store)
    return {service: provider.revision(contents[service], store["__salt"]) for service in files}


def _note(params: dict[str, t.Any], check: bool) -> list[str]:
    """Keep the templates for the delivery at boot."""
    content = {"secrets": params["manifest"], "files": params["files"]}
    path = os.path.join(params["directory"], "manifest.json")
    return _keep({path: json.dumps(content, indent=2, sort_keys=True) + "\n"}, check)


def _keep(wanted: dict[str, str], check: bool) -> list[str]:
    """Write the files that differ, and return them."""
    late = [path for path, text in wanted.items() if _read(path) != text]
    if not check:
        for path in late:
            _write(path, wanted[path])
    return late


def _write(path: str, text: str) -> None:
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    os.chmod(directory, 0o700)
    write_atomic(path, text.encode(), uid=0, gid=0, mode=0o600)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except FileNotFoundError:
        return ""


if __name__ == "__main__":
    main()
