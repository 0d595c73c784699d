"""Traces: what a caption causes is one trace in nginx's line, in the application and the worker.

Nothing of Alloy is tested here but its configuration and that it is where the application looks
for it: its place is taken by the lab's stand-in, which really takes, changes and hands on spans.
"""

from __future__ import annotations

import json
import pathlib
import shlex
import time
import typing as t
import uuid

import pytest
from lab import Lab, wait_until
from test_logs import Store
from visitor import LOGIN, Platform, administrator, caption_arrives
from watched import ON, Watched

RECEIVER = "otlp-receiver"
PROGRAM = pathlib.Path(__file__).resolve().parents[1] / "adapter/otlp_receiver.py"
TOKEN = "token-of-the-traces-0123456789"
AUTHORIZATION = f"Bearer {TOKEN}"
SERVER, CONSUMER = 2, 5
PARENT = "00f067aa0ba902b7"
_ASK = """
import http.client, ssl, sys
context = ssl._create_unverified_context()
connection = http.client.HTTPSConnection("nginx", 8443, context=context, timeout=60)
connection.request("GET", sys.argv[1], headers={"Host": sys.argv[2], "traceparent": sys.argv[3]})
print(connection.getresponse().status)
"""
Spans = list[dict[str, t.Any]]


class Traced:
    """The lab host while it is traced."""

    def __init__(self, watched: Watched) -> None:
        """Remember the host, and whom nginx shall trust."""
        self.watched, self.lab = watched, watched.lab
        networks = self.lab.inspect()["app-1"]["NetworkSettings"]["Networks"]
        (self.proxy,) = [one["IPAddress"] for name, one in networks.items() if "edge" in name]

    def begin(self) -> None:
        """Deploy, and start where spans go in the image that has OpenTelemetry."""
        self.watched.deploy(
            observability_traces_enabled=True,
            observability_traces_url=f"http://{RECEIVER}:4318",
            nginx_trusted_proxies=[self.proxy],
            stack_secrets_given=ON["stack_secrets_given"]
            | {"observability_traces_authorization": AUTHORIZATION},
        ).check()
        image = self.lab.inspect()["app-1"]["Config"]["Image"]
        self.lab.run(
            f"docker rm --force {RECEIVER} 2>/dev/null; docker run --detach --name {RECEIVER}"
            f' --network vedfolnir_edge --entrypoint python3 -i {image} -u -c "$(cat)" 4318',
            stdin=PROGRAM.read_text(encoding="utf-8"),
        )

    def end(self) -> None:
        """Leave it watched and not traced."""
        self.lab.run(f"docker rm --force {RECEIVER}")
        self.watched.deploy().check()

    def spans(self, **wanted: t.Any) -> Spans:
        """Return the spans that have arrived, of a trace for example."""
        lines = self.lab.run(f"docker logs {RECEIVER}").splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [one for one in found if all(one[key] == wanted[key] for key in wanted)]

    def wait(self, seconds: float = 60, **wanted: t.Any) -> Spans:
        """Wait for a span."""
        wait_until(lambda: bool(self.spans(**wanted)), seconds, f"no span has {wanted}")
        return self.spans(**wanted)

    def ask(self, service: str, trace: str) -> None:
        """Let a container ask nginx for a page as part of a trace."""
        header = f"00-{trace}-{PARENT}-01"
        words = ["python3", "-c", _ASK, LOGIN, self.lab.variables["stack_domain"], header]
        done = self.lab.exec(service, shlex.join(words))
        assert done.stdout.strip() == "200", done.stderr


@pytest.fixture(scope="module")
def traced(watched: Watched) -> t.Iterator[Traced]:
    traced = Traced(watched)
    try:
        traced.begin()
        yield traced
    finally:
        traced.end()


def nginx_line(lab: Lab, path: str) -> dict[str, str]:
    """Return the last line of nginx about a path."""
    lines = lab.run("docker logs --since 5m vedfolnir-nginx-1").splitlines()
    found = [json.loads(line) for line in lines if f'"path":"{path}"' in line]
    return t.cast("dict[str, str]", found[-1])


