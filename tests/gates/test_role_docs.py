"""The pages of the roles are what docs/generate.py makes of their argument specs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import gate_repo
import pytest
import test_specs

_SPEC = importlib.util.spec_from_file_location("generate", gate_repo.ROOT / "docs" / "generate.py")
assert _SPEC
assert _SPEC.loader
generate = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(generate)

PAGES: dict[Path, str] = generate.pages()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_is_up_to_date(path: Path) -> None:
    assert path.is_file(), "run: python docs/generate.py"
    assert path.read_text(encoding="utf-8") == PAGES[path], "run: python docs/generate.py"


def test_there_is_a_page_for_every_role_and_no_other() -> None:
    there = {path.stem for path in gate_repo.matching("docs/roles/*.md")}
    assert there == set(test_specs.ROLES)


@pytest.mark.parametrize("role", test_specs.ROLES)
def test_a_page_names_every_option(role: str) -> None:
    content = generate.page(role)
    names = {
        name
        for option, spec in test_specs.options(role).items()
        for name, _spec in test_specs.nested(option, spec)
    }
    assert [name for name in sorted(names) if f"| `{name}` |" not in content] == []


@pytest.mark.parametrize("role", test_specs.ROLES)
def test_no_markup_of_ansible_is_left(role: str) -> None:
    left = [line for line in generate.page(role).splitlines() if generate._MARKUP.search(line)]
    assert left == []


def test_lists_and_required_options_are_shown() -> None:
    later: list[tuple[str, object]] = []
    spec = {"type": "list", "elements": "str", "required": True, "description": "One | O(a:b=c)."}
    (row,) = generate._rows("x", spec, later)
    assert row == "| `x` | list of str | **required** | One \\| `b=c`. |"
    assert later == []
