"""Fixtures for the tests of Vault, against the lab host that the part ``stack`` has left behind."""

from __future__ import annotations

import pathlib
import sys
import typing as t

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "stack"))

from lab import Lab
from vaulted import KEYS, VARIABLES, Move, move


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


@pytest.fixture(scope="session")
def keys_file(
    lab: Lab, moved: Move | None, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
    """The operator's letter with all keys, decrypted as the operator does it."""
    assert moved is None or moved.run.status == 0
    (operator,) = VARIABLES["vault_operators"]
    encrypted = max((KEYS / lab.name).glob(f"*/{operator['name']}.vault"))
    vault = VaultLib([("default", VaultSecret(operator["passphrase"].encode()))])
    path = tmp_path_factory.mktemp("keys") / "letter.txt"
    path.write_bytes(vault.decrypt(encrypted.read_bytes()))
    return path
