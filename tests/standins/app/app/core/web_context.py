"""What request handlers share: the managers kept in the Flask configuration, client address."""

from __future__ import annotations

import typing as t

import flask_login
from flask import current_app, request
from models import User, UserAuditLog
from sqlalchemy.orm import Session

from app.core.database.core.database_manager import DatabaseManager
from app.core.session.redis_backend import RedisPlatformManager, RedisSessionBackend

_View = t.TypeVar("_View", bound=t.Callable[..., t.Any])


def login_required(view: _View) -> _View:
    """Send who is not logged in to the login page (flask-login's decorator, with a type)."""
    return t.cast("_View", flask_login.login_required(view))


def db_manager() -> DatabaseManager:
    """Return the database manager of the web process."""
    return t.cast("DatabaseManager", current_app.config["db_manager"])


def redis_platform_manager() -> RedisPlatformManager | None:
    """Return the platform cache, or nothing when Redis was away at the start."""
    return t.cast("RedisPlatformManager | None", current_app.config.get("redis_platform_manager"))


def redis_sessions() -> RedisSessionBackend | None:
    """Return the session mirror, or nothing when Redis was away at the start."""
    return t.cast("RedisSessionBackend | None", current_app.config.get("redis_backend"))


def client_ip() -> str:
    """Return the left-most X-Forwarded-For entry, which a client may set as it likes."""
    forwarded = request.headers.get("X-Forwarded-For", "")
    if forwarded:
        return forwarded.split(",")[0].strip()[:45]
    return request.remote_addr or ""


def audit(session: Session, user: User | None, action: str, details: str) -> None:
    """Add a row to the user audit log; the caller commits."""
    session.add(
        UserAuditLog(
            user_id=user.id if user else None,
            action=action,
            details=details,
            ip_address=client_ip(),
            user_agent=request.headers.get("User-Agent", ""),
        )
    )
