"""Backups are taken, and bring back what was there when they were."""

from __future__ import annotations

import json
import re

import kept
import pytest
from kept import Deploy
from lab import Lab

DISASTER = (
    "cd /srv/vedfolnir && rm -rf data/mysql data/redis storage && docker compose kill mysql redis"
)


def test_a_second_run_changes_nothing(ready: Lab, deploy: Deploy) -> None:
    started = ready.started()
    run = ready.playbook(variables=deploy.variables).check()
    assert run.did("changed") == []
    assert ready.started() == started


def test_a_lost_host_is_as_it_was_at_the_backup(ready: Lab) -> None:
    kept.write(ready, "before")
    run = ready.playbook("playbooks/backup.yml").check()
    assert run.recap["changed"] == 1
    before = kept.data(ready)
    assert len(before.rows) == len(before.keys) == 50
    assert kept.metric(ready, "last_exit_code") == 0

    kept.write(ready, "after")
    ready.run(DISASTER)
    arguments = {"restore_confirm": ready.name, "restore_to": kept.newest(ready)}
    run = ready.playbook("playbooks/restore.yml", variables=arguments).check()
    assert "Put the data in place" in " ".join(run.did("changed"))
    ready.wait_healthy()
    assert kept.data(ready) == before


def test_what_was_replaced_is_kept(ready: Lab) -> None:
    kept.write(ready, "first", 5)
    assert kept.program(ready, "backup").returncode == 0
    kept.write(ready, "second", 5)
    done = kept.program(ready, f"restore --part storage --confirm {ready.name}")
    assert done.returncode == 0, done.stderr
    found = kept.data(ready)
    assert {name.split("-")[0] for name in found.files} == {"./images/first"}
    # The other parts stay as they are.
    assert len(found.rows) == 10
    saved = ready.run("ls /srv/vedfolnir/backups/replaced-*/storage/images").split()
    assert "second-1.bin" in saved


def test_configuration_and_vault_are_laid_down_beside(ready: Lab) -> None:
    done = kept.program(ready, f"restore --part config --part vault --confirm {ready.name}")
    if "no complete backup" in done.stderr:
        assert kept.program(ready, "backup").returncode == 0
        done = kept.program(ready, f"restore --part config --part vault --confirm {ready.name}")
    assert done.returncode == 0, done.stderr
    assert "stop " not in done.stdout
    out = ready.run("find /srv/vedfolnir/backups/restored-* -maxdepth 2 -printf '%f %m\n'")
    assert "vault 600" in out
    assert "compose.yml 644" in out


def test_without_the_name_of_the_host_nothing_is_done(ready: Lab, backed_up: str) -> None:
    assert backed_up
    started = ready.started()
    run = ready.playbook("playbooks/restore.yml")
    assert run.status != 0
    said = " ".join(run.output.split())
    assert f"nothing was changed; to replace the data of {ready.name}, name it" in said
    check = {"restore_confirm": ready.name, "restore_parts": "mysql"}
    run = ready.playbook("playbooks/restore.yml", "--check", variables=check).check()
    assert "in the place of /srv/vedfolnir/data/mysql" in " ".join(run.output.split())
    assert ready.started() == started
    assert kept.left_behind(ready) == []


def test_a_drill_proves_the_newest(ready: Lab, backed_up: str) -> None:
    started = ready.started()
    run = ready.playbook("playbooks/drill.yml", variables={"drill_id": backed_up}).check()
    said = " ".join(run.output.split())
    assert "the application is ready on the restored data" in said
    assert f"the backup {backed_up} is proven" in said
    assert ready.started() == started
    assert kept.metric(ready, "drill_last_exit_code") == 0
    assert 0 < kept.metric(ready, "drill_rto_seconds") < 4 * 3600


def test_the_accounts_may_read_and_nothing_else(ready: Lab) -> None:
    host = kept.sql(ready, "SELECT host FROM mysql.user WHERE user = 'vedfolnir_binlogs'")
    grants = kept.sql(ready, f"SHOW GRANTS FOR vedfolnir_binlogs@'{host}'")
    assert grants == f"GRANT REPLICATION SLAVE ON *.* TO `vedfolnir_binlogs`@`{host}`"
    grants = kept.sql(ready, "SHOW GRANTS FOR vedfolnir_backup@localhost")
    words = set(re.findall(r"\b(INSERT|UPDATE|DELETE|DROP|CREATE|ALTER|SUPER|FILE)\b", grants))
    assert words == set()
    asked = "AUTH backup $(cut -d' ' -f3 /run/secrets/backup.redis)"
    done = ready.exec("redis", f'printf "{asked}\\nGET x\\nFLUSHALL\\nBGSAVE\\n" | redis-cli')
    assert done.stdout.count("NOPERM") == 2


def test_no_secret_is_anywhere(ready: Lab) -> None:
    names = [
        "backup/repository_key",
        "backup/manifest_key",
        "mysql/backup.cnf",
        "redis/backup.redis",
        "mysql-binlogs/binlogs.cnf",
    ]
    texts = [ready.run(f"cat {kept.SECRETS}/{name}") for name in names]
    words = {word.strip('"') for text in texts for word in re.findall(r'[^\s="]{24,}', text)}
    assert len(words) == 5
    watch = (
        "touch /run/watch; (while test -e /run/watch; do cat /proc/[0-9]*/cmdline 2>/dev/null; "
        "done | tr '\\0' '\\n' | sort -u >/run/watched) & "
        f"{kept.PROGRAM} backup; {kept.PROGRAM} ship; {kept.PROGRAM} drill; "
        "rm /run/watch; wait; cat /run/watched"
    )
    seen = {
        "command lines and output": ready.run(watch, timeout=600),
        "journal": ready.run("journalctl --no-pager -o cat", timeout=120),
        "containers": json.dumps(ready.inspect()),
        "files": ready.run(
            "cd /srv/vedfolnir && cat logs/backup.log metrics/backup.prom .state/*.json "
            f"compose.d/* .env; cat /etc/systemd/system/vedfolnir* {kept.SETTINGS}"
        ),
    }
    assert "mysqldump" in seen["command lines and output"]
    found = [(place, word) for place, text in seen.items() for word in words if word in text]
    assert [place for place, _word in found] == []


@pytest.mark.parametrize("name", ["vedfolnir-backup.service", "vedfolnir-drill.service"])
def test_the_units_do_the_same(ready: Lab, name: str) -> None:
    ready.run(f"systemctl start {name}", timeout=600)
    result = ready.run(f"systemctl show --property=Result {name}")
    assert result.strip() == "Result=success"
