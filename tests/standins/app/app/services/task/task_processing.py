"""State changes of a caption task, shared by the polling worker and the RQ job."""

from __future__ import annotations

import typing as t

from models import CaptionGenerationTask, TaskStatus, User
from standin.tables import naive_utc_now

from app.core.database.core.database_manager import DatabaseManager


def next_queued_task_id(db_manager: DatabaseManager) -> str | None:
    """Return the oldest queued task. Nothing is locked: only one process may ask."""
    with db_manager.get_session() as session:
        task = (
            session.query(CaptionGenerationTask)
            .filter_by(status=TaskStatus.QUEUED)
            .order_by(CaptionGenerationTask.created_at)
            .first()
        )
        return task.id if task else None


def username_of(db_manager: DatabaseManager, task_id: str) -> str:
    """Return the name of the user a task belongs to."""
    with db_manager.get_session() as session:
        row = (
            session.query(User)
            .join(CaptionGenerationTask, CaptionGenerationTask.user_id == User.id)
            .filter(CaptionGenerationTask.id == task_id)
            .one_or_none()
        )
        if row is None:
            msg = f"Task {task_id} not found"
            raise LookupError(msg)
        return row.username


def mark_running(db_manager: DatabaseManager, task_id: str) -> None:
    """Note that work on a task began."""
    with db_manager.get_session() as session:
        session.query(CaptionGenerationTask).filter_by(id=task_id).update(
            {"status": TaskStatus.RUNNING, "started_at": naive_utc_now()}
        )
        session.commit()


def finish_task(db_manager: DatabaseManager, task_id: str, error: str | None = None) -> None:
    """Note that a task is done, or failed with ``error``."""
    values: dict[t.Any, t.Any] = {
        "status": TaskStatus.FAILED if error else TaskStatus.COMPLETED,
        "completed_at": naive_utc_now(),
        "error_message": error,
    }
    if not error:
        values |= {"progress_percent": 100, "current_step": "Completed"}
    with db_manager.get_session() as session:
        session.query(CaptionGenerationTask).filter_by(id=task_id).update(values)
        session.commit()
