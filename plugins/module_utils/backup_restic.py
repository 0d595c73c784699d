# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Call restic: save, list, read, check, forget; its errors in words.

The key is read from a file by restic itself; the login at a rest-server or at S3 goes by the
environment of the process, which only root can read.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import re
import socket
import subprocess
import time
import typing as t
import urllib.parse

from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    BackupError,
    DamagedError,
    LockedError,
    Say,
    Settings,
    TargetError,
    last_lines,
    output,
    talking,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_patience import watch

RESTIC = "/usr/bin/restic"
KNOCK_SECONDS = 10.0
LOCK_SECONDS = 300.0
"""How long a shipment waits for the end of a check or of pruning, and the other way round."""
_NO_REPOSITORY = 10
_LOCKED = 11
_WRONG_KEY = 12
_INCOMPLETE = 3
_FULL = "full; make room there, or keep fewer backups (backup_keep_*)"
_SIGNS: tuple[tuple[str, type[BackupError], str], ...] = (
    (
        "wrong password or no key found",
        TargetError,
        "the key of this host does not open it; is it the repository of another stack, or was "
        "backup_repository_key changed?",
    ),
    (
        "certificate signed by unknown authority",
        TargetError,
        "the certificate of the target is not trusted, see backup_repository_ca",
    ),
    ("Access Denied", TargetError, "the target refuses the login"),
    ("SignatureDoesNotMatch", TargetError, "the target refuses the login"),
    ("signature we calculated does not match", TargetError, "the target refuses the login"),
    ("Access Key Id you provided does not exist", TargetError, "the target refuses the login"),
    ("401 Unauthorized", TargetError, "the target refuses the login"),
    ("403 Forbidden", TargetError, "the target refuses it to this login"),
    (
        "500 Internal Server Error",
        TargetError,
        f"the target fails, often because it is {_FULL}",
    ),
    ("503 Service Unavailable", TargetError, "the target does not serve now"),
    ("reduce your request rate", TargetError, "the target has too much to do"),
    ("bucket does not exist", TargetError, "there is no such bucket; make it before"),
    ("minimum free drive threshold", TargetError, f"the target is {_FULL}"),
    ("507 Insufficient Storage", TargetError, f"the target is {_FULL}"),
    ("no space left on device", TargetError, f"the target is {_FULL}"),
    ("quota exceeded", TargetError, f"the target is {_FULL}"),
    ("unable to open config file", TargetError, "there is no repository"),
    ("ciphertext verification failed", DamagedError, "a part of it was damaged or altered"),
    ("invalid data returned", DamagedError, "a part of it was damaged or altered"),
    ("does not match id", DamagedError, "a part of it was damaged or altered"),
    ("repository contains errors", DamagedError, "a part of it was damaged or altered"),
    ("hash mismatch", DamagedError, "a part of it was damaged or altered"),
    ("Permission denied", TargetError, "the target refuses the login"),
    ("Host key verification failed", TargetError, "the target is not the one that is known"),
    ("Connection refused", TargetError, "the target does not answer"),
    ("Connection timed out", TargetError, "the target does not answer"),
    ("Could not resolve hostname", TargetError, "the target has no address"),
    ("no such host", TargetError, "the target has no address"),
    ("unable to start the sftp session", TargetError, "the target does not answer"),
    ("already locked", LockedError, "somebody else works on it right now"),
)
"""What restic says, what it means, and in words."""
_LOGINS = {
    "rest": ("RESTIC_REST_USERNAME", "RESTIC_REST_PASSWORD"),
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
}
"""Kinds of repositories that are reached by HTTP, and in which variables restic wants the login."""


class Failure(t.Protocol):
    """Waits for the end of restic and returns what its failure means."""

    def __call__(self, printed: str = "") -> BackupError:
        """Return it, by what was printed if there was no complaint."""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """One part of one backup, as restic has it."""

    id: str
    backup: str
    part: str
    time: str
    original: str = ""
    """Id in the repository that it was copied from; the same as ``id`` where it was made."""


