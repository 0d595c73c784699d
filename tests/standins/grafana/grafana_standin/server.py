"""Grafana's HTTP interface, as far as the stack and its tests use it."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import http
import http.cookies
import http.server
import json
import sys
import time
import typing as t
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from grafana_standin import provisioning
from grafana_standin.settings import Settings
from grafana_standin.store import ADMIN, Store

VERSION = "12.1.1-standin"
INTERVAL = 10
"""Seconds after which dashboards are read again, unless their provider says otherwise."""
OPEN = ("/api/health", "/healthz", "/metrics")
"""What is answered without a login, and without the path below which all is served."""

Answer = tuple[int, t.Any]


def say(level: str, message: str) -> None:
    """Write a line of the log."""
    sys.stdout.write(f"logger=standin level={level} msg={json.dumps(message)}\n")
    sys.stdout.flush()


@dataclasses.dataclass
class Grafana:
    """One server's settings and what it has."""

    settings: Settings
    store: Store
    provisioned: provisioning.Provisioned
    pages: dict[str, dict[str, t.Any]] = dataclasses.field(default_factory=dict)
    read_at: float = 0.0
    requests: int = 0

    def dashboards(self) -> dict[str, dict[str, t.Any]]:
        """Return the dashboards, read again from time to time."""
        providers = self.provisioned.providers
        interval = min((one.get("updateIntervalSeconds", INTERVAL) for one in providers), default=0)
        if time.monotonic() - self.read_at >= interval or not self.read_at:
            self.pages, wrong = provisioning.dashboards(self.provisioned)
            self.read_at = time.monotonic()
            for text in wrong:
                say("error", f"failed to load dashboard: {text}")
        return self.pages

    def source(self, uid: str) -> dict[str, t.Any] | None:
        """Return a data source."""
        found = [one for one in self.provisioned.sources if one.get("uid") == uid]
        return found[0] if found else None


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request."""

    grafana: Grafana
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer a question."""
        self._answer("GET")

    def do_POST(self) -> None:
        """Answer a question, or log somebody in."""
        self._answer("POST")

    def do_PUT(self) -> None:
        """Change something."""
        self._answer("PUT")

    def log_message(self, *_args: t.Any) -> None:
        """Write nothing: the level of the stack's configuration is warn."""

    # How

    def _answer(self, method: str) -> None:
        self.grafana.requests += 1
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size else b""
        split = urllib.parse.urlsplit(self.path)
        prefix, path = self.grafana.settings.prefix, split.path
        if prefix and (path == prefix or path.startswith(f"{prefix}/")):
            path = path[len(prefix) :] or "/"
        elif prefix and path not in OPEN:
            self._send(301, "", {"Location": f"{prefix}{path}"})
            return
        if path in OPEN:
            self._open(path)
        elif path == "/login":
            self._login(method, body)
        elif not (user := self._user()):
            away = {} if path.startswith("/api/") else {"Location": f"{prefix}/login"}
            self._send(302 if away else 401, {"message": "Unauthorized"}, away)
        else:
            query = dict(urllib.parse.parse_qsl(split.query))
            status, content = self._inside(method, path, query, body, user)
            self._send(status, content)

    def _send(
        self, status: int, content: t.Any, headers: t.Mapping[str, str] | None = None
    ) -> None:
        plain = isinstance(content, str)
        text = content if plain else json.dumps(content)
        kind = "text/html; charset=UTF-8" if plain else "application/json; charset=UTF-8"
        data = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _open(self, path: str) -> None:
        if path == "/metrics" and not self.grafana.settings.flag("metrics", "enabled", True):
            self._send(404, {"message": "Not found"})
        elif path == "/metrics":
            count = len(self.grafana.dashboards())
            lines = (
                f'grafana_build_info{{version="{VERSION}"}} 1',
                f"grafana_stat_totals_dashboard {count}",
                f"grafana_http_request_duration_seconds_count {self.grafana.requests}",
            )
            text = "".join(f"{line}\n" for line in lines)
            self._send(200, text, {"Content-Type": "text/plain; version=0.0.4"})
        elif path == "/healthz":
            self._send(200, "Ok")
        else:
            self._send(200, {"database": "ok", "version": VERSION, "commit": "standin"})

    def _login(self, method: str, body: bytes) -> None:
        if method != "POST":
            self._send(200, "<!doctype html><title>Grafana</title>A stand-in of Grafana: log in.")
            return
        try:
            given = json.loads(body)
            user = self.grafana.store.user(str(given["user"]), str(given["password"]))
        except (ValueError, KeyError, TypeError):
            self._send(400, {"message": "bad login data"})
            return
        if not user:
            self._send(401, {"message": "Invalid username or password"})
            return
        settings = self.grafana.settings
        name = settings.text("auth", "login_cookie_name", "grafana_session")
        parts = [
            f"{name}={self.grafana.store.begin(user)}",
            f"Path={settings.prefix or '/'}",
            "HttpOnly",
            f"SameSite={settings.text('security', 'cookie_samesite', 'lax').capitalize()}",
        ]
        if settings.flag("security", "cookie_secure"):
            parts.append("Secure")
        self._send(200, {"message": "Logged in"}, {"Set-Cookie": "; ".join(parts)})

    def _user(self) -> int:
        """Return the number of the user who asks; 0 for nobody."""
        kind, _, given = (self.headers.get("Authorization") or "").partition(" ")
        if kind == "Basic" and self.grafana.settings.flag("auth.basic", "enabled", True):
            try:
                login, _, password = base64.b64decode(given, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return 0
            return self.grafana.store.user(login, password)
        cookies = http.cookies.SimpleCookie(self.headers.get("Cookie") or "")
        name = self.grafana.settings.text("auth", "login_cookie_name", "grafana_session")
        if name in cookies:
            return self.grafana.store.session(cookies[name].value)
        anonymous = self.grafana.settings.flag("auth.anonymous", "enabled")
        return ADMIN if anonymous else 0

    def _inside(
        self, method: str, path: str, query: dict[str, str], body: bytes, user: int
    ) -> Answer:
        if method == "PUT":
            return self._change(path, body, user)
        grafana = self.grafana
        fixed: dict[str, t.Callable[[], t.Any]] = {
            "/": lambda: "<!doctype html><title>Grafana</title>A stand-in of Grafana.",
            "/api/user": lambda: {"id": user, "login": "admin", "isGrafanaAdmin": True},
            "/api/org": lambda: {"id": 1, "name": "Main Org."},
            "/api/datasources": lambda: grafana.provisioned.sources,
            "/api/folders": lambda: [
                {"uid": one.get("folderUid", ""), "title": one.get("folder", "")}
                for one in grafana.provisioned.providers
            ],
            "/api/search": lambda: [
                {"uid": uid, "title": one["page"]["title"], "folderTitle": one["folder"]}
                for uid, one in grafana.dashboards().items()
            ],
            "/api/v1/provisioning/contact-points": lambda: [
                {"name": point["name"], **receiver}
                for point in grafana.provisioned.contact_points
                for receiver in point["receivers"]
            ],
            "/api/v1/provisioning/policies": lambda: (grafana.provisioned.policies or [{}])[0],
        }
        if path in fixed and method == "GET":
            return 200, fixed[path]()
        if path.startswith("/api/dashboards/uid/"):
            found = grafana.dashboards().get(path.rpartition("/")[2])
            if found:
                meta = {"folderTitle": found["folder"], "provisioned": True}
                return 200, {"dashboard": found["page"], "meta": meta}
            return 404, {"message": "Dashboard not found"}
        if path.startswith("/api/datasources/"):
            return self._data(method, path, query, body)
        return 404, {"message": "Not found"}

    def _data(self, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
        """Answer what is asked of a data source: whether it is well, or a question for itself."""
        parts = path.split("/")
        # /api/datasources/uid/UID/health and /api/datasources/proxy/uid/UID/…
        health = parts[3:4] == ["uid"] and parts[5:] == ["health"]
        uid, rest = (parts[4], []) if health else ("".join(parts[5:6]), parts[6:])
        source = self.grafana.source(uid)
        if source is None or not (health or parts[3:5] == ["proxy", "uid"]):
            return 404, {"message": "Data source not found"}
        ready = "ready" if source["type"] == "loki" else "-/ready"
        inner = ready if health else "/".join(rest)
        text = f"{source['url']}/{inner}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        kind = self.headers.get("Content-Type") or "application/x-www-form-urlencoded"
        request = urllib.request.Request(
            text, body or None, {"Content-Type": kind} if body else {}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                data, status = response.read(), response.status
        except urllib.error.HTTPError as exc:
            data, status = exc.read(), exc.code
        except OSError as exc:
            return 502, {"message": f"{source['name']} does not answer: {exc}"}
        if health:
            return status, {"status": "OK" if status == http.HTTPStatus.OK else "ERROR"}
        try:
            return status, json.loads(data)
        except ValueError:
            return status, data.decode(errors="replace")

    def _change(self, path: str, body: bytes, user: int) -> Answer:
        try:
            given = json.loads(body)
        except ValueError:
            return 400, {"message": "bad request data"}
        if path == f"/api/admin/users/{ADMIN}/password" and given.get("password"):
            self.grafana.store.set_password(str(given["password"]))
            return 200, {"message": "User password updated"}
        if path == "/api/user/password":
            if not self.grafana.store.user("admin", str(given.get("oldPassword"))):
                return 401, {"message": "Invalid old password"}
            self.grafana.store.set_password(str(given.get("newPassword")), user)
            return 200, {"message": "User password changed"}
        return 404, {"message": "Not found"}


def serve(settings: Settings) -> None:
    """Serve until it is ended.

    Raises:
        ProvisioningError: for files that are not as they must be.
        OSError: when the data cannot be written.
    """
    data: Path = settings.data
    data.mkdir(parents=True, exist_ok=True)
    store = Store(data)
    store.make(
        settings.text("security", "admin_user", "admin"),
        settings.text("security", "admin_password", "admin"),
    )
    grafana = Grafana(settings, store, provisioning.read(settings.provisioning))
    grafana.dashboards()
    handler = type("Bound", (Handler,), {"grafana": grafana})
    address = (
        settings.text("server", "http_addr"),
        int(settings.text("server", "http_port", "3000")),
    )
    with http.server.ThreadingHTTPServer(address, handler) as server:
        server.daemon_threads = True
        say("info", f"HTTP server listens on port {address[1]}")
        server.serve_forever()
