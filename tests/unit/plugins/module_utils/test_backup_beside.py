"""A restore that stays beside production: whole or nothing, one at a time."""

from __future__ import annotations

import types
import typing as t
from pathlib import Path

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_base as base
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_beside as beside
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_place as places
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_report as report
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_recovery import Recovery


class Bringing:
    """A recovery of which each part is a file."""

    parts: t.ClassVar = ["mysql", "redis", "storage", "config"]
    scratch = types.SimpleNamespace(id="20261125T021500Z-1a2b")
    point = types.SimpleNamespace(text="latest", title="latest")

    def __init__(self, directory: Path, problem: str = "") -> None:
        self._directory, self._problem = directory, problem

    def bring(self) -> None:
        self._directory.mkdir(parents=True)
        (self._directory / "file").write_text("data")
        if self._problem:
            raise base.DamagedError(self._problem)

    def title(self, onto: str) -> str:
        return f"restore {self.scratch.id} {onto}"

    def size(self, part: str) -> int:
        return len(part)

    def way(self) -> list[str]:
        return ["then go on"]


def bringing(directory: Path, problem: str = "") -> Recovery:
    """Return a recovery that needs no repository."""
    return t.cast("Recovery", Bringing(directory, problem))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> base.Settings:
    """The settings of a host whose engine has no containers, and that writes as anybody."""
    monkeypatch.setattr(places, "output", lambda _argv: "")
    monkeypatch.setattr(
        beside, "write_atomic", lambda path, content, **_: Path(path).write_bytes(content)
    )
    monkeypatch.setattr(report, "tell", lambda *_, **__: None)
    content = {"project_src": str(tmp_path), "project_name": "v", "host": "h"}
    content["secrets_directory"] = "/run/v/secrets/backup"
    return t.cast("base.Settings", types.SimpleNamespace(**content))


def brought(settings: base.Settings, problem: str = "") -> list[str]:
    said: list[str] = []
    recovery = bringing(Path(settings.project_src, "backups/restored"), problem)
    beside.run(settings, recovery, said.append, "test")
    return said


def test_it_stays_and_says_how_to_look_into_it(settings: base.Settings) -> None:
    said = "\n".join(brought(settings))
    assert "docker exec -it v-restored-mysql-1 mysql" in said
    assert "redis: the password is in /run/v/secrets/app/redis_password" in said
    assert f"storage: {settings.project_src}/backups/restored/storage" in said
    assert f"config: {settings.project_src}/backups/restored/config-saved" in said
    record = beside.read(settings)
    assert record is not None
    assert (record["id"], record["point"]) == (Bringing.scratch.id, "latest")
    assert not beside.unfinished(settings)
    with pytest.raises(base.BackupError, match=r"20261125T021500Z-1a2b .* remove it first"):
        beside.refuse_another(settings)


def test_one_that_fails_leaves_nothing(settings: base.Settings) -> None:
    with pytest.raises(base.DamagedError, match="not in the manifest"):
        brought(settings, "not in the manifest")
    assert not Path(settings.project_src, "backups/restored").exists()


def test_a_part_of_one_does_not_count(settings: base.Settings) -> None:
    Path(settings.project_src, "backups/restored").mkdir(parents=True)
    assert beside.unfinished(settings)
    assert beside.read(settings) is None
    beside.refuse_another(settings)


def test_it_is_removed_once(settings: base.Settings) -> None:
    brought(settings)
    said: list[str] = []
    beside.remove(settings, said.append, "test", only_tell=True)
    assert beside.read(settings) is not None
    beside.remove(settings, said.append, "test")
    assert beside.read(settings) is None
    beside.remove(settings, said.append, "test")
    assert ["would be removed" in said[0], "is removed" in said[1], "nothing" in said[2]] == [
        True,
        True,
        True,
    ]


def test_a_plan_names_what_would_run(settings: base.Settings) -> None:
    lines = beside.plan(settings, bringing(Path("/none")))
    assert "nothing of production is changed" in lines[0]
    assert "runs as v-restored-mysql-1" in lines[1]
    assert "runs as" not in lines[3]
    assert lines[-1] == "then go on"
