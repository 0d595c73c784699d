# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Look after what is streamed, and ship it to every repository: every minute, by a timer."""

from __future__ import annotations

import os
import time
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_copies as copies
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_report as report
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_streams as streams
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    BackupError,
    CopyError,
    Say,
    Settings,
    output,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_gtid import GtidSet
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_restic import Restic, Saved
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_take import compose

KIND = "shipped"
LOCK = "/run/vedfolnir/ship.lock"
_ARRIVE_SECONDS = 5.0
_SHORTER = "{} is shorter than it was"
_QUESTION = "SELECT @@server_uuid, @@GLOBAL.gtid_executed"


def _ask(settings: Settings) -> tuple[str, GtidSet]:
    """Return the running server and what it has committed."""
    client = ["mysql", "--defaults-extra-file=/run/secrets/binlogs.cnf", "--connect-timeout=5"]
    client += ["--batch", "--skip-column-names", f"--execute={_QUESTION}"]
    answer = output(compose(settings, "exec", "-T", "mysql-binlogs", *client))
    server, _separator, executed = answer.strip().partition("\t")
    return server, GtidSet.parse(executed.replace("\\n", ""))


def _look_at_mysql(settings: Settings, known: streams.Known) -> GtidSet:
    """Compare what has arrived with what the server has; return what does not arrive."""
    place = settings.streams_directory
    looked = time.time_ns() // 1000
    server, executed = _ask(settings)
    end = time.monotonic() + _ARRIVE_SECONDS
    while True:
        found = {one.uuid: one for one in streams.servers([place])}.get(server)
        before = known.get("servers", {}).get(server, {})
        files = streams.look(found, before.get("files", {})) if found else {}
        arrived = GtidSet()
        if files:
            last = files[max(files)]
            arrived = GtidSet.parse(last["previous"]) | GtidSet.parse(last["gtids"])
        missing = executed - arrived
        if not missing or time.monotonic() > end:
            break
        time.sleep(0.5)
    current = before.get("current", 0) if missing else looked
    entry = {"files": files, "gtids": str(arrived), "current": current}
    known.setdefault("servers", {})[server] = entry
    known["mysql"] = {"server": server, "looked": looked, "current": current}
    return missing


def _look_at_redis(settings: Settings, known: streams.Known) -> None:
    place = settings.streams_directory
    looked = time.time_ns() // 1000
    kept = streams.keep_redis(os.path.join(settings.project_src, "data", "redis"), place)
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(kept)}
    there = {os.path.basename(one.path) for one in streams.generations([place])}
    files = known.get("redis", {}).get("files", {}) | {os.path.basename(kept): sizes}
    known["redis"] = {
        "current": looked,
        "files": {name: sizes for name, sizes in files.items() if name in there},
    }


def _cut_short(known: streams.Known, backup: t.Mapping[str, t.Any]) -> list[str]:
    """Return the logs since a backup that are shorter than they were.

    Those before it are not needed any more to get from it to any point.
    """
    server = known.get("mysql", {}).get("server", "")
    files = known.get("servers", {}).get(server, {}).get("files", {})
    return streams.shortened(streams.since(GtidSet.parse(backup.get("gtid", "")), files))


def damage(settings: Settings) -> list[str]:
    """Return in words what is damaged of the host's own copy of the logs since the newest backup.

    It is as :func:`look` has last seen it.
    """
    backup = report.read(settings).get("backup", {})
    known = streams.read_known([settings.streams_directory])
    return [_SHORTER.format(name) for name in _cut_short(known, backup)]


