from __future__ import annotations

import os
import types
import typing as t
from pathlib import Path

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_upgrade as upgrade
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_host import Host

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="the files belong to root")

OLD, NEW = "docker.io/openbao/openbao:2.6.2", "docker.io/openbao/openbao:2.7.2"
Asked = list[tuple[str, dict[str, str]]]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host("127.0.0.1", str(tmp_path), "/srv/x", "sealed", ["vault"], 100, 1000)
    (tmp_path / "approle.json").write_text("{}")
    monkeypatch.setattr(Host, "compose", lambda *_arguments: f"{NEW}\n")
    monkeypatch.setattr(upgrade, "container_state", lambda _source, _what: OLD)
    monkeypatch.setattr(vault, "login", lambda *_arguments: None)
    monkeypatch.setattr(vault, "ask", lambda *_arguments, **_more: {})
    return made


def answers(monkeypatch: pytest.MonkeyPatch, status: int, content: bytes) -> Asked:
    """Let the server answer; return what it is asked."""
    asked: Asked = []

    def get(url: str, headers: dict[str, str], timeout: int) -> t.Any:
        assert timeout > 0
        asked.append((url, headers))
        return types.SimpleNamespace(status_code=status, content=content)

    client = types.SimpleNamespace(
        url="https://vault:8200", token="T", session=types.SimpleNamespace(get=get)
    )
    monkeypatch.setattr(vault, "connect", lambda *_arguments: client)
    return asked


def test_a_snapshot_is_written_before_the_image_changes(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answers(monkeypatch, 200, b"SNAPSHOT")
    path = Path(upgrade.before_upgrade(host))
    assert path.parent == Path(host.directory) / "snapshots"
    assert path.name.endswith("Z-openbao_2.6.2.snap")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"SNAPSHOT", 0o400)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    url = "https://vault:8200/v1/sys/storage/raft/snapshot"
    assert asked == [(url, {"X-Vault-Token": "T"})]


def test_the_newest_are_kept(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, 200, b"SNAPSHOT")
    directory = Path(host.directory) / "snapshots"
    directory.mkdir(mode=0o700)
    for year in range(2020, 2025):
        (directory / f"{year}0101T000000Z-openbao_2.5.0.snap").touch()
    new = Path(upgrade.before_upgrade(host)).name
    assert sorted(os.listdir(directory)) == [
        "20230101T000000Z-openbao_2.5.0.snap",
        "20240101T000000Z-openbao_2.5.0.snap",
        new,
    ]


@pytest.mark.parametrize("present", ["", NEW])
def test_nothing_is_taken_where_the_image_stays_or_is_the_first(
    host: Host, monkeypatch: pytest.MonkeyPatch, present: str
) -> None:
    monkeypatch.setattr(upgrade, "container_state", lambda _source, _what: present)
    assert upgrade.before_upgrade(host) == ""


def test_before_the_set_up_there_is_nothing_to_take(host: Host) -> None:
    (Path(host.directory) / "approle.json").unlink()
    assert upgrade.before_upgrade(host) == ""


@pytest.mark.parametrize(("status", "content"), [(403, b"no"), (200, b"")])
def test_a_snapshot_that_is_refused_is_an_error(
    host: Host, monkeypatch: pytest.MonkeyPatch, status: int, content: bytes
) -> None:
    answers(monkeypatch, status, content)
    with pytest.raises(vault.VaultError, match=f"take a snapshot: Vault answers {status}"):
        upgrade.before_upgrade(host)
    assert not (Path(host.directory) / "snapshots").exists()
