# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What Prometheus asks, from what the service dictionaries say of themselves.

``metrics`` of a service says where its metrics are, ``probe`` what the blackbox exporter asks in a
visitor's place. So a new service is watched without being named twice.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vedfolnir.stack.plugins.plugin_utils.services import (
    ServiceError,
    fixed_addresses,
    replica_names,
)

Services = t.Mapping[str, t.Mapping[str, t.Any]]

METRICS = frozenset({"job", "params", "path", "port", "scheme", "tls"})
"""Keys of ``metrics``: ``job`` is the service that the figures are about, if it is another one;
``tls`` and ``params`` are Prometheus' own ``tls_config`` and ``params``."""
PROBE = frozenset({"module", "path", "port"})
"""Keys of ``probe``: ``module`` is one of the blackbox exporter's."""
SCHEMES = {"tcp": ""}
"""How a target begins by module; else with the scheme of its name, which is http or https."""


def _part(
    name: str,
    service: t.Mapping[str, t.Any],
    key: str,
    known: frozenset[str],
    networks: t.Collection[str],
) -> dict[str, t.Any]:
    """Return one of the two keys, checked.

    Raises:
        ServiceError: naming the service and what is wrong.
    """
    part = dict(service[key])
    unknown = sorted(set(part) - known)
    if unknown:
        raise ServiceError(
            f"service {name}: {key} has the unknown key {', '.join(unknown)}; "
            f"known are {', '.join(sorted(known))}"
        )
    if not str(part.get("port", "")).isdecimal():
        raise ServiceError(f"service {name}: {key} needs a port")
    if not set(networks) & set(service.get("networks") or []):
        raise ServiceError(
            f"service {name}: has {key}, but is on none of the networks "
            f"{', '.join(networks)}, where they are asked for"
        )
    return part


def scrape_configs(services: Services, networks: t.Sequence[str]) -> list[dict[str, t.Any]]:
    """Return a scrape configuration for each service that has ``metrics``.

    A replica is a target of its own, and its name is the ``instance``: an address would make new
    series with every container.

    Args:
        services: Service dictionaries of all roles by name.
        networks: Those that Prometheus is on; fixed addresses on the last of them are preferred to
            names, which may stand for an address on which nobody listens for metrics.

    Raises:
        ServiceError: for ``metrics`` that cannot be asked for.
    """
    result: dict[str, dict[str, t.Any]] = {}
    for name, service in services.items():
        if not service.get("metrics"):
            continue
        part = _part(name, service, "metrics", METRICS, networks)
        job = str(part.get("job") or name)
        if job in result:
            raise ServiceError(f"service {name}: there are metrics of {job} already")
        config: dict[str, t.Any] = {"job_name": job}
        if part.get("path"):
            config["metrics_path"] = str(part["path"])
        for key, own in (("scheme", "scheme"), ("params", "params"), ("tls", "tls_config")):
            if part.get(key):
                config[own] = part[key]
        replicas = replica_names(name, service)
        hosts = fixed_addresses(service).get(networks[-1], replicas)
        config["static_configs"] = [
            {
                "targets": [f"{host}:{part['port']}"],
                "labels": {"instance": replica, "service": job},
            }
            for replica, host in zip(replicas, hosts, strict=True)
        ]
        result[job] = config
    return list(result.values())


def probe_config(
    services: Services, networks: t.Sequence[str], prober: str
) -> list[dict[str, t.Any]]:
    """Return the scrape configuration of all that has a ``probe``; none if nothing has.

    Args:
        services: Service dictionaries of all roles by name.
        networks: Those that the blackbox exporter is on.
        prober: Its name and port.

    Raises:
        ServiceError: for a ``probe`` that cannot be made.
    """
    targets = []
    for name, service in services.items():
        if not service.get("probe"):
            continue
        part = _part(name, service, "probe", PROBE, networks)
        module = str(part.get("module") or "http")
        scheme = SCHEMES.get(module, f"{module.partition('_')[0]}://")
        for replica in replica_names(name, service):
            labels = {
                "__param_module": module,
                "__param_target": f"{scheme}{replica}:{part['port']}{part.get('path', '')}",
                "instance": replica,
                "service": name,
            }
            targets.append({"targets": [prober], "labels": labels})
    if not targets:
        return []
    return [{"job_name": "probe", "metrics_path": "/probe", "static_configs": targets}]