def test_a_caption_is_one_trace(traced: Traced) -> None:
    platform = Platform.of(traced.lab, "fediverse.lab")
    admin = administrator(traced.lab)
    admin.remove_platforms()
    try:
        caption = caption_arrives(admin, platform)
    finally:
        admin.remove_platforms()
    line = nginx_line(traced.lab, "/caption/start")
    trace = line["trace_id"]
    assert trace == line["request_id"]
    (task,) = traced.wait(trace=trace, kind=CONSUMER)
    (request,) = traced.wait(trace=trace, kind=SERVER)
    assert task["attributes"]["vedfolnir.task_id"] == caption.task
    assert (task["parent"], request["parent"]) == (request["id"], "")
    assert request["attributes"]["vedfolnir.request_id"] == line["request_id"]
    names = {(one["resource"]["service.name"], one["name"]) for one in traced.spans(trace=trace)}
    assert {("app", "INSERT"), ("worker", "POST ollama"), ("worker", "GET platform")} <= names
    assert {one["authorization"] for one in traced.spans(trace=trace)} == {AUTHORIZATION}
    # The same id leads from a trace to the lines.
    store = Store(traced.watched)
    found = store.wait(f'{{service=~".+"}} | trace_id="{trace}"', 4)
    assert {own["service"] for own, _line in found} >= {"app", "nginx", "worker"}


def test_nothing_secret_is_in_a_span(traced: Traced) -> None:
    token = f"tok-{uuid.uuid4().hex}"
    admin = administrator(traced.lab)
    admin.remove_platforms()
    try:
        admin.add_platform("http://127.0.0.1:1", token)
        admin.request("GET", f"/?access_token={token}")
    finally:
        admin.remove_platforms()
    time.sleep(8)
    shown = traced.lab.run(f"docker logs {RECEIVER}").replace(AUTHORIZATION, "")
    assert "/api/add_platform" in shown
    secrets = [value for value in traced.lab.secrets().values() if len(value) >= 12]
    assert not [value[:3] for value in [token, *secrets] if value in shown]


def test_only_a_trusted_proxy_says_to_which_trace_a_request_belongs(traced: Traced) -> None:
    traces = [uuid.uuid4().hex for _service in range(3)]
    traced.ask("app-1", traces[0])
    traced.ask("app-2", traces[1])
    header = {"traceparent": f"00-{traces[2]}-{PARENT}-01", "X-Trace-ID": traces[2]}
    traced.lab.session().get(traced.lab.https + LOGIN, headers=header, timeout=60)
    (request,) = traced.wait(trace=traces[0], kind=SERVER)
    assert request["parent"] == PARENT
    time.sleep(8)
    assert not [one for one in traced.spans() if one["trace"] in traces[1:]]


def test_nobody_waits_while_alloy_is_away(traced: Traced) -> None:
    session = traced.lab.session()

    def duration() -> float:
        started = time.monotonic()
        for _visit in range(8):
            assert session.get(traced.lab.https + LOGIN, timeout=60).status_code == 200
            time.sleep(0.5)
        return time.monotonic() - started

    duration()
    usual = duration()
    traced.lab.compose("stop alloy")
    try:
        time.sleep(3)
        assert duration() < 2 * usual + 5, "a request waits"
    finally:
        traced.lab.compose("start alloy")
    trace = uuid.uuid4().hex

    def arrives() -> bool:
        traced.ask("app-1", trace)
        return bool(traced.spans(trace=trace))

    wait_until(arrives, 90, "no span arrives after Alloy came back")


def test_turned_off_nothing_of_it_is_left(traced: Traced) -> None:
    inspected = traced.lab.inspect()
    assert any("internal" in name for name in inspected["alloy"]["NetworkSettings"]["Networks"])
    traced.watched.deploy().check()
    inspected = traced.lab.inspect()
    assert not [
        name for name in inspected["alloy"]["NetworkSettings"]["Networks"] if "internal" in name
    ]
    for service in ("app-1", "app-2", "worker"):
        assert "VEDFOLNIR_TRACES" not in str(inspected[service]["Config"]["Env"])
    assert "otelcol" not in traced.lab.run("cat /srv/vedfolnir/config/alloy/config.alloy")
    configs = traced.lab.run("cat /srv/vedfolnir/config/nginx/*.conf")
    assert "trace" not in configs
    assert traced.lab.run("ls /run/vedfolnir/secrets/alloy 2>/dev/null; true") == ""
