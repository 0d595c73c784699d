"""The Alloy stand-in: ``python3 -m logs.alloy run [FLAGS] FILE``."""

from __future__ import annotations

import base64
import contextlib
import http.server
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

from logs import alloy_syntax, otlp
from logs.alloy_pipeline import Counters, Line, relabel, sinks
from logs.alloy_syntax import Block
from logs.durations import seconds

BATCH: t.Final = 500
FLAGS: t.Final = frozenset(
    ("server.http.listen-addr", "storage.path", "disable-reporting", "stability.level")
)
LEVELS: t.Final = ("emerg", "alert", "crit", "error", "warning", "notice", "info", "debug")


class Writer:
    """Collects lines and delivers them; Loki's absence makes it wait."""

    def __init__(self, block: Block, counters: Counters) -> None:
        (self.endpoint,) = (one for one in block.blocks if one.name == "endpoint")
        self.external = block.arguments.get("external_labels", {})
        self.counters = counters
        for name in ("sent", "dropped"):
            counters.add(f"loki_write_{name}_entries_total", {}, 0)
        self.pending: list[Line] = []

    def __call__(self, line: Line) -> None:
        """Take a line."""
        self.pending.append(line)

    def _request(self) -> urllib.request.Request:
        streams: dict[str, t.Any] = {}
        for line in self.pending:
            labels = self.external | line.labels
            key = json.dumps(labels, sort_keys=True)
            streams.setdefault(key, {"stream": labels, "values": []})["values"].append(
                [str(line.nanoseconds), line.text, line.metadata]
            )
        request = urllib.request.Request(
            self.endpoint.arguments["url"],
            json.dumps({"streams": list(streams.values())}).encode(),
            {"Content-Type": "application/json"},
        )
        for auth in (one for one in self.endpoint.blocks if one.name == "basic_auth"):
            password = Path(auth.arguments["password_file"]).read_text(encoding="utf-8").strip()
            both = f"{auth.arguments['username']}:{password}".encode()
            request.add_header("Authorization", "Basic " + base64.b64encode(both).decode())
        return request

    def flush(self) -> None:
        """Deliver what is there, as often as the configuration says."""
        if not self.pending:
            return
        get = self.endpoint.arguments.get
        pause, most = (
            seconds(get("min_backoff_period", "500ms")),
            int(get("max_backoff_retries", 10)),
        )
        tries, sent = 0, False
        while not sent and (most == 0 or tries < most):
            try:
                with urllib.request.urlopen(self._request(), timeout=10):
                    sent = True
            except urllib.error.HTTPError as exc:
                if exc.code < 500 and exc.code != 429:
                    print(f"Loki refused a batch: {exc.code}", file=sys.stderr, flush=True)
                    break
            except OSError:
                self.counters.add("loki_write_batch_retries_total", {})
            if not sent:
                tries += 1
                time.sleep(
                    min(pause * 2 ** min(tries, 10), seconds(get("max_backoff_period", "5m")), 2)
                )
        name = "loki_write_sent_entries_total" if sent else "loki_write_dropped_entries_total"
        self.counters.add(name, {}, len(self.pending))
        self.pending.clear()


