"""A host of a release that kept its secrets in a file moves to Vault, whatever interrupts it.

Needs a host on which nothing has been deployed: that release deploys it first. Nothing but what
lies between the two releases may change: no value, no file, no database is restarted, and the page
answers all the time.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import threading
import time
import typing as t

import pytest
import requests
from lab import (
    ANSIBLE,
    INVENTORIES,
    ROOT,
    Lab,
    Run,
    ansible_environment,
    secret_files,
    wait_until,
)
from test_unseal import restart_host
from vaulted import deploy, values

RELEASE = "81b1bb2"
"""The last commit with the local provider."""
STORE = "/etc/vedfolnir/secrets/store.json"
LEFT = "/etc/systemd/system/vedfolnir-secrets.service /usr/local/lib/vedfolnir/secrets.py"
KEPT = ("mysql", "redis", "ollama", "nginx")


class Older(t.NamedTuple):
    """What the older release has left on the host."""

    values: dict[str, t.Any]
    files: str
    services: set[str]


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab host, on which nothing has been deployed."""
    result = Lab()
    assert result.ssh("test -e /srv/vedfolnir").returncode == 1, "the host is not a new one"
    return result


@pytest.fixture(scope="session")
def older(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Older:
    """Deploy the older release, from its own files with its own settings."""
    tree = tmp_path_factory.mktemp("older")
    archive = subprocess.run(
        ["git", "archive", RELEASE], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    subprocess.run(["tar", "--extract"], input=archive.stdout, cwd=tree, check=True)
    inventories = [tree / "inventories/lab", *INVENTORIES[1:]]
    argv = [str(ANSIBLE / "ansible-playbook"), "site.yml", "--limit", lab.name]
    argv += [argument for path in inventories for argument in ("-i", str(path))]
    environment = ansible_environment() | {"ANSIBLE_CONFIG": str(tree / "ansible.cfg")}
    said = subprocess.run(
        argv,
        cwd=tree,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    Run(said.returncode, said.stdout).check()
    stored = json.loads(lab.run(f"cat {STORE}"))
    assert len(stored) >= 12
    assert "__vault" not in stored
    return Older(stored, secret_files(lab), set(lab.inspect()))


def test_a_check_predicts_the_move_and_makes_nothing(lab: Lab, older: Older) -> None:
    before = lab.files("/etc", "/srv/vedfolnir", "/usr/local", "/run/vedfolnir")
    run = deploy(lab, "--check").check()
    assert run.recap["changed"] > 0
    assert run.plan["vault"] == "create"
    assert {run.plan.get(name, "unchanged") for name in KEPT} <= {"unchanged", "reload"}
    assert lab.files("/etc", "/srv/vedfolnir", "/usr/local", "/run/vedfolnir") == before
    assert json.loads(lab.run(f"cat {STORE}")) == older.values


def test_a_host_that_restarts_in_the_middle_serves_with_what_it_has(
    lab: Lab, older: Older, tmp_path: pathlib.Path
) -> None:
    """Killed when Vault has been started; its units are there, but it has nothing to deliver."""
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(
            lab.playbook_argv("site.yml"),
            cwd=ROOT,
            env=ansible_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_until(lambda: "vault" in lab.inspect(), 300, "Vault was not started")
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert "PLAY RECAP" not in (tmp_path / "output").read_text()
    restart_host(lab)
    wait_until(
        lambda: older.services & set(lab.unhealthy()) == set(), 300, "not all is healthy again"
    )
    assert older.services <= set(lab.inspect())
    assert secret_files(lab) == older.files
    assert json.loads(lab.run(f"cat {STORE}")) == older.values
    assert lab.session().get(f"{lab.https}/health/ready", timeout=60).ok


class Watch:
    """Asks for the page all the time."""

    def __init__(self, lab: Lab) -> None:
        self._session, self._url = lab.session(), f"{lab.https}/health/ready"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.asked = 0
        self.problems: list[str] = []

    def _ask(self) -> None:
        while not self._stop.wait(0.2):
            self.asked += 1
            try:
                answer = self._session.get(self._url, timeout=30)
                if not answer.ok:
                    self.problems.append(f"{time.strftime('%T')} {answer.status_code}")
            except requests.RequestException as exc:
                self.problems.append(f"{time.strftime('%T')} {type(exc).__name__}")

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()


def test_the_move_changes_no_value_and_the_page_answers_all_the_time(
    lab: Lab, older: Older
) -> None:
    lab.run("docker rm --force vedfolnir-vault-1")  # of the run that was killed
    before = lab.started()
    with Watch(lab) as watch:
        deploy(lab).check()
    print(f"asked {watch.asked} times, {len(watch.problems)} problems")
    assert watch.asked > 100
    assert watch.problems == []
    assert values(lab) == older.values
    assert secret_files(lab) == older.files, "the files were right and had to stay as they were"
    after = lab.started()
    assert {name: after[name] for name in KEPT} == {name: before[name] for name in KEPT}
    assert set(after) == older.services | {"vault"}
    assert json.loads(lab.run(f"cat {STORE}")) == {"__vault": sorted(older.values)}


def test_nothing_of_the_older_release_is_left_and_a_further_run_changes_nothing(
    lab: Lab, older: Older
) -> None:
    assert values(lab) == older.values
    assert lab.ssh(f"ls -d {LEFT}").stdout == ""
    assert lab.run("systemctl list-unit-files --no-legend 'vedfolnir-secrets*'; true") == ""
    before = lab.started()
    assert deploy(lab).check().recap["changed"] == 0
    assert lab.started() == before


def test_a_restarted_host_gets_the_same_from_vault(lab: Lab, older: Older) -> None:
    restart_host(lab)
    wait_until(
        lambda: set(lab.inspect()) == older.services | {"vault"} and not lab.unhealthy(),
        300,
        "not all is healthy",
    )
    assert secret_files(lab) == older.files
