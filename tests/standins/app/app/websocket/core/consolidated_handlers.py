"""Socket.IO handlers of the namespace ``/``; no notification is ever pushed."""

from __future__ import annotations

import typing as t

from flask_login import current_user
from flask_socketio import SocketIO, emit


def register(socketio: SocketIO) -> None:
    """Attach the four handlers."""

    @socketio.on("connect")
    def on_connect(auth: t.Any = None) -> None:
        level = "authenticated" if current_user.is_authenticated else "anonymous"
        emit("unified_connected", {"success": True, "access_level": level})

    @socketio.on("disconnect")
    def on_disconnect(*_: t.Any) -> None:
        return

    @socketio.on("subscribe_category")
    def on_subscribe(data: t.Any) -> None:
        if current_user.is_authenticated and isinstance(data, dict) and data.get("category"):
            emit("subscription_confirmed", {"category": data["category"]})
        else:
            emit("subscription_error", {"error": "Not allowed"})

    @socketio.on("request_notification_history")
    def on_history(data: t.Any = None) -> None:
        if current_user.is_authenticated:
            emit("notification_history", {"notifications": []})
        else:
            emit("history_error", {"error": "Authentication required"})
