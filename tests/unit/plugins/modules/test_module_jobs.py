from __future__ import annotations

import json
import os
import pathlib
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.modules import jobs

Run = t.Callable[..., dict[str, t.Any]]

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="the record belongs to root")

DOCKER = """#!/bin/sh
echo "$PWD: $*" >> "$LOG"
[ "$1" = compose ] || exit 1
eval "last=\\${$#}"
case $last in
  bad) echo "no such table"; exit 3 ;;
  slow) echo "waiting"; exec sleep 60 ;;
esac
echo "$last done"
"""


@pytest.fixture
def call(
    tmp_path: pathlib.Path, run_module: Run, monkeypatch: pytest.MonkeyPatch
) -> t.Callable[..., dict[str, t.Any]]:
    """Call the module with a docker command that writes down how it is called."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "project").mkdir()
    (tmp_path / "bin" / "docker").write_text(DOCKER)
    (tmp_path / "bin" / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=os.pathsep)
    monkeypatch.setenv("LOG", f"{tmp_path}/log")

    def run(
        *names: str, digest: str = "1", check: bool = False, timeout: int = 20
    ) -> dict[str, t.Any]:
        return run_module(
            jobs.main,
            check=check,
            project_src=f"{tmp_path}/project",
            project_name="stack",
            record=f"{tmp_path}/state/jobs.json",
            timeout=timeout,
            jobs=[{"name": name, "digest": digest} for name in names],
        )

    return run


Call = t.Callable[..., dict[str, t.Any]]


def test_check_do_check_do(tmp_path: pathlib.Path, call: Call) -> None:
    results = [call("a", "b", check=check) for check in (True, False, True, False)]
    assert [(result["changed"], result["ran"]) for result in results] == [
        (True, ["a", "b"]),
        (True, ["a", "b"]),
        (False, []),
        (False, []),
    ]
    assert results[1]["output"] == {"a": "a done", "b": "b done"}
    calls = [line.partition(": ")[2] for line in (tmp_path / "log").read_text().splitlines()]
    options = "run --rm --no-TTY --quiet-pull --name"
    assert calls == [
        call
        for name in "ab"
        for call in (
            f"container rm --force stack-job-{name}",
            f"compose {options} stack-job-{name} {name}",
        )
    ]
    assert call("a", "b", digest="2")["ran"] == ["a", "b"]


def test_a_failed_job_is_quoted_and_the_next_run_starts_with_it(
    tmp_path: pathlib.Path, call: Call
) -> None:
    result = call("a", "bad", "b")
    assert result["msg"] == "The job bad failed with exit status 3:\nno such table"
    assert json.loads((tmp_path / "state" / "jobs.json").read_text()) == {"a": "1"}
    assert call("a", "bad", "b", check=True)["ran"] == ["bad", "b"]


def test_a_job_has_its_time(call: Call) -> None:
    result = call("slow", timeout=1)
    assert result["failed"]
    assert result["msg"] == "The job slow did not end within 1 s:\nwaiting"
    assert call("slow", check=True)["ran"] == ["slow"]
