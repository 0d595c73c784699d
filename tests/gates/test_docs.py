"""What the documentation shows is true: its code runs, its data parses, its links lead somewhere.

The markers of blocks are described in doc_blocks.py. Those for the lab's host are run by the part
stack (tests/stack/test_docs_on_host.py).
"""

from __future__ import annotations

import ast
import configparser
import json
import re
import subprocess
import tomllib
import typing as t
from pathlib import Path

import gate_repo
import pytest
import test_specs
import yaml
from ansible_collections.vedfolnir.stack.plugins.plugin_utils.preflight_names import owner
from doc_blocks import MARKERS, PAGES, SHELL, Block, blocks_of, checkout, pages, script, to_run

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<to>[^)\s#]+)[^)]*\)")
_SECONDS = 120


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
        marked = block.rest in MARKERS or re.match(r"no-test: \S", block.rest)
        assert marked, f"mark it: {block.language} {'|'.join(MARKERS)}, or no-test: REASON"
    elif block.language in READERS and not block.rest.startswith("no-test: "):
        READERS[block.language](block.text)


def run_page(blocks: list[Block], directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a page's blocks in a copy of the repository."""
    argv = ["timeout", str(_SECONDS), "bash", "-c", script(blocks)]
    return gate_repo.run(*argv, cwd=checkout(directory), HOME=str(directory))


@pytest.mark.parametrize("page", pages("test"), ids=str)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path) -> None:
    done = run_page(to_run(page, "test"), tmp_path)
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
