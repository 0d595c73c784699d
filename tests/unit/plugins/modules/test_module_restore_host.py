from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_host as host
from ansible_collections.vedfolnir.stack.plugins.modules import restore_host

Run = t.Callable[..., dict[str, t.Any]]
BACKUP = "20261201T000000Z-aaaa"
MANIFEST: dict[str, t.Any] = {
    "id": BACKUP,
    "host": "captions",
    "parts": {
        "mysql": {"tables": {"users": {"rows": 3}}},
        "redis": {"keys": 4},
        "storage": {"tree": {"files": 5}},
    },
}


@pytest.fixture
def run(
    run_module: t.Callable[..., dict[str, t.Any]],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    def write(path: str, content: bytes, **_owner: t.Any) -> None:
        pathlib.Path(path).write_bytes(content)

    monkeypatch.setattr(host, "write_atomic", write)
    monkeypatch.setattr(host, "output", lambda _argv: "")
    monkeypatch.setattr(host, "installed", lambda _program: True)
    monkeypatch.setattr(
        host, "choose", lambda _s, _say, wanted: host.Choice(MANIFEST, wanted, 50.0)
    )
    settings = type("S", (), {"state_directory": str(tmp_path), "host": "h", "repository": "/r"})
    monkeypatch.setattr(host, "lay_down", lambda *_: settings)

    def call(step: str, source: str = "captions", check: bool = False, **more: t.Any) -> t.Any:
        place = {
            "source": source,
            "state_directory": str(tmp_path),
            "project_src": str(tmp_path / "root"),
            "project_name": "v",
            "vault_directory": str(tmp_path / "vault"),
        }
        return run_module(restore_host.main, check=check, step=step, place=place, **more)

    return call


BEGIN = {"settings": {"repository": "/r"}}


def test_a_bare_host_is_begun_once(run: Run, tmp_path: pathlib.Path) -> None:
    assert run("look")["record"] == {}
    assert run("begin", check=True, **BEGIN)["record"] == {}
    done = run("begin", begun=40.0, **BEGIN)
    assert done["changed"]
    assert "mysql: 1 tables, 3 rows; redis: 4 keys; storage: 5 files" in done["lines"]
    record = json.loads((tmp_path / "restore-host.json").read_text())
    assert (record["id"], record["wanted"], record["phase"]) == (BACKUP, "latest", "begun")
    assert record["started"] == 40.0
    again = run("begin", **BEGIN)
    assert not again["changed"]
    assert again["record"] == record
    # Somebody who cannot reach the end may name an earlier point.
    assert run("begin", wanted=BACKUP, **BEGIN)["record"]["wanted"] == BACKUP
    assert run("begin", **BEGIN)["record"]["wanted"] == BACKUP
    assert run("reach", phase="vault")["changed"]
    assert not run("reach", phase="vault")["changed"]
    assert run("look")["record"]["phase"] == "vault"


def test_what_is_not_bare_is_refused(run: Run, tmp_path: pathlib.Path) -> None:
    (tmp_path / "root/storage/images").mkdir(parents=True)
    said = run("look")["msg"]
    assert f"not bare, nothing was changed: it has {tmp_path}/root/storage" in said


def test_the_restore_of_another_host_is_refused(run: Run) -> None:
    run("begin", **BEGIN)
    said = run("look", source="other")["msg"]
    assert "a restore of captions was begun on this host and not finished" in said


def test_without_restic_a_check_tells_what_it_can(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "installed", lambda _program: False)
    (line,) = run("begin", check=True, **BEGIN)["lines"]
    assert line.startswith("restore the backup latest of captions at /r")
