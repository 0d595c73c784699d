"""What the load of tests/vault counts: against a server that closes connections as it is told."""

from __future__ import annotations

import http.client
import socket
import ssl
import sys
import threading
import time
import typing as t
from pathlib import Path

import pytest
import requests

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS / "stack"), str(TESTS / "vault")]

from authority import Authority  # noqa: E402
from load import Pace  # noqa: E402
from load_sockets import SHOWN, Browser, Failure, Meter  # noqa: E402

ANSWERS = {
    "answer": b"HTTP/1.1 200 OK\r\nSet-Cookie: session=s3cr3t\r\nContent-Length: 2\r\n\r\nOK",
    "half": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nO",
    "error": b"HTTP/1.1 502 No\r\nX-Request-ID: 7e57\r\nContent-Length: 6\r\n\r\ns3cr3t",
    "nothing": b"",
}
"""The server closes a connection after the last answer of its list."""


class Site:
    """What a browser needs of the lab, and a server with a list of answers per connection."""

    def __init__(self, directory: Path, script: list[list[str]]) -> None:
        authority = Authority("Authority of a load")
        self.ca, self.script = str(directory / "ca.pem"), script
        (directory / "ca.pem").write_text(authority.certificate)
        (directory / "site.pem").write_text("".join(authority.issue("127.0.0.1")))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(directory / "site.pem")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.https = f"https://127.0.0.1:{self.listener.getsockname()[1]}"
        self.seen: list[str] = []
        threading.Thread(target=self.serve, daemon=True).start()

    def session(self) -> requests.Session:
        return requests.Session()

    def serve(self) -> None:
        for answers in self.script:
            plain, _ = self.listener.accept()
            with self.context.wrap_socket(plain, server_side=True) as connection:
                for name in answers:
                    request = connection.recv(65536).decode()
                    self.seen.append(" ".join(request.split(" ", 2)[:2]))
                    connection.sendall(ANSWERS[name])


Make = t.Callable[..., tuple[Site, Browser]]


@pytest.fixture
def make(tmp_path: Path) -> t.Iterator[Make]:
    sites: list[Site] = []

    def made(*script: list[str]) -> tuple[Site, Browser]:
        site = Site(tmp_path, list(script))
        sites.append(site)
        return site, Browser(t.cast("t.Any", site), Meter())

    yield made
    for site in sites:
        site.listener.close()


def test_a_connection_is_kept_and_so_are_cookies(make: Make) -> None:
    site, browser = make(["answer", "answer"])
    assert [browser.request("GET", "/a").text, browser.request("POST", "/b").text] == ["OK", "OK"]
    assert site.seen == ["GET /a", "POST /b"]
    assert browser.session.cookies["session"] == "s3cr3t"
    assert browser.meter.counts == {}
    assert [what for *_, what in browser.meter.requests] == ["GET /a", "POST /b"]


def test_a_get_on_a_kept_connection_is_sent_again_and_counted(make: Make) -> None:
    site, browser = make(["answer", "nothing"], ["answer"])
    assert browser.request("GET", "/a").ok
    assert browser.request("GET", "/b").ok
    assert site.seen == ["GET /a", "GET /b", "GET /b"]
    assert browser.meter.counts == {"retried": 1}


@pytest.mark.parametrize(
    ("script", "method", "error"),
    [
        (["answer", "nothing"], "POST", ConnectionError),
        (["answer", "half"], "GET", http.client.IncompleteRead),
    ],
    ids=["post", "half-an-answer"],
)
def test_nothing_else_is_sent_again(
    make: Make, script: list[str], method: str, error: type[Exception]
) -> None:
    site, browser = make(script, ["answer"])
    assert browser.request("GET", "/a").ok
    with pytest.raises(error):
        browser.request(method, "/b")
    assert site.seen == ["GET /a", f"{method} /b"]
    assert browser.meter.counts == {"failed": 1}
    assert browser.request("GET", "/c").ok


def test_a_new_connection_without_an_answer_is_a_failure(make: Make) -> None:
    site, browser = make(["nothing"], ["answer"])
    with pytest.raises(ConnectionError):
        browser.request("GET", "/a")
    assert (site.seen, browser.meter.counts) == (["GET /a"], {"failed": 1})


def test_a_connection_that_was_closed_before_is_noticed(make: Make) -> None:
    site, browser = make(["answer"], ["answer"])
    assert browser.request("GET", "/a").ok
    time.sleep(0.3)
    assert browser.request("POST", "/b").ok
    assert (site.seen, browser.meter.counts) == (["GET /a", "POST /b"], {})


def test_a_failure_tells_no_secret(make: Make) -> None:
    _, browser = make(["error"])
    assert browser.request("GET", "/a").status_code == 502
    assert browser.meter.failures == [Failure(0.0, "GET /a", "status 502, request 7e57")]


def test_of_many_failures_the_first_are_shown_and_all_counted() -> None:
    meter = Meter()
    for number in range(SHOWN + 5):
        meter.fail("failed", "GET /", str(number))
    meter.fail("sockets_lost", "Socket.IO", "gone")
    assert meter.counts == {"failed": SHOWN + 5, "sockets_lost": 1}
    assert [failure.problem for failure in meter.failures] == [*map(str, range(SHOWN)), "gone"]


def test_the_pace_is_kept_and_never_made_up_for() -> None:
    pace, stop = Pace(100), threading.Event()
    began = time.monotonic()
    assert [pace.turn(stop) for _number in range(20)] == list(range(20))
    assert time.monotonic() - began >= 0.19
    time.sleep(0.3)
    began = time.monotonic()
    assert [pace.turn(stop) for _number in range(5)] == list(range(20, 25))
    assert time.monotonic() - began >= 0.04
    stop.set()
    assert pace.turn(stop) is None
