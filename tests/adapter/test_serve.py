"""How a replica ends: by a signal, and by itself after its share of requests."""

from __future__ import annotations

import time
import typing as t

import pytest
import requests
import socketio  # type: ignore[import-untyped]
from conftest import Stack, Web
from servers import wait_for

ORIGIN = "https://captions.example.org"
SHARE = 500
"""Requests after which the application's settings end a worker of a container of 512 MB."""


@pytest.fixture(scope="module")
def prepared(stack: Stack) -> Stack:
    stack.mysql.fresh_database()
    stack.schema_and_admin()
    return stack


@pytest.fixture(params=["polling", "websocket"])
def connected(prepared: Stack, request: pytest.FixtureRequest) -> t.Iterator[Web]:
    """A replica with a client that waits for events, as each open page of a user is."""
    web = Web(prepared, MEMORY_LIMIT="512m", GUNICORN_MAX_REQUESTS_JITTER="0")
    client = socketio.Client(
        handle_sigint=False, reconnection=False, websocket_extra_options={"origin": ORIGIN}
    )
    headers = {"Origin": ORIGIN} if request.param == "polling" else {}
    client.connect(web.url, transports=[request.param], headers=headers)
    yield web
    client.disconnect()


def test_a_client_that_waits_does_not_hold_up_the_end(connected: Web) -> None:
    started = time.monotonic()
    assert connected.process.terminate() == 0
    assert time.monotonic() - started < 10


def test_a_client_that_waits_does_not_hold_up_the_next_worker(connected: Web) -> None:
    """The replica answers again before a visitor gives up, and no answer is lost.

    What is on its way to a worker that ends in that moment is cut off; it is asked again, as nginx
    does.
    """
    slowest = 0.0
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(max_retries=1))
    for _ in range(SHARE + 50):
        started = time.monotonic()
        assert session.get(f"{connected.url}/health/ready", timeout=90).status_code == 200
        slowest = max(slowest, time.monotonic() - started)
    wait_for(lambda: "Autorestarting" in connected.process.output, what="the end of the worker")
    assert slowest < 10
