from __future__ import annotations

import datetime
import json
import os
import pathlib
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import engine, health, watch

NOW = datetime.datetime(2026, 11, 30, 2, 0, tzinfo=datetime.UTC)
# As engine 26.1 says it.
DETAILS: dict[str, t.Any] = {
    "RestartCount": 3,
    "State": {
        "Running": True,
        "Pid": 42,
        "StartedAt": "2026-11-30T01:00:00.123456789Z",
        "Health": {"Status": "healthy"},
    },
    "HostConfig": {"Memory": 1000, "NanoCpus": 1500000000, "PidsLimit": 100},
}
STATS: dict[str, t.Any] = {
    "memory_stats": {"usage": 700, "stats": {"inactive_file": 200}},
    "cpu_stats": {"cpu_usage": {"total_usage": 2500000000}},
    "pids_stats": {"current": 7},
}
REPORT: dict[str, t.Any] = {
    "healthy": False,
    "problems": ["redis is missing"],
    "services": {"app-1": {"ok": True}, "redis": {"ok": False}},
    "site": {"status": 200, "ok": True, "url": "https://site.test:443/"},
}


def test_the_figures_of_a_container() -> None:
    assert watch.figures(DETAILS, STATS, 2) == {
        "running": 1,
        "healthy": 1,
        "restarts_total": 3,
        "started_seconds": NOW.timestamp() - 3600,
        "memory_bytes": 500,
        "memory_limit_bytes": 1000,
        "cpu_limit": 1.5,
        "cpu_seconds_total": 2.5,
        "process_limit": 100,
        "processes": 7,
        "out_of_memory_total": 2,
    }


@pytest.mark.parametrize(
    ("change", "name", "value"),
    [
        ({"State": {"Running": False, "StartedAt": "0001-01-01T00:00:00Z"}}, "running", 0),
        ({"State": {"Running": False, "StartedAt": "0001-01-01T00:00:00Z"}}, "started_seconds", 0),
        ({"State": {"Running": True, "Health": {"Status": "unhealthy"}}}, "healthy", 0),
        ({"State": {"Running": False, "Health": {"Status": "healthy"}}}, "healthy", 0),
        ({"State": {"Running": True}}, "healthy", None),
        ({"HostConfig": {"PidsLimit": None}}, "process_limit", 0),
        ({"HostConfig": {"PidsLimit": -1}}, "process_limit", 0),
        ({"HostConfig": {}}, "memory_limit_bytes", 0),
        ({"HostConfig": {}}, "cpu_limit", 0),
    ],
)
def test_what_may_be_left_out(change: dict[str, t.Any], name: str, value: float | None) -> None:
    assert watch.figures({**DETAILS, **change}, {}, 0).get(name) == value


def test_version_1_of_the_control_groups_has_another_name_for_the_cache() -> None:
    memory = {"usage": 700, "stats": {"inactive_file": 1, "total_inactive_file": 300}}
    found = watch.figures(DETAILS, STATS | {"memory_stats": memory}, 0)
    assert found["memory_bytes"] == 400


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("0::/system.slice/a.scope", "system.slice/a.scope/memory.events"),
        ("7:memory:/docker/a", "memory/docker/a/memory.oom_control"),
    ],
)
def test_what_the_kernel_has_ended_is_counted(tmp_path: pathlib.Path, line: str, file: str) -> None:
    (tmp_path / "proc/42").mkdir(parents=True)
    (tmp_path / "proc/42/cgroup").write_text(f"3:cpu:/x\n{line}\n")
    path = tmp_path / "groups" / file
    path.parent.mkdir(parents=True)
    path.write_text("oom 5\noom_kill 2\n")
    roots = str(tmp_path / "groups"), str(tmp_path / "proc")
    assert watch.oom_kills(42, *roots) == 2
    assert watch.oom_kills(43, *roots) == 0
    path.unlink()
    assert watch.oom_kills(42, *roots) == 0


def test_the_metrics_have_the_form_of_the_collector() -> None:
    containers = {"b": {"running": 1.0}, "a": {"running": 0.0, "memory_bytes": 1234567890123.0}}
    lines = watch.metrics(containers, REPORT, NOW).splitlines()
    assert [line for line in lines if line.startswith("vedfolnir_")] == [
        'vedfolnir_container_running{name="a"} 0',
        'vedfolnir_container_running{name="b"} 1',
        'vedfolnir_container_memory_bytes{name="a"} 1234567890123',
        "vedfolnir_problems 1",
        f"vedfolnir_watched_seconds {NOW.timestamp():.0f}",
    ]
    named = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert {f"vedfolnir_container_{name}" for name in watch.METRICS} < named


def test_outside_is_told_names_and_no_more() -> None:
    assert watch.status(REPORT, NOW) == {
        "healthy": False,
        "time": "2026-11-30T02:00:00+00:00",
        "site": {"status": 200, "ok": True},
        "services": {"app-1": True, "redis": False},
    }


@pytest.fixture
def settings(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Settings whose files are in a directory of the test."""
    monkeypatch.setattr(os, "chown", lambda *_arguments: None)
    monkeypatch.setattr(os, "fchown", lambda *_arguments: None)
    content = {
        "project_src": str(tmp_path),
        "project_name": "vedfolnir",
        "site": {},
        "inside": [],
        "status": str(tmp_path / "status.json"),
        "metrics": str(tmp_path / "containers.prom"),
    }
    (tmp_path / "watch.json").write_text(json.dumps(content))
    return tmp_path


def test_one_look_writes_both_files(
    settings: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "look", lambda *_arguments: REPORT)
    listed = [
        {"Id": name, "Labels": {engine.SERVICE: name}} for name in ("app-1", "gone", "agent-app")
    ]
    services = REPORT["services"] | {"gone": {"ok": True}}
    monkeypatch.setattr(health, "look", lambda *_arguments: REPORT | {"services": services})
    monkeypatch.setattr(engine, "containers", lambda _project: listed)

    def get(path: str, **_query: str) -> t.Any:
        if "gone" in path:
            raise engine.EngineError("there is none")
        return STATS if path.endswith("/stats") else DETAILS

    monkeypatch.setattr(engine, "get", get)
    assert watch.main([str(settings / "watch.json")]) == 0
    assert json.loads((settings / "status.json").read_text())["services"]["app-1"] is True
    lines = (settings / "containers.prom").read_text().splitlines()
    assert [line for line in lines if line.startswith("vedfolnir_container_running")] == [
        'vedfolnir_container_running{name="app-1"} 1'
    ]


def test_an_engine_that_does_not_answer_is_no_health(
    settings: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "DOCKER", "/no/such/program")
    assert watch.main([str(settings / "watch.json")]) == 0
    assert json.loads((settings / "status.json").read_text())["healthy"] is False
    assert "vedfolnir_problems 1" in (settings / "containers.prom").read_text()
