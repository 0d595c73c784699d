"""Logs go to every repository, whichever of them can be reached."""

from __future__ import annotations

import dataclasses
import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_copies as copies
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_report as report
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_ship as ship
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_streams as streams
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    BackupError,
    CopyError,
    DamagedError,
    Settings,
    TargetError,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_restic import Saved

FIRST, DISK, REST = "/first", "/disk", "rest:https://t:8000/x"


class Repositories:
    """Stands for restic: what has arrived where, and who is away."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.away: set[str] = set()
        self.kind: type[BackupError] = TargetError

    def __call__(self, settings: Settings, _say: object) -> Repositories.One:
        return self.One(self, settings.repository)

    @dataclasses.dataclass
    class One:
        every: Repositories
        place: str

        def save_paths(self, backup: str, part: str, paths: t.Sequence[str]) -> Saved:
            assert (backup, part, list(paths)) == ("", "streams", ["/streams"])
            if self.place in self.every.away:
                raise self.every.kind(f"save streams at {self.place}: the target does not answer")
            self.every.got.append(self.place)
            return Saved("abc", 7, 3)


@pytest.fixture
def repositories(monkeypatch: pytest.MonkeyPatch) -> Repositories:
    every = Repositories()
    monkeypatch.setattr(ship, "Restic", every)
    monkeypatch.setattr(ship, "look", lambda _settings, _say: [])
    monkeypatch.setattr(
        report, "write_atomic", lambda path, content, **_owner: Path(path).write_bytes(content)
    )
    return every


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    given = {
        "repository": FIRST,
        "streams_directory": "/streams",
        "state_directory": str(tmp_path),
        "metrics": str(tmp_path / "metrics"),
        "copies": [{"repository": DISK}, {"repository": REST, "append_only": True}],
    }
    every: dict[str, t.Any] = {field.name: "" for field in dataclasses.fields(Settings)}
    return Settings(**{**every, "append_only": False, "keep": {}, **given})


def run(settings: Settings, repositories: Repositories) -> list[str]:
    """Ship; return what was said."""
    said: list[str] = []
    first: t.Any = repositories(settings, said.append)
    ship.run(settings, first, said.append)
    return said


def metric(settings: Settings, name: str) -> list[str]:
    """Return the lines of a metric."""
    text = Path(settings.metrics).read_text()
    return [line for line in text.splitlines() if line.startswith(f"vedfolnir_backup_{name}")]


def test_every_repository_gets_them(settings: Settings, repositories: Repositories) -> None:
    said = run(settings, repositories)
    assert repositories.got == [FIRST, DISK, REST]
    assert said[1:] == [f"shipped to the copy at {one}: 3 new" for one in (DISK, REST)]
    assert metric(settings, "copy_ship_last_exit_code") == [
        f"vedfolnir_backup_copy_ship_last_exit_code{{repository={json.dumps(one)}}} 0.0"
        for one in (DISK, REST)
    ]


def test_one_that_is_away_is_told(settings: Settings, repositories: Repositories) -> None:
    repositories.away.add(DISK)
    with pytest.raises(CopyError, match=r"^logs for the copy at /disk: .* does not answer$"):
        run(settings, repositories)
    assert repositories.got == [FIRST, REST]
    assert metric(settings, "copy_ship_last_exit_code")[0].endswith('"/disk"} 6.0')
    assert report.read(settings)["ship"]["added"] == 3


def test_one_that_is_no_copy_any_more_has_no_figures(
    settings: Settings, repositories: Repositories
) -> None:
    report.remember_at(settings, ship.KIND, "/gone", id="5", exit=6, succeeded=1)
    assert len(metric(settings, "copy_ship_last_exit_code")) == 1
    run(settings, repositories)
    assert "/gone" not in Path(settings.metrics).read_text()
    assert len(metric(settings, "copy_ship_last_success_seconds")) == 2
    # Should it come back, another one in its place is found out.
    assert report.read(settings)[ship.KIND]["/gone"] == {"id": "5"}


@pytest.mark.parametrize("kind", [TargetError, DamagedError, BackupError])
def test_the_others_get_them_whatever_is_wrong_with_one(
    settings: Settings, repositories: Repositories, kind: type[BackupError]
) -> None:
    repositories.kind = kind
    repositories.away |= {FIRST, REST}
    with pytest.raises(kind, match=r"^save streams at /first: .*; logs for the copy at rest"):
        run(settings, repositories)
    assert repositories.got == [DISK]
    assert "ship" not in report.read(settings)


def test_they_go_out_even_when_something_is_wrong_with_them(
    settings: Settings, repositories: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ship, "look", lambda _settings, _say: ["a gap"])
    with pytest.raises(BackupError, match=r"^a gap$") as caught:
        run(settings, repositories)
    assert caught.value.exit_code == 1
    assert ship.until(settings) == ship.until(copies.of(settings, 1)) == 0
    assert repositories.got == [FIRST, DISK, REST]


def test_it_is_known_up_to_when_each_repository_has_them(
    settings: Settings, repositories: Repositories
) -> None:
    disk = copies.of(settings, 1)
    repositories.away.add(DISK)
    with pytest.raises(CopyError):
        run(settings, repositories)
    assert ship.until(settings) > ship.until(disk) == 0
    repositories.away.clear()
    run(settings, repositories)
    before = ship.until(settings)
    assert before == ship.until(disk) > 0
    repositories.away.add(DISK)
    with pytest.raises(CopyError):
        run(settings, repositories)
    assert ship.until(settings) > before
    assert ship.until(disk) == before


def test_a_log_that_was_cut_short_counts_until_there_is_a_new_backup(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repositories: Repositories
) -> None:
    assert repositories
    monkeypatch.setattr(streams, "write_atomic", lambda path, content, **_: _write(path, content))
    streamed = dataclasses.replace(settings, streams_directory=str(tmp_path))
    server = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
    files = {}
    for number, previous, gtids in ((1, "", "1-5"), (2, "1-5", "6-9")):
        path = tmp_path / f"binlog.00000{number}"
        path.write_bytes(b"12345")
        files[path.name] = {
            "path": str(path),
            "end": 5,
            "previous": f"{server}:{previous}" if previous else "",
            "gtids": f"{server}:{gtids}",
        }
    known: streams.Known = {
        "mysql": {"server": server, "looked": 1},
        "servers": {server: {"files": files}},
    }
    streams.write_known(str(tmp_path), known)
    report.remember(streamed, "backup", gtid=f"{server}:1-3")
    assert ship.damage(streamed) == []
    (tmp_path / "binlog.000001").write_bytes(b"123")
    assert ship.damage(streamed) == ["binlog.000001 is shorter than it was"]
    report.remember(streamed, "backup", gtid=f"{server}:1-7")
    assert ship.damage(streamed) == []
    (tmp_path / "binlog.000002").unlink()
    assert ship.damage(streamed) == ["binlog.000002 is shorter than it was"]


def _write(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)
