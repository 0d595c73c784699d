"""The usual tools, with their own output when they find something."""

from __future__ import annotations

from pathlib import Path

import gate_repo
import pytest

# What is checked together, and where: programs with modules of the same name need their own run.
TYPED = {
    "plugins": (".", ("-p", "ansible_collections.vedfolnir.stack.plugins")),
    "adapter": (".", ("-p", "vedfolnir_adapter")),
    "lab": (".", ("-p", "vedfolnir_lab")),
    "gates": (".", ("tests/gates",)),
    "stack tests": (".", ("tests/stack", "tests/lab/bench.py")),
    "vault tests": (".", ("tests/vault",)),
    "unit tests": (".", ("tests/unit",)),
}


def test_ruff_finds_nothing() -> None:
    gate_repo.must_pass("ruff", "check", "--output-format", "concise")


def test_ruff_would_format_nothing() -> None:
    gate_repo.must_pass("ruff", "format", "--check")


@pytest.mark.parametrize("what", TYPED)
def test_mypy_finds_nothing(what: str) -> None:
    where, argv = TYPED[what]
    gate_repo.must_pass("mypy", "--strict", *argv, cwd=gate_repo.ROOT / where)


def test_yamllint_finds_nothing() -> None:
    paths = gate_repo.matching("*.yml", "*.yaml", "**/*.yml", "**/*.yaml", ".*", "**/.*.yml")
    wanted = [str(p) for p in paths if p.suffix in (".yml", ".yaml") or p.name == ".yamllint"]
    gate_repo.must_pass("yamllint", "--strict", "--format", "parsable", *wanted)


def test_ansible_lint_finds_nothing() -> None:
    gate_repo.must_pass("ansible-lint", "--offline", "--nocolor", "-q", "--format", "pep8")


def shell_scripts() -> list[Path]:
    """Return what a shell runs, by suffix or first line."""
    found = []
    for path in gate_repo.files():
        first = (gate_repo.text(path) or "").partition("\n")[0]
        if path.suffix == ".sh" or (first.startswith("#!") and first.endswith(("sh", "sh -eu"))):
            found.append(path)
    return found


def test_shellcheck_finds_nothing() -> None:
    scripts = [str(path) for path in shell_scripts() if path.suffix != ".j2"]
    assert scripts
    gate_repo.must_pass("shellcheck", *scripts)
