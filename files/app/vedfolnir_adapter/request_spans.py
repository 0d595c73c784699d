"""A span for each request that the application answers."""

from __future__ import annotations

import contextlib
import typing as t

from vedfolnir_adapter import request_ids, traces

#: Asked all the time, by programs.
UNTRACED: t.Final = ("/health", "/metrics", "/socket.io/", "/static/")
#: Where the access log, which is written after the span's end, finds the id: a dictionary in the
#: request's environment, because Flask-SocketIO makes a copy of that.
ENVIRON: t.Final = "vedfolnir.trace"
METHODS: t.Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _begin(request: t.Any) -> tuple[contextlib.ExitStack, traces.Span]:
    method = request.method if request.method in METHODS else "OTHER"
    route = request.url_rule.rule if request.url_rule else ""
    attributes = {"http.request.method": method, "url.path": request.path, "url.scheme": "https"}
    if route:
        attributes["http.route"] = route
    identifier = request_ids.current()
    if identifier:
        attributes["vedfolnir.request_id"] = identifier
    stack = contextlib.ExitStack()
    span = stack.enter_context(
        traces.root(
            f"{method} {route}".strip(), "server", attributes,
            request.headers.get(traces.PARENT), request.headers.get(traces.HEADER),
        )
    )  # fmt: skip
    request.environ.get(ENVIRON, {})["trace_id"] = traces.trace_id()
    return stack, span


def install(app: t.Any) -> None:
    """Hook into the request cycle of a Flask application."""
    from flask import g, request

    @app.before_request
    def _start() -> None:
        if not request.path.startswith(UNTRACED):
            g.vedfolnir_span = _begin(request)

    @app.after_request
    def _finish(response: t.Any) -> t.Any:
        _stack, span = g.get("vedfolnir_span", (None, traces.NOTHING))
        span.set("http.response.status_code", response.status_code)
        if response.status_code >= 500:
            span.fail(str(response.status_code))
        return response

    @app.teardown_request
    def _end(_error: BaseException | None) -> None:
        stack, _span = g.pop("vedfolnir_span", (None, traces.NOTHING))
        if stack is not None:
            stack.close()

    inner = app.wsgi_app

    def outer(environ: dict[str, t.Any], start_response: t.Any) -> t.Any:
        environ[ENVIRON] = {}
        return inner(environ, start_response)

    app.wsgi_app = outer
    # First, so that what other hooks do belongs to it.
    hooks = app.before_request_funcs[None]
    hooks.insert(0, hooks.pop())
