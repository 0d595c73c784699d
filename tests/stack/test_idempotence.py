"""What a run changes: nothing when nothing is to do, and exactly what an option concerns."""

from __future__ import annotations

import json
import shlex
import typing as t
import uuid

import pytest
from lab import Lab
from strangers import Answer, ask

APP = {"app-1", "app-2", "worker"}
HTTPS = 8443
RELOADED: dict[str, t.Any] = {
    # nginx reads these without a restart; the others are of services that it knows nothing of.
    "nginx_body_max_mb": 20,
    "nginx_registration_enabled": True,
    "redis_maxmemory_percent": 50,
    "ollama_keep_alive": "7m",
}
RESTARTS: list[tuple[dict[str, t.Any], set[str], set[str]]] = [
    (RELOADED, {"redis", "ollama"}, set()),
    (
        {"mysql_slow_query_seconds": 3, "app_admin_email": "other@example.org"},
        {"mysql"},
        {"app-admin"},
    ),
    (
        {
            "app_log_level": "WARNING",
            "mysql_users_absent": [{"name": "gone", "host": "localhost"}],
        },
        APP,
        {"mysql-users"},
    ),
    (
        {"app_memory_mb": 400, "app_worker_memory_mb": 400, "nginx_memory_mb": 200},
        {*APP, "nginx"},
        set(),
    ),
]
"""Options of one or two services, the containers that a run with them must replace and the jobs
that it must run, no others. Two in one run are of services that know nothing of each other."""


def ran(lab: Lab) -> dict[str, str]:
    """Return the digest with which each job ran last."""
    found: dict[str, str] = json.loads(lab.run("cat /srv/vedfolnir/.state/jobs.json"))
    return found


def replaced(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Return the services with another container or start, or the jobs that ran another way."""
    return {name for name in set(before) | set(after) if before.get(name) != after.get(name)}


def not_loaded(lab: Lab) -> list[str]:
    """Return which of the reloaded options nginx does not follow."""
    session, path = lab.session(), f"{lab.https}/api/csp-report"
    statuses = {size: session.post(path, data=b"x" * size * 2**20).status_code for size in (19, 21)}
    registrations = ask(lab, "POST", "/user-management/register", 10)
    followed = {
        "19 MB are too many": statuses[19] != 413,
        "21 MB are not too many": statuses[21] == 413,
        "registration is closed": not any(answer.status == 403 for answer in registrations),
        "registration has no limit": registrations[Answer(429, "10")] > 0,
    }
    return [problem for problem, holds in followed.items() if not holds]


_ASK = """
import http.client, json, ssl, sys
names = json.loads(sys.argv[1])
context = ssl._create_unverified_context()
for given in names["ids"]:
    connection = http.client.HTTPSConnection("nginx", names["port"], context=context, timeout=60)
    headers = {"Host": names["host"], "X-Request-ID": given}
    connection.request("GET", "/health/ready", headers=headers)
    print(connection.getresponse().headers["X-Request-ID"])
"""


def edge_address(lab: Lab, service: str) -> str:
    """Return where a service is on the network of nginx."""
    networks = lab.inspect()[service]["NetworkSettings"]["Networks"]
    (address,) = [own["IPAddress"] for name, own in networks.items() if name.endswith("edge")]
    return str(address)


def ids_from(lab: Lab, service: str, *ids: str) -> list[str]:
    """Return under which ids nginx answers when a container asks with ids of its own."""
    names = {"ids": ids, "port": HTTPS, "host": lab.variables["stack_domain"]}
    words = ["python3", "-c", _ASK, json.dumps(names)]
    done = lab.exec(service, shlex.join(words))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def wrongly_followed(lab: Lab) -> list[str]:
    """Return whose request id nginx follows wrongly while app-1 is a trusted proxy."""
    given = uuid.uuid4().hex
    outside = lab.session().get(lab.https, headers={"X-Request-ID": given}, timeout=60)
    proxy = ids_from(lab, "app-1", given, "of-our.own:1", "short", "no good id")
    holds = {
        "the id of a trusted proxy is replaced": proxy[:2] == [given, "of-our.own:1"],
        "a trusted proxy may say anything": not {"short", "no good id"} & set(proxy),
        "the id of a neighbour is followed": given not in ids_from(lab, "app-2", given),
        "the id of a visitor is followed": outside.headers["X-Request-ID"] != given,
    }
    return [problem for problem, well in holds.items() if not well]


@pytest.mark.usefixtures("healthy")
def test_a_second_run_changes_nothing_and_restarts_nothing(lab: Lab) -> None:
    """Also the baseline of the table below."""
    before = lab.started()
    run = lab.playbook().check()
    assert run.recap["changed"] == 0, run.output[-6000:]
    assert replaced(before, lab.started()) == set()


def test_check_mode_on_a_deployed_host_changes_nothing_and_predicts(healthy: Lab) -> None:
    """The plan names the service, what happens to it and no other; the host stays as it is."""
    before = healthy.started()
    changed = {"redis_maxmemory_percent": 50}
    run = healthy.playbook("site.yml", "--check", variables=changed).check()
    assert run.plan == {"redis": "recreate"}
    assert replaced(before, healthy.started()) == set()
    assert healthy.playbook("site.yml").check().recap["changed"] == 0


def test_an_option_replaces_exactly_the_services_of_the_table(healthy: Lab) -> None:
    """Each run also takes back the option of the run before, so both rows' services count."""
    previous: set[str] = set()
    findings: list[str] = []
    RELOADED["nginx_trusted_proxies"] = [edge_address(healthy, "app-1")]
    for variables, services, jobs in [*RESTARTS, ({}, set[str](), set[str]())]:
        before, recorded = healthy.started(), ran(healthy)
        run = healthy.playbook("site.yml", variables=variables).check()
        found = replaced(before, healthy.started()) | replaced(recorded, ran(healthy))
        expected = previous | services | jobs
        if found != expected:
            findings.append(f"{variables}: {sorted(found)}, expected {sorted(expected)}")
        assert run.recap["changed"] > 0, f"{variables}: nothing changed"
        if variables is RELOADED:
            findings += not_loaded(healthy) + wrongly_followed(healthy)
        previous = services | jobs
    assert not findings, "\n".join(findings)
