"""JSON calls of the web interface."""

from __future__ import annotations

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue
from flask_login import current_user
from standin.tables import naive_utc_now

# Missing from the upstream revision, so the application does not boot as it is (contract, fact 1).
from .docker_task_status_routes import docker_task_status_bp  # type: ignore[import-not-found]

api_bp = Blueprint("api", __name__, url_prefix="/api")
api_bp.register_blueprint(docker_task_status_bp)


@api_bp.get("/session/state")
def session_state() -> ResponseReturnValue:
    """Say who is logged in."""
    if not current_user.is_authenticated:
        return jsonify(authenticated=False, error="Not authenticated"), 401
    return jsonify(
        authenticated=True,
        user_id=current_user.id,
        username=current_user.username,
        role=current_user.role.value,
        timestamp=naive_utc_now().isoformat(),
    )


@api_bp.get("/csrf-token")
def csrf_token() -> ResponseReturnValue:
    """Hand out a token that nothing checks."""
    return jsonify(csrf_token="unchecked")


@api_bp.get("/maintenance/status")
def maintenance_status() -> ResponseReturnValue:
    """Say that there is no maintenance."""
    return jsonify(is_active=False)


@api_bp.post("/csp-report")
def csp_report() -> ResponseReturnValue:
    """Swallow a report of a browser."""
    return "", 204
