#!/usr/bin/python
# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The module of this name: hand operators' keys to Vault."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_unseal
short_description: Unseal the Vault of a host with operators' keys
version_added: 0.1.0
description:
  - Hands keys to a sealed Vault, which counts them until it has a quorum; operators may come one
    after the other, each with a call of their own.
  - Where the host is to unseal Vault by itself and has no (longer valid) keys for it, a quorum in
    one call is sealed to the host again.
author:
  - Vedfolnir stack contributors (@vedfolnir)
attributes:
  check_mode:
    description: Tells whether keys would be handed over.
    support: full
  diff_mode:
    description: There is nothing to show without showing keys.
    support: none
  idempotent:
    description: An unsealed Vault is left alone.
    support: full
  platform:
    description: Debian 12 and later.
    support: full
    platforms: debian
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
options:
  settings:
    description: File with the settings of the host's program.
    type: path
    default: /etc/vedfolnir/vault/settings.json
  keys:
    description: >-
      Keys; lines that are none, such as the other lines of an operator's letter, are ignored.
    type: str
    required: true
requirements:
  - hvac (on the host)
"""

EXAMPLES = r"""
- name: Unseal Vault
  vedfolnir.stack.vault_unseal:
    keys: "{{ lookup('ansible.builtin.file', '/media/stick/alice.txt') }}"
"""

RETURN = r"""
sealed:
  description: Whether Vault is still sealed.
  returned: always
  type: bool
missing:
  description: Number of keys that Vault still waits for.
  returned: always
  type: int
resealed:
  description: Whether the keys were sealed to the host.
  returned: always
  type: bool
"""

import json
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vedfolnir.stack.plugins.module_utils import (
    vault_credential as credential,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_recovery as recovery
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_setup as setup
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_host import Host


def _sealed_to_host(host: Host, threshold: int, keys: list[str], proven: bool) -> bool:
    """Seal a quorum to the host where it should have one and has none that works."""
    if host.unseal != "sealed" or len(keys) < threshold:
        return False
    try:
        present = credential.unsealed(host.directory)
    except credential.CredentialError:
        present = []
    # Keys that have just unsealed Vault are better than others that did not.
    if present and (not proven or set(present) <= set(keys)):
        return False
    credential.seal(host.directory, keys[:threshold])
    return True


def hand_over(host: Host, keys: list[str], check: bool) -> dict[str, t.Any]:
    """Hand the keys over; return the module's result."""
    client = host.connect()
    before = vault.status(client)
    result = {"changed": before.sealed, "sealed": before.sealed, "missing": 0, "resealed": False}
    if not keys:
        raise vault.VaultError("missing", "no key was given")
    if check:
        missing = max(0, before.threshold - before.progress - len(keys)) if before.sealed else 0
        return {**result, "sealed": missing > 0, "missing": missing}
    status = vault.unseal(client, keys)
    if status.sealed and status.progress == 0:
        raise vault.VaultError(
            "refused", "this quorum of keys does not unseal Vault; all have to be given again"
        )
    if status.sealed:
        return {**result, "missing": status.threshold - status.progress}
    vault.wait_until_active(client, setup.ACTIVE_SECONDS)
    setup.note_unseal(host.directory, host.unseal, vault.status(client))
    resealed = _sealed_to_host(host, before.threshold, keys, proven=before.sealed)
    return {
        "changed": before.sealed or resealed,
        "sealed": False,
        "missing": 0,
        "resealed": resealed,
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "settings": {"type": "path", "default": "/etc/vedfolnir/vault/settings.json"},
            "keys": {"type": "str", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    try:
        host = Host.read(module.params["settings"])
        keys = recovery.keys_in(module.params["keys"])
        result = hand_over(host, keys, module.check_mode)
    except FileNotFoundError:
        module.fail_json(msg="There is no Vault on this host; run site.yml first.")
    except (vault.VaultError, credential.CredentialError, OSError, json.JSONDecodeError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
