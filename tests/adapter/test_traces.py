"""Traces: one for all that a request causes, and no harm when nobody takes them."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
import typing as t
import uuid
from pathlib import Path

import pytest
import requests
import servers
from conftest import ADMIN_PASSWORD, FERNET_KEY, FLASK_KEY, Stack, Web
from neighbours import Ollama, Platform
from test_workers import TOKEN, Site
from vedfolnir_adapter import traces

LOGIN = "/user-management/login"
SERVER, CLIENT, CONSUMER = 2, 3, 5
ERROR = 2
Spans = list[dict[str, t.Any]]


class Receiver:
    """Where spans go."""

    def __init__(self, stack: Stack, directory: Path) -> None:
        self.port = servers.free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1/traces"
        program = str(Path(__file__).with_name("otlp_receiver.py"))
        argv = [stack.python, program, str(self.port)]
        self.process = servers.Process(argv, directory / f"otlp-{self.port}.log")
        servers.wait_for(lambda: servers.port_open(self.port), what="the start of the receiver")

    def spans(self, **wanted: t.Any) -> Spans:
        found = [json.loads(line) for line in self.process.lines]
        return [one for one in found if all(one[key] == wanted[key] for key in wanted)]

    def wait(self, count: int = 1, **wanted: t.Any) -> Spans:
        servers.wait_for(lambda: len(self.spans(**wanted)) >= count, 15, f"{count} of {wanted}")
        return self.spans(**wanted)


@pytest.fixture
def receiver(stack: Stack, tmp_path: Path) -> t.Iterator[Receiver]:
    receiver = Receiver(stack, tmp_path)
    yield receiver
    receiver.process.kill()


@pytest.fixture
def prepared(stack: Stack) -> Stack:
    stack.mysql.fresh_database()
    stack.schema_and_admin()
    return stack


def new_trace() -> tuple[str, dict[str, str]]:
    """Return an id and the header with which somebody before us says it."""
    trace = uuid.uuid4().hex
    return trace, {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}


def log_lines(process: servers.Process, trace: str) -> list[str]:
    lines = [json.loads(line) for line in process.lines]
    return [str(line["message"]) for line in lines if line.get("trace_id") == trace]


@pytest.mark.parametrize("mode", ["polling", "rq"])
def test_one_trace_has_request_statements_task_and_calls(
    stack: Stack, platform: Platform, ollama: Ollama, receiver: Receiver, mode: str
) -> None:
    platform.control("reset", {"posts": [{"content": "post", "media": [{}]}]})
    site = Site(stack, platform, ollama, VEDFOLNIR_TRACES_URL=receiver.url)
    worker = site.worker(mode)
    trace, headers = new_trace()
    site.session.headers.update(headers | {"X-Request-ID": "followed"})
    task_id = site.task()
    site.wait(task_id, "COMPLETED", worker)
    (task,) = receiver.wait(trace=trace, kind=CONSUMER)
    receiver.wait(trace=trace, name="POST ollama")
    (request,) = receiver.wait(trace=trace, kind=SERVER)
    spans = {one["id"]: one for one in receiver.spans(trace=trace)}
    assert request["name"] == "POST /caption/start"
    assert request["parent"] == "00f067aa0ba902b7"
    assert request["attributes"]["vedfolnir.request_id"] == "followed"
    assert request["attributes"]["http.response.status_code"] == 200
    assert (request["resource"]["service.name"], task["resource"]["service.name"]) == (
        "app", "worker",
    )  # fmt: skip
    assert task["parent"] == request["id"]
    assert task["attributes"]["vedfolnir.task_id"] == task_id
    clients = [one for one in spans.values() if one["kind"] == CLIENT]
    assert {one["parent"] for one in clients} == {request["id"], task["id"]}
    for service, start in (
        ("app", "INSERT INTO caption_generation_tasks "),
        ("worker", "INSERT INTO processing_runs "),
    ):
        texts = [
            one["attributes"].get("db.query.text", "")
            for one in clients
            if one["resource"]["service.name"] == service
        ]
        assert any(text.startswith(start) for text in texts), (service, texts)
    calls = {one["attributes"].get("peer.service") for one in clients}
    assert calls == {None, "ollama", "platform"}
    for process in (site.web.process, worker):
        assert any(task_id in line for line in log_lines(process, trace))
    assert any("/caption/start" in line for line in log_lines(site.web.process, trace))
    secrets = (TOKEN, FLASK_KEY, FERNET_KEY, ADMIN_PASSWORD, servers.MYSQL_PASSWORD)
    for secret in (*secrets, servers.REDIS_PASSWORD):
        assert secret not in receiver.process.output


def test_a_trace_that_begins_here_has_the_id_that_nginx_wrote(
    prepared: Stack, receiver: Receiver
) -> None:
    web = Web(prepared, VEDFOLNIR_TRACES_URL=receiver.url)
    trace = uuid.uuid4().hex
    for given in (trace, "0" * 32, "no id", None):
        headers = {"X-Trace-ID": given} if given else {}
        requests.get(web.url + LOGIN, headers=headers, timeout=10)
    requests.get(f"{web.url}/user-management/reset-password/link-token-1?x=secret-2", timeout=10)
    requests.get(f"{web.url}/no/such/page", timeout=10)
    found = receiver.wait(6, kind=SERVER)
    ids = [one["trace"] for one in found]
    assert ids[0] == trace
    assert len(set(ids)) == 6
    assert "0" * 32 not in ids
    assert found[-1]["attributes"]["http.response.status_code"] == 404
    assert not {one["attributes"]["url.path"] for one in found} & {"/health/ready", "/metrics"}
    assert "[redacted]" in receiver.process.output
    assert "link-token-1" not in receiver.process.output
    assert "secret-2" not in receiver.process.output


def test_every_gunicorn_worker_sends_and_one_that_ends_sends_the_rest(
    prepared: Stack, receiver: Receiver
) -> None:
    web = Web(prepared, more=("--workers", "2"), VEDFOLNIR_TRACES_URL=receiver.url)

    def workers() -> set[int]:
        return {one["resource"]["process.pid"] for one in receiver.spans(kind=SERVER)}

    visits, end = 0, time.monotonic() + 60
    while len(workers()) < 2 and time.monotonic() < end:
        assert requests.get(web.url + LOGIN, timeout=20).status_code == 200
        visits += 1
    assert web.process.terminate() == 0
    assert len(workers()) == 2
    assert len(receiver.spans(kind=SERVER)) == visits


def duration(web: Web, count: int = 60) -> float:
    """Return the seconds that some requests take."""
    session = requests.Session()
    started = time.monotonic()
    for _visit in range(count):
        assert session.get(web.url + LOGIN, timeout=20).status_code == 200
    return time.monotonic() - started


def test_nobody_waits_for_a_collector_that_is_away(prepared: Stack) -> None:
    plain = Web(prepared)
    duration(plain, 5)
    usual = duration(plain)
    plain.process.terminate()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for port in (silent.getsockname()[1], servers.free_port()):
            url = f"http://127.0.0.1:{port}/v1/traces"
            web = Web(prepared, VEDFOLNIR_TRACES_URL=url)
            duration(web, 5)
            assert duration(web) < 3 * usual + 5
            lost = 'vedfolnir_spans_total{result="lost"}'
            servers.wait_for(lambda web=web, lost=lost: web.samples().get(lost, 0) >= 65, 20, lost)  # type: ignore[misc]
            lines = [line for line in web.process.lines if "cannot be sent" in line]
            assert 1 <= len(lines) <= 2, "each worker says it once"
            # Its own attempts are no calls to a platform.
            calls = [name for name in web.samples() if "outbound_requests_total" in name]
            assert not [name for name in calls if 'code="200"' not in name and "platform" in name]
            started = time.monotonic()
            assert web.process.terminate() == 0
            assert time.monotonic() - started < 12


OFF = """
import sys
from vedfolnir_adapter import bootstrap, traces
bootstrap.prepare("app"); traces.install("app")
with traces.root("x", "server", {}) as span, traces.child("y", {}):
    span.set("a", 1); span.fail("b")
    print(traces.trace_id(), traces.traceparent(), traces.installed())
