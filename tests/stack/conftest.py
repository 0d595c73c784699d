"""Fixtures for the tests against the converged lab host."""

from __future__ import annotations

import pathlib
import sys
import typing as t

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import visitor
from lab import Lab, deployed

# Needs a host on which nothing has been deployed, so it is run only by its name.
collect_ignore = ["fresh"]


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab host, deployed."""
    return deployed()


@pytest.fixture
def healthy(lab: Lab) -> t.Iterator[Lab]:
    """The lab host, with every service healthy before and after the test."""
    lab.wait_healthy()
    yield lab
    lab.compose("up --detach --wait --wait-timeout 300")
    lab.wait_healthy()


@pytest.fixture
def admin(lab: Lab) -> visitor.Visitor:
    """The administrator's one session at the site."""
    return visitor.administrator(lab)
