# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Look at the stack from the host, once a minute, and write down what was seen.

``status.json`` is what nginx shows to monitors outside at ``/-/status``. The metrics of the
containers are for the node exporter's textfile collector: they come from the engine, whose socket
no container gets. Run by ``vedfolnir-watch.timer`` as a program; nothing is ever changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import sys
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import engine, health
from ansible_collections.vedfolnir.stack.plugins.module_utils.files import write_atomic

DOCKER = "/usr/bin/docker"
CGROUPS = "/sys/fs/cgroup"
_NANO = 1e9

METRICS: dict[str, tuple[str, str]] = {
    "running": ("gauge", "Whether it runs."),
    "healthy": ("gauge", "Whether its health check says that it is well."),
    "restarts_total": ("counter", "How often the engine has started it again by itself."),
    "started_seconds": ("gauge", "When it was started last, Unix time."),
    "memory_bytes": ("gauge", "Memory that it cannot give back."),
    "memory_limit_bytes": ("gauge", "Memory that it may have, 0 for no limit."),
    "cpu_seconds_total": ("counter", "Processor time that it has used."),
    "cpu_limit": ("gauge", "Processors that it may use, 0 for no limit."),
    "processes": ("gauge", "Processes and threads that it has."),
    "process_limit": ("gauge", "Processes and threads that it may have, 0 for no limit."),
    "out_of_memory_total": ("counter", "Processes of it that the kernel has ended for memory."),
}
"""Kind and description of each ``vedfolnir_container_…``."""

Figures = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the role ``stack`` writes for the program."""

    project_src: str
    project_name: str
    site: dict[str, t.Any]
    inside: list[dict[str, t.Any]]
    status: str
    """File for nginx."""
    metrics: str
    """File for the node exporter."""

    @classmethod
    def read(cls, path: str) -> Settings:
        """Return the settings in a file."""
        with open(path, encoding="utf-8") as handle:
            return cls(**json.load(handle))


def figures(
    details: t.Mapping[str, t.Any], stats: t.Mapping[str, t.Any], out_of_memory: int
) -> Figures:
    """Return the figures of a container by the names of :data:`METRICS`.

    Args:
        details: What the engine says of it.
        stats: What it uses; nothing of a container that does not run.
        out_of_memory: What :func:`oom_kills` returns.
    """
    state, limits = details["State"], details["HostConfig"]
    found: Figures = {
        "running": float(state["Running"]),
        "restarts_total": details.get("RestartCount") or 0,
        "started_seconds": _moment(str(state.get("StartedAt") or "")),
        "memory_limit_bytes": limits.get("Memory") or 0,
        "cpu_limit": (limits.get("NanoCpus") or 0) / _NANO,
        "process_limit": max(limits.get("PidsLimit") or 0, 0),
        "out_of_memory_total": out_of_memory,
    }
    if state.get("Health"):
        found["healthy"] = float(state["Running"] and state["Health"]["Status"] == "healthy")
    memory = stats.get("memory_stats") or {}
    if "usage" in memory:
        # Files that were read and can be dropped do not count, as with `docker stats`.
        inner = memory.get("stats") or {}
        cache = inner.get("total_inactive_file", inner.get("inactive_file", 0))
        found["memory_bytes"] = max(memory["usage"] - cache, 0)
        found["cpu_seconds_total"] = stats["cpu_stats"]["cpu_usage"]["total_usage"] / _NANO
        found["processes"] = (stats.get("pids_stats") or {}).get("current") or 0
    return found


def _moment(text: str) -> float:
    """Return a time of the engine's as Unix time; it has nanoseconds, and the year 1 for never."""
    with contextlib.suppress(ValueError):
        return max(datetime.datetime.fromisoformat(f"{text[:19]}+00:00").timestamp(), 0)
    return 0


