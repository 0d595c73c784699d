#!/usr/bin/python
# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The module of this name: bring a lost host back on a bare one, step by step."""

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_host
short_description: Bring a lost host back on a bare one, step by step
version_added: 0.1.0
description:
  - What the playbook C(restore_host) does on the host beside deploying the stack; what one sees is
    in C(docs/restore.md).
  - How far it has come is recorded on the host; until the end its backups refuse to run. The keys
    are on a tmpfs meanwhile.
author:
  - Vedfolnir stack contributors (@vedfolnir)
attributes:
  check_mode:
    description: Tells what would be done; the repository is asked only where restic is installed.
    support: full
  diff_mode:
    description: There is nothing to show without showing keys.
    support: none
  idempotent:
    description: A step that was done is not done again.
    support: full
  platform:
    description: Debian 12 and later.
    support: full
    platforms: debian
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
options:
  step:
    description:
      - V(look) refuses a host that is not bare, unless a restore of the same host was begun on it.
        V(begin) chooses the backup, verifies it, and fetches the snapshot of Vault. V(reach) notes
        that O(phase) was reached.
    type: str
    required: true
    choices: [look, begin, reach]
  place:
    description: Where everything is.
    type: dict
    required: true
    suboptions:
      source:
        description: Name of the lost host, as its backups have it.
        type: str
        required: true
      state_directory:
        description: Directory of the record.
        type: path
        required: true
      project_src:
        description: Directory of the Compose project.
        type: path
        required: true
      project_name:
        description: Name of the Compose project.
        type: str
        required: true
      vault_directory:
        description: Directory of the state of Vault.
        type: path
        required: true
  wanted:
    description: >-
      Id of a backup, a time or transactions; with V(latest) all that is off the host. A restore
      that was begun keeps what it has, unless another one is named. Vault stays that of the first.
    type: str
    default: latest
  begun:
    description: With O(step=begin) the time of O(step=look), from which all is counted.
    type: float
  settings:
    description: With O(step=begin) the settings of the host's program for backups.
    type: dict
    default: {}
  secrets:
    description: With O(step=begin) the keys of the sheet and the login for the proof, by name.
    type: dict
    default: {}
  known_hosts:
    description: With O(step=begin) the lines of C(known_hosts) for a target at C(sftp:).
    type: list
    elements: str
    default: []
  ssh_key:
    description: With O(step=begin) the key with which the lost host logged in there. Without it a
      new one is made, which has to be let in.
    type: str
    default: ""
  ssh_key_path:
    description: Where this host keeps that key; empty when the target is not at C(sftp:).
    type: str
    default: ""
  phase:
    description: With O(step=reach) what was reached.
    type: str
    choices: [vault]
"""

EXAMPLES = r"""
- name: Refuse a host that is not bare
  vedfolnir.stack.restore_host:
    step: look
    place:
      source: captions.example.org
      state_directory: /srv/vedfolnir/.state
      project_src: /srv/vedfolnir
      project_name: vedfolnir
      vault_directory: /etc/vedfolnir/vault
"""

RETURN = r"""
record:
  description: How far the restore has come; empty when none was begun.
  returned: always
  type: dict
now:
  description: The time on the host, in seconds.
  returned: with O(step=look)
  type: float
lines:
  description: What is to come, for people.
  returned: with O(step=begin)
  type: list
  elements: str
snapshot:
  description: File with the snapshot of Vault.
  returned: with O(step=begin)
  type: str
public_key:
  description: The public part of the key with which this host logs in at the target.
  returned: with O(step=begin)
  type: str
