"""Fixtures for the tests of Vault, against the lab host that the part ``stack`` has left behind."""

from __future__ import annotations

import pathlib
import sys
import typing as t

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "stack"))

from lab import Lab
from vaulted import Move, move


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab host, deployed, with the values in the local store or in Vault already."""
    result = Lab()
    probe = result.ssh("test -f /srv/vedfolnir/compose.yml")
    if probe.returncode != 0:
        problem = "does not answer or is not deployed"
        pytest.exit(f"the lab host {problem} ({probe.stderr.strip()}); run ./lab up", 3)
    return result


@pytest.fixture(scope="session")
def moved(lab: Lab) -> Move | None:
    """The host's move to Vault, nothing if an earlier session has made it."""
    return move(lab)


@pytest.fixture
def healthy(lab: Lab, moved: Move | None) -> t.Iterator[Lab]:
    """The lab host in Vault's mode, with every service healthy before and after the test."""
    assert moved is None or moved.run.status == 0
    assert lab.unhealthy() == []
    yield lab
    assert lab.unhealthy() == []
