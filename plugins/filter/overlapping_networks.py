# Copyright: the vedfolnir.stack maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks that share addresses."""

from __future__ import annotations

DOCUMENTATION = r"""
name: overlapping_networks
short_description: Find networks that share addresses
version_added: 0.1.0
author: The vedfolnir.stack maintainers (@vedfolnir)
description:
  - Returns every pair of a list of networks that overlap, in the order of the list.
positional: _input
options:
  _input:
    description: Networks in CIDR notation, IPv4 and IPv6 mixed as you like.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Keep the stack's networks apart
  ansible.builtin.assert:
    that: "['172.30.0.0/24', '172.30.1.0/24'] | vedfolnir.stack.overlapping_networks | length == 0"
"""

RETURN = r"""
_value:
  description: Pairs of overlapping networks; empty when all are apart.
  type: list
  elements: list
  sample: [["172.30.0.0/16", "172.30.1.0/24"]]
"""

import ipaddress
import itertools
import typing as t

from ansible.errors import AnsibleFilterError


def overlapping_networks(networks: object) -> list[list[str]]:
    """Return each pair of networks that share at least one address."""
    if not isinstance(networks, (list, tuple)):
        kind = type(networks).__name__
        raise AnsibleFilterError(f"overlapping_networks expects a list of networks, got {kind}")
    try:
        parsed = [ipaddress.ip_network(str(network)) for network in networks]
    except ValueError as error:
        raise AnsibleFilterError(f"overlapping_networks: {error}") from error
    return [
        [str(one), str(other)]
        for one, other in itertools.combinations(parsed, 2)
        if one.version == other.version and one.overlaps(other)
    ]


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filter by its name."""
        return {"overlapping_networks": overlapping_networks}
