"""The stack is watched: every target, every series, real faults, and nothing is given away."""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import time
import typing as t
from urllib.parse import quote

import alerts
import generate
import pytest
import requests
from faults import FAULTS, mysql
from lab import ROOT, RUNTIME, WATCHING, load_yaml, wait_until
from test_interrupted import BEFORE_CONVERGING, deployment, run_and_kill
from test_leaks import scan
from visitor import LOGIN, administrator
from watched import OFF, ON, STATUS_TOKEN, TOKEN, Watched

DASHBOARDS = generate.DASHBOARDS
PANELS = {
    f"{page.name}: {panel.title}": panel
    for page in DASHBOARDS
    for panel in page.panels
    if panel.source == "prometheus"
}
RESTARTS: list[tuple[dict[str, t.Any], set[str]]] = [
    ({"observability_alerts_off": ["HostCpuBusy"]}, {"alertmanager"}),
    # Grafana draws no more points than there are.
    ({"observability_interval_seconds": 20}, {"grafana", "prometheus"}),
    (
        {"observability_retention_days": 10, "observability_logs_days": 10},
        {"loki", "prometheus"},
    ),
    (
        {"observability_alloy_memory_mb": 144, "observability_grafana_memory_mb": 176},
        {"alloy", "grafana"},
    ),
]
"""Options, and the containers that a run with them must replace."""
RETENTION_MB = load_yaml(ROOT / "roles/observability/defaults/main.yml")[
    "observability_retention_mb"
]
WRITING = (
    "vedfolnir.stack.observability : "
    "Write the configuration and the fragment of what watches the stack"
)
MACHINE = {"HostCpuBusy", "HostMemoryLow", "HostDiskFull", "HostDiskFillsUp"}
"""Alerts about the machine that the lab shares with others."""


@pytest.fixture(scope="session")
def used(watched: Watched) -> Watched:
    """The host after some visits, so that there are series of requests."""
    session = watched.lab.session()
    for _round in range(2):
        for _visit in range(10):
            assert session.get(watched.lab.https + LOGIN, timeout=60).status_code == 200
        # How much a series grew is known from its second value on.
        time.sleep(12)
    # Later there are too many attempts; so many that some are refused.
    administrator(watched.lab)
    form = {"username_or_email": "nobody", "password": "wrong"}
    refused = [session.post(watched.lab.https + LOGIN, data=form, timeout=60) for _try in range(30)]
    assert 429 in [answer.status_code for answer in refused]
    assert session.get(f"{watched.lab.https}/no-such-page", timeout=60).status_code == 404
    return watched


def test_every_target_is_up(watched: Watched) -> None:
    up = watched.up()
    assert all(up.values()), up
    jobs = {name.partition("/")[0] for name in up}
    assert jobs >= {"alertmanager", "app", "blackbox", "host", "mysql", "nginx", "prometheus"}
    assert jobs >= {"probe", "redis", "tasks"}
    # Each replica by its name.
    assert {"app/app-1", "app/app-2", "probe/nginx", "probe/ollama"} <= set(up)
    assert watched.value('min(probe_success{service=~"nginx|ollama"})') == 1
    # The certificate was verified, with the stack's own authority.
    assert watched.value('probe_ssl_earliest_cert_expiry{service="nginx"} - time()') > 300 * 86400


@pytest.mark.parametrize("name", alerts.alerts())
def test_every_series_that_a_rule_names_exists(used: Watched, name: str) -> None:
    wanted = alerts.metrics(alerts.alerts()[name]["expr"])
    for series in wanted:
        wait_until(lambda series=series: bool(used.query(series)), 60, f"there is no {series}")  # type: ignore[misc]


def test_prometheus_own_tool_accepts_the_configuration(watched: Watched) -> None:
    check = "promtool check config /etc/prometheus/prometheus.yml"
    said = watched.lab.run(f"docker exec vedfolnir-prometheus-1 {check}")
    # Of the configuration, of the list of rule files, and of each of them.
    assert said.count("SUCCESS") == 2 + len(alerts.RULES)


