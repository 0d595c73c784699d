"""The Loki stand-in: ``python3 -m logs.loki -config.file=FILE``."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import re
import signal
import sys
import threading
import time
import typing as t
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from logs import logql, loki_config
from logs.durations import seconds

NANO: t.Final = 1_000_000_000
_TRUNCATED: t.Final = {"KB": 1024, "MB": 1024 * 1024}


class RejectedError(Exception):
    """A push that Loki refuses with 400."""


class Store:
    """One file for each stream: its labels, then its lines."""

    def __init__(self, directory: Path, limits: t.Mapping[str, t.Any]) -> None:
        self.directory = directory
        self.limits = limits
        self.lock = threading.Lock()
        self.received = 0
        directory.mkdir(parents=True, exist_ok=True)
        self.max_age = seconds(limits.get("reject_old_samples_max_age", "1w"))
        self.rules = sorted(
            limits.get("retention_stream") or [], key=lambda rule: -int(rule.get("priority", 0))
        )

    def _path(self, labels: t.Mapping[str, str]) -> Path:
        name = hashlib.sha256(json.dumps(labels, sort_keys=True).encode()).hexdigest()[:16]
        return self.directory / f"{name}.jsonl"

    def push(self, streams: t.Sequence[t.Mapping[str, t.Any]], now: float) -> None:
        """Store lines; what is too old is refused, and the rest of the request is kept."""
        old = 0
        with self.lock:
            for stream in streams:
                labels: dict[str, str] = stream["stream"]
                if not labels or not all(re.fullmatch(r"[a-zA-Z_]\w*", name) for name in labels):
                    raise RejectedError("error at least one label pair is required per stream")
                path = self._path(labels)
                new = not path.exists()
                with path.open("a", encoding="utf-8") as file:
                    if new:
                        file.write(json.dumps(labels) + "\n")
                    for value in stream["values"]:
                        if int(value[0]) / NANO < now - self.max_age:
                            old += 1
                            continue
                        meta = value[2] if len(value) > 2 else {}
                        file.write(json.dumps([int(value[0]), value[1], meta]) + "\n")
                        self.received += 1
        if old:
            raise RejectedError(f"entry too far behind, {old} lines")

    def streams(self) -> t.Iterator[tuple[Path, dict[str, str], list[t.Any]]]:
        """Yield file, labels and lines of every stream."""
        for path in sorted(self.directory.glob("*.jsonl")):
            lines = path.read_text(encoding="utf-8").splitlines()
            yield path, json.loads(lines[0]), [json.loads(line) for line in lines[1:]]

    def entries(self, query: logql.Query, start: int, end: int) -> t.Iterator[logql.Entry]:
        """Yield the lines of the streams that a query selects."""
        with self.lock:
            found = list(self.streams())
        for _path, labels, lines in found:
            if query.selects(labels):
                for stamp, line, meta in lines:
                    if start <= stamp <= end:
                        yield logql.Entry(stamp, line, labels | meta)

    def period(self, labels: t.Mapping[str, str]) -> float:
        """Return for how many seconds the lines of a stream are kept; 0 is for ever."""
        for rule in self.rules:
            if logql.parse(rule["selector"]).selects(labels):
                return seconds(rule["period"])
        return seconds(self.limits.get("retention_period", "0"))

    def compact(self, now: float) -> int:
        """Delete what is older than its stream may be; returns the number of lines."""
        deleted = 0
        with self.lock:
            for path, labels, lines in list(self.streams()):
                period = self.period(labels)
                kept = [line for line in lines if not period or line[0] / NANO >= now - period]
                deleted += len(lines) - len(kept)
                if len(kept) < len(lines):
                    texts = [json.dumps(labels), *map(json.dumps, kept)]
                    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
                if not kept:
                    path.unlink()
        return deleted


def _nanoseconds(text: str | None, default: float) -> int:
    if text is None:
        return int(default * NANO)
    return int(text) if text.isdecimal() and len(text) > 12 else int(float(text) * NANO)


class Api:
    """The pages of the HTTP API."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def range(self, asked: t.Mapping[str, str]) -> t.Any:
        """Answer query_range and query."""
        query = logql.parse(asked["query"])
        now = time.time()
        if query.function:
            end = _nanoseconds(asked.get("time") or asked.get("end"), now)
            entries = self.store.entries(query, end - int(query.window * NANO), end)
            found = logql.vector(query, entries)
            result = [{"metric": m, "value": [end / NANO, str(value)]} for m, value in found]
            return {"resultType": "vector", "result": result}
        start = _nanoseconds(asked.get("start"), now - 3600)
        end = _nanoseconds(asked.get("end"), now)
        raw = self.store.entries(query, start, end)
        lines = [entry for entry in map(query.apply, raw) if entry is not None]
        lines.sort(key=lambda entry: entry.nanoseconds)
        limit = int(asked.get("limit", "100"))
        lines = lines[:limit] if asked.get("direction") == "forward" else lines[-limit:][::-1]
        streams: dict[str, t.Any] = {}
        for stamp, line, labels in lines:
            key = json.dumps(labels, sort_keys=True)
            streams.setdefault(key, {"stream": labels, "values": []})
            streams[key]["values"].append([str(stamp), line])
        return {"resultType": "streams", "result": list(streams.values())}

    def labels(self, name: str | None) -> list[str]:
        """Return the names of labels, or the values of one."""
        with self.store.lock:
            found = [labels for _path, labels, _lines in self.store.streams()]
        if name is None:
            return sorted({key for labels in found for key in labels})
        return sorted({labels[name] for labels in found if name in labels})

    def answer(self, path: str, asked: t.Mapping[str, str]) -> t.Any:
        """Return the data of a page, or nothing if there is no such page."""
        if path in ("/loki/api/v1/query_range", "/loki/api/v1/query"):
            return self.range(asked)
        if path == "/loki/api/v1/labels":
            return self.labels(None)
        match = re.fullmatch(r"/loki/api/v1/label/(\w+)/values", path)
        if match:
            return self.labels(match[1])
        if path == "/loki/api/v1/series":
            query = logql.parse(asked["match[]"])
            with self.store.lock:
                found = [labels for _path, labels, _lines in self.store.streams()]
            return [labels for labels in found if query.selects(labels)]
        return None


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers requests; `handler` gives it a store."""

    store: Store
    config = ""

    def _send(self, code: int, body: str, kind: str = "text/plain") -> None:
        data = body.encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        pages = {
            "/ready": "ready\n",
            "/config": self.config,
            "/metrics": "# TYPE loki_distributor_lines_received_total counter\n"
            f'loki_distributor_lines_received_total{{tenant="fake"}} {self.store.received}\n',
        }
        if parts.path in pages:
            self._send(200, pages[parts.path])
            return
        try:
            data = Api(self.store).answer(parts.path, asked)
        except (logql.LogQLError, KeyError) as exc:
            self._send(400, f"parse error : {exc}\n")
            return
        if data is None:
            self._send(404, "404 page not found\n")
            return
        self._send(200, json.dumps({"status": "success", "data": data}), "application/json")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/loki/api/v1/push":
            self._send(404, "404 page not found\n")
            return
        try:
            self.store.push(json.loads(body)["streams"], time.time())
        except (RejectedError, ValueError, KeyError, TypeError) as exc:
            self._send(400, f"{exc}\n")
            return
        self._send(204, "")

    def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002
        """Say nothing of each request."""


def handler(store: Store, config: str) -> type[http.server.BaseHTTPRequestHandler]:
    """Return what answers requests."""
    return type("Handler", (_Handler,), {"store": store, "config": config})


def _compact_for_ever(store: Store, interval: float) -> None:
    while True:
        time.sleep(interval)
        store.compact(time.time())


def main() -> None:
    """Serve until TERM."""
    flags = dict(part.lstrip("-").split("=", 1) for part in sys.argv[1:] if "=" in part)
    path = flags.get("config.file")
    try:
        if path is None or set(flags) != {"config.file"}:
            raise loki_config.ConfigError("the stand-in knows -config.file=FILE and nothing else")
        text = Path(path).read_text(encoding="utf-8")
        config = loki_config.load(text)
    except (OSError, ValueError) as exc:
        sys.exit(f"failed parsing config: {exc}")
    common = config["common"]
    store = Store(
        Path(common["storage"]["filesystem"]["chunks_directory"]), config["limits_config"]
    )
    compactor = config.get("compactor", {})
    if compactor.get("retention_enabled"):
        interval = float(
            os.environ.get("LOKI_STANDIN_COMPACTION_SECONDS")
            or seconds(compactor.get("compaction_interval", "10m"))
        )
        threading.Thread(target=_compact_for_ever, args=(store, interval), daemon=True).start()
    server = config.get("server", {})
    address = (server.get("http_listen_address", ""), server.get("http_listen_port", 3100))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    http.server.ThreadingHTTPServer(address, handler(store, text)).serve_forever()


if __name__ == "__main__":
    main()
