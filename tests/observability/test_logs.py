"""Logs: what is stored, under which labels, for how long, and what never is."""

from __future__ import annotations

import json
import pathlib
import re
import time
import typing as t
import uuid
from urllib.parse import quote

import pytest
import yaml
from lab import wait_until
from logs import logql
from visitor import LOGIN, Platform, administrator, caption_arrives
from watched import ON, Watched

ROOT = pathlib.Path(__file__).resolve().parents[2]
EVERYTHING = '{service=~".+"}'
LEVELS = {"debug", "info", "warning", "error", "unknown"}
DATA = "/srv/vedfolnir/data"
NOTHING_LEFT = ("config/alloy", "config/loki", "data/alloy", "data/loki")


class Store:
    """What Loki has, asked from the one network that reaches it."""

    def __init__(self, watched: Watched) -> None:
        """Remember the host."""
        self.lab = watched.lab

    def ask(self, page: str, **asked: str) -> t.Any:
        """Return the data of an answer."""
        query = "&".join(f"{key}={quote(value)}" for key, value in asked.items())
        url = f"http://loki:3100/loki/api/v1/{page}?{query}"
        command = f"docker exec vedfolnir-alertmanager-1 wget -q -O - '{url}'"
        return json.loads(self.lab.run(command))["data"]

    def lines(self, query: str, limit: int = 1000) -> list[tuple[dict[str, str], str]]:
        """Return the lines of the last hour that a query finds, with their labels."""
        found = self.ask("query_range", query=query, limit=str(limit))["result"]
        return [(one["stream"], line) for one in found for _stamp, line in one["values"]]

    def wait(self, query: str, count: int = 1, seconds: float = 120) -> list[t.Any]:
        """Wait until there are so many lines."""
        wait_until(lambda: len(self.lines(query)) >= count, seconds, f"not in the store: {query}")
        return self.lines(query)


@pytest.fixture(scope="session")
def store(watched: Watched) -> Store:
    return Store(watched)


def _write(store: Store, *lines: str) -> None:
    """Write into the host's journal, past the application's own redaction."""
    store.lab.run("systemd-cat --identifier=leak", stdin="".join(f"{line}\n" for line in lines))


def test_a_token_never_reaches_the_store(store: Store) -> None:
    token = f"tok-{uuid.uuid4().hex}"
    admin = administrator(store.lab)
    admin.remove_platforms()
    admin.add_platform("http://127.0.0.1:1", token)
    try:
        for _visit in range(3):
            admin.request("GET", "/")
    finally:
        admin.remove_platforms()
    found = store.wait('{service="app"} |= "Current platform dict" |= "[redacted]"')
    assert any("access_token" in line for _labels, line in found)
    # The application has its own redaction; these lines have only that of the pipeline.
    leaks = (
        f"Connection(access_token='{token}')",
        json.dumps({"message": json.dumps({"client_secret": token})}),
        f"GET /x?access_token={token}&y=1",
        f"Authorization: Bearer {token}",
        f"redis://user:{token}@redis:6379",
        f"/user-management/reset-password/{token}",
    )
    mark = uuid.uuid4().hex
    _write(store, *(f"{mark} {leak}" for leak in leaks))
    journal = store.lab.run("journalctl --identifier=leak --output=cat --since=-10min")
    assert journal.count(token) == len(leaks), "the journal does not have what is to be redacted"
    stored = store.wait(f'{{service="host"}} |= "{mark}"', len(leaks))
    assert all("[redacted]" in line for _labels, line in stored), stored
    assert store.lines(f'{EVERYTHING} |= "{token}"') == []
    for directory in ("loki", "alloy"):
        search = f"grep --recursive --files-with-matches --text '{token}' {DATA}/{directory}"
        assert store.lab.run(f"{search} || test $? = 1") == ""
    assert store.lab.run(f"grep --recursive --count --text '{mark}' {DATA}/loki") != ""


