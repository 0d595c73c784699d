"""One JSON object per line on stdout and stderr, without secrets.

Three hooks cover everything Python writes: a record factory (redacts every record, so that the
application's own log files are clean too), line streams in place of `sys.stdout` and
`sys.stderr` (prints and tracebacks), and `StreamHandler.emit` (records that go to one of these
streams are written as structured objects, once).
"""

from __future__ import annotations

import datetime as dt
import io
import json
import logging
import os
import posix
import socket
import sys
import threading
import traceback
import types
import typing as t

from vedfolnir_adapter import request_ids, traces
from vedfolnir_adapter.redaction import redact

MAX_MESSAGE: t.Final = 12_000
_DONE = "vedfolnir_written"

#: Attribute of a record with extra fields for the JSON line.
FIELDS: t.Final = "vedfolnir_fields"


def _timestamp(seconds: float | None = None) -> str:
    moment = (
        dt.datetime.now(dt.UTC) if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)
    )
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _ids() -> dict[str, str]:
    """Return the ids of the request and the trace that this code runs for."""
    found = {"request_id": request_ids.current(), "trace_id": traces.trace_id()}
    return {name: value for name, value in found.items() if value}


class LogWriter:
    """Write log objects to a file descriptor."""

    def __init__(self, service: str, replica: str, descriptor: int = 1) -> None:
        """Remember what every line carries."""
        self.constant = {"service": service, "replica": replica}
        self.descriptor = descriptor

    def write(self, entry: dict[str, t.Any]) -> None:
        """Write one object as one line; a closed pipe must not stop the application."""
        line = json.dumps({**entry, **self.constant}, default=str) + "\n"
        data = line.encode()
        try:
            while data:
                # Not os.write: eventlet's would switch to its hub in the middle of a log call.
                data = data[posix.write(self.descriptor, data) :]
        except OSError:
            return

    def text(self, message: str, level: str, logger: str) -> None:
        """Write a line that did not come from a logger."""
        entry: dict[str, t.Any] = {"timestamp": _timestamp(), "level": level, "logger": logger}
        entry["message"] = redact(message)[:MAX_MESSAGE]
        entry.update(_ids())
        self.write(entry)

    def record(self, record: logging.LogRecord) -> None:
        """Write a log record; the factory has already redacted its text."""
        message = record.getMessage()
        if record.exc_text:
            message = f"{message}\n{record.exc_text}"
        entry: dict[str, t.Any] = {
            "timestamp": _timestamp(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": message[:MAX_MESSAGE],
        }
        entry.update(_ids())
        entry.update(getattr(record, FIELDS, {}))
        self.write(entry)


class LineStream(io.TextIOBase):
    """A text stream that turns every line into a log object."""

    def __init__(self, writer: LogWriter, level: str, name: str) -> None:
        """Keep one line buffer per thread (and per green thread)."""
        super().__init__()
        self.writer = writer
        self._level = level
        self._name = name
        self._local = threading.local()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Name the encoding, as callers of `sys.stdout.encoding` expect."""
        return "utf-8"

    def writable(self) -> bool:
        """Say that this stream can be written."""
        return True

    def fileno(self) -> int:
        """Return the real descriptor (faulthandler and subprocess ask for it)."""
        return self.writer.descriptor

    def write(self, text: str) -> int:
        """Buffer text and emit each complete line."""
        pending: str = getattr(self._local, "pending", "") + text
        *lines, self._local.pending = pending.split("\n")
        for line in lines:
            if line.strip():
                self.writer.text(line.rstrip(), self._level, self._name)
        return len(text)

    def flush(self) -> None:
        """Do nothing: a partial line waits for its end."""

    def finish(self) -> None:
        """Emit what is left of an unfinished line."""
        if getattr(self._local, "pending", ""):
            self.write("\n")


def _install_factory() -> None:
    original = logging.getLogRecordFactory()

    def factory(*args: t.Any, **kwargs: t.Any) -> logging.LogRecord:
        record = original(*args, **kwargs)
        try:
            message = record.getMessage()
        except Exception as exc:
            message = f"{record.msg} (arguments do not fit: {type(exc).__name__})"
        record.msg, record.args = redact(message), None
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = redact("".join(traceback.format_exception(*record.exc_info)).rstrip())
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        return record

    logging.setLogRecordFactory(factory)


def _install_emit(writer: LogWriter, originals: tuple[t.Any, ...]) -> None:
    plain_emit = logging.StreamHandler.emit

    def emit(self: logging.StreamHandler[t.Any], record: logging.LogRecord) -> None:
        stream = self.stream
        if not isinstance(stream, LineStream) and not any(stream is item for item in originals):
            plain_emit(self, record)
        elif not getattr(record, _DONE, False):
            # Several console handlers see the same record; it is one event.
            setattr(record, _DONE, True)
            writer.record(record)

    logging.StreamHandler.emit = emit  # type: ignore[assignment, method-assign]


def _exception_hook(
    kind: type[BaseException], value: BaseException, trace: types.TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("vedfolnir_adapter").critical(
        "Unhandled exception", exc_info=(kind, value, trace)
    )


def _ensure_console_handler() -> None:
    """Make sure that records reach the console even if the application adds no handler."""
    root = logging.getLogger()
    if not any(isinstance(getattr(h, "stream", None), LineStream) for h in root.handlers):
        root.addHandler(logging.StreamHandler(sys.stderr))


def finish_setup() -> None:
    """Call after the application was imported: its own handlers are then in place."""
    _ensure_console_handler()
    root = logging.getLogger()
    if root.level in (logging.NOTSET, logging.WARNING):
        root.setLevel(logging.INFO)


def install(service: str, *, descriptor: int = 1) -> LogWriter:
    """Install all hooks; a second call changes nothing."""
    if isinstance(sys.stdout, LineStream):
        return sys.stdout.writer
    replica = os.environ.get("VEDFOLNIR_REPLICA") or socket.gethostname()
    writer = LogWriter(service, replica, descriptor)
    originals = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    _install_factory()
    _install_emit(writer, originals)
    sys.stdout = LineStream(writer, "INFO", "stdout")
    sys.stderr = LineStream(writer, "WARNING", "stderr")
    sys.excepthook = _exception_hook
    return writer
