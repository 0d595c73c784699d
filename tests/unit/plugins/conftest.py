"""Fixtures of all plugin tests."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import socket
import subprocess
import sys
import typing as t

import pytest
from ansible.module_utils import basic
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_server import VaultError

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


class FakeVault:
    """What Vault's HTTP interface would answer, in memory: documents, policies, AppRoles."""

    def __init__(self) -> None:
        """Start empty."""
        self.documents: dict[str, dict[str, t.Any]] = {}
        self.settings: dict[str, dict[str, t.Any]] = {}
        self.agents: list[str] = []
        self.now = datetime.datetime.now(datetime.UTC)

    def values(self) -> dict[str, t.Any]:
        """Return the data of every document."""
        return {name: document["data"] for name, document in self.documents.items()}

    def call(
        self,
        method: str,
        path: str,
        body: t.Mapping[str, t.Any] | None = None,
        wrap_ttl: str | None = None,
    ) -> dict[str, t.Any] | None:
        """Answer as OpenBao 2.7.2 did."""
        if path.startswith("vedfolnir/"):
            return self._document(method, path, dict(body or {}))
        if path.endswith("/role-id"):
            return {"data": {"role_id": "the-role"}}
        if path.endswith("/secret-id"):
            assert wrap_ttl
            return {"wrap_info": {"token": "wrapped"}}
        return self._setting(method, path, dict(body or {}))

    def _document(self, method: str, path: str, body: dict[str, t.Any]) -> dict[str, t.Any] | None:
        if method == "LIST":
            return {"data": {"keys": sorted(self.documents)}} if self.documents else None
        _mount, kind, name = path.split("/")
        known = self.documents.get(name)
        if method == "GET":
            if known is None or known["data"] is None:
                return None
            metadata = {
                "version": known["version"],
                "custom_metadata": known["notes"],
                "created_time": known["written_at"],
            }
            return {"data": {"data": known["data"], "metadata": metadata}}
        if kind == "metadata":
            assert known is not None
            known["notes"] = body["custom_metadata"]
            return {}
        version = known["version"] if known else 0
        if body["options"]["cas"] != version:
            message = "check-and-set parameter did not match the current version"
            raise VaultError("refused", f"{method} {path}: Vault answers: {message}")
        notes = known["notes"] if known else None
        self.documents[name] = {
            "data": body["data"],
            "version": version + 1,
            "notes": notes,
            "written_at": self.now.strftime("%Y-%m-%dT%H:%M:%S.123456789Z"),
        }
        return {}

    def _setting(self, method: str, path: str, body: dict[str, t.Any]) -> dict[str, t.Any] | None:
        if method == "LIST":
            names = [name.rpartition("/")[2] for name in self.settings if name.startswith(path)]
            return {"data": {"keys": sorted(names)}} if names else None
        if method == "DELETE":
            del self.settings[path]
            return {}
        if method in ("PUT", "POST"):
            self.settings[path] = body
            return {}
        return {"data": self.settings[path]} if path in self.settings else None


@pytest.fixture
def fake_vault() -> FakeVault:
    """Return an empty Vault."""
    return FakeVault()
