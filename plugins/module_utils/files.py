# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring a set of files and directories into a wanted state, atomically file by file."""

from __future__ import annotations

import grp
import os
import pwd
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
            os.fchmod(handle.fileno(), mode)
            os.fchown(handle.fileno(), uid, gid)
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


def _validate(path: str, candidate: str, command: str) -> None:
    argv = [part.replace("%s", candidate) for part in command.split()]
    result = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True
    )
    if result.returncode != 0:
        raise FileError(f"{path}: refused by `{command}`: {result.stdout.strip()}")


def _attributes(status: os.stat_result) -> dict[str, t.Any]:
    return {
        "owner": status.st_uid,
        "group": status.st_gid,
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
    }


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

    def directory(self, path: str, *, owner: str | int, group: str | int, mode: str) -> None:
        """Make a directory with its ownership; the content and existing parents are left alone."""
        try:
            status: os.stat_result | None = os.stat(path)
        except FileNotFoundError:
            status = None
        if self.check and status is None:
            self._record(path, "", f"directory {mode}\n")
            return
        uid, gid, bits = uid_of(owner), gid_of(group), int(mode, 8)
        wanted = {"owner": uid, "group": gid, "mode": f"{bits:04o}"}
        if status is not None:
            if not stat.S_ISDIR(status.st_mode):
                raise FileError(f"{path}: is there, but is not a directory; move it away")
            present = _attributes(status)
            if present == wanted:
                return
            self._record(path, f"{present}\n", f"{wanted}\n")
        else:
            self._record(path, "", f"directory {wanted}\n")
        if self.check:
            return
        os.makedirs(path, mode=0o755, exist_ok=True)
        os.chown(path, uid, gid)
        os.chmod(path, bits)

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
        before: bytes | None = None
        attributes: dict[str, t.Any] | None = None
        try:
            attributes = _attributes(os.stat(path))
            with open(path, "rb") as handle:
                before = handle.read()
        except FileNotFoundError:
            pass
        except IsADirectoryError as exc:
            raise FileError(f"{path}: is there, but is a directory; move it away") from exc
        if self.check and before is None:
            self._record(path, "", "" if secret else content.decode(errors="replace"))
            return
        uid, gid, bits = uid_of(owner), gid_of(group), int(mode, 8)
        wanted = {"owner": uid, "group": gid, "mode": f"{bits:04o}"}
        if before == content and attributes == wanted:
            return
        if secret:
            self._record(path, "(hidden)\n", "(hidden)\n")
        elif before == content:
            self._record(path, f"{attributes}\n", f"{wanted}\n")
        else:
            self._record(
                path, (before or b"").decode(errors="replace"), content.decode(errors="replace")
            )
        if not self.check:
            write_atomic(path, content, uid=uid, gid=gid, mode=bits, validate=validate)

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
