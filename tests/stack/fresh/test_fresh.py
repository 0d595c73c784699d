"""The first deployment of a host that was just made: predicted, carried out, and then complete.

Runs before everything else and only on such a host, because it leaves a deployed one behind.
"""

from __future__ import annotations

import re

import pytest
from find_secrets import needles
from lab import WATCHING, Lab, Run
from watch_processes import watching

DIRECTORIES = ("/etc", "/srv", "/usr/local")
TRACES = "/srv/vedfolnir /etc/vedfolnir /etc/docker /run/vedfolnir /var/lib/vedfolnir"
SERVICES = {"app-1", "app-2", "mysql", "nginx", "ollama", "redis", "vault", "worker", *WATCHING}
JOBS = {"app-admin", "app-schema", "app-static", "mysql-users"}
PLAN = dict.fromkeys(SERVICES, "create") | dict.fromkeys(JOBS, "run")
NOT_PREDICTED = {
    # Of packages that are not there yet.
    "docker_host : Set whether apt may change the packages of Docker",
    # Commands, which a check skips; the files that they read are predicted.
    "docker_host : Set the kernel parameters",
    "docker_host : Load the rules of the firewall, with a way back",
    "docker_host : Confirm the rules over a new connection",
    # Of units whose files are not there yet, or that read a file which is not.
    "docker_host : Restart the services whose settings are newer than they",
    "docker_host : Load the firewall at every start of the host",
    "stack : Start the project at boot, and stop it in order at shutdown",
    "stack : Look after Vault from now on, and rotate what is due from time to time",
    "stack : Look at the stack from now on, once a minute",
    # Of keys that are made when Vault is set up.
    "vault : Make the directory for the operators' keys",
    *(
        "vault : Fetch the operators' encrypted keys",
        "vault : Remove the fetched keys from the host",
    ),
    # With an engine that is not there yet; the plan tells of the services.
    "docker_host : Load image archives",
    *("app : Make a place for the build context on the controller", "app : Make the directory"),
    *("app : Assemble the build context", "app : Send the build context to the host"),
    *("app : Build the image", "app : Remove the build context"),
    "app : Remove the archive on the controller",
    "stack : Bring the project into its state",
}


@pytest.fixture(scope="module")
def lab() -> Lab:
    """The lab host, on which nothing has been deployed."""
    result = Lab()
    assert trace(result) == [], "the host is not a new one; ./lab down removes it"
    return result


def trace(lab: Lab) -> list[str]:
    """Return what of a deployment is on the host."""
    found = lab.run(
        f"ls -d {TRACES} 2>/dev/null; "
        "systemctl list-unit-files --no-legend 'vedfolnir*' 'docker*'; "
        "dpkg-query -W -f '${Package} ${db:Status-Status}\\n' '*docker*' 'containerd*' 2>/dev/null"
        " | grep -w installed; true"
    )
    return found.splitlines()


@pytest.fixture(scope="module")
def predicted(lab: Lab) -> Run:
    """A check of the deployment, which leaves the host as it was."""
    before = lab.files(*DIRECTORIES), lab.packages()
    run = lab.playbook("site.yml", "--check").check()
    assert trace(lab) == []
    assert (lab.files(*DIRECTORIES), lab.packages()) == before
    return run


@pytest.fixture(scope="module")
def seen() -> list[str]:
    """The command lines of the host's processes during the deployment."""
    return []


@pytest.fixture(scope="module")
def deployed(lab: Lab, predicted: Run, seen: list[str]) -> Run:
    """The deployment, telling as much of itself as it can."""
    assert predicted.status == 0
    with watching(lab) as arguments:
        run = lab.playbook("site.yml", "-vvv", "--diff")
    seen += arguments
    return run.check()


def changes(run: Run) -> set[str]:
    """Return the tasks that changed something, without the collection's name and an image's."""
    return {
        re.sub(r"^vedfolnir\.stack\.| vedfolnir-app:\w+$", "", name) for name in run.did("changed")
    }


def test_a_check_tells_the_whole_plan_and_does_nothing(predicted: Run) -> None:
    assert predicted.plan == PLAN


def test_the_deployment_is_what_was_planned(lab: Lab, predicted: Run, deployed: Run) -> None:
    assert deployed.plan == predicted.plan
    assert set(lab.inspect()) == {name for name, what in PLAN.items() if what == "create"}
    assert lab.unhealthy() == []


def test_each_predicted_change_was_made_and_hardly_any_other(predicted: Run, deployed: Run) -> None:
    """What cannot be predicted is named above, with the reason."""
    expected, made = changes(predicted), changes(deployed)
    assert expected - made == set()
    assert made - expected == NOT_PREDICTED


def test_no_secret_was_shown_while_it_was_made(lab: Lab, deployed: Run, seen: list[str]) -> None:
    """Neither by Ansible, nor in the arguments of a process."""
    wanted = {name: value.decode() for name, value in needles(lab.secrets()).items()}
    assert len(wanted) >= 12
    assert [name for name, value in wanted.items() if value in deployed.output] == []
    assert [name for name, value in wanted.items() if any(value in line for line in seen)] == []


def test_a_second_run_has_nothing_to_do(lab: Lab, deployed: Run) -> None:
    assert deployed.status == 0
    before = lab.started()
    run = lab.playbook().check()
    assert run.recap["changed"] == 0, run.did("changed")
    assert run.plan == {}
    assert lab.started() == before
