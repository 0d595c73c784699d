from __future__ import annotations

import http.server
import json
import pathlib
import threading
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_server as vault

Answers = dict[str, tuple[int, dict[str, t.Any]]]


class Recorded(http.server.BaseHTTPRequestHandler):
    """Answers as OpenBao 2.7.2 did; what it was sent is kept."""

    answers: t.ClassVar[Answers] = {}
    seen: t.ClassVar[list[tuple[str, t.Any]]] = []

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        sent = json.loads(self.rfile.read(length) or b"null")
        self.seen.append((f"{self.command} {self.path}", sent))
        status, answer = self.answers.get(
            f"{self.command} {self.path}", (404, {"errors": ["no handler for route"]})
        )
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST  # noqa: N815 - names of the base class

    def log_message(self, *_arguments: t.Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> t.Iterator[str]:
    """Run a server that gives the recorded answers, and return its address."""
    Recorded.answers, Recorded.seen = {}, []
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorded)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def credentials(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "approle.json"
    path.write_text('{"role_id": "r", "secret_id": "s"}')
    return str(path)


LOGIN = "POST /v1/auth/approle/login"


def test_a_login_sets_the_token(server: str, credentials: str) -> None:
    Recorded.answers[LOGIN] = (200, {"auth": {"client_token": "t"}})
    client = vault.connect(server, "")
    vault.login(client, credentials)
    assert client.token == "t"
    assert Recorded.seen == [(LOGIN, {"role_id": "r", "secret_id": "s"})]


@pytest.mark.parametrize(
    ("status", "errors", "reason", "message"),
    [
        (503, ["Vault is sealed"], "sealed", "log in: Vault is sealed; run playbooks/unseal.yml"),
        (403, ["permission denied"], "forbidden", "log in: Vault does not allow it"),
        (400, ["invalid role or secret ID"], "forbidden", "are not valid"),
        (500, ["internal error"], "refused", "log in: Vault answers: internal error"),
    ],
)
def test_a_refused_login_says_why(
    server: str, credentials: str, status: int, errors: list[str], reason: str, message: str
) -> None:
    Recorded.answers[LOGIN] = (status, {"errors": errors})
    with pytest.raises(vault.VaultError, match=message) as caught:
        vault.login(vault.connect(server, ""), credentials)
    assert caught.value.reason == reason


def test_a_server_that_is_down_is_not_sealed(closed_port: int, credentials: str) -> None:
    with pytest.raises(vault.VaultError, match="Vault does not answer") as caught:
        vault.login(vault.connect(f"https://127.0.0.1:{closed_port}", ""), credentials)
    assert caught.value.reason == "down"


@pytest.mark.parametrize("text", ["", "[]", '{"role_id": "r"}'])
def test_damaged_credentials_are_named(tmp_path: pathlib.Path, text: str) -> None:
    path = tmp_path / "approle.json"
    path.write_text(text)
    with pytest.raises(vault.VaultError, match=f"{path} cannot be read"):
        vault.login(vault.connect("https://127.0.0.1:1", ""), str(path))


def test_missing_credentials_say_who_makes_them(tmp_path: pathlib.Path) -> None:
    with pytest.raises(vault.VaultError, match="is not there; site"):
        vault.login(vault.connect("https://127.0.0.1:1", ""), str(tmp_path / "none"))


def test_a_server_that_is_being_moved_to_another_seal_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seen with OpenBao 2.7.2: right after the last key it cannot tell its state."""
    moving = vault.Status(True, True, 2, 3, 1, "shamir", "2.7.2", True)
    done = moving._replace(sealed=False, migration=False)
    answers: list[vault.Status | vault.VaultError] = [
        moving,
        moving,
        vault.VaultError("refused", "barrier seal type does not match"),
        done,
    ]
    asked: list[t.Any] = []

    def status(_client: t.Any) -> vault.Status:
        answer = answers.pop(0)
        if isinstance(answer, vault.VaultError):
            raise answer
        return answer

    def ask(_client: t.Any, _method: str, _path: str, body: t.Any, **_more: t.Any) -> t.Any:
        asked.append(body)
        return {}

    monkeypatch.setattr(vault, "status", status)
    monkeypatch.setattr(vault, "ask", ask)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    assert vault.unseal(t.cast("t.Any", None), ["A", "B", "C"]) == done
    assert asked == [{"key": "A", "migrate": True}, {"key": "B", "migrate": True}]
