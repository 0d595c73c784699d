"""What all processes of a container count together, and what is counted."""

from __future__ import annotations

import subprocess
import time
import typing as t
from pathlib import Path

import pytest
import requests
import servers
import socketio  # type: ignore[import-untyped]
from conftest import ADMIN_PASSWORD, Stack, Web

LOGIN = "/user-management/login"
#: Two workers, each replaced after a few requests.
SHORT_LIVES = ("--workers", "2", "--max-requests", "5", "--max-requests-jitter", "0")


@pytest.fixture(scope="module")
def prepared(stack: Stack) -> Stack:
    stack.mysql.fresh_database()
    stack.schema_and_admin()
    return stack


def _series(path: str, method: str, status: int) -> str:
    return f'vedfolnir_http_requests_total{{endpoint="{path}",method="{method}",status="{status}"}}'


def test_several_workers_count_together_and_a_replaced_one_is_not_forgotten(
    prepared: Stack,
) -> None:
    web = Web(prepared, more=SHORT_LIVES)
    # A worker notices once a second that it has served enough. What is on its way to it in that
    # moment is cut off; nginx asks again then.
    visits, cut_off, end = 0, 0, time.monotonic() + 240
    while web.process.output.count("Worker spawned") <= 4 and time.monotonic() < end:
        try:
            assert requests.get(web.url + LOGIN, timeout=60).status_code == 200
            visits += 1
        except requests.ConnectionError:
            cut_off += 1
        time.sleep(0.05)
    assert cut_off <= 3
    found = [web.samples() for _scrape in range(6)]
    (total,) = {one[_series(LOGIN, "GET", 200)] for one in found}
    assert visits <= total <= visits + cut_off
    count = f'vedfolnir_http_request_duration_seconds_count{{endpoint="{LOGIN}",method="GET"}}'
    assert {one[count] for one in found} == {total}
    # Every scrape is being answered itself; nobody who has ended is.
    assert {one["vedfolnir_http_requests_in_flight"] for one in found} == {1}
    assert web.process.output.count("Worker spawned") > 4
    directory = prepared.directory / f"metrics-{prepared.counter}"
    kept = {path.stem.rpartition("_")[2] for path in directory.glob("*.db")}
    assert "0" in kept, "nothing has been folded"
    ended = {pid for pid in kept if pid != "0" and not Path(f"/proc/{pid}").exists()}
    # Who has ended since the last scrape.
    assert len(ended) <= 2


def test_logins_and_lockouts_are_counted(prepared: Stack) -> None:
    web = Web(prepared)
    before = web.samples()
    assert before['vedfolnir_logins_total{result="failure"}'] == 0
    assert before["vedfolnir_account_lockouts_total"] == 0
    web.login()
    form = {"username_or_email": "admin", "password": "not " + ADMIN_PASSWORD}
    for _attempt in range(6):
        assert requests.post(web.url + LOGIN, data=form, timeout=20).status_code == 200
    prepared.mysql.rows("UPDATE users SET account_locked = 0, failed_login_attempts = 0")
    found = web.samples()
    assert found['vedfolnir_logins_total{result="success"}'] == 1
    assert found['vedfolnir_logins_total{result="failure"}'] == 6
    assert found["vedfolnir_account_lockouts_total"] == 1
    assert found['vedfolnir_audit_events_total{action="user_login_success"}'] == 1
    assert found['vedfolnir_audit_events_total{action="login_denied"}'] == 5
    assert found['vedfolnir_audit_events_total{action="login_attempt_locked_account"}'] == 1
    assert found['vedfolnir_audit_events_total{action="other"}'] == 0


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_open_sockets_are_counted(prepared: Stack, transport: str) -> None:
    web = Web(prepared)
    headers = {"Origin": "https://captions.example.org"}
    clients = []
    for _number in range(3):
        client = socketio.Client(
            handle_sigint=False, websocket_extra_options={"origin": headers["Origin"]}
        )
        client.connect(
            web.url, transports=[transport], headers=headers if transport == "polling" else {}
        )
        clients.append(client)
    sessions = "vedfolnir_websocket_sessions"
    servers.wait_for(lambda: web.samples()[sessions] == 3, what="three sessions")
    for client in clients:
        client.disconnect()
    servers.wait_for(lambda: web.samples()[sessions] == 0, what="the end of the sessions")
    assert web.samples()[f"{sessions}_opened_total"] == 3


OUTBOUND = """
import asyncio, http.server, json, os, sys, threading
class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        seen.append([self.server.server_port == ollama, self.headers.get("X-Request-ID")])
        self.send_response(int(self.path[1:] or 200)); self.end_headers()
    def log_message(self, *_): pass
seen, ports = [], []
for _ in range(2):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ports.append(server.server_port)
ollama, platform = ports
os.environ["OLLAMA_URL"] = f"http://127.0.0.1:{ollama}"
from vedfolnir_adapter import metrics_store
metrics_store.prepare()
from vedfolnir_adapter import outbound, request_ids
outbound.install()
import httpx, requests
from prometheus_client import generate_latest
async def ask(url):
    async with httpx.AsyncClient(timeout=2) as client:
        await client.get(url)
with request_ids.carry("id-1"):
    asyncio.run(ask(f"http://127.0.0.1:{ollama}/200"))
    httpx.get(f"http://127.0.0.1:{ollama}/503")
    requests.get(f"http://127.0.0.1:{platform}/404")
    try: requests.get("http://127.0.0.1:1/")
    except requests.ConnectionError: pass
with request_ids.carry("no good\\n"):
    httpx.get(f"http://127.0.0.1:{ollama}/200")
print(json.dumps(seen))
print(generate_latest(metrics_store.registry()).decode())
"""


def test_calls_are_counted_and_only_ollama_is_told_the_id(prepared: Stack, tmp_path: t.Any) -> None:
    done = subprocess.run(
        [prepared.python, "-c", OUTBOUND], cwd=prepared.app, text=True, capture_output=True,
        env=prepared.environment(PROMETHEUS_MULTIPROC_DIR=str(tmp_path)), timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen, text = done.stdout.split("\n", 1)
    assert seen == '[[true, "id-1"], [true, "id-1"], [false, null], [true, null]]'
    counts = {
        ("ollama", "200"): 2, ("ollama", "503"): 1, ("platform", "404"): 1, ("platform", "error"): 1
    }  # fmt: skip
    for (target, code), count in counts.items():
        series = f'vedfolnir_outbound_requests_total{{code="{code}",target="{target}"}} {count}.0'
        assert series in text, text
    assert 'vedfolnir_outbound_request_duration_seconds_count{target="ollama"} 3.0' in text
    assert 'vedfolnir_outbound_in_flight{target="ollama"} 0.0' in text
