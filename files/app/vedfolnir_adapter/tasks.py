"""Caption tasks: claim each row once, and give back the rows of a worker that died.

A row is QUEUED, then RUNNING, then COMPLETED, FAILED or CANCELLED.  A worker holds a named lock
for the row it works on and changes QUEUED to RUNNING in one statement, so that no row is done
by two workers.  A RUNNING row whose lock has been free for a while belongs to a dead worker and
becomes QUEUED again, at most `max_retries` times.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
import typing as t

from vedfolnir_adapter import database, traces
from vedfolnir_adapter.settings import Settings

log = logging.getLogger(__name__)

MAX_ERROR: t.Final = 500
PRIORITIES: t.Final = ("urgent", "high", "normal", "low")


class QueuedTask(t.NamedTuple):
    """What a dispatcher needs to know of a waiting row."""

    id: str
    priority: str


def task_lock(settings: Settings, task_id: str) -> database.NamedLock:
    """Return the lock that a worker holds while it works on a row."""
    return database.NamedLock(settings, f"task.{task_id}")


def span(task_id: str, parent: str | None) -> contextlib.AbstractContextManager[traces.Span]:
    """Return the span of a task, below that of the request that made it."""
    attributes = {"messaging.system": "vedfolnir", "vedfolnir.task_id": task_id}
    return traces.root("caption task", "consumer", attributes, parent)


def claim(settings: Settings, task_id: str) -> bool:
    """Turn the row from QUEUED to RUNNING; false when it is not waiting any more."""
    sql = (
        "UPDATE caption_generation_tasks SET status = 'RUNNING', started_at = UTC_TIMESTAMP()"
        " WHERE id = %s AND status = 'QUEUED'"
    )
    return database.execute(settings, sql, (task_id,)) == 1


def give_back(settings: Settings, task_id: str) -> bool:
    """Turn the row of an orderly stop from RUNNING to QUEUED."""
    sql = (
        "UPDATE caption_generation_tasks SET status = 'QUEUED', started_at = NULL"
        " WHERE id = %s AND status = 'RUNNING'"
    )
    return database.execute(settings, sql, (task_id,)) == 1


def owner(settings: Settings, task_id: str) -> str:
    """Return the name of the user whose task it is."""
    sql = (
        "SELECT u.username FROM users u JOIN caption_generation_tasks t ON t.user_id = u.id"
        " WHERE t.id = %s"
    )
    return str(database.query(settings, sql, (task_id,))[0][0])


def finish(settings: Settings, task_id: str, error: str | None = None) -> None:
    """Turn the row from RUNNING to COMPLETED, or to FAILED when there is an error."""
    status, step = ("FAILED", "Failed") if error else ("COMPLETED", "Completed")
    sql = (
        "UPDATE caption_generation_tasks SET status = %s, current_step = %s, error_message = %s,"
        " progress_percent = IF(%s, progress_percent, 100), completed_at = UTC_TIMESTAMP()"
        " WHERE id = %s AND status = 'RUNNING'"
    )
    short = error[:MAX_ERROR] if error else None
    database.execute(settings, sql, (status, step, short, bool(error), task_id))


def waiting(settings: Settings, limit: int = 500) -> list[QueuedTask]:
    """Return the QUEUED rows, oldest first."""
    sql = (
        "SELECT id, priority FROM caption_generation_tasks WHERE status = 'QUEUED'"
        " ORDER BY created_at, id LIMIT %s"
    )
    return [
        QueuedTask(row[0], row[1] if row[1] in PRIORITIES else "normal")
        for row in database.query(settings, sql, (limit,))
    ]


def _requeue(settings: Settings, task_id: str) -> None:
    retry = (
        "UPDATE caption_generation_tasks SET status = 'QUEUED', started_at = NULL,"
        " retry_count = COALESCE(retry_count, 0) + 1"
        " WHERE id = %s AND status = 'RUNNING'"
        " AND COALESCE(retry_count, 0) < COALESCE(max_retries, 3)"
    )
    fail = (
        "UPDATE caption_generation_tasks SET status = 'FAILED', completed_at = UTC_TIMESTAMP(),"
        " error_message = 'The worker ended unexpectedly each time it processed this task'"
        " WHERE id = %s AND status = 'RUNNING'"
    )
    if database.execute(settings, retry, (task_id,)):
        log.warning("Task %s belonged to a worker that died; it waits again", task_id)
    elif database.execute(settings, fail, (task_id,)):
        log.error("Task %s failed: every worker that processed it died", task_id)


@dataclasses.dataclass
class Recovery:
    """Find RUNNING rows that nobody works on."""

    settings: Settings
    grace: float = dataclasses.field(
        default_factory=lambda: float(os.environ.get("VEDFOLNIR_ORPHAN_GRACE", "15"))
    )
    _free_since: dict[str, float] = dataclasses.field(default_factory=dict)

    def sweep(self, now: float | None = None) -> list[str]:
        """Requeue each row whose lock has been free for the whole grace period.

        The grace lets a live worker take its lock again after a restart of the server.
        """
        moment = time.monotonic() if now is None else now
        prefix = f"{self.settings.mysql_database}.task."
        sql = (
            "SELECT id FROM caption_generation_tasks WHERE status = 'RUNNING'"
            " AND IS_FREE_LOCK(LEFT(CONCAT(%s, id), 64)) = 1"
        )
        free = {row[0] for row in database.query(self.settings, sql, (prefix,))}
        self._free_since = {i: self._free_since.get(i, moment) for i in free}
        orphans = [i for i, since in self._free_since.items() if moment - since >= self.grace]
        for task_id in orphans:
            _requeue(self.settings, task_id)
            del self._free_since[task_id]
        return orphans
