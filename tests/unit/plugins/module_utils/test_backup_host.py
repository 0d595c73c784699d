"""The sheet, how backups stand, the record of a restore onto a bare host, the proof."""

from __future__ import annotations

import dataclasses
import json
import os
import pty
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_copies as copies
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_host as host
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_prove as prove
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_report as report
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_sheet as sheet
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_status as status
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import (
    BackupError,
    DamagedError,
    Settings,
)

KEY = "a key of several\nlines\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name, text in {"repository_key": "k1", "manifest_key": "k2", "copy_password": "p"}.items():
        (tmp_path / name).write_text(f"{text}\n")
    (tmp_path / "id").write_text(KEY)
    (tmp_path / "known").write_text("target ssh-ed25519 AAAA\n")
    given = {
        "host": "captions",
        "repository": "sftp:keeper@target:/srv/r",
        "repository_user": "",
        "sftp_arguments": f"-i {tmp_path}/id -o X=yes -o UserKnownHostsFile={tmp_path}/known",
        "secrets_directory": str(tmp_path),
        "vault_settings": str(tmp_path / "vault.json"),
        "state_directory": str(tmp_path),
        "metrics": str(tmp_path / "metrics"),
    }
    number = {"upload_kib", "deadline_seconds", "read_data_percent"}
    every: dict[str, t.Any] = {
        field.name: 0 if field.name in number else ""
        for field in dataclasses.fields(Settings)
        if field.default is dataclasses.MISSING
    }
    return Settings(**{**every, "append_only": False, "keep": {}, **given})


def test_the_sheet_is_what_the_playbook_reads(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "state.json").write_text(
        json.dumps({"operators": ["a", "b"], "threshold": 2, "shares": 3, "date": "D"})
    )
    (tmp_path / "vault.json").write_text(json.dumps({"ca_file": str(tmp_path / "ca.pem")}))
    monkeypatch.setattr(sheet, "output", lambda argv: f"{argv[0]} 1\n")
    text = sheet.sheet(settings)
    assert yaml.safe_load(text) == {
        "restore_source": "captions",
        "restore_repository": "sftp:keeper@target:/srv/r",
        "restore_repository_key": "k1",
        "restore_manifest_key": "k2",
        "restore_ssh_known_hosts": ["target ssh-ed25519 AAAA"],
        "restore_ssh_key": KEY,
    }
    assert "any 2 of 3, set up D" in text
    assert "There are no further copies" in text


def test_the_sheet_goes_to_a_terminal_or_on_demand_into_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    _parent, terminal = pty.openpty()
    sheet.refuse_anything_but_a_terminal(terminal, pipe=False, user=0)
    with pytest.raises(BackupError, match="only root"):
        sheet.refuse_anything_but_a_terminal(terminal, pipe=False, user=1000)
    _reader, pipe = os.pipe()
    sheet.refuse_anything_but_a_terminal(pipe, pipe=True, user=0)
    with pytest.raises(BackupError, match="use --pipe"):
        sheet.refuse_anything_but_a_terminal(pipe, pipe=False, user=0)
    with (tmp_path / "file").open("w") as handle, pytest.raises(BackupError, match="into a file"):
        sheet.refuse_anything_but_a_terminal(handle.fileno(), pipe=True, user=0)
    found = os.fstat(pipe)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    with pytest.raises(BackupError, match="never into the journal"):
        sheet.refuse_anything_but_a_terminal(pipe, pipe=True, user=0)


HOUR = 3600.0
NOW = 1_000_000.0
GOOD = {"exit": 0, "started": NOW - 2 * HOUR, "succeeded": NOW - 2 * HOUR}


@pytest.mark.parametrize(
    ("state", "wrong"),
    [
        ({"backup": GOOD, "drill": GOOD}, []),
        ({}, ["no backup has ever succeeded", "no drill has ever succeeded"]),
        (
            {"backup": GOOD | {"succeeded": NOW - 30 * HOUR}, "drill": GOOD},
            ["the last good backup is 30 h old, the most is 26 h"],
        ),
        (
            {"backup": GOOD | {"exit": 6}, "drill": GOOD},
            ["the last backup, begun 2 h ago, failed with exit code 6"],
        ),
    ],
)
def test_what_is_wrong_is_told(settings: Settings, state: report.State, wrong: list[str]) -> None:
    limits = dataclasses.replace(settings, max_age_hours=26, drill_max_age_days=8)
    found = status.judge(limits, state, NOW)
    assert [text for text, start in zip(found, wrong, strict=True) if text.startswith(start)] == (
        found
    )
    assert status.judge(settings, {}, NOW) == []


def test_a_copy_that_failed_is_told(settings: Settings) -> None:
    other = dataclasses.replace(settings, copies=[{"repository": "/r"}], max_age_hours=26)
    state: report.State = {"backup": GOOD, "copies": {"/r": GOOD | {"exit": 6}}}
    assert status.judge(other, state, NOW) == [
        "the last copy to /r, begun 2 h ago, failed with exit code 6"
    ]
    text = report.metrics(state)
    assert 'vedfolnir_backup_copy_last_exit_code{repository="/r"} 6.0\n' in text


