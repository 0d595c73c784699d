from __future__ import annotations

import re
from pathlib import Path

import pytest
from vedfolnir_lab import images
from vedfolnir_lab.shell import LabError


def recipe(directory: Path) -> images.Image:
    return images.Image(name="probe", version="1", base="base-trixie", context=str(directory))


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    recipes = tmp_path / "recipes"
    (recipes / "probe").mkdir(parents=True)
    (recipes / "probe" / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\n")
    (recipes / "lean.sh").write_text("#!/bin/sh\n")
    images.catalogue()  # read from the real place before it is moved
    monkeypatch.setattr(images, "RECIPES", recipes)
    images._key.cache_clear()
    source = tmp_path / "context"
    source.mkdir()
    (source / "server.py").write_text("print(1)\n")
    return source


def key(context: Path) -> str:
    images._key.cache_clear()
    return recipe(context).key


def test_the_same_recipe_has_the_same_key(context: Path) -> None:
    assert key(context) == key(context)
    assert re.fullmatch("[0-9a-f]{8}", key(context))


@pytest.mark.parametrize(
    ("name", "text"), [("server.py", "print(2)\n"), ("new.py", ""), ("recipes", "")]
)
def test_a_changed_file_makes_a_new_key(context: Path, name: str, text: str) -> None:
    before = key(context)
    changed = context / name
    if name == "recipes":
        changed = context.parent / "recipes" / "probe" / "Dockerfile"
    changed.write_text(text)
    assert key(context) != before


def test_the_executable_bit_counts(context: Path) -> None:
    before = key(context)
    (context / "server.py").chmod(0o755)
    assert key(context) != before


def test_a_changed_base_changes_what_is_built_on_it(context: Path) -> None:
    before = key(context)
    (context.parent / "recipes" / "lean.sh").write_text("#!/bin/sh\nset -eu\n")
    assert key(context) != before


def test_leftovers_of_tools_do_not_count(context: Path) -> None:
    before = key(context)
    (context / "__pycache__").mkdir()
    (context / "__pycache__" / "server.cpython-311.pyc").write_bytes(b"x")
    (context / ".mypy_cache").mkdir()
    (context / ".mypy_cache" / "x.json").write_text("{}")
    assert key(context) == before


def test_a_missing_context_is_named(context: Path) -> None:
    with pytest.raises(LabError, match="absent is missing; the checkout is not complete"):
        _ = key(context.parent / "absent")


def test_every_image_has_a_base_that_exists_and_a_recipe() -> None:
    for image in images.catalogue().values():
        assert image.debootstrap or image.base in images.catalogue()
        assert image.debootstrap or (image.directory / "Dockerfile").is_file()


def test_every_archived_image_is_known_to_the_inventory() -> None:
    archived = {i.name for i in images.catalogue().values() if i.archive}
    named = {i.name for i in images.catalogue().values() if i.variable}
    assert archived == named


def test_no_image_can_be_pulled_by_mistake() -> None:
    assert images.PREFIX.startswith("localhost/")
