"""What the outside meets: nginx, its certificate, headers, limits, static files and pages."""

from __future__ import annotations

import http.client
import json
import pathlib
import re
import ssl
import subprocess
import sys
import time
import typing as t
import uuid

import pytest
import requests
from lab import Lab, wait_until
from strangers import Answer, ask

LOGIN = "/user-management/login"
CLOSED = [
    "/metrics",
    "/%6detrics",
    "//metrics",
    "/static/../metrics",
    "/static/..%2fmetrics",
    "/test_route",
    "/websocket-test",
    "/websocket-simple-test",
    "/cache-stats",
    "/api/container/health",
    "/api/container/environment",
]
MEDIUM_OR_ABOVE = {"MEDIUM", "HIGH", "CRITICAL", "FATAL"}
# An authority of the stack's own has one certificate and no revocation service: who loses the key
# takes the authority out of the clients' trust.
TESTSSL_WAIVED = {"cert_revocation"}
LIMITED = [
    ("login", "POST", LOGIN, 12),
    ("password", "POST", "/user-management/forgot-password", 10),
    ("password", "POST", "/user-management/reset-password/no-such-token", 10),
    ("api", "GET", "/api/no-such-thing", 200),
    ("health", "GET", "/health", 40),
]
"""Zone, a request that it counts, and how many at once are too many. Registration is closed here,
test_idempotence.py has its limit."""
BAD_CONFIG = "http { server { location ~ /old/(.*)$ { return 302 https://$1; } } }"
"""Sends visitors to whatever host is in the path."""


def _raw(lab: Lab, path: str, **headers: str) -> http.client.HTTPResponse:
    """Ask for a path as it is, without a client that tidies it up."""
    context = ssl.create_default_context(cafile=lab.ca)
    connection = http.client.HTTPSConnection(
        "127.0.0.1", lab.port(443), context=context, timeout=60
    )
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    return answer


NEWEST_STATIC = 'cd "$(ls -td /srv/vedfolnir/static/*/ | head -n 1)"'
"""An update exports into a directory of its own; the one before stays for pages that are open."""


def _static_file(lab: Lab, suffix: str) -> str:
    """Return the path of an exported static file of the application."""
    found = lab.run(f"{NEWEST_STATIC} && cd static && find . -name '*{suffix}' -size +1k | sort")
    assert found, f"no static file {suffix} was exported"
    return "/static/" + found.splitlines()[0].removeprefix("./")


def _access_log(lab: Lab, request_id: str) -> dict[str, str]:
    """Return nginx's log entry of a request."""
    command = (
        f"docker logs --since 5m $(docker compose ps -q nginx) 2>/dev/null | grep {request_id}"
    )
    lines = lab.run(f"cd /srv/vedfolnir && sleep 1 && {command}").splitlines()
    return t.cast("dict[str, str]", json.loads(lines[-1]))


def _app_services(lab: Lab) -> list[str]:
    return sorted(name for name in lab.inspect() if re.fullmatch(r"app-\d+", name))


def _edge_address(lab: Lab, service: str) -> str:
    networks = lab.inspect()[service]["NetworkSettings"]["Networks"]
    (address,) = [own["IPAddress"] for name, own in networks.items() if name.endswith("edge")]
    return str(address)


def test_plain_http_is_sent_to_https(lab: Lab) -> None:
    address = f"http://127.0.0.1:{lab.port(80)}/some/page?a=b"
    answer = requests.get(address, allow_redirects=False, timeout=30)
    assert answer.status_code == 301
    assert answer.headers["Location"] == f"{lab.https}/some/page?a=b"
    strange = requests.get(
        address, headers={"Host": "evil.example"}, allow_redirects=False, timeout=30
    )
    domain = f"https://{lab.variables['stack_domain']}:{lab.port(443)}/some/page?a=b"
    assert strange.headers["Location"] == domain


def test_an_unknown_name_is_refused(lab: Lab) -> None:
    answer = lab.session().get(lab.https, headers={"Host": "evil.example"}, timeout=30)
    assert answer.status_code == 421


