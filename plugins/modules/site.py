#!/usr/bin/python
# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The module of this name: ask the site as a visitor does."""

from __future__ import annotations

DOCUMENTATION = r"""
module: site
short_description: Ask a page of the site over HTTPS under its public name
version_added: 0.1.0
description:
  - Asks from where the module runs, as a rule the controller. Changes nothing.
  - What is wrong is reported and does not fail the task. A certificate of an authority that is not
    known there is no problem, one that has expired or is for another name is.
author:
  - Vedfolnir stack contributors (@vedfolnir)
attributes:
  check_mode:
    description: Can run in check mode and does the same there.
    support: full
  diff_mode:
    description: Nothing ever changes.
    support: none
  idempotent:
    description: Nothing ever changes.
    support: full
  platform:
    description: Every system with Python.
    support: full
    platforms: posix
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
options:
  name:
    description: Host name of the site.
    type: str
    required: true
  address:
    description: Name or address to connect to, where it is not O(name).
    type: str
    default: ""
  port:
    description: Port of HTTPS there.
    type: int
    default: 443
  path:
    description: Path of the page that answers 200 when all is well.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Ask the page from the controller
  vedfolnir.stack.site:
    name: captions.example.org
    path: /health/ready
  delegate_to: localhost
  register: seen
"""

RETURN = r"""
site:
  description: C(url), C(status), C(answer), C(certificate), C(error) and C(ok) of the page.
  returned: always
  type: dict
problem:
  description: What is wrong, a sentence; nothing if it is well.
  returned: always
  type: str
  sample: "From the controller: https://captions.example.org:443/health/ready does not answer: …"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vedfolnir.stack.plugins.module_utils import health


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "address": {"type": "str", "default": ""},
            "port": {"type": "int", "default": 443},
            "path": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    site = health.ask(
        {
            "name": given["name"],
            "address": given["address"] or given["name"],
            "port": given["port"],
            "path": given["path"],
            "authorities": "",
        }
    )
    problem = "" if site["ok"] else f"From the controller: {site['url']} {site['error']}"
    module.exit_json(changed=False, site=site, problem=problem)


if __name__ == "__main__":
    main()
