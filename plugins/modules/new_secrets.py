#!/usr/bin/python
# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The module of this name: let running services read new secrets."""

from __future__ import annotations

DOCUMENTATION = r"""
module: new_secrets
short_description: Let running services read new secrets
version_added: 0.1.0
description:
  - Some services can read new secret files without being made anew, by a command that their
    dictionary names (C(new_secrets)). It is executed inside where the files are other ones than
    those that the service has read.
  - Which those are is remembered on the host after each service, so that a run that was killed is
    completed by the next.
author:
  - Vedfolnir stack contributors (@vedfolnir)
attributes:
  check_mode:
    description: Tells which services would read their secrets.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: A service reads the same files once.
    support: full
  platform:
    description: Debian 12 and later.
    support: full
    platforms: debian
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
options:
  project_src:
    description: Directory of the Compose project.
    type: path
    required: true
  project_name:
    description: Name of the Compose project.
    type: str
    required: true
  revisions:
    description: Revision of the secret files by consumer, as M(vedfolnir.stack.secrets) returns
      them.
    type: dict
    required: true
  record:
    description: File that remembers what has been read.
    type: path
    required: true
  runtime_directory:
    description: Directory of the consumers' files.
    type: path
    default: /run/vedfolnir/secrets
  except_services:
    description: Services that are made anew in this run anyway.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Let running services read new secrets
  vedfolnir.stack.new_secrets:
    project_src: /srv/vedfolnir
    project_name: vedfolnir
    revisions: "{{ secrets_result.revisions }}"
    record: /srv/vedfolnir/.state/secrets-read.json
"""

RETURN = r"""
read:
  description: Services that read (or would read) new secrets.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vedfolnir.stack.plugins.module_utils import new_secrets as util


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "project_src": {"type": "path", "required": True},
            "project_name": {"type": "str", "required": True},
            "revisions": {"type": "dict", "required": True, "no_log": False},
            "record": {"type": "path", "required": True},
            "runtime_directory": {"type": "path", "default": "/run/vedfolnir/secrets"},
            "except_services": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    params = module.params
    project = util.Project(
        params["project_src"],
        params["project_name"],
        params["record"],
        secrets_root=params["runtime_directory"],
    )
    try:
        read = util.read_again(
            project,
            project.services(),
            params["revisions"],
            check=module.check_mode,
            without=params["except_services"],
        )
    except util.ProjectError as exc:
        module.fail_json(msg=f"{exc}. Run again when the cause is gone; see docs/secrets.md.")
    module.exit_json(changed=bool(read), read=read)


if __name__ == "__main__":
    main()
