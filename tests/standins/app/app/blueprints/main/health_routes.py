"""Health pages and metrics, all without login."""

from __future__ import annotations

import os
import socket
import time

from flask import Blueprint, Response, jsonify
from flask.typing import ResponseReturnValue
from standin.tables import naive_utc_now

from app.blueprints.main import health_checks as checks
from app.core.web_context import login_required

health_bp = Blueprint("health", __name__)

# Ollama is reported and does not fail the page.
_FAILING = ("database", "redis", "rq_workers", "resources")


@health_bp.get("/health")
def health() -> ResponseReturnValue:
    """Report every component; takes a second at least."""
    components = {
        "application": {"healthy": True, "message": "Application is running"},
        "database": checks.database(),
        "redis": checks.redis_server(),
        "ollama": checks.ollama(),
        "rq_workers": checks.rq_workers(),
        "resources": checks.resources(),
    }
    healthy = all(components[name]["healthy"] for name in _FAILING)
    return jsonify(
        status="healthy" if healthy else "unhealthy",
        timestamp=naive_utc_now().isoformat(),
        version="1.0.0",
        components=components,
    ), 200 if healthy else 503


@health_bp.get("/health/ready")
def ready() -> ResponseReturnValue:
    """Report whether requests can be served."""
    results = {"database": checks.database(), "redis": checks.redis_server()}
    is_ready = all(result["healthy"] for result in results.values())
    return jsonify(
        ready=is_ready,
        timestamp=naive_utc_now().isoformat(),
        checks={name: result["healthy"] for name, result in results.items()},
    ), 200 if is_ready else 503


@health_bp.get("/health/live")
def live() -> ResponseReturnValue:
    """Report that the process answers."""
    return jsonify(
        alive=True, timestamp=naive_utc_now().isoformat(), uptime=time.time() - checks.STARTED
    )


@health_bp.get("/api/container/health")
def container_health() -> ResponseReturnValue:
    """Report health in the words of a container."""
    healthy = checks.database()["healthy"] and checks.redis_server()["healthy"]
    return jsonify(
        status="healthy" if healthy else "unhealthy",
        timestamp=naive_utc_now().isoformat(),
        container_id=os.getenv("HOSTNAME", socket.gethostname()),
        uptime_seconds=time.time() - checks.STARTED,
        health_status="healthy" if healthy else "unhealthy",
    ), 200 if healthy else 503


@health_bp.get("/api/container/metrics")
@login_required
def container_metrics() -> ResponseReturnValue:
    """Report resource usage as JSON."""
    return jsonify(timestamp=naive_utc_now().isoformat(), metrics=checks.usage())


@health_bp.get("/metrics")
def metrics() -> Response:
    """Print the few series there are, without a newline at the end."""
    lines = [
        "# HELP vedfolnir_health_status Component health",
        "# TYPE vedfolnir_health_status gauge",
    ]
    for name, check in (
        ("database", checks.database),
        ("redis", checks.redis_server),
        ("ollama", checks.ollama),
    ):
        lines.append(f'vedfolnir_health_status{{component="{name}"}} {int(check()["healthy"])}')
    for name, value in checks.usage().items():
        lines += [
            f"# TYPE vedfolnir_{name}_usage_percent gauge",
            f"vedfolnir_{name}_usage_percent {value}",
        ]
    lines += [
        "# TYPE vedfolnir_uptime_seconds counter",
        f"vedfolnir_uptime_seconds {time.time() - checks.STARTED}",
    ]
    return Response("\n".join(lines), content_type="text/plain; charset=utf-8")
