"""Worker mode `rq`, producer side: put waiting rows of the task table on the RQ queues.

The web layer only writes rows.  The job id is the task id, and a job claims its row before it
works, so putting a row on a queue twice is harmless and a lost Redis loses nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
import typing as t

import pymysql
import redis
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job

from vedfolnir_adapter import database, heartbeat, request_ids, tasks, traces
from vedfolnir_adapter.settings import Settings

log = logging.getLogger(__name__)

PREFIX: t.Final = "vedfolnir:rq:"
NAME: t.Final = "rq-dispatcher"
LOCK: t.Final = "rq-dispatcher"
META: t.Final = "request_id"
JOB: t.Final = "vedfolnir_adapter.rq_worker.caption_task"
#: A job that left its queue should have claimed its row within this time.
LOST_SECONDS: t.Final = 15.0


def connection(settings: Settings) -> redis.Redis:
    """Open the connection RQ uses (it stores bytes)."""
    return redis.Redis.from_url(
        settings.redis_url,
        socket_connect_timeout=5,
        socket_keepalive=True,
        health_check_interval=30,
    )


def queues(client: redis.Redis) -> dict[str, Queue]:
    """Return the queues by priority, the most urgent first."""
    return {name: Queue(PREFIX + name, connection=client) for name in tasks.PRIORITIES}


class Dispatcher:
    """Moves rows; remembers when it put each of them on a queue."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        """Use one client for all queues."""
        self.settings = settings
        self.client = client
        self.queues = queues(client)
        self.recovery = tasks.Recovery(settings)
        self.timeout = int(os.environ.get("VEDFOLNIR_TASK_TIMEOUT", "3600"))
        self._sent: dict[str, float] = {}

    def _enqueue(self, task: tasks.QueuedTask) -> None:
        with contextlib.suppress(NoSuchJobError):
            Job.fetch(task.id, connection=self.client).delete()
        self.queues[task.priority].enqueue_call(
            JOB,
            args=(task.id,),
            job_id=task.id,
            timeout=self.timeout,
            result_ttl=600,
            failure_ttl=86400,
            description=f"caption task {task.id}",
            meta={
                META: request_ids.recall(self.client, task.id),
                traces.PARENT: traces.recall(self.client, task.id),
            },
        )
        log.info("Put task %s on queue %s%s", task.id, PREFIX, task.priority)

    def step(self, now: float | None = None) -> int:
        """Do one round; returns the number of rows put on a queue."""
        moment = time.monotonic() if now is None else now
        self.recovery.sweep(moment)
        waiting = tasks.waiting(self.settings)
        present = {i for queue in self.queues.values() for i in queue.get_job_ids()}
        count = 0
        for task in waiting:
            if task.id in present:
                self._sent.setdefault(task.id, moment)
            elif moment - self._sent.get(task.id, float("-inf")) >= LOST_SECONDS:
                self._enqueue(task)
                self._sent[task.id] = moment
                count += 1
        ids = {task.id for task in waiting}
        self._sent = {i: sent for i, sent in self._sent.items() if i in ids}
        return count


def run(settings: Settings, interval: float) -> int:
    """Dispatch until SIGTERM; with several containers one at a time is active."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    lock = database.NamedLock(settings, LOCK)
    dispatcher = Dispatcher(settings, connection(settings))
    held = False
    while not stop.is_set():
        heartbeat.beat(NAME)
        try:
            held = held or lock.acquire()
            if held:
                dispatcher.step()
        except (pymysql.Error, redis.RedisError, OSError) as exc:
            log.warning("Could not dispatch: %s", database.describe(exc))
        stop.wait(min(interval, 2.0))
    lock.release()
    return 0