print("otel" in str(sys.modules.get("vedfolnir_adapter.otel")))
"""
NOT_THERE = """
import sys
sys.modules["opentelemetry"] = None
from vedfolnir_adapter import bootstrap, traces
bootstrap.prepare("app"); traces.install("app")
print("there are", traces.installed())
"""
FEW = """
from vedfolnir_adapter import bootstrap, metrics_store, traces
metrics_store.prepare(); bootstrap.prepare("app"); traces.install("app")
with traces.root("x", "server", {}):
    print("parent", traces.traceparent())
    with traces.child("y", {}) as span:
        print("child", span is traces.NOTHING)
traces.finish()
"""


def say(stack: Stack, code: str, **extra: str) -> str:
    done = subprocess.run(
        [stack.python, "-c", code], env=stack.environment(**extra), cwd=stack.app, text=True,
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return " ".join(json.loads(line)["message"] for line in done.stdout.splitlines())


def test_without_traces_nothing_of_it_is_loaded(stack: Stack) -> None:
    assert say(stack, OFF) == "None None False False"


def test_an_image_without_opentelemetry_starts_and_says_so(stack: Stack) -> None:
    said = say(stack, NOT_THERE, VEDFOLNIR_TRACES_URL="http://127.0.0.1:1/")
    assert "the image lacks opentelemetry" in said
    assert said.endswith("there are False")


def test_what_is_not_sampled_is_passed_on_as_such(stack: Stack, receiver: Receiver) -> None:
    said = say(stack, FEW, VEDFOLNIR_TRACES_URL=receiver.url, VEDFOLNIR_TRACES_PERCENT="0")
    assert re.search(r"parent 00-[0-9a-f]{32}-[0-9a-f]{16}-0[02] child True", said), said
    assert receiver.spans() == []
    said = say(stack, FEW, VEDFOLNIR_TRACES_URL=receiver.url)
    assert re.search(r"parent 00-[0-9a-f]{32}-[0-9a-f]{16}-0[13] child False", said), said
    assert [one["name"] for one in receiver.spans()] == ["y", "x"]


TOLD = """
import http.server, os, threading
seen = []
class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        seen.append(self.headers.get("traceparent"))
        self.send_response(int(self.path[1:4])); self.end_headers()
    def log_message(self, *_): pass
