# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Copy Redis' files so that they belong together, whatever Redis does meanwhile.

The append-only file is several files that a manifest names; a rewrite makes new ones, then
replaces the manifest, then removes the old ones. The files are opened, and if the manifest is still
the same after that, what is open is one whole state: an open file stays readable when it is
removed, and only its end grows.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import BackupError

_ENTRY = re.compile(r'^file (?:"([^"]+)"|(\S+)) seq \d+ type ([bih])')
_TRIES = 20
_BLOCK = 1 << 20


def listed(manifest: str) -> list[str]:
    """Return the files of the present state, the base before what was appended; no history."""
    found = [_ENTRY.match(line) for line in manifest.splitlines()]
    return [match[1] or match[2] for match in found if match and match[3] in "bi"]


def manifest_name(directory: str) -> str:
    """Return the name of the manifest; the one that Redis is just writing begins with ``temp-``.

    Raises:
        BackupError: when there is none.
    """
    for entry in os.listdir(directory):
        if entry.endswith(".manifest") and not entry.startswith("temp-"):
            return entry
    raise BackupError(f"{directory} has no manifest; Redis has no append-only file")


def _content(path: str) -> str:
    with open(path, encoding="utf-8") as handle:
        return handle.read()


def open_whole(
    directory: str, stack: contextlib.ExitStack, read: t.Callable[[str], str] = _content
) -> tuple[str, dict[str, t.BinaryIO]]:
    """Open the files of an append-only directory that make one state.

    Args:
        directory: The directory.
        stack: Closes the files at its end.
        read: Reads the manifest; a test lets it change.

    Returns:
        The manifest's text, and the open files by name.

    Raises:
        BackupError: when there is no such state.
    """
    path = os.path.join(directory, manifest_name(directory))
    for _try in range(_TRIES):
        before = read(path)
        with contextlib.ExitStack() as attempt:
            try:
                files = {
                    entry: attempt.enter_context(open(os.path.join(directory, entry), "rb"))
                    for entry in listed(before)
                }
            except FileNotFoundError:
                continue
            if read(path) == before:
                stack.push(attempt.pop_all())
                return before, {**files}
    raise BackupError(f"{directory}: Redis rewrites its append-only file all the time")


def copy_open(source: t.BinaryIO, target: str) -> dict[str, t.Any]:
    """Copy an open file as long as it is now; return its size and digest."""
    left = os.fstat(source.fileno()).st_size
    digest, size = hashlib.sha256(), 0
    with open(target, "wb") as handle:
        while left > 0 and (block := source.read(min(_BLOCK, left))):
            handle.write(block)
            digest.update(block)
            size, left = size + len(block), left - len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}


def copy(data: str, target: str) -> dict[str, dict[str, t.Any]]:
    """Copy snapshot and append-only file of a Redis that runs; return size and digest by path.

    Owners are taken along, because the copy is what Redis will start with.

    Raises:
        BackupError: when there is nothing to copy.
    """
    append = os.path.join(data, "appendonlydir")
    files: dict[str, dict[str, t.Any]] = {}
    os.makedirs(os.path.join(target, "appendonlydir"), mode=0o700)
    with contextlib.ExitStack() as stack:
        manifest, opened = open_whole(append, stack)
        for name, handle in opened.items():
            path = os.path.join("appendonlydir", name)
            files[path] = copy_open(handle, os.path.join(target, path))
    path = os.path.join("appendonlydir", manifest_name(append))
    text = "".join(
        f"{line}\n"
        for line in manifest.splitlines()
        if (found := _ENTRY.match(line)) and found[3] in "bi"
    )
    with open(os.path.join(target, path), "w", encoding="utf-8") as output:
        output.write(text)
    files[path] = {"bytes": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    with contextlib.suppress(FileNotFoundError), open(os.path.join(data, "dump.rdb"), "rb") as rdb:
        files["dump.rdb"] = copy_open(rdb, os.path.join(target, "dump.rdb"))
    status = os.stat(data)
    for where, directories, names in os.walk(target):
        for entry in (*directories, *names, "."):
            os.chown(os.path.join(where, entry), status.st_uid, status.st_gid)
    return files


def digests(directory: str) -> dict[str, dict[str, t.Any]]:
    """Return size and digest of every file below a directory, by path."""
    found: dict[str, dict[str, t.Any]] = {}
    for where, _directories, names in os.walk(directory):
        for name in names:
            path = os.path.join(where, name)
            digest, size = hashlib.sha256(), 0
            with open(path, "rb") as handle:
                while block := handle.read(_BLOCK):
                    digest.update(block)
                    size += len(block)
            relative = os.path.relpath(path, directory)
            found[relative] = {"bytes": size, "sha256": digest.hexdigest()}
    return found


def keys_in(text: str) -> int:
    """Return the number of keys that ``redis-check-rdb`` says it has read.

    Raises:
        BackupError: when it says nothing of the kind.
    """
    match = re.search(r"\[info\] (\d+) keys read", text)
    if match is None:
        raise BackupError("redis-check-rdb did not say how many keys it has read")
    return int(match[1])
