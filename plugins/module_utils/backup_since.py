# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring a scratch instance from its backup to a point: replay logs of MySQL, cut those of Redis."""

from __future__ import annotations

import os
import shutil
import subprocess
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_aof as aof
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_manifest as manifests
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_redis as redis
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_replay as replay
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_streams as streams
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    BackupError,
    DamagedError,
    Say,
    Settings,
    output,
    process,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_gtid import GtidSet
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_point import Point, utc
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_restic import Restic, Snapshot
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_scratch import DATA, Scratch
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_take import DOCKER, check_aof

_MICRO = 1000000
_NOBODY = 65534
_LARGEST_STATEMENT = 1 << 30
"""More than that MySQL does not take."""
_MEMORY_OF_A_ROW = 13
"""Bytes that a replay takes in the container of MySQL for each byte of a statement's rows: its text
in the client and in the server, and the rows in it. Measured with MySQL 9.7: 12.9 bytes at 16 MB in
one statement, 12.3 at 64 and 128 MB."""
_T = t.TypeVar("_T")


def _is_before(part: t.Mapping[str, t.Any], point: Point) -> bool:
    """Tell whether a backup was taken before a point."""
    if point.kind == "time":
        return bool(0 < int(part.get("moment", 0)) <= point.moment)
    have = GtidSet.parse(part["gtid"])
    return all(
        have.runs.get(server, [(0, 0)])[-1][1] <= runs[-1][1]
        for server, runs in point.gtids.runs.items()
    )


