"""Metrics of requests, logins and sockets, appended to the application's own /metrics text."""

from __future__ import annotations

import time
import typing as t

from prometheus_client import Counter, Gauge, Histogram, generate_latest

from vedfolnir_adapter import metrics_store
from vedfolnir_adapter.exposition import CONTENT_TYPE

PATH: t.Final = "/metrics"
LOGIN: t.Final = "/user-management/login"
METHODS: t.Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestMetrics:
    """Count and time requests by endpoint rule, so that the number of series stays bounded."""

    def __init__(self) -> None:
        """Create the series; `metrics_store` collects them from all processes."""
        self.registry = metrics_store.registry()
        self.requests = Counter(
            "vedfolnir_http_requests",
            "Requests answered by the application.",
            ("method", "endpoint", "status"),
            registry=None,
        )
        self.duration = Histogram(
            "vedfolnir_http_request_duration_seconds",
            "Time the application took to answer.",
            ("method", "endpoint"),
            registry=None,
        )
        self.in_flight = Gauge(
            "vedfolnir_http_requests_in_flight",
            "Requests that the application is answering.",
            registry=None,
            multiprocess_mode="livesum",
        )
        self.logins = Counter("vedfolnir_logins", "Attempts to log in.", ("result",), registry=None)
        for result in ("success", "failure"):
            self.logins.labels(result)

    def merge(self, own: bytes) -> bytes:
        """Join the application's text, which lacks the last newline, and ours."""
        return own.rstrip(b"\n") + b"\n" + generate_latest(self.registry)

    def _count(self, rule: str, method: str, status: int) -> None:
        self.requests.labels(method, rule, str(status)).inc()
        if rule == LOGIN and method == "POST" and status < 400:
            # The form again means that the application did not let the visitor in.
            self.logins.labels("success" if status >= 300 else "failure").inc()

    def install(self, app: t.Any) -> None:
        """Hook into the request cycle of a Flask application."""
        from flask import g, request

        @app.before_request  # type: ignore[untyped-decorator, unused-ignore]
        def _start() -> None:
            g.vedfolnir_started = time.perf_counter()
            self.in_flight.inc()

        @app.after_request  # type: ignore[untyped-decorator, unused-ignore]
        def _finish(response: t.Any) -> t.Any:
            rule = request.url_rule.rule if request.url_rule else "unmatched"
            method = request.method if request.method in METHODS else "OTHER"
            self._count(rule, method, response.status_code)
            started = getattr(g, "vedfolnir_started", None)
            if started is not None:
                self.duration.labels(method, rule).observe(time.perf_counter() - started)
            if request.path == PATH and response.status_code == 200:
                response.set_data(self.merge(response.get_data()))
                response.headers["Content-Type"] = CONTENT_TYPE
            return response

        @app.teardown_request  # type: ignore[untyped-decorator, unused-ignore]
        def _end(_error: BaseException | None) -> None:
            if g.pop("vedfolnir_started", None) is not None:
                self.in_flight.dec()

        # First, so that a hook of the application that answers early is timed as well.
        hooks = app.before_request_funcs[None]
        hooks.insert(0, hooks.pop())


class SocketMetrics:
    """Count the Socket.IO sessions, whatever their transport."""

    def __init__(self) -> None:
        """Create the series."""
        self.sessions = Gauge(
            "vedfolnir_websocket_sessions",
            "Socket.IO sessions that are open.",
            registry=None,
            multiprocess_mode="livesum",
        )
        self.opened = Counter(
            "vedfolnir_websocket_sessions_opened", "Socket.IO sessions ever opened.", registry=None
        )

    def watch(self, server: t.Any) -> None:
        """Stand before the handlers of a server, as its own admin page does."""

        def connect(sid: str, environ: t.Any) -> t.Any:
            self.sessions.inc()
            self.opened.inc()
            return server._handle_eio_connect(sid, environ)

        def disconnect(sid: str, reason: t.Any) -> t.Any:
            self.sessions.dec()
            return server._handle_eio_disconnect(sid, reason)

        server.eio.on("connect", connect)
        server.eio.on("disconnect", disconnect)
