"""Further repositories get each backup; one that fails is told, and takes nothing away."""

from __future__ import annotations

import json
import time
import typing as t

import kept
import pytest
import rest
from kept import Deploy
from lab import Lab
from rest import Rest
from target import DIRECTORY, Target

TARGET, COPY = 6, 7
AT_ONCE_SECONDS = 30
LOCAL = "/srv/second-disk"


@pytest.fixture(scope="module")
def copied(lab: Lab, deploy: Deploy, target: Target) -> t.Iterator[Rest]:
    """The host with two copies: a second disk, and a rest-server that only lets it add."""
    server = Rest(target)
    server.start(lab)
    remote = {
        "repository": server.repository,
        "repository_user": rest.USER,
        "append_only": True,
    }
    more = {
        "backup_copies": [{"repository": LOCAL}, remote],
        "backup_repository_ca": server.ca,
        "stack_secrets_given": {"backup_copy_password": rest.PASSWORD},
    }
    lab.playbook(variables=deploy.variables | more).check()
    yield server
    server.stop()
    lab.playbook(variables=deploy.variables).check()
    lab.run(f"rm -rf {LOCAL}")


def copy_metric(lab: Lab, name: str, repository: str) -> float:
    """Return a figure of one copy."""
    text = lab.run("cat /srv/vedfolnir/metrics/backup.prom")
    start = f"vedfolnir_backup_{name}{{repository={json.dumps(repository)}}} "
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return float(line.removeprefix(start))


def test_each_gets_the_backup_and_proves_it(ready: Lab, copied: Rest, target: Target) -> None:
    kept.write(ready, "copied")
    done = kept.program(ready, "backup")
    assert done.returncode == 0, done.stderr
    newest = kept.newest(ready)
    for number, repository in ((1, LOCAL), (2, copied.repository)):
        assert copy_metric(ready, "copy_last_exit_code", repository) == 0
        assert f"{newest}  complete" in kept.program(ready, f"--copy {number} list").stdout
    done = kept.program(ready, "--copy 2 drill")
    assert done.returncode == 0, done.stderr
    assert "is proven" in done.stdout
    assert target.run(f"ls {DIRECTORY}/rest/copy/config")


def test_a_copy_restores_what_the_first_has_lost(ready: Lab, copied: Rest) -> None:
    assert copied
    kept.write(ready, "first", 20)
    assert kept.program(ready, "backup").returncode == 0
    before, newest = kept.data(ready), kept.newest(ready)
    kept.write(ready, "later", 20)
    done = kept.program(ready, f"--copy 1 restore --id {newest} --confirm {ready.name}")
    assert done.returncode == 0, done.stderr
    assert kept.data(ready) == before


