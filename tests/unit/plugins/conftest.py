"""Fixtures of all plugin tests."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import sys
import typing as t

import pytest
from ansible.module_utils import basic

Run = t.Callable[..., dict[str, t.Any]]

OLLAMA = pathlib.Path(__file__).parents[2] / "standins" / "ollama" / "ollama.py"


def free_port() -> int:
    """Return a port of the loopback interface on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def closed_port() -> int:
    """Return a port on which nobody listens."""
    return free_port()


@pytest.fixture
def ollama_standin(tmp_path: pathlib.Path) -> t.Iterator[t.Callable[..., str]]:
    """Run the stand-in for Ollama, on a free port unless told where, and return its address."""
    running: list[subprocess.Popen[str]] = []

    def start(host: str = "", rate: int = 0) -> str:
        host = host or f"127.0.0.1:{free_port()}"
        environment = {
            **os.environ,
            "OLLAMA_HOST": host,
            "OLLAMA_MODELS": str(tmp_path / "models"),
            "OLLAMA_STANDIN_PULL_RATE": str(rate),
        }
        process = subprocess.Popen(
            [sys.executable, str(OLLAMA), "serve"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Listening on ")
        return f"http://{host}"

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def run_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a module's main function with its real argument parsing and return what it prints."""

    def run(main: t.Callable[[], None], check: bool = False, **args: t.Any) -> dict[str, t.Any]:
        given = {"ANSIBLE_MODULE_ARGS": {**args, "_ansible_check_mode": check}}
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps(given).encode())
        # ansible-core 2.19 asks how the arguments were written; older ones know no such name.
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main()
        result: dict[str, t.Any] = json.loads(capsys.readouterr().out)
        return result

    return run
