"""Fixtures for the tests of what watches the stack, on the lab host that is deployed already."""

from __future__ import annotations

import pathlib
import sys
import typing as t

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "stack"))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "standins"))
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "files/dashboards"))

from lab import Lab, deployed
from watched import Watched


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab host, deployed."""
    return deployed()


@pytest.fixture(scope="session")
def watched(lab: Lab) -> t.Iterator[Watched]:
    """The lab host while it is watched, with a receiver of its alerts; as it was afterwards."""
    found = Watched(lab)
    found.begin()
    yield found
    found.end()