def test_security_headers_come_once_and_the_policy_is_the_applications(lab: Lab) -> None:
    answer = _raw(lab, LOGIN)
    assert answer.status == 200
    for name in (
        "Strict-Transport-Security",
        "Content-Security-Policy",
        "X-Content-Type-Options",
        "X-Frame-Options",
        "Referrer-Policy",
    ):
        values = answer.headers.get_all(name) or []
        assert len(values) == 1, f"{name}: {values}"
    assert "nonce-" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Server"] == "nginx"
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_cookies_are_bound_to_https(lab: Lab) -> None:
    cookies = _raw(lab, LOGIN).headers.get_all("Set-Cookie") or []
    assert [cookie for cookie in cookies if cookie.startswith("vedfolnir_route=")]
    for cookie in cookies:
        flags = {flag.strip().lower() for flag in cookie.split(";")[1:]}
        assert {"secure", "httponly", "samesite=lax"} <= flags, cookie


def test_the_route_cookie_is_given_with_a_first_page_only(lab: Lab) -> None:
    session = lab.session()
    assert "vedfolnir_route" in session.get(lab.https + LOGIN, timeout=30).cookies
    assert "vedfolnir_route" not in session.get(lab.https + LOGIN, timeout=30).cookies
    polling = _raw(lab, "/socket.io/?EIO=4&transport=polling")
    assert polling.status == 200
    assert not polling.headers.get_all("Set-Cookie")


def test_a_route_stays_on_one_replica(lab: Lab) -> None:
    assert len(_app_services(lab)) == 2, "with one replica nothing would be proven"
    seen = set()
    for _round in range(12):
        route = uuid.uuid4().hex
        upstreams = set()
        for path in ("/", "/socket.io/?EIO=4&transport=polling", LOGIN):
            answer = _raw(lab, path, Cookie=f"vedfolnir_route={route}")
            upstreams.add(_access_log(lab, answer.headers["X-Request-ID"])["upstream"])
        assert len(upstreams) == 1
        seen |= upstreams
    assert len(seen) > 1


def test_the_absence_of_a_replica_is_noticed_by_nobody(healthy: Lab) -> None:
    """Its visitors are served by the other one, without waiting; it returns to its address."""
    before = _edge_address(healthy, "app-1")
    healthy.compose("stop app-1")
    retried = 0
    for _round in range(12):
        began = time.monotonic()
        answer = _raw(healthy, LOGIN, Cookie=f"vedfolnir_route={uuid.uuid4().hex}")
        seconds = time.monotonic() - began
        assert answer.status == 200
        upstream = _access_log(healthy, answer.headers["X-Request-ID"])["upstream"]
        if before in upstream:
            retried += 1
            assert "," in upstream
            assert seconds < 5, upstream
    assert retried > 0
    healthy.compose("rm --force app-1")
    healthy.compose("up --detach --wait --wait-timeout 300")
    assert _edge_address(healthy, "app-1") == before


def test_the_clients_address_cannot_be_forged(lab: Lab) -> None:
    """The audit log of the application takes the left-most X-Forwarded-For."""
    agent = f"forger-{uuid.uuid4().hex}"
    forged = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Real-IP": "203.0.113.9",
        "Forwarded": "for=203.0.113.9",
    }
    form = {"username_or_email": "nobody", "password": "wrong"}
    answer = lab.session().post(
        lab.https + LOGIN, data=form, headers={"User-Agent": agent, **forged}, timeout=30
    )
    assert answer.status_code == 200
    logged = _access_log(lab, answer.headers["X-Request-ID"])["client"]
    query = f"SELECT ip_address FROM vedfolnir.user_audit_log WHERE user_agent = '{agent}'"  # noqa: S608
    result = lab.exec(
        "mysql", f'MYSQL_PWD="$(cat /run/secrets/root_password)" mysql -uroot -N -e "{query}"'
    )
    assert result.stdout.split() == [logged], result.stderr
    assert logged != "203.0.113.9"


def test_a_request_id_from_outside_is_replaced(lab: Lab) -> None:
    answer = _raw(lab, "/", **{"X-Request-ID": "f" * 32})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-ID"])
    assert answer.headers["X-Request-ID"] != "f" * 32


