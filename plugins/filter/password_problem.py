# Copyright: the vedfolnir.stack maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a chosen secret is too weak."""

from __future__ import annotations

DOCUMENTATION = r"""
name: password_problem
short_description: Say why a chosen secret is too weak
version_added: 0.1.0
author: The vedfolnir.stack maintainers (@vedfolnir)
description:
  - Judges length, kinds of characters and well-known defaults, and never returns the value.
positional: _input, min_length
options:
  _input:
    description: The secret.
    type: str
    required: true
  min_length:
    description: How many characters it must have.
    type: int
    default: 16
"""

EXAMPLES = r"""
- name: Refuse a weak password
  ansible.builtin.assert:
    that: app_admin_password | vedfolnir.stack.password_problem(14) == ''
    fail_msg: >-
      app_admin_password {{ app_admin_password | vedfolnir.stack.password_problem(14) }}.
"""

RETURN = r"""
_value:
  description: What is wrong, as the end of a sentence; empty when nothing is.
  type: str
  sample: is shorter than 14 characters
"""

import typing as t

from ansible_collections.vedfolnir.stack.plugins.plugin_utils.passwords import (
    password_problem,
)


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filter by its name."""
        return {"password_problem": password_problem}
