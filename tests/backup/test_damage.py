"""Damage, wrong keys, dead targets and killed runs are found, said and survived."""

from __future__ import annotations

import time

import kept
import pytest
from kept import kill, restic
from lab import Lab
from target import DIRECTORY, Target

DAMAGED, TARGET, BUSY = 5, 6, 3


def drill(lab: Lab, arguments: str = "drill") -> str:
    """Let a drill fail; return exit status and message."""
    started = lab.started()
    done = kept.program(lab, arguments)
    assert lab.started() == started
    assert kept.left_behind(lab) == []
    return f"{done.returncode}: {done.stderr}"


def test_a_flipped_byte_in_the_repository(ready: Lab, target: Target, backed_up: str) -> None:
    found = target.run(f"find {DIRECTORY}/repository/data -type f -printf '%s %p\n' | sort -n")
    for line in (found.splitlines()[0], found.splitlines()[-1]):
        size, path = line.split()
        offset = int(size) // 3
        read = f"od -An -tu1 -j{offset} -N1 {path}"
        value = int(target.run(read))
        poke = f"printf '\\{{:03o}}' | dd of={path} bs=1 seek={offset} conv=notrunc status=none"
        target.run("chmod u+w " + path + " && " + poke.format(value ^ 1))
        try:
            said = drill(ready, f"drill --id {backed_up}")
            assert said.startswith(f"{DAMAGED}: ")
            assert "a part of it was damaged or altered" in said
            assert kept.metric(ready, "drill_last_exit_code") == DAMAGED
        finally:
            target.run(poke.format(value))
        assert int(target.run(read)) == value
    assert kept.program(ready, f"drill --id {backed_up}").returncode == 0


def test_an_altered_manifest(ready: Lab, backed_up: str) -> None:
    tags = f"--host {ready.name} --tag vedfolnir,id={backed_up},part=manifest"
    text = restic(ready, f"dump {tags} latest /manifest.json")
    assert '\\"keys\\": ' in text
    altered = text.replace('\\"keys\\": ', '\\"keys\\": 1')
    restic(ready, f"backup -q {tags} --stdin --stdin-filename manifest.json", stdin=altered)
    said = drill(ready, f"drill --id {backed_up}")
    assert said.startswith(f"{DAMAGED}: ")
    assert f"the manifest of {backed_up} was altered" in said
    restic(ready, f"backup -q {tags} --stdin --stdin-filename manifest.json", stdin=text)
    assert kept.program(ready, f"drill --id {backed_up}").returncode == 0


def test_a_part_that_is_missing(ready: Lab, backed_up: str) -> None:
    assert kept.program(ready, "backup").returncode == 0
    latest = kept.newest(ready)
    assert latest != backed_up
    listed = restic(ready, f"snapshots --compact --tag vedfolnir,id={latest},part=storage")
    snapshot = listed.splitlines()[2].split()[0]
    restic(ready, f"forget -q {snapshot}")
    said = drill(ready)
    assert said.startswith(f"{DAMAGED}: ")
    assert f"the part storage of {latest} is missing" in said
    restic(ready, f"forget -q --tag id={latest} --unsafe-allow-remove-all")


def test_a_log_that_is_cut_short(ready: Lab, backed_up: str) -> None:
    assert backed_up
    assert kept.program(ready, "backup").returncode == 0
    kept.write(ready, "cut")
    kept.sql(ready, "FLUSH BINARY LOGS")
    assert kept.program(ready, "ship").returncode == 0
    server = kept.sql(ready, "SELECT @@server_uuid")
    logs = f"{kept.STREAMS}/mysql/{server}"
    find = f"find {logs} -name 'binlog.*' -printf '%f %p\\n' | sort | tail -n 2"
    log = ready.run(find).split()[1]
    ready.run(f"truncate -s -200 {log}")
    said = drill(ready)
    assert said.startswith(f"{DAMAGED}: ")
    assert "is shorter than it was; this time what was shipped to the repository did" in said
    kept.restic(ready, "forget -q --tag part=streams --unsafe-allow-remove-all")
    said = drill(ready)
    assert said.startswith(f"{DAMAGED}: ")
    assert "is shorter than it was" in said
    assert "is missing; the last point that can be reached is restore_to='" in said
    done = kept.program(ready, "ship")
    assert (done.returncode, kept.metric(ready, "binlogs_gap")) == (1, 1), done.stderr
    # From here on every point can be reached again.
    assert kept.program(ready, "backup").returncode == 0
    assert kept.program(ready, "ship").returncode == 0
    assert kept.metric(ready, "binlogs_gap") == 0
    assert kept.program(ready, "drill").returncode == 0


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("repository_key", TARGET, "the key of this host does not open it"),
        ("manifest_key", DAMAGED, "or signed with another key than backup_manifest_key"),
    ],
)
def test_another_key(ready: Lab, backed_up: str, name: str, code: int, message: str) -> None:
    ready.run(
        f"rm -rf /root/keys && cp -r {kept.SECRETS}/backup /root/keys && "
        f"chmod -R u+w /root/keys && echo another-key-of-somebody-else >/root/keys/{name}"
    )
    other = kept.other_settings(ready, secrets_directory="/root/keys")
    said = drill(ready, f"--settings {other} drill --id {backed_up}")
    assert said.startswith(f"{code}: ")
    assert message in said
    ready.run("rm -rf /root/keys /root/other.json")


