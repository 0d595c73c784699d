#!/usr/bin/python
# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The module of this name: bring the Vault of a host to life."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_init
short_description: Start, set up and unseal the Vault of a host
version_added: 0.1.0
description:
  - Makes or renews the certificate, starts the container, initialises a new Vault, hands its keys
    over to the operators, encrypted to each, prepares it with the root token, revokes that, and
    unseals a Vault that is sealed as far as this host can do it alone.
  - The keys and the root token never leave the memory of this one process but for the files that
    are encrypted to the operators, and the file that C(systemd-creds) seals to the host.
  - A set-up that was interrupted has left nothing that counts. The next call removes its data and
    begins anew. A Vault with data that has no record of its set-up on the host is never touched.
author:
  - Vedfolnir stack contributors (@vedfolnir)
attributes:
  check_mode:
    description: Tells what would be done.
    support: full
  diff_mode:
    description: There is nothing to show without showing keys.
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
  - vedfolnir.stack.operators
options:
  host:
    description: What the host's own program works on, too; see the role C(vault).
    type: dict
    required: true
    suboptions:
      address:
        description: Address of the container on the internal network.
        type: str
        required: true
      directory:
        description: Directory of root's for the state and the credentials.
        type: path
        required: true
      project_src:
        description: Directory of the Compose project.
        type: path
        required: true
      unseal:
        description: How Vault is unsealed.
        type: str
        choices: [sealed, manual, auto]
        required: true
      names:
        description: Names and addresses of the certificate.
        type: list
        elements: str
        required: true
      uid:
        description: User of the server.
        type: int
        required: true
      gid:
        description: Its group.
        type: int
        required: true
      seal:
        description: >-
          Type of the seal outside of this host that unseals Vault, or has unsealed it so far.
        type: str
        default: ""
  data_directory:
    description: Directory of the server's data.
    type: path
    required: true
  shares:
    description: Number of keys.
    type: int
    required: true
  threshold:
    description: How many of them unseal Vault.
    type: int
    required: true
  bootstrap:
    description: >-
      What is made in a new Vault. C(audit), C(auth) and C(mounts) map paths to settings,
      C(policies) names to texts; C(login) has C(name) and C(settings) of Ansible's AppRole.
    type: dict
    required: true
  name:
    description: The host's name in the operators' files.
    type: str
    required: true
requirements:
  - hvac (on the host)
  - cryptography (on the host)
"""

EXAMPLES = r"""
- name: Bring Vault to life
  vedfolnir.stack.vault_init:
    name: "{{ inventory_hostname }}"
    host: "{{ __vault_host }}"
    data_directory: /srv/vedfolnir/data/vault
    shares: 3
    threshold: 2
    operators:
      - name: alice
        age: age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg
    bootstrap: "{{ __vault_bootstrap }}"
"""

RETURN = r"""
actions:
  description: What was (or would be) done.
  returned: always
  type: list
  elements: str
sealed:
  description: Whether Vault is (still) sealed.
  returned: always
  type: bool
sealed_with:
  description: What the host's own keys are sealed with, C(tpm2) or C(host); empty without any.
  returned: always
  type: str
recovery_files:
  description: Files with operators' keys that have not been fetched from the host yet.
  returned: always
  type: list
  elements: str
date:
  description: When Vault was set up, in UTC, such as C(20260131T120000Z).
  returned: always
  type: str
version:
  description: Version of the server, empty when it is not running yet.
  returned: always
  type: str
snapshot:
  description: Snapshot that was taken because the image changes; empty where it does not.
  returned: always
  type: str
