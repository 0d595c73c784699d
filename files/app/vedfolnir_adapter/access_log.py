"""Write gunicorn's access log as fields instead of one formatted string."""

from __future__ import annotations

import logging
import typing as t
from datetime import timedelta

from vedfolnir_adapter import request_ids, request_spans
from vedfolnir_adapter.logs import FIELDS
from vedfolnir_adapter.redaction import redact


def access_fields(
    status: t.Any, sent: t.Any, environ: t.Mapping[str, t.Any], duration: timedelta
) -> dict[str, t.Any]:
    """Return the fields of one request; the query stays out, it may carry credentials."""
    fields: dict[str, t.Any] = {
        "method": str(environ.get("REQUEST_METHOD", "-")),
        "path": redact(str(environ.get("RAW_URI", "-")).split("?", 1)[0]),
        "status": int(str(status).split(None, 1)[0]) if status else 0,
        "bytes": sent or 0,
        "duration_ms": round(duration.total_seconds() * 1000, 1),
        "remote": str(environ.get("REMOTE_ADDR", "-")),
        "user_agent": redact(str(environ.get("HTTP_USER_AGENT", "-")))[:200],
    }
    identifier = request_ids.valid(str(environ.get("HTTP_X_REQUEST_ID", "")))
    if identifier:
        fields["request_id"] = identifier
    trace = environ.get(request_spans.ENVIRON, {}).get("trace_id")
    if trace:
        fields["trace_id"] = trace
    return fields


def install() -> None:
    """Replace `Logger.access` in a process below gunicorn."""
    from gunicorn.glogging import Logger

    def access(
        self: t.Any, resp: t.Any, _req: t.Any, environ: t.Mapping[str, t.Any], request_time: t.Any
    ) -> None:
        log: logging.Logger = self.access_log
        if not self.cfg.accesslog:
            return
        fields = access_fields(resp.status, getattr(resp, "sent", 0), environ, request_time)
        log.info(
            "%s %s %s", fields["method"], fields["path"], fields["status"], extra={FIELDS: fields}
        )

    Logger.access = access
