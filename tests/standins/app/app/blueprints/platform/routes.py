"""Platform connections: add, edit, delete, test, switch (JSON, login needed)."""

from __future__ import annotations

import typing as t

import redis
from flask import Blueprint, jsonify, request, session
from flask.typing import ResponseReturnValue
from flask_login import current_user
from models import PlatformConnection
from sqlalchemy.orm import Session

from app.core.web_context import db_manager, login_required, redis_platform_manager

platform_bp = Blueprint("platform_api", __name__, url_prefix="/api")

_REQUIRED = ("name", "platform_type", "instance_url", "username", "access_token")
_NOT_FOUND = ({"success": False, "error": "Platform not found"}, 404)


def _own(db: Session, platform_id: int) -> PlatformConnection | None:
    return (
        db.query(PlatformConnection)
        .filter_by(id=platform_id, user_id=current_user.id, is_active=True)
        .first()
    )


def _refresh_cache() -> None:
    cache = redis_platform_manager()
    if cache is None:
        return
    try:
        cache.load_user_platforms_to_redis(current_user.id)
    except redis.RedisError:
        return


@platform_bp.post("/add_platform")
@login_required
def add_platform() -> ResponseReturnValue:
    """Store a new connection, its token encrypted."""
    data = request.get_json(silent=True) or {}
    if not all(data.get(field) for field in _REQUIRED):
        return jsonify(success=False, error="Missing required fields"), 400
    fields: dict[str, t.Any] = {name: data[name] for name in _REQUIRED}
    with db_manager().get_session() as db:
        own = db.query(PlatformConnection).filter_by(user_id=current_user.id)
        if own.filter_by(name=data["name"]).first() is not None:
            return jsonify(success=False, error="Platform connection already exists"), 400
        connection = PlatformConnection(
            user_id=current_user.id, is_default=own.first() is None, **fields
        )
        db.add(connection)
        db.commit()
        platform_id = connection.id
    _refresh_cache()
    return jsonify(success=True, message="Platform added successfully", platform_id=platform_id)


@platform_bp.put("/edit_platform/<int:platform_id>")
@login_required
def edit_platform(platform_id: int) -> ResponseReturnValue:
    """Change a connection."""
    data = request.get_json(silent=True) or {}
    with db_manager().get_session() as db:
        connection = _own(db, platform_id)
        if connection is None:
            return _NOT_FOUND
        for name in _REQUIRED:
            if data.get(name):
                setattr(connection, name, data[name])
        db.commit()
    _refresh_cache()
    return jsonify(success=True, message="Platform updated successfully")


@platform_bp.delete("/delete_platform/<int:platform_id>")
@login_required
def delete_platform(platform_id: int) -> ResponseReturnValue:
    """Delete a connection and, by the foreign keys, all that belongs to it."""
    with db_manager().get_session() as db:
        connection = _own(db, platform_id)
        if connection is None:
            return _NOT_FOUND
        db.delete(connection)
        db.commit()
    _refresh_cache()
    return jsonify(success=True, message="Platform deleted successfully")


@platform_bp.post("/test_platform/<int:platform_id>")
@login_required
def test_platform(platform_id: int) -> ResponseReturnValue:
    """Answer success without contacting the platform, as upstream does."""
    with db_manager().get_session() as db:
        if _own(db, platform_id) is None:
            return _NOT_FOUND
    return jsonify(success=True, message="Connection test successful")


@platform_bp.post("/switch_platform/<int:platform_id>")
@login_required
def switch_platform(platform_id: int) -> ResponseReturnValue:
    """Make a connection the current one."""
    with db_manager().get_session() as db:
        if _own(db, platform_id) is None:
            return _NOT_FOUND
    session["platform_connection_id"] = platform_id
    return jsonify(success=True, message="Platform switched successfully")
