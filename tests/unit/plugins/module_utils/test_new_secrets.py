from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import jobs, new_secrets

SERVICES: new_secrets.Services = {
    "app-1": {
        "org.vedfolnir.digest": "d",
        "org.vedfolnir.consumer": "app",
        "org.vedfolnir.new-secrets": "recreate",
    },
    "mysql": {
        "org.vedfolnir.digest": "d",
        "org.vedfolnir.consumer": "mysql",
        "org.vedfolnir.new-secrets": "nothing",
    },
    "redis": {
        "org.vedfolnir.digest": "d",
        "org.vedfolnir.consumer": "redis",
        "org.vedfolnir.new-secrets": '["redis-cli", "acl"]',
    },
    "users": {
        "org.vedfolnir.digest": "d",
        "org.vedfolnir.consumer": "users",
        "org.vedfolnir.new-secrets": "run",
    },
    "ollama": {"org.vedfolnir.digest": "d"},
}
REVISIONS = {"app": "a1", "mysql": "m1", "redis": "r1", "users": "u1"}
DOCKER = """#!/bin/sh
echo "$*" >> {log}
case "$*" in
  "compose ps --services"*) echo {running} ;;
  "ps --all"*) printf '{containers}' ;;
  "compose ps --quiet redis") echo c0ffee ;;
  "inspect "*) echo {started} ;;
esac
case "$*" in *{broken}*) echo "it did not work" >&2; exit 1 ;; esac
"""


@pytest.fixture
def project(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., t.Any]:
    """Return a project with a docker command that notes how it is called."""

    def make(
        running: str = "redis",
        containers: str = "",
        broken: str = "nothing",
        started: str = "2020-01-02T03:04:05.123456789Z",
    ) -> t.Any:
        docker = tmp_path / "docker"
        log = tmp_path / "log"
        docker.write_text(
            DOCKER.format(
                log=log, running=running, containers=containers, broken=broken, started=started
            )
        )
        docker.chmod(0o755)
        monkeypatch.setattr(jobs, "DOCKER", str(docker))
        log.write_text("")
        (tmp_path / "secrets" / "redis").mkdir(parents=True, exist_ok=True)
        (tmp_path / "secrets" / "redis" / "acl").touch()
        records = (f"{tmp_path}/read.json", f"{tmp_path}/jobs.json")
        return new_secrets.Project(str(tmp_path), "stack", *records, 60, f"{tmp_path}/secrets")

    return make


def calls(project: new_secrets.Project) -> list[str]:
    lines = pathlib.Path(project.src, "log").read_text(encoding="utf-8").splitlines()
    looks = ("compose ps", "ps ", "inspect ", "container rm")
    return [line for line in lines if not line.startswith(looks)]


def test_a_service_reads_its_secrets_once(project: t.Any) -> None:
    work = project()
    for check, wanted in ((True, ["redis"]), (False, ["redis"]), (True, []), (False, [])):
        assert new_secrets.read_again(work, SERVICES, REVISIONS, check) == wanted
    assert calls(work) == ["compose exec --no-TTY redis redis-cli acl"]
    assert new_secrets.read_again(work, SERVICES, REVISIONS | {"redis": "r2"}) == ["redis"]


def test_a_service_that_is_left_out_is_neither_asked_nor_forgotten(project: t.Any) -> None:
    work = project()
    jobs.remember(work.read_record, "redis", "r0")
    assert new_secrets.read_again(work, SERVICES, REVISIONS, without=["redis"]) == []
    assert jobs.read_record(work.read_record) == {"redis": "r0"}


def test_what_the_project_has_no_more_is_forgotten(project: t.Any) -> None:
    work = project()
    jobs.remember(work.read_record, "turned-off", "t1")
    new_secrets.read_again(work, SERVICES, REVISIONS, check=True)
    assert jobs.read_record(work.read_record) == {"turned-off": "t1"}
    new_secrets.read_again(work, SERVICES, REVISIONS)
    assert jobs.read_record(work.read_record) == {"redis": "r1"}


