"""Fixtures for the tests of Vault, against the deployed lab host."""

from __future__ import annotations

import pathlib
import sys
import typing as t

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "stack"))

import vaulted
from lab import Lab, deployed

# Makes the deployment of an older release, so it is run only by its name.
collect_ignore = ["move"]


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab host, deployed."""
    return deployed()


@pytest.fixture
def healthy(lab: Lab) -> t.Iterator[Lab]:
    """The lab host, with every service healthy before and after the test."""
    lab.wait_healthy()
    yield lab
    lab.wait_healthy()


@pytest.fixture
def vault(healthy: Lab) -> t.Iterator[t.Callable[[], str]]:
    """Return what the server's own health check sees: open, sealed or down."""

    def ask() -> str:
        code = healthy.exec("vault", "bao status >/dev/null 2>&1").returncode
        return {0: "open", 2: "sealed"}.get(code, "down")

    yield ask
    healthy.wait_healthy()


@pytest.fixture
def keys_file(lab: Lab, tmp_path: pathlib.Path) -> pathlib.Path:
    """The operator's letter with all keys in force, decrypted as the operator does it."""
    path = tmp_path / "letter.txt"
    path.write_bytes(vaulted.letter(lab))
    return path
