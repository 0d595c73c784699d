"""Backups in a bucket of S3."""

from __future__ import annotations

import time
import typing as t

import kept
import pytest
import s3
from kept import Deploy
from lab import Lab
from s3 import S3
from target import Target

TARGET = 6
AT_ONCE_SECONDS = 30


@pytest.fixture(scope="module")
def bucket(lab: Lab, deploy: Deploy, target: Target) -> t.Iterator[S3]:
    """The host with its backups at S3."""
    server = S3(target)
    server.start(lab)
    more = {
        "backup_repository": server.repository,
        "backup_repository_user": s3.USER,
        "backup_repository_ca": server.ca,
        "stack_secrets_given": {"backup_repository_password": s3.PASSWORD},
    }
    lab.playbook(variables=deploy.variables | more).check()
    yield server
    server.stop()
    lab.playbook(variables=deploy.variables).check()
    lab.run("rm -f /srv/vedfolnir/.state/backup.json")


def test_a_lost_database_is_back_from_s3(ready: Lab, bucket: S3) -> None:
    kept.write(ready, "saved", 20)
    done = kept.program(ready, "backup")
    assert done.returncode == 0, done.stderr
    assert "make a new repository at s3:" in done.stdout
    kept.write(ready, "since", 20)
    before = kept.data(ready)
    done = kept.program(ready, "ship")
    assert done.returncode == 0, done.stderr
    # The host's own logs are gone, too: all comes from the bucket.
    other = kept.other_settings(ready, streams_directory="/root/nothing")
    arguments = f"restore --to latest --part mysql --part redis --confirm {ready.name}"
    done = kept.program(ready, f"--settings {other} {arguments}")
    assert done.returncode == 0, done.stdout + done.stderr
    found = kept.data(ready)
    assert (found.rows, found.keys) == (before.rows, before.keys)
    assert "captions" in bucket.target.run("ls /srv/backups/s3").split()


def test_a_drill_proves_what_is_there_and_old_ones_go(ready: Lab, bucket: S3) -> None:
    assert bucket
    first = kept.newest(ready)
    other = kept.other_settings(ready, keep={"last": 1, "daily": 0, "weekly": 0, "monthly": 0})
    done = kept.program(ready, f"--settings {other} backup")
    assert done.returncode == 0, done.stderr
    assert first not in kept.program(ready, "list").stdout
    done = kept.program(ready, "drill")
    assert done.returncode == 0, done.stderr
    assert "is proven" in done.stdout


def test_one_that_is_away_is_told_at_once(ready: Lab, bucket: S3) -> None:
    bucket.stop()
    begun = time.monotonic()
    try:
        done = kept.program(ready, "backup")
        seconds = time.monotonic() - begun
    finally:
        bucket.start(ready)
    assert done.returncode == TARGET, done.stderr
    assert f"at {bucket.repository}: the target does not answer" in done.stderr
    assert seconds < AT_ONCE_SECONDS
    assert kept.program(ready, "backup").returncode == 0


def test_the_secret_key_is_on_no_command_line(ready: Lab, bucket: S3) -> None:
    assert bucket
    watch = (
        "touch /run/watch; (while test -e /run/watch; do cat /proc/[0-9]*/cmdline 2>/dev/null; "
        f"done | tr '\\0' '\\n' | sort -u >/run/watched) & {kept.PROGRAM} backup; rm /run/watch; "
        "wait; cat /run/watched /srv/vedfolnir/logs/backup.log /srv/vedfolnir/.state/backup.json "
        "/srv/vedfolnir/metrics/backup.prom"
    )
    seen = ready.run(watch, timeout=600)
    assert "restic" in seen
    assert s3.PASSWORD not in seen
