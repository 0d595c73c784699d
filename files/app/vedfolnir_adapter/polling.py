"""Worker mode `polling`: the application's own polling loop, made safe.

The loop itself has no locking and no recovery.  Here a named lock makes it the only one, each
task is claimed before it is processed, and rows of workers that died are queued again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import typing as t

import pymysql
import redis

from vedfolnir_adapter import database, heartbeat, logs, request_ids, supervisor, tasks, traces
from vedfolnir_adapter.settings import Settings

log = logging.getLogger(__name__)

LOCK: t.Final = "caption-worker"
BEAT_SECONDS: t.Final = 5.0
NAME: t.Final = "polling"


class StopSwitch:
    """SIGTERM: finish the current task if that is quick, otherwise give it back and end."""

    def __init__(self, settings: Settings) -> None:
        """Remember nothing to give back yet."""
        self.settings = settings
        self.client = redis.Redis.from_url(
            settings.redis_url, socket_connect_timeout=1, socket_timeout=1, retry=None
        )
        self.current: str | None = None
        self.requested = threading.Event()

    def abandon(self) -> None:
        """Give the row back and end this process at once (a task cannot be interrupted)."""
        if self.current is not None:
            with contextlib.suppress(pymysql.Error, OSError):
                tasks.give_back(self.settings, self.current)
            log.warning("Task %s was not finished in time; it waits again", self.current)
        os._exit(0)

    def trigger(self, finish: t.Callable[[], None]) -> None:
        """Tell the loop to end, and start the clock."""
        if self.requested.is_set():
            return
        self.requested.set()
        log.info("Stopping")
        timer = threading.Timer(supervisor.stop_grace(), self.abandon)
        timer.daemon = True
        timer.start()
        finish()


async def _process_once(
    worker: t.Any, task: t.Any, original: t.Callable[[t.Any], t.Awaitable[None]], stop: StopSwitch
) -> None:
    """Process one row under its lock, if it still waits."""
    settings, task_id = stop.settings, str(getattr(task, "id", task))
    identifier = request_ids.recall(stop.client, task_id)
    with request_ids.carry(identifier), tasks.task_lock(settings, task_id) as held:
        if not held or not tasks.claim(settings, task_id):
            await asyncio.sleep(min(1.0, worker.check_interval))
            return
        stop.current = task_id
        try:
            with tasks.span(task_id, traces.recall(stop.client, task_id)):
                await original(task)
        finally:
            stop.current = None


async def _beat(recovery: tasks.Recovery) -> None:
    """Show signs of life from inside the loop, so that a blocked loop goes stale."""
    while True:
        heartbeat.beat(NAME)
        try:
            await asyncio.to_thread(recovery.sweep)
        except (pymysql.Error, OSError) as exc:
            log.warning("Could not look for abandoned tasks: %s", database.describe(exc))
        await asyncio.sleep(BEAT_SECONDS)


async def _run(settings: Settings, stop: StopSwitch, interval: float) -> None:
    from simple_caption_worker import SimpleCaptionWorker

    worker = SimpleCaptionWorker(check_interval=interval)
    logs.finish_setup()
    loop = asyncio.get_running_loop()
    original = worker.process_task_simple

    def handlers() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.trigger, worker.shutdown_event.set)

    async def process(task: t.Any) -> None:
        await _process_once(worker, task, original, stop)

    # The loop calls both by name on the instance.
    worker.setup_signal_handlers = handlers
    worker.process_task_simple = process
    beating = asyncio.create_task(_beat(tasks.Recovery(settings)))
    if stop.requested.is_set():
        return
    try:
        await worker.start()
    finally:
        beating.cancel()


def _await_turn(lock: database.NamedLock, stop: StopSwitch) -> bool:
    """Wait until no other polling worker is active; a standby is alive, too."""
    announced = False
    while not stop.requested.is_set():
        heartbeat.beat(NAME)
        try:
            if lock.acquire():
                return True
        except (pymysql.Error, OSError) as exc:
            log.warning("Could not ask for the worker lock: %s", database.describe(exc))
        else:
            if not announced:
                log.info("Another worker is active; standing by")
                announced = True
        stop.requested.wait(2.0)
    return False


def run(settings: Settings, interval: float) -> int:
    """Run until SIGTERM."""
    stop = StopSwitch(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.requested.set())
    lock = database.NamedLock(settings, LOCK)
    if not _await_turn(lock, stop):
        return 0
    log.info("Polling for caption tasks every %g s", interval)
    try:
        asyncio.run(_run(settings, stop, interval))
    finally:
        lock.release()
    return 0
