"""Fixtures for the tests of backups: the deployed host, and a second one that keeps them."""

from __future__ import annotations

import pathlib
import sys
import typing as t

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "stack"))

import kept
from kept import Deploy
from lab import Lab, deployed
from target import Target


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab host, deployed."""
    return deployed()


@pytest.fixture(scope="session")
def target(lab: Lab) -> t.Iterator[Target]:
    """A second host that has never kept anything."""
    result = Target(lab.name)
    result.make()
    yield result
    result.remove()


@pytest.fixture(scope="session")
def deploy(lab: Lab, target: Target) -> Deploy:
    """The host with backups that go to the second host."""
    scanned = lab.run(f"until ssh-keyscan -t ed25519 {target.name} 2>/dev/null; do sleep 1; done")
    variables: dict[str, t.Any] = {
        # Its name is enough to have backups.
        "backup_repository": target.repository,
        "backup_ssh_known_hosts": [one for one in scanned.splitlines() if one[:1] != "#"],
        "backup_timer_enabled": False,
        "backup_drill_timer_enabled": False,
        "backup_ship_seconds": 0,
    }
    run = lab.playbook(variables=variables).check()
    target.let_in(lab.run("cat /etc/vedfolnir/backup/id_ed25519.pub"))
    # The target of an earlier session is gone, and with it what the host remembers of it.
    lab.run("rm -f /srv/vedfolnir/.state/backup.json /srv/vedfolnir/.state/restore.json")
    return Deploy(variables, run)


@pytest.fixture
def ready(lab: Lab, deploy: Deploy) -> t.Iterator[Lab]:
    """The host with backups, healthy before and after, without data of other tests."""
    assert deploy.run.status == 0
    lab.wait_healthy()
    kept.clear(lab)
    yield lab
    lab.wait_healthy()
    assert kept.left_behind(lab) == []
    kept.clear(lab)
    lab.run("rm -rf /srv/vedfolnir/backups/replaced-* /srv/vedfolnir/backups/restored-*")


@pytest.fixture(scope="session")
def backed_up(lab: Lab, deploy: Deploy) -> str:
    """A backup that tests may damage and repair."""
    assert deploy.run.status == 0
    kept.write(lab, "kept")
    done = kept.program(lab, "backup")
    assert done.returncode == 0, done.stderr
    return kept.newest(lab)
