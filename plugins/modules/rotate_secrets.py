#!/usr/bin/python
# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The module of this name: take one step of the rotation of the secrets."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rotate_secrets
short_description: Take one step of the rotation of the secrets
version_added: 0.1.0
description:
  - Values are made on the host and go to Vault; the controller never sees one. C(docs/rotation.md)
    tells what each step does with each kind of secret, and why nothing stops meanwhile.
  - What is stored in Vault says how far a rotation has come, so that steps that were interrupted
    are finished by the next call, whatever it asks for.
author:
  - Vedfolnir stack contributors (@vedfolnir)
attributes:
  check_mode:
    description: Only O(step=plan) does something; it changes nothing.
    support: full
  diff_mode:
    description: There is nothing to show without showing values.
    support: none
  idempotent:
    description: A secret that was rotated is not due for some time; one that is named is rotated
      again.
    support: partial
  platform:
    description: Debian 12 and later.
    support: full
    platforms: debian
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
options:
  step:
    description:
      - V(plan) tells what is due. V(prepare) makes new values for O(names) and lets everybody
        accept them. V(switch) lets consumers use what was prepared, and takes that back if they do
        not get well. V(finish) encrypts anew what the old Fernet key has encrypted, and refuses
        old values. V(login) gives this host's AppRole a new secret id. V(at_once) replaces O(names)
        and refuses their old values before consumers have the new ones. V(settle) brings what Vault
        has into services that have not got it, when an earlier run was interrupted after its last
        write.
    type: str
    required: true
    choices: [plan, settle, prepare, switch, finish, login, at_once]
  settings:
    description: File with the settings of the rotation, which the role C(vault) writes.
    type: path
    default: /etc/vedfolnir/secrets/rotation.json
  only:
    description: With O(step=plan) the secrets to rotate whether they are due or not, no others.
    type: list
    elements: str
    default: []
  names:
    description: With O(step=prepare) and O(step=at_once) the secrets.
    type: list
    elements: str
    default: []
  emergency:
    description: With O(step=finish) earlier keys of Flask are refused, too.
    type: bool
    default: false
  who:
    description: Whom the log names.
    type: str
    default: Ansible
"""

EXAMPLES = r"""
- name: See what is due
  vedfolnir.stack.rotate_secrets:
    step: plan
  register: plan

- name: Make new values and let everybody accept them
  vedfolnir.stack.rotate_secrets:
    step: prepare
    names: "{{ plan.rotate }}"
"""

RETURN = r"""
done:
  description: Names of the secrets, with O(step=settle) of the services, that the step was about.
  returned: always, except with O(step=plan)
  type: list
  elements: str
said:
  description: What was done, line by line.
  returned: always
  type: list
  elements: str
lines:
  description: What is to be done with each secret, for people.
  returned: with O(step=plan)
  type: list
  elements: str
due:
  description: Names of the secrets with which something is to be done.
  returned: with O(step=plan)
  type: list
  elements: str
late:
  description: Services that have not got what Vault has, since an earlier run was interrupted.
  returned: with O(step=plan)
  type: list
  elements: str
rotate:
  description: Those of RV(due) that get a new value.
  returned: with O(step=plan)
  type: list
  elements: str
at_once:
  description: Those of RV(due) whose old value can be refused before consumers have the new one.
  returned: with O(step=plan)
  type: list
  elements: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_rotate


def _plan(work: vault_rotate.Rotation, params: dict[str, t.Any]) -> dict[str, t.Any]:
    steps, late = work.plan(params["only"]), work.late()
    rotate = [step for step in steps if step.action == "rotate"]
    return {
        "changed": bool(late) or any(step.action != "keep" for step in steps),
        "lines": [
            *(f"{step.name}: {step.action}, {step.why}" for step in steps),
            *(f"service {name}: finish, an earlier run was interrupted" for name in late),
        ],
        "late": late,
        "due": [step.name for step in steps if step.action != "keep"],
        "rotate": [step.name for step in rotate],
        "at_once": [step.name for step in rotate if step.method != "reencrypt"],
    }


def _take(work: vault_rotate.Rotation, params: dict[str, t.Any]) -> dict[str, t.Any]:
    names = params["names"]
    match params["step"]:
        case "settle":
            done = work.settle()
        case "prepare":
            done = work.prepare(names)
        case "switch":
            done = work.switch()
        case "finish":
            done = work.retire(work.reencrypt(), everything=params["emergency"])
            work.export()
        case "at_once":
            work.replace_at_once(names)
            done = names
        case _:
            work.login()
            done = []
    return {"changed": bool(done) or params["step"] == "login", "done": done}


def main() -> None:
    """Run the module."""
    steps = ["plan", "settle", "prepare", "switch", "finish", "login", "at_once"]
    names = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "required": True, "choices": steps},
            "settings": {"type": "path", "default": "/etc/vedfolnir/secrets/rotation.json"},
            "only": names,
            "names": names,
            "emergency": {"type": "bool", "default": False},
            "who": {"type": "str", "default": "Ansible"},
        },
        supports_check_mode=True,
    )
    params, said = module.params, list[str]()
    if module.check_mode and params["step"] != "plan":
        module.exit_json(changed=True, done=params["names"], said=[])
    try:
        settings = vault_rotate.Settings.read(params["settings"])
        work = vault_rotate.Rotation(settings, params["who"], said.append)
        if params["step"] == "plan":
            result = _plan(work, params)
        else:
            with vault_rotate.alone():
                result = _take(work, params)
    except vault_rotate.PROBLEMS as exc:
        module.fail_json(msg=f"The rotation did not go on: {exc}", said=said)
    module.exit_json(**result, said=said)


if __name__ == "__main__":
    main()