def test_every_rule_can_be_evaluated(used: Watched) -> None:
    groups = used.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == len(alerts.rules())
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []
    ratio = "vedfolnir:errors:ratio_rate5m"
    wait_until(lambda: used.query(ratio) != [], 60, "there is no ratio of errors")


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_of_a_dashboard_shows_something(used: Watched, panel: str) -> None:
    for expression in PANELS[panel].queries.values():
        shown = f"{panel}: {expression}"
        wait_until(lambda expression=expression: bool(used.query(expression)), 90, shown)  # type: ignore[misc]


def test_a_healthy_stack_is_quiet_but_for_the_sign_of_life(used: Watched) -> None:
    wait_until(
        lambda: used.firing() - MACHINE == {"Watchdog"}, 400, f"alerts fire: {used.firing()}"
    )
    used.wait_told(["Watchdog"], "firing", 0, 120)


def test_real_faults_are_told_and_their_end(used: Watched) -> None:
    """All at once, because each takes its minutes."""
    since = len(used.told())
    with contextlib.ExitStack() as broken:
        for fault in FAULTS.values():
            broken.enter_context(fault(used))
        used.wait_told(FAULTS, "firing", since, 600)
    used.wait_told(FAULTS, "resolved", since, 600)


def test_a_worker_that_dies_again_and_again_is_told(used: Watched) -> None:
    lab, since = used.lab, len(used.told())
    try:
        for _time in range(4):
            used.lab.wait_healthy()
            # Of the engine's view; a container cannot kill its own first process.
            pid = lab.inspect()["worker"]["State"]["Pid"]
            lab.run(f"kill -9 {pid}; sleep 8; systemctl start vedfolnir-watch.service")
        used.wait_told(["ContainerRestarts"], "firing", since, 300)
    finally:
        lab.compose("up --detach --force-recreate --wait worker")


def test_a_cause_hides_what_only_follows_from_it(used: Watched) -> None:
    since = len(used.told())
    try:
        used.lab.compose("stop mysql")
        used.wait_told(["MysqlDown"], "firing", since, 240)
        wait_until(lambda: "TaskStateUnknown" in used.firing(), 420, "the cause has no effect")
    finally:
        used.lab.compose("up --detach --wait mysql")
    used.wait_told(["MysqlDown"], "resolved", since, 240)
    names = {name for name, _status in used.told()[since:]}
    assert "TaskStateUnknown" not in names
    assert not names & {"AppDown", "AppReplicaDown"}


def test_accounts_can_look_and_do_nothing_else(used: Watched) -> None:
    grants = {
        name: mysql(used, f"SHOW GRANTS FOR '{name}'@'172.30.0.0/255.255.255.0'").splitlines()
        for name in ("vedfolnir_monitor", "vedfolnir_tasks")
    }
    texts = {name: [line.partition(" TO ")[0] for line in lines] for name, lines in grants.items()}
    assert texts == {
        "vedfolnir_monitor": [
            "GRANT PROCESS, REPLICATION CLIENT ON *.*",
            "GRANT SELECT ON `performance\\_schema`.*",
        ],
        "vedfolnir_tasks": [
            "GRANT USAGE ON *.*",
            "GRANT SELECT ON `vedfolnir`.`caption_generation_tasks`",
        ],
    }


def test_it_is_hardened_and_nothing_is_published(used: Watched) -> None:
    found = {name: item for name, item in used.lab.inspect().items() if name in WATCHING}
    assert set(found) == WATCHING
    for name, item in found.items():
        host = item["HostConfig"]
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert 0 < host["Memory"] <= 2**29, name
        assert host["PidsLimit"] > 0, name
        assert not host["PortBindings"], name
        assert item["Config"]["User"].split(":")[0] not in ("", "0"), name
        assert "vedfolnir_monitoring" in item["NetworkSettings"]["Networks"], name
        assert not any(mount["RW"] for mount in item["Mounts"]) or name in (
            "alertmanager",
            "alloy",
            "grafana",
            "loki",
            "prometheus",
        ), name
    networks = {name: set(found[name]["NetworkSettings"]["Networks"]) for name in found}
    # Nobody with a way out reaches the databases, and nobody at the databases has a way out.
    for name, own in networks.items():
        assert not {"vedfolnir_internal", "vedfolnir_edge"} <= own, name


