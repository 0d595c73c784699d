"""Socket.IO through nginx: both transports, both replicas, the right origins and no others."""

from __future__ import annotations

import collections
import json
import typing as t
import uuid

import pytest
import requests
import socketio  # type: ignore[import-untyped]
import websocket
from lab import Lab, wait_until
from visitor import LOGIN, Visitor

SOCKET = "/socket.io/?EIO=4&transport="
SESSIONS = 20
FOREIGN = [
    "https://evil.example",
    "https://{domain}",
    "http://{domain}:{port}",
    "https://{domain}:{port}.evil.example",
    "https://{domain}.evil.example:{port}",
    "null",
    # What the application would allow by itself.
    "http://localhost:5000",
    "https://vedfolnir.org",
]


@pytest.fixture
def origins(lab: Lab) -> list[str]:
    """The addresses at which the site can be opened."""
    names = [lab.variables["stack_domain"], *lab.variables["nginx_extra_names"]]
    return [f"https://{name}:{lab.variables['stack_public_port']}" for name in names]


class Polling:
    """A Socket.IO session by polling, a request at a time."""

    def __init__(self, lab: Lab, session: requests.Session, headers: dict[str, str]) -> None:
        """Open the session; nothing is sent that is not in the headers or the session."""
        self.session, self.headers = session, headers
        self.requests: list[str] = []
        self.url = f"{lab.https}{SOCKET}polling"
        (opened,) = self._ask("GET")
        self.sid = json.loads(opened.removeprefix("0"))["sid"]
        self.url += f"&sid={self.sid}"

    def _ask(self, method: str, data: str | None = None) -> list[str]:
        answer = self.session.request(method, self.url, data=data, headers=self.headers, timeout=60)
        assert answer.status_code == 200, answer.text
        self.requests.append(answer.headers["X-Request-ID"])
        return answer.text.split("\x1e")

    def send(self, packet: str) -> None:
        """Send a packet."""
        assert self._ask("POST", packet) == ["OK"]

    def event(self) -> list[t.Any]:
        """Poll until an event comes."""
        while True:
            for packet in self._ask("GET"):
                if packet == "2":
                    self.send("3")
                if packet.startswith("42"):
                    return t.cast("list[t.Any]", json.loads(packet.removeprefix("42")))

    def converse(self) -> None:
        """Connect, get the event of it, ask twice and get both answers."""
        self.send("40")
        assert self.event() == ["unified_connected", {"success": True, "access_level": "anonymous"}]
        for _number in range(2):
            self.send('42["request_notification_history"]')
            assert self.event()[0] == "history_error"
        self.send("1")


def _upstreams(lab: Lab, sessions: list[Polling]) -> list[set[str]]:
    """Return per session the addresses of the replicas that served it, from nginx's log."""
    nginx = "docker logs --since 10m $(docker compose ps --quiet nginx) 2>/dev/null"
    log = lab.run(f"cd /srv/vedfolnir && sleep 2 && {nginx} | grep socket.io")
    entries = [json.loads(line) for line in log.splitlines()]
    served = {entry["request_id"]: entry["upstream"] for entry in entries}
    return [{served[request] for request in session.requests} for session in sessions]


def _replicas(lab: Lab) -> list[str]:
    return [name for name in lab.inspect() if name.startswith("app-")]


def _with_cookie(lab: Lab) -> tuple[requests.Session, dict[str, str]]:
    session = lab.session()
    assert session.get(lab.https + LOGIN, timeout=60).ok
    assert "vedfolnir_route" in session.cookies
    return session, {}


def _without_cookie(lab: Lab) -> tuple[requests.Session, dict[str, str]]:
    return lab.session(), {"Cookie": ""}


@pytest.fixture(scope="module", autouse=True)
def fresh_workers(lab: Lab) -> None:
    """Let no worker be replaced meanwhile: gunicorn does so about every thousand requests.

    The sessions that a worker has end with it, and a browser's client connects again.
    """
    replicas = sorted(name for name in lab.services() if name.startswith("app-"))
    lab.compose(f"restart {' '.join(replicas)}")
    lab.wait_healthy()


