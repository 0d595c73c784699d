# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Put the data of a backup in place of production's.

Everything is brought to life and compared beside production first. Only then production stops, the
directories change places, and it starts again; what was replaced is kept. A record of the moves is
written before the first, so that a run that was killed is undone by the next.
"""

from __future__ import annotations

import json
import os
import time
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_report as report
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_streams as streams
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    BackupError,
    Say,
    Settings,
    output,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_recovery import Recovery
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_scratch import DATA
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_take import compose
from ansible_collections.vedfolnir.stack.plugins.module_utils.files import write_atomic

ASIDE = {"config": "config-saved", "vault": "vault.snap"}
"""Parts that are not put in place: where they lie in the scratch directory."""
_UP_SECONDS = 600
_GROUPS = {"mysql": {"mysql", "mysql-binlogs"}, "redis": {"redis"}, "storage": set[str]()}
"""Services that have a part's files open or look at nothing else, beside the application."""

Move = tuple[str, str]


def journal(settings: Settings) -> str:
    """Return the file with the moves of a restore that goes on."""
    return os.path.join(settings.state_directory, "restore.json")


def refuse_unfinished(settings: Settings) -> None:
    """Refuse to go on while a restore was broken off in the middle.

    Raises:
        BackupError: so that half a restore is never saved as a backup.
    """
    if os.path.exists(journal(settings)):
        raise BackupError(
            "a restore was broken off in the middle; run it again, it first puts back what it "
            "had replaced"
        )


def do_moves(moves: t.Iterable[Move]) -> None:
    """Rename in this order; what has been renamed already is left alone."""
    for source, target in moves:
        if os.path.lexists(source) and not os.path.lexists(target):
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            os.rename(source, target)


def undo_moves(moves: t.Sequence[Move]) -> None:
    """Rename back in reverse order what has been renamed."""
    for source, target in reversed(moves):
        if os.path.lexists(target) and not os.path.lexists(source):
            os.makedirs(os.path.dirname(source), mode=0o711, exist_ok=True)
            os.rename(target, source)


class Restore:
    """One restore onto this host."""

    def __init__(self, settings: Settings, say: Say, recovery: Recovery) -> None:
        """Say where what is replaced goes.

        Args:
            settings: See :class:`Settings`.
            say: Is told of every step.
            recovery: What is restored.
        """
        self._settings, self._say, self._recovery = settings, say, recovery
        self._scratch, self._parts = recovery.scratch, recovery.parts
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self._kept = os.path.join(settings.project_src, "backups", f"replaced-{stamp}")
        self._out = os.path.join(
            settings.project_src, "backups", f"restored-{self._scratch.id}-{stamp}"
        )

    @property
    def kept(self) -> str:
        """Where what is replaced is kept."""
        return self._kept

    def plan(self) -> list[str]:
        """Return in words what would be done."""
        lines = [self._recovery.title(f"onto {self._settings.host}")]
        if os.path.exists(journal(self._settings)):
            lines.append("first put back what a restore that was broken off had replaced")
        for part in self._parts:
            size = self._recovery.size(part)
            place = os.path.join(self._settings.project_src, DATA.get(part, ""))
            if part in DATA:
                lines.append(
                    f"{part}: {size} bytes, compared beside production, then in the place of "
                    f"{place}, which is kept in {self._kept}"
                )
            else:
                lines.append(f"{part}: {size} bytes, laid down in {self._out}, not put in place")
        lines += self._recovery.way()
        if services := self._services():
            lines.append(f"stop meanwhile: {', '.join(services)}")
        return lines

    def _services(self) -> list[str]:
        """Return the services that must not run while directories change places."""
        if not any(part in DATA for part in self._parts):
            return []
        every = output(compose(self._settings, "config", "--services")).split()
        users = {name for part in self._parts for name in _GROUPS.get(part, ())}
        return sorted(
            name
            for name in every
            if name in users or name == "worker" or name.startswith(("app", "worker-"))
        )

    def run(self, who: str) -> None:
        """Restore.

        Raises:
            BackupError: production is as it was then, or the message says what is in which place.
        """
        begun = time.monotonic()
        self._say(f"restore the backup {self._scratch.id}, point {self._recovery.point.title}")
        try:
            self._recovery.bring()
            self._scratch.stop()
            self._exchange()
            self._keep_on()
        finally:
            self._scratch.remove()
        seconds = round(time.monotonic() - begun, 1)
        report.remember(
            self._settings, "restore", id=self._scratch.id, succeeded=time.time(), duration=seconds
        )
        report.tell(
            self._settings, who, "restore", id=self._scratch.id, parts=self._parts, duration=seconds
        )
        self._say(f"{self._scratch.id} is in place and the stack is healthy: {seconds} s")
        for path, what in ((self._kept, "what was replaced"), (self._out, "what is for you")):
            if os.path.exists(path):
                self._say(f"{what} is in {path}; remove it when you need it no more")

    def _keep_on(self) -> None:
        """Keep what Redis writes from now on, before the next shipment does it."""
        # A host that is brought back on a bare one has no place for it yet.
        if "redis" in self._parts and self._settings.binlogs_image and not self._settings.source:
            data = os.path.join(self._settings.project_src, DATA["redis"])
            try:
                streams.keep_redis(data, self._settings.streams_directory)
            except (BackupError, OSError) as exc:
                self._say(f"append-only files are kept from the next shipment on: {exc}")

    def _moves(self) -> list[Move]:
        root, scratch = self._settings.project_src, self._scratch
        moves: list[Move] = []
        for part in self._parts:
            if part in DATA:
                place = os.path.join(root, DATA[part])
                moves.append((place, os.path.join(self._kept, part)))
                moves.append((scratch.path(DATA[part]), place))
            else:
                moves.append((scratch.path(ASIDE[part]), os.path.join(self._out, part)))
        return moves

    def _exchange(self) -> None:
        services, moves = self._services(), self._moves()
        content = json.dumps({"services": services, "moves": moves}, indent=2)
        path = journal(self._settings)
        write_atomic(path, content.encode(), uid=0, gid=0, mode=0o600)
        try:
            _stop(self._settings, self._say, services)
            do_moves(moves)
            _start(self._settings, self._say)
        except (BackupError, OSError) as exc:
            undo(self._settings, self._say)
            raise BackupError(f"{exc}. What was replaced is in its place again") from exc
        os.unlink(path)


def undo(settings: Settings, say: Say) -> None:
    """Put back what a restore that was broken off had replaced, if there was one."""
    path = journal(settings)
    try:
        with open(path, encoding="utf-8") as handle:
            content = json.load(handle)
    except FileNotFoundError:
        return
    say("put back what a restore that was broken off had replaced")
    _stop(settings, say, content["services"])
    undo_moves([(move[0], move[1]) for move in content["moves"]])
    os.unlink(path)
    try:
        _start(settings, say)
    except BackupError as exc:
        # Perhaps that is why there was a restore at all.
        say(f"it does not get healthy on the old data: {exc}")


def _stop(settings: Settings, say: Say, services: t.Sequence[str]) -> None:
    if services:
        say(f"stop {', '.join(services)}")
        output(compose(settings, "stop", *services))


def _start(settings: Settings, say: Say) -> None:
    say("start the stack and wait until it is healthy")
    argv = compose(settings, "up", "--detach", "--no-build", "--wait")
    output([*argv, "--wait-timeout", str(_UP_SECONDS)])
