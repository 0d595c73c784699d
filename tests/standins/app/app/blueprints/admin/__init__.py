"""Administration pages; their static files end up under ``/admin/admin/static/``."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, abort, jsonify, render_template
from flask.typing import ResponseReturnValue
from flask_login import current_user
from models import User, UserRole

from app.core.web_context import db_manager, login_required

_ROOT = Path(__file__).resolve().parents[3]

admin_bp = Blueprint(
    "admin",
    __name__,
    url_prefix="/admin",
    static_folder=str(_ROOT / "admin" / "static"),
    static_url_path="/admin/static",
)


@admin_bp.get("/")
@admin_bp.get("/dashboard")
@login_required
def dashboard() -> ResponseReturnValue:
    """Show the users to an administrator."""
    if current_user.role is not UserRole.ADMIN:
        abort(403)
    with db_manager().get_session() as session:
        return render_template("admin.html", users=session.query(User).all())


@admin_bp.get("/health")
@login_required
def health() -> ResponseReturnValue:
    """Answer an administrator that the pages work."""
    if current_user.role is not UserRole.ADMIN:
        abort(403)
    return jsonify(status="healthy")
