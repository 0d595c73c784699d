"""The table of secrets in the documentation is the manifest."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import gate_repo
import pytest

PAGE = Path("docs/secrets.md")
MANIFEST: list[dict[str, t.Any]] = gate_repo.load(Path("roles/stack/vars/main/secrets.yml"))[
    "__stack_secrets"
]
_ROW = re.compile(r"^\| `(?P<name>\w+)` \| (.+) \|$", re.MULTILINE)


def table() -> dict[str, list[str]]:
    """Return the cells of each row by the secret's name."""
    rows = _ROW.findall(gate_repo.text(PAGE) or "")
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}


def test_every_secret_is_in_the_table_and_no_other() -> None:
    assert list(table()) == [item["name"] for item in MANIFEST]


@pytest.mark.parametrize("item", MANIFEST, ids=lambda item: item["name"])
def test_a_row_is_what_the_manifest_says(item: dict[str, t.Any]) -> None:
    kind, owner, _readers, rotation = table()[item["name"]]
    assert (kind, owner, rotation) == (item["kind"], item["owner"], item["rotate"])
