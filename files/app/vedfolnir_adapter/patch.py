"""Apply patch files to a source tree at build time: `python patch.py TREE PATCHES`.

Unified diffs as `git diff` writes them, applied exactly (no fuzz, no moved lines); all in the
order of their names.  The base image has neither `patch` nor `git`.  Standard library only.
"""

from __future__ import annotations

import re
import sys
import typing as t
from pathlib import Path

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_NOTHING = "/dev/null"


class PatchError(Exception):
    """A patch that does not fit; the message names file and line."""


class Hunk(t.NamedTuple):
    """One hunk: where it starts in the old file, and what it expects and leaves."""

    start: int
    old: list[str]
    new: list[str]


class FilePatch(t.NamedTuple):
    """All hunks of one file; an absent name means that the file is added or deleted."""

    old: str | None
    new: str | None
    hunks: list[Hunk]


def _name(header: str) -> str | None:
    name = header[4:].split("\t", 1)[0].strip()
    if name == _NOTHING:
        return None
    path = name.split("/", 1)[1] if name.startswith(("a/", "b/")) else name
    if path.startswith("/") or ".." in path.split("/"):
        msg = f"a patch must stay inside the source: {path}"
        raise PatchError(msg)
    return path


def _hunk(lines: t.Sequence[str], position: int) -> tuple[Hunk, int]:
    match = _HUNK.match(lines[position])
    if match is None:
        msg = f"line {position + 1} is not the head of a hunk"
        raise PatchError(msg)
    old_count, new_count = (int(match[group] or "1") for group in (2, 4))
    old: list[str] = []
    new: list[str] = []
    position += 1
    while len(old) < old_count or len(new) < new_count:
        line = lines[position] if position < len(lines) else "?"
        kind, text = (line[:1] or " "), line[1:]
        if kind == "\\":  # "No newline at end of file" describes the line before it
            position += 1
            continue
        if kind not in " +-":
            msg = f"line {position + 1} ends a hunk too early"
            raise PatchError(msg)
        if kind in " -":
            old.append(text)
        if kind in " +":
            new.append(text)
        position += 1
    return Hunk(int(match[1]), old, new), position


def parse(text: str) -> list[FilePatch]:
    """Return the files of a unified diff."""
    lines = text.split("\n")
    found: list[FilePatch] = []
    position = 0
    while position + 1 < len(lines):
        if not (lines[position].startswith("--- ") and lines[position + 1].startswith("+++ ")):
            position += 1
            continue
        current = FilePatch(_name(lines[position]), _name(lines[position + 1]), [])
        position += 2
        while position < len(lines) and lines[position].startswith("@@ "):
            hunk, position = _hunk(lines, position)
            current.hunks.append(hunk)
        found.append(current)
    if not any(patch.hunks for patch in found):
        msg = "it contains no change"
        raise PatchError(msg)
    return found


def apply(patch: FilePatch, tree: Path) -> None:
    """Apply the hunks of one file or raise; nothing is written when one does not fit."""
    name = patch.old or patch.new or ""
    source = tree / name
    if patch.old is None and source.exists():
        msg = f"{name} exists already"
        raise PatchError(msg)
    if patch.old is not None and not source.is_file():
        msg = f"{name} does not exist"
        raise PatchError(msg)
    lines = source.read_text(encoding="utf-8").split("\n") if patch.old is not None else [""]
    shift = 0
    for hunk in patch.hunks:
        first = max(hunk.start - 1, 0) + shift
        if lines[first : first + len(hunk.old)] != hunk.old:
            msg = f"{name} differs at line {hunk.start}"
            raise PatchError(msg)
        lines[first : first + len(hunk.old)] = hunk.new
        shift += len(hunk.new) - len(hunk.old)
    if patch.old is not None and patch.new != patch.old:
        source.unlink()
    if patch.new is not None:
        target = tree / patch.new
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("\n".join(lines), encoding="utf-8")


def main(arguments: t.Sequence[str]) -> int:
    """Apply every `*.patch`; the first that does not fit fails the build."""
    tree, patches = Path(arguments[0]), Path(arguments[1])
    for path in sorted(patches.glob("*.patch")):
        try:
            for patch in parse(path.read_text(encoding="utf-8")):
                apply(patch, tree)
        except (PatchError, UnicodeDecodeError) as exc:
            sys.stderr.write(f"patch {path.name} does not apply: {exc}\n")
            return 1
        sys.stdout.write(f"applied {path.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
