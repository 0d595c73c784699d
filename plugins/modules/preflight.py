#!/usr/bin/python
# Copyright: the vedfolnir.stack maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action plugin of this name; there is no module to run on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Refuse a bad inventory before anything changes
version_added: 0.1.0
author:
  - The vedfolnir.stack maintainers (@vedfolnir)
description:
  - Compares the variables of a host with the argument specs of roles of this collection and with
    the rules in their C(vars/preflight.yml), and reports all problems in one message.
  - Unknown variables that carry a role's prefix are refused, with the name that was probably meant.
  - Values of options marked C(no_log) are never shown.
  - It runs on the controller, reads only variables and facts, and changes nothing.
options:
  roles:
    description:
      - Names of the roles whose variables to check, without the collection's name.
    type: list
    elements: str
    required: true
  deferred:
    description:
      - Names of variables that come into being later in the run, such as generated secrets.
      - Options and rules that depend on one of them are not evaluated.
    type: list
    elements: str
    default: []
notes:
  - A role's defaults count even when the play does not list the role.
  - Rules that need facts need a play that gathered them.
attributes:
  check_mode:
    description: Can run in check mode and does the same there.
    support: full
  diff_mode:
    description: Shows what would change.
    support: none
    details: Nothing ever changes.
"""

EXAMPLES = r"""
- name: Refuse a bad inventory before anything changes
  vedfolnir.stack.preflight:
    roles: [stack, docker_host, mysql]
    deferred: [stack_secrets]
"""

RETURN = r"""
problems:
  description: What has to be changed, sorted by variable.
  returned: always
  type: list
  elements: dict
  contains:
    variable:
      description: The option (or the rule, when it mentions no option) that the problem is about.
      type: str
      returned: always
    message:
      description: What is wrong and what to do.
      type: str
      returned: always
  sample:
    - variable: app_prot
      message: app_prot is not an option of vedfolnir.stack.app; did you mean app_port?
"""
