from __future__ import annotations

import os
import pathlib
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.modules import files

Run = t.Callable[..., dict[str, t.Any]]
OWN: dict[str, t.Any] = {"owner": str(os.getuid()), "group": str(os.getgid())}


def test_check_do_check_do(tmp_path: pathlib.Path, run_module: Run) -> None:
    (tmp_path / "old").write_text("x")
    args: dict[str, t.Any] = {
        "directories": [{"path": f"{tmp_path}/d", **OWN}],
        "files": [{"path": f"{tmp_path}/d/a", "content": "one\n", **OWN}],
        "absent": [f"{tmp_path}/old"],
    }
    results = [run_module(files.main, check=check, **args) for check in (True, False, True, False)]
    assert [result["changed"] for result in results] == [True, True, False, False]
    everything = [f"{tmp_path}/d", f"{tmp_path}/d/a", f"{tmp_path}/old"]
    assert results[0]["changed_files"] == results[1]["changed_files"] == everything
    assert results[0]["diff"] == results[1]["diff"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "d"]


def test_what_the_service_action_wants_to_know(
    tmp_path: pathlib.Path, run_module: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\nprintf 'redis\\tcache\\t1\\tr1\\n'\n")
    (tmp_path / "docker").chmod(0o755)
    (tmp_path / "jobs.json").write_text('{"users": "2"}')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    look = {"project": "stack", "record": f"{tmp_path}/jobs.json"}
    result = run_module(files.main, look=look)
    assert result["changed"] is False
    assert result["containers"] == {"redis": {"fragment": "cache", "digest": "1", "secrets": "r1"}}
    assert result["ran"] == {"users": "2"}
    assert "containers" not in run_module(files.main)


def test_a_failure_tells_what_was_done_before_it(tmp_path: pathlib.Path, run_module: Run) -> None:
    (tmp_path / "d").mkdir()
    result = run_module(
        files.main,
        files=[
            {"path": f"{tmp_path}/a", "content": "one", **OWN},
            {"path": f"{tmp_path}/d", "content": "two", **OWN},
        ],
    )
    assert result["failed"]
    assert result["msg"] == f"{tmp_path}/d: is there, but is a directory; move it away"
    assert result["changed_files"] == [f"{tmp_path}/a"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            {"files": [{"path": "/a"}]},
            "missing required arguments: content found in files",
        ),
        (
            {"directories": [{"path": "/a", "state": "x"}]},
            "Unsupported parameters for (test) module: directories.state. "
            "Supported parameters include: group, mode, owner, path.",
        ),
    ],
)
def test_bad_arguments_change_nothing(
    run_module: Run, args: dict[str, t.Any], message: str
) -> None:
    result = run_module(files.main, **args)
    assert result["failed"]
    assert message.partition("(test)")[0] in result["msg"]
