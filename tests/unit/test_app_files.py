"""What the collection ships for the application's image goes together."""

from __future__ import annotations

import ast
import pathlib
import sys
import typing as t

import pytest
import yaml
from ansible_collections.vedfolnir.stack.plugins.filter.filter_requirements import (
    filter_requirements,
)
from ansible_collections.vedfolnir.stack.plugins.plugin_utils.requirement_lines import parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = ROOT / "files/app"
ADAPTER = (FILES / "requirements-adapter.txt").read_text("utf-8")
TRACES = (FILES / "requirements-traces.txt").read_text("utf-8")
OPTIONAL = {"flask_wtf", "wtforms"}
"""Imported by the adapter only after the application has imported them."""


def _report(main: pathlib.Path, more: str = "") -> dict[str, t.Any]:
    """Apply the shipped files as the role does."""
    return filter_requirements(
        main.read_text("utf-8"),
        yaml.safe_load((FILES / "dependency_rules.yml").read_text("utf-8")),
        constraints_text=(FILES / "constraints.txt").read_text("utf-8"),
        path=str(main),
        needed=ADAPTER + more,
    )


def _names(text: str) -> set[str]:
    return {line.name for line in parse(text) if line.name}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-production.txt"])
def test_the_stand_ins_requirements_as_upstream_splits_them(name: str) -> None:
    """No rule is idle, none takes what the adapter needs, and every package is pinned."""
    report = _report(ROOT / "tests/standins/app" / name)
    assert report["unused_rules"] == ["hvac"]
    assert report["unpinned"] == []
    assert {"torch", "transformers"} <= {entry["name"] for entry in report["dropped"]}
    names = _names(report["requirements"])
    assert {"requests", "bleach", "eventlet"} | _names(ADAPTER) <= names
    assert "torch" not in names


def test_an_application_that_names_nothing_gets_what_the_adapter_needs(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / "requirements.txt").write_text("")
    assert _names(_report(tmp_path / "requirements.txt")["requirements"]) >= _names(ADAPTER)


def _imported(paths: t.Iterable[pathlib.Path]) -> set[str]:
    """Return the packages that modules import, the application's own modules aside."""
    application = {path.stem for path in (ROOT / "tests/standins/app").iterdir()}
    own = {*sys.stdlib_module_names, *application, *OPTIONAL, "vedfolnir_adapter"}
    imported: set[str] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")
    packages = {module.partition(".")[0] for module in imported} - own
    return {package.replace("_", "-") for package in packages}


def test_the_adapters_requirements_are_what_it_imports() -> None:
    tracing = FILES / "vedfolnir_adapter/otel.py"
    others = set((FILES / "vedfolnir_adapter").glob("*.py")) - {tracing}
    assert _imported(others) == _names(ADAPTER)
    # Distributions of OpenTelemetry share one package.
    wanted = {name.partition("-")[0] for name in _names(TRACES)}
    assert _imported([tracing]) - _names(ADAPTER) == wanted


def test_what_traces_need_is_pinned_and_only_there_if_it_is_asked_for() -> None:
    report = _report(ROOT / "tests/standins/app/requirements.txt", TRACES)
    assert report["unpinned"] == []
    assert _names(TRACES) <= _names(report["requirements"])
    plain = _report(ROOT / "tests/standins/app/requirements.txt")
    assert not [name for name in _names(plain["requirements"]) if "opentelemetry" in name]


def _run_instructions() -> list[str]:
    """Return the RUN instructions of the Dockerfile, each as one line."""
    lines = (FILES / "Dockerfile").read_text("utf-8").replace("\\\n", "").splitlines()
    return [line for line in lines if line.startswith("RUN ")]


@pytest.mark.parametrize(
    ("download", "mount", "use"),
    [
        ("pip install", "id=ca,required=false", "PIP_CERT=/run/secrets/ca"),
        # apt downloads as a user of its own.
        ("apt-get", "id=ca,required=false,mode=0444", "Acquire::https::CAInfo=/run/secrets/ca"),
    ],
)
def test_every_download_of_the_build_may_trust_the_hosts_authorities(
    download: str, mount: str, use: str
) -> None:
    downloads = [line for line in _run_instructions() if download in line]
    assert downloads
    for line in downloads:
        assert f"--mount=type=secret,{mount} " in line, line
        assert use in line, line