def look(settings: Settings, say: Say) -> list[str]:
    """Look after the streams and remember how far they go; return what is wrong in words."""
    place = settings.streams_directory
    os.makedirs(place, mode=0o700, exist_ok=True)
    known = streams.read_known([place])
    problems: list[str] = []
    missing = GtidSet()
    try:
        missing = _look_at_mysql(settings, known)
        if missing:
            problems.append(f"binary logs do not arrive: {_shortened(missing)} is not there")
    except BackupError as exc:
        problems.append(f"binary logs: {exc}")
    try:
        _look_at_redis(settings, known)
    except (BackupError, OSError) as exc:
        problems.append(f"append-only files: {exc}")
    state = report.read(settings)
    backup = state.get("backup", {})
    gap, cut = GtidSet(), list[str]()
    server = known.get("mysql", {}).get("server", "")
    if not problems and backup.get("gtid"):
        files = known["servers"][server]["files"]
        gap = streams.whole_since(GtidSet.parse(backup["gtid"]), files)
        cut = _cut_short(known, backup)
        problems += [_SHORTER.format(name) for name in cut]
        if gap:
            problems.append(
                f"binary logs have a gap since the newest backup: {_shortened(gap)} is missing; "
                "take a backup, from which on every point can be reached again"
            )
    streams.tidy(place, settings.streams_keep_days, float(backup.get("succeeded", 0)))
    there = {one.uuid for one in streams.servers([place])}
    known["servers"] = {
        name: entry for name, entry in known.get("servers", {}).items() if name in there
    }
    streams.write_known(place, known)
    figures = {
        "mysql": known.get("mysql", {}).get("current", 0) / 1000000,
        "redis": known.get("redis", {}).get("current", 0) / 1000000,
        "gap": int(bool(gap or cut)),
    }
    report.remember(settings, "streams", **figures)
    for problem in problems:
        say(problem)
    return problems


def _shortened(gtids: GtidSet) -> str:
    text = str(gtids)
    return text if len(text) < 200 else f"{text[:200]} …"


def run(settings: Settings, restic: Restic, say: Say) -> None:
    """Look after the streams and ship them to every repository.

    Raises:
        BackupError: when something is wrong with them, or one of the repositories did not get
            them; what is there was shipped to the others nevertheless.
    """
    begun, looked = time.monotonic(), time.time()
    problems: list[BackupError] = [BackupError(text) for text in look(settings, say)]
    # What is not whole says nothing of up to when all is there.
    whole = {} if problems else {"until": looked}
    try:
        saved = _save(settings, restic)
    except BackupError as exc:
        problems.append(exc)
    else:
        seconds = round(time.monotonic() - begun, 1)
        figures = {"added": saved.added, "duration": seconds}
        report.remember(settings, "ship", succeeded=time.time(), **whole, **figures)
        say(f"shipped {saved.bytes} bytes, {saved.added} new, {seconds} s")
    report.drop_others(settings, KIND)
    for number in range(1, len(settings.copies) + 1):
        problem = _ship_copy(settings, copies.of(settings, number), say, whole)
        problems += [problem] if problem else []
    if problems:
        # The kind of the first, which names the exit code.
        raise type(problems[0])("; ".join(map(str, problems)))


def until(settings: Settings) -> float:
    """Return up to when all that was written is in the repository, Unix time; 0 for never."""
    state = report.read(settings)
    of_copies = state.get(KIND, {})
    is_copy = settings.login_of == "copy"
    shipped = of_copies.get(settings.repository, {}) if is_copy else state.get("ship", {})
    return float(shipped.get("until", 0))


def _ship_copy(
    settings: Settings, target: Settings, say: Say, whole: t.Mapping[str, float]
) -> CopyError | None:
    """Ship to a further repository, straight from the host; return what was wrong."""
    try:
        saved = _save(target, Restic(target, say))
    except BackupError as exc:
        report.remember_at(settings, KIND, target.repository, exit=exc.exit_code)
        return CopyError(f"logs for the copy at {target.repository}: {exc}")
    figures = {"succeeded": time.time(), **whole}
    report.remember_at(settings, KIND, target.repository, exit=0, **figures)
    say(f"shipped to the copy at {target.repository}: {saved.added} new")
    return None


def _save(settings: Settings, restic: Restic) -> Saved:
    return restic.save_paths("", streams.PART, [settings.streams_directory])
