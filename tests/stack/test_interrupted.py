"""A run that is killed at any task leaves a host on which the next run converges.

A part of its own, ``./lab test chaos``, kills at many tasks (VEDFOLNIR_KILL_POINTS).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
import typing as t

import pytest
from lab import ROOT, Lab, Run, ansible_environment

POINTS = int(os.environ.get("VEDFOLNIR_KILL_POINTS", "2"))
ROUNDS = [(POINTS, False), *([(POINTS // 4, True)] if POINTS >= 20 else [])]
"""At how many tasks; whether Docker, the firewall and the packages are taken away too."""
HEADER = re.compile(r"^(?:TASK|RUNNING HANDLER) \[(?P<name>.+?)\] \*+$")
FIRST = "vedfolnir.stack.stack : Write the directory tree, the base of the project and its units"
BEFORE_CONVERGING = "vedfolnir.stack.stack : Name the fragments of the project"
MENDING = "vedfolnir.stack.docker_host : Finish an installation that was interrupted"
LABEL = "org.vedfolnir.digest"
SKIPPED = re.compile(r"Validating arguments against arg spec")
DIRECTORIES = ("/etc", "/srv/vedfolnir", "/usr/local")
PASSING = re.compile(r"/__pycache__(?:/|$)|^/etc/(?:passwd|group|shadow|gshadow|subuid|subgid)-?$")
"""What Python makes by itself, and files in which a user that is made again has another line."""
DIE_INSIDE_DPKG = """
for attempt in $(seq 3000); do
  ls /var/lib/dpkg/updates/* >/dev/null 2>&1 && pgrep -x dpkg >/dev/null && break
  sleep 0.05
done
kill -KILL $(pgrep -x 'apt-get|dpkg')
ls /var/lib/dpkg/updates/*
"""


def take_apart(lab: Lab, host: bool = False) -> None:
    """Remove the deployment but not the data, so that every task of the next run has work to do."""
    gone = {"uninstall_host": True, "docker_host_absent_packages_enabled": True} if host else {}
    variables = {"uninstall_confirm": lab.name, **gone}
    lab.playbook("playbooks/uninstall.yml", variables=variables).check()


def deployment(lab: Lab) -> dict[str, str]:
    """Return what a deployment consists of: files by path, services with image and definition."""
    files = lab.files(*DIRECTORIES)
    kept = {path: what for path, what in files.items() if not PASSING.search(path)}
    return kept | {
        name: f"{item['Config']['Image']} {item['Config']['Labels'][LABEL]}"
        for name, item in lab.inspect().items()
    }


@contextlib.contextmanager
def running(lab: Lab, variables: dict[str, t.Any] | None = None) -> t.Iterator[t.IO[str]]:
    """Start a run and give its output; at the end of the block it is killed with its children."""
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
        try:
            yield process.stdout
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def run_and_kill(lab: Lab, task: str, variables: dict[str, t.Any] | None = None) -> None:
    """Start a run and kill it while it is at a task."""
    with running(lab, variables) as output:
        for line in output:
            match = HEADER.match(line.rstrip())
            if match and match["name"] == task:
                time.sleep(0.4)
                return
    pytest.fail(f"the run ended before the task {task!r}")


def converge(lab: Lab, what: str, wanted: dict[str, str]) -> Run:
    """Run again; the same deployment as before everything must come out, and be healthy."""
    run = lab.playbook("site.yml")
    if run.status != 0:
        pytest.fail(f"{what}, the next run failed:\n{run.output[-4000:]}")
    assert lab.unhealthy() == [], f"{what}, not all services are healthy"
    found = deployment(lab)
    differing = [name for name in {*found, *wanted} if found.get(name) != wanted.get(name)]
    assert differing == [], f"{what}, these are not what they were"
    print(f"{what}: converged")
    return run


@pytest.mark.parametrize(("points", "host"), ROUNDS)
def test_a_killed_run_converges_the_next_time(healthy: Lab, points: int, host: bool) -> None:
    """At so many tasks, all different and spread over the play.

    The first kill comes before anything was done, so that the run after it has all the work and
    names the other tasks. What is taken away of the host is that of one role; only its tasks that
    change something are of interest then.
    """
    wanted = deployment(healthy)
    take_apart(healthy, host)
    run_and_kill(healthy, FIRST)
    run = converge(healthy, f"killed at {FIRST!r}", wanted)
    names = run.did("changed") if host else run.did("ok", "changed")
    names = [name for name in dict.fromkeys(names) if not SKIPPED.search(name) and name != FIRST]
    if host:
        names = [name for name in names if ".docker_host : " in name]
    more = points - 1
    chosen = [names[int((index + 0.5) / more * len(names))] for index in range(more)]
    assert len({FIRST, *chosen}) == points
    for task in chosen:
        take_apart(healthy, host)
        run_and_kill(healthy, task)
        converge(healthy, f"killed at {task!r}", wanted)
    assert healthy.playbook("site.yml").check().recap["changed"] == 0


@pytest.mark.skipif(POINTS < 20, reason="belongs to ./lab test chaos")
def test_a_host_that_dies_inside_dpkg_is_mended_by_the_next_run(healthy: Lab) -> None:
    """The run and what it started on the host are killed while packages are being unpacked."""
    wanted = deployment(healthy)
    take_apart(healthy, host=True)
    with running(healthy):
        healthy.run(DIE_INSIDE_DPKG)
    assert MENDING in converge(healthy, "killed inside dpkg", wanted).did("changed")


def test_after_a_kill_the_next_run_replaces_what_the_files_say(healthy: Lab) -> None:
    """Killed between the fragments and the containers: one is replaced, its dependants are not."""
    variables = {"redis_maxmemory_percent": 50}
    before = healthy.started()
    run_and_kill(healthy, BEFORE_CONVERGING, variables)
    assert healthy.started() == before
    run = healthy.playbook("site.yml", variables=variables).check()
    after = healthy.started()
    assert {name for name in after if before.get(name) != after[name]} == {"redis"}
    assert run.plan == {"redis": "recreate"}
    healthy.playbook("site.yml").check()


def test_a_service_that_cannot_start_is_mended_by_the_next_run(healthy: Lab) -> None:
    """A directive that Redis does not know; no preflight knows them all."""
    run = healthy.playbook("site.yml", variables={"redis_settings": {"maxmemory-sample": 10}})
    assert run.status != 0
    assert "redis" in run.output[-3000:]
    assert "redis" in healthy.unhealthy()
    healthy.playbook("site.yml").check()
    assert healthy.unhealthy() == []
