"""Redis: the audit mirror of logins and the cache of platform connections."""

from __future__ import annotations

import json
import logging
import os
import typing as t
import uuid

import redis
from models import PlatformConnection
from standin.tables import naive_utc_now

from app.core.database.core.database_manager import DatabaseManager

logger = logging.getLogger(__name__)

SESSION_SECONDS = 7200
PLATFORM_SECONDS = 3600


def connect() -> redis.Redis | None:
    """Return a client for ``REDIS_URL``, or nothing when Redis is away at the start."""
    url = os.getenv("REDIS_URL", "redis://localhost:6379/0")
    client = redis.Redis.from_url(
        url, decode_responses=True, socket_timeout=5, socket_connect_timeout=5
    )
    try:
        client.ping()
    except redis.RedisError as exc:
        logger.warning("Redis is not available, using the database only: %s", type(exc).__name__)
        return None
    return client


class RedisSessionBackend:
    """Mirrors a login in Redis; authentication never reads it."""

    def __init__(self, client: redis.Redis) -> None:
        self.redis = client

    def create(self, user_id: int, platform_connection_id: int | None) -> str:
        """Write the record of a new login and return its id."""
        session_id = str(uuid.uuid4())
        now = naive_utc_now().isoformat()
        record = {
            "user_id": user_id,
            "platform_connection_id": platform_connection_id,
            "created_at": now,
            "session_id": session_id,
            "_last_updated": now,
        }
        self.redis.setex(f"vedfolnir:session:{session_id}", SESSION_SECONDS, json.dumps(record))
        return session_id

    def destroy(self, session_id: str) -> None:
        """Forget a login."""
        self.redis.delete(f"vedfolnir:session:{session_id}")


class RedisPlatformManager:
    """Caches a user's platform connections, access tokens in clear, as upstream does."""

    def __init__(self, client: redis.Redis, db_manager: DatabaseManager) -> None:
        self.redis = client
        self.db_manager = db_manager

    def load_user_platforms_to_redis(self, user_id: int) -> list[dict[str, t.Any]]:
        """Copy a user's active connections from the database and return them."""
        with self.db_manager.get_session() as session:
            rows = (
                session.query(PlatformConnection)
                .filter_by(user_id=user_id, is_active=True)
                .order_by(PlatformConnection.is_default.desc(), PlatformConnection.name)
            )
            platforms = [row.to_cache() for row in rows]
        for platform in platforms:
            self.redis.setex(f"platform:{platform['id']}", PLATFORM_SECONDS, json.dumps(platform))
        self.redis.setex(f"user_platforms:{user_id}", PLATFORM_SECONDS, json.dumps(platforms))
        return platforms

    def get_user_platforms(self, user_id: int) -> list[dict[str, t.Any]]:
        """Return a user's connections from the cache, filling it first if need be."""
        cached = self.redis.get(f"user_platforms:{user_id}")
        if cached is None:
            return self.load_user_platforms_to_redis(user_id)
        platforms: list[dict[str, t.Any]] = json.loads(str(cached))
        return platforms

    def get_default_platform(self, user_id: int) -> dict[str, t.Any] | None:
        """Return the connection marked as default, or the first one."""
        platforms = self.get_user_platforms(user_id)
        first = platforms[0] if platforms else None
        return next((p for p in platforms if p["is_default"]), first)

    def invalidate_user_cache(self, user_id: int) -> None:
        """Drop the cached list of a user; the single connections stay until they expire."""
        self.redis.delete(f"user_platforms:{user_id}")
