"""Use the ACL user for Redis connections that give only a password.

Parts of the application read `REDIS_PASSWORD` and know no user name; the server's default user
is off, so such a connection would be refused.
"""

from __future__ import annotations

import functools
import typing as t

_PATCHED = "_vedfolnir_acl_user"


def _patch(connection_class: t.Any, user: str) -> None:
    if getattr(connection_class, _PATCHED, None) is not None:
        setattr(connection_class, _PATCHED, user)
        return
    original = connection_class.__init__

    @functools.wraps(original)
    def init(self: t.Any, *args: t.Any, **kwargs: t.Any) -> None:
        original(self, *args, **kwargs)
        provider = getattr(self, "credential_provider", None)
        if getattr(self, "password", None) and not self.username and provider is None:
            self.username = getattr(connection_class, _PATCHED)

    setattr(connection_class, _PATCHED, user)
    connection_class.__init__ = init


def install(user: str) -> None:
    """Patch the base classes of all blocking and asyncio connections."""
    import redis.asyncio.connection
    import redis.connection

    _patch(redis.connection.AbstractConnection, user)
    _patch(redis.asyncio.connection.AbstractConnection, user)