def test_a_request_is_found_in_all_lines_that_it_caused(store: Store) -> None:
    platform = Platform.of(store.lab, "fediverse.lab")
    admin = administrator(store.lab)
    admin.remove_platforms()
    try:
        caption = caption_arrives(admin, platform)
    finally:
        admin.remove_platforms()
    ((labels, _line), *_more) = store.wait(
        f'{{service="app"}} |= "Task {caption.task} belongs to this request"'
    )
    found = store.wait(f'{EVERYTHING} | request_id="{labels["request_id"]}"', 4)
    services = {own["service"] for own, _line in found}
    assert services >= {"app", "nginx", "worker"}
    assert any(
        '"path":"/caption/start"' in line for own, line in found if own["service"] == "nginx"
    )
    done = [line for own, line in found if own["service"] == "worker"]
    assert any(caption.task in line for line in done), done


def test_every_line_has_its_labels(store: Store) -> None:
    services = set(store.ask("label/service/values"))
    assert services >= {"app", "host", "mysql", "nginx", "redis", "vault", "worker"}
    levels = set(store.ask("label/level/values"))
    assert levels <= LEVELS
    assert levels >= {"info", "warning"}
    instances = set(store.ask("label/instance/values"))
    assert {"app-1", "app-2", "nginx", "vault"} <= instances
    for stream in store.ask("series", **{"match[]": EVERYTHING}):
        assert set(stream) <= {"audit", "host", "instance", "level", "service", "stack", "unit"}
        assert ("instance" in stream) == (stream["service"] not in ("host", "other")), stream
        assert stream["level"] in LEVELS
    # Each of the formats, by what its service says at its start.
    for service, level in (
        ("mysql", "info"),
        ("redis", "info"),
        ("vault", "info"),
        ("nginx", "info"),
    ):
        found = store.lines(f'{{service="{service}", level="{level}"}}', 5)
        assert found, (service, level)
    assert "unknown" not in {
        stream["level"]
        for stream in store.ask("series", **{"match[]": '{service=~"app|worker|redis"}'})
    }


def test_a_slow_statement_is_one_entry(watched: Watched, store: Store) -> None:
    mark = uuid.uuid4().hex
    client = "mysql --defaults-extra-file=/run/secrets/root.cnf"
    statement = f"SELECT SLEEP(3),\n 'password={mark}secret',\n '{mark}' /* request_id={mark} */;"
    inside = f"cd /srv/vedfolnir && docker compose exec -T mysql {client} vedfolnir"
    watched.lab.run(inside, stdin=statement)
    found = store.wait(f'{{service="mysql", level="warning"}} |= "{mark}" | request_id="{mark}"')
    assert len(found) == 1, found
    (labels, text), *_more = found
    assert labels["instance"] == "mysql"
    assert text.startswith("# Time: ")
    assert "Query_time: 3." in text
    assert f"'{mark}'" in text
    assert f"{mark}secret" not in text
    # After a rotation it goes on.
    watched.lab.run("logrotate --force /etc/logrotate.d/vedfolnir-mysql")
    again = uuid.uuid4().hex
    watched.lab.run(inside, stdin=f"SELECT SLEEP(3), '{again}';")
    assert len(store.wait(f'{{service="mysql"}} |= "{again}"')) == 1
    kept = watched.lab.run(
        "stat -c '%a %u:%g' /srv/vedfolnir/logs/mysql /srv/vedfolnir/logs/mysql/slow.log"
    )
    assert kept.split("\n")[:2] == ["750 999:999", "640 999:999"]


def test_vaults_audit_log_and_logins_to_the_host_are_kept_longer(store: Store) -> None:
    found = store.wait('{service="vault", audit="true"} | json | type="response"')
    assert '"client_token":"hmac-sha256:' in found[0][1]
    assert store.lines('{service="host", audit="true"} |= "sshd"') or store.lines(
        '{service="host", audit="true"}'
    )


def test_retention_is_enforced_by_loki(store: Store) -> None:
    url = "http://loki:3100/config"
    config = yaml.safe_load(
        store.lab.run(f"docker exec vedfolnir-alertmanager-1 wget -q -O - {url}")
    )
    limits = config["limits_config"]
    assert limits["retention_period"] == "720h"
    assert limits["retention_stream"] == [
        {"selector": '{audit="true"}', "priority": 1, "period": "8760h"}
    ]
    assert config["compactor"]["retention_enabled"] is True
    assert config["compactor"]["delete_request_store"] == "filesystem"


