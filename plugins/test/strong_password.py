# Copyright: the vedfolnir.stack maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a chosen secret is strong enough."""

from __future__ import annotations

DOCUMENTATION = r"""
name: strong_password
short_description: Test whether a chosen secret is strong enough
version_added: 0.1.0
author: The vedfolnir.stack maintainers (@vedfolnir)
description:
  - True when P(vedfolnir.stack.password_problem#filter) finds nothing to complain about.
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
    that: app_admin_password is vedfolnir.stack.strong_password(14)
"""

RETURN = r"""
_value:
  description: Whether the secret is strong enough.
  type: bool
"""

import typing as t

from ansible_collections.vedfolnir.stack.plugins.plugin_utils.passwords import (
    password_problem,
)


def strong_password(secret: object, min_length: int = 16) -> bool:
    """Return whether nothing is wrong with a secret."""
    return not password_problem(secret, min_length)


class TestModule:
    """What Ansible asks for."""

    __test__ = False  # pytest would take the name for a class of tests

    def tests(self) -> dict[str, t.Callable[..., bool]]:
        """Return the test by its name."""
        return {"strong_password": strong_password}
