"""The checks behind the health pages, with upstream's blind spots and slowness."""

from __future__ import annotations

import os
import time
import typing as t
from urllib.parse import urlsplit

import psutil
import redis
import requests
from standin import switches

from app.core.web_context import db_manager

STARTED = time.time()
_RESOURCE_LIMIT = 95


class Check(t.TypedDict):
    """Result of one check."""

    healthy: bool
    message: str


def database() -> Check:
    """Run a query."""
    healthy, message = db_manager().test_connection()
    return {"healthy": healthy, "message": message}


def redis_server() -> Check:
    """Write and delete a key; user name, database number and TLS of the URL are ignored.

    Nor is the password unquoted: one with reserved characters fails here and works elsewhere.
    """
    url = os.getenv("REDIS_URL")
    if not url:
        return {"healthy": False, "message": "REDIS_URL not configured"}
    parts = urlsplit(url)
    try:
        client = redis.Redis(
            host=parts.hostname or "localhost",
            port=parts.port or 6379,
            password=parts.password,
            socket_timeout=5,
            socket_connect_timeout=5,
        )
        client.set("health_check_test", "ok", ex=60)
        client.delete("health_check_test")
        client.close()
    except redis.RedisError as exc:
        return {"healthy": False, "message": f"Redis check failed: {type(exc).__name__}"}
    return {"healthy": True, "message": "Redis connection successful"}


def ollama() -> Check:
    """Ask for the version, for up to ten seconds."""
    url = os.getenv("OLLAMA_URL", "http://host.docker.internal:11434").rstrip("/")
    try:
        answer = requests.get(f"{url}/api/version", timeout=10)
    except requests.RequestException as exc:
        return {"healthy": False, "message": f"Ollama unreachable: {type(exc).__name__}"}
    if answer.status_code != 200:
        return {"healthy": False, "message": f"Ollama answered {answer.status_code}"}
    return {"healthy": True, "message": "Ollama is available"}


def rq_workers() -> Check:
    """Fail for ever when integrated workers are asked for: they do not exist."""
    if os.getenv("RQ_ENABLE_INTEGRATED_WORKERS") != "true":
        return {"healthy": True, "message": "Integrated RQ workers disabled"}
    if switches.rq_repaired():
        return {"healthy": True, "message": "RQ workers running"}
    return {"healthy": False, "message": "RQ workers not initialized"}


def usage(seconds: float | None = None) -> dict[str, float]:
    """Return percentages of processor (sampled for ``seconds``), memory and root disk."""
    return {
        "cpu": psutil.cpu_percent(interval=seconds),
        "memory": psutil.virtual_memory().percent,
        "disk": psutil.disk_usage("/").percent,
    }


def resources() -> Check:
    """Judge the whole machine's usage, not the container's."""
    over = [name for name, value in usage(1).items() if value > _RESOURCE_LIMIT]
    if over:
        return {"healthy": False, "message": f"Resource usage too high: {', '.join(over)}"}
    return {"healthy": True, "message": "Resource usage normal"}
