"""Recovery to a point: what was committed until then is there, and nothing else."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import pathlib
import time
import typing as t

import bare
import kept
import pytest
from kept import Deploy
from lab import Lab

RECORD = "/root/written"
DISASTER = (
    "cd /srv/vedfolnir && rm -rf data/mysql data/redis && docker compose kill mysql redis; "
    "date +%s.%N"
)
LOST_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Written:
    """What the writer has sent at a time and was answered at another, by number."""

    sent: dict[int, float]
    answered: dict[int, float]

    def until(self, moment: float) -> set[int]:
        """Return what was there for certain at a time."""
        return {number for number, when in self.answered.items() if when <= moment}

    def begun(self, moment: float) -> set[int]:
        """Return what may have been there at a time."""
        return {number for number, when in self.sent.items() if when <= moment}


def written(lab: Lab) -> dict[str, Written]:
    """Read the writer's record, by kind."""
    result = {kind: Written({}, {}) for kind in ("rows", "keys")}
    for line in lab.run(f"cat {RECORD}").splitlines():
        kind, number, sent, *answered = line.split()
        result[kind].sent[int(number)] = float(sent)
        if answered:
            result[kind].answered[int(number)] = float(answered[0])
    return result


def found(lab: Lab) -> dict[str, set[int]]:
    """Return the numbers that are there; each must have the value that belongs to it."""
    pairs = [line.split() for line in kept.sql(lab, "SELECT n, v FROM backup_moment").splitlines()]
    rows = {int(number): value for number, value in pairs}
    names = sorted(
        int(name.partition(":")[2]) for name in kept.redis(lab, "KEYS 'probe:*'").split()
    )
    asked = "\n".join(f"GET probe:{number}" for number in names)
    password = f"AUTH vedfolnir $(cat {kept.SECRETS}/app/redis_password)"
    answers = lab.run(
        f'(echo "{password}"; cat) | (cd /srv/vedfolnir && docker compose exec -T redis redis-cli)',
        stdin=f"{asked}\n",
    ).split()
    keys = dict(zip(names, answers[1:], strict=True))
    for values in (rows, keys):
        wrong = [n for n, v in values.items() if v != hashlib.sha256(str(n).encode()).hexdigest()]
        assert wrong == []
    return {"rows": set(rows), "keys": set(keys)}


class Writer:
    """The program that writes on the host."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        source = pathlib.Path(__file__).with_name("writer.py").read_text(encoding="utf-8")
        lab.run("cat >/root/writer.py", stdin=source)
        kept.sql(lab, "CREATE TABLE IF NOT EXISTS backup_moment (n INT PRIMARY KEY, v CHAR(64))")

    def start(self, number: int) -> None:
        """Begin after a number."""
        self._lab.run(
            f"setsid python3 /root/writer.py {number} </dev/null >/root/writer.log 2>&1 & "
            "echo $! >/run/writer.pid"
        )

    def stop(self) -> None:
        """End it."""
        self._lab.ssh("kill $(cat /run/writer.pid); sleep 1; cat /root/writer.log")


class History(t.NamedTuple):
    """What has happened to the host before the tests look at it."""

    backup: str
    disaster: float
    moments: list[float]
    written: dict[str, Written]
    gtid: str
    rows: str
    """Digest of what one statement has written, more than any usual limit of a packet."""


def now(lab: Lab) -> float:
    """Return the host's time."""
    return float(lab.run("date +%s.%N"))


def ship(lab: Lab) -> None:
    """Ship the streams."""
    done = kept.program(lab, "ship")
    assert done.returncode == 0, done.stdout + done.stderr


def restored(lab: Lab, to: str, arguments: str = "--part mysql --part redis") -> str:
    """Restore to a point; return what was said."""
    done = kept.program(lab, f"restore --to '{to}' {arguments} --confirm {lab.name}")
    assert done.returncode == 0, done.stdout + done.stderr
    lab.wait_healthy()
    return done.stdout


def as_time(moment: float) -> str:
    """Return a time as restore_to takes it."""
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat(sep=" ")


