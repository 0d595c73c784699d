from __future__ import annotations

import contextlib
import json
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
import requests
import socketio  # type: ignore[import-untyped]
from conftest import ADMIN_PASSWORD, FERNET_KEY, FLASK_KEY, Stack, Web
from servers import MYSQL_PASSWORD, REDIS_PASSWORD, wait_for

ORIGIN = "https://captions.example.org"


def log_objects(output: str) -> list[dict[str, t.Any]]:
    """Every line must be one JSON object."""
    return [json.loads(line) for line in output.splitlines()]


@pytest.fixture(scope="module")
def prepared(stack: Stack) -> Stack:
    stack.mysql.fresh_database()
    stack.schema_and_admin()
    return stack


@pytest.mark.parametrize("module", ["serve", "gunicorn"])
def test_every_line_is_json_and_free_of_secrets(prepared: Stack, module: str) -> None:
    # Plain gunicorn imports eventlet, which warns, before the adapter can install the logs.
    web = Web(prepared, module, PYTHONWARNINGS="ignore")
    session = web.login()
    token = "tok-0123456789-plain"
    platform = {
        "name": "pix", "platform_type": "pixelfed", "instance_url": "http://127.0.0.1:1",
        "username": "u", "access_token": token,
    }  # fmt: skip
    session.post(f"{web.url}/api/add_platform", json=platform, timeout=10)
    for _ in range(3):
        answer = session.get(f"{web.url}/", headers={"X-Request-ID": "req-17"}, timeout=10)
        assert answer.status_code == 200
    session.get(f"{web.url}/user-management/reset-password/link-token-1?x=1", timeout=10)
    assert web.process.terminate() == 0
    entries = log_objects(web.process.output)
    assert {"timestamp", "level", "logger", "message", "service", "replica"} <= set.intersection(
        *(set(entry) for entry in entries)
    )
    access = [e for e in entries if e["logger"] == "gunicorn.access" and e["path"] == "/"]
    assert access[0]["status"] == 200
    assert access[0]["request_id"] == "req-17"
    leaks = [entry for entry in entries if "access_token" in entry["message"]]
    assert leaks, "the stand-in prints the platform; the line must be there, redacted"
    files = "".join(p.read_text() for p in prepared.app.glob("logs/**/*.log"))
    for secret in (
        token,
        FLASK_KEY,
        FERNET_KEY,
        MYSQL_PASSWORD,
        REDIS_PASSWORD,
        ADMIN_PASSWORD,
        "link-token-1",
    ):
        assert secret not in web.process.output
        assert secret not in files


def test_own_origin_is_accepted_and_others_are_refused(prepared: Stack) -> None:
    web = Web(prepared)
    path = f"{web.url}/socket.io/?EIO=4&transport=polling"
    assert requests.get(path, headers={"Origin": ORIGIN}, timeout=10).status_code == 200
    for origin in ("https://vedfolnir.org", "https://evil.example", "http://localhost:5000"):
        answer = requests.get(path, headers={"Origin": origin}, timeout=10)
        assert answer.status_code == 400
        assert "Not an accepted origin." in answer.text


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_socket_connects_on_both_replicas(prepared: Stack, transport: str) -> None:
    headers = {"Origin": ORIGIN} if transport == "polling" else {}
    for web in (Web(prepared), Web(prepared)):
        received: list[t.Any] = []
        client = socketio.Client(handle_sigint=False, websocket_extra_options={"origin": ORIGIN})
        client.on("unified_connected", received.append)
        client.connect(web.url, transports=[transport], headers=headers)
        client.sleep(1)
        client.disconnect()
        assert received, web.process.output


def test_cookies_are_secure(prepared: Stack) -> None:
    web = Web(prepared)
    form = {"username_or_email": "admin", "password": ADMIN_PASSWORD, "remember_me": "y"}
    answer = requests.post(
        f"{web.url}/user-management/login", data=form, allow_redirects=False, timeout=10
    )
    headers = answer.raw.headers.getlist("Set-Cookie")
    assert {h.split("=", 1)[0] for h in headers} == {"session", "remember_token"}
    for header in headers:
        attributes = {part.strip() for part in header.split(";")}
        assert {"Secure", "HttpOnly", "SameSite=Lax"} <= attributes, header


