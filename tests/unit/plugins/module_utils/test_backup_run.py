"""Lock, deadline, processes, scratch project, moves, metrics."""

from __future__ import annotations

import signal
import subprocess
import time
import types
import typing as t
from pathlib import Path

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_base as base
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_report as report
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_restore as restore
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_scratch as scratch
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_place import Place


def test_one_at_a_time(tmp_path: Path) -> None:
    path = str(tmp_path / "run" / "lock")
    with base.alone(path), pytest.raises(base.BusyError, match="wait for it"), base.alone(path):
        pass
    with base.alone(path):
        pass


def test_the_deadline_ends_what_goes_on() -> None:
    with pytest.raises(base.DeadlineError, match="not done within 0 minutes"), base.deadline(1):
        time.sleep(10)


def test_who_is_asked_to_end_cleans_up() -> None:
    with pytest.raises(base.BackupError, match="was asked to end"), base.deadline(60):
        signal.raise_signal(signal.SIGTERM)


def test_a_process_does_not_outlive_its_block() -> None:
    with (
        pytest.raises(ValueError, match="enough"),
        base.process(["sleep", "60"], stdin=subprocess.DEVNULL) as (child, _complaint),
    ):
        raise ValueError("enough")
    assert child.poll() == -signal.SIGKILL


def test_what_a_process_complains_about_can_be_read() -> None:
    argv = ["sh", "-c", "echo one >&2; echo two >&2; exit 3"]
    with base.process(argv) as (child, complaint):
        assert child.wait() == 3
        assert complaint() == "one / two"
    with pytest.raises(base.BackupError, match=r"^`sh -c .* failed: one / two"):
        base.output(argv)


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(base.BackupError, match="/nonexistent cannot be run"):
        base.output(["/nonexistent"])


CONFIG: dict[str, t.Any] = {
    "services": {
        "mysql": {
            "image": "mysql:1",
            "networks": {"internal": {}},
            "restart": "unless-stopped",
            "labels": {"a": "b"},
            "ports": ["3306"],
            "deploy": {"resources": {"reservations": {"memory": "1048576"}}},
            "volumes": [
                {"type": "bind", "source": "/srv/v/data/mysql", "target": "/var/lib/mysql"},
                {"type": "bind", "source": "/run/v/mysql", "target": "/run/secrets"},
            ],
        },
        "app-1": {"image": "app:1", "networks": {"edge": {}, "internal": {}}, "depends_on": ["x"]},
    }
}


def test_the_scratch_project_has_a_network_of_its_own() -> None:
    moved = {"/srv/v/data/mysql": "/srv/v/backups/scratch/mysql"}
    project = scratch.scratch_project(CONFIG, "v-scratch", ("mysql", "app-1"), moved)
    assert project["networks"] == {"scratch": {"internal": True}}
    for service in project["services"].values():
        assert list(service["networks"]) == ["scratch"]
        assert service["restart"] == "no"
        assert not {"ports", "labels", "depends_on"} & set(service)
    sources = [volume["source"] for volume in project["services"]["mysql"]["volumes"]]
    assert sources == ["/srv/v/backups/scratch/mysql", "/run/v/mysql"]
    assert scratch.reserved_memory(project) == 1048576


def test_available_memory_is_read() -> None:
    assert scratch.available_memory("MemTotal: 9 kB\nMemAvailable:   2048 kB\n") == 2 * 1024**2
    assert scratch.available_memory("") == 0


@pytest.mark.parametrize(
    ("limit", "more", "expected"),
    [
        # As much as is asked for, then half of what is free, then nothing where there is no limit.
        ("1000", 500, ["1500"]),
        ("1000", 1 << 60, [str(1000 + 1024**2)]),
        ("0", 500, []),
    ],
)
def test_a_scratch_service_may_get_more_memory(
    monkeypatch: pytest.MonkeyPatch, limit: str, more: int, expected: list[str]
) -> None:
    updated: list[str] = []

    def output(argv: t.Sequence[str]) -> str:
        if argv[1] == "update":
            updated.append(argv[argv.index("--memory") + 1])
            assert argv[argv.index("--memory-swap") + 1] == updated[-1]
        return limit if argv[1] == "container" else "id"

    monkeypatch.setattr(scratch, "output", output)
    monkeypatch.setattr(scratch, "available_memory", lambda _text: 2 * 1024**2)
    work = object.__new__(scratch.Scratch)
    monkeypatch.setattr(work, "_place", Place("v-scratch", "/none"), raising=False)
    work.widen("mysql", more)
    assert updated == expected


def tree(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): p.read_text() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("done", range(5))
@pytest.mark.parametrize("lost", [False, True])
def test_moves_that_were_broken_off_are_undone(tmp_path: Path, done: int, lost: bool) -> None:
    moves: list[tuple[str, str]] = []
    for name in ("mysql", "storage"):
        for where, text in (("data", "old"), ("scratch", "new")):
            if not (lost and where == "data"):
                (tmp_path / where / name).mkdir(parents=True)
                (tmp_path / where / name / "file").write_text(text)
        place = str(tmp_path / "data" / name)
        moves.append((place, str(tmp_path / "kept" / name)))
        moves.append((str(tmp_path / "scratch" / name), place))
    before = tree(tmp_path)
    restore.do_moves(moves[:done])
    restore.undo_moves(moves)
    assert tree(tmp_path) == before
    restore.do_moves(moves)
    found = tree(tmp_path)
    assert {found["data/mysql/file"], found["data/storage/file"]} == {"new"}
    assert ("kept/mysql/file" in found) is not lost


def test_a_move_that_fails_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that refuses a rename leaves production as it was, and no record of half a restore."""
    settings = t.cast(
        "base.Settings",
        types.SimpleNamespace(project_src=str(tmp_path), state_directory=str(tmp_path)),
    )
    (tmp_path / "storage").mkdir()
    (tmp_path / "storage/file").write_text("old")
    started: list[str] = []
    monkeypatch.setattr(restore, "write_atomic", lambda path, content, **_: _write(path, content))
    monkeypatch.setattr(restore, "_stop", lambda *_: started.append("stop"))
    monkeypatch.setattr(restore, "_start", lambda *_: started.append("start"))
    work = object.__new__(restore.Restore)
    moves = [
        (str(tmp_path / "storage"), str(tmp_path / "kept/storage")),
        (str(tmp_path / "new"), str(tmp_path / "storage")),
    ]
    monkeypatch.setattr(work, "_settings", settings, raising=False)
    monkeypatch.setattr(work, "_say", lambda _text: None, raising=False)
    monkeypatch.setattr(work, "_services", lambda: ["app-1"])
    monkeypatch.setattr(work, "_moves", lambda: moves)

    def full(every: t.Sequence[tuple[str, str]]) -> None:
        real(every[:1])
        raise OSError(28, "No space left on device")

    real = restore.do_moves
    monkeypatch.setattr(restore, "do_moves", full)
    with pytest.raises(base.BackupError, match=r"No space left .* in its place again"):
        work._exchange()
    assert (tmp_path / "storage/file").read_text() == "old"
    assert not (tmp_path / "restore.json").exists()
    assert started == ["stop", "stop", "start"]


def _write(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)


def test_metrics_have_what_is_known() -> None:
    text = report.metrics({"backup": {"exit": 5, "succeeded": 1795590574.5}, "drill": {"x": 1}})
    assert "vedfolnir_backup_last_exit_code 5.0\n" in text
    assert "vedfolnir_backup_last_success_seconds 1795590574.5\n" in text
    assert "drill" not in text
    assert report.metrics({}) == ""
