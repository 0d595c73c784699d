"""The way from a backup to a point: which logs, how far, and what is said when they do not do."""

from __future__ import annotations

import io
import os
import pathlib
import struct
import typing as t
import uuid
import zlib

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_binlog as binlog
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_point as points
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_replay as replay
from ansible_collections.vedfolnir.stack.plugins.module_utils import backup_streams as streams
from ansible_collections.vedfolnir.stack.plugins.module_utils.backup_gtid import GtidSet

A = "11111111-1111-1111-1111-111111111111"
B = "22222222-2222-2222-2222-222222222222"
SECOND = 1000000


def event(kind: int, body: bytes) -> bytes:
    """Return an event with its checksum."""
    header = struct.pack("<IBIIIH", 0, kind, 1, 19 + len(body) + 4, 0, 0)
    return header + body + zlib.crc32(header + body).to_bytes(4, "little")


def log(previous: str, *transactions: tuple[str, int, int]) -> bytes:
    """Return a file: what was before, then server, number and second of each transaction."""
    gtids = GtidSet.parse(previous)
    body = len(gtids.runs).to_bytes(8, "little")
    for server, runs in gtids.runs.items():
        body += uuid.UUID(server).bytes + len(runs).to_bytes(8, "little")
        body += b"".join(struct.pack("<qq", first, last + 1) for first, last in runs)
    result = b"\xfebin" + event(15, bytes(80) + b"\x01") + event(35, body)
    for server, number, second in transactions:
        content = event(2, b"content")
        head = b"\0" + uuid.UUID(server).bytes + struct.pack("<qBqq", number, 2, 0, 1)
        stamp = (second * SECOND).to_bytes(7, "little")
        size = 19 + len(head) + 8 + 4 + len(content)
        result += event(33, head + stamp + bytes([size])) + content
    return result


