"""The Ollama stand-in: pulls with progress that resume, captions that repeat, the command line."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

import pytest
import requests
from standin_services import STANDINS, Ollama, Program, free_port, wait_for


@pytest.fixture
def fresh(tmp_path: Path) -> t.Iterator[Ollama]:
    """Run a server without models."""
    server = Ollama(tmp_path)
    yield server
    server.program.stop()


def _post(server: Ollama, path: str, **body: t.Any) -> requests.Response:
    return requests.post(server.url + path, json=body, timeout=60)


def _generate(server: Ollama, image: bytes, **options: t.Any) -> requests.Response:
    images = [base64.b64encode(image).decode()]
    body = {"model": "llava:7b", "prompt": "?", "images": images, "stream": False, **options}
    return _post(server, "/api/generate", **body)


def test_a_caption_depends_on_the_image_alone(ollama: Ollama) -> None:
    one, again, other = (_generate(ollama, data).json() for data in (b"1", b"1", b"2"))
    assert one["response"] == again["response"] != other["response"]
    assert 80 <= len(one["response"]) <= 200
    assert one["done"] is True
    assert one["eval_count"] > 0


def test_streaming_gives_the_same_words(ollama: Ollama) -> None:
    whole = _generate(ollama, b"1").json()["response"]
    lines = _generate(ollama, b"1", stream=True).text.splitlines()
    events = [json.loads(line) for line in lines]
    assert "".join(event["response"] for event in events) == whole
    assert [event["done"] for event in events].count(True) == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/api/generate", {"model": "absent:7b", "prompt": ""}, 404, "model 'absent:7b' not found"),
        ("/api/show", {"model": "absent"}, 404, "model 'absent' not found"),
        ("/api/generate", {"model": "llava:7b", "images": ["%"]}, 400, "illegal base64 data"),
        ("/api/pull", {"model": "BAD NAME"}, 400, "invalid model name"),
        ("/api/pull", {}, 400, "invalid model name"),
        (
            "/api/pull",
            {"model": "no-such-model", "stream": False},
            500,
            "pull model manifest: file does not exist",
        ),
    ],
)
def test_errors(ollama: Ollama, path: str, body: dict[str, t.Any], status: int, error: str) -> None:
    answer = _post(ollama, path, **body)
    assert (answer.status_code, answer.json()) == (status, {"error": error})


def test_a_pull_reports_progress_and_survives_a_restart(fresh: Ollama) -> None:
    lines = _post(fresh, "/api/pull", model="llava:7b").text.splitlines()
    events = [json.loads(line) for line in lines]
    states = [event["status"] for event in events]
    assert states[0] == "pulling manifest"
    assert states[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    weights = [event for event in events if event.get("total", 0) > 1_000_000]
    assert len(weights) > 5
    assert weights[-1]["completed"] == weights[-1]["total"]
    fresh.program.stop()
    fresh.start()
    (model,) = requests.get(f"{fresh.url}/api/tags", timeout=10).json()["models"]
    assert model["name"] == "llava:7b"
    again = _post(fresh, "/api/pull", model="llava:7b").text.splitlines()
    assert len(again) < 10, "what is there is not fetched again"


def test_an_unknown_model_ends_the_stream_with_an_error(fresh: Ollama) -> None:
    lines = _post(fresh, "/api/pull", model="no-such-model").text.splitlines()
    assert json.loads(lines[-1]) == {"error": "pull model manifest: file does not exist"}


@pytest.mark.parametrize("broken_by", ["client", "server"])
def test_a_broken_pull_continues(tmp_path: Path, broken_by: str) -> None:
    server = Ollama(tmp_path, OLLAMA_STANDIN_PULL_RATE="2000000")
    try:
        client = subprocess.Popen(
            [sys.executable, str(STANDINS / "ollama" / "ollama.py"), "pull", "llava"],
            env=server.env,
            stderr=subprocess.PIPE,
        )
        partial = wait_for(
            lambda: [
                path
                for path in (server.models / "blobs").glob("*-partial")
                if path.stat().st_size > 500_000
            ],
            what="half a blob",
        )[0]
        if broken_by == "client":
            client.kill()
        else:
            server.program.process.kill()
        client.communicate()
        assert client.returncode != 0
        assert requests_models(server) == [] if broken_by == "client" else True
        server.program.stop()
        fetched = partial.stat().st_size
        server.env["OLLAMA_STANDIN_PULL_RATE"] = "0"
        server.start()
        lines = _post(server, "/api/pull", model="llava").text.splitlines()
        first = next(event for line in lines if "total" in (event := json.loads(line)))
        assert first["completed"] == fetched
        assert json.loads(lines[-1])["status"] == "success"
        assert requests_models(server) == ["llava:latest"]
    finally:
        server.program.stop()


def requests_models(server: Ollama) -> list[str]:
    """Return the names of the models."""
    models = requests.get(f"{server.url}/api/tags", timeout=10).json()["models"]
    return [model["name"] for model in models]


def test_command_line(fresh: Ollama) -> None:
    assert fresh.run("list").stdout.split() == ["NAME", "ID", "SIZE", "MODIFIED"]
    pulled = fresh.run("pull", "llava:7b")
    assert (pulled.returncode, pulled.stderr.splitlines()[-1]) == (0, "success")
    assert "llava:7b" in fresh.run("list").stdout
    assert "parameter_size" in fresh.run("show", "llava:7b").stdout
    absent = fresh.run("show", "absent")
    assert (absent.returncode, absent.stderr) == (1, "Error: model 'absent' not found\n")
    unknown = fresh.run("pull", "no-such-model")
    assert unknown.returncode == 1
    assert "file does not exist" in unknown.stderr
    assert fresh.run("rm", "llava:7b").returncode == 0
    assert requests_models(fresh) == []
    assert list((fresh.models / "blobs").iterdir()) == []
    fresh.program.stop()
    away = fresh.run("list")
    assert (away.returncode, "could not connect" in away.stderr) == (1, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_runs_as_any_user() -> None:
    # Neither the checkout nor pytest's directories need be readable for that user.
    with tempfile.TemporaryDirectory(prefix="standin-ollama-") as name:
        os.chown(name, 1990, 1990)
        port = free_port()
        code = (
            f"import sys; sys.path.insert(0, {str(STANDINS / 'ollama')!r})\n"
            "from ollama_standin import cli\n"
            "import os; os.setgid(1990); os.setuid(1990)\n"
            "sys.argv = ['ollama', 'serve']; cli.main()"
        )
        env = {"OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_MODELS": f"{name}/models"}
        program = Program([sys.executable, "-B", "-c", code], Path(name) / "log", env=env)
        try:
            url = f"http://127.0.0.1:{port}/api/pull"
            body = {"model": "llava", "stream": False}
            wait_for(lambda: requests.post(url, json=body, timeout=10).ok, what="a pull")
            assert {path.stat().st_uid for path in Path(name, "models").rglob("*")} == {1990}
        finally:
            program.stop()