@pytest.fixture(scope="module")
def history(lab: Lab, deploy: Deploy) -> t.Iterator[History]:
    """Writes without a pause over a backup, a killed stream and a restart; then a disaster."""
    assert deploy.run.status == 0
    lab.wait_healthy()
    lab.run(f"rm -f {RECORD}")
    writer = Writer(lab)
    kept.sql(lab, "TRUNCATE backup_moment")
    kept.clear(lab)
    writer.start(0)
    time.sleep(2)
    assert kept.program(lab, "backup").returncode == 0
    backup = kept.newest(lab)
    bare.rows(lab, bare.HUGE)
    rows = kept.sql(lab, bare.BULK)
    moments = [float(int(now(lab)) + 2)]
    time.sleep(4)
    ship(lab)
    lab.compose("kill -s KILL mysql-binlogs")
    kept.sql(lab, "FLUSH BINARY LOGS")
    time.sleep(1)
    lab.compose("start mysql-binlogs")
    lab.compose("restart mysql")
    lab.wait_healthy()
    moments.append(float(int(now(lab)) + 2))
    time.sleep(4)
    kept.sql(lab, "FLUSH BINARY LOGS")
    gtid = kept.sql(lab, "SELECT @@GLOBAL.gtid_executed")
    moments.append(float(int(now(lab)) + 1))
    time.sleep(3)
    disaster = float(lab.run(DISASTER))
    writer.stop()
    yield History(backup, disaster, moments, written(lab), gtid.replace("\\n", ""), rows)
    kept.sql(lab, "DROP TABLE IF EXISTS backup_moment, backup_bulk")
    lab.run("rm -rf /srv/vedfolnir/backups/replaced-*")


def test_a_lost_data_directory_loses_seconds_at_most(lab: Lab, history: History) -> None:
    run = lab.playbook(
        "playbooks/restore.yml",
        variables={"restore_confirm": lab.name, "restore_parts": "mysql,redis"},
    ).check()
    assert "transactions replayed" in run.output
    lab.wait_healthy()
    assert kept.sql(lab, bare.BULK) == history.rows
    for kind, there in found(lab).items():
        all_of_them = history.written[kind]
        certain = all_of_them.until(history.disaster)
        lost = certain - there
        newest = max(all_of_them.answered[number] for number in certain & there)
        print(
            f"{kind}: {len(certain)} written, {len(certain & there)} there, {len(lost)} lost, "
            f"RPO {history.disaster - newest:.3f} s"
        )
        assert there <= set(all_of_them.sent)
        assert all(
            all_of_them.answered[number] > history.disaster - LOST_SECONDS for number in lost
        )
        assert len(certain) > 500


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_time_in_the_middle(lab: Lab, history: History, number: int) -> None:
    moment = history.moments[number]
    said = restored(lab, as_time(moment))
    assert f"restore the backup {history.backup}" in said
    for kind, there in found(lab).items():
        must, may = history.written[kind].until(moment), history.written[kind].begun(moment)
        print(f"{kind} at {as_time(moment)}: {len(must)} until then, {len(there)} there")
        assert must - there == set()
        assert there - may == set()


def test_transactions(lab: Lab, history: History) -> None:
    said = restored(lab, history.gtid)
    assert "transactions replayed" in said
    executed = kept.sql(lab, "SELECT @@GLOBAL.gtid_executed").replace("\\n", "")
    for part in history.gtid.split(","):
        assert part in executed


def test_what_was_written_after_a_restore_is_the_latest(lab: Lab, history: History) -> None:
    assert history.backup
    kept.sql(lab, "INSERT INTO backup_moment VALUES (1000001, 'after')")
    # Nothing was shipped since the restore.
    kept.redis(lab, "SET probe:1000001 after")
    before = kept.sql(lab, "SELECT COUNT(*), MAX(n) FROM backup_moment")
    time.sleep(2)
    said = restored(lab, "latest")
    assert f"restore the backup {history.backup}" in said
    assert kept.sql(lab, "SELECT COUNT(*), MAX(n) FROM backup_moment") == before
    assert kept.redis(lab, "GETDEL probe:1000001") == "after"
    kept.sql(lab, "DELETE FROM backup_moment WHERE n > 1000000")


def newest_log(lab: Lab, place: str) -> str:
    """Return the log that is written to."""
    find = f"find {place} -name 'binlog.*' -printf '%f %p\\n' | sort | tail -n 1"
    return lab.run(find).split()[1]


