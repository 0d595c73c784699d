"""A caption from the request in the web interface to the platform, through every worker."""

from __future__ import annotations

import hashlib
import typing as t

import pytest
import requests
from standin_services import wait_for
from standin_site import Site, Visitor

_RQ_WORKER = """
import redis, os, sys
from rq import Queue, SimpleWorker
from web_app import app
connection = redis.Redis.from_url(os.environ["REDIS_URL"])
queue = Queue("vedfolnir:rq:normal", connection=connection)
queue.enqueue("app.services.task.rq.rq_job_processor.process_caption_task",
              sys.argv[1], job_id=sys.argv[1])
with app.app_context():
    SimpleWorker([queue], connection=connection).work(burst=True)
"""


@pytest.fixture
def platform(fediverse: str) -> t.Iterator[str]:
    """Reset the fake platform: a captioned image, three bare ones, a too small one."""
    posts: list[dict[str, t.Any]] = [
        {"content": "done", "media": [{"description": "has one"}]},
        {"content": "small", "media": [{"edge": 20}]},
        {"content": "pair", "media": [{}, {}]},
        {"content": "single", "media": [{}]},
    ]
    _control(fediverse, "reset", {"posts": posts})
    yield fediverse
    _control(fediverse, "reset", {})


def _control(fediverse: str, call: str, body: t.Any) -> None:
    answer = requests.post(f"{fediverse}/_control/{call}", json=body, timeout=10)
    assert answer.ok, answer.text


@pytest.fixture
def start_task(running: Site, platform: str) -> t.Callable[..., tuple[Visitor, str]]:
    """Return what makes a user with a platform, starts a task and returns both."""

    def start(name: str, kind: str = "pixelfed") -> tuple[Visitor, str]:
        running.create_user(name)
        visitor = running.login(name)
        connection = {
            "name": "Mine",
            "platform_type": kind,
            "instance_url": platform,
            "username": "tester",
            "access_token": "stand-in-token",
        }
        assert visitor.post("/api/add_platform", json=connection).json()["success"]
        started = visitor.post("/caption/start", data={"max_posts_per_run": "10"}).json()
        return visitor, started["data"]["task_id"]

    return start


def _status(visitor: Visitor, task_id: str) -> t.Any:
    return visitor.get(f"/caption/api/status/{task_id}").json()["status"]


def _images(visitor: Visitor) -> list[dict[str, t.Any]]:
    images: list[dict[str, t.Any]] = visitor.get("/user-management/profile/export").json()["images"]
    return images


def test_polling_worker(
    running: Site, platform: str, start_task: t.Callable[..., tuple[Visitor, str]]
) -> None:
    visitor, task_id = start_task("poller")
    assert _status(visitor, task_id)["status"] == "queued"
    worker = running.program(
        "worker",
        f"{running.env['PYTHONPATH']}/simple_caption_worker.py",
        "--check-interval",
        "1",
        "--log-level",
        "INFO",
    )
    try:
        wait_for(
            lambda: _status(visitor, task_id)["status"] == "completed", 60, worker.output()[-500:]
        )
    finally:
        code = worker.stop(5)
    assert code == 0
    assert "Simple Caption Generation Worker stopped" in worker.output()

    images = _images(visitor)
    assert [image["status"] for image in images] == ["pending"] * 3
    assert len({image["generated_caption"] for image in images}) == 3
    paths = running.rows(
        "SELECT image_url, local_path FROM images i JOIN posts p ON p.id=i.post_id "
        "JOIN users u ON u.id=p.user_id WHERE u.username='poller'"
    )
    for url, path in paths:
        name = hashlib.md5(url.encode(), usedforsecurity=False).hexdigest()[:12] + ".png"
        assert path == f"storage/images/{name}"
        assert (running.directory / path).is_file()
    runs = running.rows(
        "SELECT images_processed, captions_generated, errors_count, r.status "
        "FROM processing_runs r JOIN users u ON u.id=r.user_id WHERE u.username='poller'"
    )
    assert runs == ((3, 3, 1, "completed"),)

    first = images[0]
    posted = visitor.post(
        f"/api/approve_and_post/{first['image_id']}", json={"caption": first["generated_caption"]}
    ).json()
    assert posted["posted"] is True
    puts = requests.get(f"{platform}/_control/puts", timeout=10).json()
    assert [put["body"] for put in puts] == [{"description": first["generated_caption"]}]
    assert _images(visitor)[0]["status"] == "posted"


def test_rq_job(running: Site, start_task: t.Callable[..., tuple[Visitor, str]]) -> None:
    visitor, task_id = start_task("queuer")
    result = running.command("-c", _RQ_WORKER, task_id)
    assert _status(visitor, task_id)["status"] == "completed", result.stderr[-2000:]
    assert len(_images(visitor)) == 3
    assert str(running.cache.client().hget(f"rq:job:{task_id}", "status")) == "finished"


def test_rq_job_needs_an_application_context(running: Site) -> None:
    code = (
        "from app.services.task.rq.rq_job_processor import process_caption_task\n"
        "process_caption_task('x')"
    )
    assert "outside of application context" in running.command("-c", code).stderr


def test_a_mastodon_caption_is_approved_and_not_posted(
    running: Site, platform: str, start_task: t.Callable[..., tuple[Visitor, str]]
) -> None:
    _control(platform, "reset", {"software": "mastodon", "posts": 1})
    visitor, _ = start_task("mammoth", "mastodon")
    result = running.command(f"{running.env['PYTHONPATH']}/main.py", "--users", "mammoth")
    assert result.returncode == 0, result.stderr
    (image,) = _images(visitor)
    answer = visitor.post(f"/api/approve_and_post/{image['image_id']}", json={"caption": "A cat"})
    assert answer.json()["posted"] is False
    assert _images(visitor)[0]["status"] == "approved"


def test_busy_platforms_are_asked_again_and_dead_ones_fail_the_task(
    running: Site, platform: str, start_task: t.Callable[..., tuple[Visitor, str]]
) -> None:
    visitor, task_id = start_task("patient")
    _control(platform, "fail", {"status": 429, "count": 2, "path": "statuses"})
    assert running.command("-c", _RQ_WORKER, task_id).returncode == 0
    assert _status(visitor, task_id)["status"] == "completed"
    _control(platform, "fail", {"status": 503, "count": 99, "path": "verify_credentials"})
    task_id = visitor.post("/caption/start", data={}).json()["data"]["task_id"]
    running.command("-c", _RQ_WORKER, task_id)
    status = _status(visitor, task_id)
    assert status["status"] == "failed"
    assert "503" in status["error_message"]


def test_a_missing_model_gives_no_caption_and_a_completed_task(
    running: Site, start_task: t.Callable[..., tuple[Visitor, str]]
) -> None:
    visitor, task_id = start_task("modeless")
    names = {"OLLAMA_MODEL": "absent:1b", "FALLBACK_BACKUP_MODEL": "absent:2b"}
    running.command("-c", _RQ_WORKER, task_id, **names)
    assert _status(visitor, task_id)["status"] == "completed"
    assert _images(visitor) == []
