"""The timer of shipments; what backups needed goes when they are turned off. Runs last."""

from __future__ import annotations

import kept
from kept import Deploy
from lab import Lab
from target import DIRECTORY, Target

TRACES = (
    "ls -d /usr/local/lib/vedfolnir/backup /etc/vedfolnir/backup "
    "/srv/vedfolnir/metrics/backup.prom "
    "/etc/systemd/system/vedfolnir-backup.* /etc/systemd/system/vedfolnir-drill.* "
    "/etc/systemd/system/vedfolnir-ship.* /srv/vedfolnir/compose.d/binlogs.yml "
    f"{kept.SECRETS}/mysql-binlogs /srv/vedfolnir/config/mysql-binlogs "
    "/etc/systemd/system/timers.target.wants/vedfolnir-backup.timer "
    f"{kept.SECRETS}/backup {kept.SECRETS}/mysql/backup.cnf {kept.SECRETS}/redis/backup.redis "
    "/usr/local/lib/vedfolnir/python/*/*/*/*/module_utils/backup_* /var/cache/vedfolnir/restic "
    "2>/dev/null; grep -l 'user backup' /run/vedfolnir/secrets/redis/users.acl; "
    "dpkg -l restic | grep ^ii; docker ps -a | grep mysql-binlogs; "
    "systemctl list-timers --all | grep -E 'vedfolnir-(backup|drill|ship)'; :"
)


BUSY = 3
SHIPPED = (
    "awk 'BEGIN {{ r = 1 }} /^vedfolnir_backup_ship_last_success_seconds/ {{ r = !($2 > {0}) }} "
    "END {{ exit r }}' /srv/vedfolnir/metrics/backup.prom"
)
"""Ends with 0 when logs were shipped after a time."""


def test_the_timer_ships_by_itself(ready: Lab, deploy: Deploy) -> None:
    assert kept.program(ready, "backup").returncode == 0
    run = ready.playbook(variables=deploy.variables | {"backup_ship_seconds": 10}).check()
    assert "vedfolnir-ship.timer" in ready.run("systemctl list-timers --all")
    assert run.recap["failed"] == 0
    # Again and again.
    for _time in range(2):
        now = ready.run("date +%s").strip()
        ready.run(f"until {SHIPPED.format(now)}; do sleep 1; done", timeout=90)
        assert kept.metric(ready, "ship_last_exit_code") == 0
    kept.write(ready, "streamed", 5)
    written = int(ready.run("date +%s"))
    ready.run(f"until {SHIPPED.format(written + 1)}; do sleep 1; done", timeout=90)
    assert kept.metric(ready, "binlogs_complete_seconds") >= written


def test_shipments_and_what_needs_the_repository_alone_wait_for_each_other(ready: Lab) -> None:
    other = kept.other_settings(ready, keep={"last": 1, "daily": 0, "weekly": 0, "monthly": 0})
    failed = "journalctl --no-pager -o cat -u vedfolnir-ship --since '{0}' | grep -c 'not succeed'"
    since = ready.run("date '+%F %T'").strip()
    ships = (
        f"while test -e /run/ships; do {kept.PROGRAM} ship || test $? = {BUSY} || "
        "touch /run/ship-failed; done "
        ">/dev/null 2>&1 &"
    )
    ready.run(f"rm -f /run/ship-failed; touch /run/ships; {ships}")
    try:
        for command in (f"--settings {other} backup", "drill", f"--settings {other} backup"):
            done = kept.program(ready, command)
            assert done.returncode == 0, done.stderr
    finally:
        ready.run("rm /run/ships; sleep 5")
    assert ready.ssh("test -e /run/ship-failed").returncode != 0
    assert ready.ssh(failed.format(since)).stdout.strip() == "0"


def test_off_leaves_nothing_but_the_backups(ready: Lab, deploy: Deploy, target: Target) -> None:
    on = deploy.variables | {"backup_timer_enabled": True}
    assert "no backup: " not in ready.playbook(variables=on).check().output
    assert "vedfolnir-backup.timer" in ready.run(TRACES)
    started = ready.started()

    off = on | {"backup_enabled": False}
    said = " ".join(ready.playbook(variables=off).check().output.split())
    assert "WARNING: no backup: this host takes none" in said
    assert ready.run(TRACES).strip() == ""
    users = "SELECT COUNT(*) FROM mysql.user WHERE user LIKE '%backup%' OR user LIKE '%binlog%'"
    assert kept.sql(ready, users) == "0"
    assert target.run(f"ls {DIRECTORY}/repository/config")
    assert ready.playbook(variables=off).check().did("changed") == []
    # MySQL and Redis read their new files while they run.
    del started["mysql-binlogs"]
    assert ready.started() == started

    run = ready.playbook(variables=deploy.variables).check()
    assert "for sftp only: ssh-ed25519 " in " ".join(run.output.split())
    target.let_in(ready.run("cat /etc/vedfolnir/backup/id_ed25519.pub"))
    done = kept.program(ready, "backup")
    assert done.returncode == 0, done.stderr
    # The same repository, opened with the key that was kept.
    assert "make a new repository" not in done.stdout