class Area:
    """A directory as the streams make it."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.known: streams.Known = {}

    def add(self, server: str, second: int, name: str, content: bytes) -> pathlib.Path:
        """Write a file that came by a connection."""
        where = self.root / "mysql" / server / str(second * 1000 * SECOND)
        where.mkdir(parents=True, exist_ok=True)
        (where / name).write_bytes(content)
        return where / name

    def plan(self, have: str, point: str) -> replay.Plan:
        """Plan from a backup at second 10."""
        servers = streams.servers([str(self.root)])
        wanted = points.parse(point)
        number = replay.preferred(servers, wanted)[0]
        return replay.plan(GtidSet.parse(have), 10 * SECOND, servers, number, wanted, self.known)


@pytest.fixture
def area(tmp_path: pathlib.Path) -> Area:
    """Two files of one server: 1 to 3 at seconds 5, 10, 15; 4 to 6 at seconds 20, 25, 30."""
    result = Area(tmp_path)
    result.add(A, 1, "binlog.000001", log("", (A, 1, 5), (A, 2, 10), (A, 3, 15)))
    later = log(f"{A}:1-3", (A, 4, 20), (A, 5, 25), (A, 6, 30))
    result.add(A, 1, "binlog.000002", later)
    result.known = {"servers": {A: {"gtids": f"{A}:1-6", "current": 40 * SECOND}}}
    return result


def at(second: float) -> str:
    """Return a second of 1970 as restore_to."""
    return points.utc(int(second * SECOND))


@pytest.mark.parametrize(
    ("point", "last", "count"),
    [
        ("latest", 6, 4),
        (at(20), 4, 2),
        (at(19.999999), 3, 1),
        (at(12), 2, 0),
        (at(35), 6, 4),
        (at(40), 6, 4),
        (f"{A}:1-5", 5, 3),
        (f"{A}:4", 4, 2),
        (f"{A}:1-2", 2, 0),
    ],
)
def test_points_in_one_servers_logs(area: Area, point: str, last: int, count: int) -> None:
    plan = area.plan(f"{A}:1-2", point)
    assert (str(plan.expected), plan.count) == (f"{A}:1-{last}", count)
    assert plan.last == (10 if last == 2 else last * 5) * SECOND
    assert [os.path.basename(step.path) for step in plan.steps] == [
        name
        for name, needed in (("binlog.000001", last > 2), ("binlog.000002", last > 3))
        if needed
    ]


def test_what_the_backup_has_is_left_out(area: Area) -> None:
    steps = area.plan(f"{A}:1-2", at(20)).steps
    first, second = (binlog.read(step.path).transactions for step in steps)
    assert [(step.start, step.end) for step in steps] == [
        (first[2].start, first[2].end),
        (second[0].start, second[1].start),
    ]


def test_files_of_before_the_backup_are_not_needed(area: Area) -> None:
    plan = area.plan(f"{A}:1-4", "latest")
    assert [os.path.basename(step.path) for step in plan.steps] == ["binlog.000002"]
    assert plan.count == 2


@pytest.mark.parametrize(
    ("point", "message"),
    [
        (
            at(41),
            r"known to be whole until 1970-01-01 00:00:40\.0.* is later; .* restore_to=latest",
        ),
        (f"{A}:7", rf"{A}:7 is not in the logs; .* restore_to='1970-01-01 00:00:30"),
        (f"{B}:1", rf"{B}:1 is not in the logs"),
    ],
)
def test_points_that_are_not_in_the_logs(area: Area, point: str, message: str) -> None:
    with pytest.raises(replay.PointError, match=message):
        area.plan(f"{A}:1-2", point)


def test_a_file_that_was_cut_off(area: Area) -> None:
    path = area.root / "mysql" / A / str(1000 * SECOND) / "binlog.000002"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(replay.PointError) as caught:
        area.plan(f"{A}:1-2", "latest")
    said = str(caught.value)
    assert "binlog.000002 is shorter than it was (it breaks off at" in said
    assert f"{A}:6 is missing" in said
    # What it names can be reached, and is all that is there.
    point = said.partition("restore_to='")[2].strip("'")
    assert str(area.plan(f"{A}:1-2", point).expected) == f"{A}:1-5"
    with pytest.raises(replay.PointError, match="is shorter than it was"):
        area.plan(f"{A}:1-2", at(30))


def test_a_file_that_was_cut_off_before_others(area: Area) -> None:
    area.add(A, 1, "binlog.000003", log(f"{A}:1-6", (A, 7, 35)))
    path = area.root / "mysql" / A / str(1000 * SECOND) / "binlog.000002"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(replay.PointError) as caught:
        area.plan(f"{A}:1-2", "latest")
    said = str(caught.value)
    assert said.startswith("binlog.000002 is shorter than it was (it breaks off at")
    assert f": {A}:6 is missing; the last point that can be reached is" in said


def test_a_file_that_is_missing(area: Area) -> None:
    area.add(A, 1, "binlog.000003", log(f"{A}:1-6", (A, 7, 35)))
    (area.root / "mysql" / A / str(1000 * SECOND) / "binlog.000002").unlink()
    with pytest.raises(replay.PointError) as caught:
        area.plan(f"{A}:1-2", "latest")
    assert f"a gap before binlog.000003: {A}:4-6 is missing" in str(caught.value)
    assert "restore_to='1970-01-01 00:00:15.000000+00:00'" in str(caught.value)
    assert str(area.plan(f"{A}:1-2", at(15)).expected) == f"{A}:1-3"


def test_logs_that_do_not_go_back_to_the_backup(area: Area) -> None:
    (area.root / "mysql" / A / str(1000 * SECOND) / "binlog.000001").unlink()
    with pytest.raises(replay.PointError, match=rf"do not go back to the backup, {A}:3 is missing"):
        area.plan(f"{A}:1-2", "latest")


def test_the_longer_copy_counts(area: Area) -> None:
    area.add(A, 2, "binlog.000002", log(f"{A}:1-3", (A, 4, 20)))
    assert str(area.plan(f"{A}:1-2", "latest").expected) == f"{A}:1-6"


@pytest.fixture
def restored(area: Area) -> Area:
    """After second 50 another server goes on from transaction 4 of the first."""
    content = log("", (A, 3, 45), (A, 4, 46), (B, 1, 60), (B, 2, 70))
    area.add(B, 50, "binlog.000004", content)
    (area.root / "mysql" / B / "purged").write_text(f"{A}:1-2\\n\n", encoding="utf-8")
    area.known["servers"][B] = {"gtids": f"{A}:1-4,{B}:1-2", "current": 80 * SECOND}
    return area


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ("latest", f"{A}:1-4,{B}:1-2"),
        (at(65), f"{A}:1-4,{B}:1"),
        (at(49), f"{A}:1-6"),
        (at(26), f"{A}:1-5"),
        (f"{A}:6", f"{A}:1-6"),
        (f"{B}:1", f"{A}:1-4,{B}:1"),
    ],
)
def test_after_a_restore_its_own_history_counts(restored: Area, point: str, expected: str) -> None:
    assert str(restored.plan(f"{A}:1-2", point).expected) == expected


def test_an_older_backup_takes_what_is_missing_from_the_first_server(restored: Area) -> None:
    plan = restored.plan(f"{A}:1", "latest")
    assert str(plan.expected) == f"{A}:1-4,{B}:1-2"
    assert str(plan.steps[0].include) == f"{A}:2"


def test_which_server_was_production(restored: Area) -> None:
    servers = streams.servers([str(restored.root)])
    assert str(servers[1].history) == f"{A}:1-4,{B}:1-2"
    assert replay.preferred(servers, points.parse("latest")) == [1, 0]
    assert replay.preferred(servers, points.parse(at(65))) == [1, 0]
    assert replay.preferred(servers, points.parse(at(20))) == [0]
    assert replay.preferred(servers, points.parse(f"{A}:1-3")) == [0, 1]
    assert replay.preferred(servers, points.parse(f"{B}:1")) == [1]
    assert replay.preferred([], points.parse("latest")) == []


DUMP = b"""DELIMITER /*!*/;
# at 4
BINLOG '
GRANT
'/*!*/;
SET @@SESSION.GTID_NEXT= 'x:1'/*!*/;
# at 5
/*!80013 SET @@session.sql_require_primary_key=0*//*!*/;
%s
/*!*/;
SET @@SESSION.GTID_NEXT= 'x:2'/*!*/;
COMMIT/*!*/;
"""


@pytest.mark.parametrize(
    "statement",
    [
        b"CREATE USER 'a'@'%' IDENTIFIED WITH 'p' AS '$A\nGRANT'",
        b"alter  user a discard old password",
        b"GRANT ALL ON *.* TO 'a'@'%'",
        b"/* who */ DROP USER a",
        b"SET PASSWORD FOR a = 'x'",
    ],
)
def test_accounts_are_left_out_and_their_transaction_is_not(statement: bytes) -> None:
    out = b"".join(replay.without_accounts(io.BytesIO(DUMP % statement)))
    assert out == DUMP.replace(b"%s\n/*!*/;", b"BEGIN/*!*/;\nCOMMIT/*!*/;")


@pytest.mark.parametrize("statement", [b"CREATE TABLE granted (a INT)", b"DROP TABLE users"])
def test_other_statements_stay(statement: bytes) -> None:
    text = DUMP % statement
    assert b"".join(replay.without_accounts(io.BytesIO(text))) == text


def test_looking_goes_on_where_it_was_left(area: Area) -> None:
    (server,) = streams.servers([str(area.root)])
    first = streams.look(server, {})
    path = pathlib.Path(first["binlog.000002"]["path"])
    whole = log(f"{A}:1-3", (A, 4, 20), (A, 5, 25), (A, 6, 30), (A, 7, 35))
    path.write_bytes(whole)
    second = streams.look(server, first)
    assert second["binlog.000001"] == first["binlog.000001"]
    assert second == streams.look(server, {})
    assert second["binlog.000002"]["gtids"] == f"{A}:4-7"
    assert second["binlog.000002"]["last"] == 35 * SECOND


def test_a_gap_since_the_backup(area: Area) -> None:
    (server,) = streams.servers([str(area.root)])
    files = streams.look(server, {})
    assert not streams.whole_since(GtidSet.parse(f"{A}:1-2"), files)
    del files["binlog.000001"]
    assert str(streams.whole_since(GtidSet.parse(f"{A}:1-2"), files)) == f"{A}:3"
    assert not streams.whole_since(GtidSet.parse(f"{A}:1-3"), files)


def test_copies_that_were_fetched_again_go(area: Area) -> None:
    old = area.root / "mysql" / A / str(1000 * SECOND)
    new = area.add(A, 2, "binlog.000002", (old / "binlog.000002").read_bytes() + b"more")
    area.add(A, 3, "binlog.000001", b"another one")
    streams.tidy(str(area.root), 1000000, 0)
    assert not (old / "binlog.000002").exists()
    assert new.exists()
    # One that is not the same stays, whichever is the true one.
    assert (old / "binlog.000001").exists()


def test_old_files_go_but_none_that_is_newer_than_the_backup(area: Area) -> None:
    old = area.root / "mysql" / A / str(1000 * SECOND)
    for name in ("binlog.000001", "binlog.000002"):
        os.utime(old / name, (1000, 1000))
    streams.tidy(str(area.root), 1, 999)
    assert len(list(old.iterdir())) == 2
    streams.tidy(str(area.root), 1, 1001)
    assert [path.name for path in old.iterdir()] == ["binlog.000002"]


def redis(directory: pathlib.Path, base: str, *increments: str) -> None:
    """Write an append-only directory."""
    where = directory / "appendonlydir"
    where.mkdir(parents=True, exist_ok=True)
    lines = [f"file {base} seq 1 type b\n"]
    if not (where / base).exists():
        (where / base).write_bytes(b"REDIS0012\xfa\x05ctime\xc2" + (100).to_bytes(4, "little"))
    for name in increments:
        (where / name).touch()
        lines.append(f"file {name} seq 1 type i\n")
    (where / "appendonly.aof.manifest").write_text("".join(lines), encoding="utf-8")


@pytest.mark.usefixtures("kept_as_root")
def test_redis_is_kept_beside_its_directory(tmp_path: pathlib.Path) -> None:
    data, place = tmp_path / "data", tmp_path / "streams"
    redis(data, "one.base", "one.incr")
    first = streams.keep_redis(str(data), str(place))
    with (data / "appendonlydir" / "one.incr").open("ab") as handle:
        handle.write(b"appended")
    assert streams.keep_redis(str(data), str(place)) == first
    redis(data, "two.base", "two.incr")
    (data / "appendonlydir" / "one.incr").unlink()
    second = streams.keep_redis(str(data), str(place))
    assert second != first
    one, two = streams.generations([str(place)])
    assert (one.path, one.names, one.since) == (first, ["one.base", "one.incr"], 100 * SECOND)
    assert (pathlib.Path(first) / "one.incr").read_bytes() == b"appended"
    # Its base is older than the first one's: it was put in place by a restore.
    assert (two.path, two.since) == (second, two.seen)


@pytest.fixture
def kept_as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Owners cannot be given by everybody who runs the tests."""

    def write(path: str, content: bytes, **_how: t.Any) -> None:
        pathlib.Path(path).write_bytes(content)

    monkeypatch.setattr(streams, "write_atomic", write)


def test_the_largest_transaction_that_is_replayed_is_known(area: Area) -> None:
    """For it the scratch MySQL needs memory; what the backup has does not count."""
    path = area.root / "mysql" / A / str(1000 * SECOND) / "binlog.000001"
    sizes = [one.end - one.start for one in binlog.read(str(path)).transactions]
    assert area.plan(f"{A}:1", "latest").largest == max(sizes) > 0
    assert area.plan(f"{A}:1-6", "latest").largest == 0
    found = replay.Plan()
    found.take(
        [binlog.Transaction(A, n, n, 100, 100 + size) for n, size in ((1, 9), (2, 70), (3, 8))]
    )
    assert (found.count, found.last, found.largest) == (3, 3, 70)
