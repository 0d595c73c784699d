"""What the documentation shows is true: its code runs, its data parses, its links lead somewhere.

A block says in its info string what happens to it:
    ```bash test            is run here, in a copy of the repository, in the order of the page
    ```bash no-test: WHY    cannot be run here, for the reason given
    ```yaml, ```json, …     must parse; options of roles that appear in it must exist
"""

from __future__ import annotations

import ast
import configparser
import dataclasses
import json
import re
import shutil
import subprocess
import tomllib
import typing as t
from pathlib import Path

import gate_repo
import pytest
import test_specs
import yaml
from ansible_collections.vedfolnir.stack.plugins.plugin_utils.preflight_names import owner

PAGES = gate_repo.matching("*.md", "docs/**/*.md", "tests/**/*.md", "files/**/*.md")
SHELL = ("bash", "sh", "shell", "console")
_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^`]*)$")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<to>[^)\s#]+)[^)]*\)")
_SECONDS = 120


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


def every_block() -> list[Block]:
    """Return the blocks of all pages."""
    return [block for page in PAGES for block in blocks_of(page, gate_repo.text(page) or "")]


def _yaml(text: str) -> None:
    options = {name for role in test_specs.ROLES for name in test_specs.options(role)}
    for document in yaml.load_all(text, gate_repo.AnsibleYaml):
        names = document if isinstance(document, dict) else {}
        unknown = [n for n in names if owner(str(n), test_specs.ROLES) and n not in options]
        assert unknown == [], f"no such options: {', '.join(unknown)}"


def _ini(text: str) -> None:
    parser = configparser.ConfigParser(allow_no_value=True, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)


READERS: dict[str, t.Callable[[str], object]] = {
    "yaml": _yaml,
    "yml": _yaml,
    "json": json.loads,
    "ini": _ini,
    "toml": tomllib.loads,
    "python": ast.parse,
}


@pytest.mark.parametrize("block", every_block(), ids=str)
def test_a_block_is_marked_and_its_data_parses(block: Block) -> None:
    assert block.language, "say what language it is; text when it is none"
    if block.language in SHELL:
        marked = block.rest == "test" or re.match(r"no-test: \S", block.rest)
        assert marked, f"mark it: {block.language} test, or {block.language} no-test: REASON"
    elif block.language in READERS and not block.rest.startswith("no-test: "):
        READERS[block.language](block.text)


def script(blocks: list[Block]) -> str:
    """Return one script of a page's blocks, which says where it is."""
    parts = ["set -eu"]
    for block in blocks:
        commands = block.text
        if block.language == "console":  # only what is typed, not what is answered
            lines = [line for line in commands.splitlines() if line.startswith(("$ ", "> "))]
            commands = "\n".join(line[2:] for line in lines)
        parts += [f"echo 'at {block}' >&2", commands]
    return "\n".join(parts)


def to_run(page: Path) -> list[Block]:
    """Return a page's blocks that are to be run."""
    found = blocks_of(page, gate_repo.text(page) or "")
    return [block for block in found if block.language in SHELL and block.rest == "test"]


def run_page(blocks: list[Block], directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a page's blocks in a copy of the repository."""
    copy = gate_repo.copy_to(directory)
    link = gate_repo.ROOT / ".collections"
    shutil.copytree(link, copy / ".collections", symlinks=True)
    argv = ["timeout", str(_SECONDS), "bash", "-c", script(blocks)]
    return gate_repo.run(*argv, cwd=copy, HOME=str(directory))


@pytest.mark.parametrize("page", [page for page in PAGES if to_run(page)], ids=str)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path) -> None:
    done = run_page(to_run(page), tmp_path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [match["to"] for match in _LINK.finditer(gate_repo.text(page) or "")]
    local = [target for target in targets if "://" not in target and "mailto:" not in target]
    missing = [to for to in local if not (gate_repo.ROOT / page.parent / to).exists()]
    assert missing == []


BAD = {
    "yaml": "a: [1",
    "json": "{a: 1}",
    "ini": "a = 1",
    "toml": "a = b",
    "python": "def",
    "yml": "stack_no_such_option: 1",
}


@pytest.mark.parametrize("language", BAD)
def test_the_readers_refuse_what_is_wrong(language: str) -> None:
    with pytest.raises(
        (ValueError, SyntaxError, yaml.YAMLError, configparser.Error, AssertionError)
    ):
        READERS[language](BAD[language])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("test -f galaxy.yml\n", 0),
        ("cd /\ntest -f galaxy.yml\n", 1),
        ("false\ntrue\n", 1),
    ],
)
def test_commands_that_fail_are_noticed(text: str, code: int, tmp_path: Path) -> None:
    block = Block(Path("x.md"), 1, "bash", "test", text)
    assert run_page([block], tmp_path).returncode == code


def test_a_transcript_runs_what_is_typed() -> None:
    block = Block(Path("x.md"), 1, "console", "test", "$ echo a \\\n> b\na b\n")
    assert script([block]).splitlines()[-2:] == ["echo a \\", "b"]
