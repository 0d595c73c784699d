# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Assemble a container build context from several places and name it by its content."""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import io
import os
import posixpath
import tarfile
import typing as t


class ContextError(Exception):
    """A part of the context that cannot be read; the message names it."""


def excluded(path: str, patterns: t.Sequence[str]) -> bool:
    """Tell whether a relative path matches one of the patterns, itself or by one of its parents.

    A pattern without a slash matches a name at any depth; one with a slash matches from the root.
    """
    parts = path.split("/")
    for pattern in patterns:
        if "/" in pattern:
            wanted = pattern.strip("/").split("/")
            # Part by part: a star must not reach into directories below.
            if len(parts) >= len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted)):
                return True
        elif any(fnmatch.fnmatchcase(part, pattern) for part in parts):
            return True
    return False


def collect(parts: t.Sequence[t.Mapping[str, t.Any]]) -> dict[str, tuple[bytes, int]]:
    """Return content and mode (0644 or 0755) of every file of the context by its path in it.

    Args:
        parts: Each with ``dest`` and one of ``content``, ``src`` (file or directory, less
            ``exclude`` patterns) and ``ordered`` (files whose order matters; their names get a
            number in front).

    Raises:
        ContextError: when a source is not there or is not readable.
    """
    files: dict[str, tuple[bytes, int]] = {}
    for part in parts:
        dest = _destination(part)
        if part.get("content") is not None:
            files[dest] = (str(part["content"]).encode(), 0o644)
            continue
        try:
            for number, source in enumerate(part.get("ordered") or [], start=1):
                path = f"{dest}/{number:03d}-{os.path.basename(source)}".lstrip("/")
                files[path] = _read(str(source))
            source = part.get("src")
            if source and os.path.isdir(str(source)):
                _walk(str(source), dest, part.get("exclude") or [], files)
            elif source:
                files[dest] = _read(str(source))
        except OSError as exc:
            raise ContextError(f"{exc.filename}: {exc.strerror}") from exc
    return files


def _destination(part: t.Mapping[str, t.Any]) -> str:
    """Return the path in the context; the context itself is the empty text."""
    dest = posixpath.normpath(str(part["dest"]).strip("/"))
    if dest.partition("/")[0] == "..":
        raise ContextError(f"{part['dest']}: leads out of the context")
    if dest != ".":
        return dest
    if part.get("ordered") or (part.get("src") and os.path.isdir(str(part["src"]))):
        return ""
    raise ContextError(f"{part['dest']}: a file needs a name in the context")


def _fail(error: OSError) -> t.NoReturn:
    raise error


def _walk(
    source: str, dest: str, patterns: t.Sequence[str], files: dict[str, tuple[bytes, int]]
) -> None:
    for directory, subdirectories, names in os.walk(source, onerror=_fail):
        relative = os.path.relpath(directory, source)
        prefix = "" if relative == "." else f"{relative}/"
        subdirectories[:] = sorted(
            name for name in subdirectories if not excluded(f"{prefix}{name}", patterns)
        )
        for name in sorted(names):
            path = os.path.join(directory, name)
            # A link may lead outside of the source; what it names does not belong into an image.
            if (
                not excluded(f"{prefix}{name}", patterns)
                and os.path.isfile(path)
                and not os.path.islink(path)
            ):
                files[f"{dest}/{prefix}{name}".lstrip("/")] = _read(path)


def _read(path: str) -> tuple[bytes, int]:
    with open(path, "rb") as handle:
        return handle.read(), 0o755 if os.access(path, os.X_OK) else 0o644


def digest(files: t.Mapping[str, tuple[bytes, int]], salt: str = "") -> str:
    """Return 12 hexadecimal digits that change with any path, content, mode and with ``salt``."""
    total = hashlib.sha256(salt.encode())
    for path in sorted(files):
        content, mode = files[path]
        total.update(f"{path}\0{mode:o}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()[:12]


def archive(files: t.Mapping[str, tuple[bytes, int]]) -> bytes:
    """Return a gzipped tar of the files, the same bytes for the same files."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, compresslevel=6) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(files):
            content, mode = files[path]
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(content), mode
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