def grafana(used: Watched, path: str, password: str = "") -> requests.Response:
    """Ask Grafana as a visitor of the site does, as its administrator or as nobody."""
    session = used.lab.session()
    if password:
        session.auth = ("admin", password)
    url = f"{used.lab.https}/grafana{path}"
    return session.get(url, timeout=60, allow_redirects=False)


def test_grafana_has_what_the_files_say(used: Watched) -> None:
    password = passwords(used)["grafana"]
    pages = grafana(used, "/api/search", password).json()
    assert {page["uid"] for page in pages} == {f"vedfolnir-{one.name}" for one in DASHBOARDS}
    assert {page["folderTitle"] for page in pages} == {"Vedfolnir"}
    sources = {one["uid"]: one for one in grafana(used, "/api/datasources", password).json()}
    assert {"alertmanager", "prometheus"} <= set(sources)
    for uid in sources:
        health = grafana(used, f"/api/datasources/uid/{uid}/health", password)
        assert health.json()["status"] == "OK", uid
    points = grafana(used, "/api/v1/provisioning/contact-points", password).json()
    assert [(one["name"], one["type"]) for one in points] == [
        ("alertmanager", "prometheus-alertmanager")
    ]
    pages = [panel for page in DASHBOARDS for panel in page.panels if panel.source == "loki"]
    for expression in [text for panel in pages for text in panel.queries.values()]:
        way = f"/api/datasources/proxy/uid/loki/loki/api/v1/query_range?query={quote(expression)}"
        assert grafana(used, way, password).json()["status"] == "success", expression
    way = "/api/datasources/proxy/uid/prometheus/api/v1/query?query=up"
    assert grafana(used, way, password).json()["data"]["result"]


def test_nobody_gets_into_grafana_without_the_password(used: Watched) -> None:
    for path in ("/api/search", "/api/datasources", "/api/user"):
        assert grafana(used, path).status_code == 401
        assert grafana(used, path, "admin").status_code == 401
    page = grafana(used, "/")
    assert (page.status_code, page.headers["Location"]) == (302, "/grafana/login")
    url = f"{used.lab.https}/grafana/login"
    right = {"user": "admin", "password": passwords(used)["grafana"]}
    cookie = used.lab.session().post(url, json=right, timeout=60).headers["Set-Cookie"]
    assert {"HttpOnly", "Secure", "SameSite=Strict"} <= set(cookie.split("; "))


def test_the_status_is_for_those_with_the_secret(used: Watched) -> None:
    session, url = used.lab.session(), f"{used.lab.https}/-/status"
    assert session.get(url, timeout=60).status_code == 403
    wrong = {"Authorization": f"Bearer {STATUS_TOKEN}x"}
    assert session.get(url, headers=wrong, timeout=60).status_code == 403
    right = {"Authorization": f"Bearer {STATUS_TOKEN}"}
    answer = session.get(url, headers=right, timeout=60)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert set(answer.json()["services"]) == used.lab.services()
    assert time.time() - datetime.datetime.fromisoformat(answer.json()["time"]).timestamp() < 300


def test_the_host_sees_what_the_engine_says(used: Watched) -> None:
    inspected = used.lab.inspect()
    for name, item in inspected.items():
        limit = used.value(f'vedfolnir_container_memory_limit_bytes{{name="{name}"}}')
        assert limit == item["HostConfig"]["Memory"] > 0, name
        assert used.value(f'vedfolnir_container_memory_bytes{{name="{name}"}}') < limit, name
    running = {one["metric"]["name"] for one in used.query("vedfolnir_container_running == 1")}
    assert running == set(inspected)


