"""Caption tasks: rows in the database that nothing in the web process picks up."""

from __future__ import annotations

import json
import uuid

from flask import Blueprint, jsonify, request, session
from flask.typing import ResponseReturnValue
from flask_login import current_user
from models import CaptionGenerationTask, JobPriority, PlatformConnection, TaskStatus
from sqlalchemy.orm import Session

from app.core.web_context import db_manager, login_required

caption_bp = Blueprint("caption", __name__, url_prefix="/caption")

_SETTINGS = (
    "max_posts_per_run",
    "processing_delay",
    "max_caption_length",
    "optimal_min_length",
    "optimal_max_length",
    "reprocess_existing",
)
_ACTIVE = (TaskStatus.QUEUED, TaskStatus.RUNNING)
_NOT_FOUND = ({"success": False, "error": "Task not found"}, 404)


def _own(db: Session, task_id: str) -> CaptionGenerationTask | None:
    return db.query(CaptionGenerationTask).filter_by(id=task_id, user_id=current_user.id).first()


@caption_bp.post("/start")
@login_required
def start() -> ResponseReturnValue:
    """Queue a task for the current platform connection; one at a time and user."""
    with db_manager().get_session() as db:
        connections = db.query(PlatformConnection).filter_by(
            user_id=current_user.id, is_active=True
        )
        if session.get("platform_connection_id"):
            connections = connections.filter_by(id=session["platform_connection_id"])
        connection = connections.order_by(PlatformConnection.is_default.desc()).first()
        if connection is None:
            return jsonify(success=False, error="No platform connection"), 400
        active = db.query(CaptionGenerationTask).filter(
            CaptionGenerationTask.user_id == current_user.id,
            CaptionGenerationTask.status.in_(_ACTIVE),
        )
        if active.first() is not None:
            return jsonify(success=False, error="A task is already active"), 409
        task_id = str(uuid.uuid4())
        chosen = {name: request.form[name] for name in _SETTINGS if name in request.form}
        db.add(
            CaptionGenerationTask(
                id=task_id,
                user_id=current_user.id,
                platform_connection_id=connection.id,
                status=TaskStatus.QUEUED,
                priority=JobPriority.NORMAL,
                settings_json=json.dumps(chosen),
            )
        )
        db.commit()
    message = "Caption generation started"
    return jsonify(success=True, message=message, data={"task_id": task_id})


@caption_bp.get("/api/status/<task_id>")
@login_required
def status(task_id: str) -> ResponseReturnValue:
    """Report how far a task is."""
    with db_manager().get_session() as db:
        task = _own(db, task_id)
        if task is None:
            return _NOT_FOUND
        return jsonify(
            success=True,
            status={
                "task_id": task.id,
                "status": task.status.value,
                "progress_percent": task.progress_percent,
                "current_step": task.current_step,
                "error_message": task.error_message,
            },
        )


@caption_bp.post("/api/cancel/<task_id>")
@login_required
def cancel(task_id: str) -> ResponseReturnValue:
    """Cancel a task that has not begun."""
    with db_manager().get_session() as db:
        task = _own(db, task_id)
        if task is None or task.status is not TaskStatus.QUEUED:
            return _NOT_FOUND
        task.status = TaskStatus.CANCELLED
        db.commit()
    return jsonify(success=True, message="Task cancelled")
