"""Worker mode `rq`, consumer side: an RQ worker whose jobs process one task row each."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
import types
import typing as t

from rq import Worker, get_current_job
from rq.worker import WorkerStatus

from vedfolnir_adapter import heartbeat, logs, request_ids, rq_queue, supervisor, tasks, traces
from vedfolnir_adapter.redaction import redact
from vedfolnir_adapter.settings import Settings, load

log = logging.getLogger(__name__)

NAME: t.Final = "rq-worker"
WORKER_TTL: t.Final = 60


def caption_task(task_id: str) -> str:
    """Process one row: the job function (it runs in a process of its own)."""
    job = get_current_job()
    meta = job.meta if job else {}
    try:
        with (
            request_ids.carry(meta.get(rq_queue.META)),
            tasks.span(task_id, meta.get(traces.PARENT)) as span,
        ):
            return _process(load(), task_id, span)
    finally:
        # RQ ends this process without its exit handlers.
        traces.finish()


def _process(settings: Settings, task_id: str, span: traces.Span) -> str:
    from config import Config
    from main import Vedfolnir

    with tasks.task_lock(settings, task_id) as held:
        if not held or not tasks.claim(settings, task_id):
            log.info("Task %s is not waiting any more", task_id)
            return "skipped"
        username = tasks.owner(settings, task_id)
        log.info("Processing task %s", task_id)
        try:
            # The application's own job processor fails every post; this call, which its polling
            # worker makes, does not.
            asyncio.run(Vedfolnir(Config()).run_multi_user([username], skip_ollama=False))
        except Exception as exc:
            log.exception("Task %s failed", task_id)
            span.fail(type(exc).__name__)
            tasks.finish(settings, task_id, error=redact(str(exc)) or type(exc).__name__)
            return "failed"
        tasks.finish(settings, task_id)
    log.info("Task %s is done", task_id)
    return "completed"


class CaptionWorker(Worker):
    """An RQ worker with a sign of life, and a bounded stop that gives the row back."""

    settings: Settings
    _end: threading.Timer | None = None

    def heartbeat(self, *args: t.Any, **kwargs: t.Any) -> None:
        """Tell Redis and the health check that this process is alive."""
        super().heartbeat(*args, **kwargs)
        heartbeat.beat(NAME)

    def handle_warm_shutdown_request(self) -> None:
        """Let the job go on for the grace period, then end it and give its row back."""
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call]
        if self.get_state() == WorkerStatus.BUSY:
            self._end = threading.Timer(supervisor.stop_grace(), self._abandon)
            self._end.daemon = True
            self._end.start()

    def finish(self) -> None:
        """Wait for a row that is being given back: RQ returns as soon as its job was ended."""
        if self._end is not None:
            self._end.cancel()
            self._end.join()

    def _abandon(self) -> None:
        task_id = self.get_current_job_id()
        if self.horse_pid:
            self.kill_horse()
        if task_id and tasks.give_back(self.settings, task_id):
            log.warning("Task %s was not finished in time; it waits again", task_id)
        os._exit(0)


def _wait_for_redis(client: t.Any, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            client.ping()
        except Exception as exc:
            log.warning("Waiting for Redis: %s", type(exc).__name__)
            heartbeat.beat(NAME)
            stop.wait(2.0)
        else:
            return


def run(settings: Settings) -> int:
    """Work until SIGTERM."""
    stop = threading.Event()

    def request(_signal: int, _frame: types.FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, request)
    client = rq_queue.connection(settings)
    _wait_for_redis(client, stop)
    # Imported once here, so that each job's process starts with it.

    logs.finish_setup()
    if stop.is_set():
        return 0
    CaptionWorker.settings = settings
    worker = CaptionWorker(
        list(rq_queue.queues(client).values()),
        connection=client,
        name=f"{os.uname().nodename}-{os.getpid()}-{int(time.time())}",
        worker_ttl=WORKER_TTL,
        job_monitoring_interval=10,
    )
    worker.log.propagate = True
    worker.work(with_scheduler=False)
    worker.finish()
    # An orderly end only after SIGTERM; otherwise (Redis went away) the supervisor starts again.
    return 0 if worker._shutdown_requested_date else 1
