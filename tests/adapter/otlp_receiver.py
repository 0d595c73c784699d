"""Receives spans by OTLP/HTTP and prints each as a line of JSON: ``python otlp_receiver.py PORT``.

It runs where OpenTelemetry's own messages can be imported: in the image's environment.
"""

from __future__ import annotations

import gzip
import http.server
import json
import sys
import threading
import typing as t

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service

# Exporters send at the same time, each in a thread here.
ONE_LINE = threading.Lock()


def values(attributes: t.Any) -> dict[str, t.Any]:
    """Return attributes as what they are in Python."""
    return {
        one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value")
        for one in attributes
    }


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes what an exporter sends."""

    def do_POST(self) -> None:
        """Print the spans of a message."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        message = service.ExportTraceServiceRequest.FromString(body)
        for part in message.resource_spans:
            resource = values(part.resource.attributes)
            for span in (span for scope in part.scope_spans for span in scope.spans):
                shown = {
                    "trace": span.trace_id.hex(),
                    "id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "name": span.name,
                    "kind": span.kind,
                    "status": span.status.code,
                    "attributes": values(span.attributes),
                    "resource": resource,
                    "seconds": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    "authorization": self.headers.get("Authorization"),
                    "path": self.path,
                }
                with ONE_LINE:
                    print(json.dumps(shown), flush=True)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.end_headers()

    def log_message(self, *_arguments: t.Any) -> None:
        """Say nothing of each request."""


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Receiver).serve_forever()
