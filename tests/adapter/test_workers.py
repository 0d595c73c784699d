"""A caption from the task table to the platform, in every worker mode, kills included."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import typing as t
import uuid

import pytest
import requests
import servers
from conftest import Stack, Web, samples
from neighbours import MODEL, Ollama, Platform

TOKEN = "stand-in-token"


class Site:
    """A prepared database with one user and one platform, and its task rows."""

    def __init__(self, stack: Stack, platform: Platform, ollama: Ollama, **further: str) -> None:
        self.stack, self.platform, self.ollama = stack, platform, ollama
        self.settings = {
            "OLLAMA_URL": ollama.url, "OLLAMA_MODEL": MODEL, "VEDFOLNIR_ORPHAN_GRACE": "2",
            "VEDFOLNIR_STOP_GRACE": "2", "USER_PROCESSING_DELAY": "0",
            **further,
        }  # fmt: skip
        stack.mysql.fresh_database()
        stack.schema_and_admin()
        self.web = Web(stack, **self.settings)
        self.session = self.web.login()
        connection = {
            "name": "pix", "platform_type": "pixelfed", "instance_url": platform.url,
            "username": "tester", "access_token": TOKEN,
        }  # fmt: skip
        answer = self.session.post(f"{self.web.url}/api/add_platform", json=connection, timeout=10)
        assert answer.json()["success"], answer.text

    def worker(self, mode: str, **extra: str) -> servers.Process:
        return self.stack.start(
            "vedfolnir_adapter.worker", "--mode", mode, "--check-interval", "0.5",
            **{**self.settings, "VEDFOLNIR_WORKER_MODE": mode, **extra},
        )  # fmt: skip

    def task(self) -> str:
        answer = self.session.post(
            f"{self.web.url}/caption/start", data={"max_posts_per_run": "10"}, timeout=10
        ).json()
        return str(answer["data"]["task_id"])

    def row(self, task_id: str) -> dict[str, t.Any]:
        columns = ("status", "retry_count", "error_message")
        found = self.stack.mysql.rows(
            "SELECT status, retry_count, error_message FROM caption_generation_tasks WHERE id = %s",
            task_id,
        )
        return dict(zip(columns, found[0], strict=True))

    def wait(self, task_id: str, status: str, worker: servers.Process, seconds: float = 60) -> None:
        try:
            servers.wait_for(lambda: self.row(task_id)["status"] == status, seconds, status)
        except AssertionError as exc:
            msg = f"{exc}: {self.row(task_id)}\n{worker.output[-6000:]}"
            raise AssertionError(msg) from None

    def images(self) -> list[t.Any]:
        rows: list[t.Any] = self.stack.mysql.rows(
            "SELECT id, generated_caption, status FROM images ORDER BY id"
        )
        return rows

    def runs(self) -> int:
        return int(self.stack.mysql.rows("SELECT COUNT(*) FROM processing_runs")[0][0])


@pytest.fixture
def site(stack: Stack, platform: Platform, ollama: Ollama) -> Site:
    posts = [{"content": f"post {i}", "media": [{}]} for i in range(3)]
    platform.control("reset", {"posts": posts})
    ollama.restart(0)
    return Site(stack, platform, ollama)


def assert_clean_log(process: servers.Process) -> None:
    """Every line is JSON, and none holds a secret."""
    for line in process.lines:
        json.loads(line)
    for secret in (servers.MYSQL_PASSWORD, servers.REDIS_PASSWORD, TOKEN):
        assert secret not in process.output


@pytest.mark.parametrize("mode", ["polling", "rq", "integrated"])
def test_a_caption_arrives_at_the_platform(site: Site, mode: str) -> None:
    if mode == "integrated":
        worker = Web(site.stack, **site.settings, VEDFOLNIR_WORKER_MODE="integrated").process
    else:
        worker = site.worker(mode)
    task_id = site.task()
    site.wait(task_id, "COMPLETED", worker)
    images = site.images()
    assert [image[2] for image in images] == ["PENDING"] * 3
    posted = site.session.post(
        f"{site.web.url}/api/approve_and_post/{images[0][0]}",
        json={"caption": images[0][1]}, timeout=20,
    ).json()  # fmt: skip
    assert posted["posted"] is True
    assert site.platform.puts()[-1]["body"] == {"description": images[0][1]}
    if mode != "integrated":
        healthy = site.stack.run(
            "vedfolnir_adapter.healthcheck", "worker", VEDFOLNIR_WORKER_MODE=mode
        )
        assert (healthy.returncode, healthy.stdout) == (0, "healthy\n")
    started = time.monotonic()
    assert worker.terminate(20) == 0, worker.output[-3000:]
    assert time.monotonic() - started < 8
    assert_clean_log(worker)
    group = subprocess.run(["pgrep", "-g", str(worker.popen.pid)], capture_output=True, text=True)
    assert group.stdout == "", "nothing is left behind"


def test_one_of_two_polling_workers_is_active_and_the_other_takes_over(site: Site) -> None:
    first = site.worker("polling")
    servers.wait_for(lambda: "Polling for caption tasks" in first.output, what="the first worker")
    second = site.worker("polling")
    servers.wait_for(lambda: "standing by" in second.output, what="the second worker")
    site.wait(site.task(), "COMPLETED", first)
    assert site.runs() == 1
    first.kill()
    site.wait(site.task(), "COMPLETED", second)
    assert second.terminate() == 0


@pytest.mark.parametrize("mode", ["polling", "rq"])
def test_a_request_is_followed_into_the_worker(site: Site, mode: str) -> None:
    identifier = f"followed-{mode}"
    with site.stack.mysql.root() as cursor:
        cursor.execute("SET GLOBAL log_output = 'TABLE', GLOBAL general_log = ON")
        cursor.execute("TRUNCATE mysql.general_log")
    port = servers.free_port()
    worker = site.worker(mode, VEDFOLNIR_METRICS_PORT=str(port))
    site.session.headers["X-Request-ID"] = identifier
    task_id = site.task()
    site.wait(task_id, "COMPLETED", worker)
    for process in (site.web.process, worker):
        lines = [json.loads(line) for line in process.lines]
        own = [line["message"] for line in lines if line.get("request_id") == identifier]
        assert any(task_id in message for message in own), own
    with site.stack.mysql.root() as cursor:
        cursor.execute("SET GLOBAL general_log = OFF")
        cursor.execute(
            "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log"
            " WHERE argument LIKE %s", (f"%/* request_id={identifier} */",)
        )  # fmt: skip
        statements = [str(row[0]) for row in cursor.fetchall()]
    # The web process makes the row, the worker claims it, and the application writes its results.
    for words in (
        "INSERT INTO caption_generation_tasks",
        "UPDATE caption_generation_tasks SET status = 'RUNNING'",
        "INSERT INTO processing_runs",
    ):
        assert any(words in statement for statement in statements), (words, statements)
    # Of the process that did the task; with RQ it has ended.
    found = samples(requests.get(f"http://127.0.0.1:{port}/metrics", timeout=20).text)
    ollama = 'vedfolnir_outbound_requests_total{code="200",target="ollama"}'
    assert found[ollama] == 5, "the model is looked for twice and asked for three captions"
    assert found['vedfolnir_outbound_requests_total{code="200",target="platform"}'] == 5
    assert_clean_log(worker)


@pytest.mark.parametrize("mode", ["polling", "rq"])
def test_a_killed_worker_loses_no_task(site: Site, mode: str) -> None:
    site.ollama.restart(30)
    worker = site.worker(mode, OLLAMA_TIMEOUT="60.0")
    task_id = site.task()
    site.wait(task_id, "RUNNING", worker)
    kill_tree(worker)
    assert site.row(task_id)["status"] == "RUNNING"
    site.ollama.restart(0)
    second = site.worker(mode)
    site.wait(task_id, "COMPLETED", second)
    assert site.row(task_id)["retry_count"] == 1
    assert len(site.images()) == 3


def kill_tree(worker: servers.Process) -> None:
    """Kill a worker as the end of its container would: everything at once, RQ's horse included."""
    processes = [worker.popen.pid]
    for pid in processes:
        found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
        processes += [int(word) for word in found.stdout.split()]
    for pid in processes:
        os.kill(pid, signal.SIGKILL)
    worker.popen.wait(10)


