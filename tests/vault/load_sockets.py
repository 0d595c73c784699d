"""What the visitors of a load connect with: counted HTTP requests, held Socket.IO clients."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import http.client
import http.cookies
import io
import queue
import select
import ssl
import threading
import time
import typing as t
import urllib.parse

import requests
import socketio  # type: ignore[import-untyped]
from lab import Lab
from requests.cookies import RequestsCookieJar
from visitor import LOGIN, Visitor

STATE, LOGOUT = "/api/session/state", "/user-management/logout"
ANSWER_SECONDS = 30
SHOWN = 10
RIGHT = {
    f"POST {LOGIN}": (302, ""),
    f"GET {LOGOUT}": (302, ""),
    f"GET {LOGIN}": (200, 'name="password"'),
    "GET /": (200, "Dashboard"),  # who is not logged in gets another page, with 200 too
}
"""Status and text of the right answer; of everything else it is 200."""
CONNECT_SECONDS, REPLY_SECONDS, RECONNECT_SECONDS = 5.0, 10.0, 10.0
BEAT_SECONDS = 2.0
QUESTION, ANSWER = "request_notification_history", "notification_history"
CONNECTED, REFUSED, ENDED = "unified_connected", "history_error", "disconnect"


@dataclasses.dataclass(frozen=True)
class Failure:
    """What failed, when (seconds since the load began), and how; without what was sent."""

    seconds: float
    what: str
    problem: str


class Meter:
    """Counts from all threads."""

    def __init__(self) -> None:
        """Begin now."""
        self._lock = threading.Lock()
        self.begin()

    def begin(self) -> None:
        """Forget what was before."""
        self.began = time.monotonic()
        self.requests: list[tuple[float, float, str]] = []
        """Of each request: seconds it took, seconds since the load began, method and path."""
        self.failures: list[Failure] = []
        self.counts: collections.Counter[str] = collections.Counter()

    def add(self, name: str) -> None:
        """Count one of something."""
        with self._lock:
            self.counts[name] += 1

    def fail(self, name: str, what: str, problem: str) -> None:
        """Count one failure of something and note it, unless there were many like it."""
        self.add(name)
        with self._lock:
            if sum(failure.what == what for failure in self.failures) < SHOWN:
                seconds = round(time.monotonic() - self.began, 1)
                self.failures.append(Failure(seconds, what, problem[:200]))

    def measure(self, what: str, send: t.Callable[[], requests.Response]) -> requests.Response:
        """Send a request; note how long it took, and whether the answer is the right one."""
        began, problem = time.monotonic(), ""
        try:
            answer = send()
            status, text = RIGHT.get(what, (200, ""))
            if answer.status_code != status:
                number = answer.headers.get("X-Request-ID", "unknown")
                problem = f"status {answer.status_code}, request {number}"
            elif text not in answer.text:
                problem = "another page"
            return answer
        except (OSError, http.client.HTTPException) as exc:
            problem = f"{type(exc).__name__}: {exc}"
            raise
        finally:
            with self._lock:
                self.requests.append((time.monotonic() - began, began - self.began, what))
            if problem:
                self.fail("failed", what, problem)


class Browser(Visitor):
    """A visitor with one kept connection, whose requests are counted.

    Like browsers it sends only a GET a second time, and only if its connection had carried an
    answer before and was closed without a byte of this one.
    """

    def __init__(self, lab: Lab, meter: Meter, cookie: str | None = None) -> None:
        """Begin without a login, or with the cookie of another one's session."""
        self.lab, self.name, self.meter = lab, "", meter
        self.session = lab.session()
        self.session.headers["Accept-Encoding"] = "identity"
        if cookie:
            self.session.cookies.set("session", cookie)
        self._connection: http.client.HTTPSConnection | None = None

    def log_in(self, name: str, password: str) -> requests.Response:
        """Log in."""
        form = {"username_or_email": name, "password": password}
        return self.request("POST", LOGIN, data=form)

    def request(self, method: str, path: str, **options: t.Any) -> requests.Response:
        """Send a request; a redirect is not followed."""
        wanted = requests.Request(method, self.lab.https + path, **options)
        prepared = self.session.prepare_request(wanted)
        return self.meter.measure(f"{method} {path}", functools.partial(self._send, prepared))

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()

    def _send(self, prepared: requests.PreparedRequest) -> requests.Response:
        try:
            connection, kept = self._connect()
            try:
                head = _ask(connection, prepared)
            except ConnectionError:
                if not kept or prepared.method != "GET":
                    raise
                self.meter.add("retried")
                self.close()
                head = _ask(self._connect()[0], prepared)
            return self._answer(head)
        except BaseException:
            self.close()
            raise

    def _connect(self) -> tuple[http.client.HTTPSConnection, bool]:
        """Return a connection, and whether it was kept and is not known to be closed."""
        kept = self._connection
        if kept is not None and kept.sock and not select.select([kept.sock], [], [], 0)[0]:
            return kept, True
        self.close()
        address = urllib.parse.urlsplit(self.lab.https)
        assert address.hostname == "127.0.0.1"
        trust = ssl.create_default_context(cafile=self.lab.ca)
        self._connection = http.client.HTTPSConnection(
            address.hostname, address.port, context=trust, timeout=ANSWER_SECONDS
        )
        return self._connection, False

    def _answer(self, head: http.client.HTTPResponse) -> requests.Response:
        answer = requests.Response()
        answer.status_code, answer.encoding = head.status, "utf-8"
        answer.headers.update(head.headers)
        answer.raw = io.BytesIO(head.read())
        for line in head.headers.get_all("Set-Cookie") or []:
            for cookie in http.cookies.SimpleCookie(line).values():
                self.session.cookies.set(cookie.key, cookie.value)
        return answer


