from __future__ import annotations

import http.server
import json
import pathlib
import socketserver
import threading
import typing as t
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import engine


class Handler(http.server.BaseHTTPRequestHandler):
    """Plays the engine: tells what it was asked."""

    def do_GET(self) -> None:
        """Answer."""
        split = urlsplit(self.path)
        known = split.path == "/containers/json"
        body = (
            [{"path": split.path, "query": parse_qs(split.query)}] if known else {"message": "no"}
        )
        data = json.dumps(body).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self) -> str:
        """A socket of the file system has no address."""
        return "socket"

    def log_message(self, *_args: t.Any) -> None:
        """Write nothing."""


@pytest.fixture
def path(tmp_path: pathlib.Path) -> t.Iterator[str]:
    """Run an engine and return its socket."""
    where = str(tmp_path / "s")
    with socketserver.ThreadingUnixStreamServer(where, Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield where
        server.shutdown()


def test_the_containers_of_a_project_are_asked_for(path: str) -> None:
    (asked,) = engine.containers("vedfolnir", socket_path=path)
    assert asked["query"]["all"] == ["1"]
    assert json.loads(asked["query"]["filters"][0]) == {
        "label": ["com.docker.compose.project=vedfolnir", "com.docker.compose.oneoff=False"]
    }


def test_an_error_names_what_was_asked(path: str) -> None:
    with pytest.raises(engine.EngineError, match="the engine answers 404 to /containers/x/json"):
        engine.get("/containers/x/json", socket_path=path)


def test_an_engine_that_is_away_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(engine.EngineError, match=r"does not answer at .*/absent"):
        engine.get("/info", socket_path=str(tmp_path / "absent"))
