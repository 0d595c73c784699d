"""The collection can be built, installed elsewhere and read there."""

from __future__ import annotations

import importlib.util
import json
import re
import tarfile
import typing as t
from pathlib import Path

import gate_repo
import pytest

GALAXY = gate_repo.load(Path("galaxy.yml"))
_VERSION = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?")
_NOT_SHIPPED = (".venv", ".lab", ".git", ".collections", ".ansible", "__pycache__")


def everything() -> list[tuple[str, str]]:
    """Return the kind and name of every role and plugin that must have documentation."""
    found = [("role", role) for role in gate_repo.roles()]
    for directory, kind in (("modules", "module"), ("filter", "filter"), ("test", "test")):
        names = {path.stem for path in gate_repo.matching(f"plugins/{directory}/*.yml")}
        for path in gate_repo.matching(f"plugins/{directory}/*.py"):
            # A file of several filters has a page per filter beside it.
            if "DOCUMENTATION = " in (gate_repo.text(path) or ""):
                names.add(path.stem)
        found += [(kind, name) for name in sorted(names)]
    return found


EVERYTHING = everything()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the built collection."""
    directory = tmp_path_factory.mktemp("build")
    source = gate_repo.copy_to(directory)
    # What a working copy has lying about must not get into the archive.
    for name in _NOT_SHIPPED:
        (source / name).mkdir(exist_ok=True)
        (source / name / "left.over").write_text("x")
    argv = ("ansible-galaxy", "collection", "build", str(source), "--output-path", str(directory))
    gate_repo.must_pass(*argv, cwd=directory)
    return directory / f"vedfolnir-stack-{GALAXY['version']}.tar.gz"


@pytest.fixture(scope="module")
def installed(archive: Path) -> Path:
    """Return a directory in which only this collection is installed."""
    directory = archive.parent / "installed"
    argv = ["ansible-galaxy", "collection", "install", str(archive), "-p", str(directory)]
    gate_repo.must_pass(*argv, "--no-deps", "--offline", cwd=archive.parent)
    return directory


@pytest.fixture(scope="module")
def documented(installed: Path) -> dict[str, dict[str, t.Any]]:
    """Return what ansible-doc knows, by kind and name."""
    where = {"ANSIBLE_COLLECTIONS_PATH": str(installed), "ANSIBLE_DEPRECATION_WARNINGS": "0"}
    found = {}
    for kind in sorted({kind for kind, _name in EVERYTHING}):
        names = [f"vedfolnir.stack.{name}" for of, name in EVERYTHING if of == kind]
        argv = ("ansible-doc", "--json", "-t", kind, *names)
        said = gate_repo.must_pass(*argv, cwd=installed, **where)
        found[kind] = json.loads(said[said.index("{\n") :])
    return found


def test_the_archive_holds_what_it_must_and_no_more(archive: Path) -> None:
    with tarfile.open(archive) as tar:
        names = set(tar.getnames())
    assert {"MANIFEST.json", "README.md", "LICENSE", "meta/runtime.yml"} - names == set()
    assert [name for name in names if set(name.split("/")) & set(_NOT_SHIPPED)] == []


@pytest.mark.parametrize(("kind", "name"), EVERYTHING)
def test_it_documents_itself(documented: dict[str, dict[str, t.Any]], kind: str, name: str) -> None:
    found = documented[kind][f"vedfolnir.stack.{name}"]
    assert "main" in found["entry_points"] if kind == "role" else found["doc"]["short_description"]


@pytest.mark.parametrize("playbook", [p.stem for p in gate_repo.matching("playbooks/*.yml")])
def test_a_playbook_is_found_by_its_name(installed: Path, playbook: str) -> None:
    name = f"vedfolnir.stack.{playbook}"
    where = {"ANSIBLE_COLLECTIONS_PATH": str(installed)}
    argv = ("ansible-playbook", "-i", "host,", "--syntax-check", name)
    gate_repo.must_pass(*argv, cwd=installed, **where)


def test_the_metadata_is_complete() -> None:
    wanted = ("namespace", "name", "version", "readme", "authors", "description", "license", "tags")
    assert [key for key in wanted if not GALAXY.get(key)] == []
    assert (GALAXY["namespace"], GALAXY["name"]) == ("vedfolnir", "stack")
    assert _VERSION.fullmatch(GALAXY["version"])
    runtime = gate_repo.load(Path("meta/runtime.yml"))
    assert runtime["requires_ansible"] == ">=2.16.0,<2.20.0"


def test_both_ways_to_install_bring_the_same_releases() -> None:
    spec = importlib.util.find_spec("ansible_collections")
    assert spec
    assert spec.submodule_search_locations
    where = [Path(path) for path in spec.submodule_search_locations]
    wrong = []
    for row in gate_repo.load(Path("requirements.yml"))["collections"]:
        manifests = [base.joinpath(*row["name"].split("."), "MANIFEST.json") for base in where]
        manifest = next(path for path in manifests if path.is_file())
        brought = json.loads(manifest.read_text())["collection_info"]["version"]
        if row["version"] != brought:
            wrong.append(f"{row['name']}: requirements.yml {row['version']}, ansible {brought}")
    assert wrong == []


def test_what_the_code_uses_is_required() -> None:
    text = "\n".join(
        gate_repo.text(path) or ""
        for path in gate_repo.files()
        if path.parts[0] in ("roles", "playbooks", "plugins")
    )
    used = set(
        re.findall(r"(?<!from )(?<!import )\b((?:community|ansible)\.[a-z_]+)\.[a-z_0-9]+\b", text)
    )
    used -= {"ansible.builtin", "ansible.cfg", "ansible.module_utils", "ansible.plugins"}
    used = {name for name in used if importlib.util.find_spec(f"ansible_collections.{name}")}
    required = {row["name"] for row in gate_repo.load(Path("requirements.yml"))["collections"]}
    assert used - required == set()
    assert required == set(GALAXY["dependencies"])


def test_every_fragment_uses_known_sections() -> None:
    config = gate_repo.load(Path("changelogs/config.yaml"))
    known = {name for name, _title in config["sections"]}
    known |= {config["prelude_section_name"], config["trivial_section_name"]}
    wrong = {
        f"{path}: {section}"
        for path in gate_repo.matching("changelogs/fragments/*.yml")
        for section, entries in gate_repo.load(path).items()
        if section not in known or not entries
    }
    assert wrong == set()