def _ask(
    connection: http.client.HTTPSConnection, prepared: requests.PreparedRequest
) -> http.client.HTTPResponse:
    headers = {name: str(value) for name, value in prepared.headers.items()}
    connection.request(str(prepared.method), prepared.path_url, prepared.body, headers)
    return connection.getresponse()


class ConnectionEndedError(Exception):
    """The connection is of no use any more; the message says why."""


class HeldSocket:
    """A logged-in client that asks something every two seconds, over one transport.

    The server may end the connection: a replica that is replaced, a worker of gunicorn that has
    had its share of requests and a reload of nginx all do so, and browsers connect again. That
    counts as a reconnect and not as a failure if the client is connected, and recognised by the
    cookies it had at first, within ten seconds. No answer within ten seconds is taken for the
    end of the connection as well. A client that does not come back in time is lost for good.
    """

    def __init__(self, lab: Lab, cookies: RequestsCookieJar, transport: str) -> None:
        """Take the cookies of a session; nothing is connected yet."""
        self.lab, self.cookies, self.transport = lab, cookies, transport
        self.outages: list[float] = []
        """Seconds without a connection, for each reconnect."""
        self._client: t.Any = None
        self._events: queue.SimpleQueue[tuple[str, t.Any]] = queue.SimpleQueue()

    def connect(self) -> None:
        """Connect once, and be recognised."""
        domain, port = (self.lab.variables[f"stack_{name}"] for name in ("domain", "public_port"))
        session = self.lab.session()
        session.cookies.update(self.cookies)
        # Of this connection only: what an earlier client still says goes to a queue nobody reads.
        events = self._events = queue.SimpleQueue()
        self._client = socketio.Client(
            http_session=session,
            reconnection=False,
            handle_sigint=False,
            websocket_extra_options={"origin": f"https://{domain}:{port}"},
        )
        for name in (CONNECTED, ANSWER, REFUSED, ENDED):
            self._client.on(name, functools.partial(_put, events, name))
        self._client.connect(
            self.lab.https, transports=[self.transport], wait_timeout=CONNECT_SECONDS
        )
        level = self._expect(CONNECTED, CONNECT_SECONDS)["access_level"]
        if level != "authenticated":
            raise ConnectionEndedError(f"connected as {level}")

    def hold(self, stop: threading.Event) -> None:
        """Converse, come back when need be, end with an answer once told to stop.

        Raises:
            ConnectionEndedError: the client did not come back in time.
        """
        while True:
            try:
                self._client.emit(QUESTION)
                self._expect(ANSWER, REPLY_SECONDS)
                if stop.is_set():
                    return
                self._wait(None, BEAT_SECONDS)
            except (ConnectionEndedError, socketio.exceptions.SocketIOError) as exc:
                self._come_back(exc)

    def close(self) -> None:
        """Hang up without waiting for a server that may be gone."""
        if self._client is not None:
            threading.Thread(target=_disconnect, args=[self._client], daemon=True).start()

    def _come_back(self, problem: Exception) -> None:
        began = time.monotonic()
        while (outage := time.monotonic() - began) < RECONNECT_SECONDS:
            self.close()
            try:
                self.connect()
            except Exception as exc:  # whatever a server that goes down makes the client raise
                problem = exc
                time.sleep(0.5)
                continue
            outage = time.monotonic() - began
            if outage <= RECONNECT_SECONDS:
                self.outages.append(outage)
                return
        raise ConnectionEndedError(
            f"not back after {outage:.0f} s: {type(problem).__name__}: {problem}"[:200]
        )

    def _wait(self, wanted: str | None, seconds: float) -> t.Any:
        """Return what came with an event, or nothing when it did not come in time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            # By polling, the library would not tell of a refused POST before the next ping.
            if self._client.eio.write_loop_task is None:
                raise ConnectionEndedError("nothing can be sent")
            with contextlib.suppress(queue.Empty):
                name, data = self._events.get(timeout=min(left, 0.5))
                if name in (ENDED, REFUSED):
                    raise ConnectionEndedError(name)
                if name == wanted:
                    return data
        return None

    def _expect(self, wanted: str, seconds: float) -> t.Any:
        data = self._wait(wanted, seconds)
        if data is None:
            raise ConnectionEndedError(f"no {wanted} in {seconds:.0f} s")
        return data


def _put(events: queue.SimpleQueue[tuple[str, t.Any]], name: str, *data: t.Any) -> None:
    events.put((name, data[0] if data else {}))


def _disconnect(client: t.Any) -> None:
    with contextlib.suppress(Exception):
        client.disconnect()
