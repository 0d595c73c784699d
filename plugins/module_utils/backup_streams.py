# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What was written since a backup: binary logs of MySQL and append-only files of Redis.

They lie below ``backups/streams``, away from the servers' own directories:

- ``mysql/SERVER/CONNECTION/FILE``: what ``mysql-binlogs`` receives; the connection is named by its
  time in nanoseconds. A data directory that was made anew is another server.
- ``mysql/SERVER/purged``: transactions that this server had when it was first seen and that are in
  no log of it: those of the backup that it was restored from.
- ``redis/SEEN/FILE``: hard links to the files that Redis writes, so that they outlive their
  directory and what is appended is there at once. A rewrite begins a new one, named by the time in
  microseconds at which it was first seen.
- ``known.json``: how far they went when they were last looked at.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import shutil
import time
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_aof as aof
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_binlog as binlog
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_redis as redis
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_gtid import GtidSet
from ansible_collections.vedfolnir.stack.plugins.module_utils.files import write_atomic

PART = "streams"
KEPT = {"last": 10, "hourly": 24, "daily": 7}
"""How many snapshots are kept in a repository: each has all of it, the older are for damage."""
KNOWN = "known.json"
MANIFEST = "manifest"
_BLOCK = 1 << 20
_DAY = 86400
_MICRO = 1000000

Known = dict[str, dict[str, t.Any]]


@dataclasses.dataclass
class Server:
    """A MySQL server's logs, in order.

    Attributes:
        uuid: Its name.
        since: When its first connection began, microseconds of Unix time.
        copies: Paths of each file by its name, the newest last.
        purged: What it has that is in none of its logs.
    """

    uuid: str
    since: int
    copies: dict[str, list[str]]
    purged: GtidSet = dataclasses.field(default_factory=GtidSet)

    @functools.cached_property
    def history(self) -> GtidSet:
        """All that this server has ever committed, or was restored with."""
        result = self.purged
        for log in self.files:
            result = result | log.previous | log.gtids
        return result

    @functools.cached_property
    def files(self) -> list[binlog.LogFile]:
        """The best copy of each file."""
        return [
            max((self.read(path) for path in paths), key=lambda log: log.end)
            for _name, paths in sorted(self.copies.items())
        ]

    def read(self, path: str, offset: int = 0) -> binlog.LogFile:
        """Read a file, see :func:`backup_binlog.read`; all of ``purged`` was before it."""
        log = binlog.read(path, offset)
        log.previous = log.previous | self.purged
        return log


@dataclasses.dataclass
class Generation:
    """A base of Redis and what was appended to it.

    Attributes:
        path: Where it is.
        seen: When it was first seen, microseconds of Unix time.
        since: From when on it tells Redis' state, microseconds of Unix time.
    """

    path: str
    seen: int
    since: int = 0

    @property
    def manifest(self) -> str:
        """Text of the manifest."""
        with open(os.path.join(self.path, MANIFEST), encoding="utf-8") as handle:
            return handle.read()

    @property
    def names(self) -> list[str]:
        """Its files in order."""
        return redis.listed(self.manifest)


