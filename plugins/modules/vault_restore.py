#!/usr/bin/python
# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The module of this name: a snapshot takes Vault's place."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_restore
short_description: Put a snapshot of Vault in place
version_added: 0.1.0
description:
  - Puts the data of Vault aside, lets a new one take a snapshot in, unseals it with the operators'
    keys of the day of the snapshot, and gives the host a new login and, where it unseals by itself,
    sealed keys. Only when the login works it is done; whatever fails before puts the data back.
  - What an interrupted call has left is put back by the next one, which then begins anew.
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
    description: Each call replaces the data.
    support: none
  platform:
    description: Debian 12 and later.
    support: full
    platforms: debian
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
options:
  snapshot:
    description: File with the snapshot, on the host.
    type: path
    required: true
  keys:
    description: >-
      A quorum of the keys that were in force when the snapshot was taken; lines that are none, such
      as the other lines of an operator's letter, are ignored.
    type: str
    required: true
  data_directory:
    description: Directory of the server's data.
    type: path
    required: true
  bootstrap:
    description: The option of the same name of M(vedfolnir.stack.vault_init).
    type: dict
    required: true
  operators:
    description: Names of those who keep the keys, for the record.
    type: list
    elements: str
    required: true
  name:
    description: Name of the host.
    type: str
    required: true
  settings:
    description: File with the settings of the host's program.
    type: path
    default: /etc/vedfolnir/vault/settings.json
requirements:
  - hvac (on the host)
"""

EXAMPLES = r"""
- name: Put a snapshot of Vault in place
  vedfolnir.stack.vault_restore:
    snapshot: /etc/vedfolnir/vault/restore.snap
    keys: "{{ lookup('ansible.builtin.file', '/media/stick/alice.txt') }}"
    data_directory: /srv/vedfolnir/data/vault
    bootstrap: "{{ __vault_bootstrap }}"
    operators: [alice, bob]
    name: "{{ inventory_hostname }}"
"""

RETURN = r"""
said:
  description: What was done, line by line.
  returned: always
  type: list
  elements: str
aside:
  description: Where the data lie that were replaced; empty with check mode.
  returned: success
  type: str
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vedfolnir.stack.plugins.module_utils import (
    vault_credential as credential,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_recovery as recovery
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_restore
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_setup as setup
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_host import Host

_ERRORS = (vault.VaultError, credential.CredentialError, OSError, json.JSONDecodeError)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "snapshot": {"type": "path", "required": True},
            "keys": {"type": "str", "required": True, "no_log": True},
            "data_directory": {"type": "path", "required": True},
            "bootstrap": {"type": "dict", "required": True},
            "operators": {"type": "list", "elements": "str", "required": True},
            "name": {"type": "str", "required": True},
            "settings": {"type": "path", "default": "/etc/vedfolnir/vault/settings.json"},
        },
        supports_check_mode=True,
    )
    params, said = module.params, list[str]()
    keys = list(dict.fromkeys(recovery.keys_in(params["keys"])))
    if module.check_mode:
        module.exit_json(changed=True, said=said, aside="")
    problems = vault_restore.problems(params["snapshot"], keys)
    if problems:
        module.fail_json(msg="Nothing was changed: " + "; ".join(problems), said=said)
    os.umask(0o077)
    try:
        host = Host.read(params["settings"])
        plan = setup.Plan(
            directory=host.directory,
            data_directory=params["data_directory"],
            unseal=host.unseal,
            shares=0,
            threshold=0,
            operators=[{"name": name} for name in params["operators"]],
            bootstrap=params["bootstrap"],
            host=params["name"],
        )
        host.certificate.ensure()
        work = vault_restore.Restore(host, plan, params["snapshot"], keys, said.append)
        aside = work.run()
    except _ERRORS as exc:
        module.fail_json(msg=f"What was there before is in place again: {exc}", said=said)
    module.log(f"a snapshot has taken the place of Vault's data, which are in {aside}")
    module.exit_json(changed=True, said=said, aside=aside)


if __name__ == "__main__":
    main()
