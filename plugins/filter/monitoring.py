# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters of the role observability; the rules are in plugin_utils."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.vedfolnir.stack.plugins.plugin_utils import alerting, monitoring
from ansible_collections.vedfolnir.stack.plugins.plugin_utils.services import ServiceError


def scrape_configs(
    services: monitoring.Services,
    networks: t.Sequence[str],
    probe_networks: t.Sequence[str],
    prober: str,
) -> list[dict[str, t.Any]]:
    """Return what Prometheus asks, see the module ``monitoring``."""
    try:
        return [
            *monitoring.scrape_configs(services, networks),
            *monitoring.probe_config(services, probe_networks, prober),
        ]
    except ServiceError as exc:
        raise AnsibleFilterError(f"scrape_configs: {exc}") from exc


def alertmanager_config(options: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return Alertmanager's configuration, see the module ``alerting``."""
    try:
        return alerting.alertmanager_config(options)
    except alerting.AlertingError as exc:
        raise AnsibleFilterError(f"alertmanager_config: {exc}") from exc


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filters by name."""
        return {"alertmanager_config": alertmanager_config, "scrape_configs": scrape_configs}
