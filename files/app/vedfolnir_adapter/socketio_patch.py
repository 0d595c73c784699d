"""Give the application's Socket.IO server our origins and a message queue.

The application constructs it with a fixed list of origins and no queue, so that events reach
only the clients of one replica.
"""

from __future__ import annotations

import functools
import typing as t

from vedfolnir_adapter.settings import Settings

CHANNEL: t.Final = "vedfolnir:socketio"


def install(settings: Settings, watch: t.Callable[[t.Any], None]) -> None:
    """Patch the constructor before `web_app` is imported; `watch` is given the server."""
    from flask_socketio import SocketIO

    original = SocketIO.__init__

    @functools.wraps(original)
    def init(self: t.Any, app: t.Any = None, **kwargs: t.Any) -> None:
        if settings.allowed_origins:
            kwargs["cors_allowed_origins"] = list(settings.allowed_origins)
        kwargs["message_queue"] = settings.redis_url
        kwargs["channel"] = CHANNEL
        original(self, app, **kwargs)
        if self.server is not None:
            watch(self.server)

    SocketIO.__init__ = init
