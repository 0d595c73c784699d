# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter vedfolnir.stack.compose_networks."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError


def compose_networks(networks: t.Mapping[str, t.Mapping[str, t.Any]], mtu: int) -> dict[str, t.Any]:
    """Return the ``networks`` of a Compose file.

    Args:
        networks: By name, ``internal`` (no route out) and ``subnet`` (CIDR).
        mtu: MTU in bytes.

    Raises:
        AnsibleFilterError: when a network has no subnet.
    """
    result: dict[str, t.Any] = {}
    for name, network in networks.items():
        if not network.get("subnet"):
            raise AnsibleFilterError(f"compose_networks: network {name} has no subnet")
        result[name] = {
            "driver": "bridge",
            "driver_opts": {"com.docker.network.driver.mtu": str(int(mtu))},
            "internal": bool(network.get("internal")),
            "ipam": {"config": [{"subnet": str(network["subnet"])}]},
        }
    return result


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filters by name."""
        return {"compose_networks": compose_networks}
