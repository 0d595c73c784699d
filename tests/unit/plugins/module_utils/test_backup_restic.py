"""What restic says is understood."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import os
import signal
import socket
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_patience as patience
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
            "unable to open config file: 403 Forbidden",
            TargetError,
            "refuses it",
        ),
        (1, "sftp: no space left on device", TargetError, "make room there"),
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


def work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, **given: t.Any
) -> restic.Restic:
    """Return a repository whose restic is a shell script."""
    program = tmp_path / "restic"
    program.write_text(f"#!/bin/sh\ncd {tmp_path}\n{script}\n")
    program.chmod(0o700)
    (tmp_path / "repository_key").write_text("k")
    every: dict[str, t.Any] = {field.name: "" for field in dataclasses.fields(Settings)}
    every |= {"repository": "/r", "secrets_directory": str(tmp_path), "keep": {}}
    every |= {"patience_seconds": 60}
    monkeypatch.setattr(restic, "RESTIC", str(program))
    return restic.Restic(Settings(**{**every, **given}), lambda _text: None)


@pytest.mark.parametrize("seconds", [0.0, 300.0])
def test_it_waits_for_what_else_works_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seconds: float
) -> None:
    script = (
        'echo "$1" >>called; test "$1" != unlock || exit 0; '
        "test $(grep -c unlock called) -ge 2 || { echo already locked >&2; exit 11; }"
    )
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(restic, "LOCK_SECONDS", seconds)
    repository = work(monkeypatch, tmp_path, script)
    if seconds:
        repository.run("check", "check")
        called = (tmp_path / "called").read_text().split()
        assert called == ["check", "unlock", "check", "unlock", "check"]
    else:
        with pytest.raises(LockedError, match="somebody else works on it"):
            repository.run("check", "check")


REFUSES = (
    "trap 'echo gone >lock; exit 130' INT; echo >lock; echo '{0}' >&2; sleep 60 >&- 2>&- & wait"
)
"""Says something as restic does, and takes its lock away when it is asked to end."""
AGAIN = "Save(<data/1>) returned error, retrying after 1m3.5s: "


@pytest.fixture
def interruptible() -> t.Iterator[None]:
    """Let a shell take notice of SIGINT: in a background job it is ignored, which stays so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("said", "kind", "meaning"),
    [
        (
            "unexpected HTTP response (500): 500 Internal Server Error",
            TargetError,
            "often because it is full; make room there, or keep fewer backups (backup_keep_*)",
        ),
        # The words of restic 0.14.
        (
            "server response unexpected: 500 Internal Server Error (500)",
            TargetError,
            "often because it is full",
        ),
        ("client.PutObject: 503 Service Unavailable", TargetError, "does not serve now"),
        ("something new", TargetError, "the target refuses"),
        ("The specified bucket does not exist", TargetError, "no such bucket; make it before"),
        ("ciphertext verification failed", DamagedError, "damaged or altered"),
    ],
)
def test_a_target_that_refuses_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    said: str,
    kind: type[BackupError],
    meaning: str,
) -> None:
    repository = work(monkeypatch, tmp_path, REFUSES.format(AGAIN + said))
    with pytest.raises(BackupError) as caught:
        repository.run("copy", "copy")
    assert caught.type is kind
    text = str(caught.value)
    assert text.startswith("copy at /r: ")
    assert meaning in text
    assert text.endswith(f"; given up after 60 s (backup_patience_seconds) (restic: {AGAIN}{said})")
    assert (tmp_path / "lock").read_text() == "gone\n"


def test_a_target_that_refuses_a_stream_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repository = work(monkeypatch, tmp_path, REFUSES.format(f"{AGAIN}no"))
    with (
        pytest.raises(
            TargetError, match=r"save mysql at /r: the target refuses; given up after 60"
        ),
        repository.saving("1", "mysql", "mysql.sql") as write,
    ):
        collections.deque(map(write, itertools.repeat(bytes(1 << 16))), maxlen=0)
    with (
        pytest.raises(TargetError, match=r"read /x of abc at /r: the target refuses; given up"),
        repository.reading("abc", "/x") as lines,
    ):
        list(lines)


def test_a_restic_that_does_not_end_when_it_is_asked_is_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(patience, "_GRACE_SECONDS", 1.0)
    script = f"trap '' INT; echo '{AGAIN}no' >&2; sleep 60"
    with pytest.raises(TargetError, match="given up after 60 s"):
        work(monkeypatch, tmp_path, script).run("copy", "copy")


def test_a_request_has_a_time_of_its_own_where_restic_can(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for release, expected in (("0.18.0", 1), ("1.0.0", 1), ("0.14.0", 0)):
        script = f"echo 'restic {release} compiled with go1.24 on linux/amd64'"
        there = work(monkeypatch, tmp_path, script, repository="rest:https://a/b")
        assert there.argv("check").count("--stuck-request-timeout=60s") == expected
    # There is no request.
    assert "60s" not in " ".join(work(monkeypatch, tmp_path, "exit 1").argv("check"))


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