class Since:
    """What happened between a backup and a point."""

    def __init__(self, settings: Settings, restic: Restic, say: Say, point: Point) -> None:
        """Begin with the host's own copies; what was shipped comes when they do not do."""
        self._settings, self._restic, self._say, self._point = settings, restic, say, point
        self._fetched = os.path.join(settings.work_directory, "fetched")
        self._roots = [settings.streams_directory]
        self._servers: list[streams.Server] | None = None
        self._snapshots: list[Snapshot] = []
        self._parts: dict[str, dict[str, t.Any]] = {}
        self._server = ""
        self._backup = ""
        self._plan: replay.Plan | None = None

    def remove(self) -> None:
        """Remove what was fetched."""
        shutil.rmtree(self._fetched, ignore_errors=True)

    @property
    def counts(self) -> bool:
        """Whether there is anything but the backup.

        Raises:
            BackupError: when there should be.
        """
        if not self._point.replays:
            return False
        if self._settings.binlogs_image:
            return True
        if self._point.kind == "latest":
            return False
        raise BackupError(
            f"{self._point.text}: nothing but backups is kept here, see backup_binlogs_enabled; "
            "name one by its id"
        )

    def _fetch(self) -> bool:
        """Bring what was shipped; tell whether there is something new."""
        if len(self._roots) > 1:
            return False
        self._snapshots = self._snapshots or self._restic.snapshots()
        shipped = [one for one in self._snapshots if one.part == streams.PART]
        if not shipped:
            return False
        self._say(f"fetch the logs that were shipped at {shipped[-1].time[:19]}")
        self.remove()
        self._restic.restore(shipped[-1].id, self._fetched)
        for where, _directories, names in os.walk(self._fetched):
            if streams.KNOWN in names:
                self._roots.append(where)
                self._servers = None
                return True
        return False

    def _reached(self, attempt: t.Callable[[], _T]) -> _T:
        """Try with the host's own copies, then with those that were shipped, too."""
        try:
            return attempt()
        except replay.PointError:
            if not self._fetch():
                raise
            return attempt()

    # Where from

    def choose(self) -> str:
        """Return the id of the newest backup that the point can be reached from.

        Raises:
            BackupError: when there is none.
        """
        if not self.counts:
            return self._point.text
        self._snapshots = self._restic.snapshots()
        return self._reached(self._chosen)

    def _every(self) -> list[streams.Server]:
        if self._servers is None:
            self._servers = streams.servers(self._roots)
        return self._servers

    def _chosen(self) -> str:
        """Return a backup that is part of the history of the server that counts at the point.

        A backup of another history, as one that was taken before a restore to an earlier point,
        would bring back what that restore has undone.
        """
        found = manifests.require(self._snapshots)
        newest_first = sorted(found, key=manifests.time_of, reverse=True)
        every = self._every()
        for number in replay.preferred(every, self._point):
            for backup in newest_first:
                if self._leads(backup, found[backup], every[number]):
                    self._server, self._backup = every[number].uuid, backup
                    return backup
        if not every:
            raise replay.PointError("there are no binary logs; name a backup by its id")
        raise replay.PointError(
            f"there is no backup of before {self._point.title} whose logs are there; the oldest is "
            f"{newest_first[-1]}"
        )

    def _leads(self, backup: str, parts: t.Mapping[str, Snapshot], server: streams.Server) -> bool:
        point = self._point
        # Its dump was made later than that, so it cannot be of before.
        if point.kind == "time" and manifests.time_of(backup).timestamp() * _MICRO > point.moment:
            return False
        if backup not in self._parts:
            text = self._restic.read_text(parts[manifests.PART].id, manifests.FILE)
            manifest = manifests.verify(text, self._settings.secret("manifest_key"), backup)
            self._parts[backup] = manifest["parts"]["mysql"]
        part = self._parts[backup]
        return _is_before(part, point) and GtidSet.parse(part["gtid"]) <= server.history

    # MySQL

    def plan(self) -> replay.Plan:
        """Return the way from the backup to the point.

        Raises:
            PointError: when there is none.
        """
        if self._plan is None:
            self._plan = self._reached(self._planned)
        return self._plan

    def _planned(self) -> replay.Plan:
        part, every = self._parts[self._backup], self._every()
        return replay.plan(
            GtidSet.parse(part["gtid"]),
            int(part.get("moment", 0)),
            every,
            [server.uuid for server in every].index(self._server),
            self._point,
            streams.read_known(self._roots),
        )

    def mysql(self, scratch: Scratch) -> None:
        """Replay into the scratch MySQL, and compare what it has then with what it should have.

        Raises:
            DamagedError: when that did not work.
        """
        way = self.plan()
        # mysqlbinlog makes one statement of all rows that a statement has changed.
        scratch.mysql(f"SET GLOBAL max_allowed_packet = {_LARGEST_STATEMENT}")
        scratch.widen("mysql", way.largest * _MEMORY_OF_A_ROW)
        client = ["mysql", "--defaults-extra-file=/run/secrets/root.cnf", "--binary-mode"]
        client.append(f"--max-allowed-packet={_LARGEST_STATEMENT}")
        argv = scratch.exec("mysql", *client)
        with process(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as (child, complaint):
            sink = t.cast("t.IO[bytes]", child.stdin)
            try:
                for step in way.steps:
                    self._replay(scratch, step, sink)
                sink.close()
            except BrokenPipeError as exc:
                child.wait()
                raise DamagedError(f"mysql: the logs cannot be replayed: {complaint()}") from exc
            if child.wait() != 0:
                raise DamagedError(f"mysql: the logs cannot be replayed: {complaint()}")
        found = scratch.mysql("SELECT @@server_uuid, @@GLOBAL.gtid_executed")
        own, _separator, executed = found.partition("\t")
        there = GtidSet.parse(executed.replace("\\n", ""))
        there = GtidSet({name: runs for name, runs in there.runs.items() if name != own})
        if there != way.expected:
            raise DamagedError(
                f"mysql: {way.expected - there or 'nothing'} is missing and "
                f"{there - way.expected or 'nothing'} is too much after the replay"
            )
        self._say(
            f"mysql: {way.count} transactions replayed, the last was committed at {utc(way.last)}"
        )

    def _replay(self, scratch: Scratch, step: replay.Step, sink: t.IO[bytes]) -> None:
        path = scratch.path("replayed")
        # Only what is to be replayed: mysqlbinlog stumbles over an end that is not whole.
        with open(step.path, "rb") as source, open(path, "wb") as target:
            left = step.end
            while left > 0 and (block := source.read(min(left, 1 << 20))):
                left -= target.write(block)
        os.chmod(path, 0o644)
        argv = [DOCKER, "run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL"]
        argv += [f"--user={_NOBODY}:{_NOBODY}", "--security-opt=no-new-privileges"]
        argv.append("--log-driver=none")
        # Of a statement above 64 KiB mysqlbinlog writes all else to a file; without a place for it
        # the rest is missing in what it prints, and it does not fail.
        room = scratch.path("mysqlbinlog")
        os.makedirs(room, mode=0o700, exist_ok=True)
        os.chown(room, _NOBODY, _NOBODY)
        argv += [f"--volume={path}:/replayed:ro", f"--volume={room}:/tmp"]
        argv += ["--entrypoint=", self._settings.binlogs_image]
        argv += ["mysqlbinlog", "--no-defaults", "--verify-binlog-checksum"]
        # What the backup has would be skipped, but only after it has passed through the client.
        argv.append(f"--start-position={step.start}")
        if step.include is not None:
            argv.append(f"--include-gtids={step.include}")
        with process([*argv, "/replayed"], stdout=subprocess.PIPE) as (child, complaint):
            for line in replay.without_accounts(t.cast("t.IO[bytes]", child.stdout)):
                sink.write(line)
            if child.wait() != 0:
                raise DamagedError(f"mysql: {os.path.basename(step.path)}: {complaint()}")
        os.unlink(path)

    # Redis

    def _generation(self) -> tuple[streams.Generation, list[tuple[str, int]], int]:
        """Return what Redis is restored from: the files with their sizes, and the last second."""
        every = streams.generations(self._roots)
        known = streams.read_known(self._roots).get("redis", {})
        moment = self._moment()
        before = [one for one in every if moment is None or one.since <= moment]
        if not before:
            raise replay.PointError("redis: there is no append-only file of before the point")
        one = before[-1]
        sizes = known.get("files", {}).get(os.path.basename(one.path), {})
        files, last, reached = [], 0, False
        names = one.names
        for name in names:
            path = os.path.join(one.path, name)
            there = os.stat(path).st_size if os.path.exists(path) else -1
            if there < sizes.get(name, 0):
                raise replay.PointError(
                    f"redis: {name} is shorter than it was, {max(there, 0)} bytes of {sizes[name]}"
                )
            if name == names[0]:
                files.append((name, there))
                continue
            with open(path, "rb") as handle:
                cut = aof.cut(handle, None if moment is None else -(-moment // _MICRO))
            if cut.torn and name != names[-1]:
                raise replay.PointError(f"redis: {name} breaks off at byte {cut.size}")
            files.append((name, cut.size))
            last = cut.last or last
            if reached := cut.reached:
                break
        later = one is not every[-1]
        if moment is not None and not reached and not later:
            current = max(int(known.get("current", 0)), last * _MICRO)
            if moment > current:
                raise replay.PointError(
                    f"redis: the append-only file is known to be whole until {utc(current)}, and "
                    f"{self._point.title} is later; for all that there is say restore_to=latest"
                )
        return one, files, last

    def _moment(self) -> int | None:
        """Return the time up to which Redis is restored: with transactions, that of the last."""
        if self._point.kind == "time":
            return self._point.moment
        return self.plan().last if self._point.kind == "gtids" else None

    def redis(self, scratch: Scratch) -> None:
        """Lay down Redis' files as they were at the point, let its tools check them, start it.

        Raises:
            DamagedError: when they find something.
        """
        one, files, last = self._reached(self._generation)
        data = scratch.path(DATA["redis"])
        target = os.path.join(data, "appendonlydir")
        os.makedirs(target)
        for name, size in files:
            path = os.path.join(target, name)
            shutil.copy2(os.path.join(one.path, name), path)
            os.truncate(path, size)
        kept = {name for name, _size in files}
        lines = [
            line for line in one.manifest.splitlines() if kept & set(redis.listed(f"{line}\n"))
        ]
        manifest = os.path.join(target, "appendonly.aof.manifest")
        with open(manifest, "w", encoding="utf-8") as handle:
            handle.write("".join(f"{line}\n" for line in lines))
        status = os.stat(data)
        for name in (".", *os.listdir(target)):
            os.chown(os.path.join(target, name), status.st_uid, status.st_gid)
        check_aof(scratch.redis_image, data, "appendonlydir/appendonly.aof.manifest")
        output(scratch.up("redis"))
        until = f", the last command is of {utc(last * _MICRO)[:19]}" if last else ""
        self._say(f"redis: {len(files)} files, checked by Redis{until}")
