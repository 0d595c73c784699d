"""What survives: containers taken away, a killed process, a restart of the whole host."""

from __future__ import annotations

import shlex
import subprocess
import threading
import time
import typing as t

import pytest
from lab import WATCHING, Lab, redis_cli, secret_files, wait_until

MYSQL = "mysql --defaults-extra-file=/run/secrets/root.cnf --batch --skip-column-names vedfolnir"
JOB = "run --rm --no-TTY --no-deps --entrypoint bash mysql-users -c"
KILLED = [
    *({name} for name in ("nginx", "app-1", "app-2", "worker", "redis", "mysql", "ollama")),
    # What only looks on is killed all at once.
    WATCHING,
]
IMAGE = "/srv/vedfolnir/storage/images/test-mark"


def sql(lab: Lab, statement: str) -> str:
    """Run a statement as the database's administrator, over the network and TLS."""
    script = f"{MYSQL} -e {shlex.quote(statement)}"
    return lab.compose(f"{JOB} {shlex.quote(script)} 2>/dev/null").strip()


@pytest.fixture
def marks(lab: Lab) -> t.Iterator[t.Callable[[], None]]:
    """Leave a row, a key and an image behind; the result checks that all three are still there."""
    stamp = str(time.time_ns())
    sql(lab, "CREATE TABLE IF NOT EXISTS test_marks (stamp VARCHAR(40) PRIMARY KEY)")
    sql(lab, f"INSERT INTO test_marks VALUES ('{stamp}')")
    assert redis_cli(lab, f"SET test:mark {stamp}") == "OK"
    lab.run(f"echo {stamp} > {IMAGE} && chown 1990:1990 {IMAGE}")

    def check() -> None:
        assert sql(lab, f"SELECT COUNT(*) FROM test_marks WHERE stamp='{stamp}'") == "1"
        assert redis_cli(lab, "GET test:mark") == stamp
        assert lab.exec("app-1", "cat storage/images/test-mark").stdout.strip() == stamp

    yield check
    sql(lab, "DROP TABLE test_marks")
    redis_cli(lab, "DEL test:mark")
    lab.run(f"rm -f {IMAGE}")


def test_data_survives_down_and_up(healthy: Lab, marks: t.Callable[[], None]) -> None:
    """`docker compose down && up`, as an operator types it."""
    time.sleep(1.1)
    healthy.compose("down")
    healthy.compose("up --detach")
    # Vault comes back sealed; its timer would do this within five minutes.
    wait_until(
        lambda: healthy.ssh("systemctl start vedfolnir-vault-keep.service").returncode == 0,
        60,
        "Vault is not unsealed",
    )
    healthy.wait_healthy(300)
    marks()


def test_the_unit_stops_and_starts_all_but_vault(healthy: Lab) -> None:
    """The engine starts nothing of it in between, not even what had to be killed."""
    before = healthy.started()
    # It cannot end by itself, so that it ends with the code of a failure.
    healthy.run(f"kill -STOP {healthy.inspect()['ollama']['State']['Pid']}")
    healthy.run("systemctl stop vedfolnir.service")
    assert set(healthy.inspect()) == {"vault"}
    code = healthy.run("docker inspect -f '{{.State.ExitCode}}' vedfolnir-ollama-1")
    assert code.strip() == "137"
    healthy.run("systemctl restart docker.service")
    assert set(healthy.inspect()) == {"vault"}
    healthy.run("systemctl start vedfolnir.service", timeout=600)
    assert healthy.unhealthy() == []
    assert healthy.started()["vault"] == before["vault"]


def test_data_survives_a_restart_of_the_host(healthy: Lab, marks: t.Callable[[], None]) -> None:
    """All healthy again without a hand; /run is empty after the boot, the secrets come back too."""
    time.sleep(1.1)
    before, delivered = set(healthy.inspect()), secret_files(healthy)
    restart = ["docker", "restart", "--time", "90", healthy.name]
    subprocess.run(restart, check=True, stdout=subprocess.DEVNULL)
    healthy.wait_healthy(300)
    assert set(healthy.inspect()) == before
    # The unit waits for the same health checks and may see the last of them a moment later.
    wait_until(
        lambda: healthy.ssh("systemctl is-active vedfolnir.service").stdout.strip() == "active",
        30,
        "vedfolnir.service is not active",
    )
    assert secret_files(healthy) == delivered
    journal = healthy.run("journalctl --boot --unit vedfolnir-vault.service --output cat")
    assert "files delivered from Vault to" in journal
    marks()


def test_every_service_is_killed_below(lab: Lab) -> None:
    """A new one must not be forgotten; Vault comes back sealed, see tests/vault/test_unseal.py."""
    assert {"vault"}.union(*KILLED) == set(lab.inspect()) == lab.services()


def pids(lab: Lab, services: set[str]) -> dict[str, int]:
    """Return the main process of each service that has one."""
    found = {name: item["State"]["Pid"] for name, item in lab.inspect().items()}
    return {name: pid for name, pid in found.items() if name in services and pid}


@pytest.mark.parametrize("services", KILLED, ids=lambda services: "-".join(sorted(services)[:1]))
def test_a_killed_service_comes_back(healthy: Lab, services: set[str]) -> None:
    """kill -9 of the main process; the engine starts it again and it becomes healthy."""
    before = pids(healthy, services)
    assert set(before) == services
    healthy.run(f"kill -9 {' '.join(str(pid) for pid in before.values())}")
    wait_until(
        lambda: (
            len(set(pids(healthy, services).items()) - set(before.items())) == len(services)
            and not services & set(healthy.unhealthy())
        ),
        180,
        f"{', '.join(sorted(services))} did not all get healthy again",
    )


@pytest.fixture
def rows_table(healthy: Lab) -> t.Iterator[None]:
    """An empty table, taken away whatever becomes of the test; also that of a killed test run."""
    sql(healthy, "DROP TABLE IF EXISTS test_rows; CREATE TABLE test_rows (id INT PRIMARY KEY)")
    yield
    healthy.wait_healthy()
    sql(healthy, "DROP TABLE test_rows")


@pytest.mark.usefixtures("rows_table")
def test_mysql_loses_no_committed_row_when_killed(healthy: Lab) -> None:
    """A writer notes each row only after its commit was confirmed; no noted row may be missing."""
    rows = 'i=0; while i=$((i+1)); do echo "INSERT INTO test_rows VALUES ($i); SELECT $i;"; done'
    script = f"{rows} | {MYSQL} --unbuffered"
    confirmed: list[str] = []

    def write() -> None:
        job = f"docker compose {JOB} {shlex.quote(script)}"
        result = healthy.ssh(f"cd /srv/vedfolnir && {job}")
        confirmed.extend(result.stdout.split())

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(8)
    pid = healthy.inspect()["mysql"]["State"]["Pid"]
    healthy.run(f"kill -9 {pid}")
    writer.join(timeout=120)
    assert len(confirmed) > 50, "the writer did not get going"
    wait_until(lambda: "mysql" not in healthy.unhealthy(), 180, "mysql is not healthy")
    last = max(int(line) for line in confirmed)
    assert int(sql(healthy, f"SELECT COUNT(*) FROM test_rows WHERE id <= {last}")) == last