@dataclasses.dataclass(frozen=True)
class Saved:
    """What restic has saved."""

    snapshot: str
    bytes: int
    added: int


def _meaning(text: str) -> tuple[type[BackupError], str] | None:
    for sign, kind, meaning in _SIGNS:
        if sign.lower() in text.lower():
            return kind, meaning
    return None


def error(what: str, code: int, said: str) -> BackupError:
    """Return what a failure of restic means."""
    by_code = {
        _NO_REPOSITORY: "unable to open config file",
        _LOCKED: "already locked",
        _WRONG_KEY: "wrong password or no key found",
    }
    if found := _meaning(f"{said} {by_code.get(code, '')}"):
        kind, meaning = found
        return kind(f"{what}: {meaning} (restic: {said or code})")
    return BackupError(f"{what}: restic ended with {code}: {said}")


def given_up(what: str, said: str, seconds: int) -> BackupError:
    """Return what a refusal means that did not end.

    Args:
        what: What was tried.
        said: What restic said the last time.
        seconds: For how long it was tried.
    """
    kind, meaning = _meaning(said) or (TargetError, "the target refuses")
    tried = f"given up after {seconds} s (backup_patience_seconds)"
    return kind(f"{what}: {meaning}; {tried} (restic: {said})")


def knock(repository: str, what: str) -> None:
    """See whether a rest-server or S3 is there; restic itself tries for a quarter of an hour.

    Raises:
        TargetError: when nothing listens.
    """
    kind, _separator, url = repository.partition(":")
    if kind not in _LOGINS:
        return
    address = urllib.parse.urlsplit(url)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), KNOCK_SECONDS).close()
    except OSError as exc:
        raise TargetError(f"{what} at {repository}: the target does not answer ({exc})") from exc


