"""What Alloy does with spans: takes them by OTLP/HTTP, deletes attributes, hands them on.

A message is left as it is but for the attributes that an action deletes, so only that much of the
form of protocol buffers is known here.
"""

from __future__ import annotations

import gzip
import http.server
import queue
import re
import sys
import threading
import time
import typing as t
import urllib.error
import urllib.request
import zlib
from pathlib import Path

from logs.alloy_pipeline import Counters
from logs.alloy_syntax import Block
from logs.durations import seconds

#: The fields that lead from a message to its spans, and there to an attribute: the ones of
#: ExportTraceServiceRequest, ResourceSpans, ScopeSpans and Span.
TO_SPANS: t.Final = (1, 2, 2)
ATTRIBUTES: t.Final = 9
KEY: t.Final = 1
_FIXED: t.Final = {1: 8, 5: 4}
_BYTES: t.Final = 2

Keep = t.Callable[[str], bool]


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


def varint(number: int) -> bytes:
    """Return a number as protocol buffers write it."""
    result = bytearray()
    while number > 0x7F:
        result.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*result, number])


def fields(data: bytes) -> t.Iterator[tuple[int, bytes, bytes | None]]:
    """Yield number, whole text and, of a field of bytes, the content of each field.

    Raises:
        ValueError: that is no message.
    """
    at = 0
    try:
        while at < len(data):
            start = at
            tag, at = _number(data, at)
            kind, content = tag & 7, None
            if kind == 0:
                _value, at = _number(data, at)
            elif kind == _BYTES:
                size, at = _number(data, at)
                content, at = data[at : at + size], at + size
            elif kind in _FIXED:
                at += _FIXED[kind]
            else:
                raise ValueError(f"wire type {kind}")
            if at > len(data):
                raise ValueError("the message ends too early")
            yield tag >> 3, data[start:at], content
    except IndexError:
        raise ValueError("the message ends too early") from None


def _key(attribute: bytes) -> str:
    found = [content for number, _text, content in fields(attribute) if number == KEY]
    return (found[0] or b"").decode() if found else ""


def without(message: bytes, keep: Keep, path: t.Sequence[int] = TO_SPANS) -> bytes:
    """Return the message without the spans' attributes that are not to be kept."""
    result = b""
    for number, text, content in fields(message):
        if content is None or number != (path[0] if path else ATTRIBUTES):
            result += text
        elif path:
            inner = without(content, keep, path[1:])
            result += varint(number << 3 | _BYTES) + varint(len(inner)) + inner
        elif keep(_key(content)):
            result += text
    return result


def count(message: bytes, path: t.Sequence[int] = TO_SPANS) -> int:
    """Return the number of spans in a message."""
    found = [content for number, _text, content in fields(message) if number == path[0]]
    return len(found) if len(path) == 1 else sum(count(one or b"", path[1:]) for one in found)


def keep_of(block: Block) -> Keep:
    """Return what the actions of a processor leave."""
    actions = [one.arguments for one in block.blocks if one.name == "action"]
    if {one["action"] for one in actions} - {"delete"}:
        raise ValueError("the stand-in knows the action delete and no other")

    def keep(key: str) -> bool:
        return not any(
            key == one["key"] or (one.get("pattern") and re.search(one["pattern"], key))
            for one in actions
        )

    return keep


def _inner(block: Block, name: str) -> dict[str, t.Any]:
    found = [one.arguments for one in block.blocks if one.name == name]
    return found[0] if found else {}


class Exporter:
    """Hands messages on; what does not fit into its queue is dropped."""

    def __init__(self, block: Block, blocks: t.Mapping[str, Block], counters: Counters) -> None:
        self.block, self.blocks, self.counters = block, blocks, counters
        client = _inner(block, "client")
        self.url = block.arguments.get("traces_endpoint") or f"{client['endpoint']}/v1/traces"
        self.timeout = seconds(client.get("timeout", "30s"))
        self.auth = client.get("auth")
        retry = _inner(block, "retry_on_failure")
        self.patience = seconds(retry.get("max_elapsed_time", "5m"))
        self.pause = seconds(retry.get("initial_interval", "5s"))
        size = _inner(block, "sending_queue").get("queue_size", 1000)
        self.queue: queue.Queue[bytes] = queue.Queue(size)

    def __call__(self, message: bytes) -> None:
        """Take a message."""
        try:
            self.queue.put_nowait(message)
        except queue.Full:
            self.counters.add("otelcol_exporter_enqueue_failed_spans_total", {}, count(message))

    def _headers(self) -> dict[str, str]:
        found = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
        if self.auth is not None:
            handler = self.blocks[self.auth.name.removesuffix(".handler")]
            for header in (one.arguments for one in handler.blocks):
                value = header["value"]
                if not isinstance(value, str):
                    file = self.blocks[value.name.removesuffix(".content")]
                    value = Path(file.arguments["filename"]).read_text(encoding="utf-8")
                found[header["key"]] = value
        return found

    def send(self, message: bytes) -> bool:
        """Send one message, for as long as there is patience."""
        end = time.monotonic() + self.patience
        while True:
            request = urllib.request.Request(self.url, gzip.compress(message), self._headers())
            try:
                with urllib.request.urlopen(request, timeout=self.timeout):
                    return True
            except urllib.error.HTTPError as exc:
                if exc.code not in (429, 502, 503, 504):
                    print(f"spans were refused: {exc.code}", file=sys.stderr, flush=True)
                    return False
            except OSError:
                pass
            if time.monotonic() + self.pause > end:
                return False
            time.sleep(self.pause)

    def run(self) -> None:
        """Send for ever."""
        while True:
            message = self.queue.get()
            name = "sent" if self.send(message) else "send_failed"
            self.counters.add(f"otelcol_exporter_{name}_spans_total", {}, count(message))


def _way(block: Block, blocks: t.Mapping[str, Block]) -> t.Iterator[Block]:
    """Yield the components behind one, in order; each hands on to one other."""
    (target,) = _inner(block, "output")["traces"]
    after = blocks[target.name.removesuffix(".input")]
    yield after
    if after.name != "otelcol.exporter.otlphttp":
        yield from _way(after, blocks)


def receive(receiver: Block, blocks: t.Mapping[str, Block], counters: Counters) -> None:
    """Serve a receiver for ever, and what is behind it."""
    *steps, last = _way(receiver, blocks)
    keeps = [keep_of(one) for one in steps if one.name == "otelcol.processor.attributes"]
    exporter = Exporter(last, blocks, counters)
    threading.Thread(target=exporter.run, daemon=True).start()
    settings = _inner(receiver, "http")
    path = settings.get("traces_url_path", "/v1/traces")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = 404
            if self.path == path:
                status = 200
                try:
                    if self.headers.get("Content-Encoding") == "gzip":
                        body = gzip.decompress(body)
                    counters.add("otelcol_receiver_accepted_spans_total", {}, count(body))
                    for keep in keeps:
                        body = without(body, keep)
                    exporter(body)
                except (OSError, ValueError, zlib.error):
                    status = 400
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002
            """Say nothing of each request."""

    host, _sign, port = settings.get("endpoint", "0.0.0.0:4318").rpartition(":")
    http.server.ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