class Positions:
    """Where each source was, kept on disk."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "positions.json"
        self.values: dict[str, t.Any] = {}
        if self.path.exists():
            self.values = json.loads(self.path.read_text(encoding="utf-8"))

    def save(self) -> None:
        """Write them so that a crash leaves the old or the new ones."""
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self.values), encoding="utf-8")
        new.replace(self.path)


class Program:
    """The components, running."""

    def __init__(self, blocks: list[Block], data: Path) -> None:
        self.blocks = {block.path: block for block in blocks}
        self.counters = Counters()
        writes = [block for block in blocks if block.name == "loki.write"]
        if writes:  # else it has spans to take, and no lines
            self.writer = Writer(writes[0], self.counters)
            self.sinks, self.late = sinks(blocks, self.counters, self.writer)
        self.positions = Positions(data)
        self.lock = threading.Lock()

    def emit(self, source: Block, lines: t.Sequence[Line], position: t.Any) -> None:
        """Send lines of a source all the way, and remember where it was."""
        with self.lock:
            for line in lines:
                for target in source.arguments["forward_to"]:
                    self.sinks[target.name](line)
            self.writer.flush()
            self.positions.values[source.path] = position
            self.positions.save()

    def journal(self, source: Block) -> None:
        """Follow the journal."""
        get: t.Callable[..., t.Any] = source.arguments.get
        cursor = self.positions.values.get(source.path)
        since = int(time.time() - seconds(get("max_age", "7h")))
        argv = ["journalctl", f"--directory={get('path')}", "--output=json", "--all", "--quiet"]
        argv += [f"--after-cursor={cursor}"] if cursor else [f"--since=@{since}"]
        rules = self.blocks[get("relabel_rules").name.removesuffix(".rules")].blocks
        while True:
            # Not with --follow: the end of what there is sends what is less than a batch.
            for part in batches(argv):
                lines = [line for line in (self._entry(e, rules, source) for e in part) if line]
                self.counters.add("loki_source_journal_target_lines_total", {}, len(part))
                self.emit(source, lines, part[-1]["__CURSOR"])
                argv[-1] = f"--after-cursor={part[-1]['__CURSOR']}"
            time.sleep(1)

    def _entry(self, entry: t.Mapping[str, t.Any], rules: t.Any, source: Block) -> Line | None:
        message = entry.get("MESSAGE")
        if isinstance(message, list) and all(isinstance(byte, int) for byte in message):
            message = bytes(message).decode("utf-8", "replace")
        if not isinstance(message, str):
            return None
        labels = {f"__journal_{k.lower()}": v for k, v in entry.items() if isinstance(v, str)}
        priority = str(entry.get("PRIORITY", "6"))
        labels["__journal_priority_keyword"] = LEVELS[int(priority)] if priority.isdecimal() else ""
        labels["job"] = source.path
        labels |= source.arguments.get("labels", {})
        kept = relabel(labels, rules)
        if kept is None:
            return None
        own = {k: v for k, v in kept.items() if not k.startswith("__")}
        return Line(int(entry["__REALTIME_TIMESTAMP"]) * 1000, message, own)

    def file(self, source: Block) -> None:
        """Follow a file, also when another one takes its place."""
        (target,) = source.arguments["targets"]
        path = Path(target["__path__"])
        labels = {k: v for k, v in target.items() if not k.startswith("__")}
        labels |= {"job": source.path, "filename": str(path)}
        while True:
            inode, offset = self.positions.values.get(source.path, [0, 0])
            if path.exists():
                stat = path.stat()
                if stat.st_ino != inode or stat.st_size < offset:
                    inode, offset = stat.st_ino, 0
                with path.open("rb") as file:
                    file.seek(offset)
                    read = file.read(1024 * 1024)
                whole = read[: read.rfind(b"\n") + 1]
                lines = [
                    Line(time.time_ns(), text, dict(labels))
                    for text in whole.decode("utf-8", "replace").splitlines()
                ]
                if lines:
                    self.emit(source, lines, [inode, offset + len(whole)])
                    continue
            self.hand_on()
            time.sleep(1)

    def hand_on(self) -> None:
        """Send entries on that have waited for more lines long enough."""
        with self.lock:
            for one in self.late:
                one()
            self.writer.flush()

    def spans(self, source: Block) -> None:
        """Take spans."""
        otlp.receive(source, self.blocks, self.counters)

    def start(self) -> None:
        """Start every source."""
        run = {
            "loki.source.journal": self.journal,
            "loki.source.file": self.file,
            "otelcol.receiver.otlp": self.spans,
        }
        for block in self.blocks.values():
            if block.name in run:
                target = run[block.name]
                threading.Thread(target=_or_end, args=(target, block), daemon=True).start()


def batches(argv: t.Sequence[str]) -> t.Generator[list[dict[str, t.Any]], None, None]:
    """Run a program and give what it prints, JSON in lines, a part at a time.

    It waits while its last part is being delivered: a host that has run for long has more in its
    journal than the container has memory.
    """
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while lines := list(itertools.islice(process.stdout, BATCH)):
            yield [json.loads(line) for line in lines]


def _or_end(run: t.Callable[[Block], None], block: Block) -> None:
    """Run a source; its failure ends the program, where the real one would be unhealthy."""
    try:
        run(block)
    except BaseException as exc:
        print(f"{block.path}: {exc!r}", file=sys.stderr, flush=True)
        os._exit(1)


def _handler(counters: Counters) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pages = {"/-/ready": "Alloy is ready.\n", "/-/healthy": "All components are healthy.\n"}
            text = counters.text() if self.path == "/metrics" else pages.get(self.path)
            self.send_response(404 if text is None else 200)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            # A health check looks at the first line and goes.
            with contextlib.suppress(ConnectionError):
                self.wfile.write((text or "404 page not found\n").encode())

        def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002
            """Say nothing of each request."""

    return Handler


def main() -> None:
    """Check or run a configuration."""
    arguments = sys.argv[1:]
    flags = {}
    for part in [part for part in arguments if part.startswith("--")]:
        name, _sign, value = part[2:].partition("=")
        if name not in FLAGS:
            sys.exit(f"Error: unknown flag: --{name}")
        flags[name] = value
    words = [part for part in arguments if not part.startswith("--")]
    if len(words) != 2 or words[0] not in ("run", "validate"):
        sys.exit("Error: the stand-in knows: run [FLAGS] FILE, validate FILE")
    try:
        blocks = alloy_syntax.load(Path(words[1]).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        sys.exit(f"Error: could not perform the initial load successfully: {exc}")
    if words[0] == "validate":
        return
    program = Program(blocks, Path(flags.get("storage.path", "data-alloy")))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    host, _sign, port = flags.get("server.http.listen-addr", "127.0.0.1:12345").rpartition(":")
    server = http.server.ThreadingHTTPServer((host, int(port)), _handler(program.counters))
    program.start()
    server.serve_forever()


if __name__ == "__main__":
    main()
