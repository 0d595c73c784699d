from __future__ import annotations

import datetime
import http.server
import json
import pathlib
import socket
import ssl
import threading
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import health, secrets

RUNNING = {"Service": "redis", "State": "running", "Health": "healthy", "ExitCode": 0}
Serve = t.Callable[..., health.Site]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(RUNNING) + "\n" + json.dumps(RUNNING | {"Service": "mysql"}) + "\n",
        json.dumps([RUNNING, RUNNING | {"Service": "mysql"}]),
    ],
    ids=["lines", "list"],
)
def test_both_spellings_of_compose_are_read(text: str) -> None:
    assert [item["Service"] for item in health.parse_containers(text)] == ["redis", "mysql"]


def test_no_container_is_no_line() -> None:
    assert health.parse_containers("\n") == []


@pytest.mark.parametrize(
    ("container", "problem"),
    [
        (RUNNING, None),
        (RUNNING | {"Health": ""}, None),
        (RUNNING | {"Health": "starting"}, "redis is running, but starting"),
        (RUNNING | {"Health": "unhealthy"}, "redis is running, but unhealthy"),
        (
            RUNNING | {"State": "exited", "ExitCode": 137, "Health": ""},
            "redis is exited with status 137",
        ),
        (RUNNING | {"State": "restarting"}, "redis is restarting"),
        ({"Service": "other", "State": "running"}, "redis is missing"),
    ],
)
def test_a_service_is_judged(container: dict[str, t.Any], problem: str | None) -> None:
    services = health.judge(["redis"], [container])
    found = [text for text in health.problems(services, {}) if text.startswith("redis")]
    assert found == ([problem] if problem else [])


def test_what_nobody_wants_is_a_problem() -> None:
    services = health.judge([], [RUNNING])
    assert health.problems(services, {}) == ["redis is left over"]


@pytest.mark.parametrize(
    ("publishers", "port"),
    [
        ([{"TargetPort": 8443, "PublishedPort": 443}], 443),
        ([{"TargetPort": 8080, "PublishedPort": 80}], None),
        ([{"TargetPort": 8443, "PublishedPort": 0}], None),
        (None, None),
    ],
)
def test_the_published_port_is_found(publishers: t.Any, port: int | None) -> None:
    containers = [RUNNING, {"Service": "nginx", "Publishers": publishers}]
    assert health.published_port(containers, "nginx", 8443) == port


@pytest.fixture
def serve(tmp_path: pathlib.Path) -> t.Iterator[Serve]:
    """Run a site with a certificate of an own authority."""
    running: list[http.server.HTTPServer] = []
    authority = secrets.make_ca("Test CA")
    known = tmp_path / "ca.pem"
    known.write_text(authority["certificate"])

    def run(status: int = 200, *, named: str = "site.test", trusted: bool = True) -> health.Site:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = f"{self.headers['Host']} {self.path}".encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: t.Any) -> None:
                """Say nothing."""

        leaf = secrets.make_leaf(authority, [named])
        pem = tmp_path / "site.pem"
        pem.write_text(leaf["certificate"] + leaf["private_key"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return {
            "name": "site.test",
            "path": "/health/ready",
            "port": server.server_address[1],
            "authorities": str(known if trusted else tmp_path / "absent.pem"),
        }

    yield run
    for server in running:
        server.shutdown()
        server.server_close()


def test_a_ready_site_is_ok(serve: Serve) -> None:
    answer = health.ask(serve())
    assert (answer["ok"], answer["status"], answer["certificate"]) == (True, 200, "trusted")
    assert answer["answer"] == "site.test /health/ready"


def test_an_unknown_authority_is_reported_and_no_problem(serve: Serve) -> None:
    answer = health.ask(serve(trusted=False))
    assert answer["ok"]
    assert "unable to get local issuer certificate" in answer["certificate"]


def test_a_site_that_is_not_ready_says_what_is_wrong(serve: Serve) -> None:
    site = serve(503)
    answer = health.ask(site)
    url = f"https://site.test:{site['port']}/health/ready"
    message = f"{url} answers 503: site.test /health/ready"
    assert health.problems({}, answer) == [message]


def test_a_certificate_for_another_name_is_a_problem(serve: Serve) -> None:
    answer = health.ask(serve(named="other.test"))
    assert not answer["ok"]
    assert "certificate is not valid for 'site.test'" in answer["error"]
    assert answer["status"] == 200


def test_an_expired_certificate_is_a_problem(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=500)
    monkeypatch.setattr(secrets, "_now", lambda: long_ago)
    answer = health.ask(serve())
    assert not answer["ok"]
    assert "certificate has expired" in answer["error"]


@pytest.mark.parametrize(
    ("port", "message"), [(1, "does not answer: "), (0, "no port is published")]
)
def test_a_site_that_is_away(port: int, message: str) -> None:
    answer = health.ask({"name": "site.test", "path": "/", "port": port, "authorities": ""})
    assert not answer["ok"]
    assert message in answer["error"]


def test_each_replica_is_asked_inside_its_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def container(name: str, address: str, state: str = "running") -> dict[str, t.Any]:
            networks = {"p_edge": {"IPAddress": "192.0.2.1"}, "p_internal": {"IPAddress": address}}
            return {
                "Labels": {"com.docker.compose.service": name},
                "State": state,
                "NetworkSettings": {"Networks": networks if address else {}},
            }

        containers = [
            container("app-2", "127.0.0.2"),
            container("app-1", "127.0.0.1"),
            container("app-3", ""),
            container("app-4", "127.0.0.1", "exited"),
            container("redis", "127.0.0.1"),
        ]
        doors = [{"service": "app", "network": "internal", "port": port}]
        found = health.knock(containers, doors)
    assert found.pop("app-2").startswith(f"does not answer at 127.0.0.2:{port}: ")
    assert found == {"app-1": "", "app-3": "has no address"}


def test_what_does_not_answer_inside_is_a_problem() -> None:
    inside = {"app-1": "", "mysql": "does not answer"}
    assert health.problems({}, {}, inside) == ["mysql does not answer"]


def test_another_address_than_this_host_can_be_asked(serve: Serve) -> None:
    site = serve()
    assert health.ask({**site, "address": "localhost"})["ok"]
    assert "does not answer" in health.ask({**site, "address": "127.0.0.9"})["error"]
