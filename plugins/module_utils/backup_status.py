# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How backups stand: the newest, the last proven restore, the copies, and what is wrong."""

from __future__ import annotations

import os
import time
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_beside as beside
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_host as host
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_report as report
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_restore as restore
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import Settings

_HOUR = 3600
_DAY = 24 * _HOUR


class Status(t.TypedDict):
    """What there is to tell."""

    lines: list[str]
    findings: list[str]
    figures: dict[str, t.Any]


def span(seconds: float) -> str:
    """Return a length of time for people."""
    for size, name in ((_DAY, "days"), (_HOUR, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"


def _run(name: str, run: t.Mapping[str, t.Any], limit: float, now: float) -> list[str]:
    """Return what is wrong with the last runs of a kind: never, failed, too long ago."""
    found = []
    code = run.get("exit")
    if code:
        begun = span(now - float(run.get("started", now)))
        found.append(f"the last {name}, begun {begun} ago, failed with exit code {int(code)}")
    succeeded = run.get("succeeded")
    if limit and succeeded is None:
        found.append(f"no {name} has ever succeeded on this host")
    elif limit and now - float(succeeded or 0) > limit:
        found.append(
            f"the last good {name} is {span(now - float(succeeded or 0))} old, the most is "
            f"{span(limit)}"
        )
    return found


def judge(settings: Settings, state: report.State, now: float) -> list[str]:
    """Return what is wrong, one sentence each."""
    age = settings.max_age_hours * _HOUR
    found = _run("backup", state.get("backup", {}), age, now)
    found += _run("drill", state.get("drill", {}), settings.drill_max_age_days * _DAY, now)
    for copy in settings.copies:
        run = state.get("copies", {}).get(copy["repository"], {})
        found += _run(f"copy to {copy['repository']}", run, age, now)
    return found


def status(settings: Settings) -> Status:
    """Look at what is remembered; the repository is not asked."""
    now, state = time.time(), report.read(settings)
    findings = judge(settings, state, now)
    if os.path.exists(restore.journal(settings)):
        findings.append("a restore was broken off in the middle; run it again")
    if beside.unfinished(settings):
        findings.append(
            f"a restore beside production was broken off; run it again, or remove it: "
            f"{beside.REMOVE}"
        )
    if host.read(settings.state_directory):
        findings.append("a restore onto this bare host is not finished; run restore_host again")
    backup, drill = state.get("backup", {}), state.get("drill", {})
    lines = []
    if "succeeded" in backup:
        lines.append(
            f"newest backup: {backup.get('id_succeeded')}, {span(now - backup['succeeded'])} old, "
            f"{backup.get('bytes')} bytes, took {backup.get('duration')} s"
        )
    if "succeeded" in drill:
        lines.append(
            f"last proven restore: {span(now - drill['succeeded'])} ago, of {drill.get('id')}, "
            f"ready after {drill.get('rto')} s (RTO), backup {drill.get('age')} s old, "
            # The release before this one took the age of the backup for it.
            f"{drill.get('rpo', drill.get('age'))} s lost (RPO)"
        )
    if record := beside.read(settings):
        lines.append(
            f"beside production: {record['id']} (point {record['point']}), restored "
            f"{span(now - record['made'])} ago; remove it: {beside.REMOVE}"
        )
    for copy in settings.copies:
        run = state.get("copies", {}).get(copy["repository"], {})
        if "succeeded" in run:
            lines.append(f"copy at {copy['repository']}: {span(now - run['succeeded'])} old")
    figures = {name: state.get(name, {}) for name in ("backup", "drill", "copies", "host")}
    return {"lines": lines, "findings": findings, "figures": figures}
