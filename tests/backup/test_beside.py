"""A restore that stays beside production: looked into, used to bring rows back, and removed."""

from __future__ import annotations

import shlex
import time
import typing as t

import kept
import pytest
from kept import Deploy
from lab import Lab

PLAYBOOK = "playbooks/restore.yml"
BESIDE = "vedfolnir-restored"
DIRECTORY = "/srv/vedfolnir/backups/restored"
ROWS = "SELECT text FROM backup_probe ORDER BY id"


def inside(lab: Lab, statement: str) -> list[str]:
    """Ask the MySQL beside production, as the message says one can."""
    client = "mysql --defaults-extra-file=/run/secrets/root.cnf -N vedfolnir"
    return lab.run(f"docker exec -i {BESIDE}-mysql-1 {client}", stdin=statement).splitlines()


def left(lab: Lab) -> list[str]:
    """Return what there is of it."""
    label = f"--filter label=com.docker.compose.project={BESIDE}"
    return lab.run(
        f"docker ps --all --quiet {label}; docker network ls --quiet {label}; "
        f"ls -d {DIRECTORY} 2>/dev/null || :"
    ).split()


def removed(lab: Lab, deploy: Deploy) -> str:
    """Remove it by the playbook; return what was said."""
    away = {"restore_onto": "scratch", "restore_state": "absent"}
    return lab.playbook(PLAYBOOK, variables=deploy.variables | away).check().output


@pytest.fixture(scope="module")
def lost(lab: Lab, deploy: Deploy) -> t.Iterator[list[str]]:
    """Rows that were saved, and deleted after a moment; with what there was at that moment."""
    assert deploy.run.status == 0
    lab.wait_healthy()
    kept.clear(lab)
    kept.write(lab, "saved")
    assert kept.program(lab, "backup").returncode == 0
    kept.sql(lab, "INSERT INTO backup_probe (text) VALUES ('since the backup')")
    rows = kept.sql(lab, ROWS).splitlines()
    yield rows
    kept.program(lab, "restore --onto scratch --remove")
    kept.clear(lab)


@pytest.fixture(scope="module")
def moment(lab: Lab, lost: list[str]) -> str:
    """The time before the rows were deleted."""
    assert len(lost) == 51
    time.sleep(2)
    now = lab.run("date -u '+%Y-%m-%d %H:%M:%S+00:00'").strip()
    time.sleep(2)
    kept.sql(lab, "DELETE FROM backup_probe")
    assert kept.program(lab, "ship").returncode == 0
    return now


def test_a_point_stays_beside_production(
    lab: Lab, deploy: Deploy, lost: list[str], moment: str
) -> None:
    onto = {"restore_onto": "scratch", "restore_to": moment}
    before = lab.started()
    run = lab.playbook(PLAYBOOK, "--check", variables=deploy.variables | onto).check()
    said = " ".join(run.output.split())
    assert "beside" in said
    assert "nothing of production is changed" in said
    assert left(lab) == []
    run = lab.playbook(PLAYBOOK, variables=deploy.variables | onto).check()
    assert run.did("changed") == ["vedfolnir.stack.backup : Put the data in place"]
    assert lab.started() == before
    assert kept.sql(lab, ROWS) == ""
    assert inside(lab, ROWS) == lost
    files = lab.run(f"ls {DIRECTORY}/storage/images").split()
    assert len([name for name in files if name.startswith("saved-")]) == 5
    ask = "REDISCLI_AUTH=$(cat) redis-cli --no-auth-warning --user vedfolnir KEYS 'probe:*'"
    keys = lab.run(
        f"docker exec -i {BESIDE}-redis-1 sh -c {shlex.quote(ask)} "
        f"<{kept.SECRETS}/app/redis_password"
    ).split()
    assert len([key for key in keys if ":saved:" in key]) == 50


def test_it_reaches_nobody(lab: Lab, lost: list[str], moment: str) -> None:
    assert lost
    assert moment
    (network,) = lab.run(f"docker network ls -q --filter name={BESIDE}").split()
    assert lab.run(f"docker network inspect -f '{{{{.Internal}}}}' {network}").strip() == "true"
    for name in ("mysql", "redis"):
        place = f"docker inspect -f '{{{{json .NetworkSettings}}}}' {BESIDE}-{name}-1"
        networks = lab.run(
            f"{place} | python3 -c 'import json, sys; d = json.load(sys.stdin); "
            'print(*d["Networks"]); print(*[p for p in d["Ports"].values() if p])\''
        )
        assert networks.split() == [f"{BESIDE}_scratch"]


def test_another_one_is_refused_and_a_drill_is_not(lab: Lab, lost: list[str], moment: str) -> None:
    assert moment
    done = kept.program(lab, "restore --onto scratch --to latest")
    assert done.returncode == 1
    assert "remove it first" in done.stderr
    done = kept.program(lab, "restore --remove")
    assert "--remove goes with --onto scratch only" in done.stderr
    status = kept.program(lab, "status")
    assert "beside production: " in status.stdout
    assert kept.program(lab, "drill").returncode == 0
    assert kept.left_behind(lab) == []
    assert inside(lab, ROWS) == lost


def test_rows_are_brought_back(lab: Lab, lost: list[str], moment: str) -> None:
    """As the guide says."""
    assert moment
    own = "--defaults-extra-file=/run/secrets/root.cnf"
    lab.run(
        f"docker exec {BESIDE}-mysql-1 mysqldump {own} --no-create-info --set-gtid-purged=OFF "
        "vedfolnir backup_probe | docker exec -i vedfolnir-mysql-1 "
        f"mysql {own} vedfolnir"
    )
    assert kept.sql(lab, ROWS).splitlines() == lost


def test_it_goes_when_it_is_told_to(lab: Lab, deploy: Deploy, lost: list[str]) -> None:
    assert lost
    before = lab.started()
    away = {"restore_onto": "scratch", "restore_state": "absent"}
    run = lab.playbook(PLAYBOOK, "--check", variables=deploy.variables | away).check()
    assert "would be removed" in " ".join(run.output.split())
    assert left(lab) != []
    assert "is removed" in removed(lab, deploy)
    assert left(lab) == []
    assert "nothing is restored beside production" in removed(lab, deploy)
    assert lab.started() == before


@pytest.mark.parametrize("moment", ["mysql: as the manifest", "transactions replayed"])
def test_one_that_is_killed_does_not_count(lab: Lab, lost: list[str], moment: str) -> None:
    kept.kill(lab, "restore --onto scratch", moment)
    assert left(lab) != []
    assert "was broken off" in kept.program(lab, "status").stdout
    done = kept.program(lab, "restore --onto scratch --to latest --part mysql")
    assert done.returncode == 0, done.stderr
    assert "was broken off" not in kept.program(lab, "status").stdout
    assert inside(lab, ROWS) == lost
    assert kept.program(lab, "restore --onto scratch --remove").returncode == 0
    assert left(lab) == []


def test_one_that_fails_leaves_nothing(lab: Lab, lost: list[str]) -> None:
    assert lost
    done = kept.program(lab, "restore --onto scratch --to '2030-01-01 00:00:00'")
    assert done.returncode != 0
    assert left(lab) == []
