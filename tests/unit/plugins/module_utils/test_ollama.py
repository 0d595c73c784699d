from __future__ import annotations

import importlib.util
import socketserver
import threading
import time
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import ollama
from ansible_collections.vedfolnir.stack.plugins.module_utils.ollama import OllamaError


def raw_server(answer: bytes) -> tuple[str, socketserver.TCPServer]:
    """Serve these bytes to everyone and hang up."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(answer)

    server = socketserver.TCPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}", server


def test_missing_models_are_pulled_once(ollama_standin: t.Callable[..., str]) -> None:
    url = ollama_standin()
    wanted = ["llava:7b", "moondream"]
    assert ollama.missing_models(url, wanted) == wanted
    assert ollama.pull(url, "moondream", 60) == (True, "complete")
    assert ollama.missing_models(url, wanted) == ["llava:7b"]
    assert ollama.missing_models(url, ["moondream:latest"]) == []
    assert ollama.pull(url, "llava:7b", 60) == (True, "complete")
    assert ollama.missing_models(url, wanted) == []


def test_a_pull_in_slices_tells_its_progress_and_ends(ollama_standin: t.Callable[..., str]) -> None:
    url = ollama_standin(rate=4_000_000)
    reports = []
    start = time.monotonic()
    complete = False
    while not complete and time.monotonic() - start < 60:
        complete, progress = ollama.pull(url, "llava:7b", 0.3)
        reports.append(progress)
    assert complete
    assert len(reports) > 1
    assert any("% of 0.00 GB" in report for report in reports[:-1])
    assert ollama.missing_models(url, ["llava:7b"]) == []


def test_an_unknown_model_is_refused(ollama_standin: t.Callable[..., str]) -> None:
    with pytest.raises(OllamaError, match=r"^Ollama cannot pull no-such-model: .*manifest"):
        ollama.pull(ollama_standin(), "no-such-model", 60)


def test_a_proxy_of_the_environment_does_not_get_the_call(
    ollama_standin: t.Callable[..., str], closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = ollama_standin()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    # A second copy of the module, because the environment is read when it is imported.
    spec = importlib.util.spec_from_file_location("second", ollama.__file__)
    assert spec is not None
    assert spec.loader is not None
    second = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(second)
    assert second.missing_models(url, ["a"]) == ["a"]


def test_nobody_listens(closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    with pytest.raises(OllamaError) as error:
        ollama.missing_models(url, ["a"])
    assert str(error.value) == (
        f"Ollama does not answer at {url}/api/tags: <urlopen error [Errno 111] Connection refused>"
    )
    complete, progress = ollama.pull(url, "a", 1)
    assert not complete
    assert progress == (
        "interrupted (<urlopen error [Errno 111] Connection refused>), trying again"
    )


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"\r\nnot json",
        OK + b"\r\n{}",
        OK + b'\r\n{"models": null}',
        OK + b"\r\n[]",
        b"",
        b"garbage\r\n\r\n",
        CHUNKED + b"ff\r\n{",
        b"HTTP/1.1 500 Internal Server Error\r\n\r\n",
    ],
)
def test_a_broken_list_is_no_list(answer: bytes) -> None:
    url, server = raw_server(answer)
    with server, pytest.raises(OllamaError, match=f"^Ollama does not answer at {url}/api/tags: "):
        ollama.missing_models(url, ["a"])
    server.shutdown()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        OK + b'\r\n{"status": "pulling',
        CHUNKED + b'17\r\n{"status":"pulling x"}\n\r\nff\r\n{',
    ],
)
def test_a_connection_that_breaks_is_an_interruption(answer: bytes) -> None:
    url, server = raw_server(answer)
    with server:
        complete, progress = ollama.pull(url, "a", 60)
        server.shutdown()
    assert not complete
    assert progress.startswith("interrupted (")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            b'HTTP/1.1 400 Bad Request\r\n\r\n{"error":"invalid model name"}',
            'Ollama cannot pull a: 400 {"error":"invalid model name"}',
        ),
        (OK + b'\r\n{"error":"no space left"}\n', "Ollama cannot pull a: no space left"),
    ],
)
def test_a_refusal_is_quoted(answer: bytes, message: str) -> None:
    url, server = raw_server(answer)
    with server, pytest.raises(OllamaError) as error:
        ollama.pull(url, "a", 60)
    server.shutdown()
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("llava", "llava:latest"),
        ("llava:7b", "llava:7b"),
        ("host:5000/x/llava", "host:5000/x/llava:latest"),
        ("host:5000/x/llava:7b", "host:5000/x/llava:7b"),
    ],
)
def test_names_have_a_tag(model: str, name: str) -> None:
    assert ollama.full_name(model) == name


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ({}, ""),
        ({"status": "verifying"}, "verifying"),
        (
            {"status": "pulling x", "total": 4_000_000_000, "completed": 1_000_000_000},
            "pulling x: 25 % of 4.00 GB",
        ),
        ({"status": "pulling x", "total": 1_500_000_000}, "pulling x: 0 % of 1.50 GB"),
    ],
)
def test_progress_for_people(event: dict[str, t.Any], text: str) -> None:
    assert ollama.describe(event) == text
