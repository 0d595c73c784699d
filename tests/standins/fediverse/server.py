"""The HTTP side: read a call, answer it from the platform's or the control calls."""

from __future__ import annotations

import http.server
import json
import time
import typing as t
from urllib.parse import parse_qsl, urlsplit

from fediverse import control, platform_api
from fediverse.platform_api import Reply, Request
from fediverse.state import State


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "FediverseStandIn/1"
    server: Server

    def _serve(self) -> None:
        state = self.server.state
        parts = urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            self._send(Reply(400, {"error": "The body is not JSON"}))
            return
        host = self.headers.get("Host") or f"127.0.0.1:{self.server.server_port}"
        request = Request(
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query)),
            body=body,
            base=f"{self.headers.get('X-Forwarded-Proto', 'http')}://{host}",
        )
        if parts.path.startswith("/_control/"):
            self._send(control.answer(state, request))
            return
        state.record_request(f"{self.command} {self.path}")
        failure = state.take_failure(self.command, parts.path)
        if failure is not None:
            time.sleep(failure.delay)
            self._send(Reply(failure.status, {"error": "injected"}, headers=failure.headers))
            return
        with state.lock:
            reply = platform_api.answer(state, request, self.headers.get("Authorization"))
        self._send(reply)

    do_GET = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - names set by http.server

    def _send(self, reply: Reply) -> None:
        data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(data)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002 - inherited name
        """Print a line a request, never the token."""
        print(f"{self.address_string()} {format % args}", flush=True)


class Server(http.server.ThreadingHTTPServer):
    """The server with its state."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], state: State) -> None:
        super().__init__(address, Handler)
        self.state = state