def test_nothing_is_lost_while_loki_is_away(store: Store) -> None:
    mark = uuid.uuid4().hex
    store.lab.compose("stop loki")
    try:
        for part in range(3):
            _write(store, *(f"{mark} {part} {number}" for number in range(40)))
            time.sleep(2)
        # Also when the reader itself is started anew meanwhile.
        store.lab.compose("restart alloy")
        _write(store, *(f"{mark} 3 {number}" for number in range(40)))
    finally:
        store.lab.compose("start loki")
    found = store.wait(f'{EVERYTHING} |= "{mark}"', 160, 180)
    texts = sorted(line for _labels, line in found)
    expected = sorted(f"{mark} {part} {number}" for part in range(4) for number in range(40))
    assert texts == expected


def test_only_monitoring_reaches_loki(store: Store) -> None:
    for name in ("loki", "alloy"):
        found = store.lab.inspect()[name]
        assert set(found["NetworkSettings"]["Networks"]) == {"vedfolnir_monitoring"}
        assert not found["HostConfig"]["PortBindings"]
        assert found["HostConfig"]["CapDrop"] == ["ALL"]
        assert found["HostConfig"]["ReadonlyRootfs"]
        user = found["Config"]["User"]
        assert user.partition(":")[0] not in ("", "0", "root")


def test_limits_add_up_to_a_gibibyte(store: Store) -> None:
    watching = "prometheus|alertmanager|.*exporter|loki|alloy|grafana|cadvisor"
    limits = {
        name: found["HostConfig"]["Memory"] / 2**20
        for name, found in store.lab.inspect().items()
        if re.fullmatch(watching, name)
    }
    assert len(limits) >= 10
    assert sum(limits.values()) <= 1024, limits


def test_refused_requests_are_counted(watched: Watched, store: Store) -> None:
    session = watched.lab.session()
    form = {"username_or_email": "nobody", "password": "wrong"}
    answers = [
        session.post(watched.lab.https + LOGIN, data=form, timeout=60).status_code
        for _attempt in range(30)
    ]
    refused = answers.count(429)
    assert refused > 0, answers
    series = "sum(loki_process_custom_nginx_rate_limited_total)"
    wait_until(lambda: bool(watched.query(series)), 90, "nothing is counted")
    wait_until(lambda: watched.value(series) >= refused, 60, "not all are counted")
    errors = "sum(loki_process_custom_nginx_client_errors_total)"
    wait_until(lambda: watched.value(errors) >= refused, 60, "not all are counted")
    found = store.wait('{service="nginx"} | json | status="429"', refused)
    assert all(json.loads(line)["limit"] == "REJECTED" for _labels, line in found)


def test_the_worker_and_the_outside_calls_are_measured(watched: Watched, store: Store) -> None:
    store.wait('{service="worker"}')
    assert watched.up()["worker/worker"]
    for series in (
        'vedfolnir_outbound_requests_total{job="worker",target="ollama",code="200"}',
        'vedfolnir_outbound_request_duration_seconds_count{job="worker",target="platform"}',
        'vedfolnir_logins_total{job="app",result="success"}',
        'vedfolnir_account_lockouts_total{job="app"}',
        'vedfolnir_websocket_sessions{job="app"}',
        'vedfolnir_http_requests_in_flight{job="app"}',
    ):
        wait_until(lambda series=series: bool(watched.query(series)), 60, f"there is no {series}")  # type: ignore[misc]


@pytest.mark.parametrize("path", sorted(ROOT.glob("files/dashboards/*.json")), ids=lambda p: p.name)
def test_every_question_of_a_dashboard_to_loki_is_logql(path: pathlib.Path) -> None:
    for query in re.findall(r'"expr": "(\{(?:\\.|[^"\\])*)"', path.read_text(encoding="utf-8")):
        logql.parse(json.loads(f'"{query}"'))


def test_turned_off_nothing_of_it_is_left(watched: Watched) -> None:
    lab = watched.lab
    off = {**ON, "observability_logs_enabled": False}
    predicted = lab.playbook("site.yml", "--check", variables=off).check()
    assert {name for name, what in predicted.plan.items() if what == "remove"} == {"alloy", "loki"}
    try:
        lab.playbook("site.yml", variables=off).check()
        assert not {"alloy", "loki"} & lab.services()
        left = " ".join(NOTHING_LEFT)
        assert lab.run(f"cd /srv/vedfolnir && ls -d {left} 2>/dev/null; true") == ""
    finally:
        watched.deploy().check()