def _numbered(directory: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(filter(str.isdigit, os.listdir(directory)), key=int)
    return []


def servers(roots: t.Sequence[str]) -> list[Server]:
    """Return the servers whose logs there are, in the order in which they began."""
    found: dict[str, Server] = {}
    for root in roots:
        place = os.path.join(root, "mysql")
        for uuid in sorted(os.listdir(place)) if os.path.isdir(place) else []:
            for connection in _numbered(os.path.join(place, uuid)):
                since = int(connection) // 1000
                server = found.setdefault(uuid, Server(uuid, since, {}))
                server.purged = server.purged | _purged(os.path.join(place, uuid))
                server.since = min(server.since, since)
                where = os.path.join(place, uuid, connection)
                for name in sorted(os.listdir(where)):
                    server.copies.setdefault(name, []).append(os.path.join(where, name))
    return sorted(found.values(), key=lambda one: one.since)


def _purged(place: str) -> GtidSet:
    try:
        with open(os.path.join(place, "purged"), encoding="utf-8") as handle:
            return GtidSet.parse(handle.read().replace("\\n", ""))
    except FileNotFoundError:
        return GtidSet()


def generations(roots: t.Sequence[str]) -> list[Generation]:
    """Return what there is of Redis, oldest first; of two copies the longer one."""
    best: dict[str, str] = {}
    for root in roots:
        for name in _numbered(os.path.join(root, "redis")):
            path = os.path.join(root, "redis", name)
            if os.path.exists(os.path.join(path, MANIFEST)) and (
                name not in best or _size(path) > _size(best[name])
            ):
                best[name] = path
    result: list[Generation] = []
    for name in sorted(best, key=int):
        one = Generation(best[name], int(name))
        began = _base_time(one) * _MICRO
        # A restored directory has an old base; it counts from when it was put in place.
        one.since = began if not result or began >= result[-1].seen else one.seen
        result.append(one)
    return result


def _size(path: str) -> int:
    return sum(entry.stat().st_size for entry in os.scandir(path))


def _base_time(generation: Generation) -> int:
    path = os.path.join(generation.path, generation.names[0])
    try:
        with open(path, "rb") as handle:
            head = handle.read(1024)
        return aof.created(head) or int(os.stat(path).st_mtime)
    except FileNotFoundError:
        return generation.seen // _MICRO


def keep_redis(data: str, streams: str) -> str:
    """Keep what Redis has now and what it will append; return the generation's directory.

    Raises:
        BackupError: when Redis has no append-only file.
    """
    source = os.path.join(data, "appendonlydir")
    with contextlib.ExitStack() as stack:
        manifest, opened = redis.open_whole(source, stack)
        base = next(iter(opened))
        status = os.fstat(opened[base].fileno())
        target = _generation_of(streams, base, status)
        os.makedirs(target, mode=0o700, exist_ok=True)
        for name, handle in opened.items():
            _keep(os.path.join(source, name), handle, os.path.join(target, name))
        text = "".join(f"{line}\n" for line in manifest.splitlines() if redis.listed(f"{line}\n"))
        path = os.path.join(target, MANIFEST)
        write_atomic(path, text.encode(), uid=0, gid=0, mode=0o600)
    return target


def _generation_of(streams: str, base: str, status: os.stat_result) -> str:
    place = os.path.join(streams, "redis")
    for name in reversed(_numbered(place)):
        with contextlib.suppress(FileNotFoundError):
            kept = os.stat(os.path.join(place, name, base))
            if (kept.st_size, kept.st_mtime_ns) == (status.st_size, status.st_mtime_ns) and (
                kept.st_dev != status.st_dev or kept.st_ino == status.st_ino
            ):
                return os.path.join(place, name)
    return os.path.join(place, str(time.time_ns() // 1000))


def _keep(path: str, opened: t.BinaryIO, target: str) -> None:
    """Link a file that Redis writes, or copy what it has now where that is not possible."""
    now = os.fstat(opened.fileno())
    with contextlib.suppress(FileNotFoundError):
        kept = os.stat(target)
        if (kept.st_dev, kept.st_ino) == (now.st_dev, now.st_ino):
            return
    temporary = f"{target}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    try:
        os.link(path, temporary)
        linked = os.stat(temporary)
        same = (linked.st_dev, linked.st_ino) == (now.st_dev, now.st_ino)
    except OSError:
        same = False
    if not same:
        redis.copy_open(opened, temporary)
        os.utime(temporary, ns=(now.st_atime_ns, now.st_mtime_ns))
    os.replace(temporary, target)


def tidy(streams: str, keep_days: int, newest_backup: float) -> None:
    """Remove copies that a later connection has fetched again, and what is too old.

    Args:
        streams: The directory.
        keep_days: For how many days logs are kept.
        newest_backup: When the newest backup was taken; what came after it stays in any case.
    """
    limit = min(time.time() - keep_days * _DAY, newest_backup)
    every = servers([streams])
    for server in every:
        names = sorted(server.copies)
        for name in names:
            for older, newer in itertools.pairwise(server.copies[name]):
                if _begins_with(newer, older):
                    os.unlink(older)
        # The last one of the last server is still written to.
        for name in names[:-1] if server is every[-1] else names:
            for path in server.copies[name]:
                _remove_if_old(path, limit)
        _remove_empty(os.path.join(streams, "mysql", server.uuid), server is every[-1])
    for one, following in itertools.pairwise(generations([streams])):
        if following.since / _MICRO < limit:
            shutil.rmtree(one.path)


def _remove_empty(place: str, running: bool) -> None:
    """Remove connections without files, but that which has just begun."""
    connections = _numbered(place)
    for connection in connections[:-1] if running else connections:
        with contextlib.suppress(OSError):
            os.rmdir(os.path.join(place, connection))
    if not running and not _numbered(place):
        shutil.rmtree(place)


def _remove_if_old(path: str, limit: float) -> None:
    with contextlib.suppress(FileNotFoundError):
        if os.stat(path).st_mtime < limit:
            os.unlink(path)


def _begins_with(path: str, start: str) -> bool:
    """Tell whether a file has all of another one at its beginning."""
    with open(path, "rb") as whole, open(start, "rb") as part:
        while block := part.read(_BLOCK):
            if whole.read(len(block)) != block:
                return False
    return True


def read_known(roots: t.Sequence[str]) -> Known:
    """Return how far the streams went when they were last looked at, the latest of several."""
    found: list[Known] = []
    for root in roots:
        path = os.path.join(root, KNOWN)
        with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as handle:
            found.append(json.load(handle))
    return max(found, key=lambda one: one.get("mysql", {}).get("looked", 0), default={})


def write_known(streams: str, known: Known) -> None:
    """Keep how far the streams went, so that a file that was cut off later is found out."""
    text = json.dumps(known, indent=1, sort_keys=True) + "\n"
    write_atomic(os.path.join(streams, KNOWN), text.encode(), uid=0, gid=0, mode=0o600)


def look(server: Server, before: Known) -> Known:
    """Return what each file of a server has, read only as far as it is new.

    Args:
        server: The server.
        before: What this function has returned before.
    """
    found: Known = {}
    for name, paths in sorted(server.copies.items()):
        path = max(paths, key=lambda one: (os.stat(one).st_size, one))
        old = before.get(name, {})
        # One that is shorter than it was is not read again: it stays known what is missing.
        if old and old["path"] == path and old["end"] >= os.stat(path).st_size:
            found[name] = old
            continue
        again = old["end"] if old and old["path"] == path else 0
        log = server.read(path, again)
        if not log.begun:
            continue
        gtids = log.gtids | (GtidSet.parse(old["gtids"]) if again else GtidSet())
        last = log.transactions[-1].committed if log.transactions else 0
        found[name] = {
            "path": path,
            "end": log.end,
            "previous": str(log.previous),
            "gtids": str(gtids),
            "last": last or (old.get("last", 0) if again else 0),
        }
    return found


def since(have: GtidSet, files: Known) -> Known:
    """Return those of a server's files that go on from a set of transactions, in order."""
    chain: list[str] = []
    for name, file in sorted(files.items(), reverse=True):
        chain.insert(0, name)
        if GtidSet.parse(file["previous"]) <= have:
            break
    return {name: files[name] for name in chain}


def shortened(files: Known) -> list[str]:
    """Return the names of files that are shorter than they were, or gone."""
    return [name for name, file in files.items() if not _is_whole(file["path"], file["end"])]


def _is_whole(path: str, size: int) -> bool:
    return os.path.exists(path) and os.stat(path).st_size >= size


def whole_since(have: GtidSet, files: Known) -> GtidSet:
    """Return what is missing between a set of transactions and a server's last file."""
    missing = GtidSet()
    for file in since(have, files).values():
        previous = GtidSet.parse(file["previous"])
        missing = missing | (previous - have)
        have = have | previous | GtidSet.parse(file["gtids"])
    return missing
