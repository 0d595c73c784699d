"""WSGI entry point: `gunicorn ... vedfolnir_adapter.wsgi:app`."""
# ruff: noqa: E402 - the order of these imports is the point of this module

from __future__ import annotations

import eventlet

# Before anything that opens a socket or makes a lock; the application does it too late.
eventlet.monkey_patch()

from vedfolnir_adapter import (
    access_log,
    bootstrap,
    flask_patch,
    gunicorn_master,
    integrated,
    logs,
    metrics_store,
    names,
    socketio_patch,
    traces,
)

_settings = bootstrap.prepare("app")
# Before the first import of prometheus_client, in the master: all its workers share the place.
metrics_store.prepare()

from vedfolnir_adapter import database_events, outbound, request_spans
from vedfolnir_adapter.metrics import RequestMetrics, SocketMetrics

traces.install("app")
access_log.install()
gunicorn_master.install()
names.install()
socketio_patch.install(_settings, SocketMetrics().watch)
outbound.install()
database_events.install(_settings)

import web_app

app = web_app.app
flask_patch.configure(app, _settings)
RequestMetrics().install(app)
if traces.installed():
    request_spans.install(app)
logs.finish_setup()
if _settings.worker_mode == "integrated":
    integrated.start()