@pytest.mark.parametrize("path", CLOSED)
def test_what_is_not_for_the_outside_is_closed(lab: Lab, path: str) -> None:
    answer = _raw(lab, path)
    assert answer.status == 404
    # The page is nginx's own, the request did not reach the application.
    assert _access_log(lab, answer.headers["X-Request-ID"])["upstream"] == ""


def test_registration_is_closed(lab: Lab) -> None:
    assert _raw(lab, "/user-management/register").status == 403


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_health_is_open_to_monitors(lab: Lab, path: str) -> None:
    answers = [_raw(lab, path).status for _number in range(20)]
    assert answers == [200] * 20


def test_every_zone_is_tried(lab: Lab) -> None:
    """A new one must not be forgotten."""
    config = lab.run("cat /srv/vedfolnir/config/nginx/nginx.conf")
    zones = set(re.findall(r"limit_req_zone \S+ zone=(\w+):", config))
    assert zones == {zone for zone, *_request in LIMITED} | {"register"}


@pytest.mark.parametrize(("zone", "method", "path", "count"), LIMITED)
def test_too_many_requests_are_refused(
    lab: Lab, zone: str, method: str, path: str, count: int
) -> None:
    answers = ask(lab, method, path, count)
    refused = answers.pop(Answer(429, "10"), 0)
    assert refused > 0, f"{zone}: {answers}"
    assert all(answer.status < 429 for answer in answers), f"{zone}: {answers}"


def test_forms_and_static_files_are_never_limited(lab: Lab) -> None:
    """Many more than all the limits allow, at once."""
    for path, count in ((LOGIN, 40), (_static_file(lab, ".css"), 200)):
        assert ask(lab, "GET", path, count) == {Answer(200, "-"): count}


def test_static_files_come_from_nginx_compressed_and_cached(lab: Lab) -> None:
    path = _static_file(lab, ".css")
    answer = _raw(lab, path, **{"Accept-Encoding": "gzip"})
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/css")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert answer.headers["Cache-Control"] == "max-age=86400"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in answer.headers
    again = _raw(lab, path, **{"Accept-Encoding": "gzip", "If-None-Match": answer.headers["ETag"]})
    assert again.status == 304
    assert _raw(lab, "/static/no-such-file.css").status == 404


def test_static_files_of_the_admin_pages_are_served_too(lab: Lab) -> None:
    command = f"{NEWEST_STATIC} && cd admin/admin/static && find . -type f | sort"
    found = lab.run(command).splitlines()
    assert found
    assert _raw(lab, "/admin/admin/static/" + found[0].removeprefix("./")).status == 200


def test_pages_are_not_compressed(lab: Lab) -> None:
    """The length of a page with a secret and a visitor's words tells the secret (BREACH)."""
    assert "Content-Encoding" not in _raw(lab, LOGIN, **{"Accept-Encoding": "gzip, br"}).headers


def test_a_request_that_is_too_large_is_refused(lab: Lab) -> None:
    answer = lab.session().post(
        lab.https + "/api/csp-report", data=b"x" * (17 * 1024 * 1024), timeout=60
    )
    assert answer.status_code == 413


def test_tokens_reach_neither_log_nor_referer(lab: Lab) -> None:
    token = uuid.uuid4().hex
    answer = _raw(lab, f"/user-management/reset-password/{token}?again={token}")
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    entry = _access_log(lab, answer.headers["X-Request-ID"])
    assert entry["path"] == "/user-management/reset-password/[redacted]"
    logs = lab.compose("logs --no-log-prefix --since 5m nginx")
    assert answer.headers["X-Request-ID"] in logs
    assert token not in logs


def test_the_status_page_is_inside_only(lab: Lab) -> None:
    assert "Active connections" not in lab.session().get(lab.https + "/status", timeout=30).text
    request = (
        "exec 3<>/dev/tcp/127.0.0.1/8081; printf 'GET /status HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
    )
    assert "Active connections" in lab.exec("nginx", f'bash -c "{request}"').stdout


