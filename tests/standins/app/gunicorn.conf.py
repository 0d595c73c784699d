"""gunicorn settings with upstream's semantics, odd ones included."""

from __future__ import annotations

import logging
import multiprocessing
import os
import typing as t
from pathlib import Path

IS_CONTAINER = Path("/.dockerenv").exists() or os.getenv("CONTAINER_ENV") == "true"

_logger = logging.getLogger("gunicorn.error")


def _number(name: str, default: int) -> int:
    return int(os.getenv(name, str(default)))


def _memory_limit_mb() -> int:
    # Only "<int>g" and "<int>m" are understood: "1.5g" stops the start with a ValueError.
    text = os.getenv("MEMORY_LIMIT", "2g").lower()
    unit = 1024 if text.endswith("g") else 1
    return int(text.rstrip("gm")) * unit


def _workers() -> int:
    cpus = multiprocessing.cpu_count()
    if IS_CONTAINER:
        # A setting of 1 still gives two workers; only --workers on the command line wins.
        return max(2, min(cpus, _number("GUNICORN_WORKERS", cpus)))
    return 2 * cpus + 1


def _max_requests() -> int:
    if not IS_CONTAINER:
        return _number("GUNICORN_MAX_REQUESTS", 1000)
    limit = _memory_limit_mb()
    if limit < 1024:
        return 500
    return 750 if limit < 2048 else 1000


bind = "0.0.0.0:5000"
workers = _workers()
worker_class = "eventlet"
worker_connections = _number("GUNICORN_WORKER_CONNECTIONS", 1000)
max_requests = _max_requests()
max_requests_jitter = _number("GUNICORN_MAX_REQUESTS_JITTER", 100)
timeout = _number("GUNICORN_TIMEOUT", 60)
graceful_timeout = _number("GUNICORN_GRACEFUL_TIMEOUT", 60)
keepalive = _number("GUNICORN_KEEPALIVE", 2)
loglevel = os.getenv("GUNICORN_LOG_LEVEL", "info")
accesslog = "-" if IS_CONTAINER else "/app/logs/gunicorn_access.log"
errorlog = "-" if IS_CONTAINER else "/app/logs/gunicorn_error.log"
preload_app = True
if IS_CONTAINER:
    worker_tmp_dir = "/dev/shm"
limit_request_line = 4094
limit_request_fields = 100
limit_request_field_size = 8190


def when_ready(server: t.Any) -> None:
    """Say that the master listens."""
    server.log.info("Vedfolnir is ready to serve requests")


def pre_fork(server: t.Any, worker: t.Any) -> None:
    """Say that a worker is about to start."""
    server.log.debug("Worker about to be forked: %s", worker)


def post_fork(server: t.Any, worker: t.Any) -> None:
    """Try to switch a worker to JSON logs; the attempt fails and is swallowed."""
    server.log.info("Worker spawned (pid: %s)", worker.pid)
    if os.getenv("ENABLE_JSON_LOGGING", "false").lower() == "true":
        try:
            _ = server.log.error_log.logger
        except AttributeError as exc:
            server.log.warning("Failed to configure JSON logging: %s", exc)


def _rq_cleanup(what: str) -> None:
    try:
        from app.services.task.rq import gunicorn_integration

        gunicorn_integration.cleanup()
    except Exception as exc:  # upstream logs and carries on
        _logger.error("%s failed: %s", what, exc)


def worker_int(_worker: t.Any) -> None:
    """Clean up after INT or QUIT."""
    _rq_cleanup("RQ cleanup on worker interrupt")


def worker_abort(_worker: t.Any) -> None:
    """Clean up after a worker that timed out."""
    _rq_cleanup("RQ cleanup on worker abort")


def on_exit(_server: t.Any) -> None:
    """Clean up when the master ends."""
    _rq_cleanup("Final RQ cleanup")
