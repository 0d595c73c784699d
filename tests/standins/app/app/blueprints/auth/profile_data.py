"""Export and deletion of one's own data (contract, section 10)."""

from __future__ import annotations

import typing as t
from datetime import datetime
from pathlib import Path

from flask import Blueprint, jsonify, redirect, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, logout_user
from models import (
    Image,
    PlatformConnection,
    Post,
    ProcessingRun,
    User,
    UserAuditLog,
    UserRole,
    UserSession,
)
from sqlalchemy.orm import Session
from standin.tables import naive_utc_now

from app.core.web_context import audit, db_manager, login_required

profile_data_bp = Blueprint("profile_data", __name__, url_prefix="/user-management")

_USER = (
    "id username email first_name last_name role is_active email_verified "
    "data_processing_consent data_processing_consent_date created_at last_login"
)
_PLATFORM = "id name platform_type instance_url username is_active is_default created_at last_used"
_POST = "post_id post_url created_at platform_type instance_url"
_IMAGE = (
    "original_caption generated_caption reviewed_caption final_caption status created_at "
    "reviewed_at reviewer_notes"
)
_RUN = "batch_id started_at completed_at posts_processed images_processed captions_generated status"
_AUDIT = "action details created_at ip_address"


def _plain(value: t.Any) -> t.Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return getattr(value, "value", value)


def _pick(row: object, names: str) -> dict[str, t.Any]:
    return {name: _plain(getattr(row, name)) for name in names.split()}


def _images_of(db: Session, user_id: int) -> list[Image]:
    return (
        db.query(Image)
        .join(Post, Image.post_id == Post.id)
        .filter(Post.user_id == user_id)
        .order_by(Image.id)
        .all()
    )


@profile_data_bp.get("/profile/export")
@login_required
def export() -> ResponseReturnValue:
    """Return what the application exports of a user: no tokens, sessions, tasks or files."""
    uid = current_user.id
    with db_manager().get_session() as db:
        user = db.get_one(User, uid)
        platforms = db.query(PlatformConnection).filter_by(user_id=uid)
        body = {
            "user_profile": _pick(user, _USER)
            | {"platform_connections": [_pick(row, _PLATFORM) for row in platforms]},
            "posts": [_pick(row, _POST) for row in db.query(Post).filter_by(user_id=uid)],
            "images": [{"image_id": row.id} | _pick(row, _IMAGE) for row in _images_of(db, uid)],
            "processing_runs": [
                _pick(row, _RUN) for row in db.query(ProcessingRun).filter_by(user_id=uid)
            ],
            "audit_log": [
                _pick(row, _AUDIT) for row in db.query(UserAuditLog).filter_by(user_id=uid)
            ],
            "export_timestamp": naive_utc_now().isoformat(),
            "export_format": "GDPR_compliant_JSON",
        }
        audit(db, user, "data_exported", f"Data of {user.username} <{user.email}> exported")
        db.commit()
    return jsonify(body)


@profile_data_bp.post("/delete_profile")
@login_required
def delete_profile() -> ResponseReturnValue:
    """Erase the own account; names stay behind in the details of the audit log."""
    with db_manager().get_session() as db:
        user = db.get_one(User, current_user.id)
        admins = db.query(User).filter_by(role=UserRole.ADMIN).count()
        if user.role is UserRole.ADMIN and admins == 1:
            return jsonify(success=False, error="The last administrator cannot be deleted"), 400
        audit(db, None, "user_deletion_completed", f"Deleted {user.username} <{user.email}>")
        for image in _images_of(db, user.id):
            Path(image.local_path).unlink(missing_ok=True)
        db.query(UserSession).filter_by(user_id=user.id).delete()
        db.query(UserAuditLog).filter_by(user_id=user.id).update({"user_id": None})
        db.delete(user)
        db.commit()
    logout_user()
    return redirect(url_for("main.index"))