def test_a_copy_has_settings_of_its_own(settings: Settings) -> None:
    place = {"repository": "rest:https://t:8000/r", "repository_user": "u", "append_only": True}
    first = dataclasses.replace(settings, copies=[place])
    other = copies.of(first, 1)
    assert (other.repository, other.repository_user, other.append_only) == tuple(place.values())
    assert other.secret(f"{other.login_of}_password") == "p"
    assert other.copies == ()
    with pytest.raises(BackupError, match="there is no copy 2; backup_copies has 1"):
        copies.of(first, 2)


def test_a_copy_gets_what_it_lacks_and_somebody_keeps() -> None:
    ids = [f"202611{day:02}T000000Z-aaaa" for day in (1, 2, 3, 4)]
    first: dict[str, t.Any] = {one: {} for one in ids}
    assert copies.missing(first, {}, {"last": 2}) == ids[2:]
    assert copies.missing(first, {ids[3]: {}}, {"last": 3}) == ids[1:3]
    assert copies.missing(first, {}, {}) == ids


@pytest.fixture
def writing(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: str, content: bytes, **_owner: t.Any) -> None:
        Path(path).write_bytes(content)

    monkeypatch.setattr(host, "write_atomic", write)


@pytest.mark.usefixtures("writing")
def test_the_record_goes_forward_only(settings: Settings) -> None:
    directory = settings.state_directory
    assert host.read(directory) == {}
    host.refuse_unfinished(settings)
    host.reach(directory, "begun", source="captions", id="20261101T000000Z-aaaa", started=5.0)
    host.reach(directory, "data", replaced="/x")
    assert host.reach(directory, "vault")["phase"] == "data"
    with pytest.raises(BackupError, match=r"captions onto this bare host .* come to data"):
        host.refuse_unfinished(settings)
    Path(host.path(directory)).write_text("{")
    with pytest.raises(BackupError, match="cannot be read"):
        host.read(directory)


def test_what_is_on_a_host_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "output", lambda _argv: "")
    vault = str(tmp_path / "vault")
    assert host.found_on(str(tmp_path), "v", vault) == []
    (tmp_path / "data/mysql").mkdir(parents=True)
    assert host.found_on(str(tmp_path), "v", vault) == []
    (tmp_path / "data/mysql/ibdata1").touch()
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault/state.json").touch()
    monkeypatch.setattr(host, "output", lambda _argv: "v-redis-1\n")
    assert [Path(one).name for one in host.found_on(str(tmp_path), "v", vault)] == [
        "mysql",
        "state.json",
        "container v-redis-1",
    ]


def test_data_go_as_far_as_something_is_off_the_host() -> None:
    backup, later = "20261201T000000Z-aaaa", "2026-12-01T01:01:00.123456789+01:00"
    wanted, taken = host.destination(backup, "latest", ["2026-11-30T23:00:00Z"])
    assert wanted == backup
    wanted, shipped = host.destination(backup, "latest", [later])
    assert (wanted, round(shipped - taken)) == ("latest", 60)
    assert host.destination(backup, backup, [later]) == (backup, taken)
    assert host.age({"started": shipped + 90, "point": shipped})[1] == 90


FOUND: dict[str, t.Any] = {
    "users": 2,
    "credentials": {"values": 3, "unreadable": 0, "where": []},
    "images": {"rows": 4, "missing": 0, "where": []},
}


def test_the_proof_names_what_is_lost() -> None:
    assert "3 stored credentials open, 4 images" in prove.judge(FOUND)
    lost = FOUND | {"credentials": {"values": 3, "unreadable": 1, "where": ["client_key of row 7"]}}
    with pytest.raises(DamagedError, match=r"1 of 3 stored .* client_key of row 7"):
        prove.judge(lost)
    lost = FOUND | {"images": {"rows": 4, "missing": 1, "where": ["image 9"]}}
    with pytest.raises(DamagedError, match="1 of 4 images have no file: image 9"):
        prove.judge(lost)


def test_the_application_says_one_object_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def output(argv: t.Sequence[str]) -> str:
        asked.extend(argv)
        return f"a log\n{json.dumps(FOUND)}\n"

    monkeypatch.setattr(prove, "output", output)
    assert prove.look(["exec"]) == FOUND
    assert asked == ["exec", "python3", "-m", "vedfolnir_adapter.prove"]


@pytest.mark.parametrize("answer", [302, 200])
def test_a_login_is_let_in_or_told(monkeypatch: pytest.MonkeyPatch, answer: int) -> None:
    site: t.Any = {"name": "x", "port": 1, "path": "/", "authorities": ""}
    monkeypatch.setattr(prove, "_post", lambda *_: answer)
    if answer == 302:
        prove.log_in(site, "admin", "p")
    else:
        with pytest.raises(BackupError, match=r"does not let admin in .* answers 200"):
            prove.log_in(site, "admin", "p")
