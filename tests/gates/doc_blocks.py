"""The fenced blocks of the documentation, and how those of a shell are run.

The info string of a block says what happens to it:
    ```bash test            is run by the gates in a copy of the repository, page by page
    ```bash lab             is run on the deployed lab host as root, in the order of the page
    ```bash lab-controller  is run in a copy of the repository, with the lab as the inventory
    ```bash no-test: WHY    cannot be run by a machine, for the reason given
    ```yaml, ```json, …     must parse; options of roles that appear in it must exist
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import gate_repo

PAGES = gate_repo.matching("*.md", "docs/**/*.md", "tests/**/*.md", "files/**/*.md")
SHELL = ("bash", "sh", "shell", "console")
MARKERS = ("test", "lab", "lab-controller")
_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^`]*)$")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    rest: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path, content: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    found: list[Block] = []
    opened: re.Match[str] | None = None
    lines: list[str] = []
    for number, line in enumerate(content.splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None and fence:
            opened, lines, start = fence, [], number
        elif opened is not None and fence and fence["fence"] == opened["fence"]:
            language, _, rest = opened["info"].strip().partition(" ")
            found.append(Block(page, start, language, rest.strip(), "\n".join(lines) + "\n"))
            opened = None
        elif opened is not None:
            lines.append(line.removeprefix(opened["indent"]))
    assert opened is None, f"{page}:{start}: the block is never closed"
    return found


def script(blocks: list[Block]) -> str:
    """Return one script of a page's blocks, which says where it is."""
    parts = ["set -euo pipefail"]
    for block in blocks:
        commands = block.text
        if block.language == "console":  # only what is typed, not what is answered
            lines = [line for line in commands.splitlines() if line.startswith(("$ ", "> "))]
            commands = "\n".join(line[2:] for line in lines)
        parts += [f"echo 'at {block}' >&2", commands]
    return "\n".join(parts)


def to_run(page: Path, marker: str) -> list[Block]:
    """Return a page's blocks with a marker."""
    found = blocks_of(page, gate_repo.text(page) or "")
    return [block for block in found if block.language in SHELL and block.rest == marker]


def pages(marker: str) -> list[Path]:
    """Return the pages that have blocks with a marker."""
    return [page for page in PAGES if to_run(page, marker)]


def checkout(directory: Path) -> Path:
    """Copy the repository to where commands may change it."""
    copy = gate_repo.copy_to(directory)
    shutil.copytree(gate_repo.ROOT / ".collections", copy / ".collections", symlinks=True)
    return copy