"""

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_host as host
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    BackupError,
    TargetError,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_restic import RESTIC
from ansible_collections.vedfolnir.stack.plugins.module_utils.files import FileError

_PLACE = {
    "source": {"type": "str", "required": True},
    "state_directory": {"type": "path", "required": True},
    "project_src": {"type": "path", "required": True},
    "project_name": {"type": "str", "required": True},
    "vault_directory": {"type": "path", "required": True},
}


def _look(place: dict[str, str]) -> dict[str, t.Any]:
    record = host.read(place["state_directory"])
    if record:
        if record.get("source") != place["source"]:
            raise BackupError(
                f"a restore of {record.get('source')} was begun on this host and not finished; "
                f"{place['source']} cannot be restored onto it"
            )
        return {"changed": False, "record": record, "now": time.time()}
    found = host.found_on(place["project_src"], place["project_name"], place["vault_directory"])
    if found:
        raise BackupError(
            f"this host is not bare, nothing was changed: it has {', '.join(found)}. To replace "
            "the data of a host that lives use playbooks/restore.yml; to clear it, "
            "playbooks/uninstall.yml with its data"
        )
    return {"changed": False, "record": {}, "now": time.time()}


def _wanted(given: str, record: t.Mapping[str, t.Any]) -> str:
    """Return what was asked for now, else what was asked for when the restore was begun."""
    return str(record.get("wanted", given)) if given == "latest" else given


def _begin(params: dict[str, t.Any], check: bool) -> dict[str, t.Any]:
    source = params["place"]["source"]
    record = host.read(params["place"]["state_directory"])
    result: dict[str, t.Any] = {"changed": not record, "record": record, "public_key": ""}
    if check and not host.installed(RESTIC):
        lines = [
            f"restore the backup {params['wanted']} of {source} at "
            f"{params['settings']['repository']}; what is in it can be told when restic is on this "
            "host"
        ]
        return result | {"lines": lines, "snapshot": ""}
    sheet = host.Sheet(
        {name: str(value) for name, value in params["secrets"].items() if value},
        "\n".join(params["known_hosts"]),
        params["ssh_key"],
    )
    settings = host.lay_down(params["settings"], sheet)
    if params["ssh_key_path"]:
        result["public_key"] = host.log_in_with(params["ssh_key_path"], sheet.ssh_key)
    try:
        choice = host.choose(settings, lambda _text: None, _wanted(params["wanted"], record))
    except TargetError as exc:
        hint = f"; the key to let in there: {result['public_key']}" if result["public_key"] else ""
        raise TargetError(f"{exc}{hint}") from exc
    if not check:
        record = host.reach(
            settings.state_directory,
            record.get("phase", "begun"),
            source=source,
            id=record.get("id", choice.manifest["id"]),
            wanted=choice.wanted,
            point=choice.point,
            started=record.get("started", params["begun"] or time.time()),
        )
    lines = host.plan(choice.manifest, settings.host, settings.repository)
    if record.get("phase", "begun") != "begun":
        lines.append(f"this has come to {record['phase']} already and goes on from there")
    return result | {"record": record, "lines": lines, "snapshot": host.snapshot_path()}


def _reach(params: dict[str, t.Any], check: bool) -> dict[str, t.Any]:
    directory = params["place"]["state_directory"]
    before = host.read(directory)
    if check:
        return {"changed": True, "record": before}
    record = host.reach(directory, params["phase"])
    return {"changed": record != before, "record": record}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "required": True, "choices": ["look", "begin", "reach"]},
            "place": {"type": "dict", "required": True, "options": _PLACE},
            "wanted": {"type": "str", "default": "latest"},
            "begun": {"type": "float"},
            "settings": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "known_hosts": {"type": "list", "elements": "str", "default": []},
            "ssh_key": {"type": "str", "default": "", "no_log": True},
            "ssh_key_path": {"type": "str", "default": "", "no_log": False},
            "phase": {"type": "str", "choices": ["vault"]},
        },
        supports_check_mode=True,
        required_if=[("step", "begin", ["settings"]), ("step", "reach", ["phase"])],
    )
    params = module.params
    try:
        match params["step"]:
            case "look":
                result = _look(params["place"])
            case "begin":
                result = _begin(params, module.check_mode)
            case _:
                result = _reach(params, module.check_mode)
    except (BackupError, FileError, OSError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
