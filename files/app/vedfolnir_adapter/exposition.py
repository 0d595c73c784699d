"""Answer Prometheus in a process that is no web server."""

from __future__ import annotations

import http.server
import logging
import threading
import typing as t

from prometheus_client import CollectorRegistry, generate_latest

log = logging.getLogger(__name__)

CONTENT_TYPE: t.Final = "text/plain; version=0.0.4; charset=utf-8"


def handler(registry: CollectorRegistry) -> type[http.server.BaseHTTPRequestHandler]:
    """Return what answers requests: the metrics, and a page for the health check."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pages: dict[str, t.Callable[[], bytes]] = {
                "/metrics": lambda: generate_latest(registry),
                "/health/ready": lambda: b"ok\n",
            }
            page = pages.get(self.path.partition("?")[0])
            body = page() if page else b"not found\n"
            self.send_response(200 if page else 404)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002
            """Say nothing of each scrape."""

    return Handler


def server(registry: CollectorRegistry, port: int) -> http.server.ThreadingHTTPServer:
    """Return a server on a port; inside a container, Compose publishes nothing of it."""
    made = http.server.ThreadingHTTPServer(("0.0.0.0", port), handler(registry))  # noqa: S104
    made.daemon_threads = True
    return made


def start(registry: CollectorRegistry, port: int) -> None:
    """Serve in a thread; work goes on if the port is taken."""
    try:
        made = server(registry, port)
    except OSError as exc:
        log.warning("No metrics on port %d: %s", port, type(exc).__name__)
        return
    threading.Thread(target=made.serve_forever, name="metrics", daemon=True).start()
