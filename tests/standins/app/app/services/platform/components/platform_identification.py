"""Find the platform connection a page is about - and print it, token included."""

from __future__ import annotations

import logging
import typing as t

import redis
from models import PlatformConnection

from app.core.database.core.database_manager import DatabaseManager
from app.core.session.redis_backend import RedisPlatformManager

logger = logging.getLogger(__name__)


def identify_user_platform(
    user_id: int,
    redis_platform_manager: RedisPlatformManager | None,
    db_manager: DatabaseManager,
) -> dict[str, t.Any] | None:
    """Return the current connection of a user from Redis, else from the database."""
    if redis_platform_manager is not None:
        try:
            current = redis_platform_manager.get_default_platform(user_id)
        except redis.RedisError as exc:
            print(f"DEBUG: Redis platform cache failed: {exc}")
        else:
            # The leak of the contract, fact 8: the deployment must keep this out of its logs.
            print(f"DEBUG: Current platform dict: {current}", flush=True)
            return current
    with db_manager.get_session() as session:
        row = (
            session.query(PlatformConnection)
            .filter_by(user_id=user_id, is_active=True)
            .order_by(PlatformConnection.is_default.desc(), PlatformConnection.name)
            .first()
        )
        return row.to_cache() if row else None
