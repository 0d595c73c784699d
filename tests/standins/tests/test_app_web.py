"""The pages of the application, its headers, and what it gives away."""

from __future__ import annotations

import json

import pytest
import requests
import socketio
from standin_services import wait_for
from standin_site import Site


def test_health_reports_every_component_and_takes_a_second(running: Site) -> None:
    answer = running.get("/health")
    body = answer.json()
    # The page judges the whole machine, so a busy one may get 503; then it must say why.
    assert (answer.status_code == 200) == (body["status"] == "healthy")
    assert body["version"] == "1.0.0"
    names = {"application", "database", "redis", "ollama", "rq_workers", "resources"}
    assert set(body["components"]) == names
    assert all(body["components"][name]["healthy"] for name in names - {"resources"})
    assert answer.elapsed.total_seconds() >= 1


def test_other_health_pages(running: Site) -> None:
    ready = running.get("/health/ready")
    assert (ready.status_code, set(ready.json())) == (200, {"ready", "timestamp", "checks"})
    assert set(running.get("/health/live").json()) == {"alive", "timestamp", "uptime"}
    assert set(running.get("/api/container/health").json()) == {
        "status",
        "timestamp",
        "container_id",
        "uptime_seconds",
        "health_status",
    }


@pytest.mark.parametrize(("repaired", "healthy"), [(None, False), ("true", True)])
def test_integrated_workers_make_it_unhealthy(
    site: Site, repaired: str | None, healthy: bool
) -> None:
    program = site.serve(RQ_ENABLE_INTEGRATED_WORKERS="true", STANDIN_RQ_REPAIRED=repaired)
    try:
        answer = site.get("/health")
        assert answer.json()["components"]["rq_workers"]["healthy"] is healthy
        if not healthy:
            assert answer.status_code == 503
        assert site.get("/health/ready").status_code == 200
    finally:
        program.stop()


def test_metrics_end_without_a_newline(running: Site) -> None:
    answer = running.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert not answer.text.endswith("\n")
    assert 'vedfolnir_health_status{component="database"} 1' in answer.text
    assert "vedfolnir_uptime_seconds " in answer.text


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("/", 200, None),
        ("/landing", 200, None),
        ("/login", 302, "/user-management/login"),
        ("/admin/", 302, "/user-management/login?next=%2Fadmin%2F"),
        ("/user-management/login", 200, None),
        ("/user-management/register", 200, None),
        ("/api/session/state", 401, None),
        ("/user-management/profile/export", 302, "/user-management/login"),
        ("/static/css/style.css", 200, None),
        ("/admin/admin/static/css/admin.css", 200, None),
        ("/admin/static/css/admin.css", 404, None),
        ("/favicon.ico", 404, None),
        ("/test_route", 200, None),
        ("/websocket-test", 200, None),
        ("/websocket-simple-test", 200, None),
        ("/cache-stats", 200, None),
    ],
)
def test_anonymous_pages(running: Site, path: str, status: int, location: str | None) -> None:
    answer = running.get(path)
    assert answer.status_code == status
    if location:
        assert answer.headers["Location"].startswith(location)


def test_images_are_public(running: Site) -> None:
    (running.directory / "storage" / "images" / "abc.jpg").write_bytes(b"picture")
    assert running.get("/images/abc.jpg").content == b"picture"


def test_headers(running: Site) -> None:
    plain = running.get("/").headers
    assert "nonce-" in plain["Content-Security-Policy"]
    assert "upgrade-insecure-requests" in plain["Content-Security-Policy"]
    assert plain["X-Frame-Options"] == "DENY"
    assert plain["Access-Control-Allow-Origin"] == "http://localhost:5000"
    assert "Strict-Transport-Security" not in plain
    secure = running.get("/", headers={"X-Forwarded-Proto": "https"}).headers
    assert "Strict-Transport-Security" in secure


def test_login_logout_and_cookie_without_flags(running: Site) -> None:
    visitor = running.login("anna@example.org")
    cookie = visitor.login_answer.headers["Set-Cookie"]
    assert (visitor.login_answer.status_code, visitor.login_answer.headers["Location"]) == (
        302,
        "/",
    )
    assert "HttpOnly" in cookie
    assert "Secure" not in cookie
    assert "SameSite" not in cookie
    assert visitor.get("/api/session/state").json()["username"] == "anna"
    assert visitor.get("/admin/").status_code == 403
    assert running.login("root").get("/admin/").status_code == 200
    visitor.get("/logout")
    assert visitor.get("/api/session/state").status_code == 401


def test_a_login_is_mirrored_in_redis_and_not_read_from_there(running: Site) -> None:
    client = running.cache.client()
    before = set(client.keys("vedfolnir:session:*"))
    visitor = running.login("anna")
    (key,) = set(client.keys("vedfolnir:session:*")) - before
    assert 7000 < client.ttl(key) <= 7200
    assert set(json.loads(str(client.get(key)))) == {
        "user_id",
        "platform_connection_id",
        "created_at",
        "session_id",
        "_last_updated",
    }
    client.delete(key)
    assert visitor.get("/api/session/state").status_code == 200


def test_five_failures_lock_the_account(running: Site) -> None:
    running.create_user("locked")
    for _ in range(5):
        assert running.login("locked", "wrong").login_answer.status_code == 200
    assert running.login("locked").login_answer.status_code == 200
    assert running.rows("SELECT account_locked FROM users WHERE username='locked'") == ((1,),)


def test_an_unverified_account_cannot_log_in(running: Site) -> None:
    running.create_user("fresh", verified=False)
    assert running.login("fresh").login_answer.status_code == 200


