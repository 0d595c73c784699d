#!/usr/bin/python
# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The module of this name: assemble a build context."""

from __future__ import annotations

DOCUMENTATION = r"""
module: build_context
short_description: Assemble a container build context and name it by its content
version_added: 0.1.0
description:
  - Collects files, directories and texts into one archive. The digest names an image that needs no
    rebuild while nothing of it changes. As a rule it runs on the controller (C(delegate_to)).
author:
  - Vedfolnir stack contributors (@vedfolnir)
attributes:
  check_mode:
    description: Computes the digest and writes nothing.
    support: full
  diff_mode:
    description: An archive has nothing to show.
    support: none
  idempotent:
    description: The same content gives the same archive, which is not written again.
    support: full
  platform:
    description: Debian 12 and later.
    support: full
    platforms: debian
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
options:
  parts:
    description: What the context is made of, later parts win.
    type: list
    elements: dict
    required: true
    suboptions:
      dest:
        description: Path in the context.
        type: str
        required: true
      src:
        description: File or directory to take.
        type: path
      content:
        description: Text to take.
        type: str
      ordered:
        description: Files whose order matters; in the directory O(parts[].dest) their names get a
          number in front.
        type: list
        elements: path
      exclude:
        description: Patterns of names to leave out; one with a slash is anchored at O(parts[].src).
        type: list
        elements: str
        default: []
  salt:
    description: Text that changes the digest, for instance the build arguments.
    type: str
    default: ""
  dest:
    description: Archive to write; nothing is written without it.
    type: path
"""

EXAMPLES = r"""
- name: Name the build by its content
  vedfolnir.stack.build_context:
    parts:
      - {dest: Dockerfile, src: files/app/Dockerfile}
      - {dest: source, src: ../vedfolnir, exclude: [.git, "*.pyc"]}
  delegate_to: localhost
  register: context
"""

RETURN = r"""
digest:
  description: 12 hexadecimal digits.
  returned: always
  type: str
files:
  description: How many files the context has.
  returned: always
  type: int
bytes:
  description: Sum of their sizes in bytes.
  returned: always
  type: int
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vedfolnir.stack.plugins.module_utils import build_context as util
from ansible_collections.vedfolnir.stack.plugins.module_utils.files import FileError, Reconciler


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "parts": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "dest": {"type": "str", "required": True},
                    "src": {"type": "path"},
                    "content": {"type": "str"},
                    "ordered": {"type": "list", "elements": "path"},
                    "exclude": {"type": "list", "elements": "str", "default": []},
                },
                "mutually_exclusive": [["src", "content", "ordered"]],
                "required_one_of": [["src", "content", "ordered"]],
            },
            "salt": {"type": "str", "default": ""},
            "dest": {"type": "path"},
        },
        supports_check_mode=True,
    )
    work = Reconciler(check=module.check_mode)
    try:
        files = util.collect(module.params["parts"])
        if module.params["dest"]:
            work.file(
                module.params["dest"],
                util.archive(files),
                owner=str(os.getuid()),
                group=str(os.getgid()),
                mode="0600",
                secret=True,
            )
    except (util.ContextError, FileError) as exc:
        module.fail_json(msg=f"The build context cannot be assembled: {exc}")
    module.exit_json(
        changed=bool(work.changed),
        digest=util.digest(files, module.params["salt"]),
        files=len(files),
        bytes=sum(len(content) for content, _mode in files.values()),
    )


if __name__ == "__main__":
    main()