@pytest.mark.parametrize("number", [1, 2])
def test_a_copy_has_the_logs_since(ready: Lab, copied: Rest, number: int) -> None:
    assert copied
    kept.write(ready, "first", 20)
    assert kept.program(ready, "backup").returncode == 0
    kept.write(ready, "since", 20)
    before = kept.data(ready)
    done = kept.program(ready, "ship")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("shipped to the copy at ") == 2
    assert copy_metric(ready, "copy_ship_last_exit_code", copied.repository) == 0
    # The host's own logs are gone, too: all comes from the copy.
    other = kept.other_settings(ready, streams_directory="/root/nothing")
    arguments = f"restore --to latest --part mysql --part redis --confirm {ready.name}"
    done = kept.program(ready, f"--settings {other} --copy {number} {arguments}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fetch the logs that were shipped" in done.stdout
    found = kept.data(ready)
    assert (found.rows, found.keys) == (before.rows, before.keys)
    # With its own logs again, and those of the server that has begun since.
    assert kept.program(ready, "ship").returncode == 0
    kept.write(ready, "again", 20)
    before = kept.data(ready)
    time.sleep(1)
    done = kept.program(ready, f"--copy {number} {arguments}")
    assert done.returncode == 0, done.stdout + done.stderr
    found = kept.data(ready)
    assert (found.rows, found.keys) == (before.rows, before.keys)


def test_one_that_fails_is_told_and_catches_up(ready: Lab, copied: Rest) -> None:
    copied.stop()
    try:
        done = kept.program(ready, "backup")
        assert done.returncode == COPY, done.stderr
        assert f"the backup is complete, but: copy to {copied.repository}" in done.stderr
        assert " is complete: " in done.stdout
        newest = kept.newest(ready)
        assert copy_metric(ready, "copy_last_exit_code", copied.repository) == TARGET
        assert copy_metric(ready, "copy_last_exit_code", LOCAL) == 0
        assert kept.metric(ready, "last_exit_code") == COPY
        shipped = kept.program(ready, "ship")
        assert shipped.returncode == COPY, shipped.stderr
        assert f"logs for the copy at {copied.repository}: " in shipped.stderr
        assert copy_metric(ready, "copy_ship_last_exit_code", copied.repository) == TARGET
        assert copy_metric(ready, "copy_ship_last_exit_code", LOCAL) == 0
        told = kept.program(ready, "status")
        assert told.returncode == 1
        assert f"the last copy to {copied.repository}" in told.stdout
        run = ready.playbook("playbooks/self_check.yml", variables={"backup_enabled": True})
        assert run.status != 0
        assert f"the last copy to {copied.repository}" in " ".join(run.output.split())
    finally:
        copied.start(ready)
    assert kept.program(ready, "backup").returncode == 0
    assert f"{newest}  complete" in kept.program(ready, "--copy 2 list").stdout
    assert copy_metric(ready, "copy_last_exit_code", copied.repository) == 0


@pytest.mark.parametrize("command", ["backup", "ship", "drill", "restore"])
def test_a_server_that_is_away_is_told_at_once(ready: Lab, copied: Rest, command: str) -> None:
    kept.write(ready, "there", 5)
    before, started = kept.data(ready), ready.started()
    succeeded = kept.metric(ready, "last_success_seconds")
    other = kept.other_settings(
        ready,
        repository=copied.repository,
        repository_user=rest.USER,
        login_of="copy",
        copies=[],
    )
    arguments = f" --confirm {ready.name}" if command == "restore" else ""
    copied.stop()
    begun = time.monotonic()
    try:
        done = kept.program(ready, f"--settings {other} {command}{arguments}")
        seconds = time.monotonic() - begun
    finally:
        copied.start(ready)
    assert done.returncode == TARGET, done.stderr
    assert f"at {copied.repository}: the target does not answer" in done.stderr
    assert seconds < AT_ONCE_SECONDS
    name = {"backup": "last_exit_code", "restore": ""}.get(command, f"{command}_last_exit_code")
    if name:
        assert kept.metric(ready, name) == TARGET
    assert kept.metric(ready, "last_success_seconds") == succeeded
    assert (kept.data(ready), ready.started()) == (before, started)


def test_an_intruder_on_the_host_cannot_remove_it(ready: Lab, copied: Rest, target: Target) -> None:
    assert copied
    files = target.run(f"find {DIRECTORY}/rest/copy/data {DIRECTORY}/rest/copy/snapshots -type f")
    login = f"{rest.USER}:{rest.PASSWORD}"
    delete = (
        "import ssl,sys,base64,urllib.request as u;c=ssl.create_default_context(cafile="
        "'/etc/vedfolnir/backup/ca.pem');r=u.Request(sys.argv[1],method='DELETE',headers={"
        "'Authorization':'Basic '+base64.b64encode(sys.stdin.read().encode()).decode()});"
        "print(u.urlopen(r,context=c).status)"
    )
    name = files.split()[-1].rpartition("/")[2]
    url = f"{copied.repository.removeprefix('rest:')}/snapshots/{name}"
    done = ready.ssh(f'python3 -c "{delete}" {url}', stdin=login)
    assert done.returncode != 0
    assert "403" in done.stderr
    again = target.run(f"find {DIRECTORY}/rest/copy/data {DIRECTORY}/rest/copy/snapshots -type f")
    assert again == files


def test_no_password_is_anywhere(ready: Lab, copied: Rest) -> None:
    assert copied
    watch = (
        "touch /run/watch; (while test -e /run/watch; do cat /proc/[0-9]*/cmdline 2>/dev/null; "
        f"done | tr '\\0' '\\n' | sort -u >/run/watched) & {kept.PROGRAM} backup; rm /run/watch; "
        "wait; cat /run/watched /srv/vedfolnir/logs/backup.log /srv/vedfolnir/.state/backup.json "
        f"/srv/vedfolnir/metrics/backup.prom {kept.SETTINGS}"
    )
    seen = ready.run(watch, timeout=600)
    assert "restic" in seen
    assert rest.PASSWORD not in seen