warning:
  description: Why no snapshot could be taken although the image changes; empty otherwise.
  returned: always
  type: str
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_diagnosis as diagnosis
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_setup as setup
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_upgrade as upgrade
from ansible_collections.vedfolnir.stack.plugins.module_utils.files import FileError
from ansible_collections.vedfolnir.stack.plugins.module_utils.secrets import SecretError
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_credential import (
    CredentialError,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_host import Host
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_recovery import (
    OPERATOR,
    RecoveryError,
)

_HOST = {
    "address": {"type": "str", "required": True},
    "directory": {"type": "path", "required": True},
    "project_src": {"type": "path", "required": True},
    "unseal": {"type": "str", "choices": ["sealed", "manual", "auto"], "required": True},
    "names": {"type": "list", "elements": "str", "required": True},
    "uid": {"type": "int", "required": True},
    "gid": {"type": "int", "required": True},
    "seal": {"type": "str", "default": ""},
}
_ERRORS = (vault.VaultError, RecoveryError, CredentialError, SecretError, FileError, OSError)


def _result(
    directory: str, actions: list[str], status: vault.Status | None, sealed: bool
) -> dict[str, t.Any]:
    state = setup.read_state(directory) or {}
    return {
        "changed": bool(actions),
        "actions": actions,
        "sealed": sealed,
        "sealed_with": str(state.get("sealed_with") or ""),
        "recovery_files": setup.fetchable(directory),
        "date": str(state.get("date") or ""),
        "version": status.version if status else "",
        "snapshot": "",
        "warning": "",
    }


def predict(host: Host) -> dict[str, t.Any]:
    """Return what a run would do."""
    state = setup.read_state(host.directory)
    setup.require_seal(host.unseal, host.seal, state)
    try:
        actions = ["certificate"] if host.certificate.ensure(check=True) else []
        status = vault.status(host.connect())
    except (ImportError, vault.VaultError):
        return _result(host.directory, ["certificate", "start"], None, False)
    if setup.moves(host.unseal, state):
        actions.append("move to another seal")
    elif host.forget_keys(check=True):
        actions.append("forget keys")
    if host.forget_seal(check=True):
        actions.append("forget the seal")
    if host.reload_stale(check=True):
        actions.append("reload")
    if setup.needed(status, state):
        actions.append("set up")
    elif status.sealed and host.unseal == "sealed":
        actions.append("unseal")
    return _result(host.directory, actions, status, status.sealed and host.unseal == "manual")


def bring_to_life(host: Host, plan: setup.Plan) -> dict[str, t.Any]:
    """Do it; see the module's documentation."""
    setup.require_seal(host.unseal, host.seal, setup.read_state(host.directory))
    actions = ["certificate"] if host.certificate.ensure() else []
    if host.unseal == "manual" and host.forget_keys():
        actions.append("forget keys")
    kept, warning = _keep_snapshot(host)
    if host.start():
        actions.append("start")
    if host.forget_seal():
        actions.append("forget the seal")
    if host.reload_stale():
        actions.append("reload")
    client = host.connect()
    status = vault.wait_for_answer(client, setup.START_SECONDS)
    if setup.needed(status, setup.read_state(host.directory)):
        setup.set_up(client, host, plan)
        actions.append("set up")
    elif status.sealed:
        actions += _unseal(host, client, status)
    status = vault.status(client)
    if setup.note_unseal(host.directory, host.unseal, status):
        actions.append("moved to another seal")
    # Only now: they may just have moved Vault to its new seal.
    if not status.sealed and host.forget_keys():
        actions.append("forget keys")
    result = _result(host.directory, actions, status, status.sealed)
    return {**result, "snapshot": kept, "warning": warning}


def _keep_snapshot(host: Host) -> tuple[str, str]:
    """Take a snapshot before another image is run; return its path, and why there is none.

    A server that does not work must be replaceable all the same.
    """
    try:
        with diagnosis.explained(host.project_src):
            return upgrade.before_upgrade(host), ""
    except vault.VaultError as exc:
        return "", f"Vault's image changes without a snapshot of its data: {exc}"


def _unseal(host: Host, client: t.Any, status: vault.Status) -> list[str]:
    """Unseal Vault as far as this host can do it alone; return what was done."""
    if status.migration and not host.has_keys:
        return []
    if status.migration or host.unseal == "sealed":
        host.unseal_with_credential(client)
        vault.wait_until_active(client, setup.ACTIVE_SECONDS)
        return ["unseal"]
    if host.unseal == "auto":
        vault.wait_until_unsealed(client, setup.ACTIVE_SECONDS)
    return []


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "dict", "required": True, "options": _HOST},
            "data_directory": {"type": "path", "required": True},
            "shares": {"type": "int", "required": True},
            "threshold": {"type": "int", "required": True},
            "operators": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": OPERATOR,
            },
            "bootstrap": {"type": "dict", "required": True},
            "name": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    host = Host(**params["host"])
    plan = setup.Plan(
        directory=host.directory,
        data_directory=params["data_directory"],
        unseal=host.unseal,
        shares=params["shares"],
        threshold=params["threshold"],
        operators=params["operators"],
        bootstrap=params["bootstrap"],
        host=params["name"],
    )
    os.umask(0o077)
    try:
        with diagnosis.explained(host.project_src):
            if module.check_mode:
                result = predict(host)
            else:
                with host.alone():
                    result = bring_to_life(host, plan)
    except _ERRORS as exc:
        module.fail_json(msg=str(exc), recovery_files=setup.fetchable(host.directory))
    if result["warning"]:
        module.warn(result["warning"])
    if not result["changed"] and host.unseal == "sealed" and not host.has_keys:
        module.warn(
            f"{params['name']} has no keys of its own, so Vault stays sealed after a reboot. Run "
            "playbooks/unseal.yml with the files of a quorum of operators."
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