def passwords(used: Watched) -> dict[str, str]:
    """Return what the exporters and Alertmanager log in with, by name."""
    read = {
        "mysql": "sed -n 's/^password=\"\\(.*\\)\"/\\1/p' " + f"{RUNTIME}/mysql-exporter/my.cnf",
        "redis": f"cat {RUNTIME}/redis-exporter/passwords.json",
        "tasks_mysql": f"cat {RUNTIME}/task-exporter/mysql_password",
        "tasks_redis": f"cat {RUNTIME}/task-exporter/redis_password",
        "grafana": f"cat {RUNTIME}/grafana/admin_password",
        "webhook": f"cat {RUNTIME}/alertmanager/webhook_url",
    }
    found = {name: used.lab.run(command).strip() for name, command in read.items()}
    found["redis"] = next(iter(json.loads(found["redis"]).values()))
    found["webhook"] = TOKEN
    assert all(len(value) >= 16 for value in found.values())
    return found


def test_no_password_is_given_away(used: Watched) -> None:
    values = passwords(used)
    # The receiver of the tests was told the address, and prints it.
    used_by_the_test = {"webhook"}
    found = scan(used.lab, {k: v for k, v in values.items() if k not in used_by_the_test})
    assert [line for line in found if line] == []
    for name in sorted(WATCHING):
        text = json.dumps(used.lab.inspect()[name])
        text += used.lab.run(f"docker logs vedfolnir-{name}-1 2>&1")
        text += used.lab.run(f"docker top vedfolnir-{name}-1 -eo pid,args")
        assert [key for key, value in values.items() if value in text] == []
    shown = json.dumps(used.ask("status/config")) + json.dumps(used.ask("targets"))
    assert [key for key, value in values.items() if value in shown] == []


def test_the_passwords_rotate_while_it_watches(used: Watched) -> None:
    before = passwords(used)
    names = "observability_mysql,observability_redis,observability_tasks_mysql"
    names += ",observability_tasks_redis,observability_grafana_admin"
    run = used.lab.playbook("rotate_secrets.yml", variables={**ON, "rotate_only": names}).check()
    after = passwords(used)
    assert {name for name in after if after[name] != before[name]} == set(before) - {"webhook"}
    wait_until(lambda: all(used.up().values()), 90, "not every target is up")
    for metric in ("mysql_up", "redis_up", "vedfolnir_tasks_up", "vedfolnir_rq_up"):
        wait_until(lambda metric=metric: used.value(metric) == 1, 90, metric)  # type: ignore[misc]
    assert not [value for value in [*before.values(), *after.values()] if value in run.output]
    # Grafana was not restarted for it, and a restart does not bring the old one back.
    for _start in range(2):
        assert grafana(used, "/api/user", before["grafana"]).status_code == 401
        assert grafana(used, "/api/user", after["grafana"]).status_code == 200
        used.lab.compose("restart grafana")
        used.lab.wait_healthy()


def test_a_restart_of_prometheus_loses_nothing(used: Watched) -> None:
    then = int(time.time()) - 30
    expression = f"count(count_over_time(up[1m] @ {then}))"
    before = used.value(expression)
    used.lab.compose("restart prometheus")
    wait_until(lambda: bool(used.up()), 90, "Prometheus did not come back")
    assert used.value(expression) == before > 10


def test_its_disk_has_the_set_limit(used: Watched) -> None:
    """Prometheus keeps to it when it removes blocks, of two hours at least: too long for a test."""
    limit = used.value("prometheus_tsdb_retention_limit_bytes")
    assert limit == RETENTION_MB * 2**20
    # Files come and go meanwhile.
    shown = used.lab.run("du -sb /srv/vedfolnir/data/prometheus 2>/dev/null; true")
    taken = int(shown.split()[0])
    assert 0 < taken < limit


