# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring a set of files and directories into a wanted state, atomically file by file."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
import typing as t


class FileError(Exception):
    """A file that could not be brought into its state; the message names it and the cause."""


def uid_of(owner: str | int) -> int:
    """Return the numeric user id of a name or number.

    Raises:
        FileError: when the name is unknown on this host.
    """
    text = str(owner)
    if text.isdigit():
        return int(text)
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError as exc:
        raise FileError(f"there is no user {text!r} on this host") from exc


def gid_of(group: str | int) -> int:
    """Return the numeric group id of a name or number.

    Raises:
        FileError: when the name is unknown on this host.
    """
    text = str(group)
    if text.isdigit():
        return int(text)
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError as exc:
        raise FileError(f"there is no group {text!r} on this host") from exc


def write_atomic(
    path: str, content: bytes, *, uid: int, gid: int, mode: int, validate: str | None = None
) -> None:
    """Write a file so that a reader, even after a crash, sees the old or the new content.

    Args:
        path: Absolute path of the file.
        content: New content.
        uid, gid, mode: Ownership and permission bits, in force before the content is readable
            under its name.
        validate: Command with ``%s`` for the path of the candidate; the file is not replaced when
            it fails.

    Raises:
        FileError: when the check refuses the content or the file cannot be written.
    """
    directory = os.path.dirname(path)
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".vedfolnir-", dir=directory)
    except OSError as exc:
        raise FileError(f"{path}: cannot write: {exc.strerror}") from exc
    try:
        with os.fdopen(descriptor, "wb") as handle:
            os.fchown(handle.fileno(), uid, gid)
            os.fchmod(handle.fileno(), mode)  # after the owner: chown clears setgid
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        if validate:
            _validate(path, temporary, validate)
        os.replace(temporary, path)
    except OSError as exc:
        raise FileError(f"{path}: cannot write: {exc.strerror}") from exc
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def remove_tree(path: str) -> None:
    """Remove a directory if it is there.

    Raises:
        OSError: when something of it stays; it may hold keys, or the room that is needed.
    """
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def _validate(path: str, candidate: str, command: str) -> None:
    argv = [part.replace("%s", candidate) for part in command.split()]
    try:
        result = subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True
        )
    except OSError as exc:
        raise FileError(f"{path}: cannot be checked by `{command}`: {exc.strerror}") from exc
    if result.returncode != 0:
        raise FileError(f"{path}: refused by `{command}`: {result.stdout.strip()}")


def _attributes(status: os.stat_result) -> dict[str, t.Any]:
    return {
        "owner": status.st_uid,
        "group": status.st_gid,
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
    }


def _present(path: str) -> tuple[bytes | None, dict[str, t.Any] | None]:
    """Return content and attributes of a file, nothing when it is not there."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a file"
            raise FileError(f"{path}: is there, but is {kind}; move it away")
        with open(path, "rb") as handle:
            return handle.read(), _attributes(status)
    except FileNotFoundError:
        return None, None


class Reconciler:
    """Compare wanted files with the host and write the difference.

    Args:
        check: Only predict; nothing is written.
    """

    def __init__(self, check: bool = False) -> None:
        """Start with nothing changed."""
        self.check = check
        self.changed: list[str] = []
        self.diff: list[dict[str, t.Any]] = []

    def _record(self, path: str, before: str, after: str) -> None:
        self.changed.append(path)
        self.diff.append(
            {"before_header": path, "after_header": path, "before": before, "after": after}
        )

    def _wanted(self, path: str, owner: str | int, group: str | int, mode: str) -> dict[str, t.Any]:
        if not re.fullmatch("[0-7]{3,4}", mode):
            raise FileError(f"{path}: the mode {mode!r} is not octal such as '0640'")
        return {
            "owner": self._id(uid_of, owner),
            "group": self._id(gid_of, group),
            "mode": f"{int(mode, 8):04o}",
        }

    def _id(self, number_of: t.Callable[[str | int], int], name: str | int) -> str | int:
        try:
            return number_of(name)
        except FileError:
            if self.check:
                return name  # the real run makes the account in an earlier task
            raise

    def directory(self, path: str, *, owner: str | int, group: str | int, mode: str) -> None:
        """Make a directory with its ownership; the content and existing parents are left alone."""
        wanted = self._wanted(path, owner, group, mode)
        try:
            status = os.stat(path)
        except FileNotFoundError:
            self._record(path, "", f"directory {wanted}\n")
        else:
            if not stat.S_ISDIR(status.st_mode):
                raise FileError(f"{path}: is there, but is not a directory; move it away")
            present = _attributes(status)
            if present == wanted:
                return
            self._record(path, f"{present}\n", f"{wanted}\n")
        if self.check:
            return
        os.makedirs(path, mode=0o755, exist_ok=True)
        os.chown(path, wanted["owner"], wanted["group"])
        os.chmod(path, int(mode, 8))

    def file(
        self,
        path: str,
        content: bytes,
        *,
        owner: str | int,
        group: str | int,
        mode: str,
        validate: str | None = None,
        secret: bool = False,
    ) -> None:
        """Write one file when its content, owner or mode differs."""
        wanted = self._wanted(path, owner, group, mode)
        before, present = _present(path)
        if before == content and present == wanted:
            return
        if secret:
            self._record(path, "(hidden)\n", "(hidden)\n")
        elif before == content:
            self._record(path, f"{present}\n", f"{wanted}\n")
        else:
            after = content.decode(errors="replace")
            self._record(path, (before or b"").decode(errors="replace"), after)
        if not self.check:
            uid, gid = wanted["owner"], wanted["group"]
            write_atomic(path, content, uid=uid, gid=gid, mode=int(mode, 8), validate=validate)

    def absent(self, path: str) -> None:
        """Remove a file or a whole directory if it is there."""
        if not os.path.lexists(path):
            return
        self._record(path, "present\n", "")
        if self.check:
            return
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
