"""The usual tools, with their own output when they find something."""

from __future__ import annotations

import json
import sys
import typing as t
from pathlib import Path

import gate_repo
import pytest


class Typed(t.NamedTuple):
    """What mypy checks together: programs with modules of the same name need a run of their own."""

    argv: tuple[str, ...]
    where: str = "."
    path: str = ""


_STANDINS = "tests/standins"
# The stand-in application is not here: it needs Flask and the like, pinned as its image has them,
# in an environment of its own. The part standins has that one and checks it (test_app_types.py).
TYPED = {
    "plugins": Typed(("-p", "ansible_collections.vedfolnir.stack.plugins")),
    "adapter": Typed(("-p", "vedfolnir_adapter")),
    "adapter tests": Typed(("tests/adapter",), path="tests/adapter"),
    "lab": Typed(("-p", "vedfolnir_lab")),
    "lab tests": Typed(("tests/lab/tests", "tests/lab/interface")),
    "gates": Typed(("tests/gates",)),
    "stack tests": Typed(("tests/stack", "tests/lab/bench.py")),
    "vault tests": Typed(("tests/vault",)),
    "backup tests": Typed(("tests/backup",)),
    "observability tests": Typed(("tests/observability",)),
    "unit tests": Typed(("tests/unit",)),
    "stand-ins": Typed(
        ("--config-file=mypy.ini", "tests", "fediverse", "logs"), _STANDINS, "tests"
    ),
    "stand-in for Grafana": Typed(("--config-file=../mypy.ini", "."), f"{_STANDINS}/grafana"),
    "stand-in for Ollama": Typed(("--config-file=../mypy.ini", "."), f"{_STANDINS}/ollama"),
}


def test_ruff_finds_nothing() -> None:
    gate_repo.must_pass("ruff", "check", "--output-format", "concise")


def test_ruff_would_format_nothing() -> None:
    gate_repo.must_pass("ruff", "format", "--check")


@pytest.mark.parametrize("what", TYPED)
def test_mypy_finds_nothing(what: str) -> None:
    argv, where, path = TYPED[what]
    gate_repo.must_pass("mypy", "--strict", *argv, cwd=gate_repo.ROOT / where, MYPYPATH=path)


def test_no_python_is_left_out() -> None:
    """Every directory of Python under tests/ is named above, the stand-in application excepted."""
    checked = {Path(typed.where) / arg for typed in TYPED.values() for arg in typed.argv}
    checked |= {Path("tests/lab/vedfolnir_lab"), Path(_STANDINS, "app")}
    wrong = [
        str(path)
        for path in gate_repo.matching("tests/**/*.py")
        if not {path, *path.parents} & checked
    ]
    assert wrong == []


def test_yamllint_finds_nothing() -> None:
    paths = gate_repo.matching("*.yml", "*.yaml", "**/*.yml", "**/*.yaml", ".*", "**/.*.yml")
    wanted = [str(p) for p in paths if p.suffix in (".yml", ".yaml") or p.name == ".yamllint"]
    gate_repo.must_pass("yamllint", "--strict", "--format", "parsable", *wanted)


def test_ansible_lint_finds_nothing() -> None:
    gate_repo.must_pass("ansible-lint", "--offline", "--nocolor", "-q", "--format", "pep8")


@pytest.mark.parametrize(
    "scenario", [path.parent.name for path in gate_repo.matching("molecule/*/molecule.yml")]
)
def test_molecule_reads_its_scenarios(scenario: str) -> None:
    """CI deploys by ./lab up; the scenarios are run by name and by hand."""
    gate_repo.must_pass("molecule", "syntax", "--scenario-name", scenario)


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


TEMPLATES = [path for path in shell_scripts() if path.suffix == ".j2"]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Render the scripts with the lab's values, by the play's own rules of precedence."""
    directory = tmp_path_factory.mktemp("rendered")
    # A role that is skipped still brings its defaults and vars into the play.
    roles = [{"role": f"vedfolnir.stack.{role}", "when": False} for role in gate_repo.roles()]
    template = {
        "src": f"{gate_repo.ROOT}/{{{{ item }}}}",
        "dest": f"{directory}/{{{{ item | basename }}}}",
        "mode": "0600",
    }
    task = {
        "name": "Render",
        "ansible.builtin.template": template,
        "loop": [str(path) for path in TEMPLATES],
    }
    play = {"hosts": "vedfolnir", "gather_facts": False, "roles": roles, "post_tasks": [task]}
    playbook = directory / "render.yml"
    playbook.write_text(json.dumps([play]))
    here = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "ansible_facts": {},
        "lab_state": str(directory),
    }
    argv = ("ansible-playbook", "--inventory", "inventories/lab", str(playbook))
    config = str(gate_repo.ROOT / "ansible.cfg")
    gate_repo.must_pass(*argv, "--extra-vars", json.dumps(here), ANSIBLE_CONFIG=config)
    return directory


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_shellcheck_finds_nothing_in_a_rendered_script(rendered: Path, template: Path) -> None:
    gate_repo.must_pass("shellcheck", str(rendered / template.name))
