"""The stand-ins for Loki and Alloy refuse what the real ones refuse, and do what they are told."""

from __future__ import annotations

import copy
import gzip
import json
import socket
import sys
import threading
import time
import typing as t
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from logs import alloy_pipeline, alloy_syntax, logql, loki, loki_config, otlp
from logs.alloy import BATCH, Positions, Writer, batches

DAY = 86400
LOKI: dict[str, t.Any] = {
    "auth_enabled": False,
    "common": {
        "path_prefix": "/loki",
        "storage": {"filesystem": {"chunks_directory": "/loki/chunks"}},
    },
    "schema_config": {
        "configs": [
            {"from": "2025-01-01", "store": "tsdb", "object_store": "filesystem", "schema": "v13"}
        ]
    },
    "compactor": {"retention_enabled": True, "delete_request_store": "filesystem"},
    "limits_config": {
        "retention_period": "720h",
        "reject_old_samples_max_age": "168h",
        "retention_stream": [{"selector": '{audit="true"}', "priority": 1, "period": "8760h"}],
    },
}
ALLOY = """
logging {
  level = "warn" // a comment
}
loki.source.journal "host" {
  forward_to = [loki.process.lines.receiver]
}
loki.process "lines" {
  forward_to = [loki.relabel.levels.receiver]
  stage.replace {
    expression = "password=(\\\\S+)"
    replace    = "[redacted]"
  }
  stage.regex {
    expression = "^\\\\[(?P<level>\\\\w+)\\\\]"
  }
  stage.json {
    expressions = {level = "level", request_id = "", status = ""}
  }
  stage.labels {
    values = {level = ""}
  }
  stage.structured_metadata {
    values = {request_id = ""}
  }
  stage.drop {
    expression = "DEBUG"
  }
  stage.match {
    selector = "{service=\\"nginx\\"}"
    stage.metrics {
      metric.counter {
        name   = "refused_total"
        source = "status"
        value  = "429"
        action = "inc"
      }
    }
  }
}
loki.relabel "levels" {
  forward_to = [loki.write.store.receiver]
  rule {
    source_labels = ["level"]
    regex         = "(?i)warn(ing)?"
    replacement   = "warning"
    target_label  = "level"
  }
}
loki.write "store" {
  endpoint {
    url                 = "http://loki:3100/loki/api/v1/push"
    max_backoff_retries = 0
  }
}
"""


def test_a_right_configuration_of_loki_is_accepted() -> None:
    assert loki_config.load(yaml.safe_dump(LOKI)) == LOKI


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["compactor", "shared_store"], "filesystem", "field shared_store not found in compactor"),
        (["limits_config", "retention_period"], "30 days", "limits_config.retention_period"),
        (["limits_config", "retention_period"], "12h", "must be >= 24h"),
        (["compactor", "delete_request_store"], "", "delete_request_store should be configured"),
        (["schema_config", "configs", 0, "schema"], "v11", "needs the schema v13"),
        (["limits_config", "retention_stream", 0, "selector"], "{audit=}", "invalid labels"),
        (["auth_enabled"], "no", "auth_enabled: cannot unmarshal"),
        (["ingesters"], {}, "field ingesters not found"),
    ],
)
def test_a_wrong_configuration_of_loki_is_refused(
    path: list[t.Any], value: t.Any, message: str
) -> None:
    config = copy.deepcopy(LOKI)
    inner: t.Any = config
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(loki_config.ConfigError, match=message):
        loki_config.load(yaml.safe_dump(config))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("loki.relabel", "loki.rename", 'cannot find the definition of "loki.rename"'),
        ("stage.labels", "stage.label", 'unrecognized block name "stage.label"'),
        ("replace    =", "replacement =", 'unrecognized attribute name "replacement"'),
        ("    url  ", "    uri  ", 'unrecognized attribute name "uri"'),
        ('    url                 = "http://loki:3100/loki/api/v1/push"\n', "", '"url"'),
        ("loki.write.store.receiver", "loki.write.shop.receiver", "does not exist"),
        ("max_backoff_retries = 0", 'max_backoff_retries = "0"', "should be int"),
        ("(?i)warn", "(?!i)warn", "unsupported syntax"),
        ('level = "level", request_id', 'level = "level" request_id', "expected ,"),
        ('level = "warn" //', 'level = "warn" #', "illegal character"),
        ("\\\\S+", "\\S+", "invalid string"),
        ('loki.relabel "levels"', "loki.relabel", "label is missing"),
        ("}\n}\n", "}\n", "expected name"),
    ],
)
def test_a_wrong_configuration_of_alloy_is_refused(old: str, new: str, message: str) -> None:
    alloy_syntax.load(ALLOY)
    assert old in ALLOY
    position = ALLOY.rindex(old)
    wrong = ALLOY[:position] + new + ALLOY[position + len(old) :]
    with pytest.raises(alloy_syntax.ConfigError, match=message):
        alloy_syntax.load(wrong)