def test_a_damaged_log_is_mended_from_the_repository_or_told(lab: Lab, history: History) -> None:
    assert history.backup
    assert kept.program(lab, "backup").returncode == 0
    writer = Writer(lab)
    writer.start(2000000)
    time.sleep(3)
    writer.stop()
    ship(lab)
    lab.run(f"rm -rf /root/streams && cp -a {kept.STREAMS} /root/streams")
    other = kept.other_settings(lab, streams_directory="/root/streams")
    server = kept.sql(lab, "SELECT @@server_uuid")
    log = newest_log(lab, f"/root/streams/mysql/{server}")
    plan = f"--settings {other} restore --part mysql --plan --to latest"
    whole = kept.program(lab, plan)
    assert whole.returncode == 0, whole.stderr
    lab.run(f"truncate -s -5000 {log}")
    mended = kept.program(lab, plan)
    assert mended.returncode == 0, mended.stderr
    assert "fetch the logs that were shipped" in mended.stdout
    assert whole.stdout.splitlines()[2] in mended.stdout

    lab.run(f"rm -rf {kept.STREAMS}.saved; cp -a {kept.STREAMS} {kept.STREAMS}.saved")
    kept.restic(lab, "forget -q --tag part=streams --unsafe-allow-remove-all")
    told = kept.program(lab, plan)
    assert told.returncode == 5, told.stdout
    assert "is shorter than it was" in told.stderr
    reachable = told.stderr.partition("restore_to='")[2].partition("'")[0]
    assert kept.program(lab, plan.replace("latest", f"'{reachable}'")).returncode == 0
    lab.run(f"rm {log}")
    told = kept.program(lab, plan)
    assert told.returncode == 5, told.stdout
    assert "missing" in told.stderr or "logs are gone" in told.stderr
    print(told.stderr.strip())
    lab.run(f"rm -rf {kept.STREAMS}.saved /root/streams")
    ship(lab)


def test_points_that_cannot_be_reached(lab: Lab, history: History) -> None:
    assert history.backup
    for to, message in (
        ("2030-01-01 00:00:00", "for all that there is say restore_to=latest"),
        ("2020-01-01 00:00:00", "there is no backup of before"),
        ("yesterday", "no point to restore to"),
    ):
        done = kept.program(lab, f"restore --plan --to '{to}'")
        assert done.returncode != 0
        assert message in done.stderr


def test_a_stream_that_stands_still_is_told(lab: Lab, history: History) -> None:
    assert history.backup
    ship(lab)
    before = kept.metric(lab, "binlogs_complete_seconds")
    lab.compose("pause mysql-binlogs")
    try:
        kept.sql(lab, "DELETE FROM backup_moment WHERE n = 1")
        done = lab.ssh(f"timeout 60 {kept.PROGRAM} ship")
    finally:
        lab.compose("unpause mysql-binlogs")
    assert done.returncode == 1, done.stdout
    assert "binary logs" in done.stderr
    assert kept.metric(lab, "binlogs_complete_seconds") == before
    assert kept.metric(lab, "ship_last_exit_code") == 1
    lab.wait_healthy()
    ship(lab)
    assert kept.metric(lab, "binlogs_complete_seconds") > before


def test_a_gap_is_told_until_there_is_a_new_backup(lab: Lab, history: History) -> None:
    assert history.backup
    lab.compose("stop mysql-binlogs")
    kept.sql(lab, "DELETE FROM backup_moment WHERE n = 2; FLUSH BINARY LOGS; FLUSH BINARY LOGS")
    last = kept.sql(lab, "SHOW BINARY LOGS").splitlines()[-1].split()[0]
    kept.sql(lab, f"PURGE BINARY LOGS TO '{last}'")
    lab.compose("start mysql-binlogs")
    lab.wait_healthy()
    time.sleep(3)
    done = kept.program(lab, "ship")
    assert done.returncode == 1, done.stdout
    assert "take a backup" in done.stderr
    assert kept.metric(lab, "binlogs_gap") == 1
    assert kept.program(lab, "backup").returncode == 0
    ship(lab)
    assert kept.metric(lab, "binlogs_gap") == 0


@pytest.mark.parametrize("moment", ["mysql: as the manifest", "transactions replayed", "stop app"])
def test_a_restore_to_a_point_that_is_killed(lab: Lab, history: History, moment: str) -> None:
    assert history.backup
    before = kept.sql(lab, "SELECT COUNT(*), MAX(n) FROM backup_moment")
    kept.kill(lab, f"restore --to latest --part mysql --confirm {lab.name}", moment)
    restored(lab, "latest", "--part mysql")
    assert kept.sql(lab, "SELECT COUNT(*), MAX(n) FROM backup_moment") == before
    assert kept.left_behind(lab) == []


@pytest.mark.parametrize("seconds", [0.2, 0.7, 1.5])
def test_a_shipment_that_is_killed(lab: Lab, history: History, seconds: float) -> None:
    assert history.backup
    lab.ssh(f"timeout -s KILL {seconds} setsid -w {kept.PROGRAM} ship")
    ship(lab)
    assert json.loads(lab.run(f"cat {kept.STREAMS}/known.json"))["mysql"]["current"] > 0
