"""The last step of a restore onto a bare host: in which order, and where it goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import (
    backup_bring_back as bring_back,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_host as host
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_prove as prove
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_report as report
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_restore as restore
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    BackupError,
    DamagedError,
    Say,
    Settings,
)

ID = "20261101T000000Z-aaaa"
CONTAINERS = json.dumps(
    {"Service": "nginx", "Publishers": [{"TargetPort": 8443, "PublishedPort": 443}]}
)
FOUND: dict[str, t.Any] = {
    "users": 2,
    "credentials": {"values": 3, "unreadable": 0, "where": []},
    "images": {"rows": 4, "missing": 0, "where": []},
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    secrets = tmp_path / "secrets"
    (secrets / "app-admin").mkdir(parents=True)
    (secrets / "app-admin/admin_password").write_text("first\n")
    (secrets / "mysql-users").mkdir()
    login = {"site": "captions.example.org", "username": "admin", "password": ""}
    (secrets / "login.json").write_text(json.dumps(login))
    given = {
        "host": "new",
        "project_src": "/srv/v",
        "secrets_directory": str(secrets),
        "users_file": str(secrets / "mysql-users/users.sql"),
        "state_directory": str(tmp_path / "state"),
        "metrics": str(tmp_path / "metrics"),
        "log": str(tmp_path / "log"),
    }
    every: dict[str, t.Any] = {field.name: "" for field in dataclasses.fields(Settings)}
    return Settings(**{**every, "append_only": False, "keep": {}, **given})


class Steps(list[str]):
    """What was done, in order; a step that is in ``fails`` ends with an error."""

    fails = ""

    def do(self, name: str) -> None:
        """Do a step."""
        self.append(name)
        if self.fails and self.fails in name:
            raise BackupError(f"{name} did not work")


@pytest.fixture
def steps(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """A host on which Vault is in place, with everything that is done to it recorded."""
    done = Steps()
    kept = tmp_path / "replaced"

    class Restore:
        """Stands for a restore."""

        def __init__(self, _settings: Settings, _say: Say, wanted: str) -> None:
            self._wanted, self.kept = wanted, str(kept)

        def run(self, who: str) -> None:
            """Restore."""
            done.do(f"restore {self._wanted} for {who}")
            kept.mkdir()

    @contextlib.contextmanager
    def recovery(*arguments: t.Any) -> t.Iterator[str]:
        """Stand for what is restored, by the point alone."""
        assert arguments[4] is None
        yield arguments[3]

    def output(argv: t.Sequence[str]) -> str:
        words = argv[argv.index("compose") + 1 :]
        if words[0] == "ps":
            return CONTAINERS
        done.do(" ".join(words))
        return ""

    def look(argv: t.Sequence[str]) -> dict[str, t.Any]:
        done.do(f"look in {argv[-1]}")
        return FOUND

    def log_in(site: t.Any, username: str, password: str) -> None:
        done.do(f"log in at {site['name']}:{site['port']} as {username}, {password}")

    def write(path: str, content: bytes, **_owner: t.Any) -> None:
        Path(path).write_bytes(content)

    monkeypatch.setattr(restore, "Restore", Restore)
    monkeypatch.setattr(bring_back, "Recovery", recovery)
    monkeypatch.setattr(restore, "undo", lambda *_: done.do("undo"))
    monkeypatch.setattr(bring_back, "output", output)
    monkeypatch.setattr(prove, "replica", lambda _settings: "app-1")
    monkeypatch.setattr(prove, "look", look)
    monkeypatch.setattr(prove, "log_in", log_in)
    monkeypatch.setattr(host, "write_atomic", write)
    monkeypatch.setattr(report, "write_atomic", write)
    record = {"source": "lost", "id": ID, "wanted": "latest", "point": 1000.0, "started": 1060.0}
    host.reach(settings.state_directory, "vault", **record)
    return done


LOGIN = "log in at captions.example.org:443 as admin, first"


def run(settings: Settings) -> list[str]:
    """Bring the data back; return what was said."""
    said: list[str] = []
    none: t.Any = None
    bring_back.run(settings, none, said.append, "somebody")
    return said


def test_data_then_proof_then_the_end(settings: Settings, steps: Steps, tmp_path: Path) -> None:
    said = run(settings)
    # Closed to visitors before anything of the data changes.
    assert steps == ["stop nginx", "undo", "restore latest for somebody", "look in app-1", LOGIN]
    assert said[0] == ("data: 2 users, 3 stored credentials open, 4 images have their files")
    assert said[-1].startswith("lost is back on new: RTO ")
    assert said[-1].endswith("off-host recovery point 1970-01-01T00:16:40Z, 60 s before it")
    assert host.read(settings.state_directory) == {}
    # The empty database that the deployment had made.
    assert not (tmp_path / "replaced").exists()
    assert report.read(settings)["host"]["age"] == 60


def test_without_a_record_nothing_is_done(settings: Settings, steps: Steps) -> None:
    host.finish(settings.state_directory)
    with pytest.raises(BackupError, match="no restore onto this bare host was begun"):
        run(settings)
    assert steps == []


@pytest.mark.parametrize("failing", ["stop nginx", "undo", "restore latest"])
def test_a_restore_that_fails_is_done_again(settings: Settings, steps: Steps, failing: str) -> None:
    steps.fails = failing
    with pytest.raises(BackupError, match=failing):
        run(settings)
    assert host.read(settings.state_directory)["phase"] == "vault"
    steps.fails = ""
    steps.clear()
    run(settings)
    assert steps[2] == "restore latest for somebody"


def test_a_proof_that_fails_is_done_again_without_the_restore(
    settings: Settings, steps: Steps
) -> None:
    steps.fails = "log in"
    with pytest.raises(BackupError, match="log in"):
        run(settings)
    assert host.read(settings.state_directory)["phase"] == "data"
    assert "host" not in report.read(settings)
    steps.fails = ""
    steps.clear()
    run(settings)
    assert steps == ["look in app-1", LOGIN]


def test_damage_ends_it_before_anybody_is_let_in(
    settings: Settings, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = FOUND | {"images": {"rows": 4, "missing": 1, "where": ["image 9"]}}
    monkeypatch.setattr(prove, "look", lambda _argv: lost)
    with pytest.raises(DamagedError, match="image 9"):
        run(settings)
    assert LOGIN not in steps
    assert host.read(settings.state_directory)["phase"] == "data"


def test_the_password_of_the_sheet_counts(settings: Settings, steps: Steps) -> None:
    login = {"site": "x", "username": "eve", "password": "given"}
    Path(settings.secret_file("login.json")).write_text(json.dumps(login))
    run(settings)
    assert steps[-1] == "log in at x:443 as eve, given"