def _through(text: str, **labels: str) -> tuple[list[alloy_pipeline.Line], str]:
    counters = alloy_pipeline.Counters()
    written: list[alloy_pipeline.Line] = []
    sinks, _late = alloy_pipeline.sinks(alloy_syntax.load(ALLOY), counters, written.append)
    sinks["loki.process.lines.receiver"](alloy_pipeline.Line(1, text, labels))
    return written, counters.text()


def test_a_line_goes_through_the_stages() -> None:
    (line,), _ = _through("[WARN] password=geheim1 and password=geheim2", service="app")
    assert line.text == "[WARN] password=[redacted] and password=[redacted]"
    assert line.labels == {"service": "app", "level": "warning"}
    body = json.dumps({"level": "INFO", "request_id": "r1", "status": "429"})
    (line,), counted = _through(body, service="nginx")
    assert (line.labels["level"], line.metadata) == ("INFO", {"request_id": "r1"})
    assert counted == 'loki_process_custom_refused_total{level="INFO",service="nginx"} 1.0\n'
    assert _through(body, service="app")[1] == ""
    assert _through("[DEBUG] nothing", service="app")[0] == []


JOINED = """
loki.process "statements" {
  forward_to = [loki.write.store.receiver]
  stage.multiline {
    firstline     = "^# Time: "
    max_wait_time = "WAIT"
    max_lines     = 3
  }
}
loki.write "store" {
  endpoint {
    url = "http://loki:3100/loki/api/v1/push"
  }
}
"""


def _joined(wait: str, *texts: str) -> list[str]:
    written: list[alloy_pipeline.Line] = []
    blocks = alloy_syntax.load(JOINED.replace("WAIT", wait))
    sinks, late = alloy_pipeline.sinks(blocks, alloy_pipeline.Counters(), written.append)
    for text in texts:
        sinks["loki.process.statements.receiver"](alloy_pipeline.Line(1, text, {}))
    for one in late:
        one()
    return [line.text for line in written]


def test_lines_of_one_entry_are_joined() -> None:
    lines = ("before", "# Time: 1", "SELECT", "x;", "too many", "# Time: 2", "SELECT y;")
    whole = ["before", "# Time: 1\nSELECT\nx;", "too many", "# Time: 2\nSELECT y;"]
    assert _joined("0s", *lines) == whole
    # The last one waits for what may belong to it.
    assert _joined("1h", *lines) == whole[:-1]
    assert _joined("1h", "# Time: 1") == []


def test_relabelling_takes_the_whole_text_and_can_drop() -> None:
    def block(**arguments: t.Any) -> alloy_syntax.Block:
        return alloy_syntax.Block("rule", None, 1, arguments)

    rule = block(source_labels=["a", "b"], regex="x;(.+)", target_label="c")
    assert alloy_pipeline.relabel({"a": "x", "b": "y"}, [rule]) == {"a": "x", "b": "y", "c": "y"}
    assert alloy_pipeline.relabel({"a": "xx", "b": "y"}, [rule]) == {"a": "xx", "b": "y"}
    drop = block(source_labels=["a"], regex="x", action="drop")
    assert alloy_pipeline.relabel({"a": "x"}, [drop]) is None