ports = []
for _ in range(2):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ports.append(server.server_port)
os.environ["OLLAMA_URL"] = f"http://127.0.0.1:{ports[0]}"
from vedfolnir_adapter import bootstrap, metrics_store, outbound, traces
metrics_store.prepare(); bootstrap.prepare("worker"); traces.install("worker"); outbound.install()
import httpx, requests
httpx.get(f"http://127.0.0.1:{ports[0]}/200")
with traces.root("caption task", "consumer", {}) as span:
    for code in (200, 503):
        httpx.get(f"http://127.0.0.1:{ports[0]}/{code}")
        requests.get(f"http://127.0.0.1:{ports[1]}/{code}?access_token=tok-12345")
    try: requests.get("http://127.0.0.1:1/")
    except requests.ConnectionError: pass
    own = traces.trace_id()
traces.finish()
print([bool(one) and one.split("-")[1] == own for one in seen])
"""


def test_only_ollama_is_told_and_calls_say_how_they_went(stack: Stack, receiver: Receiver) -> None:
    said = say(stack, TOLD, VEDFOLNIR_TRACES_URL=receiver.url)
    assert said.endswith("[False, True, False, True, False]"), said
    found = [
        (one["name"], one["status"], one["attributes"].get("error.type"))
        for one in receiver.spans(kind=CLIENT)
    ]
    assert found == [
        ("GET ollama", 0, None), ("GET platform", 0, None), ("GET ollama", ERROR, "503"),
        ("GET platform", ERROR, "503"), ("GET platform", ERROR, "ConnectionError"),
    ]  # fmt: skip
    assert "tok-12345" not in receiver.process.output


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("SELECT a1 FROM t WHERE id = %s LIMIT 10", "SELECT a1 FROM t WHERE id = %s LIMIT ?"),
        ("update t set a = 'it''s \\' x', b = \"y\"", "update t set a = ?, b = ?"),
        ("INSERT INTO t VALUES (0xFF, 1.5, -2)", "INSERT INTO t VALUES (?, ?, -?)"),
        ("SELECT 'a\nb'", "SELECT ?"),
        ("", ""),
    ],
)
def test_a_statement_is_told_without_its_values(sql: str, text: str) -> None:
    _name, attributes = traces.statement(sql)
    assert attributes["db.query.text"] == text
