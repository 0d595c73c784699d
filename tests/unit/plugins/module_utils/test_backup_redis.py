"""Redis' files are copied so that they belong together."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_redis as redis
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_base import BackupError

FIRST = (
    "file appendonly.aof.1.base.rdb seq 1 type b\n"
    "file appendonly.aof.1.incr.aof seq 1 type i startoffset 0\n"
)
SECOND = FIRST.replace(".1.", ".2.").replace("seq 1", "seq 2")
OLD = "file appendonly.aof.0.base.rdb seq 0 type h\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """What Redis has on its disk."""
    append = tmp_path / "data" / "appendonlydir"
    append.mkdir(parents=True)
    (append / "appendonly.aof.manifest").write_text(OLD + FIRST)
    for number in (1, 2):
        (append / f"appendonly.aof.{number}.base.rdb").write_text(f"base {number}")
        (append / f"appendonly.aof.{number}.incr.aof").write_text(f"incr {number}")
    (tmp_path / "data" / "dump.rdb").write_text("snapshot")
    return tmp_path / "data"


def test_history_is_not_part_of_the_state() -> None:
    assert redis.listed(OLD + FIRST) == ["appendonly.aof.1.base.rdb", "appendonly.aof.1.incr.aof"]
    assert redis.listed('file "with blank" seq 1 type b\n') == ["with blank"]


def test_a_rewrite_in_the_middle_starts_it_again(data: Path) -> None:
    texts = iter([FIRST, SECOND, SECOND, SECOND])
    with contextlib.ExitStack() as stack:
        text, files = redis.open_whole(
            str(data / "appendonlydir"), stack, lambda _path: next(texts)
        )
        assert text == SECOND
        assert {name: handle.read() for name, handle in files.items()} == {
            "appendonly.aof.2.base.rdb": b"base 2",
            "appendonly.aof.2.incr.aof": b"incr 2",
        }


def test_a_file_that_is_gone_starts_it_again(data: Path) -> None:
    texts = iter([FIRST.replace(".1.", ".9."), FIRST, FIRST])
    with contextlib.ExitStack() as stack:
        _text, files = redis.open_whole(
            str(data / "appendonlydir"), stack, lambda _path: next(texts)
        )
        assert len(files) == 2


def test_a_manifest_that_is_just_written_is_not_read(data: Path, tmp_path: Path) -> None:
    (data / "appendonlydir" / "temp-appendonly.aof.manifest").write_text("file half")
    files = redis.copy(str(data), str(tmp_path / "copy"))
    assert [name for name in files if name.endswith(".manifest")] == [
        "appendonlydir/appendonly.aof.manifest"
    ]


def test_rewrites_without_end_are_an_error(data: Path) -> None:
    count = iter(range(1000))
    with contextlib.ExitStack() as stack, pytest.raises(BackupError, match="all the time"):
        redis.open_whole(str(data / "appendonlydir"), stack, lambda _path: f"{FIRST}{next(count)}")


def test_what_is_appended_meanwhile_is_not_copied(data: Path, tmp_path: Path) -> None:
    path = data / "appendonlydir" / "appendonly.aof.1.incr.aof"
    with path.open("rb") as handle:
        os.unlink(path)
        found = redis.copy_open(handle, str(tmp_path / "copy"))
    assert found["bytes"] == 6
    assert (tmp_path / "copy").read_text() == "incr 1"


def test_a_copy_is_what_its_digests_say(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    target.mkdir()
    found = redis.copy(str(data), str(target))
    assert sorted(found) == [
        "appendonlydir/appendonly.aof.1.base.rdb",
        "appendonlydir/appendonly.aof.1.incr.aof",
        "appendonlydir/appendonly.aof.manifest",
        "dump.rdb",
    ]
    assert redis.digests(str(target)) == found
    assert (target / "appendonlydir" / "appendonly.aof.manifest").read_text() == FIRST


def test_without_an_append_only_file_it_is_an_error(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack, pytest.raises(BackupError, match="has no manifest"):
        redis.open_whole(str(tmp_path), stack)


def test_keys_are_read_from_what_the_tool_says() -> None:
    assert redis.keys_in("[offset 0] Checking\n[info] 12 keys read\n[info] 3 expires\n") == 12
    with pytest.raises(BackupError, match="did not say"):
        redis.keys_in("--- RDB ERROR DETECTED ---")
