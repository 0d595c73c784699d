# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Turn service dictionaries into a hardened Compose fragment.

A service dictionary is what a role says about one container. This module knows nothing of Ansible:
it takes plain data and gives plain data, so the rules (what is hardened, when a service is
recreated) can be read and tested in one place. The keys of a service dictionary are described in
``docs/add-a-service.md``.
"""

from __future__ import annotations

import hashlib
import json
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import labels

Service = dict[str, t.Any]

NEW_SECRETS = ("recreate", "run", "nothing")
"""What a service can do with new secrets, see :data:`labels.NEW_SECRETS`; or it has a command."""

SECRETS_TARGET = "/run/secrets"
"""Where a container finds its secret files (the place Docker's own secrets use)."""

HARDENING: dict[str, t.Any] = {
    "cap_drop": ["ALL"],
    "read_only": True,
    "security_opt": ["no-new-privileges:true"],
}
"""What every container gets; a service opts out key by key in ``waive``, with a reason."""

HEALTH_RHYTHM: dict[str, str] = {
    "interval": "30s",
    "start_interval": "2s",
    "start_period": "30s",
}
"""How often Docker looks: often while a container starts (Engine 25 or newer), so that a deployment
waits no longer than it must, and seldom afterwards: each look costs a process in the container.
Without a period for the start, Docker would look for the first time after a whole interval."""

PASSED = (
    "build",
    "command",
    "devices",
    "entrypoint",
    "environment",
    "extra_hosts",
    "group_add",
    "healthcheck",
    "image",
    "init",
    "memswap_limit",
    "platform",
    "pull_policy",
    "runtime",
    "shm_size",
    "stop_grace_period",
    "stop_signal",
    "tmpfs",
    "ulimits",
    "working_dir",
)
"""Keys that mean the same in a service dictionary and in Compose."""

ON_DEMAND = "on-demand"
"""Value of ``job`` for one that a deployment never runs; and the Compose profile of such jobs."""

JOB_MEANS = frozenset({"depends_on", "deploy", "logging"})
"""Keys that say how a job runs and not what it does: a change of them alone is no reason to."""

EXPOSING = {"cap_add": "cap_add", "ports": "a published port"}
"""Keys that take hardening back; each needs a reason in ``waive``."""

KNOWN = frozenset(PASSED) | {
    "addresses",
    "cap_add",
    "depends_on",
    "files",
    "gpus",
    "job",
    "limits",
    "metrics",
    "networks",
    "new_secrets",
    "ports",
    "probe",
    "replicas",
    "reservations",
    "secrets",
    "user",
    "volumes",
    "waive",
}
"""Every key a service dictionary may have."""


class ServiceError(ValueError):
    """A service dictionary that cannot be deployed; the message says which and why."""


def digest(parts: t.Mapping[str, str]) -> str:
    """Return 16 hexadecimal digits that change exactly when a name or content in ``parts`` does."""
    text = json.dumps(sorted(parts.items()), separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def replica_names(name: str, service: t.Mapping[str, t.Any]) -> list[str]:
    """Return the Compose names of a service: its own, or ``name-1`` … ``name-n`` with replicas.

    Replicas are services of their own because nginx must tell them apart (sticky sessions) and
    because an update replaces them one after the other.
    """
    count = int(service.get("replicas") or 0)
    return [f"{name}-{number}" for number in range(1, count + 1)] or [name]


def _check(name: str, service: t.Mapping[str, t.Any]) -> None:
    for problem in (*_incomplete(service), *_exposed(service)):
        raise ServiceError(f"service {name}: {problem}")


def _incomplete(service: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    """Yield what is missing or misspelt."""
    unknown = sorted(set(service) - KNOWN)
    if unknown:
        yield f"unknown key {', '.join(unknown)}; known are {', '.join(sorted(KNOWN))}"
    if not service.get("image") and not service.get("build"):
        yield "has no image"
    limits = service.get("limits") or {}
    missing = [key for key in ("memory", "cpus", "pids") if not limits.get(key)]
    if missing:
        yield f"has no limit for {', '.join(missing)}"
    choice = service.get("new_secrets", "nothing")
    if not isinstance(choice, list) and choice not in NEW_SECRETS:
        yield f"new_secrets is none of {', '.join(NEW_SECRETS)} and no command"
    elif "$" in str(choice):
        yield "new_secrets has a dollar sign, which Compose would take for a variable"
    if set(service.get("addresses") or {}) - set(service.get("networks") or []):
        yield "has an address on a network that it is not on"
    count = int(service.get("replicas") or 1)
    for network, fixed in fixed_addresses(service).items():
        if len(set(fixed)) != count:
            yield f"has {len(set(fixed))} fixed addresses on {network}, but {count} containers"


def fixed_addresses(service: t.Mapping[str, t.Any]) -> dict[str, list[str]]:
    """Return the fixed addresses by network, one for each container."""
    fixed = service.get("addresses") or {}
    return {
        network: [given] if isinstance(given, str) else [str(address) for address in given]
        for network, given in fixed.items()
    }


def _exposed(service: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    """Yield what is less safe than it should be and not waived with a reason."""
    waived = service.get("waive") or {}
    user = str(service.get("user") or "").partition(":")[0]
    if user in ("", "0", "root") and "user" not in waived:
        yield "runs as root; name a numeric user or waive 'user' with a reason"
    if not (service.get("healthcheck") or service.get("job") or "healthcheck" in waived):
        yield "has no health check; add one or waive 'healthcheck' with a reason"
    for key, what in EXPOSING.items():
        if service.get(key) and key not in waived:
            yield f"{what} needs a reason in waive.{key}"
    for key, reason in waived.items():
        if not str(reason or "").strip():
            yield f"waives {key!r} without a reason"


def _source(volume: t.Mapping[str, t.Any], name: str) -> str:
    """Return a volume's host path; ``{service}`` is the Compose name, so replicas do not share."""
    return str(volume["source"]).replace("{service}", name)


def _volumes(
    name: str, service: t.Mapping[str, t.Any], secrets_source: str | None
) -> list[dict[str, t.Any]]:
    volumes: list[dict[str, t.Any]] = []
    for volume in service.get("volumes") or []:
        entry: dict[str, t.Any] = {
            "type": "bind",
            "source": _source(volume, name),
            "target": volume["target"],
        }
        if volume.get("read_only"):
            entry["read_only"] = True
        # A missing source must stop the start: an empty directory would look like lost data.
        entry["bind"] = {"create_host_path": False}
        volumes.append(entry)
    if secrets_source:
        volumes.append(
            {
                "type": "bind",
                "source": secrets_source,
                "target": SECRETS_TARGET,
                "read_only": True,
                "bind": {"create_host_path": False},
            }
        )
    return volumes


def _labels(fragment_name: str, service: t.Mapping[str, t.Any]) -> dict[str, str]:
    """Return the labels that a service's digest covers."""
    consumer = service.get("secrets")
    if not consumer:
        return {labels.FRAGMENT: fragment_name}
    choice = service.get("new_secrets") or ("nothing" if service.get("job") else "recreate")
    return {
        labels.FRAGMENT: fragment_name,
        labels.CONSUMER: str(consumer),
        labels.NEW_SECRETS: choice if isinstance(choice, str) else json.dumps(choice),
    }


def _networks(name: str, alias: str, service: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    networks = service.get("networks") or []
    if not networks:
        return {"network_mode": "none"}
    options = {"aliases": [alias]} if alias != name else {}
    number = replica_names(alias, service).index(name)
    fixed = {network: given[number] for network, given in fixed_addresses(service).items()}
    return {
        "networks": {
            network: options | ({"ipv4_address": fixed[network]} if network in fixed else {})
            for network in networks
        }
    }


def _resources(service: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    limits = service["limits"]
    resources: dict[str, t.Any] = {
        "limits": {
            "cpus": str(limits["cpus"]),
            "memory": str(limits["memory"]),
            "pids": int(limits["pids"]),
        },
    }
    reservations = dict(service.get("reservations") or {})
    gpus = service.get("gpus") or 0
    if str(gpus) != "0":  # ansible-core before 2.19 makes text of a template's number
        device: dict[str, t.Any] = {"driver": "nvidia", "capabilities": ["gpu"]}
        device["count"] = gpus if gpus == "all" else int(gpus)
        reservations["devices"] = [device]
    if reservations:
        if "cpus" in reservations:
            reservations["cpus"] = str(reservations["cpus"])
        resources["reservations"] = reservations
    return {"resources": resources}


def _depends_on(
    service: t.Mapping[str, t.Any],
    all_services: t.Mapping[str, t.Mapping[str, t.Any]],
) -> dict[str, dict[str, str]]:
    conditions: dict[str, dict[str, str]] = {}
    for name, state in (service.get("depends_on") or {}).items():
        for target in replica_names(name, all_services.get(name, {})):
            conditions[target] = {"condition": f"service_{state}"}
    return conditions


def compose_service(
    name: str,
    service: t.Mapping[str, t.Any],
    *,
    fragment_name: str,
    alias: str,
    all_services: t.Mapping[str, t.Mapping[str, t.Any]],
    content_digest: str,
    settings: t.Mapping[str, t.Any],
) -> Service:
    """Return the Compose definition of one container.

    Args:
        name: Compose service name (with the replica's number, if any).
        service: The service dictionary.
        fragment_name: The fragment's, for a label.
        alias: The name without the replica's number; a second name on each network.
        all_services: Every service of the role, to expand dependencies on replicas.
        content_digest: Digest of the files that the container reads.
        settings: ``restart``, ``secrets_root`` and ``logging`` of the stack.

    Raises:
        ServiceError: when the dictionary is not deployable.
    """
    _check(alias, service)
    waived = service.get("waive") or {}
    result: Service = {
        key: service[key] for key in PASSED if service.get(key) not in (None, [], {}, "")
    }
    if "healthcheck" in result:
        result["healthcheck"] = HEALTH_RHYTHM | result["healthcheck"]
    result.update({key: value for key, value in HARDENING.items() if key not in waived})
    if service.get("user"):
        result["user"] = str(service["user"])
    result.update({key: list(service[key]) for key in EXPOSING if service.get(key)})
    secrets_source = (
        f"{settings['secrets_root']}/{service['secrets']}" if service.get("secrets") else None
    )
    volumes = _volumes(name, service, secrets_source)
    if volumes:
        result["volumes"] = volumes
    result.update(_networks(name, alias, service))
    dependencies = _depends_on(service, all_services)
    if dependencies:
        result["depends_on"] = dependencies
    result["deploy"] = _resources(service)
    result["logging"] = dict(settings["logging"])
    if service.get("job"):
        result["profiles"] = [ON_DEMAND if service["job"] == ON_DEMAND else "jobs"]
        result["restart"] = "no"
    else:
        result["restart"] = settings["restart"]
    means = JOB_MEANS if service.get("job") else frozenset[str]()
    result["labels"] = _labels(fragment_name, service)
    made_of = {key: value for key, value in result.items() if key not in means}
    parts = {"content": content_digest, "definition": json.dumps(made_of, sort_keys=True)}
    result["labels"][labels.DIGEST] = digest(parts)
    if result["labels"].get(labels.NEW_SECRETS) == "recreate":
        # The revision is a variable and not a text, so that a rotation changes no fragment.
        variable = labels.secrets_variable(service["secrets"])
        result["labels"][labels.SECRETS] = f"${{{variable}:-}}"
    return result


def fragment(
    name: str,
    services: t.Mapping[str, t.Mapping[str, t.Any]],
    *,
    digests: t.Mapping[str, str],
    settings: t.Mapping[str, t.Any],
) -> dict[str, t.Any]:
    """Return the Compose fragment (a mapping with ``services``) for a role's service dictionaries.

    Args:
        name: The fragment's, which its containers carry as a label.
        services: Service dictionaries by name.
        digests: Content digest by service name, see :func:`digest`.
        settings: See :func:`compose_service`.

    Raises:
        ServiceError: naming the first service that is not deployable, and why.
    """
    result: dict[str, Service] = {}
    for alias, service in services.items():
        for replica in replica_names(alias, service):
            result[replica] = compose_service(
                replica,
                service,
                fragment_name=name,
                alias=alias,
                all_services=services,
                content_digest=digests.get(alias, ""),
                settings=settings,
            )
    return {"services": result}


def directories(services: t.Mapping[str, t.Mapping[str, t.Any]]) -> list[dict[str, str]]:
    """Return the host directories that the services' volumes ask to be made.

    A volume with an ``owner`` names a directory that the stack owns; one without is expected to be
    there.
    """
    found: dict[str, dict[str, str]] = {}
    for alias, service in services.items():
        for volume in service.get("volumes") or []:
            if "owner" not in volume:
                continue
            owner, _separator, group = str(volume["owner"]).partition(":")
            for name in replica_names(alias, service):
                path = _source(volume, name)
                for part in (path, *(f"{path}/{child}" for child in volume.get("children") or [])):
                    found[part] = {
                        "path": part,
                        "owner": owner,
                        "group": group or owner,
                        "mode": volume.get("mode", "0750"),
                    }
    return [found[path] for path in sorted(found)]


def jobs(
    services: t.Mapping[str, t.Mapping[str, t.Any]],
    compose: t.Mapping[str, t.Any],
    revisions: t.Mapping[str, str],
) -> list[dict[str, str]]:
    """Return the one-shot services with the digest of all that they are made of.

    A job runs again when its definition, image or files change, but not for :data:`JOB_MEANS`; and
    for new secrets if that is what it does with them.

    Args:
        services: Service dictionaries by name.
        compose: The fragment made of them.
        revisions: Revision of the secret files by consumer.
    """
    return [
        {"name": name, "digest": labels.job_digest(compose["services"][name]["labels"], revisions)}
        for name, service in services.items()
        if service.get("job") and service["job"] != ON_DEMAND
    ]


def plan(
    name: str,
    compose: t.Mapping[str, t.Any],
    *,
    containers: t.Mapping[str, t.Mapping[str, str]],
    ran: t.Mapping[str, str],
    reloads: t.Collection[str],
    revisions: t.Mapping[str, str],
) -> dict[str, str]:
    """Return what happens to each service of a fragment, by what is on the host and not by files.

    Files may have been written by a run that was killed before it replaced the containers.

    Args:
        name: The fragment's.
        compose: The fragment.
        containers: ``fragment``, ``digest`` and ``secrets`` of each service's container.
        ran: Digest with which each job ran last.
        reloads: Services with a changed file that they only reload.
        revisions: Revision of the secret files by consumer.

    Returns:
        ``create``, ``recreate``, ``reload``, ``remove``, ``unchanged``, and ``run`` for a job.
    """
    services = compose["services"]
    result = {
        service: "remove"
        for service, container in containers.items()
        if container["fragment"] == name and service not in services
    }
    for service, definition in services.items():
        own = definition["labels"]
        if ON_DEMAND in definition.get("profiles", ()):
            continue
        if "jobs" in definition.get("profiles", ()):
            same, change = ran.get(service) == labels.job_digest(own, revisions), "run"
        elif service in containers:
            same, change = labels.is_current(containers[service], own, revisions), "recreate"
        else:
            same, change = False, "create"
        unchanged = "reload" if service in reloads else "unchanged"
        result[service] = unchanged if same else change
    return result