@pytest.fixture
def store(tmp_path: Path) -> loki.Store:
    return loki.Store(tmp_path / "chunks", LOKI["limits_config"])


def _push(store: loki.Store, age: float, line: str, **labels: str) -> None:
    stamp = str(int((time.time() - age) * loki.NANO))
    store.push([{"stream": labels, "values": [[stamp, line, {"request_id": "r7"}]]}], time.time())


def test_retention_is_by_stream(store: loki.Store) -> None:
    _push(store, 5, "a request", service="nginx")
    _push(store, 5, "a login", service="host", audit="true")
    now = time.time()
    assert store.compact(now + 29 * DAY) == 0
    assert store.compact(now + 31 * DAY) == 1
    assert [labels["service"] for _path, labels, _lines in store.streams()] == ["host"]
    assert store.compact(now + 366 * DAY) == 1
    assert list(store.streams()) == []


def test_what_is_too_old_is_refused_and_the_rest_is_kept(store: loki.Store) -> None:
    with pytest.raises(loki.RejectedError, match="too far behind"):
        _push(store, 8 * DAY, "old", service="app")
    _push(store, 6 * DAY, "new", service="app")
    with pytest.raises(loki.RejectedError, match="at least one label"):
        store.push([{"stream": {}, "values": []}], time.time())
    ((_path, _labels, lines),) = store.streams()
    assert [line[1] for line in lines] == ["new"]


GOOD = [
    '{service="app"}',
    '{service=~"app|worker", level!="debug"} |= "request" != `x` |~ "a.c"',
    '{service="nginx"} | json | status >= 500 and method = "GET"',
    'sum by (service, level) (count_over_time({service=~".+"}[5m]))',
    'sum(rate({service="nginx"} | json | status="429" [1m])) by (client)',
    'topk(10, sum by (path) (count_over_time({service="nginx"} | json [1h]))) > 2',
    'quantile_over_time(0.95, {service="nginx"} | json | unwrap seconds [5m])',
    '{service="app"} | request_id="abc" | line_format "{{.message}}"',
]
BAD = [
    "{service=app}",
    '{service="app"',
    "{}",
    '{service=~".*"}',
    '{service="app"} |= ',
    '{service="app"} | json |',
    'rate({service="app"})',
    'counts({service="app"}[5m])',
    'sum by service (rate({service="app"}[5m]))',
    'rate({service="app"}[five])',
    '{service=~"("}',
    '{service="app"} extra',
]


@pytest.mark.parametrize("query", GOOD)
def test_logql_is_parsed(query: str) -> None:
    logql.parse(query)


@pytest.mark.parametrize("query", BAD)
def test_what_is_no_logql_is_refused(query: str) -> None:
    with pytest.raises(logql.LogQLError):
        logql.parse(query)


