from __future__ import annotations

import os
import pathlib
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_diagnosis as diagnosis
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_server import VaultError


@pytest.fixture
def compose(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> t.Callable[..., str]:
    """Let the engine say something; return the project's directory."""

    def say(output: str = "", error: str = "", status: int = 0) -> str:
        program = tmp_path / "docker"
        program.write_text(f"#!/bin/sh\necho '{error}' >&2\necho '{output}'\nexit {status}\n")
        program.chmod(0o755)
        monkeypatch.setattr(diagnosis, "_DOCKER", (str(program),))
        return str(tmp_path)

    return say


@pytest.mark.parametrize(
    ("output", "error", "status", "state"),
    [
        ("Exited (137) 2 minutes ago", "", 0, "Exited (137) 2 minutes ago"),
        ("Up 3 hours (Paused)", "", 0, "Up 3 hours (Paused)"),
        ("", "", 0, ""),
        ("", "a warning", 0, ""),
        ("", "Cannot connect to the Docker daemon", 1, "?"),
    ],
)
def test_the_state_is_the_engines(
    compose: t.Callable[..., str], output: str, error: str, status: int, state: str
) -> None:
    assert diagnosis.container_state(compose(output, error, status)) == state


def test_an_engine_that_is_not_there_gives_no_state(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(diagnosis, "_DOCKER", ("/nonexistent/docker",))
    assert diagnosis.container_state(str(tmp_path)) == "?"


@pytest.mark.parametrize(
    ("free", "inodes", "full"), [(0, 10, True), (255, 10, True), (256, 10, False), (900, 0, True)]
)
def test_a_disk_is_full_without_room_or_inodes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, free: int, inodes: int, full: bool
) -> None:
    (tmp_path / "logs/vault").mkdir(parents=True)  # and no data/vault
    values = (4096, 4096, 1000, free, free, 100, inodes, inodes, 0, 255)
    real = os.statvfs

    def statvfs(path: str) -> os.statvfs_result:
        real(path)
        return os.statvfs_result(values)

    monkeypatch.setattr(os, "statvfs", statvfs)
    found = diagnosis.full_disks(str(tmp_path))
    assert found == [str(tmp_path / "logs/vault")] * full


def test_an_error_is_explained_once(
    compose: t.Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = compose("Exited (1) now")
    monkeypatch.setattr(diagnosis, "full_disks", lambda _source: ["/srv/logs/vault"])
    with (
        pytest.raises(VaultError) as caught,
        diagnosis.explained(source),
        diagnosis.explained(source),
    ):
        raise VaultError("down", "log in: Vault does not answer")
    assert caught.value.reason == "down"
    assert str(caught.value) == (
        "log in: Vault does not answer. The disk of /srv/logs/vault is full: make room there, "
        "Vault refuses everything that it cannot write down. Its container is in the state: "
        "Exited (1) now. `systemctl start vedfolnir-vault-keep` starts it and unseals it as far "
        "as this host can, and so does site.yml"
    )


@pytest.mark.parametrize("reason", ["sealed", "forbidden", "missing", "refused"])
def test_what_this_host_has_no_part_in_is_left_as_it_is(
    compose: t.Callable[..., str], monkeypatch: pytest.MonkeyPatch, reason: t.Any
) -> None:
    monkeypatch.setattr(diagnosis, "full_disks", lambda _source: [])
    with pytest.raises(VaultError) as caught, diagnosis.explained(compose("Up")):
        raise VaultError(reason, "as it was")
    assert str(caught.value) == "as it was"


@pytest.mark.parametrize(
    ("said", "moment"),
    [
        ("2026-11-30T02:19:50.25Z", 1796005190.25),
        ("2026-11-30T02:19:50Z", 1796005190.0),
        ("0001-01-01T00:00:00Z", -62135596800.0),
        ("", 0.0),
    ],
)
def test_the_start_is_told_to_the_nanosecond(
    compose: t.Callable[..., str], said: str, moment: float
) -> None:
    assert diagnosis.started_at(compose(said)) == moment
