# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which versions of something may go."""

from __future__ import annotations

DOCUMENTATION = r"""
name: outdated
short_description: Tell which versions of something may go
version_added: 0.1.0
author: Vedfolnir stack contributors (@vedfolnir)
description:
  - Keeps every version that is in use, and the newest others until O(keep) are kept in all.
    Returns the rest, in the order of the input.
positional: _input
options:
  _input:
    description: Names of the versions that are there, newest first.
    type: list
    elements: str
    required: true
  used:
    description: Names that are in use; those that are not among the versions do not count.
    type: list
    elements: str
    required: true
  keep:
    description: How many versions to keep.
    type: int
    required: true
"""

EXAMPLES = r"""
# ['app:1']: app:2 is in use, and app:3 is the newest other.
old: "{{ ['app:3', 'app:2', 'app:1'] | vedfolnir.stack.outdated(used=['app:2'], keep=2) }}"
"""

RETURN = r"""
_value:
  description: The versions that may go.
  type: list
  elements: str
  sample: ["app:1"]
"""

import typing as t

from ansible.errors import AnsibleFilterError


def outdated(versions: t.Sequence[str], used: t.Sequence[str], keep: int) -> list[str]:
    """Return the versions that are neither in use nor among the newest to keep."""
    for name, value in (("a list of versions", versions), ("the used ones as a list", used)):
        if isinstance(value, str) or not isinstance(value, t.Sequence):
            raise AnsibleFilterError(f"outdated expects {name}, got {type(value).__name__}")
    spare = [version for version in versions if version not in used]
    room = max(0, int(keep) - (len(versions) - len(spare)))
    return spare[room:]


class FilterModule:
    """Offer the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., list[str]]]:
        """Return the filter by its name."""
        return {"outdated": outdated}
