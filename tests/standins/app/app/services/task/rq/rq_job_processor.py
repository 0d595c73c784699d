"""The callable of RQ jobs. The web process never enqueues any; a dispatcher must."""

from __future__ import annotations

import asyncio
import logging
import typing as t

from flask import current_app

from app.services.task.task_processing import finish_task, mark_running, username_of

logger = logging.getLogger(__name__)


def process_caption_task(task_id: str) -> dict[str, t.Any]:
    """Caption the images of the task's user; needs a Flask application context.

    The job id is the task id and the queues are ``vedfolnir:rq:{urgent,high,normal,low}``.
    """
    db_manager = current_app.config.get("db_manager")
    if db_manager is None:
        msg = "Database manager not available in Flask context"
        raise RuntimeError(msg)
    from main import Vedfolnir

    mark_running(db_manager, task_id)
    try:
        username = username_of(db_manager, task_id)
        results = asyncio.run(Vedfolnir(db_manager.config).run_multi_user([username]))
    except Exception as exc:
        finish_task(db_manager, task_id, error=str(exc))
        raise
    finish_task(db_manager, task_id)
    return {"task_id": task_id, "success": True, **results}