@pytest.fixture
def served(store: loki.Store) -> t.Iterator[tuple[loki.Store, str]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), loki.handler(store, "text"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield store, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def _ask(url: str, page: str, **asked: str) -> t.Any:
    query = urllib.parse.urlencode(asked)
    with urllib.request.urlopen(f"{url}/loki/api/v1/{page}?{query}", timeout=10) as answer:
        return json.load(answer)["data"]


def test_questions_are_answered(served: tuple[loki.Store, str]) -> None:
    store, url = served
    for status in ("200", "429", "429"):
        _push(store, 10, json.dumps({"status": status}), service="nginx", level="info")
    _push(store, 10, "other", service="app", level="error")
    found = _ask(url, "query_range", query='{service=~".+"} | json | status="429"')["result"]
    assert [len(stream["values"]) for stream in found] == [2]
    assert found[0]["stream"]["request_id"] == "r7"
    query = 'sum by (service) (count_over_time({service=~".+"}[5m]))'
    counts = {
        one["metric"]["service"]: one["value"][1]
        for one in _ask(url, "query", query=query)["result"]
    }
    assert counts == {"nginx": "3.0", "app": "1.0"}
    assert _ask(url, "labels") == ["level", "service"]
    assert _ask(url, "label/level/values") == ["error", "info"]
    with pytest.raises(urllib.error.HTTPError, match="400"):
        _ask(url, "query_range", query="{service=app}")


def test_the_writer_waits_for_a_loki_that_is_away(served: tuple[loki.Store, str]) -> None:
    store, url = served
    write = alloy_syntax.load(ALLOY)[-1]
    write.blocks[0].arguments |= {"url": "http://127.0.0.1:1/", "min_backoff_period": "10ms"}
    counters = alloy_pipeline.Counters()
    writer = Writer(write, counters)
    writer(alloy_pipeline.Line(time.time_ns(), "kept", {"service": "app"}, {"request_id": "r8"}))
    thread = threading.Thread(target=writer.flush)
    thread.start()
    time.sleep(0.3)
    assert thread.is_alive()
    write.blocks[0].arguments["url"] = f"{url}/loki/api/v1/push"
    thread.join(20)
    ((_path, labels, lines),) = store.streams()
    assert (labels, lines[0][1:]) == ({"service": "app"}, ["kept", {"request_id": "r8"}])
    assert "loki_write_sent_entries_total{} 1" in counters.text()
    # And one that may try twice only loses what it has.
    write.blocks[0].arguments |= {"url": "http://127.0.0.1:1/", "max_backoff_retries": 2}
    writer(alloy_pipeline.Line(time.time_ns(), "lost", {"service": "app"}))
    writer.flush()
    assert "loki_write_dropped_entries_total{} 1" in counters.text()


def test_a_journal_is_read_no_faster_than_it_is_delivered(tmp_path: Path) -> None:
    """A journal has more than a container has memory; without an end here, so that it shows."""
    told = tmp_path / "told"
    endless = (
        "import itertools, pathlib\n"
        "for number in itertools.count():\n"
        '    print(\'{"n": %d, "text": "%s"}\' % (number, \'x\' * 1000))\n'
        f"    if number % 100 == 0: pathlib.Path({str(told)!r}).write_text(str(number))\n"
    )
    parts = batches([sys.executable, "-c", endless])
    found = [next(parts), next(parts)]
    assert [entry["n"] for part in found for entry in part] == list(range(2 * BATCH))
    time.sleep(1)
    written = int(told.read_text(encoding="utf-8"))
    time.sleep(1)
    assert int(told.read_text(encoding="utf-8")) == written
    parts.close()
    rest = list(batches([sys.executable, "-c", "print('{}\\n' * 700, end='')"]))
    assert [len(part) for part in rest] == [BATCH, 200]
    assert list(batches(["true"])) == []


def test_positions_survive(tmp_path: Path) -> None:
    positions = Positions(tmp_path)
    positions.values["journal"] = "s=1"
    positions.save()
    assert Positions(tmp_path).values == {"journal": "s=1"}


def _field(number: int, content: bytes) -> bytes:
    """Return a field of bytes, as protocol buffers write it."""
    return bytes([number << 3 | 2]) + otlp.varint(len(content)) + content


def _message(*keys: str) -> bytes:
    """Return a message with one span that has attributes of these names, and fields around them."""
    name = _field(5, b"GET /") + bytes([6 << 3, 2])  # name, kind
    attributes = [_field(9, _field(1, key.encode()) + _field(2, _field(1, b"v"))) for key in keys]
    span = name + b"".join(attributes) + bytes([7 << 3 | 1]) + b"12345678"
    resource = _field(1, _field(1, _field(1, b"password")))
    return _field(1, resource + _field(2, _field(1, b"scope") + _field(2, span)))


SPANS = """
otelcol.receiver.otlp "application" {
  http {
    endpoint = "127.0.0.1:%d"
  }
  output {
    traces = [otelcol.processor.attributes.redacted.input]
  }
}
otelcol.processor.attributes "redacted" {
  action {
    key     = "cookie"
    pattern = "(?i)password|token"
    action  = "delete"
  }
  output {
    traces = [otelcol.processor.batch.spans.input]
  }
}
otelcol.processor.batch "spans" {
  timeout = "2s"
  output {
    traces = [otelcol.exporter.otlphttp.store.input]
  }
}
local.file "authorization" {
  filename  = "%s"
  is_secret = true
}
otelcol.auth.headers "store" {
  header {
    key   = "Authorization"
    value = local.file.authorization.content
  }
}
otelcol.exporter.otlphttp "store" {
  client {
    endpoint = "http://127.0.0.1:%d"
    auth     = otelcol.auth.headers.store.handler
  }
  sending_queue {
    queue_size = 1
  }
  retry_on_failure {
    initial_interval = "100ms"
    max_elapsed_time = "1s"
  }
}
"""


def test_attributes_are_taken_out_of_spans_and_nothing_else() -> None:
    (_receiver, redacted, *_others) = alloy_syntax.load(SPANS % (1, "x", 2))
    keep = otlp.keep_of(redacted)
    message = _message("http.route", "user_password", "Token", "cookie", "cookies")
    assert otlp.without(message, keep) == _message("http.route", "cookies")
    assert otlp.without(message, lambda _key: True) == message
    assert otlp.count(message + message) == 2
    for wrong in (b"<html>", message[:-3], b"\xff"):
        with pytest.raises(ValueError, match=r"message|wire type"):
            otlp.count(wrong)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("traces = [otelcol.processor.batch.spans.input]", "", None),
        ("otelcol.processor.batch.spans.input", "otelcol.processor.batch.more.input", "not exist"),
        ("auth     = otelcol.auth.headers.store.handler", 'auth = "x"', "should be handler"),
        ("local.file.authorization.content", "local.file.other.content", "does not exist"),
        ('    key     = "cookie"\n', "", 'missing required attribute "key"'),
        ("  sending_queue {", "  sending_queues {", 'unrecognized block name "sending_queues"'),
        ("    endpoint = \"http", "    url = \"http", 'unrecognized attribute name "url"'),
        ("[otelcol.exporter.otlphttp.store.input]", '["store"]', "should be consumers"),
    ],
)  # fmt: skip
def test_a_wrong_way_of_spans_is_refused(old: str, new: str, message: str | None) -> None:
    text = SPANS % (1, "x", 2)
    assert old in text
    if message is None:
        start = text.index("  output {\n    " + old)
        wrong = text[:start] + text[start:].replace("  output {\n    " + old + "\n  }\n", "", 1)
        message = 'missing required block "output"'
    else:
        wrong = text.replace(old, new)
    with pytest.raises(alloy_syntax.ConfigError, match=message):
        alloy_syntax.load(wrong)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_spans_are_handed_on_with_what_a_file_says(tmp_path: Path) -> None:
    got: list[tuple[str, str | None, bytes]] = []

    class Store(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, self.headers["Authorization"], gzip.decompress(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002
            """Say nothing."""

    store = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    threading.Thread(target=store.serve_forever, daemon=True).start()
    (tmp_path / "authorization").write_text("Bearer of-tests", encoding="utf-8")
    port = _free_port()
    text = SPANS % (port, tmp_path / "authorization", store.server_port)
    blocks = {block.path: block for block in alloy_syntax.load(text)}
    counters = alloy_pipeline.Counters()
    source = blocks["otelcol.receiver.otlp.application"]
    serve = threading.Thread(target=otlp.receive, args=(source, blocks, counters), daemon=True)
    serve.start()

    def send(path: str, body: bytes) -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body)
        for _try in range(50):
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as exc:
                return exc.code
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the receiver does not answer")

    assert send("/v1/traces", _message("token", "http.route")) == 200
    assert send("/v1/logs", b"") == 404
    assert send("/v1/traces", b"<html>") == 400
    end = time.monotonic() + 10
    while not got and time.monotonic() < end:
        time.sleep(0.05)
    assert got == [("/v1/traces", "Bearer of-tests", _message("http.route"))]
    # Nobody takes them any more: the queue fills, and the application still gets its answer.
    store.shutdown()
    store.server_close()
    for _number in range(4):
        assert send("/v1/traces", _message("http.route")) == 200
    assert "otelcol_exporter_enqueue_failed_spans_total" in counters.text()
    assert "otelcol_exporter_sent_spans_total{} 1" in counters.text()
