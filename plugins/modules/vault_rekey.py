#!/usr/bin/python
# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The module of this name: new keys for Vault."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_rekey
short_description: Give the Vault of a host new unseal keys
version_added: 0.1.0
description:
  - Makes new unseal keys (recovery keys where a seal unseals) with a quorum of the old ones, in
    steps between which the operators' encrypted files are fetched. Until the step V(finish) the old
    keys are in force, from then on the new ones.
  - What an interrupted run has left is ended or dropped by the next V(begin), as the server says
    which keys it accepts.
author:
  - Vedfolnir stack contributors (@vedfolnir)
attributes:
  check_mode:
    description: The step V(plan) changes nothing; the others do nothing.
    support: full
  diff_mode:
    description: There is nothing to show without showing keys.
    support: none
  idempotent:
    description: Each run makes new keys.
    support: none
  platform:
    description: Debian 12 and later.
    support: full
    platforms: debian
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - vedfolnir.stack.operators
options:
  step:
    description:
      - V(plan) tells what would be done and all that stands against it.
      - V(begin) makes the keys and the operators' files.
      - V(finish) puts the new keys into force. V(clean) removes the operators' files, which have
        been fetched.
    type: str
    required: true
    choices: [plan, begin, finish, clean]
  keys:
    description: >-
      Keys in force; lines that are none, such as the other lines of an operator's letter, are
      ignored. Without any, V(plan) does not judge them.
    type: str
    default: ""
  missing_files:
    description: Files with keys that are not there, to be told with the other problems.
    type: list
    elements: str
    default: []
  shares:
    description: Number of new keys.
    type: int
    required: true
  threshold:
    description: How many of them are needed.
    type: int
    required: true
  name:
    description: The host's name in the operators' files.
    type: str
    required: true
  settings:
    description: File with the settings of the host's program.
    type: path
    default: /etc/vedfolnir/vault/settings.json
  rotation:
    description: File with the settings of the rotation, which names the log of who did what.
    type: path
    default: /etc/vedfolnir/secrets/rotation.json
  who:
    description: Whom the log names.
    type: str
    default: Ansible
requirements:
  - hvac (on the host)
  - cryptography (on the host)
"""

EXAMPLES = r"""
- name: Make new keys
  vedfolnir.stack.vault_rekey:
    step: begin
    name: "{{ inventory_hostname }}"
    shares: 3
    threshold: 2
    operators: "{{ vault_operators }}"
    keys: "{{ lookup('ansible.builtin.file', '/media/stick/alice.txt') }}"
"""

RETURN = r"""
lines:
  description: What is to be done, for people.
  returned: with O(step=plan)
  type: list
  elements: str
required:
  description: How many of the keys in force are needed.
  returned: with O(step=plan)
  type: int
phase:
  description: How far it has come; V(done) when the new keys are in force.
  returned: with O(step=begin) and O(step=finish)
  type: str
date:
  description: When the new keys were made, in UTC, such as C(20260131T120000Z).
  returned: with O(step=begin) and O(step=finish)
  type: str
dropped:
  description: Date of an earlier rekey that was interrupted and whose keys never counted.
  returned: with O(step=begin)
  type: str
files:
  description: Files with operators' keys to be fetched.
  returned: with O(step=begin) and O(step=finish)
  type: list
  elements: str
"""

import json
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vedfolnir.stack.plugins.module_utils import (
    vault_credential as credential,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_recovery as recovery
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_rekey as rekey
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_rotate
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_host import Host

_ERRORS = (
    *vault_rotate.PROBLEMS,
    recovery.RecoveryError,
    credential.CredentialError,
    json.JSONDecodeError,
)


def plan(host: Host, wish: rekey.Wish, keys: list[str] | None) -> dict[str, t.Any]:
    """Return what would be done, and the ``problems``."""
    status = vault.status(host.connect())
    earlier = rekey.read_record(host.directory)
    # What was interrupted after the keys had changed is ended without a quorum of the new.
    problems = rekey.problems(wish, keys if earlier is None else None, status)
    names = ", ".join(str(operator["name"]) for operator in wish.operators)
    what = "unseal keys" if status.kind == "shamir" else "recovery keys"
    lines = [
        f"{what}: {status.threshold} of {status.shares} are needed now, {wish.threshold} of "
        f"{wish.shares} afterwards",
        f"the new ones go, encrypted, to {names}; the old ones are refused afterwards",
    ]
    if host.unseal == "sealed":
        lines.append("this host's own keys are replaced by new ones")
    if earlier is not None:
        lines.insert(0, f"the rekey of {earlier['date']} was interrupted: it is ended, or dropped")
    return {
        "changed": True,
        "lines": lines,
        "required": status.threshold,
        "problems": problems,
    }


def take(
    step: str, host: Host, wish: rekey.Wish, keys: list[str], note: t.Callable[[str], None]
) -> dict[str, t.Any]:
    """Take a step; return the module's result."""
    if step == "clean":
        rekey.clean(host)
        return {"changed": True}
    if step == "begin":
        record, dropped = rekey.begin(host, wish, keys)
        if dropped:
            note(f"drop the keys of {dropped}, which never counted")
        note(f"make new keys {record['date']}")
    else:
        record, dropped = rekey.finish(host, keys), ""
    if record["phase"] == rekey.DONE:
        note(f"the keys of {record['date']} are in force, the ones before are refused")
    return {
        "changed": True,
        "phase": record["phase"],
        "date": record["date"],
        "dropped": dropped,
        "files": rekey.letters(host.directory),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "step": {
                "type": "str",
                "required": True,
                "choices": ["plan", "begin", "finish", "clean"],
            },
            "keys": {"type": "str", "default": "", "no_log": True},
            "missing_files": {"type": "list", "elements": "str", "default": []},
            "shares": {"type": "int", "required": True},
            "threshold": {"type": "int", "required": True},
            "operators": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": recovery.OPERATOR,
            },
            "name": {"type": "str", "required": True},
            "settings": {"type": "path", "default": "/etc/vedfolnir/vault/settings.json"},
            "rotation": {"type": "path", "default": "/etc/vedfolnir/secrets/rotation.json"},
            "who": {"type": "str", "default": "Ansible"},
        },
        supports_check_mode=True,
    )
    params = module.params
    step, missing = params["step"], params["missing_files"]
    if module.check_mode and step != "plan":
        module.exit_json(changed=True, phase="", date="", dropped="", files=[])
    os.umask(0o077)
    keys = list(dict.fromkeys(recovery.keys_in(params["keys"])))
    wish = rekey.Wish(params["shares"], params["threshold"], params["operators"], params["name"])

    def note(text: str) -> None:
        vault_rotate.write_log(log, params["who"], "keys of Vault", text)
        module.log(f"{params['who']}: {text}")

    try:
        host = Host.read(params["settings"])
    except FileNotFoundError:
        module.fail_json(msg="There is no Vault on this host; run site.yml first.")
    try:
        log = vault_rotate.Settings.read(params["rotation"]).log
        result = plan(host, wish, keys if params["keys"] else None)
        problems = [f"{file} is not there" for file in missing] + result.pop("problems")
        if problems and step in ("plan", "begin"):
            module.fail_json(msg="Nothing was changed: " + "; ".join(problems))
        if step != "plan":
            with vault_rotate.alone():
                result = take(step, host, wish, keys, note)
    except _ERRORS as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
