"""Use the ACL user for Redis connections that give only the password.

Parts of the application read `REDIS_PASSWORD`, or cut the password out of `REDIS_URL` without
decoding it, and know no user name; the server's default user is off, so such a connection would
be refused.
"""

from __future__ import annotations

import dataclasses
import functools
import typing as t
from urllib.parse import quote

_PATCHED = "_vedfolnir_account"


@dataclasses.dataclass(frozen=True)
class Account:
    """The user and the password of this process."""

    user: str
    password: str = dataclasses.field(repr=False)

    def adopt(self, connection: t.Any) -> None:
        """Complete a connection that gives our password and no user; leave all others alone."""
        given = getattr(connection, "password", None)
        if not connection.username and given in (self.password, quote(self.password, safe="")):
            connection.username, connection.password = self.user, self.password


def _patch(connection_class: t.Any, account: Account) -> None:
    if not hasattr(connection_class, _PATCHED):
        original = connection_class.__init__

        @functools.wraps(original)
        def init(self: t.Any, *args: t.Any, **kwargs: t.Any) -> None:
            original(self, *args, **kwargs)
            getattr(connection_class, _PATCHED).adopt(self)

        connection_class.__init__ = init
    setattr(connection_class, _PATCHED, account)


def install(user: str, password: str) -> None:
    """Patch the base classes of all blocking and asyncio connections."""
    import redis.asyncio.connection
    import redis.connection

    account = Account(user, password)
    _patch(redis.connection.AbstractConnection, account)
    _patch(redis.asyncio.connection.AbstractConnection, account)
