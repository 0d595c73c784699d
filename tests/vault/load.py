"""A load on the site in the background of a test, and the count of what went wrong meanwhile.

    with Load(lab, rate=60) as load:
        lab.playbook("rotate_secrets.yml").check()
    report = load.report()
    assert report.problems() == {}, report
    assert report.rate >= 50, report

It goes through nginx and over TLS, as visitors do, with a user of its own that exists only
meanwhile, so that neither the administrator's password nor a lockout matters. nginx's usual limits
allow it: of 60 requests a second some 10 are in the zone `api` (20 allowed), and logins keep their
distance. A rate above 100 or `login_seconds` below 7 needs other `nginx_rate_limits`.

Each new connection reads the file `lab.ca` again. A test that replaces the site's authority
writes both authorities into this file before the certificate changes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.client
import re
import secrets
import shlex
import statistics
import subprocess
import threading
import time
import traceback
import typing as t

from lab import Lab
from load_sockets import (
    ANSWER_SECONDS,
    LOGOUT,
    STATE,
    Browser,
    ConnectionEndedError,
    Failure,
    HeldSocket,
    Meter,
)
from visitor import LOGIN, PREFIX, TASK_SECONDS, Platform, image_numbers

POST_SECONDS = 60
VISITORS = 40
"""Threads: enough for the whole rate while the application answers in a second or so."""
TROUBLE = (OSError, http.client.HTTPException, AssertionError, LookupError, ValueError)
"""What a failed request raises (it is noted by then), or a wrong answer when it is read."""


class Page(t.NamedTuple):
    """A page, its share in a round of twenty requests, and who asks for it."""

    path: str
    share: int
    logged_in: bool = False


PAGES = (
    Page("/", 2, logged_in=True),  # cookie, user and images from MySQL, platforms from Redis
    Page(STATE, 3, logged_in=True),  # cookie, user from MySQL
    Page("/user-management/profile", 1, logged_in=True),
    Page("/health/ready", 2),  # MySQL and Redis
    Page(LOGIN, 3),  # the application alone
)
"""The rest of a round is a static file, from nginx alone."""
ROUND, STRIDE = 20, 7  # without a common divisor: spreads over a round what stands together


@dataclasses.dataclass(frozen=True)
class Report:
    """What was done under the load, and what of it went wrong."""

    seconds: float
    requests: int
    rate: float
    failed: int
    failures: list[Failure]
    """The first of each kind, also of what is not a request."""
    retried: int
    """GETs sent twice because the server had closed a kept connection without a byte of answer."""
    logins: int
    logins_failed: int
    sessions: int
    sessions_lost: int
    sockets: int
    sockets_lost: int
    reconnects: int
    """Connections that the server ended and the client had again in time; no failure."""
    longest_outage: float
    """Seconds that one of these clients was without a connection."""
    captions: int
    captions_posted: int
    captions_lost: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    slowest: str

    def problems(self) -> dict[str, int]:
        """Return what must not happen and did; nothing when every visitor was content."""
        names = ("failed", "logins_failed", "sessions_lost", "sockets_lost", "captions_lost")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


class Pace:
    """Gives out turns at a fixed rate; turns that were missed are not made up for."""

    def __init__(self, rate: float) -> None:
        """Begin now."""
        self._lock = threading.Lock()
        self._interval, self._next, self._number = 1 / rate, time.monotonic(), 0

    def turn(self, stop: threading.Event) -> int | None:
        """Wait for the next turn and return its number, or nothing once told to stop."""
        with self._lock:
            number, self._number = self._number, self._number + 1
            at = max(self._next, time.monotonic())
            self._next = at + self._interval
        return None if stop.wait(max(0.0, at - time.monotonic())) else number


class Captioner:
    """Has one image after the other captioned and posted, so that a task is always under way."""

    def __init__(self, browser: Browser, platform: Platform) -> None:
        """Connect the platform."""
        self.browser, self.platform, self.meter = browser, platform, browser.meter
        browser.add_platform(platform.url, platform.token)

    def run(self, stop: threading.Event) -> None:
        """Go on until told to stop, and finish what was begun."""
        medium = ""
        while not stop.is_set():
            medium = medium or self.platform.publish()
            try:
                form = {"max_posts_per_run": "10"}
                started = self.browser.call("POST", "/caption/start", data=form)
            except TROUBLE:  # what was not accepted is not lost
                stop.wait(1)
                continue
            self.meter.add("captions")
            task = started["data"]["task_id"]
            problem = self._wait(task) or self._post(medium)
            if problem:
                self.meter.fail("captions_lost", f"caption task {task}", problem)
            else:
                self.meter.add("captions_posted")
            medium = ""

    def _wait(self, task: str) -> str:
        """Wait until a worker has done a task; return what is wrong."""
        end, status = time.monotonic() + TASK_SECONDS, "unknown"
        while time.monotonic() < end:
            with contextlib.suppress(*TROUBLE):
                status = self.browser.call("GET", f"/caption/api/status/{task}")["status"]["status"]
            if status == "completed":
                return ""
            if status in ("failed", "cancelled"):
                return status
            time.sleep(1)
        return f"{status} after {TASK_SECONDS} s"

    def _post(self, medium: str) -> str:
        """Have the caption of an image posted, and see it arrive; return what is wrong."""
        end = time.monotonic() + POST_SECONDS
        while time.monotonic() < end:
            # The look into the database is the test's own, and may fail while that is replaced.
            with contextlib.suppress(*TROUBLE, subprocess.TimeoutExpired):
                numbers = image_numbers(self.browser.lab, medium)
                images = self.browser.export()["images"]
                (image,) = [item for item in images if item["image_id"] in numbers]
                text = image["generated_caption"]
                posted = self.browser.approve(image["image_id"], text)
                arrived = self.platform.description(medium) == text
                return "" if posted and arrived else "approved but not posted"
            time.sleep(1)
        return f"not approved after {POST_SECONDS} s"


class Load:
    """The load, for a ``with`` statement: at full pace inside of it, counted after it."""

    def __init__(
        self,
        lab: Lab,
        rate: float = 60,
        *,
        sessions: int = 6,
        sockets: int = 4,
        login_seconds: float = 10,
        platform: str = "fediverse.lab",
    ) -> None:
        """Say how many requests a second, held sessions and Socket.IO clients (half by polling).

        nginx lets six logins pass at once; each session beyond waits as long as nginx says.
        """
        self.lab, self.rate, self.login_seconds = lab, rate, login_seconds
        self._wanted, self._platform = (sessions, sockets), platform
        self._name, self._password = f"{PREFIX}load-{secrets.token_hex(4)}", secrets.token_urlsafe()
        self._meter = Meter()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sessions: list[Browser] = []
        self._sockets: list[HeldSocket] = []
        self._seconds: float | None = None
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Load:
        """Log in and connect what is to be held, then begin."""
        with contextlib.ExitStack() as undo:
            undo.callback(_delete_user, self.lab, self._name)
            _create_user(self.lab, self._name, self._password)
            undo.callback(self._end)
            self._open(*self._wanted)
            login_page = Browser(self.lab, self._meter).request("GET", LOGIN).text
            static = re.findall(r'["\'](/static/[^"\'?]+)', login_page)[0]
            pages = [page for page in PAGES for _number in range(page.share)]
            pages += [Page(static, 1)] * (ROUND - len(pages))
            captioner = Captioner(self._person(0), Platform.of(self.lab, self._platform))
            pace = Pace(self.rate)
            self._meter.begin()
            for socket in self._sockets:
                self._start(self._hold, socket)
            for number in range(VISITORS):
                self._start(self._visit, self._person(number), pages, pace)
            self._start(self._log_in_now_and_then)
            self._start(captioner.run, self._stop)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_problem: object) -> None:
        """Stop, wait for the captions that were begun, look what was held, tidy up."""
        self._undo.close()

    def report(self) -> Report:
        """Return the counts; final after the ``with`` statement."""
        counts = self._meter.counts
        seconds = self._seconds or time.monotonic() - self._meter.began
        sent = sorted(self._meter.requests)
        cuts = statistics.quantiles([entry[0] * 1000 for entry in sent], n=100)
        outages = [outage for socket in self._sockets for outage in socket.outages]
        return Report(
            seconds=round(seconds, 1),
            requests=len(sent),
            rate=round(sum(entry[1] <= seconds for entry in sent) / seconds, 1),
            failed=counts["failed"],
            failures=list(self._meter.failures),
            retried=counts["retried"],
            logins=counts["logins"],
            logins_failed=counts["logins_failed"],
            sessions=len(self._sessions),
            sessions_lost=counts["sessions_lost"],
            sockets=len(self._sockets),
            sockets_lost=counts["sockets_lost"],
            reconnects=len(outages),
            longest_outage=round(max(outages, default=0.0), 1),
            captions=counts["captions"],
            captions_posted=counts["captions_posted"],
            captions_lost=counts["captions"] - counts["captions_posted"],
            p50_ms=round(cuts[49], 1),
            p95_ms=round(cuts[94], 1),
            p99_ms=round(cuts[98], 1),
            slowest="{2}: {0:.1f} s, begun at {1:.1f} s".format(*sent[-1]),
        )

    def _open(self, sessions: int, sockets: int) -> None:
        for _number in range(sessions):
            browser = Browser(self.lab, self._meter)
            while (answer := browser.log_in(self._name, self._password)).status_code == 429:
                time.sleep(int(answer.headers["Retry-After"]))
            assert answer.status_code == 302, answer.status_code
            self._sessions.append(browser)
        for number in range(sockets):
            cookies = self._sessions[number % sessions].session.cookies
            socket = HeldSocket(self.lab, cookies, ("websocket", "polling")[number % 2])
            self._sockets.append(socket)
            socket.connect()

    def _person(self, number: int) -> Browser:
        """Return a browser with a held session, to be sent to a replica of its own by nginx."""
        cookies = self._sessions[number % len(self._sessions)].session.cookies
        return Browser(self.lab, self._meter, cookies["session"])

    def _start(self, work: t.Callable[..., None], *arguments: t.Any) -> None:
        thread = threading.Thread(target=self._work, args=[work, *arguments], daemon=True)
        thread.start()
        self._threads.append(thread)

    def _work(self, work: t.Callable[..., None], *arguments: t.Any) -> None:
        try:
            work(*arguments)
        except Exception as exc:  # a part of the load that ends early must not go unnoticed
            place = traceback.extract_tb(exc.__traceback__)[-1]
            problem = f"{type(exc).__name__} in line {place.lineno} of {place.filename}"
            self._meter.fail("failed", f"load: {work.__name__}", problem)

    def _hold(self, socket: HeldSocket) -> None:
        try:
            socket.hold(self._stop)
        except ConnectionEndedError as exc:
            self._meter.fail("sockets_lost", f"Socket.IO by {socket.transport}", str(exc))

    def _visit(self, person: Browser, pages: list[Page], pace: Pace) -> None:
        stranger = Browser(self.lab, self._meter)
        while (turn := pace.turn(self._stop)) is not None:
            page = pages[turn * STRIDE % len(pages)]
            with contextlib.suppress(*TROUBLE):
                (person if page.logged_in else stranger).request("GET", page.path)

    def _log_in_now_and_then(self) -> None:
        while not self._stop.wait(self.login_seconds):
            browser = Browser(self.lab, self._meter)
            try:
                assert browser.log_in(self._name, self._password).status_code == 302
                browser.call("GET", STATE)
                browser.request("GET", LOGOUT)
                self._meter.add("logins")
            except TROUBLE:
                self._meter.add("logins_failed")
            browser.close()

    def _end(self) -> None:
        self._seconds = time.monotonic() - self._meter.began
        self._stop.set()
        end = time.monotonic() + TASK_SECONDS + POST_SECONDS + ANSWER_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive():
                self._meter.fail("failed", "load", "a thread did not end")
        for socket in self._sockets:
            socket.close()
        for browser in self._sessions:
            try:
                assert browser.call("GET", STATE)["username"] == self._name
            except TROUBLE:
                self._meter.add("sessions_lost")


def _create_user(lab: Lab, name: str, password: str) -> None:
    """Create a user with a hash as the application makes it; it has no call for that."""
    salt = secrets.token_hex(8)
    cost = {"n": 2**15, "r": 8, "p": 1, "maxmem": 2**26}
    digest = hashlib.scrypt(password.encode(), salt=salt.encode(), **cost).hex()
    _sql(
        lab,
        "INSERT INTO users (username, email, password_hash, role, is_active, email_verified,"  # noqa: S608
        " account_locked, failed_login_attempts, created_at)"
        f" VALUES ('{name}', '{name}@example.org', 'scrypt:32768:8:1${salt}${digest}', 'REVIEWER',"
        " 1, 1, 0, 0, UTC_TIMESTAMP());",
    )


def _delete_user(lab: Lab, name: str) -> None:
    """Delete the user; platforms, posts, images and tasks go with it."""
    number = f"(SELECT id FROM users WHERE username = '{name}')"  # noqa: S608
    _sql(
        lab,
        f"DELETE FROM user_sessions WHERE user_id = {number};"  # noqa: S608
        f" DELETE FROM user_audit_log WHERE user_id = {number};"
        f" DELETE FROM users WHERE username = '{name}';",
    )


def _sql(lab: Lab, statements: str) -> None:
    inside = 'MYSQL_PWD="$(cat /run/secrets/root_password)" exec mysql -uroot vedfolnir'
    command = f"docker compose exec -T mysql sh -c {shlex.quote(inside)}"
    lab.run(f"cd /srv/vedfolnir && {command}", stdin=statements)
