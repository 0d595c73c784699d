# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Several addresses of a network, one beside the other."""

from __future__ import annotations

DOCUMENTATION = r"""
name: nth_addresses
short_description: Return some addresses of a network, one beside the other
version_added: 0.1.0
author: Vedfolnir stack contributors (@vedfolnir)
description:
  - Counts as P(vedfolnir.stack.nth_address#filter) does, from the first address on towards the
    middle of the network. The first ones stay the same, however many are wanted.
positional: _input, first, count
options:
  _input:
    description: Network in CIDR notation.
    type: str
    required: true
  first:
    description: Number of the first address; a negative one counts from the network's last.
    type: int
    required: true
  count:
    description: How many are wanted.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Show two addresses at the high end
  ansible.builtin.debug:
    msg: "{{ '172.30.2.0/24' | vedfolnir.stack.nth_addresses(-3, 2) }}"
"""

RETURN = r"""
_value:
  description: The addresses.
  type: list
  elements: str
  sample: [172.30.2.253, 172.30.2.252]
"""

import typing as t

from ansible_collections.vedfolnir.stack.plugins.filter.nth_address import nth_address


def nth_addresses(network: object, first: int, count: int) -> list[str]:
    """Return addresses of a network by the number of the first one.

    Raises:
        AnsibleFilterError: for what is not a network, or does not have so many.
    """
    step = -1 if int(first) < 0 else 1
    return [nth_address(network, int(first) + step * number) for number in range(int(count))]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filters by name."""
        return {"nth_addresses": nth_addresses}