def test_a_target_that_does_not_answer(ready: Lab, target: Target) -> None:
    before = kept.metric(ready, "last_success_seconds")
    target.stop()
    try:
        done = kept.program(ready, "backup")
    finally:
        target.start()
    assert done.returncode == TARGET, done.stderr
    assert "the target" in done.stderr
    assert kept.metric(ready, "last_exit_code") == TARGET
    assert kept.metric(ready, "last_success_seconds") == before
    time.sleep(3)
    assert kept.program(ready, "backup").returncode == 0


def test_a_target_with_another_host_key(ready: Lab) -> None:
    ready.run("ssh-keygen -q -t ed25519 -N '' -f /root/k && cut -d' ' -f1,2 /root/k.pub >/root/h")
    name = ready.run("cut -d' ' -f1 /etc/vedfolnir/backup/known_hosts").strip()
    ready.run(f"sed -i 's/^/{name} /' /root/h")
    content = ready.run(f"cat {kept.SETTINGS}")
    assert "known_hosts" in content
    arguments = ready.run(
        f"python3 -c \"import json;print(json.load(open('{kept.SETTINGS}'))['sftp_arguments'])\""
    ).strip()
    changed = arguments.replace("/etc/vedfolnir/backup/known_hosts", "/root/h")
    other = kept.other_settings(ready, sftp_arguments=changed)
    done = kept.program(ready, f"--settings {other} backup")
    assert done.returncode == TARGET
    assert "the target is not the one that is known" in done.stderr
    ready.run("rm -f /root/k /root/k.pub /root/h /root/other.json")


def test_mysql_is_down(ready: Lab) -> None:
    ready.compose("stop mysql")
    try:
        done = kept.program(ready, "backup")
    finally:
        ready.compose("start mysql")
    assert done.returncode == 1
    assert "mysql" in done.stderr
    assert kept.metric(ready, "last_exit_code") == 1


def test_vault_is_sealed(ready: Lab) -> None:
    before = kept.metric(ready, "last_success_seconds")
    # The next start leaves it sealed: its own keys are only used by the units.
    ready.run("systemctl stop vedfolnir-vault-keep.timer; docker restart vedfolnir-vault-1")
    try:
        ready.run(
            "until docker exec vedfolnir-vault-1 bao status >/dev/null; [ $? = 2 ]; do :; done"
        )
        done = kept.program(ready, "backup")
    finally:
        ready.run("systemctl start vedfolnir-vault-keep.timer vedfolnir-vault-keep.service")
    assert done.returncode == 1
    assert "Vault is sealed; run playbooks/unseal.yml" in done.stderr
    assert kept.metric(ready, "last_exit_code") == 1
    assert kept.metric(ready, "last_success_seconds") == before
    ready.wait_healthy()
    assert kept.program(ready, "backup").returncode == 0


def test_redis_is_down(ready: Lab) -> None:
    ready.compose("stop redis")
    try:
        done = kept.program(ready, "backup")
    finally:
        ready.compose("start redis")
    assert done.returncode == 1
    assert "redis" in done.stderr.lower()
    assert kept.metric(ready, "last_exit_code") == 1


FULL = "/srv/vedfolnir/backups/full"


def small_disk(lab: Lab, where: str, size: str) -> None:
    """Mount a file system that is soon full."""
    lab.run(f"mkdir -p {where} && mount -t tmpfs -o size={size},mode=0700 tmpfs {where}")