@pytest.mark.parametrize("mode", ["polling", "rq"])
def test_sigterm_gives_a_long_task_back(site: Site, mode: str) -> None:
    site.ollama.restart(60)
    worker = site.worker(mode, OLLAMA_TIMEOUT="90.0")
    task_id = site.task()
    site.wait(task_id, "RUNNING", worker)
    time.sleep(1)
    started = time.monotonic()
    assert worker.terminate(20) == 0
    assert time.monotonic() - started < 9
    row = site.row(task_id)
    assert (row["status"], row["retry_count"] or 0) == ("QUEUED", 0), worker.output[-3000:]


def test_redis_loses_its_queues_and_every_task_is_still_done_once(site: Site) -> None:
    dispatcher = site.worker("rq-dispatcher", VEDFOLNIR_WORKER_MODE="rq")
    tasks = [site.task()]
    servers.wait_for(lambda: "Put task" in dispatcher.output, what="the first dispatch")
    site.stack.redis.process.kill()
    site.stack.redis.start()
    dispatcher.kill()
    worker = site.worker("rq")
    for task_id in tasks:
        site.wait(task_id, "COMPLETED", worker, 90)
    assert site.runs() == len(tasks)


def test_a_task_that_kills_its_worker_fails_in_the_end(site: Site) -> None:
    task_id = str(uuid.uuid4())
    site.stack.mysql.rows(
        "INSERT INTO caption_generation_tasks (id, user_id, platform_connection_id, status,"
        " retry_count, max_retries, priority, created_at)"
        " SELECT %s, 1, id, 'RUNNING', 3, 3, 'normal', NOW() FROM platform_connections LIMIT 1",
        task_id,
    )
    worker = site.worker("polling")
    site.wait(task_id, "FAILED", worker)
    assert "ended unexpectedly" in site.row(task_id)["error_message"]
