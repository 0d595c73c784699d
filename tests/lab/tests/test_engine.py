"""Starting and stopping the engine, with programs that stand in for docker and dockerd."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from vedfolnir_lab import engine, paths
from vedfolnir_lab.shell import LabError

# Named as the real one, because the lab stops a process only when it is a dockerd.
DOCKERD = """#!/bin/sh
echo {log} >&2
{body}
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    programs = tmp_path / "bin"
    programs.mkdir()
    write(programs / "docker", f"#!/bin/sh\ntest -e {tmp_path}/up\n")
    write(programs / "pgrep", "#!/bin/sh\nexit 0\n")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(paths, "STATE", tmp_path / ".lab")
    monkeypatch.setattr(paths, "VENV_BIN", programs)
    monkeypatch.setattr(engine, "LOG", tmp_path / ".lab" / "dockerd.log")
    monkeypatch.setattr(engine, "PID", tmp_path / ".lab" / "dockerd.pid")
    monkeypatch.setattr(engine, "SYSTEMD", tmp_path / "no-systemd")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def test_a_running_engine_is_used_and_never_stopped(machine: Path) -> None:
    (machine / "up").touch()
    engine.ensure()
    assert not engine.PID.exists()
    engine.stop()
    assert (machine / "up").exists()


def test_an_engine_is_started_and_exactly_that_one_is_stopped(machine: Path) -> None:
    body = f"touch {machine}/up; trap 'rm {machine}/up; exit 0' TERM; while :; do sleep 0.1; done"
    write(machine / "bin" / "dockerd", DOCKERD.format(log="hello", body=body))
    engine.ensure()
    pid = int(engine.PID.read_text())
    assert os.getsid(pid) == pid  # Ctrl-C in ./lab does not reach it
    engine.ensure()
    assert int(engine.PID.read_text()) == pid
    engine.stop()
    assert not (machine / "up").exists()
    assert not engine.PID.exists()


def test_an_engine_that_cannot_start_is_reported_with_its_log(machine: Path) -> None:
    write(machine / "bin" / "dockerd", DOCKERD.format(log="no overlay here", body="exit 1"))
    with pytest.raises(LabError, match=r"(?s)No Docker engine could be started.*no overlay here"):
        engine.ensure()


@pytest.mark.usefixtures("machine")
def test_a_process_that_is_no_dockerd_is_left_alone() -> None:
    paths.write(engine.PID, f"{os.getpid()}\n")
    engine.stop()
    assert subprocess.run(["kill", "-0", str(os.getpid())], check=False).returncode == 0
