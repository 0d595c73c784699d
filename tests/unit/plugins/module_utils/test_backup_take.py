"""What is forgotten after a backup, and what is not."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_take as take
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import Settings
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_restic import Restic, Snapshot

SETTINGS = Settings(
    host="host",
    project_src="/srv/v",
    project_name="v",
    database="v",
    repository="/r",
    repository_user="",
    sftp_arguments="",
    secrets_directory="/nonexistent",
    users_file="",
    vault_settings="",
    append_only=False,
    keep={"last": 1},
    upload_kib=0,
    deadline_seconds=60,
    read_data_percent=100,
    state_directory="/nonexistent",
    metrics="/nonexistent",
    log="/nonexistent",
)


class Repository(Restic):
    """Knows snapshots, and remembers what it was told to forget."""

    def __init__(self, settings: Settings, every: list[Snapshot]) -> None:
        super().__init__(settings, lambda _text: None)
        self.every = every
        self.forgotten: list[str] = []

    def snapshots(self) -> list[Snapshot]:
        return self.every

    def forget(self, snapshots: t.Sequence[str]) -> None:
        self.forgotten += snapshots


def taken(hours_ago: float, *parts: str) -> list[Snapshot]:
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=hours_ago)
    backup = f"{moment:%Y%m%dT%H%M%SZ}-0000"
    return [Snapshot(f"{hours_ago}-{part}", backup, part, "") for part in parts]


EVERY = [
    *taken(72, "mysql"),
    *taken(48, "mysql", "manifest"),
    *taken(3, "mysql", "manifest"),
    *taken(2, "mysql", "redis"),
    *taken(1, "mysql", "manifest"),
]


def test_old_and_broken_ones_go_and_young_unfinished_ones_stay() -> None:
    repository = Repository(SETTINGS, EVERY)
    take.prune(SETTINGS, repository, lambda _text: None)
    assert sorted(repository.forgotten) == [
        "3-manifest",
        "3-mysql",
        "48-manifest",
        "48-mysql",
        "72-mysql",
    ]


@pytest.mark.parametrize("changed", [{"append_only": True}, {"keep": {"last": 0, "daily": 0}}])
def test_nothing_is_forgotten_where_it_shall_not_be(changed: dict[str, t.Any]) -> None:
    settings = dataclasses.replace(SETTINGS, **changed)
    repository = Repository(settings, EVERY)
    assert take.prune(settings, repository, lambda _text: None) == []
    assert repository.forgotten == []


def test_progress_is_said_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 11.0, 11.0, 12.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    said: list[str] = []
    progress = take.Progress("mysql", said.append)
    for size in (1, 50 << 20, 60 << 20):
        progress.at(size)
    assert said == ["mysql: 50 MiB"]
