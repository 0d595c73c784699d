"""A gunicorn worker that does not wait for clients that wait for it.

gunicorn ends a worker on SIGTERM and after its share of requests: it stops accepting and waits
until all requests are answered, `graceful_timeout` at most. A Socket.IO client never lets that
happen: its websocket, or its long poll, is one request that lasts as long as the page is open. With
one worker per container the replica would answer nobody for that whole time.
"""

from __future__ import annotations

import socket
import typing as t

import eventlet
import greenlet
from gunicorn.workers.geventlet import EventletWorker

if t.TYPE_CHECKING:
    from gunicorn.http.message import Request

SOCKET_IO = "/socket.io/"
GRACE = 1.0
"""Seconds in which a short Socket.IO request, a handshake for example, may still end by itself."""


class Worker(EventletWorker):
    """End the waiting Socket.IO requests with the worker; their clients connect again."""

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        """Take gunicorn's arguments as they are."""
        super().__init__(*args, **kwargs)
        self._waiting: set[greenlet.greenlet] = set()

    def run(self) -> None:
        """Serve until the worker is told to end, then until all requests have ended."""
        watch = eventlet.spawn(self._end_waiting)
        try:
            super().run()
        finally:
            watch.kill()

    def handle_request(
        self, listener_name: t.Any, req: Request, sock: socket.socket, addr: t.Any
    ) -> bool:
        """Answer one request.

        Raises:
            StopIteration: the connection is to be closed (gunicorn's own convention).
        """
        if req.method != "GET" or not req.path.startswith(SOCKET_IO):
            return bool(super().handle_request(listener_name, req, sock, addr))
        current = eventlet.getcurrent()
        self._waiting.add(current)
        try:
            return bool(super().handle_request(listener_name, req, sock, addr))
        except greenlet.GreenletExit:
            raise StopIteration from None
        finally:
            self._waiting.discard(current)

    def _end_waiting(self) -> None:
        """Wait until the worker is told to end, then end what still waits after `GRACE`."""
        while self.alive:
            eventlet.sleep(GRACE)
        while True:
            eventlet.sleep(GRACE)
            for waiting in list(self._waiting):
                eventlet.kill(waiting)
