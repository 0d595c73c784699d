# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is remembered of backups: the state for the next run, metrics, a log. No secret is in it."""

from __future__ import annotations

import fcntl
import json
import os
import time
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import Settings
from ansible_collections.vedfolnir.stack.plugins.module_utils.files import write_atomic

_ENDS = {"exit", "succeeded"}

State = dict[str, dict[str, t.Any]]

_METRICS: tuple[tuple[str, str, str, str], ...] = (
    ("backup", "started", "last_run_seconds", "When a backup was last begun, Unix time."),
    ("backup", "exit", "last_exit_code", "How the last backup ended, 0 is well."),
    ("backup", "succeeded", "last_success_seconds", "When a backup last succeeded, Unix time."),
    ("backup", "duration", "duration_seconds", "What the last successful backup took."),
    ("backup", "bytes", "bytes", "What the last successful backup holds."),
    ("backup", "added", "added_bytes", "What it added to the repository."),
    ("drill", "started", "drill_last_run_seconds", "When a drill was last begun, Unix time."),
    ("drill", "exit", "drill_last_exit_code", "How the last drill ended, 0 is well."),
    ("drill", "succeeded", "drill_last_success_seconds", "When a restore was last proven."),
    ("drill", "rto", "drill_rto_seconds", "What that restore took, until the site was ready."),
    ("drill", "age", "drill_backup_age_seconds", "How old that backup was then."),
    ("drill", "rpo", "drill_rpo_seconds", "What a host that was lost then had lost."),
    ("host", "rto", "host_rto_seconds", "What bringing this host back on a bare one took."),
    ("host", "age", "host_backup_age_seconds", "How old its backup was when that was begun."),
    ("restore", "succeeded", "restore_last_success_seconds", "When data were last restored."),
    ("ship", "started", "ship_last_run_seconds", "When logs were last to be shipped, Unix time."),
    ("ship", "exit", "ship_last_exit_code", "How that ended, 0 is well."),
    ("ship", "succeeded", "ship_last_success_seconds", "When logs were last shipped, Unix time."),
    ("ship", "duration", "ship_duration_seconds", "What the last shipment took."),
    ("ship", "added", "ship_added_bytes", "What it added to the repository."),
    ("streams", "mysql", "binlogs_complete_seconds", "Until when all binary logs are there."),
    ("streams", "redis", "aof_complete_seconds", "Until when all append-only files are there."),
    (
        "streams",
        "gap",
        "binlogs_gap",
        "1 when one since the newest backup is missing or cut.",
    ),
)
"""Kind of run, its figure, name and description of the metric."""


def path(settings: Settings) -> str:
    """Return the file with the state."""
    return os.path.join(settings.state_directory, "backup.json")


def read(settings: Settings) -> State:
    """Return what is remembered; an unreadable file is as good as none."""
    try:
        with open(path(settings), encoding="utf-8") as handle:
            content = json.load(handle)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def remember_at(settings: Settings, kind: str, place: str, **figures: t.Any) -> None:
    """Remember figures of a run at one of several repositories, beside what is known of it."""
    known = read(settings).get(kind, {}).get(place, {})
    remember(settings, kind, **{place: known | figures})


def drop_others(settings: Settings, kind: str) -> None:
    """Forget how runs ended at repositories that are no copies any more.

    What is known of the repositories themselves stays, should one come back.
    """
    places = {copy["repository"] for copy in settings.copies}
    for place, known in read(settings).get(kind, {}).items():
        if place not in places and known.keys() & _ENDS:
            remember(settings, kind, **{place: {"id": known.get("id", "")}})


def remember(settings: Settings, kind: str, **figures: t.Any) -> None:
    """Remember figures of a run, and write the metrics."""
    # Logs are shipped while a backup goes on: one must not undo what the other remembers.
    with open(f"{path(settings)}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = read(settings)
        state[kind] = state.get(kind, {}) | figures
        text = json.dumps(state, indent=2, sort_keys=True) + "\n"
        write_atomic(path(settings), text.encode(), uid=0, gid=0, mode=0o640)
        write_atomic(settings.metrics, metrics(state).encode(), uid=0, gid=0, mode=0o644)


def metrics(state: State) -> str:
    """Return the metrics in Prometheus' text format.

    Reference: prometheus.io/docs/instrumenting/exposition_formats
    """
    lines: list[str] = []
    for kind, figure, name, description in _METRICS:
        value = state.get(kind, {}).get(figure)
        if value is not None:
            full = f"vedfolnir_backup_{name}"
            lines += [
                f"# HELP {full} {description}",
                f"# TYPE {full} gauge",
                f"{full} {float(value):.1f}",
            ]
    lines += _of_copies(state)
    return "\n".join(lines) + "\n" if lines else ""


_COPY_METRICS = (
    (
        *("copies", "exit", "copy_last_exit_code"),
        "How the last copy to a further repository ended, 0 is well.",
    ),
    (
        *("copies", "succeeded", "copy_last_success_seconds"),
        "When a copy last succeeded, Unix time.",
    ),
    (
        *("shipped", "exit", "copy_ship_last_exit_code"),
        "How the last shipment of logs to a further repository ended, 0 is well.",
    ),
    (
        *("shipped", "succeeded", "copy_ship_last_success_seconds"),
        "When logs were last shipped to it, Unix time.",
    ),
)
"""Kind of run, its figure, name and description of the metric of each further repository."""


def _of_copies(state: State) -> list[str]:
    """Return the metrics of further repositories, each with a label."""
    lines: list[str] = []
    for kind, figure, name, description in _COPY_METRICS:
        full = f"vedfolnir_backup_{name}"
        values = [
            f"{full}{{repository={json.dumps(place)}}} {float(run[figure]):.1f}"
            for place, run in sorted(state.get(kind, {}).items())
            if figure in run
        ]
        if values:
            lines += [f"# HELP {full} {description}", f"# TYPE {full} gauge", *values]
    return lines


def tell(settings: Settings, who: str, what: str, **details: t.Any) -> None:
    """Write a line to the log: who did what, when."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = json.dumps({"time": now, "who": who, "what": what, **details})
    descriptor = os.open(settings.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    with os.fdopen(descriptor, "a", encoding="utf-8") as handle:
        handle.write(f"{line}\n")
