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


def test_one_at_a_time(ready: Lab) -> None:
    lock = "flock --nonblock /run/vedfolnir/backup.lock"
    done = ready.ssh(f"{lock} {kept.PROGRAM} backup")
    assert done.returncode == BUSY
    assert "another backup, restore or drill is going on" in done.stderr


@pytest.mark.parametrize("part", ["mysql", "storage", "vault"])
def test_a_backup_that_is_killed(ready: Lab, part: str) -> None:
    kill(ready, "backup", f"{part}: begin")
    broken = [line for line in kept.program(ready, "list").stdout.splitlines() if "broken" in line]
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


def before_id(lab: Lab) -> str:
    """Return the newest backup."""
    return kept.newest(lab)
