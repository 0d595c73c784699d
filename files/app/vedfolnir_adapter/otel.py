"""Spans with OpenTelemetry; imported only if there are traces.

Whatever becomes of the spans, nobody waits for it: they are put into a queue of bounded length, and
a thread of each process (a green one below gunicorn) sends them.  What does not fit is dropped.
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import logging
import os
import socket
import threading
import typing as t

import requests
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Counter

from vedfolnir_adapter import traces
from vedfolnir_adapter.redaction import redact

log = logging.getLogger(__name__)

QUEUE: t.Final = 2048
BATCH: t.Final = 256
DELAY_SECONDS: t.Final = 2.0
TIMEOUT_SECONDS: t.Final = 3.0
NAMESPACE: t.Final = "vedfolnir"
KINDS: t.Final[dict[traces.Kind, trace.SpanKind]] = {
    "client": trace.SpanKind.CLIENT,
    "consumer": trace.SpanKind.CONSUMER,
    "server": trace.SpanKind.SERVER,
}
_propagator: t.Final = TraceContextTextMapPropagator()
_wanted: contextvars.ContextVar[str | None] = contextvars.ContextVar("wanted_trace", default=None)


class _Ids(RandomIdGenerator):
    """Random ids, except that a trace may be given one."""

    def generate_trace_id(self) -> int:
        """Return the id that nginx has chosen, or one of our own."""
        wanted = traces.valid_trace(_wanted.get())
        return int(wanted, 16) if wanted else super().generate_trace_id()


class _Counted(SpanProcessor):
    """Counts the spans that ended; those that are neither sent nor lost wait or were dropped."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def on_end(self, span: ReadableSpan) -> None:  # noqa: ARG002 - the base class names it
        self._counter.labels("ended").inc()


class _Exporter(SpanExporter):
    """Sends spans; says once when that begins to fail, and once when it succeeds again."""

    def __init__(self, url: str, counter: Counter) -> None:
        session = requests.Session()
        session.trust_env = False
        self._inner = OTLPSpanExporter(
            endpoint=url, timeout=TIMEOUT_SECONDS, compression=Compression.Gzip, session=session
        )
        self._counter = counter
        self._well = True

    def export(self, spans: t.Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        well = result is SpanExportResult.SUCCESS
        self._counter.labels("sent" if well else "lost").inc(len(spans))
        if well != self._well:
            self._well = well
            state = "are sent again" if well else "cannot be sent and are dropped"
            log.log(logging.INFO if well else logging.WARNING, "Spans %s", state)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


class _Span(traces.Span):
    """A span of OpenTelemetry whose attributes have no secrets."""

    def __init__(self, inner: trace.Span) -> None:
        self.inner = inner

    def set(self, name: str, value: str | int) -> None:
        self.inner.set_attribute(name, redact(value) if isinstance(value, str) else value)

    def rename(self, name: str) -> None:
        self.inner.update_name(redact(name))

    def fail(self, kind: str) -> None:
        self.set("error.type", kind)
        self.inner.set_status(trace.StatusCode.ERROR)

    def end(self) -> None:
        self.inner.end()


class Engine:
    """Makes spans; each process that does has its own queue and thread."""

    def __init__(self, service: str, url: str, share: float) -> None:
        """Prepare; threads do not survive a fork, so none is started before the first span."""
        # It would say for each batch what `_Exporter` says once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._service = service
        self._url = url
        self._share = share
        self._lock = threading.Lock()
        self._pid = 0
        self._tracer: trace.Tracer = trace.NoOpTracer()
        self._sender: BatchSpanProcessor | None = None
        self._counter = Counter(
            "vedfolnir_spans",
            "Spans that ended, and of them those that were sent and those that could not be.",
            ("result",),
            registry=None,
        )

    def _begin(self) -> None:
        resource = {
            "service.namespace": NAMESPACE,
            "service.name": self._service,
            "service.instance.id": os.environ.get("VEDFOLNIR_REPLICA") or socket.gethostname(),
            "process.pid": os.getpid(),
        }
        provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(self._share)),
            resource=Resource(resource),
            id_generator=_Ids(),
            shutdown_on_exit=False,
        )
        self._sender = BatchSpanProcessor(
            _Exporter(self._url, self._counter),
            max_queue_size=QUEUE,
            max_export_batch_size=BATCH,
            schedule_delay_millis=DELAY_SECONDS * 1000,
        )
        provider.add_span_processor(_Counted(self._counter))
        provider.add_span_processor(self._sender)
        self._tracer = provider.get_tracer(__package__ or NAMESPACE)
        atexit.register(self.finish)

    def _own_tracer(self) -> trace.Tracer:
        with self._lock:
            if self._pid != os.getpid():
                self._begin()
                self._pid = os.getpid()
        return self._tracer

    def start(
        self, name: str, kind: traces.Kind, attributes: traces.Attributes,
        parent: str | None = None, wanted: str | None = None,
    ) -> _Span:  # fmt: skip
        """Begin a span below the present one, or below one elsewhere."""
        tracer = self._own_tracer()
        above = _propagator.extract({traces.PARENT: parent}) if parent else None
        token = _wanted.set(wanted)
        try:
            span = _Span(tracer.start_span(redact(name), context=above, kind=KINDS[kind]))
        finally:
            _wanted.reset(token)
        for key, value in attributes.items():
            span.set(key, value)
        return span

    @contextlib.contextmanager
    def inside(self, span: _Span) -> t.Iterator[_Span]:
        """Let everything inside belong to a span, and end it."""
        token = context.attach(trace.set_span_in_context(span.inner))
        try:
            yield span
        except Exception as exc:
            span.fail(type(exc).__name__)
            raise
        finally:
            context.detach(token)
            span.end()

    def recording(self) -> bool:
        """Say whether a part of what is being done now would be recorded."""
        return trace.get_current_span().is_recording()

    def trace_id(self) -> str | None:
        """Return the present trace's id."""
        found = trace.get_current_span().get_span_context()
        return trace.format_trace_id(found.trace_id) if found.is_valid else None

    def traceparent(self) -> str | None:
        """Return the present span in the form of the W3C."""
        carrier: dict[str, str] = {}
        _propagator.inject(carrier)
        return carrier.get(traces.PARENT)

    def finish(self) -> None:
        """Send what there is, for as long as one request may take."""
        sender, self._sender = self._sender, None
        if sender is not None and self._pid == os.getpid():
            sender._batch_processor.shutdown(int(TIMEOUT_SECONDS * 1000))
