"""A drill proves the backup and the logs since, and leaves nothing."""

from __future__ import annotations

import types
import typing as t
from pathlib import Path

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_drill as drill
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_recovery as recovery
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_report as report
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_ship as ship
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    DamagedError,
    Settings,
)

ID = "20261125T021500Z-1a2b"
TAKEN = 1795572900.0
"""When that was."""
BACKUP_ALONE = [
    *("prepare", "bring mysql", "bring redis", "bring storage", "bring config", "bring vault"),
    "ready",
    "remove",
]
WITH_LOGS = [
    *("prepare", "bring mysql", "replay mysql", "bring redis", "empty redis", "cut redis"),
    *("bring storage", "bring config", "bring vault", "ready", "remove"),
]


class Instance:
    """Stands for the scratch instance and what happened since, and notes what is done."""

    def __init__(self, logs: bool, problem: str = "") -> None:
        self.id, self.did, self.counts, self._problem = ID, list[str](), logs, problem

    def choose(self) -> str:
        return self.id

    def remove(self) -> None:
        self.did.append("remove")

    def prepare(self) -> None:
        self.did.append("prepare")

    def bring(self, part: str) -> None:
        self.did.append(f"bring {part}")

    def empty(self, part: str) -> None:
        self.did.append(f"empty {part}")

    def ready(self) -> None:
        self.did.append("ready")

    def mysql(self, _scratch: object) -> None:
        self.did.append("replay mysql")
        if self._problem:
            raise DamagedError(self._problem)

    def redis(self, _scratch: object) -> None:
        self.did.append("cut redis")


class Since:
    """The logs' side of an instance, whose removal is another one."""

    def __init__(self, instance: Instance) -> None:
        self.counts, self.choose = instance.counts, instance.choose
        self.mysql, self.redis = instance.mysql, instance.redis

    def remove(self) -> None:
        """Nothing was fetched."""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a host whose logs were shipped 20 minutes after its backup."""
    monkeypatch.setattr(
        report, "write_atomic", lambda path, content, **_: Path(path).write_bytes(content)
    )
    monkeypatch.setattr(report, "tell", lambda *_, **__: None)
    monkeypatch.setattr(ship, "LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(ship, "look", lambda _settings, _say: [])
    monkeypatch.setattr("time.time", lambda: TAKEN + 1230)
    content = {"state_directory": str(tmp_path), "metrics": str(tmp_path / "metrics")}
    content |= {
        "repository": "/r",
        "streams_directory": str(tmp_path),
        "binlogs_image": "mysql",
        "login_of": "repository",
    }
    result = t.cast("Settings", types.SimpleNamespace(**content, read_data_percent=5))
    report.remember(result, "ship", until=TAKEN + 1200)
    return result


def run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, instance: Instance, wanted: str
) -> tuple[dict[str, t.Any], list[str]]:
    """Do a drill; return its figures and what was said."""
    monkeypatch.setattr(recovery, "Since", lambda *_: Since(instance))
    monkeypatch.setattr(recovery, "Scratch", lambda *_: instance)
    restic: t.Any = types.SimpleNamespace(check=lambda _percent: instance.did.append("check"))
    said: list[str] = []
    return drill.run(settings, restic, said.append, "me", wanted), said


def test_the_newest_is_proven_with_the_logs_since(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = Instance(logs=True)
    figures, said = run(settings, monkeypatch, instance, "latest")
    assert instance.did == [*WITH_LOGS, "check"]
    assert (figures["age"], figures["rpo"]) == (1230, 30)
    assert said[-1].endswith("it is 1230 s old; a host lost then had lost 30 s")
    assert "vedfolnir_backup_drill_rpo_seconds 30.0" in Path(settings.metrics).read_text()


def test_a_backup_with_an_id_is_proven_alone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = Instance(logs=False)
    figures, said = run(settings, monkeypatch, instance, ID)
    assert instance.did == [*BACKUP_ALONE, "check"]
    assert figures["rpo"] == figures["age"] == 1230
    assert said[-1].endswith("it is 1230 s old")


def test_logs_that_do_not_lead_on_fail_it_and_nothing_stays(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = Instance(logs=True, problem="a gap")
    with pytest.raises(DamagedError, match=r"^a gap$"):
        run(settings, monkeypatch, instance, "latest")
    assert instance.did == [*WITH_LOGS[:3], "remove"]
    assert "drill" not in report.read(settings)


def test_a_log_that_only_the_repository_has_whole_fails_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ship, "damage", lambda _settings: ["binlog.000007 is shorter than it was"])
    instance = Instance(logs=True)
    with pytest.raises(DamagedError, match=r"^binlog\.000007 is shorter than it was; this time"):
        run(settings, monkeypatch, instance, "latest")
    assert instance.did == [*WITH_LOGS, "check"]
    # It is nothing against one backup alone.
    run(settings, monkeypatch, Instance(logs=False), ID)