def test_a_page_says_so_while_the_application_is_away(healthy: Lab) -> None:
    services = " ".join(_app_services(healthy))
    healthy.compose(f"stop {services}")
    page = healthy.session().get(healthy.https + LOGIN, headers={"Accept": "text/html"}, timeout=60)
    assert page.status_code == 503
    assert page.headers["Retry-After"] == "10"
    assert "Back in a moment" in page.text
    assert "src=" not in page.text
    assert "href=" not in page.text
    posted = healthy.session().post(healthy.https + "/api/csp-report", json={}, timeout=60)
    assert posted.status_code == 503
    assert posted.json()["error"] == "Back in a moment"
    static = healthy.session().get(healthy.https + _static_file(healthy, ".css"), timeout=30)
    assert static.status_code == 200
    healthy.compose(f"up --detach --wait --wait-timeout 300 {services}")
    # The new address is found without a reload, in the time that Retry-After promised.
    wait_until(lambda: _raw(healthy, "/health/ready").status == 200, 10, "the page is not back")


def _audit(config: pathlib.Path, text: str) -> list[dict[str, t.Any]]:
    """Return what gixy finds in a configuration; of one that it cannot read that is nothing."""
    config.write_text(text, encoding="utf-8")
    gixy = pathlib.Path(sys.executable).with_name("gixy")
    audit = subprocess.run(
        [str(gixy), "-f", "json", str(config)], capture_output=True, text=True, check=False
    )
    findings: list[dict[str, t.Any]] = json.loads(audit.stdout)
    assert audit.returncode == (1 if findings else 0), audit.stderr
    return findings


def test_the_configuration_is_accepted_and_clean(lab: Lab, tmp_path: pathlib.Path) -> None:
    result = lab.exec("nginx", "nginx -t")
    assert result.returncode == 0, result.stderr
    assert "warn" not in result.stderr
    config = tmp_path / "nginx.conf"
    text = lab.run("cat /srv/vedfolnir/config/nginx/nginx.conf")
    assert _audit(config, text) == []
    # The same text and one more block: so the audit could read it, and did so to its end.
    assert "http_splitting" in {finding["plugin"] for finding in _audit(config, text + BAD_CONFIG)}


def test_a_broken_configuration_does_not_replace_the_running_one(lab: Lab) -> None:
    """The check that the deployment runs before it writes the file."""
    directory = "/srv/vedfolnir/config/nginx"
    check = f"/usr/local/lib/vedfolnir/nginx-check {directory}/.candidate"
    lab.run(f"cp {directory}/nginx.conf {directory}/.candidate")
    try:
        lab.run(check)
        lab.run(f"echo 'no_such_directive on;' >> {directory}/.candidate")
        broken = lab.ssh(check)
    finally:
        lab.run(f"rm {directory}/.candidate")
    assert broken.returncode != 0
    assert 'unknown directive "no_such_directive"' in broken.stderr


@pytest.mark.slow
def test_testssl_grades_a_and_finds_nothing_serious(lab: Lab) -> None:
    """Debian 13 has the release that grades, so it runs on the lab host."""
    domain = lab.variables["stack_domain"]
    lab.run(
        "command -v testssl >/dev/null || apt-get install -y --no-install-recommends testssl.sh",
        600,
    )
    # Its exit status counts what it was unsure of; the report says what it found.
    lab.ssh(
        "cd /tmp && cp /run/vedfolnir/secrets/nginx/ca.pem site-ca.pem && rm -f testssl.json && "
        f"testssl --quiet --color 0 --warnings off --ip 127.0.0.1 --add-ca site-ca.pem "
        f"--jsonfile testssl.json https://{domain}:443 >testssl.txt",
        1200,
    )
    findings = json.loads(lab.run("cat /tmp/testssl.json"))
    grade = next(item["finding"] for item in findings if item["id"] == "overall_grade")
    serious = [
        f"{item['id']} {item['severity']}: {item['finding']}"
        for item in findings
        if item["severity"] in MEDIUM_OR_ABOVE and item["id"] not in TESTSSL_WAIVED
    ]
    assert serious == []
    assert grade in {"A", "A+"}