def test_what_does_not_run_reads_its_secrets_when_it_starts(project: t.Any) -> None:
    work = project(running="")
    assert new_secrets.read_again(work, SERVICES, REVISIONS) == []
    assert calls(work) == []
    assert new_secrets.read_again(project(), SERVICES, REVISIONS) == []


def test_what_was_started_after_its_files_were_written_has_read_them(project: t.Any) -> None:
    work = project(started="2099-01-02T03:04:05.123456789Z")
    assert new_secrets.read_again(work, SERVICES, REVISIONS) == []
    assert calls(work) == []
    assert new_secrets.read_again(project(), SERVICES, REVISIONS) == []


def test_a_service_that_cannot_read_is_asked_again_by_the_next_run(project: t.Any) -> None:
    with pytest.raises(new_secrets.ProjectError) as error:
        new_secrets.read_again(project(broken="exec"), SERVICES, REVISIONS)
    assert str(error.value) == (
        "redis could not read its new secrets: compose exec failed: it did not work"
    )
    assert new_secrets.read_again(project(), SERVICES, REVISIONS) == ["redis"]


def test_jobs_run_once_and_again_when_they_are_forgotten(project: t.Any) -> None:
    work = project()
    assert new_secrets.run_jobs(work, SERVICES, REVISIONS) == ["users"]
    assert new_secrets.run_jobs(work, SERVICES, REVISIONS) == []
    assert json.loads(pathlib.Path(work.jobs_record).read_text()) == {"users": "d.u1"}
    jobs.remember(work.jobs_record, "another", "1")
    new_secrets.forget(work, SERVICES)
    assert new_secrets.run_jobs(work, SERVICES, REVISIONS) == ["users"]
    assert jobs.read_record(work.jobs_record) == {"another": "1", "users": "d.u1"}


@pytest.mark.parametrize(
    ("containers", "late"),
    [
        ("app-1\\tf\\td\\ta1\\n", []),
        ("app-1\\tf\\td\\ta0\\n", ["app-1"]),
        ("app-1\\tf\\told\\ta1\\n", []),
        ("", ["app-1"]),
    ],
)
def test_what_was_started_with_other_secrets_is_made_anew(
    project: t.Any, containers: str, late: list[str]
) -> None:
    work, said = project(containers=containers), list[str]()
    assert new_secrets.replace(work, SERVICES, REVISIONS, said.append) == late
    assert said == [f"replace {name}" for name in late]
    wanted = "compose up --detach --no-build --wait --wait-timeout 60"
    assert calls(work) == [f"{wanted} {name}" for name in late]


def test_revisions_take_the_place_of_those_before() -> None:
    text = "# first\nCOMPOSE_FILE=x\nVEDFOLNIR_SECRETS_OLD=1\nVEDFOLNIR_SECRETS_APP=a0\n"
    found = new_secrets.with_revisions(text, {"app-admin": "b", "app": "a1"})
    assert found == (
        "# first\nCOMPOSE_FILE=x\nVEDFOLNIR_SECRETS_APP=a1\nVEDFOLNIR_SECRETS_APP_ADMIN=b\n"
    )
    assert new_secrets.with_revisions(found, {"app": "a1", "app-admin": "b"}) == found


def test_what_a_killed_run_has_not_told_is_late(project: t.Any) -> None:
    present = "app-1\\tf\\td\\ta1\\n"
    assert new_secrets.late(project(), SERVICES, REVISIONS) == []  # somebody took it down
    work = project(containers=present)
    assert new_secrets.late(work, SERVICES, REVISIONS) == ["redis", "users"]
    new_secrets.read_again(work, SERVICES, REVISIONS)
    new_secrets.run_jobs(work, SERVICES, REVISIONS)
    assert new_secrets.late(work, SERVICES, REVISIONS) == []
    assert new_secrets.late(work, SERVICES, REVISIONS | {"app": "a2"}) == ["app-1"]
    assert calls(work) == ["compose exec --no-TTY redis redis-cli acl", *calls(work)[1:]]
