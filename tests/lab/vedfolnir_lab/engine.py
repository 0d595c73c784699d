"""Make sure that a Docker engine answers, and stop the one that the lab started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from vedfolnir_lab import paths
from vedfolnir_lab.shell import LabError, logged, output, say, step, succeeds

LOG = paths.STATE / "dockerd.log"
SYSTEMD = Path("/run/systemd/system")
PID = paths.STATE / "dockerd.pid"
SECONDS_TO_START = 60


def answers() -> bool:
    """Say whether an engine can be used."""
    return succeeds(["docker", "info"])


def cgroup_version() -> str:
    """Return the control group version of the engine: "1" or "2"."""
    return output(["docker", "info", "--format", "{{.CgroupVersion}}"])


def ensure() -> None:
    """Use a running engine, or start one in the way that this machine allows."""
    if answers():
        return
    with step("Starting a Docker engine"):
        if SYSTEMD.is_dir():
            logged("engine", ["systemctl", "start", "docker"])
        else:
            _start_daemon()
        _wait()


def stop() -> None:
    """Stop the engine that the lab started, and no other."""
    pid = _own_pid()
    if pid is None:
        say("The engine was not started by the lab: left running")
        return
    with step(f"Stopping the engine (process {pid})"):
        os.kill(pid, signal.SIGTERM)
        for _ in range(SECONDS_TO_START * 5):
            if _own_pid() is None:
                break
            time.sleep(0.2)
        else:
            raise LabError(f"The engine (process {pid}) does not stop; see {LOG}.")
    PID.unlink(missing_ok=True)


def _start_daemon() -> None:
    paths.STATE.mkdir(parents=True, exist_ok=True)
    # After a crash its number may belong to another program by now; dockerd would not start then.
    if not succeeds(["pgrep", "--exact", "dockerd"]):
        Path("/var/run/docker.pid").unlink(missing_ok=True)
    with LOG.open("ab") as log:
        # A session of its own: Ctrl-C in ./lab must not end the engine.
        process = subprocess.Popen(
            ["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    paths.write(PID, f"{process.pid}\n")


def _own_pid() -> int | None:
    """Return the number of the engine that the lab started, while it lives."""
    try:
        pid = int(PID.read_text(encoding="utf-8"))
        # "number (name) state …": a process that has ended may still wait there for its parent.
        name, state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split()[1:3]
    except (OSError, ValueError):
        return None
    return pid if name == "(dockerd)" and state != "Z" else None


def _wait() -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while not answers():
        if time.monotonic() > deadline or (PID.exists() and _own_pid() is None):
            tail = LOG.read_text(encoding="utf-8").splitlines()[-15:] if LOG.exists() else []
            raise LabError(
                "No Docker engine could be started. The lab needs one that may create "
                "containers with systemd (root, cgroups, overlay file system, iptables). "
                f"Start one yourself and run ./lab again, or see {LOG}:\n" + "\n".join(tail)
            )
        time.sleep(0.5)
