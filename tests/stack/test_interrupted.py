"""A run that is killed at any task leaves a host on which the next run converges.

A part of its own, ``./lab test chaos``, kills at many tasks (VEDFOLNIR_KILL_POINTS).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import typing as t

import pytest
from lab import ROOT, Lab, ansible_environment

POINTS = int(os.environ.get("VEDFOLNIR_KILL_POINTS", "2"))
HEADER = re.compile(r"^TASK \[(?P<name>.+?)\] \*+$")
BEFORE_CONVERGING = "vedfolnir.stack.stack : Name the fragments of the project"
SKIPPED = re.compile(r"Validating arguments against arg spec")


def take_apart(lab: Lab) -> None:
    """Remove the deployment but not the data, so that every task of the next run has work to do."""
    lab.playbook("playbooks/uninstall.yml", variables={"uninstall_confirm": lab.name}).check()


def tasks_that_run(lab: Lab) -> list[str]:
    """Return the names of the tasks that a run carries out, in order."""
    output = lab.playbook("site.yml").check().output
    names: list[str] = []
    current = ""
    for line in output.splitlines():
        if match := HEADER.match(line):
            current = match["name"]
        elif line.startswith(("ok:", "changed:")) and current and not SKIPPED.search(current):
            names.append(current)
            current = ""
    return names


def run_and_kill(lab: Lab, task: str, variables: dict[str, t.Any] | None = None) -> bool:
    """Start a run, kill it and its children while it is at a task; return whether it got there."""
    with subprocess.Popen(
        lab.playbook_argv("site.yml", variables=variables),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        env=ansible_environment(),
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            match = HEADER.match(line.rstrip())
            if match and match["name"] == task:
                time.sleep(0.4)
                os.killpg(process.pid, signal.SIGKILL)
                return True
    return False


def test_a_killed_run_converges_the_next_time(healthy: Lab) -> None:
    """At tasks spread over the play; a run with nothing to do names them."""
    names = tasks_that_run(healthy)
    count = min(POINTS, len(names))
    chosen = [names[int((index + 0.5) / count * len(names))] for index in range(count)]
    for task in dict.fromkeys(chosen):
        take_apart(healthy)
        assert run_and_kill(healthy, task), f"the run ended before the task {task!r}"
        run = healthy.playbook("site.yml")
        if run.status != 0:
            pytest.fail(f"killed at {task!r}, the next run failed:\n{run.output[-4000:]}")
        assert healthy.unhealthy() == [], f"killed at {task!r}, not all services are healthy"
        print(f"killed at {task!r}: converged")
    assert healthy.playbook("site.yml").check().recap["changed"] == 0


def test_after_a_kill_the_next_run_replaces_what_the_files_say(healthy: Lab) -> None:
    """Killed between the fragments and the containers: one is replaced, its dependants are not."""
    variables = {"redis_maxmemory_percent": 50}
    before = healthy.started()
    assert run_and_kill(healthy, BEFORE_CONVERGING, variables)
    assert healthy.started() == before
    run = healthy.playbook("site.yml", variables=variables).check()
    after = healthy.started()
    assert {name for name in after if before.get(name) != after[name]} == {"redis"}
    assert re.search(r"^ +redis: recreate$", run.output.replace('"', ""), re.MULTILINE)
    healthy.playbook("site.yml").check()


def test_a_service_that_cannot_start_is_mended_by_the_next_run(healthy: Lab) -> None:
    """The lab has no graphics card, so a reserved one keeps the container from starting."""
    run = healthy.playbook("site.yml", variables={"ollama_gpus": 1})
    assert run.status != 0
    assert "gpu" in run.output.lower()
    healthy.playbook("site.yml").check()
    assert healthy.unhealthy() == []
