"""What the application works with, as the stand-ins play it."""

from __future__ import annotations

import os
import sys
import typing as t
import uuid
from pathlib import Path

import requests
import servers

ROOT = Path(__file__).resolve().parents[2]
MODEL = "llava:7b"


def start_standin(directory: Path, argv: list[str], probe: str, **env: str) -> servers.Process:
    process = servers.Process(
        argv, directory / f"{Path(argv[1]).name}-{uuid.uuid4().hex[:6]}.log",
        env={**os.environ, **env}, cwd=ROOT / "tests/standins",
    )  # fmt: skip

    def answers() -> bool:
        try:
            return requests.get(probe, timeout=2).ok
        except requests.RequestException:
            return False

    servers.wait_for(answers, what=f"the start of {argv}")
    return process


class Platform:
    """The fake platform."""

    def __init__(self, directory: Path) -> None:
        self.port = servers.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        argv = [sys.executable, "-m", "fediverse", "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = start_standin(directory, argv, f"{self.url}/_control/health")

    def control(self, call: str, body: t.Any) -> None:
        assert requests.post(f"{self.url}/_control/{call}", json=body, timeout=10).ok

    def puts(self) -> list[t.Any]:
        answer: list[t.Any] = requests.get(f"{self.url}/_control/puts", timeout=10).json()
        return answer


class Ollama:
    """The Ollama stand-in with the model pulled; its answers can be slowed down."""

    def __init__(self, directory: Path) -> None:
        self.port = servers.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.directory = directory
        self.start()
        pull = {"model": MODEL, "stream": False}
        assert requests.post(f"{self.url}/api/pull", json=pull, timeout=60).ok

    def start(self, seconds: float = 0) -> None:
        self.process = start_standin(
            self.directory,
            [sys.executable, str(ROOT / "tests/standins/ollama/ollama.py"), "serve"],
            f"{self.url}/api/version",
            OLLAMA_HOST=f"127.0.0.1:{self.port}",
            OLLAMA_MODELS=str(self.directory / "models"),
            OLLAMA_STANDIN_PULL_RATE="0",
            OLLAMA_STANDIN_GENERATE_SECONDS=str(seconds),
        )

    def restart(self, seconds: float) -> None:
        self.process.kill()
        self.start(seconds)
