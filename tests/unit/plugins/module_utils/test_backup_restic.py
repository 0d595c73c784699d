"""What restic says is understood."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_restic as restic
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    BackupError,
    DamagedError,
    LockedError,
    Settings,
    TargetError,
)


@pytest.mark.parametrize(
    ("code", "said", "kind", "meaning"),
    [
        (12, "Fatal: wrong password or no key found", TargetError, "key of this host does not"),
        (12, "", TargetError, "key of this host does not"),
        (10, "Fatal: repository does not exist", TargetError, "there is no repository"),
        (11, "unable to create lock", LockedError, "somebody else works on it"),
        (1, "Load(<data/1>): ciphertext verification failed", DamagedError, "damaged or altered"),
        (1, "Load(<data/1>, 0, 0): invalid data returned", DamagedError, "damaged or altered"),
        (1, "Fatal: repository contains errors", DamagedError, "damaged or altered"),
        (1, "ssh: connect to host x port 22: Connection refused", TargetError, "does not answer"),
        (1, "Could not resolve hostname x: no", TargetError, "has no address"),
        (1, "Host key verification failed.", TargetError, "not the one that is known"),
        (1, "keeper@x: Permission denied (publickey)", TargetError, "refuses the login"),
        (1, "write: no space left on device", TargetError, "is full"),
        (1, "unable to open config file: Stat: Access Denied.", TargetError, "refuses the login"),
        (
            1,
            "unable to open config file: x509: certificate signed by unknown authority",
            TargetError,
            "is not trusted, see backup_repository_ca",
        ),
        (1, "something new", BackupError, "restic ended with 1: something new"),
    ],
)
def test_errors_in_words(code: int, said: str, kind: type[BackupError], meaning: str) -> None:
    found = restic.error("save mysql", code, said)
    assert found.__class__ is kind
    assert meaning in str(found)
    assert str(found).startswith("save mysql")


def test_a_rest_server_that_is_away_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        restic.knock(f"rest:https://127.0.0.1:{port}/x", "save mysql")
    with pytest.raises(TargetError, match=r"save mysql at rest:.*the target does not answer"):
        restic.knock(f"rest:https://127.0.0.1:{port}/x", "save mysql")
    with pytest.raises(TargetError, match="does not answer"):
        restic.knock("rest:http://nowhere.invalid/x", "save mysql")
    with pytest.raises(TargetError, match="does not answer"):
        restic.knock("s3:https://nowhere.invalid/bucket/path", "save mysql")
    # Others have no port of their own, or tell themselves.
    restic.knock("/mnt/backups", "save mysql")
    restic.knock("sftp:a@nowhere.invalid:/x", "save mysql")


@pytest.mark.parametrize("seconds", [0.0, 300.0])
def test_it_waits_for_what_else_works_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seconds: float
) -> None:
    called: list[str] = []

    def run(argv: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        called.append(argv[-1])
        locked = argv[-1] != "unlock" and called.count("unlock") < 2
        return subprocess.CompletedProcess(argv, 11 if locked else 0, "", "already locked")

    (tmp_path / "repository_key").write_text("k")
    every: dict[str, t.Any] = {field.name: "" for field in dataclasses.fields(Settings)}
    given = {"repository": "/r", "secrets_directory": str(tmp_path), "keep": {}}
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(restic, "LOCK_SECONDS", seconds)
    work = restic.Restic(Settings(**{**every, **given}), lambda _text: None)
    if seconds:
        work.run("check", "check")
        assert called == ["check", "unlock", "check", "unlock", "check"]
    else:
        with pytest.raises(LockedError, match="somebody else works on it"):
            work.run("check", "check")


def test_the_summary_is_the_last_that_counts() -> None:
    lines = [
        {"message_type": "status", "percent_done": 1},
        {
            "message_type": "summary",
            "snapshot_id": "abc",
            "total_bytes_processed": 7,
            "data_added": 5,
            "data_added_packed": 3,
        },
    ]
    text = "\n".join(["no JSON", *map(json.dumps, lines), ""])
    assert restic.summary(text) == restic.Saved("abc", 7, 3)
    with pytest.raises(BackupError, match="did not say what it has saved"):
        restic.summary("Fatal")


def node(path: Path, root: Path) -> dict[str, object]:
    """Return what restic lists of a path."""
    status = path.lstat()
    kind = "symlink" if path.is_symlink() else "dir" if path.is_dir() else "file"
    found = {"path": f"/srv/{path.relative_to(root)}", "type": kind, "uid": status.st_uid}
    return found | {"gid": status.st_gid} | ({"size": status.st_size} if kind == "file" else {})


def test_a_listing_and_what_it_is_restored_to_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "file").write_text("12345")
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to("a")
    nodes = [node(path, tmp_path) for path in tmp_path.rglob("*")]
    nodes += [{"path": "/srv", "type": "dir"}, {"path": "/srvother/x", "type": "file", "size": 3}]
    found = restic.saved_tree(nodes, "/srv")
    assert (found["files"], found["bytes"]) == (2, 5)
    assert found == restic.present_tree(str(tmp_path))
    os.truncate(tmp_path / "a" / "file", 4)
    assert found != restic.present_tree(str(tmp_path))
