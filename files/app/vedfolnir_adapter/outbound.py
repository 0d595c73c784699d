"""Count, time and trace the calls to platforms and to Ollama, and give Ollama the request's ids."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import time
import typing as t
from urllib.parse import urlsplit

from prometheus_client import Counter, Gauge, Histogram

from vedfolnir_adapter import request_ids, traces

TARGETS: t.Final = ("ollama", "platform")
PORTS: t.Final = {"http": 80, "https": 443}
BUCKETS: t.Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
#: The method of each client through which all its requests go.
CLIENTS: t.Final = (
    ("httpx", "AsyncClient", "send"),
    ("httpx", "Client", "send"),
    ("requests", "Session", "send"),
)


def _place(url: str) -> tuple[str | None, int | None]:
    parts = urlsplit(url)
    return parts.hostname, parts.port or PORTS.get(parts.scheme)


class Calls:
    """The series, and where Ollama is; everything else is a platform."""

    def __init__(self, ollama_url: str, traces_url: str = "") -> None:
        """Create the series, so that they are there before the first call."""
        self._ollama = _place(ollama_url)
        self._traces = _place(traces_url)
        self.requests = Counter(
            "vedfolnir_outbound_requests",
            "Calls to platforms and to Ollama; code is the status, timeout or error.",
            ("target", "code"),
            registry=None,
        )
        self.duration = Histogram(
            "vedfolnir_outbound_request_duration_seconds",
            "Time until a platform or Ollama had answered.",
            ("target",),
            buckets=BUCKETS,
            registry=None,
        )
        self.in_flight = Gauge(
            "vedfolnir_outbound_in_flight",
            "Calls to platforms and to Ollama that wait for their answer.",
            ("target",),
            registry=None,
            multiprocess_mode="livesum",
        )
        for target in TARGETS:
            self.duration.labels(target)
            self.in_flight.labels(target)
            self.requests.labels(target, "200")

    @contextlib.contextmanager
    def watch(self, request: t.Any) -> t.Iterator[t.Callable[[t.Any], None]]:
        """Watch one call; the caller hands over the answer."""
        host, port = place = _place(str(request.url))
        if place == self._traces:  # the spans themselves
            yield lambda _response: None
            return
        target = "ollama" if place == self._ollama else "platform"
        # Without the path, which may have the token of somebody.
        attributes: dict[str, str | int] = {
            "http.request.method": str(request.method),
            "peer.service": target,
            "server.address": host or "",
            "server.port": port or 0,
        }
        with contextlib.ExitStack() as inside:
            span = inside.enter_context(traces.child(f"{request.method} {target}", attributes))
            if target == "ollama":  # a platform is told nothing of our inside
                self._tell(request)
            answered = inside.enter_context(self._measure(target))
            yield lambda response: answered(response, span)

    @staticmethod
    def _tell(request: t.Any) -> None:
        told = {request_ids.HEADER: request_ids.current(), traces.PARENT: traces.traceparent()}
        for name, value in told.items():
            if value:
                request.headers[name] = value

    @contextlib.contextmanager
    def _measure(self, target: str) -> t.Iterator[t.Callable[[t.Any, traces.Span], None]]:
        code = "error"

        def answered(response: t.Any, span: traces.Span) -> None:
            nonlocal code
            code = str(response.status_code)
            span.set("http.response.status_code", response.status_code)
            if response.status_code >= 400:
                span.fail(code)

        started = time.perf_counter()
        self.in_flight.labels(target).inc()
        try:
            yield answered
        except Exception as exc:
            code = "timeout" if "timeout" in type(exc).__name__.lower() else "error"
            raise
        finally:
            self.in_flight.labels(target).dec()
            self.duration.labels(target).observe(time.perf_counter() - started)
            self.requests.labels(target, code).inc()

    def wrap(self, original: t.Any, asynchronous: bool) -> t.Any:
        """Return the client's method, watched."""

        @functools.wraps(original)
        def send(client: t.Any, request: t.Any, *args: t.Any, **kwargs: t.Any) -> t.Any:
            with self.watch(request) as answered:
                response = original(client, request, *args, **kwargs)
                answered(response)
                return response

        @functools.wraps(original)
        async def send_async(client: t.Any, request: t.Any, *args: t.Any, **kwargs: t.Any) -> t.Any:
            with self.watch(request) as answered:
                response = await original(client, request, *args, **kwargs)
                answered(response)
                return response

        return send_async if asynchronous else send


def install() -> Calls:
    """Watch the HTTP clients that the image has."""
    calls = Calls(os.environ.get("OLLAMA_URL", ""), os.environ.get(traces.URL, ""))
    for module, name, method in CLIENTS:
        with contextlib.suppress(ImportError):
            client = getattr(importlib.import_module(module), name)
            setattr(client, method, calls.wrap(getattr(client, method), name == "AsyncClient"))
    return calls
