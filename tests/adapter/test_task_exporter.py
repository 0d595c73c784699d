"""The state of the caption tasks as metrics, with accounts that can do nothing else."""

from __future__ import annotations

import subprocess
import typing as t
from urllib.parse import quote

import pytest
import redis
import requests
import servers
from conftest import Stack, samples

ACCOUNT = "tasks"
STATUSES = ("QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED")
ROWS = (
    # status, created, started and completed so many seconds ago
    ("QUEUED", 100, None, None),
    ("QUEUED", 4000, None, None),
    ("RUNNING", 9000, 600, None),
    ("COMPLETED", 900, 800, 700),
    ("COMPLETED", 900, 800, 780),
    ("FAILED", 900, 800, 799),
    ("FAILED", 99999, 99000, 98000),
    ("CANCELLED", 900, None, 800),
)
AGO = "UTC_TIMESTAMP() - INTERVAL %s SECOND"
INSERT = (
    "INSERT INTO caption_generation_tasks"
    " (id, user_id, platform_connection_id, status, created_at, started_at, completed_at)"
    f" VALUES (%s, 1, 1, %s, {AGO}, {AGO}, {AGO})"
)
ENQUEUE = """
import redis, sys
from rq import Queue
from rq.registry import FailedJobRegistry
client = redis.Redis.from_url(sys.argv[1])
queue = Queue("vedfolnir:rq:high", connection=client)
jobs = [queue.enqueue("os.getpid") for _ in range(3)]
FailedJobRegistry(queue=queue).add(jobs[0], ttl=600)
"""


class Exporter:
    """The program, running."""

    def __init__(self, stack: Stack) -> None:
        self.port = servers.free_port()
        self.process = stack.start(
            "vedfolnir_adapter.task_exporter",
            VEDFOLNIR_PORT=str(self.port),
            MYSQL_USER=ACCOUNT,
            REDIS_USER=ACCOUNT,
        )
        servers.wait_for(lambda: servers.port_open(self.port), what="the start of the exporter")

    def samples(self) -> dict[str, float]:
        """Return what it tells, by series."""
        answer = requests.get(f"http://127.0.0.1:{self.port}/metrics", timeout=20)
        assert answer.status_code == 200
        return samples(answer.text)


@pytest.fixture
def exporter(stack: Stack) -> t.Iterator[Exporter]:
    stack.mysql.fresh_database()
    stack.schema_and_admin()
    with stack.mysql.root() as cursor:
        cursor.execute(f"DROP USER IF EXISTS {ACCOUNT}")
        cursor.execute(
            f"CREATE USER {ACCOUNT} IDENTIFIED BY %s REQUIRE SSL", (servers.MYSQL_PASSWORD,)
        )
        cursor.execute(f"GRANT SELECT ON vedfolnir.caption_generation_tasks TO {ACCOUNT}")
    admin: t.Any = redis.Redis.from_url(_redis_url(stack))
    admin.acl_setuser(
        ACCOUNT,
        enabled=True,
        passwords=[f"+{servers.REDIS_PASSWORD}"],
        commands=["+ping", "+llen", "+zcard"],
    )
    admin.execute_command("ACL SETUSER tasks resetkeys %R~rq:*")
    # For a server that is started again.
    admin.acl_save()
    for name in ("flask_secret_key", "platform_encryption_key"):
        (stack.secrets / name).unlink()
    yield Exporter(stack)
    admin.execute_command("ACL DELUSER tasks")
    admin.acl_save()
    admin.flushall()


def _redis_url(stack: Stack) -> str:
    password = quote(servers.REDIS_PASSWORD, safe="")
    return f"redis://appuser:{password}@127.0.0.1:{stack.redis.port}/0"


def _fill(stack: Stack) -> None:
    with stack.mysql.root() as cursor:
        cursor.execute("USE vedfolnir")
        cursor.execute("SET FOREIGN_KEY_CHECKS = 0")
        for number, row in enumerate(ROWS):
            cursor.execute(INSERT, (f"task-{number}", *row))


def test_the_state_of_table_and_queues(stack: Stack, exporter: Exporter) -> None:
    empty = exporter.samples()
    assert empty['vedfolnir_tasks{status="QUEUED"}'] == 0
    assert empty['vedfolnir_tasks_oldest_seconds{status="QUEUED"}'] == 0
    assert empty['vedfolnir_rq_jobs{queue="high",state="waiting"}'] == 0
    _fill(stack)
    subprocess.run([stack.python, "-c", ENQUEUE, _redis_url(stack)], check=True)
    found = exporter.samples()
    counts = [found[f'vedfolnir_tasks{{status="{status}"}}'] for status in STATUSES]
    assert counts == [2, 1, 2, 2, 1]
    assert 4000 <= found['vedfolnir_tasks_oldest_seconds{status="QUEUED"}'] < 4060
    assert 600 <= found['vedfolnir_tasks_oldest_seconds{status="RUNNING"}'] < 660
    assert found['vedfolnir_tasks_recent{status="FAILED"}'] == 1
    assert found['vedfolnir_tasks_recent{status="CANCELLED"}'] == 1
    duration = "vedfolnir_tasks_recent_duration_seconds"
    assert found[f'{duration}{{statistic="mean",status="COMPLETED"}}'] == pytest.approx(60, abs=1)
    assert found[f'{duration}{{statistic="max",status="COMPLETED"}}'] == pytest.approx(100, abs=1)
    assert f'{duration}{{statistic="max",status="CANCELLED"}}' not in found
    # As the library itself names its keys.
    assert found['vedfolnir_rq_jobs{queue="high",state="waiting"}'] == 3
    assert found['vedfolnir_rq_jobs{queue="high",state="failed"}'] == 1
    assert found["vedfolnir_tasks_up"] == found["vedfolnir_rq_up"] == 1


def test_a_server_that_is_away_is_a_metric(stack: Stack, exporter: Exporter) -> None:
    with stack.mysql.root() as cursor:
        cursor.execute(f"REVOKE SELECT ON vedfolnir.caption_generation_tasks FROM {ACCOUNT}")
    found = exporter.samples()
    assert (found["vedfolnir_tasks_up"], found["vedfolnir_rq_up"]) == (0, 1)
    assert not [name for name in found if name.startswith("vedfolnir_tasks{")]
    stack.redis.process.kill()
    assert exporter.samples()["vedfolnir_rq_up"] == 0
    stack.redis.start()
    assert exporter.samples()["vedfolnir_rq_up"] == 1
    with stack.mysql.root() as cursor:
        cursor.execute(f"GRANT SELECT ON vedfolnir.caption_generation_tasks TO {ACCOUNT}")
    assert exporter.samples()["vedfolnir_tasks_up"] == 1
    assert servers.MYSQL_PASSWORD not in exporter.process.output


def test_other_pages_cost_nothing(exporter: Exporter) -> None:
    for path, status in (("/health/ready", 200), ("/", 404), ("/metrics?x=1", 200)):
        answer = requests.get(f"http://127.0.0.1:{exporter.port}{path}", timeout=20)
        assert answer.status_code == status


def test_without_its_secrets_it_says_which(stack: Stack) -> None:
    (stack.secrets / "redis_password").unlink()
    done = stack.run("vedfolnir_adapter.task_exporter")
    assert done.returncode == 2
    assert "redis_password is missing" in done.stdout + done.stderr
    assert "flask_secret_key" not in done.stdout + done.stderr
