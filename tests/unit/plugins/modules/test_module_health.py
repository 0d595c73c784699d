from __future__ import annotations

import json
import os
import pathlib
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.modules import health

Run = t.Callable[..., dict[str, t.Any]]
Project = t.Callable[..., dict[str, t.Any]]

# Answers as Compose 2.26 does; the second look finds what stands in the file "second".
DOCKER = """#!/bin/sh
case "$*" in
  "compose config --services") cat "$PWD/services" ;;
  "compose ps --all --format json")
    cat "$PWD/ps"
    if [ -e "$PWD/second" ]; then mv "$PWD/second" "$PWD/ps"; fi ;;
  *) echo "unexpected: $*" >&2; exit 9 ;;
esac
"""


@pytest.fixture
def project(tmp_path: pathlib.Path, run_module: Run, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Call the module on a project whose docker command answers what a test says."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text(DOCKER)
    (tmp_path / "bin" / "docker").chmod(0o755)
    (tmp_path / "compose.yml").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=os.pathsep)
    monkeypatch.setattr(health, "_PAUSE", 0)

    def run(services: str, *states: str, **args: t.Any) -> dict[str, t.Any]:
        (tmp_path / "services").write_text(services)
        for name, state in zip(("ps", "second"), states, strict=False):
            container = {"Service": "redis", "State": "running", "Health": state}
            (tmp_path / name).write_text(json.dumps(container))
        return run_module(health.main, project_src=str(tmp_path), **args)

    return run


@pytest.mark.parametrize("check", [False, True])
def test_a_healthy_project(project: Project, check: bool) -> None:
    result = project("redis\n", "healthy", check=check)
    assert result["changed"] is False
    assert result["report"] == {
        "healthy": True,
        "problems": [],
        "services": {
            "redis": {"state": "running", "health": "healthy", "exit_code": 0, "ok": True}
        },
        "inside": {},
        "site": {},
    }


def test_a_service_that_is_missing_is_reported_without_failing(project: Project) -> None:
    result = project("redis\nmysql\n", "healthy")
    assert not result.get("failed")
    assert result["report"]["healthy"] is False
    assert result["report"]["problems"] == ["mysql is missing"]


def test_it_looks_again_while_there_is_time(project: Project) -> None:
    assert project("redis\n", "starting", "healthy", wait_seconds=20)["report"]["healthy"] is True
    assert project("redis\n", "starting", "healthy")["report"]["healthy"] is False


def test_a_site_without_a_published_port_is_a_problem(project: Project) -> None:
    site = {"name": "site.test", "path": "/", "service": "nginx", "port": 8443}
    problems = project("redis\n", "healthy", site=site)["report"]["problems"]
    assert problems == ["https://site.test:0/ cannot be asked, because no port is published"]


def test_a_project_that_was_never_deployed(project: Project, tmp_path: pathlib.Path) -> None:
    (tmp_path / "compose.yml").unlink()
    result = project("redis\n", "healthy")
    assert result["failed"]
    assert result["msg"] == f"There is no project in {tmp_path}. Deploy it with site.yml."


def test_a_project_that_compose_cannot_read(project: Project, tmp_path: pathlib.Path) -> None:
    (tmp_path / "bin" / "docker").write_text("#!/bin/sh\necho 'yaml: line 3' >&2\nexit 15\n")
    result = project("redis\n", "healthy")
    assert result["failed"]
    assert result["msg"] == f"docker compose config failed in {tmp_path}: yaml: line 3"
