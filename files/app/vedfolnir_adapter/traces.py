"""W3C trace context, by option: a request can be followed through all containers.

A span each for a request, and, below it, for its statements, its calls and the tasks that it made.
This module is what the others call; it does nothing unless `VEDFOLNIR_TRACES_URL` says where spans
go, and only then is OpenTelemetry imported (`otel`).  As the request's id it is a help for people:
where a span cannot be made, kept or sent everything else goes on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import typing as t

if t.TYPE_CHECKING:
    import redis

    from vedfolnir_adapter.otel import Engine

log = logging.getLogger(__name__)

Kind = t.Literal["client", "consumer", "server"]
Attributes = t.Mapping[str, str | int]

URL: t.Final = "VEDFOLNIR_TRACES_URL"
PERCENT: t.Final = "VEDFOLNIR_TRACES_PERCENT"
PARENT: t.Final = "traceparent"
#: The id that nginx has written into its own line, for a trace that begins here.
HEADER: t.Final = "X-Trace-ID"
KEY: t.Final = "vedfolnir:traceparent:"
KEEP_SECONDS: t.Final = 7 * 86400
MAX_STATEMENT: t.Final = 2000
#: Values that somebody wrote into a statement: strings, numbers.
_LITERAL: t.Final = re.compile(
    r"""'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|\b0x[0-9a-fA-F]+\b|\b\d+(?:\.\d+)?\b""", re.DOTALL
)
_TRACE: t.Final = re.compile(r"(?!0{32})[0-9a-f]{32}")

_engine: Engine | None = None


class Span:
    """What is being done; this one is not recorded."""

    def set(self, name: str, value: str | int) -> None:
        """Say something about it."""

    def rename(self, name: str) -> None:
        """Name it better."""

    def fail(self, kind: str) -> None:
        """Say that it did not succeed, and in a word why."""

    def end(self) -> None:
        """Say that it is over."""


NOTHING: t.Final = Span()


def install(service: str) -> None:
    """Record spans from now on if the settings say where to."""
    global _engine
    url = os.environ.get(URL, "")
    if not url or _engine is not None:
        return
    try:
        from vedfolnir_adapter.otel import Engine
    except ImportError as exc:
        log.warning("There are no traces, because the image lacks %s", exc.name)
        return
    _engine = Engine(service, url, int(os.environ.get(PERCENT) or "100") / 100)
    log.info("Traces go to %s", url)


def installed() -> bool:
    """Say whether spans are recorded at all."""
    return _engine is not None


def trace_id() -> str | None:
    """Return the id of the trace that this code belongs to."""
    return _engine.trace_id() if _engine else None


def traceparent() -> str | None:
    """Return what a child of the present span must be told."""
    return _engine.traceparent() if _engine else None


def valid_trace(text: str | None) -> str | None:
    """Return an id that a trace may have, or nothing."""
    return text if text and _TRACE.fullmatch(text) else None


@contextlib.contextmanager
def root(
    name: str, kind: Kind, attributes: Attributes, parent: str | None = None,
    trace: str | None = None,
) -> t.Iterator[Span]:  # fmt: skip
    """Do what is inside as the child of a span elsewhere, or as a trace of its own."""
    if _engine is None:
        yield NOTHING
        return
    with _engine.inside(_engine.start(name, kind, attributes, parent, trace)) as span:
        yield span


@contextlib.contextmanager
def child(name: str, attributes: Attributes) -> t.Iterator[Span]:
    """Do what is inside as a part of the present span; without one it is not recorded."""
    if _engine is None or not _engine.recording():
        yield NOTHING
        return
    with _engine.inside(_engine.start(name, "client", attributes)) as span:
        yield span


def part(name: str, attributes: Attributes) -> Span:
    """Begin a part of the present span in which no other begins; the caller ends it."""
    if _engine is None or not _engine.recording():
        return NOTHING
    return _engine.start(name, "client", attributes)


def statement(sql: str) -> tuple[str, Attributes]:
    """Return name and attributes of a statement, without the values in it."""
    text = _LITERAL.sub("?", sql)[:MAX_STATEMENT]
    operation = text.split(None, 1)[0].upper() if text.strip() else "?"
    return operation, {
        "db.system.name": "mysql",
        "db.operation.name": operation,
        "db.query.text": text,
    }


def remember(client: redis.Redis, task_id: str) -> None:
    """Keep the present span for the worker that will do the task."""
    found = traceparent()
    if found:
        with contextlib.suppress(Exception):
            client.set(KEY + task_id, found, ex=KEEP_SECONDS)


def recall(client: redis.Redis, task_id: str) -> str | None:
    """Return the span that made the task, if it is known; whoever asks need not record any."""
    found: t.Any = None
    if os.environ.get(URL):
        with contextlib.suppress(Exception):
            found = client.get(KEY + task_id)
    return found.decode("ascii", "replace") if isinstance(found, bytes) else found


def finish() -> None:
    """Send what this process still has, for a few seconds at most: it ends."""
    if _engine is not None:
        _engine.finish()