def test_sessions_and_remember_cookies_survive_a_new_key(prepared: Stack) -> None:
    first = Web(prepared)
    session = first.login(remember=True)
    cookies = session.jar
    first.process.terminate()

    (prepared.secrets / "flask_secret_key").write_text("flask-key-two-0123456789abcdef")
    (prepared.secrets / "flask_secret_key_fallbacks").write_text(f"{FLASK_KEY}\n")
    second = Web(prepared)
    for name in ("session", "remember_token"):
        headers = {"Cookie": f"{name}={cookies[name]}"}
        answer = requests.get(f"{second.url}/api/session/state", headers=headers, timeout=10)
        assert answer.status_code == 200, name
        if name == "remember_token":
            renewed = answer.cookies["remember_token"]
            assert renewed != cookies[name]
    second.process.terminate()

    (prepared.secrets / "flask_secret_key_fallbacks").unlink()
    third = Web(prepared)
    for name, value, status in (
        ("session", cookies["session"], 401),
        ("remember_token", cookies["remember_token"], 401),
        ("remember_token", renewed, 200),
    ):
        headers = {"Cookie": f"{name}={value}"}
        answer = requests.get(f"{third.url}/api/session/state", headers=headers, timeout=10)
        assert answer.status_code == status, name


def test_metrics_end_with_a_newline_and_count_requests(prepared: Stack) -> None:
    web = Web(prepared)
    for _ in range(3):
        requests.get(f"{web.url}/user-management/login", timeout=10)
    requests.get(f"{web.url}/no/such/page", timeout=10)
    answer = requests.get(f"{web.url}/metrics", timeout=30)
    lines = answer.text.split("\n")
    assert lines[-1] == ""
    assert answer.headers["Content-Type"].startswith("text/plain")
    labels = 'endpoint="/user-management/login",method="GET",status="200"'
    assert f"vedfolnir_http_requests_total{{{labels}}} 3.0" in lines
    assert any('endpoint="unmatched"' in line and 'status="404"' in line for line in lines)
    assert any(line.startswith("vedfolnir_health_status") for line in lines)


def test_a_password_only_redis_connection_uses_the_acl_user(prepared: Stack) -> None:
    code = (
        "from vedfolnir_adapter import bootstrap; s = bootstrap.prepare('test')\n"
        "import asyncio, os, redis, redis.asyncio\n"
        "kw = dict(host=s.redis_host, port=s.redis_port, password=os.environ['REDIS_PASSWORD'])\n"
        "assert redis.Redis(**kw).acl_whoami() in ('appuser', b'appuser')\n"
        "assert asyncio.run(redis.asyncio.Redis(**kw).acl_whoami()) in ('appuser', b'appuser')\n"
        "try: redis.Redis(**{**kw, 'username': 'default'}).ping()\n"
        "except redis.AuthenticationError: print('explicit user kept')\n"
    )
    result = prepared_run(prepared, code)
    assert "explicit user kept" in result, result


def prepared_run(stack: Stack, code: str) -> str:
    done = subprocess.run(
        [stack.python, "-c", code], env=stack.environment(), cwd=stack.app, text=True,
        capture_output=True, timeout=60,
    )  # fmt: skip
    return done.stdout + done.stderr


def processes_of(group: int) -> list[tuple[bytes, bytes]]:
    """Return command line and environment of every process of a session."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[3]) == group:
                found.append(((entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()))
    return found


def test_no_process_shows_secrets_to_others(prepared: Stack) -> None:
    web = Web(prepared, VEDFOLNIR_WORKER_MODE="integrated")
    group = web.process.popen.pid
    # gunicorn, its worker, the supervisor and the polling worker
    wait_for(lambda: len(processes_of(group)) >= 4, what="the start of four processes")
    for command, environment in processes_of(group):
        for secret in (FLASK_KEY, FERNET_KEY, MYSQL_PASSWORD, REDIS_PASSWORD):
            assert secret.encode() not in command + environment, command


def test_the_health_check_is_fast_and_right(prepared: Stack) -> None:
    web = Web(prepared)
    started = time.perf_counter()
    done = prepared.run("vedfolnir_adapter.healthcheck", "web", VEDFOLNIR_PORT=str(web.port))
    assert (done.returncode, done.stdout) == (0, "healthy\n")
    assert time.perf_counter() - started < 1
    prepared.redis.process.kill()
    done = prepared.run("vedfolnir_adapter.healthcheck", "web", VEDFOLNIR_PORT=str(web.port))
    prepared.redis.start()
    assert (done.returncode, done.stdout) == (1, "/health/ready answered 503\n")


def test_development_reloads_a_changed_file(prepared: Stack) -> None:
    web = Web(prepared, VEDFOLNIR_RELOAD="true")
    changed = prepared.app / "app/core/security_headers.py"
    changed.write_text(changed.read_text() + "\nprint('reloaded now')\n")
    wait_for(lambda: "reloaded now" in web.process.output, what="the reload")