def test_the_audit_log_believes_the_leftmost_forwarded_address(running: Site) -> None:
    requests.post(
        f"{running.url}/user-management/login",
        data={"username_or_email": "spoofer", "password": "x"},
        headers={"X-Forwarded-For": "203.0.113.9, 10.0.0.1"},
        timeout=30,
    )
    rows = running.rows("SELECT ip_address FROM user_audit_log WHERE details LIKE '%spoofer'")
    assert rows == (("203.0.113.9",),)


@pytest.mark.parametrize("page", ["data-portability", "compliance-report"])
def test_broken_gdpr_pages(running: Site, page: str) -> None:
    visitor = running.login("anna")
    assert visitor.get(f"/gdpr/{page}").status_code == 500
    assert visitor.get("/gdpr/privacy-policy").status_code == 200


def test_the_token_of_a_platform_leaks_to_stdout_and_redis(running: Site) -> None:
    running.create_user("leaky")
    visitor = running.login("leaky")
    platform = {
        "name": "Leak",
        "platform_type": "pixelfed",
        "instance_url": "http://127.0.0.1:9",
        "username": "leaky",
        "access_token": "token-that-leaks",
    }
    added = visitor.post("/api/add_platform", json=platform).json()
    assert added["success"] is True
    assert visitor.post("/api/add_platform", json=platform).status_code == 400
    assert visitor.get("/").status_code == 200
    line = wait_for(
        lambda: [
            line
            for line in (running.directory / "web.out").read_text().splitlines()
            if "token-that-leaks" in line
        ],
        5,
        "the leak",
    )
    assert line[0].startswith("DEBUG: Current platform dict: {'id': ")
    client = running.cache.client()
    for key in (f"platform:{added['platform_id']}", f"user_platforms:{_user_id(running)}"):
        assert "token-that-leaks" in str(client.get(key))
        assert 3500 < client.ttl(key) <= 3600
    stored = running.rows(
        "SELECT access_token FROM platform_connections WHERE id=%s", added["platform_id"]
    )
    assert stored[0][0].startswith("gAAAA")


def _user_id(site: Site) -> int:
    return int(site.rows("SELECT id FROM users WHERE username='leaky'")[0][0])


def test_another_encryption_key_reads_nothing_and_says_nothing(running: Site) -> None:
    code = (
        "from config import Config; from models import PlatformConnection\n"
        "from app.core.database.core.database_manager import DatabaseManager\n"
        "with DatabaseManager(Config()).get_session() as session:\n"
        "    print({row.access_token for row in session.query(PlatformConnection)})"
    )
    test_key = "A" * 43 + "="
    result = running.command("-c", code, PLATFORM_ENCRYPTION_KEY=test_key)
    assert result.stdout in ("{None}\n", "set()\n")
    assert result.returncode == 0


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        ("http://localhost:5000", 200),
        ("https://vedfolnir.org", 200),
        ("https://vedfolnir.example.org", 400),
        ("http://localhost:5001", 400),
    ],
)
def test_origins_of_socket_io(running: Site, origin: str | None, status: int) -> None:
    headers = {"Origin": origin} if origin else {}
    answer = running.get("/socket.io/?EIO=4&transport=polling", headers=headers)
    assert answer.status_code == status
    if status == 400:
        assert answer.text == '"Not an accepted origin."'


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.parametrize("user", [None, "anna"])
def test_connecting_gives_an_event(running: Site, transport: str, user: str | None) -> None:
    session = running.login(user) if user else requests.Session()
    cookies = "; ".join(f"{name}={value}" for name, value in session.cookies.items())
    events: list[dict[str, object]] = []
    # The origin that a websocket client states by itself would not be accepted.
    options = {"origin": "http://localhost:5000"}
    client = socketio.Client(websocket_extra_options=options)
    client.on("unified_connected", events.append)
    client.connect(running.url, headers={"Cookie": cookies}, transports=[transport])
    try:
        wait_for(lambda: events, 10, "the event")
    finally:
        client.disconnect()
    assert events[0]["access_level"] == ("authenticated" if user else "anonymous")


def test_two_workers_lose_polling_sessions(site: Site) -> None:
    program = site.gunicorn()
    try:
        wait_for(lambda: site.get("/health/live").ok, what="web")
        lost = 0
        for _ in range(20):
            opened = site.get("/socket.io/?EIO=4&transport=polling").text
            sid = json.loads(opened[1:])["sid"]
            for _ in range(3):
                answer = requests.post(
                    f"{site.url}/socket.io/?EIO=4&transport=polling&sid={sid}",
                    data="40",
                    timeout=10,
                )
                lost += "Invalid session" in answer.text
        assert lost > 0
    finally:
        program.stop()


def test_export_and_deletion_of_a_profile(running: Site) -> None:
    running.create_user("leaver")
    visitor = running.login("leaver")
    body = visitor.get("/user-management/profile/export").json()
    assert set(body) == {
        "user_profile",
        "posts",
        "images",
        "processing_runs",
        "audit_log",
        "export_timestamp",
        "export_format",
    }
    assert body["export_format"] == "GDPR_compliant_JSON"
    assert body["audit_log"][0]["action"] == "user_login_success"
    visitor.post("/user-management/delete_profile")
    assert running.rows("SELECT id FROM users WHERE username='leaver'") == ()
    residue = running.rows("SELECT COUNT(*) FROM user_audit_log WHERE details LIKE '%leaver%'")
    assert residue[0][0] > 0, "upstream leaves names in the audit log, and so must the stand-in"
