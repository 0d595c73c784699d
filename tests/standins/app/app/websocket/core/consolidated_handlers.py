"""Socket.IO handlers of the namespace ``/``; no notification is ever pushed."""

from __future__ import annotations

import typing as t

from flask_login import current_user
from flask_socketio import SocketIO, emit


def _on_connect(_auth: t.Any = None) -> None:
    level = "authenticated" if current_user.is_authenticated else "anonymous"
    emit("unified_connected", {"success": True, "access_level": level})


def _on_disconnect(*_: t.Any) -> None:
    return


def _on_subscribe(data: t.Any) -> None:
    if current_user.is_authenticated and isinstance(data, dict) and data.get("category"):
        emit("subscription_confirmed", {"category": data["category"]})
    else:
        emit("subscription_error", {"error": "Not allowed"})


def _on_history(_data: t.Any = None) -> None:
    if current_user.is_authenticated:
        emit("notification_history", {"notifications": []})
    else:
        emit("history_error", {"error": "Authentication required"})


_HANDLERS: dict[str, t.Callable[..., None]] = {
    "connect": _on_connect,
    "disconnect": _on_disconnect,
    "subscribe_category": _on_subscribe,
    "request_notification_history": _on_history,
}


def register(socketio: SocketIO) -> None:
    """Attach the handlers."""
    for event, handler in _HANDLERS.items():
        socketio.on_event(event, handler)
