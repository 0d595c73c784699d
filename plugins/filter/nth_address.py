# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One address of a network."""

from __future__ import annotations

DOCUMENTATION = r"""
name: nth_address
short_description: Return one address of a network
version_added: 0.1.0
author: Vedfolnir stack contributors (@vedfolnir)
description:
  - Counts from the network's own address, which is 0; a negative number counts from its last one,
    which is -1.
positional: _input, number
options:
  _input:
    description: Network in CIDR notation.
    type: str
    required: true
  number:
    description: Number of the address.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Show the address of the gateway
  ansible.builtin.debug:
    msg: "{{ '172.30.0.0/24' | vedfolnir.stack.nth_address(1) }}"
"""

RETURN = r"""
_value:
  description: The address.
  type: str
  sample: 172.30.0.1
"""

import ipaddress
import typing as t

from ansible.errors import AnsibleFilterError


def nth_address(network: object, number: int) -> str:
    """Return an address of a network by its number.

    Raises:
        AnsibleFilterError: for what is not a network, or has no such address.
    """
    try:
        return str(ipaddress.ip_network(str(network))[int(number)])
    except (ValueError, IndexError) as exc:
        raise AnsibleFilterError(f"nth_address: {network} has no address {number}: {exc}") from exc


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filters by name."""
        return {"nth_address": nth_address}