def oom_kills(pid: int, root: str = CGROUPS, proc: str = "/proc") -> int:
    """Return how many processes beside this one the kernel has ended, 0 if it cannot be told."""
    with contextlib.suppress(OSError, ValueError):
        with open(f"{proc}/{pid}/cgroup", encoding="utf-8") as handle:
            lines = [line.strip().split(":", 2) for line in handle]
        for number, controllers, path in lines:
            if number == "0" and os.path.exists(f"{root}{path}/memory.events"):
                return _counted(f"{root}{path}/memory.events")
            if controllers == "memory":
                return _counted(f"{root}/memory{path}/memory.oom_control")
    return 0


def _counted(path: str) -> int:
    with open(path, encoding="utf-8") as handle:
        pairs = dict(line.split(None, 1) for line in handle)
    return int(pairs.get("oom_kill", 0))


def metrics(
    containers: t.Mapping[str, Figures], report: t.Mapping[str, t.Any], now: datetime.datetime
) -> str:
    """Return the metrics in Prometheus' text format.

    Reference: prometheus.io/docs/instrumenting/exposition_formats
    """
    lines = []
    for name, (kind, description) in METRICS.items():
        lines += [
            f"# HELP vedfolnir_container_{name} {description}",
            f"# TYPE vedfolnir_container_{name} {kind}",
        ]
        lines += [
            f'vedfolnir_container_{name}{{name="{service}"}} {found[name]:.15g}'
            for service, found in sorted(containers.items())
            if name in found
        ]
    lines += [
        "# HELP vedfolnir_problems What the host has found wrong with the stack.",
        "# TYPE vedfolnir_problems gauge",
        f"vedfolnir_problems {len(report['problems'])}",
        "# HELP vedfolnir_watched_seconds When the host last looked, Unix time.",
        "# TYPE vedfolnir_watched_seconds gauge",
        f"vedfolnir_watched_seconds {now.timestamp():.0f}",
    ]
    return "\n".join(lines) + "\n"


def status(report: t.Mapping[str, t.Any], now: datetime.datetime) -> dict[str, t.Any]:
    """Return what monitors outside are shown: no addresses and nothing of the inside but names."""
    return {
        "healthy": report["healthy"],
        "time": now.isoformat(timespec="seconds"),
        "site": {key: report["site"].get(key) for key in ("status", "ok")},
        "services": {name: bool(service["ok"]) for name, service in report["services"].items()},
    }


def look_at_containers(project: str, names: t.Collection[str]) -> dict[str, Figures]:
    """Return the figures of these services' containers by service.

    Raises:
        EngineError: when the engine cannot be asked.
    """
    found: dict[str, Figures] = {}
    for container in engine.containers(project):
        name = str(container["Labels"].get(engine.SERVICE, ""))
        if name not in names:
            continue
        path = f"/containers/{container['Id']}"
        # It may go between two questions, in a deployment for example.
        with contextlib.suppress(engine.EngineError):
            details = engine.get(f"{path}/json")
            runs = details["State"]["Running"]
            once = {"stream": "false", "one-shot": "true"}
            stats = engine.get(f"{path}/stats", **once) if runs else {}
            killed = oom_kills(int(details["State"]["Pid"])) if runs else 0
            found[name] = figures(details, stats, killed)
    return found


def main(argv: t.Sequence[str]) -> int:
    """Look once: ``watch.py SETTINGS``."""
    (path,) = argv
    settings = Settings.read(path)
    now = datetime.datetime.now(datetime.UTC)
    containers: dict[str, Figures] = {}
    try:
        report = health.look(
            DOCKER, settings.project_src, settings.project_name, settings.site, settings.inside
        )
        containers = look_at_containers(settings.project_name, report["services"])
    except (health.ProjectError, engine.EngineError, OSError) as exc:
        # With its level, of which the unit lets only notices and worse through.
        sys.stderr.write(f"<4>vedfolnir watch: {exc}\n")
        report = {"healthy": False, "problems": [str(exc)], "services": {}, "site": {}}
    shown = json.dumps(status(report, now), indent=2, sort_keys=True) + "\n"
    for target, text in (
        (settings.status, shown),
        (settings.metrics, metrics(containers, report, now)),
    ):
        write_atomic(target, text.encode(), uid=0, gid=0, mode=0o644)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
