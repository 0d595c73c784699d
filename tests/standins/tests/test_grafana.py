"""The Grafana stand-in: what it takes, what it refuses, who gets in."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
import typing as t
from pathlib import Path

import pytest
import requests
import yaml
from standin_services import STANDINS, Program, free_port, wait_for

PROGRAM = str(STANDINS / "grafana" / "grafana.py")
DASHBOARDS = STANDINS.parents[1] / "files/dashboards"
PASSWORD = "a-password-of-the-tests"
INI = {
    "paths": {"data": "DIR/data", "provisioning": "DIR/provisioning"},
    "server": {
        "http_addr": "127.0.0.1",
        "root_url": "https://captions.example.org/grafana/",
        "serve_from_sub_path": "true",
    },
    "security": {"admin_password": "$__file{DIR/password}", "cookie_secure": "true"},
    "auth.anonymous": {"enabled": "false"},
}
SOURCE = {"name": "P", "uid": "prometheus", "type": "prometheus", "access": "proxy", "url": "URL"}
POINT = {
    "orgId": 1,
    "name": "operators",
    "receivers": [{"uid": "o", "type": "webhook", "settings": {"url": "http://x/"}}],
}
PANEL = {"id": 1, "type": "stat", "title": "P", "gridPos": {"x": 0, "y": 0, "w": 4, "h": 4}}
FILES: dict[str, t.Any] = {
    "datasources/a.yml": {"apiVersion": 1, "datasources": [SOURCE]},
    "dashboards/a.yml": {
        "apiVersion": 1,
        "providers": [
            {
                "name": "a",
                "type": "file",
                "folder": "F",
                "updateIntervalSeconds": 1,
                "options": {"path": "DIR/dashboards"},
            }
        ],
    },
    "alerting/a.yml": {
        "apiVersion": 1,
        "contactPoints": [POINT],
        "policies": [{"orgId": 1, "receiver": "operators"}],
    },
}


class Source(http.server.BaseHTTPRequestHandler):
    """Plays a data source."""

    def do_GET(self) -> None:
        """Answer with what was asked."""
        data = json.dumps({"asked": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args: t.Any) -> None:
        """Write nothing."""


class Grafana:
    """One installation in a directory."""

    def __init__(self, directory: Path) -> None:
        """Write the configuration."""
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ini = {name: dict(keys) for name, keys in INI.items()}
        self.ini["server"]["http_port"] = str(self.port)
        self.files: dict[str, t.Any] = json.loads(json.dumps(FILES))
        (directory / "password").write_text(PASSWORD)
        (directory / "dashboards").mkdir()

    def write(self) -> None:
        """Write what it starts with."""
        lines = [
            line
            for section, keys in self.ini.items()
            for line in (f"[{section}]", *(f"{key} = {value}" for key, value in keys.items()))
        ]
        self._file("grafana.ini", "\n".join(lines))
        for name, content in self.files.items():
            self._file(f"provisioning/{name}", yaml.safe_dump(content))

    def _file(self, name: str, text: str) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("DIR", str(self.directory)))

    def argv(self, *arguments: str) -> list[str]:
        """Return a command line."""
        config = ("--config", str(self.directory / "grafana.ini"))
        return [sys.executable, "-B", PROGRAM, arguments[0], *config, *arguments[1:]]

    def refused(self) -> str:
        """Return what it says when it does not start."""
        self.write()
        done = subprocess.run(
            self.argv("server"), capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 1, done.stdout
        return done.stderr

    def get(self, path: str, password: str = PASSWORD) -> requests.Response:
        """Ask as the administrator."""
        return requests.get(f"{self.url}/grafana{path}", auth=("admin", password), timeout=10)


@pytest.fixture
def grafana(tmp_path: Path) -> Grafana:
    """An installation that does not run."""
    return Grafana(tmp_path)


@pytest.fixture
def running(grafana: Grafana) -> t.Iterator[Grafana]:
    """One that runs, with the stack's own dashboards and a data source."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Source) as source:
        threading.Thread(target=source.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{source.server_address[1]}"
        grafana.files["datasources/a.yml"]["datasources"][0]["url"] = url
        grafana.write()
        for path in DASHBOARDS.glob("*.json"):
            (grafana.directory / "dashboards" / path.name).write_text(path.read_text("utf-8"))
        log = grafana.directory / "log"
        program = Program(grafana.argv("server"), log, {**os.environ}, grafana.directory)
        wait_for(lambda: requests.get(f"{grafana.url}/api/health", timeout=5).ok, 20, "health")
        yield grafana
        program.stop()
        source.shutdown()


def test_what_is_provisioned_is_there(running: Grafana) -> None:
    assert running.get("/api/datasources").json()[0]["uid"] == "prometheus"
    found = running.get("/api/search").json()
    assert {page["folderTitle"] for page in found} == {"F"}
    assert len(found) == len(list(DASHBOARDS.glob("*.json"))), (
        running.directory / "log"
    ).read_text()
    page = running.get(f"/api/dashboards/uid/{found[0]['uid']}").json()
    assert page["dashboard"]["title"] == found[0]["title"]
    points = running.get("/api/v1/provisioning/contact-points").json()
    assert [point["name"] for point in points] == ["operators"]
    assert running.get("/api/v1/provisioning/policies").json()["receiver"] == "operators"
    asked = running.get("/api/datasources/proxy/uid/prometheus/api/v1/query?query=up").json()
    assert asked == {"asked": "/api/v1/query?query=up"}
    assert running.get("/api/datasources/uid/prometheus/health").json() == {"status": "OK"}
    assert running.get("/api/datasources/uid/other/health").status_code == 404


def test_nobody_gets_in_without_the_password(running: Grafana) -> None:
    base = f"{running.url}/grafana"
    assert requests.get(f"{base}/api/search", timeout=5).status_code == 401
    assert running.get("/api/search", "wrong").status_code == 401
    page = requests.get(f"{base}/", timeout=5, allow_redirects=False)
    assert (page.status_code, page.headers["Location"]) == (302, "/grafana/login")
    away = requests.get(f"{running.url}/d/x", timeout=5, allow_redirects=False)
    assert away.headers["Location"] == "/grafana/d/x"
    wrong = requests.post(f"{base}/login", json={"user": "admin", "password": "x"}, timeout=5)
    assert wrong.status_code == 401
    form = {"user": "admin", "password": PASSWORD}
    right = requests.post(f"{base}/login", json=form, timeout=5)
    cookie = right.headers["Set-Cookie"]
    assert {"HttpOnly", "Secure", "Path=/grafana"} <= set(cookie.split("; "))
    inside = {"Cookie": cookie.partition(";")[0]}
    assert requests.get(f"{base}/api/user", headers=inside, timeout=5).json()["login"] == "admin"
    for path in ("/api/health", "/metrics"):
        assert requests.get(base + path, timeout=5).status_code == 200


def test_the_password_is_changed_while_it_runs(running: Grafana) -> None:
    reset = running.argv("cli", "admin", "reset-admin-password", "--password-from-stdin")
    subprocess.run(reset, input="another-password\n", text=True, check=True)
    assert running.get("/api/user").status_code == 401
    assert running.get("/api/user", "another-password").status_code == 200
    short = subprocess.run(reset, input="x\n", text=True, check=False, capture_output=True)
    assert short.returncode == 1
    url = f"{running.url}/grafana/api/admin/users/1/password"
    body = {"password": "a-third-password"}
    assert requests.put(url, json=body, auth=("admin", "x"), timeout=5).status_code == 401
    assert requests.put(url, json=body, auth=("admin", "another-password"), timeout=5).ok
    assert running.get("/api/user", "a-third-password").status_code == 200


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("securty", "cookie_secure", "true", "not known: [securty]"),
        ("security", "cookie_sekure", "true", "not known: [security] cookie_sekure"),
        ("auth.anonymous", "enabled", "maybe", "'maybe' is neither true nor false"),
        ("server", "http_port", "x", "is no number"),
        ("security", "admin_password", "$__file{/no/such}", "/no/such cannot be read"),
    ],
)
def test_wrong_settings_are_refused(
    grafana: Grafana, section: str, key: str, value: str, said: str
) -> None:
    grafana.ini.setdefault(section, {})[key] = value
    assert said in grafana.refused()


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("datasources/a.yml", {"datasource": []}, "datasource: is not known"),
        ("datasources/a.yml", {"datasources": [{"name": "x"}]}, "datasources[0].type: is missing"),
        ("datasources/a.yml", {"datasources": [SOURCE, SOURCE]}, "have the same uid"),
        (
            "datasources/a.yml",
            {"datasources": [{**SOURCE, "type": "prometeus"}]},
            "prometeus is no known type",
        ),
        ("datasources/a.yml", {"datasources": [{**SOURCE, "access": "p"}]}, "neither proxy nor"),
        (
            "datasources/a.yml",
            {"datasources": [{**SOURCE, "isDefault": True}, {**SOURCE, "isDefault": True}]},
            "only one data source can be the default",
        ),
        ("dashboards/a.yml", {"providers": [{"name": "x", "type": "file"}]}, "options: is missing"),
        ("alerting/a.yml", {"policies": [{"orgId": 1, "receiver": "x"}]}, "no contact point x"),
        ("alerting/a.yml", {"apiVersion": "1"}, "apiVersion: '1' has the wrong type"),
        (
            "alerting/a.yml",
            {"contactPoints": [{**POINT, "receivers": [{**POINT["receivers"][0], "type": "x"}]}]},  # type: ignore[index]
            "x is no known type",
        ),
    ],
)
def test_wrong_files_are_refused(
    grafana: Grafana, file: str, change: dict[str, t.Any], said: str
) -> None:
    grafana.files[file] |= change
    assert said in grafana.refused()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"uid": "a b"}, "uid: 'a b' is none"),
        ({"title": " "}, "title: is empty"),
        ({"panel": []}, "panel: is not known"),
        ({"panels": [{"id": 1}]}, "panels[0].type: is missing"),
        ({"schemaVersion": "39"}, "schemaVersion: '39' has the wrong type"),
        ({"panels": [{**PANEL, "type": "graf"}]}, "panel P: graf is no known type"),
        (
            {"panels": [{**PANEL, "datasource": {"uid": "elsewhere"}}]},
            "panel P: there is no data source elsewhere",
        ),
        ({"panels": [PANEL, PANEL]}, "two panels have the same id"),
    ],
)
def test_a_wrong_dashboard_is_named_and_not_shown(
    running: Grafana, change: dict[str, t.Any], said: str
) -> None:
    page = json.loads((DASHBOARDS / "overview.json").read_text("utf-8")) | change
    (running.directory / "dashboards" / "overview.json").write_text(json.dumps(page))

    def named() -> bool:
        running.get("/api/search")
        return said in (running.directory / "log").read_text()

    wait_for(named, 15, said)
    uids = {found["uid"] for found in running.get("/api/search").json()}
    assert "vedfolnir-overview" not in uids
    assert "vedfolnir-application" in uids