def test_the_disk_of_the_target_is_full(ready: Lab) -> None:
    kept.write(ready, "big")
    ready.run(
        "cd /srv/vedfolnir/storage/images && head -c 30000000 /dev/urandom >big-9.bin && "
        "chown 1990:1990 big-9.bin"
    )
    small_disk(ready, FULL, "12m")
    try:
        other = kept.other_settings(ready, repository=f"{FULL}/repository")
        done = kept.program(ready, f"--settings {other} backup")
        assert done.returncode == TARGET, done.stderr
        assert "the target is full" in done.stderr
        assert kept.metric(ready, "last_exit_code") == TARGET
        assert (
            "there is no complete backup" in kept.program(ready, f"--settings {other} list").stdout
        )
    finally:
        ready.run(f"umount {FULL}; rm -rf /root/other.json {FULL}")
        # What the host remembers of this repository is not what the next tests have.
        ready.run("rm -f /srv/vedfolnir/.state/backup.json")
    assert kept.program(ready, "backup").returncode == 0


def test_the_disk_of_the_host_is_full(ready: Lab, backed_up: str) -> None:
    kept.write(ready, "here")
    before = kept.data(ready)
    scratch = "/srv/vedfolnir/backups/scratch"
    small_disk(ready, scratch, "8m")
    try:
        said = program_on_a_full_disk(ready, f"restore --id {backed_up} --confirm {ready.name}")
    finally:
        ready.run(f"umount {scratch}")
    assert said.startswith("1: ")
    assert "MiB of disk free, but to restore beside production takes" in said
    assert kept.data(ready) == before


def program_on_a_full_disk(lab: Lab, arguments: str) -> str:
    """Run the program; return exit status and message."""
    started = lab.started()
    done = kept.program(lab, arguments)
    assert lab.started() == started
    return f"{done.returncode}: {done.stderr}"


def test_one_at_a_time(ready: Lab) -> None:
    lock = "flock --nonblock /run/vedfolnir/backup.lock"
    done = ready.ssh(f"{lock} {kept.PROGRAM} backup")
    assert done.returncode == BUSY
    assert "another backup, restore or drill is going on" in done.stderr


@pytest.mark.parametrize("part", ["mysql", "redis", "storage", "config", "vault"])
def test_a_backup_that_is_killed(ready: Lab, part: str) -> None:
    before = kept.metric(ready, "last_success_seconds")
    kill(ready, "backup", f"{part}: begin")
    broken = [line for line in kept.program(ready, "list").stdout.splitlines() if "broken" in line]
    assert kept.metric(ready, "last_success_seconds") == before
    done = kept.program(ready, "backup")
    assert done.returncode == 0, done.stderr
    assert part == "mysql" or broken


@pytest.mark.parametrize(
    "moment", ["redis: as the manifest", "stop app", "start the stack", "vedfolnir backup: mysql:"]
)
def test_a_restore_that_is_killed(ready: Lab, moment: str) -> None:
    kept.write(ready, "whole", 20)
    assert kept.program(ready, "backup").returncode == 0
    before = kept.data(ready)
    kept.write(ready, "later", 20)
    kill(ready, f"restore --to {kept.newest(ready)} --confirm {ready.name}", moment)
    refused = kept.program(ready, "backup")
    if ready.ssh(f"test -e {kept.JOURNAL}").returncode == 0:
        assert "a restore was broken off in the middle" in refused.stderr
    done = kept.program(ready, f"restore --id {before_id(ready)} --confirm {ready.name}")
    assert done.returncode == 0, done.stderr
    ready.wait_healthy()
    found = kept.data(ready)
    assert [row for row in found.rows if "whole" in row] == before.rows


@pytest.mark.parametrize(
    "moment",
    ["drill with", "mysql: as the", "redis: as the", "vault: as the", "is ready", "check the rep"],
)
def test_a_drill_that_is_killed(ready: Lab, backed_up: str, moment: str) -> None:
    started = ready.started()
    kill(ready, f"drill --id {backed_up}", moment)
    done = kept.program(ready, f"drill --id {backed_up}")
    assert done.returncode == 0, done.stderr
    assert ready.started() == started


def test_no_lock_is_left(ready: Lab, target: Target) -> None:
    """After all that was killed above; the next run has taken away what a dead process held."""
    assert kept.program(ready, "backup").returncode == 0
    assert target.run(f"ls {DIRECTORY}/repository/locks").split() == []


def before_id(lab: Lab) -> str:
    """Return the newest backup."""
    return kept.newest(lab)