def test_what_it_costs(used: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    lines = used.lab.run("docker stats --no-stream --format '{{.Name}} {{.MemUsage}}'").splitlines()
    units = {"KiB": 1 / 1024, "MiB": 1, "GiB": 1024}
    sizes: dict[str, float] = {}
    for line in lines:
        shown = re.fullmatch(r"vedfolnir-(\S+)-1 ([\d.]+)(\wiB) / .*", line)
        if shown and shown[1] in WATCHING:
            sizes[shown[1]] = float(shown[2]) * units[shown[3]]
    with capsys.disabled():
        print(f"\nmonitoring: {sum(sizes.values()):.0f} MiB", sizes)
    assert set(sizes) == WATCHING
    assert sum(sizes.values()) < 1024
    assert used.value("max(scrape_duration_seconds)") < 5


def test_a_second_run_changes_nothing(used: Watched) -> None:
    before = used.lab.started()
    again = used.deploy().check()
    assert again.recap["changed"] == 0, again.output[-4000:]
    assert used.lab.started() == before


@pytest.mark.parametrize("row", RESTARTS, ids=lambda row: "+".join(row[0]))
def test_an_option_recreates_exactly_what_it_is_about(
    used: Watched, row: tuple[dict[str, t.Any], set[str]]
) -> None:
    options, services = row
    before = used.lab.started()
    predicted = used.deploy("--check", **options).check()
    assert predicted.plan == dict.fromkeys(services, "recreate")
    assert used.lab.started() == before


def test_a_killed_run_converges_the_next_time(used: Watched) -> None:
    """Killed before it writes, and between the files and the containers, with much to change."""
    changed = {name: value for options, _services in RESTARTS for name, value in options.items()}
    wanted = deployment(used.lab)
    for task in (WRITING, BEFORE_CONVERGING):
        run_and_kill(used.lab, task, {**ON, **changed})
        used.deploy().check()
        assert used.lab.unhealthy() == []
        found = deployment(used.lab)
        assert [name for name in {*found, *wanted} if found.get(name) != wanted.get(name)] == []


def test_turned_off_nothing_is_left(used: Watched) -> None:
    lab = used.lab
    ours = WATCHING
    others = {name: when for name, when in lab.started().items() if name not in ours}
    predicted = lab.playbook("site.yml", "--check", variables=OFF).check()
    assert {name for name, what in predicted.plan.items() if what == "remove"} == WATCHING
    # It is killed, and the next one does what it has not done.
    run_and_kill(lab, BEFORE_CONVERGING, OFF)
    lab.playbook("site.yml", variables=OFF).check()
    assert {name: when for name, when in lab.started().items() if name not in ours} == others
    assert not set(WATCHING) & lab.services()
    left = ["compose.d/observability.yml", "config/prometheus", "config/alertmanager"]
    left += ["config/blackbox", "data/prometheus", "data/alertmanager"]
    left += ["config/alloy", "config/loki", "data/alloy", "data/loki"]
    left += ["config/grafana", "data/grafana"]
    gone = lab.session().get(f"{lab.https}/grafana/login", timeout=60)
    assert "Grafana" not in gone.text
    assert lab.run(f"cd /srv/vedfolnir && ls -d {' '.join(left)} 2>/dev/null; true") == ""
    accounts = mysql(used, "SELECT user FROM mysql.user").split()
    assert not {"vedfolnir_monitor", "vedfolnir_tasks"} & set(accounts)
    acl = lab.run(f"cat {RUNTIME}/redis/users.acl")
    assert "user monitor" not in acl
    assert "user tasks" not in acl
    directories = lab.run(f"ls {RUNTIME}").split()
    assert not WATCHING & set(directories)
    again = lab.playbook("site.yml", variables=OFF).check()
    assert again.recap["changed"] == 0, again.output[-4000:]
    # On a host where nothing of it is, check mode knows what will come.
    predicted = used.deploy("--check").check()
    assert {name for name, what in predicted.plan.items() if what == "create"} == WATCHING
    assert not WATCHING & set(lab.inspect())
