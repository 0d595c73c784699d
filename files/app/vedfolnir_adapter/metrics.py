"""Request metrics, appended to the application's own /metrics text."""

from __future__ import annotations

import time
import typing as t

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)

PATH: t.Final = "/metrics"
CONTENT_TYPE: t.Final = "text/plain; version=0.0.4; charset=utf-8"
METHODS: t.Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestMetrics:
    """Count and time requests by endpoint rule, so that the number of series stays bounded."""

    def __init__(self) -> None:
        """Create the series in a registry of their own."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "vedfolnir_http_requests",
            "Requests answered by the application.",
            ("method", "endpoint", "status"),
            registry=self.registry,
        )
        self.duration = Histogram(
            "vedfolnir_http_request_duration_seconds",
            "Time the application took to answer.",
            ("method", "endpoint"),
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)

    def merge(self, own: bytes) -> bytes:
        """Join the application's text, which lacks the last newline, and ours."""
        return own.rstrip(b"\n") + b"\n" + generate_latest(self.registry)

    def install(self, app: t.Any) -> None:
        """Hook into the request cycle of a Flask application."""
        from flask import g, request

        @app.before_request  # type: ignore[untyped-decorator, unused-ignore]
        def _start() -> None:
            g.vedfolnir_started = time.perf_counter()

        @app.after_request  # type: ignore[untyped-decorator, unused-ignore]
        def _finish(response: t.Any) -> t.Any:
            rule = request.url_rule.rule if request.url_rule else "unmatched"
            method = request.method if request.method in METHODS else "OTHER"
            self.requests.labels(method, rule, str(response.status_code)).inc()
            started = getattr(g, "vedfolnir_started", None)
            if started is not None:
                self.duration.labels(method, rule).observe(time.perf_counter() - started)
            if request.path == PATH and response.status_code == 200:
                response.set_data(self.merge(response.get_data()))
                response.headers["Content-Type"] = CONTENT_TYPE
            return response

        # First, so that a hook of the application that answers early is timed as well.
        hooks = app.before_request_funcs[None]
        hooks.insert(0, hooks.pop())
