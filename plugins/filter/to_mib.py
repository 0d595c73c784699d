# Copyright: the vedfolnir.stack maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes such as 512m as a number of MiB."""

from __future__ import annotations

DOCUMENTATION = r"""
name: to_mib
short_description: Turn a memory or disk size into MiB
version_added: 0.1.0
author: The vedfolnir.stack maintainers (@vedfolnir)
description:
  - Understands what Compose understands, a number with an optional unit C(b), C(k), C(m), C(g) or
    C(t), alone or followed by C(b) or C(ib). Units are powers of 1024; fractions are cut off.
positional: _input
options:
  _input:
    description: The size; a number without a unit counts bytes.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Compare a limit with the host
  ansible.builtin.assert:
    that: (redis_memory_limit | vedfolnir.stack.to_mib) < ansible_facts.memtotal_mb
"""

RETURN = r"""
_value:
  description: The size in MiB.
  type: int
"""

import re
import typing as t
from decimal import Decimal

from ansible.errors import AnsibleFilterError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_BYTES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_MIB = 1024**2


def to_mib(size: object) -> int:
    """Return a size in whole MiB."""
    found = None
    if isinstance(size, (str, int, float)) and not isinstance(size, bool):
        found = _SIZE.fullmatch(str(size).strip())
    if found is None:
        raise AnsibleFilterError(f"to_mib expects a size such as 512m or 2g, got '{size}'")
    return int(Decimal(found[1]) * _BYTES[found[2].lower()] / _MIB)


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filter by its name."""
        return {"to_mib": to_mib}
