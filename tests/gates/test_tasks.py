"""House rules for tasks and images that no linter knows."""

from __future__ import annotations

import collections
import re
import typing as t
from collections.abc import Iterator
from pathlib import Path

import gate_repo
import pytest

TASK_FILES = [
    path
    for path in gate_repo.matching("roles/**/*.yml", "playbooks/*.yml")
    if path.parts[-2] in ("tasks", "handlers", "playbooks")
]
EACH_FILE = pytest.mark.parametrize("path", TASK_FILES, ids=str)
_PARTS = ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers")
_MOST = 20
_NO_VERSION = re.compile(r"[\w./}-]+:" + "latest" + r"\b")
_VERSION = re.compile(r".*(:[^/:]+|@sha256:[0-9a-f]{64})$")


def tasks(content: t.Any) -> Iterator[dict[str, t.Any]]:
    """Yield every task, those inside blocks included."""
    for task in content or []:
        yield task
        for part in _PARTS:
            yield from tasks(task.get(part))


def test_there_are_task_files() -> None:
    assert TASK_FILES


@EACH_FILE
def test_names_are_unique_in_a_file(path: Path) -> None:
    found = list(tasks(gate_repo.load(path)))
    names = collections.Counter(task.get("name", f"(no name) {task}") for task in found)
    assert [name for name, count in names.items() if count > 1] == []
    assert [
        task for task in found if "name" not in task and "import_playbook" not in str(task)
    ] == []


@EACH_FILE
def test_a_file_stays_small(path: Path) -> None:
    assert len(list(tasks(gate_repo.load(path)))) < _MOST


@EACH_FILE
def test_errors_are_not_ignored(path: Path) -> None:
    ignoring = [task["name"] for task in tasks(gate_repo.load(path)) if "ignore_errors" in task]
    assert ignoring == []


@EACH_FILE
def test_changed_when_is_no_tautology(path: Path) -> None:
    tautology = re.compile(r"^\s*(true|(\w+)\s+is\s+changed)\s*$", re.IGNORECASE)
    # `changed_when: true` is honest for an action, never for a probe that may run in check mode.
    wrong = [
        task["name"]
        for task in tasks(gate_repo.load(path))
        if tautology.match(str(task.get("changed_when", "")))
        and (task["changed_when"] is not True or task.get("check_mode") is False)
    ]
    assert wrong == []


def test_nothing_runs_the_newest_image() -> None:
    wrong = []
    for path in gate_repo.files():
        if path.parts[0] in ("roles", "playbooks", "files", "inventories", "docs"):
            found = _NO_VERSION.search(gate_repo.text(path) or "")
            if found:
                wrong.append(f"{path}: {found[0]}")
    assert wrong == []


@pytest.mark.parametrize("role", gate_repo.roles())
def test_every_default_image_names_its_version(role: str) -> None:
    images = {
        name: value
        for name, value in gate_repo.role_main(role, "defaults").items()
        if name.endswith("_image") and value and "{{" not in str(value)
    }
    assert {name: value for name, value in images.items() if not _VERSION.match(value)} == {}