class Restic:
    """A repository."""

    def __init__(self, settings: Settings, say: Say, source: Restic | None = None) -> None:
        """Keep how it is reached.

        Args:
            settings: See :class:`Settings`.
            say: Is told what it does.
            source: The repository that this one is a copy of.
        """
        self._settings = settings
        self._say = say
        self._environment = {
            "HOME": "/root",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "RESTIC_REPOSITORY": settings.repository,
            "RESTIC_PASSWORD_FILE": settings.secret_file("repository_key"),
            "RESTIC_CACHE_DIR": "/var/cache/vedfolnir/restic",
            "RESTIC_PROGRESS_FPS": "0.1",
        }
        self._environment |= self._login()
        if settings.repository_ca:
            self._environment["RESTIC_CACERT"] = settings.repository_ca
        self._from: list[str] = []
        if source:
            self._from = ["--copy-chunker-params"]
            # That of a rest-server is in the address; the preflight refuses two logins at S3.
            self._environment |= source.login_by_environment
            self._environment["RESTIC_FROM_REPOSITORY"] = source.address
            self._environment["RESTIC_FROM_PASSWORD_FILE"] = settings.secret_file("repository_key")

    def _login(self) -> dict[str, str]:
        """Return the variables with the login."""
        names = _LOGINS.get(self._settings.repository.partition(":")[0])
        if not names or not self._settings.repository_user:
            return {}
        password = self._settings.secret(f"{self._settings.login_of}_password")
        return dict(zip(names, (self._settings.repository_user, password), strict=True))

    @property
    def login_by_environment(self) -> dict[str, str]:
        """The login that another repository's process needs to read this one as its source."""
        return self._login() if self._settings.repository.startswith("s3:") else {}

    @property
    def address(self) -> str:
        """The repository with its login in it, for the environment of a process only.

        As a source of another it cannot have a login of its own otherwise.
        """
        kind, _separator, rest = self._settings.repository.partition("://")
        if not self._settings.repository_user or not kind.startswith("rest:"):
            return self._settings.repository
        password = self._environment["RESTIC_REST_PASSWORD"]
        login = ":".join(
            urllib.parse.quote(one, safe="") for one in (self._settings.repository_user, password)
        )
        return f"{kind}://{login}@{rest}"

    def argv(self, *arguments: str) -> list[str]:
        """Return a command line, with what holds for all of them."""
        options: list[str] = []
        source = self._environment.get("RESTIC_FROM_REPOSITORY", "")
        if "sftp:" in (self._settings.repository[:5], source[:5]):
            options.append(f"--option=sftp.args={self._settings.sftp_arguments}")
        if self._settings.upload_kib:
            options.append(f"--limit-upload={self._settings.upload_kib}")
        if {self._settings.repository.partition(":")[0], source.partition(":")[0]} & _LOGINS.keys():
            options += self._stuck
        return [RESTIC, *options, *arguments]

    @functools.cached_property
    def _stuck(self) -> list[str]:
        """Since 0.17 restic can be told when a request that is not answered has failed."""
        release = re.match(r"restic (\d+)\.(\d+)", output([RESTIC, "version"], cwd="/"))
        if not release or tuple(map(int, release.groups())) < (0, 17):
            return []
        return [f"--stuck-request-timeout={self._settings.patience_seconds}s"]

    @property
    def options(self) -> dict[str, t.Any]:
        """How its process is started."""
        return {"env": self._environment, "cwd": "/"}

    def run(self, what: str, *arguments: str) -> str:
        """Run restic to its end and return its output; wait while something else works there.

        Raises:
            BackupError: of the kind that fits, see :func:`error`.
        """
        end = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                return self._run(what, *arguments)
            except LockedError:
                if time.monotonic() > end:
                    raise
            self.unlock()
            time.sleep(2)

    def _run(self, what: str, *arguments: str) -> str:
        self._settings.secret("repository_key")
        knock(self._settings.repository, what)
        what = f"{what} at {self._settings.repository}"
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
        with self._child(what, arguments, **pipes) as (child, failure):
            text = t.cast("t.IO[bytes]", child.stdout).read().decode()
            if child.wait() != 0:
                raise failure(text)
        return text

    @contextlib.contextmanager
    def _child(
        self, what: str, arguments: t.Sequence[str], **pipes: int
    ) -> t.Iterator[tuple[subprocess.Popen[bytes], Failure]]:
        """Run restic for the length of a block, and no longer than its target is worth it.

        Yields:
            The process, and what its failure means, see :class:`Failure`.
        """
        argv, seconds = self.argv(*arguments), self._settings.patience_seconds
        with contextlib.ExitStack() as stack:
            child, said = stack.enter_context(talking(argv, **pipes, **self.options))
            patience = stack.enter_context(watch(child, said, seconds))

            def failure(printed: str = "") -> BackupError:
                code = child.wait()
                if patience.lost:
                    return given_up(what, patience.lost, seconds)
                return error(what, code, last_lines(said(), 4) or last_lines(printed))

            yield child, failure

    def repository_id(self) -> str:
        """Return the id of the repository.

        Raises:
            TargetError: when there is none, or none that can be reached or opened.
        """
        text = self.run("look for the repository", "cat", "config", "--no-lock")
        return str(json.loads(text)["id"])

    def ensure(self, known: str) -> str:
        """Make the repository if this host has never used one there; return its id.

        Args:
            known: Id of the one that it has used, empty if none.

        Raises:
            TargetError: also when the known repository is gone or another one is in its place.
        """
        try:
            found = self.repository_id()
        except TargetError as exc:
            if "there is no repository" not in str(exc):
                raise
            if known:
                raise TargetError(
                    f"{self._settings.repository}: the repository that this host has used "
                    f"({known[:8]}) is not there any more; is its disk mounted? To begin a new "
                    "one there, give backup_repository another path"
                ) from exc
            self._say(f"make a new repository at {self._settings.repository}")
            self.run("make the repository", "init", *self._from)
            found = self.repository_id()
        if known and found != known:
            raise TargetError(
                f"{self._settings.repository}: is another repository ({found[:8]}) than the one "
                f"that this host has used ({known[:8]})"
            )
        self.unlock()
        return found

    def unlock(self) -> None:
        """Take away the locks that killed processes of this host have left, not those of others.

        Locks may be removed at a target that lets this host only add, too.
        """
        self._run("unlock", "unlock")

    def _tags(self, backup: str, part: str) -> list[str]:
        host = self._settings.host
        return [f"--host={host}", f"--tag=vedfolnir,id={backup},part={part}", "--json"]

    def save_paths(self, backup: str, part: str, paths: t.Sequence[str]) -> Saved:
        """Save files and directories.

        Raises:
            BackupError: when not all of them could be read.
        """
        arguments = ["backup", *self._tags(backup, part), *paths]
        # A file that the application removes while it is read is missing in the next try, too.
        for _try in range(3):
            try:
                text = self.run(f"save {part}", *arguments)
            except BackupError as exc:
                if f"ended with {_INCOMPLETE}:" not in str(exc):
                    raise
                last = exc
            else:
                return summary(text)
        raise last

    @contextlib.contextmanager
    def saving(self, backup: str, part: str, name: str) -> t.Iterator[t.Callable[[bytes], None]]:
        """Save what is written inside; with an error inside nothing is saved.

        Yields:
            A function that takes the next bytes; :attr:`saved` tells afterwards what was saved.
        """
        self._settings.secret("repository_key")
        arguments = ["backup", *self._tags(backup, part), "--stdin", f"--stdin-filename={name}"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        what = f"save {part} at {self._settings.repository}"
        with self._child(what, arguments, **pipes) as (child, failure):
            stdin = t.cast("t.IO[bytes]", child.stdin)
            try:
                yield lambda data: t.cast("None", stdin.write(data))
                stdin.close()
            except BrokenPipeError as exc:
                raise failure() from exc
            text = t.cast("t.IO[bytes]", child.stdout).read().decode()
            if child.wait() != 0:
                raise failure(text)
            self.saved = summary(text)

    saved = Saved("", 0, 0)

    def save_text(self, backup: str, part: str, text: str) -> Saved:
        """Save a text as a file."""
        with self.saving(backup, part, f"{part}.json") as write:
            write(text.encode())
        return self.saved

    @contextlib.contextmanager
    def reading(self, snapshot: str, path: str) -> t.Iterator[collections.abc.Iterator[bytes]]:
        """Read a file of a snapshot, line by line; an incomplete one is an error at its end."""
        what = f"read {path} of {snapshot[:8]} at {self._settings.repository}"
        with self._child(what, ["dump", snapshot, path], stdout=subprocess.PIPE) as (
            child,
            failure,
        ):
            stdout = t.cast("t.IO[bytes]", child.stdout)

            def lines() -> collections.abc.Iterator[bytes]:
                yield from stdout
                if child.wait() != 0:
                    raise failure()

            yield lines()

    def read_text(self, snapshot: str, path: str) -> str:
        """Return a small file of a snapshot."""
        with self.reading(snapshot, path) as lines:
            return b"".join(lines).decode()

    def restore(self, snapshot: str, target: str) -> None:
        """Bring a snapshot's files below a directory, and compare what was written.

        Raises:
            DamagedError: when that is not possible.
        """
        arguments = ["restore", snapshot, f"--target={target}", "--verify", "--quiet"]
        try:
            self.run(f"bring back {snapshot[:8]}", *arguments)
        except TargetError:
            raise
        except BackupError as exc:
            raise DamagedError(str(exc)) from exc

    def listing(self, snapshot: str) -> list[dict[str, t.Any]]:
        """Return every file and directory of a snapshot."""
        lines = self.run(f"list {snapshot[:8]}", "ls", "--json", snapshot).splitlines()
        nodes = [json.loads(line) for line in lines]
        return [node for node in nodes if node.get("struct_type") == "node"]

    def snapshots(self) -> list[Snapshot]:
        """Return the parts of this host's backups, oldest first."""
        text = self.run(
            "list the backups",
            "snapshots",
            "--json",
            "--no-lock",
            f"--host={self._settings.owner}",
            "--tag=vedfolnir",
        )
        found = []
        for item in json.loads(text) or []:
            # A copy has another id, and tells that of the snapshot it was made from.
            name = item.get("original") or item["id"]
            tags = dict(tag.partition("=")[::2] for tag in item.get("tags") or [])
            found.append(
                Snapshot(item["id"], tags.get("id", ""), tags.get("part", ""), item["time"], name)
            )
        return sorted(found, key=lambda one: one.time)

    def copy(self, snapshots: t.Sequence[str]) -> None:
        """Copy snapshots of the repository that this one is a copy of."""
        self.run("copy", "copy", "--quiet", *snapshots)

    def check(self, percent: int) -> None:
        """Check the repository and read this share of its data.

        Raises:
            DamagedError: when something is wrong with it.
        """
        amount = ["--read-data"] if percent >= 100 else [f"--read-data-subset={percent}%"]
        try:
            self.run("check the repository", "check", *(amount if percent > 0 else []))
        except TargetError:
            raise
        except BackupError as exc:
            raise DamagedError(str(exc)) from exc

    def thin(self, part: str, **keep: int) -> None:
        """Forget old snapshots of a part that belongs to no backup, by restic's own policy."""
        policy = [f"--keep-{name}={count}" for name, count in keep.items()]
        which = [f"--host={self._settings.host}", f"--tag=vedfolnir,part={part}"]
        self.run(f"forget old {part}", "forget", "--group-by=host", *which, *policy)

    def forget(self, snapshots: t.Sequence[str]) -> None:
        """Forget snapshots and give their space free."""
        if snapshots:
            self.run("forget old backups", "forget", "--prune", *snapshots)


def summary(text: str) -> Saved:
    """Return what restic says at the end of a backup.

    Raises:
        BackupError: when it does not.
    """
    for line in reversed(text.splitlines()):
        with contextlib.suppress(ValueError):
            item = json.loads(line)
            if isinstance(item, dict) and item.get("message_type") == "summary":
                return Saved(
                    str(item["snapshot_id"]),
                    int(item["total_bytes_processed"]),
                    int(item.get("data_added_packed") or item["data_added"]),
                )
    raise BackupError("restic did not say what it has saved")


def tree(entries: t.Iterable[tuple[str, str, int, int, int]]) -> dict[str, t.Any]:
    """Return files, bytes and a digest of a directory's listing.

    Args:
        entries: Path below the directory, kind, size, user and group of each.
    """
    rows = sorted(entries)
    files = [row for row in rows if row[1] == "file"]
    digest = hashlib.sha256("\n".join("\t".join(map(str, row)) for row in rows).encode())
    return {
        "files": len(files),
        "bytes": sum(row[2] for row in files),
        "sha256": digest.hexdigest(),
    }


def saved_tree(nodes: t.Iterable[t.Mapping[str, t.Any]], root: str) -> dict[str, t.Any]:
    """Return :func:`tree` of what a snapshot has below ``root``."""
    return tree(
        (
            os.path.relpath(node["path"], root),
            node["type"],
            int(node.get("size") or 0),
            int(node.get("uid") or 0),
            int(node.get("gid") or 0),
        )
        for node in nodes
        if node["path"].startswith(f"{root}/")
    )


def present_tree(root: str) -> dict[str, t.Any]:
    """Return :func:`tree` of what a directory of the host has."""

    def entries() -> t.Iterator[tuple[str, str, int, int, int]]:
        for where, directories, names in os.walk(root):
            for name in (*directories, *names):
                path = os.path.join(where, name)
                status = os.lstat(path)
                kind = "symlink" if os.path.islink(path) else "file"
                is_directory = os.path.isdir(path) and kind == "file"
                yield (
                    os.path.relpath(path, root),
                    "dir" if is_directory else kind,
                    status.st_size if kind == "file" and not is_directory else 0,
                    status.st_uid,
                    status.st_gid,
                )

    return tree(entries())
