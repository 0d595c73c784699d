"""State of the caption tasks for Prometheus: `python -m vedfolnir_adapter.task_exporter`.

It reads the task table and the RQ queues when it is asked, with accounts that can do nothing else.
A database or a Redis that does not answer is a metric, not an error.
"""

from __future__ import annotations

import logging
import os
import time
import typing as t

import pymysql
import redis
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.registry import Collector

from vedfolnir_adapter import database, exposition, logs, settings, tasks
from vedfolnir_adapter.settings import Settings

log = logging.getLogger(__name__)

PORT: t.Final = 9101
SECRETS: t.Final = frozenset({"mysql_password", "redis_password", "ca.pem"})
STATUSES: t.Final = ("QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED")
ENDED: t.Final = ("COMPLETED", "FAILED", "CANCELLED")
RECENT_SECONDS: t.Final = 3600
#: What RQ calls the keys of a queue (rq 1.x and 2.x), with the command that counts.
RQ_KEYS: t.Final = {
    "waiting": ("rq:queue:", "llen"),
    "started": ("rq:wip:", "zcard"),
    "failed": ("rq:failed:", "zcard"),
}
RQ_PREFIX: t.Final = "vedfolnir:rq:"

COUNTS = (
    "SELECT status, COUNT(*),"
    " TIMESTAMPDIFF(SECOND, MIN(IF(status = 'RUNNING', started_at, created_at)), UTC_TIMESTAMP())"
    " FROM caption_generation_tasks GROUP BY status"
)
RECENT = (
    "SELECT status, COUNT(*), AVG(TIMESTAMPDIFF(SECOND, started_at, completed_at)),"
    " MAX(TIMESTAMPDIFF(SECOND, started_at, completed_at)) FROM caption_generation_tasks"
    " WHERE completed_at > UTC_TIMESTAMP() - INTERVAL %s SECOND GROUP BY status"
)


def table_metrics(rows: t.Sequence[t.Any], recent: t.Sequence[t.Any]) -> list[Gauge]:
    """Return what the rows of `COUNTS` and `RECENT` tell; a status without rows is 0."""
    counts = Gauge("vedfolnir_tasks", "Caption tasks in the table.", labels=["status"])
    oldest = Gauge(
        "vedfolnir_tasks_oldest_seconds",
        "Age of the oldest caption task that waits, or has been running.",
        labels=["status"],
    )
    found = {str(status): (int(count), age) for status, count, age in rows}
    for status in STATUSES:
        count, age = found.get(status, (0, None))
        counts.add_metric([status], count)
        if status not in ENDED:
            oldest.add_metric([status], max(0.0, float(age or 0)) if count else 0.0)
    ended = Gauge(
        "vedfolnir_tasks_recent", "Caption tasks that ended within an hour.", labels=["status"]
    )
    durations = Gauge(
        "vedfolnir_tasks_recent_duration_seconds",
        "How long the caption tasks took that ended within an hour.",
        labels=["status", "statistic"],
    )
    last = {str(status): (int(n), mean, most) for status, n, mean, most in recent}
    for status in ENDED:
        number, mean, most = last.get(status, (0, None, None))
        ended.add_metric([status], number)
        for statistic, value in (("mean", mean), ("max", most)):
            # A task that was cancelled while it waited was never started.
            if value is not None:
                durations.add_metric([status, statistic], float(value))
    return [counts, oldest, ended, durations]


def queue_metrics(client: redis.Redis) -> list[Gauge]:
    """Return how many jobs there are on each RQ queue; without RQ there are none."""
    jobs = Gauge("vedfolnir_rq_jobs", "Jobs of the RQ queues.", labels=["queue", "state"])
    pipe = client.pipeline(transaction=False)
    labels = []
    for queue in tasks.PRIORITIES:
        for state, (prefix, command) in RQ_KEYS.items():
            getattr(pipe, command)(f"{prefix}{RQ_PREFIX}{queue}")
            labels.append([queue, state])
    for names, count in zip(labels, pipe.execute(), strict=True):
        jobs.add_metric(names, int(count))
    return [jobs]


class TaskCollector(Collector):
    """Looks at both servers for each scrape."""

    def __init__(self, own: Settings, client: redis.Redis) -> None:
        """Use these settings for the table, and the client for the queues."""
        self._settings = own
        self._client = client

    def _table(self) -> list[Gauge]:
        return table_metrics(
            database.query(self._settings, COUNTS),
            database.query(self._settings, RECENT, (RECENT_SECONDS,)),
        )

    def collect(self) -> t.Iterator[Gauge]:
        """Yield everything that can be read, and what could not."""
        readers: tuple[tuple[str, t.Callable[[], list[Gauge]]], ...] = (
            ("tasks", self._table),
            ("rq", lambda: queue_metrics(self._client)),
        )
        for name, read in readers:
            started = time.perf_counter()
            try:
                found = read()
            except (pymysql.Error, redis.RedisError, OSError) as exc:
                log.warning("Could not read the state of the %s: %s", name, database.describe(exc))
                found = []
            yield from found
            yield Gauge(f"vedfolnir_{name}_up", "Whether it could be read.", value=bool(found))
            yield Gauge(
                f"vedfolnir_{name}_read_seconds",
                "What reading it took.",
                value=time.perf_counter() - started,
            )


def client(own: Settings) -> redis.Redis:
    """Open the connection to Redis; what does not answer soon is away."""
    return redis.Redis.from_url(
        own.redis_url, socket_connect_timeout=3, socket_timeout=3, health_check_interval=30
    )


def main() -> None:
    """Serve until the process is told to end."""
    logs.install("task-exporter")
    try:
        own = settings.load(only=SECRETS)
    except settings.SettingsError as exc:
        log.critical("%s", exc)
        raise SystemExit(settings.EXIT_SETTINGS) from exc
    logs.finish_setup()
    registry = CollectorRegistry()
    registry.register(TaskCollector(own, client(own)))
    ProcessCollector(registry=registry)
    port = int(os.environ.get("VEDFOLNIR_PORT", str(PORT)))
    log.info("Telling the state of the caption tasks on port %d", port)
    exposition.server(registry, port).serve_forever()


if __name__ == "__main__":
    main()