def test_polling_sessions_with_the_cookie_stay_on_their_replica(lab: Lab) -> None:
    assert len(_replicas(lab)) == 2
    sessions = [Polling(lab, *_with_cookie(lab)) for _number in range(SESSIONS)]
    for session in sessions:
        session.converse()
    upstreams = _upstreams(lab, sessions)
    assert {len(found) for found in upstreams} == {1}
    spread = collections.Counter(address for found in upstreams for address in found)
    assert len(spread) == 2, spread


def test_polling_sessions_without_cookies_stay_on_their_replica(lab: Lab) -> None:
    sessions = [Polling(lab, *_without_cookie(lab)) for _number in range(SESSIONS)]
    for session in sessions:
        session.converse()
    assert {len(found) for found in _upstreams(lab, sessions)} == {1}


def test_the_other_replica_would_not_know_a_session(lab: Lab) -> None:
    """Why routes matter: the same session, sent to another replica by another cookie."""
    routes = [f"vedfolnir_route={uuid.uuid4().hex}" for _number in range(SESSIONS)]
    sessions = [Polling(lab, lab.session(), {"Cookie": route}) for route in routes]
    upstreams = _upstreams(lab, sessions)
    other = next(
        session for session, found in zip(sessions, upstreams, strict=True) if found != upstreams[0]
    )
    answer = lab.session().post(sessions[0].url, data="40", headers=other.headers, timeout=60)
    assert (answer.status_code, answer.json()) == (400, f"Invalid session {sessions[0].sid}")


@pytest.mark.parametrize(
    "transports", [["websocket"], ["polling"], ["polling", "websocket"]], ids="-".join
)
@pytest.mark.parametrize("who", ["anonymous", "authenticated"])
def test_a_client_connects_and_gets_the_event(
    lab: Lab, admin: Visitor, origins: list[str], transports: list[str], who: str
) -> None:
    """The library that browsers' clients correspond to; in the third case it upgrades."""
    session = admin.session if who == "authenticated" else lab.session()
    events: list[dict[str, t.Any]] = []
    client = socketio.Client(
        http_session=session,
        reconnection=False,
        websocket_extra_options={"origin": origins[0]},
    )
    client.on("unified_connected", events.append)
    client.connect(lab.https, transports=transports, wait_timeout=60)
    try:
        wait_until(lambda: bool(events), 60, "no event came")
        assert client.transport() == transports[-1]
    finally:
        client.disconnect()
    assert events == [{"success": True, "access_level": who}]


def _handshakes(lab: Lab, origin: str) -> tuple[int, int]:
    """Return the statuses of both transports' first request with an origin."""
    polling = lab.session().get(
        f"{lab.https}{SOCKET}polling", headers={"Origin": origin}, timeout=60
    )
    url = lab.https.replace("https", "wss") + SOCKET + "websocket"
    try:
        connection = websocket.create_connection(
            url, origin=origin, sslopt={"ca_certs": lab.ca}, timeout=60
        )
    except websocket.WebSocketBadStatusException as exc:
        return polling.status_code, int(exc.status_code)
    connection.close()
    return polling.status_code, 101


def test_the_sites_own_origins_are_accepted(lab: Lab, origins: list[str]) -> None:
    assert len(origins) > 1
    answers = {origin: _handshakes(lab, origin) for origin in origins}
    assert answers == dict.fromkeys(origins, (200, 101))


@pytest.mark.parametrize("pattern", FOREIGN)
def test_a_foreign_origin_is_refused(lab: Lab, pattern: str) -> None:
    origin = pattern.format(
        domain=lab.variables["stack_domain"], port=lab.variables["stack_public_port"]
    )
    assert _handshakes(lab, origin) == (400, 400)
