#!/usr/bin/python
# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The module of this name: write files and directories."""

from __future__ import annotations

DOCUMENTATION = r"""
module: files
short_description: Bring many files and directories into a state in one round trip
version_added: 0.1.0
description:
  - Compares the given files, directories and removals with the host and writes only what differs,
    each file atomically. One call replaces a loop of C(template), C(file) and C(copy) tasks.
  - The action plugin M(vedfolnir.stack.service) renders templates and calls this module.
author:
  - Vedfolnir stack contributors (@vedfolnir)
attributes:
  check_mode:
    description: Predicts the same changes that a real run makes.
    support: full
  diff_mode:
    description: Shows each file before and after; files marked O(files[].secret) are hidden.
    support: full
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
  directories:
    description: Directories to make, parents first.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      owner:
        description: Owner, by name or number.
        type: str
        default: root
      group:
        description: Group, by name or number.
        type: str
        default: root
      mode:
        description: Permission bits in octal.
        type: str
        default: "0755"
  files:
    description: Files to write.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      content:
        description: The whole content.
        type: str
        required: true
      owner:
        description: Owner, by name or number.
        type: str
        default: root
      group:
        description: Group, by name or number.
        type: str
        default: root
      mode:
        description: Permission bits in octal.
        type: str
        default: "0644"
      validate:
        description: Command that checks the candidate, with C(%s) for its path.
        type: str
      secret:
        description: Whether the content must not appear in a diff.
        type: bool
        default: false
  absent:
    description: Paths to remove.
    type: list
    elements: path
    default: []
  look:
    description: What M(vedfolnir.stack.service) wants to know in the same round trip.
    type: dict
    suboptions:
      project:
        description: Compose project whose containers are returned.
        type: str
        required: true
      record:
        description: File in which M(vedfolnir.stack.jobs) remembers what has run.
        type: path
        required: true
"""

EXAMPLES = r"""
- name: Write the settings of two services
  vedfolnir.stack.files:
    directories:
      - path: /srv/vedfolnir/config/redis
    files:
      - path: /srv/vedfolnir/config/redis/redis.conf
        content: "maxmemory 256mb\n"
"""

RETURN = r"""
changed_files:
  description: Paths that were (or would be) made, written or removed.
  returned: always
  type: list
  elements: str
containers:
  description: C(fragment), C(digest) and C(secrets), from the labels, of the project's containers
    by service.
  returned: when O(look) is given
  type: dict
ran:
  description: Digest with which each job ran last.
  returned: when O(look) is given
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vedfolnir.stack.plugins.module_utils import containers, jobs
from ansible_collections.vedfolnir.stack.plugins.module_utils.files import FileError, Reconciler

_OWNERSHIP = {
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directories": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "mode": {"type": "str", "default": "0755"},
                    **_OWNERSHIP,
                },
            },
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str", "required": True},
                    "mode": {"type": "str", "default": "0644"},
                    "validate": {"type": "str"},
                    "secret": {"type": "bool", "default": False},
                    **_OWNERSHIP,
                },
            },
            "absent": {"type": "list", "elements": "path", "default": []},
            "look": {
                "type": "dict",
                "options": {
                    "project": {"type": "str", "required": True},
                    "record": {"type": "path", "required": True},
                },
            },
        },
        supports_check_mode=True,
    )
    work = Reconciler(check=module.check_mode)
    try:
        for item in module.params["directories"]:
            work.directory(
                item["path"], owner=item["owner"], group=item["group"], mode=item["mode"]
            )
        for item in module.params["files"]:
            work.file(
                item["path"],
                item["content"].encode(),
                owner=item["owner"],
                group=item["group"],
                mode=item["mode"],
                validate=item["validate"],
                secret=item["secret"],
            )
        for path in module.params["absent"]:
            work.absent(path)
    except (FileError, OSError) as exc:
        module.fail_json(msg=str(exc), changed_files=work.changed)
    seen: dict[str, t.Any] = {}
    if look := module.params["look"]:
        docker = module.get_bin_path("docker")
        seen["containers"] = containers.look(docker, look["project"])
        seen["ran"] = jobs.read_record(look["record"])
    module.exit_json(changed=bool(work.changed), changed_files=work.changed, diff=work.diff, **seen)


if __name__ == "__main__":
    main()
