# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A restore that stays beside production, to look something up or to take rows from.

Nothing of production is touched: MySQL and Redis of then run on a network of their own, the files
lie beside. A record is written last, so that half an instance is never taken for a whole one.
"""

from __future__ import annotations

import json
import os
import time
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_report as report
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    BackupError,
    Say,
    Settings,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_place import Place
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_recovery import Recovery
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_scratch import DATA, ROOT_CNF
from ansible_collections.vedfolnir.stack.plugins.module_utils.files import write_atomic

REMOVE = "restore --onto scratch --remove"
_SERVERS = {
    "mysql": f"mysql --defaults-extra-file={ROOT_CNF}",
    "redis": "redis-cli --user vedfolnir --askpass",
}
"""Parts that are servers, and how one looks into them."""
_REDIS_LOGIN = "app/redis_password"
"""Below the secrets' directory, what Redis asks for then."""


class Record(t.TypedDict):
    """What a whole instance is of."""

    id: str
    point: str
    parts: list[str]
    made: float


def _record(place: Place) -> str:
    return place.path("whole.json")


def read(settings: Settings) -> Record | None:
    """Return what the instance that stays is of, if there is a whole one."""
    try:
        with open(_record(Place.staying(settings)), encoding="utf-8") as handle:
            return t.cast("Record", json.load(handle))
    except FileNotFoundError:
        return None


def unfinished(settings: Settings) -> bool:
    """Tell whether one was begun and is not whole."""
    return read(settings) is None and os.path.exists(Place.staying(settings).directory)


def refuse_another(settings: Settings) -> None:
    """Refuse to replace an instance that somebody may be looking into.

    Raises:
        BackupError: when there is one.
    """
    if record := read(settings):
        raise BackupError(
            f"nothing was changed: {record['id']} (point {record['point']}) is restored beside "
            f"production already; remove it first: {REMOVE}, or -e restore_onto=scratch "
            "-e restore_state=absent"
        )


def plan(settings: Settings, recovery: Recovery) -> list[str]:
    """Return in words what would be done."""
    place = Place.staying(settings)
    lines = [recovery.title(f"beside {settings.host}, nothing of production is changed")]
    for part in recovery.parts:
        what = f", runs as {place.project}-{part}-1" if part in _SERVERS else ""
        lines.append(
            f"{part}: {recovery.size(part)} bytes, compared, below {place.directory}{what}"
        )
    return lines + recovery.way()


def run(settings: Settings, recovery: Recovery, say: Say, who: str) -> None:
    """Bring a backup to life, go on to the point, and leave it running.

    Raises:
        BackupError: nothing of it is left then.
    """
    begun = time.monotonic()
    say(f"restore the backup {recovery.scratch.id}, point {recovery.point.title}, beside")
    place = Place.staying(settings)
    try:
        recovery.bring()
    except BaseException:
        place.remove()
        raise
    record: Record = {
        "id": recovery.scratch.id,
        "point": recovery.point.text,
        "parts": list(recovery.parts),
        "made": time.time(),
    }
    write_atomic(_record(place), json.dumps(record).encode(), uid=0, gid=0, mode=0o600)
    seconds = round(time.monotonic() - begun, 1)
    figures = {"id": recovery.scratch.id, "parts": recovery.parts, "duration": seconds}
    report.tell(settings, who, "restore", onto="scratch", **figures)
    for part in recovery.parts:
        if part in _SERVERS:
            say(f"{part}: docker exec -it {place.project}-{part}-1 {_SERVERS[part]}")
            if part == "redis":
                secrets = os.path.dirname(settings.secrets_directory)
                say(f"{part}: the password is in {os.path.join(secrets, _REDIS_LOGIN)}")
        else:
            say(f"{part}: {place.path(_where(part))}")
    say(
        f"{recovery.scratch.id} is restored beside production: {seconds} s; it stays until you "
        f"remove it: {REMOVE}"
    )


def _where(part: str) -> str:
    return {"config": "config-saved", "vault": "vault.snap"}.get(part) or DATA[part]


def remove(settings: Settings, say: Say, who: str, only_tell: bool = False) -> None:
    """Remove the instance that stays, whole or not; ``only_tell``: say what would be removed."""
    place, record = Place.staying(settings), read(settings)
    if not place.containers() and not os.path.exists(place.directory):
        say("nothing is restored beside production")
        return
    if only_tell:
        what = f"{record['id']} (point {record['point']})" if record else "part of a restore"
        say(f"{what} is beside production, in {place.directory}, and would be removed")
        return
    # First, so that a removal that is killed leaves nothing that counts as whole.
    if os.path.exists(_record(place)):
        os.unlink(_record(place))
    place.remove()
    report.tell(settings, who, "remove_restored")
    say("what was restored beside production is removed")
